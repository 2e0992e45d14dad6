// Two people and the narrator write one story in two browsers; reloads and kill -9 lose nothing and double nothing.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { enter, launch, live, story, write } from '../support/browser.mjs';
import { follow, readAll } from '../support/people.mjs';
import { startDemo, until } from '../support/server.mjs';

const DELTAS_MIN = 300;
const BEFORE_THE_CUT = 40; // deltas of a run that are seen before something is done to it

let server, browser, anna, ben, reader, records, room;
const runs = new Map(); // run -> its records, as a plain SDK subscriber sees them
const written = []; // every paragraph that somebody added

before(async () => {
  server = await startDemo();
  browser = await launch();
}, { timeout: 60_000 });
after(async () => {
  reader?.disconnect();
  await browser?.close();
  await server?.stop();
});

const say = (page, text) => { written.push(text); return write(page, text); };
const deltas = (run) => (runs.get(run)?.records ?? []).filter(({ data }) => data.type === 'run.delta');
const of = (type) => records.records.filter(({ data }) => data.type === type).map(({ data }) => data);
const settled = (page) => until(async () => {
  const shown = await story(page);
  return shown.length >= written.length + of('run.start').length && shown.every(([, , , state]) => state === 'sent' || state === 'ended');
}, 'the page to have everything, settled', 60_000);

/** Presses "go on" and gives back the new run, once `count` of its deltas have been seen. */
async function narrate(page, count) {
  const known = of('run.start').length;
  await page.getByTestId('narrator-go').click();
  const { run } = await until(() => of('run.start')[known], 'run.start');
  await until(() => deltas(run).length >= count || ending(run), `${count} deltas`, 60_000);
  assert.ok(deltas(run).length >= count, `the run ended after ${deltas(run).length} deltas, before anything could be done to it`);
  return run;
}
const ending = (run) => of('run.end').find((end) => end.run === run);

test('two people join by the printed invitation link', { timeout: 60_000 }, async () => {
  // Where the demo prints several links, the host's is the first.
  anna = await enter(browser, server.links[0], 'Anna');
  ben = await enter(browser, server.links.at(-1), 'Ben');
  for (const page of [anna, ben]) await until(async () => /Anna/.test(await page.getByTestId('people').textContent()) && /Ben/.test(await page.getByTestId('people').textContent()), 'both among the people');

  // A third, without a page: an unmodified SDK on the story and on each of its runs.
  const link = new URL(server.links.at(-1));
  const answer = await fetch(`${server.url}/story-api/join`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ invite: new URLSearchParams(link.hash.slice(1)).get('invite'), name: 'Reader' }),
  });
  const member = await answer.json();
  room = `story:${member.story}`;
  reader = new Centrifuge(server.ws, { token: member.token, websocket: WebSocket });
  reader.connect();
  await reader.ready(15_000);
  records = await follow(reader, room);
  records.on('publication', ({ data }) => {
    if (data.type === 'run.start') follow(reader, `${room}/run/${data.run}`, { since: { offset: 0, epoch: data.epoch } }).then((seen) => runs.set(data.run, seen));
  });
});

test('they write at once, and each sees the other', { timeout: 60_000 }, async () => {
  await Promise.all([anna, ben].map(async (page, who) => { for (let n = 1; n <= 5; n++) await say(page, `${who ? 'Ben' : 'Anna'} writes ${n}.`); }));
  await Promise.all([settled(anna), settled(ben)]);
});

test('a typing person is named to the other', { timeout: 60_000 }, async () => {
  await ben.getByTestId('composer').pressSequentially('I am about to');
  await until(async () => /Ben/.test(await anna.getByTestId('typing').textContent()), 'Ben as typing');
  await ben.getByTestId('composer').fill('');
});

test('the narrator streams; one reloads in mid-stream, both go on writing', { timeout: 180_000 }, async () => {
  const run = await narrate(anna, BEFORE_THE_CUT);
  assert.ok(!ending(run), 'the run ended before the reload');
  await ben.reload();
  await live(ben);
  await until(async () => (await story(ben)).some(([id, , text]) => id === run && text.length > 0), 'the run on the reloaded page');
  await Promise.all([say(anna, 'Anna writes into the stream.'), say(ben, 'Ben writes into the stream.')]);
  await until(() => ending(run), 'the end of the run', 120_000);
  assert.equal(ending(run).status, 'complete');
  await Promise.all([settled(anna), settled(ben)]);
});

test('a stopped narrator stops, for both', { timeout: 60_000 }, async () => {
  const run = await narrate(anna, 5);
  await anna.getByTestId('narrator-stop').click();
  await until(() => ending(run), 'the end of the run', 60_000);
  assert.equal(ending(run).status, 'cancelled');
  await Promise.all([settled(anna), settled(ben)]);
});

test('kill -9 while idle: what is written meanwhile is kept and sent once', { timeout: 90_000 }, async () => {
  await server.kill();
  await Promise.all([say(anna, 'Anna writes into the dark.'), say(ben, 'Ben writes into the dark.')]);
  await until(async () => (await story(anna)).at(-1)[3] === 'pending', 'a pending paragraph');
  await server.run();
  await Promise.all([live(anna), live(ben)]);
  await Promise.all([settled(anna), settled(ben)]);
});

test('kill -9 while a run streams: it ends as interrupted, its partial text kept', { timeout: 120_000 }, async () => {
  const run = await narrate(ben, BEFORE_THE_CUT);
  assert.ok(!ending(run), 'the run ended before the kill');
  const seen = deltas(run).map(({ data }) => data.text).join('');
  await server.kill();
  await server.run();
  await until(() => ending(run), 'the end of the run', 60_000);
  assert.equal(ending(run).status, 'interrupted');
  assert.ok(ending(run).text.startsWith(seen), 'what was shown is kept');
  await Promise.all([live(anna), live(ben)]);
  await Promise.all([say(anna, 'Anna goes on.'), say(ben, 'Ben goes on.')]);
  await Promise.all([settled(anna), settled(ben)]);
});

test(`at least ${DELTAS_MIN} deltas came as separate records, and add up to what each run ended with`, { timeout: 180_000 }, async () => {
  const total = () => [...runs.keys()].reduce((sum, run) => sum + deltas(run).length, 0);
  while (total() < DELTAS_MIN) {
    const run = await narrate(anna, 1);
    await until(() => ending(run), 'the end of the run', 120_000);
  }
  for (const [run, { records: own }] of runs) {
    await until(() => own.at(-1)?.data.type === 'run.end', `the end of the log of ${run}`);
    assert.deepEqual(own.map(({ offset }) => offset), own.map((_, index) => index + 1), 'each record once');
    const text = deltas(run).filter(({ data }) => data.kind === 'text').map(({ data }) => data.text).join('');
    assert.equal(text, ending(run).text);
  }
  await Promise.all([settled(anna), settled(ben)]);
});

test('both pages end with the identical story, which is the log’s, nothing lost or doubled', { timeout: 60_000 }, async () => {
  const { records: log } = await readAll(reader, room);
  const ends = new Map(log.filter(({ data }) => data.type === 'run.end').map(({ data }) => [data.run, data.text]));
  const expected = log.flatMap(({ data, info }) => {
    if (data.type === 'paragraph') return [[data.id, info.user, data.text]];
    return data.type === 'run.start' ? [[data.run, 'narrator', ends.get(data.run)]] : [];
  });
  for (const page of [anna, ben]) assert.deepEqual((await story(page)).map((paragraph) => paragraph.slice(0, 3)), expected);
  assert.equal(new Set(expected.map(([id]) => id)).size, expected.length);
  assert.deepEqual(expected.filter(([, author]) => author !== 'narrator').map(([, , text]) => text).sort(), [...written].sort());
  await anna.reload();
  await live(anna);
  await until(async () => (await story(anna)).length === expected.length, 'the reloaded story');
  assert.deepEqual((await story(anna)).map((paragraph) => paragraph.slice(0, 3)), expected);
  assert.deepEqual([anna.complaints, ben.complaints], [[], []]);
});
