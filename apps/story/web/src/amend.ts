// What was said of a paragraph afterwards: edits and removals. Who may, is decided here by what the log says of their author, so that a record
// that should not have been written changes nothing. Pure.

import type { Author, Entry, LogRecord } from './story';

/** A record that changes the entry at an earlier offset. A removal has no text. */
export interface Amendment {
  offset: number;
  /** The offset of the paragraph's record, or of the run's start: it names one entry and cannot be forged. */
  of: number;
  by: Author;
  text: string | undefined;
}

/** How an entry stands after all that was said of it. */
export interface Amended {
  offset: number;
  by: Author;
  /** What it says, or said last before it was removed. */
  text: string;
  removed: boolean;
}

export function readAmendment({ offset, author }: LogRecord, data: Record<string, unknown>): Amendment | undefined {
  const { type, of, text } = data;
  if (!author || typeof of !== 'number' || !Number.isSafeInteger(of) || of < 1 || of >= offset) return undefined;
  if (type === 'remove') return { offset, of, by: author, text: undefined };
  return type === 'edit' && typeof text === 'string' && text.trim() !== '' ? { offset, of, by: author, text } : undefined;
}

/** A paragraph is its author's and the hosts' to change; what the narrator said is the hosts'. */
export function mayAmend(who: Pick<Author, 'user' | 'role'>, entry: Entry): boolean {
  if (who.role === 'host') return true;
  return who.role === 'writer' && entry.kind === 'paragraph' && entry.author.user === who.user;
}

/** What an entry says now. */
export const textOf = (entry: Entry): string => entry.amended?.text ?? entry.text;

export const isRemoved = (entry: Entry): boolean => entry.amended?.removed ?? false;

/** The entry with those of the amendments that count: a later one holds, and an edit brings back what was removed. */
export function amend<E extends Entry>(entry: E, amendments: readonly Amendment[]): E {
  let { amended } = entry;
  for (const { offset, by, text } of [...amendments].sort((a, b) => a.offset - b.offset)) {
    if (offset <= (amended?.offset ?? 0) || !mayAmend(by, entry)) continue;
    amended = { offset, by, text: text ?? amended?.text ?? entry.text, removed: text === undefined };
  }
  return amended === entry.amended ? entry : { ...entry, amended };
}
