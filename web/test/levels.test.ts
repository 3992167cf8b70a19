import assert from 'node:assert/strict';
import { test } from 'node:test';
import { levelOf } from '../src/levels';

const tone = (amplitude: number): Float32Array => (
  Float32Array.from({ length: 1024 }, (_, index) => amplitude * Math.sin((index * 2 * Math.PI) / 64)));

test('silence is 0 and a loud tone is 1', () => {
  assert.equal(levelOf(new Float32Array(1024)), 0);
  assert.equal(levelOf(tone(0.0001)), 0);
  assert.equal(levelOf(tone(1)), 1);
});

test('the level grows evenly with decibels', () => {
  const [quiet, middle, loud] = [levelOf(tone(0.01)), levelOf(tone(0.0316)), levelOf(tone(0.1))];
  assert.ok(quiet > 0 && loud < 1);
  assert.ok(Math.abs(middle - (quiet + loud) / 2) < 0.01, `${quiet}, ${middle}, ${loud}`);
});
