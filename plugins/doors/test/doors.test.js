import assert from 'node:assert/strict';
import test from 'node:test';
import { Stage, readManifest } from 'voice-room-plugin-sdk/testing';
import doors from '../src/plugin.js';

const manifest = readManifest(new URL('../plugin.toml', import.meta.url));

/** @typedef {{ [name: string]: import('voice-room-plugin-sdk').Json }} Settings */

/**
 * @param {Settings} rule
 * @param {Settings} [more]
 */
const stage = (rule, more = {}) =>
  new Stage(doors, { manifest, settings: { ...more, rooms: [{ room: 'club-*', ...rule }] } });

const HOUR = 3_600_000;
/** 2026-01-05, a Monday, 00:00 UTC. */
const MONDAY = Date.UTC(2026, 0, 5);
const guest = (/** @type {number} */ id) => ({ id, roles: ['guest'] });
const owner = { id: 1, roles: ['owner'] };

test('a room without a rule is open to everybody', () => {
  const on = stage({ open: false });
  assert.equal(on.join('lobby', guest(2)).refusal, undefined);
  assert.equal(on.join('club-1', guest(2)).refusal?.code, 'DOORS_CLOSED');
});

test('the first rule whose beginning fits is the room\'s', () => {
  const rooms = [{ room: 'club-vip', open: false }, { room: 'club-*' }, { room: '*', open: false }];
  const on = new Stage(doors, { manifest, settings: { rooms } });
  assert.equal(on.join('club-vip', guest(2)).refusal?.code, 'DOORS_CLOSED');
  assert.equal(on.join('club-7', guest(2)).refusal, undefined);
  assert.equal(on.join('lobby', guest(2)).refusal?.code, 'DOORS_CLOSED');
});

test('outside the hours only staff enters, and others are told when the doors open', () => {
  const on = stage({ hours: '09:00-17:30', days: ['mon', 'tue'] }, { utc_offset_minutes: 60 });
  on.now = MONDAY + 7 * HOUR;
  const details = { until: MONDAY + 8 * HOUR };
  assert.deepEqual(on.join('club-1', guest(2)).refusal?.details, details);
  assert.equal(on.join('club-1', owner).refusal, undefined);
  on.advance(HOUR);
  assert.equal(on.join('club-1', guest(2)).refusal, undefined);
});

test('a claim that the room requires must have an accepted value', () => {
  const on = stage({ claims: { plan: ['pro', 'team'] } });
  const { refusal } = on.join('club-1', { id: 2, claims: { plan: 'free' } });
  assert.deepEqual(refusal?.details, { claim: 'plan', accepted: ['pro', 'team'] });
  assert.equal(on.join('club-1', { id: 3 }).refusal?.code, 'CLAIM_REQUIRED');
  assert.equal(on.join('club-1', { id: 4, claims: { plan: 'team' } }).refusal, undefined);
  assert.equal(on.join('club-1', { id: 5, claims: { plan: ['x', 'pro'] } }).refusal, undefined);
});

test('places are counted per role, and staff takes none', () => {
  const on = stage({ capacity: [{ role: 'guest', places: 1 }, { role: '*', places: 1 }] });
  const first = on.join('club-1', guest(2));
  const { refusal } = on.join('club-1', guest(3));
  assert.equal(refusal?.code, 'ROOM_FULL');
  assert.deepEqual(refusal?.details, { role: 'guest', places: 1 });
  assert.equal(on.join('club-1', { id: 4, roles: ['member'] }).refusal, undefined);
  assert.equal(on.join('club-1', { id: 5, roles: ['member'] }).refusal?.code, 'ROOM_FULL');
  assert.equal(on.join('club-1', owner).refusal, undefined);
  on.leave(first);
  assert.equal(on.join('club-1', guest(3)).refusal, undefined);
  assert.equal(on.counters.refused_full, 2);
});

test('places are those of one room', () => {
  const on = stage({ capacity: [{ role: '*', places: 1 }] });
  assert.equal(on.join('club-1', guest(2)).refusal, undefined);
  assert.equal(on.join('club-1/a', guest(3)).refusal, undefined);
});

test('who reconnects is let in beside their lost connection', () => {
  const on = stage({ capacity: [{ role: '*', places: 1 }] });
  on.join('club-1', guest(2));
  assert.equal(on.join('club-1', guest(2)).refusal, undefined);
});

test('places survive the loss of the instance, and not the loss of the room', () => {
  const on = stage({ capacity: [{ role: '*', places: 1 }] });
  on.join('club-1', guest(2));
  on.replaceInstance();
  assert.equal(on.join('club-1', guest(3)).refusal?.code, 'ROOM_FULL');
  on.restartServer();
  assert.equal(on.join('club-1', guest(3)).refusal, undefined);
});

test('who waits is admitted in order', () => {
  const waiting = { places: 2, seconds: 30 };
  const on = stage({ capacity: [{ role: '*', places: 1 }], waiting });
  const first = on.join('club-1', guest(2));
  const details = { position: 1, askAgainWithinMs: 30_000 };
  assert.deepEqual(on.join('club-1', guest(3)).refusal?.details, details);
  assert.deepEqual(on.join('club-1', guest(4)).refusal?.details, { ...details, position: 2 });
  assert.equal(on.join('club-1', guest(5)).refusal?.code, 'ROOM_FULL');
  on.leave(first);
  assert.deepEqual(on.join('club-1', guest(4)).refusal?.details, { ...details, position: 2 });
  assert.equal(on.join('club-1', guest(3)).refusal, undefined);
  assert.deepEqual(on.join('club-1', guest(4)).refusal?.details, details);
});

test('who does not ask again in time loses their position', () => {
  const waiting = { places: 5, seconds: 30 };
  const on = stage({ capacity: [{ role: '*', places: 1 }], waiting });
  const first = on.join('club-1', guest(2));
  on.join('club-1', guest(3));
  on.advance(20_000);
  on.join('club-1', guest(4));
  on.advance(20_000);
  on.leave(first);
  assert.equal(on.join('club-1', guest(4)).refusal, undefined);
});

test('only speakers speak', () => {
  const on = stage({ speakers: ['host'] });
  const listener = on.join('club-1', guest(2));
  assert.equal(on.produce(listener).refusal?.code, 'NOT_A_SPEAKER');
  assert.equal(on.produce(on.join('club-1', { id: 3, roles: ['host'] })).refusal, undefined);
  assert.equal(on.produce(on.join('club-1', owner)).refusal, undefined);
});

test('guests begin muted, with their badge, until staff lets them speak', () => {
  const on = stage({ muted: ['guest'], badges: [{ role: 'guest', badge: 'new' }] });
  const staff = on.join('club-1', owner);
  const visitor = on.join('club-1', guest(2));
  const [mic, music] = [on.produce(visitor), on.produce(visitor, 'music')];
  assert.deepEqual(mic.amendment, { muted: true, attach: { badge: 'new' } });
  on.closeProducer(music);
  assert.equal(on.command(visitor, 'doors:unmute', { userId: 2 }).refusal?.code, 'STAFF_ONLY');
  const { actions } = on.command(staff, 'doors:unmute', { userId: 2 });
  assert.deepEqual(actions, [{ unmute: { producer: mic.producer?.id } }]);
  const again = on.produce(visitor);
  assert.deepEqual(again.amendment, { muted: false, attach: { badge: 'new' } });
  assert.deepEqual(again.actions, [{ unmute: { producer: again.producer?.id } }]);
  assert.equal(on.produce(staff).amendment, undefined);
  assert.equal(on.command(staff, 'doors:unmute', { userId: 9 }).refusal?.code, 'NOT_IN_ROOM');
  on.leave(visitor);
  on.leave(staff);
  assert.deepEqual(on.stored, {});
});

test('who was let speak is not after a server was killed and the room begins anew', () => {
  const on = stage({ muted: ['guest'] });
  const staff = on.join('club-1', owner);
  on.join('club-1', guest(2));
  on.command(staff, 'doors:unmute', { userId: 2 });
  on.restartServer();
  assert.deepEqual(on.produce(on.join('club-1', guest(2))).amendment, { muted: true });
});

test('also where more were let speak than a room forgets at its end', () => {
  const on = stage({ muted: ['guest'] });
  const staff = on.join('club-1', owner);
  const visitors = Array.from({ length: 300 }, (_, index) => on.join('club-1', guest(100 + index)));
  for (const { user } of visitors) on.command(staff, 'doors:unmute', { userId: user.id });
  for (const visitor of visitors) on.leave(visitor);
  on.leave(staff);
  for (const { user } of visitors) {
    assert.deepEqual(on.produce(on.join('club-1', user)).amendment, { muted: true });
  }
});

test('a permission to speak ends after a day, also where the room is never opened again', () => {
  const on = stage({ muted: ['guest'] });
  const staff = on.join('club-1', owner);
  on.join('club-1', guest(2));
  on.command(staff, 'doors:unmute', { userId: 2 });
  on.restartServer();
  on.advance(24 * HOUR);
  assert.deepEqual(on.stored, {});
});

test('staff opens and closes the doors, also over a restart, and returns to the rule', () => {
  const on = stage({ open: false });
  const staff = on.join('club-1', owner);
  assert.deepEqual(staff.shown, { open: false, staff: true });
  const { actions } = on.command(staff, 'doors:open');
  assert.deepEqual(actions, [{ emitToRoom: { event: 'doors:changed', payload: { open: true } } }]);
  on.restartServer();
  assert.deepEqual(on.join('club-1', guest(2)).shown, { open: true, staff: false });
  const again = on.join('club-1', owner);
  assert.deepEqual(on.command(again, 'doors:auto').data, { open: false });
  assert.equal(on.join('club-1', guest(3)).refusal?.code, 'DOORS_CLOSED');
});

test('doors that are closed for a time open by themselves', () => {
  const on = stage({});
  const staff = on.join('club-1', owner);
  const until = on.now + 10 * 60_000;
  assert.deepEqual(on.command(staff, 'doors:close', { minutes: 10 }).data, { open: false, until });
  assert.deepEqual(on.join('club-1', guest(2)).refusal?.details, { until });
  on.advance(10 * 60_000);
  assert.equal(on.join('club-1', guest(2)).refusal, undefined);
});

test('a command with a wrong payload is refused by the field\'s name', () => {
  const on = stage({});
  const staff = on.join('club-1', owner);
  const { refusal } = on.command(staff, 'doors:close', { minutes: 0 });
  assert.equal(refusal?.code, 'INVALID_PAYLOAD');
  assert.deepEqual(refusal?.details, [
    { field: 'minutes', problem: `must be a whole number, at least 1, at most ${60 * 24 * 30}, not 0` },
  ]);
});

test('a wrong setting is named', () => {
  const wrong = (/** @type {Settings} */ rule, /** @type {RegExp} */ message) =>
    assert.throws(() => stage(rule), message);
  wrong({ hours: '9-17' }, /settings: `rooms\[0\]\.hours`: must be two times such as `09:00-17:30`/);
  wrong({ hours: '09:00-24:30' }, /`rooms\[0\]\.hours`: has a time that is not from 00:00 to 24:00/);
  wrong({ days: ['noday'] }, /`rooms\[0\]\.days\[0\]`: must be one of "thu", /);
  wrong({ capcity: [] }, /`rooms\[0\]\.capcity`: is unknown; known are room, open, /);
  wrong({ claims: { plan: 'pro' } }, /`rooms\[0\]\.claims\.plan`: must be a list, not "pro"/);
  wrong({ waiting: { places: 1 } }, /`rooms\[0\]\.waiting\.seconds`: is missing/);
  const twice = [{ role: '*', places: 1 }, { role: '*', places: 2 }];
  wrong({ capacity: twice }, /`rooms\[0\]\.capacity`: names a role twice/);
  const many = [{ role: 'a', places: 500 }, { role: '*', places: 500 }];
  wrong({ capacity: many }, /`rooms\[0\]\.capacity`: has more than 900 places/);
  assert.throws(() => stage({}, { utc_offset_minutes: 0.5 }), /settings: `utc_offset_minutes`/);
});
