import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileName, toMarkdown } from '../src/export';
import type { Author, Entry } from '../src/story';

const MARA: Author = { user: 'mara', name: 'Mara', role: 'host' };
const TOBIAS: Author = { user: 'tobias', name: 'To_bias*', role: 'writer' };

const paragraph = (text: string, author = MARA): Entry => ({ kind: 'paragraph', offset: 1, id: 'p', author, text, amended: undefined });
const run = (text: string): Entry => ({ kind: 'run', offset: 2, run: 'a', by: 'mara', model: '', epoch: '', status: 'complete', text, amended: undefined });
const body = (text: string) => toMarkdown('T', [paragraph(text)]).split('\n\n').slice(2).join('\n\n');

test('a story is its title, its authors and its text as it stands', () => {
  const edited: Entry = { ...paragraph('It blnked.'), amended: { offset: 5, by: MARA, text: 'It blinked.', removed: false } };
  const removed: Entry = { ...paragraph('Never mind.', { ...MARA, user: 'x', name: 'X' }), amended: { offset: 6, by: MARA, text: 'Never mind.', removed: true } };
  assert.equal(
    toMarkdown('The *Lamp*', [edited, removed, paragraph('Edda saw it.', TOBIAS), run('She counted.')]),
    '# The \\*Lamp\\*\n\n*By Mara, To\\_bias\\* and the narrator (AI)*\n\nIt blinked.\n\nEdda saw it.\n\nShe counted.\n',
  );
  assert.equal(toMarkdown('', []), '# A story\n');
});

test('what would be markup is text', () => {
  assert.equal(body('# no heading'), '\\# no heading\n');
  assert.equal(body('- no list\n+ nor this\n12. nor this\n3) nor this\n=== ---'), '\\- no list\\\n\\+ nor this\\\n12\\. nor this\\\n3\\) nor this\\\n\\=== ---\n');
  assert.equal(body('> <b>a</b> & [b](c) `d` _e_ ~f~ \\g'), '\\> \\<b\\>a\\</b\\> \\& \\[b\\](c) \\`d\\` \\_e\\_ \\~f\\~ \\\\g\n');
  assert.equal(body('It was 12.5 degrees - in 1890.'), 'It was 12.5 degrees - in 1890.\n');
});

test('lines and empty lines are kept, and no line becomes code', () => {
  assert.equal(body('One\n  two\r\n\r\n \n      three'), 'One\\\ntwo\n\nthree\n');
});

test('the file is named after the title, in its own letters', () => {
  assert.equal(fileName('The Lamp at Hollow Pass!'), 'the-lamp-at-hollow-pass.md');
  assert.equal(fileName('../Лампа: 9'), 'лампа-9.md');
  assert.equal(fileName('…'), 'story.md');
});
