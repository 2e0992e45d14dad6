// Beside the story: who is here with what they do, and the chat.

import { useSignal } from '@preact/signals';
import { useLayoutEffect, useRef } from 'preact/hooks';
import type { Letter } from '../outbox';
import type { Person } from '../people';
import type { Room } from '../room';
import { Invite } from './bar';
import { Face, NarratorFace } from './face';

export function Beside({ room }: { room: Room }) {
  return (
    <div class="beside">
      <People room={room} />
      <Chat room={room} />
    </div>
  );
}

function People({ room }: { room: Room }) {
  const live = room.connection.link.value.type === 'live';
  return (
    <section class="people" aria-label="Here now">
      <h2>{live ? 'Here now' : 'Last seen here'}</h2>
      <ul data-testid="people">
        {room.people.value.map((person) => (
          <li key={person.user} class="member" data-user={person.user} data-writing={person.writing}>
            <Face name={person.name} colour={room.colours.of(person.user)} />
            <span class="name" dir="auto">
              {person.name}
            </span>
            <small>{doing(person, room)}</small>
          </li>
        ))}
        <li class="member">
          <NarratorFace />
          <span class="name">Narrator</span>
          <small>{room.running.value ? 'streaming' : room.narrator.asked.value ? 'thinking' : 'listening'}</small>
        </li>
      </ul>
      <div class="invitations">
        {room.can('host') && (
          <>
            <Invite room={room} role="reader" quiet>
              Copy a link to read along
            </Invite>
            <Invite room={room} role="host" quiet>
              Copy a link for a host
            </Invite>
          </>
        )}
        <Download room={room} />
      </div>
    </section>
  );
}

/** The whole story as a file, made here in the page. */
function Download({ room }: { room: Room }) {
  const said = useSignal('');
  const save = async () => {
    said.value = 'Reading the story…';
    try {
      const { name, text } = await room.markdown();
      const link = document.createElement('a');
      link.href = URL.createObjectURL(new Blob([text], { type: 'text/markdown;charset=utf-8' }));
      link.download = name;
      link.click();
      // The browser has the file's bytes once the click's task is over.
      setTimeout(() => URL.revokeObjectURL(link.href), 0);
      said.value = '';
    } catch {
      said.value = 'Not now, try again';
    }
  };
  return (
    <button class="link" data-testid="download" disabled={said.value === 'Reading the story…'} onClick={() => void save()}>
      {said.value || 'Download the story'}
    </button>
  );
}

function doing(person: Person, room: Room): string {
  if (person.user === room.me.user) return person.role === 'writer' ? 'you' : `you, ${person.role}`;
  if (person.writing) return 'writing…';
  if (person.away) return 'away';
  return person.role === 'writer' ? '' : person.role === 'reader' ? 'reading' : 'host';
}

function Chat({ room }: { room: Room }) {
  const list = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const lines = room.lines.value;
  const sayings = room.sayingsShown.value;
  useLayoutEffect(() => {
    if (list.current && atEnd.current) list.current.scrollTop = list.current.scrollHeight;
  }, [lines, sayings, room.pane.value]);
  return (
    <section class="chat" aria-label="Chat">
      <h2>Chat</h2>
      <div
        class="lines"
        ref={list}
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label="What was said"
        onScroll={({ currentTarget: box }) => (atEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < 40)}
      >
        {lines.length === 0 && sayings.length === 0 && <p class="none">Nothing said yet. What is said here stays beside the story.</p>}
        {lines.map(({ offset, author, text }, index) => (
          <div key={offset} class={`line c${room.colours.of(author.user)}`} data-testid="chat-line" data-author={author.user}>
            {lines[index - 1]?.author.user !== author.user && <b dir="auto">{author.user === room.me.user ? 'You' : author.name}</b>}
            <p dir="auto">{text}</p>
          </div>
        ))}
        {sayings.map((letter) => (
          <Saying key={letter.key} letter={letter} room={room} named={lines.at(-1)?.author.user !== room.me.user && letter === sayings[0]} />
        ))}
      </div>
      <Say room={room} atEnd={atEnd} />
    </section>
  );
}

function Saying({ letter, room, named }: { letter: Letter; room: Room; named: boolean }) {
  const refused = letter.state === 'refused';
  return (
    <div class={`line c${room.colours.of(room.me.user)} ${refused ? 'failed' : 'pending'}`} data-testid="chat-line" data-author={room.me.user}>
      {named && <b>You</b>}
      <p dir="auto">{String(letter.data['text'] ?? '')}</p>
      {refused && (
        <p class="note">
          <span>
            <b>Not said:</b> {letter.reason}.
          </span>
          <button class="link" onClick={() => room.discard(letter.key)}>
            Discard
          </button>
        </p>
      )}
    </div>
  );
}

function Say({ room, atEnd }: { room: Room; atEnd: { current: boolean } }) {
  const text = useSignal('');
  const say = (event: Event) => {
    event.preventDefault();
    const said = text.value.trim();
    if (said === '') return;
    text.value = '';
    atEnd.current = true;
    room.say(said);
  };
  return (
    <form class="say" onSubmit={say}>
      <input
        data-testid="chat-input"
        aria-label="Say something in the chat"
        placeholder="Say something…"
        autocomplete="off"
        maxLength={1000}
        dir="auto"
        value={text.value}
        onInput={(event) => (text.value = event.currentTarget.value)}
      />
    </form>
  );
}
