// A paragraph of the narrator. While it streams, its text is appended to one text node: the story is not rendered again.

import { useLayoutEffect, useRef } from 'preact/hooks';
import type { Run } from '../story';
import { textOf } from '../amend';
import { EditButton, Marks, shown, type Amending } from './amending';
import { endingInWords } from '../words';

/** What the server's own narrator calls itself: prose from a grammar, without a model. */
const BUILT_IN = 'built-in narrator';

export function RunParagraph({ run, amending }: { run: Run; amending: Amending }) {
  const { room, letter } = amending;
  const said = run.status === 'open' ? textOf(run) : shown(run, letter).text;
  const place = useRef<HTMLSpanElement>(null);
  const node = useRef<Text | undefined>(undefined);
  const open = run.status === 'open';

  useLayoutEffect(() => {
    if (!node.current) {
      node.current = document.createTextNode('');
      place.current!.append(node.current);
    }
    const text = node.current;
    const voice = open ? room.narrator.voice(run.run) : undefined;
    if (!voice) {
      if (!open && text.data !== said) text.data = said;
      return undefined;
    }
    text.data = voice.text.text;
    const unlisten = voice.listen((change) => {
      if (change.type === 'append') {
        text.appendData(change.text);
        room.announcer.stream(change.text);
      } else text.data = change.text;
    });
    return () => {
      unlisten();
      room.announcer.rest();
    };
  }, [run.run, open, said]);

  const ending = endingInWords(run.status);
  const mayGoOn = ending && run.status !== 'budget' && room.can('write') && room.lastRun.value === run.run;
  return (
    <div
      class="p narrator"
      data-testid="paragraph"
      data-id={run.run}
      data-author="narrator"
      data-offset={run.offset}
      data-state={open ? 'streaming' : 'ended'}
      data-status={run.status}
    >
      <span class="who">
        Narrator<em title={run.model}>{run.model === BUILT_IN ? 'AI, built in' : 'AI'}</em>
      </span>
      <EditButton {...amending} />
      <div class="text" dir="auto">
        <span ref={place} />
        {open && <span class="caret" aria-hidden="true" />}
      </div>
      <Marks {...amending} />
      {ending && (
        <p class="note">
          <span>{ending}</span>
          {mayGoOn && (
            <button class="link" data-testid="narrator-go-on" onClick={() => void room.narrator.goOn()}>
              Let it go on
            </button>
          )}
        </p>
      )}
    </div>
  );
}
