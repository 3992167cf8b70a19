// Waiting for what will be so, with a limit.

import { setTimeout as pause } from 'node:timers/promises';

/** Asks again and again until the answer is truthy, and gives it back. */
export async function until(what, ask, { limit = 15_000, every = 50 } = {}) {
  const end = Date.now() + limit;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`Not within ${limit} ms: ${what}`);
    await pause(every);
  }
}
