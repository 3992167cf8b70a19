// The project that `voice-room plugin new --lang js` writes passes its own tests.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { readManifest } from '../src/manifest.js';

const SDK = fileURLToPath(new URL('..', import.meta.url));
const TEMPLATE = fileURLToPath(new URL('../../../src/tool/templates/js', import.meta.url));

async function filesOf(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  // `parentPath` is the newer name of `path`.
  return files.map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1));
}

test('a new project passes its tests and has a manifest', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'voice-room-template-test-'));
  try {
    for (const file of await filesOf(TEMPLATE)) {
      const content = await readFile(join(TEMPLATE, file), 'utf8');
      await mkdir(dirname(join(folder, file)), { recursive: true });
      await writeFile(join(folder, file), content.replaceAll('{{name}}', 'night-club'));
    }
    await mkdir(join(folder, 'node_modules'));
    await symlink(SDK, join(folder, 'node_modules', 'voice-room-plugin-sdk'));
    // What tells this process that it is a test run would make the inner run report to it.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const run = spawnSync(process.execPath, ['--test'], { cwd: folder, env, encoding: 'utf8' });
    assert.equal(run.status, 0, run.stdout + run.stderr);
    assert.match(run.stdout, /pass [1-9]/);
    assert.equal(readManifest(join(folder, 'plugin.toml')).name, 'night-club');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
