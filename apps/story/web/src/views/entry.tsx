// Before the story: a first visit asks for a name and nothing else; a wrong invitation says what to do.

import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { CallRefused } from '../api';
import { lastName } from '../device';
import type { Role } from '../story';
import { Flame } from './icons';

function Card({ children }: { children: ComponentChildren }) {
  return (
    <main class="entry">
      <div class="card">
        <div class="brand">
          <Flame />
          <span>Fireside</span>
        </div>
        {children}
      </div>
    </main>
  );
}

interface NameProperties {
  head: string;
  text: string;
  action: string;
  /** Goes in with the name; throws when it cannot. */
  enter(name: string): Promise<void>;
}

function NameForm({ head, text, action, enter }: NameProperties) {
  const input = useRef<HTMLInputElement>(null);
  const trouble = useSignal('');
  const busy = useSignal(false);
  useEffect(() => input.current?.focus(), []);
  const submit = async (event: Event) => {
    event.preventDefault();
    const name = input.current?.value.trim() ?? '';
    if (name === '') {
      trouble.value = 'A name is all it takes.';
      return;
    }
    busy.value = true;
    trouble.value = '';
    try {
      await enter(name);
    } catch (error) {
      trouble.value = error instanceof CallRefused ? error.message : 'The server does not answer just now. Try again in a moment.';
      busy.value = false;
    }
  };
  return (
    <Card>
      <h1>{head}</h1>
      <p>{text}</p>
      <form onSubmit={(event) => void submit(event)} noValidate>
        <label for="name">Your name</label>
        <input
          id="name"
          ref={input}
          data-testid="name-input"
          autocomplete="nickname"
          maxLength={40}
          dir="auto"
          defaultValue={lastName()}
          aria-describedby="name-trouble"
        />
        <p id="name-trouble" class="trouble" role="status">
          {trouble.value}
        </p>
        <button class="btn primary" data-testid="join" disabled={busy.value}>
          {action}
        </button>
      </form>
    </Card>
  );
}

export function FirstVisit({ role, enter }: { role: Role; enter(name: string): Promise<void> }) {
  const text =
    role === 'reader'
      ? 'People are writing a story together, live, with a narrator who can go on where they stop. You are invited to read along.'
      : 'People are writing a story together, live, with a narrator who can go on where they stop. What name should stand beside your paragraphs?';
  return <NameForm head="There is a place by the fire for you" text={text} action="Join the story" enter={enter} />;
}

export function Begin({ enter }: { enter(name: string): Promise<void> }) {
  return (
    <NameForm
      head="Begin a story"
      text="Write it together with others, live, with a narrator who can go on where you stop. You will be its host, and invite whom you like."
      action="Begin"
      enter={enter}
    />
  );
}

export function NoEntry({ expired }: { expired: boolean }) {
  return (
    <Card>
      <h1>{expired ? 'This invitation does not open the story' : 'This story opens by invitation'}</h1>
      <p>
        {expired
          ? 'It has expired, or a part of the link is missing. The story is safe, and so is whatever you wrote in it. Ask whoever sent you the link for a new one.'
          : 'This device has no place in it yet. Ask somebody who writes in it for a link, and open that link here.'}
      </p>
      <a class="btn" href="/">
        Begin a story of your own
      </a>
    </Card>
  );
}
