// The seats plugin: what anyone may do.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { ok, refused } from './client.mjs';
import { produce, producing } from './media.mjs';
import { SEATED, newUser, start } from './server.mjs';

let server;
before(async () => { server = await start({ config: { plugins: SEATED } }); });
after(() => server?.stop());

const plugin = 'seats';
const take = (client, seatIndex) => client.request('seat:take', { seatIndex });

/** What a newcomer is shown of the room's seats. */
async function shown(room) {
  const visitor = await server.enter(room);
  visitor.close();
  return visitor.joined.plugins.seats;
}

/** The seat events among what came. */
const seatEvents = (client) => client.left().filter(([name]) => name.startsWith('seat:'));

describe('taking a seat', () => {
  test('is told to the whole room, and shown to newcomers', async () => {
    const [client, other] = [await server.enter('take'), await server.enter('take')];
    ok(await take(client, 3));
    const seat = { seatIndex: 3, userId: client.userId, isMuted: false };
    assert.deepEqual(await client.next('seat:updated'), seat);
    assert.deepEqual(await other.next('seat:updated'), seat);
    assert.deepEqual(await shown('take'), { seatCount: 8, seats: [seat], lockedSeats: [] });
  });

  test('works for the first and for the last', async () => {
    const [first, last] = [await server.enter('ends'), await server.enter('ends')];
    ok(await take(first, 0));
    ok(await take(last, 7));
    assert.deepEqual((await shown('ends')).seats.map((seat) => [seat.seatIndex, seat.userId]), [
      [0, first.userId], [7, last.userId],
    ]);
  });

  test('vacates the seat that one had', async () => {
    const [client, other] = [await server.enter('move'), await server.enter('move')];
    ok(await take(client, 1));
    ok(await take(client, 2));
    const { userId } = client;
    await other.next('seat:updated', (seat) => seat.seatIndex === 1);
    assert.deepEqual(await other.next('seat:updated'), { seatIndex: 2, userId, isMuted: false });
    assert.deepEqual((await shown('move')).seats, [{ seatIndex: 2, userId, isMuted: false }]);
    ok(await take(other, 1));
  });

  test('keeps what one is saying when one moves', async () => {
    const [client, other] = [await server.enter('move-speaking'), await server.enter('move-speaking')];
    ok(await take(client, 0));
    await produce(client);
    ok(await take(client, 1));
    await server.settle('move-speaking', other);
    assert.deepEqual(other.left().filter(([name]) => name === 'audio:producerClosed'), []);
  });

  test('that somebody has is refused', async () => {
    const [client, other] = [await server.enter('taken'), await server.enter('taken')];
    ok(await take(client, 0));
    refused(await take(other, 0), 'Seat is already taken', { plugin });
    assert.deepEqual((await shown('taken')).seats.map((seat) => seat.userId), [client.userId]);
  });

  test('that does not exist is refused', async () => {
    const client = await server.enter('no-such-seat');
    for (const seatIndex of [-1, 8, 100, 2 ** 31, 2 ** 32, -(2 ** 40)]) {
      refused(await take(client, seatIndex), 'Invalid seat index', { plugin });
    }
    assert.deepEqual((await shown('no-such-seat')).seats, []);
  });

  test('that is no number is an invalid payload', async () => {
    const client = await server.enter('no-seat-at-all');
    for (const seatIndex of [undefined, null, '0', 0.5, 1e300, [0], {}, true]) {
      const answer = await take(client, seatIndex);
      assert.equal(answer.success, false, JSON.stringify(seatIndex));
      assert.ok(['INVALID_PAYLOAD', 'INVALID_SEAT_INDEX'].includes(answer.code), answer.code);
      assert.equal(answer.plugin, plugin);
    }
    ok(await take(client, 0));
  });

  test('by many at once succeeds for one', async () => {
    const crowd = await Promise.all(Array.from({ length: 8 }, () => server.enter('rush')));
    const answers = await Promise.all(crowd.map((client) => take(client, 4)));
    assert.equal(answers.filter((answer) => answer.success).length, 1);
    for (const answer of answers.filter((one) => !one.success)) {
      refused(answer, 'Seat is already taken', { plugin });
    }
    const winner = crowd[answers.findIndex((answer) => answer.success)];
    assert.deepEqual((await shown('rush')).seats, [{ seatIndex: 4, userId: winner.userId, isMuted: false }]);
  });

  test('of one room says nothing of another', async () => {
    const [here, there] = [await server.enter('seats-here'), await server.enter('seats-there')];
    ok(await take(here, 0));
    ok(await take(there, 0));
    assert.deepEqual((await shown('seats-there')).seats.map((seat) => seat.userId), [there.userId]);
    assert.deepEqual(seatEvents(here).length, 1);
  });
});

describe('leaving a seat', () => {
  test('ends what one is saying, and is told to the room', async () => {
    const [client, other] = [await server.enter('leave'), await server.enter('leave')];
    const { userId } = client;
    ok(await take(client, 5));
    const mic = await produce(client);
    const music = await produce(client, { source: 'music' });
    ok(await client.request('seat:leave'));
    for (const one of [client, other]) {
      const closed = [await one.next('audio:producerClosed'), await one.next('audio:producerClosed')];
      assert.deepEqual(closed.map((event) => event.producerId).sort(), [mic, music].sort());
      for (const event of closed) assert.equal(event.reason, 'plugin');
      assert.deepEqual(await one.next('seat:cleared'), { seatIndex: 5, userId });
    }
    assert.deepEqual((await shown('leave')).seats, []);
    const again = await client.request('audio:produce', await producing(client));
    assert.equal(again.code, 'SEAT_REQUIRED');
  });

  test('that one has not is refused', async () => {
    const client = await server.enter('leave-none');
    refused(await client.request('seat:leave'), 'You are not seated', { plugin });
    ok(await take(client, 0));
    ok(await client.request('seat:leave'));
    refused(await client.request('seat:leave'), 'You are not seated', { plugin });
  });
});

describe('a seat is free again', () => {
  const ways = {
    'when its user leaves the room': (client) => client.leave(),
    'when its user joins another room': (client) => client.join(`another-${newUser()}`),
    'when its user is disconnected': (client) => client.close(),
    'when its user vanishes': (client) => client.vanish(),
  };
  for (const [name, part] of Object.entries(ways)) {
    test(name, async () => {
      const [client, other] = [await server.enter(name), await server.enter(name)];
      ok(await take(client, 6));
      await other.next('seat:updated');
      await part(client);
      assert.deepEqual(await other.next('seat:cleared'), { seatIndex: 6, userId: client.userId });
      ok(await take(other, 6));
    });
  }

  test('only when the last connection of its user ends', async () => {
    const userId = newUser();
    const one = await server.enter('seat-double', { userId });
    const two = await server.enter('seat-double', { userId });
    const other = await server.enter('seat-double');
    ok(await take(one, 0));
    ok(await two.request('seat:take', { seatIndex: 0 }));
    one.close();
    await two.next('seat:updated');
    await server.settle('seat-double', other);
    refused(await take(other, 0), 'Seat is already taken', { plugin });
    await produce(two);
    two.close();
    await other.next('seat:cleared');
    ok(await take(other, 0));
  });

  test('when everybody was gone in between', async () => {
    const client = await server.enter('seat-emptied');
    ok(await take(client, 0));
    await client.leave();
    const { joined } = await server.enter('seat-emptied');
    assert.deepEqual(joined.plugins.seats.seats, []);
  });
});

describe('producing', () => {
  test('without a seat is refused by the plugin', async () => {
    const [client, other] = [await server.enter('unseated'), await server.enter('unseated')];
    const answer = await client.request('audio:produce', await producing(client));
    assert.equal(answer.success, false);
    assert.equal(answer.code, 'SEAT_REQUIRED');
    assert.equal(answer.plugin, plugin);
    assert.equal(typeof answer.error, 'string');
    await server.settle('unseated', other);
    assert.deepEqual(other.left(), []);
    ok(await take(client, 0));
    await produce(client);
  });

  test('is refused for bad input before any plugin is asked', async () => {
    const client = await server.enter('unseated-and-wrong');
    const fields = await producing(client);
    refused(await client.request('audio:produce', { ...fields, kind: 'video' }), 'INVALID_PAYLOAD');
    refused(await client.request('audio:produce', { ...fields, transportId: 'nonsense' }), 'Transport not found');
  });

  test('is not asked of those who only listen', async () => {
    const [client, other] = [await server.enter('listening'), await server.enter('listening')];
    ok(await take(client, 0));
    const producerId = await produce(client);
    assert.equal((await other.next('audio:newProducer')).producerId, producerId);
    await other.ask('transport:create', { type: 'consumer' });
  });
});
