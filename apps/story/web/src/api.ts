// The story room's own calls: join by an invitation, come back by a session, invite somebody else, begin a story.

import type { Role } from './story';

export interface Member {
  story: string;
  user: string;
  name: string;
  role: Role;
  /** What Fireside admits; lives for a quarter of an hour. */
  token: string;
  /** What gets the next token; kept on this device. */
  session: string;
  title: string | null;
  title_offset: number | null;
}

/** A refusal with a word for the program and a sentence for the person. */
export class CallRefused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

const PATIENCE_MS = 10_000;

async function call<T>(name: string, body: Record<string, unknown>): Promise<T> {
  const response = await fetch(`/story-api/${name}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
    credentials: 'omit',
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (response.ok) return (await response.json()) as T;
  const refusal = (await response.json().catch(() => ({}))) as { code?: string; message?: string };
  throw new CallRefused(response.status, refusal.code ?? 'unknown', refusal.message ?? 'The story room did not answer as it should.');
}

export const join = (invite: string, name: string, session?: string) =>
  call<Member>('join', session ? { invite, name, session } : { invite, name });

export const comeBack = (session: string) => call<Member>('session', { session });

export const begin = (name: string) => call<Member>('stories', { name });

export const invite = (session: string, role: Role) => call<{ link: string }>('invite', { session, role });
