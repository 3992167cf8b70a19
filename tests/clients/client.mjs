// A client: the unmodified socket.io-client, and a memory of what it was told.

import assert from 'node:assert/strict';

import { io } from 'socket.io-client';

/** How long an answer or an event may take. Far more than it ever should. */
const LIMIT = 10_000;

/** `promise`, or an error that says what did not come: a text, or a function that makes it. */
export function within(limit, what, promise) {
  let timer;
  const late = new Promise((_, failed) => {
    timer = setTimeout(() => {
      const missing = typeof what === 'string' ? what : what();
      failed(new Error(`${missing} did not come within ${limit} ms`));
    }, limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The data of an answer that must be a success. */
export function ok(answer) {
  assert.equal(answer?.success, true, `refused: ${JSON.stringify(answer)}`);
  return answer.data;
}

/** `Not in room` as a code: `NOT_IN_ROOM`. */
const codeOf = (error) => error.toUpperCase().replace(/[^A-Z0-9]/g, '_');

/** Checks a refusal: its error, its code, the plugin that gave it. */
export function refused(answer, error, { code = codeOf(error), plugin } = {}) {
  assert.equal(answer?.success, false, `not refused: ${JSON.stringify(answer)}`);
  const { error: said, code: coded, plugin: by } = answer;
  assert.deepEqual({ error: said, code: coded, plugin: by }, { error, code, plugin });
  return answer;
}

/** Checks an `INVALID_PAYLOAD` whose details name these fields (among others). */
export function invalid(answer, ...fields) {
  refused(answer, 'INVALID_PAYLOAD');
  assert.ok(Array.isArray(answer.details), 'details is a list');
  const named = answer.details.map((one) => one.field);
  for (const field of fields) {
    const found = named.some((one) => one === field || one.startsWith(`${field}.`) || one.startsWith(`${field}[`));
    assert.ok(found, `details name ${field}: ${JSON.stringify(answer.details)}`);
  }
  return answer;
}

export class Client {
  /** Events that came and were not asked for yet, oldest first. */
  #events = [];
  #waiting = new Set();

  constructor(socket) {
    this.socket = socket;
    /** Number of the last event that had one. */
    this.lastSeq = 0;
    socket.onAny((name, payload, ...more) => {
      if (more.length > 0) this.#counted(name, more);
      this.#events.push({ name, payload });
      for (const look of [...this.#waiting]) look();
    });
    this.disconnected = new Promise((done) => socket.once('disconnect', done));
  }

  static #open(url, options) {
    return io(url, { forceNew: true, reconnection: false, transports: ['websocket'], ...options });
  }

  /** Connects. Without `reconnection`: a lost connection stays lost. */
  static async connect(url, options) {
    const socket = Client.#open(url, options);
    const client = new Client(socket);
    const connected = new Promise((done, failed) => {
      socket.once('connect', done);
      socket.once('connect_error', failed);
    });
    await within(LIMIT, 'the connection', connected);
    return client;
  }

  /** The message with which the server refuses the connection. */
  static async refused(url, options) {
    const socket = Client.#open(url, options);
    const answer = new Promise((done) => {
      socket.once('connect', () => done('connected'));
      socket.once('connect_error', (error) => done(error.message));
    });
    return within(LIMIT, 'the refusal', answer).finally(() => socket.close());
  }

  /** Sends an event with exactly these arguments: the acknowledgement. */
  send(event, ...payload) {
    const answer = new Promise((done) => this.socket.emit(event, ...payload, done));
    return within(LIMIT, `the answer to ${event}`, answer);
  }

  /** Sends a request about the client's room: the whole answer. */
  request(event, fields = {}) {
    return this.send(event, { roomId: this.room, ...fields });
  }

  /** A request that must succeed: the answer's data. */
  async ask(event, fields) {
    return ok(await this.request(event, fields));
  }

  /** Joins a room, which becomes the client's: the answer's data. */
  async join(room, options) {
    this.joined = ok(await this.send('room:join', { roomId: room, ...options }));
    this.room = room;
    this.resumption = this.joined.resume;
    return this.joined;
  }

  /** Takes over the place that the token stands for: the answer's data. */
  async resume({ token } = this.resumption, lastSeq = this.lastSeq) {
    this.lastSeq = lastSeq;
    const data = ok(await this.send('room:resume', { token, lastSeq }));
    this.room = data.roomId;
    this.resumption = data.resume;
    return data;
  }

  /** Numbers have no gap, and none comes twice. */
  #counted(name, more) {
    assert.deepEqual(more, [{ seq: this.lastSeq + 1 }], `the number of ${name}`);
    this.lastSeq += 1;
  }

  /** Leaves the client's room. */
  async leave() {
    ok(await this.request('room:leave'));
  }

  /** The next event of this name for which `wanted` holds, past or to come: its payload. */
  async next(name, wanted) {
    const event = await this.saw(name, wanted);
    this.#events.splice(this.#events.indexOf(event), 1);
    return event.payload;
  }

  /** As `next`, but the event stays among those that came. */
  async saw(name, wanted = () => true) {
    let look;
    const found = new Promise((done) => {
      look = () => {
        const event = this.#events.find((one) => one.name === name && wanted(one.payload));
        if (event) done(event);
      };
    });
    this.#waiting.add(look);
    look();
    return within(LIMIT, () => `${name} (came: ${this.#came()})`, found).finally(() => this.#waiting.delete(look));
  }

  /** Events that came and were not asked for, as `[name, payload]`, oldest first. */
  left() {
    return this.#events.map(({ name, payload }) => [name, payload]);
  }

  /** Forgets what came so far. */
  forget() {
    this.#events = [];
  }

  /** Ends the connection in order. */
  close() {
    this.socket.disconnect();
  }

  /** Ends the connection as a lost network does: without a word of Socket.IO. */
  vanish() {
    const { transport } = this.socket.io.engine;
    if (transport.ws) transport.ws.terminate?.();
    else transport.close();
  }

  #came() {
    return this.#events.map(({ name, payload }) => `${name} ${JSON.stringify(payload)}`).join(', ') || 'nothing';
  }
}
