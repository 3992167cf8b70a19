// The whole way to a component, and the component itself, run by the engine of Node.js.

import assert from 'node:assert/strict';
import { mkdtemp, mkdir, readFile, rm, symlink, cp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { transpile } from '@bytecodealliance/jco';
import { build } from '../src/build.js';
import { Memory } from '../src/testing/memory.js';
import { readManifest } from '../src/manifest.js';

const here = fileURLToPath(new URL('.', import.meta.url));
const PREFIX = 'voice-room:plugin/';
let folder;
let built;
let instantiate;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'voice-room-sdk-test-'));
  const project = join(folder, 'project');
  await cp(join(here, 'project'), project, { recursive: true });
  await mkdir(join(project, 'node_modules'));
  await symlink(join(here, '..'), join(project, 'node_modules', 'voice-room-plugin-sdk'));
  built = await build(project, join(folder, 'dist'));

  const { files } = await transpile(await readFile(built.path), {
    name: 'project',
    instantiation: 'async',
    noTypescript: true,
  });
  const entries = files instanceof Map ? [...files] : Object.entries(files);
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
  for (const [name, content] of entries) {
    await mkdir(join(folder, 'node', name, '..'), { recursive: true });
    await writeFile(join(folder, 'node', name), content);
  }
  ({ instantiate } = await import(pathToFileURL(join(folder, 'node', 'project.js'))));
});

after(() => rm(folder, { recursive: true, force: true }));

/** An instance on a host in memory, and the names of what it was given. */
async function instance(settings) {
  const { capabilities, topics } = readManifest(join(folder, 'dist', 'project.toml'));
  const memory = new Memory(settings, topics);
  const { keyValue, ...others } = memory.interfaces(capabilities);
  const given = { ...others, 'key-value': keyValue };
  const asked = new Set();
  const imports = new Proxy(given, {
    get: (all, name) => {
      const plain = name.replace(PREFIX, '').replace(/@.*/, '');
      asked.add(plain);
      return all[plain];
    },
  });
  const component = await instantiate(
    async (path) => WebAssembly.compile(await readFile(join(folder, 'node', path))),
    imports,
  );
  return { component, memory, asked };
}

const joining = (roomId) => ({
  room: { id: roomId, participants: 0 },
  participant: {
    id: 'p',
    user: { id: 7n, name: undefined, avatar: undefined, roles: [], claims: '{"plan":"pro"}' },
    connections: 1,
  },
  at: 5n,
});

test('a component imports what its manifest asks for, and nothing else', async () => {
  const { component, asked } = await instance({});
  assert.deepEqual([...asked].sort(), ['events', 'key-value', 'log', 'settings', 'timers']);
  assert.deepEqual(component.lifecycle.init(), { commands: ['project:say'] });
  assert.ok(built.bytes < 16e6, `${built.bytes} bytes`);
});

test('a component decides as it does in the stage', async () => {
  const { component, memory } = await instance({});
  component.lifecycle.init();
  const { verdict } = component.beforeJoin.beforeJoin(joining('lobby'));
  assert.equal(verdict.tag, 'allow');
  const kept = new TextDecoder().decode(memory.value('seen/5/lobby/7'));
  assert.deepEqual(JSON.parse(kept), { at: 5, plan: 'pro' });
  const refused = component.beforeJoin.beforeJoin(joining('refuses')).verdict;
  assert.deepEqual(refused.val, { code: 'NO', message: 'Not you', details: '{"why":"because"}' });
});

test('a component has no clock, and says in the log why it fails', async () => {
  for (const [room, sentence] of [['clock', /Date\.now: a plugin has no clock/], ['chance', /Math\.random/], ['later', /setTimeout/]]) {
    const { component, memory } = await instance({});
    component.lifecycle.init();
    assert.throws(() => component.beforeJoin.beforeJoin(joining(room)), room);
    assert.match(memory.logged[0].message, sentence);
  }
});

test('a component that the host refuses something names it', async () => {
  const { component, memory } = await instance({});
  component.lifecycle.init();
  assert.throws(() => component.beforeJoin.beforeJoin(joining('long key')));
  assert.match(memory.logged[0].message, /key-value\.get: invalid key \(1024\)/);
});

test('a component with a wrong setting says which', async () => {
  const { component } = await instance({ greeting: 3 });
  assert.throws(() => component.lifecycle.init(), { payload: 'settings: `greeting`: must be text, not 3' });
});

test('a folder that is no project is told what it lacks', async () => {
  await assert.rejects(build(join(folder, 'dist'), folder), /plugin\.toml: ENOENT/);
});
