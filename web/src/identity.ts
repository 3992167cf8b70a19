// Who this tab is: one user per tab, so that two tabs are two people.

import type { UserId } from './protocol';

const USER_KEY = 'voice-room.user';
const NAME_KEY = 'voice-room.name';
const ROOM_KEY = 'voice-room.room';
const TOKEN_KEY = 'voice-room.token';

export interface Prefill {
  name: string;
  room: string;
  token: string;
}

/** The join form's first content: the address wins over what was used before. */
export function prefill(search: string, tab: Storage, machine: Storage): Prefill {
  const query = new URLSearchParams(search);
  return {
    name: query.get('name') ?? tab.getItem(NAME_KEY) ?? machine.getItem(NAME_KEY) ?? '',
    room: query.get('room') ?? tab.getItem(ROOM_KEY) ?? machine.getItem(ROOM_KEY) ?? 'lobby',
    token: tab.getItem(TOKEN_KEY) ?? '',
  };
}

export function remember({ name, room, token }: Prefill, tab: Storage, machine: Storage): void {
  for (const storage of [tab, machine]) {
    storage.setItem(NAME_KEY, name);
    storage.setItem(ROOM_KEY, room);
  }
  tab.setItem(TOKEN_KEY, token);
}

/**
 * The tab's user id, kept over reloads. A duplicated tab inherits its original's
 * storage; the lock, which only one tab can hold, tells the two apart.
 */
export function tabUser(): Promise<UserId> {
  // Asked once: a second claim would meet the tab's own lock.
  return (known ??= claimUser());
}

let known: Promise<UserId> | undefined;

async function claimUser(): Promise<UserId> {
  const stored = Number(sessionStorage.getItem(USER_KEY));
  if (stored > 0 && (await claim(stored))) return stored;
  const fresh = randomUser();
  sessionStorage.setItem(USER_KEY, String(fresh));
  await claim(fresh);
  return fresh;
}

function randomUser(): UserId {
  return (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) + 1;
}

/** Holds the user id for as long as the tab lives; false if another tab does. */
function claim(userId: UserId): Promise<boolean> {
  if (!('locks' in navigator)) return Promise.resolve(true);
  return new Promise((resolve) => {
    void navigator.locks.request(`${USER_KEY}.${userId}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock ? new Promise<void>(() => undefined) : undefined;
    });
  });
}

export interface Claims {
  userId: UserId;
  name: string | undefined;
  roles: string[];
}

/** Reads a token's claims, unverified: what the server will see, for display. */
export function readClaims(token: string): Claims | undefined {
  try {
    const [, body = ''] = token.split('.');
    const bytes = Uint8Array.from(atob(body.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    const userId = Number(claims['id'] ?? claims['sub']);
    if (!Number.isInteger(userId) || userId < 0) return undefined;
    const { name, roles } = claims as { name?: unknown; roles?: unknown };
    return {
      userId,
      name: typeof name === 'string' ? name : undefined,
      roles: Array.isArray(roles) ? roles.filter((role) => typeof role === 'string') : [],
    };
  } catch {
    return undefined;
  }
}

/** Asks a development server for a token; `undefined` where the server hands out none. */
export async function devToken(userId: UserId, name: string, roles: string[]): Promise<string | undefined> {
  const response = await fetch('dev/token', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ userId, name, roles }),
  });
  if (response.status === 404 || response.status === 405) return undefined;
  if (!response.ok) throw new Error(`The server gave no token (status ${response.status})`);
  const { token } = (await response.json()) as { token: string };
  return token;
}
