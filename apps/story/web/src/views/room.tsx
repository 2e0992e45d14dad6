// The room as a whole: the bar, the story, and what is beside it. On a phone one of them at a time.

import { useMemo } from 'preact/hooks';
import type { Pane, Room } from '../room';
import { Reading } from '../scroll';
import { Bar } from './bar';
import { Banner } from './banner';
import { Beside } from './beside';
import { Composer } from './composer';
import { Manuscript } from './manuscript';

export function RoomView({ room }: { room: Room }) {
  const reading = useMemo(() => new Reading(room.atEnd, room.below), [room]);
  return (
    <div class="room" data-pane={room.pane.value} data-link={room.connection.link.value.type}>
      <Bar room={room} />
      <Banner room={room} />
      <Tabs room={room} />
      <main class="inside">
        <div class="page">
          <Manuscript room={room} reading={reading} />
          <Composer room={room} reading={reading} />
        </div>
        <Beside room={room} />
      </main>
      <Spoken room={room} />
    </div>
  );
}

function Tabs({ room }: { room: Room }) {
  const tab = (pane: Pane, label: string, count: number) => (
    <button aria-pressed={room.pane.value === pane} onClick={() => room.show(pane)}>
      {label}
      {count > 0 && <span> · {count}</span>}
    </button>
  );
  return (
    <nav class="tabs" aria-label="Parts of the room">
      {tab('story', 'Story', 0)}
      {tab('chat', 'Chat', room.unread.value)}
      {tab('people', 'People', room.people.value.length)}
    </nav>
  );
}

/** What a screen reader is told; a new element for each, so that equal sentences are told again. */
function Spoken({ room }: { room: Room }) {
  const { text, number } = room.announcer.spoken.value;
  return (
    <div class="unseen" aria-live="polite">
      <p key={number}>{text}</p>
    </div>
  );
}
