// What was written here and is not in the log yet. Every letter is kept on the device with its key until it is answered, and sent again with
// the same key: however often that happens, the log has it once. The network and the clock are given from outside.

export interface Letter {
  /** A UUID: the idempotency key, and the paragraph's id. */
  key: string;
  channel: string;
  data: Record<string, unknown>;
  /** Orders letters that were kept; larger is later. */
  order: number;
  state: 'waiting' | 'sending' | 'answered' | 'refused';
  reason?: string;
  /** Where the log has it, once answered. */
  offset?: number;
}

export interface Keeper {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
  keys(): string[];
}

/** What became of a letter: in the log at `offset`, refused for good, or not answered (try again). */
export type Outcome = { type: 'answered'; offset: number } | { type: 'refused'; reason: string } | { type: 'unanswered' };

export interface OutboxWorld {
  keeper: Keeper;
  /** The keeper's keys of this story and this person begin so. */
  prefix: string;
  send(letter: Letter): Promise<Outcome>;
  later(ms: number, then: () => void): void;
  changed(): void;
}

const RETRY_MS_FIRST = 1_000;
const RETRY_MS_MAX = 15_000;

export class Outbox {
  letters: readonly Letter[] = [];
  private busy = false;
  private open = false;
  private retryMs = RETRY_MS_FIRST;

  constructor(private readonly world: OutboxWorld) {
    const kept = world.keeper
      .keys()
      .filter((key) => key.startsWith(world.prefix))
      .map((key) => readLetter(world.keeper.getItem(key)))
      .filter((letter) => letter !== undefined);
    this.letters = kept.sort((a, b) => a.order - b.order);
  }

  add(key: string, channel: string, data: Record<string, unknown>): void {
    const order = (this.letters.at(-1)?.order ?? 0) + 1;
    const letter: Letter = { key, channel, data, order, state: 'waiting' };
    this.keep(letter);
    this.letters = [...this.letters, letter];
    this.world.changed();
    void this.flush();
  }

  /** Says whether there is a connection to send over. */
  connected(open: boolean): void {
    this.open = open;
    this.retryMs = RETRY_MS_FIRST;
    if (open) void this.flush();
  }

  /** The log has shown a record with this key: the letter has arrived. */
  arrived(key: string): void {
    if (this.letters.some((letter) => letter.key === key)) this.forget(key);
  }

  /** The reader has seen this channel up to this offset: what was answered with an offset up to there is done with. */
  reached(channel: string, offset: number): void {
    for (const letter of this.letters) {
      const answered = letter.channel === channel && letter.state === 'answered';
      if (answered && (letter.offset ?? 0) <= offset) this.forget(letter.key);
    }
  }

  discard(key: string): Letter | undefined {
    const letter = this.letters.find((other) => other.key === key);
    if (letter) this.forget(key);
    return letter;
  }

  /** One letter at a time, so that they arrive in the order in which they were written. A refused one does not hold up the others. */
  private async flush(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    try {
      for (let letter = this.next(); letter; letter = this.next()) {
        this.change(letter.key, { state: 'sending' });
        if (!this.settle(letter, await this.world.send(letter))) return;
      }
    } finally {
      this.busy = false;
    }
  }

  private next(): Letter | undefined {
    return this.open ? this.letters.find((letter) => letter.state === 'waiting') : undefined;
  }

  private settle(letter: Letter, outcome: Outcome): boolean {
    if (outcome.type === 'unanswered') {
      this.change(letter.key, { state: 'waiting' });
      const wait = this.retryMs;
      this.retryMs = Math.min(this.retryMs * 2, RETRY_MS_MAX);
      this.world.later(wait, () => void this.flush());
      return false;
    }
    this.retryMs = RETRY_MS_FIRST;
    if (outcome.type === 'refused') {
      this.change(letter.key, { state: 'refused', reason: outcome.reason });
      const refused = this.letters.find((other) => other.key === letter.key);
      if (refused) this.keep(refused);
    } else {
      this.world.keeper.removeItem(this.world.prefix + letter.key);
      this.change(letter.key, { state: 'answered', offset: outcome.offset });
    }
    return true;
  }

  private change(key: string, change: Partial<Letter>): void {
    this.letters = this.letters.map((letter) => (letter.key === key ? { ...letter, ...change } : letter));
    this.world.changed();
  }

  private forget(key: string): void {
    this.world.keeper.removeItem(this.world.prefix + key);
    this.letters = this.letters.filter((letter) => letter.key !== key);
    this.world.changed();
  }

  private keep(letter: Letter): void {
    this.world.keeper.setItem(this.world.prefix + letter.key, JSON.stringify(letter));
  }
}

function readLetter(kept: string | null): Letter | undefined {
  try {
    const letter = JSON.parse(kept ?? '') as Letter;
    if (typeof letter.key !== 'string' || typeof letter.channel !== 'string' || typeof letter.data !== 'object') return undefined;
    return { ...letter, order: Number(letter.order) || 0, state: letter.state === 'refused' ? 'refused' : 'waiting' };
  } catch {
    return undefined;
  }
}
