/**
 * Lets members in, and counts how often each has come. Who does not come for 90 days is
 * forgotten: a key for every user there ever was would fill the storage.
 *
 * | setting | default | meaning |
 * |---|---|---|
 * | `member_roles` | `["member"]` | roles of the token that may enter |
 */

import {
  allow,
  definePlugin,
  done,
  emitToUser,
  fields,
  kv,
  readSettings,
  refuse,
} from 'voice-room-plugin-sdk';

const REMEMBERED_MS = 90 * 24 * 3_600_000;

export default definePlugin((settings) => {
  const { member_roles: memberRoles } = readSettings(settings, {
    member_roles: fields.optional(fields.list(fields.string()), ['member']),
  });
  /** @param {number} userId */
  const visitsKey = (userId) => `visits/${userId}`;

  return {
    commands: ['{{name}}:visits'],

    beforeJoin({ participant: { user } }) {
      if (!user.roles.some((role) => memberRoles.includes(role))) {
        return refuse('MEMBERS_ONLY', 'This room is for members', { roles: memberRoles });
      }
      return allow();
    },

    onJoin({ participant: { user } }) {
      // Counts also what another room counts at this moment; then sets the time anew.
      const visits = kv.increment(visitsKey(user.id));
      kv.set(visitsKey(user.id), visits, { ttlMs: REMEMBERED_MS });
      return [emitToUser(user.id, '{{name}}:welcome', { visits })];
    },

    onCommand({ participant: { user } }) {
      return done({ visits: kv.get(visitsKey(user.id)) ?? 0 });
    },
  };
});
