// What operators see of plugins: metrics, and the log line behind a refusal.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';

import { refused } from './client.mjs';
import { produce, producing } from './media.mjs';
import { installed } from './plugins.mjs';
import { start } from './server.mjs';

let server;
let folder;
let client;
before(async () => {
  folder = await installed('fixture-plugin');
  server = await start({
    config: {
      plugins: folder.plugin('guest', `
instances = 1
watch = false
memory_limit_mib = 16
retry_limit = 2
time_budgets_ms = { on_command = 1000 }
breaker = { failures = 12, window_ms = 60000, probe_after_ms = 60000 }
settings = { hooks = { on-leave = "trap" } }`),
    },
  });
  client = await server.enter('quiet');
});
after(async () => {
  await server?.stop();
  await folder?.remove();
});

const name = (metric, labels = {}) => {
  const all = Object.entries({ plugin: 'guest', ...labels }).map(([key, value]) => `${key}="${value}"`);
  return { metric: `voice_room_plugin_${metric}`, all };
};

/** The one sample of a plugin's metric with these labels, whatever else it has; 0 if there is none. */
async function sample(metric, labels) {
  const wanted = name(metric, labels);
  const samples = await server.metrics();
  const found = [...samples].filter(([sampled]) =>
    sampled.startsWith(`${wanted.metric}{`) && wanted.all.every((label) => sampled.includes(label)));
  assert.ok(found.length <= 1, `${wanted.metric}: ${found}`);
  return found[0]?.[1] ?? 0;
}

/** Waits until a metric is so. */
async function reaches(metric, labels, wanted) {
  let value;
  for (const end = Date.now() + 20_000; Date.now() < end;) {
    value = await sample(metric, labels);
    if (value === wanted) return;
  }
  assert.equal(value, wanted, metric);
}

/** Has the fixture do this at the next `fixture:run`. */
const behave = (behaviour, hook = 'on-command') => client.ask('fixture:behave', { hook, behaviour });

async function run(behaviour) {
  await behave(behaviour);
  return client.request('fixture:run');
}

const failed = (answer) =>
  refused(answer, 'The plugin guest could not answer', { code: 'PLUGIN_FAILED', plugin: 'guest' });

describe('metrics of a plugin', () => {
  const calls = (outcome, hook = 'on-command') => sample('calls_total', { hook, outcome });

  test('count calls by hook and outcome', async () => {
    const done = await calls('done');
    await client.ask('fixture:run');
    assert.equal(await calls('done'), done + 1);
    assert.equal(await calls('done', 'before-join'), 1);

    await behave('deny', 'before-produce');
    await client.request('audio:produce', await producing(client));
    assert.equal(await calls('refused', 'before-produce'), 1);

    const outcomes = { trap: 'trapped', 'exhaust-memory': 'out_of_memory', 'invalid-json': 'invalid' };
    for (const [behaviour, outcome] of Object.entries(outcomes)) {
      failed(await run(behaviour));
      assert.equal(await calls(outcome), 1, outcome);
    }
    await reaches('instances_replaced_total', {}, 3);
  });

  test('count what waits while a call runs over its time', async () => {
    await reaches('queued_calls', {}, 0);
    await behave('loop');
    const running = client.request('fixture:run');
    const other = await server.connect();
    const joining = other.send('room:join', { roomId: 'another' });
    await reaches('queued_calls', {}, 1);
    failed(await running);
    await joining;
    assert.equal(await calls('timed_out'), 1);
    await reaches('queued_calls', {}, 0);
  });

  test('show the time of calls in buckets from a microsecond on', async () => {
    const samples = await server.metrics();
    const bucket = /^voice_room_plugin_call_seconds_bucket\{(?=.*plugin="guest")(?=.*hook="on-command").*le="([^"]+)"\}$/;
    const buckets = [...samples].flatMap(([sampled, count]) => {
      const found = bucket.exec(sampled);
      return found ? [[Number(found[1] === '+Inf' ? Infinity : found[1]), count]] : [];
    }).sort(([a], [b]) => a - b);
    const bounds = buckets.map(([bound]) => bound);
    assert.equal(bounds[0], 1e-6);
    for (const bound of [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]) assert.ok(bounds.includes(bound), bound);
    for (const [n, bound] of bounds.entries()) {
      if (bound <= 0.1 && n > 0) assert.ok(bound <= bounds[n - 1] * 2.6, `${bounds[n - 1]} to ${bound}`);
    }
    const [, total] = buckets.at(-1);
    assert.equal(total, await sample('call_seconds_count', { hook: 'on-command' }));
    // The endless loop is the only one that has taken so long.
    assert.equal(buckets.find(([bound]) => bound === 0.1)[1], total - 1);
  });

  test('show what it keeps and what it takes', async () => {
    assert.ok((await sample('memory_bytes')) >= 65536);
    assert.ok((await sample('memory_bytes')) <= 16 << 20, 'the memory of the dead is given back');
    await client.ask('fixture:kv-set', { key: 'key', value: 'value' });
    await client.ask('fixture:timer-set', { key: 'timer', afterMs: 3_600_000 });
    await reaches('stored_keys', {}, 1);
    assert.ok((await sample('stored_bytes')) >= 8);
    assert.equal(await sample('timers'), 1);
    await client.ask('fixture:kv-delete', { key: 'key' });
    await client.ask('fixture:timer-cancel', { key: 'timer' });
    await reaches('stored_keys', {}, 0);
    await reaches('timers', {}, 0);
  });

  test('count what it did not take: told again, then written down', async () => {
    const bad = await server.enter('bad-room');
    await bad.leave();
    await reaches('dead_letters_total', {}, 1);
    assert.equal(await sample('facts_retried_total'), 1);
    assert.equal(await sample('calls_total', { hook: 'on-leave', outcome: 'trapped' }), 2);
  });

  test('count what was dropped, by reason', async () => {
    await run('bad-action');
    assert.ok((await sample('actions_dropped_total', { reason: 'invalid' })) > 0);
    assert.equal(await sample('actions_dropped_total', { reason: 'too_many' }), 0);
    await run('flood-actions');
    assert.equal(await sample('actions_dropped_total', { reason: 'too_many' }), 20_000 - 256);
    await run('flood-logs');
    assert.ok((await sample('log_lines_dropped_total')) > 0);
    await client.ask('fixture:count', { name: 'seen', by: 3 });
    assert.equal(await sample('custom_total', { name: 'seen' }), 3);
  });

  test('follow versions: swaps, refused ones, ones that were taken back', async () => {
    const reload = () => server.admin('/admin/plugins/guest/reload', { method: 'POST' });
    const { body: { plugins: [{ component }] } } = await server.admin('/admin/plugins');
    assert.equal(await sample('version', { component }), 1);
    assert.equal((await reload()).status, 200);
    assert.equal(await sample('swaps_total'), 1);
    assert.equal(await sample('rollbacks_total'), 0);
    await writeFile(folder.file, 'broken');
    assert.equal((await reload()).status, 422);
    assert.equal(await sample('versions_refused_total'), 1);
    for (let n = 0; n < 3; n += 1) failed(await run('trap'));
    await reaches('rollbacks_total', {}, 1);
    assert.equal(await sample('swaps_total'), 2);
  });

  test('show that it is left alone after too many failures', async () => {
    assert.equal(await sample('breaker_state'), 0);
    for (let n = 0; n < 12; n += 1) failed(await run('trap'));
    assert.equal(await sample('breaker_state'), 2);
    failed(await client.request('fixture:run'));
    assert.ok((await calls('unanswered')) > 0);
  });

  test('are described, and carry no ids', async () => {
    const { text } = await server.metrics();
    const names = new Set(text.match(/^voice_room_\w+?(?=(_bucket|_sum|_count)?[{ ])/gm));
    assert.ok(names.size > 20, [...names].join(' '));
    for (const metric of names) assert.match(text, new RegExp(`^# HELP ${metric} \\S`, 'm'), metric);
    for (const word of [`"${client.userId}"`, 'quiet', 'bad-room', client.socket.id]) {
      assert.ok(!text.includes(word), word);
    }
  });
});

describe('a refusal', () => {
  const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
  let seated;
  before(async () => {
    seated = await start({ config: { log: 'format = "json"', plugins: '[[plugins]]\nname = "seats"\n' } });
  });
  after(() => seated?.stop());

  /** The lines of the log that name a decision. */
  const lines = async (decisionId) => {
    await seated.logged(new RegExp(decisionId));
    const all = seated.output.stderr.split('\n').filter((line) => line.includes(decisionId));
    return all.map((line) => JSON.parse(line));
  };

  test('of a request is found in the log by the id in its answer, once', async () => {
    const speaker = await seated.enter('decided');
    const answer = await speaker.request('audio:produce', await producing(speaker));
    refused(answer, 'Take a seat before you speak', { code: 'SEAT_REQUIRED', plugin: 'seats' });
    assert.match(answer.decisionId, UUID);
    const [line, ...more] = await lines(answer.decisionId);
    assert.deepEqual(more, []);
    const { level, plugin, hook, room, user, code } = line;
    assert.deepEqual({ level, plugin, hook, room, user, code }, {
      level: 'INFO',
      plugin: 'seats',
      hook: 'before-produce',
      room: 'decided',
      user: speaker.userId,
      code: 'SEAT_REQUIRED',
    });
  });

  test('of a command has one too, and each has its own', async () => {
    const one = await seated.enter('decided-too');
    await one.ask('seat:take', { seatIndex: 0 });
    const other = await seated.enter('decided-too');
    const ids = [];
    for (let n = 0; n < 2; n += 1) {
      const answer = refused(await other.request('seat:take', { seatIndex: 0 }), 'Seat is already taken', { plugin: 'seats' });
      ids.push(answer.decisionId);
      const [line] = await lines(answer.decisionId);
      assert.deepEqual([line.hook, line.user], ['on-command', other.userId]);
    }
    assert.notEqual(ids[0], ids[1]);
  });

  test('of the server’s own is no decision of a plugin', async () => {
    const client = await seated.connect();
    const answer = await client.send('transport:create', { roomId: 'nowhere', type: 'producer' });
    assert.equal(answer.success, false);
    assert.equal(answer.decisionId, undefined);
  });

  test('what is allowed has no id', async () => {
    const speaker = await seated.enter('allowed');
    await speaker.ask('seat:take', { seatIndex: 0 });
    await produce(speaker);
    const about = seated.output.stderr.split('\n').filter((line) => line.includes('"room":"allowed"'));
    assert.deepEqual(about.filter((line) => line.includes('decision')), []);
  });
});
