import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RequestError } from '../src/protocol';
import { explain, explainEnd, notice, timeOf } from '../src/words';
import { ANA, BEN, room } from './room';

test('a refusal is told in its own words, with the name of the plugin', () => {
  const refusal = new RequestError('Take a seat before you speak', 'SEAT_REQUIRED', 'seats');
  assert.equal(explain(refusal), 'seats: Take a seat before you speak');
  assert.equal(explain(new RequestError('Room is full', 'ROOM_IS_FULL')), 'Room is full');
});

test('a ban says until when', () => {
  const until = new Date().setHours(23, 59);
  const refusal = new RequestError('You are banned', 'BANNED', 'moderation', { until });
  assert.equal(explain(refusal), `moderation: You are banned (until ${timeOf(until)})`);
});

test('codes of the server become sentences, but a plugin keeps its own', () => {
  assert.equal(explain(new RequestError('INTERNAL_ERROR', 'INTERNAL_ERROR')), 'Something went wrong on the server');
  assert.equal(explain(new RequestError('Slowly', 'RATE_LIMITED', 'quota')), 'quota: Slowly');
});

test('a forbidden microphone is explained', () => {
  const error = Object.assign(new Error('Permission denied'), { name: 'NotAllowedError' });
  assert.match(explain(error), /may not use the microphone/);
  assert.equal(explain(new Error('odd')), 'odd');
  assert.equal(explain('thrown text'), 'thrown text');
});

test('a time on another day is told with the day', () => {
  const noon = new Date(2026, 0, 15, 12).getTime();
  const sameDay = timeOf(noon, noon + 1000);
  const later = timeOf(noon, noon + 86_400_000);
  assert.ok(later.length > sameDay.length, `${later} has a day, ${sameDay} none`);
});

test('events are told from the reader’s side', () => {
  const state = room();
  const said = (name: string, payload: object): string | undefined => notice(state, { name, payload })?.text;
  assert.equal(said('seat:updated', { seatIndex: 0, userId: ANA, isMuted: false }), 'You took seat 1');
  assert.equal(said('seat:updated', { seatIndex: 1, userId: BEN, isMuted: false }), 'Ben took seat 2');
  assert.equal(said('seat:cleared', { seatIndex: 1, userId: BEN }), 'Ben left seat 2');
  assert.equal(said('audio:firstRtp', { producerId: 'p', userId: BEN, at: 0 }), 'Ben can be heard');
  assert.equal(said('room:userJoined', { userId: 7 }), 'User 7 joined');
  assert.equal(said('room:userLeft', { userId: BEN, reason: 'left' }), 'Ben left');
  assert.equal(said('room:userJoined', { userId: ANA, name: 'Ana' }), undefined);
  assert.equal(said('speaker:active', { userId: null, activeSpeakers: [], timestamp: 0 }), undefined);
  assert.equal(said('poll:opened', {}), undefined);
});

test('a moderator’s mute is told once: by the seats plugin where the user is seated', () => {
  const seated = room();
  const paused = { name: 'audio:producerPaused', payload: { producerId: 'p-ben', userId: BEN, byModerator: true } };
  assert.equal(notice(seated, paused), undefined);
  assert.equal(notice(seated, { name: 'seat:userMuted', payload: { userId: BEN, isMuted: true } })?.text, 'Ben is muted by a manager');
  assert.equal(notice(room({ plugins: {} }), paused)?.text, 'Ben is muted by a moderator');
});

test('what is done to the reader is urgent, what is done to others is not', () => {
  const state = room();
  const isUrgent = (name: string, payload: object): boolean | undefined => notice(state, { name, payload })?.isUrgent;
  assert.equal(isUrgent('seat:userMuted', { userId: ANA, isMuted: true }), true);
  assert.equal(isUrgent('seat:userMuted', { userId: BEN, isMuted: true }), false);
  assert.equal(isUrgent('seat:cleared', { seatIndex: 0, userId: ANA, reason: 'removed' }), true);
  assert.equal(isUrgent('seat:cleared', { seatIndex: 0, userId: ANA }), false);
});

test('a moderation notice carries its reason', () => {
  const event = { name: 'moderation:notice', payload: { action: 'kick', reason: 'spam' } };
  assert.deepEqual(notice(room(), event), { text: 'moderation: You were removed from this room: spam', isUrgent: true });
});

test('a balance is told in its currency, and loudly when it is low or spent', () => {
  const told = (name: string, payload: object) => notice(room(), { name, payload });
  const low = told('billing:low', { currency: 'EUR', balance: 1_250, unitsLeft: 1 });
  assert.match(low?.text ?? '', /12[.,]50.* lasts for 1 more unit$/);
  assert.equal(low?.isUrgent, true);
  assert.match(told('billing:low', { currency: 'JPY', balance: 300, unitsLeft: 2 })?.text ?? '', /300.* 2 more units$/);
  const spent = told('billing:spent', { currency: 'COINS', balance: 0 });
  assert.deepEqual(spent, { text: 'Your balance is spent (0 COINS): you are not heard any more', isUrgent: true });
  assert.deepEqual(told('billing:balance', { currency: 'COINS', balance: 7 }), {
    text: 'Your balance is 7 COINS',
    isUrgent: false,
  });
});

test('the end of a stay is explained, known reason or not', () => {
  assert.equal(explainEnd('shutdown'), 'The server is shutting down');
  assert.equal(explainEnd('kicked for spam'), 'You were disconnected: kicked for spam');
});
