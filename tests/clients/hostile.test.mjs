// Frames that no Socket.IO client sends. After each of them the server still
// answers others, and nobody is left behind in a room.

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';

// Comes with socket.io-client, which is made of it.
import WebSocket from 'ws';

import { ok, within } from './client.mjs';
import { start } from './server.mjs';

const LIMIT = 10_000;

let server;
let resident;
before(async () => {
  server = await start();
  resident = await server.enter('resident');
});
after(() => server?.stop());

/** The resident is answered, and a newcomer gets in. */
async function stillServes() {
  ok(await resident.request('seat:take', { seatIndex: 0 }));
  await server.serves();
}

/** Opens a raw WebSocket past the Engine.IO handshake. */
async function raw() {
  const url = server.url.replace('http', 'ws');
  const socket = new WebSocket(`${url}/socket.io/?EIO=4&transport=websocket`);
  socket.on('error', () => {});
  await within(LIMIT, 'the handshake', new Promise((done) => socket.once('message', done)));
  return socket;
}

/** As `raw`, connected to the namespace with a good token. */
async function session() {
  const socket = await raw();
  const connected = new Promise((done) => {
    // A ping may come first.
    socket.on('message', (frame) => { if (String(frame).startsWith('40')) done(); });
  });
  socket.send(`40${JSON.stringify({ token: await server.token() })}`);
  await within(LIMIT, 'the connect packet', connected);
  return socket;
}

/** Sends frames, ends the connection and waits until both ends know. */
async function sendAndClose(socket, frames) {
  for (const frame of frames) {
    if (socket.readyState !== WebSocket.OPEN) break;
    socket.send(frame, { binary: typeof frame !== 'string' });
  }
  const closed = new Promise((done) => socket.once('close', done));
  if (socket.readyState === WebSocket.CLOSED) return;
  socket.close();
  await within(LIMIT, 'the end of the WebSocket', closed);
}

const deep = '['.repeat(20_000) + ']'.repeat(20_000);
const join = '["room:join",{"roomId":"hostile"}]';

const FRAMES = {
  'an empty frame': [''],
  'an unknown Engine.IO packet': ['9', 'x', '\u0000', 'é'],
  'an Engine.IO open packet': ['0{"sid":"x"}'],
  'an Engine.IO close packet': ['1'],
  'pings nobody asked for': Array(200).fill('2'),
  'pongs nobody asked for': Array(200).fill('3'),
  'a probe and an upgrade': ['2probe', '5', '5'],
  'noops': Array(200).fill('6'),
  'a message without a packet': ['4'],
  'an unknown Socket.IO packet': ['47', '48', '49', '4x', '4-1'],
  'a second connect': ['40{"token":"x"}', '40', '40{}'],
  'a connect with half an object': ['40{', '40{"token":', '40nonsense'],
  'a connect to a namespace without end': [`40/${'x'.repeat(10_000)},{}`, '40/'],
  'a disconnect, twice': ['41', '41', `42${join}`],
  'an event without anything': ['42'],
  'an event that is no JSON': ['42[', '42["x"', '42{"a":1}', '42nonsense', '42"x"', '42[,]'],
  'an event without a name': ['42[]', '42[1]', '42[null]', '42[{}]', '42[["room:join"]]'],
  'an event of a reserved name': ['42["connect",{}]', '42["disconnect",{}]', '42["error",{}]', '42["connect_error"]'],
  'an event for a namespace that one has not joined': ['42/admin,["x",{}]', '42/admin', '42/,["room:join",{}]'],
  'an event with an enormous acknowledgement id': [`42${'9'.repeat(40)}${join}`, `4218446744073709551616${join}`, `42-1${join}`],
  'the same acknowledgement id many times': Array(20).fill(`427${join}`),
  'an acknowledgement nobody asked for': ['43[]', '430[]', '43999[{"a":1}]', '43', '43[', '43-1[]'],
  'an error packet': ['44{"message":"x"}', '44', '44['],
  'lists in lists without end': [`42["room:join",${deep}]`, `42${deep}`, `40${deep}`],
  'numbers beyond all bounds': ['42["room:join",{"roomId":1e999}]', `42["room:join",{"roomId":${'9'.repeat(5000)}}]`],
  'half a surrogate': ['42["room:join",{"roomId":"\\ud800"}]', '42["\\udc00",{}]'],
  'a key twice': ['42["room:join",{"roomId":"a","roomId":7}]'],
  'binary data nobody announced': [Buffer.from('42["x"]'), Buffer.alloc(0), Buffer.alloc(1000)],
  'a binary event without its data': [`451-${join}`, `42${join}`],
  'a binary event with fewer parts than announced': ['452-["x",{"_placeholder":true,"num":0}]', Buffer.alloc(4)],
  'a binary event that announces billions': ['4599999999999-["x"]', '4518446744073709551616-["x"]', '45-1-["x"]', '45'],
  'a binary event that points nowhere': ['451-["x",{"_placeholder":true,"num":99}]', Buffer.alloc(4)],
  'a binary event with a strange pointer': [
    '451-["room:join",{"roomId":{"_placeholder":true,"num":-1}}]', Buffer.alloc(4),
    '451-["room:join",{"roomId":{"_placeholder":"x","num":"y"}}]', Buffer.alloc(4),
  ],
  'a binary acknowledgement': ['461-0[{"_placeholder":true,"num":0}]', Buffer.alloc(4), '46'],
  'text with a record separator': [`42["x",{}]\u001e42["y",{}]`, '\u001e\u001e\u001e'],
};

describe('after a client that has a session has sent', () => {
  for (const [name, frames] of Object.entries(FRAMES)) {
    test(`${name}, the server serves the others`, async () => {
      await sendAndClose(await session(), frames);
      await stillServes();
    });
  }
});

describe('after a client without a session has sent', () => {
  for (const [name, frames] of Object.entries(FRAMES)) {
    test(`${name}, the server serves the others`, async () => {
      await sendAndClose(await raw(), frames);
      await stillServes();
    });
  }

  test('requests before its connect packet, nobody has come in', async () => {
    const watcher = await server.enter('hostile-entry');
    await sendAndClose(await raw(), ['42["room:join",{"roomId":"hostile-entry"}]', '420["room:join",{"roomId":"hostile-entry"}]']);
    await server.settle('hostile-entry', watcher);
    assert.deepEqual(watcher.left(), []);
  });
});

test('a session that joined by hand is gone when its socket breaks', async () => {
  const watcher = await server.enter('by-hand');
  const socket = await session();
  socket.send('42["room:join",{"roomId":"by-hand"}]');
  const { userId } = await watcher.next('room:userJoined');
  socket.terminate();
  assert.equal((await watcher.next('room:userLeft')).userId, userId);
});

describe('after a polling client has', () => {
  const polling = '/socket.io/?EIO=4&transport=polling';
  const post = (path, body, headers) => server.fetch(path, { method: 'POST', body, headers });

  /** Opens a polling session with a good token: the path for its further requests. */
  async function open() {
    const text = await (await server.fetch(polling)).text();
    const path = `${polling}&sid=${JSON.parse(text.slice(1)).sid}`;
    const answer = await post(path, `40${JSON.stringify({ token: await server.token() })}`);
    assert.equal(answer.status, 200);
    return path;
  }

  /** No answer is the server's fault. */
  const blameless = (answer) => assert.ok(answer.status < 500, `${answer.status}`);

  const bodies = {
    'an empty body': '',
    'separators alone': '\u001e\u001e\u001e',
    'many empty packets': '4\u001e'.repeat(1000),
    'half of a connect packet': '40{',
    'an unknown packet': '9',
    'base64 that is none': 'b!!!!',
    'base64 nobody announced': 'bAAAA',
    'bytes that are no text': Buffer.from([0xff, 0xfe, 0x00, 0x80]),
    'lists in lists without end': `42["room:join",${deep}]`,
    'many packets at once': Array(5000).fill('42["x",{}]').join('\u001e'),
  };
  for (const [name, body] of Object.entries(bodies)) {
    test(`posted ${name}, the server serves the others`, async () => {
      const path = await open();
      blameless(await post(path, body));
      await stillServes();
    });
  }

  test('named a session that is not there, it is told so', async () => {
    for (const sid of ['nonsense', '', 'AAAAAAAAAAAAAAAA', '%00', 'x'.repeat(2000)]) {
      const path = `${polling}&sid=${sid}`;
      blameless(await post(path, '40'));
    }
    await stillServes();
  });

  test('asked in ways that do not exist, it is told so', async () => {
    const queries = ['', '?EIO=4', '?transport=polling', '?EIO=4&transport=carrier-pigeon', '?EIO=x&transport=polling', '?EIO=4&transport=websocket'];
    for (const query of queries) {
      const answer = await server.fetch(`/socket.io/${query}`);
      assert.ok(answer.status >= 400 && answer.status < 500, `${query}: ${answer.status}`);
    }
    for (const method of ['PUT', 'DELETE', 'PATCH']) {
      const answer = await server.fetch(polling, { method });
      assert.ok(answer.status >= 400 && answer.status < 500, `${method}: ${answer.status}`);
    }
    await stillServes();
  });

  test('asked twice at the same time, the server serves the others', async () => {
    const path = await open();
    const gone = new AbortController();
    const signal = AbortSignal.any?.([gone.signal, AbortSignal.timeout(LIMIT)]) ?? gone.signal;
    const polls = [1, 2, 3].map(() => server.fetch(path, { signal }).catch(() => null));
    await Promise.any(polls);
    await stillServes();
    gone.abort();
    await Promise.all(polls);
  });

  test('promised more than it sent, the server serves the others', async () => {
    const path = await open();
    const { hostname, port, host } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    await new Promise((done) => socket.once('connect', done));
    socket.write(`POST ${path} HTTP/1.1\r\nhost: ${host}\r\ncontent-length: 1000000\r\n\r\n40`);
    await stillServes();
    socket.destroy();
  });
});

describe('after a TCP client has sent', () => {
  const requests = {
    'nothing': '',
    'no HTTP': 'hello\r\n\r\n',
    'half a request': 'GET / HT',
    'bytes': Buffer.from([0x16, 0x03, 0x01, 0x00, 0xff, 0x00]),
    'a WebSocket upgrade without a key':
      'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n',
    'headers without end': `GET / HTTP/1.1\r\n${'x: y\r\n'.repeat(5000)}`,
    'two lengths': 'POST /dev/token HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\n{}',
  };
  for (const [name, bytes] of Object.entries(requests)) {
    test(`${name}, the server serves the others`, async () => {
      const { hostname, port } = new URL(server.url);
      const socket = connect(Number(port), hostname);
      socket.on('error', () => {});
      const closed = new Promise((done) => socket.once('close', done));
      await new Promise((done) => socket.once('connect', done));
      socket.resume();
      socket.end(bytes);
      // A server that waits for the rest of a request need not hang up first.
      await Promise.race([closed, stillServes()]);
      await stillServes();
      socket.destroy();
      await closed;
    });
  }

  test('frames that are no WebSocket frames, the server serves the others', async () => {
    const broken = [
      Buffer.from([0xff, 0x80, 0, 0, 0, 0]), // reserved bits
      Buffer.from([0x81, 0x05, 0x34, 0x32, 0x5b, 0x5d, 0x20]), // a client's frame without a mask
      Buffer.from([0x89, 0xfe, 0x01, 0x00, 0, 0, 0, 0]), // a ping of 256 bytes
      Buffer.from([0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), // 2^63 bytes
      Buffer.from([0x80, 0x80, 0, 0, 0, 0]), // a continuation of nothing
      Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]), // text that is no UTF-8
    ];
    for (const bytes of broken) {
      const socket = await session();
      const closed = new Promise((done) => socket.once('close', done));
      socket._socket.write(bytes);
      socket._socket.end();
      await within(LIMIT, 'the end of the WebSocket', closed);
      await stillServes();
    }
  });
});
