/**
 * Who may enter a room, and who may speak there.
 *
 * The first rule of `rooms` whose `room` fits is the room's; a room without one is open to
 * everybody. Staff enters and speaks always, and takes no place.
 *
 * | setting | default | meaning |
 * |---|---|---|
 * | `staff_roles` | `["owner", "admin"]` | whose commands are obeyed |
 * | `utc_offset_minutes` | 0 | how far the hours' time is ahead of UTC |
 * | `rooms[].room` | | the room's name, or its beginning and `*` |
 * | `rooms[].open` | true | whether the doors are open during the hours; if not, staff opens them |
 * | `rooms[].hours`, `days` | always | `"09:00-17:30"`, also over midnight, on `["mon", …]` |
 * | `rooms[].claims` | `{}` | claims of the token that are required, and their accepted values: `{ plan = ["pro"] }` |
 * | `rooms[].capacity` | no limit | `[{ role = "guest", places = 20 }, …]`: the first role that somebody has counts, `*` is everybody else |
 * | `rooms[].waiting` | none | `{ places = 50, seconds = 30 }`: who finds no place waits in line, and keeps their position by asking again in time |
 * | `rooms[].speakers` | everybody | roles that may speak |
 * | `rooms[].muted` | `[]` | roles that begin muted, until staff sends `doors:unmute` |
 * | `rooms[].badges` | `[]` | `[{ role = "host", badge = "gold" }]`: attached to the producer of whoever has the role |
 *
 * Staff sends `doors:open {minutes?}` and `doors:close {minutes?}`, which hold until the time
 * is over or `doors:auto` returns to the rule, also over a restart, and `doors:unmute
 * {userId}`, which holds until the room ends, for a day at most. The room gets `doors:changed {open, until?}`. Who is inside stays when the doors
 * close.
 *
 * Refusals: `DOORS_CLOSED {until?}`, `CLAIM_REQUIRED {claim, accepted}`, `ROOM_FULL {role,
 * places}`, `WAITING {position, askAgainWithinMs}`, `NOT_A_SPEAKER {roles}`, `STAFF_ONLY`,
 * `NO_RULE`, `NOT_IN_ROOM`.
 */

import {
  Refusal,
  allow,
  definePlugin,
  done,
  emitToRoom,
  fields,
  kv,
  metrics,
  readPayload,
  refuse,
  unmute,
} from 'voice-room-plugin-sdk';
import { opening } from './hours.js';
import * as places from './places.js';
import { configuration, ruleFor } from './settings.js';

/** @typedef {import('voice-room-plugin-sdk').CommandCall} CommandCall */
/** @typedef {import('voice-room-plugin-sdk').ParticipantCall} ParticipantCall */
/** @typedef {import('voice-room-plugin-sdk').Room} Room */
/** @typedef {import('voice-room-plugin-sdk').User} User */
/** @typedef {import('./settings.js').Rule} Rule */

/**
 * What staff has said about the doors.
 * @typedef {{ open: boolean, until?: number }} Doors
 */

/** How long staff's permission to speak lasts, where the room does not end before. */
const VOICE_MS = 24 * 3_600_000;

/** @param {string} roomId */
const doorsKey = (roomId) => kv.roomKey('doors', roomId);
/**
 * @param {string} roomId
 * @param {number} userId
 */
const voiceKey = (roomId, userId) => kv.roomKey('voice', roomId, userId);
/**
 * A producer that began muted, and is unmuted by its id.
 * @param {string} roomId
 * @param {number} userId
 * @param {string} [producerId]
 */
const mutedKey = (roomId, userId, producerId = '') =>
  kv.roomKey('muted', roomId, `${userId}/${producerId}`);

/**
 * @param {User} user
 * @param {readonly string[]} roles
 */
const hasAny = (user, roles) => user.roles.some((role) => roles.includes(role));

/**
 * The contingent whose places a user takes, if they are limited.
 * @param {Rule} rule
 * @param {User} user
 */
const contingent = ({ capacity }, user) =>
  capacity.find(({ role }) => user.roles.includes(role)) ??
  capacity.find(({ role }) => role === '*');

/**
 * @param {Rule} rule
 * @param {User} user
 */
function checkClaims(rule, user) {
  for (const [claim, accepted] of Object.entries(rule.claims)) {
    const held = [user.claims[claim]].flat();
    if (!held.some((value) => typeof value === 'string' && accepted.includes(value))) {
      throw new Refusal('CLAIM_REQUIRED', 'This room is not part of what you have', { claim, accepted });
    }
  }
}

/**
 * Keeps a place for the newcomer, or says why there is none.
 * @param {Rule} rule
 * @param {ParticipantCall} call
 */
function checkPlace(rule, { room, participant, at }) {
  const found = contingent(rule, participant.user);
  if (!found) return;
  if (room.participants === 0) places.clear(room.id);
  const { role } = found;
  const user = participant.user.id;
  const free = found.places - places.taken(room.id, role);
  const seconds = rule.waiting?.seconds ?? 0;
  const { line, ahead } = places.line(room.id, { role, user, at, seconds });
  // Who reconnects has a place, which their lost connection may still hold.
  if (ahead < free || participant.connections > 1) {
    const others = line.filter((one) => one.user !== user);
    if (others.length < line.length) places.keepLine(room.id, role, others, seconds);
    places.reserve(room.id, role, participant.id);
    return;
  }
  if (!rule.waiting || ahead >= rule.waiting.places) {
    metrics.increment('refused_full');
    throw new Refusal('ROOM_FULL', 'The room is full', { role, places: found.places });
  }
  line[ahead] = { user, seen: at };
  places.keepLine(room.id, role, line, seconds);
  metrics.increment('waiting');
  const position = ahead + 1;
  const details = { position, askAgainWithinMs: seconds * 1000 };
  throw new Refusal('WAITING', `The room is full; you are number ${position} in line`, details);
}

/**
 * Of what is left over, so much of each kind. A call may change 1024 keys.
 * @param {Room} room
 * @param {number} limit
 */
function forgetVoices(room, limit) {
  for (const kind of ['voice', 'muted']) {
    for (const key of kv.list(kv.roomKey(kind, room.id), { limit })) kv.delete(key);
  }
}

export default definePlugin((settings) => {
  const config = configuration(settings);
  /** @param {User} user */
  const isStaff = (user) => hasAny(user, config.staff_roles);

  /**
   * @param {Rule} rule
   * @param {Room} room
   * @param {number} at
   * @returns {Doors}
   */
  const doors = (rule, room, at) => {
    const said = /** @type {Doors | undefined} */ (kv.get(doorsKey(room.id)));
    if (said) return said;
    const hours = opening(rule, config.utc_offset_minutes, at);
    return rule.open ? hours : { open: false };
  };

  /**
   * The contingent that the participant takes a place of.
   * @param {ParticipantCall} call
   */
  const roleOf = ({ room, participant: { user } }) => {
    const rule = ruleFor(config, room.id);
    return rule && !isStaff(user) ? contingent(rule, user)?.role : undefined;
  };

  /**
   * @param {CommandCall} call
   * @param {boolean} open
   */
  const setDoors = (call, open) => {
    const { minutes } = readPayload(call, {
      minutes: fields.optional(fields.integer({ min: 1, max: 60 * 24 * 30 })),
    });
    const ttlMs = minutes === undefined ? undefined : minutes * 60_000;
    const state = ttlMs === undefined ? { open } : { open, until: call.at + ttlMs };
    kv.set(doorsKey(call.room.id), state, { ttlMs });
    return done(state, [emitToRoom('doors:changed', state)]);
  };

  /**
   * @param {Rule | undefined} rule
   * @param {User} user
   */
  const needsVoice = (rule, user) => !!rule && !isStaff(user) && hasAny(user, rule.muted);

  /** @param {CommandCall} call */
  const unmuteUser = (call) => {
    const { userId } = readPayload(call, { userId: fields.integer({ min: 0 }) });
    if (!call.target) return refuse('NOT_IN_ROOM', 'This user is not in the room');
    kv.set(voiceKey(call.room.id, userId), true, { ttlMs: VOICE_MS });
    const prefix = mutedKey(call.room.id, userId);
    const begun = kv.list(prefix);
    for (const key of begun) kv.delete(key);
    return done(undefined, begun.map((key) => unmute({ producer: key.slice(prefix.length) })));
  };

  return {
    commands: ['doors:open', 'doors:close', 'doors:auto', 'doors:unmute'],

    beforeJoin(call) {
      const { user } = call.participant;
      const rule = ruleFor(config, call.room.id);
      if (!rule || isStaff(user)) return allow();
      const { open, until } = doors(rule, call.room, call.at);
      if (!open) {
        metrics.increment('refused_closed');
        return refuse('DOORS_CLOSED', 'The doors are closed', { until });
      }
      checkClaims(rule, user);
      checkPlace(rule, call);
      return allow();
    },

    onRoomOpened({ room }) {
      // Nobody may have told that the room was closed.
      forgetVoices(room, 500);
    },

    onJoin(call) {
      const role = roleOf(call);
      if (role) places.take(call.room.id, role, call.participant.id);
    },

    describeRoom(call) {
      const rule = ruleFor(config, call.room.id);
      if (!rule) return undefined;
      const { open, until } = doors(rule, call.room, call.at);
      return { open, until, staff: isStaff(call.participant.user) };
    },

    onLeave(call) {
      const role = roleOf(call);
      if (role) places.release(call.room.id, role, call.participant.id);
    },

    beforeProduce({ room, participant: { user } }) {
      const rule = ruleFor(config, room.id);
      if (!rule) return allow();
      if (rule.speakers && !isStaff(user) && !hasAny(user, rule.speakers)) {
        metrics.increment('refused_speakers');
        return refuse('NOT_A_SPEAKER', 'You may only listen here', { roles: rule.speakers });
      }
      const muted = needsVoice(rule, user) && !kv.get(voiceKey(room.id, user.id));
      const badge = rule.badges.find(({ role }) => user.roles.includes(role))?.badge;
      if (!muted && badge === undefined) return allow();
      return allow({ amend: { muted, attach: badge === undefined ? undefined : { badge } } });
    },

    onNewProducer({ room, participant: { user }, producer }) {
      if (!needsVoice(ruleFor(config, room.id), user)) return [];
      // Staff may have let them speak since `beforeProduce`.
      if (kv.get(voiceKey(room.id, user.id))) return [unmute({ producer: producer.id })];
      kv.set(mutedKey(room.id, user.id, producer.id), producer.source);
      return [];
    },

    onProducerClosed({ room, participant: { user }, producer }) {
      kv.delete(mutedKey(room.id, user.id, producer.id));
    },

    onRoomClosed({ room }) {
      places.clear(room.id);
      // Beside up to 900 places. The rest goes when the room is next opened, or in its time.
      forgetVoices(room, 50);
    },

    onCommand(call) {
      const rule = ruleFor(config, call.room.id);
      if (!isStaff(call.participant.user)) return refuse('STAFF_ONLY', 'Only staff may do this');
      if (!rule) return refuse('NO_RULE', 'The settings have no rule for this room');
      switch (call.command) {
        case 'doors:open':
          return setDoors(call, true);
        case 'doors:close':
          return setDoors(call, false);
        case 'doors:auto': {
          kv.delete(doorsKey(call.room.id));
          const state = doors(rule, call.room, call.at);
          return done(state, [emitToRoom('doors:changed', state)]);
        }
        default:
          return unmuteUser(call);
      }
    },
  };
});
