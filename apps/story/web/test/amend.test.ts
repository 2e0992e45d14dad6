import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRemoved, textOf } from '../src/amend';
import { StoryLog, type Author, type Entry, type LogRecord } from '../src/story';

const MARA: Author = { user: 'mara', name: 'Mara', role: 'host' };
const TOBIAS: Author = { user: 'tobias', name: 'Tobias', role: 'writer' };
const ISOLDE: Author = { user: 'isolde', name: 'Isolde', role: 'writer' };

const record = (offset: number, author: Author | undefined, data: unknown): LogRecord => ({ offset, author, ofRun: author === undefined, data });
const paragraph = (offset: number, author = TOBIAS) => record(offset, author, { type: 'paragraph', id: `p${offset}`, text: `Paragraph ${offset}.` });
const edit = (offset: number, author: Author, of: unknown, text: unknown) => record(offset, author, { type: 'edit', of, text });
const remove = (offset: number, author: Author, of: number) => record(offset, author, { type: 'remove', of });
const entries = (story: StoryLog): Entry[] => story.chunks.flatMap((chunk) => [...chunk.entries]);
const texts = (story: StoryLog) => entries(story).map((entry) => (isRemoved(entry) ? undefined : textOf(entry)));

/** The log in every way in which the page may come to know it: all at once, by pages of a size, live from some record on. */
function everyWay(log: LogRecord[]): StoryLog[] {
  const ways = [];
  for (const size of [1, 2, 3, 100]) {
    for (let top = 0; top <= log.length; top += 1) {
      const story = new StoryLog();
      story.begin(top);
      for (const late of [false, true]) {
        // Older pages come before what is live, or after it.
        if (late) for (const live of log.slice(top)) assert.equal(story.live(live), 'taken');
        else if (top % 2) continue;
        for (let high = top; high > 0; high -= size) story.older(log.slice(Math.max(0, high - size), high).reverse(), false);
      }
      ways.push(story);
    }
  }
  return ways;
}

test('the latest change holds, whichever way the log was read', () => {
  const log = [
    paragraph(1),
    paragraph(2, ISOLDE),
    edit(3, TOBIAS, 1, 'First.'),
    remove(4, ISOLDE, 2),
    edit(5, MARA, 1, 'First, by a host.'),
    paragraph(6),
    remove(7, MARA, 6),
    edit(8, TOBIAS, 6, 'Back again.'),
  ];
  for (const story of everyWay(log)) assert.deepEqual(texts(story), ['First, by a host.', undefined, 'Back again.']);
  const [first, second] = entries(everyWay(log)[0]!);
  assert.equal(first?.amended?.by.user, 'mara');
  assert.deepEqual(second?.amended, { offset: 4, by: ISOLDE, text: 'Paragraph 2.', removed: true });
});

test('whoever is neither the author nor a host changes nothing', () => {
  const reader: Author = { ...TOBIAS, role: 'reader' };
  const log = [paragraph(1), edit(2, TOBIAS, 1, 'Mine.'), edit(3, ISOLDE, 1, 'Stolen.'), remove(4, ISOLDE, 1), remove(5, reader, 1)];
  for (const story of everyWay(log)) assert.deepEqual(texts(story), ['Mine.']);
});

test('what the narrator said is a host’s to change, also where its end came later', () => {
  const start = record(1, undefined, { type: 'run.start', run: 'a', by: 'tobias', model: 'narrator', epoch: '7' });
  const end = record(3, undefined, { type: 'run.end', run: 'a', status: 'complete', text: 'It blinked.' });
  const log = [start, edit(2, TOBIAS, 1, 'Not his.'), end, edit(4, MARA, 1, 'It blinked twice.')];
  for (const story of everyWay(log)) {
    assert.deepEqual(texts(story), ['It blinked twice.']);
    assert.equal(story.running.size, 0);
  }
});

test('what names no paragraph, or one to come, changes nothing', () => {
  const log = [record(1, MARA, { type: 'title', text: 'The Lamp' }), edit(2, MARA, 4, 'Too early.'), edit(3, MARA, 1, 'No paragraph.'), paragraph(4)];
  const bad = [edit(5, MARA, '4', 'x'), edit(6, MARA, 0, 'x'), edit(7, MARA, 4.5, 'x'), edit(8, MARA, 4, ' '), edit(9, MARA, 4, 7), edit(10, MARA, 99, 'x')];
  for (const story of everyWay([...log, ...bad])) assert.deepEqual(texts(story), ['Paragraph 4.']);
});
