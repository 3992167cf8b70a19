// The operators' face: who may use it, what it shows, what it does.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';

import { refused } from './client.mjs';
import { installed, variant } from './plugins.mjs';
import { seconds, sign, start } from './server.mjs';

const HASH = /^sha256:[0-9a-f]{64}$/;

let server;
let folder;
before(async () => {
  folder = await installed('fixture-plugin');
  const plugins = `${folder.plugin('guest', 'watch = false\nretry_limit = 1\nprobation_ms = 0\n')}
settings = { hooks = { on-leave = "trap" }, when = "bad" }
[[plugins]]
name = "seats"
`;
  server = await start({ config: { plugins } });
});
after(async () => {
  await server?.stop();
  await folder?.remove();
});

describe('the operators’ face', () => {
  const paths = [
    ['GET', '/admin/plugins'],
    ['POST', '/admin/plugins/reload'],
    ['POST', '/admin/plugins/guest/reload'],
    ['POST', '/admin/plugins/nobody/reload'],
    ['GET', '/admin/dead-letters'],
  ];
  for (const [method, path] of paths) {
    test(`${method} ${path} is for administrators only`, async () => {
      const tokens = {
        none: undefined,
        basic: 'Basic YWRtaW46YWRtaW4=',
        nonsense: 'Bearer nonsense',
        expired: `Bearer ${sign({ id: 1, roles: ['admin'], exp: seconds(-3600) })}`,
        'of another key': `Bearer ${sign({ id: 1, roles: ['admin'] }, { secret: 'another secret of thirty-two bytes' })}`,
      };
      for (const [what, authorization] of Object.entries(tokens)) {
        const headers = authorization ? { authorization } : {};
        const answer = await server.fetch(path, { method, headers });
        assert.equal(answer.status, 401, what);
        assert.equal(answer.headers.get('www-authenticate'), 'Bearer');
        const { error, message } = await answer.json();
        assert.equal(error, 'AUTH_REQUIRED', what);
        assert.equal(typeof message, 'string');
      }
      for (const roles of [[], ['moderator'], ['Admin'], ['administrator']]) {
        const { status, body } = await server.admin(path, { method, roles });
        assert.equal(status, 403);
        assert.equal(body.error, 'FORBIDDEN');
        assert.match(body.message, /role admin/);
      }
    });
  }

  test('is in nobody’s cache', async () => {
    const authorization = `Bearer ${await server.token({ roles: ['admin'] })}`;
    const answer = await server.fetch('/admin/plugins', { headers: { authorization } });
    assert.equal(answer.headers.get('cache-control'), 'no-store');
  });
});

describe('GET /admin/plugins', () => {
  test('shows each plugin in the configured order', async () => {
    const { status, body } = await server.admin('/admin/plugins');
    assert.equal(status, 200);
    const [guest, seats, ...rest] = body.plugins;
    assert.deepEqual(rest, []);
    assert.equal(guest.name, 'guest');
    assert.match(guest.component, HASH);
    assert.match(guest.contract, /^0\.\d+\.\d+$/);
    assert.deepEqual([guest.manifestName, seats.manifestName], ['fixture', 'seats']);
    assert.match(seats.version, /^\d+\.\d+\.\d+$/);
    assert.equal(typeof seats.description, 'string');
    assert.equal(seats.name, 'seats');
    assert.equal(seats.breaker, 'closed');
    assert.equal(seats.isolation, 'live');
    assert.equal(seats.instances, 4);
    assert.ok(seats.hooks.includes('before-produce'), seats.hooks);
    assert.ok(seats.commands.includes('seat:take'), seats.commands);
    assert.ok(seats.memoryBytes >= 4 * 65536, seats.memoryBytes);
    assert.equal(seats.queued, 0);
    assert.ok(seats.loadedAt > Date.now() - 600_000);
    assert.deepEqual([seats.swaps, seats.rollbacks], [0, 0]);
    assert.deepEqual([seats.lastFailure, seats.lastRefused], [null, null]);
  });
});

describe('POST /admin/plugins/{name}/reload', () => {
  const reload = (name) => server.admin(`/admin/plugins/${name}/reload`, { method: 'POST' });
  const guest = async () => (await server.admin('/admin/plugins')).body.plugins[0];

  test('brings what is in the file', async () => {
    const { component } = await guest();
    await folder.install('fixture-plugin', await variant('fixture-plugin', 1));
    const { status, body } = await reload('guest');
    assert.equal(status, 200);
    const { name, previous, component: now, tookMs, ...rest } = body;
    assert.deepEqual([name, previous, rest], ['guest', component, {}]);
    assert.notEqual(now, component);
    assert.ok(tookMs > 0);
    assert.equal((await guest()).component, now);
  });

  test('of a plugin that is not there is answered so', async () => {
    for (const name of ['nobody', '%F0%9F%98%80', 'x'.repeat(5000)]) {
      const { status, body } = await server.admin(`/admin/plugins/${encodeURIComponent(name)}/reload`, { method: 'POST' });
      assert.equal(status, 404, name.slice(0, 10));
      assert.equal(body.error, 'PLUGIN_NOT_FOUND');
    }
  });

  test('of a broken file says what is wrong, and what runs goes on', async () => {
    const { component } = await guest();
    await writeFile(folder.file, 'not a component');
    const { status, body } = await reload('guest');
    assert.equal(status, 422);
    assert.equal(body.error, 'PLUGIN_UNUSABLE');
    assert.match(body.message, /plugin `guest` \(.*plugin\.wasm\) is not a WebAssembly component/);
    assert.deepEqual(body.details.reloaded, []);
    assert.deepEqual(body.details.failed.map(({ name, file }) => [name, file]), [['guest', folder.file]]);
    const status2 = await guest();
    assert.equal(status2.component, component);
    assert.equal(status2.lastRefused.problem, body.details.failed[0].problem);
    assert.ok(status2.lastRefused.at > Date.now() - 60_000);
    await server.serves();
  });

  test('of all reloads those that can be, and names the others', async () => {
    const all = () => server.admin('/admin/plugins/reload', { method: 'POST' });
    await writeFile(folder.file, '');
    const half = await all();
    assert.equal(half.status, 422);
    assert.deepEqual(half.body.details.failed.map(({ name }) => name), ['guest']);
    assert.deepEqual(half.body.details.reloaded.map(({ name }) => name), ['seats']);
    await folder.install('fixture-plugin');
    const whole = await all();
    assert.equal(whole.status, 200);
    assert.deepEqual(whole.body.reloaded.map(({ name }) => name), ['guest', 'seats']);
    assert.equal((await guest()).lastRefused, null);
  });
});

describe('GET /admin/dead-letters', () => {
  /** Pages from `after` on until there is at least one letter. */
  const letters = async (query) => {
    for (const end = Date.now() + 20_000; Date.now() < end;) {
      const { status, body } = await server.admin(`/admin/dead-letters?${query}`);
      assert.equal(status, 200);
      if (body.letters.length > 0) return body;
    }
    throw new Error('no dead letter came');
  };

  test('shows the facts that a plugin has not taken, page by page', async () => {
    assert.deepEqual((await server.admin('/admin/dead-letters')).body, { letters: [], next: 0 });
    const room = 'bad-letters';
    for (let n = 0; n < 2; n += 1) {
      const client = await server.enter(room);
      await client.leave();
    }
    const first = await letters('limit=1');
    assert.equal(first.letters.length, 1);
    const [letter] = first.letters;
    assert.deepEqual([letter.plugin, letter.room, letter.tries], ['guest', room, 1]);
    assert.match(letter.failure, /trapped/);
    const second = await letters(`after=${first.next}`);
    assert.notEqual(second.letters[0].id, letter.id);
    assert.ok(second.next > first.next);
    const { plugins: [guest] } = (await server.admin('/admin/plugins')).body;
    assert.equal(guest.lastFailure.hook, 'on-leave');
    assert.match(guest.lastFailure.failure, /trapped/);
  });

  test('wants numbers', async () => {
    for (const query of ['after=x', 'limit=-1', 'after=1e99']) {
      const { status, body } = await server.admin(`/admin/dead-letters?${query}`);
      assert.equal(status, 400, query);
      assert.equal(body.error, 'INVALID_PAYLOAD');
    }
  });
});

describe('GET /ready', () => {
  test('tells of a plugin that is left alone, and is ready', async () => {
    const ready = async () => {
      const answer = await server.fetch('/ready');
      return { status: answer.status, ...(await answer.json()) };
    };
    const before = await ready();
    assert.equal(before.status, 200);
    assert.equal(before.plugins.length, 2);
    const { status } = await server.admin('/admin/plugins/guest/reload', { method: 'POST' });
    assert.equal(status, 200);
    const calm = await ready();
    assert.deepEqual([calm.ready, calm.degraded], [true, false]);
    assert.deepEqual(calm.plugins, [{ name: 'guest', breaker: 'closed' }, { name: 'seats', breaker: 'closed' }]);
    const client = await server.enter('bad-run');
    for (let n = 0; n < 5; n += 1) {
      await client.ask('fixture:behave', { hook: 'on-command', behaviour: 'trap' });
      refused(await client.request('fixture:run'), 'The plugin guest could not answer', {
        code: 'PLUGIN_FAILED',
        plugin: 'guest',
      });
    }
    const open = await ready();
    assert.deepEqual([open.status, open.ready, open.degraded], [200, true, true]);
    assert.deepEqual(open.plugins[0], { name: 'guest', breaker: 'open' });
  });
});
