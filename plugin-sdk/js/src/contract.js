// What the contract, `voice-room:plugin`, has. A test holds this against plugin.wit.

/** Every hook, in the contract's order, and what a plugin returns from it. */
export const HOOKS = {
  'before-join': 'decision',
  'on-room-opened': 'actions',
  'on-join': 'actions',
  'describe-room': 'json',
  'on-leave': 'actions',
  'before-produce': 'decision',
  'before-consume': 'decision',
  'on-new-producer': 'actions',
  'on-first-rtp': 'actions',
  'on-producer-paused': 'actions',
  'on-producer-resumed': 'actions',
  'on-producer-closed': 'actions',
  'speaker-changed': 'actions',
  'on-timer': 'actions',
  'on-room-closed': 'nothing',
  'on-command': 'reply',
};

/** Imported interfaces that every plugin has. */
export const ALWAYS = ['log', 'settings'];

/** Imported interfaces by the capability that a manifest asks for. */
export const IMPORTS = {
  'key-value': 'key-value',
  timers: 'timers',
  publish: 'events',
  metrics: 'metrics',
};

/** Actions by the capability that a manifest asks for. */
export const ACTIONS = {
  'emit-to-user': 'emit',
  'emit-to-room': 'emit',
  mute: 'mute',
  unmute: 'mute',
  close: 'close',
  kick: 'kick',
  'pin-speaker': 'pin-speaker',
};

/** Everything that a manifest may ask for. */
export const CAPABILITIES = new Set([...Object.keys(IMPORTS), ...Object.values(ACTIONS), 'amend']);

/** `before-join` as JavaScript names it: `beforeJoin`. */
export const camel = (name) => name.replace(/-([a-z0-9])/g, (_, letter) => letter.toUpperCase());
