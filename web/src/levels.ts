// How loud a stream is right now, from the samples themselves.

/** What counts as silence and as full scale, in dBFS. */
const QUIETEST_DB = -60;
const LOUDEST_DB = -10;

/** 0 (silence) to 1 (loud), linear in decibels, of samples between -1 and 1. Pure. */
export function levelOf(samples: Float32Array): number {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  if (sum === 0) return 0;
  const decibels = 10 * Math.log10(sum / samples.length);
  return Math.min(1, Math.max(0, (decibels - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB)));
}

interface Meter {
  source: MediaStreamAudioSourceNode;
  analyser: AnalyserNode;
}

/** Meters by key, all on one audio context, which must be resumed by a click or a key. */
export class Levels {
  readonly #context = new AudioContext();
  readonly #meters = new Map<string, Meter>();
  readonly #samples = new Float32Array(1024);

  resume(): Promise<void> {
    return this.#context.resume();
  }

  close(): void {
    for (const key of [...this.#meters.keys()]) this.remove(key);
    void this.#context.close();
  }

  add(key: string, track: MediaStreamTrack): void {
    this.remove(key);
    const source = this.#context.createMediaStreamSource(new MediaStream([track]));
    const analyser = new AnalyserNode(this.#context, { fftSize: this.#samples.length, smoothingTimeConstant: 0 });
    source.connect(analyser);
    this.#meters.set(key, { source, analyser });
  }

  remove(key: string): void {
    this.#meters.get(key)?.source.disconnect();
    this.#meters.delete(key);
  }

  /** 0 to 1; 0 for what is not metered. */
  read(key: string): number {
    const meter = this.#meters.get(key);
    if (!meter) return 0;
    meter.analyser.getFloatTimeDomainData(this.#samples);
    return levelOf(this.#samples);
  }
}
