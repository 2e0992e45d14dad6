// Tells a screen reader what happens, sentence by sentence: never token by token.

import { signal } from '@preact/signals';

const SENTENCE = /[^.!?…。]*[.!?…。]+["”’»)\]]*(?=\s)/gu;

export class Announcer {
  /** The latest announcement; a number makes equal ones differ. */
  readonly spoken = signal<{ text: string; number: number }>({ text: '', number: 0 });
  private heard = '';

  say(text: string): void {
    this.spoken.value = { text, number: this.spoken.value.number + 1 };
  }

  /** Takes streamed text and says the sentences that are whole. */
  stream(text: string): void {
    this.heard += text;
    const sentences = this.heard.match(SENTENCE);
    if (!sentences) return;
    const whole = sentences.join('');
    this.heard = this.heard.slice(whole.length);
    this.say(whole.trim());
  }

  /** The stream is over: what is left is said as it is. */
  rest(): void {
    const rest = this.heard.trim();
    this.heard = '';
    if (rest !== '') this.say(rest);
  }
}
