// What travels between a client and the server's Socket.IO face, as types.

import type { types as ms } from 'mediasoup-client';

export type UserId = number;
export type Source = 'mic' | 'music';

export interface ParticipantSummary {
  userId: UserId;
  name?: string | null;
  avatar?: string | null;
  isSpeaker: boolean;
}

export interface ProducerSummary {
  producerId: string;
  userId: UserId;
  kind: 'audio';
  source: Source;
  paused: boolean;
}

/** How to come back after a lost connection: within `graceMs`, by `room:resume {token, lastSeq}`. */
export interface Resumption {
  token: string;
  graceMs: number;
}

export interface JoinAnswer {
  rtpCapabilities: ms.RtpCapabilities;
  participants: ParticipantSummary[];
  existingProducers: ProducerSummary[];
  activeSpeakers: UserId[];
  iceServers?: RTCIceServer[] | null;
  /** By plugin name: what that plugin shows a newcomer. */
  plugins?: Record<string, unknown> | null;
  /** For a client that joined with `resumable: true`. */
  resume?: Resumption;
}

/** What is still there after a lost connection: the ids of all that is one's own. */
export interface ResumeAnswer {
  roomId: string;
  userId: UserId;
  transports: string[];
  producers: string[];
  consumers: string[];
  /** Events that follow and were sent, or would have been, since `lastSeq`. */
  missed: number;
  resume?: Resumption;
}

export interface TransportAnswer {
  id: string;
  iceParameters: ms.IceParameters;
  iceCandidates: ms.IceCandidate[];
  dtlsParameters: ms.DtlsParameters;
  iceServers?: RTCIceServer[] | null;
}

export interface ConsumeAnswer {
  id: string;
  producerId: string;
  kind: 'audio';
  rtpParameters: ms.RtpParameters;
  producerPaused: boolean;
}

/** Events of the server itself, by name. */
export interface CoreEvents {
  'audio:newProducer': { producerId: string; userId: UserId; kind: 'audio'; source: Source };
  'audio:producerClosed': { producerId: string; userId: UserId; source: Source; reason: string };
  'audio:producerPaused': { producerId: string; userId: UserId; byModerator: boolean };
  'audio:producerResumed': { producerId: string; userId: UserId; byModerator: boolean };
  'audio:firstRtp': { producerId: string; userId: UserId; at: number };
  'speaker:active': { userId: UserId | null; activeSpeakers: UserId[]; timestamp: number };
  'transport:closed': { transportId: string; reason: string };
  'room:userJoined': { userId: UserId; name?: string | null; avatar?: string | null };
  'room:userLeft': { userId: UserId; reason: string };
  'room:closed': { roomId: string; reason: string; timestamp: number };
  'auth:force_disconnect': { reason: string };
  'server:draining': { deadline: number };
}

/** Events of the standard plugins, by name. A server may run without them. */
export interface PluginEvents {
  'seat:updated': { seatIndex: number; userId: UserId; isMuted: boolean };
  'seat:cleared': { seatIndex: number; userId: UserId; reason?: string };
  'seat:userMuted': { userId: UserId; isMuted: boolean };
  'seat:locked': { seatIndex: number; isLocked: boolean };
  'billing:balance': { currency: string; balance: number };
  'billing:low': { currency: string; balance: number; unitsLeft: number };
  'billing:spent': { currency: string; balance: number };
  'moderation:notice': { action: string; reason?: string | null; until?: number | null };
}

export type KnownEvents = CoreEvents & PluginEvents;

/** Any event: a known one with its payload, or one that some other plugin emits. */
export type RoomEvent = {
  [Name in keyof KnownEvents]: { name: Name; payload: KnownEvents[Name] };
}[keyof KnownEvents];

/** What the seats plugin shows a newcomer, at `plugins.seats`. */
export interface SeatsAnswer {
  seatCount: number;
  seats: { seatIndex: number; userId: UserId; isMuted: boolean }[];
  lockedSeats: number[];
}

export type Ack<T> =
  | { success: true; data?: T }
  | { success: false; error: string; code: string; details?: unknown; plugin?: string | null };

/** A request that was not granted: by the server, by one of its plugins, or for want of an answer. */
export class RequestError extends Error {
  override readonly name = 'RequestError';

  constructor(
    message: string,
    /** Stable, upper snake case: `SEAT_REQUIRED`, `NOT_IN_ROOM`, `TIMEOUT`, … */
    readonly code: string,
    /** The plugin that refused, if one did. */
    readonly plugin?: string,
    readonly details?: unknown,
  ) {
    super(message);
  }
}
