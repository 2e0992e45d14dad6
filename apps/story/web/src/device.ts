// What this device remembers: who one is in a story, drafts, and letters that have not been answered. Works without storage too, for as long
// as the page is open.

import type { Keeper } from './outbox';
import { asObject, readRole, type Role } from './story';

export interface Held {
  session: string;
  user: string;
  name: string;
  role: Role;
}

const spare = new Map<string, string>();

export const device: Keeper = {
  getItem(key) {
    try {
      return localStorage.getItem(key) ?? spare.get(key) ?? null;
    } catch {
      return spare.get(key) ?? null;
    }
  },
  setItem(key, value) {
    try {
      localStorage.setItem(key, value);
      spare.delete(key);
    } catch {
      spare.set(key, value);
    }
  },
  removeItem(key) {
    spare.delete(key);
    try {
      localStorage.removeItem(key);
    } catch {
      // Nothing was kept.
    }
  },
  keys() {
    try {
      return [...Object.keys(localStorage), ...spare.keys()];
    } catch {
      return [...spare.keys()];
    }
  },
};

const sessionKey = (story: string) => `fireside.session.${story}`;

export function readHeld(story: string): Held | undefined {
  try {
    const held = asObject(JSON.parse(device.getItem(sessionKey(story)) ?? ''));
    const { session, user, name } = held ?? {};
    if (typeof session !== 'string' || typeof user !== 'string' || typeof name !== 'string') return undefined;
    return { session, user, name, role: readRole(held?.['role']) };
  } catch {
    return undefined;
  }
}

export function hold(story: string, { session, user, name, role }: Held): void {
  device.setItem(sessionKey(story), JSON.stringify({ session, user, name, role }));
}

export function forget(story: string): void {
  device.removeItem(sessionKey(story));
}

const NAME_KEY = 'fireside.name';
export const lastName = () => device.getItem(NAME_KEY) ?? '';
export const keepName = (name: string) => device.setItem(NAME_KEY, name);

/** A random UUID; `crypto.randomUUID` is missing on plain-HTTP addresses of a local network. */
export function uuid(): string {
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
