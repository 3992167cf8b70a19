import assert from 'node:assert/strict';
import test from 'node:test';
import { DAYS, opening } from '../src/hours.js';

const HOUR = 3_600_000;
/** 2026-01-05, a Monday, 00:00 UTC. */
const MONDAY = Date.UTC(2026, 0, 5);
const days = [...DAYS];

test('without hours it is always open', () => {
  assert.deepEqual(opening({ days }, 0, MONDAY), { open: true });
});

test('the first minute is open and the last one is not', () => {
  const at = (/** @type {number} */ ms) => opening({ hours: '09:00-17:00', days }, 0, MONDAY + ms);
  assert.deepEqual(at(9 * HOUR - 1), { open: false, until: MONDAY + 9 * HOUR });
  assert.deepEqual(at(9 * HOUR), { open: true, until: MONDAY + 17 * HOUR });
  assert.deepEqual(at(17 * HOUR), { open: false, until: MONDAY + 33 * HOUR });
});

test('hours over midnight belong to the day on which they begin', () => {
  const rule = { hours: '22:00-02:00', days: ['mon'] };
  assert.equal(opening(rule, 0, MONDAY + HOUR).open, false);
  const open = { open: true, until: MONDAY + 26 * HOUR };
  assert.deepEqual(opening(rule, 0, MONDAY + 23 * HOUR), open);
  assert.deepEqual(opening(rule, 0, MONDAY + 25 * HOUR), open);
  const week = 7 * 24 * HOUR;
  assert.deepEqual(opening(rule, 0, MONDAY + 26 * HOUR), { open: false, until: MONDAY + 22 * HOUR + week });
});

test('hours are local', () => {
  const rule = { hours: '00:00-24:00', days: ['mon'] };
  assert.equal(opening(rule, 120, MONDAY - 2 * HOUR).open, true);
  assert.equal(opening(rule, 120, MONDAY - 2 * HOUR - 1).open, false);
  assert.equal(opening(rule, -120, MONDAY + HOUR).open, false);
});
