// room:join: its answer, its limits, and what it does to the place before.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { invalid, ok, refused } from './client.mjs';
import { openTransport, produce, producing, speaker } from './media.mjs';
import { newUser, seconds, sign, start } from './server.mjs';

const ICE_SERVERS = [
  { urls: ['stun:stun.example.com:3478'] },
  { urls: ['turn:turn.example.com:3478'], username: 'user', credential: 'pass' },
];

let server;
before(async () => {
  const media = `workers = 1
[[media.ice_servers]]
urls = ["stun:stun.example.com:3478"]
[[media.ice_servers]]
urls = ["turn:turn.example.com:3478"]
username = "user"
credential = "pass"`;
  server = await start({ config: { media, rooms: 'max_participants = 4' } });
});
after(() => server?.stop());

const join = (client, roomId) => client.send('room:join', { roomId });

describe('the answer to a join', () => {
  test('of an empty room has every field', async () => {
    const { joined } = await server.enter('empty');
    const { rtpCapabilities, ...rest } = joined;
    assert.deepEqual(rest, {
      participants: [],
      existingProducers: [],
      activeSpeakers: [],
      iceServers: ICE_SERVERS,
      plugins: { seats: { seatCount: 8, seats: [], lockedSeats: [] } },
    });
    const opus = rtpCapabilities.codecs.find((codec) => codec.mimeType.toLowerCase() === 'audio/opus');
    assert.equal(opus.kind, 'audio');
    assert.equal(opus.clockRate, 48000);
    assert.equal(opus.channels, 2);
    assert.equal(typeof opus.preferredPayloadType, 'number');
    assert.equal(opus.parameters.useinbandfec, 1);
    assert.equal(opus.parameters.usedtx, 1);
    assert.ok(Array.isArray(rtpCapabilities.headerExtensions));
    assert.ok(rtpCapabilities.codecs.every((codec) => codec.kind === 'audio'), 'audio alone');
  });

  test('lists who is there and what they send', async () => {
    const [silent, loud] = [newUser(), newUser()];
    await server.enter('lively', { userId: silent, name: 'Silent' });
    const sender = await server.enter('lively', { userId: loud });
    const mic = await produce(sender);
    const music = await produce(sender, { source: 'music' });
    ok(await sender.request('audio:selfMute', { producerId: music }));
    const { joined } = await server.enter('lively');
    const byUser = (a, b) => a.userId - b.userId;
    assert.deepEqual(joined.participants.sort(byUser), [
      { userId: silent, name: 'Silent', isSpeaker: false },
      { userId: loud, isSpeaker: true },
    ]);
    const bySource = (a, b) => a.source.localeCompare(b.source);
    assert.deepEqual(joined.existingProducers.sort(bySource), [
      { producerId: mic, userId: loud, kind: 'audio', source: 'mic', paused: false },
      { producerId: music, userId: loud, kind: 'audio', source: 'music', paused: true },
    ]);
  });

  test('lists a user with two connections once', async () => {
    const userId = newUser();
    await server.enter('twice', { userId });
    await server.enter('twice', { userId });
    const { joined } = await server.enter('twice');
    assert.deepEqual(joined.participants, [{ userId, isSpeaker: false }]);
  });
});

describe('a room id', () => {
  const good = {
    'one character': 'x',
    '128 characters': 'a'.repeat(128),
    '128 characters outside the basic plane': '😀'.repeat(128),
    'spaces': ' ',
    'a path': '../../etc/passwd',
    'what JavaScript objects have already': '__proto__',
    'control characters': 'a\u0000b\nc',
    'digits': '42',
  };
  for (const [name, id] of Object.entries(good)) {
    test(`of ${name} is one`, async () => {
      const client = await server.connect();
      ok(await join(client, id));
      const other = await server.enter(id);
      assert.deepEqual(await client.next('room:userJoined'), { userId: other.userId });
    });
  }

  const bad = {
    'no characters': '',
    '129 characters': 'a'.repeat(129),
    '129 characters outside the basic plane': '😀'.repeat(129),
    'a number': 42,
    'a list': ['a'],
    'an object': { id: 'a' },
    'null': null,
    'true': true,
  };
  for (const [name, id] of Object.entries(bad)) {
    test(`of ${name} is none`, async () => {
      const client = await server.connect();
      invalid(await join(client, id), 'roomId');
    });
  }

  test('is told apart by case and by form', async () => {
    const first = await server.enter('Straße');
    const { joined } = await server.enter('straße');
    assert.deepEqual(joined.participants, []);
    first.close();
  });

  test('with half a character is no text: an invalid payload', async () => {
    const client = await server.connect();
    refused(await join(client, 'a\ud800'), 'INVALID_PAYLOAD');
    ok(await join(client, 'whole'));
  });
});

describe('a token with a list of rooms', () => {
  const token = (rooms) => sign({ id: newUser(), exp: seconds(3600), rooms });

  test('opens those and no other', async () => {
    const client = await server.connect({ token: token(['listed', 'listed-too']) });
    refused(await join(client, 'unlisted'), 'Room not allowed');
    ok(await join(client, 'listed'));
    refused(await join(client, 'Listed'), 'Room not allowed');
    ok(await join(client, 'listed-too'));
  });

  test('that is empty opens none', async () => {
    const client = await server.connect({ token: token([]) });
    refused(await join(client, 'unlisted'), 'Room not allowed');
  });

  test('keeps the place in a listed room when another is refused', async () => {
    const client = await server.enter('kept', { token: token(['kept']) });
    refused(await join(client, 'unlisted'), 'Room not allowed');
    await client.ask('transport:create', { type: 'producer' });
  });
});

describe('a full room', () => {
  test('takes nobody more, and takes again when somebody has left', async () => {
    const inside = [];
    for (let i = 0; i < 4; i += 1) inside.push(await server.enter('full'));
    const late = await server.connect();
    refused(await join(late, 'full'), 'Room is full');
    await inside[0].leave();
    ok(await join(late, 'full'));
    refused(await join(inside[0], 'full'), 'Room is full');
  });

  test('takes exactly as many of a crowd as it has places', async () => {
    const crowd = await Promise.all(Array.from({ length: 10 }, () => server.connect()));
    const answers = await Promise.all(crowd.map((client) => join(client, 'rush')));
    assert.equal(answers.filter((answer) => answer.success).length, 4);
    for (const answer of answers.filter((one) => !one.success)) refused(answer, 'Room is full');
  });

  test('leaves a joiner where they were', async () => {
    for (let i = 0; i < 4; i += 1) await server.enter('full-too');
    const guest = await speaker(server, 'elsewhere');
    const friend = await server.enter('elsewhere');
    refused(await join(guest, 'full-too'), 'Room is full');
    ok(await guest.request('audio:selfMute', { producerId: guest.producerId }));
    await server.settle('elsewhere', friend);
    assert.deepEqual(friend.left(), [
      ['audio:producerPaused', { producerId: guest.producerId, userId: guest.userId, byModerator: false }],
    ]);
  });
});

describe('joining a second room', () => {
  test('leaves the first one fully', async () => {
    const mover = await speaker(server, 'first');
    const friend = await server.enter('first');
    const { id: receiving } = await mover.ask('transport:create', { type: 'consumer' });
    const sending = (await producing(mover)).transportId;
    ok(await join(mover, 'second'));

    await server.settle('first', friend);
    const { producerId, userId } = mover;
    assert.deepEqual(friend.left(), [
      ['audio:producerClosed', { producerId, userId, source: 'mic', reason: 'left' }],
      ['room:userLeft', { userId, reason: 'left' }],
    ]);
    refused(await mover.request('transport:create', { type: 'producer' }), 'Not in room');
    refused(await mover.request('room:leave'), 'Not in room');

    mover.room = 'second';
    for (const transportId of [sending, receiving]) {
      refused(await mover.request('transport:restartIce', { transportId }), 'Transport not found');
    }
    refused(await mover.request('producer:close', { producerId }), 'Producer not found');
    await openTransport(mover, 'producer');
    await openTransport(mover, 'consumer');
  });

  test('is answered after the last word of the first, which could be taken for one of the second', async () => {
    const mover = await speaker(server, 'farewell');
    await producing(mover);
    mover.forget();
    ok(await join(mover, 'elsewhere'));
    const { producerId, userId } = mover;
    assert.deepEqual(mover.left(), [
      ['audio:producerClosed', { producerId, userId, source: 'mic', reason: 'left' }],
    ]);
  });

  test('stops the events of the first', async () => {
    const mover = await server.enter('noisy');
    await mover.join('quiet');
    await server.enter('noisy');
    const other = await server.enter('quiet');
    assert.deepEqual(await mover.next('room:userJoined'), { userId: other.userId });
    assert.deepEqual(mover.left(), []);
  });
});

describe('joining the same room again', () => {
  test('leaves it and starts afresh there', async () => {
    const client = await speaker(server, 'again');
    const friend = await server.enter('again');
    const { producerId, userId } = client;
    const { existingProducers, participants } = await client.join('again');
    assert.deepEqual(existingProducers, []);
    assert.deepEqual(participants, [{ userId: friend.userId, isSpeaker: false }]);
    refused(await client.request('producer:close', { producerId }), 'Producer not found');
    await openTransport(client, 'producer');
    await server.settle('again', friend);
    assert.deepEqual(friend.left(), [
      ['audio:producerClosed', { producerId, userId, source: 'mic', reason: 'left' }],
      ['room:userLeft', { userId, reason: 'left' }],
      ['room:userJoined', { userId }],
    ]);
    const ofMyself = client.left().filter(([, payload]) => payload.userId === userId);
    assert.deepEqual(ofMyself.map(([name]) => name), ['audio:producerClosed']);
  });

  test('needs no second place in a full one', async () => {
    const inside = [];
    for (let i = 0; i < 4; i += 1) inside.push(await server.enter('again-full'));
    await inside[0].join('again-full');
    ok(await inside[0].request('seat:take', { seatIndex: 0 }));
  });

  test('of which one is the only one works', async () => {
    const client = await speaker(server, 'again-alone');
    const { participants, existingProducers } = await client.join('again-alone');
    assert.deepEqual([participants, existingProducers], [[], []]);
    await openTransport(client, 'producer');
  });
});

test('requests that are sent at once with the join are answered in its room', async () => {
  const client = await server.connect();
  client.room = 'hasty';
  const answers = await Promise.all([
    client.request('room:join'),
    client.request('transport:create', { type: 'producer' }),
    client.request('room:leave'),
    client.request('transport:create', { type: 'producer' }),
  ]);
  ok(answers[0]);
  ok(answers[1]);
  ok(answers[2]);
  refused(answers[3], 'Not in room');
});

test('a newcomer hears nothing of what the answer has told already', async () => {
  await speaker(server, 'told');
  const newcomer = await server.enter('told');
  await server.settle('told', newcomer);
  assert.deepEqual(newcomer.left(), []);
});
