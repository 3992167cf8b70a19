#!/usr/bin/env node
// Builds the component of a plugin's project folder.

import { parseArgs } from 'node:util';

const USAGE = `Usage: voice-room-componentize [FOLDER] [--out FOLDER]

Builds NAME.wasm, and places plugin.toml beside it as NAME.toml. FOLDER has plugin.toml and
src/plugin.js (or .ts); by default it is the present one. The result goes to --out, by
default dist.`;

function read() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        out: { type: 'string', default: 'dist' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    console.error(`${error.message}\n\n${USAGE}`);
    process.exit(2);
  }
}

const { values, positionals } = read();
if (values.help) {
  console.log(USAGE);
} else if (positionals.length > 1) {
  console.error(USAGE);
  process.exitCode = 2;
} else {
  try {
    const { build } = await import('../src/build.js');
    const { path, bytes } = await build(positionals[0] ?? '.', values.out);
    console.log(`${path}: ${(bytes / 1e6).toFixed(1)} MB`);
  } catch (error) {
    console.error(`voice-room-componentize: ${error.message}`);
    process.exitCode = 1;
  }
}
