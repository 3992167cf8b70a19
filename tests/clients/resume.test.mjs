// Coming back: clients whose network really breaks, and what others see of it.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Client, ok, refused, within } from './client.mjs';
import { consume, newSsrc, openTransport, opus, produce } from './media.mjs';
import { Peer } from './peer.mjs';
import { RawSocket } from './raw.mjs';
import { Relay } from './relay.mjs';
import { newUser, seconds, sign, start } from './server.mjs';

const LIMIT = 10_000;
/** Both ends notice a dead connection within a second, and there is time to come back. */
const QUICK = 'ping_interval_ms = 400\nping_timeout_ms = 400\nresume_grace_ms = 20000';
const LOG = 'filter = "info,voice_room::signal=debug"';
const KEPT = /a connection was lost: its place is kept/;

const network = [];
after(() => network.forEach((one) => one.close()));
const peers = [];
after(() => Promise.all(peers.map((peer) => peer.close())));

const resumable = { resumable: true };
const GONE = ['room:userLeft', 'audio:producerClosed', 'audio:producerPaused'];

/** The first match in the log after what is there by now. */
const watched = (server) => {
  const from = server.output.stderr.length;
  return (pattern) => server.logged(pattern, from);
};

/** A client behind a relay, in `room`, that may come back. */
async function behind(server, room, { userId = newUser(), ...options } = {}) {
  const relay = await Relay.to(server);
  network.push(relay);
  const auth = { token: await server.token({ userId }) };
  const client = await Client.connect(relay.url, {
    auth, reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 200, timeout: 1_000, ...options,
  });
  network.push(client);
  client.userId = userId;
  await client.join(room, resumable);
  return { client, relay };
}

/** When the client's connection is up again. */
const reconnected = (client) => within(LIMIT, 'the new connection', new Promise((done) => {
  client.socket.once('connect', done);
}));

/** Another connection of a user. */
const another = (server, userId) => server.connect({ userId });

/** Nobody saw `client` go, nor anything of theirs. */
function unseen(client, ...others) {
  for (const one of others) {
    const seen = one.left().filter(([name, { userId }]) => GONE.includes(name) && userId === client.userId);
    assert.deepEqual(seen, []);
  }
}

/** Loses the client's connection, and waits until the server keeps its place. */
async function lose(server, client) {
  const logged = watched(server);
  client.vanish();
  await logged(KEPT);
}

describe('a network that breaks and comes back', () => {
  let server;
  before(async () => { server = await start({ config: { sessions: QUICK, log: LOG } }); });
  after(() => server?.stop());

  test('leaves the participant, media and all, and nobody sees it', async () => {
    const room = 'broken';
    const [listener, watcher] = [await server.enter(room), await server.enter(room)];
    const { client, relay } = await behind(server, room);

    const [mouth, ear] = [await Peer.open(client, 'producer', relay), await Peer.open(client, 'consumer', relay)];
    const [far, voice] = [await Peer.open(listener, 'consumer'), await Peer.open(listener, 'producer')];
    peers.push(mouth, ear, far, voice);
    const [mine, theirs] = [newSsrc(), newSsrc()];
    const producerId = await produce(client, { rtpParameters: opus({ ssrc: mine }) });
    const other = await produce(listener, { rtpParameters: opus({ ssrc: theirs }) });
    const heard = await consume(listener, producerId);
    const hears = await consume(client, other);
    ok(await listener.request('consumer:resume', { consumerId: heard.id }));
    ok(await client.request('consumer:resume', { consumerId: hears.id }));
    const [toFar, toEar] = [heard, hears].map((one) => one.rtpParameters.encodings[0].ssrc);
    mouth.speak(mine);
    voice.speak(theirs);
    await Promise.all([far.more(toFar), ear.more(toEar)]);
    await server.settle(room, listener, watcher, client);
    const { userId } = client;
    const { sending, receiving } = client;

    const logged = watched(server);
    const lost = client.disconnected;
    const back = reconnected(client);
    relay.cut();
    await logged(KEPT);
    await within(LIMIT, 'the loss', lost);
    assert.equal((await server.metrics()).get('voice_room_parked_sessions'), 1);
    client.forget();
    const before = client.lastSeq;
    // What happens meanwhile.
    const newcomers = [];
    for (let i = 0; i < 5; i += 1) {
      const one = await server.enter(room);
      newcomers.push(one.userId);
      await one.leave();
    }
    const [toFarBefore, toEarBefore] = [far.packets(toFar), ear.packets(toEar)];

    relay.mend();
    await back;
    const data = await client.resume();
    assert.equal(data.roomId, room);
    assert.equal(data.userId, userId);
    assert.deepEqual(new Set(data.transports), new Set([sending, receiving]));
    assert.deepEqual(data.producers, [producerId]);
    assert.deepEqual(data.consumers, [hears.id]);
    assert.equal(data.resume.graceMs, 20_000);
    for (const one of newcomers) {
      await client.next('room:userJoined', (user) => user.userId === one);
      await client.next('room:userLeft', (user) => user.userId === one);
    }
    assert.ok(data.missed >= 10, `${data.missed} missed`);
    assert.ok(client.lastSeq >= before + data.missed);
    assert.equal((await server.metrics()).get('voice_room_parked_sessions'), 0);

    // From where they are now, the server does not know the packets of either.
    assert.deepEqual([far.packets(toFar), ear.packets(toEar)], [toFarBefore, toEarBefore]);
    for (const [peer, transportId] of [[mouth, sending], [ear, receiving]]) {
      const { iceParameters } = await client.ask('transport:restartIce', { transportId });
      await peer.restartIce(iceParameters);
    }
    await Promise.all([far.more(toFar, 25), ear.more(toEar, 25)]);

    // And it is as good as new.
    ok(await client.request('audio:selfMute', { producerId }));
    await listener.next('audio:producerPaused', (event) => event.producerId === producerId);
    await server.settle(room, listener, watcher, client);
    await watcher.next('audio:producerPaused', (event) => event.producerId === producerId);
    unseen(client, listener, watcher);
  });

  test('may break again and again, also while events are told again', async () => {
    const room = 'flapping';
    const watcher = await server.enter(room);
    const { client, relay } = await behind(server, room);
    const users = [];
    for (let round = 0; round < 3; round += 1) {
      const logged = watched(server);
      const back = reconnected(client);
      relay.cut();
      await logged(KEPT);
      for (let i = 0; i < 4; i += 1) {
        const user = await server.enter(room);
        await user.leave();
        users.push(user.userId);
      }
      relay.mend();
      await back;
      // The next cut may come before all of what was missed has.
      await client.resume();
    }
    for (const user of users) {
      await client.next('room:userJoined', ({ userId }) => userId === user);
      await client.next('room:userLeft', ({ userId }) => userId === user);
    }
    await server.settle(room, watcher, client);
    unseen(client, watcher);
  });

  test('keeps a place for the token before, if the answer with the next one was lost', async () => {
    const room = 'lost-answer';
    const watcher = await server.enter(room);
    const client = await server.connect();
    await client.join(room, resumable);
    await lose(server, client);
    const second = await another(server, client.userId);
    await second.resume(client.resumption, 0);
    const third = await another(server, client.userId);
    refused(await third.send('room:resume', { token: client.resumption.token, lastSeq: 0 }), 'Resume expired');
    await lose(server, second);
    await third.resume(client.resumption, 0);
    await server.settle(room, watcher, third);
    unseen(client, watcher);
  });
});

describe('coming back before the loss is noticed', () => {
  let server;
  before(async () => { server = await start({ config: { log: LOG } }); });
  after(() => server?.stop());

  test('takes the place from the dead connection', async () => {
    const room = 'unnoticed';
    const watcher = await server.enter(room);
    const { client, relay } = await behind(server, room);
    await server.settle(room, watcher, client);
    const from = server.output.stderr.length;
    const back = reconnected(client);
    relay.cut();
    client.socket.io.engine.close();
    const user = await server.enter(room);
    relay.mend();
    await back;
    const data = await client.resume();
    assert.ok(data.missed >= 1);
    await client.next('room:userJoined', ({ userId }) => userId === user.userId);
    assert.doesNotMatch(server.output.stderr.slice(from), KEPT);
    await client.leave();
    const left = await watcher.next('room:userLeft', ({ userId }) => userId === client.userId);
    assert.equal(left.reason, 'left');
  });

  test('what the dead connection had asked for is done or not, and both sides know', async () => {
    for (let round = 0; round < 8; round += 1) {
      const room = `in-flight-${round}`;
      const watcher = await server.enter(room);
      const first = await server.connect();
      await first.join(room, resumable);
      const transportId = await openTransport(first, 'producer');
      const second = await another(server, first.userId);
      first.socket.emit('audio:produce', { roomId: room, transportId, kind: 'audio', rtpParameters: opus() });
      const { producers } = await second.resume(first.resumption, 0);
      await server.settle(room, watcher);
      const seen = watcher.left().filter(([name]) => name === 'audio:newProducer');
      assert.deepEqual(seen.map(([, { producerId }]) => producerId), producers);
    }
  });

  test('of a kick that the dead connection was told, the client hears when it is back', async () => {
    const room = 'kicked-unheard';
    const boss = await server.enter(room, { roles: ['admin'] });
    const { client, relay } = await behind(server, room);
    await server.settle(room, boss, client);
    const back = reconnected(client);
    const logged = watched(server);
    relay.cut();
    client.socket.io.engine.close();
    ok(await boss.request('moderation:kick', { userId: client.userId, reason: 'Enough' }));
    await boss.next('room:userLeft', ({ userId }) => userId === client.userId);
    await logged(KEPT);
    relay.mend();
    await back;
    await client.resume();
    assert.deepEqual(await client.next('auth:force_disconnect'), { reason: 'Enough' });
  });

  test('of two who try at once one gets it, and the other connection is ended', async () => {
    const room = 'storm';
    const watcher = await server.enter(room);
    const first = await server.connect();
    const { resume } = await first.join(room, resumable);
    const outcomes = async () => (await server.metrics()).get('voice_room_resumes_total{outcome="ok"}');
    const before = await outcomes();
    const rivals = await Promise.all(Array.from({ length: 8 }, () => another(server, first.userId)));
    const answers = await Promise.all(rivals.map((one) => {
      one.lastSeq = first.lastSeq;
      return one.send('room:resume', { token: resume.token, lastSeq: first.lastSeq });
    }));
    assert.equal(answers.filter((one) => one.success).length, 1, JSON.stringify(answers));
    for (const one of answers.filter(({ success }) => !success)) refused(one, 'Resume expired');
    assert.equal(await within(LIMIT, 'the end of the first', first.disconnected), 'io server disconnect');
    const winner = rivals[answers.findIndex((one) => one.success)];
    await server.settle(room, watcher, winner);
    unseen(first, watcher);
    assert.equal((await outcomes()) - before, 1);
  });

  test('a place that the connection has elsewhere is given up', async () => {
    const there = await server.enter('elsewhere');
    const first = await server.connect();
    await first.join('left-behind', resumable);
    const second = await server.connect({ userId: first.userId });
    await second.join('elsewhere');
    const data = await second.resume(first.resumption, first.lastSeq);
    assert.equal(data.roomId, 'left-behind');
    const left = await there.next('room:userLeft', ({ userId }) => userId === first.userId);
    assert.equal(left.reason, 'left');
    refused(await second.send('transport:create', { roomId: 'elsewhere', type: 'producer' }), 'Not in room');
    await second.ask('transport:create', { type: 'producer' });
  });

  test('the connection that has the place cannot take it from itself', async () => {
    const client = await server.connect();
    await client.join('oneself', resumable);
    const { token } = client.resumption;
    refused(await client.send('room:resume', { token, lastSeq: client.lastSeq }), 'Resume expired');
    await client.ask('transport:create', { type: 'producer' });
  });
});

describe('who may not come back', () => {
  let server;
  before(async () => {
    const sessions = 'resume_grace_ms = 60000\noutbox_capacity = 16';
    server = await start({ config: { sessions, log: LOG } });
  });
  after(() => server?.stop());

  test('another user, who learns nothing', async () => {
    const client = await server.connect();
    await client.join('thief', resumable);
    const { token } = client.resumption;
    assert.match(token, /^[A-Za-z0-9_-]{43}$/);
    await lose(server, client);
    const thief = await server.connect();
    const [known, unknown] = [token, 'f'.repeat(43)];
    const answers = [];
    for (const one of [known, unknown]) answers.push(await thief.send('room:resume', { token: one, lastSeq: 0 }));
    assert.deepEqual(answers[0], answers[1]);
    refused(answers[0], 'Resume expired');
    const owner = await another(server, client.userId);
    await owner.resume(client.resumption, client.lastSeq);
    assert.ok(!server.output.stderr.includes(token), 'the token is not logged');
  });

  test('a user whose token does not allow the room any more: the place stays', async () => {
    const client = await server.connect();
    await client.join('closed-to-them', resumable);
    await lose(server, client);
    const resume = { token: client.resumption.token, lastSeq: client.lastSeq };
    const token = sign({ id: client.userId, rooms: ['elsewhere'], exp: seconds(3600) });
    refused(await (await server.connect({ token })).send('room:resume', resume), 'Room not allowed');
    await (await another(server, client.userId)).resume(client.resumption, client.lastSeq);
  });

  test('more lost connections of one user than a few', async () => {
    const room = 'many';
    const watcher = await server.enter(room);
    const userId = newUser();
    const left = () => watcher.left().filter(([name, user]) => name === 'room:userLeft' && user.userId === userId);
    const clients = [];
    for (let i = 0; i < 9; i += 1) {
      const client = await server.connect({ userId });
      await client.join(room, resumable);
      clients.push(client);
    }
    const last = clients.pop();
    for (const client of clients) await lose(server, client);
    assert.deepEqual(left(), []);
    const logged = watched(server);
    last.vanish();
    await logged(/too many lost connections of one user/);
    const again = await another(server, userId);
    refused(await again.send('room:resume', { token: last.resumption.token, lastSeq: 0 }), 'Resume expired');
  });

  test('who asks for events that are no longer kept, or never were: the place stays', async () => {
    const room = 'gap';
    const client = await server.connect();
    await client.join(room, resumable);
    for (let i = 0; i < 12; i += 1) await server.settle(room, client);
    const seen = client.lastSeq;
    await lose(server, client);
    const again = await another(server, client.userId);
    const { token } = client.resumption;
    const old = refused(await again.send('room:resume', { token, lastSeq: 0 }), 'Resume gap');
    assert.deepEqual(old.details, { lowest: seen - 16, highest: seen });
    refused(await again.send('room:resume', { token, lastSeq: seen + 1 }), 'Resume gap');
    const { missed } = await again.resume(client.resumption, seen - 16);
    assert.equal(missed, 16);
    await server.settle(room, again);
  });

  test('who was away for more events than may wait', async () => {
    const room = 'overflow';
    const watcher = await server.enter(room);
    const client = await server.connect();
    await client.join(room, resumable);
    await server.settle(room, watcher, client);
    await lose(server, client);
    for (let i = 0; i < 10; i += 1) await server.settle(room, watcher);
    const left = await watcher.next('room:userLeft', ({ userId }) => userId === client.userId);
    assert.equal(left.reason, 'too_slow');
    const again = await another(server, client.userId);
    const { token } = client.resumption;
    refused(await again.send('room:resume', { token, lastSeq: client.lastSeq }), 'Resume expired');
  });

  test('who left, who disconnected, and whose place another join took', async () => {
    const room = 'meant';
    const watcher = await server.enter(room);
    const goings = {
      leaves: (client) => client.leave(),
      disconnects: (client) => client.close(),
      moves: (client) => client.join('meant-elsewhere'),
      oversize: (client) => client.socket.emit('room:leave', 'x'.repeat(100_000)),
    };
    for (const go of Object.values(goings)) {
      const client = await server.connect();
      await client.join(room, resumable);
      const { token } = client.resumption;
      await go(client);
      await watcher.next('room:userLeft', ({ userId }) => userId === client.userId);
      const again = await another(server, client.userId);
      refused(await again.send('room:resume', { token, lastSeq: 0 }), 'Resume expired');
    }
  });

  test('who did not ask for it: nothing is different', async () => {
    const room = 'plain';
    const watcher = await server.enter(room);
    const client = await server.enter(room);
    assert.equal(client.joined.resume, undefined);
    await server.settle(room, client, watcher);
    assert.equal(client.lastSeq, 0, 'no event has a number');
    client.vanish();
    const left = await watcher.next('room:userLeft', ({ userId }) => userId === client.userId);
    assert.equal(left.reason, 'disconnected');
  });

  test('who names the fields wrongly', async () => {
    const client = await server.connect();
    for (const [payload, ...fields] of [
      [{}, 'token', 'lastSeq'],
      [{ token: 1, lastSeq: 'x' }, 'token', 'lastSeq'],
      [{ token: 'x', lastSeq: -1 }, 'lastSeq'],
      [{ token: 'x', lastSeq: 1.5 }, 'lastSeq'],
    ]) {
      const { code, details } = await client.send('room:resume', payload);
      assert.equal(code, 'INVALID_PAYLOAD');
      assert.deepEqual(details.map(({ field }) => field), fields);
    }
    const { details } = await client.send('room:join', { roomId: 'x', resumable: 'yes' });
    assert.deepEqual(details.map(({ field }) => field), ['resumable']);
  });

  test('who was kicked meanwhile comes back only to hear it', async () => {
    const room = 'kicked';
    const boss = await server.enter(room, { roles: ['admin'] });
    const client = await server.connect();
    await client.join(room, resumable);
    await server.settle(room, boss, client);
    await lose(server, client);
    ok(await boss.request('moderation:kick', { userId: client.userId, reason: 'Enough' }));
    const left = await boss.next('room:userLeft', ({ userId }) => userId === client.userId);
    assert.equal(left.reason, 'Enough');
    const again = await another(server, client.userId);
    const { producers, transports } = await again.resume(client.resumption, client.lastSeq);
    assert.deepEqual([producers, transports], [[], []]);
    assert.equal((await again.next('moderation:notice')).action, 'kick');
    assert.deepEqual(await again.next('auth:force_disconnect'), { reason: 'Enough' });
    await within(LIMIT, 'the end', again.disconnected);
  });
});

describe('the grace', () => {
  const leaves = async (server) => {
    const name = /^voice_room_plugin_calls_total\{.*hook="on-leave"/;
    const calls = [...await server.metrics()].filter(([one]) => name.test(one));
    return calls.reduce((sum, [, value]) => sum + value, 0);
  };

  test('ends as a disconnect does, once', async () => {
    const server = await start({ config: { sessions: 'resume_grace_ms = 300', log: LOG } });
    try {
      const room = 'over';
      const watcher = await server.enter(room);
      const client = await server.connect();
      await client.join(room, resumable);
      const producerId = await produce(client);
      await server.settle(room, watcher, client);
      const before = await leaves(server);
      await lose(server, client);
      const closed = await watcher.next('audio:producerClosed', (event) => event.producerId === producerId);
      assert.equal(closed.reason, 'disconnected');
      const left = await watcher.next('room:userLeft', ({ userId }) => userId === client.userId);
      assert.equal(left.reason, 'disconnected');
      const again = await another(server, client.userId);
      const { token } = client.resumption;
      refused(await again.send('room:resume', { token, lastSeq: client.lastSeq }), 'Resume expired');
      const settled = await leaves(server);
      await server.settle(room, watcher);
      unseen(client, watcher);
      // The witness leaves once, as the client did: in as many plugins.
      assert.ok(settled > before);
      assert.equal(settled - before, (await leaves(server)) - settled);
      const metrics = await server.metrics();
      assert.equal(metrics.get('voice_room_parked_sessions'), 0);
      assert.equal(metrics.get('voice_room_resumes_total{outcome="expired"}'), 1);
    } finally {
      await server.stop();
    }
  });

  test('of zero is none', async () => {
    const server = await start({ config: { sessions: 'resume_grace_ms = 0' } });
    try {
      const watcher = await server.enter('none');
      const client = await server.connect();
      await client.join('none', resumable);
      assert.equal(client.joined.resume, undefined);
      await server.settle('none', watcher, client);
      assert.equal(client.lastSeq, 0);
      client.vanish();
      await watcher.next('room:userLeft', ({ userId }) => userId === client.userId);
    } finally {
      await server.stop();
    }
  });

  test('does not keep a server that stops', async () => {
    const server = await start({ config: { sessions: 'resume_grace_ms = 600000', log: LOG } });
    const client = await server.connect();
    await client.join('stopping', resumable);
    await lose(server, client);
    await server.stop();
  });
});

describe('a raw WebSocket', () => {
  let server;
  before(async () => { server = await start({ config: { sessions: QUICK, log: LOG } }); });
  after(() => server?.stop());

  /** Opens `/socket` with these parameters as this user: the socket. */
  async function open(userId, parameters, at = server) {
    const query = new URLSearchParams({ token: await server.token({ userId }), ...parameters });
    return RawSocket.open(at, `/socket?${query}`);
  }

  async function enter(room, options) {
    const userId = newUser();
    const socket = await open(userId, { room, resumable: '1' }, options);
    const { resume } = (await socket.next('test')).data;
    return Object.assign(socket, { userId, resume });
  }

  const ask = async (socket, type, data) => {
    const answer = await socket.ask(type, data);
    assert.notEqual(answer.type, 'error', JSON.stringify(answer));
    return answer.data;
  };

  /** Sends `count` broadcasts to the room of `socket`, numbered from `first`. */
  const say = (socket, first, count) => {
    for (let i = first; i < first + count; i += 1) socket.send({ type: 'broadcast', data: i });
  };

  /** The next `count` broadcasts: what they say and their numbers. */
  async function hear(socket, count) {
    const heard = [];
    for (let i = 0; i < count; i += 1) {
      const { data, seq } = await socket.next('broadcast');
      heard.push([data, seq]);
    }
    return heard;
  }

  test('comes back through a network that broke, to its media and to what it missed', async () => {
    const room = 'raw';
    const relay = await Relay.to(server);
    network.push(relay);
    const listener = await server.enter(room);
    const far = await Peer.open(listener, 'consumer');
    const socket = await enter(room, relay);
    const other = await enter(room);
    const ssrc = newSsrc();
    const mouth = await Peer.raise(async (dtlsParameters) => {
      const transport = await ask(socket, 'create-transport');
      transport.iceCandidates = await Promise.all(transport.iceCandidates.map((one) => relay.candidate(one)));
      await ask(socket, 'connect-transport', { dtlsParameters });
      return transport;
    });
    peers.push(far, mouth);
    const { id } = await ask(socket, 'produce', { kind: 'audio', rtpParameters: opus({ ssrc }) });
    const heard = await consume(listener, id);
    ok(await listener.request('consumer:resume', { consumerId: heard.id }));
    const toFar = heard.rtpParameters.encodings[0].ssrc;
    mouth.speak(ssrc);
    await far.more(toFar);
    say(other, 1, 2);
    assert.deepEqual(await hear(socket, 2), [[1, 1], [2, 2]]);

    const logged = watched(server);
    relay.cut();
    await logged(KEPT);
    say(other, 3, 3);
    await server.settle(room, listener);
    relay.mend();
    const back = await open(socket.userId, { resume: socket.resume.token, lastSeq: 1 }, relay);
    const { data } = await back.next('resumed');
    const { resume, transports, ...rest } = data;
    assert.deepEqual(rest, { userId: socket.userId, room, producers: [id], consumers: [], missed: 4 });
    assert.equal(transports.length, 1);
    assert.equal(resume.graceMs, 20_000);
    assert.deepEqual(await hear(back, 4), [[2, 2], [3, 3], [4, 4], [5, 5]]);
    const { iceParameters } = await ask(back, 'restart-ice');
    await mouth.restartIce(iceParameters);
    await far.more(toFar, 25);
    say(other, 6, 1);
    assert.deepEqual(await hear(back, 1), [[6, 6]]);
    await server.settle(room, listener);
    unseen(socket, listener);
    await back.close();
    const left = await listener.next('room:userLeft', ({ userId }) => userId === socket.userId);
    assert.equal(left.reason, 'disconnected');
  });

  test('takes its place from a socket that is still there, once', async () => {
    const socket = await enter('raw-storm');
    const { token } = socket.resume;
    const rivals = await Promise.all(Array.from({ length: 4 }, () => open(socket.userId, { resume: token })));
    const first = await Promise.all(rivals.map((one) => one.take('a first frame', () => true)));
    assert.deepEqual(first.map(({ type }) => type).sort(), ['error', 'error', 'error', 'resumed']);
    for (const [i, { type, code }] of first.entries()) {
      if (type === 'resumed') continue;
      assert.equal(code, 'RESUME_EXPIRED');
      assert.equal((await rivals[i].end()).code, 4410);
    }
    assert.equal((await socket.end()).code, 4410);
  });

  test('that says goodbye, or asks for too much, does not come back', async () => {
    const socket = await enter('raw-bye');
    const gap = await open(socket.userId, { resume: socket.resume.token, lastSeq: 7 });
    const { code, details } = await gap.next('error');
    assert.deepEqual([code, details], ['RESUME_GAP', { lowest: 0, highest: 0 }]);
    await ask(socket, 'get-rtp-capabilities');
    const watcher = await server.enter('raw-bye');
    await socket.close();
    await watcher.next('room:userLeft', ({ userId }) => userId === socket.userId);
    const late = await open(socket.userId, { resume: socket.resume.token });
    assert.equal((await late.next('error')).code, 'RESUME_EXPIRED');
  });
});
