// A voice-room client: Socket.IO for signalling, mediasoup-client for media.
// It knows the protocol and nothing of any page; take it as an example.
//
//   const room = new VoiceRoom({ roomId: 'demo', token: async () => '<JWT>' });
//   room.on('track', ({ track }) => play(track));
//   await room.join();
//   await room.request('seat:take', { seatIndex: 0 });
//   await room.speak(microphoneTrack);

import { io, type Socket } from 'socket.io-client';
import type { types as ms } from 'mediasoup-client';
import { RoomMedia, type RemoteProducer } from './media';
import {
  RequestError,
  type Ack,
  type JoinAnswer,
  type Resumption,
  type ResumeAnswer,
  type Source,
  type UserId,
} from './protocol';

export type Connection = 'idle' | 'connecting' | 'joined' | 'reconnecting' | 'closed';

/** What a `VoiceRoom` tells its listeners. */
export interface VoiceRoomEvents {
  connection: Connection;
  /** The room as it is on entering; `again` after a lost connection. Nothing from before holds. */
  joined: { answer: JoinAnswer; again: boolean };
  /** The connection is back before anybody missed this client: all holds, and what was missed follows. */
  resumed: { missed: number };
  /** Any event of the server or a plugin, in order, and those about this client's own producers. */
  event: { name: string; payload: unknown };
  track: { producerId: string; userId: UserId; source: Source; track: MediaStreamTrack };
  trackEnded: { producerId: string };
  /** A stream of this client's own has ended, whoever ended it. */
  speakingEnded: { source: Source };
  /** Something failed that nobody was waiting for. */
  problem: unknown;
  /** The stay is over and will not be resumed. */
  closed: { reason: string; error?: RequestError };
}

export interface VoiceRoomOptions {
  roomId: string;
  /** Called for each connection, so that a token may be renewed. */
  token: () => Promise<string>;
  /** This client's user, for the events about its own producers. */
  userId: UserId;
  /** The server's address; by default where the page came from. */
  url?: string;
}

const REQUEST_TIMEOUT_MS = 10_000;
const LEAVE_TIMEOUT_MS = 1_000;
const RETRY_MS = 1_000;
/** How long the first connection may take; a lost one is sought without end. */
const REACH_TIMEOUT_MS = 15_000;

/** Codes after which the same request may succeed a little later. */
const TRANSIENT = new Set(['NOT_CONNECTED', 'TIMEOUT', 'RATE_LIMITED']);

type Listener<T> = (value: T) => void;

export class VoiceRoom {
  readonly roomId: string;
  readonly userId: UserId;
  readonly #socket: Socket;
  readonly #listeners = new Map<keyof VoiceRoomEvents, Set<Listener<never>>>();
  #connection: Connection = 'idle';
  #media: RoomMedia | undefined;
  /** Counts entries, so that one overtaken by a newer one can tell. */
  #entry = 0;
  /** Events that came while an entry was under way: they follow its snapshot. */
  #early: { name: string; payload: unknown }[] | undefined;
  #wasJoined = false;
  /** What the server takes for this client's place, should the connection be lost. */
  #resumption: Resumption | undefined;
  /** The number of the last event of the room. */
  #lastSeq = 0;
  #tokenError: RequestError | undefined;
  #settleJoin: { resolve: (answer: JoinAnswer) => void; reject: (error: unknown) => void } | undefined;

  constructor({ roomId, token, userId, url }: VoiceRoomOptions) {
    this.roomId = roomId;
    this.userId = userId;
    const options = {
      autoConnect: false,
      forceNew: true,
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      auth: (send: (auth: object) => void) => {
        token().then(
          (value) => send({ token: value }),
          (error: unknown) => {
            this.#tokenError = new RequestError(String(error instanceof Error ? error.message : error), 'NO_TOKEN');
            send({});
          },
        );
      },
    };
    this.#socket = url === undefined ? io(options) : io(url, options);
    this.#socket.on('connect', () => void this.#enter());
    this.#socket.on('connect_error', (error) => this.#onConnectError(error));
    this.#socket.on('disconnect', (reason) => this.#onDisconnect(reason));
    this.#socket.onAny((name: string, payload: unknown, more?: { seq: number }) => {
      if (more) this.#lastSeq = more.seq;
      this.#onEvent(name, payload);
    });
  }

  get connection(): Connection {
    return this.#connection;
  }

  /** Streams received now, by producer id. */
  get consumers(): ReadonlyMap<string, ms.Consumer> {
    return this.#media?.consumers ?? new Map();
  }

  /** Streams sent now. */
  get producers(): ReadonlyMap<Source, ms.Producer> {
    return this.#media?.producers ?? new Map();
  }

  /** Listens; call the result to stop. */
  on<Name extends keyof VoiceRoomEvents>(name: Name, listener: Listener<VoiceRoomEvents[Name]>): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    listeners.add(listener as Listener<never>);
    this.#listeners.set(name, listeners);
    return () => void listeners.delete(listener as Listener<never>);
  }

  /** Connects and enters the room. Later losses of the connection are mended without another call. */
  join(): Promise<JoinAnswer> {
    if (this.#connection !== 'idle') throw new Error('A VoiceRoom is joined once');
    this.#setConnection('connecting');
    return new Promise((resolve, reject) => {
      this.#settleJoin = { resolve, reject };
      this.#socket.connect();
      setTimeout(() => {
        if (this.#settleJoin) this.close('unreachable', new RequestError('The server cannot be reached', 'UNREACHABLE'));
      }, REACH_TIMEOUT_MS);
    });
  }

  /** Sends any event of the server or a plugin about this room. Refusals reject with a `RequestError`. */
  readonly request = async <T>(event: string, payload: object = {}, timeoutMs = REQUEST_TIMEOUT_MS): Promise<T> => {
    // Socket.IO would keep it and send it into whatever comes after a reconnect.
    if (!this.#socket.connected) throw new RequestError('Not connected', 'NOT_CONNECTED');
    let ack: Ack<T>;
    try {
      ack = await this.#socket.timeout(timeoutMs).emitWithAck(event, { ...payload, roomId: this.roomId });
    } catch {
      throw this.#socket.connected
        ? new RequestError('No answer from the server', 'TIMEOUT')
        : new RequestError('The connection was lost', 'NOT_CONNECTED');
    }
    if (!ack.success) throw new RequestError(ack.error, ack.code, ack.plugin ?? undefined, ack.details ?? undefined);
    return ack.data as T;
  };

  /** Sends a track to the room. The track stays the caller's. */
  async speak(track: MediaStreamTrack, source: Source = 'mic'): Promise<void> {
    if (!this.#media) throw new RequestError('Not connected', 'NOT_CONNECTED');
    await this.#media.produce(track, source);
  }

  /** Mutes or unmutes one's own stream. Muting holds at once, whatever the server answers. */
  async setMuted(muted: boolean, source: Source = 'mic'): Promise<void> {
    const producer = this.producers.get(source);
    if (!producer) return;
    const payload = { producerId: producer.id };
    if (muted) {
      producer.pause();
      await this.request('audio:selfMute', payload);
    } else {
      await this.request('audio:selfUnmute', payload);
      producer.resume();
    }
    const name = muted ? 'audio:producerPaused' : 'audio:producerResumed';
    this.#deliver(name, { ...payload, userId: this.userId, byModerator: false });
  }

  /** Ends one's own stream. */
  async stopSpeaking(source: Source = 'mic'): Promise<void> {
    const producer = this.producers.get(source);
    if (!producer) return;
    this.#media?.drop(producer.id);
    await this.request('producer:close', { producerId: producer.id });
  }

  /** Leaves for good. */
  async leave(): Promise<void> {
    if (this.#connection === 'closed') return;
    if (this.#connection === 'joined') {
      await this.request('room:leave', {}, LEAVE_TIMEOUT_MS).catch(() => undefined);
    }
    this.close('left');
  }

  /** Ends the connection at once, without asking. */
  close(reason: string, error?: RequestError): void {
    if (this.#connection === 'closed') return;
    this.#entry += 1;
    this.#setConnection('closed');
    this.#dropMedia();
    this.#socket.disconnect();
    this.#settleJoin?.reject(error ?? new RequestError(reason, 'CLOSED'));
    this.#settleJoin = undefined;
    this.#emit('closed', error ? { reason, error } : { reason });
  }

  #emit<Name extends keyof VoiceRoomEvents>(name: Name, value: VoiceRoomEvents[Name]): void {
    for (const listener of this.#listeners.get(name) ?? []) (listener as Listener<VoiceRoomEvents[Name]>)(value);
  }

  #setConnection(connection: Connection): void {
    if (this.#connection === connection || this.#connection === 'closed') return;
    this.#connection = connection;
    this.#emit('connection', connection);
  }

  /** Ends the media, and with it what there was to come back to. */
  #dropMedia(): void {
    this.#media?.close();
    this.#media = undefined;
    this.#resumption = undefined;
  }

  /** Takes up the room over a fresh connection, or joins it anew over the same one. */
  async #enter(): Promise<void> {
    const entry = ++this.#entry;
    try {
      if (this.#media && this.#resumption && (await this.#resume(this.#media, this.#resumption))) return;
    } catch (error) {
      return this.#onEntryFailed(entry, error);
    }
    if (entry === this.#entry) await this.#join(entry);
  }

  /** Takes back the place that a lost connection had, as if nothing had been; `false` if it is gone. */
  async #resume(media: RoomMedia, { token }: Resumption): Promise<boolean> {
    let answer: ResumeAnswer;
    try {
      answer = await this.request<ResumeAnswer>('room:resume', { token, lastSeq: this.#lastSeq });
    } catch (error) {
      if (!(error instanceof RequestError) || TRANSIENT.has(error.code)) throw error;
      return false;
    }
    // What was being set up when the connection broke is known to one side only: better begin anew.
    if (!media.knows(answer)) return false;
    this.#resumption = answer.resume;
    this.#setConnection('joined');
    this.#emit('resumed', { missed: answer.missed });
    void media.resume(answer);
    return true;
  }

  async #join(entry: number): Promise<void> {
    this.#dropMedia();
    this.#early = [];
    this.#lastSeq = 0;
    try {
      const answer = await this.request<JoinAnswer>('room:join', { resumable: true });
      const media = await this.#loadMedia(answer);
      if (entry !== this.#entry) return media.close();
      this.#media = media;
      this.#resumption = answer.resume;
      const again = this.#wasJoined;
      this.#wasJoined = true;
      this.#setConnection('joined');
      this.#emit('joined', { answer, again });
      this.#settleJoin?.resolve(answer);
      this.#settleJoin = undefined;
      const early = this.#early ?? [];
      this.#early = undefined;
      for (const producer of answer.existingProducers) void media.consume(producer);
      for (const { name, payload } of early) this.#deliver(name, payload);
    } catch (error) {
      this.#onEntryFailed(entry, error);
    }
  }

  #onEntryFailed(entry: number, error: unknown): void {
    if (entry !== this.#entry) return;
    const failure = error instanceof RequestError ? error : new RequestError(String(error), 'UNSUPPORTED');
    // A lost connection is tried again by what noticed the loss; an answer is final.
    if (failure.code === 'NOT_CONNECTED') return;
    if (TRANSIENT.has(failure.code)) this.#enterLater();
    else this.close('refused', failure);
  }

  #loadMedia(answer: JoinAnswer): Promise<RoomMedia> {
    return RoomMedia.load(answer, this.request, {
      consumer: (consumer, { producerId, userId, source }) => {
        this.#emit('track', { producerId, userId, source, track: consumer.track });
      },
      consumerClosed: (producerId) => this.#emit('trackEnded', { producerId }),
      produced: (producerId, source) => {
        this.#deliver('audio:newProducer', { producerId, userId: this.userId, kind: 'audio', source });
      },
      producerClosed: (source) => this.#emit('speakingEnded', { source }),
      problem: (error) => this.#emit('problem', error),
      failed: () => void this.#reenter(),
    });
  }

  /** Media is lost but signalling is not: leave and come back with fresh transports. */
  async #reenter(): Promise<void> {
    if (this.#connection !== 'joined') return;
    this.#setConnection('reconnecting');
    this.#dropMedia();
    await this.request('room:leave', {}, LEAVE_TIMEOUT_MS).catch(() => undefined);
    this.#enterLater();
  }

  #enterLater(): void {
    const entry = this.#entry;
    setTimeout(() => {
      if (entry === this.#entry && this.#socket.connected) void this.#enter();
    }, RETRY_MS);
  }

  #onEvent(name: string, payload: unknown): void {
    if (name === 'auth:force_disconnect') {
      const { reason } = payload as { reason: string };
      this.#emit('event', { name, payload });
      this.close(reason);
    } else if (this.#early) {
      this.#early.push({ name, payload });
    } else {
      this.#deliver(name, payload);
    }
  }

  #deliver(name: string, payload: unknown): void {
    this.#emit('event', { name, payload });
    if (name === 'audio:newProducer') {
      void this.#media?.consume(payload as RemoteProducer);
    } else if (name === 'audio:producerClosed') {
      // A room that ends takes its media with it; whoever spoke in it still wants to.
      const { producerId, reason } = payload as { producerId: string; reason: string };
      if (reason !== 'room_closed') this.#media?.drop(producerId);
    } else if (name === 'transport:closed') {
      void this.#media?.renew((payload as { transportId: string }).transportId);
    } else if (name === 'room:closed') {
      this.#onRoomClosed((payload as { reason: string }).reason);
    }
  }

  #onRoomClosed(reason: string): void {
    // A room that lost its worker is there again as soon as someone enters it; a
    // server that shuts down ends the connection itself, and may come back.
    if (reason === 'worker_died') void this.#reenter();
    else if (reason !== 'shutdown') this.close(reason);
  }

  #onConnectError(error: Error): void {
    // `active` means that socket.io goes on trying; otherwise the server said no.
    if (this.#socket.active) this.#setConnection(this.#wasJoined ? 'reconnecting' : 'connecting');
    else this.close('refused', this.#tokenError ?? new RequestError(error.message, 'UNAUTHORIZED'));
    this.#tokenError = undefined;
  }

  #onDisconnect(reason: Socket.DisconnectReason): void {
    if (this.#connection === 'closed') return;
    this.#entry += 1;
    this.#setConnection(this.#wasJoined ? 'reconnecting' : 'connecting');
    // Media goes its own way and may still flow; it is kept for a place that may be.
    if (!this.#resumption || reason === 'io server disconnect') this.#dropMedia();
    if (reason === 'io server disconnect') {
      setTimeout(() => {
        if (this.#connection !== 'closed') this.#socket.connect();
      }, RETRY_MS);
    }
  }
}
