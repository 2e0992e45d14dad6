// Records as patches of those before them (Fossil deltas): a reader that takes them sees what any other reader sees.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { follow, join, sees } from '../support/people.mjs';
import { fresh, start, until } from '../support/server.mjs';

let server;
const clients = [];
const person = async (user) => { const client = await join(server, user); clients.push(client); return client; };
/** A body that is much like the one before it. */
const body = (n) => ({ text: `${'Once upon a time there was a fire 🔥 by the sea. '.repeat(8)}${'é'.repeat(n % 7)}`, n });
const say = async (channel, from, to) => {
  for (let n = from; n <= to; n++) assert.ok((await server.api('publish', { channel, data: body(n) })).result, `publish ${n}`);
};
const bodies = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => body(from + index));
const told = (seen) => seen.records.map(({ data }) => data);
before(async () => { server = await start(); });
after(async () => { clients.forEach((client) => client.disconnect()); await server?.stop(); });

test('the first record comes whole, the others as patches, and all say the same', async () => {
  const channel = fresh('room:delta-');
  const anna = await follow(await person('anna'), channel, { delta: 'fossil' });
  await say(channel, 1, 10);
  await sees(anna, 10);
  const ben = await follow(await person('ben'), channel, { delta: 'fossil' });
  const whole = await follow(await person('carl'), channel);
  await say(channel, 11, 30);
  await Promise.all([sees(anna, 30), sees(ben, 20), sees(whole, 20)]);
  assert.deepEqual(told(anna), bodies(1, 30));
  assert.deepEqual(told(ben), bodies(11, 30));
  assert.deepEqual(told(whole), bodies(11, 30));
  const { numFullPayloads, numDeltaPayloads } = anna.deltaStats();
  assert.deepEqual([numFullPayloads, numDeltaPayloads], [1, 29]);
  assert.equal(ben.deltaStats().numFullPayloads, 1);
});

test('many publishes at once are patches within their batch', async () => {
  const channel = fresh('room:delta-burst-');
  const anna = await follow(await person('anna'), channel, { delta: 'fossil' });
  const ben = await follow(await person('ben'), channel, { delta: 'fossil' });
  await Promise.all(Array.from({ length: 60 }, (_, n) => ben.publish(body(n + 1))));
  await Promise.all([sees(anna, 60), sees(ben, 60)]);
  assert.deepEqual(told(anna), bodies(1, 60));
  assert.deepEqual(told(ben), bodies(1, 60));
  assert.ok(anna.deltaStats().numDeltaPayloads > 50);
});

test('bodies that are not alike, and short ones, come whole', async () => {
  const channel = fresh('room:delta-unlike-');
  const anna = await follow(await person('anna'), channel, { delta: 'fossil' });
  const unlike = [1, 'two', null, { three: 3 }, ['"', '\\', '\n', '\u0000'], 'x'.repeat(5_000), 'x'.repeat(5_001)];
  for (const data of unlike) await anna.publish(data);
  await sees(anna, unlike.length);
  assert.deepEqual(told(anna), unlike);
  assert.equal(anna.deltaStats().numDeltaPayloads, 1);
});

for (const missed of [1, 20, 700]) {
  test(`${missed} records missed over a kill -9 are recovered as patches, in order, once`, async () => {
    const channel = fresh('room:delta-killed-');
    const client = await person('anna');
    const anna = await follow(client, channel, { delta: 'fossil' });
    await say(channel, 1, 5);
    await sees(anna, 5);
    client.disconnect();
    await say(channel, 6, 5 + missed);
    await server.restart();
    client.connect();
    await until(() => anna.starts.length > 1, 'the subscription to come back');
    await say(channel, 6 + missed, 8 + missed);
    await sees(anna, 8 + missed);
    assert.deepEqual(told(anna), bodies(1, 8 + missed));
    assert.deepEqual(anna.records.map(({ offset }) => offset), Array.from({ length: 8 + missed }, (_, n) => n + 1));
    assert.equal(anna.starts.at(-1).recovered, true);
    assert.ok(anna.deltaStats().numDeltaPayloads > (missed === 1 ? 0 : missed * 0.6));
  });
}

test('where no deltas are offered a reader that would take them gets whole records', async () => {
  const channel = fresh('swift:');
  const anna = await follow(await person('anna'), channel, { delta: 'fossil' });
  await say(channel, 1, 3);
  await sees(anna, 3);
  assert.deepEqual(told(anna), bodies(1, 3));
  assert.equal(anna.deltaStats().numDeltaPayloads, 0);
});
