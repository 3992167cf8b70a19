// HTTP beside the faces.

import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, before, describe, test } from 'node:test';

import { newUser, start } from './server.mjs';
import { speaker } from './media.mjs';

let server;
before(async () => { server = await start(); });
after(() => server?.stop());

/** The status of a request whose path is sent as it is, without tidying. */
const rawStatus = (path, method = 'GET') => new Promise((done, failed) => {
  const { hostname, port } = new URL(server.url);
  request({ hostname, port, path, method }, (answer) => {
    answer.resume();
    done(answer.statusCode);
  }).once('error', failed).end();
});

test('GET /health says that the server lives', async () => {
  assert.equal((await server.fetch('/health')).status, 200);
});

test('GET /ready says that it is ready, with all its workers', async () => {
  assert.equal((await server.fetch('/ready')).status, 200);
});

describe('GET /metrics', () => {
  test('is text for Prometheus, with names of the core', async () => {
    await speaker(server, 'measured');
    const answer = await server.fetch('/metrics');
    assert.equal(answer.status, 200);
    assert.match(answer.headers.get('content-type'), /^text\/plain/);
    const text = await answer.text();
    for (const line of text.split('\n').filter((one) => one && !one.startsWith('#'))) {
      assert.match(line, /^[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? \S+$/);
    }
    assert.match(text, /^voice_room_rooms 1$/m);
    assert.match(text, /^voice_room_participants 1$/m);
    assert.match(text, /^voice_room_request_seconds[^\n]*event="audio:produce"/m);
    assert.match(text, /^voice_room_\w*workers\w* 1$/m);
  });

  test('has no ids, rooms or names that clients choose', async () => {
    const client = await speaker(server, 'secret-room-name', { name: 'Secret Name' });
    await client.request('secret:event');
    const text = await (await server.fetch('/metrics')).text();
    for (const word of ['secret', 'Secret', client.producerId, String(client.userId)]) {
      assert.ok(!text.includes(word), word);
    }
  });

  test('counts rooms and participants down again', async () => {
    const gauges = async () => {
      const text = await (await server.fetch('/metrics')).text();
      return ['rooms', 'participants'].map((name) => Number(new RegExp(`^voice_room_${name} (\\d+)$`, 'm').exec(text)[1]));
    };
    const [rooms, participants] = await gauges();
    const one = await server.enter(`counted-${newUser()}`);
    const two = await server.enter(one.room);
    assert.deepEqual(await gauges(), [rooms + 1, participants + 2]);
    await one.leave();
    assert.deepEqual(await gauges(), [rooms + 1, participants + 1]);
    await two.leave();
    assert.deepEqual(await gauges(), [rooms, participants]);
  });
});

describe('POST /dev/token', () => {
  const good = {
    'a user id': { userId: 1 },
    'user 0': { userId: 0 },
    'the largest whole number': { userId: Number.MAX_SAFE_INTEGER },
    'a name and roles': { userId: 2, name: 'Ada 😀', roles: ['owner', 'member'] },
    'no roles': { userId: 3, roles: [] },
    'null for what may be absent': { userId: 4, name: null, roles: null },
    'unknown fields': { userId: 5, admin: true },
  };
  for (const [name, body] of Object.entries(good)) {
    test(`with ${name} gives a token that connects`, async () => {
      const answer = await server.post('/dev/token', JSON.stringify(body));
      assert.equal(answer.status, 200);
      const { token, ...rest } = await answer.json();
      assert.deepEqual(rest, {});
      const client = await server.enter(`token-${name}`, { token });
      const other = await server.enter(`token-${name}`);
      assert.deepEqual(other.joined.participants, [
        { userId: body.userId, ...(body.name ? { name: body.name } : {}), isSpeaker: false },
      ]);
      client.close();
    });
  }

  test('gives the roles that were asked for', async () => {
    const client = await server.enter('roles', { roles: ['moderator'] });
    const answer = await client.request('seat:lock', { seatIndex: 0 });
    assert.equal(answer.success, true);
  });

  const bad = {
    'no body': '',
    'no JSON': '{userId: 1}',
    'half of it': '{"userId":1',
    'a list': '[1]',
    'a text': '"1"',
    'null': 'null',
    'no user id': '{}',
    'null for the user id': '{"userId":null}',
    'a text for the user id': '{"userId":"1"}',
    'a negative user id': '{"userId":-1}',
    'a user id that is not whole': '{"userId":1.5}',
    'a user id beyond 64 bits': '{"userId":1e30}',
    'a number for the name': '{"userId":1,"name":5}',
    'a text for the roles': '{"userId":1,"roles":"owner"}',
    'roles that are numbers': '{"userId":1,"roles":[1]}',
    'lists in lists without end': '['.repeat(100_000),
  };
  for (const [name, body] of Object.entries(bad)) {
    test(`with ${name} is refused as bad input`, async () => {
      const answer = await server.post('/dev/token', body);
      assert.equal(answer.status, 400);
      const { error, message } = await answer.json();
      assert.equal(error, 'INVALID_PAYLOAD');
      assert.equal(typeof message, 'string');
    });
  }

  test('with several wrong fields names them all', async () => {
    const answer = await server.post('/dev/token', '{"name":1,"roles":2}');
    const { details } = await answer.json();
    assert.deepEqual(details.map((one) => one.field).sort(), ['name', 'roles', 'userId']);
  });

  test('without the type of JSON is refused', async () => {
    const answer = await server.post('/dev/token', '{"userId":1}', { 'content-type': 'text/plain' });
    assert.ok([400, 415].includes(answer.status), `${answer.status}`);
  });

  test('with an enormous body is refused', async () => {
    const body = JSON.stringify({ userId: 1, name: 'x'.repeat(8 * 1024 * 1024) });
    const status = await server.post('/dev/token', body).then((answer) => answer.status, () => 'cut off');
    assert.ok([400, 413, 'cut off'].includes(status), `${status}`);
    assert.equal((await server.fetch('/health')).status, 200);
  });

  test('is not there for GET', async () => {
    assert.ok([404, 405].includes((await server.fetch('/dev/token')).status));
  });
});

describe('what is not there', () => {
  for (const path of ['/nothing', '/health/more', '/metrics/', '/dev', '/dev/tokens', '/socket.iox', '/%00', '/é', '//']) {
    test(`is not found: ${path}`, async () => {
      assert.equal(await rawStatus(encodeURI(path).replace('%2500', '%00')), 404);
    });
  }

  test('cannot be reached by climbing out', async () => {
    for (const path of ['/../Cargo.toml', '/..%2f..%2fCargo.toml', '/%2e%2e/%2e%2e/etc/passwd', '/....//etc/passwd', '/assets/../../Cargo.toml']) {
      const status = await rawStatus(path);
      assert.ok(status === 404 || status === 400, `${path}: ${status}`);
    }
  });

  test('is not made by other methods', async () => {
    for (const path of ['/health', '/ready', '/metrics']) {
      for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
        assert.equal(await rawStatus(path, method), 405, `${method} ${path}`);
      }
    }
  });
});
