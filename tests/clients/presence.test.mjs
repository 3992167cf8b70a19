// Leaving, losing the connection, and users with several connections.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { ok, refused } from './client.mjs';
import { consume, openTransport, produce, speaker } from './media.mjs';
import { newUser, start } from './server.mjs';

let server;
before(async () => { server = await start(); });
after(() => server?.stop());

describe('entering and leaving', () => {
  test('are told to the others, not to oneself', async () => {
    const [first, second] = [await server.enter('door'), await server.enter('door', { name: 'Second' })];
    await second.leave();
    await server.settle('door', first);
    assert.deepEqual(first.left(), [
      ['room:userJoined', { userId: second.userId, name: 'Second' }],
      ['room:userLeft', { userId: second.userId, reason: 'left' }],
    ]);
    assert.deepEqual(second.left(), []);
  });

  test('leaving ends everything that one had, in announcements before one is gone', async () => {
    const leaver = await speaker(server, 'all-of-it');
    const music = await produce(leaver, { source: 'music' });
    const friend = await server.enter('all-of-it');
    const consumer = await consume(friend, leaver.producerId);
    await leaver.leave();
    await server.settle('all-of-it', friend);
    const { userId, producerId } = leaver;
    const [left, ...closed] = friend.left().reverse();
    assert.deepEqual(left, ['room:userLeft', { userId, reason: 'left' }]);
    closed.sort(([, a], [, b]) => a.source.localeCompare(b.source));
    assert.deepEqual(closed, [
      ['audio:producerClosed', { producerId, userId, source: 'mic', reason: 'left' }],
      ['audio:producerClosed', { producerId: music, userId, source: 'music', reason: 'left' }],
    ]);
    refused(await friend.request('consumer:resume', { consumerId: consumer.id }), 'Consumer not found');
  });

  test('leaving twice, or a room that one is not in, is refused', async () => {
    const client = await server.enter('leave-twice');
    refused(await client.request('room:leave', { roomId: 'another' }), 'Not in room');
    await client.leave();
    refused(await client.request('room:leave'), 'Not in room');
  });

  test('after leaving one is as before joining, and can come back', async () => {
    const client = await speaker(server, 'back');
    await client.leave();
    refused(await client.request('transport:create', { type: 'producer' }), 'Not in room');
    refused(await client.request('consumer:resume', { consumerId: client.producerId }), 'Room not found');
    refused(await client.request('producer:close', { producerId: client.producerId }), 'Producer not found');
    refused(await client.request('seat:take', { seatIndex: 0 }), 'Not in room');
    const { participants, existingProducers } = await client.join('back');
    assert.deepEqual({ participants, existingProducers }, { participants: [], existingProducers: [] });
    await openTransport(client, 'producer');
  });

  test('the last one out leaves nothing for the next', async () => {
    const last = await speaker(server, 'emptied');
    await last.leave();
    const { joined } = await server.enter('emptied');
    assert.deepEqual([joined.participants, joined.existingProducers, joined.activeSpeakers], [[], [], []]);
  });

  test('one who has left hears nothing more', async () => {
    const [leaver, friend] = [await server.enter('silence'), await server.enter('silence')];
    await leaver.next('room:userJoined');
    await leaver.leave();
    await produce(friend);
    // Its own answer comes after whatever was on its way.
    await leaver.join('elsewhere-silent');
    assert.deepEqual(leaver.left(), []);
  });
});

describe('a connection that ends', () => {
  const ways = [
    ['in order', 'websocket', (client) => client.close()],
    ['in order', 'polling', (client) => client.close()],
    ['without a word', 'websocket', (client) => client.vanish()],
  ];
  for (const [name, transport, end] of ways) {
    test(`${name} over ${transport} is told exactly once, after its producers`, async () => {
      const room = `lost-${transport}-${name}`;
      const friend = await server.enter(room);
      const lost = await speaker(server, room, { transports: [transport] });
      await friend.next('audio:newProducer');
      friend.forget();
      end(lost);
      await friend.saw('room:userLeft');
      await server.settle(room, friend);
      const { userId, producerId } = lost;
      assert.deepEqual(friend.left(), [
        ['audio:producerClosed', { producerId, userId, source: 'mic', reason: 'disconnected' }],
        ['room:userLeft', { userId, reason: 'disconnected' }],
      ]);
    });
  }

  test('right after a request leaves no trace of it', async () => {
    const friend = await server.enter('hit-and-run');
    for (let i = 0; i < 10; i += 1) {
      const runner = await server.connect();
      runner.socket.emit('room:join', { roomId: 'hit-and-run' });
      runner.socket.emit('transport:create', { roomId: 'hit-and-run', type: 'producer' });
      runner.close();
    }
    await server.settle('hit-and-run', friend);
    const names = friend.left().map(([name, { userId }]) => `${name} ${userId}`);
    const left = names.filter((name) => name.startsWith('room:userLeft'));
    const joined = names.filter((name) => name.startsWith('room:userJoined'));
    assert.equal(new Set(names).size, names.length, 'each once');
    // Who still came in at the end of this list goes out after it.
    for (const name of left) assert.ok(joined.includes(name.replace('Left', 'Joined')));
    for (const name of joined.filter((one) => !left.includes(one.replace('Joined', 'Left')))) {
      const userId = Number(name.split(' ')[1]);
      await friend.next('room:userLeft', (payload) => payload.userId === userId);
    }
    const { participants } = (await server.enter('hit-and-run')).joined;
    assert.deepEqual(participants, [{ userId: friend.userId, isSpeaker: false }]);
  });
});

describe('a user with two connections', () => {
  test('enters with the first and is gone with the last', async () => {
    const watcher = await server.enter('double');
    const userId = newUser();
    const one = await server.enter('double', { userId });
    const two = await server.enter('double', { userId });
    one.close();
    await server.settle('double', watcher);
    assert.deepEqual(watcher.left(), [['room:userJoined', { userId }]]);
    watcher.forget();
    two.close();
    assert.deepEqual(await watcher.next('room:userLeft'), { userId, reason: 'disconnected' });
  });

  test('has media of its own on each, and cannot use the other\'s', async () => {
    const userId = newUser();
    const one = await speaker(server, 'double-media', { userId });
    const two = await server.enter('double-media', { userId });
    await openTransport(two, 'producer');
    refused(await two.request('producer:close', { producerId: one.producerId }), 'Producer not found');
    refused(await two.request('audio:selfMute', { producerId: one.producerId }), 'Producer not found');
    const transportId = await one.sending;
    refused(await two.request('transport:restartIce', { transportId }), 'Transport not found');
  });

  test('hears on one what the other sends', async () => {
    const userId = newUser();
    const one = await server.enter('double-hears', { userId });
    const two = await server.enter('double-hears', { userId });
    const producerId = await produce(one);
    assert.deepEqual(await two.next('audio:newProducer'), { producerId, userId, kind: 'audio', source: 'mic' });
    await server.settle('double-hears', one);
    assert.deepEqual(one.left(), []);
  });

  test('sends on both at once', async () => {
    const userId = newUser();
    const one = await speaker(server, 'double-sends', { userId });
    const two = await speaker(server, 'double-sends', { userId });
    const { joined } = await server.enter('double-sends');
    const ids = joined.existingProducers.map((producer) => producer.producerId);
    assert.deepEqual(ids.sort(), [one.producerId, two.producerId].sort());
    two.close();
    const closed = await one.next('audio:producerClosed');
    assert.equal(closed.producerId, two.producerId);
    ok(await one.request('audio:selfMute', { producerId: one.producerId }));
  });

  test('may be in two rooms', async () => {
    const userId = newUser();
    const [here, there] = [await server.enter('here', { userId }), await server.enter('there', { userId })];
    await openTransport(here, 'producer');
    await openTransport(there, 'producer');
    refused(await here.request('transport:create', { roomId: 'there', type: 'consumer' }), 'Not in room');
  });
});

describe('a crowd that comes and goes at once', () => {
  const SIZE = 30;

  /** What a client has been told of, by answer and by events: each at most once. */
  function once(list) {
    assert.equal(new Set(list).size, list.length, 'nothing is told twice');
    return [...list].sort();
  }

  test('knows of each other, by the answer or by an event and never by both', async () => {
    const crowd = await Promise.all(Array.from({ length: SIZE }, () => server.connect()));
    await Promise.all(crowd.map(async (client) => {
      await client.join('crowd');
      client.producerId = await produce(client);
    }));
    await server.settle('crowd', ...crowd);
    const users = crowd.map((client) => client.userId);
    const producers = crowd.map((client) => client.producerId);
    for (const client of crowd) {
      const told = (name, key) => client.left().filter(([event]) => event === name).map(([, payload]) => payload[key]);
      const people = [...client.joined.participants.map((one) => one.userId), ...told('room:userJoined', 'userId')];
      assert.deepEqual(once(people), users.filter((id) => id !== client.userId).sort());
      const heard = [
        ...client.joined.existingProducers.map((one) => one.producerId),
        ...told('audio:newProducer', 'producerId'),
      ];
      assert.deepEqual(once(heard), producers.filter((id) => id !== client.producerId).sort());
      assert.deepEqual(told('audio:producerClosed', 'producerId'), []);
      client.forget();
    }

    const [stay, ...leave] = crowd;
    for (const [i, client] of leave.entries()) {
      if (i % 3 === 0) client.close();
      else if (i % 3 === 1) client.vanish();
      else client.socket.emit('room:leave', { roomId: 'crowd' });
    }
    await Promise.all(leave.map(({ userId }) => stay.saw('room:userLeft', (gone) => gone.userId === userId)));
    await server.settle('crowd', stay);
    const told = (name, key) => stay.left().filter(([event]) => event === name).map(([, payload]) => payload[key]);
    assert.deepEqual(once(told('room:userLeft', 'userId')), leave.map((client) => client.userId).sort());
    assert.deepEqual(once(told('audio:producerClosed', 'producerId')), leave.map((client) => client.producerId).sort());
  });

  test('consumes each other while it produces', async () => {
    const crowd = await Promise.all(Array.from({ length: 10 }, () => server.enter('crowd-consumes')));
    await Promise.all(crowd.map(async (client) => {
      client.producerId = await produce(client);
      for (let i = 1; i < crowd.length; i += 1) {
        const { producerId } = await client.next('audio:newProducer');
        const { id: consumerId } = await consume(client, producerId);
        ok(await client.request('consumer:resume', { consumerId }));
      }
    }));
    for (const client of crowd) assert.deepEqual(client.left().filter(([name]) => name.startsWith('audio:')), []);
  });
});
