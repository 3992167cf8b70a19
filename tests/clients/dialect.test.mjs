// A client that asks for the older dialect in its handshake: the same events and
// payloads, answers that are not wrapped.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { bare, dtls, newSsrc, opus, speaker } from './media.mjs';
import { Peer } from './peer.mjs';
import { SEATED, newUser, start } from './server.mjs';

let server;
before(async () => { server = await start(); });
after(() => server?.stop());

let rooms = 0;

/** A client of the dialect in a room, or in `null`. */
async function enter(room = `room-${(rooms += 1)}`, { at = server, protocol = 1, ...claims } = {}) {
  const userId = newUser();
  const token = await at.token({ userId, ...claims });
  const client = await at.connect({ auth: { token, protocol } });
  client.userId = userId;
  if (room !== null) {
    client.joined = await client.send('room:join', { roomId: room });
    client.room = room;
  }
  return client;
}

/** A client with a connected transport of this type. */
async function withTransport(type, ...args) {
  const client = await enter(...args);
  client.transport = (await client.request('transport:create', { type })).id;
  await client.request('transport:connect', { transportId: client.transport, dtlsParameters: dtls() });
  return client;
}

const producing = (client, fields) => (
  { transportId: client.transport, kind: 'audio', rtpParameters: opus(), ...fields }
);

async function refused(client, event, fields, error) {
  const answer = await client.request(event, fields);
  assert.equal(answer.error, error, JSON.stringify(answer));
  assert.equal(answer.success, undefined);
  return answer;
}

describe('answers', () => {
  test('are not wrapped: the join', async () => {
    const { joined } = await enter();
    assert.ok(joined.rtpCapabilities.codecs.length > 0);
    assert.deepEqual([joined.success, joined.error], [undefined, undefined]);
  });

  test('are not wrapped: transport, producer and consumer', async () => {
    const client = await withTransport('producer');
    const { id, ...more } = await client.request('audio:produce', producing(client));
    assert.match(id, /^[0-9a-f-]{36}$/);
    assert.deepEqual(more, {});
    const listener = await withTransport('consumer', client.room);
    const { rtpCapabilities } = listener.joined;
    const consumed = await listener.request('audio:consume', { transportId: listener.transport, producerId: id, rtpCapabilities });
    assert.deepEqual([consumed.producerId, consumed.kind], [id, 'audio']);
    assert.deepEqual(await listener.request('consumer:resume', { consumerId: consumed.id }), { success: true });
  });

  test('of plugins are not wrapped either', async () => {
    const client = await enter();
    assert.equal((await client.request('seat:take', { seatIndex: 1 })).error, undefined);
    assert.equal((await client.next('seat:updated')).userId, client.userId);
    await refused(client, 'seat:take', { seatIndex: 99 }, 'Invalid seat index');
  });

  for (const protocol of [2, '1', null, true]) {
    test(`are those of the protocol for the number ${JSON.stringify(protocol)}`, async () => {
      const { joined } = await enter(undefined, { protocol });
      assert.equal(joined.success, true);
    });
  }
});

describe('errors', () => {
  test('of a payload', async () => {
    const client = await enter();
    const { details } = await refused(client, 'audio:produce', { kind: 'video' }, 'Invalid payload');
    assert.ok(details.some((one) => one.field === 'kind'));
    assert.equal((await client.send('room:join', 7)).error, 'Invalid payload');
    await refused(client, 'transport:create', { type: 'other' }, 'Invalid payload');
  });

  test('of a transport that is not there, or in no room', async () => {
    const [client, outside] = [await enter(), await enter(null)];
    for (const one of [client, outside]) {
      const { transport: _, room, ...gone } = { transportId: randomUUID(), room: client.room };
      const at = { roomId: room, ...gone };
      const { rtpCapabilities } = client.joined;
      for (const [event, fields] of Object.entries({
        'audio:produce': { kind: 'audio', rtpParameters: opus() },
        'audio:consume': { producerId: randomUUID(), rtpCapabilities },
        'transport:connect': { dtlsParameters: dtls() },
        'transport:restartIce': {},
      })) {
        await refused(one, event, { ...at, ...fields }, 'Transport not found');
      }
    }
  });

  test('of producing, consuming, connecting and resuming', async () => {
    const client = await withTransport('producer');
    const rtpParameters = bare();
    rtpParameters.codecs[0] = { mimeType: 'audio/PCMU', payloadType: 0, clockRate: 8000, channels: 1 };
    await refused(client, 'audio:produce', producing(client, { rtpParameters }), 'Produce failed');
    await refused(client, 'transport:connect', { transportId: client.transport, dtlsParameters: dtls() }, 'Connect failed');
    await refused(client, 'consumer:resume', { consumerId: randomUUID() }, 'Resume failed');
    const listener = await withTransport('consumer', client.room);
    const { rtpCapabilities } = listener.joined;
    const wanted = { transportId: listener.transport, producerId: randomUUID(), rtpCapabilities };
    await refused(listener, 'audio:consume', wanted, 'Consume failed');
  });

  test('of a plugin that denies have its code and its words beside', async () => {
    const own = await start({ config: { plugins: SEATED } });
    try {
      const client = await withTransport('producer', 'seated', { at: own });
      const answer = await refused(client, 'audio:produce', producing(client), 'Produce failed');
      assert.deepEqual([answer.code, answer.plugin], ['SEAT_REQUIRED', 'seats']);
      await client.request('seat:take', { seatIndex: 0 });
      assert.ok((await client.request('audio:produce', producing(client))).id);
    } finally {
      await own.stop();
    }
  });

  test('of a flood and of a frame over the limit are of the dialect too', async () => {
    const client = await enter();
    const answers = await Promise.all(Array.from({ length: 400 }, () => client.request('nothing')));
    assert.ok(answers.some((one) => one.error === 'RATE_LIMITED'));
    const other = await enter();
    const { error } = await other.request('audio:produce', { x: 'x'.repeat(70_000) });
    assert.equal(error, 'Invalid payload');
    await other.disconnected;
  });
});

test('clients of both dialects hear each other', async () => {
  const [old, current] = [await enter('both'), await server.enter('both')];
  const peers = [];
  const raise = (type) => Peer.raise(async (dtlsParameters) => {
    const transport = await old.request('transport:create', { type });
    await old.request('transport:connect', { transportId: transport.id, dtlsParameters });
    old[type] = transport.id;
    return transport;
  });
  peers.push(await raise('producer'), await Peer.open(current, 'consumer'));
  const ssrc = newSsrc();
  const fields = { transportId: old.producer, kind: 'audio', rtpParameters: opus({ ssrc }) };
  const { id } = await old.request('audio:produce', fields);
  assert.equal((await current.next('audio:newProducer')).producerId, id);
  const { rtpCapabilities } = current.joined;
  const consumed = await current.ask('audio:consume', { transportId: current.receiving, producerId: id, rtpCapabilities });
  peers[0].speak(ssrc);
  await current.ask('consumer:resume', { consumerId: consumed.id });
  await peers[1].more(consumed.rtpParameters.encodings[0].ssrc);
  await speaker(server, 'both');
  assert.equal((await old.next('audio:newProducer')).kind, 'audio');
  for (const peer of peers) await peer.close();
});
