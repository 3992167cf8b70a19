/**
 * Lets members in, and counts how often each has come.
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
      const visits = kv.increment(visitsKey(user.id));
      return [emitToUser(user.id, '{{name}}:welcome', { visits })];
    },

    onCommand({ participant: { user } }) {
      return done({ visits: kv.get(visitsKey(user.id)) ?? 0 });
    },
  };
});
