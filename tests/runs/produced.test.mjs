// Runs that an application's backend writes over the HTTP API, as unmodified SDK clients follow them.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { follow, join, refusal } from '../support/people.mjs';
import { fresh, start, until } from '../support/server.mjs';

const LEASE_MS = 2_000;
let server;
const clients = [];
before(async () => {
  server = await start({ namespaces: `
[namespace.story]
history = { records = 10_000, bytes = "64 MiB", age = "1d" }
durability = "fsync"
recover = true
allow = { subscribe = "user", publish = "user", history = "subscriber" }
run = { lease = "${LEASE_MS} ms", text_bytes_max = "16 KiB" }` });
});
after(async () => {
  clients.forEach((client) => client.disconnect());
  await server?.stop();
});

const person = async (user, ...allow) => {
  const client = await join(server, user, { caps: [{ channels: ['story:*'], allow }] });
  clients.push(client);
  return client;
};
/** One call that has to succeed: its result. */
const call = async (method, body) => {
  const { result, error } = await server.api(method, body);
  assert.ok(result, `${method}: ${JSON.stringify(error)}`);
  return result;
};
const refused = async (method, body) => (await server.api(method, body)).error ?? assert.fail(`${method} was not refused`);
const begin = async (channel, key = 'k', more = {}) => ({ ...await call('run_start', { channel, key, by: 'anna', ...more }), room: channel });
const say = ({ room: channel, run }, at, text, part = 0) => call('run_append', { channel, run, deltas: [{ part, at, text }] });
const end = ({ room: channel, run }, status = 'complete', more = {}) => call('run_end', { channel, run, status, ...more });
const get = ({ room: channel, run }) => call('run_get', { channel, run });
const listen = (client, { channel, epoch }) => follow(client, channel, { since: { offset: 0, epoch } });
const over = (seen, ms) => until(() => seen.records.find(({ data }) => data.type === 'run.end')?.data, 'run.end', ms);
const words = (seen) => seen.records.filter(({ data }) => data.type === 'run.delta').map(({ data }) => data.text).join('');

test('everybody reads the same, whoever came first and whoever comes late, and the room has one start and one end', async () => {
  const channel = fresh('story:');
  const anna = await person('anna');
  const room = await follow(anna, channel);
  const run = await begin(channel, 'k', { model: 'ours', input: { ask: 'a story' } });
  assert.equal(run.lease_ms, LEASE_MS);
  const first = await listen(anna, run);
  let at = 0;
  for (const word of ['Once ', 'upon ', 'a ', 'time ', '👩‍🚀.']) {
    ({ at } = await say(run, at, word));
    assert.equal((await say(run, at - word.length, word)).at, at, 'tried again without effect');
  }
  const late = await listen(await person('ben'), run);
  const usage = { input: 12, output: 5 };
  assert.deepEqual(await end(run, 'complete', { usage }), { status: 'complete' });
  for (const seen of [first, late]) {
    const { status, text, usage: cost } = await over(seen);
    assert.deepEqual([status, text, words(seen), cost], ['complete', 'Once upon a time 👩‍🚀.', text, usage]);
  }
  await until(() => room.records.length === 2, 'start and end in the room');
  const [{ data: started, tags }, { data: ended }] = room.records;
  assert.deepEqual([started.type, started.by, started.model, tags.fireside], ['run.start', 'anna', 'ours', 'run']);
  assert.deepEqual([ended.type, ended.text], ['run.end', 'Once upon a time 👩‍🚀.']);
  const { status, text, parts } = await get(run);
  assert.deepEqual([status, text, parts.length], ['complete', 'Once upon a time 👩‍🚀.', 1]);
});

test('a start is once by its key; what differs is refused', async () => {
  const channel = fresh('story:');
  const run = await begin(channel, 'k', { input: 1 });
  const again = await begin(channel, 'k', { input: 1 });
  assert.deepEqual([again.run, again.epoch, again.duplicate], [run.run, run.epoch, true]);
  assert.equal((await refused('run_start', { channel, key: 'k', input: 2 })).code, 409);
  assert.equal((await refused('run_start', { channel, key: 'another' })).code, 409, 'one is active');
  await end(run);
  assert.deepEqual(await end(run, 'error'), { status: 'complete', duplicate: true });
});

test('a gap, a contradiction and half a character are refused with the place where the text ends', async () => {
  const run = await begin(fresh('story:'));
  await say(run, 0, 'a🔥');
  const append = (deltas, more) => ({ channel: run.room, run: run.run, deltas, ...more });
  for (const [body, code] of [
    [append([{ part: 0, at: 4, text: 'gap' }]), 409],
    [append([{ part: 0, at: 0, text: 'b' }]), 409],
    [append([{ part: 0, at: 3, text: 'fits' }, { part: 2, at: 0, text: 'does not' }]), 409],
    [append([{ part: 0, at: 2, text: 'b' }]), 107],
    [append([], { reset: { part: 0, to: 2 } }), 107],
  ]) {
    const error = await refused('run_append', body);
    assert.deepEqual([error.code, error.detail], [code, { part: 0, at: 3 }], error.message);
  }
  for (const text of ['"\\ud83d"', '5', 'null']) {
    const raw = `{"channel":"${run.room}","run":"${run.run}","deltas":[{"part":0,"at":3,"text":${text}}]}`;
    assert.equal((await refused('run_append', JSON.parse(raw))).code, 107, text);
  }
  const { at } = await call('run_append', append([{ part: 0, at: 1, text: 'bc' }], { reset: { part: 0, to: 1 } }));
  assert.equal(at, 3);
  await end(run);
  assert.equal((await get(run)).text, 'abc');
});

test('a cancel by whoever it was begun for ends it, and the backend learns who and why', async () => {
  const channel = fresh('story:');
  const [anna, ben] = [await person('anna', 'ai.cancel.own'), await person('ben', 'ai.cancel.own')];
  const room = await follow(anna, channel);
  const run = await begin(channel);
  await say(run, 0, 'Once');
  assert.equal((await refusal(ben.rpc('ai.cancel', { channel, run: run.run }))).code, 103);
  assert.deepEqual((await anna.rpc('ai.cancel', { channel, run: run.run, reason: 'enough' })).data, { status: 'cancelled' });
  const { data } = await until(() => room.records[1], 'run.end');
  assert.deepEqual([data.status, data.text, data.by, data.reason], ['cancelled', 'Once', 'anna', 'enough']);
  const told = await say(run, 4, ' upon');
  assert.deepEqual([told.at, told.cancelled], [4, { by: 'anna', reason: 'enough' }]);
  assert.equal((await end(run)).status, 'cancelled');
});

test('a backend stops a run by its id or its key, before it begins too', async () => {
  const run = await begin(fresh('story:'));
  assert.deepEqual(await call('run_cancel', { channel: run.room, key: 'k', by: 'host' }), { status: 'cancelled' });
  assert.deepEqual((await say(run, 0, 'x')).cancelled, { by: 'host' });
  assert.deepEqual(await call('run_cancel', { channel: run.room, run: run.run }), { status: 'ended' });
  const channel = fresh('story:');
  assert.deepEqual(await call('run_cancel', { channel, key: 'k', reason: 'no' }), { status: 'remembered' });
  const late = await begin(channel);
  assert.deepEqual((await say(late, 0, 'x')).cancelled, { reason: 'no' });
});

test('a run at its bound ends as budget', async () => {
  const run = await begin(fresh('story:'));
  await say(run, 0, 'x'.repeat(16 * 1024 - 1));
  const error = await refused('run_append', { channel: run.room, run: run.run, deltas: [{ part: 0, at: 16 * 1024 - 1, text: 'yz' }] });
  assert.deepEqual([error.code, error.detail.status], [106, 'budget']);
  const { status, text } = await get(run);
  assert.deepEqual([status, text.length, text.at(-1)], ['budget', 16 * 1024, 'y']);
});

test('a backend killed in the middle leaves a run that ends as interrupted, its text kept', async () => {
  const channel = fresh('story:');
  const room = await follow(await person('anna'), channel);
  const backend = fork(new URL('backend.mjs', import.meta.url), [server.url, channel]);
  await until(async () => {
    const { data } = room.records[0] ?? {};
    return data && (await get({ room: channel, run: data.run })).text.includes('word word');
  }, 'two words');
  process.kill(backend.pid, 'SIGKILL');
  await once(backend, 'exit');
  const { data } = await until(() => room.records[1], 'run.end', 3 * LEASE_MS);
  assert.equal(data.status, 'interrupted');
  assert.match(data.text, /^(word )+$/);
  const error = await refused('run_append', { channel, run: data.run, deltas: [] });
  assert.deepEqual([error.code, error.detail], [108, { status: 'interrupted' }]);
});

test('a server killed in the middle takes the run up again with its backend, and ends it without', async () => {
  const anna = await person('anna');
  const [kept, left] = [await begin(fresh('story:')), await begin(fresh('story:'))];
  const seen = await listen(anna, kept);
  for (const run of [kept, left]) await say(run, 0, 'Once');
  await server.restart();
  assert.equal((await get(kept)).status, 'open');
  assert.equal((await say(kept, 0, 'Once upon a time')).at, 16);
  await end(kept);
  const { status, text } = await over(seen);
  assert.deepEqual([status, text, words(seen)], ['complete', 'Once upon a time', text]);
  await until(async () => (await get(left)).status === 'interrupted', 'the other to end', 3 * LEASE_MS);
  const { publications } = await call('history', { channel: left.room, limit: 10 });
  const ends = publications.filter(({ data }) => data.type === 'run.end');
  assert.deepEqual(ends.map(({ data }) => [data.status, data.text]), [['interrupted', 'Once']]);
});

test('a server stopped in order leaves the run to its next life', async () => {
  const run = await begin(fresh('story:'));
  await say(run, 0, 'Once');
  process.kill(server.pid, 'SIGTERM');
  await server.ended;
  await server.run();
  assert.equal((await say(run, 4, ' upon')).at, 9);
  assert.deepEqual(await end(run), { status: 'complete' });
});

test('only a backend writes runs, and only where there are any', async () => {
  const { status } = await server.api('run_start', { channel: fresh('story:'), key: 'k' }, 'a wrong key');
  assert.equal(status, 401);
  assert.equal((await refused('run_start', { channel: 'none:1', key: 'k' })).code, 102);
  assert.equal((await refused('run_append', { channel: fresh('story:'), run: '0123' })).code, 102);
  const anna = await person('anna', 'ai.start');
  const { code, message } = await refusal(anna.rpc('ai.start', { channel: fresh('story:'), key: 'k' }));
  assert.deepEqual([code, message], [108, 'no provider is configured for runs here']);
});
