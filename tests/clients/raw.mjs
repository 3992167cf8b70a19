// A raw WebSocket with a memory of what it was told.

import WebSocket from 'ws';

import { within } from './client.mjs';

const LIMIT = 10_000;

export class RawSocket {
  #frames = [];
  #waiting = new Set();
  #requests = 0;

  constructor(socket) {
    this.socket = socket;
    socket.on('message', (bytes) => {
      this.#frames.push(JSON.parse(bytes));
      for (const look of [...this.#waiting]) look();
    });
    socket.on('error', () => {});
    /** `{code, reason}` once the connection is over. */
    this.closed = new Promise((done) => {
      socket.once('close', (code, reason) => done({ code, reason: String(reason) }));
    });
  }

  /** Opens `path` of a server. */
  static async open(server, path, { headers } = {}) {
    const socket = new WebSocket(new URL(path, server.url.replace('http', 'ws')), { headers });
    const raw = new RawSocket(socket);
    const opened = new Promise((done, failed) => {
      socket.once('open', done);
      socket.once('error', failed);
    });
    await within(LIMIT, `the opening of ${path}`, opened);
    return raw;
  }

  /** The HTTP status with which the server refuses the upgrade. */
  static async refused(server, path, options) {
    const socket = new WebSocket(new URL(path, server.url.replace('http', 'ws')), options);
    const answer = new Promise((done) => {
      socket.once('unexpected-response', (_, response) => done(response.statusCode));
      socket.once('open', () => done('opened'));
      socket.on('error', () => {});
    });
    return within(LIMIT, 'the refusal', answer).finally(() => socket.terminate());
  }

  /** Sends a frame: an object, or text or bytes as they are. */
  send(frame) {
    const plain = typeof frame === 'string' || Buffer.isBuffer(frame);
    this.socket.send(plain ? frame : JSON.stringify(frame));
  }

  /** Sends a request: its answer, without the request's id. */
  async ask(type, data) {
    const requestId = `request-${(this.#requests += 1)}`;
    this.send({ type, data, requestId });
    const { requestId: _, ...answer } = await this.take(`the answer to ${type}`, (one) => one.requestId === requestId);
    return answer;
  }

  /** The next frame of this type for which `wanted` holds, past or to come. */
  next(type, wanted = () => true) {
    return this.take(type, (frame) => frame.type === type && wanted(frame));
  }

  /** The next frame for which `wanted` holds. */
  async take(what, wanted) {
    let look;
    const found = new Promise((done) => {
      look = () => {
        const at = this.#frames.findIndex(wanted);
        if (at < 0) return;
        // At once: the next frame may come before anybody who waits has gone on.
        this.#waiting.delete(look);
        done(this.#frames.splice(at, 1)[0]);
      };
    });
    this.#waiting.add(look);
    look();
    const missing = () => `${what} (came: ${JSON.stringify(this.#frames)})`;
    return within(LIMIT, missing, found).finally(() => this.#waiting.delete(look));
  }

  /** Frames that came and were not asked for. */
  left() {
    return this.#frames;
  }

  /** How the connection ended. */
  end() {
    return within(LIMIT, 'the end of the connection', this.closed);
  }

  /** Ends the connection, and waits for it. */
  async close() {
    this.socket.close();
    await this.end();
  }

  /** Ends the connection as a lost network does. */
  vanish() {
    this.socket.terminate();
  }
}
