// What needs RTP: first packets, speakers, and whether media flows. Through a
// real DTLS handshake with the server.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { ok } from './client.mjs';
import { consume, newSsrc, opus, produce } from './media.mjs';
import { Peer } from './peer.mjs';
import { start } from './server.mjs';

let server;
const peers = [];
before(async () => {
  // Long enough for the gaps of a busy machine not to pass for silence.
  server = await start({ config: { rooms: 'speaker_hold_ms = 1500' } });
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

/** Enters a room with a connected sending transport and a producer for each source. */
async function voice(room, { sources = ['mic'], ...options } = {}) {
  const client = await server.enter(room, options);
  const peer = await open(client, 'producer');
  const streams = {};
  for (const source of sources) {
    const ssrc = newSsrc();
    const producerId = await produce(client, { source, rtpParameters: opus({ ssrc }) });
    streams[source] = { ssrc, producerId };
  }
  return { client, peer, ...streams };
}

/** A listener's consumer: its id and the SSRC on which it is received. */
async function listen(client, producerId) {
  const { id, rtpParameters } = await consume(client, producerId);
  return { consumerId: id, ssrc: rtpParameters.encodings[0].ssrc };
}

describe('the first RTP packet', () => {
  test('is told once to the whole room, with its time', async () => {
    const listener = await server.enter('first');
    const { client, peer, mic } = await voice('first');
    const ear = await open(listener, 'consumer');
    const { consumerId, ssrc } = await listen(listener, mic.producerId);
    ok(await listener.request('consumer:resume', { consumerId }));
    const before = Date.now();
    peer.speak(mic.ssrc);
    for (const one of [client, listener]) {
      const { at, ...rest } = await one.next('audio:firstRtp');
      assert.deepEqual(rest, { producerId: mic.producerId, userId: client.userId });
      assert.ok(at >= before && at <= Date.now(), `${at}`);
    }
    await ear.more(ssrc, 25);
    peer.stop(mic.ssrc);
    peer.speak(mic.ssrc);
    await ear.more(ssrc, 10);
    await server.settle('first', client, listener);
    for (const one of [client, listener]) {
      assert.deepEqual(one.left().filter(([name]) => name === 'audio:firstRtp'), []);
    }
  });

  test('is each producer\'s own', async () => {
    const listener = await server.enter('first-each');
    const { peer, mic, music } = await voice('first-each', { sources: ['mic', 'music'] });
    peer.speak(music.ssrc);
    assert.equal((await listener.next('audio:firstRtp')).producerId, music.producerId);
    peer.speak(mic.ssrc);
    assert.equal((await listener.next('audio:firstRtp')).producerId, mic.producerId);
  });
});

describe('media', () => {
  /** A speaker with two streams and a listener with a consumer of each, both paused. */
  async function scene(room) {
    const sender = await voice(room, { sources: ['mic', 'music'] });
    const listener = await server.enter(room, { roles: ['admin'] });
    const ear = await open(listener, 'consumer');
    const mic = await listen(listener, sender.mic.producerId);
    const music = await listen(listener, sender.music.producerId);
    sender.peer.speak(sender.mic.ssrc);
    sender.peer.speak(sender.music.ssrc);
    return { sender, listener, ear, mic, music };
  }

  /** Of `silent` nothing more arrives while 25 packets of `flowing` do. */
  async function onlyFlows(ear, flowing, silent) {
    await ear.more(flowing, 5); // what was on its way
    const before = ear.packets(silent);
    await ear.more(flowing, 25);
    assert.equal(ear.packets(silent), before);
  }

  test('flows only to a consumer that its client has resumed', async () => {
    const { listener, ear, mic, music } = await scene('flows');
    ok(await listener.request('consumer:resume', { consumerId: mic.consumerId }));
    await onlyFlows(ear, mic.ssrc, music.ssrc);
    assert.equal(ear.packets(music.ssrc), 0);
    ok(await listener.request('consumer:resume', { consumerId: music.consumerId }));
    await ear.more(music.ssrc);
    ok(await listener.request('consumer:pause', { consumerId: mic.consumerId }));
    await onlyFlows(ear, music.ssrc, mic.ssrc);
    ok(await listener.request('consumer:resume', { consumerId: mic.consumerId }));
    await ear.more(mic.ssrc);
    ok(await listener.request('consumer:close', { consumerId: mic.consumerId }));
    await onlyFlows(ear, music.ssrc, mic.ssrc);
  });

  test('of a user who has muted themselves stops at the server', async () => {
    const { sender, listener, ear, mic, music } = await scene('muted');
    const { producerId } = sender.mic;
    for (const { consumerId } of [mic, music]) ok(await listener.request('consumer:resume', { consumerId }));
    await ear.more(mic.ssrc);
    ok(await sender.client.request('audio:selfMute', { producerId }));
    await onlyFlows(ear, music.ssrc, mic.ssrc);
    ok(await sender.client.request('audio:selfUnmute', { producerId }));
    await ear.more(mic.ssrc);
  });

  test('of a user whom a moderator has muted stops at the server, and theirs alone', async () => {
    const { sender, listener, ear, mic } = await scene('muted-by-moderator');
    const other = await voice('muted-by-moderator');
    const heard = await listen(listener, other.mic.producerId);
    other.peer.speak(other.mic.ssrc);
    for (const { consumerId } of [mic, heard]) ok(await listener.request('consumer:resume', { consumerId }));
    await ear.more(mic.ssrc);
    const { userId } = sender.client;
    ok(await listener.request('moderation:mute', { userId }));
    await onlyFlows(ear, heard.ssrc, mic.ssrc);
    const { producerId } = sender.mic;
    assert.equal((await sender.client.request('audio:selfUnmute', { producerId })).success, false);
    await onlyFlows(ear, heard.ssrc, mic.ssrc);
    ok(await listener.request('moderation:unmute', { userId }));
    await ear.more(mic.ssrc);
  });

  test('goes on when the producer is replaced under the same SSRC', async () => {
    const sender = await voice('replaced');
    const listener = await server.enter('replaced');
    const ear = await open(listener, 'consumer');
    sender.peer.speak(sender.mic.ssrc);
    await listener.next('audio:firstRtp');
    const producerId = await produce(sender.client, { rtpParameters: opus({ ssrc: sender.mic.ssrc }) });
    assert.equal((await listener.next('audio:firstRtp')).producerId, producerId);
    const { consumerId, ssrc } = await listen(listener, producerId);
    ok(await listener.request('consumer:resume', { consumerId }));
    await ear.more(ssrc);
  });
});

describe('who speaks', () => {
  const active = ({ userId, activeSpeakers }) => ({ userId, activeSpeakers });

  test('is told to the whole room, and that it fell silent', async () => {
    const listener = await server.enter('speaks');
    const { client, peer, mic } = await voice('speaks');
    const before = Date.now();
    peer.speak(mic.ssrc, -20);
    for (const one of [client, listener]) {
      const event = await one.next('speaker:active');
      assert.deepEqual(active(event), { userId: client.userId, activeSpeakers: [client.userId] });
      assert.ok(event.timestamp >= before && event.timestamp <= Date.now());
    }
    const { joined } = await server.enter('speaks');
    assert.deepEqual(joined.activeSpeakers, [client.userId]);
    peer.speak(mic.ssrc, -127);
    for (const one of [client, listener]) {
      assert.deepEqual(active(await one.next('speaker:active')), { userId: null, activeSpeakers: [] });
    }
    assert.deepEqual((await server.enter('speaks')).joined.activeSpeakers, []);
  });

  test('is told again only when it changes, the loudest first', async () => {
    const listener = await server.enter('changes');
    const [soft, loud] = [await voice('changes'), await voice('changes')];
    const [one, two] = [soft.client.userId, loud.client.userId];
    soft.peer.speak(soft.mic.ssrc, -40);
    assert.deepEqual(active(await listener.next('speaker:active')), { userId: one, activeSpeakers: [one] });
    loud.peer.speak(loud.mic.ssrc, -10);
    const both = await listener.next('speaker:active', ({ activeSpeakers }) => activeSpeakers.length === 2);
    assert.deepEqual(active(both), { userId: two, activeSpeakers: [two, one] });
    loud.peer.stop(loud.mic.ssrc);
    assert.deepEqual(active(await listener.next('speaker:active')), { userId: one, activeSpeakers: [one] });
    const told = listener.left().filter(([name]) => name === 'speaker:active');
    assert.deepEqual(told, []);
  });

  test('is nobody whose voice is below the threshold', async () => {
    const listener = await server.enter('threshold');
    const [quiet, loud] = [await voice('threshold'), await voice('threshold')];
    quiet.peer.speak(quiet.mic.ssrc, -90);
    await listener.next('audio:firstRtp');
    loud.peer.speak(loud.mic.ssrc, -20);
    const { userId } = loud.client;
    assert.deepEqual(active(await listener.next('speaker:active')), { userId, activeSpeakers: [userId] });
  });

  const ends = {
    'mutes themselves': ({ client, mic }) => client.request('audio:selfMute', { producerId: mic.producerId }),
    'closes the producer': ({ client, mic }) => client.request('producer:close', { producerId: mic.producerId }),
    'leaves': ({ client }) => client.leave(),
    'is disconnected': ({ client }) => client.close(),
  };
  for (const [name, end] of Object.entries(ends)) {
    test(`is not one who ${name}`, async () => {
      const room = `speaks-until-${name}`;
      const listener = await server.enter(room);
      const speaker = await voice(room);
      speaker.peer.speak(speaker.mic.ssrc);
      await listener.next('speaker:active', ({ userId }) => userId === speaker.client.userId);
      await end(speaker);
      assert.deepEqual(active(await listener.next('speaker:active')), { userId: null, activeSpeakers: [] });
    });
  }
});

describe('a peer that hangs up', () => {
  test('has its producers closed, and may open another transport', async () => {
    const listener = await server.enter('hangs-up');
    const { client, peer, mic } = await voice('hangs-up');
    peer.speak(mic.ssrc);
    await listener.next('audio:firstRtp');
    await peer.hangUp();
    const closed = { producerId: mic.producerId, userId: client.userId, source: 'mic', reason: 'transport_closed' };
    assert.deepEqual(await listener.next('audio:producerClosed'), closed);
    assert.deepEqual(await client.next('audio:producerClosed'), closed);
    const again = await open(client, 'producer');
    const ssrc = newSsrc();
    const producerId = await produce(client, { rtpParameters: opus({ ssrc }) });
    again.speak(ssrc);
    assert.equal((await listener.next('audio:firstRtp')).producerId, producerId);
  });

  test('on the receiving side has its consumers closed', async () => {
    const { client, mic } = await voice('hangs-up-too');
    const listener = await server.enter('hangs-up-too');
    const ear = await open(listener, 'consumer');
    await listen(listener, mic.producerId);
    await ear.hangUp();
    // Told to nobody: the place for another transport is what shows it.
    let answer;
    const limit = Date.now() + 10_000;
    do answer = await listener.request('transport:create', { type: 'consumer' });
    while (!answer.success && Date.now() < limit);
    ok(answer);
    assert.deepEqual(client.left().filter(([name]) => name !== 'room:userJoined'), []);
  });
});
