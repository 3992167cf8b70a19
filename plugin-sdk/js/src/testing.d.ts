/**
 * A plugin and rooms for it to rule, in Node.js, without a server and without WebAssembly.
 *
 * ```js
 * const manifest = readManifest(new URL('../plugin.toml', import.meta.url));
 * const stage = new Stage(plugin, { manifest, settings: {} });
 * const guest = stage.join('lobby', { id: 1, roles: ['guest'] });
 * assert.equal(guest.refusal?.code, 'MEMBERS_ONLY');
 * ```
 *
 * The stage calls the hooks that the server would call, in the same order and with the same
 * counts, and undoes what a hook that throws has written. Time moves only with
 * {@link Stage.advance}. Actions are returned, not carried out. What the server would drop
 * because the manifest does not ask for it, throws.
 */

import type { Action, Amendment, Json, Source, Start, UnixMs, UserId } from './index.js';

/** What plugin.toml says. */
export interface Manifest {
  name: string;
  version: string;
  description?: string;
  hooks: string[];
  commands: string[];
  topics: string[];
  capabilities: string[];
}

/** Reads and checks a plugin.toml. Throws what is wrong with it. */
export function readManifest(path: string | URL): Manifest;

/** Who joins. Without roles and claims unless given. */
export interface NewUser {
  id: UserId;
  name?: string;
  avatar?: string;
  roles?: string[];
  claims?: { [name: string]: Json };
}

/** What a deciding hook or a command says. */
export interface Answer {
  /** `undefined` where it was allowed. */
  refusal: { code: string; message: string; details?: Json } | undefined;
  /** What all hooks of the step asked for, in order. */
  actions: Action[];
}

export interface Joined extends Answer {
  readonly roomId: string;
  readonly user: NewUser;
  /** What `describeRoom` shows. */
  shown?: Json;
}

export interface Produced extends Answer {
  readonly joined: Joined;
  /** How the producer begins, if the plugin says. */
  amendment?: Amendment;
  producer?: { id: string; source: Source };
}

export class Stage {
  /** Starts a plugin. Throws what its start says. */
  constructor(plugin: Start, options: { manifest: Manifest; settings?: { [name: string]: Json } });

  now: UnixMs;
  /** Lets time pass. The timers that were due meanwhile, and what `onTimer` asked for. */
  advance(ms: number): { roomId: string; key: string; actions: Action[] }[];

  /** As the server after a failure: memory is gone, storage and rooms are not. */
  replaceInstance(): void;
  /**
   * As a server that was killed: memory and everybody in the rooms are gone. What it then tells
   * of them is {@link Stage.recover}.
   */
  restartServer(): void;
  /**
   * What a server that was killed tells first when it runs again: `onProducerClosed` for each
   * producer that had begun, `onRoomClosed` for each room, with the reason `recovered`, as of
   * the moment at which it was killed.
   */
  recover(): Action[];

  /** `beforeJoin`, `onRoomOpened` where it is the first, `onJoin`, `describeRoom`. */
  join(roomId: string, user: NewUser): Joined;
  /**
   * `onProducerClosed` for all that they send, `onLeave`, `onRoomClosed` where it was the last.
   * The producers end as `left`, `disconnected` (also for `too_slow`) or, for any other reason,
   * `kicked`. Throws what the first hook that fails throws, when all of them have been called.
   */
  leave(joined: Joined, reason?: string): Action[];
  /**
   * `beforeProduce`, `onNewProducer`, and `onProducerClosed` with the reason `replaced` for what
   * they sent from the same source before.
   */
  produce(joined: Joined, source?: Source): Produced;
  /** `beforeConsume`. */
  consume(joined: Joined, produced: Produced): Answer;
  /**
   * `onFirstRtp`. From now on a packet comes every 20 ms, for `media` to count. Ids of facts say
   * what they are, such as `paused/1 of producer-3`, where a server's are UUIDs.
   */
  firstRtp(produced: Produced): Action[];
  /**
   * `onProducerPaused`. The causes are `user`, `plugin` and `silence`; with `since` it was noticed
   * only now. Not told, as by a server, before the first packet and of what is paused already.
   */
  pause(produced: Produced, cause?: string, since?: UnixMs): Action[];
  /** `onProducerResumed`. Not told of what is not paused. */
  resume(produced: Produced): Action[];
  /** `onProducerClosed`. */
  closeProducer(produced: Produced, reason?: string): Action[];
  /** `speakerChanged`: these users speak, loudest first. */
  speakers(roomId: string, userIds: UserId[]): Action[];
  /** `onCommand`. The stage adds `roomId` to the payload, as every client must. */
  command(
    joined: Joined,
    command: string,
    payload?: { [name: string]: Json },
  ): Answer & { data: Json | undefined };

  /** What the plugin keeps in key-value, by key. */
  readonly stored: { [key: string]: Json };
  readonly published: { topic: string; payload: Json }[];
  readonly counters: { [name: string]: number };
  readonly logged: { level: string; message: string }[];
}
