// A stretch of the story that is rendered together, and only again when something in it changes.

import { Component } from 'preact';
import type { Room } from '../room';
import type { Chunk, Paragraph } from '../story';
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
}

export class ChunkView extends Component<Properties> {
  override shouldComponentUpdate(next: Properties): boolean {
    const { chunk, before, far } = this.props;
    return next.chunk.entries !== chunk.entries || next.before !== before || next.far !== far;
  }

  override render({ chunk, before, room, far }: Properties) {
    let author = before;
    return (
      <section class={far ? 'chunk far' : 'chunk'} style={{ '--tall': `${guessHeight(chunk)}px` }}>
        {chunk.entries.map((entry) => {
          const previous = author;
          author = entry.kind === 'paragraph' ? entry.author.user : 'narrator';
          if (entry.kind === 'run') return <RunParagraph key={entry.offset} run={entry} room={room} />;
          return <ParagraphView key={entry.offset} paragraph={entry} room={room} named={previous !== author} />;
        })}
      </section>
    );
  }
}

/** About how tall a chunk is that has not been laid out: lines of text at the width that there is, and what stands between them. */
function guessHeight({ entries }: Chunk): number {
  const letters = Math.min(LETTERS_MOST, (innerWidth - MARGINS_PX) / LETTER_PX);
  return entries.reduce((height, { text }) => height + Math.ceil(text.length / letters) * LINE_PX + BETWEEN_PX, 0);
}

function ParagraphView({ paragraph, room, named }: { paragraph: Paragraph; room: Room; named: boolean }) {
  const { user, name } = paragraph.author;
  return (
    <div
      class={`p c${room.colours.of(user)}`}
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
      <div class="text" dir="auto">
        {paragraph.text}
      </div>
    </div>
  );
}
