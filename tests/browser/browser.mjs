// People with a browser each: one tab, one user, a continuous tone as microphone.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { until } from './poll.mjs';
import { ARTIFACTS } from './server.mjs';

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** One second of a 440 Hz sine, which loops without a seam: 16-bit mono PCM. */
function toneWav({ frequency = 440, rate = 48_000, amplitude = 0.4 } = {}) {
  const wav = Buffer.alloc(44 + rate * 2);
  wav.write('RIFF', 0);
  wav.writeUInt32LE(wav.length - 8, 4);
  wav.write('WAVEfmt ', 8);
  wav.writeUInt32LE(16, 16);
  wav.writeUInt16LE(1, 20);
  wav.writeUInt16LE(1, 22);
  wav.writeUInt32LE(rate, 24);
  wav.writeUInt32LE(rate * 2, 28);
  wav.writeUInt16LE(2, 32);
  wav.writeUInt16LE(16, 34);
  wav.write('data', 36);
  wav.writeUInt32LE(rate * 2, 40);
  for (let i = 0; i < rate; i += 1) {
    wav.writeInt16LE(Math.round(amplitude * 32_767 * Math.sin((2 * Math.PI * frequency * i) / rate)), 44 + i * 2);
  }
  return wav;
}

export class Browser {
  #browser;
  #directory;

  static async launch() {
    const browser = new Browser();
    browser.#directory = await mkdtemp(join(tmpdir(), 'voice-room-browser-'));
    const tone = join(browser.#directory, 'tone.wav');
    await writeFile(tone, toneWav());
    browser.#browser = await chromium.launch({
      executablePath: EXECUTABLE,
      args: [
        '--no-sandbox',
        '--autoplay-policy=no-user-gesture-required',
        '--disable-gpu',
        '--disable-quic',
        '--disable-sync',
        '--use-fake-device-for-media-stream',
        '--use-fake-ui-for-media-stream',
        `--use-file-for-fake-audio-capture=${tone}`,
      ],
    });
    return browser;
  }

  async close() {
    await this.#browser.close();
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** Runs a scenario with a cast of its own; where it fails, pictures stay. */
  async play(name, scenario) {
    const cast = [];
    const person = async (Role = Person, options = {}) => {
      const context = await this.#browser.newContext(options);
      cast.push(new Role(await context.newPage()));
      return cast.at(-1);
    };
    try {
      await scenario(person);
      for (const { mistakes } of cast) assert.deepEqual(mistakes, []);
    } catch (error) {
      await Promise.all(cast.map((each, index) => each.picture(join(ARTIFACTS, `${name} ${index + 1}.png`))));
      throw error;
    } finally {
      await Promise.all(cast.map(({ page }) => page.context().close()));
    }
  }
}

export class Person {
  /** What the console may say of a network that is meant to fail. */
  static harmless = /WebSocket|net::ERR_/;

  /** Errors of the page itself: scripts, content security policy, assets. */
  mistakes = [];

  constructor(page) {
    this.page = page;
    page.on('pageerror', (error) => this.mistakes.push(String(error)));
    page.on('console', (message) => {
      const isHarmless = this.constructor.harmless.test(message.text());
      if (message.type() === 'error' && !isHarmless) this.mistakes.push(message.text());
    });
  }

  async join(server, room, name) {
    await this.page.goto(`${server.url}?${new URLSearchParams({ room, name })}`);
    await this.press('join');
    await this.see('stage');
    return this;
  }

  /** Sends and receives media through a relay too; to be called before `join`. */
  async behind(relay) {
    await this.page.exposeFunction('candidateBehindRelay', (candidate) => relay.candidate(candidate));
    await this.page.addInitScript(() => {
      const { setRemoteDescription } = RTCPeerConnection.prototype;
      const CANDIDATE = /^(?<start>a=candidate:\S+ \d+) (?<kind>\S+) (?<priority>\d+) (?<ip>\S+) (?<port>\d+) (?<rest>.*)$/;
      const relayed = async (line) => {
        const found = CANDIDATE.exec(line)?.groups;
        if (!found) return [line];
        // TCP would be a way around the relay.
        if (found.kind.toLowerCase() !== 'udp') return [];
        const { ip, port } = await window.candidateBehindRelay({ ip: found.ip, port: Number(found.port) });
        return [[found.start, found.kind, found.priority, ip, port, found.rest].join(' ')];
      };
      RTCPeerConnection.prototype.setRemoteDescription = async function relayedDescription({ type, sdp }) {
        const lines = await Promise.all(sdp.split('\r\n').map(relayed));
        return setRemoteDescription.call(this, { type, sdp: lines.flat().join('\r\n') });
      };
    });
    return this;
  }

  part(testId, text) {
    const parts = this.page.getByTestId(testId);
    return text === undefined ? parts : parts.filter({ hasText: text });
  }

  press(testId, index = 0) {
    return this.part(testId).nth(index).click();
  }

  /** Waits until a part is shown, with these words if given. */
  see(testId, text) {
    return this.part(testId, text).first().waitFor();
  }

  /** Waits until somebody's voice is seen to be `live`, `muted`, `held` or `none`. */
  seeVoice(name, voice) {
    return this.page.locator(`[data-testid=person][data-voice=${voice}]`).filter({ hasText: name }).waitFor();
  }

  /** What has arrived of one producer, or of the first one: packets and energy so far. */
  heard(producerId) {
    return this.page.evaluate(async (wanted) => {
      const consumers = [...window.voiceRoom.consumers.values()];
      const consumer = consumers.find((each) => wanted === undefined || each.producerId === wanted);
      const stats = consumer ? [...(await consumer.getStats()).values()] : [];
      const { packetsReceived = 0, totalAudioEnergy = 0 } = stats.find(({ type }) => type === 'inbound-rtp') ?? {};
      return { packets: packetsReceived, energy: totalAudioEnergy };
    }, producerId);
  }

  /** Waits until a good deal more of a sound has arrived. */
  async hears(what, producerId) {
    const before = await this.heard(producerId);
    return until(`${what} is heard`, async () => {
      const { packets, energy } = await this.heard(producerId);
      return packets > before.packets + 25 && energy > before.energy + 1e-4 && { packets, energy };
    });
  }

  /** Waits until nothing more arrives: longer than the 400 ms between packets of silence. */
  async hearsNothing(what) {
    let before;
    await until(`${what} is silent`, async () => {
      const { packets } = await this.heard();
      const isSilent = packets === before;
      before = packets;
      return isSilent;
    }, { every: 1_000 });
  }

  /** Collects every event of this name from now on; call the result to see them. */
  async collect(event) {
    await this.page.evaluate((name) => {
      window.collected ??= {};
      window.collected[name] = [];
      window.voiceRoom.on('event', (each) => each.name === name && window.collected[name].push(each.payload));
    }, event);
    return () => this.page.evaluate((name) => window.collected[name], event);
  }

  /** Walks with the Tab key to a part, as somebody without a mouse does. */
  async tabTo(testId, key = 'Tab') {
    for (let step = 0; step < 60; step += 1) {
      const at = await this.page.evaluate(() => document.activeElement?.dataset.testid);
      if (at === testId) return;
      await this.page.keyboard.press(key);
    }
    assert.fail(`${testId} cannot be reached with ${key}`);
  }

  async picture(path) {
    if (!this.page.isClosed()) await this.page.screenshot({ path, fullPage: true }).catch(() => undefined);
  }
}
