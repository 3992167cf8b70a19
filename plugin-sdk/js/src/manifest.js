// plugin.toml: what a plugin says of itself.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'smol-toml';
import { CAPABILITIES, HOOKS } from './contract.js';
import { list, object, oneOf, optional, string } from './fields.js';

const text = list(string());
const manifest = object({
  name: string({ pattern: /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/, like: 'a name such as `my-plugin`' }),
  version: string(),
  description: optional(string()),
  hooks: optional(list(oneOf(...Object.keys(HOOKS))), []),
  commands: optional(text, []),
  topics: optional(text, []),
  capabilities: optional(list(oneOf(...CAPABILITIES)), []),
});

/** Reads a manifest from a path or a `file:` URL. */
export function readManifest(path) {
  const file = path instanceof URL ? fileURLToPath(path) : path;
  try {
    return manifest(parse(readFileSync(file, 'utf8')), '');
  } catch (error) {
    throw new Error(`${file}: ${error.message}`, { cause: error });
  }
}
