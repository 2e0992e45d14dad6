// The HTTP API as a backend uses it, seen from both sides.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { follow, join, sees } from '../support/people.mjs';
import { API_KEY, fresh, start, until } from '../support/server.mjs';

let server;
const clients = [];
const person = async (user) => { const client = await join(server, user); clients.push(client); return client; };
before(async () => { server = await start(); });
after(async () => { clients.forEach((client) => client.disconnect()); await server?.stop(); });

test('no call without the key', async () => {
  for (const key of ['', 'wrong', API_KEY.slice(0, -1)]) {
    const answer = await server.api('info', {}, key);
    assert.equal(answer.status, 401, JSON.stringify(answer));
  }
});

test('publish answers a position and reaches subscribers; a key makes it once', async () => {
  const channel = fresh('room:api-');
  const seen = await follow(await person('anna'), channel);
  const { result: first } = await server.api('publish', { channel, data: { text: 'hello' }, idempotency_key: 'k1' });
  assert.equal(first.offset, 1);
  const { result: again } = await server.api('publish', { channel, data: { text: 'hello' }, idempotency_key: 'k1' });
  assert.deepEqual([again.offset, again.epoch], [first.offset, first.epoch]);
  assert.equal((await server.api('publish', { channel, data: { text: 'next' }, tags: { kind: 'test' } })).result.offset, 2);
  await sees(seen, 2);
  assert.deepEqual(seen.records.map(({ data, tags }) => [data.text, tags?.kind]), [['hello', undefined], ['next', 'test']]);
});

test('history: pages, backwards, and the position alone', async () => {
  const channel = fresh('room:api-');
  for (let n = 1; n <= 12; n++) await server.api('publish', { channel, data: { n } });
  const history = async (query) => (await server.api('history', { channel, ...query })).result;
  const numbers = ({ publications = [] }) => publications.map(({ data }) => data.n);
  const top = await history({ limit: 0 });
  assert.deepEqual([numbers(top), top.offset], [[], 12]);
  assert.deepEqual(numbers(await history({ limit: 5 })), [1, 2, 3, 4, 5]);
  assert.deepEqual(numbers(await history({ limit: 5, since: { offset: 5, epoch: top.epoch } })), [6, 7, 8, 9, 10]);
  assert.deepEqual(numbers(await history({ limit: 2, reverse: true })), [12, 11]);
  assert.equal(numbers(await history({ limit: -1 })).length, 12);
});

test('presence, presence_stats and channels tell who is where', async () => {
  const channel = fresh('room:api-');
  await Promise.all([follow(await person('anna'), channel), follow(await person('anna'), channel), follow(await person('ben'), channel)]);
  const { presence } = (await server.api('presence', { channel })).result;
  assert.deepEqual(Object.values(presence).map(({ user }) => user).sort(), ['anna', 'anna', 'ben']);
  assert.deepEqual((await server.api('presence_stats', { channel })).result, { num_clients: 3, num_users: 2 });
  assert.equal((await server.api('channels')).result.channels[channel].num_clients, 3);
});

test('info names the node', async () => {
  const { nodes } = (await server.api('info')).result;
  assert.equal(nodes.length, 1);
  assert.equal(typeof nodes[0].num_clients, 'number');
});

test('unsubscribe ends that subscription and leaves the session', async () => {
  const channel = fresh('room:api-');
  const anna = await person('anna-unsubscribed');
  const seen = await follow(anna, channel);
  const ended = new Promise((done) => seen.on('unsubscribed', done));
  assert.ok((await server.api('unsubscribe', { user: 'anna-unsubscribed', channel })).result);
  assert.equal((await ended).code, 2000);
  assert.equal(anna.state, 'connected');
});

test('disconnect ends every session of a user and of nobody else', async () => {
  const [first, second, ben] = [await person('anna-gone'), await person('anna-gone'), await person('ben')];
  const ended = [first, second].map((client) => new Promise((done) => client.on('disconnected', done)));
  assert.ok((await server.api('disconnect', { user: 'anna-gone' })).result);
  for (const { code } of await Promise.all(ended)) assert.ok(code >= 3500 && code < 4000, `a code that says not to come back: ${code}`);
  await until(async () => (await server.api('info')).result.nodes[0].num_clients >= 1, 'the others');
  assert.equal(ben.state, 'connected');
});

test('what is wrong is said by its code', async () => {
  const code = async (method, body) => (await server.api(method, body)).error?.code;
  assert.equal(await code('publish', { channel: fresh('unheard-of:'), data: {} }), 102);
  assert.equal(await code('publish', { data: {} }), 107);
  assert.equal(await code('publish', { channel: fresh('room:') }), 107);
  assert.equal(await code('presence', { channel: fresh('live:') }), 108);
  assert.equal(await code('history', { channel: fresh('live:') }), 108);
  assert.equal((await server.api('no_such_method')).status, 404);
  assert.equal((await fetch(`${server.url}/api/publish`, { headers: { 'X-API-Key': 'x' } })).status < 500, true);
});
