// Nothing is lost and nothing doubled: restarts, long absences, trimmed histories, through the SDK's own recovery.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { follow, join, readAll, sees } from '../support/people.mjs';
import { fresh, start, until } from '../support/server.mjs';

let server;
const clients = [];
const person = async (user) => { const client = await join(server, user); clients.push(client); return client; };
const say = async (channel, from, to) => {
  for (let n = from; n <= to; n++) assert.ok((await server.api('publish', { channel, data: { n } })).result, `publish ${n}`);
};
const numbers = (seen) => seen.records.map(({ data }) => data.n);
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
before(async () => { server = await start(); });
after(async () => { clients.forEach((client) => client.disconnect()); await server?.stop(); });

test('kill -9 and a restart: a subscriber sees what was before, meanwhile and after, once', async () => {
  const channel = fresh('room:killed-');
  const client = await person('anna');
  const seen = await follow(client, channel);
  await say(channel, 1, 20);
  await sees(seen, 20);
  await server.restart();
  await say(channel, 21, 60);
  await sees(seen, 60);
  assert.deepEqual(numbers(seen), range(1, 60));
  assert.deepEqual(seen.records.map(({ offset }) => offset), range(1, 60));
  const again = seen.starts.at(-1);
  assert.deepEqual([seen.starts.length > 1, again.wasRecovering, again.recovered], [true, true, true]);
  assert.equal(again.streamPosition?.epoch, seen.starts[0].streamPosition?.epoch);
});

test('an empty channel stays the same channel over a kill -9', async () => {
  const channel = fresh('room:empty-');
  const seen = await follow(await person('anna'), channel);
  await server.restart();
  await until(() => seen.starts.length > 1, 'the subscription to come back');
  await say(channel, 1, 3);
  await sees(seen, 3);
  assert.deepEqual(numbers(seen), [1, 2, 3]);
  assert.ok(seen.starts.slice(1).every(({ recovered }) => recovered), 'no false loss is told');
});

for (const missed of [1, 299, 300, 301, 1500]) {
  test(`${missed} records missed while away are recovered, in order, once`, async () => {
    const channel = fresh('room:away-');
    const client = await person('anna');
    const seen = await follow(client, channel);
    await say(channel, 1, 5);
    await sees(seen, 5);
    client.disconnect();
    await say(channel, 6, 5 + missed);
    client.connect();
    await until(() => seen.starts.length > 1, 'the subscription to come back');
    await say(channel, 6 + missed, 8 + missed);
    await sees(seen, 8 + missed);
    assert.deepEqual(numbers(seen), range(1, 8 + missed));
    assert.deepEqual([seen.starts.at(-1).wasRecovering, seen.starts.at(-1).recovered], [true, true]);
  });
}

test('a first subscribe from a known position is a recovery as well', async () => {
  const channel = fresh('room:since-');
  await say(channel, 1, 400);
  const { result } = await server.api('history', { channel, limit: 0 });
  const seen = await follow(await person('anna'), channel, { since: { epoch: result.epoch, offset: 10 } });
  await sees(seen, 390);
  assert.deepEqual(numbers(seen), range(11, 400));
});

test('records keep coming while a reader catches up: no gap and no double where the two meet', async () => {
  const channel = fresh('room:meet-');
  const client = await person('anna');
  const seen = await follow(client, channel);
  await say(channel, 1, 1);
  await sees(seen, 1);
  client.disconnect();
  await say(channel, 2, 600);
  const goingOn = say(channel, 601, 900);
  client.connect();
  await goingOn;
  await sees(seen, 900);
  assert.deepEqual(numbers(seen), range(1, 900));
});

test('a position that was trimmed is told, and following goes on from the newest', async () => {
  const channel = fresh('short:');
  const client = await person('anna');
  const seen = await follow(client, channel);
  await say(channel, 1, 5);
  await sees(seen, 5);
  client.disconnect();
  await say(channel, 6, 60);
  client.connect();
  await until(() => seen.starts.length > 1, 'the subscription to come back');
  assert.deepEqual([seen.starts[1].wasRecovering, seen.starts[1].recovered, seen.starts[1].streamPosition?.offset], [true, false, 60]);
  await say(channel, 61, 62);
  await sees(seen, 7);
  assert.deepEqual(numbers(seen), [1, 2, 3, 4, 5, 61, 62]);
});

test('an `os` namespace survives a kill -9 of the process', async () => {
  const channel = fresh('swift:');
  const client = await person('anna');
  const seen = await follow(client, channel);
  await say(channel, 1, 50);
  await server.restart();
  await say(channel, 51, 52);
  await sees(seen, 52);
  assert.deepEqual(numbers(seen), range(1, 52));
  assert.ok(seen.starts.at(-1).recovered);
});

test('a memory namespace forgets with its process, and says so', async () => {
  const channel = fresh('fleeting:');
  const client = await person('anna');
  const seen = await follow(client, channel);
  await say(channel, 1, 5);
  await sees(seen, 5);
  await server.restart();
  await until(() => seen.starts.length > 1, 'the subscription to come back');
  assert.equal(seen.starts.at(-1).recovered, false);
  assert.notEqual(seen.starts.at(-1).streamPosition?.epoch, seen.starts[0].streamPosition?.epoch);
  await say(channel, 6, 6);
  await sees(seen, 6);
  assert.deepEqual((await readAll(client, channel)).records.map(({ data }) => data.n), [6]);
});

test('keys survive a kill -9: a retry after it is a duplicate', async () => {
  const channel = fresh('room:retry-');
  const client = await person('anna');
  const publish = () => client.rpc('fireside.publish', { channel, data: { text: 'once' }, key: 'k' }).then(({ data }) => data);
  const first = await publish();
  await server.restart();
  await client.ready(15_000);
  assert.deepEqual(await publish(), { ...first, duplicate: true });
});
