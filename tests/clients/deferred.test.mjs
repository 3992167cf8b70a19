// A room that forwards only those who speak: what `consumer:resume` answers, and what
// then comes by itself. Through a real DTLS handshake with the server.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { ok } from './client.mjs';
import { consume, newSsrc, opus, produce } from './media.mjs';
import { Peer } from './peer.mjs';
import { start } from './server.mjs';

let server;
const peers = [];
before(async () => {
  server = await start({ config: { rooms: 'max_active_speakers = 1\nmax_consumers_per_router = 2', media: 'workers = 2' } });
});
after(async () => {
  await Promise.all(peers.map((peer) => peer.close()));
  await server?.stop();
});

async function open(client, type) {
  const peer = await Peer.open(client, type);
  peers.push(peer);
  return peer;
}

async function voice(room) {
  const client = await server.enter(room);
  const peer = await open(client, 'producer');
  const ssrc = newSsrc();
  const producerId = await produce(client, { rtpParameters: opus({ ssrc }) });
  const level = (dbov) => peer.speak(ssrc, dbov);
  level(-127);
  return { producerId, talk: () => level(-20), fallSilent: () => level(-127) };
}

/** A listener who wants a producer: where it arrives, and what the answer said. */
async function listener(room, producerIds) {
  const client = await server.enter(room);
  const ear = await open(client, 'consumer');
  const streams = [];
  for (const producerId of producerIds) {
    const { id: consumerId, rtpParameters } = await consume(client, producerId);
    const answer = await client.request('consumer:resume', { consumerId });
    streams.push({ consumerId, ssrc: rtpParameters.encodings[0].ssrc, answer });
  }
  return { client, ear, streams };
}

describe('of a room with more producers than are forwarded', () => {
  test('a silent one is deferred and arrives when it speaks, whichever router its listeners are on', async () => {
    const [ada, ben] = [await voice('deferred'), await voice('deferred')];
    const audience = [];
    for (let i = 0; i < 2; i += 1) audience.push(await listener('deferred', [ada.producerId, ben.producerId]));
    for (const { streams } of audience) {
      for (const { answer } of streams) assert.deepEqual(answer, { success: true, data: { deferred: true } });
    }
    ada.talk();
    for (const { ear, streams: [first] } of audience) await ear.more(first.ssrc, 10);
    const late = await listener('deferred', [ada.producerId]);
    assert.deepEqual(late.streams[0].answer, { success: true });
    ada.fallSilent();
    ben.talk();
    for (const { ear, streams: [, second] } of audience) await ear.more(second.ssrc, 10);
  });

  test('one that its client has paused does not arrive by itself', async () => {
    const [ada] = [await voice('paused'), await voice('paused')];
    const one = await listener('paused', [ada.producerId]);
    const other = await listener('paused', [ada.producerId]);
    const [{ consumerId, ssrc }] = one.streams;
    ok(await one.client.request('consumer:pause', { consumerId }));
    ada.talk();
    await other.ear.more(other.streams[0].ssrc, 25);
    assert.equal(one.ear.packets(ssrc), 0);
    assert.deepEqual(await one.client.request('consumer:resume', { consumerId }), { success: true });
    await one.ear.more(ssrc, 10);
  });
});
