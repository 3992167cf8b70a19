import assert from 'node:assert/strict';
import test from 'node:test';
import { emitToRoom, kv } from '../src/index.js';
import { Stage, readManifest } from '../src/testing.js';
import start from './project/src/plugin.js';

const manifest = readManifest(new URL('project/plugin.toml', import.meta.url));
const stage = (settings = {}) => new Stage(start, { manifest, settings });
const user = { id: 7, claims: { plan: 'pro' } };

test('a hook is told numbers and claims, and what it writes is kept', () => {
  const on = stage();
  on.join('lobby', user);
  assert.deepEqual(on.stored, { 'seen/5/lobby/7': { at: on.now, plan: 'pro' } });
});

test('what a hook that throws has written is undone, and the log says what it threw', () => {
  const on = stage();
  assert.throws(() => on.join('throws', user), /out of order/);
  assert.deepEqual(on.stored, {});
  assert.equal(on.logged[0].level, 'error');
  assert.match(on.logged[0].message, /^beforeJoin threw Error: out of order\n.*plugin\.js/);
});

test('a refusal that is thrown is a refusal, and what was written is kept', () => {
  const on = stage();
  const { refusal } = on.join('refuses', user);
  assert.deepEqual(refusal, { code: 'NO', message: 'Not you', details: { why: 'because' } });
  assert.deepEqual(on.stored, { written: true });
});

test('a hook cannot be async, nor return nothing where an answer is due', () => {
  assert.throws(() => stage().join('async', user), /must not be async/);
  assert.throws(() => stage().join('nothing', user), /return allow\(\) or refuse/);
});

test('there is no clock and no chance, but a time that is known can be shown', () => {
  assert.throws(() => stage().join('clock', user), /Date\.now: a plugin has no clock: use the call's `at`/);
  assert.throws(() => stage().join('date', user), /new Date\(\): a plugin has no clock/);
  assert.throws(() => stage().join('chance', user), /Math\.random: a plugin has no random numbers/);
  assert.throws(() => stage().join('later', user), /setTimeout: .*timers\.set/);
  const on = stage();
  on.join('known date', user);
  assert.equal(on.logged[0].message, '1970-01-01T00:00:00.000Z');
  assert.ok(Date.now() > 0 && Math.random() < 1, 'they are given back');
});

test('what the host refuses is an error with its name', () => {
  assert.throws(() => stage().join('long key', user), {
    name: 'HostError',
    reason: 'invalid-key',
    message: 'key-value.get: invalid key (1024)',
  });
  assert.throws(() => stage().join('no number', user), { reason: 'not-a-number' });
  assert.throws(() => stage().join('topic', user), { reason: 'not-granted' });
  assert.throws(() => stage().join('fraction', user), /afterMs must be a whole number, 0 or more, not 0\.5/);
});

test('what the manifest does not ask for is named', () => {
  assert.throws(() => stage().join('metrics', user), /ask for the capability "metrics" in plugin\.toml/);
  const on = stage();
  assert.throws(() => on.produce(on.join('ungranted', user)), /the action mute needs the capability "mute"/);
});

test('numbers are counted and values swapped', () => {
  const on = stage();
  on.join('counts', user);
  on.join('swaps', user);
  assert.deepEqual(on.logged.map(({ message }) => message), ['2 -3', '[true,false,true,{"a":4}]']);
});

test('a key with a time to live is gone when it is over', () => {
  const on = stage();
  on.join('expires', user);
  on.advance(999);
  assert.equal(on.stored.short, 1);
  on.advance(1);
  assert.equal(on.stored.short, undefined);
});

test('timers fire in order, the repeating ones again, also after a restart', () => {
  const on = stage();
  on.join('times', user);
  on.restartServer();
  const fired = on.advance(1000);
  assert.deepEqual(fired.map(({ key }) => key), ['often', 'often', 'once']);
  const payload = { key: 'once', late: 0 };
  assert.deepEqual(fired[2].actions, [{ emitToRoom: { event: 'project:timer', payload } }]);
  assert.deepEqual(on.advance(200).map(({ key }) => key), ['often']);
});

test('a command is told whom it is about, and answers with data and actions', () => {
  const on = stage();
  const joined = on.join('lobby', user);
  on.join('lobby', { id: 8 });
  const { data, actions } = on.command(joined, 'project:say', { text: 'hi', userId: 8 });
  assert.deepEqual(data, { text: 'hi', to: 8 });
  assert.deepEqual(actions, [
    { emitToRoom: { event: 'project:said', payload: { text: 'hi' }, except: 7 } },
  ]);
  assert.deepEqual(on.published, [{ topic: 'project.said', payload: { text: 'hi', by: 7 } }]);
  const { refusal } = on.command(joined, 'project:say', {});
  assert.deepEqual(refusal?.details, [{ field: 'text', problem: 'is missing' }]);
});

test('a command may be about its sender', () => {
  const on = stage();
  const joined = on.join('lobby', user);
  assert.equal(on.command(joined, 'project:say', { text: 'me', userId: 7 }).data.to, 7);
});

/** A plugin that tells the room of every producer's beginning and end. */
const crier = (failing = false) => {
  const hooks = ['on-new-producer', 'on-producer-closed', 'on-leave', 'on-room-closed'];
  const capabilities = ['emit', 'key-value'];
  const plugin = () => ({
    onNewProducer: ({ producer }) => [emitToRoom('new', producer.id)],
    onProducerClosed({ room, producer, reason, firstRtpAt }) {
      if (failing) throw new Error('out of order');
      const { participants } = room;
      return [emitToRoom('end', { id: producer.id, reason, heard: firstRtpAt !== undefined, participants })];
    },
    onLeave: ({ room }) => [emitToRoom('left', room.participants)],
    onRoomClosed: () => kv.set('closed', true),
  });
  return new Stage(plugin, { manifest: { ...manifest, hooks, commands: [], capabilities } });
};

const told = (event, payload) => ({ emitToRoom: { event, payload } });

const ended = ({ producer: { id } }, reason, heard) =>
  told('end', { id, reason, heard, participants: 1 });

test('a second producer of a source ends the first one', () => {
  const on = crier();
  const joined = on.join('lobby', user);
  const mic = on.produce(joined);
  on.firstRtp(mic);
  const music = on.produce(joined, 'music');
  assert.deepEqual(music.actions, [told('new', music.producer.id)]);
  const again = on.produce(joined);
  assert.deepEqual(again.actions, [told('new', again.producer.id), ended(mic, 'replaced', true)]);
  on.closeProducer(again);
  const third = on.produce(joined);
  assert.deepEqual(third.actions, [told('new', third.producer.id)]);
});

test('who leaves ends what they send before they are gone', () => {
  const reasons = { left: 'left', disconnected: 'disconnected', too_slow: 'disconnected', rude: 'kicked' };
  for (const [reason, end] of Object.entries(reasons)) {
    const on = crier();
    const joined = on.join('lobby', user);
    const music = on.produce(joined, 'music');
    const mic = on.produce(joined);
    on.firstRtp(mic);
    const expected = [ended(mic, end, true), ended(music, end, false), told('left', 0)];
    assert.deepEqual(on.leave(joined, reason), expected);
  }
});

test('who leaves is gone although a hook throws', () => {
  const on = crier(true);
  const joined = on.join('lobby', user);
  on.produce(joined);
  assert.throws(() => on.leave(joined), /out of order/);
  assert.deepEqual(on.stored, { closed: true });
});

/** A plugin that keeps what it is told of streams. */
const witness = () => {
  const hooks = ['on-first-rtp', 'on-producer-paused', 'on-producer-resumed', 'on-producer-closed', 'on-room-closed'];
  const keep = ({ factId, at, ...call }, more) => {
    kv.set('told', [...(kv.get('told') ?? []), [factId, at, ...more]]);
  };
  const plugin = () => ({
    onFirstRtp: (call) => keep(call, [call.packet.payloadType, call.packet.afterMs]),
    onProducerPaused: (call) => keep(call, [call.cause, call.media.packets]),
    onProducerResumed: (call) => keep(call, [call.cause, call.media.packets]),
    onProducerClosed: (call) =>
      keep(call, [call.reason, call.firstRtpAt ?? null, call.media.packets, call.media.lastRtpAt ?? null]),
    onRoomClosed: (call) => keep(call, [call.reason]),
  });
  return new Stage(plugin, { manifest: { ...manifest, hooks, commands: [], capabilities: ['key-value'] } });
};

test('pauses and resumptions alternate, and packets come only between them', () => {
  const on = witness();
  const began = on.now;
  const mic = on.produce(on.join('lobby', user));
  on.pause(mic);
  on.firstRtp(mic);
  on.resume(mic);
  on.advance(1000);
  on.pause(mic);
  on.pause(mic, 'plugin');
  on.advance(5000);
  on.resume(mic);
  on.advance(3000);
  on.pause(mic, 'silence', began + 7000);
  on.closeProducer(mic);
  const { id } = mic.producer;
  assert.deepEqual(on.stored.told, [
    [`first-rtp of ${id}`, began, 111, 0],
    [`paused/1 of ${id}`, began + 1000, 'user', 51],
    [`resumed/1 of ${id}`, began + 6000, 'user', 51],
    [`paused/2 of ${id}`, began + 7000, 'silence', 101],
    [`closed of ${id}`, began + 9000, 'closed', began, 101, began + 7000],
  ]);
});

test('what a killed server left open is told once, as of then', () => {
  const on = witness();
  const killed = on.now;
  const joined = on.join('lobby', user);
  const mic = on.produce(joined);
  on.produce(joined, 'music');
  on.firstRtp(mic);
  on.restartServer();
  on.advance(60_000);
  assert.equal(on.stored.told.length, 1);
  on.recover();
  on.recover();
  const [, closed, room] = on.stored.told;
  assert.deepEqual(closed, [`closed of ${mic.producer.id}`, killed, 'recovered', killed, 1, killed]);
  assert.deepEqual(room.slice(1), [killed, 'recovered']);
});

test('an amendment is what the plugin says', () => {
  const on = stage({ greeting: 'Ahoy' });
  const { amendment } = on.produce(on.join('lobby', user));
  assert.deepEqual(amendment, { muted: true, attach: { greeting: 'Ahoy' } });
});

test('a user id that JavaScript cannot hold is no other user', () => {
  assert.throws(() => stage().join('lobby', { id: 2n ** 53n }), /id is 9007199254740992/);
});

test('a setting that is wrong keeps the plugin from starting', () => {
  assert.throws(() => stage({ greeting: 3 }), /^Error: settings: `greeting`: must be text, not 3$/);
  assert.throws(() => stage({ greting: '' }), /settings: `greting`: is unknown; known are greeting/);
});

test('hooks and commands are those that the manifest lists', () => {
  const of = (plugin, more) =>
    new Stage(() => plugin, { manifest: { ...manifest, hooks: [], commands: [], ...more } });
  const beforeJoin = () => {};
  assert.throws(() => of({ beforeJoin }), /does not list the hook "before-join"/);
  assert.throws(() => of({ beforejoin: beforeJoin }), /beforejoin is neither a hook nor `commands`/);
  assert.throws(() => of({}, { hooks: ['on-timer'] }), /there is no function onTimer/);
  assert.throws(() => of({ commands: ['a:b'] }), /does not list the command "a:b"/);
  assert.throws(() => of({ commands: ['a:b'] }, { commands: ['a:b'] }), /has no onCommand/);
});
