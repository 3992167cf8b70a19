// What a client knows of its room: plain data, changed by events alone. Pure.

import type { JoinAnswer, KnownEvents, RoomEvent, SeatsAnswer, Source, UserId } from './protocol';

export interface Producer {
  userId: UserId;
  source: Source;
  paused: boolean;
  /** Paused by a moderator or a rule: its user cannot resume it. */
  held: boolean;
}

export interface Occupant {
  userId: UserId;
  isMuted: boolean;
}

export interface Seats {
  count: number;
  occupants: ReadonlyMap<number, Occupant>;
  locked: ReadonlySet<number>;
}

export interface RoomState {
  self: UserId;
  /** Names of those present; `undefined` for who gave none. */
  names: ReadonlyMap<UserId, string | undefined>;
  producers: ReadonlyMap<string, Producer>;
  /** Loudest first. */
  speakers: readonly UserId[];
  /** Absent when the server runs without the seats plugin. */
  seats: Seats | undefined;
}

export type Voice = 'none' | 'live' | 'muted' | 'held';

export interface Person {
  userId: UserId;
  name: string;
  isSelf: boolean;
  voice: Voice;
  isSpeaking: boolean;
  seatIndex: number | undefined;
}

/** The room as its join answer shows it. */
export function enterRoom(self: UserId, selfName: string | undefined, answer: JoinAnswer): RoomState {
  const names = new Map<UserId, string | undefined>([[self, selfName]]);
  for (const { userId, name } of answer.participants) names.set(userId, name ?? names.get(userId));
  const producers = new Map<string, Producer>();
  for (const { producerId, userId, source, paused } of answer.existingProducers) {
    producers.set(producerId, { userId, source, paused, held: false });
  }
  return { self, names, producers, speakers: answer.activeSpeakers, seats: readSeats(answer.plugins?.['seats']) };
}

/** The room after an event. Events that say nothing new give the same object back. */
export function applyEvent(state: RoomState, event: { name: string; payload: unknown }): RoomState {
  const { name, payload } = event as RoomEvent;
  switch (name) {
    case 'room:userJoined':
      return { ...state, names: withEntry(state.names, payload.userId, payload.name ?? undefined) };
    case 'room:userLeft':
      return payload.userId === state.self ? state : {
        ...state,
        names: without(state.names, payload.userId),
        speakers: state.speakers.filter((userId) => userId !== payload.userId),
      };
    case 'audio:newProducer': {
      const { producerId, userId, source } = payload;
      if (state.producers.has(producerId)) return state;
      return { ...state, producers: withEntry(state.producers, producerId, { userId, source, paused: false, held: false }) };
    }
    case 'audio:producerClosed':
      return { ...state, producers: without(state.producers, payload.producerId) };
    case 'audio:producerPaused':
      return changeProducer(state, payload.producerId, (producer) => (
        { ...producer, paused: true, held: producer.held || payload.byModerator }));
    case 'audio:producerResumed':
      return changeProducer(state, payload.producerId, (producer) => ({ ...producer, paused: false, held: false }));
    case 'speaker:active':
      return { ...state, speakers: payload.activeSpeakers };
    case 'seat:updated':
    case 'seat:cleared':
    case 'seat:userMuted':
    case 'seat:locked':
      return state.seats ? { ...state, seats: changeSeats(state.seats, { name, payload } as SeatEvent) } : state;
    default:
      return state;
  }
}

type SeatEvent = { [Name in keyof KnownEvents & `seat:${string}`]: { name: Name; payload: KnownEvents[Name] } }[
  keyof KnownEvents & `seat:${string}`];

function changeSeats(seats: Seats, { name, payload }: SeatEvent): Seats {
  const occupants = new Map(seats.occupants);
  switch (name) {
    case 'seat:updated': {
      const { seatIndex, userId, isMuted } = payload;
      if (!isSeat(seats.count, seatIndex)) return seats;
      // Whoever takes a seat leaves the one before.
      for (const [index, occupant] of occupants) if (occupant.userId === userId) occupants.delete(index);
      occupants.set(seatIndex, { userId, isMuted });
      return { ...seats, occupants };
    }
    case 'seat:cleared':
      if (occupants.get(payload.seatIndex)?.userId === payload.userId) occupants.delete(payload.seatIndex);
      return { ...seats, occupants };
    case 'seat:userMuted':
      for (const [index, { userId }] of occupants) {
        if (userId === payload.userId) occupants.set(index, { userId, isMuted: payload.isMuted });
      }
      return { ...seats, occupants };
    case 'seat:locked': {
      const locked = new Set(seats.locked);
      if (payload.isLocked) {
        locked.add(payload.seatIndex);
        occupants.delete(payload.seatIndex);
      } else {
        locked.delete(payload.seatIndex);
      }
      return { ...seats, occupants, locked };
    }
  }
}

function readSeats(shown: unknown): Seats | undefined {
  const { seatCount, seats, lockedSeats } = (shown ?? {}) as Partial<SeatsAnswer>;
  if (typeof seatCount !== 'number' || !Array.isArray(seats) || !Array.isArray(lockedSeats)) return undefined;
  return {
    count: seatCount,
    occupants: new Map(seats.filter(({ seatIndex }) => isSeat(seatCount, seatIndex))
      .map(({ seatIndex, userId, isMuted }) => [seatIndex, { userId, isMuted }])),
    locked: new Set(lockedSeats),
  };
}

const isSeat = (count: number, index: number): boolean => Number.isInteger(index) && index >= 0 && index < count;

function changeProducer(state: RoomState, producerId: string, change: (producer: Producer) => Producer): RoomState {
  const producer = state.producers.get(producerId);
  return producer ? { ...state, producers: withEntry(state.producers, producerId, change(producer)) } : state;
}

function withEntry<K, V>(map: ReadonlyMap<K, V>, key: K, value: V): ReadonlyMap<K, V> {
  return new Map(map).set(key, value);
}

function without<K, V>(map: ReadonlyMap<K, V>, key: K): ReadonlyMap<K, V> {
  const rest = new Map(map);
  rest.delete(key);
  return rest;
}

/** The name to show for a user. */
export function nameOf(state: RoomState, userId: UserId): string {
  return state.names.get(userId) || `User ${userId}`;
}

/** The seat of a user, if they have one. */
export function seatOf(state: RoomState, userId: UserId): number | undefined {
  for (const [index, occupant] of state.seats?.occupants ?? []) if (occupant.userId === userId) return index;
  return undefined;
}

/** What is to be heard of a user. */
export function voiceOf(state: RoomState, userId: UserId): Voice {
  const producers = [...state.producers.values()].filter((producer) => producer.userId === userId);
  const seat = seatOf(state, userId);
  const isHeld = seat !== undefined && state.seats?.occupants.get(seat)?.isMuted;
  if (isHeld || producers.some(({ held }) => held)) return 'held';
  if (producers.length === 0) return 'none';
  return producers.every(({ paused }) => paused) ? 'muted' : 'live';
}

/** Everyone present: oneself first, then the seated by seat, then the others by name. */
export function people(state: RoomState): Person[] {
  // A user who left with one of two connections may go on speaking over the other.
  const speaking = [...state.producers.values()].map(({ userId }) => userId);
  const persons = [...new Set([...state.names.keys(), ...speaking])].map((userId): Person => ({
    userId,
    name: nameOf(state, userId),
    isSelf: userId === state.self,
    voice: voiceOf(state, userId),
    isSpeaking: state.speakers.includes(userId),
    seatIndex: seatOf(state, userId),
  }));
  const rank = ({ isSelf, seatIndex }: Person): number => (isSelf ? -1 : seatIndex ?? Infinity);
  return persons.sort((a, b) => {
    const [left, right] = [rank(a), rank(b)];
    return left === right ? a.name.localeCompare(b.name) : left < right ? -1 : 1;
  });
}
