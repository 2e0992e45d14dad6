// Follows one run in its own log, from its first word: a reader who comes late sees all that was said.

import type { Centrifuge, PublicationContext, Subscription } from 'centrifuge';
import { RunText, isIndex, readDelta, type Change } from './run-text';
import { asObject, readStatus, type RunStatus } from './story';

export interface RunEnd {
  status: RunStatus;
  text: string;
}

/** Told of every change: `append` gives the new end of the text, `rewrite` the whole of it. */
export type RunListener = (change: { type: 'append' | 'rewrite'; text: string }) => void;

const RETRY_MS = 500;
const RETRIES_MAX = 10;

export class RunFollow {
  readonly text = new RunText();
  /** Records received, duplicates apart. */
  deltas = 0;
  private subscription: Subscription | undefined;
  private listeners = new Set<RunListener>();
  private epoch = '';
  private retries = 0;
  private stopped = false;
  /** The log is read anew: the next change shows the whole text. */
  private anew = false;

  constructor(
    private readonly client: Centrifuge,
    private readonly channel: string,
    private readonly ended: (end: RunEnd) => void,
  ) {}

  /** `epoch` is the one that `run.start` names. */
  start(epoch: string): void {
    if (this.stopped) return;
    this.epoch = epoch;
    const subscription = this.client.newSubscription(this.channel, {
      recoverable: true,
      positioned: true,
      since: { offset: 0, epoch },
    });
    this.subscription = subscription;
    const current = () => this.subscription === subscription;
    subscription.on('publication', (publication) => current() && this.take(publication));
    subscription.on('subscribed', ({ wasRecovering, recovered, streamPosition }) => {
      // Another life of this log: what was said has to be read again from its beginning.
      if (current() && wasRecovering && !recovered) this.again(streamPosition?.epoch ?? epoch);
    });
    subscription.on('unsubscribed', ({ code }) => {
      if (current() && code !== 0) this.again(epoch);
    });
    subscription.subscribe();
  }

  listen(listener: RunListener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  stop(): void {
    this.stopped = true;
    this.drop();
  }

  private take({ data }: PublicationContext): void {
    const record = asObject(data);
    if (!record || this.stopped) return;
    if (record['type'] === 'run.end') {
      const text = record['text'];
      this.ended({ status: readStatus(record['status']), text: typeof text === 'string' ? text : this.text.text });
      return;
    }
    const change = this.change(record);
    if (change.type === 'gap') this.again();
    else if (change.type === 'append' && !this.anew) this.tell('append', change.text);
    else if (change.type !== 'none') this.tell('rewrite', this.text.text);
  }

  private change(record: Record<string, unknown>): Change {
    const { type, part, to } = record;
    if (type === 'run.reset' && isIndex(part) && isIndex(to)) return this.text.reset(part, to);
    const delta = type === 'run.delta' ? readDelta(record) : undefined;
    if (!delta) return { type: 'none' };
    this.deltas += 1;
    this.retries = 0;
    return this.text.delta(delta);
  }

  private tell(type: 'append' | 'rewrite', text: string): void {
    this.anew = false;
    for (const listener of this.listeners) listener({ type, text });
  }

  /** Reads the log from its beginning once more. The log may be gone (102): then the story's own log says how the run ended. */
  private again(epoch = this.epoch): void {
    this.drop();
    if (this.stopped || this.retries >= RETRIES_MAX) return;
    this.retries += 1;
    setTimeout(() => {
      if (this.stopped) return;
      this.text.clear();
      this.anew = true;
      this.start(epoch);
    }, RETRY_MS);
  }

  private drop(): void {
    const { subscription } = this;
    this.subscription = undefined;
    if (subscription) this.client.removeSubscription(subscription);
  }
}
