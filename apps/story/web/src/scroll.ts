// How the manuscript scrolls: it stays at its end for whoever is there, and stays put for whoever reads further up.

import type { Signal } from '@preact/signals';

const END_PX = 48;
const HOLD_MS = 500;

export class Reading {
  private scroller: HTMLElement | undefined;
  private last = 0;
  /** What is being read, and where on the screen it stands, while older paragraphs come in above. */
  private marked: { element: Element; top: number } | undefined;
  private release: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly atEnd: Signal<boolean>,
    private readonly below: Signal<number>,
  ) {}

  attach(scroller: HTMLElement, content: HTMLElement): () => void {
    this.scroller = scroller;
    const scrolled = () => this.scrolled();
    scroller.addEventListener('scroll', scrolled, { passive: true });
    // Whatever makes the text grow, or the window shrink, is followed before it is painted.
    const sizes = new ResizeObserver(() => (this.atEnd.peek() ? this.pin() : this.correct()));
    sizes.observe(scroller);
    sizes.observe(content);
    return () => {
      scroller.removeEventListener('scroll', scrolled);
      sizes.disconnect();
    };
  }

  toEnd(atOnce = false): void {
    const { scroller } = this;
    if (!scroller) return;
    if (atOnce || matchMedia('(prefers-reduced-motion: reduce)').matches) {
      this.atEnd.value = true;
      this.below.value = 0;
      this.pin();
    } else scroller.scrollTo({ top: scroller.scrollHeight, behavior: 'smooth' });
  }

  /** Older paragraphs are about to come in above. */
  mark(): void {
    const { scroller } = this;
    if (!scroller) return;
    const edge = scroller.getBoundingClientRect().top;
    for (const element of scroller.querySelectorAll('.p')) {
      const { top, bottom } = element.getBoundingClientRect();
      if (bottom <= edge) continue;
      this.marked = { element, top };
      return;
    }
  }

  /** They have come in: what is being read stays where it stands, also while the browser finds out how tall they really are. */
  hold(): void {
    if (this.atEnd.peek()) this.pin();
    else this.correct();
    clearTimeout(this.release);
    this.release = setTimeout(() => (this.marked = undefined), HOLD_MS);
  }

  private correct(): void {
    const { scroller, marked } = this;
    if (!scroller || !marked?.element.isConnected) return;
    const moved = marked.element.getBoundingClientRect().top - marked.top;
    if (Math.abs(moved) < 1) return;
    scroller.scrollTop += moved;
    this.last = scroller.scrollTop;
  }

  private pin(): void {
    const { scroller } = this;
    if (!scroller) return;
    scroller.scrollTop = scroller.scrollHeight;
    this.last = scroller.scrollTop;
  }

  /** Only scrolling up leaves the end: text that grows below does not. */
  private scrolled(): void {
    const { scroller } = this;
    if (!scroller) return;
    // Whoever scrolls on while older paragraphs come in is followed.
    if (this.marked) this.marked.top = this.marked.element.getBoundingClientRect().top;
    const up = scroller.scrollTop < this.last - 1;
    this.last = scroller.scrollTop;
    const rest = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    if (rest < END_PX) {
      this.atEnd.value = true;
      this.below.value = 0;
    } else if (up) this.atEnd.value = false;
  }
}
