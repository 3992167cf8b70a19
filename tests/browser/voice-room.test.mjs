import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Browser } from './browser.mjs';
import { until } from './poll.mjs';
import { Relay } from '../clients/relay.mjs';
import { Server } from './server.mjs';

const LIMIT = { timeout: 90_000 };
let browser;
let server;

before(async () => {
  [server, browser] = await Promise.all([Server.start(), Browser.launch()]);
}, LIMIT);

after(async () => {
  await browser?.close();
  await server?.discard();
}, LIMIT);

/** One room, one cast; screenshots where it fails. */
const scenario = (name, play) => test(name, LIMIT, () => browser.play(name, play));

/** When a room's bill began and ended, as the billing plugin has published it. */
async function billed(room) {
  const events = await server.published(room);
  return events.filter(({ topic }) => topic === 'billing.started' || topic === 'billing.stopped');
}

const topics = (events) => events.map(({ topic }) => topic);

scenario('a speaker is refused without a seat, heard with one, billed once and gone when the page closes', async (person) => {
  const room = 'first-words';
  const ana = await (await person()).join(server, room, 'Ana');
  const ben = await (await person()).join(server, room, 'Ben');
  await ana.see('person', 'Ben');
  await ben.see('person', 'Ana');
  const told = await ana.collect('audio:firstRtp');

  await ben.press('mic');
  await ben.see('toast', /^seats: \S+/);
  assert.equal(await ana.page.evaluate(() => window.voiceRoom.consumers.size), 0);

  await ben.press('seat-take', 2);
  await ana.see('seat', 'Ben');
  await ben.press('mic');
  await ben.see('own-status', 'You are live');
  const { packets, energy } = await ana.hears('Ben');
  assert.ok(packets > 25 && energy > 0);
  await ana.page.locator('[data-testid=person][data-speaking]', { hasText: 'Ben' }).waitFor();

  const closed = Date.now();
  await ben.page.close();
  await ana.part('person', 'Ben').waitFor({ state: 'detached', timeout: 2_000 });
  await ana.part('seat', 'Ben').waitFor({ state: 'detached', timeout: 2_000 });
  assert.ok(Date.now() - closed <= 2_000);
  assert.equal(await ana.page.evaluate(() => window.voiceRoom.consumers.size), 0);

  await until('the bill is closed', async () => topics(await billed(room)).includes('billing.stopped'));
  const [started, stopped, ...more] = await billed(room);
  assert.deepEqual([started.topic, stopped.topic, more], ['billing.started', 'billing.stopped', []]);
  for (const event of [started, stopped]) {
    assert.equal(event.plugin, 'billing');
    assert.ok(event.id && event.at && event.payload);
  }
  const [firstRtp, ...again] = await told();
  assert.deepEqual(again, []);
  assert.equal(typeof firstRtp.at, 'number');
  assert.equal(typeof firstRtp.producerId, 'string');
});

scenario('the first packet is told once to everyone in the room, the speaker included', async (person) => {
  const room = 'first-rtp';
  const ana = await (await person()).join(server, room, 'Ana');
  const ben = await (await person()).join(server, room, 'Ben');
  const told = await Promise.all([ana, ben].map((each) => each.collect('audio:firstRtp')));
  await ben.press('seat-take');
  await ben.see('own-status', 'You have seat 1');
  await ben.press('mic');
  await ana.hears('Ben');
  await ben.press('mic');
  await ana.seeVoice('Ben', 'muted');
  await ben.press('mic');
  await ana.seeVoice('Ben', 'live');
  await ana.hears('Ben, unmuted,');
  for (const events of told) assert.equal((await events()).length, 1);
});

scenario('who mutes is seen as muted and not heard, until they unmute', async (person) => {
  const room = 'self-mute';
  const ana = await (await person()).join(server, room, 'Ana');
  const ben = await (await person()).join(server, room, 'Ben');
  await ben.press('seat-take', 1);
  await ben.see('own-status', 'You have seat 2');
  await ben.press('mic');
  await ana.hears('Ben');

  await ben.press('mic');
  await ben.see('own-status', 'You are muted');
  await ana.seeVoice('Ben', 'muted');
  await ana.hearsNothing('Ben, muted,');

  await ben.press('mic');
  await ana.seeVoice('Ben', 'live');
  await ana.hears('Ben, unmuted,');
});

scenario('a manager’s mute is seen by both, cannot be lifted by the muted, and ends with the manager’s unmute', async (person) => {
  const room = 'manager-mute';
  const ana = await (await person()).join(server, room, 'Ana');
  const ben = await (await person()).join(server, room, 'Ben');
  await ben.press('seat-take', 1);
  await ben.see('own-status', 'You have seat 2');
  await ben.press('mic');
  await ana.hears('Ben');

  await ana.press('seat-mute', 1);
  await ana.seeVoice('Ben', 'held');
  await ben.see('own-status', 'A manager has muted you');
  await ana.hearsNothing('Ben, muted by a manager,');
  await ben.page.evaluate(() => {
    const { id } = window.voiceRoom.producers.get('mic');
    return window.voiceRoom.request('audio:selfUnmute', { producerId: id }).catch(() => undefined);
  });
  await ana.hearsNothing('Ben, who tried to unmute,');
  await ana.seeVoice('Ben', 'held');

  await ana.press('seat-mute', 1);
  await ben.see('own-status', 'You are live');
  await ana.seeVoice('Ben', 'live');
  await ana.hears('Ben, unmuted by the manager,');
});

scenario('what a guest may not do is refused in words, and what a manager does is seen by all', async (person) => {
  const room = 'managers';
  const ana = await (await person()).join(server, room, 'Ana');
  const ben = await (await person()).join(server, room, 'Ben');
  await ben.press('manage');
  await ben.press('seat-lock', 0);
  await ben.see('toast', 'seats: Not authorized');

  await ana.press('seat-lock', 0);
  await ben.see('seat-lock', 'Unlock');
  await ben.press('seat-take', 0);
  await ben.see('toast', 'seats: Seat is locked');

  await ben.press('seat-take', 3);
  await ana.see('seat', 'Ben');
  await ana.press('seat-remove', 3);
  await ben.see('own-status', 'Take a seat to speak');

  await ana.part('person', 'Ben').getByTestId('ban').click();
  await ana.press('ban-confirm');
  await ben.see('lobby-notice', /\S/);
  await ana.part('person', 'Ben').waitFor({ state: 'detached' });
  await ben.press('join');
  await ben.see('lobby-notice', /^moderation: /);
});

scenario('the keyboard alone is enough to join, take a seat, speak, mute and leave', async (person) => {
  const room = 'keyboard';
  const ana = await (await person()).join(server, room, 'Ana');
  const kim = await person();
  const { keyboard } = kim.page;
  await kim.page.goto(server.url);
  await kim.tabTo('name');
  await keyboard.type('Kim');
  await kim.tabTo('room');
  await keyboard.press('Control+A');
  await keyboard.type(room);
  await keyboard.press('Enter');
  await kim.see('stage');
  await ana.see('person', 'Kim');

  await kim.tabTo('seat-take');
  await keyboard.press('ArrowRight');
  await keyboard.press('Enter');
  await kim.see('own-status', 'You have seat 2');
  await kim.tabTo('mic');
  await keyboard.press('Space');
  await kim.see('own-status', 'You are live');
  await ana.seeVoice('Kim', 'live');
  await keyboard.press('Space');
  await kim.see('own-status', 'You are muted');
  await ana.seeVoice('Kim', 'muted');

  await kim.tabTo('leave-seat');
  await keyboard.press('Enter');
  await kim.see('own-status', 'Take a seat to speak');
  await ana.seeVoice('Kim', 'none');
  await kim.tabTo('leave-room', 'Shift+Tab');
  await keyboard.press('Enter');
  await kim.see('join');
  await ana.part('person', 'Kim').waitFor({ state: 'detached' });
});

test('a restart of the server is survived: pages come back, the seat and the voice with them', LIMIT, async () => {
  const own = await Server.start();
  try {
    await browser.play('restart', async (person) => {
      const ana = await (await person()).join(own, 'restart', 'Ana');
      const ben = await (await person()).join(own, 'restart', 'Ben');
      await ben.press('seat-take', 1);
      await ben.see('own-status', 'You have seat 2');
      await ben.press('mic');
      await ana.hears('Ben');

      assert.equal(await own.halt(), 0);
      await ana.see('connection', 'Reconnecting…');
      await own.launch();
      await ana.see('connection', 'Connected');
      await ben.see('own-status', 'You are live');
      await ana.seeVoice('Ben', 'live');
      await ana.hears('Ben, after the restart,');
      await ana.see('seat', 'Ben');
    });
  } finally {
    await own.discard();
  }
});

test('the server ends at SIGTERM with exit code 0, and has billed nobody twice', LIMIT, async () => {
  assert.equal(await server.halt(), 0);
  assert.deepEqual(topics(await billed('first-words')), ['billing.started', 'billing.stopped']);
});

test('a lost connection comes back before anybody missed it: the voice goes on, and what was missed is told', LIMIT, async () => {
  const own = await Server.start({
    VOICE_ROOM_SESSIONS__PING_INTERVAL_MS: '500',
    VOICE_ROOM_SESSIONS__PING_TIMEOUT_MS: '500',
    VOICE_ROOM_SESSIONS__RESUME_GRACE_MS: '60000',
  });
  const relay = await Relay.to(own);
  try {
    await browser.play('resume', async (person) => {
      const room = 'resume';
      const ana = await (await person()).join(own, room, 'Ana');
      const ben = await (await (await person()).behind(relay)).join({ url: `${relay.url}/` }, room, 'Ben');
      await ben.press('seat-take', 1);
      await ben.see('own-status', 'You have seat 2');
      await ben.press('mic');
      await ana.hears('Ben');
      const gone = await Promise.all(['room:userLeft', 'audio:producerClosed', 'seat:cleared'].map((name) => ana.collect(name)));
      const producer = () => ben.page.evaluate(() => window.voiceRoom.producers.get('mic')?.id);
      const before = await producer();

      relay.cut();
      await ben.see('connection', 'Reconnecting…');
      const cy = await (await person()).join(own, room, 'Cy');
      await cy.see('person', 'Ben');
      await ana.hearsNothing('Ben, who is cut off,');
      relay.mend();
      await ben.see('connection', 'Connected');
      await ben.see('own-status', 'You are live');
      await ben.see('person', 'Cy');
      await ana.hears('Ben, who is back,');
      await cy.hears('Ben, who is back,');
      assert.equal(await producer(), before);
      for (const events of gone) assert.deepEqual(await events(), []);
    });
  } finally {
    relay.close();
    await own.discard();
  }
});
