// The story as a Markdown file (CommonMark): its title, who wrote it, and the text as it stands. Pure.

import { isRemoved, textOf } from './amend';
import type { Entry } from './story';
import { nameList } from './words';

/** What Markdown would read as something else: markup anywhere in a line, and what makes a heading, a list or a rule at its beginning. */
const INLINE = /[\\`*_[\]<>&~|$]/g;
const AT_BEGINNING = /^(?:[#+=-]|\d+(?=[.)]))/;

export function toMarkdown(title: string, entries: readonly Entry[]): string {
  const told = entries.filter((entry) => !isRemoved(entry) && textOf(entry).trim() !== '');
  const names = new Map<string, string>();
  for (const entry of told) if (entry.kind === 'paragraph') names.set(entry.author.user, entry.author.name);
  const authors = [...names.values()];
  if (told.some((entry) => entry.kind === 'run')) authors.push('the narrator (AI)');
  const head = [`# ${escapeLine(oneLine(title) || 'A story')}`];
  if (authors.length > 0) head.push(`*By ${escapeInline(oneLine(nameList(authors, authors.length)))}*`);
  return `${[...head, ...told.flatMap((entry) => paragraphs(textOf(entry)))].join('\n\n')}\n`;
}

/** A name for the file, of the letters and digits of any script. */
export function fileName(title: string): string {
  const words = title.toLocaleLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu) ?? [];
  return `${words.join('-').slice(0, 60) || 'story'}.md`;
}

/** An empty line parts paragraphs; any other end of a line is kept as one. */
function paragraphs(text: string): string[] {
  const parts = text.split(/\r?\n(?:[^\S\n]*\r?\n)+/).filter((part) => part.trim() !== '');
  return parts.map((part) => part.trim().split(/\s*\n\s*/).map(escapeLine).join('\\\n'));
}

function escapeLine(line: string): string {
  const escaped = escapeInline(line);
  return escaped.replace(AT_BEGINNING, (sign) => (/\d/.test(sign) ? `${sign}\\` : `\\${sign}`));
}

const escapeInline = (text: string): string => text.replaceAll(INLINE, '\\$&');
const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();
