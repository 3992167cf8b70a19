// Opening hours.

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** As days are counted from 1970-01-01, a Thursday. */
export const DAYS = /** @type {const} */ (['thu', 'fri', 'sat', 'sun', 'mon', 'tue', 'wed']);

/**
 * Both ends of `09:00-17:30` in minutes of the day; NaN for a time that is none.
 * @param {string} hours
 */
export const minutes = (hours) =>
  hours.split('-').map((time) => {
    const [hour = NaN, minute = NaN] = time.split(':').map(Number);
    const sum = hour * 60 + minute;
    return minute < 60 && sum <= 24 * 60 ? sum : NaN;
  });

/**
 * Whether it is open, and when that changes, if it does. Hours that end before they begin
 * end on the next day.
 * @param {{ hours?: string, days: readonly string[] }} rule
 * @param {number} offset minutes that local time is ahead of UTC
 * @param {number} at Unix milliseconds
 * @returns {{ open: boolean, until?: number }}
 */
export function opening({ hours, days }, offset, at) {
  if (!hours) return { open: true };
  const [from = 0, to = 0] = minutes(hours);
  const local = at + offset * MINUTE;
  const today = Math.floor(local / DAY);
  // From yesterday, whose hours may not be over, to the same day of next week.
  for (let day = today - 1; day <= today + 7; day += 1) {
    if (!days.includes(DAYS[day % 7] ?? '')) continue;
    const begin = day * DAY + from * MINUTE;
    const end = day * DAY + to * MINUTE + (to <= from ? DAY : 0);
    if (local < begin) return { open: false, until: begin - offset * MINUTE };
    if (local < end) return { open: true, until: end - offset * MINUTE };
  }
  return { open: false };
}
