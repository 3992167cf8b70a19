// The server under test: the real binary, on a free port, with a directory of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const BINARY = process.env.VOICE_ROOM_BIN ?? join(ROOT, 'target/debug/voice-room');
const READY_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 20_000;

/** Where failures leave screenshots and the server's log. */
export const ARTIFACTS = process.env.ARTIFACTS ?? join(ROOT, 'target/browser-tests');

export class Server {
  #process;
  #port;
  #env;

  /** `env` is added to the environment. */
  static async start(env = {}) {
    const server = new Server();
    server.#env = env;
    server.#port = await freePort();
    server.dataDir = await mkdtemp(join(tmpdir(), 'voice-room-'));
    await server.launch();
    return server;
  }

  get url() {
    return `http://localhost:${this.#port}/`;
  }

  /** Starts the process; again after `halt`, with the same port and data. */
  async launch() {
    await mkdir(ARTIFACTS, { recursive: true });
    const log = createWriteStream(join(ARTIFACTS, `server-${this.#port}.log`), { flags: 'a' });
    const child = spawn(BINARY, ['serve', '--dev', '--listen', `127.0.0.1:${this.#port}`, '--data-dir', this.dataDir], {
      cwd: ROOT,
      env: { ...process.env, ...this.#env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    this.#process = child;
    const lines = createInterface({ input: child.stdout });
    const ready = (async () => {
      for await (const line of lines) if (/\bready\b/i.test(line)) return;
      throw new Error(`The server ended before it was ready: see ${log.path}`);
    })();
    const failed = once(child, 'error').then(([error]) => Promise.reject(error));
    await within(READY_LIMIT_MS, 'the server to be ready', Promise.race([ready, failed]));
    child.stdout.resume();
  }

  /** Asks the process to end, as an operator does, and gives its exit code. */
  async halt() {
    const child = this.#process;
    const ended = () => child.exitCode ?? child.signalCode;
    if (ended() !== null) return ended();
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    try {
      await within(STOP_LIMIT_MS, 'the server to end', exit);
      return ended();
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  async discard() {
    const code = await this.halt();
    await rm(this.dataDir, { recursive: true, force: true });
    return code;
  }

  /** A token of development mode. */
  async token(userId, name) {
    const answer = await fetch(new URL('/dev/token', this.url), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ userId, name }),
    });
    return (await answer.json()).token;
  }

  /** What the plugins have published about a room. */
  async published(room) {
    const text = await readFile(join(this.dataDir, 'published.jsonl'), 'utf8').catch((error) => {
      if (error.code === 'ENOENT') return '';
      throw error;
    });
    const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n').filter(Boolean);
    return lines.map((line) => JSON.parse(line)).filter((event) => event.room === room);
  }
}

async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

async function within(limit, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Waited ${limit} ms for ${what}`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
