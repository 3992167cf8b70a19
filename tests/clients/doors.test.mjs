// The plugin doors, which is JavaScript, in the real server.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { ok } from './client.mjs';
import { producing } from './media.mjs';
import { newUser, seconds, sign, start, temporary } from './server.mjs';

const DOORS = `
[[plugins]]
name = "doors"
grants = ["*"]

[[plugins.settings.rooms]]
room = "shut-*"
open = false

[[plugins.settings.rooms]]
room = "paid-*"
claims = { plan = ["pro", "team"] }

[[plugins.settings.rooms]]
room = "small-*"
capacity = [{ role = "*", places = 1 }]
waiting = { places = 5, seconds = 60 }

[[plugins.settings.rooms]]
room = "stage-*"
speakers = ["host", "guest"]
muted = ["guest"]
badges = [{ role = "guest", badge = "new" }]
`;

const owner = { roles: ['owner'] };

/** What a client is answered that may not. */
const joinRefused = async (client, room) => {
  const { success, code, details, plugin } = await client.send('room:join', { roomId: room });
  assert.equal(success, false);
  assert.equal(plugin, 'doors');
  return { code, details };
};

// One data directory for all: it has the compiled code, which takes long to make.
let data;
before(async () => { data = await temporary(); });
after(() => data.remove());
const open = (plugins = DOORS) => start({ config: { plugins }, dir: data.path });

describe('doors', () => {
  let server;
  before(async () => { server = await open(); });
  after(() => server?.stop());

  test('a room without a rule is open, and shows nothing of doors', async () => {
    const client = await server.enter('anywhere');
    assert.equal(client.joined.plugins?.doors, undefined);
  });

  test('doors that are shut open when staff says so, and the room hears of it', async () => {
    const staff = await server.enter('shut-1', owner);
    assert.deepEqual(staff.joined.plugins.doors, { open: false, staff: true });
    const guest = await server.connect();
    assert.equal((await joinRefused(guest, 'shut-1')).code, 'DOORS_CLOSED');
    assert.deepEqual(await staff.ask('doors:open'), { open: true });
    assert.deepEqual(await staff.next('doors:changed'), { open: true });
    const joined = await guest.join('shut-1');
    assert.deepEqual(joined.plugins.doors, { open: true, staff: false });
    assert.equal((await guest.request('doors:close')).code, 'STAFF_ONLY');
  });

  test('a wrong payload is answered by the name of the field', async () => {
    const staff = await server.enter('shut-2', owner);
    const answer = await staff.request('doors:close', { minutes: 'ten' });
    assert.equal(answer.code, 'INVALID_PAYLOAD');
    assert.equal(answer.details[0].field, 'minutes');
  });

  test('claims of the token are what counts', async () => {
    const claims = (more) => sign({ id: newUser(), exp: seconds(600), ...more });
    const free = await server.connect({ token: claims({ plan: 'free' }) });
    const details = { claim: 'plan', accepted: ['pro', 'team'] };
    assert.deepEqual(await joinRefused(free, 'paid-1'), { code: 'CLAIM_REQUIRED', details });
    const paid = await server.connect({ token: claims({ plan: 'team' }) });
    await paid.join('paid-1');
  });

  test('who waits gets the place that is given up, in order', async () => {
    const first = await server.enter('small-1');
    const [second, third] = [await server.connect(), await server.connect()];
    const position = async (client) => (await joinRefused(client, 'small-1')).details.position;
    assert.equal(await position(second), 1);
    assert.equal(await position(third), 2);
    await first.leave();
    assert.equal(await position(third), 2);
    await second.join('small-1');
    assert.equal(await position(third), 1);
  });

  test('only speakers speak, guests begin muted with a badge, and staff lets them speak', async () => {
    const staff = await server.enter('stage-1', owner);
    const listener = await server.enter('stage-1');
    const refusal = await listener.request('audio:produce', await producing(listener));
    assert.equal(refusal.code, 'NOT_A_SPEAKER');
    const guest = await server.enter('stage-1', { roles: ['guest'] });
    const { id } = await guest.ask('audio:produce', await producing(guest));
    const announced = await staff.next('audio:newProducer', ({ producerId }) => producerId === id);
    assert.deepEqual(announced.data, { doors: { badge: 'new' } });
    const newcomer = await server.enter('stage-1');
    const [existing] = newcomer.joined.existingProducers;
    assert.equal(existing.paused, true);
    ok(await staff.request('doors:unmute', { userId: guest.userId }));
    const resumed = await staff.next('audio:producerResumed');
    assert.deepEqual(resumed, { producerId: id, userId: guest.userId, byModerator: true });
  });
});

test('what staff has said about the doors survives a restart', async () => {
  const one = await open();
  const staff = await one.enter('shut-3', owner);
  await staff.ask('doors:open');
  await one.stop();
  const two = await open();
  await two.enter('shut-3');
  await two.stop();
});

test('a setting that is wrong keeps the server from starting, and is named', async () => {
  const plugins = DOORS.replace('claims = { plan', 'clams = { plan');
  await assert.rejects(open(plugins), /doors[^]*`rooms\[1\]\.clams`: is unknown/);
});
