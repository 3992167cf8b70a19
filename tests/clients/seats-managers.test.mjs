// The seats plugin: what managers may do, and nobody else.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { ok, refused } from './client.mjs';
import { produce, producing } from './media.mjs';
import { SEATED, newUser, start } from './server.mjs';

let server;
before(async () => { server = await start({ config: { plugins: SEATED } }); });
after(() => server?.stop());

const plugin = 'seats';
const refusedBySeats = (answer, error) => refused(answer, error, { plugin });

/** A manager, a seated user and a third: what they heard so far is forgotten. */
async function cast(room, seatIndex = 0) {
  const manager = await server.enter(room, { roles: ['moderator'] });
  const seated = await server.enter(room);
  const third = await server.enter(room);
  ok(await seated.request('seat:take', { seatIndex }));
  for (const client of [manager, seated, third]) {
    await client.next('seat:updated');
    client.forget();
  }
  return { manager, seated, third, all: [manager, seated, third] };
}

/** What a newcomer is shown of the room's seats. */
async function shown(room) {
  const visitor = await server.enter(room);
  visitor.close();
  return visitor.joined.plugins.seats;
}

/** Each of these clients is told this next, by this event. */
async function told(clients, event, payload) {
  for (const client of clients) assert.deepEqual(await client.next(event), payload);
}

describe('managing', () => {
  const requests = (userId) => ({
    'seat:assign': { userId, seatIndex: 5 },
    'seat:remove': { userId },
    'seat:mute': { userId },
    'seat:unmute': { userId },
    'seat:lock': { seatIndex: 6 },
    'seat:unlock': { seatIndex: 6 },
  });

  for (const roles of [undefined, [], ['member'], ['Moderator', 'ADMIN', 'owner '], ['seats']]) {
    test(`is not for ${JSON.stringify(roles ?? null)}`, async () => {
      const { seated, third } = await cast(`not-for-${newUser()}`);
      const guest = await server.enter(seated.room, { roles });
      for (const client of [guest, seated]) {
        for (const [event, fields] of Object.entries(requests(seated.userId))) {
          refusedBySeats(await client.request(event, fields), 'Not authorized');
        }
      }
      await server.settle(seated.room, third);
      assert.deepEqual(third.left().filter(([name]) => name.startsWith('seat:')), []);
    });
  }

  for (const role of ['owner', 'admin', 'moderator']) {
    test(`is for those with the role ${role}`, async () => {
      const { seated } = await cast(`for-${role}`);
      const manager = await server.enter(seated.room, { roles: ['member', role] });
      for (const [event, fields] of Object.entries(requests(seated.userId))) {
        // Removed or not, one who is not seated is told so.
        const answer = await manager.request(event, fields);
        if (!answer.success) refusedBySeats(answer, 'User is not seated');
      }
      assert.deepEqual(await shown(seated.room), { seatCount: 8, seats: [], lockedSeats: [] });
    });
  }

  test('needs a user id that is one', async () => {
    const { manager } = await cast('user-ids');
    for (const event of ['seat:assign', 'seat:remove', 'seat:mute', 'seat:unmute']) {
      for (const userId of [undefined, null, '7', -1, 1.5, 1e300, {}, [7]]) {
        const answer = await manager.request(event, { userId, seatIndex: 1 });
        refused(answer, 'INVALID_PAYLOAD', { plugin });
      }
    }
  });
});

describe('assigning a seat', () => {
  test('seats the user and is told to the room', async () => {
    const { manager, third, all } = await cast('assign');
    const { userId } = third;
    ok(await manager.request('seat:assign', { userId, seatIndex: 4 }));
    await told(all, 'seat:updated', { seatIndex: 4, userId, isMuted: false });
    await produce(third);
  });

  test('displaces the occupant, whose producers end', async () => {
    const { manager, seated, third, all } = await cast('displace', 2);
    const producerId = await produce(seated);
    ok(await manager.request('seat:assign', { userId: third.userId, seatIndex: 2 }));
    await told(all, 'seat:cleared', { seatIndex: 2, userId: seated.userId, reason: 'removed' });
    await told(all, 'seat:updated', { seatIndex: 2, userId: third.userId, isMuted: false });
    assert.equal((await third.next('audio:producerClosed')).producerId, producerId);
    const answer = await seated.request('audio:produce', await producing(seated));
    assert.equal(answer.code, 'SEAT_REQUIRED');
    assert.deepEqual((await shown('displace')).seats, [{ seatIndex: 2, userId: third.userId, isMuted: false }]);
  });

  test('moves a user who has another', async () => {
    const { manager, seated } = await cast('assign-move', 0);
    ok(await manager.request('seat:assign', { userId: seated.userId, seatIndex: 1 }));
    const seats = (await shown('assign-move')).seats;
    assert.deepEqual(seats, [{ seatIndex: 1, userId: seated.userId, isMuted: false }]);
  });

  test('that does not exist or is locked is refused', async () => {
    const { manager, third } = await cast('assign-not');
    const { userId } = third;
    for (const seatIndex of [-1, 8]) {
      refusedBySeats(await manager.request('seat:assign', { userId, seatIndex }), 'Invalid seat index');
    }
    ok(await manager.request('seat:lock', { seatIndex: 3 }));
    refusedBySeats(await manager.request('seat:assign', { userId, seatIndex: 3 }), 'Seat is locked');
  });

  test('to somebody who is not there is refused', async () => {
    const { manager } = await cast('assign-absent');
    const answer = await manager.request('seat:assign', { userId: newUser(), seatIndex: 3 });
    assert.equal(answer.success, false);
    assert.equal(answer.plugin, plugin);
    assert.equal((await shown('assign-absent')).seats.length, 1);
  });
});

describe('removing from a seat', () => {
  test('ends what the user is saying, and is told with its reason', async () => {
    const { manager, seated, all } = await cast('remove', 7);
    const producerId = await produce(seated);
    const { userId } = seated;
    ok(await manager.request('seat:remove', { userId }));
    await told(all, 'seat:cleared', { seatIndex: 7, userId, reason: 'removed' });
    for (const client of all) {
      assert.equal((await client.next('audio:producerClosed')).producerId, producerId);
    }
    refusedBySeats(await manager.request('seat:remove', { userId }), 'User is not seated');
  });

  test('of somebody who has none is refused', async () => {
    const { manager, third } = await cast('remove-none');
    for (const userId of [third.userId, manager.userId, newUser()]) {
      refusedBySeats(await manager.request('seat:remove', { userId }), 'User is not seated');
    }
  });
});

describe('muting a seat', () => {
  test('is told to the room, and undone by unmuting', async () => {
    const { manager, seated, all } = await cast('mute');
    const { userId } = seated;
    ok(await manager.request('seat:mute', { userId }));
    await told(all, 'seat:userMuted', { userId, isMuted: true });
    assert.deepEqual((await shown('mute')).seats, [{ seatIndex: 0, userId, isMuted: true }]);
    ok(await manager.request('seat:unmute', { userId }));
    await told(all, 'seat:userMuted', { userId, isMuted: false });
    assert.deepEqual((await shown('mute')).seats, [{ seatIndex: 0, userId, isMuted: false }]);
  });

  test('pauses the producer for everyone', async () => {
    const { manager, seated, all } = await cast('mute-producer');
    const { userId } = seated;
    const producerId = await produce(seated);
    ok(await manager.request('seat:mute', { userId }));
    await told(all, 'audio:producerPaused', { producerId, userId, byModerator: true });
    assert.equal((await seated.request('audio:selfUnmute', { producerId })).success, false);
    ok(await manager.request('seat:unmute', { userId }));
    await told(all, 'audio:producerResumed', { producerId, userId, byModerator: true });
  });

  test('survives moving to another seat', async () => {
    const { manager, seated, third } = await cast('mute-move', 0);
    const { userId } = seated;
    ok(await manager.request('seat:mute', { userId }));
    ok(await seated.request('seat:take', { seatIndex: 3 }));
    assert.deepEqual(await third.next('seat:updated'), { seatIndex: 3, userId, isMuted: true });
    const producerId = await produce(seated);
    assert.deepEqual(await third.next('audio:producerPaused'), { producerId, userId, byModerator: true });
    assert.equal((await seated.request('audio:selfUnmute', { producerId })).success, false);
  });

  test('of somebody without a seat is refused', async () => {
    const { manager, third } = await cast('mute-none');
    for (const event of ['seat:mute', 'seat:unmute']) {
      for (const userId of [third.userId, newUser()]) {
        refusedBySeats(await manager.request(event, { userId }), 'User is not seated');
      }
    }
  });
});

describe('locking a seat', () => {
  test('keeps people out until it is unlocked', async () => {
    const { manager, third, all } = await cast('lock');
    ok(await manager.request('seat:lock', { seatIndex: 1 }));
    await told(all, 'seat:locked', { seatIndex: 1, isLocked: true });
    refusedBySeats(await third.request('seat:take', { seatIndex: 1 }), 'Seat is locked');
    assert.deepEqual((await shown('lock')).lockedSeats, [1]);
    ok(await manager.request('seat:unlock', { seatIndex: 1 }));
    await told(all, 'seat:locked', { seatIndex: 1, isLocked: false });
    ok(await third.request('seat:take', { seatIndex: 1 }));
  });

  test('removes its occupant', async () => {
    const { manager, seated, all } = await cast('lock-occupied', 5);
    const producerId = await produce(seated);
    ok(await manager.request('seat:lock', { seatIndex: 5 }));
    await told(all, 'seat:cleared', { seatIndex: 5, userId: seated.userId, reason: 'removed' });
    await told(all, 'seat:locked', { seatIndex: 5, isLocked: true });
    assert.equal((await manager.next('audio:producerClosed')).producerId, producerId);
    refusedBySeats(await seated.request('seat:leave'), 'You are not seated');
  });

  test('twice, or unlocking one that is not locked, is refused', async () => {
    const { manager } = await cast('lock-twice');
    refusedBySeats(await manager.request('seat:unlock', { seatIndex: 2 }), 'Seat is not locked');
    ok(await manager.request('seat:lock', { seatIndex: 2 }));
    refusedBySeats(await manager.request('seat:lock', { seatIndex: 2 }), 'Seat is already locked');
  });

  test('that does not exist is refused', async () => {
    const { manager } = await cast('lock-none');
    for (const event of ['seat:lock', 'seat:unlock']) {
      for (const seatIndex of [-1, 8]) {
        refusedBySeats(await manager.request(event, { seatIndex }), 'Invalid seat index');
      }
    }
  });

  test('outlasts everybody who was there', async () => {
    const { manager, all } = await cast('lock-lasts');
    ok(await manager.request('seat:lock', { seatIndex: 4 }));
    for (const client of all) await client.leave();
    assert.deepEqual((await shown('lock-lasts')).lockedSeats, [4]);
  });
});
