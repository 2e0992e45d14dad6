// What stands around a paragraph that can be changed: the button that opens it, the field in which it is edited, and what became of it.

import { useLayoutEffect, useRef } from 'preact/hooks';
import { isRemoved, textOf } from '../amend';
import type { Letter } from '../outbox';
import type { Room } from '../room';
import type { Entry } from '../story';
import { Pencil } from './icons';

/** A paragraph's length, as the story's schema has it. */
export const CHARACTERS_MAX = 20_000;

export interface Amending {
  entry: Entry;
  room: Room;
  /** A change of it that the log does not have yet. */
  letter: Letter | undefined;
  /** Whether the Tab key reaches its button. */
  stop: boolean;
}

/** How an entry reads with the change that is on its way, if there is one that was not refused. */
export function shown(entry: Entry, letter: Letter | undefined): { text: string; removed: boolean; pending: boolean } {
  const pending = letter !== undefined && letter.state !== 'refused';
  if (!pending) return { text: textOf(entry), removed: isRemoved(entry), pending };
  const text = letter.data['text'];
  return { text: typeof text === 'string' ? text : textOf(entry), removed: letter.data['type'] === 'remove', pending };
}

export function EditButton({ entry, room, stop }: Amending) {
  if (!room.mayChange(entry)) return null;
  return (
    <button
      class="quiet tool"
      data-testid="edit-paragraph"
      tabIndex={stop ? 0 : -1}
      aria-label="Edit this paragraph"
      title="Edit this paragraph"
      onClick={() => room.startEditing(entry)}
    >
      <Pencil />
    </button>
  );
}

/** What is to be known of an entry below its text: that it was edited, is being saved, or could not be changed. */
export function Marks({ entry, room, letter }: Amending) {
  if (letter?.state === 'refused') return <Refused entry={entry} room={room} letter={letter} />;
  if (letter) return <span class="mark">{room.connection.link.value.type === 'live' ? 'saving…' : 'changed here, not sent yet'}</span>;
  if (!entry.amended || entry.amended.removed) return null;
  const { by } = entry.amended;
  const own = entry.kind === 'paragraph' && entry.author.user === by.user;
  return (
    <span class="mark" data-testid="edited" dir="auto">
      {own ? 'edited' : `edited by ${by.user === room.me.user ? 'you' : by.name}`}
    </span>
  );
}

function Refused({ entry, room, letter }: { entry: Entry; room: Room; letter: Letter }) {
  const text = letter.data['text'];
  return (
    <p class="note" data-testid="not-changed">
      <span>
        <b>Not {letter.data['type'] === 'remove' ? 'removed' : 'changed'}:</b> {letter.reason ?? 'the server did not take it'}.
      </span>
      <span class="choices">
        {typeof text === 'string' && (
          <button class="link" onClick={() => room.startEditing(entry, text)}>
            Edit
          </button>
        )}
        <button class="link" onClick={() => room.discard(letter.key)}>
          Discard
        </button>
      </span>
    </p>
  );
}

/** The quiet place of a removed paragraph. */
export function Gone({ entry, room, letter }: Amending) {
  const pending = letter !== undefined && letter.state !== 'refused';
  const by = entry.amended?.removed ? entry.amended.by : room.me;
  return (
    <div class="p gone" data-testid="removed" data-offset={entry.offset} data-state={pending ? 'pending' : 'removed'}>
      <p class="note">
        <span dir="auto">{by.user === room.me.user ? 'You' : by.name} removed a paragraph here.</span>
        {room.mayChange(entry) && !pending && (
          <button class="link" data-testid="put-back" onClick={() => room.saveEdit(entry, textOf(entry))}>
            Put it back
          </button>
        )}
      </p>
      {letter?.state === 'refused' && <Refused entry={entry} room={room} letter={letter} />}
    </div>
  );
}

/** Edits a paragraph where it stands. */
export function EditField({ entry, room }: { entry: Entry; room: Room }) {
  const box = useRef<HTMLTextAreaElement>(null);
  const text = room.editing.value?.text ?? '';
  useLayoutEffect(() => {
    const field = box.current;
    field?.focus({ preventScroll: true });
    field?.setSelectionRange(field.value.length, field.value.length);
    field?.scrollIntoView({ block: 'nearest' });
  }, []);
  const trimmed = text.trim();
  const whole = trimmed !== '' && trimmed.length <= CHARACTERS_MAX;
  const close = (then: () => void) => {
    then();
    requestAnimationFrame(() => focusAfterwards(entry));
  };
  const save = () => whole && close(() => room.saveEdit(entry, trimmed));
  return (
    <form
      class="p editing"
      aria-label="Edit a paragraph"
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <textarea
        ref={box}
        data-testid="edit-field"
        aria-label="The paragraph’s text"
        dir="auto"
        rows={3}
        value={text}
        onInput={(event) => room.draftEdit({ of: entry.offset, text: event.currentTarget.value })}
        onKeyDown={(event) => {
          if (event.isComposing) return;
          if (event.key === 'Escape') close(() => room.draftEdit(undefined));
          if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
          event.preventDefault();
          save();
        }}
      />
      <div class="row">
        <button class="btn primary" type="submit" data-testid="save-edit" disabled={!whole}>
          Save
        </button>
        <button class="btn" type="button" onClick={() => close(() => room.draftEdit(undefined))}>
          Cancel
        </button>
        {trimmed.length > CHARACTERS_MAX && <span class="count over">It is longer than this story allows.</span>}
        <button class="link danger" type="button" data-testid="remove-paragraph" onClick={() => close(() => room.removeEntry(entry))}>
          Remove
        </button>
      </div>
    </form>
  );
}

/** Whoever worked here goes on from here: at the entry's button, or in the manuscript where it has none any more. */
function focusAfterwards(entry: Entry): void {
  const place = document.querySelector(`[data-offset="${entry.offset}"]`);
  const next = place?.querySelector<HTMLElement>('.tool, [data-testid=put-back]') ?? document.querySelector<HTMLElement>('.manuscript');
  next?.focus({ preventScroll: true });
}

/** The up and down keys go from one paragraph's button to the next, so that Tab need not pass all of them. */
export function moveAmong(event: KeyboardEvent, article: HTMLElement): void {
  const step = event.key === 'ArrowUp' ? -1 : event.key === 'ArrowDown' ? 1 : 0;
  const from = event.target;
  if (step === 0 || !(from instanceof HTMLElement) || !from.classList.contains('tool')) return;
  const tools = [...article.querySelectorAll<HTMLElement>('.tool')];
  event.preventDefault();
  tools[tools.indexOf(from) + step]?.focus();
}
