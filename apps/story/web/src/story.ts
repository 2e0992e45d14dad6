// The story as a fold of its records: paragraphs and the narrator's runs in the order of the log. Pure: no network, no page.

import { amend, readAmendment, type Amended, type Amendment } from './amend';

export type Role = 'reader' | 'writer' | 'host';

export interface Author {
  user: string;
  name: string;
  role: Role;
}

/** A record as the log has it; who wrote it is what their token said, never a field of the body. */
export interface LogRecord {
  offset: number;
  data: unknown;
  author: Author | undefined;
  /** Set by the server alone: a record of a run. */
  ofRun: boolean;
}

export interface Paragraph {
  kind: 'paragraph';
  offset: number;
  id: string;
  author: Author;
  /** As it was written; `textOf` says what it says now. */
  text: string;
  amended: Amended | undefined;
}

export type RunStatus = 'open' | 'complete' | 'cancelled' | 'error' | 'interrupted' | 'budget' | 'moderated';

export interface Run {
  kind: 'run';
  offset: number;
  run: string;
  /** The user who asked for it. */
  by: string;
  model: string;
  epoch: string;
  status: RunStatus;
  /** Whole once it has ended; while it is open its text is followed in the run's own log. */
  text: string;
  amended: Amended | undefined;
}

export type Entry = Paragraph | Run;

/** A stretch of the manuscript that is rendered together: a new array whenever something in it changes. */
export interface Chunk {
  key: number;
  entries: readonly Entry[];
}

export interface Title {
  text: string;
  offset: number;
}

interface Ending {
  offset: number;
  status: RunStatus;
  text: string;
}

const CHUNK_ENTRIES = 50;
const TITLE_CHARACTERS_MAX = 200;
const STATUSES: readonly string[] = ['complete', 'cancelled', 'error', 'interrupted', 'budget', 'moderated'];

export class StoryLog {
  /** The stretches in order; the array is new whenever one of them is. */
  chunks: readonly Chunk[] = [];
  title: Title | undefined;
  /** How many entries are loaded. */
  count = 0;
  private nextKey = 0;
  private low = 1;
  private high = 0;
  private complete = false;
  private openRuns = new Map<string, Run>();
  /** Every run whose start is loaded, as it stands in the story. */
  private runs = new Map<string, Run>();
  /** Endings whose start is further back than what is loaded. */
  private endings = new Map<string, Ending>();
  /** What was said of entries that are further back than what is loaded, by their offset. */
  private amendments = new Map<number, Amendment[]>();

  /** Begins anew at a position: nothing is loaded, the next live record is `top + 1`, older pages come from `top` down. */
  begin(top: number): void {
    this.chunks = [];
    this.count = 0;
    this.low = top + 1;
    this.high = top;
    this.complete = top === 0;
    this.openRuns.clear();
    this.runs.clear();
    this.endings.clear();
    this.amendments.clear();
  }

  /** The offset before which history has not been loaded. */
  get oldest(): number {
    return this.low;
  }

  get newest(): number {
    return this.high;
  }

  /** Whether the first record that the log still holds has been loaded. */
  get whole(): boolean {
    return this.complete;
  }

  get running(): ReadonlyMap<string, Run> {
    return this.openRuns;
  }

  /** Takes a record that has just been written. What is known already changes nothing; a gap is reported, never bridged. */
  live(record: LogRecord): 'taken' | 'known' | 'gap' {
    if (record.offset <= this.high) return 'known';
    if (record.offset > this.high + 1) return 'gap';
    this.high = record.offset;
    const entry = this.read(record);
    if (entry) this.append(entry);
    return 'taken';
  }

  /** Takes a page of older records, newest first, as the history gives it. `last`: there is nothing before it. */
  older(page: readonly LogRecord[], last: boolean): void {
    const entries: Entry[] = [];
    for (const record of page) {
      if (record.offset >= this.low) continue;
      this.low = record.offset;
      const entry = this.read(record);
      if (entry) entries.push(entry);
    }
    if (last || this.low <= 1) {
      this.complete = true;
      entries.push(...this.orphans());
    }
    if (entries.length > 0) this.prepend(entries.reverse());
  }

  /** A title was found; the newest holds. */
  named(title: Title): void {
    if (title.offset > (this.title?.offset ?? 0)) this.title = title;
  }

  /** A run's own log told how it ended, before the story's log did. */
  end(run: string, status: RunStatus, text: string): void {
    if (this.openRuns.has(run)) this.settle(run, status, text);
  }

  private read(record: LogRecord): Entry | undefined {
    const data = asObject(record.data);
    if (!data) return undefined;
    if (record.ofRun) return this.readRun(record.offset, data);
    if (!record.author) return undefined;
    const amendment = readAmendment(record, data);
    if (amendment) this.readAmended(amendment);
    if (data['type'] === 'title') this.readTitle(record.offset, record.author, data);
    if (data['type'] !== 'paragraph' || typeof data['text'] !== 'string' || data['text'] === '') return undefined;
    const id = typeof data['id'] === 'string' ? data['id'] : `at-${record.offset}`;
    return this.amendedLater({ kind: 'paragraph', offset: record.offset, id, author: record.author, text: data['text'], amended: undefined });
  }

  /** An amendment of what is loaded changes it; any other waits until its entry is there. */
  private readAmended(amendment: Amendment): void {
    const entry = this.at(amendment.of);
    if (entry) {
      const amended = amend(entry, [amendment]);
      if (amended === entry) return;
      if (amended.kind === 'run') this.keepRun(amended);
      this.replace(amended);
    } else {
      const waiting = this.amendments.get(amendment.of) ?? [];
      this.amendments.set(amendment.of, [...waiting, amendment]);
    }
  }

  private amendedLater<E extends Entry>(entry: E): E {
    const waiting = this.amendments.get(entry.offset);
    if (!waiting) return entry;
    this.amendments.delete(entry.offset);
    return amend(entry, waiting);
  }

  private at(offset: number): Entry | undefined {
    const chunk = this.chunks.findLast(({ entries }) => (entries[0]?.offset ?? 0) <= offset);
    return chunk?.entries.find((entry) => entry.offset === offset);
  }

  private keepRun(run: Run): void {
    this.runs.set(run.run, run);
    if (run.status === 'open') this.openRuns.set(run.run, run);
  }

  private readTitle(offset: number, author: Author, data: Record<string, unknown>): void {
    const text = typeof data['text'] === 'string' ? data['text'].trim().slice(0, TITLE_CHARACTERS_MAX) : '';
    if (author.role === 'host' && text !== '') this.named({ text, offset });
  }

  private readRun(offset: number, data: Record<string, unknown>): Run | undefined {
    const run = data['run'];
    if (typeof run !== 'string') return undefined;
    if (data['type'] === 'run.start') return this.readStart(offset, run, data);
    if (data['type'] !== 'run.end') return undefined;
    const status = readStatus(data['status']);
    const text = typeof data['text'] === 'string' ? data['text'] : '';
    if (this.runs.has(run)) this.settle(run, status, text);
    else this.endings.set(run, { offset, status, text });
    return undefined;
  }

  private settle(run: string, status: RunStatus, text: string): void {
    const known = this.runs.get(run);
    this.openRuns.delete(run);
    if (!known || (known.status === status && known.text === text)) return;
    const settled: Run = { ...known, status, text };
    this.runs.set(run, settled);
    this.replace(settled);
  }

  private readStart(offset: number, run: string, data: Record<string, unknown>): Run {
    const started: Run = {
      kind: 'run',
      offset,
      run,
      by: readBy(data['by']),
      model: typeof data['model'] === 'string' ? data['model'] : '',
      epoch: typeof data['epoch'] === 'string' ? data['epoch'] : '',
      status: 'open',
      text: '',
      amended: undefined,
    };
    const ending = this.endings.get(run);
    this.endings.delete(run);
    const entry = this.amendedLater(ending ? { ...started, status: ending.status, text: ending.text } : started);
    this.keepRun(entry);
    return entry;
  }

  /** Runs whose start the log does not hold any more stand where they ended. */
  private orphans(): Run[] {
    const orphans = [...this.endings].map(([run, ending]): Run => {
      const { offset, status, text } = ending;
      return { kind: 'run', offset, run, by: '', model: '', epoch: '', status, text, amended: undefined };
    });
    this.endings.clear();
    return orphans.sort((a, b) => b.offset - a.offset);
  }

  private append(entry: Entry): void {
    this.count += 1;
    const last = this.chunks.at(-1);
    if (last && last.entries.length < CHUNK_ENTRIES) {
      this.chunks = [...this.chunks.slice(0, -1), { key: last.key, entries: [...last.entries, entry] }];
    } else {
      this.chunks = [...this.chunks, { key: this.nextKey++, entries: [entry] }];
    }
  }

  private prepend(entries: Entry[]): void {
    this.count += entries.length;
    const chunks: Chunk[] = [];
    for (let end = entries.length; end > 0; end -= CHUNK_ENTRIES) {
      chunks.unshift({ key: this.nextKey++, entries: entries.slice(Math.max(0, end - CHUNK_ENTRIES), end) });
    }
    this.chunks = [...chunks, ...this.chunks];
  }

  private replace(entry: Entry): void {
    this.chunks = this.chunks.map((chunk) =>
      chunk.entries.some((other) => other.offset === entry.offset)
        ? { key: chunk.key, entries: chunk.entries.map((other) => (other.offset === entry.offset ? entry : other)) }
        : chunk,
    );
  }
}

export function readStatus(status: unknown): RunStatus {
  return typeof status === 'string' && STATUSES.includes(status) ? (status as RunStatus) : 'interrupted';
}

export function asObject(data: unknown): Record<string, unknown> | undefined {
  return typeof data === 'object' && data !== null && !Array.isArray(data) ? (data as Record<string, unknown>) : undefined;
}

export function readRole(role: unknown): Role {
  return role === 'host' || role === 'writer' ? role : 'reader';
}

function readBy(by: unknown): string {
  if (typeof by === 'string') return by;
  const user = asObject(by)?.['user'];
  return typeof user === 'string' ? user : '';
}
