// audio:selfMute, audio:selfUnmute, producer:close, and mutes of plugins.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { ok, refused } from './client.mjs';
import { produce, speaker } from './media.mjs';
import { start } from './server.mjs';

let server;
before(async () => { server = await start(); });
after(() => server?.stop());

/** A speaker and somebody who hears of them; what they heard so far is forgotten. */
async function pair(room, options) {
  const other = await server.enter(room, options);
  const sender = await speaker(server, room);
  await other.next('audio:newProducer');
  other.forget();
  return { sender, other };
}

/** The payload of audio:producerPaused and audio:producerResumed. */
const paused = ({ producerId, userId }, byModerator) => ({ producerId, userId, byModerator });

describe('muting oneself', () => {
  test('is told to the others, not to oneself', async () => {
    const { sender, other } = await pair('self');
    const { producerId } = sender;
    assert.deepEqual(await sender.request('audio:selfMute', { producerId }), { success: true });
    assert.deepEqual(await sender.request('audio:selfUnmute', { producerId }), { success: true });
    await server.settle('self', sender, other);
    assert.deepEqual(other.left(), [
      ['audio:producerPaused', paused(sender, false)],
      ['audio:producerResumed', paused(sender, false)],
    ]);
    assert.deepEqual(sender.left(), []);
  });

  test('twice succeeds and is told once', async () => {
    const { sender, other } = await pair('self-twice');
    const { producerId } = sender;
    for (const event of ['audio:selfUnmute', 'audio:selfMute', 'audio:selfMute', 'audio:selfUnmute', 'audio:selfUnmute']) {
      ok(await sender.request(event, { producerId }));
    }
    await server.settle('self-twice', other);
    assert.deepEqual(other.left().map(([name]) => name), ['audio:producerPaused', 'audio:producerResumed']);
  });

  test('concerns one source and not the other', async () => {
    const { sender, other } = await pair('self-source');
    const music = await produce(sender, { source: 'music' });
    ok(await sender.request('audio:selfMute', { producerId: music }));
    assert.equal((await other.next('audio:producerPaused')).producerId, music);
    const { existingProducers } = (await server.enter('self-source')).joined;
    assert.deepEqual(existingProducers.filter((one) => one.paused).map((one) => one.source), ['music']);
  });

  test('ends with the producer: the next one starts open', async () => {
    const { sender } = await pair('self-next');
    ok(await sender.request('audio:selfMute', { producerId: sender.producerId }));
    await produce(sender);
    const { existingProducers } = (await server.enter('self-next')).joined;
    assert.deepEqual(existingProducers.map((one) => one.paused), [false]);
  });
});

describe('another\'s producer', () => {
  for (const event of ['audio:selfMute', 'audio:selfUnmute', 'producer:close']) {
    test(`is answered like an unknown one by ${event}, and goes on`, async () => {
      const { sender, other } = await pair(`probed-${event}`);
      const stranger = await server.enter(`probed-from-afar-${event}`);
      const answers = new Set();
      for (const client of [other, stranger]) {
        for (const producerId of [sender.producerId, randomUUID(), 'nonsense', '']) {
          const answer = await client.request(event, { producerId });
          refused(answer, 'Producer not found');
          answers.add(JSON.stringify(answer));
        }
      }
      assert.equal(answers.size, 1, [...answers].join('\n'));
      await server.settle(`probed-${event}`, other);
      assert.deepEqual(other.left(), []);
    });

    test(`is not found by ${event} in a room that one is not in`, async () => {
      const { sender } = await pair(`wrong-room-${event}`);
      const { producerId } = sender;
      refused(await sender.request(event, { roomId: 'another', producerId }), 'Producer not found');
      ok(await sender.request(event, { producerId }));
    });
  }
});

describe('closing a producer', () => {
  test('is told to the whole room with its reason', async () => {
    const { sender, other } = await pair('closed');
    const { producerId, userId } = sender;
    assert.deepEqual(await sender.request('producer:close', { producerId }), { success: true });
    await server.settle('closed', sender, other);
    const told = ['audio:producerClosed', { producerId, userId, source: 'mic', reason: 'closed' }];
    assert.deepEqual(other.left(), [told]);
    assert.deepEqual(sender.left(), [told]);
  });

  test('twice is refused the second time', async () => {
    const { sender, other } = await pair('closed-twice');
    const { producerId } = sender;
    const close = () => sender.request('producer:close', { producerId });
    const [first, second] = await Promise.all([close(), close()]);
    ok(first);
    refused(second, 'Producer not found');
    for (const event of ['audio:selfMute', 'audio:selfUnmute', 'producer:close']) {
      refused(await sender.request(event, { producerId }), 'Producer not found');
    }
    await server.settle('closed-twice', other);
    assert.equal(other.left().length, 1);
  });

  test('makes its user a listener again, who may produce anew', async () => {
    const { sender } = await pair('closed-anew');
    ok(await sender.request('producer:close', { producerId: sender.producerId }));
    const { joined } = await server.enter('closed-anew');
    assert.deepEqual(joined.existingProducers, []);
    assert.equal(joined.participants.find((one) => one.userId === sender.userId).isSpeaker, false);
    await produce(sender);
  });
});

describe('a mute by a moderator', () => {
  const manager = { roles: ['moderator'] };

  /** A pair where the other is a manager and the speaker sits. */
  async function seatedPair(room) {
    const { sender, other } = await pair(room, manager);
    ok(await sender.request('seat:take', { seatIndex: 0 }));
    await other.next('seat:updated');
    return { sender, other, userId: sender.userId };
  }

  test('is told to everyone, and cannot be lifted by the user', async () => {
    const { sender, other, userId } = await seatedPair('held');
    ok(await other.request('seat:mute', { userId }));
    assert.deepEqual(await sender.next('audio:producerPaused'), paused(sender, true));
    assert.deepEqual(await other.next('audio:producerPaused'), paused(sender, true));

    const { producerId } = sender;
    const answer = await sender.request('audio:selfUnmute', { producerId });
    assert.equal(answer.success, false);
    assert.notEqual(answer.code, 'INTERNAL_ERROR');
    assert.equal(answer.plugin, 'seats');
    const { existingProducers } = (await server.enter('held')).joined;
    assert.deepEqual(existingProducers.map((one) => one.paused), [true]);

    ok(await other.request('seat:unmute', { userId }));
    assert.deepEqual(await sender.next('audio:producerResumed'), paused(sender, true));
    assert.deepEqual(await other.next('audio:producerResumed'), paused(sender, true));
  });

  test('that is lifted leaves those muted who muted themselves', async () => {
    const { sender, other, userId } = await seatedPair('both');
    const { producerId } = sender;
    ok(await sender.request('audio:selfMute', { producerId }));
    await other.next('audio:producerPaused');
    ok(await other.request('seat:mute', { userId }));
    ok(await other.request('seat:unmute', { userId }));
    await server.settle('both', other);
    assert.deepEqual(other.left().filter(([name]) => name === 'audio:producerResumed'), []);
    ok(await sender.request('audio:selfUnmute', { producerId }));
    assert.deepEqual(await other.next('audio:producerResumed'), paused(sender, false));
  });

  test('holds for what the user starts later', async () => {
    const { sender, other, userId } = await seatedPair('later');
    ok(await other.request('seat:mute', { userId }));
    await other.next('audio:producerPaused');
    for (const source of ['mic', 'music']) {
      sender.producerId = await produce(sender, { source });
      assert.deepEqual(await other.next('audio:producerPaused'), paused(sender, true));
    }
    const { existingProducers } = (await server.enter('later')).joined;
    assert.deepEqual(existingProducers.map((one) => one.paused), [true, true]);
  });

  test('of two plugins ends with the last of them', async () => {
    const { sender, other, userId } = await seatedPair('two');
    ok(await other.request('seat:mute', { userId }));
    ok(await other.request('moderation:mute', { userId }));
    ok(await other.request('seat:unmute', { userId }));
    await server.settle('two', other);
    assert.deepEqual(other.left().filter(([name]) => name === 'audio:producerResumed'), []);
    assert.equal((await sender.request('audio:selfUnmute', { producerId: sender.producerId })).success, false);
    ok(await other.request('moderation:unmute', { userId }));
    assert.deepEqual(await other.next('audio:producerResumed'), paused(sender, true));
  });
});
