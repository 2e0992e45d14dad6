// A paragraph that the log does not have yet: on its way, kept on this device, or refused.

import type { Letter } from '../outbox';
import type { Room } from '../room';

export function PendingParagraph({ letter, room, named }: { letter: Letter; room: Room; named: boolean }) {
  const text = typeof letter.data['text'] === 'string' ? letter.data['text'] : '';
  const refused = letter.state === 'refused';
  const words = refused ? 'not added' : room.connection.link.value.type === 'live' ? 'sending…' : 'kept here, not sent yet';
  const edit = () => {
    room.discard(letter.key);
    room.edit.value = text;
  };
  return (
    <div
      class={`p c${room.colours.of(room.me.user)} ${refused ? 'failed' : 'pending'}`}
      data-testid="paragraph"
      data-id={letter.key}
      data-author={room.me.user}
      data-state={refused ? 'failed' : 'pending'}
    >
      {named && (
        <span class="who">
          You<em>{words}</em>
        </span>
      )}
      <div class="text" dir="auto">
        {text}
      </div>
      {!named && !refused && <span class="on-its-way">{words}</span>}
      {refused && (
        <p class="note">
          <span>
            <b>Not added:</b> {letter.reason ?? 'the server did not take it'}.
          </span>
          <span class="choices">
            <button class="link" data-testid="edit" onClick={edit}>
              Edit
            </button>
            <button class="link" data-testid="discard" onClick={() => room.discard(letter.key)}>
              Discard
            </button>
          </span>
        </p>
      )}
    </div>
  );
}
