// The server's side of the imports, in memory and in the contract's types.

const KEY = 1024;
const VALUE = 64 << 10;
const LISTED = 1000;
const PAYLOAD = 64 << 10;
const EVENTS = 64;

const bytes = (text) => Buffer.byteLength(text);

/** What the bindings of a component throw where the contract has an error. */
function fail(tag, val) {
  throw { payload: val === undefined ? tag : { tag, val } };
}

function checkKey(key) {
  if (bytes(key) < 1 || bytes(key) > KEY) fail('invalid-key', KEY);
}

const same = (a, b) => (a && b ? Buffer.compare(a, b) === 0 : a === b);

const granted = (topics, topic) =>
  topics.some((it) => (it.endsWith('*') ? topic.startsWith(it.slice(0, -1)) : it === topic));

/** Storage, timers and events that a hook changes all at once or, if it fails, not at all. */
export class Memory {
  /** `{ value, until }` by key. */
  keys = new Map();
  /** `{ roomId, key, due, every }` by room and key. */
  timers = new Map();
  published = [];
  counters = {};
  logged = [];

  constructor(settings, topics) {
    this.settings = settings;
    this.topics = topics;
    this.now = 0;
    this.roomId = undefined;
  }

  /** Runs a hook of a room (`init`: of none); undoes what it did if it throws. */
  during(roomId, now, hook) {
    const before = [new Map(this.keys), new Map(this.timers), [...this.published]];
    [this.roomId, this.now] = [roomId, now];
    try {
      return hook();
    } catch (error) {
      [this.keys, this.timers, this.published] = before;
      throw error;
    }
  }

  value(key) {
    checkKey(key);
    const found = this.keys.get(key);
    return found && (found.until === undefined || found.until > this.now) ? found.value : undefined;
  }

  put(key, value, until) {
    checkKey(key);
    if (value.length > VALUE) fail('value-too-large', VALUE);
    this.keys.set(key, { value, until });
  }

  /** Keys that have not expired, in byte order. */
  live() {
    const keys = [...this.keys.keys()].filter((key) => this.value(key) !== undefined);
    return keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  }

  keyValue() {
    return {
      get: (key) => this.value(key),
      set: (key, value) => this.put(key, value),
      setExpiring: (key, value, ttl) => this.put(key, value, this.now + Number(ttl)),
      delete: (key) => {
        checkKey(key);
        this.keys.delete(key);
      },
      list: (prefix, after, limit) =>
        this.live()
          .filter((key) => key.startsWith(prefix))
          .filter((key) => after === undefined || Buffer.compare(Buffer.from(key), Buffer.from(after)) > 0)
          .slice(0, Math.min(limit, LISTED)),
      compareAndSet: (key, expected, value) => {
        if (!same(this.value(key), expected)) return false;
        if (value === undefined) this.keys.delete(key);
        else this.put(key, value);
        return true;
      },
      increment: (key, by) => {
        const found = this.value(key);
        const text = found === undefined ? '0' : new TextDecoder().decode(found);
        if (!/^-?[0-9]+$/.test(text)) fail('not-a-number');
        const sum = BigInt(text) + by;
        if (BigInt.asIntN(64, sum) !== sum) fail('overflow');
        const until = found === undefined ? undefined : this.keys.get(key).until;
        this.put(key, new TextEncoder().encode(String(sum)), until);
        return sum;
      },
    };
  }

  timing() {
    const name = (key) => JSON.stringify([this.roomId, key]);
    return {
      set: (key, after, every) => {
        checkKey(key);
        if (this.roomId === undefined) fail('no-room');
        if (every === 0n) fail('invalid-delay', 'a repeating timer needs a time between calls');
        const [due, period] = [this.now + Number(after), every === undefined ? undefined : Number(every)];
        this.timers.set(name(key), { roomId: this.roomId, key, due, every: period });
      },
      cancel: (key) => {
        checkKey(key);
        this.timers.delete(name(key));
      },
    };
  }

  publishing() {
    let left = EVENTS;
    return {
      publish: (topic, payload) => {
        if (!/^[a-z0-9._-]{1,128}$/.test(topic)) fail('invalid-topic');
        if (!granted(this.topics, topic)) fail('not-granted');
        if (bytes(payload) > PAYLOAD) fail('invalid-payload', `longer than ${PAYLOAD} bytes`);
        if (left-- === 0) fail('quota-exceeded', EVENTS);
        this.published.push({ topic, payload: JSON.parse(payload) });
      },
    };
  }

  /** The interfaces that these capabilities give. */
  interfaces(capabilities) {
    const all = {
      'key-value': ['keyValue', this.keyValue()],
      timers: ['timers', this.timing()],
      publish: ['events', this.publishing()],
      metrics: ['metrics', { increment: (name, by) => this.count(name, by) }],
    };
    const given = Object.entries(all).filter(([capability]) => capabilities.includes(capability));
    return {
      log: { write: (level, message) => this.logged.push({ level, message }) },
      settings: { get: () => JSON.stringify(this.settings) },
      ...Object.fromEntries(given.map(([, entry]) => entry)),
    };
  }

  count(name, by) {
    this.counters[name] = (this.counters[name] ?? 0) + Number(by);
  }
}
