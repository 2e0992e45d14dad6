// The narrator: asking it to go on, stopping it, and following what it says.

import { signal } from '@preact/signals';
import type { Connection } from './connection';
import { uuid } from './device';
import { RunFollow, type RunEnd } from './run-follow';
import { asObject, type Run } from './story';
import { asProblem, isPassing } from './words';

const TRIES_MAX = 5;
const AGAIN_MS = 800;
const START_SHOWS_MS = 1_500;

export class Narrator {
  /** Between the question and the start of a run. */
  readonly asked = signal(false);
  /** What somebody here wants to happen next, in their words; nothing while the field for it is closed. */
  readonly direction = signal<string | undefined>(undefined);
  /** Why it did not begin or stop, in words; empty when all is well. */
  readonly trouble = signal('');
  private readonly following = new Map<string, RunFollow>();

  constructor(
    private readonly connection: Connection,
    private readonly channel: string,
    private readonly ended: (run: string, end: RunEnd) => void,
  ) {}

  /** What is said by a run that is open; the view appends it to one text node. */
  voice(run: string): RunFollow | undefined {
    return this.following.get(run);
  }

  /** Follows the runs that are open, and no others. */
  follow(running: readonly Run[]): void {
    for (const [run, follow] of this.following) {
      if (running.some((open) => open.run === run)) continue;
      follow.stop();
      this.following.delete(run);
    }
    for (const { run, epoch } of running) {
      if (this.following.has(run)) continue;
      const follow = new RunFollow(this.connection.client, `${this.channel}/run/${run}`, (end) => this.ended(run, end));
      this.following.set(run, follow);
      follow.start(epoch);
    }
    if (running.length > 0) this.asked.value = false;
  }

  /** Goes on, where a direction is given as it says. Asks once, however often the question has to be sent: it bears a key. */
  async goOn(): Promise<void> {
    if (this.asked.value) return;
    const direction = this.direction.value?.trim() ?? '';
    this.asked.value = true;
    this.trouble.value = '';
    const key = uuid();
    const refusal = await this.insist('ai.start', { channel: this.channel, key, input: direction === '' ? {} : { text: direction } });
    this.trouble.value = refusal ?? '';
    if (refusal === undefined) this.direction.value = undefined;
    // The start usually comes before the answer; a run that is over already leaves nothing to wait for.
    setTimeout(() => (this.asked.value = false), refusal === undefined ? START_SHOWS_MS : 0);
  }

  async stop(run: string): Promise<void> {
    this.trouble.value = '';
    const refusal = await this.insist('ai.cancel', { channel: this.channel, run, reason: 'stopped by a reader' });
    if (refusal !== undefined) this.trouble.value = refusal;
  }

  /** Sends it until it is answered, a few times at most. Answers why not, or nothing. */
  private async insist(method: string, data: Record<string, unknown>): Promise<string | undefined> {
    for (let tries = 1; ; tries += 1) {
      try {
        await this.connection.call(method, data);
        return undefined;
      } catch (error) {
        const problem = asProblem(error);
        if (!isPassing(problem) || tries >= TRIES_MAX) return refusal(problem);
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS * tries));
      }
    }
  }
}

function refusal(problem: ReturnType<typeof asProblem>): string {
  if (isPassing(problem) && problem.code < 100) return 'The narrator could not be reached. Try again in a moment.';
  if (problem.code === 103) return 'You may not ask the narrator in this story.';
  if (problem.code === 108) return 'There is no narrator in this story.';
  if (problem.code === 111) return 'The narrator needs a rest. Try again in a little while.';
  const message = asObject(tryJson(problem.message))?.['message'] ?? problem.message;
  return typeof message === 'string' && message !== '' ? `The narrator cannot: ${message}.` : 'The narrator cannot go on just now.';
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
