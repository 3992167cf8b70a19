import assert from 'node:assert/strict';
import test from 'node:test';
import { Stage, readManifest } from 'voice-room-plugin-sdk/testing';
import plugin from '../src/plugin.js';

const manifest = readManifest(new URL('../plugin.toml', import.meta.url));
const member = { id: 1, roles: ['member'] };

test('members enter, and others are told that they may not', () => {
  const stage = new Stage(plugin, { manifest });
  assert.equal(stage.join('lobby', member).refusal, undefined);
  assert.equal(stage.join('lobby', { id: 2 }).refusal?.code, 'MEMBERS_ONLY');
});

test('visits are counted, also when the instance is replaced', () => {
  const stage = new Stage(plugin, { manifest });
  stage.leave(stage.join('lobby', member));
  stage.replaceInstance();
  const again = stage.join('lobby', member);
  const welcome = { userId: 1, event: '{{name}}:welcome', payload: { visits: 2 } };
  assert.deepEqual(again.actions, [{ emitToUser: welcome }]);
  assert.deepEqual(stage.command(again, '{{name}}:visits').data, { visits: 2 });
});

test('who does not come for 90 days is forgotten', () => {
  const stage = new Stage(plugin, { manifest });
  const days = (count) => count * 24 * 3_600_000;
  stage.leave(stage.join('lobby', member));
  stage.advance(days(89));
  stage.leave(stage.join('lobby', member));
  stage.advance(days(89));
  assert.deepEqual(stage.stored, { 'visits/1': 2 });
  stage.advance(days(1));
  assert.deepEqual(stage.stored, {});
});

test('a setting that is wrong is named', () => {
  const settings = { member_roles: 'member' };
  assert.throws(
    () => new Stage(plugin, { manifest, settings }),
    /settings: `member_roles`: must be a list, not "member"/,
  );
});
