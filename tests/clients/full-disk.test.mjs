// What becomes of money where nothing can be written: files that may not grow are what a full
// disk is to the server, and can be had without filling one.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { after, before, test } from 'node:test';

import { ok, refused, within } from './client.mjs';
import { newSsrc, opus, produce, producing } from './media.mjs';
import { Peer } from './peer.mjs';
import { OPEN_FLOOR, runToEnd, start } from './server.mjs';

const plugins = `${OPEN_FLOOR}
[[plugins]]
name = "billing"
`;
const TOPICS = ['media.first-rtp', 'billing.started', 'media.closed', 'billing.stopped'];
/** Facts before what is billed for them; what waits for the disk together may come in between. */
const ORDER = [
  ['media.first-rtp', 'billing.started'],
  ['media.first-rtp', 'media.closed'],
  ['media.closed', 'billing.stopped'],
  ['billing.started', 'billing.stopped'],
];

let careful;
let generous;
const peers = [];
before(async () => {
  careful = await start({ config: { plugins } });
  generous = await start({ config: { plugins, rooms: 'when_not_durable = "allow"' } });
});
after(async () => {
  await Promise.all(peers.map((peer) => peer.close()));
  await careful?.stop();
  await generous?.stop();
});

/** How far the files of a running server may grow from here on, in bytes. */
function letFilesGrow(server, size) {
  execFileSync('prlimit', ['--pid', server.pid, `--fsize=${size}:unlimited`]);
}

/** What `GET /ready` says, once it says so. */
function state(server, what, wanted) {
  const look = async () => {
    for (;;) {
      const body = await (await server.fetch('/ready')).json();
      if (wanted(body)) return body;
      await pause(50);
    }
  };
  return within(20_000, what, look());
}

/** Enters a room with a producer, and with a transport on which it can be heard. */
async function voice(server, room) {
  const client = await server.enter(room);
  const peer = await Peer.open(client, 'producer');
  peers.push(peer);
  const ssrc = newSsrc();
  return { client, peer, ssrc, producerId: await produce(client, { rtpParameters: opus({ ssrc }) }) };
}

/** The ledger's entries about these producers: `[topic, producer]`. */
async function booked(server, ...producers) {
  const { body } = await server.admin('/ledger?after=0&limit=1000');
  const ours = body.entries.filter((entry) => producers.includes(entry.producer));
  body.entries.forEach(({ seq }, nth) => assert.equal(seq, body.entries[0].seq + nth));
  return ours.map(({ topic, producer }) => [topic, producer]);
}

test('on a full disk calls go on, nobody begins what cannot be billed, and nothing is lost', async () => {
  const first = await voice(careful, 'full');
  first.peer.speak(first.ssrc);
  await first.client.next('audio:firstRtp');
  const second = await voice(careful, 'full');

  letFilesGrow(careful, 0);
  // It has been let in, so it is heard; what it costs waits for the disk.
  second.peer.speak(second.ssrc);
  await second.client.next('audio:firstRtp', ({ producerId }) => producerId === second.producerId);
  const full = await state(careful, 'a failing store', ({ degraded }) => degraded);
  assert.deepEqual([full.ready, full.store.state], [true, 'failing'], JSON.stringify(full));
  assert.equal((await careful.metrics()).get('voice_room_store_durable'), 0);

  const third = await careful.enter('full');
  refused(await third.request('audio:produce', await producing(third)), 'Server cannot save');
  // Running calls go on, to their end.
  ok(await second.client.request('producer:close', { producerId: second.producerId }));
  await third.next('audio:producerClosed', ({ producerId }) => producerId === second.producerId);

  letFilesGrow(careful, 'unlimited');
  const well = await state(careful, 'a store that writes again', ({ degraded }) => !degraded);
  assert.equal(well.store.state, 'durable');
  await produce(third);
  ok(await first.client.request('producer:close', { producerId: first.producerId }));
  const entries = async () => {
    let all;
    do all = await booked(careful, first.producerId, second.producerId);
    while (all.length < 2 * TOPICS.length && (await pause(50)) === undefined);
    return all;
  };
  const all = await within(20_000, 'all entries', entries());
  for (const { producerId } of [first, second]) {
    const topics = all.filter(([, producer]) => producer === producerId).map(([topic]) => topic);
    assert.deepEqual([...topics].sort(), [...TOPICS].sort());
    for (const [before, later] of ORDER) assert.ok(topics.indexOf(before) < topics.indexOf(later), topics.join());
  }
  const token = await careful.token({ roles: ['admin'] });
  const verified = await runToEnd(['ledger', 'verify', '--url', careful.url], { VOICE_ROOM_ADMIN_TOKEN: token });
  assert.equal(verified.code, 0, verified.stderr);
});

test('who would rather have callers than be certain of their money can say so', async () => {
  letFilesGrow(generous, 0);
  // Somebody comes, of which the ledger should know.
  const { client, peer, ssrc } = await voice(generous, 'generous');
  peer.speak(ssrc);
  await client.next('audio:firstRtp');
  await state(generous, 'a failing store', ({ degraded }) => degraded);
  const later = await generous.enter('generous');
  await produce(later);
  letFilesGrow(generous, 'unlimited');
  await state(generous, 'a store that writes again', ({ degraded }) => !degraded);
});
