// Face 3: raw WebSocket.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { bare, dtls, newSsrc, opus, speaker } from './media.mjs';
import { Peer } from './peer.mjs';
import { RawSocket } from './raw.mjs';
import { SECRET, SEATED, newUser, runToEnd, seconds, sign, start, temporary } from './server.mjs';

let server;
before(async () => { server = await start(); });
after(() => server?.stop());

let rooms = 0;
const newRoom = () => `room-${(rooms += 1)}`;

/** A client in a room, greeted: a `RawSocket` with `userId`, `room` and `hello`. */
async function enter(room = newRoom(), { at = server, userId = newUser(), ...claims } = {}) {
  const token = await at.token({ userId, ...claims });
  const socket = await RawSocket.open(at, `/socket?token=${token}&room=${encodeURIComponent(room)}`);
  const hello = (await socket.next('test')).data;
  return Object.assign(socket, { userId, room, hello });
}

/** The data of an answer that must be of this type. */
async function ask(socket, type, data, answered) {
  const answer = await socket.ask(type, data);
  assert.equal(answer.type, answered, JSON.stringify(answer));
  return answer.data;
}

/** Checks an error's string. */
async function refused(socket, type, data, error) {
  const answer = await socket.ask(type, data);
  assert.deepEqual([answer.type, answer.data], ['error', error]);
  return answer;
}

/** Opens the socket's transport and connects it, with nothing behind it. */
async function openTransport(socket) {
  const transport = await ask(socket, 'create-transport', undefined, 'transport-created');
  await ask(socket, 'connect-transport', { dtlsParameters: dtls() }, 'transport-connected');
  return transport;
}

const produce = async (socket, rtpParameters = opus()) => (
  (await ask(socket, 'produce', { kind: 'audio', rtpParameters }, 'produced')).id
);

/** An endpoint behind the socket's transport. */
const raise = (socket) => Peer.raise(async (dtlsParameters) => {
  const transport = await ask(socket, 'create-transport', undefined, 'transport-created');
  await ask(socket, 'connect-transport', { dtlsParameters }, 'transport-connected');
  return transport;
});

const capabilities = (socket) => ask(socket, 'get-rtp-capabilities', undefined, 'rtp-capabilities');

describe('on open', () => {
  const bad = {
    'no token': '/socket',
    'an empty token': '/socket?token=',
    'nonsense for a token': '/socket?token=nonsense',
    'an expired token': `/socket?token=${sign({ id: 1, exp: seconds(-3600) })}`,
  };
  for (const [name, path] of Object.entries(bad)) {
    test(`a client with ${name} is closed with code 4401`, async () => {
      assert.equal((await (await RawSocket.open(server, path)).end()).code, 4401);
    });
  }

  test('a client is greeted, and is in the lobby unless it names a room', async () => {
    const watcher = await server.enter('lobby');
    const token = await server.token({ userId: 77_001 });
    const socket = await RawSocket.open(server, `/socket?token=${token}`);
    const { data } = await socket.next('test');
    assert.equal(typeof data.message, 'string');
    assert.deepEqual([data.userId, data.room], [77_001, 'lobby']);
    assert.equal((await watcher.next('room:userJoined')).userId, 77_001);
    await socket.close();
    assert.deepEqual(await watcher.next('room:userLeft'), { userId: 77_001, reason: 'disconnected' });
  });

  test('a token in the header is as good', async () => {
    const headers = { authorization: `Bearer ${await server.token()}` };
    const socket = await RawSocket.open(server, `/socket?room=${newRoom()}`, { headers });
    await socket.next('test');
    await socket.close();
  });

  for (const room of ['', 'x'.repeat(129)]) {
    test(`a room of ${room.length} characters is refused`, async () => {
      const socket = await RawSocket.open(server, `/socket?token=${await server.token()}&room=${room}`);
      assert.equal((await socket.end()).code, 4403);
    });
  }

  test('a room that the token does not allow is refused', async () => {
    const token = sign({ id: newUser(), rooms: ['other'], exp: seconds(3600) });
    const socket = await RawSocket.open(server, `/socket?token=${token}&room=${newRoom()}`);
    assert.equal((await socket.next('error')).data, 'Room not allowed');
    assert.equal((await socket.end()).code, 4403);
  });

  test('a banned user is told by the plugin', async () => {
    const [room, userId] = [newRoom(), newUser()];
    const manager = await server.enter(room, { roles: ['moderator'] });
    await manager.ask('moderation:ban', { userId, seconds: 60 });
    const socket = await RawSocket.open(server, `/socket?token=${await server.token({ userId })}&room=${room}`);
    const { code, plugin } = await socket.next('error');
    assert.deepEqual([code, plugin], ['BANNED', 'moderation']);
    assert.equal((await socket.end()).code, 4403);
  });

  test('anonymous clients come in where they may, each as a user of its own', async () => {
    const own = await start({ config: { auth: `secret = "${SECRET}"\nanonymous = true` } });
    try {
      const one = await RawSocket.open(own, '/socket');
      const two = await RawSocket.open(own, '/socket');
      const [a, b] = [(await one.next('test')).data.userId, (await two.next('test')).data.userId];
      assert.ok(Number.isSafeInteger(a) && Number.isSafeInteger(b) && a !== b);
      // Nobody could come back as somebody without a name, and nobody is promised it.
      const three = await RawSocket.open(own, '/socket?resumable=1');
      assert.equal((await three.next('test')).data.resume, undefined);
      await three.close();
      // A token that is not good is no way in, and the other faces want one.
      assert.equal((await (await RawSocket.open(own, '/socket?token=x')).end()).code, 4401);
      assert.equal((await (await RawSocket.open(own, '/ws/call')).end()).code, 4401);
      assert.equal((await own.fetch('/rtc/capabilities')).status, 401);
      assert.equal(await own.refusedConnect({}), 'Authentication required');
      await Promise.all([one.close(), two.close()]);
    } finally {
      await own.stop();
    }
  });

  test('a page of another origin is refused', async () => {
    const own = await start({ config: { server: 'allowed_origins = []' } });
    try {
      const path = `/socket?token=${await own.token()}`;
      assert.equal(await RawSocket.refused(own, path, { origin: 'https://evil.example.com' }), 403);
      assert.equal(await RawSocket.refused(own, path, { origin: own.url }), 'opened');
    } finally {
      await own.stop();
    }
  });
});

describe('messages', () => {
  test('ping is answered with the time', async () => {
    const socket = await enter();
    socket.send({ type: 'ping' });
    const { timestamp, ...pong } = await socket.next('pong');
    assert.deepEqual(pong, { type: 'pong' });
    assert.ok(Math.abs(timestamp - Date.now()) < 60_000);
    await socket.close();
  });

  for (const requestId of [1, 0, 'text', { any: ['thing'] }]) {
    test(`the request id ${JSON.stringify(requestId)} comes back with answers and errors`, async () => {
      const socket = await enter();
      socket.send({ type: 'ping', requestId });
      assert.deepEqual((await socket.next('pong')).requestId, requestId);
      socket.send({ type: 'nothing', requestId });
      assert.deepEqual(await socket.next('error'), { type: 'error', data: 'Unknown message type: nothing', requestId });
      await socket.close();
    });
  }

  test('broadcast goes to every other client of the room, and no further', async () => {
    const room = newRoom();
    const [a, b, c, elsewhere] = [await enter(room), await enter(room), await enter(room), await enter()];
    a.send({ type: 'broadcast', data: { text: 'hello' }, requestId: 1 });
    for (const socket of [b, c]) {
      assert.deepEqual(await socket.next('broadcast'), { type: 'broadcast', data: { text: 'hello' }, from: a.userId });
    }
    for (const socket of [a, elsewhere]) {
      await socket.ask('ping');
      assert.deepEqual(socket.left(), []);
    }
    for (const socket of [a, b, c, elsewhere]) await socket.close();
  });

  test('get-rtp-capabilities gives what Socket.IO gives', async () => {
    const socket = await enter();
    assert.deepEqual(await capabilities(socket), (await server.enter(socket.room)).joined.rtpCapabilities);
    await socket.close();
  });

  test('create-transport gives one transport; again, another in its place', async () => {
    const socket = await enter();
    const { id, iceParameters, iceCandidates, dtlsParameters } = await openTransport(socket);
    assert.ok(id && iceParameters.usernameFragment && iceCandidates.length && dtlsParameters.fingerprints.length);
    const other = await enter(socket.room);
    const producerId = await produce(socket);
    assert.equal((await other.next('new-producer')).data.producerId, producerId);
    const again = await openTransport(socket);
    assert.notEqual(again.id, id);
    assert.deepEqual(await other.next('producer-closed'), { type: 'producer-closed', data: { producerId } });
    await produce(socket);
    await Promise.all([socket.close(), other.close()]);
  });

  test('connect-transport without a transport, and twice, is refused', async () => {
    const socket = await enter();
    await refused(socket, 'connect-transport', { dtlsParameters: dtls() }, 'Transport not found');
    await openTransport(socket);
    await refused(socket, 'connect-transport', { dtlsParameters: dtls() }, 'Transport already connected');
    await socket.close();
  });

  test('produce is told to the others, and its end with the socket\'s', async () => {
    const room = newRoom();
    const [a, b] = [await enter(room), await enter(room)];
    const watcher = await server.enter(room);
    await openTransport(a);
    const producerId = await produce(a);
    const told = { type: 'new-producer', data: { producerId, userId: a.userId } };
    assert.deepEqual(await b.next('new-producer'), told);
    assert.equal((await watcher.next('audio:newProducer')).producerId, producerId);
    assert.deepEqual((await enter(room)).hello.producers, [told.data]);
    a.vanish();
    assert.deepEqual(await b.next('producer-closed'), { type: 'producer-closed', data: { producerId } });
    assert.equal((await watcher.next('audio:producerClosed')).producerId, producerId);
    await b.close();
  });

  test('produce without a transport is refused', async () => {
    const socket = await enter();
    await refused(socket, 'produce', { kind: 'audio', rtpParameters: opus() }, 'Transport not found');
    await socket.close();
  });

  test('consume without a producer takes the first of the others, then those that are new', async () => {
    const room = newRoom();
    const [a, b, c] = [await enter(room), await enter(room), await enter(room)];
    const rtpCapabilities = await capabilities(c);
    await refused(c, 'consume', { rtpCapabilities }, 'Transport not found');
    for (const socket of [a, b, c]) await openTransport(socket);
    await produce(c);
    await refused(c, 'consume', { rtpCapabilities }, 'No producer available');
    const ids = [await produce(a), await produce(b)];
    const consumed = [];
    for (let n = 0; n < 2; n += 1) consumed.push(await ask(c, 'consume', { rtpCapabilities }, 'consumed'));
    assert.deepEqual(consumed.map((one) => one.producerId), ids);
    assert.deepEqual([...new Set(consumed.map((one) => one.kind))], ['audio']);
    assert.equal((await ask(c, 'consume', { rtpCapabilities }, 'consumed')).producerId, ids[0]);
    assert.equal((await ask(c, 'consume', { rtpCapabilities, producerId: ids[1] }, 'consumed')).producerId, ids[1]);
    for (const producerId of [randomUUID(), 'nonsense']) {
      await refused(c, 'consume', { rtpCapabilities, producerId }, 'No producer available');
    }
    await refused(c, 'consume', { rtpCapabilities: { codecs: [] } }, 'Cannot consume');
    for (const socket of [a, b, c]) await socket.close();
  });

  test('an event that a plugin registered is the plugin\'s, in the room of the socket', async () => {
    const socket = await enter();
    const watcher = await server.enter(socket.room);
    const answer = await socket.ask('seat:take', { seatIndex: 2, roomId: 'another' });
    assert.equal(answer.type, 'seat:take');
    assert.equal((await watcher.next('seat:updated')).userId, socket.userId);
    assert.equal((await socket.next('seat:updated')).data.seatIndex, 2);
    const { code, plugin } = await refused(socket, 'seat:take', { seatIndex: 99 }, 'Invalid seat index');
    assert.deepEqual([code, plugin], ['INVALID_SEAT_INDEX', 'seats']);
    await refused(socket, 'seat:take', 'text', 'Invalid payload');
    await socket.close();
  });

  test('a plugin that denies is named', async () => {
    const own = await start({ config: { plugins: SEATED } });
    try {
      const socket = await enter('seated', { at: own });
      await openTransport(socket);
      const answer = await socket.ask('produce', { kind: 'audio', rtpParameters: opus() });
      assert.deepEqual([answer.type, answer.code, answer.plugin], ['error', 'SEAT_REQUIRED', 'seats']);
      await socket.ask('seat:take', { seatIndex: 0 });
      await produce(socket);
      await socket.close();
    } finally {
      await own.stop();
    }
  });

  test('a client that a plugin removes is told and closed', async () => {
    const socket = await enter();
    const manager = await server.enter(socket.room, { roles: ['moderator'] });
    await manager.ask('moderation:kick', { userId: socket.userId });
    assert.equal(typeof (await socket.next('error')).data, 'string');
    assert.equal((await socket.end()).code, 4403);
  });
});

describe('a client that sends', () => {
  const MISSING = 'Invalid message format: missing type';
  const frames = {
    'nothing': ['', 'Error parsing message'],
    'no JSON': ['{"type":', 'Error parsing message'],
    'JSON and more': ['{"type":"ping"} x', 'Error parsing message'],
    'bytes': [Buffer.from('{"type":"ping"}'), 'Error parsing message'],
    'depth': ['['.repeat(60_000), 'Error parsing message'],
    'a list': ['[]', MISSING],
    'null': ['null', MISSING],
    'no type': ['{"data":{}}', MISSING],
    'a number for the type': ['{"type":5}', MISSING],
    'an unknown type': ['{"type":"room:join"}', 'Unknown message type: room:join'],
    'an empty type': ['{"type":""}', 'Unknown message type: '],
    'a core event of another face': ['{"type":"audio:produce","data":{}}', 'Unknown message type: audio:produce'],
    'connect-transport without data': ['{"type":"connect-transport"}', 'Invalid payload'],
    'connect-transport with a list': ['{"type":"connect-transport","data":[]}', 'Invalid payload'],
    'produce without data': ['{"type":"produce"}', 'Invalid payload'],
    'produce of video': [JSON.stringify({ type: 'produce', data: { kind: 'video', rtpParameters: bare() } }), 'Invalid payload'],
    'consume without data': ['{"type":"consume"}', 'Invalid payload'],
    'consume with a number': ['{"type":"consume","data":{"producerId":5,"rtpCapabilities":{"codecs":[]}}}', 'Invalid payload'],
  };
  for (const [name, [frame, error]] of Object.entries(frames)) {
    test(`${name} is told so, and goes on`, async () => {
      const socket = await enter();
      socket.send(frame);
      assert.equal((await socket.next('error')).data, error);
      assert.equal((await socket.ask('ping')).type, 'pong');
      await socket.close();
    });
  }

  test('a frame over the limit is told and closed, and its room hears of its end', async () => {
    const socket = await enter();
    const watcher = await server.enter(socket.room);
    socket.send({ type: 'broadcast', data: 'x'.repeat(70_000) });
    assert.equal((await socket.next('error')).data, 'Invalid payload');
    assert.equal((await socket.end()).code, 1009);
    assert.equal((await watcher.next('room:userLeft')).userId, socket.userId);
  });

  test('a frame beyond all bounds is cut off', async () => {
    const socket = await enter();
    socket.send('x'.repeat(4 * 1024 * 1024));
    await socket.end();
    await server.serves();
  });

  test('a flood is limited, and the others of its room go on', async () => {
    const socket = await enter();
    const other = await enter(socket.room);
    for (let n = 0; n < 3000; n += 1) socket.send('{"type":"ping"}');
    assert.equal((await socket.next('error')).data, 'RATE_LIMITED');
    assert.equal((await other.ask('ping')).type, 'pong');
    socket.vanish();
    await other.close();
  });

  test('much and takes nothing is let go', async () => {
    const own = await start({ config: { sessions: 'outbox_capacity = 16\nping_interval_ms = 300\nping_timeout_ms = 300' } });
    try {
      const slow = await enter('slow', { at: own });
      const [talks, watcher] = [await enter('slow', { at: own }), await own.enter('slow')];
      slow.socket._socket.pause();
      for (let n = 0; n < 100; n += 1) talks.send({ type: 'broadcast', data: 'x'.repeat(60_000) });
      const left = await watcher.next('room:userLeft', (one) => one.userId === slow.userId);
      assert.ok(['too_slow', 'disconnected'].includes(left.reason), left.reason);
      slow.vanish();
      await talks.close();
    } finally {
      await own.stop();
    }
  });
});

test('a client that answers no pings is let go, one that does stays', async () => {
  const own = await start({ config: { sessions: 'ping_interval_ms = 150\nping_timeout_ms = 150' } });
  try {
    const [half, whole] = [await enter('half', { at: own }), await enter('half', { at: own })];
    const watcher = await own.enter('half');
    half.socket._socket.pause();
    assert.equal((await watcher.next('room:userLeft')).userId, half.userId);
    assert.equal((await whole.ask('ping')).type, 'pong');
    half.vanish();
    await whole.close();
  } finally {
    await own.stop();
  }
});

test('clients are told when the server stops', async () => {
  const own = await start();
  const socket = await enter('stopping', { at: own });
  own.signal('SIGTERM');
  assert.deepEqual(await socket.next('room-closed'), { type: 'room-closed', data: { reason: 'shutdown' } });
  assert.equal((await socket.end()).code, 1001);
  await own.stop();
});

test('two clients hear each other, each over one transport, at once', async () => {
  const [a, b] = [await enter('duplex'), await enter('duplex')];
  const peers = [await raise(a), await raise(b)];
  const ssrcs = [newSsrc(), newSsrc()];
  for (const [n, socket] of [a, b].entries()) {
    await produce(socket, opus({ ssrc: ssrcs[n] }));
    peers[n].speak(ssrcs[n]);
  }
  for (const [n, socket] of [a, b].entries()) {
    const { rtpParameters } = await ask(socket, 'consume', { rtpCapabilities: await capabilities(socket) }, 'consumed');
    await peers[n].more(rtpParameters.encodings[0].ssrc);
  }
  for (const peer of peers) await peer.close();
  await Promise.all([a.close(), b.close()]);
});

describe('the announced address', () => {
  const addresses = async (own) => {
    const { iceCandidates } = await openTransport(await enter('announced', { at: own }));
    return [...new Set(iceCandidates.flatMap((one) => [one.address, one.ip]))];
  };

  test('is loopback in development', async () => {
    assert.deepEqual(await addresses(server), ['127.0.0.1']);
  });

  test('is what the configuration says', async () => {
    const own = await start({ config: { media: 'workers = 1\nlisten_ip = "0.0.0.0"\nannounced_address = "voice.example.com"' } });
    try {
      assert.deepEqual(await addresses(own), ['voice.example.com']);
    } finally {
      await own.stop();
    }
  });

  test('must be there where the server listens on a wildcard: it does not start, and says what to do', async () => {
    const dir = await temporary();
    const args = ['serve', '--dev', '--listen', '127.0.0.1:0', '--data-dir', dir.path];
    const { code, stdout, stderr } = await runToEnd(args, { VOICE_ROOM_MEDIA__LISTEN_IP: '0.0.0.0' });
    await dir.remove();
    assert.deepEqual([code, stdout], [2, '']);
    assert.match(stderr, /media\.announced_address: must be set, because media\.listen_ip is the wildcard/);
    assert.match(stderr, /name the public IP address or host name/);
  });
});

test('plugins without registered events leave their types unknown', async () => {
  const own = await start({ config: { plugins: null } });
  try {
    const socket = await enter('bare', { at: own });
    await refused(socket, 'seat:take', {}, 'Unknown message type: seat:take');
    await socket.close();
  } finally {
    await own.stop();
  }
});

test('a speaker on Socket.IO is told to raw clients', async () => {
  const socket = await enter();
  const other = await speaker(server, socket.room);
  assert.deepEqual((await socket.next('new-producer')).data, { producerId: other.producerId, userId: other.userId });
  await socket.close();
});
