// Tag filters: a reader is shown the records whose tags fit, in order, once, and its position stays true.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { follow, join, sees } from '../support/people.mjs';
import { fresh, start, until } from '../support/server.mjs';

let server;
const clients = [];
const person = async (user) => { const client = await join(server, user); clients.push(client); return client; };
/** Publishes n = from..to, of which every third is about ice and the others about snow. */
const say = async (channel, from, to) => {
  for (let n = from; n <= to; n++) {
    const tags = { about: n % 3 === 0 ? 'ice' : 'snow', n: String(n) };
    assert.ok((await server.api('publish', { channel, data: { n }, tags })).result, `publish ${n}`);
  }
};
const ICE = { key: 'about', cmp: 'eq', val: 'ice' };
const ice = (to) => Array.from({ length: Math.floor(to / 3) }, (_, at) => 3 * (at + 1));
const numbers = (seen) => seen.records.map(({ data }) => data.n);
before(async () => { server = await start(); });
after(async () => { clients.forEach((client) => client.disconnect()); await server?.stop(); });

/** Why a subscription with this filter ends. */
async function ending(channel, tagsFilter) {
  const subscription = (await person('eve')).newSubscription(channel, { tagsFilter });
  const ended = new Promise((done) => { subscription.on('unsubscribed', done); });
  subscription.subscribe();
  return (await ended).code;
}

test('only what fits is shown, with the offsets that it has', async () => {
  const channel = fresh('room:filter-');
  const some = await follow(await person('anna'), channel, { tagsFilter: ICE });
  const whole = await follow(await person('ben'), channel);
  await say(channel, 1, 30);
  await Promise.all([sees(some, 10), sees(whole, 30)]);
  assert.deepEqual(numbers(some), ice(30));
  assert.deepEqual(some.records.map(({ offset }) => offset), ice(30));
  assert.equal(whole.records.length, 30);
});

test('nodes are joined: and, or, not, numbers', async () => {
  const channel = fresh('room:filter-nodes-');
  const between = { op: 'and', nodes: [{ key: 'n', cmp: 'gte', val: '10' }, { key: 'n', cmp: 'lt', val: '20' }] };
  const tagsFilter = { op: 'and', nodes: [between, { op: 'or', nodes: [{ op: 'not', nodes: [ICE] }, { key: 'n', cmp: 'in', vals: ['12', '15'] }] }] };
  const seen = await follow(await person('anna'), channel, { tagsFilter });
  await say(channel, 1, 25);
  await sees(seen, 9);
  assert.deepEqual(numbers(seen), [10, 11, 12, 13, 14, 15, 16, 17, 19]);
});

for (const missed of [2, 60, 900]) {
  test(`of ${missed} records missed over a kill -9 those that fit are recovered, once`, async () => {
    const channel = fresh('room:filter-killed-');
    const client = await person('anna');
    const seen = await follow(client, channel, { tagsFilter: ICE });
    await say(channel, 1, 10);
    await sees(seen, 3);
    client.disconnect();
    await say(channel, 11, 10 + missed);
    await server.restart();
    client.connect();
    await until(() => seen.starts.length > 1, 'the subscription to come back');
    await say(channel, 11 + missed, 20 + missed);
    await sees(seen, ice(20 + missed).length);
    assert.deepEqual(numbers(seen), ice(20 + missed));
    assert.equal(seen.starts.at(-1).recovered, true);
  });
}

test('a filter is refused where there are none, and one that is none everywhere', async () => {
  assert.equal(await ending(fresh('swift:'), ICE), 108);
  assert.equal(await ending(fresh('room:'), { key: 'about', cmp: 'like', val: 'ice' }), 107);
  assert.equal(await ending(fresh('room:'), { op: 'and', nodes: [] }), 107);
});
