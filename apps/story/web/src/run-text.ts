// What a run has said so far: deltas in, text out. Pure: duplicates are dropped, gaps are reported, merged deltas are taken apart.

export interface RunDelta {
  part: number;
  kind: string;
  /** Where in the part the text begins, in UTF-16 code units. */
  at: number;
  text: string;
}

/** What a delta changed: `append` adds to the end of what is shown, `rewrite` means that it has to be shown anew. */
export type Change = { type: 'append'; text: string } | { type: 'rewrite' } | { type: 'none' } | { type: 'gap' };

interface Part {
  kind: string;
  text: string;
}

const NONE: Change = { type: 'none' };
const GAP: Change = { type: 'gap' };
const REWRITE: Change = { type: 'rewrite' };

export class RunText {
  private parts: Part[] = [];

  /** The prose: parts that are no text (reasoning, tools) are kept but not shown. */
  get text(): string {
    let text = '';
    for (const part of this.parts) if (part.kind === 'text') text += part.text;
    return text;
  }

  delta(delta: RunDelta): Change {
    const count = this.parts.length;
    if (delta.part > count || (delta.part === count && delta.at > 0)) return GAP;
    if (delta.part === count) this.parts.push({ kind: delta.kind, text: '' });
    const part = this.parts[delta.part];
    if (!part) return GAP;
    if (delta.at > part.text.length) return GAP;
    const news = delta.text.slice(part.text.length - delta.at);
    if (news === '') return NONE;
    part.text += news;
    if (part.kind !== 'text') return NONE;
    return delta.part === this.parts.length - 1 ? { type: 'append', text: news } : REWRITE;
  }

  /** Takes back what a part said from `to` on, and all parts after it. */
  reset(index: number, to: number): Change {
    const part = this.parts[index];
    if (!part) return index > this.parts.length ? GAP : NONE;
    this.parts.length = index + 1;
    part.text = part.text.slice(0, to);
    if (to === 0) this.parts.length = index;
    return REWRITE;
  }

  clear(): void {
    this.parts = [];
  }
}

/** Reads a record of a run's log; what is not shaped like one is nothing. */
export function readDelta(data: Record<string, unknown>): RunDelta | undefined {
  const { part = 0, kind = 'text', at = 0, text } = data;
  if (typeof text !== 'string' || typeof kind !== 'string' || !isIndex(part) || !isIndex(at)) return undefined;
  return { part, kind, at, text };
}

export function isIndex(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
