import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StoryLog, type Author, type Entry, type LogRecord } from '../src/story';

const MARA: Author = { user: 'mara', name: 'Mara', role: 'host' };
const TOBIAS: Author = { user: 'tobias', name: 'Tobias', role: 'writer' };

const paragraph = (offset: number, author = MARA): LogRecord => ({
  offset,
  author,
  ofRun: false,
  data: { type: 'paragraph', id: `p${offset}`, text: `Paragraph ${offset}.` },
});
const start = (offset: number, run: string): LogRecord => ({
  offset,
  author: undefined,
  ofRun: true,
  data: { type: 'run.start', run, by: 'tobias', model: 'narrator', epoch: '7' },
});
const end = (offset: number, run: string, status = 'complete'): LogRecord => ({
  offset,
  author: undefined,
  ofRun: true,
  data: { type: 'run.end', run, status, text: `Said by ${run}.`, parts: 1, usage: {} },
});
const title = (offset: number, author: Author, text: string): LogRecord => ({ offset, author, ofRun: false, data: { type: 'title', text } });
const entries = (story: StoryLog): Entry[] => story.chunks.flatMap((chunk) => [...chunk.entries]);
const offsets = (story: StoryLog) => entries(story).map((entry) => entry.offset);

/** Loads a log as the page does: the newest page, then older ones, `size` records at a time. */
function load(log: LogRecord[], top: number, size: number): StoryLog {
  const story = new StoryLog();
  story.begin(top);
  for (let high = top; high > 0; high -= size) {
    story.older(log.slice(Math.max(0, high - size), high).reverse(), false);
  }
  return story;
}

test('pages of any size and live records give one story, in the order of the log', () => {
  const log = [title(1, MARA, 'The Lamp'), paragraph(2), start(3, 'a'), paragraph(4, TOBIAS), end(5, 'a'), start(6, 'b'), end(7, 'b', 'cancelled')];
  for (let count = 8; count <= 240; count += 1) log.push(paragraph(count, count % 3 ? MARA : TOBIAS));
  const whole = JSON.stringify(entries(load(log, 240, 240)));
  for (const size of [1, 7, 50, 100]) {
    assert.equal(JSON.stringify(entries(load(log, 240, size))), whole, `pages of ${size}`);
  }
  for (const top of [0, 3, 5, 120]) {
    const story = load(log, top, 50);
    for (const record of log.slice(top)) assert.equal(story.live(record), 'taken');
    assert.equal(JSON.stringify(entries(story)), whole, `live from ${top}`);
    assert.equal(story.title?.text, 'The Lamp');
    assert.equal(story.count, entries(story).length);
  }
});

test('what is known changes nothing, and a gap is told', () => {
  const story = load([paragraph(1), paragraph(2)], 2, 10);
  const { chunks } = story;
  assert.equal(story.live(paragraph(2)), 'known');
  story.older([paragraph(2), paragraph(1)], false);
  assert.equal(story.live(paragraph(4)), 'gap');
  assert.equal(story.chunks, chunks);
  assert.equal(story.live(paragraph(3)), 'taken');
  assert.deepEqual(offsets(story), [1, 2, 3]);
});

test('a run stands where it began, streams while it is open, and ends once', () => {
  const story = load([paragraph(1), start(2, 'a')], 2, 10);
  assert.deepEqual([...story.running.keys()], ['a']);
  story.live(paragraph(3, TOBIAS));
  story.end('a', 'interrupted', 'Said so f');
  assert.equal(story.running.size, 0);
  story.live(end(4, 'a', 'interrupted'));
  assert.deepEqual(
    entries(story).map((entry) => (entry.kind === 'run' ? [entry.run, entry.status, entry.text] : entry.offset)),
    [1, ['a', 'interrupted', 'Said by a.'], 3],
  );
});

test('an ending that both logs tell is told once, and the story’s own log has the last word', () => {
  const story = new StoryLog();
  story.begin(6);
  story.older([paragraph(6)], false);
  story.live(start(7, 'a'));
  story.end('a', 'complete', 'Said by');
  story.live(end(8, 'a'));
  story.older([paragraph(5)], false);
  story.older([], true);
  assert.deepEqual(
    entries(story).map((entry) => (entry.kind === 'run' ? entry.text : entry.offset)),
    [5, 6, 'Said by a.'],
  );
});

test('an ending whose start is further back waits for it, and stands alone if the log holds it no more', () => {
  const story = new StoryLog();
  story.begin(20);
  story.older([paragraph(20), end(19, 'old'), paragraph(18)], false);
  assert.deepEqual(offsets(story), [18, 20]);
  story.older([start(17, 'old')], false);
  assert.deepEqual(offsets(story), [17, 18, 20]);
  assert.equal(story.running.size, 0);
  story.older([end(16, 'gone')], false);
  story.older([], true);
  assert.deepEqual(offsets(story), [16, 17, 18, 20]);
  assert.ok(story.whole);
});

test('only the server speaks of runs, and only a host names the story', () => {
  const story = load([paragraph(1)], 1, 10);
  const forged: LogRecord = { offset: 2, author: TOBIAS, ofRun: false, data: { type: 'run.start', run: 'x', epoch: '1' } };
  story.live(forged);
  story.live(title(3, TOBIAS, 'Mine now'));
  assert.equal(story.running.size, 0);
  const named = () => story.title;
  assert.equal(named(), undefined);
  story.live(title(4, MARA, ' The Lamp '));
  assert.deepEqual(named(), { text: 'The Lamp', offset: 4 });
  story.older([title(0, MARA, 'Older')], false);
  assert.equal(story.title?.text, 'The Lamp');
});

test('malformed records are passed over', () => {
  const story = load([paragraph(1)], 1, 10);
  const bodies = [null, 'text', [], {}, { type: 'paragraph' }, { type: 'paragraph', text: 7 }, { type: 'paragraph', text: '' }, { type: 'title', text: {} }];
  bodies.forEach((data, index) => story.live({ offset: index + 2, author: MARA, ofRun: false, data }));
  story.live({ offset: bodies.length + 2, author: undefined, ofRun: true, data: { type: 'run.start' } });
  story.live(paragraph(bodies.length + 3));
  assert.deepEqual(offsets(story), [1, bodies.length + 3]);
});

test('a new record changes one chunk only', () => {
  const log = Array.from({ length: 500 }, (_, index) => paragraph(index + 1));
  const story = load(log, 500, 100);
  const before = story.chunks.map((chunk) => chunk.entries);
  story.live(paragraph(501));
  const changed = story.chunks.filter((chunk, index) => chunk.entries !== before[index]);
  assert.equal(changed.length, 1);
});
