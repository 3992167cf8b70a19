// The plugin's side of the contract: exports in the types of WIT around a plugin in the
// types of JavaScript.

import { Refusal, refuse } from './answers.js';
import { HOOKS, camel } from './contract.js';
import { log, number, settings, text, whole } from './host.js';

const parse = (json) => (json === '{}' ? {} : JSON.parse(json));

function liftParticipant(participant) {
  const { user } = participant;
  user.id = number('a user\'s id', user.id);
  user.claims = parse(user.claims);
}

function liftMedia(media) {
  media.packets = number('packets', media.packets);
  media.bytes = number('bytes', media.bytes);
  if (media.lastRtpAt !== undefined) media.lastRtpAt = number('lastRtpAt', media.lastRtpAt);
}

/**
 * From the contract's types: big integers to numbers, JSON texts to what they say. In place
 * and field by field, for the engine interprets; a test holds the fields to the contract.
 */
function lift(call) {
  call.at = number('at', call.at);
  if (call.participant) liftParticipant(call.participant);
  if (call.target) liftParticipant(call.target);
  if (call.owner !== undefined) call.owner = number('owner', call.owner);
  if (call.due !== undefined) call.due = number('due', call.due);
  if (call.firstRtpAt !== undefined) call.firstRtpAt = number('firstRtpAt', call.firstRtpAt);
  if (call.media) liftMedia(call.media);
  if (call.packet) call.packet.afterMs = number('afterMs', call.packet.afterMs);
  if (call.payload !== undefined) call.payload = parse(call.payload);
  for (const speaker of call.speakers ?? []) speaker.userId = number('userId', speaker.userId);
  return call;
}

function target(given) {
  if (given?.user !== undefined) return { tag: 'user', val: whole('a target\'s user', given.user) };
  if (typeof given?.producer === 'string') return { tag: 'producer', val: given.producer };
  throw new TypeError('a target is { user: id } or { producer: id }');
}

const ACTIONS = {
  emitToUser: ({ userId, event, payload }) => ({
    tag: 'emit-to-user',
    val: { userId: whole('userId', userId), event, payload: text(`the payload of ${event}`, payload) },
  }),
  emitToRoom: ({ event, payload, except }) => ({
    tag: 'emit-to-room',
    val: {
      event,
      payload: text(`the payload of ${event}`, payload),
      except: except === undefined ? undefined : whole('except', except),
    },
  }),
  mute: (given) => ({ tag: 'mute', val: target(given) }),
  unmute: (given) => ({ tag: 'unmute', val: target(given) }),
  close: (given) => ({ tag: 'close', val: target(given) }),
  kick: ({ userId, reason }) => ({ tag: 'kick', val: { userId: whole('userId', userId), reason } }),
  pinSpeaker: ({ userId, pin }) => ({ tag: 'pin-speaker', val: { userId: whole('userId', userId), pin } }),
};

function actions(given = []) {
  if (!Array.isArray(given)) throw new TypeError('actions must be a list');
  return given.map((action) => {
    const [name] = Object.keys(action ?? {});
    if (!Object.hasOwn(ACTIONS, name ?? '')) throw new TypeError(`${name} is no action`);
    return ACTIONS[name](action[name]);
  });
}

function refusal({ code, message, details }) {
  return {
    tag: 'refuse',
    val: { code, message, details: details === undefined ? undefined : text('details', details) },
  };
}

function amendment({ muted = false, priority, attach } = {}) {
  return { muted, priority, attach: attach === undefined ? undefined : text('attach', attach) };
}

function decision(given) {
  if (given?.refuse) return { verdict: refusal(given.refuse), actions: actions(given.actions) };
  if (!given?.allow) throw new TypeError('return allow() or refuse(code, message)');
  const { amend } = given.allow;
  return {
    verdict: { tag: 'allow' },
    // Read by `before-produce` alone.
    amendment: amend === undefined ? undefined : amendment(amend),
    actions: actions(given.actions),
  };
}

/** What each kind of hook returns, to the contract's types. */
const LOWER = {
  decision,
  actions,
  json: (given) => (given === undefined ? undefined : text('the description', given)),
  nothing: () => undefined,
  reply: (given) => {
    if (given?.refuse) return { answer: refusal(given.refuse), actions: actions(given.actions) };
    if (!given || !('done' in given)) throw new TypeError('return done() or refuse(code, message)');
    const data = given.done === undefined ? undefined : text('the answer', given.done);
    return { answer: { tag: 'done', val: data }, actions: actions(given.actions) };
  },
};

const MAY_REFUSE = new Set(['decision', 'reply']);

function run(name, kind, plugin, call) {
  try {
    let answer;
    try {
      answer = plugin[name](lift(call));
    } catch (error) {
      if (!(error instanceof Refusal && MAY_REFUSE.has(kind))) throw error;
      answer = refuse(error.code, error.message, error.details);
    }
    if (typeof answer?.then === 'function') throw new TypeError('a hook must not be async');
    return LOWER[kind](answer);
  } catch (error) {
    // The engine ends with a trap that has no words of its own.
    log.error(`${name} threw ${error?.stack?.includes(error) ? '' : `${error}\n`}${error?.stack ?? ''}`);
    throw error;
  }
}

/** The plugin has the hooks that its manifest lists, and no others. */
function checkHooks(plugin, listed) {
  const names = new Map(Object.keys(HOOKS).map((hook) => [camel(hook), hook]));
  for (const hook of listed) {
    if (typeof plugin[camel(hook)] !== 'function') {
      throw new Error(`plugin.toml lists the hook "${hook}", but there is no function ${camel(hook)}`);
    }
  }
  for (const name of Object.keys(plugin)) {
    if (name === 'commands') continue;
    if (!names.has(name)) throw new Error(`${name} is neither a hook nor \`commands\``);
    if (!listed.includes(names.get(name))) {
      throw new Error(`there is a function ${name}, but plugin.toml does not list the hook "${names.get(name)}"`);
    }
  }
}

/**
 * The component's exports, by interface.
 * @param start what `definePlugin` was given
 * @param listed the hooks that the manifest lists
 */
export function guest(start, listed) {
  let plugin;
  const lifecycle = {
    init() {
      try {
        plugin = start(settings());
        checkHooks(plugin, listed);
        return { commands: [...(plugin.commands ?? [])] };
      } catch (error) {
        // In the contract this is an error with a sentence, not a trap.
        throw String(error?.message ?? error);
      }
    },
  };
  const hooks = listed.map((hook) => {
    const [name, kind] = [camel(hook), HOOKS[hook]];
    return [name, { [name]: (call) => run(name, kind, plugin, call) }];
  });
  return { lifecycle, ...Object.fromEntries(hooks) };
}
