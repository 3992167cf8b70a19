// What can be set, and what is wrong with it. The table is in plugin.js.

import { fields, readSettings } from 'voice-room-plugin-sdk';
import { DAYS, minutes } from './hours.js';

const { boolean, integer, list, map, object, oneOf, optional, string, where } = fields;

/** Places of one room. The host lists 1000 keys and changes 1024 of them in one call. */
const PLACES = 900;

const role = string({ pattern: /^[\w.-]{1,64}$/, like: 'a role of at most 64 letters, digits, `.`, `_`, `-`' });
const roles = () => optional(list(role), []);
const contingent = object({
  role: string({ pattern: /^(\*|[\w.-]{1,64})$/, like: 'a role, or `*` for everybody else' }),
  places: integer({ min: 0, max: PLACES }),
});

const capacity = where(
  where(
    list(contingent),
    (all) => new Set(all.map((one) => one.role)).size === all.length,
    'names a role twice',
  ),
  (all) => all.reduce((sum, { places }) => sum + places, 0) <= PLACES,
  `has more than ${PLACES} places`,
);

const rule = object({
  room: string({ pattern: /^[^*]*\*?$/, like: 'a room, or the beginning of its name and `*`' }),
  open: optional(boolean(), true),
  hours: optional(
    where(
      string({ pattern: /^\d\d:\d\d-\d\d:\d\d$/, like: 'two times such as `09:00-17:30`' }),
      (text) => minutes(text).every((minute) => !Number.isNaN(minute)),
      'has a time that is not from 00:00 to 24:00',
    ),
  ),
  days: optional(where(list(oneOf(...DAYS)), (days) => days.length > 0, 'is empty'), [...DAYS]),
  claims: optional(map(list(string())), {}),
  capacity: optional(capacity, []),
  waiting: optional(
    object({ places: integer({ min: 1, max: 500 }), seconds: integer({ min: 5, max: 3600 }) }),
  ),
  speakers: optional(list(role)),
  muted: roles(),
  badges: optional(list(object({ role, badge: string() })), []),
});

/** @param {unknown} settings */
export const configuration = (settings) =>
  readSettings(settings, {
    staff_roles: optional(list(role), ['owner', 'admin']),
    utc_offset_minutes: optional(integer({ min: -14 * 60, max: 14 * 60 }), 0),
    rooms: optional(list(rule), []),
  });

/** @typedef {ReturnType<typeof configuration>} Configuration */
/** @typedef {Configuration['rooms'][number]} Rule */

/**
 * The first rule that is about the room.
 * @param {Configuration} configuration
 * @param {string} roomId
 */
export const ruleFor = ({ rooms }, roomId) =>
  rooms.find(({ room }) =>
    room.endsWith('*') ? roomId.startsWith(room.slice(0, -1)) : roomId === room,
  );
