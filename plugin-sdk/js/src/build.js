// From a project folder to NAME.wasm with NAME.toml beside it.

import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';
import { build as bundle } from 'esbuild';
import { ALWAYS, IMPORTS, camel } from './contract.js';
import { readManifest } from './manifest.js';

const SDK = fileURLToPath(new URL('..', import.meta.url));

/** The engine's own ways to a clock, a network and so on: without them, it imports nothing. */
const DISABLED = ['clocks', 'fetch-event', 'http', 'random', 'stdio'];

/** The contract: in a copy of this package within it, in the repository beside it. */
export function contract() {
  const places = [join(SDK, 'wit', 'plugin.wit'), join(SDK, '..', 'wit', 'plugin.wit')];
  const found = places.find(existsSync);
  if (!found) throw new Error(`plugin.wit is neither ${places.join(' nor ')}`);
  return found;
}

function interfaces(manifest) {
  const asked = manifest.capabilities.map((capability) => IMPORTS[capability]).filter(Boolean);
  return [...ALWAYS, ...new Set(asked)];
}

/** The world of a component with just what its manifest lists, in a contract of this version. */
export function world(manifest, version) {
  const name = (item) => `voice-room:plugin/${item}@${version}`;
  return [
    'package plugin:project;',
    'world plugin {',
    ...interfaces(manifest).map((item) => `  import ${name(item)};`),
    ...['lifecycle', ...manifest.hooks].map((item) => `  export ${name(item)};`),
    '}',
    '',
  ].join('\n');
}

/** The module that ties the plugin to the world. */
function entry(manifest, version, source) {
  const imports = interfaces(manifest);
  const quoted = JSON.stringify;
  return [
    `import { component } from 'voice-room-plugin-sdk/component';`,
    `import start from ${quoted(source)};`,
    ...imports.map(
      (item) => `import * as ${camel(item)} from 'voice-room:plugin/${item}@${version}';`,
    ),
    `const hooks = ${quoted(manifest.hooks)};`,
    `const exported = component(start, hooks, { ${imports.map(camel).join(', ')} });`,
    ...['lifecycle', ...manifest.hooks].map(
      (item) => `export const ${camel(item)} = exported.${camel(item)};`,
    ),
  ].join('\n');
}

function sourceOf(project) {
  const places = ['src/plugin.js', 'src/plugin.ts'].map((path) => join(project, path));
  const found = places.find(existsSync);
  if (!found) throw new Error(`the plugin's source is neither ${places.join(' nor ')}`);
  return found;
}

/** Puts a file where somebody may be reading its predecessor. */
async function place(path, content) {
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
}

/**
 * Builds the component of a project folder.
 * @returns the component's path and its size in bytes
 */
export async function build(folder, outFolder) {
  const project = resolve(folder);
  const manifestPath = join(project, 'plugin.toml');
  const manifest = readManifest(manifestPath);
  const wit = await readFile(contract(), 'utf8');
  const version = wit.match(/^package voice-room:plugin@([0-9.]+);/m)?.[1];
  if (!version) throw new Error(`${contract()} does not say its version`);

  const work = await mkdtemp(join(tmpdir(), 'voice-room-plugin-'));
  try {
    const bundled = join(work, 'plugin.js');
    await bundle({
      stdin: { contents: entry(manifest, version, sourceOf(project)), resolveDir: project },
      outfile: bundled,
      bundle: true,
      format: 'esm',
      platform: 'neutral',
      mainFields: ['module', 'main'],
      target: 'es2022',
      external: ['voice-room:plugin/*'],
      logLevel: 'warning',
    });
    const contractFolder = join(work, 'wit', 'deps', 'voice-room-plugin');
    await mkdir(contractFolder, { recursive: true });
    await copyFile(contract(), join(contractFolder, 'plugin.wit'));
    await writeFile(join(work, 'wit', 'world.wit'), world(manifest, version));
    const { component } = await componentize({
      sourcePath: bundled,
      witPath: join(work, 'wit'),
      worldName: 'plugin',
      disableFeatures: DISABLED,
    });

    const out = resolve(outFolder);
    await mkdir(out, { recursive: true });
    await place(join(out, `${manifest.name}.toml`), await readFile(manifestPath));
    const path = join(out, `${manifest.name}.wasm`);
    await place(path, component);
    return { path, bytes: component.length };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
