import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyEvent, people, seatOf, voiceOf } from '../src/room-state';
import { after, ANA, ANSWER, BEN, room } from './room';

test('the join answer gives people, voices and seats', () => {
  const state = room();
  assert.deepEqual(people(state), [
    { userId: ANA, name: 'Ana', isSelf: true, voice: 'none', isSpeaking: false, seatIndex: undefined },
    { userId: BEN, name: 'Ben', isSelf: false, voice: 'live', isSpeaking: true, seatIndex: 1 },
  ]);
  assert.equal(state.seats?.count, 4);
  assert.deepEqual([...(state.seats?.locked ?? [])], [3]);
});

test('one is present even where the answer lists only the others', () => {
  const state = room({ participants: ANSWER.participants.slice(1) });
  assert.deepEqual(people(state).map(({ name }) => name), ['Ana', 'Ben']);
});

test('a server without the seats plugin has no seats, and odd seats are not believed', () => {
  assert.equal(room({ plugins: {} }).seats, undefined);
  assert.equal(room({ plugins: null }).seats, undefined);
  assert.equal(room({ plugins: { seats: { seatCount: 'many' } } }).seats, undefined);
  const odd = { seatCount: 2, seats: [{ seatIndex: 9, userId: BEN, isMuted: false }], lockedSeats: [] };
  assert.equal(room({ plugins: { seats: odd } }).seats?.occupants.size, 0);
});

test('who joins is listed after oneself and the seated, and who leaves is not', () => {
  const joined = after(room(),
    ['room:userJoined', { userId: 4, name: null }],
    ['room:userJoined', { userId: 3, name: 'Abe' }]);
  assert.deepEqual(people(joined).map(({ name }) => name), ['Ana', 'Ben', 'Abe', 'User 4']);
  const left = after(joined, ['room:userLeft', { userId: 3, reason: 'left' }]);
  assert.deepEqual(people(left).map(({ name }) => name), ['Ana', 'Ben', 'User 4']);
});

test('a second connection of oneself that leaves takes nobody out of the list', () => {
  const state = after(room(), ['room:userLeft', { userId: ANA, reason: 'disconnected' }]);
  assert.equal(people(state)[0]?.name, 'Ana');
});

test('a user who left over one connection and speaks over another is still listed', () => {
  const left = after(room(), ['room:userLeft', { userId: BEN, reason: 'left' }]);
  assert.equal(people(left).length, 2);
  const silent = after(left, ['audio:producerClosed', { producerId: 'p-ben', userId: BEN, source: 'mic', reason: 'left' }]);
  assert.equal(people(silent).length, 1);
});

test('a producer is live, muted by its user, held by a moderator, gone', () => {
  const about = { producerId: 'p-ana', userId: ANA };
  const live = after(room(), ['audio:newProducer', { ...about, kind: 'audio', source: 'mic' }]);
  assert.equal(voiceOf(live, ANA), 'live');
  const muted = after(live, ['audio:producerPaused', { ...about, byModerator: false }]);
  assert.equal(voiceOf(muted, ANA), 'muted');
  const held = after(muted, ['audio:producerPaused', { ...about, byModerator: true }]);
  assert.equal(voiceOf(held, ANA), 'held');
  const resumed = after(held, ['audio:producerResumed', { ...about, byModerator: true }]);
  assert.equal(voiceOf(resumed, ANA), 'live');
  const closed = after(resumed, ['audio:producerClosed', { ...about, source: 'mic', reason: 'closed' }]);
  assert.equal(voiceOf(closed, ANA), 'none');
});

test('a producer announced twice is counted once and keeps its state', () => {
  const paused = after(room(), ['audio:producerPaused', { producerId: 'p-ben', userId: BEN, byModerator: false }]);
  const again = after(paused, ['audio:newProducer', { producerId: 'p-ben', userId: BEN, kind: 'audio', source: 'mic' }]);
  assert.equal(again, paused);
});

test('who takes another seat leaves the one before', () => {
  const state = after(room(), ['seat:updated', { seatIndex: 0, userId: BEN, isMuted: true }]);
  assert.equal(seatOf(state, BEN), 0);
  assert.equal(state.seats?.occupants.size, 1);
  assert.equal(voiceOf(state, BEN), 'held');
});

test('a seat is cleared of its occupant, not of who came after', () => {
  const taken = after(room(), ['seat:updated', { seatIndex: 1, userId: ANA, isMuted: false }]);
  const stale = after(taken, ['seat:cleared', { seatIndex: 1, userId: BEN }]);
  assert.equal(seatOf(stale, ANA), 1);
  const cleared = after(taken, ['seat:cleared', { seatIndex: 1, userId: ANA }]);
  assert.equal(seatOf(cleared, ANA), undefined);
});

test('a seat that does not exist cannot be taken', () => {
  const state = room();
  assert.equal(after(state, ['seat:updated', { seatIndex: 4, userId: ANA, isMuted: false }]).seats, state.seats);
  assert.equal(after(state, ['seat:updated', { seatIndex: 0.5, userId: ANA, isMuted: false }]).seats, state.seats);
});

test('muting a seated user holds their voice, unmuting releases it', () => {
  const muted = after(room(), ['seat:userMuted', { userId: BEN, isMuted: true }]);
  assert.equal(voiceOf(muted, BEN), 'held');
  assert.equal(voiceOf(after(muted, ['seat:userMuted', { userId: BEN, isMuted: false }]), BEN), 'live');
});

test('locking a seat empties it, unlocking opens it', () => {
  const locked = after(room(), ['seat:locked', { seatIndex: 1, isLocked: true }]);
  assert.equal(seatOf(locked, BEN), undefined);
  assert.ok(locked.seats?.locked.has(1));
  assert.ok(!after(locked, ['seat:locked', { seatIndex: 1, isLocked: false }]).seats?.locked.has(1));
});

test('the room falls silent', () => {
  const state = after(room(), ['speaker:active', { userId: null, activeSpeakers: [], timestamp: 0 }]);
  assert.ok(people(state).every(({ isSpeaking }) => !isSpeaking));
});

test('events of unknown plugins, and seats where there are none, change nothing', () => {
  const state = room();
  assert.equal(applyEvent(state, { name: 'poll:opened', payload: { question: '?' } }), state);
  const bare = room({ plugins: {} });
  assert.equal(after(bare, ['seat:locked', { seatIndex: 0, isLocked: true }]), bare);
});
