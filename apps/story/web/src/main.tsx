// Opens what the address asks for: the room, the way into it, or a new story.

import { signal } from '@preact/signals';
import { render } from 'preact';
import * as api from './api';
import { hold, keepName, readHeld } from './device';
import { Room } from './room';
import { asObject, readRole, type Role } from './story';
import { Begin, FirstVisit, NoEntry } from './views/entry';
import { RoomView } from './views/room';

type Screen =
  | { type: 'opening' }
  | { type: 'begin' }
  | { type: 'first-visit'; role: Role; enter(name: string): Promise<void> }
  | { type: 'no-entry'; expired: boolean }
  | { type: 'room'; room: Room };

const screen = signal<Screen>({ type: 'opening' });

function enter(member: api.Member): void {
  hold(member.story, member);
  keepName(member.name);
  history.replaceState(null, '', `/story/${member.story}`);
  const title = member.title !== null ? { text: member.title, offset: member.title_offset ?? 0 } : undefined;
  screen.value = { type: 'room', room: new Room(member.story, member, member.token, title) };
}

/** What an invitation says of itself. Only the server knows whether it is true; this spares a question whose answer is plain. */
function readInvitation(token: string): { role: Role; expired: boolean } | undefined {
  try {
    const body = token.split('.')[1]?.replaceAll('-', '+').replaceAll('_', '/') ?? '';
    const claims = asObject(JSON.parse(atob(body)));
    const expires = claims?.['exp'];
    return { role: readRole(claims?.['role']), expired: typeof expires !== 'number' || expires * 1_000 < Date.now() };
  } catch {
    return undefined;
  }
}

/** With an invitation: the same person again if this device is known, else whoever gives a name. */
async function openByInvitation(story: string, invite: string): Promise<void> {
  const held = readHeld(story);
  if (held) {
    try {
      return enter(await api.join(invite, held.name, held.session));
    } catch {
      return openHeld(story);
    }
  }
  const invitation = readInvitation(invite);
  if (!invitation || invitation.expired) {
    screen.value = { type: 'no-entry', expired: true };
    return;
  }
  screen.value = {
    type: 'first-visit',
    role: invitation.role,
    async enter(name) {
      try {
        enter(await api.join(invite, name));
      } catch (error) {
        if (!(error instanceof api.CallRefused) || error.code !== 'invitation') throw error;
        screen.value = { type: 'no-entry', expired: true };
      }
    },
  };
}

/** As who one was here before: at once, and without a server too, so that nothing written here seems lost. */
function openHeld(story: string): void {
  const held = readHeld(story);
  if (!held) {
    screen.value = { type: 'no-entry', expired: false };
    return;
  }
  history.replaceState(null, '', `/story/${story}`);
  const room = new Room(story, held, undefined, undefined);
  screen.value = { type: 'room', room };
}

function open(): void {
  const story = /^\/story\/([\w-]+)$/.exec(location.pathname)?.[1];
  const invite = /^#invite=(.+)$/.exec(location.hash)?.[1];
  if (!story) screen.value = { type: 'begin' };
  else if (invite) void openByInvitation(story, invite);
  else openHeld(story);
}

function App() {
  const shown = screen.value;
  switch (shown.type) {
    case 'opening':
      return <p class="opening">Fireside is opening…</p>;
    case 'begin':
      return <Begin enter={async (name) => enter(await api.begin(name))} />;
    case 'first-visit':
      return <FirstVisit role={shown.role} enter={shown.enter} />;
    case 'no-entry':
      return <NoEntry expired={shown.expired} />;
    case 'room':
      return <RoomView room={shown.room} />;
  }
}

const root = document.getElementById('app');
if (root) {
  root.textContent = '';
  open();
  render(<App />, root);
}
// A link that is opened in a window that is here already.
addEventListener('hashchange', () => location.hash.startsWith('#invite=') && location.reload());
