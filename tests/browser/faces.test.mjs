// A Socket.IO browser, a browser that uses REST and a raw WebSocket client in one
// room: everybody hears everybody, and the plugins see no difference.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

import { newSsrc, opus } from '../clients/media.mjs';
import { Peer } from '../clients/peer.mjs';
import { RawSocket } from '../clients/raw.mjs';
import { Browser, Person } from './browser.mjs';
import { until } from './poll.mjs';
import { Server } from './server.mjs';

const LIMIT = { timeout: 90_000 };
const ROOM = 'three-faces';
let browser;
let server;
let script;

before(async () => {
  const entry = fileURLToPath(new URL('rest-page.mjs', import.meta.url));
  const bundled = build({ entryPoints: [entry], bundle: true, write: false, format: 'iife' });
  [server, browser, { outputFiles: [{ text: script }] }] = await Promise.all([Server.start(), Browser.launch(), bundled]);
}, LIMIT);

after(async () => {
  await browser?.close();
  await server?.discard();
}, LIMIT);

/** A browser on the REST face. */
class Caller extends Person {
  /** A refusal is a status of HTTP, and its page has no icon. */
  static harmless = /the server responded with a status of 40[34]/;

  async enter(userId) {
    await this.page.goto(new URL('/health', server.url).href);
    await this.page.addScriptTag({ content: script });
    await this.page.evaluate(([token, call]) => window.enterOverRest(token, call), [await server.token(userId, 'Cay'), ROOM]);
    return this;
  }

  sit(seat) {
    return this.page.evaluate((index) => window.voiceRoom.sit(index), seat);
  }

  speak() {
    return this.page.evaluate(() => window.voiceRoom.speak());
  }

  receive(producerId) {
    return this.page.evaluate((id) => window.voiceRoom.receive(id), producerId);
  }

  async tone(frequency) {
    const frames = await this.page.evaluate((hertz) => window.tone(hertz), frequency);
    return frames.map((frame) => Buffer.from(frame));
  }
}

/** A client of the raw WebSocket, with an endpoint of its own behind it. */
async function overRawWebSocket(userId) {
  const socket = await RawSocket.open(server, `/socket?token=${await server.token(userId, 'Dee')}&room=${ROOM}`);
  const peer = await Peer.raise(async (dtlsParameters) => {
    const { data } = await socket.ask('create-transport');
    assert.equal((await socket.ask('connect-transport', { dtlsParameters })).type, 'transport-connected');
    return data;
  });
  return { socket, peer };
}

test('a browser on Socket.IO, one on REST and a raw WebSocket client hear each other', LIMIT, () => browser.play('three faces', async (person) => {
  const ana = await (await person()).join(server, ROOM, 'Ana');
  const cay = await (await person(Caller, { bypassCSP: true })).enter(1_002);
  const dee = await overRawWebSocket(1_003);
  try {
    // The same rule for all: no seat, no voice.
    await assert.rejects(cay.speak(), /seat/i);
    await cay.sit(1);
    const { data: rtpCapabilities } = await dee.socket.ask('get-rtp-capabilities');
    const ssrc = newSsrc();
    const produce = { kind: 'audio', rtpParameters: opus({ ssrc }) };
    assert.equal((await dee.socket.ask('produce', produce)).code, 'SEAT_REQUIRED');
    await dee.socket.ask('seat:take', { seatIndex: 2 });
    await ana.press('seat-take', 0);
    await ana.see('seat', 'Ana');

    await ana.press('mic');
    await ana.see('own-status', 'You are live');
    const producers = { cay: await cay.speak(), dee: (await dee.socket.ask('produce', produce)).data.id };
    dee.peer.speak(ssrc, -20, await cay.tone(660));
    await until('Ana receives both', () => ana.page.evaluate(() => window.voiceRoom.consumers.size === 2));
    const { data: { producerId: anas } } = await dee.socket.next('new-producer', (one) => one.data.producerId !== producers.cay);

    await Promise.all([cay.receive(anas), cay.receive(producers.dee)]);
    for (const [name, id] of Object.entries(producers)) await ana.hears(name, id);
    await cay.hears('Ana', anas);
    await cay.hears('Dee', producers.dee);
    for (const producerId of [anas, producers.cay]) {
      const { data } = await dee.socket.ask('consume', { rtpCapabilities, producerId });
      await dee.peer.more(data.rtpParameters.encodings[0].ssrc, 25);
    }
  } finally {
    await dee.socket.close();
    await dee.peer.close();
  }
  // To billing they are three voices like any other.
  const started = await until('all three are billed', async () => {
    const events = (await server.published(ROOM)).filter(({ topic }) => topic === 'billing.started');
    return events.length >= 3 && events;
  });
  assert.equal(new Set(started.map(({ payload }) => payload.userId)).size, 3);
  assert.equal(started.length, 3);
}));
