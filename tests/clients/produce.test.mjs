// audio:produce: what works as it is sent, who hears of it, what replaces what.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { invalid, ok, refused } from './client.mjs';
import { bare, consume, newSsrc, openTransport, opus, produce, producing, speaker } from './media.mjs';
import { start } from './server.mjs';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

let server;
before(async () => { server = await start(); });
after(() => server?.stop());

/** The payload that the first clients' documentation printed. */
const DOCUMENTED = {
  mid: '0',
  codecs: [{ mimeType: 'audio/opus', payloadType: 111, clockRate: 48000, channels: 2 }],
  headerExtensions: [],
  encodings: [{ ssrc: 12345678 }],
};

describe('producing', () => {
  test('answers the id and tells the others', async () => {
    const [client, other] = [await server.enter('simple'), await server.enter('simple')];
    await client.next('room:userJoined');
    const data = await client.ask('audio:produce', await producing(client));
    assert.deepEqual(Object.keys(data), ['id']);
    assert.match(data.id, UUID);
    await server.settle('simple', client, other);
    const { userId } = client;
    assert.deepEqual(other.left(), [
      ['audio:newProducer', { producerId: data.id, userId, kind: 'audio', source: 'mic' }],
    ]);
    assert.deepEqual(client.left(), []);
  });

  const asSent = {
    'the documented example': DOCUMENTED,
    'what Chromium sends': opus(),
    'Opus under payload type 96 with nothing else': bare(),
    'empty parameters and no feedback': {
      ...bare(),
      codecs: [{ ...bare().codecs[0], parameters: {}, rtcpFeedback: [] }],
    },
    'null for all that may be absent': {
      mid: null,
      codecs: [{ ...bare().codecs[0], parameters: null, rtcpFeedback: null }],
      headerExtensions: null,
      encodings: [{ ssrc: newSsrc(), rid: null, codecPayloadType: null, rtx: null, dtx: null, scalabilityMode: null, maxBitrate: null }],
      rtcp: null,
    },
    'unknown header extensions': {
      ...bare(),
      headerExtensions: [
        { uri: 'urn:example:unheard-of', id: 5 },
        { uri: 'urn:ietf:params:rtp-hdrext:ssrc-audio-level', id: 14 },
      ],
    },
    'a mid in place of an ssrc': { ...opus({ mid: 'a1' }), encodings: [{}] },
    'no channels': { ...bare(), codecs: [{ mimeType: 'audio/opus', payloadType: 96, clockRate: 48000 }] },
    'the codec in other letters': { ...bare(), codecs: [{ ...bare().codecs[0], mimeType: 'audio/OPUS' }] },
    'whole numbers written as decimals': { ...bare(), encodings: [{ ssrc: newSsrc(), maxBitrate: 64000.0 }] },
    'unknown fields everywhere': {
      ...bare(), future: { x: 1 }, encodings: [{ ssrc: newSsrc(), future: [] }],
    },
  };
  for (const [name, rtpParameters] of Object.entries(asSent)) {
    test(`${name} works as sent, and can be consumed`, async () => {
      const [client, other] = [await server.enter('as-sent'), await server.enter('as-sent')];
      const producerId = await produce(client, { rtpParameters });
      const { rtpParameters: received } = await consume(other, producerId);
      const [codec] = received.codecs;
      assert.equal(codec.mimeType.toLowerCase(), 'audio/opus');
      const [offered] = other.joined.rtpCapabilities.codecs;
      assert.equal(codec.payloadType, offered.preferredPayloadType);
      client.close();
      other.close();
    });
  }

  test('comes before connecting too', async () => {
    const client = await server.enter('unconnected');
    const transportId = await openTransport(client, 'producer', { connect: false });
    const answer = await client.request('audio:produce', { transportId, kind: 'audio', rtpParameters: opus() });
    assert.match(ok(answer).id, UUID);
  });

  test('takes any appData, and makes nothing of it', async () => {
    const client = await server.enter('app-data');
    for (const appData of [{}, { a: { b: [1] } }, null, 'text', 7, []]) {
      await produce(client, { appData });
    }
  });

  test('is shown to newcomers', async () => {
    const client = await speaker(server, 'shown');
    const { joined } = await server.enter('shown');
    const { producerId, userId } = client;
    assert.deepEqual(joined.participants, [{ userId, isSpeaker: true }]);
    assert.deepEqual(joined.existingProducers, [{ producerId, userId, kind: 'audio', source: 'mic', paused: false }]);
  });
});

describe('producing is refused', () => {
  test('for other kinds than audio', async () => {
    const client = await server.enter('kinds');
    for (const kind of ['video', 'Audio', '', 1, null, undefined, ['audio']]) {
      invalid(await client.request('audio:produce', await producing(client, { kind })), 'kind');
    }
  });

  test('for other sources than mic and music', async () => {
    const client = await server.enter('sources');
    for (const source of ['screen', 'Mic', '', 1, {}, ['mic']]) {
      invalid(await client.request('audio:produce', await producing(client, { source })), 'source');
    }
    await produce(client, { source: null });
  });

  test('over the receiving transport', async () => {
    const client = await server.enter('backwards');
    const transportId = await openTransport(client, 'consumer');
    const fields = { transportId, kind: 'audio', rtpParameters: opus() };
    refused(await client.request('audio:produce', fields), 'Transport not found');
  });

  test('over another participant\'s transport, like over an unknown one', async () => {
    const [owner, prober] = [await server.enter('foreign'), await server.enter('foreign')];
    const answers = new Set();
    for (const transportId of [await openTransport(owner, 'producer'), randomUUID(), 'nonsense', '']) {
      const answer = await prober.request('audio:produce', { transportId, kind: 'audio', rtpParameters: opus() });
      refused(answer, 'Transport not found');
      answers.add(JSON.stringify(answer));
    }
    assert.equal(answers.size, 1, [...answers].join('\n'));
    await server.settle('foreign', owner);
    assert.deepEqual(owner.left().filter(([name]) => name === 'audio:newProducer'), []);
  });

  const unsupported = {
    'a codec that the room has not': { codecs: [{ mimeType: 'audio/PCMU', payloadType: 0, clockRate: 8000 }] },
    'another clock rate': { codecs: [{ mimeType: 'audio/opus', payloadType: 96, clockRate: 44100, channels: 2 }] },
    'another number of channels': { codecs: [{ mimeType: 'audio/opus', payloadType: 96, clockRate: 48000, channels: 1 }] },
  };
  for (const [name, parts] of Object.entries(unsupported)) {
    test(`for ${name}`, async () => {
      const client = await server.enter('unsupported');
      const rtpParameters = { ...bare(), ...parts };
      refused(await client.request('audio:produce', await producing(client, { rtpParameters })), 'Cannot produce');
      await produce(client);
    });
  }

  test('for an SSRC that the other source has', async () => {
    const [client, other] = [await server.enter('same-ssrc'), await server.enter('same-ssrc')];
    const ssrc = newSsrc();
    const mic = await produce(client, { rtpParameters: opus({ ssrc }) });
    const music = await producing(client, { rtpParameters: opus({ ssrc, mid: '1' }), source: 'music' });
    refused(await client.request('audio:produce', music), 'Cannot produce');
    const { joined } = await server.enter('same-ssrc');
    assert.deepEqual(joined.existingProducers.map((one) => one.producerId), [mic]);
    await consume(other, mic);
  });
});

describe('a second source', () => {
  test('runs beside the first', async () => {
    const [client, other] = [await server.enter('two'), await server.enter('two')];
    const mic = await produce(client, { source: 'mic' });
    const music = await produce(client, { source: 'music', rtpParameters: opus({ mid: '1' }) });
    const { userId } = client;
    await server.settle('two', other);
    assert.deepEqual(other.left(), [
      ['audio:newProducer', { producerId: mic, userId, kind: 'audio', source: 'mic' }],
      ['audio:newProducer', { producerId: music, userId, kind: 'audio', source: 'music' }],
    ]);
    await consume(other, mic);
    await consume(other, music);
  });

  test('ends without the first', async () => {
    const [client, other] = [await server.enter('two-one'), await server.enter('two-one')];
    const mic = await produce(client);
    const music = await produce(client, { source: 'music' });
    ok(await client.request('producer:close', { producerId: music }));
    assert.equal((await other.next('audio:producerClosed')).source, 'music');
    await consume(other, mic);
  });
});

describe('producing the same source again', () => {
  const ssrc = newSsrc();
  const pairs = {
    'with another SSRC and MID': [opus({ mid: '0' }), opus({ mid: '1' })],
    'with the same SSRC': [opus({ ssrc, mid: '0' }), opus({ ssrc, mid: '1' })],
    'with the same MID': [opus({ mid: '0' }), opus({ mid: '0' })],
    'with the same SSRC and MID': [opus({ ssrc, mid: '0' }), opus({ ssrc, mid: '0' })],
    'with the same MID and no SSRC': [{ ...opus(), encodings: [{}] }, { ...opus(), encodings: [{}] }],
  };
  for (const [name, [before_, after_]] of Object.entries(pairs)) {
    test(`${name} announces the new one, then the end of the old`, async () => {
      const room = `replaced ${name}`;
      const [client, other] = [await server.enter(room), await server.enter(room)];
      const { userId } = client;
      await client.next('room:userJoined');
      const old = await produce(client, { rtpParameters: before_ });
      const consumer = await consume(other, old);
      other.forget();
      const fresh = await produce(client, { rtpParameters: after_ });
      assert.notEqual(fresh, old);
      await server.settle(room, client, other);
      const closed = ['audio:producerClosed', { producerId: old, userId, source: 'mic', reason: 'replaced' }];
      assert.deepEqual(other.left(), [
        ['audio:newProducer', { producerId: fresh, userId, kind: 'audio', source: 'mic' }],
        closed,
      ]);
      assert.deepEqual(client.left(), [closed]);
      refused(await other.request('consumer:resume', { consumerId: consumer.id }), 'Consumer not found');
      refused(await client.request('producer:close', { producerId: old }), 'Producer not found');
      await consume(other, fresh);
    });
  }

  test('leaves the other source alone', async () => {
    const [client, other] = [await server.enter('replaced-mic'), await server.enter('replaced-mic')];
    const music = await produce(client, { source: 'music' });
    await produce(client);
    await produce(client);
    await consume(other, music);
    assert.equal((await other.next('audio:producerClosed')).source, 'mic');
  });

  test('many times at once ends with one, each other announced and closed', async () => {
    const [client, other] = [await server.enter('storm'), await server.enter('storm')];
    const payloads = await Promise.all(Array.from({ length: 20 }, () => producing(client)));
    const answers = await Promise.all(payloads.map((fields) => client.request('audio:produce', fields)));
    const ids = answers.map((answer) => ok(answer).id);
    await server.settle('storm', other);
    const open = new Set();
    for (const [name, { producerId }] of other.left()) {
      if (name === 'audio:newProducer') open.add(producerId);
      else assert.ok(open.delete(producerId), 'closed after it was announced');
    }
    assert.equal(open.size, 1);
    const { joined } = await server.enter('storm');
    assert.deepEqual(joined.existingProducers.map((one) => one.producerId), [...open]);
    assert.equal(other.left().filter(([name]) => name === 'audio:newProducer').length, ids.length);
  });

  test('with parameters that are refused keeps the old one', async () => {
    const [client, other] = [await server.enter('kept-old'), await server.enter('kept-old')];
    const producerId = await produce(client);
    for (const rtpParameters of [{ ...bare(), codecs: [] }, { ...bare(), codecs: [{ mimeType: 'audio/PCMU', payloadType: 0, clockRate: 8000 }] }]) {
      const answer = await client.request('audio:produce', await producing(client, { rtpParameters }));
      assert.equal(answer.success, false);
    }
    await consume(other, producerId);
    await server.settle('kept-old', other);
    assert.deepEqual(other.left().filter(([name]) => name === 'audio:producerClosed'), []);
  });
});
