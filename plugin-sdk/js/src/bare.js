// A plugin has no clock, no chance and no network: its calls can be replayed. The engine of
// JavaScript brings a clock that stands still at the time of the build, and numbers that
// only look random; whoever reaches for them is told so, in tests as on the server.

const CLOCK = 'a plugin has no clock: use the call\'s `at`';
const CHANCE = 'a plugin has no random numbers: its calls can be replayed';
const LATER = 'a hook ends when it returns: set a timer of the server\'s with `timers.set`';
const NETWORK = 'a plugin has no network: publish an event';

const ABSENT = [
  [['Date', 'now'], CLOCK],
  [['performance', 'now'], CLOCK],
  [['Math', 'random'], CHANCE],
  [['crypto', 'getRandomValues'], CHANCE],
  [['crypto', 'randomUUID'], CHANCE],
  [['setTimeout'], LATER],
  [['setInterval'], LATER],
  [['setImmediate'], LATER],
  [['fetch'], NETWORK],
];

function replace(owner, name, value) {
  const before = Object.getOwnPropertyDescriptor(owner, name);
  Object.defineProperty(owner, name, { value, configurable: true, writable: true });
  return () => {
    if (before) Object.defineProperty(owner, name, before);
    else delete owner[name];
  };
}

function refuseTo(name, advice) {
  return () => {
    throw new Error(`${name}: ${advice}`);
  };
}

/** `Date` that can be told a time but does not know the present one. */
function timeless() {
  const now = refuseTo('new Date()', CLOCK);
  return new Proxy(Date, {
    apply: now,
    construct: (target, values) => (values.length === 0 ? now() : Reflect.construct(target, values)),
  });
}

/** Takes them away; returns the function that gives them back. */
export function bare() {
  const undo = ABSENT.flatMap(([path, advice]) => {
    const name = path.at(-1);
    const owner = path.length === 1 ? globalThis : globalThis[path[0]];
    return owner?.[name] ? [replace(owner, name, refuseTo(path.join('.'), advice))] : [];
  });
  undo.push(replace(globalThis, 'Date', timeless()));
  return () => undo.reverse().forEach((giveBack) => giveBack());
}
