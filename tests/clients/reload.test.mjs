// Rules that change while people talk: by their files, by SIGHUP, and what becomes of mistakes.

import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';

import { ok, refused } from './client.mjs';
import { produce, producing } from './media.mjs';
import { installed, variant } from './plugins.mjs';
import { start } from './server.mjs';

const REFUSED = { code: 'SEAT_REQUIRED', plugin: 'floor' };

describe('a changed file', () => {
  let server;
  let folder;
  before(async () => {
    folder = await installed('seats');
    server = await start({ config: { plugins: folder.plugin('floor') } });
  });
  after(async () => {
    await server?.stop();
    await folder?.remove();
  });

  const status = async () => (await server.admin('/admin/plugins')).body.plugins[0];

  test('brings other rules to a room that is in use', async () => {
    const [speaker, listener] = [await server.enter('in-use'), await server.enter('in-use')];
    refused(await speaker.request('audio:produce', await producing(speaker)), 'Take a seat before you speak', REFUSED);
    // Billing has no opinion of who speaks.
    const from = server.output.stderr.length;
    await folder.install('billing');
    await server.logged(/plugin swapped/, from);
    const id = await produce(speaker);
    const { producerId } = await listener.next('audio:newProducer');
    assert.equal(producerId, id);

    await folder.install('seats');
    await server.logged(/plugin swapped[^]*plugin swapped/, from);
    refused(await listener.request('audio:produce', await producing(listener)), 'Take a seat before you speak', REFUSED);
    assert.deepEqual(speaker.left().filter(([name]) => name === 'audio:producerClosed'), []);
    assert.equal((await status()).swaps, 2);
  });

  test('that is broken keeps the rules that there are, and the log says why', async () => {
    const before = await status();
    const from = server.output.stderr.length;
    await writeFile(folder.file, (await variant('seats', 1)).subarray(0, 5000));
    const [line] = await server.logged(/^.*changed files are not used.*$/m, from);
    assert.match(line, /plugin `floor` \(.*plugin\.wasm\) does not compile/);
    const client = await server.enter('still-seated');
    refused(await client.request('audio:produce', await producing(client)), 'Take a seat before you speak', REFUSED);
    const now = await status();
    assert.deepEqual([now.component, now.swaps], [before.component, before.swaps]);
    assert.match(now.lastRefused.problem, /^does not compile/);

    await rm(folder.file);
    await folder.install('seats', await variant('seats', 2));
    await server.logged(/plugin swapped/, from);
    const later = server.output.stderr.slice(from).match(/changed files are not used/g);
    assert.equal(later.length, 1, 'said once');
  });
});

describe('SIGHUP', () => {
  let server;
  let folder;
  const plugins = (settings, lines = '') =>
    `${folder.plugin('floor', `watch = false\nsettings = ${settings}\n${lines}`)}\n`;
  before(async () => {
    folder = await installed('seats');
    server = await start({ config: { plugins: plugins('{ require_seat = true }') } });
  });
  after(async () => {
    await server?.stop();
    await folder?.remove();
  });

  /** Sends it and waits until the log says that it is done with. */
  const hangup = async (end = /^.*configuration was read again.*$/m) => {
    const from = server.output.stderr.length;
    server.signal('SIGHUP');
    const [line] = await server.logged(end, from);
    return { line, text: server.output.stderr.slice(from) };
  };

  test('brings other settings to a room that is in use', async () => {
    const client = await server.enter('in-use');
    refused(await client.request('audio:produce', await producing(client)), 'Take a seat before you speak', REFUSED);
    await server.configure({ plugins: plugins('{ require_seat = false }') });
    const { line, text } = await hangup();
    assert.match(line, /changed=1 failed=0/);
    assert.doesNotMatch(text, /WARN|ERROR/);
    ok(await client.request('audio:produce', await producing(client)));
  });

  test('does nothing where nothing has changed', async () => {
    const { line } = await hangup();
    assert.match(line, /changed=0 failed=0/);
  });

  test('brings another component, although nobody watches the file', async () => {
    await folder.install('seats', await variant('seats', 1));
    assert.match((await hangup()).line, /changed=1 failed=0/);
  });

  test('names what needs a restart, and changes the rest', async () => {
    await server.configure({
      media: 'workers = 2',
      rooms: 'max_participants = 7',
      plugins: `${plugins('{ require_seat = true }', 'instances = 2')}[[plugins]]\nname = "billing"\n`,
    });
    const { line, text } = await hangup();
    assert.match(line, /changed=1 failed=0/);
    const [, parts] = /restart_for="([^"]*)"/.exec(text);
    assert.equal(parts, '[media], [rooms], `instances` of plugin `floor` (4, now 2), plugin `billing` added');
    const client = await server.enter('seated-again');
    refused(await client.request('audio:produce', await producing(client)), 'Take a seat before you speak', REFUSED);
  });

  test('with mistakes in the configuration changes nothing', async () => {
    await server.configure({ plugins: plugins('{ require_seat = false }'), rooms: 'max_participants = "many"' });
    const { line } = await hangup(/^.*nothing changes[^]*max_participants.*$/m);
    assert.match(line, /rooms\.max_participants/);
    const client = await server.enter('unchanged');
    refused(await client.request('audio:produce', await producing(client)), 'Take a seat before you speak', REFUSED);
  });

  test('with settings that the plugin refuses keeps those that it has', async () => {
    await server.configure({ plugins: plugins('{ require_seat = "perhaps" }') });
    const { line, text } = await hangup();
    assert.match(line, /changed=0 failed=1/);
    assert.match(text, /plugin `floor` .* does not start: .*require_seat/);
    const client = await server.enter('unchanged-too');
    refused(await client.request('audio:produce', await producing(client)), 'Take a seat before you speak', REFUSED);
  });

  test('many times in a row is no harm', async () => {
    await server.configure({ plugins: plugins('{ require_seat = false }') });
    const from = server.output.stderr.length;
    for (let n = 0; n < 20; n += 1) server.signal('SIGHUP');
    await server.logged(/changed=1 failed=0/, from);
    const client = await server.enter('free');
    await produce(client);
    await server.serves();
  });
});
