// People on different faces share a room and hear each other, and plugins see no
// difference between them.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Caller, Description } from './caller.mjs';
import { newSsrc, opus } from './media.mjs';
import { Peer } from './peer.mjs';
import { RawSocket } from './raw.mjs';
import { SEATED, newUser, start } from './server.mjs';

const ROOM = 'shared';

let server;
let description;
before(async () => {
  server = await start({ config: { plugins: SEATED } });
  description = await Description.of(server);
});
after(() => server?.stop());

// Each face: how a person comes in, sits down, sends and receives. All are
// `{userId, sit(index), send(), receive(producerId), heardOf(producerId)}`.

async function overSocketIo(roles) {
  const client = await server.enter(ROOM, { roles });
  const [sending, receiving] = [await Peer.open(client, 'producer'), await Peer.open(client, 'consumer')];
  const ssrc = newSsrc();
  return {
    userId: client.userId,
    client,
    peers: [sending, receiving],
    speak: () => sending.speak(ssrc),
    sit: (seatIndex) => client.request('seat:take', { seatIndex }),
    async send() {
      const fields = { transportId: client.sending, kind: 'audio', rtpParameters: opus({ ssrc }) };
      const { success, data, code } = await client.request('audio:produce', fields);
      return success ? { producerId: data.id } : { code };
    },
    heardOf: (id) => client.next('audio:newProducer', (one) => one.producerId === id),
    seated: (userId) => client.next('seat:updated', (one) => one.userId === userId),
    async receive(producerId) {
      const { rtpCapabilities } = client.joined;
      const consumed = await client.ask('audio:consume', { transportId: client.receiving, producerId, rtpCapabilities });
      await client.ask('consumer:resume', { consumerId: consumed.id });
      await receiving.more(consumed.rtpParameters.encodings[0].ssrc);
    },
  };
}

async function overRest() {
  const who = await Caller.of(server, description);
  const [sending, receiving] = [await who.peer(ROOM, 'send'), await who.peer(ROOM, 'recv')];
  const [socket, ssrc] = [await who.socket(), newSsrc()];
  return {
    userId: who.userId,
    socket,
    peers: [sending, receiving],
    speak: () => sending.speak(ssrc),
    async sit(seatIndex) {
      socket.send({ type: 'seat:take', callId: ROOM, payload: { seatIndex }, requestId: 'sit' });
      await socket.take('the answer', (one) => one.requestId === 'sit');
    },
    async send() {
      const body = { callId: ROOM, transportId: sending.transportId, kind: 'audio', rtpParameters: opus({ ssrc }) };
      const answer = await who.request('POST', '/rtc/producers', { body });
      assert.ok([201, 403].includes(answer.status), `${answer.status}`);
      return answer.status === 201 ? answer.body : { code: answer.body.error };
    },
    heardOf: (id) => socket.next('new_producer', (one) => one.payload.producerId === id),
    seated: (userId) => socket.next('seat:updated', (one) => one.payload.userId === userId),
    async receive(producerId) {
      const consumed = await who.consume(ROOM, receiving.transportId, producerId);
      await who.resume(consumed.consumerId);
      await receiving.more(consumed.rtpParameters.encodings[0].ssrc);
    },
  };
}

async function overRawWebSocket() {
  const userId = newUser();
  const socket = await RawSocket.open(server, `/socket?token=${await server.token({ userId })}&room=${ROOM}`);
  const peer = await Peer.raise(async (dtlsParameters) => {
    const { data } = await socket.ask('create-transport');
    assert.equal((await socket.ask('connect-transport', { dtlsParameters })).type, 'transport-connected');
    return data;
  });
  const ssrc = newSsrc();
  return {
    userId,
    socket,
    peers: [peer],
    speak: () => peer.speak(ssrc),
    sit: (seatIndex) => socket.ask('seat:take', { seatIndex }),
    async send() {
      const { type, data, code } = await socket.ask('produce', { kind: 'audio', rtpParameters: opus({ ssrc }) });
      return type === 'produced' ? { producerId: data.id } : { code };
    },
    heardOf: (id) => socket.next('new-producer', (one) => one.data.producerId === id),
    seated: (userId) => socket.next('seat:updated', (one) => one.data.userId === userId),
    async receive(producerId) {
      const { data: rtpCapabilities } = await socket.ask('get-rtp-capabilities');
      const { data } = await socket.ask('consume', { rtpCapabilities, producerId });
      await peer.more(data.rtpParameters.encodings[0].ssrc);
    },
  };
}

test('three people on three faces sit down, speak and hear each other', async () => {
  const everyone = [await overSocketIo(), await overRest(), await overRawWebSocket()];
  for (const [n, one] of everyone.entries()) {
    // The same rule for all: no seat, no voice.
    assert.deepEqual(await one.send(), { code: 'SEAT_REQUIRED' });
    await one.sit(n);
    for (const other of everyone) await other.seated(one.userId);
    one.producerId = (await one.send()).producerId;
    assert.ok(one.producerId, `the producer of ${n}`);
    one.speak();
  }
  for (const one of everyone) {
    for (const other of everyone.filter((each) => each !== one)) {
      await one.heardOf(other.producerId);
      await one.receive(other.producerId);
    }
  }
  // A moderator on one face silences people on the others.
  const manager = await server.enter(ROOM, { roles: ['moderator'] });
  const [, rest, raw] = everyone;
  for (const { userId } of [rest, raw]) {
    await manager.ask('moderation:kick', { userId });
    await manager.next('room:userLeft', (left) => left.userId === userId);
  }
  await rest.socket.next('call_end');
  assert.equal((await raw.socket.end()).code, 4403);
  await rest.socket.close();
  for (const peer of everyone.flatMap((one) => one.peers)) await peer.close();
});

describe('the same user on several faces', () => {
  test('is one user with several participants', async () => {
    const watcher = await server.enter('several');
    const userId = newUser();
    const client = await server.enter('several', { userId });
    const who = await Caller.of(server, description, { userId });
    await who.transport('several', 'recv');
    const raw = await RawSocket.open(server, `/socket?token=${await server.token({ userId })}&room=several`);
    await raw.next('test');
    await raw.close();
    await who.cleanup('several', '?leave=true');
    client.close();
    assert.equal((await watcher.next('room:userLeft')).userId, userId);
    const joined = watcher.left().filter(([name, one]) => name === 'room:userJoined' && one.userId === userId);
    assert.equal(joined.length, 1);
  });
});
