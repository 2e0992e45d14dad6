import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunText, readDelta, type RunDelta } from '../src/run-text';

const TEXT = 'Nine was the number 🔥 for a stranger on the road. Edda — née Réka — set the kettle back.';

function deltas(text: string, size: number): RunDelta[] {
  const list: RunDelta[] = [];
  let at = 0;
  let piece = '';
  for (const letter of text) {
    piece += letter;
    if (piece.length < size) continue;
    list.push({ part: 0, kind: 'text', at, text: piece });
    at += piece.length;
    piece = '';
  }
  if (piece !== '') list.push({ part: 0, kind: 'text', at, text: piece });
  return list;
}

/** Joins each stretch of `count` deltas into one, as the server does for a slow reader. */
function merged(list: RunDelta[], count: number): RunDelta[] {
  const out: RunDelta[] = [];
  for (let i = 0; i < list.length; i += count) {
    const stretch = list.slice(i, i + count);
    out.push({ ...stretch[0]!, text: stretch.map((delta) => delta.text).join('') });
  }
  return out;
}

test('every way of cutting and merging gives the same text, and appending is all a reader has to do', () => {
  for (const size of [1, 3, 8]) {
    for (const count of [1, 2, 7]) {
      const run = new RunText();
      let shown = '';
      for (const delta of merged(deltas(TEXT, size), count)) {
        const change = run.delta(delta);
        assert.equal(change.type, 'append');
        if (change.type === 'append') shown += change.text;
      }
      assert.equal(run.text, TEXT);
      assert.equal(shown, TEXT);
    }
  }
});

test('duplicates and overlaps change nothing twice', () => {
  const run = new RunText();
  for (const delta of deltas(TEXT, 3)) {
    run.delta(delta);
    assert.deepEqual(run.delta(delta), { type: 'none' });
  }
  for (const delta of merged(deltas(TEXT, 3), 5)) assert.deepEqual(run.delta(delta), { type: 'none' });
  assert.deepEqual(run.delta({ part: 0, kind: 'text', at: TEXT.length - 4, text: `${TEXT.slice(-4)} Then` }), { type: 'append', text: ' Then' });
  assert.equal(run.text, `${TEXT} Then`);
});

test('a gap is told and changes nothing', () => {
  const run = new RunText();
  const [first, , third] = deltas(TEXT, 5);
  run.delta(first!);
  assert.deepEqual(run.delta(third!), { type: 'gap' });
  assert.deepEqual(run.delta({ part: 2, kind: 'text', at: 0, text: 'x' }), { type: 'gap' });
  assert.deepEqual(new RunText().delta({ part: 0, kind: 'text', at: 3, text: 'x' }), { type: 'gap' });
  assert.equal(run.text, first!.text);
});

test('only prose is shown, and a part before the last one is shown anew', () => {
  const run = new RunText();
  assert.deepEqual(run.delta({ part: 0, kind: 'reasoning', at: 0, text: 'what does nine mean?' }), { type: 'none' });
  assert.deepEqual(run.delta({ part: 1, kind: 'text', at: 0, text: 'Nine' }), { type: 'append', text: 'Nine' });
  assert.deepEqual(run.delta({ part: 2, kind: 'text', at: 0, text: ' was' }), { type: 'append', text: ' was' });
  assert.deepEqual(run.delta({ part: 1, kind: 'text', at: 4, text: '!' }), { type: 'rewrite' });
  assert.equal(run.text, 'Nine! was');
});

test('a reset takes back, and what comes after goes on from there', () => {
  const run = new RunText();
  run.delta({ part: 0, kind: 'text', at: 0, text: 'Nine was the' });
  run.delta({ part: 1, kind: 'text', at: 0, text: ' number' });
  assert.deepEqual(run.reset(0, 5), { type: 'rewrite' });
  assert.equal(run.text, 'Nine ');
  assert.deepEqual(run.delta({ part: 0, kind: 'text', at: 5, text: 'is' }), { type: 'append', text: 'is' });
  assert.deepEqual(run.reset(0, 0), { type: 'rewrite' });
  assert.equal(run.text, '');
  assert.deepEqual(run.delta({ part: 0, kind: 'text', at: 0, text: 'Ten' }), { type: 'append', text: 'Ten' });
});

test('what is not shaped like a delta is none', () => {
  assert.equal(readDelta({ part: -1, at: 0, text: 'x' }), undefined);
  assert.equal(readDelta({ part: 0, at: 1.5, text: 'x' }), undefined);
  assert.equal(readDelta({ part: 0, at: 0 }), undefined);
  assert.deepEqual(readDelta({ text: 'x' }), { part: 0, kind: 'text', at: 0, text: 'x' });
});
