// transport:create, transport:connect, transport:restartIce.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { invalid, ok, refused } from './client.mjs';
import { HASHES, dtls, fingerprint, openTransport } from './media.mjs';
import { start } from './server.mjs';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

let server;
before(async () => {
  const media = 'workers = 1\n[[media.ice_servers]]\nurls = ["stun:stun.example.com:3478"]';
  server = await start({ config: { media } });
});
after(() => server?.stop());

describe('a new transport', () => {
  for (const type of ['producer', 'consumer']) {
    test(`of type ${type} is described as mediasoup-client takes it`, async () => {
      const client = await server.enter(`described-${type}`);
      const { id, iceParameters, iceCandidates, dtlsParameters, iceServers, ...rest } =
        await client.ask('transport:create', { type });
      assert.match(id, UUID);
      assert.deepEqual(rest, {});
      assert.equal(typeof iceParameters.usernameFragment, 'string');
      assert.equal(typeof iceParameters.password, 'string');
      assert.equal(iceParameters.iceLite, true);
      assert.equal(dtlsParameters.role, 'auto');
      assert.ok(dtlsParameters.fingerprints.some((one) => one.algorithm === 'sha-256'));
      for (const { algorithm, value } of dtlsParameters.fingerprints) {
        assert.equal(value.split(':').length, HASHES[algorithm], algorithm);
      }
      assert.deepEqual(iceServers, [{ urls: ['stun:stun.example.com:3478'] }]);

      assert.deepEqual(iceCandidates.map((one) => one.protocol).sort(), ['tcp', 'udp']);
      for (const candidate of iceCandidates) {
        assert.equal(candidate.address, '127.0.0.1');
        assert.equal(candidate.ip, candidate.address);
        assert.equal(candidate.type, 'host');
        assert.ok(candidate.port > 0);
        assert.equal(typeof candidate.priority, 'number');
        assert.equal(typeof candidate.foundation, 'string');
      }
      assert.equal(iceCandidates.find((one) => one.protocol === 'tcp').tcpType, 'passive');
    });

    test(`of type ${type} is the only one, until one comes back`, async () => {
      const client = await server.enter(`only-one-${type}`);
      const first = await client.ask('transport:create', { type });
      refused(await client.request('transport:create', { type }), 'Transport limit reached');
      await client.leave();
      await client.join(`only-one-${type}`);
      const second = await client.ask('transport:create', { type });
      assert.notEqual(second.id, first.id);
    });
  }

  test('exists once, however many are asked for at the same time', async () => {
    const client = await server.enter('at-once');
    const asked = Array.from({ length: 6 }, () => client.request('transport:create', { type: 'producer' }));
    const answers = await Promise.all(asked);
    assert.equal(answers.filter((answer) => answer.success).length, 1);
    for (const answer of answers.filter((one) => !one.success)) refused(answer, 'Transport limit reached');
  });

  test('has one port for all transports of a worker', async () => {
    const ports = new Set();
    for (let i = 0; i < 3; i += 1) {
      const client = await server.enter('one-port');
      const { iceCandidates } = await client.ask('transport:create', { type: 'consumer' });
      for (const { protocol, port } of iceCandidates) ports.add(`${protocol} ${port}`);
    }
    assert.equal(ports.size, 2);
  });

  for (const type of ['send', '', 'Producer', 'both']) {
    test(`of type ${JSON.stringify(type)} is none`, async () => {
      const client = await server.enter('no-such-type');
      invalid(await client.request('transport:create', { type }), 'type');
    });
  }
});

describe('connecting', () => {
  const good = {
    'a sha-256 fingerprint': dtls(),
    'no role': { fingerprints: [fingerprint()] },
    'null for the role': { role: null, fingerprints: [fingerprint()] },
    'the role of a server': { role: 'server', fingerprints: [fingerprint()] },
    'the role left open': { role: 'auto', fingerprints: [fingerprint()] },
    'all algorithms at once': dtls(...Object.keys(HASHES).map(fingerprint)),
    'digits in lower case': dtls({ algorithm: 'sha-256', value: fingerprint().value.toLowerCase() }),
    'unknown fields': { ...dtls(), fingerprints: [{ ...fingerprint(), note: 'x' }], extra: { deep: [1] } },
  };
  for (const algorithm of Object.keys(HASHES)) good[`a lone ${algorithm} fingerprint`] = dtls(fingerprint(algorithm));
  for (const [name, dtlsParameters] of Object.entries(good)) {
    test(`with ${name} works`, async () => {
      const client = await server.enter('connects');
      const { id: transportId } = await client.ask('transport:create', { type: 'producer' });
      const answer = await client.request('transport:connect', { transportId, dtlsParameters });
      assert.deepEqual(answer, { success: true });
    });
  }

  const hex = fingerprint().value;
  const value = (text) => dtls({ algorithm: 'sha-256', value: text });
  const bad = {
    'nothing': undefined,
    'null': null,
    'a text': 'dtls',
    'a list': [dtls()],
    'no fingerprints': { role: 'client' },
    'an empty list of fingerprints': { role: 'client', fingerprints: [] },
    'fingerprints that are an object': { fingerprints: fingerprint() },
    'a fingerprint that is a text': { fingerprints: [hex] },
    'a fingerprint without a value': { fingerprints: [{ algorithm: 'sha-256' }] },
    'a fingerprint without an algorithm': { fingerprints: [{ value: hex }] },
    'an unknown algorithm': dtls({ algorithm: 'md5', value: hex }),
    'an algorithm that is a number': dtls({ algorithm: 256, value: hex }),
    'an empty value': value(''),
    'a value that is too short': value(hex.slice(0, -3)),
    'a value that is too long': value(`${hex}:00`),
    'the value of another algorithm': dtls({ algorithm: 'sha-512', value: hex }),
    '95 bytes that are no ASCII': value(`${'é'.repeat(47)}x`),
    '95 bytes with a character across a pair': value(`A${'é'}${hex.slice(3)}`),
    '95 characters that are no digits': value('Z'.repeat(95)),
    'signs in place of digits': value(hex.replaceAll(/[0-9A-F]{2}/g, '+F')),
    'other separators': value(hex.replaceAll(':', '-')),
    'no separators': value(hex.replaceAll(':', '')),
    'spaces around the value': value(` ${hex} `),
    'a value that is a number': value(12),
    'one good and one bad fingerprint': dtls(fingerprint(), { algorithm: 'sha-256', value: 'AA' }),
    'hundreds of fingerprints': { fingerprints: Array.from({ length: 300 }, () => fingerprint('sha-1')) },
    'an unknown role': { ...dtls(), role: 'both' },
    'a role that is a number': { ...dtls(), role: 1 },
  };
  test('with what is malformed is refused by name and changes nothing', async (t) => {
    const client = await server.enter('connects-not');
    const { id: transportId } = await client.ask('transport:create', { type: 'producer' });
    for (const [name, dtlsParameters] of Object.entries(bad)) {
      await t.test(name, async () => {
        invalid(await client.request('transport:connect', { transportId, dtlsParameters }), 'dtlsParameters');
      });
    }
    ok(await client.request('transport:connect', { transportId, dtlsParameters: dtls() }));
  });

  test('a second time is refused', async () => {
    const client = await server.enter('connects-twice');
    const transportId = await openTransport(client, 'producer');
    const again = () => client.request('transport:connect', { transportId, dtlsParameters: dtls() });
    refused(await again(), 'Transport already connected');
    refused(await again(), 'Transport already connected');
  });

  test('twice at once succeeds once', async () => {
    const client = await server.enter('connects-at-once');
    const { id: transportId } = await client.ask('transport:create', { type: 'consumer' });
    const connect = () => client.request('transport:connect', { transportId, dtlsParameters: dtls() });
    const [first, second] = await Promise.all([connect(), connect()]);
    ok(first);
    refused(second, 'Transport already connected');
  });

  test('works for both directions of one client', async () => {
    const client = await server.enter('connects-both');
    await openTransport(client, 'producer');
    await openTransport(client, 'consumer');
  });
});

describe('restarting ICE', () => {
  for (const type of ['producer', 'consumer']) {
    for (const connect of [false, true]) {
      test(`of a ${connect ? 'connected' : 'fresh'} ${type} gives new credentials`, async () => {
        const client = await server.enter('restarts');
        const created = await client.ask('transport:create', { type });
        const transportId = created.id;
        if (connect) ok(await client.request('transport:connect', { transportId, dtlsParameters: dtls() }));
        const { iceParameters, ...rest } = await client.ask('transport:restartIce', { transportId });
        assert.deepEqual(rest, {});
        assert.equal(iceParameters.iceLite, true);
        assert.notEqual(iceParameters.usernameFragment, created.iceParameters.usernameFragment);
        assert.notEqual(iceParameters.password, created.iceParameters.password);
        const again = await client.ask('transport:restartIce', { transportId });
        assert.notEqual(again.iceParameters.usernameFragment, iceParameters.usernameFragment);
      });
    }
  }
});

describe('another participant\'s transport', () => {
  const requests = {
    'transport:connect': { dtlsParameters: dtls() },
    'transport:restartIce': {},
  };
  for (const [event, fields] of Object.entries(requests)) {
    test(`is answered like an unknown one by ${event}, byte for byte`, async () => {
      const owner = await server.enter('probed');
      const prober = await server.enter('probed');
      const stranger = await server.enter('probed-from-afar');
      const ids = [randomUUID(), randomUUID().toUpperCase(), 'nonsense', '', '0', 'x'.repeat(1000)];
      for (const type of ['producer', 'consumer']) {
        ids.push((await owner.ask('transport:create', { type })).id);
      }
      const answers = new Set();
      for (const client of [prober, stranger]) {
        for (const transportId of ids) {
          const answer = await client.request(event, { ...fields, transportId });
          refused(answer, 'Transport not found');
          answers.add(JSON.stringify(answer));
        }
      }
      assert.equal(answers.size, 1, [...answers].join('\n'));
    });
  }

  test('is still its owner\'s afterwards', async () => {
    const owner = await server.enter('probed-in-vain');
    const prober = await server.enter('probed-in-vain');
    const { id: transportId } = await owner.ask('transport:create', { type: 'producer' });
    const connect = { transportId, dtlsParameters: dtls() };
    refused(await prober.request('transport:connect', connect), 'Transport not found');
    ok(await owner.request('transport:connect', connect));
  });
});
