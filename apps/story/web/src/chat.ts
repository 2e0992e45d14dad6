// The chat as a fold of its records. Pure.

import { asObject, type Author, type LogRecord } from './story';

export interface Line {
  offset: number;
  author: Author;
  text: string;
}

export class ChatLog {
  lines: readonly Line[] = [];
  private low = 1;
  private high = 0;

  begin(top: number): void {
    this.lines = [];
    this.low = top + 1;
    this.high = top;
  }

  get oldest(): number {
    return this.low;
  }

  get newest(): number {
    return this.high;
  }

  live(record: LogRecord): 'taken' | 'known' | 'gap' {
    if (record.offset <= this.high) return 'known';
    if (record.offset > this.high + 1) return 'gap';
    this.high = record.offset;
    const line = readLine(record);
    if (line) this.lines = [...this.lines, line];
    return 'taken';
  }

  older(page: readonly LogRecord[]): void {
    const lines: Line[] = [];
    for (const record of page) {
      if (record.offset >= this.low) continue;
      this.low = record.offset;
      const line = readLine(record);
      if (line) lines.unshift(line);
    }
    if (lines.length > 0) this.lines = [...lines, ...this.lines];
  }
}

function readLine(record: LogRecord): Line | undefined {
  const data = asObject(record.data);
  if (!record.author || data?.['type'] !== 'say' || typeof data['text'] !== 'string') return undefined;
  return { offset: record.offset, author: record.author, text: data['text'] };
}
