// Follows a log that has history: the newest page first, then what is written live, and older pages when they are asked for.

import type { Centrifuge, HistoryResult, StreamPosition, Subscription } from 'centrifuge';
import { readRecord } from './connection';
import type { LogRecord } from './story';
import { asProblem, isPassing } from './words';

/** What folds the records: the story or the chat. */
export interface LogReader {
  readonly oldest: number;
  begin(top: number): void;
  live(record: LogRecord): 'taken' | 'known' | 'gap';
  older(page: readonly LogRecord[], last: boolean): void;
}

export interface LogListener {
  /** The newest page is there (again). */
  opened(top: number): void;
  /** A record was written just now. */
  record(record: LogRecord): void;
  /** Not allowed to read, for good. */
  refused(code: number): void;
}

const PAGE_RECORDS = 100;
const RETRY_MS = 1_500;
/** How often a page of the whole log is asked for at most. */
const TRIES_MAX = 5;

export class LogFollow {
  readonly subscription: Subscription;
  private epoch = '';
  private loading = false;
  private opening: LogRecord[] | undefined;

  constructor(
    client: Centrifuge,
    channel: string,
    private readonly reader: LogReader,
    private readonly listener: LogListener,
    options: { joinLeave?: boolean } = {},
  ) {
    this.subscription = client.newSubscription(channel, { recoverable: true, positioned: true, ...options });
    this.subscription.on('subscribed', ({ recovered, wasRecovering }) => {
      if (!(wasRecovering && recovered) || this.opening) void this.reopen();
    });
    this.subscription.on('publication', (publication) => this.take(readRecord(publication)));
    this.subscription.on('unsubscribed', ({ code }) => {
      if (code !== 0) listener.refused(code);
    });
  }

  /** Loads the page before the oldest record that is there. Answers whether anything came. */
  async loadOlder(): Promise<boolean> {
    if (this.loading || this.opening || this.reader.oldest <= 1) return false;
    this.loading = true;
    try {
      const since = { offset: this.reader.oldest, epoch: this.epoch };
      const page = await this.subscription.history({ limit: PAGE_RECORDS, reverse: true, since });
      if (page.epoch !== this.epoch) {
        void this.reopen();
        return false;
      }
      this.reader.older(page.publications.map(readRecord), page.publications.length === 0);
      return true;
    } catch (error) {
      // 112: the position is not there any more, because the log began anew.
      if (asProblem(error).code === 112) void this.reopen();
      return false;
    } finally {
      this.loading = false;
    }
  }

  /** Reads everything that the log holds into another fold, and leaves what is followed here as it is. */
  async readWhole(reader: LogReader): Promise<void> {
    let page = await this.page();
    reader.begin(page.offset);
    for (;;) {
      const last = page.publications.length === 0;
      reader.older(page.publications.map(readRecord), last);
      if (last || reader.oldest <= 1) return;
      page = await this.page({ offset: reader.oldest, epoch: page.epoch });
    }
  }

  /** A page before a position, newest first, asked for again while what hinders it is passing. */
  private async page(since?: StreamPosition): Promise<HistoryResult> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.subscription.history({ limit: PAGE_RECORDS, reverse: true, ...(since ? { since } : {}) });
      } catch (error) {
        if (!isPassing(asProblem(error)) || tries >= TRIES_MAX) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** Starts from the newest page, keeping what arrives meanwhile until that page is there. */
  private async reopen(): Promise<void> {
    const waiting: LogRecord[] = [];
    this.opening = waiting;
    try {
      const page = await this.subscription.history({ limit: PAGE_RECORDS, reverse: true });
      if (this.opening !== waiting) return;
      this.opening = undefined;
      this.epoch = page.epoch;
      this.reader.begin(page.offset);
      this.reader.older(page.publications.map(readRecord), page.publications.length === 0);
      this.listener.opened(page.offset);
      for (const record of waiting) this.take(record);
    } catch (error) {
      if (this.opening !== waiting) return;
      const { code } = asProblem(error);
      if (code === 103 || code === 108) this.listener.refused(code);
      else setTimeout(() => this.opening === waiting && void this.reopen(), RETRY_MS);
    }
  }

  private take(record: LogRecord): void {
    if (this.opening) {
      this.opening.push(record);
      return;
    }
    const taken = this.reader.live(record);
    if (taken === 'taken') this.listener.record(record);
    else if (taken === 'gap') void this.reopen();
  }
}
