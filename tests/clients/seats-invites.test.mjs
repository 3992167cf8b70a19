// The seats plugin: invites, and the seat of who is disconnected. Both end by timers.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { ok, refused } from './client.mjs';
import { produce } from './media.mjs';
import { SEATED, newUser, start } from './server.mjs';

const SECONDS = 2;
const plugins = `${SEATED}grace_seconds = ${SECONDS}\ninvite_seconds = ${SECONDS}\n`;

let server;
before(async () => { server = await start({ config: { plugins } }); });
after(() => server?.stop());

const plugin = 'seats';
const take = (client, seatIndex) => client.request('seat:take', { seatIndex });

/** A manager, somebody who is invited to seat 4, and a third. */
async function invited(room) {
  const manager = await server.enter(room, { roles: ['moderator'] });
  const [guest, third] = [await server.enter(room), await server.enter(room)];
  const { userId } = guest;
  ok(await manager.request('seat:invite', { userId, seatIndex: 4 }));
  const pending = { seatIndex: 4, isPending: true, invitedUserId: userId };
  for (const client of [manager, guest, third]) {
    assert.deepEqual(await client.next('seat:invite:pending'), pending);
  }
  return { manager, guest, third, all: [manager, guest, third] };
}

const ended = (guest) => ({ seatIndex: 4, isPending: false, invitedUserId: guest.userId });

describe('an invite', () => {
  test('is told to the invited alone, and ends by itself at the time that it names', async () => {
    const { manager, guest, third, all } = await invited('invite');
    const { expiresAt, ...rest } = await guest.next('seat:invite:received');
    assert.deepEqual(rest, { seatIndex: 4, invitedById: manager.userId });
    for (const client of all) assert.deepEqual(await client.next('seat:invite:pending'), ended(guest));
    assert.ok(Date.now() >= expiresAt, `${expiresAt}`);
    assert.deepEqual(third.left().filter(([name]) => name === 'seat:invite:received'), []);
    refused(await guest.request('seat:invite:accept', { seatIndex: 4 }), 'No pending invite found', { plugin });
  });

  test('that is accepted unlocks the seat and takes it', async () => {
    const { manager, guest, third } = await invited('invite-accept');
    ok(await manager.request('seat:lock', { seatIndex: 4 }));
    await third.next('seat:locked');
    refused(await third.request('seat:invite:accept', { seatIndex: 4 }), 'No pending invite found', { plugin });
    ok(await guest.request('seat:invite:accept', { seatIndex: 4 }));
    assert.deepEqual(await third.next('seat:locked'), { seatIndex: 4, isLocked: false });
    assert.deepEqual(await third.next('seat:invite:pending'), ended(guest));
    assert.deepEqual(await third.next('seat:updated'), { seatIndex: 4, userId: guest.userId, isMuted: false });
    await produce(guest);
  });

  test('that is declined is over', async () => {
    const { guest, third } = await invited('invite-decline');
    ok(await guest.request('seat:invite:decline', { seatIndex: 4 }));
    assert.deepEqual(await third.next('seat:invite:pending'), ended(guest));
    refused(await guest.request('seat:invite:decline', { seatIndex: 4 }), 'No pending invite found', { plugin });
  });

  test('is refused by right, person, occupant and another invite', async () => {
    const { manager, guest, third } = await invited('invite-refused');
    ok(await take(third, 0));
    const invite = (client, userId, seatIndex) => client.request('seat:invite', { userId, seatIndex });
    refused(await invite(guest, third.userId, 1), 'Not authorized', { plugin });
    refused(await invite(manager, manager.userId, 1), 'Cannot invite yourself', { plugin });
    refused(await invite(manager, guest.userId, 0), 'Seat is already occupied', { plugin });
    refused(await invite(manager, third.userId, 4), 'Invite already pending for this seat', { plugin });
    refused(await invite(manager, newUser(), 1), 'User not in room', { plugin });
  });

  test('ends when the invited leaves', async () => {
    const { guest, third } = await invited('invite-leave');
    await guest.leave();
    assert.deepEqual(await third.next('seat:invite:pending'), ended(guest));
  });
});

describe('who is disconnected', () => {
  const lose = async (client, other) => {
    client.vanish();
    assert.deepEqual(await other.next('seat:cleared'), { seatIndex: 6, userId: client.userId });
  };

  test('and back in time sits where they sat', async () => {
    const [client, other] = [await server.enter('grace'), await server.enter('grace')];
    const { userId } = client;
    ok(await take(client, 6));
    await other.next('seat:updated');
    await lose(client, other);
    const back = await server.enter('grace', { userId });
    const seat = { seatIndex: 6, userId, isMuted: false };
    assert.deepEqual(await other.next('seat:updated'), seat);
    assert.deepEqual(back.joined.plugins.seats.seats, [seat]);
    await produce(back);
  });

  test('loses the seat to who takes it in the meantime', async () => {
    const [client, other] = [await server.enter('grace-taken'), await server.enter('grace-taken')];
    const { userId } = client;
    ok(await take(client, 6));
    await lose(client, other);
    ok(await take(other, 6));
    const back = await server.enter('grace-taken', { userId });
    assert.deepEqual(back.joined.plugins.seats.seats.map((seat) => seat.userId), [other.userId]);
  });

  test('and back too late has no seat', async () => {
    const room = 'grace-over';
    const [client, other] = [await server.enter(room), await server.enter(room)];
    const { userId } = client;
    ok(await take(client, 6));
    await lose(client, other);
    // An invite that begins after the disconnection ends after the right to the seat.
    const { guest, third } = await invited(room);
    assert.deepEqual(await third.next('seat:invite:pending'), ended(guest));
    const back = await server.enter(room, { userId });
    assert.deepEqual(back.joined.plugins.seats.seats, []);
  });
});
