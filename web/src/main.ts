// Ties the page together: the client's events change the state, the state is
// shown, what is pressed becomes requests.

import { VoiceRoom } from './client';
import { devToken, prefill, readClaims, remember, tabUser, type Claims, type Prefill } from './identity';
import { Levels } from './levels';
import { Playback } from './playback';
import { RequestError, type JoinAnswer } from './protocol';
import { applyEvent, enterRoom, seatOf, voiceOf, type RoomState } from './room-state';
import type { SeatAction } from './seat-grid';
import { View, type JoinForm, type RoomModel } from './view';
import { explain, explainEnd, notice } from './words';

declare global {
  interface Window {
    /** The client of the room that is open, for inspection. */
    voiceRoom?: VoiceRoom | undefined;
  }
}

const LEVEL_INTERVAL_MS = 60;
const OWN_LEVEL = 'own';
const MANAGER_ROLES = new Set(['owner', 'admin', 'moderator']);

/** One stay in a room, from the join to its end. */
class Stay {
  readonly #room: VoiceRoom;
  readonly #view: View;
  readonly #claims: Claims;
  readonly #levels = new Levels();
  readonly #playback: Playback;
  #state: RoomState | undefined;
  #microphone: MediaStreamTrack | undefined;
  #isOpening = false;
  #ticker: ReturnType<typeof setInterval> | undefined;

  constructor(room: VoiceRoom, view: View, claims: Claims) {
    this.#room = room;
    this.#view = view;
    this.#claims = claims;
    this.#playback = new Playback(() => view.offerSound());
    room.on('joined', ({ answer, again }) => this.#onJoined(answer, again));
    room.on('resumed', () => view.log('Connected again', 'reconnected'));
    room.on('event', (event) => this.#onEvent(event));
    room.on('connection', () => this.#render());
    room.on('problem', (error) => view.toast(explain(error)));
    room.on('track', ({ producerId, track }) => {
      this.#playback.add(producerId, track);
      this.#levels.add(producerId, track);
    });
    room.on('trackEnded', ({ producerId }) => {
      this.#playback.remove(producerId);
      this.#levels.remove(producerId);
    });
    room.on('speakingEnded', () => {
      // A lost connection is mended, and the voice should be there again then.
      if (room.connection === 'joined') this.#closeMicrophone();
      this.#render();
    });
    room.on('closed', () => this.#end());
  }

  /** Enters; must be called from a click or a key, which lets sound be played. */
  async enter(): Promise<void> {
    void this.#levels.resume();
    await this.#room.join();
  }

  leave(): void {
    void this.#room.leave();
  }

  unblockSound(): void {
    void this.#levels.resume();
    this.#playback.unblock();
  }

  async mic(): Promise<void> {
    if (this.#isOpening) return;
    if (this.#room.connection !== 'joined') return this.#view.toast('Not connected: wait for the server');
    const producer = this.#room.producers.get('mic');
    await this.#attempt(() => (producer ? this.#room.setMuted(!producer.paused) : this.#speak()));
    this.#render();
  }

  async request(event: string, payload: object): Promise<void> {
    await this.#attempt(() => this.#room.request(event, payload));
  }

  async #attempt(action: () => Promise<unknown>): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (this.#room.connection !== 'closed') this.#view.toast(explain(error));
    }
  }

  async #speak(isMuted = false): Promise<void> {
    this.#isOpening = true;
    this.#render();
    try {
      const track = this.#microphone ?? (await this.#openMicrophone());
      track.enabled = !isMuted;
      await this.#room.speak(track);
      if (isMuted) await this.#room.setMuted(true);
    } catch (error) {
      this.#closeMicrophone();
      throw error;
    } finally {
      this.#isOpening = false;
      this.#render();
    }
  }

  async #openMicrophone(): Promise<MediaStreamTrack> {
    if (!('mediaDevices' in navigator)) {
      throw new Error('Browsers allow a microphone only on https pages and on localhost');
    }
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const [track] = stream.getAudioTracks();
    if (!track) throw new Error('No microphone was found');
    this.#microphone = track;
    this.#levels.add(OWN_LEVEL, track);
    track.addEventListener('ended', () => {
      void this.#attempt(() => this.#room.stopSpeaking());
    });
    if (this.#room.connection === 'closed') {
      this.#closeMicrophone();
      throw new RequestError('The room was left', 'CLOSED');
    }
    return track;
  }

  #closeMicrophone(): void {
    this.#levels.remove(OWN_LEVEL);
    this.#microphone?.stop();
    this.#microphone = undefined;
  }

  #onJoined(answer: JoinAnswer, again: boolean): void {
    const before = this.#state;
    const state = enterRoom(this.#claims.userId, this.#claims.name, answer);
    this.#state = state;
    if (again && before) {
      this.#view.log('Connected again', 'reconnected');
      void this.#attempt(() => this.#resume(before, state));
    } else {
      const isFirst = state.names.size === 1;
      this.#view.manage(isFirst || this.#claims.roles.some((role) => MANAGER_ROLES.has(role)));
      this.#ticker = setInterval(() => this.#showLevels(), LEVEL_INTERVAL_MS);
    }
    this.#render();
  }

  /** After a lost connection: the seat and the voice as they were. */
  async #resume(before: RoomState, now: RoomState): Promise<void> {
    const seatIndex = seatOf(before, before.self);
    const track = this.#microphone;
    const wasMuted = voiceOf(before, before.self) === 'muted' || track?.enabled === false;
    try {
      if (seatIndex !== undefined && seatOf(now, now.self) === undefined) {
        await this.#room.request('seat:take', { seatIndex });
      }
    } catch (error) {
      this.#closeMicrophone();
      throw error;
    }
    if (track) await this.#speak(wasMuted);
  }

  #onEvent(event: { name: string; payload: unknown }): void {
    if (!this.#state) return;
    const said = notice(this.#state, event);
    if (said) {
      this.#view.log(said.text, event.name);
      if (said.isUrgent) this.#view.toast(said.text);
    }
    const next = applyEvent(this.#state, event);
    if (next === this.#state) return;
    this.#state = next;
    this.#render();
  }

  #render(): void {
    if (this.#state) this.#view.render({ state: this.#state, connection: this.#room.connection, mic: this.#micState() });
  }

  #micState(): RoomModel['mic'] {
    if (this.#isOpening) return 'opening';
    const producer = this.#room.producers.get('mic');
    return producer ? (producer.paused ? 'muted' : 'live') : 'off';
  }

  #showLevels(): void {
    const own = this.#levels.read(OWN_LEVEL);
    const byUser = new Map([[this.#claims.userId, own]]);
    for (const [producerId, { userId }] of this.#state?.producers ?? []) {
      byUser.set(userId, Math.max(byUser.get(userId) ?? 0, this.#levels.read(producerId)));
    }
    this.#view.showLevels((userId) => byUser.get(userId) ?? 0, own);
  }

  #end(): void {
    clearInterval(this.#ticker);
    this.#closeMicrophone();
    this.#playback.clear();
    this.#levels.close();
  }
}

/** The page: the lobby, and the stay that is open. */
class Page {
  readonly #view: View;
  #form: Prefill = prefill(location.search, sessionStorage, localStorage);
  #stay: Stay | undefined;
  #isJoining = false;

  constructor() {
    this.#view = new View({
      join: (form) => void this.#join(form),
      leaveRoom: () => this.#stay?.leave(),
      mic: () => void this.#stay?.mic(),
      leaveSeat: () => void this.#stay?.request('seat:leave', {}),
      seat: (action) => void this.#seat(action),
      kick: (userId) => void this.#stay?.request('moderation:kick', { userId }),
      ban: (userId, seconds, reason) => {
        void this.#stay?.request('moderation:ban', {
          userId,
          ...(seconds === undefined ? {} : { seconds }),
          ...(reason ? { reason } : {}),
        });
      },
      unblockSound: () => this.#stay?.unblockSound(),
    });
    window.addEventListener('pagehide', () => window.voiceRoom?.close('page closed'));
    this.#view.showLobby(this.#form);
  }

  async #join(form: JoinForm): Promise<void> {
    if (this.#isJoining) return;
    this.#isJoining = true;
    this.#view.joining(true);
    this.#form = form;
    remember(form, sessionStorage, localStorage);
    try {
      await this.#enter(form);
    } catch (error) {
      this.#view.showLobby(form, explain(error));
    } finally {
      this.#isJoining = false;
    }
  }

  async #enter(form: JoinForm): Promise<void> {
    const userId = await tabUser();
    const ask = (): Promise<string | undefined> => devToken(userId, form.name, form.role ? [form.role] : []);
    const first = form.token || (await ask());
    if (!first) return this.#view.askForToken();
    const claims = readClaims(first);
    if (!claims) throw new Error('This is not an access token: it names no user');

    // Development servers change their secret with each start: ask them anew each time.
    const token = async (): Promise<string> => form.token || (await ask()) || first;
    const room = new VoiceRoom({ roomId: form.room, userId: claims.userId, token });
    window.voiceRoom = room;
    room.on('closed', ({ reason, error }) => this.#onClosed(reason, error));
    const stay = new Stay(room, this.#view, claims);
    this.#stay = stay;
    room.on('joined', ({ again }) => {
      if (!again) this.#showRoom(form);
    });
    await stay.enter();
  }

  #showRoom({ room, name }: JoinForm): void {
    const address = `?${new URLSearchParams({ room, name }).toString()}`;
    history.replaceState(null, '', address);
    const second = new URLSearchParams({ room, name: `${name.replace(/ \d+$/, '')} ${secondNumber(name)}` });
    this.#view.showRoom(room, `?${second.toString()}`);
  }

  #onClosed(reason: string, error: RequestError | undefined): void {
    window.voiceRoom = undefined;
    this.#stay = undefined;
    // While joining, the join itself reports the failure.
    if (this.#isJoining) return;
    this.#view.showLobby(this.#form, error ? explain(error) : reason === 'left' ? '' : explainEnd(reason));
  }

  async #seat(action: SeatAction): Promise<void> {
    const { kind, ...payload } = action;
    await this.#stay?.request(`seat:${kind}`, payload);
  }
}

/** Ana, then Ana 2, then Ana 3. */
function secondNumber(name: string): number {
  const number = / (\d+)$/.exec(name)?.[1];
  return number ? Number(number) + 1 : 2;
}

new Page();
