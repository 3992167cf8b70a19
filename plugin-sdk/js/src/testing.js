// A plugin and rooms for it to rule, without a server. Documented in testing.d.ts.

import { bare } from './bare.js';
import { ACTIONS, camel } from './contract.js';
import { guest } from './guest.js';
import { install } from './host.js';
import { Memory } from './testing/memory.js';

export { readManifest } from './manifest.js';

const CODEC = { mimeType: 'audio/opus', clockRate: 48000, channels: 2 };

/** How the producers of who leaves end, by the reason of their leaving; others are kicked. */
const ENDS = new Map([
  ['left', 'left'],
  ['disconnected', 'disconnected'],
  ['too_slow', 'disconnected'],
]);

/** Takes all steps, as the server does whatever one of them says, and their actions. */
function all(steps) {
  const actions = [];
  const failures = [];
  for (const step of steps) {
    try {
      actions.push(...step());
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return actions;
}

/** Of an Opus packet, as browsers send them. */
const PACKET = { ms: 20, bytes: 100 };

/** What has come of a stream, in the contract's types; nothing of one that has not begun. */
function media(stream, now) {
  if (!stream) return { packets: 0n, bytes: 0n };
  const flowed = stream.flowed + (stream.flows === undefined ? 0 : now - stream.flows);
  const packets = Math.floor(flowed / PACKET.ms) + 1;
  return {
    packets: BigInt(packets),
    bytes: BigInt(packets * PACKET.bytes),
    lastRtpAt: BigInt(stream.flows === undefined ? stream.last : now),
  };
}

const parsed = (text) => (text === undefined ? undefined : JSON.parse(text));

/** From the contract's types to what a test compares with. */
const action = ({ tag, val }) => {
  switch (tag) {
    case 'emit-to-user':
      return { emitToUser: { userId: Number(val.userId), event: val.event, payload: parsed(val.payload) } };
    case 'emit-to-room': {
      const except = val.except === undefined ? {} : { except: Number(val.except) };
      return { emitToRoom: { event: val.event, payload: parsed(val.payload), ...except } };
    }
    case 'kick':
      return { kick: { userId: Number(val.userId), reason: val.reason } };
    case 'pin-speaker':
      return { pinSpeaker: { userId: Number(val.userId), pin: val.pin } };
    default:
      return { [tag]: val.tag === 'user' ? { user: Number(val.val) } : { producer: val.val } };
  }
};

const refusal = ({ tag, val }) => {
  if (tag !== 'refuse') return undefined;
  const { code, message, details } = val;
  return { code, message, ...(details === undefined ? {} : { details: parsed(details) }) };
};

export class Stage {
  now = 1_700_000_000_000;
  #ids = 0;
  /** Participants in the contract's types, by room. */
  #rooms = new Map();
  /** What runs, by its participant's id and its source. */
  #sending = new Map();
  /** What a server that was killed has yet to tell. */
  #leftOpen = [];
  #start;
  #manifest;
  #memory;
  #instance;

  constructor(start, { manifest, settings = {} }) {
    this.#start = start;
    this.#manifest = manifest;
    this.#memory = new Memory(settings, manifest.topics);
    this.replaceInstance();
  }

  /** Runs with the stage's imports, and with what a plugin lacks taken away. */
  #within(roomId, now, run) {
    const memory = this.#memory;
    const imports = install(memory.interfaces(this.#manifest.capabilities));
    const giveBack = bare();
    try {
      return memory.during(roomId, now, run);
    } finally {
      giveBack();
      install(imports);
    }
  }

  #call(hook, roomId, fields) {
    const exported = this.#instance[camel(hook)];
    if (!exported) return undefined;
    const call = { room: this.#room(roomId), at: BigInt(this.now) };
    // As for a component, no two fields and no two calls share anything.
    for (const [name, value] of Object.entries(fields)) call[name] = structuredClone(value);
    const answer = this.#within(roomId, this.now, () => exported[camel(hook)](call));
    const actions = Array.isArray(answer) ? answer : (answer?.actions ?? []);
    for (const { tag } of actions) this.#require(ACTIONS[tag], `the action ${camel(tag)}`);
    return answer;
  }

  /** The server drops what was not asked for; a test should hear of it. */
  #require(capability, what) {
    if (!this.#manifest.capabilities.includes(capability)) {
      throw new Error(`${what} needs the capability "${capability}" in plugin.toml`);
    }
  }

  #decide(hook, roomId, fields) {
    const answer = this.#call(hook, roomId, fields);
    if (!answer) return { refusal: undefined, actions: [] };
    return { refusal: refusal(answer.verdict), actions: answer.actions.map(action), answer };
  }

  #inform(hook, roomId, fields) {
    return (this.#call(hook, roomId, fields) ?? []).map(action);
  }

  #room(id) {
    return { id, participants: this.#participants(id).length };
  }

  #participants(roomId) {
    return this.#rooms.get(roomId) ?? [];
  }

  #connections(roomId, userId) {
    return this.#participants(roomId).filter(({ user }) => user.id === userId).length;
  }

  #current(joined) {
    if (joined.refusal) throw new Error(`user ${joined.user.id} was refused: ${joined.refusal.code}`);
    const participant = joined.participant;
    return { ...participant, connections: this.#connections(joined.roomId, participant.user.id) };
  }

  #id(noun) {
    this.#ids += 1;
    return `${noun}-${this.#ids}`;
  }

  replaceInstance() {
    const instance = guest(this.#start, this.#manifest.hooks);
    let registered;
    try {
      registered = this.#within(undefined, this.now, () => instance.lifecycle.init()).commands;
    } catch (error) {
      throw new Error(error);
    }
    const unlisted = registered.find((command) => !this.#manifest.commands.includes(command));
    if (unlisted) throw new Error(`plugin.toml does not list the command "${unlisted}"`);
    if (registered.length > 0 && !instance.onCommand) {
      throw new Error('the plugin registers commands but has no onCommand');
    }
    this.#instance = { ...instance, commands: registered };
  }

  restartServer() {
    const at = this.now;
    for (const sent of this.#sending.values()) {
      for (const produced of Object.values(sent)) {
        if (produced.stream) this.#leftOpen.push(() => this.#closed(produced, 'recovered', at));
      }
    }
    for (const roomId of this.#rooms.keys()) {
      this.#leftOpen.push(() => this.#roomClosed(roomId, 'recovered', at));
    }
    this.#rooms.clear();
    this.#sending.clear();
    this.replaceInstance();
  }

  recover() {
    const steps = this.#leftOpen;
    this.#leftOpen = [];
    return all(steps);
  }

  join(roomId, { id, name, avatar, roles = [], claims = {} }) {
    const user = { id: BigInt(id), name, avatar, roles, claims: JSON.stringify(claims) };
    const connections = this.#connections(roomId, user.id) + 1;
    const participant = { id: this.#id('participant'), user, connections };
    const { refusal, actions } = this.#decide('before-join', roomId, { participant });
    const joined = { roomId, user: { id, name, avatar, roles, claims }, participant, refusal, actions };
    if (refusal) return joined;

    const before = this.#participants(roomId);
    this.#rooms.set(roomId, [...before, participant]);
    if (before.length === 0) joined.actions.push(...this.#inform('on-room-opened', roomId, {}));
    joined.actions.push(...this.#inform('on-join', roomId, { participant }));
    joined.shown = parsed(this.#call('describe-room', roomId, { participant }));
    return joined;
  }

  leave(joined, reason = 'left') {
    const { roomId, participant } = joined;
    const sent = this.#sent(participant);
    const ending = ['mic', 'music'].filter((source) => source in sent);
    const gone = () => {
      const rest = this.#participants(roomId).filter(({ id }) => id !== participant.id);
      this.#rooms.set(roomId, rest);
      this.#sending.delete(participant.id);
      return this.#inform('on-leave', roomId, { participant: this.#current(joined), reason });
    };
    const closed = () => {
      if (this.#participants(roomId).length > 0) return [];
      this.#rooms.delete(roomId);
      return this.#roomClosed(roomId, 'empty', this.now);
    };
    return all([
      ...ending.map((source) => () => this.closeProducer(sent[source], ENDS.get(reason) ?? 'kicked')),
      gone,
      closed,
    ]);
  }

  #roomClosed(roomId, reason, at) {
    const factId = this.#id('closed of room');
    this.#call('on-room-closed', roomId, { reason, factId, at: BigInt(at) });
    return [];
  }

  /** What a participant sends, by source. */
  #sent({ id }) {
    if (!this.#sending.has(id)) this.#sending.set(id, {});
    return this.#sending.get(id);
  }

  produce(joined, source = 'mic') {
    const { roomId } = joined;
    const participant = this.#current(joined);
    const call = { participant, source, codec: CODEC };
    const { refusal, actions, answer } = this.#decide('before-produce', roomId, call);
    if (refusal) return { joined, refusal, actions };
    let amendment;
    if (answer?.amendment) {
      this.#require('amend', 'an amendment');
      const { attach, ...rest } = answer.amendment;
      amendment = { ...rest, ...(attach === undefined ? {} : { attach: parsed(attach) }) };
      if (amendment.priority === undefined) delete amendment.priority;
    }
    const producer = { id: this.#id('producer'), source, codec: CODEC };
    const produced = { joined, refusal, actions, amendment, producer };
    const sent = this.#sent(participant);
    const displaced = sent[source];
    sent[source] = produced;
    const steps = [() => this.#inform('on-new-producer', roomId, { participant, producer })];
    if (displaced) steps.push(() => this.closeProducer(displaced, 'replaced'));
    actions.push(...all(steps));
    return produced;
  }

  firstRtp(produced) {
    const at = this.now;
    produced.stream ??= { began: at, flows: at, flowed: 0, last: at, cause: '', pauses: 0 };
    const packet = { ssrc: 1, timestamp: 0, payloadType: 111, afterMs: 0n };
    const began = BigInt(produced.stream.began);
    return this.#aboutProducer('on-first-rtp', produced, 'first-rtp', { packet, at: began });
  }

  pause(produced, cause = 'user', since = this.now) {
    const { stream } = produced;
    if (stream?.flows === undefined) return [];
    const at = Math.max(since, stream.flows);
    stream.flowed += at - stream.flows;
    Object.assign(stream, { flows: undefined, last: at, cause, pauses: stream.pauses + 1 });
    const fields = { cause, media: media(stream, at), at: BigInt(at) };
    return this.#aboutProducer('on-producer-paused', produced, `paused/${stream.pauses}`, fields);
  }

  resume(produced) {
    const { stream } = produced;
    if (!stream || stream.flows !== undefined) return [];
    stream.flows = this.now;
    const fields = { cause: stream.cause, media: media(stream, this.now) };
    return this.#aboutProducer('on-producer-resumed', produced, `resumed/${stream.pauses}`, fields);
  }

  closeProducer(produced, reason = 'closed') {
    const { joined, producer } = produced;
    const sent = this.#sent(joined.participant);
    // A successor may hold the place already.
    if (sent[producer.source] === produced) delete sent[producer.source];
    return this.#closed(produced, reason, this.now);
  }

  #closed(produced, reason, at) {
    const { stream } = produced;
    const firstRtpAt = stream && BigInt(stream.began);
    const fields = { reason, firstRtpAt, media: media(stream, at), at: BigInt(at) };
    return this.#aboutProducer('on-producer-closed', produced, 'closed', fields);
  }

  /** Tells a recorded fact. As an id it gets what it is, where a server's has a UUID. */
  #aboutProducer(hook, { joined, producer }, fact, fields) {
    const factId = `${fact} of ${producer.id}`;
    const call = { participant: this.#current(joined), producer, factId, ...fields };
    return this.#inform(hook, joined.roomId, call);
  }

  consume(joined, { producer, joined: { user } }) {
    const call = { participant: this.#current(joined), producer, owner: BigInt(user.id) };
    const { refusal, actions } = this.#decide('before-consume', joined.roomId, call);
    return { refusal, actions };
  }

  speakers(roomId, userIds) {
    const speakers = userIds.map((id) => ({
      userId: BigInt(id),
      producerId: `producer of ${id}`,
      volume: -30,
    }));
    return this.#inform('speaker-changed', roomId, { speakers });
  }

  command(joined, command, payload = {}) {
    const { roomId } = joined;
    if (!this.#instance.commands.includes(command)) {
      throw new Error(`the plugin does not register the command "${command}"`);
    }
    const named = Number.isSafeInteger(payload.userId) ? BigInt(payload.userId) : undefined;
    const target = this.#participants(roomId).find(({ user }) => user.id === named);
    const text = JSON.stringify({ ...payload, roomId });
    const call = { participant: this.#current(joined), command, payload: text, target };
    const { answer, actions } = this.#call('on-command', roomId, call);
    const data = answer.tag === 'done' ? parsed(answer.val) : undefined;
    return { refusal: refusal(answer), data, actions: actions.map(action) };
  }

  advance(ms) {
    const end = this.now + ms;
    const fired = [];
    for (let next = this.#due(end); next; next = this.#due(end)) {
      const [id, { roomId, key, due, every }] = next;
      this.now = Math.max(this.now, due);
      const actions = this.#inform('on-timer', roomId, { key, due: BigInt(due) });
      fired.push({ roomId, key, actions });
      const { timers } = this.#memory;
      // Unless the hook has set or cancelled it.
      if (timers.get(id)?.due === due) {
        if (every === undefined) timers.delete(id);
        else timers.set(id, { roomId, key, due: due + every, every });
      }
    }
    this.now = end;
    return fired;
  }

  /** The timer that is due first, if one is until then. */
  #due(end) {
    const waiting = [...this.#memory.timers].filter(([, { due }]) => due <= end);
    return waiting.sort(([, a], [, b]) => a.due - b.due)[0];
  }

  get stored() {
    this.#memory.now = this.now;
    const read = (key) => JSON.parse(new TextDecoder().decode(this.#memory.value(key)));
    return Object.fromEntries(this.#memory.live().map((key) => [key, read(key)]));
  }

  get published() {
    return this.#memory.published;
  }

  get counters() {
    return this.#memory.counters;
  }

  get logged() {
    return this.#memory.logged;
  }
}
