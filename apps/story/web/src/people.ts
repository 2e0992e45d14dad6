// Who is here and what they do. Pure: presence, joins, leaves and what people say of themselves go in, a list comes out.

import type { Author } from './story';

export interface Person extends Author {
  writing: boolean;
  away: boolean;
}

/** How long "is writing" holds without being said again. */
export const WRITING_MS = 6_000;

const ORDER = { host: 0, writer: 1, reader: 2 };

export class People {
  private clients = new Map<string, Author>();
  private writingUntil = new Map<string, number>();
  private awayUsers = new Set<string>();

  /** Everybody who was here when the server was asked. */
  present(clients: Iterable<[string, Author]>): void {
    this.clients = new Map(clients);
    this.tidy();
  }

  join(client: string, author: Author): void {
    this.clients.set(client, author);
  }

  leave(client: string): void {
    this.clients.delete(client);
    this.tidy();
  }

  writing(user: string, on: boolean, now: number): void {
    if (on) this.writingUntil.set(user, now + WRITING_MS);
    else this.writingUntil.delete(user);
  }

  away(user: string, on: boolean): void {
    if (on) this.awayUsers.add(user);
    else this.awayUsers.delete(user);
  }

  /** When the connection is gone nobody is seen to do anything. */
  still(): void {
    this.writingUntil.clear();
  }

  /** One line per person, however many windows they have open: hosts first, then by name. */
  list(now: number): Person[] {
    const people = new Map<string, Person>();
    for (const author of this.clients.values()) {
      const { user } = author;
      const writing = (this.writingUntil.get(user) ?? 0) > now;
      people.set(user, { ...author, writing, away: this.awayUsers.has(user) && !writing });
    }
    return [...people.values()].sort((a, b) => ORDER[a.role] - ORDER[b.role] || a.name.localeCompare(b.name));
  }

  private tidy(): void {
    const users = new Set([...this.clients.values()].map((author) => author.user));
    for (const user of this.awayUsers) if (!users.has(user)) this.awayUsers.delete(user);
    for (const user of this.writingUntil.keys()) if (!users.has(user)) this.writingUntil.delete(user);
  }
}

const COLOURS = 6;

/** A colour per person: the one their id asks for, or the next free one, so that few people never share one. */
export class Colours {
  private given = new Map<string, number>();

  of(user: string): number {
    const known = this.given.get(user);
    if (known !== undefined) return known;
    let wanted = 0;
    for (const letter of user) wanted = (wanted * 31 + (letter.codePointAt(0) ?? 0)) % 4_294_967_291;
    const taken = new Set(this.given.values());
    let colour = wanted % COLOURS;
    for (let tries = 0; tries < COLOURS && taken.has(colour); tries += 1) colour = (colour + 1) % COLOURS;
    if (taken.size >= COLOURS) colour = wanted % COLOURS;
    this.given.set(user, colour);
    return colour;
  }
}
