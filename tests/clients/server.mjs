// Starts and stops the real server, one process a call.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Client, within } from './client.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const program = resolve(here, process.env.VOICE_ROOM_BIN ?? '../../target/debug/voice-room');
if (!existsSync(program)) {
  throw new Error(`${program} is not there: build the server, or name it in VOICE_ROOM_BIN`);
}

/** How long a start may take: plugins are compiled the first time. */
const START_LIMIT = 60_000;
/** The server's own default for a graceful stop, and a little for the exit. */
const STOP_LIMIT = 12_000;

/** What tokens are signed with. Every test server knows it. */
export const SECRET = 'a secret for tests only, longer than thirty-two bytes';

const b64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A JWT, signed with the test secret unless told otherwise. */
export function sign(claims, { alg = 'HS256', secret = SECRET, hash = 'sha256' } = {}) {
  const signed = `${b64({ alg, typ: 'JWT' })}.${b64(claims)}`;
  const mac = alg === 'none' ? '' : createHmac(hash, secret).update(signed).digest('base64url');
  return `${signed}.${mac}`;
}

/** Unix time in seconds, `offset` from now: what `exp` and `nbf` count in. */
export const seconds = (offset = 0) => Math.floor(Date.now() / 1000) + offset;

/** The standard plugins with anybody free to speak: for tests of the core. */
export const OPEN_FLOOR = `
[[plugins]]
name = "moderation"
[plugins.settings]
first_is_owner = false
[[plugins]]
name = "seats"
[plugins.settings]
require_seat = false
first_is_owner = false
`;

/** The standard plugins as in production: managers are those with a role. */
export const SEATED = `
[[plugins]]
name = "moderation"
[plugins.settings]
first_is_owner = false
[[plugins]]
name = "seats"
[plugins.settings]
first_is_owner = false
`;

/** The sections that every test server has unless it brings its own. */
const USUAL = {
  auth: `secret = "${SECRET}"`,
  // One worker starts quickest, and the tests need no second.
  media: 'workers = 1',
};

/**
 * A configuration file: lines of each section by its name, on top of the usual
 * ones; `plugins` is the text of the `[[plugins]]`, or `null` for none at all.
 */
function toml({ plugins = OPEN_FLOOR, ...sections }) {
  const all = { ...USUAL, ...sections };
  const text = Object.entries(all).map(([name, lines]) => `[${name}]\n${lines}\n`).join('\n');
  return plugins === null ? `plugins = []\n${text}` : `${text}\n${plugins}`;
}

/** A temporary directory, gone with `remove`. */
export async function temporary() {
  const path = await mkdtemp(join(tmpdir(), 'voice-room-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** Processes that have not ended. */
const running = new Set();

/** Ends what a failed test has left running. */
export function killAll() {
  for (const child of running) child.kill('SIGKILL');
}

let users = 1000;

/** A user id that no other test of this file has. */
export const newUser = () => ++users;

/**
 * Runs the program with `args`, without waiting for anything. `env` is added
 * to the environment.
 */
function run(args, env = {}) {
  const { VOICE_ROOM_BIN: _, ...inherited } = process.env;
  const child = spawn(program, args, { env: { ...inherited, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) {
    child[name].setEncoding('utf8').on('data', (text) => { output[name] += text; });
  }
  running.add(child);
  const ended = new Promise((done, failed) => {
    child.once('error', failed);
    child.once('close', () => running.delete(child));
    child.once('close', (code, signal) => done({ code, signal, ...output }));
  });
  return { child, output, ended };
}

/** Runs the program to its end: `{code, signal, stdout, stderr}`. */
export function runToEnd(args, env) {
  const { child, ended } = run(args, env);
  return within(START_LIMIT, `the end of ${args.join(' ')}`, ended).finally(() => child.kill('SIGKILL'));
}

/**
 * A server that is ready to serve. `config` is what `toml` makes a file of; `dir` a data directory that outlives the server; `dev: false` leaves
 * out `--dev`.
 */
export async function start({ config = {}, dir, dev = true } = {}) {
  const temp = await temporary();
  const data = dir ?? join(temp.path, 'data');
  const file = join(temp.path, 'config.toml');
  await writeFile(file, toml(config));
  const args = ['serve', '--listen', '127.0.0.1:0', '--data-dir', data, '--config', file];
  const process = run(dev ? [...args, '--dev'] : args);
  const ready = new Promise((done, failed) => {
    process.child.stdout.on('data', () => {
      const found = /https?:\/\/[^\s/]+/.exec(process.output.stdout);
      if (found) done(found[0]);
    });
    process.ended.then(
      ({ code, signal, stderr }) => failed(new Error(`the server ended (${code ?? signal}):\n${stderr}`)),
      failed,
    );
  });
  try {
    const url = await within(START_LIMIT, 'the ready line', ready);
    return new Server({ process, url, data, file, temp });
  } catch (error) {
    process.child.kill('SIGKILL');
    await temp.remove();
    throw error;
  }
}

export class Server {
  #process;
  #temp;
  #clients = [];

  constructor({ process, url, data, file, temp }) {
    this.#process = process;
    this.#temp = temp;
    this.url = url;
    this.data = data;
    this.file = file;
    this.pid = process.child.pid;
  }

  /** What the server printed so far. */
  get output() {
    return this.#process.output;
  }

  /** Writes the configuration anew, for a SIGHUP. */
  async configure(config) {
    await writeFile(this.file, toml(config));
  }

  /** The match of a pattern in the log, which may be still to come, after `from`. */
  logged(pattern, from = 0) {
    const { stderr } = this.#process.child;
    let look;
    const found = new Promise((done) => {
      look = () => {
        const match = pattern.exec(this.output.stderr.slice(from));
        if (match) done(match);
      };
    });
    stderr.on('data', look);
    look();
    const missing = () => `${pattern} in the log:\n${this.output.stderr.slice(from)}`;
    return within(START_LIMIT, missing, found).finally(() => stderr.off('data', look));
  }

  /** A request of an operator: `{status, body}`. `token` in place of a fresh one with `roles`. */
  async admin(path, { method = 'GET', token, roles = ['admin'] } = {}) {
    const authorization = `Bearer ${token ?? (await this.token({ roles }))}`;
    const answer = await this.fetch(path, { method, headers: { authorization } });
    return { status: answer.status, body: await answer.json() };
  }

  /** Samples of `GET /metrics` by their name with labels as the server writes them. */
  async metrics() {
    const text = await (await this.fetch('/metrics')).text();
    const lines = text.split('\n').filter((line) => line && !line.startsWith('#'));
    const samples = lines.map((line) => line.split(/ (?=\S+$)/)).map(([name, value]) => [name, Number(value)]);
    return Object.assign(new Map(samples), { text });
  }

  /** Fetches a path of the server. */
  fetch(path, options) {
    return fetch(new URL(path, this.url), options);
  }

  /** `POST /dev/token`. */
  async token({ userId = newUser(), name, roles } = {}) {
    const answer = await this.post('/dev/token', JSON.stringify({ userId, name, roles }));
    assert.equal(answer.status, 200, 'POST /dev/token');
    return (await answer.json()).token;
  }

  /** Posts text as JSON. */
  post(path, body, headers = { 'content-type': 'application/json' }) {
    return this.fetch(path, { method: 'POST', headers, body });
  }

  /**
   * Connects a client: a fresh user unless `userId` is given; `token` in place
   * of one of `POST /dev/token`; the rest are options of socket.io-client.
   */
  async connect({ userId, name, roles, token, ...options } = {}) {
    const id = userId ?? newUser();
    const auth = { token: token ?? (await this.token({ userId: id, name, roles })) };
    const client = await Client.connect(this.url, { auth, ...options });
    client.userId = id;
    this.#clients.push(client);
    return client;
  }

  /** Tries to connect: the message of the `connect_error`. */
  async refusedConnect(options) {
    return Client.refused(this.url, options);
  }

  /** Connects and joins: a client with `room` and `joined`, the answer's data. */
  async enter(room, options) {
    const client = await this.connect(options);
    await client.join(room);
    return client;
  }

  /**
   * Makes certain that these clients have got everything that was sent to
   * `room` before: a witness comes and goes, and all have seen it. The witness
   * has its answer only when the plugins have seen all that came before it.
   */
  async settle(room, ...clients) {
    const witness = await this.enter(room);
    await witness.leave();
    const gone = ({ userId }) => userId === witness.userId;
    await Promise.all(clients.map(async (client) => {
      await client.next('room:userJoined', gone);
      await client.next('room:userLeft', gone);
    }));
    witness.close();
  }

  /** A client that is in no test's way still gets its answers. */
  async serves() {
    const client = await this.enter(`still-serving-${newUser()}`);
    client.close();
  }

  /** Sends a signal. */
  signal(name) {
    this.#process.child.kill(name);
  }

  /** Waits for the end: `{code, signal, stdout, stderr}`. */
  ended(limit = STOP_LIMIT) {
    return within(limit, 'the end of the server', this.#process.ended);
  }

  /** Kills the server: no farewell, no flush. */
  async kill() {
    this.signal('SIGKILL');
    await this.ended();
    for (const client of this.#clients) client.close();
    await this.#temp.remove();
  }

  /** Stops the server; it must end well, without a panic on the way. */
  async stop() {
    for (const client of this.#clients) client.close();
    try {
      this.signal('SIGTERM');
      const { code, signal, stderr } = await this.ended();
      assert.deepEqual({ code, signal }, { code: 0, signal: null }, stderr);
      assert.doesNotMatch(stderr, /panicked at/);
    } finally {
      this.signal('SIGKILL');
      await this.#temp.remove();
    }
  }
}
