// What an unmodified npm `centrifuge` sees of channels: publications, history, presence, joins and leaves.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { follow, join, readAll, refusal, sees } from '../support/people.mjs';
import { fresh, start, until } from '../support/server.mjs';

let server;
const clients = [];
const person = async (user, claims) => { const client = await join(server, user, claims); clients.push(client); return client; };
before(async () => { server = await start(); });
after(async () => { clients.forEach((client) => client.disconnect()); await server?.stop(); });

test('a publication reaches every subscriber, in one order, with its author', async () => {
  const channel = fresh('room:order-');
  const [anna, ben] = [await person('anna', { info: { name: 'Anna' } }), await person('ben')];
  const [annas, bens] = [await follow(anna, channel), await follow(ben, channel)];
  for (let n = 0; n < 50; n++) await Promise.all([annas.publish({ n, by: 'anna' }), bens.publish({ n, by: 'ben' })]);
  await Promise.all([sees(annas, 100), sees(bens, 100)]);
  const told = (seen) => seen.records.map(({ offset, data }) => [offset, data.by, data.n]);
  assert.deepEqual(told(annas), told(bens));
  assert.deepEqual(annas.records.map((record) => record.offset), Array.from({ length: 100 }, (_, index) => index + 1));
  for (const { data, info } of bens.records) assert.equal(info.user, data.by);
  assert.deepEqual(bens.records.find(({ data }) => data.by === 'anna').info.connInfo, { name: 'Anna' });
  for (const by of ['anna', 'ben']) {
    assert.deepEqual(annas.records.filter(({ data }) => data.by === by).map(({ data }) => data.n), Array.from({ length: 50 }, (_, n) => n));
  }
});

test('a publication waits for no subscription of its author', async () => {
  const channel = fresh('room:outside-');
  const reader = await follow(await person('reader'), channel);
  await (await person('writer')).publish(channel, { text: 'from outside' });
  await sees(reader, 1);
  assert.deepEqual(reader.records[0].data, { text: 'from outside' });
});

test('a body comes back as it was sent', async () => {
  const channel = fresh('room:bodies-');
  const bodies = [{ text: 'Zürich – 東京 – 🔥 \u0000 "quoted" \\ \n' }, 'a string', 42, [1, [2, {}]], true, { deep: { deeper: [null, 1.5] } }, {}];
  const seen = await follow(await person('anna'), channel);
  for (const body of bodies) await seen.publish(body);
  await sees(seen, bodies.length);
  assert.deepEqual(seen.records.map(({ data }) => data), bodies);
  assert.deepEqual((await seen.history({ limit: 100 })).publications.map(({ data }) => data), bodies);
});

test('a channel without history carries publications and has no positions', async () => {
  const channel = fresh('live:');
  const seen = await follow(await person('anna'), channel);
  await (await person('ben')).publish(channel, { typing: true });
  await sees(seen, 1);
  assert.equal(seen.records[0].offset ?? 0, 0);
  assert.equal(seen.starts[0].recoverable, false);
  assert.equal((await refusal(seen.history({ limit: 1 }))).code, 108);
});

test('history is read by pages, forwards and backwards, and by position only', async () => {
  const channel = fresh('room:history-');
  const client = await person('anna');
  const seen = await follow(client, channel);
  for (let n = 1; n <= 25; n++) await seen.publish({ n });
  const numbers = (page) => page.publications.map(({ data }) => data.n);
  const top = await seen.history({ limit: 0 });
  assert.deepEqual([numbers(top), top.offset], [[], 25]);

  assert.deepEqual(numbers(await seen.history({ limit: 10 })), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.deepEqual(numbers(await seen.history({ limit: 3, since: { offset: 10, epoch: top.epoch } })), [11, 12, 13]);
  assert.deepEqual(numbers(await seen.history({ limit: 10, since: { offset: 25, epoch: top.epoch } })), []);
  assert.deepEqual(numbers(await seen.history({ limit: 3, reverse: true })), [25, 24, 23]);
  assert.deepEqual(numbers(await seen.history({ limit: 3, reverse: true, since: { offset: 10, epoch: top.epoch } })), [9, 8, 7]);
  const { records, offset } = await readAll(client, channel, 7);
  assert.deepEqual([records.map(({ data }) => data.n), offset], [Array.from({ length: 25 }, (_, n) => n + 1), 25]);
});

test('history of another life of the log is refused as such', async () => {
  const seen = await follow(await person('anna'), fresh('room:epoch-'));
  await seen.publish({ n: 1 });
  assert.equal((await refusal(seen.history({ limit: 10, since: { offset: 1, epoch: 'no-such-epoch' } }))).code, 112);
});

test('a publish, then history, in one breath: the history has the publish', async () => {
  const seen = await follow(await person('anna'), fresh('room:breath-'));
  const asked = [];
  for (let n = 1; n <= 20; n++) asked.push(seen.publish({ n }));
  const history = seen.history({ limit: 100 });
  await Promise.all(asked);
  assert.equal((await history).publications.length, 20);
});

test('presence has every session, presence_stats counts users apart: two sessions of one user', async () => {
  const channel = fresh('room:presence-');
  const [first, second, ben] = [await person('anna', { info: { name: 'Anna' } }), await person('anna'), await person('ben')];
  const [seen] = [await follow(first, channel), await follow(second, channel), await follow(ben, channel)];
  const { clients: members } = await seen.presence();
  assert.deepEqual(Object.values(members).map(({ user }) => user).sort(), ['anna', 'anna', 'ben']);
  assert.equal(Object.entries(members).every(([id, info]) => info.client === id), true);
  assert.deepEqual(Object.values(members).find(({ connInfo }) => connInfo)?.connInfo, { name: 'Anna' });
  assert.deepEqual(await seen.presenceStats(), { numClients: 3, numUsers: 2 });

  second.disconnect();
  await until(async () => (await seen.presenceStats()).numClients === 2, 'the second session to leave');
  assert.deepEqual(await seen.presenceStats(), { numClients: 2, numUsers: 2 });
});

test('two sessions of one user both see what either writes', async () => {
  const channel = fresh('room:twice-');
  const [desk, phone] = [await person('anna'), await person('anna')];
  const [desks, phones] = [await follow(desk, channel), await follow(phone, channel)];
  await desks.publish({ from: 'desk' });
  await phones.publish({ from: 'phone' });
  await Promise.all([sees(desks, 2), sees(phones, 2)]);
  assert.deepEqual(desks.records.map(({ data }) => data.from), ['desk', 'phone']);
  assert.notEqual(desks.records[0].info.client, desks.records[1].info.client);
});

test('joins and leaves are told to whoever asked, the joiner included', async () => {
  const channel = fresh('room:joins-');
  const anna = await follow(await person('anna'), channel, { joinLeave: true });
  const silent = await follow(await person('carl'), channel);
  const ben = await person('ben');
  const bens = await follow(ben, channel, { joinLeave: true });
  await until(() => anna.joins.some(({ user }) => user === 'ben') && bens.joins.some(({ user }) => user === 'ben'), 'the join of ben');
  assert.ok(anna.joins.some(({ user }) => user === 'anna'), 'anna is told of her own join');
  bens.unsubscribe();
  await until(() => anna.leaves.some(({ user }) => user === 'ben'), 'the leave of ben');
  (await follow(await person('dora'), channel)).unsubscribe();
  await until(() => anna.leaves.some(({ user }) => user === 'dora'), 'the leave of dora');
  assert.deepEqual([silent.joins, silent.leaves], [[], []]);
});

test('fireside.publish answers a position, and once is once, on either session of a user', async () => {
  const channel = fresh('room:keys-');
  const [desk, phone] = [await person('anna'), await person('anna')];
  const seen = await follow(desk, channel);
  const publish = (client, body) => client.rpc('fireside.publish', { channel, ...body }).then(({ data }) => data);
  const first = await publish(desk, { data: { text: 'once' }, key: 'k1' });
  assert.equal(first.offset, 1);
  assert.equal(first.duplicate, false);
  assert.deepEqual(await publish(desk, { data: { text: 'once' }, key: 'k1' }), { ...first, duplicate: true });
  assert.deepEqual(await publish(phone, { data: { text: 'once' }, key: 'k1' }), { ...first, duplicate: true });
  await refusal(publish(desk, { data: { text: 'another body' }, key: 'k1' }));
  assert.equal((await publish(await person('ben'), { data: { text: 'once' }, key: 'k1' })).offset, 2, 'a key is its producer’s own');
  assert.equal((await publish(desk, { data: { text: 'no key' } })).offset, 3);
  await sees(seen, 3);
  assert.deepEqual((await readAll(desk, channel)).records.map(({ data }) => data.text), ['once', 'once', 'no key']);
});

test('fireside.publish with an expected position compares and sets', async () => {
  const channel = fresh('room:expected-');
  const client = await person('anna');
  await follow(client, channel);
  const publish = (body) => client.rpc('fireside.publish', { channel, ...body }).then(({ data }) => data);
  const first = await publish({ data: { n: 1 } });
  const second = await publish({ data: { n: 2 }, expected: { epoch: first.epoch, offset: first.offset } });
  assert.equal(second.offset, 2);
  await refusal(publish({ data: { n: 'late' }, expected: { epoch: first.epoch, offset: first.offset } }));
  assert.deepEqual((await readAll(client, channel)).records.map(({ data }) => data.n), [1, 2]);
});

test('of conflated publications a fresh reader misses none that is the latest', async () => {
  const channel = fresh('live:typing-');
  const client = await person('anna');
  const seen = await follow(await person('ben'), channel);
  for (let n = 1; n <= 30; n++) await client.rpc('fireside.publish', { channel, data: { n }, conflate: 'typing' });
  await until(() => seen.records.at(-1)?.data.n === 30, 'the latest');
  const numbers = seen.records.map(({ data }) => data.n);
  assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b));
});
