import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { contract } from '../src/build.js';
import { ACTIONS, ALWAYS, HOOKS, IMPORTS, camel } from '../src/contract.js';

const wit = readFileSync(contract(), 'utf8');
const world = wit.slice(wit.indexOf('\nworld plugin {'));
const types = readFileSync(new URL('../src/index.d.ts', import.meta.url), 'utf8');

const named = (text, pattern) => [...text.matchAll(pattern)].map((match) => match[1]);

test('the contract has the hooks that plugins can implement', () => {
  const exported = named(world, /export ([a-z-]+);/g).filter((name) => name !== 'lifecycle');
  assert.deepEqual(Object.keys(HOOKS).sort(), exported.sort());
  for (const hook of exported) assert.match(types, new RegExp(`\\b${camel(hook)}\\?\\(`), hook);
});

test('the contract has the imports that capabilities give', () => {
  const imported = named(world, /import ([a-z-]+);/g);
  assert.deepEqual([...ALWAYS, ...Object.values(IMPORTS)].sort(), imported.sort());
});

test('the contract has the actions that capabilities allow', () => {
  const variant = wit.match(/variant action \{([^}]*)\}/)[1];
  assert.deepEqual(Object.keys(ACTIONS).sort(), named(variant, /^ +([a-z-]+)\(/gm).sort());
});

test('the contract has no numbers of 64 bits and no JSON in calls but those that are lifted', () => {
  const records = [...wit.matchAll(/record (room|user|participant|codec|producer|media|first-packet|speaker|call) \{([^}]*)\}/g)];
  const fields = records.flatMap(([, , body]) =>
    named(body, /([a-z-]+): (?:option<)?(?:u64|s64|unix-ms|user-id|json)>?/g),
  );
  const lifted = [
    'after-ms', 'at', 'bytes', 'claims', 'due', 'first-rtp-at', 'id', 'last-rtp-at', 'owner',
    'packets', 'payload', 'user-id',
  ];
  assert.deepEqual([...new Set(fields)].sort(), lifted);
});
