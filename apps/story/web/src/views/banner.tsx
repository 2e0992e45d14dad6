// What has to be known about the connection, in words, and what can be done about it. Quiet while all is well.

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { forget } from '../device';
import type { Room } from '../room';
import { agoInWords } from '../words';

/** A server that has been gone for this long is spoken of differently. */
const LONG_MS = 30_000;
/** The first connection may take this long before anything is said. */
const FIRST_MS = 6_000;

export function Banner({ room }: { room: Room }) {
  const now = useSignal(Date.now());
  const link = room.connection.link.value;
  const waiting = link.type === 'reconnecting' || link.type === 'connecting';
  useEffect(() => {
    now.value = Date.now();
    if (!waiting) return undefined;
    const timer = setInterval(() => (now.value = Date.now()), 2_000);
    return () => clearInterval(timer);
  }, [link]);
  if (link.type === 'live') return null;
  if (link.type === 'elsewhere') {
    return (
      <Strip head="This story is open in another window of yours." action="Use it here" act={() => room.connection.retry()}>
        {room.keptInWords()}
      </Strip>
    );
  }
  if (link.type === 'closed') {
    const leave = () => {
      forget(room.id);
      location.reload();
    };
    return link.reason === '' ? (
      <Strip head="You are not allowed in this story any more." action="Use another invitation" act={leave}>
        Ask a host for a new one. {room.keptInWords().replace(' and will be sent', '')}
      </Strip>
    ) : (
      <Strip head="The connection was closed:" action="Try again" act={() => room.connection.retry()}>
        {link.reason}
      </Strip>
    );
  }
  const gone = now.value - link.since;
  if (link.type === 'connecting' && gone < FIRST_MS) return null;
  if (gone < LONG_MS) {
    return (
      <Strip head={link.type === 'connecting' ? 'The server has not answered yet.' : 'Reconnecting…'}>
        You can keep writing. {room.keptInWords()}
      </Strip>
    );
  }
  return (
    <Strip head={`The server has not answered for ${agoInWords(gone / 1_000)}.`} action="Try now" act={() => room.connection.retry()}>
      You can keep writing. {room.keptInWords() || 'What you add is kept on this device.'}
    </Strip>
  );
}

function Strip({ head, children, action, act }: { head: string; children: preact.ComponentChildren; action?: string; act?: () => void }) {
  return (
    <div class="banner" data-testid="banner" role="status">
      <p>
        <b>{head}</b> <span>{children}</span>
      </p>
      {action && (
        <button class="btn" onClick={act}>
          {action}
        </button>
      )}
    </div>
  );
}
