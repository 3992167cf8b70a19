// Events and refusals as sentences. Pure.

import { RequestError, type RoomEvent, type UserId } from './protocol';
import { nameOf, seatOf, type RoomState } from './room-state';

/** Sentences for codes whose own words would not help the reader. */
const BY_CODE: Readonly<Record<string, string>> = {
  INTERNAL_ERROR: 'Something went wrong on the server',
  INVALID_PAYLOAD: 'The server did not understand the request',
  RATE_LIMITED: 'Too many requests: wait a moment and try again',
};

const BY_MICROPHONE_ERROR: Readonly<Record<string, string>> = {
  NotAllowedError: 'The browser may not use the microphone: allow it in the address bar',
  NotFoundError: 'No microphone was found',
  NotReadableError: 'The microphone is in use by another program',
};

const BY_REASON: Readonly<Record<string, string>> = {
  admin: 'The room was closed by an administrator',
  empty: 'The room was closed because it was empty',
  shutdown: 'The server is shutting down',
  worker_died: 'The room was interrupted',
};

const BY_MODERATION: Readonly<Record<string, string>> = {
  ban: 'You are banned from this room',
  kick: 'You were removed from this room',
  mute: 'You were muted by a moderator',
  unmute: 'You may speak again',
  unban: 'You are no longer banned',
  warn: 'You have held the floor for long: let others speak',
};

/** Whatever was thrown, as a sentence; a plugin's refusal begins with the plugin's name. */
export function explain(error: unknown): string {
  if (error instanceof RequestError) {
    const until = untilOf(error.details);
    const sentence = (error.plugin ? undefined : BY_CODE[error.code]) ?? error.message;
    return (error.plugin ? `${error.plugin}: ` : '') + sentence + (until === undefined ? '' : ` (until ${timeOf(until)})`);
  }
  if (!(error instanceof Error)) return String(error);
  return BY_MICROPHONE_ERROR[error.name] ?? error.message;
}

function untilOf(details: unknown): number | undefined {
  const until = (details as { until?: unknown } | undefined)?.until;
  return typeof until === 'number' ? until : undefined;
}

/** A Unix time in milliseconds as the reader's clock shows it, with the day when it is not today. */
export function timeOf(at: number, now = Date.now()): string {
  const date = new Date(at);
  const isToday = date.toDateString() === new Date(now).toDateString();
  const time: Intl.DateTimeFormatOptions = { hour: '2-digit', minute: '2-digit' };
  return isToday ? date.toLocaleTimeString([], time) : date.toLocaleString([], { ...time, day: 'numeric', month: 'short' });
}

/** A balance, which comes in the currency's smallest unit. What is no currency of a country has no smaller one. */
export function amountOf({ balance, currency }: { balance: number; currency: string }): string {
  if (!/^[A-Z]{3}$/.test(currency)) return `${balance} ${currency}`;
  const format = new Intl.NumberFormat([], { style: 'currency', currency });
  return format.format(balance / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
}

/** Why a stay ended. */
export function explainEnd(reason: string): string {
  return BY_REASON[reason] ?? `You were disconnected: ${reason}`;
}

export interface Notice {
  text: string;
  /** Worth interrupting for, because it is about the reader. */
  isUrgent: boolean;
}

/** What an event means to the reader, given the room before it; nothing for those that speak for themselves. */
export function notice(state: RoomState, event: { name: string; payload: unknown }): Notice | undefined {
  const { name, payload } = event as RoomEvent;
  const calm = (text: string): Notice => ({ text, isUrgent: false });
  const who = (userId: UserId): string => (userId === state.self ? 'You' : nameOf(state, userId));
  const be = (userId: UserId): string => (userId === state.self ? 'You are' : `${nameOf(state, userId)} is`);
  switch (name) {
    case 'room:userJoined':
      return payload.userId === state.self ? undefined : calm(`${payload.name || `User ${payload.userId}`} joined`);
    case 'room:userLeft':
      return payload.userId === state.self ? undefined : calm(`${nameOf(state, payload.userId)} left`);
    case 'audio:firstRtp':
      return calm(`${who(payload.userId)} can be heard`);
    case 'audio:producerPaused':
    case 'audio:producerResumed': {
      const { userId, byModerator } = payload;
      const change = name === 'audio:producerPaused' ? 'muted' : 'unmuted';
      if (!byModerator) return userId === state.self ? undefined : calm(`${who(userId)} ${change}`);
      // For the seated, the seats plugin says it as well.
      return seatOf(state, userId) === undefined ? calm(`${be(userId)} ${change} by a moderator`) : undefined;
    }
    case 'seat:updated':
      return calm(`${who(payload.userId)} took seat ${payload.seatIndex + 1}`);
    case 'seat:cleared': {
      const isRemoved = payload.reason === 'removed';
      const text = isRemoved ? `${be(payload.userId)} removed from seat` : `${who(payload.userId)} left seat`;
      return { text: `${text} ${payload.seatIndex + 1}`, isUrgent: isRemoved && payload.userId === state.self };
    }
    case 'seat:userMuted': {
      const change = payload.isMuted ? 'muted' : 'unmuted';
      return { text: `${be(payload.userId)} ${change} by a manager`, isUrgent: payload.userId === state.self };
    }
    case 'seat:locked':
      return calm(`Seat ${payload.seatIndex + 1} is ${payload.isLocked ? 'locked' : 'open'}`);
    case 'moderation:notice': {
      const { action, reason, until } = payload;
      const text = `moderation: ${BY_MODERATION[action] ?? action}`;
      return {
        text: text + (until ? ` until ${timeOf(until)}` : '') + (reason ? `: ${reason}` : ''),
        isUrgent: true,
      };
    }
    case 'billing:balance':
      return calm(`Your balance is ${amountOf(payload)}`);
    case 'billing:low': {
      const units = payload.unitsLeft === 1 ? '1 more unit' : `${payload.unitsLeft} more units`;
      return { text: `Your balance of ${amountOf(payload)} lasts for ${units}`, isUrgent: true };
    }
    case 'billing:spent':
      return { text: `Your balance is spent (${amountOf(payload)}): you are not heard any more`, isUrgent: true };
    case 'room:closed':
      return calm(explainEnd(payload.reason));
    case 'server:draining':
      return { text: `The server is about to restart (at ${timeOf(payload.deadline)} at the latest)`, isUrgent: true };
    default:
      return undefined;
  }
}
