// A client of REST. Whatever the server answers is held against what the server's
// own OpenAPI description says of it.

import assert from 'node:assert/strict';

import Ajv from 'ajv/dist/2020.js';

import { opus } from './media.mjs';
import { Peer } from './peer.mjs';
import { RawSocket } from './raw.mjs';
import { newUser } from './server.mjs';

/** The server's description of itself, and what was used of it. */
export class Description {
  #ajv = new Ajv({ strict: false });
  /** Operations that were answered well, as `METHOD /path`. */
  used = new Set();

  constructor(document) {
    this.document = document;
    this.#ajv.addFormat('uuid', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    for (const format of ['int32', 'int64']) this.#ajv.addFormat(format, true);
    this.#ajv.addSchema(document, 'openapi');
  }

  static async of(server) {
    const answer = await server.fetch('/openapi.json');
    assert.equal(answer.status, 200);
    return new Description(await answer.json());
  }

  /** All operations, as `METHOD /path`. */
  get operations() {
    return Object.entries(this.document.paths).flatMap(([path, item]) => (
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`)
    ));
  }

  #pointer(...parts) {
    const escaped = parts.map((one) => encodeURIComponent(one.replaceAll('~', '~0').replaceAll('/', '~1')));
    return { $ref: `openapi#/${escaped.join('/')}` };
  }

  #check(pointer, value, what) {
    const valid = this.#ajv.validate(pointer, value);
    assert.ok(valid, `${what} is not as described: ${this.#ajv.errorsText()}: ${JSON.stringify(value)}`);
  }

  /** Holds an answer, and the request if it succeeded, against the description. */
  check(method, template, status, answer, request) {
    const operation = this.document.paths[template]?.[method.toLowerCase()];
    assert.ok(operation, `${method} ${template} is not described`);
    assert.ok(operation.responses[status], `${method} ${template} is not described to answer ${status}`);
    const at = ['paths', template, method.toLowerCase()];
    const content = ['content', 'application/json', 'schema'];
    this.#check(this.#pointer(...at, 'responses', String(status), ...content), answer, `${method} ${template} ${status}`);
    if (status >= 300) return;
    this.used.add(`${method} ${template}`);
    if (request !== undefined) this.#check(this.#pointer(...at, 'requestBody', ...content), request, `the body of ${method} ${template}`);
  }
}

/** One user of the REST face. */
export class Caller {
  constructor(server, description, { userId, token }) {
    Object.assign(this, { server, description, userId, token });
  }

  static async of(server, description, { userId = newUser(), token, ...claims } = {}) {
    const own = token ?? (await server.token({ userId, ...claims }));
    return new Caller(server, description, { userId, token: own });
  }

  /** Any request: `{status, body, headers}`. `text` is sent as it is in place of `body`. */
  async request(method, template, { path = template, body, text, token = this.token } = {}) {
    const headers = { ...(token === null ? {} : { authorization: `Bearer ${token}` }) };
    if (body !== undefined || text !== undefined) headers['content-type'] = 'application/json';
    const answer = await this.server.fetch(path, { method, headers, body: text ?? (body && JSON.stringify(body)) });
    const json = await answer.json();
    this.description.check(method, template.split('?')[0], answer.status, json, body);
    return { status: answer.status, body: json, headers: answer.headers };
  }

  /** A request that must succeed with this status: its body. */
  async #must(status, ...request) {
    const answer = await this.request(...request);
    assert.equal(answer.status, status, JSON.stringify(answer.body));
    return answer.body;
  }

  capabilities() {
    return this.#must(200, 'GET', '/rtc/capabilities');
  }

  transport(callId, direction, more = {}) {
    return this.#must(201, 'POST', '/rtc/transports', { body: { callId, direction, ...more } });
  }

  connect(transportId, dtlsParameters) {
    const path = `/rtc/transports/${transportId}/connect`;
    return this.#must(200, 'POST', '/rtc/transports/{transportId}/connect', { path, body: { dtlsParameters } });
  }

  produce(callId, transportId, rtpParameters = opus()) {
    const body = { callId, transportId, kind: 'audio', rtpParameters };
    return this.#must(201, 'POST', '/rtc/producers', { body });
  }

  producers(callId) {
    return this.#must(200, 'GET', '/rtc/producers', { path: `/rtc/producers?callId=${encodeURIComponent(callId)}` });
  }

  consume(callId, transportId, producerId, more = {}) {
    return this.#must(201, 'POST', '/rtc/consumers', { body: { callId, transportId, producerId, ...more } });
  }

  resume(consumerId) {
    return this.#must(200, 'POST', '/rtc/consumers/{consumerId}/resume', { path: `/rtc/consumers/${consumerId}/resume` });
  }

  cleanup(callId, query = '') {
    return this.#must(200, 'DELETE', '/rtc/rooms/{callId}/cleanup', { path: `/rtc/rooms/${encodeURIComponent(callId)}/cleanup${query}` });
  }

  /** Opens and connects a transport of this direction, with an endpoint behind it. */
  async peer(callId, direction, more) {
    let transportId;
    const peer = await Peer.raise(async (dtlsParameters) => {
      const transport = await this.transport(callId, direction, more);
      transportId = transport.transportId;
      await this.connect(transportId, dtlsParameters);
      return transport;
    });
    return Object.assign(peer, { transportId });
  }

  /** A `/ws/call` socket of this user; `callId` enters that call. */
  socket(callId) {
    const query = callId === undefined ? '' : `&callId=${encodeURIComponent(callId)}`;
    return RawSocket.open(this.server, `/ws/call?token=${this.token}${query}`);
  }
}
