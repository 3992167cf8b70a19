/**
 * Policy plugins for voice-room in JavaScript and TypeScript.
 *
 * ```js
 * import { allow, definePlugin, refuse } from 'voice-room-plugin-sdk';
 *
 * export default definePlugin((settings) => ({
 *   beforeJoin(call) {
 *     if (call.participant.user.roles.includes('guest')) {
 *       return refuse('MEMBERS_ONLY', 'This room is for members');
 *     }
 *     return allow();
 *   },
 * }));
 * ```
 *
 * The function is called once in every new instance. What it keeps in memory may vanish at
 * any time with the instance: keep in {@link kv} what must last. Hooks are synchronous. There
 * is no clock (use the call's `at`), no randomness, no network, no `Intl`.
 *
 * A hook that throws is answered by the policy that the server's configuration sets for it,
 * what it has written is undone, and the error is in the server's log.
 *
 * Numbers of the contract have 64 bits, those of JavaScript are exact up to 2^53: a call
 * that names a greater user id fails.
 */

/** What JSON can say. `undefined` fields are left out. */
export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [name: string]: Json | undefined };

/** A user account, as the session's token names it. */
export type UserId = number;
/** Unix time in milliseconds, UTC. */
export type UnixMs = number;

/** The room in which the call happens. */
export interface Room {
  /** 1 to 128 characters, as clients name it. */
  id: string;
  /** Participants at the time of the call, in `beforeJoin` without the newcomer. */
  participants: number;
}

/** Who it is about. Comes from the verified token, never from a payload. */
export interface User {
  id: UserId;
  name?: string;
  /** Address of a picture. */
  avatar?: string;
  roles: string[];
  /** The token's remaining claims. */
  claims: { [name: string]: Json };
}

/** One user's presence in one room over one connection. */
export interface Participant {
  /** Unique to this presence. */
  id: string;
  user: User;
  /** How many participants of this user the room has (in `onLeave`: how many remain). */
  connections: number;
}

/** What a producer carries. One of each may run per participant. */
export type Source = 'mic' | 'music';

/** For example `audio/opus`, 48000, 2. */
export interface Codec {
  mimeType: string;
  clockRate: number;
  channels: number;
}

/** An audio stream that a participant sends. */
export interface Producer {
  /** Unique over all servers. */
  id: string;
  source: Source;
  codec: Codec;
}

/** What has been received of a producer's stream so far. */
export interface Media {
  /** RTP packets. */
  packets: number;
  /** Bytes of those packets. */
  bytes: number;
  /** When the last one is known to have arrived. */
  lastRtpAt?: UnixMs;
}

/** The packet with which a stream began. */
export interface FirstPacket {
  /** Synchronisation source of the stream (RFC 3550). */
  ssrc: number;
  /** Its RTP timestamp, where the packet itself was seen. */
  timestamp?: number;
  /** Its RTP payload type. */
  payloadType: number;
  /** Milliseconds from the producer's making to the packet. */
  afterMs: number;
}

/** Who speaks. */
export interface Speaker {
  userId: UserId;
  producerId: string;
  /** Average level in dBov: 0 is the loudest, -127 silence. */
  volume: number;
}

/** What every hook is told. */
export interface RoomCall {
  room: Room;
  /** Now. */
  at: UnixMs;
}
/** What a hook about one participant is told. */
export interface ParticipantCall extends RoomCall {
  participant: Participant;
}
export interface BeforeProduceCall extends ParticipantCall {
  source: Source;
  codec: Codec;
}
export interface BeforeConsumeCall extends ParticipantCall {
  producer: Producer;
  /** Who sends. */
  owner: UserId;
}
export interface ProducerCall extends ParticipantCall {
  producer: Producer;
}
/**
 * A fact that money may hang on: it is in the server's ledger before a plugin is told. What the
 * call does to keys, timers and events is saved together with the note that it was told.
 */
export interface RecordedFact {
  /** Which fact this is: the same each time that it is told. */
  factId: string;
}
export interface FirstRtpCall extends ProducerCall, RecordedFact {
  packet: FirstPacket;
}
export interface ProducerFlowCall extends ProducerCall, RecordedFact {
  /**
   * Why it stopped to flow: `user`, `plugin`, or `silence`: no packet has come for the
   * configured time, although nobody paused it. Then `at` is the time of the last packet.
   */
  cause: string;
  media: Media;
}
export interface ProducerClosedCall extends ProducerCall, RecordedFact {
  /**
   * `closed`, `replaced`, `left`, `disconnected`, `plugin`, …; `recovered`: the server was
   * killed. Then `at` is the last moment at which it is known to have run.
   */
  reason: string;
  /** When its first RTP packet arrived, if one did. */
  firstRtpAt?: UnixMs;
  media: Media;
}
export interface LeaveCall extends ParticipantCall {
  /** `left`, `disconnected`, `kicked`, `replaced`, `room_closed`, … */
  reason: string;
}
export interface RoomClosedCall extends RoomCall, RecordedFact {
  /** `empty`, `shutdown`, `worker_died`, …; `recovered`: the server was killed. */
  reason: string;
}
export interface SpeakersCall extends RoomCall {
  /** Loudest first; empty when the room has fallen silent. */
  speakers: Speaker[];
}
export interface TimerCall extends RoomCall {
  key: string;
  /** When it was due; after a restart that may be long ago. */
  due: UnixMs;
}
export interface CommandCall extends ParticipantCall {
  /** The event's name. */
  command: string;
  /** What the client sent, already known to name this room. See {@link readPayload}. */
  payload: { [name: string]: Json };
  /** Whom the payload's `userId` names, if they are in the room. */
  target?: Participant;
}

/** Whose producers an action is about. */
export type Target = { user: UserId } | { producer: string };

/** What the server is asked to do, in the room of the call. */
export type Action =
  | { emitToUser: { userId: UserId; event: string; payload: Json } }
  | { emitToRoom: { event: string; payload: Json; except?: UserId } }
  | { mute: Target }
  | { unmute: Target }
  | { close: Target }
  | { kick: { userId: UserId; reason: string } }
  | { pinSpeaker: { userId: UserId; pin: Pin } };

/** Whether a user is heard where a room forwards only those who spoke last: always, never, or as they speak. */
export type Pin = 'in' | 'out' | 'auto';

/** How a producer that is allowed begins. */
export interface Amendment {
  /** It starts muted by this plugin, which may unmute it. */
  muted?: boolean;
  /** 1 is the lowest, 255 the highest, where a listener's bandwidth is short. */
  priority?: number;
  /** Travels with the announcement of the producer, as `data.<plugin>`. */
  attach?: Json;
}

export interface Allow {
  allow: { amend?: Amendment };
  actions: Action[];
}
export interface Refuse {
  refuse: { code: string; message: string; details?: Json };
  actions: Action[];
}
export interface Done {
  done: Json | undefined;
  actions: Action[];
}

/** What a deciding hook returns. */
export type Decision = Allow | Refuse;
/** What `onCommand` returns. */
export type Reply = Done | Refuse;

/**
 * The hooks that a plugin implements, all of them listed in its plugin.toml, and the
 * commands that it answers.
 */
export interface Plugin {
  /** Client events for `onCommand`, for example `seat:take`. */
  commands?: readonly string[];
  /** A user asks to enter. May refuse. */
  beforeJoin?(call: ParticipantCall): Decision;
  /** The first participant has entered. */
  onRoomOpened?(call: RoomCall): Action[] | void;
  /** A participant has entered. */
  onJoin?(call: ParticipantCall): Action[] | void;
  /** What a newcomer is shown of the room: `plugins.<name>` in the join answer. */
  describeRoom?(call: ParticipantCall): Json | undefined;
  /** A participant is gone: the last call about it. */
  onLeave?(call: LeaveCall): Action[] | void;
  /** A participant asks to send audio. May refuse, or amend. */
  beforeProduce?(call: BeforeProduceCall): Decision;
  /** A participant asks to receive a producer. May refuse. */
  beforeConsume?(call: BeforeConsumeCall): Decision;
  /** A producer exists and the room has been told of it. */
  onNewProducer?(call: ProducerCall): Action[] | void;
  /** The first RTP packet of a producer has arrived. */
  onFirstRtp?(call: FirstRtpCall): Action[] | void;
  /** A producer whose first RTP was told has stopped to flow. */
  onProducerPaused?(call: ProducerFlowCall): Action[] | void;
  /** It flows again; in turn with `onProducerPaused`. */
  onProducerResumed?(call: ProducerFlowCall): Action[] | void;
  /** A producer has ended, whatever the cause. */
  onProducerClosed?(call: ProducerClosedCall): Action[] | void;
  /** The dominant speaker or the set of speakers has changed. */
  speakerChanged?(call: SpeakersCall): Action[] | void;
  /** A timer of the plugin is due. */
  onTimer?(call: TimerCall): Action[] | void;
  /** A room has ended: the last call about it, except for timers. */
  onRoomClosed?(call: RoomClosedCall): void;
  /** A client event that the plugin registered. */
  onCommand?(call: CommandCall): Reply;
}

/**
 * What a plugin's module exports by default: a function of the plugin's settings. If it
 * throws, the plugin is not loaded, and the sentence is in the server's log.
 */
export type Start = (settings: unknown) => Plugin;

/** Gives the plugin's parts their types. */
export function definePlugin(start: Start): Start;

/** Yes. `amend` counts in `beforeProduce`. */
export function allow(more?: { amend?: Amendment; actions?: Action[] }): Allow;
/**
 * No. The code is in upper snake case, for programs; the message is a sentence for people;
 * the details, an object or a list, are more for programs.
 */
export function refuse(code: string, message: string, details?: Json, actions?: Action[]): Refuse;
/** A command is done: the client gets `{success: true}` and the data. */
export function done(data?: Json, actions?: Action[]): Done;

/** {@link refuse} for throwing from deep inside a deciding hook or a command. */
export class Refusal extends Error {
  constructor(code: string, message: string, details?: Json);
  readonly code: string;
  readonly details?: Json;
}

/** An event for one user's connections in this room. */
export function emitToUser(userId: UserId, event: string, payload?: Json): Action;
/** An event for everyone in this room, but not for `except`. */
export function emitToRoom(event: string, payload?: Json, options?: { except?: UserId }): Action;
/** Pauses the target; its user cannot resume it. */
export function mute(target: Target): Action;
/** Lifts the plugin's own mute. */
export function unmute(target: Target): Action;
/** Closes the target's producers. */
export function close(target: Target): Action;
/** Removes a user from the room and ends their connection. */
export function kick(userId: UserId, reason: string): Action;
/** Puts a user among the active speakers of the room, keeps them out, or leaves it to their voice again. */
export function pinSpeaker(userId: UserId, pin: Pin): Action;

/** The server did not do what the plugin asked for. Not caught, it fails the hook. */
export class HostError extends Error {
  /** The contract's name for it, for example `quota-exceeded`. */
  readonly reason: string;
}

/**
 * Durable storage of the plugin's own, of JSON values. A hook sees its own writes at once;
 * others see them when it returns, all or, if it throws, none. Needs the capability
 * `key-value`. Keys have at most 1024 bytes, values 64 KiB.
 */
export const kv: {
  get<T = Json>(key: string): T | undefined;
  /** With `ttlMs`, the key is gone so many milliseconds after the call's `at`. */
  set(key: string, value: Json, options?: { ttlMs?: number }): void;
  delete(key: string): void;
  /** Keys with this prefix, in byte order, at most 1000, those after `after`. */
  list(prefix: string, options?: { after?: string; limit?: number }): string[];
  /** Sets the key if its value is `expected` (`undefined`: not there). Whether it was. */
  compareAndSet(key: string, expected: Json | undefined, value: Json | undefined): boolean;
  /** Adds to a whole number; a key that is not there counts as 0. The sum. */
  increment(key: string, by?: number): number;
  /** A key of one room's: no other room's keys start with `roomKey(kind, roomId)`. */
  roomKey(kind: string, roomId: string, rest?: string | number): string;
};

/**
 * Timers of the call's room: `onTimer` gets the key. They survive a restart and outlive the
 * room. Needs the capability `timers`.
 */
export const timers: {
  /** Replaces the room's timer of this key. */
  set(key: string, afterMs: number, options?: { everyMs?: number }): void;
  cancel(key: string): void;
};

/** Events to the outside: billing, analytics. Needs the capability `publish`. */
export const events: {
  /** When the hook returns; not at all if it throws. Topics: `a-z 0-9 . _ -`. */
  publish(topic: string, payload: Json): void;
};

/** Counters on the server's metrics page. Needs the capability `metrics`. */
export const metrics: {
  /** Names: `a-z 0-9 _`. */
  increment(name: string, by?: number): void;
};

/** The server's log. */
export const log: Record<'trace' | 'debug' | 'info' | 'warn' | 'error', (message: string) => void>;

/** Reads one field of a JSON value, or says what is wrong with it. */
export type Field<T> = (value: unknown, path: string) => T;
/** Fields by name. */
export type Shape<T> = { [K in keyof T]: Field<T[K]> };

/** What settings and payloads consist of. `undefined` and, where optional, `null` are absent. */
export const fields: {
  boolean(): Field<boolean>;
  integer(bounds?: { min?: number; max?: number }): Field<number>;
  /** `like` says in words what the pattern wants. */
  string(options?: { pattern?: RegExp; like?: string }): Field<string>;
  oneOf<const T extends readonly Json[]>(...known: T): Field<T[number]>;
  list<T>(field: Field<T>): Field<T[]>;
  map<T>(field: Field<T>): Field<{ [name: string]: T }>;
  /** Unknown fields are faults. */
  object<T>(shape: Shape<T>): Field<T>;
  optional<T>(field: Field<T>): Field<T | undefined>;
  optional<T>(field: Field<T>, otherwise: T): Field<T>;
  /** A further condition, and what is wrong where it does not hold. */
  where<T>(field: Field<T>, holds: (value: T) => boolean, problem: string): Field<T>;
};

/** The settings as a type of the plugin's own; an unknown or wrong field is an error that names it. */
export function readSettings<T>(settings: unknown, shape: Shape<T>): T;

/**
 * A command's payload as a type of the plugin's own; unknown fields are ignored. A wrong one
 * is the refusal `INVALID_PAYLOAD`, whose details name it.
 */
export function readPayload<T>(call: CommandCall, shape: Shape<T>): T;
