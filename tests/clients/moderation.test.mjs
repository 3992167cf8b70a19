// The moderation plugin.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { ok, refused, within } from './client.mjs';
import { produce, speaker } from './media.mjs';
import { newUser, start } from './server.mjs';

let server;
before(async () => { server = await start(); });
after(() => server?.stop());

const plugin = 'moderation';
const manager = (room) => server.enter(room, { roles: ['admin'] });

/** Waits until a known time of the server's, which is this machine's. */
const until = (ms) => within(ms - Date.now() + 5_000, 'the time', new Promise((done) => {
  setTimeout(done, ms - Date.now() + 1);
}));

/** The target of a measure must see this and lose the connection. */
async function thrownOut(client, action, reason) {
  const notice = await client.next('moderation:notice');
  assert.equal(notice.action, action);
  assert.equal(notice.reason, reason);
  assert.deepEqual(await client.next('auth:force_disconnect'), { reason });
  await within(10_000, 'the end of the connection', client.disconnected);
  return notice;
}

/** Tries to come back: the refusal, whose details it returns. */
async function banned(room, userId) {
  const client = await server.connect({ userId });
  const answer = await client.send('room:join', { roomId: room });
  assert.equal(answer.success, false);
  assert.equal(answer.code, 'BANNED');
  assert.equal(answer.plugin, plugin);
  client.close();
  return answer.details;
}

describe('a ban', () => {
  test('throws out, and keeps out for ever', async () => {
    const [boss, target, third] = [await manager('ban'), await speaker(server, 'ban'), await server.enter('ban')];
    const { userId, producerId } = target;
    ok(await boss.request('moderation:ban', { userId, reason: 'Spam' }));
    const notice = await thrownOut(target, 'ban', 'Spam');
    assert.ok(notice.until === undefined || notice.until === null);
    const closed = await third.next('audio:producerClosed');
    assert.deepEqual(closed, { producerId, userId, source: 'mic', reason: 'kicked' });
    assert.equal((await third.next('room:userLeft')).userId, userId);
    const details = await banned('ban', userId);
    assert.equal(details.until, null);
    assert.deepEqual(third.left().filter(([name]) => name === 'room:userJoined'), []);
  });

  test('for some seconds ends by itself at the time that it names', async () => {
    const [boss, target] = [await manager('ban-short'), await server.enter('ban-short')];
    const { userId } = target;
    const earliest = Date.now() + 2_000;
    ok(await boss.request('moderation:ban', { userId, seconds: 2, reason: 'Calm down' }));
    const notice = await thrownOut(target, 'ban', 'Calm down');
    assert.ok(notice.until >= earliest && notice.until <= Date.now() + 2_000, `${notice.until}`);
    const details = await banned('ban-short', userId);
    assert.equal(details.until, notice.until);
    await until(notice.until);
    await server.enter('ban-short', { userId });
  });

  test('throws out all connections of the user', async () => {
    const userId = newUser();
    const boss = await manager('ban-both');
    const both = [await server.enter('ban-both', { userId }), await server.enter('ban-both', { userId })];
    ok(await boss.request('moderation:ban', { userId, reason: 'Both' }));
    for (const client of both) await thrownOut(client, 'ban', 'Both');
    await server.settle('ban-both', boss);
    assert.equal(boss.left().filter(([name]) => name === 'room:userLeft').length, 1);
  });

  test('holds for somebody who is not there', async () => {
    const [boss, userId] = [await manager('ban-absent'), newUser()];
    ok(await boss.request('moderation:ban', { userId }));
    await banned('ban-absent', userId);
  });

  test('holds in its room alone', async () => {
    const [boss, userId] = [await manager('ban-here'), newUser()];
    ok(await boss.request('moderation:ban', { userId }));
    const client = await server.enter('ban-elsewhere', { userId });
    assert.equal((await client.send('room:join', { roomId: 'ban-here' })).code, 'BANNED');
    // Still where they were.
    await client.ask('transport:create', { type: 'producer' });
  });

  test('is lifted by unban', async () => {
    const [boss, userId] = [await manager('unban'), newUser()];
    ok(await boss.request('moderation:ban', { userId }));
    await banned('unban', userId);
    ok(await boss.request('moderation:unban', { userId }));
    await server.enter('unban', { userId });
  });

  test('outlasts the room', async () => {
    const [boss, userId] = [await manager('ban-lasts'), newUser()];
    ok(await boss.request('moderation:ban', { userId }));
    await boss.leave();
    await banned('ban-lasts', userId);
  });
});

describe('a kick', () => {
  test('ends the connection, and the user may come back', async () => {
    const [boss, target, third] = [await manager('kick'), await server.enter('kick'), await server.enter('kick')];
    const { userId } = target;
    ok(await boss.request('moderation:kick', { userId, reason: 'Enough' }));
    await thrownOut(target, 'kick', 'Enough');
    assert.deepEqual(await third.next('room:userLeft'), { userId, reason: 'Enough' });
    await server.enter('kick', { userId });
    assert.deepEqual(await third.next('room:userJoined'), { userId });
  });

  test('is told to nobody but the target, beside their leaving', async () => {
    const [boss, target, third] = [await manager('kick-quiet'), await server.enter('kick-quiet'), await server.enter('kick-quiet')];
    ok(await boss.request('moderation:kick', { userId: target.userId }));
    await server.settle('kick-quiet', third);
    assert.deepEqual(third.left().map(([name]) => name), ['room:userLeft']);
  });
});

describe('a mute', () => {
  test('pauses what the user says, with a notice to them', async () => {
    const [boss, target, third] = [await manager('mute'), await speaker(server, 'mute'), await server.enter('mute')];
    const { userId, producerId } = target;
    ok(await boss.request('moderation:mute', { userId, reason: 'Noise' }));
    const paused = { producerId, userId, byModerator: true };
    for (const client of [boss, target, third]) assert.deepEqual(await client.next('audio:producerPaused'), paused);
    const notice = await target.next('moderation:notice');
    assert.deepEqual([notice.action, notice.reason], ['mute', 'Noise']);
    const answer = await target.request('audio:selfUnmute', { producerId });
    assert.equal(answer.success, false);
    assert.equal(answer.plugin, plugin);

    ok(await boss.request('moderation:unmute', { userId }));
    for (const client of [boss, target, third]) assert.deepEqual(await client.next('audio:producerResumed'), paused);
    assert.equal((await target.next('moderation:notice')).action, 'unmute');
  });

  test('holds for what the user starts later', async () => {
    const [boss, target] = [await manager('mute-later'), await server.enter('mute-later')];
    ok(await boss.request('moderation:mute', { userId: target.userId }));
    const producerId = await produce(target);
    assert.equal((await boss.next('audio:producerPaused')).producerId, producerId);
  });

  test('holds for a user who leaves and comes back', async () => {
    const [boss, target] = [await manager('mute-back'), await server.enter('mute-back')];
    const { userId } = target;
    ok(await boss.request('moderation:mute', { userId }));
    target.close();
    await boss.next('room:userLeft');
    const producerId = await produce(await server.enter('mute-back', { userId }));
    assert.deepEqual(await boss.next('audio:producerPaused'), { producerId, userId, byModerator: true });
  });
});

describe('moderating', () => {
  const events = ['moderation:ban', 'moderation:unban', 'moderation:mute', 'moderation:unmute', 'moderation:kick'];

  for (const event of events) {
    test(`by ${event} is not for those without a role`, async () => {
      const [target, guest] = [await server.enter(`no-${event}`), await server.enter(`no-${event}`, { roles: ['member'] })];
      const { userId } = target;
      refused(await guest.request(event, { userId, reason: 'x' }), 'Not authorized', { plugin });
      await server.settle(`no-${event}`, target);
      assert.deepEqual(target.left().filter(([name]) => !name.startsWith('room:')), []);
    });

    test(`by ${event} needs a user id that is one`, async () => {
      const boss = await manager(`ids-${event}`);
      for (const userId of [undefined, null, '7', -1, 1.5, {}, [7]]) {
        refused(await boss.request(event, { userId }), 'INVALID_PAYLOAD', { plugin });
      }
    });
  }

  test('takes no seconds that are none', async () => {
    const [boss, target] = [await manager('no-seconds'), await server.enter('no-seconds')];
    for (const seconds of [-1, 0, '60', 1.5, 1e300, {}]) {
      const answer = await boss.request('moderation:ban', { userId: target.userId, seconds });
      refused(answer, 'INVALID_PAYLOAD', { plugin });
    }
    ok(await target.request('seat:take', { seatIndex: 0 }));
  });

  test('takes no reason that is no text, or a long one', async () => {
    const [boss, target] = [await manager('no-reason'), await server.enter('no-reason')];
    for (const reason of [7, {}, ['x'], 'x'.repeat(20_000)]) {
      const answer = await boss.request('moderation:kick', { userId: target.userId, reason });
      refused(answer, 'INVALID_PAYLOAD', { plugin });
    }
    ok(await target.request('seat:take', { seatIndex: 0 }));
  });
});
