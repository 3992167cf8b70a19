// A plugin whose behaviour the tests choose by the name of the room.

import {
  Refusal,
  allow,
  definePlugin,
  done,
  emitToRoom,
  events,
  fields,
  kv,
  log,
  metrics,
  mute,
  readPayload,
  readSettings,
  timers,
} from 'voice-room-plugin-sdk';

const rooms = {
  'clock': () => Date.now(),
  'date': () => new Date(),
  'chance': () => Math.random(),
  'later': () => setTimeout(() => {}, 1),
  'known date': () => log.info(new Date(0).toISOString()),
  'throws': () => {
    kv.set('written', true);
    throw new Error('out of order');
  },
  'refuses': () => {
    kv.set('written', true);
    throw new Refusal('NO', 'Not you', { why: 'because' });
  },
  'long key': () => kv.get('k'.repeat(1025)),
  'metrics': () => metrics.increment('calls'),
  'topic': () => events.publish('other.topic', {}),
  'counts': () => log.info(`${kv.increment('count', 2)} ${kv.increment('count', -5)}`),
  'no number': () => {
    kv.set('word', 'three');
    kv.increment('word');
  },
  'swaps': () => {
    const swaps = [
      kv.compareAndSet('swapped', undefined, { a: 1 }),
      kv.compareAndSet('swapped', { a: 2 }, { a: 3 }),
      kv.compareAndSet('swapped', { a: 1 }, { a: 4 }),
    ];
    log.info(JSON.stringify([...swaps, kv.get('swapped')]));
  },
  'expires': () => kv.set('short', 1, { ttlMs: 1000 }),
  'times': () => {
    timers.set('once', 1000);
    timers.set('often', 400, { everyMs: 400 });
  },
  'fraction': () => timers.set('once', 0.5),
};

export default definePlugin((settings) => {
  const { greeting } = readSettings(settings, {
    greeting: fields.optional(fields.string(), 'Hello'),
  });
  return {
    commands: ['project:say'],
    beforeJoin({ room, participant, at }) {
      rooms[room.id]?.();
      kv.set(kv.roomKey('seen', room.id, participant.user.id), { at, plan: participant.user.claims.plan });
      return room.id === 'async' ? Promise.resolve(allow()) : room.id === 'nothing' ? undefined : allow();
    },
    beforeProduce({ room }) {
      const actions = room.id === 'ungranted' ? [mute({ user: 7 })] : [];
      return allow({ amend: { muted: true, attach: { greeting } }, actions });
    },
    onTimer({ key, due, at }) {
      return [emitToRoom('project:timer', { key, late: at - due })];
    },
    onCommand(call) {
      const { text } = readPayload(call, { text: fields.string() });
      events.publish('project.said', { text, by: call.participant.user.id });
      return done({ text, to: call.target?.user.id }, [emitToRoom('project:said', { text }, { except: 7 })]);
    },
  };
});
