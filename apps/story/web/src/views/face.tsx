// A person's initials on their colour. Decoration: the name stands beside it or in its title.

import { initials } from '../words';
import { Spark } from './icons';

export function Face({ name, colour }: { name: string; colour: number }) {
  return (
    <span class={`face c${colour}`} aria-hidden="true" title={name}>
      {initials(name)}
    </span>
  );
}

export function NarratorFace() {
  return (
    <span class="face narrator" aria-hidden="true">
      <Spark />
    </span>
  );
}
