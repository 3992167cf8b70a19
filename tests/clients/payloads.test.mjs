// Every client event with payloads that are incomplete, of the wrong type or
// at the wrong time.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { invalid, ok, refused } from './client.mjs';
import { dtls, opus } from './media.mjs';
import { start } from './server.mjs';

let server;
before(async () => {
  server = await start({ config: { sessions: 'event_budget_capacity = 100000' } });
});
after(() => server?.stop());

const id = randomUUID();
const rtpCapabilities = { codecs: [] };

/** Each event of the core: its good fields beside `roomId`, and what it says to one who is in no room. */
const EVENTS = {
  'room:join': { fields: {}, outside: null },
  'room:leave': { fields: {}, outside: 'Not in room' },
  'transport:create': { fields: { type: 'producer' }, outside: 'Not in room' },
  'transport:connect': { fields: { transportId: id, dtlsParameters: dtls() }, outside: 'Not in room' },
  'transport:restartIce': { fields: { transportId: id }, outside: 'Not in room' },
  'audio:produce': { fields: { transportId: id, kind: 'audio', rtpParameters: opus() }, outside: 'Not in room' },
  'audio:consume': { fields: { transportId: id, producerId: id, rtpCapabilities }, outside: 'Not in room' },
  'consumer:resume': { fields: { consumerId: id }, outside: 'Room not found' },
  'consumer:pause': { fields: { consumerId: id }, outside: 'Room not found' },
  'consumer:close': { fields: { consumerId: id }, outside: 'Room not found' },
  'audio:selfMute': { fields: { producerId: id }, outside: 'Producer not found' },
  'audio:selfUnmute': { fields: { producerId: id }, outside: 'Producer not found' },
  'producer:close': { fields: { producerId: id }, outside: 'Producer not found' },
};

const NO_OBJECTS = {
  'nothing': [],
  'null': [null],
  'a text': ['text'],
  'an empty text': [''],
  'a number': [7],
  'true': [true],
  'a list': [[{ roomId: 'x' }]],
  'an empty list': [[]],
  'bytes': [Buffer.from('{}')],
};

/** Values of every JSON type; a field takes one of them at most. */
const VALUES = { 'a number': 7, 'a boolean': true, 'a list': ['x'], 'an object': { x: 1 }, 'a text': 'x' };

for (const [event, { fields, outside }] of Object.entries(EVENTS)) {
  describe(event, () => {
    let client;
    before(async () => { client = await server.enter(`payloads-${event}`); });

    if (outside) {
      test(`before joining is refused: ${outside}`, async () => {
        const newcomer = await server.connect();
        refused(await newcomer.send(event, { roomId: 'nowhere', ...fields }), outside);
        newcomer.close();
      });

      test(`for another room than one's own is refused: ${outside}`, async () => {
        refused(await client.request(event, { ...fields, roomId: 'another' }), outside);
      });
    }

    for (const [name, payload] of Object.entries(NO_OBJECTS)) {
      test(`with ${name} for a payload is refused`, async () => {
        invalid(await client.send(event, ...payload));
      });
    }

    const required = ['roomId', ...Object.keys(fields)];
    test(`names each missing field: ${required.join(', ')}`, async () => {
      for (const field of required) {
        invalid(await client.request(event, { ...fields, [field]: undefined }), field);
        invalid(await client.request(event, { ...fields, [field]: null }), field);
      }
    });

    test('names each field of the wrong type', async () => {
      const good = { roomId: client.room, ...fields };
      for (const field of required) {
        for (const [name, value] of Object.entries(VALUES)) {
          const same = Array.isArray(good[field]) === Array.isArray(value) && typeof good[field] === typeof value;
          if (same) continue;
          const answer = await client.request(event, { ...fields, [field]: value });
          assert.equal(answer.code, 'INVALID_PAYLOAD', `${field} is ${name}`);
          invalid(answer, field);
        }
      }
    });

    test('names all wrong fields at once', async () => {
      const wrong = Object.fromEntries(required.map((field) => [field, 7]));
      invalid(await client.send(event, wrong), ...required);
      invalid(await client.send(event, {}), ...required);
    });

    test('ignores fields that it does not know', async () => {
      const unknown = { future: { a: [1, null] }, __proto__x: 1, roomID: 'x', token: 'y' };
      const plain = await client.request(event, fields);
      const more = await (await server.enter(`payloads-more-${event}`)).request(event, { ...unknown, ...fields });
      assert.deepEqual([more.success, more.error], [plain.success, plain.error]);
    });

    test('without an acknowledgement does no harm', async () => {
      const quiet = await server.enter(`payloads-quiet-${event}`);
      for (const payload of [...Object.values(NO_OBJECTS), [{}], [{ roomId: 7 }], [{ roomId: quiet.room, ...fields }]]) {
        quiet.socket.emit(event, ...payload);
      }
      const last = await quiet.send('room:join', { roomId: quiet.room });
      ok(last);
      quiet.close();
    });
  });
}

describe('an event that nobody registered', () => {
  const names = ['nobody:knows', 'room:Join', 'ROOM:JOIN', 'x', 'message', '__proto__', 'toString', 'seat:', 'é😀', 'x'.repeat(2000)];

  test('is refused before joining', async () => {
    const client = await server.connect();
    for (const name of names) refused(await client.send(name, { roomId: 'nowhere' }), 'Unknown event');
  });

  test('is refused in a room', async () => {
    const client = await server.enter('unknown-events');
    for (const name of names) refused(await client.request(name), 'Unknown event');
  });

  test('does no harm without an acknowledgement, or with strange payloads', async () => {
    const client = await server.enter('unknown-events-quiet');
    for (const name of names) {
      client.socket.emit(name);
      client.socket.emit(name, null, 1, 'x');
      const answer = await client.send(name, ['x']);
      assert.equal(answer.success, false);
      assert.notEqual(answer.code, 'INTERNAL_ERROR');
    }
    await client.ask('transport:create', { type: 'producer' });
  });
});

describe('an event of a plugin', () => {
  test('before joining is refused: Not in room', async () => {
    const client = await server.connect();
    refused(await client.send('seat:take', { roomId: 'nowhere', seatIndex: 0 }), 'Not in room');
    refused(await client.send('moderation:kick', { roomId: 'nowhere', userId: 1 }), 'Not in room');
  });

  test('for another room than one\'s own is refused: Not in room', async () => {
    const client = await server.enter('plugin-room');
    refused(await client.request('seat:take', { roomId: 'another', seatIndex: 0 }), 'Not in room');
  });

  test('needs an object with a room', async () => {
    const client = await server.enter('plugin-payload');
    for (const payload of Object.values(NO_OBJECTS)) invalid(await client.send('seat:take', ...payload));
    invalid(await client.send('seat:take', { seatIndex: 0 }), 'roomId');
    invalid(await client.send('seat:take', { roomId: 7, seatIndex: 0 }), 'roomId');
  });

  test('takes a payload with whatever JSON in it', async () => {
    const client = await server.enter('plugin-json');
    const more = { text: '\u0000é😀"\\', number: -1.5e-9, list: [null, [], {}], big: 2 ** 53 };
    ok(await client.request('seat:take', { seatIndex: 0, ...more }));
  });
});

test('several arguments are answered, and do no harm', async () => {
  const client = await server.connect();
  const answer = await client.send('room:join', { roomId: 'several' }, { roomId: 'more' }, 3);
  assert.notEqual(answer.code, 'INTERNAL_ERROR');
  ok(await client.send('room:join', { roomId: 'several' }));
});

test('bytes within a payload are a field of the wrong type', async () => {
  const client = await server.connect();
  const answer = await client.send('room:join', { roomId: Buffer.from('room') });
  refused(answer, 'INVALID_PAYLOAD');
  ok(await client.send('room:join', { roomId: 'after-bytes' }));
});

test('answers come in the order of the requests', async () => {
  const client = await server.enter('in-order');
  const order = [];
  await Promise.all(Array.from({ length: 50 }, (_, i) =>
    client.request('consumer:resume', { consumerId: String(i) }).then(() => order.push(i))));
  assert.deepEqual(order, Array.from({ length: 50 }, (_, i) => i));
});
