// audio:consume and consumer:resume, :pause, :close.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { ok, refused } from './client.mjs';
import { consume, consuming, openTransport, produce, speaker } from './media.mjs';
import { start } from './server.mjs';

let server;
before(async () => { server = await start({ config: { rooms: 'max_consumers = 3' } }); });
after(() => server?.stop());

describe('consuming', () => {
  test('with the capabilities of the join answer gives all that a receiver needs', async () => {
    const sender = await speaker(server, 'complete');
    const listener = await server.enter('complete');
    const { id, producerId, kind, rtpParameters, producerPaused, ...rest } = await consume(listener, sender.producerId);
    assert.equal(typeof id, 'string');
    assert.notEqual(id, producerId);
    assert.deepEqual(rest, {});
    assert.deepEqual({ producerId, kind, producerPaused }, { producerId: sender.producerId, kind: 'audio', producerPaused: false });
    assert.equal(rtpParameters.codecs[0].mimeType, 'audio/opus');
    assert.ok(Array.isArray(rtpParameters.codecs[0].rtcpFeedback));
    assert.equal(typeof rtpParameters.codecs[0].parameters, 'object');
    assert.ok(Array.isArray(rtpParameters.headerExtensions));
    assert.equal(rtpParameters.encodings.length, 1);
    assert.equal(typeof rtpParameters.encodings[0].ssrc, 'number');
    assert.equal(typeof rtpParameters.rtcp.cname, 'string');
    assert.equal(typeof rtpParameters.mid, 'string');
  });

  test('works before the receiving transport is connected', async () => {
    const sender = await speaker(server, 'unconnected');
    const listener = await server.enter('unconnected');
    listener.receiving = openTransport(listener, 'consumer', { connect: false });
    const { id } = await consume(listener, sender.producerId);
    ok(await listener.request('consumer:resume', { consumerId: id }));
  });

  test('works as soon as a producer is announced', async () => {
    const listener = await server.enter('at-once');
    const sender = await server.enter('at-once');
    const announced = listener.next('audio:newProducer').then(({ producerId }) => consume(listener, producerId));
    await produce(sender);
    assert.equal((await announced).kind, 'audio');
  });

  test('tells whether the producer is paused', async () => {
    const sender = await speaker(server, 'paused');
    ok(await sender.request('audio:selfMute', { producerId: sender.producerId }));
    const listener = await server.enter('paused');
    assert.equal((await consume(listener, sender.producerId)).producerPaused, true);
    ok(await sender.request('audio:selfUnmute', { producerId: sender.producerId }));
    assert.equal((await consume(listener, sender.producerId)).producerPaused, false);
  });

  test('is told to nobody', async () => {
    const sender = await speaker(server, 'private');
    const listener = await server.enter('private');
    await sender.next('room:userJoined');
    await consume(listener, sender.producerId);
    await server.settle('private', sender);
    assert.deepEqual(sender.left(), []);
  });

  test('is limited for each participant', async () => {
    const sender = await speaker(server, 'limited');
    const listener = await server.enter('limited');
    const consumers = [];
    for (let i = 0; i < 3; i += 1) consumers.push(await consume(listener, sender.producerId));
    const oneMore = await listener.request('audio:consume', await consuming(listener, sender.producerId));
    refused(oneMore, 'Cannot consume');
    ok(await listener.request('consumer:close', { consumerId: consumers[0].id }));
    await consume(listener, sender.producerId);
  });
});

describe('consuming is refused', () => {
  test('for a producer that is unknown, closed, or of another room, in the same words', async () => {
    const listener = await server.enter('not-found');
    const elsewhere = await speaker(server, 'not-found-there');
    const sender = await speaker(server, 'not-found');
    ok(await sender.request('producer:close', { producerId: sender.producerId }));
    const answers = new Set();
    for (const producerId of [randomUUID(), 'nonsense', '', elsewhere.producerId, sender.producerId]) {
      const answer = await listener.request('audio:consume', await consuming(listener, producerId));
      refused(answer, 'Producer not found');
      answers.add(JSON.stringify(answer));
    }
    assert.equal(answers.size, 1, [...answers].join('\n'));
  });

  test('over a transport that is unknown or another participant\'s, in the same words', async () => {
    const sender = await speaker(server, 'foreign-transport');
    const [owner, prober] = [await server.enter('foreign-transport'), await server.enter('foreign-transport')];
    const answers = new Set();
    for (const transportId of [await openTransport(owner, 'consumer'), randomUUID(), 'nonsense', '']) {
      const fields = { ...(await consuming(prober, sender.producerId)), transportId };
      const answer = await prober.request('audio:consume', fields);
      refused(answer, 'Transport not found');
      answers.add(JSON.stringify(answer));
    }
    assert.equal(answers.size, 1, [...answers].join('\n'));
  });

  test('over the sending transport', async () => {
    const sender = await speaker(server, 'backwards');
    const listener = await server.enter('backwards');
    const transportId = await openTransport(listener, 'producer');
    const fields = { ...(await consuming(listener, sender.producerId)), transportId };
    refused(await listener.request('audio:consume', fields), 'Transport not found');
  });

  test('with capabilities that do not fit, and says why', async () => {
    const sender = await speaker(server, 'unfit');
    const listener = await server.enter('unfit');
    const fields = { ...(await consuming(listener, sender.producerId)), rtpCapabilities: { codecs: [] } };
    refused(await listener.request('audio:consume', fields), 'Cannot consume');
    await consume(listener, sender.producerId);
  });
});

describe('a consumer', () => {
  const EVENTS = ['consumer:resume', 'consumer:pause', 'consumer:close'];

  test('is resumed, paused and closed by its client', async () => {
    const sender = await speaker(server, 'lifecycle');
    const listener = await server.enter('lifecycle');
    const { id: consumerId } = await consume(listener, sender.producerId);
    const events = ['consumer:resume', 'consumer:resume', 'consumer:pause', 'consumer:pause', 'consumer:resume', 'consumer:close'];
    for (const event of events) {
      assert.deepEqual(await listener.request(event, { consumerId }), { success: true }, event);
    }
    for (const event of EVENTS) {
      refused(await listener.request(event, { consumerId }), 'Consumer not found');
    }
  });

  for (const event of EVENTS) {
    test(`of another participant is answered like an unknown one by ${event}`, async () => {
      const sender = await speaker(server, `probed-${event}`);
      const owner = await server.enter(`probed-${event}`);
      const prober = await server.enter(`probed-${event}`);
      const { id } = await consume(owner, sender.producerId);
      const answers = new Set();
      for (const client of [prober, sender]) {
        for (const consumerId of [id, randomUUID(), 'nonsense', '', sender.producerId]) {
          const answer = await client.request(event, { consumerId });
          refused(answer, 'Consumer not found');
          answers.add(JSON.stringify(answer));
        }
      }
      assert.equal(answers.size, 1, [...answers].join('\n'));
      ok(await owner.request(event, { consumerId: id }));
    });

    test(`is not found by ${event} in a room that one is not in`, async () => {
      const sender = await speaker(server, `wrong-room-${event}`);
      const listener = await server.enter(`wrong-room-${event}`);
      const { id: consumerId } = await consume(listener, sender.producerId);
      refused(await listener.request(event, { roomId: 'another', consumerId }), 'Room not found');
      ok(await listener.request(event, { consumerId }));
    });
  }

  test('ends with its producer', async () => {
    const sender = await speaker(server, 'ends');
    const listener = await server.enter('ends');
    const { id: consumerId } = await consume(listener, sender.producerId);
    ok(await sender.request('producer:close', { producerId: sender.producerId }));
    await listener.next('audio:producerClosed');
    for (const event of EVENTS) {
      refused(await listener.request(event, { consumerId }), 'Consumer not found');
    }
  });

  test('gets the typed answer when its producer ends at the same moment', async () => {
    const listener = await server.enter('race');
    for (let i = 0; i < 10; i += 1) {
      const sender = await speaker(server, 'race');
      const fields = await consuming(listener, sender.producerId);
      const [answer] = await Promise.all([
        listener.request('audio:consume', fields),
        sender.request('producer:close', { producerId: sender.producerId }),
      ]);
      if (answer.success) {
        const late = await listener.request('consumer:resume', { consumerId: answer.data.id });
        if (!late.success) refused(late, 'Consumer not found');
      } else {
        refused(answer, 'Producer not found');
      }
      sender.close();
    }
  });
});
