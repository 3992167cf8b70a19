// A media endpoint of its own: ICE, DTLS-SRTP and RTP over UDP, enough to send
// a stream and to see what arrives. DTLS itself is done by the program openssl.

import { spawn } from 'node:child_process';
import { X509Certificate, createCipheriv, createHmac, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';

import { within } from './client.mjs';

const LIMIT = 10_000;
/** Time between two checks that the path is still wanted (RFC 7675): the server gives it up after 30 s without. */
const CONSENT_MS = 5_000;
/** Time between two packets of a voice. */
const FRAME_MS = 20;

const COOKIE = 0x2112a442;

/** Whether a datagram is STUN, DTLS, RTP or RTCP (RFC 7983). */
function kindOf(datagram) {
  const [first, second] = datagram;
  if (first < 4) return 'stun';
  if (first >= 20 && first < 64) return 'dtls';
  if (first >= 128 && first < 192) return second >= 192 && second < 224 ? 'rtcp' : 'rtp';
  return 'unknown';
}

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** An ICE connectivity check that also nominates (RFC 8445, RFC 8489). */
function bindingRequest({ usernameFragment, password }) {
  const attribute = (type, value) => {
    const padded = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
    padded.writeUInt16BE(type, 0);
    padded.writeUInt16BE(value.length, 2);
    value.copy(padded, 4);
    return padded;
  };
  const header = Buffer.alloc(20);
  header.writeUInt16BE(1, 0);
  header.writeUInt32BE(COOKIE, 4);
  randomBytes(12).copy(header, 8);
  let message = Buffer.concat([
    header,
    attribute(0x0006, Buffer.from(`${usernameFragment}:peer`)),
    attribute(0x0024, Buffer.from([0x6e, 0x7f, 0x1e, 0xff])), // priority
    attribute(0x802a, randomBytes(8)), // controlling
    attribute(0x0025, Buffer.alloc(0)), // use candidate
  ]);
  // Each of the last two covers what is before it, with the length as if it were there.
  const append = (type, size, make) => {
    message.writeUInt16BE(message.length - 20 + 4 + size, 2);
    message = Buffer.concat([message, attribute(type, make(message))]);
  };
  append(0x0008, 20, (bytes) => createHmac('sha1', password).update(bytes).digest());
  append(0x8028, 4, (bytes) => {
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE((crc32(bytes) ^ 0x5354554e) >>> 0);
    return sum;
  });
  return message;
}

/** Encrypts the packets of one endpoint: AES_CM_128_HMAC_SHA1_80 (RFC 3711). */
class Srtp {
  #key;
  #salt;
  #mac;

  constructor(master, salt) {
    const derive = (label, size) => {
      const iv = Buffer.alloc(16);
      salt.copy(iv);
      iv[7] ^= label;
      return createCipheriv('aes-128-ctr', master, iv).update(Buffer.alloc(size));
    };
    this.#key = derive(0, 16);
    this.#mac = derive(1, 20);
    this.#salt = derive(2, 14);
  }

  /** Few packets are sent: the roll-over counter stays 0. */
  protect(header, payload) {
    const iv = Buffer.alloc(16);
    this.#salt.copy(iv);
    for (let i = 0; i < 4; i += 1) iv[4 + i] ^= header[8 + i];
    iv[12] ^= header[2];
    iv[13] ^= header[3];
    const body = createCipheriv('aes-128-ctr', this.#key, iv).update(payload);
    const packet = Buffer.concat([header, body]);
    const tag = createHmac('sha1', this.#mac).update(packet).update(Buffer.alloc(4)).digest();
    return Buffer.concat([packet, tag.subarray(0, 10)]);
  }
}

/** A certificate for one endpoint, in a directory that is gone with `remove`. */
async function certificate() {
  const dir = await mkdtemp(join(tmpdir(), 'voice-room-peer-'));
  const [cert, key] = [join(dir, 'cert.pem'), join(dir, 'key.pem')];
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  const made = spawn('openssl', [...args, '-subj', '/CN=peer', '-out', cert, '-keyout', key], { stdio: 'ignore' });
  const [code] = await once(made, 'close');
  if (code !== 0) throw new Error(`openssl req ended with ${code}`);
  const { fingerprint256: value } = new X509Certificate(await readFile(cert));
  return { cert, key, fingerprint: { algorithm: 'sha-256', value }, remove: () => rm(dir, { recursive: true }) };
}

/** One end of a WebRTC transport. */
export class Peer {
  #socket;
  #remote;
  #onAnswer = () => {};
  #consent;
  #dtls;
  #srtp;
  #certificate;
  #streams = new Map();
  #packets = new Map();
  #watchers = new Set();

  /**
   * Opens the client's transport of this type and brings it up: ICE, then DTLS.
   * Later `produce` or `consume` of the client go over it. With a `relay`, its
   * packets go through that.
   */
  static open(client, type, relay) {
    return Peer.raise(async (dtlsParameters) => {
      const transport = await client.ask('transport:create', { type });
      if (relay) transport.iceCandidates = await Promise.all(transport.iceCandidates.map((one) => relay.candidate(one)));
      await client.ask('transport:connect', { transportId: transport.id, dtlsParameters });
      client[type === 'producer' ? 'sending' : 'receiving'] = transport.id;
      return transport;
    });
  }

  /**
   * Brings a transport up, of whatever face: `exchange` gets this end's DTLS
   * parameters and answers the server's transport.
   */
  static async raise(exchange) {
    const peer = new Peer();
    peer.#certificate = await certificate();
    const transport = await exchange({ role: 'client', fingerprints: [peer.#certificate.fingerprint] });
    await peer.#connect(transport);
    return peer;
  }

  async #connect({ iceParameters, iceCandidates }) {
    this.#remote = iceCandidates.find((one) => one.protocol === 'udp');
    this.#socket = createSocket('udp4');
    const relay = createSocket('udp4');
    let handshaker;
    this.#socket.on('message', (datagram) => {
      const kind = kindOf(datagram);
      if (kind === 'stun') this.#onAnswer();
      else if (kind === 'dtls' && handshaker) relay.send(datagram, handshaker.port, handshaker.address);
      else if (kind === 'rtp') this.#arrived(datagram.readUInt32BE(8));
    });
    relay.on('message', (datagram, from) => {
      handshaker = from;
      this.#send(datagram);
    });
    relay.bind(0, '127.0.0.1');
    this.#socket.bind(0, '127.0.0.1');
    await Promise.all([once(relay, 'listening'), once(this.#socket, 'listening')]);

    await this.restartIce(iceParameters);

    const { cert, key } = this.#certificate;
    this.#dtls = spawn('openssl', [
      's_client', '-dtls1_2', '-connect', `127.0.0.1:${relay.address().port}`, '-cert', cert, '-key', key,
      '-use_srtp', 'SRTP_AES128_CM_SHA1_80', '-keymatexport', 'EXTRACTOR-dtls_srtp', '-keymatexportlen', '60',
    ]);
    this.#dtls.once('close', () => {
      handshaker = undefined;
      relay.close();
    });
    this.#dtls.stdin.on('error', () => {});
    let output = '';
    const exported = new Promise((done, failed) => {
      this.#dtls.stdout.setEncoding('latin1').on('data', (text) => {
        output += text;
        const found = /Keying material: ([0-9A-F]{120})/.exec(output);
        if (found) done(Buffer.from(found[1], 'hex'));
      });
      this.#dtls.once('close', (code) => failed(new Error(`openssl s_client ended with ${code}:\n${output}`)));
    });
    const keys = await within(LIMIT, 'the end of the DTLS handshake', exported);
    // Key of the client, key of the server, salt of the client, salt of the server.
    this.#srtp = new Srtp(keys.subarray(0, 16), keys.subarray(32, 46));
  }

  /** Reaches the server with these ICE parameters; DTLS goes on as it was. */
  async restartIce(iceParameters) {
    const reachable = new Promise((done) => { this.#onAnswer = done; });
    clearInterval(this.#consent);
    this.#consent = setInterval(() => this.#send(bindingRequest(iceParameters)), CONSENT_MS);
    this.#send(bindingRequest(iceParameters));
    await within(LIMIT, 'the answer to the ICE check', reachable);
  }

  #send(datagram) {
    // The handshaker may have a last word after the end.
    this.#socket?.send(datagram, this.#remote.port, this.#remote.address);
  }

  /**
   * Speaks: a packet each 20 ms with this level in dBov (0 is the loudest,
   * -127 silence). Again for the same SSRC changes the level. Says noise, or these
   * Opus frames over and over.
   */
  speak(ssrc, level = -20, frames = undefined) {
    const stream = this.#streams.get(ssrc) ?? { sequence: 1, timer: null, frames };
    stream.level = level;
    this.#streams.set(ssrc, stream);
    if (stream.timer) return;
    let due = performance.now();
    stream.timer = setInterval(() => {
      // A busy machine's timers are late: what is missing follows at once.
      for (; due <= performance.now(); due += FRAME_MS) this.#packet(ssrc, stream);
    }, FRAME_MS);
  }

  /** Sends nothing more for this SSRC. */
  stop(ssrc) {
    const stream = this.#streams.get(ssrc);
    clearInterval(stream.timer);
    stream.timer = null;
  }

  #packet(ssrc, stream) {
    const header = Buffer.alloc(20);
    header[0] = 0x90; // version 2, with an extension
    header[1] = 111;
    header.writeUInt16BE(stream.sequence, 2);
    header.writeUInt32BE(stream.sequence * 960, 4);
    header.writeUInt32BE(ssrc, 8);
    header.writeUInt16BE(0xbede, 12);
    header.writeUInt16BE(1, 14);
    header[16] = 0x10; // extension 1, one byte: ssrc-audio-level
    header[17] = 0x80 | -stream.level;
    stream.sequence += 1;
    const payload = stream.frames?.[stream.sequence % stream.frames.length] ?? randomBytes(60);
    this.#send(this.#srtp.protect(header, payload));
  }

  #arrived(ssrc) {
    this.#packets.set(ssrc, this.packets(ssrc) + 1);
    for (const look of [...this.#watchers]) look();
  }

  /** RTP packets of this SSRC that have arrived. */
  packets(ssrc) {
    return this.#packets.get(ssrc) ?? 0;
  }

  /** Waits for so many more packets of this SSRC. */
  async more(ssrc, count = 10) {
    const wanted = this.packets(ssrc) + count;
    let look;
    const arrived = new Promise((done) => {
      look = () => { if (this.packets(ssrc) >= wanted) done(); };
    });
    this.#watchers.add(look);
    await within(LIMIT, `RTP of ${ssrc}`, arrived).finally(() => this.#watchers.delete(look));
  }

  /** Ends DTLS with its closing alert, as a browser's `close()` does. */
  async hangUp() {
    const ended = once(this.#dtls, 'close');
    this.#dtls.stdin.end('Q\n');
    await within(LIMIT, 'the end of openssl', ended);
  }

  /** Ends everything at once. */
  async close() {
    for (const ssrc of this.#streams.keys()) this.stop(ssrc);
    clearInterval(this.#consent);
    this.#dtls?.kill('SIGKILL');
    this.#socket?.close();
    this.#socket = undefined;
    await this.#certificate.remove();
  }
}
