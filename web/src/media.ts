// The media of one stay in a room: a device, at most one transport each way, and
// what flows through them. A later stay starts from nothing with a new instance.

import { Device, type types as ms } from 'mediasoup-client';
import { RequestError, type ConsumeAnswer, type JoinAnswer, type ResumeAnswer, type Source, type TransportAnswer, type UserId } from './protocol';

/** Sends one request for the room and gives the answer's `data`. */
export type Request = <T>(event: string, payload?: object) => Promise<T>;

export interface RemoteProducer {
  producerId: string;
  userId: UserId;
  source: Source;
}

export interface MediaEvents {
  /** A remote stream arrived; its track must be attached before this returns. */
  consumer(consumer: ms.Consumer, producer: RemoteProducer): void;
  /** The remote stream of this producer ended. */
  consumerClosed(producerId: string): void;
  /** The server has accepted a stream of ours. */
  produced(producerId: string, source: Source): void;
  /** A stream of ours ended, whoever ended it. */
  producerClosed(source: Source): void;
  /** A stream could not be received. */
  problem(error: unknown): void;
  /** A transport is lost beyond an ICE restart. */
  failed(): void;
}

/** How long a broken connection may take to mend itself before ICE is restarted. */
const ICE_PATIENCE_MS = 3_000;

const PRODUCER_GONE = new Set(['PRODUCER_NOT_FOUND', 'ROOM_NOT_FOUND', 'NOT_IN_ROOM']);

export class RoomMedia {
  readonly consumers = new Map<string, ms.Consumer>();
  readonly producers = new Map<Source, ms.Producer>();
  #closed = false;
  readonly #device: Device;
  readonly #request: Request;
  readonly #events: MediaEvents;
  readonly #iceServers: RTCIceServer[];
  readonly #transports = new Map<'producer' | 'consumer', Promise<ms.Transport>>();
  /** Those of them that are there, each with what restarts its ICE. */
  readonly #made = new Map<ms.Transport, () => Promise<void>>();
  /** Announced, but a lost connection kept them from being received. */
  readonly #interrupted = new Map<string, RemoteProducer>();
  /** Announced and not closed since, whether or not consumed yet. */
  readonly #announced = new Map<string, RemoteProducer>();
  /** Ours, accepted by the server and not closed since. */
  readonly #own = new Set<string>();

  private constructor(device: Device, request: Request, events: MediaEvents, iceServers: RTCIceServer[]) {
    this.#device = device;
    this.#request = request;
    this.#events = events;
    this.#iceServers = iceServers;
  }

  static async load(answer: JoinAnswer, request: Request, events: MediaEvents): Promise<RoomMedia> {
    const device = await Device.factory();
    await device.load({ routerRtpCapabilities: answer.rtpCapabilities });
    return new RoomMedia(device, request, events, answer.iceServers ?? []);
  }

  /** Receives a producer's stream, unless it is ours or received already. */
  async consume(producer: RemoteProducer): Promise<void> {
    const { producerId } = producer;
    if (this.#closed || this.#own.has(producerId) || this.#announced.has(producerId)) return;
    this.#announced.set(producerId, producer);
    try {
      const transport = await this.#transport('consumer');
      const { id, kind, rtpParameters } = await this.#request<ConsumeAnswer>('audio:consume', {
        transportId: transport.id,
        producerId,
        rtpCapabilities: this.#device.recvRtpCapabilities,
      });
      if (!this.#wants(producer)) return;
      const consumer = await transport.consume({ id, producerId, kind, rtpParameters });
      if (!this.#wants(producer)) return consumer.close();
      this.consumers.set(producerId, consumer);
      this.#events.consumer(consumer, producer);
      await this.#request('consumer:resume', { consumerId: id });
    } catch (error) {
      const raced = error instanceof RequestError && PRODUCER_GONE.has(error.code);
      if (!this.#wants(producer)) return;
      this.drop(producerId);
      if (error instanceof RequestError && error.code === 'NOT_CONNECTED') this.#interrupted.set(producerId, producer);
      else if (!raced) this.#events.problem(error);
    }
  }

  /**
   * Whether we know all that the server has of ours. What it has not is no matter: events
   * that were missed say what became of it.
   */
  knows({ transports, producers }: ResumeAnswer): boolean {
    const mine = new Set([...this.#made.keys()].map(({ id }) => id));
    return transports.every((id) => mine.has(id)) && producers.every((id) => this.#own.has(id));
  }

  /** The connection is back: finds new ways for the media, and receives what could not be received. */
  async resume({ transports, consumers }: ResumeAnswer): Promise<void> {
    const known = new Set([...this.consumers.values()].map(({ id }) => id));
    const unknown = consumers.filter((id) => !known.has(id));
    const missed = [...this.#interrupted.values()];
    this.#interrupted.clear();
    const there = [...this.#made].filter(([{ id }]) => transports.includes(id));
    await Promise.all([
      ...there.map(([, restart]) => restart()),
      ...unknown.map((consumerId) => this.#request('consumer:close', { consumerId }).catch(() => undefined)),
      ...missed.map((producer) => this.consume(producer)),
    ]);
  }

  /** Ends what is received from, or sent as, this producer: the server has closed it. */
  drop(producerId: string): void {
    this.#announced.delete(producerId);
    this.#interrupted.delete(producerId);
    const consumer = this.consumers.get(producerId);
    if (consumer && this.consumers.delete(producerId)) {
      consumer.close();
      this.#events.consumerClosed(producerId);
    }
    this.#own.delete(producerId);
    for (const [source, producer] of this.producers) {
      if (producer.id === producerId) this.#endProducer(source, producer);
    }
  }

  /** The server has lost the transport that we receive over: all is received anew over another. */
  async renew(transportId: string): Promise<void> {
    const pending = this.#transports.get('consumer');
    const transport = await pending?.catch(() => undefined);
    if (transport?.id !== transportId || this.#transports.get('consumer') !== pending) return;
    this.#transports.delete('consumer');
    // Copies, so that what is under way over the old one can tell that it is not wanted.
    const lost = [...this.#announced.values()].map((producer) => ({ ...producer }));
    for (const { producerId } of lost) this.drop(producerId);
    this.#made.delete(transport);
    transport.close();
    await Promise.all(lost.map((producer) => this.consume(producer)));
  }

  /** Sends a track. The caller keeps the track: it is not stopped with the producer. */
  async produce(track: MediaStreamTrack, source: Source): Promise<ms.Producer> {
    const transport = await this.#transport('producer');
    const producer = await transport.produce({
      track,
      stopTracks: false,
      codecOptions: { opusDtx: true, opusFec: true },
      appData: { source },
    });
    if (this.#closed || !this.#own.has(producer.id)) {
      producer.close();
      throw new RequestError('The server closed the stream at once', 'PRODUCER_CLOSED');
    }
    this.producers.set(source, producer);
    producer.on('transportclose', () => this.#endProducer(source, producer));
    return producer;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const producerId of [...this.consumers.keys()]) this.drop(producerId);
    for (const [source, producer] of [...this.producers]) this.#endProducer(source, producer);
    for (const pending of this.#transports.values()) {
      pending.then((transport) => transport.close(), () => undefined);
    }
  }

  #wants(producer: RemoteProducer): boolean {
    return !this.#closed && this.#announced.get(producer.producerId) === producer;
  }

  /** The server has put a new stream in this one's place. */
  #replace(source: Source): void {
    const displaced = this.producers.get(source);
    this.producers.delete(source);
    displaced?.close();
  }

  #endProducer(source: Source, producer: ms.Producer): void {
    if (this.producers.get(source) !== producer) return;
    this.producers.delete(source);
    producer.close();
    this.#events.producerClosed(source);
  }

  /** The one transport of a direction, made when first needed. */
  #transport(type: 'producer' | 'consumer'): Promise<ms.Transport> {
    let transport = this.#transports.get(type);
    if (!transport) {
      transport = this.#createTransport(type);
      transport.catch(() => this.#transports.delete(type));
      this.#transports.set(type, transport);
    }
    return transport;
  }

  async #createTransport(type: 'producer' | 'consumer'): Promise<ms.Transport> {
    const answer = await this.#request<TransportAnswer>('transport:create', { type });
    if (this.#closed) throw new RequestError('The room was left', 'NOT_IN_ROOM');
    const { id, iceParameters, iceCandidates, dtlsParameters } = answer;
    const options = { id, iceParameters, iceCandidates, dtlsParameters, iceServers: answer.iceServers ?? this.#iceServers };
    const transport = type === 'producer'
      ? this.#device.createSendTransport(options)
      : this.#device.createRecvTransport(options);
    transport.on('connect', ({ dtlsParameters: ours }, done, failed) => {
      this.#request('transport:connect', { transportId: id, dtlsParameters: ours }).then(done, failed);
    });
    transport.on('produce', ({ kind, rtpParameters, appData }, done, failed) => {
      const source: Source = appData['source'] === 'music' ? 'music' : 'mic';
      this.#request<{ id: string }>('audio:produce', { transportId: id, kind, rtpParameters, source }).then((produced) => {
        if (!this.#closed) {
          this.#replace(source);
          this.#own.add(produced.id);
          this.#events.produced(produced.id, source);
        }
        done(produced);
      }, failed);
    });
    this.#mend(transport);
    return transport;
  }

  /** Restarts ICE when the path is lost, and gives up when that does not help. */
  #mend(transport: ms.Transport): void {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let restarted = false;
    const restart = async (): Promise<void> => {
      clearTimeout(timer);
      restarted = true;
      try {
        const { iceParameters } = await this.#request<{ iceParameters: ms.IceParameters }>('transport:restartIce', {
          transportId: transport.id,
        });
        await transport.restartIce({ iceParameters });
      } catch {
        if (!this.#closed) this.#events.failed();
      }
    };
    this.#made.set(transport, restart);
    transport.on('connectionstatechange', (state) => {
      clearTimeout(timer);
      if (state === 'connected') restarted = false;
      else if (state === 'disconnected' && !restarted) timer = setTimeout(() => void restart(), ICE_PATIENCE_MS);
      else if (state === 'failed' && !restarted) void restart();
      else if (state === 'failed') this.#events.failed();
    });
  }
}
