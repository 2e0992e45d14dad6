import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Announcer } from '../src/announce';
import { ChatLog } from '../src/chat';
import { Colours, People, WRITING_MS } from '../src/people';
import type { Author } from '../src/story';
import { endingInWords, initials, isPassing, nameList, refusalInWords, typingInWords } from '../src/words';

const MARA: Author = { user: 'mara', name: 'Mara', role: 'host' };
const ISOLDE: Author = { user: 'isolde', name: 'Isolde', role: 'writer' };

test('a person with two windows is one person, here until both are closed', () => {
  const people = new People();
  people.present([['1', ISOLDE], ['2', ISOLDE], ['3', MARA]]);
  assert.deepEqual(people.list(0).map(({ name }) => name), ['Mara', 'Isolde']);
  people.leave('1');
  assert.equal(people.list(0).length, 2);
  people.leave('2');
  assert.deepEqual(people.list(0).map(({ name }) => name), ['Mara']);
});

test('writing ends by itself, and whoever writes is not away', () => {
  const people = new People();
  people.present([['1', ISOLDE]]);
  people.away('isolde', true);
  people.writing('isolde', true, 1_000);
  assert.deepEqual(people.list(1_001).map(({ writing, away }) => [writing, away]), [[true, false]]);
  assert.deepEqual(people.list(1_000 + WRITING_MS).map(({ writing, away }) => [writing, away]), [[false, true]]);
  people.leave('1');
  people.join('2', ISOLDE);
  assert.equal(people.list(0)[0]?.away, false, 'who comes back is not away');
});

test('few people never share a colour, and a person keeps theirs', () => {
  const colours = new Colours();
  const users = ['a', 'g', 'm', 's', 'y', 'zz'];
  const given = users.map((user) => colours.of(user));
  assert.equal(new Set(given).size, 6);
  assert.deepEqual(users.map((user) => colours.of(user)), given);
  assert.ok(colours.of('a seventh') < 6);
});

test('the chat takes lines in order and nothing else', () => {
  const chat = new ChatLog();
  chat.begin(2);
  const line = (offset: number, data: unknown) => ({ offset, data, author: MARA, ofRun: false });
  chat.older([line(2, { type: 'say', text: 'two' }), line(1, { type: 'paragraph', text: 'one' })]);
  assert.equal(chat.live(line(3, { type: 'say', text: 'three' })), 'taken');
  assert.equal(chat.live(line(3, { type: 'say', text: 'three' })), 'known');
  assert.equal(chat.live(line(5, { type: 'say', text: 'five' })), 'gap');
  assert.deepEqual(chat.lines.map(({ text }) => text), ['two', 'three']);
});

test('streamed text is said by the sentence', () => {
  const announcer = new Announcer();
  const said: string[] = [];
  announcer.spoken.subscribe(({ text }) => text && said.push(text));
  for (const letter of 'Nine was the number. “Who is it?” she asked. And th') announcer.stream(letter);
  announcer.rest();
  assert.deepEqual(said, ['Nine was the number.', '“Who is it?”', 'she asked.', 'And th']);
});

test('words', () => {
  assert.equal(nameList(['Mara', 'Tobias', 'Isolde']), 'Mara, Tobias and Isolde');
  assert.equal(nameList(['a', 'b', 'c', 'd']), 'a, b, c and 1 other');
  assert.equal(typingInWords(['Mara', 'Tobias']), 'Mara and Tobias are writing');
  assert.equal(typingInWords([]), '');
  assert.equal(initials('Mara of the Pass'), 'MO');
  assert.equal(initials('Isolde'), 'IS');
  assert.equal(initials('🔥'), '🔥');
  assert.equal(endingInWords('complete'), undefined);
  assert.ok(endingInWords('interrupted')?.includes('interrupted'));
});

test('what passes is tried again, what does not is said in plain words', () => {
  for (const problem of [{ code: 1, message: 'timeout' }, { code: 100, message: 'internal', temporary: true }, { code: 109, message: 'expired' }]) {
    assert.ok(isPassing(problem));
  }
  assert.ok(!isPassing({ code: 103, message: 'permission denied' }));
  assert.equal(refusalInWords({ code: 103, message: 'permission denied' }), 'you may not write in this story');
  const schema = JSON.stringify([{ path: '/text', keyword: 'maxLength', message: 'longer than 4000' }]);
  assert.equal(refusalInWords({ code: 107, message: schema }), 'it is longer than this story allows');
  assert.equal(refusalInWords({ code: 107, message: 'bad request' }), 'it is not shaped as this story asks');
});
