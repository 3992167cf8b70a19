// What a plugin may call, in the types of JavaScript. Behind it are the component's imports
// or, in tests, the stage's.

import { ALWAYS, IMPORTS, camel } from './contract.js';

let imports = {};

/** Puts these interfaces behind the functions below. Returns what was there before. */
export function install(interfaces) {
  const before = imports;
  imports = interfaces;
  return before;
}

/** The server did not do what a plugin asked for. Not caught, it fails the hook. */
export class HostError extends Error {
  constructor(call, reason, limit) {
    super(`${call}: ${reason.replaceAll('-', ' ')}${limit === undefined ? '' : ` (${limit})`}`);
    this.name = 'HostError';
    this.reason = reason;
  }
}

function call(name, method, ...values) {
  const found = imports[camel(name)];
  if (!found) {
    const capability = Object.keys(IMPORTS).find((key) => IMPORTS[key] === name);
    throw new Error(
      ALWAYS.includes(name)
        ? `${name} can be used only in init and hooks`
        : `${name}: ask for the capability "${capability}" in plugin.toml`,
    );
  }
  try {
    return found[camel(method)](...values);
  } catch (error) {
    let payload = error?.payload;
    if (payload === undefined) throw error;
    if (payload.tag === 'storage') payload = payload.val;
    throw typeof payload === 'string'
      ? new HostError(`${name}.${method}`, payload)
      : new HostError(`${name}.${method}`, payload.tag, payload.val);
  }
}

/** A whole number as the contract has it; negative ones only where `signed`. */
export function whole(what, value, signed = false) {
  if (!Number.isSafeInteger(value) || (value < 0 && !signed)) {
    const kind = signed ? 'a whole number' : 'a whole number, 0 or more';
    throw new TypeError(`${what} must be ${kind}, not ${String(value)}`);
  }
  return BigInt(value);
}

/** A number of the contract in the type of JavaScript, which is exact up to 2^53. */
export function number(what, value) {
  const result = Number(value);
  if (!Number.isSafeInteger(result)) {
    throw new RangeError(`${what} is ${value}, which JavaScript cannot tell from its neighbours`);
  }
  return result;
}

/** JSON text of a value. */
export function text(what, value) {
  const json = JSON.stringify(value);
  if (json === undefined) throw new TypeError(`${what} cannot be written as JSON`);
  return json;
}

const encode = (value) => new TextEncoder().encode(text('the value', value));
const optional = (value) => (value === undefined ? undefined : encode(value));

export const kv = {
  get(key) {
    const bytes = call('key-value', 'get', key);
    return bytes === undefined ? undefined : JSON.parse(new TextDecoder().decode(bytes));
  },
  set(key, value, { ttlMs } = {}) {
    if (ttlMs === undefined) call('key-value', 'set', key, encode(value));
    else call('key-value', 'set-expiring', key, encode(value), whole('ttlMs', ttlMs));
  },
  delete(key) {
    call('key-value', 'delete', key);
  },
  list(prefix, { after, limit = 1000 } = {}) {
    return call('key-value', 'list', prefix, after, limit);
  },
  compareAndSet(key, expected, value) {
    return call('key-value', 'compare-and-set', key, optional(expected), optional(value));
  },
  increment(key, by = 1) {
    return number(key, call('key-value', 'increment', key, whole('by', by, true)));
  },
  roomKey(kind, roomId, rest = '') {
    return `${kind}/${new TextEncoder().encode(roomId).length}/${roomId}/${rest}`;
  },
};

export const timers = {
  set(key, afterMs, { everyMs } = {}) {
    const every = everyMs === undefined ? undefined : whole('everyMs', everyMs);
    call('timers', 'set', key, whole('afterMs', afterMs), every);
  },
  cancel(key) {
    call('timers', 'cancel', key);
  },
};

export const events = {
  publish(topic, payload) {
    call('events', 'publish', topic, text('the payload', payload));
  },
};

export const metrics = {
  increment(name, by = 1) {
    call('metrics', 'increment', name, whole('by', by));
  },
};

const write = (level) => (message) => call('log', 'write', level, String(message));

export const log = {
  trace: write('trace'),
  debug: write('debug'),
  info: write('info'),
  warn: write('warn'),
  error: write('error'),
};

/** The plugin's section of the server's configuration. */
export const settings = () => JSON.parse(call('settings', 'get'));
