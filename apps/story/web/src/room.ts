// One story, open: its logs, its people, what is being sent, and the narrator. The views read its signals and call its methods.

import { batch, computed, signal } from '@preact/signals';
import type { Centrifuge, Subscription } from 'centrifuge';
import * as api from './api';
import { Announcer } from './announce';
import { ChatLog, type Line } from './chat';
import { Connection, readAuthor } from './connection';
import { device, uuid, type Held } from './device';
import { LogFollow } from './log-follow';
import { Narrator } from './narrator';
import { Outbox, type Letter } from './outbox';
import { Colours, People, WRITING_MS, type Person } from './people';
import { isRemoved, mayAmend, textOf } from './amend';
import { fileName, toMarkdown } from './export';
import { StoryLog, asObject, type Chunk, type Entry, type LogRecord, type Role, type Run, type Title } from './story';
import { counted } from './words';

/** What is going on with loaded entries beyond what the log says: changes on their way by the entry's offset, and the one being edited. */
export interface Touched {
  changes: ReadonlyMap<number, Letter>;
  editing: number | undefined;
  /** The entry whose button the Tab key reaches; the arrow keys go on from there. */
  stop: number | undefined;
}

/** A text being edited, kept on this device over a reload. */
export interface Editing {
  of: number;
  text: string;
}

export type Pane = 'story' | 'chat' | 'people';

/** How often "is writing" is said again while somebody writes, and how long after the last key it is taken back. */
const WRITING_AGAIN_MS = 3_000;
const WRITING_REST_MS = 4_000;

export class Room {
  readonly channel: string;
  readonly connection: Connection;
  readonly narrator: Narrator;
  readonly announcer = new Announcer();
  readonly colours = new Colours();

  readonly chunks = signal<readonly Chunk[]>([]);
  readonly whole = signal(false);
  readonly count = signal(0);
  readonly opened = signal(false);
  readonly title = signal<Title | undefined>(undefined);
  readonly letters = signal<readonly Letter[]>([]);
  readonly lines = signal<readonly Line[]>([]);
  readonly people = signal<readonly Person[]>([]);
  readonly running = signal<Run | undefined>(undefined);
  readonly pane = signal<Pane>('story');
  readonly unread = signal(0);
  /** Entries that arrived while the reader was further up. */
  readonly below = signal(0);
  /** Why a title was not taken, in words. */
  readonly trouble = signal('');
  /** A text that goes back into the composer. */
  readonly edit = signal('');
  /** The paragraph that is being edited here. */
  readonly editing = signal<Editing | undefined>(undefined);
  /** Set by the manuscript: whether the reader is at the end. */
  readonly atEnd = signal(true);

  readonly paragraphs = computed(() => this.letters.value.filter((letter) => letter.channel === this.channel && letter.data['type'] === 'paragraph'));
  readonly sayings = computed(() => this.letters.value.filter((letter) => letter.channel === this.chatChannel));
  readonly sayingsShown = computed(() => {
    // A line that has arrived before its answer is not shown twice.
    const last = this.lines.value.at(-1);
    const arrived = (letter: Letter) => letter.state !== 'refused' && last?.author.user === this.me.user && letter.data['text'] === last.text;
    return this.sayings.value.filter((letter) => !arrived(letter));
  });
  /** A new title is shown while it is on its way. */
  readonly shownTitle = computed(() => {
    const coming = this.letters.value.findLast((letter) => letter.data['type'] === 'title' && letter.state !== 'refused');
    const text = coming?.data['text'];
    return typeof text === 'string' ? text : (this.title.value?.text ?? '');
  });
  /** The run with which the story ends just now, if it does and nothing streams: what can be gone on from. */
  readonly lastRun = computed(() => {
    const last = this.chunks.value.at(-1)?.entries.at(-1);
    return last?.kind === 'run' && !isRemoved(last) && !this.running.value ? last.run : undefined;
  });
  readonly touched = computed((): Touched => {
    const changes = new Map<number, Letter>();
    for (const letter of this.letters.value) {
      const of = letter.data['of'];
      if (letter.channel === this.channel && typeof of === 'number') changes.set(of, letter);
    }
    return { changes, editing: this.editing.value?.of, stop: this.lastOfMine.value };
  });
  private readonly lastOfMine = computed(() => {
    for (const chunk of this.chunks.value.toReversed()) {
      const entry = chunk.entries.findLast((entry) => this.mayChange(entry) && !isRemoved(entry));
      if (entry) return entry.offset;
    }
    return undefined;
  });
  readonly writers = computed(() => this.people.value.filter((person) => person.writing && person.user !== this.me.user));

  private readonly story = new StoryLog();
  private readonly chat = new ChatLog();
  private readonly crowd = new People();
  private readonly follow: LogFollow;
  private readonly outbox: Outbox;
  private readonly liveChannel: string;
  private readonly chatChannel: string;
  private readonly editKey: string;
  private saidWriting = 0;
  private rest: ReturnType<typeof setTimeout> | undefined;
  private crowdChanges: (() => void)[] | undefined;

  constructor(
    readonly id: string,
    readonly me: Held,
    token: string | undefined,
    title: Title | undefined,
  ) {
    this.channel = `story:${id}`;
    this.liveChannel = `${this.channel}/live`;
    this.chatChannel = `${this.channel}/chat`;
    this.editKey = `fireside.edit.${id}`;
    this.editing.value = readEditing(device.getItem(this.editKey));
    if (title) this.story.named(title);
    this.title.value = title;
    this.connection = new Connection(token, () => this.renew());
    const { client } = this.connection;
    this.outbox = new Outbox({
      keeper: device,
      prefix: `fireside.out.${id}.${me.user}.`,
      send: (letter) => this.connection.publish(letter.channel, letter.data, letter.key),
      later: (ms, then) => void setTimeout(then, ms),
      changed: () => this.showLetters(),
    });
    this.letters.value = this.outbox.letters;
    this.narrator = new Narrator(this.connection, this.channel, (run, end) => {
      this.story.end(run, end.status, end.text);
      this.showStory();
    });
    this.follow = new LogFollow(
      client,
      this.channel,
      this.story,
      { opened: () => this.storyOpened(), record: (record) => this.storyRecord(record), refused: (code) => this.refused(code) },
      { joinLeave: true },
    );
    const chat = new LogFollow(client, this.chatChannel, this.chat, {
      opened: () => this.chatOpened(),
      record: (record) => this.chatRecord(record),
      refused: () => undefined,
    });
    this.followPeople(this.follow.subscription);
    const live = this.followLive(client);
    client.on('connected', () => this.outbox.connected(true));
    client.on('connecting', () => this.disconnected());
    client.on('disconnected', () => this.disconnected());
    for (const subscription of [this.follow.subscription, chat.subscription, live]) subscription.subscribe();
    this.connection.open();
    document.addEventListener('visibilitychange', () => this.sayAway());
  }

  can(what: 'write' | 'host'): boolean {
    return what === 'host' ? this.me.role === 'host' : this.me.role !== 'reader';
  }

  /** Whether one may stop this run: who asked for it, and a host. */
  mayStop(run: Run): boolean {
    return this.can('host') || (this.can('write') && run.by === this.me.user);
  }

  nameOf(user: string): string | undefined {
    return this.people.value.find((person) => person.user === user)?.name;
  }

  addParagraph(text: string): void {
    const key = uuid();
    this.sayWriting(false);
    this.outbox.add(key, this.channel, { type: 'paragraph', id: key, text });
  }

  /** Whether one may edit and remove this: its author, and a host. What is still streaming nobody may. */
  mayChange(entry: Entry): boolean {
    return mayAmend(this.me, entry) && !(entry.kind === 'run' && (entry.status === 'open' || entry.by === ''));
  }

  /** Opens a paragraph for editing, from what it says or from `text`. */
  startEditing(entry: Entry, text = textOf(entry)): void {
    this.draftEdit({ of: entry.offset, text });
  }

  /** Opens one's own last paragraph. */
  editLast(): void {
    for (const chunk of this.chunks.value.toReversed()) {
      const own = (entry: Entry) => entry.kind === 'paragraph' && entry.author.user === this.me.user && !isRemoved(entry);
      const entry = chunk.entries.findLast(own);
      if (entry) return this.startEditing(entry);
    }
  }

  draftEdit(editing: Editing | undefined): void {
    this.editing.value = editing;
    if (editing) device.setItem(this.editKey, JSON.stringify(editing));
    else device.removeItem(this.editKey);
  }

  saveEdit(entry: Entry, text: string): void {
    this.draftEdit(undefined);
    if (text !== textOf(entry) || isRemoved(entry)) this.change(entry, { type: 'edit', of: entry.offset, text });
  }

  removeEntry(entry: Entry): void {
    this.draftEdit(undefined);
    this.change(entry, { type: 'remove', of: entry.offset });
  }

  /** One change of an entry at a time stands on this device: a refused one gives way to the next. */
  private change(entry: Entry, data: Record<string, unknown>): void {
    const before = this.touched.value.changes.get(entry.offset);
    if (before?.state === 'refused') this.outbox.discard(before.key);
    this.outbox.add(uuid(), this.channel, data);
  }

  /** The whole story as a Markdown file, read from its log. */
  async markdown(): Promise<{ name: string; text: string }> {
    const whole = new StoryLog();
    await this.follow.readWhole(whole);
    const title = whole.title?.text ?? this.shownTitle.value;
    const entries = whole.chunks.flatMap((chunk) => chunk.entries);
    return { name: fileName(title), text: toMarkdown(title, entries) };
  }

  say(text: string): void {
    this.outbox.add(uuid(), this.chatChannel, { type: 'say', text });
  }

  rename(text: string): void {
    this.trouble.value = '';
    this.outbox.add(uuid(), this.channel, { type: 'title', text });
  }

  /** Gives up a letter and answers what it said. */
  discard(key: string): string {
    const text = this.outbox.discard(key)?.data['text'];
    return typeof text === 'string' ? text : '';
  }

  /** Loads the page before; `showing` is called at the last moment before it is shown. */
  async loadOlder(showing: () => void): Promise<void> {
    if (!(await this.follow.loadOlder())) return;
    showing();
    this.showStory();
  }

  invitation(role: Role): Promise<string> {
    return api.invite(this.me.session, role).then(({ link }) => link);
  }

  show(pane: Pane): void {
    this.pane.value = pane;
    if (this.sees('chat')) this.unread.value = 0;
  }

  /** Says that one is writing, no more often than needed, and takes it back after a rest. */
  sayWriting(on: boolean): void {
    clearTimeout(this.rest);
    const now = Date.now();
    if (on) {
      this.rest = setTimeout(() => this.sayWriting(false), WRITING_REST_MS);
      if (now - this.saidWriting < WRITING_AGAIN_MS) return;
    } else if (this.saidWriting === 0) return;
    this.saidWriting = on ? now : 0;
    this.connection.mention(this.liveChannel, { type: 'typing', on }, 'typing');
  }

  private sayAway(): void {
    const away = document.visibilityState === 'hidden';
    this.connection.mention(this.liveChannel, { type: 'away', on: away }, 'away');
    if (!away && this.sees('chat')) this.unread.value = 0;
  }

  private async renew(): Promise<string> {
    const { token, title, title_offset } = await api.comeBack(this.me.session);
    if (title !== null) {
      this.story.named({ text: title, offset: title_offset ?? 0 });
      this.showStory();
    }
    return token;
  }

  private refused(code: number): void {
    this.connection.close(code === 103 ? '' : 'This story is not open here.');
  }

  private disconnected(): void {
    this.outbox.connected(false);
    this.crowd.still();
    this.showPeople();
  }

  // The story.

  private storyOpened(): void {
    // A record that was not seen to arrive may be among what was loaded.
    for (const chunk of this.story.chunks) {
      for (const entry of chunk.entries) {
        if (entry.kind === 'paragraph' && entry.author.user === this.me.user) this.outbox.arrived(entry.id);
      }
    }
    this.opened.value = true;
    this.showStory();
    this.settleLetters();
  }

  private storyRecord(record: LogRecord): void {
    batch(() => {
      const mine = record.author?.user === this.me.user;
      const data = asObject(record.data);
      const type = data?.['type'];
      if (mine && typeof data?.['id'] === 'string') this.outbox.arrived(data['id']);
      if (record.author && type === 'paragraph') {
        this.crowd.writing(record.author.user, false, 0);
        this.showPeople();
        if (!mine) this.announcer.say(`${record.author.name}: ${String(data?.['text'] ?? '')}`);
      }
      if (!mine && record.author && (type === 'edit' || type === 'remove')) {
        this.announcer.say(`${record.author.name} ${type === 'edit' ? 'edited' : 'removed'} a paragraph.`);
      }
      const before = this.count.value;
      this.showStory();
      this.settleLetters();
      if (!mine && this.count.value > before && !this.atEnd.value) this.below.value += 1;
    });
  }

  private showStory(): void {
    batch(() => {
      this.chunks.value = this.story.chunks;
      this.whole.value = this.story.whole;
      this.count.value = this.story.count;
      this.title.value = this.story.title;
      const running = [...this.story.running.values()];
      this.running.value = running.at(-1);
      this.narrator.follow(running);
    });
  }

  private showLetters(): void {
    this.letters.value = this.outbox.letters;
    const title = this.letters.value.find((letter) => letter.state === 'refused' && letter.data['type'] === 'title');
    if (title) {
      this.trouble.value = `The title was not changed: ${title.reason ?? 'the server did not take it'}.`;
      this.outbox.discard(title.key);
    }
    this.settleLetters();
  }

  /** Answered letters are done with as soon as their place in the log has been reached. */
  private settleLetters(): void {
    this.outbox?.reached(this.channel, this.story.newest);
    this.outbox?.reached(this.chatChannel, this.chat.newest);
  }

  // The chat.

  private chatOpened(): void {
    this.lines.value = this.chat.lines;
    this.settleLetters();
  }

  private chatRecord(record: LogRecord): void {
    batch(() => {
      const mine = record.author?.user === this.me.user;
      const before = this.lines.value.length;
      this.lines.value = this.chat.lines;
      this.settleLetters();
      const last = this.chat.lines.at(-1);
      if (mine || !last || this.chat.lines.length === before) return;
      if (!this.sees('chat')) this.unread.value += 1;
      this.announcer.say(`${last.author.name} in the chat: ${last.text}`);
    });
  }

  private sees(pane: Pane): boolean {
    const beside = matchMedia('(min-width: 821px)').matches;
    return document.visibilityState === 'visible' && (beside || this.pane.value === pane);
  }

  // The people.

  private followPeople(subscription: Subscription): void {
    subscription.on('join', ({ info }) => this.crowdChange(() => this.crowd.join(info.client, readAuthor(info))));
    subscription.on('leave', ({ info }) => this.crowdChange(() => this.crowd.leave(info.client)));
    subscription.on('subscribed', () => void this.askWhoIsHere(subscription));
  }

  /** Joins and leaves during the question are applied again after its answer, which may be older than they are. */
  private async askWhoIsHere(subscription: Subscription): Promise<void> {
    const changes: (() => void)[] = [];
    this.crowdChanges = changes;
    try {
      const { clients } = await subscription.presence();
      this.crowd.present(Object.entries(clients).map(([client, info]) => [client, readAuthor(info)]));
      for (const change of changes) change();
    } catch {
      // Who is here is shown as far as it is known.
    }
    if (this.crowdChanges === changes) this.crowdChanges = undefined;
    this.showPeople();
  }

  private crowdChange(change: () => void): void {
    this.crowdChanges?.push(change);
    change();
    this.showPeople();
    // Whoever comes now has not heard it.
    if (document.visibilityState === 'hidden') this.sayAway();
  }

  private followLive(client: Centrifuge): Subscription {
    const live = client.newSubscription(this.liveChannel);
    live.on('publication', ({ data, info }) => {
      const said = asObject(data);
      if (!info || !said || info.user === this.me.user) return;
      if (said['type'] === 'away') this.crowd.away(info.user, said['on'] === true);
      if (said['type'] === 'typing') {
        this.crowd.writing(info.user, said['on'] === true, Date.now());
        setTimeout(() => this.showPeople(), WRITING_MS + 50);
      }
      this.showPeople();
    });
    return live;
  }

  private showPeople(): void {
    this.people.value = this.crowd.list(Date.now());
  }

  /** How many paragraphs wait on this device, in words. */
  keptInWords(): string {
    const kept = this.paragraphs.value.filter((letter) => letter.state === 'waiting' || letter.state === 'sending').length;
    if (kept === 0) return '';
    return `${counted(kept, 'paragraph')} ${kept === 1 ? 'is' : 'are'} kept on this device and will be sent.`;
  }
}

function readEditing(kept: string | null): Editing | undefined {
  try {
    const editing = asObject(JSON.parse(kept ?? ''));
    const { of, text } = editing ?? {};
    return typeof of === 'number' && typeof text === 'string' ? { of, text } : undefined;
  } catch {
    return undefined;
  }
}
