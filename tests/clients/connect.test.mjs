// Who may connect, with which token, over which transport.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { newUser, seconds, sign, start } from './server.mjs';

const ORIGIN = 'https://app.example.com';

let server;
before(async () => {
  server = await start({ config: { server: `allowed_origins = ["${ORIGIN}"]` } });
});
after(() => server?.stop());

const withToken = (token) => ({ auth: { token } });
const good = (claims = {}) => sign({ id: newUser(), exp: seconds(3600), ...claims });

describe('a connection without a token', () => {
  const absent = {
    'no auth and no header': {},
    'an empty auth object': { auth: {} },
    'null for the token': { auth: { token: null } },
    'another field of auth': { auth: { jwt: good() } },
    'a header of another scheme': { extraHeaders: { authorization: `Basic ${good()}` } },
  };
  for (const [name, options] of Object.entries(absent)) {
    test(`is refused: ${name}`, async () => {
      assert.equal(await server.refusedConnect(options), 'Authentication required');
    });
  }
});

describe('a connection with a token that is not good', () => {
  const [head, body, mac] = good().split('.');
  const bad = {
    'no JWT at all': 'not a token',
    'two parts': `${head}.${body}`,
    'a signature that was changed': `${head}.${body}.${mac.startsWith('A') ? 'B' : 'A'}${mac.slice(1)}`,
    'claims that were changed': `${head}.${good().split('.')[1]}.${mac}`,
    'another secret': sign({ id: 1, exp: seconds(3600) }, { secret: 'another secret, which is long enough too' }),
    'algorithm none': sign({ id: 1, exp: seconds(3600) }, { alg: 'none' }),
    'algorithm None, with a signature': sign({ id: 1, exp: seconds(3600) }, { alg: 'None' }),
    'the right secret under another algorithm': sign({ id: 1, exp: seconds(3600) }, { alg: 'HS512', hash: 'sha512' }),
    'an expiry that has passed': good({ exp: seconds(-3600) }),
    'a start that is to come': good({ nbf: seconds(3600) }),
    'an expiry that is no number': good({ exp: 'tomorrow' }),
    'no user': sign({ exp: seconds(3600), name: 'Nobody' }),
    'a subject that is no number': sign({ sub: 'alice', exp: seconds(3600) }),
    'a negative user': good({ id: -1 }),
    'a user that is not whole': good({ id: 1.5 }),
    'claims that are no object': sign('claims'),
    'a very long text': 'x'.repeat(20_000),
  };
  for (const [name, token] of Object.entries(bad)) {
    test(`is refused: ${name}`, async () => {
      assert.equal(await server.refusedConnect(withToken(token)), 'Invalid credentials');
    });
  }

  test('is refused when the token stands in the header', async () => {
    const extraHeaders = { authorization: 'Bearer nonsense' };
    assert.equal(await server.refusedConnect({ extraHeaders }), 'Invalid credentials');
  });

  test('is not saved by a good header beside a bad auth.token', async () => {
    const extraHeaders = { authorization: `Bearer ${good()}` };
    const options = { ...withToken('nonsense'), extraHeaders };
    assert.equal(await server.refusedConnect(options), 'Invalid credentials');
  });
});

describe('the user of a connection', () => {
  const room = 'who-is-it';

  test('is the id of the token, with name and avatar', async () => {
    const watcher = await server.enter(room);
    const [id, avatar] = [newUser(), 'https://example.com/a.png'];
    await server.enter(room, { token: good({ id, name: 'Åsa 😀', avatar, roles: ['member'] }) });
    assert.deepEqual(await watcher.next('room:userJoined'), { userId: id, name: 'Åsa 😀', avatar });
  });

  test('is the numeric subject where the token has no id', async () => {
    const watcher = await server.enter(`${room}-sub`);
    const id = newUser();
    await server.enter(`${room}-sub`, { token: sign({ sub: String(id), exp: seconds(3600) }) });
    assert.deepEqual(await watcher.next('room:userJoined'), { userId: id });
  });

  test('comes from the Authorization header where auth has no token', async () => {
    const watcher = await server.enter(`${room}-header`);
    const id = newUser();
    const extraHeaders = { authorization: `Bearer ${good({ id })}` };
    const client = await server.connect({ extraHeaders, auth: {} });
    await client.join(`${room}-header`);
    assert.deepEqual(await watcher.next('room:userJoined'), { userId: id });
  });

  test('is the one of auth.token where the header names another', async () => {
    const watcher = await server.enter(`${room}-both`);
    const id = newUser();
    const extraHeaders = { authorization: `Bearer ${good()}` };
    await server.enter(`${room}-both`, { token: good({ id }), extraHeaders });
    assert.deepEqual(await watcher.next('room:userJoined'), { userId: id });
  });

  test('is the id where the token has a subject too, and needs no expiry', async () => {
    const watcher = await server.enter(`${room}-two`);
    const id = newUser();
    await server.enter(`${room}-two`, { token: sign({ id, sub: String(newUser()) }) });
    assert.deepEqual(await watcher.next('room:userJoined'), { userId: id });
  });

  test('may be as large as a JSON number tells apart', async () => {
    const id = Number.MAX_SAFE_INTEGER;
    const watcher = await server.enter(`${room}-large`);
    await server.enter(`${room}-large`, { token: good({ id }) });
    assert.deepEqual(await watcher.next('room:userJoined'), { userId: id });
  });
});

describe('a transport', () => {
  for (const name of ['websocket', 'polling']) {
    test(`of ${name} alone serves requests and events`, async () => {
      const room = `over-${name}`;
      const client = await server.enter(room, { transports: [name] });
      assert.equal(client.socket.io.engine.transport.name, name);
      const other = await server.enter(room);
      assert.deepEqual(await client.next('room:userJoined'), { userId: other.userId });
    });
  }

  test('that starts as polling is upgraded, and goes on serving', async () => {
    const client = await server.connect({ transports: ['polling', 'websocket'] });
    const { engine } = client.socket.io;
    if (engine.transport.name !== 'websocket') {
      await new Promise((done) => engine.once('upgrade', done));
    }
    assert.equal(engine.transport.name, 'websocket');
    await client.join('after-upgrade');
    const other = await server.enter('after-upgrade');
    assert.deepEqual(await client.next('room:userJoined'), { userId: other.userId });
  });

  test('of an older protocol is refused', async () => {
    const answer = await server.fetch('/socket.io/?EIO=3&transport=polling');
    assert.equal(answer.status, 400);
  });
});

describe('a page of', () => {
  const from = (origin, transports) => ({
    ...withToken(good()),
    extraHeaders: { origin },
    transports: [transports],
  });
  for (const transport of ['websocket', 'polling']) {
    test(`another origin is refused over ${transport}`, async () => {
      for (const origin of ['https://evil.example', 'http://app.example.com', `${ORIGIN}.evil.example`, 'null']) {
        assert.equal(await server.refusedConnect(from(origin, transport)), 'Origin not allowed', origin);
      }
    });

    test(`a listed origin connects over ${transport}`, async () => {
      assert.equal(await server.refusedConnect(from(ORIGIN, transport)), 'connected');
    });

    test(`the server's own origin connects over ${transport}`, async () => {
      assert.equal(await server.refusedConnect(from(server.url, transport)), 'connected');
    });
  }

  test('another origin is told so even with a bad token', async () => {
    const options = { ...from('https://evil.example', 'websocket'), auth: { token: 'nonsense' } };
    assert.equal(await server.refusedConnect(options), 'Origin not allowed');
  });
});

test('another namespace than / is refused', async () => {
  const client = await server.connect();
  const other = client.socket.io.socket('/admin', withToken(good()));
  const refusal = new Promise((done) => other.once('connect_error', (error) => done(error.message)));
  other.connect();
  assert.equal(typeof (await refusal), 'string');
  await client.join('after-another-namespace');
});
