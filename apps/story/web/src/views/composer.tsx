// Where one writes: a text that grows, the draft kept over a reload, and the narrator's button.

import { useSignal, useSignalEffect } from '@preact/signals';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { device } from '../device';
import type { Room } from '../room';
import type { Reading } from '../scroll';
import type { Run } from '../story';
import { CHARACTERS_MAX } from './amending';
import { Signpost, Spark, Stop } from './icons';

/** A direction to the narrator is a line, not a text. */
const DIRECTION_CHARACTERS_MAX = 500;
/** From this share of it on the count is shown. */
const NEARLY = 0.9;

const mac = /Mac|iP(hone|ad)/.test(navigator.userAgent);

export function Composer({ room, reading }: { room: Room; reading: Reading }) {
  if (!room.can('write')) {
    return (
      <div class="composer">
        <p class="reader">You are reading along, and you can talk in the chat. A host can invite you to write.</p>
      </div>
    );
  }
  return <Writing room={room} reading={reading} />;
}

function Writing({ room, reading }: { room: Room; reading: Reading }) {
  const draftKey = `fireside.draft.${room.id}`;
  const box = useRef<HTMLTextAreaElement>(null);
  const draft = useSignal(device.getItem(draftKey) ?? '');
  const change = (text: string) => {
    draft.value = text;
    if (text === '') device.removeItem(draftKey);
    else device.setItem(draftKey, text);
  };
  const add = () => {
    const text = draft.value.trim();
    if (text === '' || text.length > CHARACTERS_MAX) return;
    change('');
    reading.toEnd(true);
    room.addParagraph(text);
    box.current?.focus();
  };
  // A refused paragraph that is to be edited comes back here, before what has been written since.
  useSignalEffect(() => {
    const text = room.edit.value;
    if (text === '') return;
    room.edit.value = '';
    change(draft.peek() === '' ? text : `${text}\n\n${draft.peek()}`);
    box.current?.focus();
  });
  useLayoutEffect(() => grow(box.current), [draft.value]);
  const { length } = draft.value.trim();
  return (
    <form
      class="composer"
      aria-label="Write"
      onSubmit={(event) => {
        event.preventDefault();
        add();
      }}
    >
      <div class="sheet">
        <textarea
          ref={box}
          data-testid="composer"
          aria-label="Write the next paragraph"
          placeholder="Write the next paragraph…"
          dir="auto"
          rows={2}
          value={draft.value}
          onInput={(event) => {
            change(event.currentTarget.value);
            room.sayWriting(event.currentTarget.value !== '');
          }}
          onKeyDown={(event) => {
            if (event.key === 'ArrowUp' && draft.value === '') {
              event.preventDefault();
              room.editLast();
            }
            if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
            event.preventDefault();
            add();
          }}
        />
        {(room.trouble.value || room.narrator.trouble.value) && (
          <p class="trouble" role="status">
            {room.trouble.value || room.narrator.trouble.value}
          </p>
        )}
        <Direction room={room} />
        <div class="row">
          <NarratorButton room={room} />
          {length > NEARLY * CHARACTERS_MAX ? (
            <span class={length > CHARACTERS_MAX ? 'count over' : 'count'} role="status">
              {length.toLocaleString('en')} of {CHARACTERS_MAX.toLocaleString('en')} characters
            </span>
          ) : (
            <span class="hint" aria-hidden="true">
              <kbd>{mac ? '⌘' : 'Ctrl'}</kbd> <kbd>Enter</kbd>
            </span>
          )}
          <button class="btn" type="submit" data-testid="add" disabled={length === 0 || length > CHARACTERS_MAX}>
            Add to the story
          </button>
        </div>
      </div>
    </form>
  );
}

function NarratorButton({ room }: { room: Room }) {
  const running = room.running.value;
  const live = room.connection.link.value.type === 'live';
  if (running && !room.mayStop(running)) return <span class="who-may">{whoMayStop(room, running)}</span>;
  if (running) {
    return (
      <button class="btn primary" type="button" data-testid="narrator-stop" disabled={!live} onClick={() => void room.narrator.stop(running.run)}>
        <Stop />
        Stop the narrator
      </button>
    );
  }
  const { direction } = room.narrator;
  const label = 'Tell the narrator what should happen';
  return (
    <>
      <button
        class="btn primary"
        type="button"
        data-testid="narrator-go"
        disabled={!live || room.narrator.asked.value}
        onClick={() => void room.narrator.goOn()}
      >
        <Spark />
        {room.opened.value && room.chunks.value.length === 0 ? 'Narrator, begin' : 'Narrator, go on'}
      </button>
      <button
        class="quiet"
        type="button"
        data-testid="direct"
        aria-label={label}
        title={label}
        aria-expanded={direction.value !== undefined}
        onClick={() => (direction.value = direction.value === undefined ? '' : undefined)}
      >
        <Signpost />
      </button>
    </>
  );
}

/** A line to the narrator, which it goes by and which does not become part of the story. */
function Direction({ room }: { room: Room }) {
  const { direction } = room.narrator;
  const field = useRef<HTMLInputElement>(null);
  const open = direction.value !== undefined && !room.running.value;
  useLayoutEffect(() => {
    if (open) field.current?.focus();
  }, [open]);
  if (!open) return null;
  return (
    <input
      ref={field}
      class="direction"
      data-testid="direction"
      aria-label="What should happen next"
      placeholder="What should happen next? Only the narrator reads it."
      maxLength={DIRECTION_CHARACTERS_MAX}
      autocomplete="off"
      dir="auto"
      value={direction.value}
      onInput={(event) => (direction.value = event.currentTarget.value)}
      onKeyDown={(event) => {
        if (event.isComposing) return;
        if (event.key === 'Escape') direction.value = undefined;
        if (event.key !== 'Enter') return;
        event.preventDefault();
        if (room.connection.link.value.type === 'live') void room.narrator.goOn();
      }}
    />
  );
}

function whoMayStop(room: Room, run: Run): string {
  const name = room.nameOf(run.by);
  return name ? `${name} or a host can stop the narrator` : 'A host can stop the narrator';
}

/** For browsers that do not size a field by its content. */
function grow(box: HTMLTextAreaElement | null): void {
  if (!box || CSS.supports('field-sizing', 'content')) return;
  box.style.height = 'auto';
  box.style.height = `${box.scrollHeight + 3}px`;
}
