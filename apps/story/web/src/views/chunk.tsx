// A stretch of the story that is rendered together, and only again when something in it changes.

import { Component } from 'preact';
import { isRemoved, textOf } from '../amend';
import type { Room, Touched } from '../room';
import type { Chunk, Paragraph } from '../story';
import { EditButton, EditField, Gone, Marks, shown, type Amending } from './amending';
import { RunParagraph } from './run';

const LETTERS_MOST = 66;
const LETTER_PX = 8.7;
const MARGINS_PX = 52;
const LINE_PX = 30;
const BETWEEN_PX = 22;

interface Properties {
  chunk: Chunk;
  /** Who wrote the paragraph before the first one here. */
  before: string;
  room: Room;
  /** Far from the end: the browser may leave it out while it is out of sight. */
  far: boolean;
  /** What goes on with its entries, if anything does: nothing new of the others makes it render again. */
  touched: Touched | undefined;
}

/** What concerns a chunk of all that goes on. */
export function touching(touched: Touched, { entries }: Chunk): Touched | undefined {
  const { changes, editing, stop } = touched;
  return entries.some(({ offset }) => changes.has(offset) || offset === editing || offset === stop) ? touched : undefined;
}

export class ChunkView extends Component<Properties> {
  override shouldComponentUpdate(next: Properties): boolean {
    const { chunk, before, far, touched } = this.props;
    return next.chunk.entries !== chunk.entries || next.before !== before || next.far !== far || next.touched !== touched;
  }

  override render({ chunk, before, room, far, touched }: Properties) {
    let author = before;
    return (
      <section class={far ? 'chunk far' : 'chunk'} style={{ '--tall': `${guessHeight(chunk)}px` }}>
        {chunk.entries.map((entry) => {
          const letter = touched?.changes.get(entry.offset);
          const amending: Amending = { entry, room, letter, stop: touched?.stop === entry.offset };
          if (touched?.editing === entry.offset && room.mayChange(entry)) {
            author = '';
            return <EditField key={entry.offset} entry={entry} room={room} />;
          }
          if (shown(entry, letter).removed) {
            author = '';
            return <Gone key={entry.offset} {...amending} />;
          }
          const previous = author;
          author = entry.kind === 'paragraph' ? entry.author.user : 'narrator';
          if (entry.kind === 'run') return <RunParagraph key={entry.offset} run={entry} amending={amending} />;
          return <ParagraphView key={entry.offset} paragraph={entry} amending={amending} named={previous !== author} />;
        })}
      </section>
    );
  }
}

/** About how tall a chunk is that has not been laid out: lines of text at the width that there is, and what stands between them. */
function guessHeight({ entries }: Chunk): number {
  const letters = Math.min(LETTERS_MOST, (innerWidth - MARGINS_PX) / LETTER_PX);
  return entries.reduce((height, entry) => height + Math.ceil((isRemoved(entry) ? 1 : textOf(entry).length) / letters) * LINE_PX + BETWEEN_PX, 0);
}

function ParagraphView({ paragraph, amending, named }: { paragraph: Paragraph; amending: Amending; named: boolean }) {
  const { room, letter } = amending;
  const { text, pending } = shown(paragraph, letter);
  const { user, name } = paragraph.author;
  return (
    <div
      class={`p c${room.colours.of(user)}${pending ? ' pending' : ''}`}
      data-testid="paragraph"
      data-id={paragraph.id}
      data-author={user}
      data-offset={paragraph.offset}
      data-state="sent"
    >
      {named && (
        <span class="who" dir="auto">
          {user === room.me.user ? 'You' : name}
        </span>
      )}
      <EditButton {...amending} />
      <div class="text" dir="auto">
        {text}
      </div>
      <Marks {...amending} />
    </div>
  );
}
