// What the component's generated entry module imports first, while it is built.

import { bare } from './bare.js';
import { guest } from './guest.js';
import { install } from './host.js';

bare();

/** The exports of a component with these imports. */
export function component(start, hooks, imports) {
  install(imports);
  return guest(start, hooks);
}
