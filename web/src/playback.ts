// Plays the streams that arrive.

export class Playback {
  readonly #elements = new Map<string, HTMLAudioElement>();

  /** `onBlocked` is called when the browser wants a click before it plays sound. */
  constructor(readonly onBlocked: () => void) {}

  add(key: string, track: MediaStreamTrack): void {
    this.remove(key);
    const element = new Audio();
    element.srcObject = new MediaStream([track]);
    this.#elements.set(key, element);
    this.#play(element);
  }

  remove(key: string): void {
    const element = this.#elements.get(key);
    if (!element) return;
    element.srcObject = null;
    this.#elements.delete(key);
  }

  clear(): void {
    for (const key of [...this.#elements.keys()]) this.remove(key);
  }

  /** Plays what was blocked; to be called from a click. */
  unblock(): void {
    for (const element of this.#elements.values()) this.#play(element);
  }

  #play(element: HTMLAudioElement): void {
    element.play().catch((error: unknown) => {
      if (error instanceof DOMException && error.name === 'NotAllowedError') this.onBlocked();
    });
  }
}
