// The manuscript: chunks of the story, what waits to be sent, and who is writing.

import { useComputed } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import type { Room } from '../room';
import { Reading } from '../scroll';
import { counted, nameList, typingInWords } from '../words';
import { isRemoved } from '../amend';
import { moveAmong } from './amending';
import { ChunkView, touching } from './chunk';
import { Down, Flame } from './icons';
import { PendingParagraph } from './pending';

export function Manuscript({ room, reading }: { room: Room; reading: Reading }) {
  const scroller = useRef<HTMLDivElement>(null);
  const article = useRef<HTMLElement>(null);
  const sentinel = useRef<HTMLDivElement>(null);
  const chunks = room.chunks.value;
  const first = chunks[0]?.key;

  useLayoutEffect(() => reading.attach(scroller.current!, article.current!), []);
  // Older paragraphs have come in above: what is being read stays where it is.
  useLayoutEffect(() => reading.hold(), [first]);
  useEffect(() => {
    if (room.whole.value || !sentinel.current) return undefined;
    const watch = new IntersectionObserver(
      ([seen]) => {
        if (seen?.isIntersecting && room.opened.value) void room.loadOlder(() => reading.mark());
      },
      { root: scroller.current, rootMargin: '1200px 0px 0px 0px' },
    );
    watch.observe(sentinel.current);
    return () => watch.disconnect();
  }, [room.whole.value, room.opened.value, first]);

  const touched = room.touched.value;
  let before = '';
  const views = chunks.map((chunk, index) => {
    const view = <ChunkView key={chunk.key} chunk={chunk} before={before} room={room} far={index < chunks.length - 2} touched={touching(touched, chunk)} />;
    const last = chunk.entries.at(-1);
    before = last?.kind === 'paragraph' ? last.author.user : 'narrator';
    return view;
  });
  return (
    <div class="desk">
      <div class="manuscript" ref={scroller} role="log" aria-live="off" aria-label="The story" tabIndex={0} data-testid="manuscript">
        <article ref={article} onKeyDown={(event) => moveAmong(event, event.currentTarget)}>
          {room.whole.value && room.opened.value ? <Head room={room} /> : <div class="earlier" ref={sentinel}>{room.opened.value ? 'Earlier paragraphs…' : 'Opening the story…'}</div>}
          {views}
          <Pending room={room} before={before} />
          {room.opened.value && chunks.length === 0 && room.paragraphs.value.length === 0 && <Empty room={room} />}
          <Typing room={room} />
        </article>
      </div>
      <Below room={room} reading={reading} />
    </div>
  );
}

function Head({ room }: { room: Room }) {
  const by = useComputed(() => {
    const names = new Map<string, string>();
    let narrator = false;
    let told = 0;
    for (const chunk of room.chunks.value) {
      for (const entry of chunk.entries) {
        if (isRemoved(entry)) continue;
        told += 1;
        if (entry.kind === 'run') narrator = true;
        else names.set(entry.author.user, entry.author.name);
      }
    }
    if (names.size === 0) return narrator ? 'Begun by the narrator' : '';
    const count = counted(told, 'paragraph');
    return `${nameList([...names.values()])}${narrator ? ', with a narrator' : ''} · ${count}`;
  });
  if (by.value === '') return null;
  return (
    <div class="head">
      <h2 dir="auto">{room.shownTitle.value || 'A new story'}</h2>
      <p class="by">{by.value}</p>
    </div>
  );
}

function Pending({ room, before }: { room: Room; before: string }) {
  return (
    <>
      {room.paragraphs.value.map((letter, index) => (
        <PendingParagraph key={letter.key} letter={letter} room={room} named={index === 0 && before !== room.me.user} />
      ))}
    </>
  );
}

function Empty({ room }: { room: Room }) {
  return (
    <div class="empty">
      <Flame />
      <h2 dir="auto">{room.shownTitle.value || 'A new story'}</h2>
      {room.can('write') ? (
        <p>
          Nobody has written yet. Begin with a place, a voice, or a small thing that is out of order, or let the narrator go first.
        </p>
      ) : (
        <p>Nobody has written yet. The first line will appear here as soon as it is there.</p>
      )}
    </div>
  );
}

function Typing({ room }: { room: Room }) {
  const words = typingInWords(room.writers.value.map((person) => person.name));
  return (
    <p class={words ? 'typing on' : 'typing'} data-testid="typing">
      {words && (
        <>
          <span class="dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          {words}
        </>
      )}
    </p>
  );
}

function Below({ room, reading }: { room: Room; reading: Reading }) {
  const count = room.below.value;
  if (room.atEnd.value || (count === 0 && !room.running.value)) return null;
  return (
    <button class="below" data-testid="below" onClick={() => reading.toEnd()}>
      <Down />
      {count === 0 ? 'The narrator is writing below' : `${counted(count, 'new paragraph')} below`}
    </button>
  );
}
