// Takes voice-room's webhooks: verifies each, writes it down once, and only then says so.
// BILLING_KEYS: the keys that are good, separated by spaces; PORT: where it listens.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { appendFileSync, existsSync, fsyncSync, openSync, readFileSync, truncateSync } from 'node:fs';
import { createServer } from 'node:http';

const FILE = 'received.jsonl';
const decode = (key) => key.startsWith('whsec_') ? Buffer.from(key.slice(6), 'base64') : Buffer.from(key);
const keys = (process.env.BILLING_KEYS ?? '').split(' ').map(decode).filter((key) => key.length >= 24);
if (keys.length === 0) throw new Error('BILLING_KEYS has no key of at least 24 bytes');
const text = existsSync(FILE) ? readFileSync(FILE) : Buffer.alloc(0);
const whole = text.lastIndexOf('\n') + 1; // a line that was cut off was not answered: it comes again
if (whole < text.length) truncateSync(FILE, whole);
const lines = text.subarray(0, whole).toString().split('\n').filter(Boolean);
const taken = new Set(lines.map((line) => JSON.parse(line).id));
const file = openSync(FILE, 'a');

function isGenuine(headers, body) {
  const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signatures = '' } = headers;
  if (!(Math.abs(Date.now() / 1000 - at) < 300)) return false; // repeated by somebody else
  return keys.some((key) => {
    const expected = createHmac('sha256', key).update(`${id}.${at}.`).update(body).digest();
    const given = signatures.split(' ').map((one) => Buffer.from(one.replace(/^v1,/, ''), 'base64'));
    return given.some((one) => one.length === expected.length && timingSafeEqual(one, expected));
  });
}

createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray().catch(() => [])); // gone: nothing is genuine
  if (!isGenuine(request.headers, body)) return response.writeHead(401).end();
  const event = JSON.parse(body);
  if (!taken.has(event.id)) { // what comes again is answered and not counted
    appendFileSync(file, `${body}\n`); // all of it, or this throws, and the next start cuts it off
    fsyncSync(file);
    taken.add(event.id);
  }
  response.writeHead(204).end();
}).listen(process.env.PORT ?? 8080, '127.0.0.1', () => console.log('the receiver is ready'));
