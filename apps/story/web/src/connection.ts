// The connection: one Centrifuge client, its state in our words, and the two calls that need an answer.

import { signal } from '@preact/signals';
import { Centrifuge, UnauthorizedError, type ClientInfo, type PublicationContext } from 'centrifuge';
import { CallRefused } from './api';
import type { Outcome } from './outbox';
import { asObject, readRole, type Author, type LogRecord } from './story';
import { asProblem, isPassing, refusalInWords } from './words';

export type Link =
  | { type: 'connecting'; since: number }
  | { type: 'live'; carrier: string }
  | { type: 'reconnecting'; since: number }
  | { type: 'elsewhere' }
  | { type: 'closed'; reason: string };

const RECONNECT_MS_MAX = 5_000;

/** Close codes that end it, in words; the ranges are the Centrifuge protocol's. 3504: too many connections of one person. */
const ELSEWHERE = 3504;
const NOT_ALLOWED = new Set([1, 3500, 3503, 3507]);

const CARRIERS: Record<string, string> = { websocket: 'WebSocket', http_stream: 'HTTP streaming', sse: 'server-sent events' };

export class Connection {
  readonly client: Centrifuge;
  readonly link = signal<Link>({ type: 'connecting', since: Date.now() });

  /** `renew` gets a fresh token by the session that this device holds. */
  constructor(token: string | undefined, renew: () => Promise<string>) {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    this.client = new Centrifuge(`${scheme}://${location.host}/connection/websocket`, {
      ...(token ? { token } : {}),
      getToken: () => renew().catch(asUnauthorized),
      maxReconnectDelay: RECONNECT_MS_MAX,
      name: 'story-room',
    });
    this.client.on('connected', ({ transport }) => {
      this.link.value = { type: 'live', carrier: CARRIERS[transport] ?? transport };
    });
    this.client.on('connecting', () => {
      const { type } = this.link.value;
      if (type === 'live') this.link.value = { type: 'reconnecting', since: Date.now() };
    });
    this.client.on('disconnected', ({ code, reason }) => {
      if (code === 0) return;
      if (code === ELSEWHERE) this.link.value = { type: 'elsewhere' };
      else this.close(NOT_ALLOWED.has(code) ? '' : reason);
    });
  }

  open(): void {
    this.client.connect();
  }

  /** Tries at once instead of waiting for the next attempt. */
  retry(): void {
    const { link } = this;
    if (link.value.type === 'live') return;
    if (link.value.type !== 'reconnecting' && link.value.type !== 'connecting') {
      link.value = { type: 'reconnecting', since: Date.now() };
    }
    this.client.disconnect();
    this.client.connect();
  }

  /** It is over; an empty reason means that one is not allowed any more. */
  close(reason: string): void {
    this.link.value = { type: 'closed', reason };
    this.client.disconnect();
  }

  /** Publishes once, however often it is sent: the key decides. */
  async publish(channel: string, data: Record<string, unknown>, key: string): Promise<Outcome> {
    try {
      const answer = await this.client.rpc('fireside.publish', { channel, data, key });
      const offset = asObject(answer.data)?.['offset'];
      return { type: 'answered', offset: typeof offset === 'number' ? offset : 0 };
    } catch (error) {
      const problem = asProblem(error);
      return isPassing(problem) ? { type: 'unanswered' } : { type: 'refused', reason: refusalInWords(problem) };
    }
  }

  /** Says something passing; only the latest of its kind is worth delivering. Nobody waits for it. */
  mention(channel: string, data: Record<string, unknown>, conflate: string): void {
    if (this.link.value.type !== 'live') return;
    this.client.rpc('fireside.publish', { channel, data, conflate }).catch(() => undefined);
  }

  call(method: string, data: Record<string, unknown>): Promise<unknown> {
    return this.client.rpc(method, data).then((answer) => answer.data as unknown);
  }
}

export function readAuthor(info: ClientInfo): Author {
  const { name, role } = asObject(info.connInfo) ?? {};
  return {
    user: info.user,
    name: typeof name === 'string' && name.trim() !== '' ? name.slice(0, 80) : 'Somebody',
    role: readRole(role),
  };
}

export function readRecord(publication: PublicationContext): LogRecord {
  return {
    offset: publication.offset ?? 0,
    data: publication.data as unknown,
    author: publication.info ? readAuthor(publication.info) : undefined,
    ofRun: publication.tags?.['fireside'] === 'run',
  };
}

/** The SDK gives up only on this error; everything else it tries again. */
function asUnauthorized(error: unknown): never {
  if (error instanceof CallRefused && (error.status === 401 || error.status === 403)) throw new UnauthorizedError(error.message);
  throw error;
}
