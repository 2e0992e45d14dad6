// What the page says in words: states, refusals, lists of names. Pure.

import { asObject, type RunStatus } from './story';

/** An error as the SDK gives it; below 100 it is the connection's, not the server's. */
export interface Problem {
  code: number;
  message: string;
  temporary?: boolean;
}

export function asProblem(error: unknown): Problem {
  const { code, message, temporary } = asObject(error) ?? {};
  return {
    code: typeof code === 'number' ? code : 0,
    message: typeof message === 'string' ? message : '',
    temporary: temporary === true,
  };
}

/** Whether the same words may go through later: no answer, a passing trouble, or a token that is being renewed. */
export function isPassing({ code, temporary }: Problem): boolean {
  return code < 100 || code === 109 || code === 110 || temporary === true;
}

export function refusalInWords(problem: Problem): string {
  const detail = schemaInWords(problem.message);
  if (detail) return detail;
  switch (problem.code) {
    case 101:
    case 103:
      return 'you may not write in this story';
    case 102:
      return 'this story is not open here';
    case 106:
      return 'it is longer than this story allows';
    case 107:
      return 'it is not shaped as this story asks';
    case 108:
      return 'that is not possible here';
    case 111:
      return 'too much at once';
    default:
      return problem.message ? `the server said “${problem.message}”` : 'the server did not take it';
  }
}

function schemaInWords(message: string): string | undefined {
  try {
    const detail: unknown = JSON.parse(message);
    const list = Array.isArray(detail) ? detail : asObject(detail)?.['detail'];
    const first = Array.isArray(list) ? asObject(list[0]) : undefined;
    if (!first) return undefined;
    if (first['keyword'] === 'maxLength') return 'it is longer than this story allows';
    if (first['keyword'] === 'minLength') return 'it is shorter than this story allows';
    return undefined;
  } catch {
    return undefined;
  }
}

/** "Mara", "Mara and Tobias", "Mara, Tobias and Isolde", "Mara, Tobias, Isolde and 4 others". */
export function nameList(names: readonly string[], most = 3): string {
  if (names.length > most) {
    const rest = names.length - most;
    return `${names.slice(0, most).join(', ')} and ${counted(rest, 'other')}`;
  }
  if (names.length < 2) return names[0] ?? '';
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

export function typingInWords(names: readonly string[]): string {
  if (names.length === 0) return '';
  return `${nameList(names, 2)} ${names.length === 1 ? 'is' : 'are'} writing`;
}

/** What is said below a run that did not end by itself. */
export function endingInWords(status: RunStatus): string | undefined {
  switch (status) {
    case 'cancelled':
      return 'The narrator was stopped here.';
    case 'interrupted':
      return 'The narrator was interrupted here.';
    case 'error':
      return 'The narrator lost the thread here.';
    case 'budget':
      return 'The narrator has said all it may for now.';
    case 'moderated':
      return 'What the narrator said here was taken back.';
    case 'open':
    case 'complete':
      return undefined;
  }
}

export function initials(name: string): string {
  const words = name.split(/[\s-]+/u).filter(Boolean);
  const [first = '', second] = words;
  const letters = [...first];
  return ((letters[0] ?? '?') + ([...(second ?? '')][0] ?? letters[1] ?? '')).toLocaleUpperCase();
}

export function agoInWords(seconds: number): string {
  if (seconds < 90) return 'a minute';
  if (seconds < 3_600) return counted(Math.round(seconds / 60), 'minute');
  return seconds < 5_400 ? 'an hour' : `${Math.round(seconds / 3_600)} hours`;
}
