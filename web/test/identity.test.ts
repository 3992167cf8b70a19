import assert from 'node:assert/strict';
import { test } from 'node:test';
import { prefill, readClaims, remember } from '../src/identity';

const token = (claims: object): string => `x.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.x`;

function storage(): Storage {
  const items = new Map<string, string>();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
    key: (index) => [...items.keys()][index] ?? null,
    clear: () => items.clear(),
    get length() { return items.size; },
  };
}

test('a token names its user by id or numeric sub', () => {
  assert.deepEqual(readClaims(token({ id: 7, name: 'Žofie', roles: ['owner', 3] })), { userId: 7, name: 'Žofie', roles: ['owner'] });
  assert.deepEqual(readClaims(token({ sub: '8' })), { userId: 8, name: undefined, roles: [] });
});

test('what is no token, or names no user, gives nothing', () => {
  for (const text of ['', 'nonsense', 'a.b.c', token({ sub: 'ana' }), token({ name: 'Ana' }), token({ id: -1 })]) {
    assert.equal(readClaims(text), undefined, text);
  }
});

test('the address wins over the tab, the tab over the machine', () => {
  const [tab, machine] = [storage(), storage()];
  assert.deepEqual(prefill('', tab, machine), { name: '', room: 'lobby', token: '' });
  remember({ name: 'Ana', room: 'tea', token: 't' }, tab, machine);
  remember({ name: 'Ben', room: 'chess', token: '' }, storage(), machine);
  assert.deepEqual(prefill('', tab, machine), { name: 'Ana', room: 'tea', token: 't' });
  assert.deepEqual(prefill('', storage(), machine), { name: 'Ben', room: 'chess', token: '' });
  assert.deepEqual(prefill('?room=demo&name=Ana%202', tab, machine), { name: 'Ana 2', room: 'demo', token: 't' });
});
