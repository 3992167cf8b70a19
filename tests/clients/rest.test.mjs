// Face 2: calls over REST. Every answer of this file is held against the server's
// OpenAPI description.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { Caller, Description } from './caller.mjs';
import { within } from './client.mjs';
import { bare, dtls, newSsrc, opus, speaker } from './media.mjs';
import { SEATED, newUser, seconds, sign, start } from './server.mjs';

let server;
let description;
before(async () => {
  server = await start({ config: { rooms: 'max_participants = 4' } });
  description = await Description.of(server);
});
after(() => server?.stop());

const caller = (options) => Caller.of(server, description, options);
let calls = 0;
const newCall = () => `call-${(calls += 1)}`;

const ROWS = {
  'RTC-01': ['GET', '/rtc/capabilities'],
  'RTC-02': ['POST', '/rtc/transports'],
  'RTC-03': ['POST', '/rtc/transports/{transportId}/connect'],
  'RTC-04': ['POST', '/rtc/producers'],
  'RTC-producers': ['GET', '/rtc/producers'],
  'RTC-05': ['POST', '/rtc/consumers'],
  'RTC-06': ['POST', '/rtc/consumers/{consumerId}/resume'],
  'RTC-07': ['DELETE', '/rtc/rooms/{callId}/cleanup'],
};
const filled = (template) => template.replaceAll(/\{\w+\}/g, randomUUID());

/** Checks that a request is refused with this status and code. */
async function refused(who, status, error, [method, template], options) {
  const answer = await who.request(method, template, options);
  assert.deepEqual([answer.status, answer.body.error], [status, error], JSON.stringify(answer.body));
  assert.equal(typeof answer.body.message, 'string');
  return answer.body;
}

/** A caller with a connected sending transport and a producer in a call. */
async function talker(callId = newCall(), options) {
  const who = await caller(options);
  const { transportId } = await who.transport(callId, 'send');
  await who.connect(transportId, dtls());
  const { producerId } = await who.produce(callId, transportId);
  return Object.assign(who, { callId, transportId, producerId });
}

describe('without a good token', () => {
  const tokens = {
    'no token': null,
    'nonsense': 'nonsense',
    'an expired token': sign({ id: 1, exp: seconds(-3600) }),
    'a token of another secret': sign({ id: 1 }, { secret: 'another secret, which is long enough too' }),
  };
  for (const [row, [method, template]] of Object.entries(ROWS)) {
    for (const [name, token] of Object.entries(tokens)) {
      test(`${row} is refused with ${name}, whatever else is wrong`, async () => {
        const who = await caller();
        const text = method === 'POST' ? '{' : undefined;
        const answer = await who.request(method, template, { path: filled(template), token, text });
        assert.deepEqual([answer.status, answer.body.error], [401, 'UNAUTHORIZED']);
        assert.equal(answer.headers.get('www-authenticate'), 'Bearer');
      });
    }
  }
});

describe('RTC-01', () => {
  test('gives the capabilities that rooms have', async () => {
    const { rtpCapabilities } = await (await caller()).capabilities();
    const { joined } = await server.enter('capabilities');
    assert.deepEqual(rtpCapabilities, joined.rtpCapabilities);
  });
});

describe('RTC-02', () => {
  const ROW = ROWS['RTC-02'];

  test('gives a transport of each direction', async () => {
    const [who, call] = [await caller(), newCall()];
    const [send, recv] = [await who.transport(call, 'send'), await who.transport(call, 'recv')];
    assert.notEqual(send.transportId, recv.transportId);
    assert.ok(send.iceCandidates.every((one) => one.ip === one.address));
    assert.equal(typeof send.iceParameters.usernameFragment, 'string');
    assert.ok(send.dtlsParameters.fingerprints.length > 0);
  });

  test('repeated gives the same transport, also when both come at once', async () => {
    const [who, call] = [await caller(), newCall()];
    const all = await Promise.all(Array.from({ length: 6 }, () => who.transport(call, 'send')));
    for (const one of all) assert.deepEqual(one, all[0]);
    await who.connect(all[0].transportId, dtls());
    assert.equal((await who.transport(call, 'send')).transportId, all[0].transportId);
  });

  test('makes one participant of a user, however many requests come', async () => {
    const watcher = await server.enter(newCall());
    const who = await caller({ name: 'Ada' });
    await Promise.all(['send', 'recv', 'send', 'recv'].map((direction) => who.transport(watcher.room, direction)));
    await who.producers(watcher.room);
    assert.deepEqual(await watcher.next('room:userJoined'), { userId: who.userId, name: 'Ada' });
    await server.settle(watcher.room, watcher);
    assert.deepEqual(watcher.left(), []);
  });

  const wrong = {
    'no call': { callId: undefined },
    'an empty call': { callId: '' },
    'a call of 129 characters': { callId: 'x'.repeat(129) },
    'a number for the call': { callId: 7 },
    'no direction': { direction: undefined },
    'another direction': { direction: 'both' },
    'a list for the direction': { direction: ['send'] },
    'another time of connection': { connectedWhen: 'never' },
  };
  for (const [name, fields] of Object.entries(wrong)) {
    test(`with ${name} is refused and names the field`, async () => {
      const text = JSON.stringify({ callId: 'wrong', direction: 'send', ...fields });
      const { details } = await refused(await caller(), 400, 'INVALID_PAYLOAD', ROW, { text });
      assert.deepEqual(details.map((one) => one.field), Object.keys(fields));
    });
  }

  const texts = { 'no body': '', 'half a body': '{"callId":', 'a list': '[]', 'null': 'null', 'depth': '['.repeat(60_000) };
  for (const [name, text] of Object.entries(texts)) {
    test(`with ${name} is refused`, async () => {
      await refused(await caller(), 400, 'INVALID_PAYLOAD', ROW, { text });
    });
  }

  test('with a body over the size of a frame is refused', async () => {
    const text = JSON.stringify({ callId: 'large', direction: 'send', more: 'x'.repeat(70_000) });
    await refused(await caller(), 413, 'PAYLOAD_TOO_LARGE', ROW, { text });
  });

  test('in a call that the token does not allow is forbidden', async () => {
    const token = sign({ id: newUser(), rooms: ['other'], exp: seconds(3600) });
    await refused(await caller({ token }), 403, 'FORBIDDEN', ROW, { body: { callId: newCall(), direction: 'send' } });
  });

  test('in a full room is refused, and again once there is room', async () => {
    const call = newCall();
    const guests = await Promise.all(Array.from({ length: 4 }, () => server.enter(call)));
    const who = await caller();
    await refused(who, 403, 'ROOM_IS_FULL', ROW, { body: { callId: call, direction: 'send' } });
    await guests[0].leave();
    await who.transport(call, 'send');
  });

  test('of a banned user gets the plugin\'s code', async () => {
    const call = newCall();
    const manager = await server.enter(call, { roles: ['moderator'] });
    const who = await caller();
    await manager.ask('moderation:ban', { userId: who.userId, seconds: 60 });
    const { plugin, details } = await refused(who, 403, 'BANNED', ROW, { body: { callId: call, direction: 'send' } });
    assert.equal(plugin, 'moderation');
    assert.equal(typeof details.until, 'number');
  });

  test('in too many calls at once is refused', async () => {
    const who = await caller();
    const names = Array.from({ length: 16 }, newCall);
    for (const call of names) await who.transport(call, 'send');
    await refused(who, 403, 'TOO_MANY_CALLS', ROW, { body: { callId: newCall(), direction: 'send' } });
    await who.cleanup(names[0], '?leave=true');
    await who.transport(newCall(), 'send');
  });
});

describe('RTC-03', () => {
  const ROW = ROWS['RTC-03'];
  const at = (transportId) => ({ path: `/rtc/transports/${transportId}/connect`, body: { dtlsParameters: dtls() } });

  test('connects a transport once', async () => {
    const who = await caller();
    const { transportId } = await who.transport(newCall(), 'recv');
    assert.deepEqual(await who.connect(transportId, dtls()), { connected: true });
    await refused(who, 409, 'ALREADY_CONNECTED', ROW, at(transportId));
  });

  test('finds the transport in whichever call of the user it is', async () => {
    const who = await caller();
    const made = [];
    for (let n = 0; n < 4; n += 1) made.push(await who.transport(newCall(), 'send'));
    for (const { transportId } of made) await who.connect(transportId, dtls());
  });

  test('of unknown transports and other people\'s is refused alike', async () => {
    const [call, other] = [newCall(), await caller()];
    const { transportId } = await other.transport(call, 'send');
    const who = await caller();
    await who.transport(call, 'send');
    const answers = [];
    for (const id of [transportId, randomUUID(), 'nonsense', 'é', '%00']) {
      answers.push(await refused(who, 404, 'TRANSPORT_NOT_FOUND', ROW, at(id)));
    }
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
    await other.connect(transportId, dtls());
  });

  test('of a user who is in no call is not found', async () => {
    await refused(await caller(), 404, 'TRANSPORT_NOT_FOUND', ROW, at(randomUUID()));
  });

  for (const [name, body] of Object.entries({ 'nothing': {}, 'no fingerprint': { dtlsParameters: { fingerprints: [] } }, 'a text': { dtlsParameters: 'x' } })) {
    test(`with ${name} is refused and changes nothing`, async () => {
      const who = await caller();
      const { transportId } = await who.transport(newCall(), 'send');
      const text = JSON.stringify(body);
      await refused(who, 400, 'INVALID_PAYLOAD', ROW, { path: `/rtc/transports/${transportId}/connect`, text });
      await who.connect(transportId, dtls());
    });
  }
});

describe('RTC-04', () => {
  const ROW = ROWS['RTC-04'];

  test('makes a producer that the others hear of', async () => {
    const call = newCall();
    const watcher = await server.enter(call);
    const who = await talker(call);
    const told = await watcher.next('audio:newProducer');
    assert.deepEqual(told, { producerId: who.producerId, userId: who.userId, kind: 'audio', source: 'mic' });
  });

  test('again replaces the producer', async () => {
    const call = newCall();
    const watcher = await server.enter(call);
    const who = await talker(call);
    const { producerId } = await who.produce(call, who.transportId);
    const closed = await watcher.next('audio:producerClosed');
    assert.deepEqual([closed.producerId, closed.reason], [who.producerId, 'replaced']);
    assert.deepEqual(await who.producers(call), { producers: [{ producerId, userId: who.userId }] });
  });

  test('in a call that is not there is not found', async () => {
    const body = { callId: newCall(), transportId: randomUUID(), kind: 'audio', rtpParameters: opus() };
    await refused(await caller(), 404, 'ROOM_NOT_FOUND', ROW, { body });
  });

  test('with a transport that is not one\'s own is not found, and makes nobody a member', async () => {
    const call = newCall();
    const watcher = await server.enter(call);
    const other = await talker(call);
    const who = await caller();
    for (const transportId of [other.transportId, randomUUID(), 'nonsense']) {
      const body = { callId: call, transportId, kind: 'audio', rtpParameters: opus() };
      await refused(who, 404, 'TRANSPORT_NOT_FOUND', ROW, { body });
    }
    await server.settle(call, watcher);
    assert.ok(!watcher.left().some(([, payload]) => payload.userId === who.userId));
  });

  test('over the receiving transport does not fit', async () => {
    const [who, call] = [await caller(), newCall()];
    const { transportId } = await who.transport(call, 'recv');
    const body = { callId: call, transportId, kind: 'audio', rtpParameters: opus() };
    await refused(who, 409, 'TRANSPORT_DIRECTION_MISMATCH', ROW, { body });
  });

  for (const kind of ['video', 'application', '']) {
    test(`of kind ${JSON.stringify(kind)} is not supported`, async () => {
      const [who, call] = [await caller(), newCall()];
      const { transportId } = await who.transport(call, 'send');
      const rtpParameters = { codecs: [{ mimeType: 'video/VP8', payloadType: 96, clockRate: 90000 }], encodings: [{ ssrc: 1 }] };
      const text = JSON.stringify({ callId: call, transportId, kind, rtpParameters });
      await refused(who, 400, 'UNSUPPORTED_KIND', ROW, { text });
    });
  }

  test('with wrong fields names them all', async () => {
    const text = JSON.stringify({ callId: 7, kind: 5, rtpParameters: { codecs: [] } });
    const { details } = await refused(await caller(), 400, 'INVALID_PAYLOAD', ROW, { text });
    const fields = details.map((one) => one.field).join(' ');
    for (const field of ['callId', 'transportId', 'kind', 'rtpParameters']) assert.ok(fields.includes(field), fields);
  });

  test('with a codec that the server has not is refused', async () => {
    const [who, call] = [await caller(), newCall()];
    const { transportId } = await who.transport(call, 'send');
    const rtpParameters = bare();
    rtpParameters.codecs[0] = { mimeType: 'audio/PCMU', payloadType: 0, clockRate: 8000, channels: 1 };
    await refused(who, 409, 'CANNOT_PRODUCE', ROW, { body: { callId: call, transportId, kind: 'audio', rtpParameters } });
  });
});

describe('GET /rtc/producers', () => {
  test('lists everybody\'s, of every face', async () => {
    const call = newCall();
    const socketio = await speaker(server, call);
    const who = await talker(call);
    const { producers } = await who.producers(call);
    assert.deepEqual(producers, [
      { producerId: socketio.producerId, userId: socketio.userId },
      { producerId: who.producerId, userId: who.userId },
    ]);
  });

  test('of a call that is not there is not found', async () => {
    const path = `/rtc/producers?callId=${newCall()}`;
    await refused(await caller(), 404, 'ROOM_NOT_FOUND', ROWS['RTC-producers'], { path });
  });

  for (const query of ['', '?callId=', `?callId=${'x'.repeat(129)}`, '?call=x']) {
    test(`with ${query.slice(0, 20) || 'no query'} is refused`, async () => {
      await refused(await caller(), 400, 'INVALID_PAYLOAD', ROWS['RTC-producers'], { path: `/rtc/producers${query}` });
    });
  }
});

describe('RTC-05 and RTC-06', () => {
  const ROW = ROWS['RTC-05'];

  /** A talker, and another caller with a receiving transport in its call. */
  async function pair() {
    const source = await talker();
    const who = await caller();
    const { transportId } = await who.transport(source.callId, 'recv');
    return { source, who, transportId, call: source.callId };
  }

  test('make a consumer, paused, and let it flow', async () => {
    const { source, who, transportId, call } = await pair();
    const { rtpCapabilities } = await who.capabilities();
    const consumer = await who.consume(call, transportId, source.producerId, { rtpCapabilities });
    assert.deepEqual([consumer.kind, consumer.producerPaused], ['audio', false]);
    assert.equal(consumer.rtpParameters.codecs[0].mimeType, 'audio/opus');
    assert.deepEqual(await who.resume(consumer.consumerId), { resumed: true });
    assert.deepEqual(await who.resume(consumer.consumerId), { resumed: true });
  });

  test('without capabilities take the server\'s', async () => {
    const { source, who, transportId, call } = await pair();
    const consumer = await who.consume(call, transportId, source.producerId);
    assert.equal(consumer.rtpParameters.codecs[0].mimeType, 'audio/opus');
  });

  test('of unknown things are not found', async () => {
    const { source, who, transportId, call } = await pair();
    const body = { callId: call, transportId, producerId: source.producerId };
    await refused(who, 404, 'PRODUCER_NOT_FOUND', ROW, { body: { ...body, producerId: randomUUID() } });
    await refused(who, 404, 'PRODUCER_NOT_FOUND', ROW, { body: { ...body, producerId: 'nonsense' } });
    await refused(who, 404, 'TRANSPORT_NOT_FOUND', ROW, { body: { ...body, transportId: source.transportId } });
    await refused(who, 404, 'TRANSPORT_NOT_FOUND', ROW, { body: { ...body, transportId: 'nonsense' } });
    await refused(who, 404, 'ROOM_NOT_FOUND', ROW, { body: { ...body, callId: newCall() } });
  });

  test('of a producer in another call are not found', async () => {
    const { who, transportId, call } = await pair();
    const elsewhere = await talker();
    const body = { callId: call, transportId, producerId: elsewhere.producerId };
    await refused(who, 404, 'PRODUCER_NOT_FOUND', ROW, { body });
  });

  test('with capabilities that do not fit are refused', async () => {
    const { source, who, transportId, call } = await pair();
    const body = { callId: call, transportId, producerId: source.producerId, rtpCapabilities: { codecs: [] } };
    await refused(who, 409, 'CANNOT_CONSUME', ROW, { body });
  });

  test('over the sending transport do not fit', async () => {
    const { source, who, call } = await pair();
    const { transportId } = await who.transport(call, 'send');
    const body = { callId: call, transportId, producerId: source.producerId };
    await refused(who, 409, 'TRANSPORT_DIRECTION_MISMATCH', ROW, { body });
  });

  test('of other people\'s consumers are not found', async () => {
    const { source, who, transportId, call } = await pair();
    const { consumerId } = await who.consume(call, transportId, source.producerId);
    for (const id of [consumerId, randomUUID(), 'nonsense']) {
      await refused(source, 404, 'CONSUMER_NOT_FOUND', ROWS['RTC-06'], { path: `/rtc/consumers/${id}/resume` });
    }
    await who.resume(consumerId);
  });
});

describe('RTC-07', () => {
  const ROW = ROWS['RTC-07'];

  test('lets go of all the caller\'s media, and of nobody else\'s', async () => {
    const call = newCall();
    const watcher = await server.enter(call);
    const source = await talker(call);
    const who = await talker(call);
    const { transportId } = await who.transport(call, 'recv');
    await who.consume(call, transportId, source.producerId);
    const released = { transports: 2, producers: 1, consumers: 1 };
    assert.deepEqual(await who.cleanup(call), { cleaned: true, released });
    const closed = await watcher.next('audio:producerClosed');
    assert.deepEqual([closed.producerId, closed.reason], [who.producerId, 'closed']);
    assert.deepEqual((await who.producers(call)).producers.map((one) => one.userId), [source.userId]);
    const none = { transports: 0, producers: 0, consumers: 0 };
    assert.deepEqual(await who.cleanup(call), { cleaned: true, released: none });
    await who.produce(call, (await who.transport(call, 'send')).transportId);
  });

  test('of somebody who is not in the call lets go of nothing and makes no member', async () => {
    const call = newCall();
    const watcher = await server.enter(call);
    const { released } = await (await caller()).cleanup(call);
    assert.deepEqual(released, { transports: 0, producers: 0, consumers: 0 });
    await server.settle(call, watcher);
    assert.deepEqual(watcher.left(), []);
  });

  test('with leave takes the caller out of the call', async () => {
    const call = newCall();
    const watcher = await server.enter(call);
    const who = await talker(call);
    await who.cleanup(call, '?leave=true');
    const left = await watcher.next('room:userLeft');
    assert.deepEqual(left, { userId: who.userId, reason: 'left' });
  });

  test('with leave, while the caller already asks for the next transport, makes them another member', async () => {
    const call = newCall();
    const who = await caller();
    for (let round = 0; round < 15; round += 1) {
      await who.transport(call, 'send');
      // While the first is done the others come; those behind the one that leaves find the next member.
      await Promise.all([
        who.transport(call, 'recv'),
        who.cleanup(call, '?leave=true'),
        ...Array.from({ length: 6 }, () => who.transport(call, 'send')),
      ]);
    }
    await who.produce(call, (await who.transport(call, 'send')).transportId);
  });

  test('of a call that is not there is not found', async () => {
    await refused(await caller(), 404, 'ROOM_NOT_FOUND', ROW, { path: `/rtc/rooms/${newCall()}/cleanup` });
  });

  test('in a call that the token does not allow is forbidden', async () => {
    const token = sign({ id: newUser(), rooms: ['other'], exp: seconds(3600) });
    await refused(await caller({ token }), 403, 'FORBIDDEN', ROW, { path: `/rtc/rooms/${newCall()}/cleanup` });
  });
});

describe('the description', () => {
  test('has every row of the protocol, by its id', () => {
    for (const [id, [method, path]] of Object.entries(ROWS)) {
      assert.equal(description.document.paths[path]?.[method.toLowerCase()]?.operationId, id);
    }
  });

  test('has nothing that is not there, and other methods of its paths are not', async () => {
    const { token } = await caller({ roles: ['admin'] });
    for (const [template, item] of Object.entries(description.document.paths)) {
      for (const method of ['GET', 'POST', 'DELETE', 'PUT']) {
        const headers = { authorization: `Bearer ${token}` };
        const answer = await server.fetch(filled(template), { method, headers });
        const there = ![404, 405].includes(answer.status) || (await answer.json().catch(() => ({}))).error !== undefined;
        assert.equal(there, method.toLowerCase() in item, `${method} ${template}: ${answer.status}`);
      }
    }
  });

  test('was followed by an answer of every operation of REST in this file', () => {
    const rtc = description.operations.filter((one) => one.includes('/rtc/'));
    assert.deepEqual([...description.used].sort(), rtc.sort());
  });
});

describe('a caller', () => {
  test('over its budget is refused, counted, and has its budget back in time', async () => {
    const own = await start({ config: { sessions: 'event_budget_capacity = 5\nevent_budget_refill_per_second = 50' } });
    try {
      const who = await Caller.of(own, description);
      const answers = await Promise.all(Array.from({ length: 40 }, () => who.request('GET', '/rtc/capabilities')));
      const limited = answers.filter((one) => one.status === 429);
      assert.ok(limited.length > 0 && limited.length < 40, `${limited.length}`);
      assert.equal(limited[0].body.error, 'RATE_LIMITED');
      assert.equal(limited[0].headers.get('retry-after'), '1');
      // Another user has a budget of its own.
      await (await Caller.of(own, description)).capabilities();
      const metrics = await (await own.fetch('/metrics')).text();
      assert.match(metrics, new RegExp(`^voice_room_refused_frames_total\\{reason="rate"\\} ${limited.length}$`, 'm'));
    } finally {
      await own.stop();
    }
  });

  test('without a seat may not produce where one is required, and may with one', async () => {
    const own = await start({ config: { plugins: SEATED } });
    try {
      const [who, call] = [await Caller.of(own, description), 'seated'];
      const { transportId } = await who.transport(call, 'send');
      const body = { callId: call, transportId, kind: 'audio', rtpParameters: opus() };
      const { plugin } = await refused(who, 403, 'SEAT_REQUIRED', ROWS['RTC-04'], { body });
      assert.equal(plugin, 'seats');
      const socket = await who.socket();
      socket.send({ type: 'seat:take', callId: call, payload: { seatIndex: 0 }, requestId: 1 });
      assert.notEqual((await socket.take('the answer', (one) => one.requestId === 1)).type, 'error');
      await who.produce(call, transportId);
      await socket.close();
    } finally {
      await own.stop();
    }
  });

  test('who goes silent is dropped, and not while ICE reaches it', async () => {
    const own = await start({ config: { sessions: 'rest_idle_ms = 300' } });
    try {
      const watcher = await own.enter('idle');
      const [silent, reached] = [await Caller.of(own, description), await Caller.of(own, description)];
      const peer = await reached.peer('idle', 'send');
      await silent.transport('idle', 'send');
      const left = await watcher.next('room:userLeft');
      assert.deepEqual(left, { userId: silent.userId, reason: 'disconnected' });
      // The other has been silent for as long by now, and is looked at again and again.
      const again = await Caller.of(own, description);
      await again.transport('idle', 'send');
      await watcher.next('room:userLeft', (one) => one.userId === again.userId);
      assert.ok(!watcher.left().some(([name, one]) => name === 'room:userLeft' && one.userId === reached.userId));
      await peer.close();
    } finally {
      await own.stop();
    }
  });

  test('hears the packets of another', async () => {
    const [a, b, call] = [await caller(), await caller(), newCall()];
    const sending = await a.peer(call, 'send');
    const receiving = await b.peer(call, 'recv');
    const ssrc = newSsrc();
    const { producerId } = await a.produce(call, sending.transportId, opus({ ssrc }));
    const { consumerId, rtpParameters } = await b.consume(call, receiving.transportId, producerId);
    sending.speak(ssrc);
    await b.resume(consumerId);
    await receiving.more(rtpParameters.encodings[0].ssrc);
    await Promise.all([sending.close(), receiving.close()]);
  });

  test('whose body never ends does not hold up the others', async () => {
    const { token } = await caller();
    const endless = new ReadableStream({ start(to) { to.enqueue(new TextEncoder().encode('{"callId":')); } });
    const given = new AbortController();
    const pending = server.fetch('/rtc/transports', {
      method: 'POST', headers: { authorization: `Bearer ${token}` }, body: endless, duplex: 'half', signal: given.signal,
    }).catch(() => 'given up');
    await (await caller()).capabilities();
    given.abort();
    assert.equal(await within(10_000, 'the end of the request', pending), 'given up');
  });
});
