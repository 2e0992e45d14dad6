// The bar: what the story is called, whether the page is connected, who is here, and the invitation.

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { Room } from '../room';
import type { Role } from '../story';
import { currentTheme, switchTheme } from '../theme';
import { nameList } from '../words';
import { Face } from './face';
import { Flame, Moon, Pencil, Sun } from './icons';

const FACES_MAX = 5;
const SAID_MS = 4_000;

export function Bar({ room }: { room: Room }) {
  return (
    <header class="bar">
      <a class="brand" href="/" aria-label="Fireside">
        <Flame />
        <span aria-hidden="true">Fireside</span>
      </a>
      <TitleInBar room={room} />
      <State room={room} />
      <Faces room={room} />
      <ThemeSwitch />
      <Invite room={room} role={room.me.role === 'reader' ? 'reader' : 'writer'}>
        <span>
          Invite<span class="wide"> someone</span>
        </span>
      </Invite>
    </header>
  );
}

function TitleInBar({ room }: { room: Room }) {
  const editing = useSignal(false);
  const input = useRef<HTMLInputElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const title = room.shownTitle.value;
  useEffect(() => {
    document.title = title ? `${title} · Fireside` : 'Fireside';
  }, [title]);
  useEffect(() => input.current?.select(), [editing.value]);
  const close = (keep: boolean) => {
    const text = input.current?.value.trim() ?? '';
    editing.value = false;
    if (keep && text !== '' && text !== title) room.rename(text);
    requestAnimationFrame(() => button.current?.focus());
  };
  if (editing.value) {
    return (
      <form
        class="title"
        onSubmit={(event) => {
          event.preventDefault();
          close(true);
        }}
      >
        <input
          ref={input}
          class="title-input"
          aria-label="The story’s title"
          maxLength={120}
          defaultValue={title}
          onKeyDown={(event) => event.key === 'Escape' && close(false)}
          onBlur={() => editing.value && close(true)}
        />
      </form>
    );
  }
  return (
    <div class="title">
      <h1 dir="auto">{title || (room.opened.value ? 'A new story' : 'Story')}</h1>
      {room.can('host') && room.opened.value && (
        <button ref={button} class="quiet" aria-label="Rename the story" title="Rename the story" onClick={() => (editing.value = true)}>
          <Pencil />
        </button>
      )}
    </div>
  );
}

function State({ room }: { room: Room }) {
  const link = room.connection.link.value;
  const [tone, words, more] = ((): [string, string, string] => {
    switch (link.type) {
      case 'connecting':
        return ['wait', 'Connecting…', 'Opening the connection'];
      case 'live':
        return room.opened.value ? ['good', 'Live', `Live over ${link.carrier}`] : ['wait', 'Opening…', 'Reading the story'];
      case 'reconnecting':
        return ['wait', 'Reconnecting…', 'The connection was lost; it is being opened again'];
      case 'elsewhere':
        return ['bad', 'Open elsewhere', 'This story is open in another window'];
      case 'closed':
        return ['bad', 'Closed', 'This page is not connected any more'];
    }
  })();
  return (
    <div class={`state ${tone}`} data-testid="connection-state" data-link={link.type === 'live' && !room.opened.value ? 'opening' : link.type} title={more} role="status">
      <i aria-hidden="true" />
      <span>{words}</span>
    </div>
  );
}

function Faces({ room }: { room: Room }) {
  const people = room.people.value;
  if (people.length === 0) return null;
  const shown = people.slice(0, people.length > FACES_MAX ? FACES_MAX - 1 : FACES_MAX);
  return (
    <div class="faces" role="img" aria-label={`Here now: ${nameList(people.map((person) => person.name), 8)}`}>
      {shown.map((person) => (
        <Face key={person.user} name={person.name} colour={room.colours.of(person.user)} />
      ))}
      {people.length > shown.length && <span class="face more" aria-hidden="true">+{people.length - shown.length}</span>}
    </div>
  );
}

function ThemeSwitch() {
  const theme = useSignal(currentTheme());
  useEffect(() => {
    const system = matchMedia('(prefers-color-scheme: dark)');
    const follow = () => (theme.value = currentTheme());
    system.addEventListener('change', follow);
    return () => system.removeEventListener('change', follow);
  }, []);
  const other = theme.value === 'dark' ? 'light' : 'dark';
  return (
    <button class="quiet" aria-label={`Switch to ${other}`} title={`Switch to ${other}`} onClick={() => (theme.value = switchTheme())}>
      {other === 'dark' ? <Moon /> : <Sun />}
    </button>
  );
}

/** Copies an invitation and says so; where the clipboard is closed to the page, it shows the link instead. */
export function Invite({ room, role, children, quiet }: { room: Room; role: Role; children: preact.ComponentChildren; quiet?: boolean }) {
  const said = useSignal('');
  const link = useSignal('');
  const copy = async () => {
    link.value = '';
    try {
      const made = await room.invitation(role);
      try {
        await navigator.clipboard.writeText(made);
        said.value = 'Link copied';
      } catch {
        link.value = made;
        return;
      }
    } catch {
      said.value = 'Not now, try again';
    }
    room.announcer.say(said.value);
    setTimeout(() => (said.value = ''), SAID_MS);
  };
  return (
    <div class="invite">
      <button class={quiet ? 'link' : 'btn'} data-testid={quiet ? undefined : 'invite'} onClick={() => void copy()}>
        {said.value || children}
      </button>
      {link.value && (
        <div class="invite-link">
          <label>
            Copy this link for whoever you invite
            <input readOnly value={link.value} ref={(input) => input?.select()} />
          </label>
          <button class="btn" onClick={() => (link.value = '')}>
            Done
          </button>
        </div>
      )}
    </div>
  );
}
