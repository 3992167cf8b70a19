// What plugins import. Documented in index.d.ts.

export {
  Refusal,
  allow,
  close,
  done,
  emitToRoom,
  emitToUser,
  kick,
  mute,
  pinSpeaker,
  refuse,
  unmute,
} from './answers.js';
export * as fields from './fields.js';
export { readPayload, readSettings } from './fields.js';
export { HostError, events, kv, log, metrics, timers } from './host.js';

export const definePlugin = (start) => start;
