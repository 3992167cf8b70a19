// How the server starts, stops and starts again.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, describe, test } from 'node:test';

import { ok, refused, within } from './client.mjs';
import { produce, speaker } from './media.mjs';
import { SEATED, killAll, newUser, runToEnd, start, temporary } from './server.mjs';

const temps = [];
afterEach(killAll);
after(() => Promise.all(temps.map((temp) => temp.remove())));

async function directory() {
  const temp = await temporary();
  temps.push(temp);
  return temp.path;
}

describe('a server that starts', () => {
  test('says on one line where it is', async () => {
    const server = await start();
    const lines = server.output.stdout.trimEnd().split('\n');
    assert.equal(lines.length, 1, server.output.stdout);
    assert.ok(lines[0].includes(server.url));
    assert.equal((await server.fetch('/ready')).status, 200);
    await server.stop();
  });

  test('has the three plugins in development mode, and gives a room to its first user', async () => {
    const server = await start({ config: { plugins: '' } });
    const first = await server.enter('first-is-owner');
    const second = await server.enter('first-is-owner');
    const lock = (client) => client.request('seat:lock', { seatIndex: 0 });
    const mute = (client, { userId }) => client.request('moderation:mute', { userId });
    refused(await lock(second), 'Not authorized', { plugin: 'seats' });
    refused(await mute(second, first), 'Not authorized', { plugin: 'moderation' });
    ok(await lock(first));
    ok(await mute(first, second));
    const third = await server.enter('first-is-owner');
    await first.leave();
    refused(await lock(second), 'Not authorized', { plugin: 'seats' });
    refused(await mute(second, third), 'Not authorized', { plugin: 'moderation' });
    await server.stop();
  });

  test('without plugins lets everybody speak and knows none of their events', async () => {
    const server = await start({ config: { plugins: null } });
    const client = await speaker(server, 'no-plugins');
    assert.deepEqual(client.joined.plugins, {});
    refused(await client.request('seat:take', { seatIndex: 0 }), 'Unknown event');
    await server.stop();
  });

  test('outside development mode gives no tokens', async () => {
    const media = 'workers = 1\nlisten_ip = "127.0.0.1"\nport_base = 0';
    const server = await start({ dev: false, config: { media } });
    const answer = await server.post('/dev/token', '{"userId":1}');
    assert.ok([404, 405].includes(answer.status), `${answer.status}`);
    await server.stop();
  });
});

describe('a server that is told to stop', () => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    test(`by ${signal} tells its clients and ends well`, async () => {
      const server = await start();
      const sender = await speaker(server, 'closing');
      const [other, roomless] = [await server.enter('closing'), await server.connect()];
      const polling = await server.enter('closing-too', { transports: ['polling'] });
      const before = Date.now();
      server.signal(signal);
      const { code, signal: killed, stderr } = await server.ended();
      assert.deepEqual({ code, killed }, { code: 0, killed: null }, stderr);

      for (const client of [sender, other, roomless, polling]) {
        const { deadline, ...rest } = await client.next('server:draining');
        assert.deepEqual(rest, {});
        assert.ok(deadline >= before, 'Unix milliseconds');
        assert.ok(deadline <= before + 60_000);
        await within(1_000, 'the end of the connection', client.disconnected);
      }
      for (const client of [sender, other, polling]) {
        const { timestamp, ...closed } = await client.next('room:closed');
        assert.deepEqual(closed, { roomId: client.room, reason: 'shutdown' });
        assert.ok(timestamp >= before);
      }
      const { producerId, userId } = sender;
      assert.deepEqual(other.left(), [
        ['audio:producerClosed', { producerId, userId, source: 'mic', reason: 'room_closed' }],
      ]);
      assert.deepEqual(roomless.left(), []);
      await server.stop();
    });
  }

  test('takes nobody in any more, and is not ready', async () => {
    const server = await start();
    const [inside, outside] = [await server.enter('drained'), await server.connect()];
    const late = new Promise((done) => {
      outside.socket.once('server:draining', () => {
        outside.socket.emit('room:join', { roomId: 'late' }, done);
        outside.socket.once('disconnect', () => done(null));
      });
    });
    const notReady = inside.saw('server:draining')
      .then(() => server.fetch('/ready'))
      .then((answer) => answer.status, () => 'gone');
    server.signal('SIGTERM');
    const answer = await late;
    if (answer) refused(answer, 'Server is draining');
    assert.ok([503, 'gone'].includes(await notReady), `${await notReady}`);
    await server.stop();
  });

  test('ends within its limit, with clients that do not listen', async () => {
    const server = await start({ config: { server: 'shutdown_limit_ms = 2000' } });
    for (let i = 0; i < 5; i += 1) {
      const client = await server.enter('deaf');
      client.socket.io.engine.transport.ws.pause();
    }
    const before = Date.now();
    server.signal('SIGTERM');
    const { code } = await server.ended();
    assert.equal(code, 0);
    assert.ok(Date.now() - before < 4_000, `${Date.now() - before} ms`);
    await server.stop();
  });
});

describe('after a restart with the same data', () => {
  test('locks and bans hold, and people are gone', async () => {
    const dir = await directory();
    const [room, banned, shortly] = ['lasting', newUser(), newUser()];
    const first = await start({ dir, config: { plugins: SEATED } });
    const boss = await first.enter(room, { roles: ['owner'] });
    ok(await boss.request('seat:take', { seatIndex: 0 }));
    ok(await boss.request('seat:lock', { seatIndex: 5 }));
    ok(await boss.request('seat:lock', { seatIndex: 6 }));
    ok(await boss.request('seat:unlock', { seatIndex: 6 }));
    ok(await boss.request('moderation:ban', { userId: banned, reason: 'Lasting' }));
    ok(await boss.request('moderation:ban', { userId: shortly, seconds: 1 }));
    await first.stop();

    const second = await start({ dir, config: { plugins: SEATED } });
    const guest = await second.enter(room);
    assert.deepEqual(guest.joined.plugins.seats, { seatCount: 8, seats: [], lockedSeats: [5] });
    refused(await guest.request('seat:take', { seatIndex: 5 }), 'Seat is locked', { plugin: 'seats' });
    ok(await guest.request('seat:take', { seatIndex: 6 }));
    await produce(guest);
    const back = await second.connect({ userId: banned });
    const answer = await back.send('room:join', { roomId: room });
    assert.deepEqual([answer.code, answer.plugin], ['BANNED', 'moderation']);
    await second.stop();
  });

  test('and nobody is left seated by a server that was killed', async () => {
    const dir = await directory();
    const first = await start({ dir, config: { plugins: SEATED } });
    const boss = await first.enter('crashed', { roles: ['owner'] });
    ok(await boss.request('seat:take', { seatIndex: 0 }));
    await first.kill();

    const second = await start({ dir, config: { plugins: SEATED } });
    const guest = await second.enter('crashed');
    assert.deepEqual(guest.joined.plugins.seats.seats, []);
    await second.stop();
  });
});

describe('a server that cannot start', () => {
  const serve = (...args) => runToEnd(['serve', ...args]);

  /** A file with this text. */
  async function file(text) {
    const path = join(await directory(), 'config.toml');
    await writeFile(path, text);
    return path;
  }

  test('because another has its data says so', async () => {
    const dir = await directory();
    const first = await start({ dir });
    const { code, signal, stderr } = await serve('--dev', '--listen', '127.0.0.1:0', '--data-dir', dir);
    assert.equal(signal, null);
    assert.ok(code > 0, `${code}`);
    assert.ok(stderr.includes(dir), stderr);
    assert.doesNotMatch(stderr, /panicked/);
    await first.serves();
    await first.stop();
  });

  test('because another has its port says so', async () => {
    const taken = createServer();
    await new Promise((done) => taken.listen(0, '127.0.0.1', done));
    const listen = `127.0.0.1:${taken.address().port}`;
    taken.unref();
    const { code, stderr } = await serve('--dev', '--listen', listen, '--data-dir', await directory());
    taken.close();
    assert.ok(code > 0, `${code}`);
    assert.ok(stderr.includes(listen), stderr);
    assert.doesNotMatch(stderr, /panicked/);
  });

  test('because its configuration is wrong names all mistakes at once', async () => {
    const config = await file(`
      [server]
      listen = "nowhere"
      shutdown_limit_ms = -1
      [media]
      workers = "many"
      [rooms]
      max_participants = 0
      unheard_of = 1
      [unheard]
      of = 2
    `);
    const { code, signal, stdout, stderr } = await serve('--dev', '--config', config, '--data-dir', await directory());
    assert.deepEqual({ code, signal }, { code: 2, signal: null }, stderr);
    const keys = ['server.listen', 'server.shutdown_limit_ms', 'media.workers', 'rooms.max_participants', 'rooms.unheard_of', 'unheard'];
    for (const key of keys) assert.ok(stderr.includes(key), `${key} in: ${stderr}`);
    assert.equal(stdout, '');
  });

  test('because its configuration is no TOML names the line', async () => {
    const config = await file('[server]\nlisten = \n');
    const { code, stderr } = await serve('--dev', '--config', config);
    assert.equal(code, 2);
    assert.match(stderr, /line 2/);
  });

  test('because its configuration is not there names the file', async () => {
    const { code, stderr } = await serve('--dev', '--config', '/nowhere/voice-room.toml');
    assert.equal(code, 2);
    assert.ok(stderr.includes('/nowhere/voice-room.toml'), stderr);
  });

  test('because it has no secret, or a short one, names the key', async () => {
    for (const text of ['', '[auth]\nsecret = "short-and-known"\n']) {
      const config = await file(text);
      const { code, stderr } = await serve('--config', config, '--data-dir', await directory());
      assert.equal(code, 2);
      assert.ok(stderr.includes('auth.secret'), stderr);
      assert.ok(!stderr.includes('short-and-known'), 'the secret stays one');
    }
  });

  test('because clients could not reach its media says what to set', async () => {
    const config = await file('[auth]\nsecret = "0123456789012345678901234567890123456789"\n[media]\nlisten_ip = "0.0.0.0"\n');
    const { code, stderr } = await serve('--config', config, '--data-dir', await directory());
    assert.equal(code, 2);
    assert.ok(stderr.includes('media.announced_address'), stderr);
  });

  test('because a plugin is not there names it', async () => {
    const config = await file('[[plugins]]\nname = "not-there"\n');
    const { code, stderr } = await serve('--dev', '--listen', '127.0.0.1:0', '--config', config, '--data-dir', await directory());
    assert.ok(code > 0, `${code}`);
    assert.ok(stderr.includes('not-there'), stderr);
    assert.doesNotMatch(stderr, /panicked/);
  });

  test('because a plugin does not like its settings says what it said', async () => {
    const config = await file('[[plugins]]\nname = "seats"\n[plugins.settings]\nseat_count = 1000\n');
    const { code, stderr } = await serve('--dev', '--listen', '127.0.0.1:0', '--config', config, '--data-dir', await directory());
    assert.ok(code > 0, `${code}`);
    assert.match(stderr, /seats/);
    assert.match(stderr, /seat_count/);
  });

  test('because nobody knows its arguments says how it is used', async () => {
    for (const args of [['--unheard-of'], ['serve', '--unheard-of'], ['unheard-of']]) {
      const { code, stderr } = await runToEnd(args);
      assert.equal(code, 2);
      assert.match(stderr, /usage/i);
    }
  });
});
