// Who has a place, and who waits for one. Both are in key-value, so that nobody loses a
// place when the instance is replaced.

import { kv } from 'voice-room-plugin-sdk';

/** How long a place is kept for somebody who was let in and has not entered yet. */
const RESERVED_MS = 30_000;

/** @typedef {{ user: number, seen: number }} Waiting */

/**
 * @param {string} roomId
 * @param {string} role
 * @param {string} [id] of the participant
 */
const placeKey = (roomId, role, id = '') => kv.roomKey('place', roomId, `${role}/${id}`);

/**
 * How many places of the role are taken.
 * @param {string} roomId
 * @param {string} role
 */
export const taken = (roomId, role) => kv.list(placeKey(roomId, role)).length;

/**
 * Keeps a place for who is about to enter; another plugin may still refuse them.
 * @param {string} roomId
 * @param {string} role
 * @param {string} id
 */
export const reserve = (roomId, role, id) =>
  kv.set(placeKey(roomId, role, id), 'reserved', { ttlMs: RESERVED_MS });

/**
 * @param {string} roomId
 * @param {string} role
 * @param {string} id
 */
export const take = (roomId, role, id) => kv.set(placeKey(roomId, role, id), 'taken');

/**
 * @param {string} roomId
 * @param {string} role
 * @param {string} id
 */
export const release = (roomId, role, id) => kv.delete(placeKey(roomId, role, id));

/**
 * Forgets everybody in a room that is empty: a server that was killed has told of no leaving.
 * @param {string} roomId
 */
export function clear(roomId) {
  for (const key of kv.list(kv.roomKey('place', roomId))) {
    if (kv.get(key) === 'taken') kv.delete(key);
  }
}

/**
 * The place in the line, 0 for the first, of a user who asks to enter, and how many wait.
 * Who does not ask again in time has given up.
 * @param {string} roomId
 * @param {{ role: string, user: number, at: number, seconds: number }} who
 * @returns {{ line: Waiting[], ahead: number }}
 */
export function line(roomId, { role, user, at, seconds }) {
  const kept = kv.get(kv.roomKey('line', roomId, role));
  const all = /** @type {Waiting[]} */ (kept ?? []);
  const line = all.filter((one) => one.seen + seconds * 1000 > at);
  const found = line.findIndex((one) => one.user === user);
  return { line, ahead: found < 0 ? line.length : found };
}

/**
 * @param {string} roomId
 * @param {string} role
 * @param {Waiting[]} line
 * @param {number} seconds
 */
export function keepLine(roomId, role, line, seconds) {
  const key = kv.roomKey('line', roomId, role);
  if (line.length === 0) kv.delete(key);
  else kv.set(key, line, { ttlMs: seconds * 1000 });
}
