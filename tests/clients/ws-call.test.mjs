// The events of calls over /ws/call.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Caller, Description } from './caller.mjs';
import { dtls, newSsrc, opus, speaker } from './media.mjs';
import { RawSocket } from './raw.mjs';
import { newUser, seconds, sign, start } from './server.mjs';

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

let server;
let description;
before(async () => {
  server = await start();
  description = await Description.of(server);
});
after(() => server?.stop());

const caller = (options) => Caller.of(server, description, options);
let calls = 0;
const newCall = () => `call-${(calls += 1)}`;

/** What is left on a socket but for an answer to the ping that shows that all has come. */
async function rest(socket) {
  assert.equal((await socket.ask('ping')).type, 'pong');
  return socket.left();
}

describe('a socket', () => {
  const bad = {
    'no token': '/ws/call',
    'an empty token': '/ws/call?token=',
    'nonsense for a token': '/ws/call?token=nonsense',
    'an expired token': `/ws/call?token=${sign({ id: 1, exp: seconds(-3600) })}`,
  };
  for (const [name, path] of Object.entries(bad)) {
    test(`with ${name} is closed with code 4401`, async () => {
      const socket = await RawSocket.open(server, path);
      assert.equal((await socket.end()).code, 4401);
    });
  }

  test('may have its token in the header', async () => {
    const { token } = await caller();
    const socket = await RawSocket.open(server, '/ws/call', { headers: { authorization: `Bearer ${token}` } });
    assert.equal((await socket.ask('ping')).type, 'pong');
    await socket.close();
  });

  test('from a page of another origin is refused', async () => {
    const own = await start({ config: { server: 'allowed_origins = ["https://app.example.com"]' } });
    try {
      const path = `/ws/call?token=${await own.token()}`;
      assert.equal(await RawSocket.refused(own, path, { origin: 'https://evil.example.com' }), 403);
      assert.equal(await RawSocket.refused(own, path, { origin: 'https://app.example.com' }), 'opened');
    } finally {
      await own.stop();
    }
  });

  test('needs an upgrade', async () => {
    assert.ok([400, 426].includes((await server.fetch('/ws/call')).status));
  });

  test('enters the call that it names, and leaves it with its end', async () => {
    const watcher = await server.enter(newCall());
    const who = await caller();
    const socket = await who.socket(watcher.room);
    assert.equal((await watcher.next('room:userJoined')).userId, who.userId);
    socket.vanish();
    assert.deepEqual(await watcher.next('room:userLeft'), { userId: who.userId, reason: 'disconnected' });
  });

  test('of a call that the token does not allow says so', async () => {
    const who = await caller({ token: sign({ id: newUser(), rooms: ['other'], exp: seconds(3600) }) });
    const socket = await who.socket(newCall());
    const { code, message } = await socket.next('error');
    assert.deepEqual([code, message], ['ROOM_NOT_ALLOWED', 'Room not allowed']);
    await socket.close();
  });

  test('beyond eight of a user is closed', async () => {
    const who = await caller();
    const sockets = [];
    for (let n = 0; n < 8; n += 1) sockets.push(await who.socket());
    assert.equal((await sockets[7].ask('ping')).type, 'pong');
    assert.equal((await (await who.socket()).end()).code, 4429);
    for (const socket of sockets) socket.vanish();
  });

  const frames = {
    'no JSON': ['{', 'INVALID_PAYLOAD'],
    'a list': ['[]', 'INVALID_PAYLOAD'],
    'no type': ['{}', 'INVALID_PAYLOAD'],
    'a number for the type': ['{"type":1}', 'INVALID_PAYLOAD'],
    'bytes': [Buffer.from('{}'), 'INVALID_PAYLOAD'],
    'an unknown type': ['{"type":"nothing"}', 'UNKNOWN_EVENT'],
    'a plugin\'s event without a call': ['{"type":"seat:take","payload":{}}', 'INVALID_PAYLOAD'],
    'a plugin\'s event in a call that is not there': ['{"type":"seat:take","callId":"nowhere"}', 'ROOM_NOT_FOUND'],
    'a plugin\'s event with a text': ['{"type":"seat:take","callId":"x","payload":"x"}', 'INVALID_PAYLOAD'],
  };
  for (const [name, [frame, code]] of Object.entries(frames)) {
    test(`that sends ${name} is told, and goes on`, async () => {
      const socket = await (await caller()).socket();
      socket.send(frame);
      assert.equal((await socket.next('error')).code, code);
      assert.equal((await socket.ask('ping')).type, 'pong');
      await socket.close();
    });
  }

  test('that sends a frame over the limit is told and closed', async () => {
    const socket = await (await caller()).socket();
    socket.send(`{"type":"ping","x":"${'x'.repeat(70_000)}"}`);
    assert.equal((await socket.next('error')).code, 'INVALID_PAYLOAD');
    assert.equal((await socket.end()).code, 1009);
  });

  test('that sends a frame beyond all bounds is cut off', async () => {
    const socket = await (await caller()).socket();
    socket.send('x'.repeat(4 * 1024 * 1024));
    await socket.end();
    await server.serves();
  });

  test('that floods is limited and the server serves the others', async () => {
    const socket = await (await caller()).socket();
    for (let n = 0; n < 2000; n += 1) socket.send('{"type":"ping"}');
    assert.equal((await socket.next('error')).code, 'RATE_LIMITED');
    await server.serves();
    socket.vanish();
  });

  test('that does not answer pings is let go', async () => {
    const own = await start({ config: { sessions: 'ping_interval_ms = 150\nping_timeout_ms = 150' } });
    try {
      const watcher = await own.enter('half-open');
      const who = await Caller.of(own, description);
      const socket = await RawSocket.open(own, `/ws/call?token=${who.token}&callId=half-open`);
      await watcher.next('room:userJoined');
      // The system still acknowledges what arrives; nobody reads it.
      socket.socket._socket.pause();
      assert.equal((await watcher.next('room:userLeft')).userId, who.userId);
      socket.vanish();
    } finally {
      await own.stop();
    }
  });

  test('is closed when the server stops', async () => {
    const own = await start();
    const who = await Caller.of(own, description);
    const socket = await who.socket('stopping');
    await socket.ask('ping');
    own.signal('SIGTERM');
    const { payload } = await socket.next('call_end');
    assert.equal(payload.reason, 'shutdown');
    assert.equal((await socket.end()).code, 1001);
    await own.stop();
  });
});

describe('producers', () => {
  test('are told to the others when they come and go, and what plugins emit', async () => {
    const [call, who] = [newCall(), await caller()];
    const socket = await who.socket(call);
    const other = await speaker(server, call);
    const { payload } = await socket.next('new_producer');
    assert.deepEqual(payload, { callId: call, producerId: other.producerId, userId: other.userId });
    await other.ask('seat:take', { seatIndex: 3 });
    const emitted = await socket.next('seat:updated');
    assert.deepEqual([emitted.callId, emitted.payload.seatIndex, emitted.payload.userId], [call, 3, other.userId]);
    await other.ask('producer:close', { producerId: other.producerId });
    const closed = (await socket.next('producer_closed')).payload;
    assert.deepEqual(closed, { callId: call, producerId: other.producerId, userId: other.userId, reason: 'closed' });
    await socket.close();
  });

  test('of all calls of a user come over each of its sockets', async () => {
    const [one, two, who] = [newCall(), newCall(), await caller()];
    const [first, second] = [await who.socket(one), await who.socket(two)];
    for (const call of [one, two]) {
      const { producerId } = await speaker(server, call);
      for (const socket of [first, second]) {
        const { payload } = await socket.next('new_producer');
        assert.deepEqual([payload.callId, payload.producerId], [call, producerId]);
      }
    }
    await Promise.all([first.close(), second.close()]);
  });
});

describe('call_connected', () => {
  /** Two callers in a call, each with a socket and a peer that sends. */
  async function pair(more) {
    const call = newCall();
    const party = async () => {
      const who = await caller();
      const peer = await who.peer(call, 'send', more);
      const [socket, ssrc] = [await who.socket(), newSsrc()];
      await who.produce(call, peer.transportId, opus({ ssrc }));
      return { who, peer, socket, ssrc };
    };
    const parties = [await party(), await party()];
    const close = () => Promise.all(parties.flatMap(({ peer, socket }) => [peer.close(), socket.close()]));
    return { call, parties, close };
  }

  test('comes once, at the first packet of the call', async () => {
    const { call, parties: [a, b], close } = await pair();
    a.peer.speak(a.ssrc);
    for (const { socket } of [a, b]) {
      const { payload: { connectedAt, ...payload } } = await socket.next('call_connected');
      assert.deepEqual(payload, { callId: call, userId: a.who.userId, method: 'sfu_rtp_detected' });
      assert.match(connectedAt, ISO);
      assert.ok(Math.abs(Date.parse(connectedAt) - Date.now()) < 60_000);
    }
    const watcher = await server.enter(call);
    b.peer.speak(b.ssrc);
    await watcher.next('audio:firstRtp', (one) => one.userId === b.who.userId);
    for (const { socket } of [a, b]) {
      assert.ok(!(await rest(socket)).some((one) => one.type === 'call_connected'));
    }
    await close();
  });

  test('with the option `both` waits for the packets of every party', async () => {
    const { call, parties: [a, b], close } = await pair({ connectedWhen: 'both' });
    const watcher = await server.enter(call);
    a.peer.speak(a.ssrc);
    await watcher.next('audio:firstRtp', (one) => one.userId === a.who.userId);
    for (const { socket } of [a, b]) {
      assert.ok(!(await rest(socket)).some((one) => one.type === 'call_connected'));
    }
    b.peer.speak(b.ssrc);
    await watcher.next('audio:firstRtp', (one) => one.userId === b.who.userId);
    // The watcher is a party too, until it goes.
    for (const { socket } of [a, b]) {
      assert.ok(!(await rest(socket)).some((one) => one.type === 'call_connected'));
    }
    await watcher.leave();
    for (const { socket } of [a, b]) {
      assert.equal((await socket.next('call_connected')).payload.userId, b.who.userId);
    }
    await close();
  });

  test('is `both` for all calls where the configuration says so', async () => {
    const own = await start({ config: { rooms: 'call_connected_when = "both"' } });
    try {
      const [who, other] = [await Caller.of(own, description), await own.enter('configured')];
      const peer = await who.peer('configured', 'send');
      const [socket, ssrc] = [await who.socket(), newSsrc()];
      await who.produce('configured', peer.transportId, opus({ ssrc }));
      peer.speak(ssrc);
      await other.next('audio:firstRtp');
      assert.ok(!(await rest(socket)).some((one) => one.type === 'call_connected'));
      await peer.close();
      await socket.close();
    } finally {
      await own.stop();
    }
  });

  test('is told to a member who opens a socket later, and once', async () => {
    const { call, parties: [a], close } = await pair();
    const late = await caller();
    await late.transport(call, 'recv');
    const watcher = await server.enter(call);
    a.peer.speak(a.ssrc);
    await watcher.next('audio:firstRtp');
    const socket = await late.socket();
    assert.equal((await socket.next('call_connected')).payload.userId, a.who.userId);
    const again = await late.socket();
    assert.ok(!(await rest(again)).some((one) => one.type === 'call_connected'));
    await Promise.all([socket.close(), again.close(), close()]);
  });
});

describe('call_end', () => {
  test('comes once to the last who leaves, with the seconds since the call was connected', async () => {
    const [who, call] = [await caller(), newCall()];
    const peer = await who.peer(call, 'send');
    const [socket, ssrc] = [await who.socket(), newSsrc()];
    await who.produce(call, peer.transportId, opus({ ssrc }));
    peer.speak(ssrc);
    const connected = Date.parse((await socket.next('call_connected')).payload.connectedAt);
    await who.cleanup(call, '?leave=true');
    const { payload: { endedAt, durationSeconds, ...payload } } = await socket.next('call_end');
    assert.deepEqual(payload, { callId: call, reason: 'empty' });
    assert.match(endedAt, ISO);
    assert.equal(durationSeconds, Math.floor((Date.parse(endedAt) - connected) / 1000));
    assert.ok(!(await rest(socket)).some((one) => one.type === 'call_end'));
    await Promise.all([peer.close(), socket.close()]);
  });

  test('does not come while others are in the call', async () => {
    const [who, call] = [await caller(), newCall()];
    const socket = await who.socket(call);
    const other = await caller();
    await other.transport(call, 'send');
    await other.cleanup(call, '?leave=true');
    assert.deepEqual(await rest(socket), []);
    await socket.close();
  });

  test('comes with the reason when a plugin removes the member', async () => {
    const [who, call] = [await caller(), newCall()];
    const socket = await who.socket(call);
    const manager = await server.enter(call, { roles: ['moderator'] });
    await manager.ask('moderation:kick', { userId: who.userId });
    const { payload } = await socket.next('call_end');
    assert.deepEqual([payload.callId, payload.durationSeconds], [call, 0]);
    assert.equal(payload.reason, (await manager.next('room:userLeft')).reason);
    await socket.close();
  });
});

test('a member without a socket is dropped after its last socket has gone, unless it asks', async () => {
  const own = await start({ config: { sessions: 'rest_idle_ms = 400' } });
  try {
    const watcher = await own.enter('idle');
    const who = await Caller.of(own, description);
    const { transportId } = await who.transport('idle', 'send');
    const socket = await who.socket();
    await own.settle('idle', watcher);
    // Another comes and is dropped meanwhile: time enough for the first, too.
    const silent = await Caller.of(own, description);
    await silent.transport('idle', 'send');
    await watcher.next('room:userLeft', (one) => one.userId === silent.userId);
    await who.connect(transportId, dtls());
    await socket.close();
    assert.deepEqual(await watcher.next('room:userLeft'), { userId: who.userId, reason: 'disconnected' });
  } finally {
    await own.stop();
  }
});
