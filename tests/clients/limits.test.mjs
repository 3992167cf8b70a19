// Frames that are too large, clients that send too much.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { ok, refused, within } from './client.mjs';
import { speaker } from './media.mjs';
import { start } from './server.mjs';

const KIB = 1024;
const MAX_FRAME = 64 * KIB;
/** What is larger is cut off unread, and so not counted. */
const MAX_READ = 32 * MAX_FRAME;
/** The defaults of the event budget. */
const [CAPACITY, REFILL_PER_SECOND] = [200, 40];

let server;
before(async () => { server = await start(); });
after(() => server?.stop());

/** Fields that make the frame of a request about this large. */
const filler = (bytes) => ({ filler: 'x'.repeat(bytes) });

/** Frames that were refused so far, from the server's metrics. */
async function refusedFrames(reason) {
  const text = await (await server.fetch('/metrics')).text();
  const line = text.split('\n').find((one) => /^voice_room_refused_frames/.test(one) && one.includes(`reason="${reason}"`));
  return line ? Number(line.split(' ').at(-1)) : 0;
}

describe('a frame', () => {
  for (const transport of ['websocket', 'polling']) {
    test(`of less than 64 KiB is served over ${transport}`, async () => {
      const client = await server.connect({ transports: [transport] });
      ok(await client.send('room:join', { roomId: `frames-${transport}`, ...filler(MAX_FRAME - KIB) }));
    });

    for (const size of [MAX_FRAME + 1, 2 * MAX_FRAME, 1024 * KIB, 8 * MAX_READ]) {
      test(`of ${Math.ceil(size / KIB)} KiB ends the connection over ${transport}`, async () => {
        const room = `oversize-${transport}-${size}`;
        const [client, other] = [await speaker(server, room, { transports: [transport] }), await server.enter(room)];
        const before = await refusedFrames('oversize');
        client.socket.emit('audio:selfMute', { roomId: room, producerId: client.producerId, ...filler(size) });
        await within(10_000, 'the disconnection', client.disconnected);
        await other.saw('room:userLeft');
        await server.settle(room, other);
        const { userId, producerId } = client;
        assert.deepEqual(other.left(), [
          ['audio:producerClosed', { producerId, userId, source: 'mic', reason: 'disconnected' }],
          ['room:userLeft', { userId, reason: 'disconnected' }],
        ]);
        const counted = (await refusedFrames('oversize')) - before;
        assert.equal(counted, size < MAX_READ ? 1 : 0);
        await server.serves();
      });
    }
  }

  test('that is too large is counted', async () => {
    const before = await refusedFrames('oversize');
    const client = await server.connect();
    client.socket.emit('room:join', { roomId: 'counted', ...filler(MAX_FRAME + KIB) });
    await within(10_000, 'the disconnection', client.disconnected);
    assert.ok((await refusedFrames('oversize')) > before);
  });

  test('of bytes counts with all its attachments', async () => {
    const client = await server.connect();
    const half = Buffer.alloc(MAX_FRAME / 2 + KIB);
    client.socket.emit('room:join', { roomId: 'attachments', one: half, two: half });
    await within(10_000, 'the disconnection', client.disconnected);
    await server.serves();
  });
});

describe('the event budget', () => {
  const ask = (client) => client.request('consumer:resume', { consumerId: 'none' });

  test('lets a burst through and refuses what is beyond it', async () => {
    const client = await server.enter('burst');
    const other = await server.enter('burst');
    const before = await refusedFrames('rate');
    const started = Date.now();
    const [answers, others] = await Promise.all([
      Promise.all(Array.from({ length: CAPACITY + 100 }, () => ask(client))),
      Promise.all(Array.from({ length: 20 }, () => ask(other))),
    ]);
    const seconds = (Date.now() - started) / 1000;
    const limited = answers.filter((answer) => answer.code === 'RATE_LIMITED');
    for (const answer of limited) refused(answer, 'RATE_LIMITED');
    for (const answer of answers.filter((one) => one.code !== 'RATE_LIMITED')) refused(answer, 'Consumer not found');
    const served = answers.length - limited.length;
    // The join was the first of the budget.
    assert.ok(served >= CAPACITY - 1, `${served} served`);
    assert.ok(served <= CAPACITY + Math.ceil(seconds * REFILL_PER_SECOND), `${served} served in ${seconds} s`);
    for (const answer of others) refused(answer, 'Consumer not found');
    assert.ok((await refusedFrames('rate')) >= before + limited.length, 'counted');
  });

  test('leaves no request unanswered, however many are sent at once', async () => {
    const client = await server.enter('answers');
    const answers = await Promise.all(Array.from({ length: 3_000 }, () => ask(client)));
    for (const answer of answers) {
      assert.ok(['RATE_LIMITED', 'CONSUMER_NOT_FOUND'].includes(answer.code), answer.code);
    }
  });

  test('is refilled', async () => {
    const client = await server.enter('refill');
    await Promise.all(Array.from({ length: CAPACITY + 20 }, () => ask(client)));
    const started = Date.now();
    let answer;
    do answer = await ask(client); while (answer.code === 'RATE_LIMITED' && Date.now() - started < 10_000);
    refused(answer, 'Consumer not found');
  });

  test('is each connection\'s own, also of one user', async () => {
    const one = await server.enter('own-budget');
    const two = await server.enter('own-budget', { userId: one.userId });
    await Promise.all(Array.from({ length: CAPACITY + 20 }, () => ask(one)));
    const answers = await Promise.all(Array.from({ length: 50 }, () => ask(two)));
    for (const answer of answers) refused(answer, 'Consumer not found');
  });

  test('covers bad input and unknown events too', async () => {
    const client = await server.enter('bad-budget');
    const answers = await Promise.all(Array.from({ length: CAPACITY + 50 }, (_, i) =>
      (i % 2 ? client.send('nobody:knows', { roomId: 'x' }) : client.send('room:join', 7))));
    assert.ok(answers.some((answer) => answer.code === 'RATE_LIMITED'));
  });

  test('of one who floods takes nothing from the others', async () => {
    const floods = await Promise.all(Array.from({ length: 3 }, () => server.enter('flood')));
    for (const client of floods) {
      for (let i = 0; i < 3_000; i += 1) client.socket.emit('audio:selfMute', { roomId: 'flood', producerId: 'none' });
    }
    const sender = await speaker(server, 'beside-the-flood');
    const listener = await server.enter('beside-the-flood');
    for (let i = 0; i < 20; i += 1) {
      ok(await sender.request(i % 2 ? 'audio:selfUnmute' : 'audio:selfMute', { producerId: sender.producerId }));
    }
    await server.settle('beside-the-flood', listener);
    assert.equal(listener.left().length, 20);
    // Those who flooded are still there, over their budget or not.
    for (const client of floods) {
      const answer = await client.request('audio:selfMute', { producerId: 'none' });
      assert.ok(['RATE_LIMITED', 'PRODUCER_NOT_FOUND'].includes(answer.code), answer.code);
    }
  });
});
