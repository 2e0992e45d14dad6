// Every method of the HTTP API, seen from both sides: what the backend is answered, and what people see of it.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join as path } from 'node:path';
import { after, before, test } from 'node:test';
import { follow, join, sees } from '../support/people.mjs';
import { fresh, start, token, until } from '../support/server.mjs';
import { Wire } from '../support/wire.mjs';

let server;
const clients = [];
const person = async (user) => { const client = await join(server, user); clients.push(client); return client; };
const wire = async (user) => { const one = await Wire.join(server, user); clients.push({ disconnect: () => one.leave() }); return one; };
before(async () => { server = await start(); });
after(async () => { clients.forEach((client) => client.disconnect()); await server?.stop(); });

const result = async (method, body) => {
  const answer = await server.api(method, body);
  assert.ok(answer.result, `${method}: ${JSON.stringify(answer)}`);
  return answer.result;
};
const code = async (method, body) => (await server.api(method, body)).error?.code;
const bodies = async (channel) => (await result('history', { channel, limit: -1 })).publications.map(({ data }) => data);

test('broadcast: each channel is answered for itself, and a key makes each happen once', async () => {
  const [one, two, none] = [fresh('room:b-'), fresh('room:b-'), fresh('unheard-of:')];
  const ask = { channels: [one, none, two], data: { n: 1 }, idempotency_key: 'k' };
  const { responses } = await result('broadcast', ask);
  assert.deepEqual(responses.map(({ result: done, error }) => done?.offset ?? error.code), [1, 102, 1]);
  const { responses: again } = await result('broadcast', ask);
  assert.deepEqual(again.map(({ result: done }) => done?.duplicate), [true, undefined, true]);
  assert.deepEqual([await bodies(one), await bodies(two)], [[{ n: 1 }], [{ n: 1 }]]);
  assert.equal(await code('broadcast', { channels: [], data: 1 }), 107);
  assert.equal(await code('broadcast', { channels: Array(1001).fill(one), data: 1 }), 107);
});

test('batch: in order or all at once, each call answered in its place', async () => {
  const channel = fresh('room:batch-');
  for (const parallel of [false, true]) {
    const commands = [{ publish: { channel, data: 1 } }, { presence: {} }, { history: { channel, limit: 1 } }, { info: {} }];
    const { replies } = await result('batch', { commands, parallel });
    assert.deepEqual(replies.map((reply) => Object.keys(reply)[0]), ['publish', 'error', 'history', 'info']);
    assert.equal(replies[1].error.code, 107);
  }
  const many = Array.from({ length: 50 }, (_, n) => ({ publish: { channel: `${channel}-o`, data: n } }));
  await result('batch', { commands: many });
  assert.deepEqual(await bodies(`${channel}-o`), many.map((_, n) => n), 'one after the other keeps their order');
  assert.equal(await code('batch', { commands: [{ batch: { commands: [] } }] }), 107);
  assert.equal(await code('batch', { commands: [] }), 107);
});

test('subscribe: the push comes before the records, from where the backend says', async () => {
  const channel = fresh('room:s-');
  for (const n of [1, 2, 3]) await server.api('publish', { channel, data: n });
  const { epoch } = await result('history', { channel, limit: 0 });
  const anna = await wire('anna-placed');
  await result('subscribe', { user: 'anna-placed', channel, data: { why: 'invited' }, recover_since: { offset: 1, epoch } });
  await until(() => anna.pushed(channel).length === 2, 'the two records after the first');
  const pushes = anna.heard.filter(({ push }) => push?.channel === channel).map(({ push }) => Object.keys(push).find((key) => key !== 'channel'));
  assert.deepEqual(pushes.filter((kind) => kind !== 'join'), ['subscribe', 'pub', 'pub']);
  const { subscribe } = anna.heard.find(({ push }) => push?.subscribe).push;
  assert.deepEqual([subscribe.offset, subscribe.epoch, subscribe.data], [1, epoch, { why: 'invited' }]);
  assert.deepEqual(anna.pushed(channel).map(({ data }) => data), [2, 3]);
  assert.equal(await code('subscribe', { user: 'anna-placed', channel: 'fireside:runs' }), 103);
  assert.equal(await code('subscribe', { user: 'anna-placed', channel, info: {} }), 108);
});

test('subscribe: what no token allows holds until the backend ends it, whatever newer token comes', async () => {
  const channel = fresh('closed:s-');
  const anna = await wire('anna-kept');
  assert.equal((await anna.subscribe(channel)).error.code, 103);
  await result('subscribe', { user: 'anna-kept', channel });
  await result('subscribe', { user: 'anna-kept', channel }); // again: nothing changes
  assert.ok((await anna.ask({ refresh: { token: token({ sub: 'anna-kept' }) } })).refresh);
  await server.api('publish', { channel, data: 1 });
  await until(() => anna.pushed(channel).length === 1, 'what comes after the refresh');
  assert.equal(anna.pushed(channel, 'subscribe').length, 1);
  await result('unsubscribe', { user: 'anna-kept', channel });
  await until(() => anna.pushed(channel, 'unsubscribe').length === 1, 'the end of it');
});

test('subscribe: the unmodified SDK sees the subscription, its records and its end', async () => {
  const channel = fresh('closed:sdk-');
  const ben = await person('ben-placed');
  const told = { subscribed: [], publication: [], unsubscribed: [] };
  for (const [event, all] of Object.entries(told)) ben.on(event, (context) => all.push(context));
  await result('subscribe', { user: 'ben-placed', channel });
  await until(() => told.subscribed.length === 1, 'the SDK to hear of it');
  await server.api('publish', { channel, data: { n: 1 } });
  await until(() => told.publication.length === 1, 'its record');
  assert.deepEqual([told.publication[0].channel, told.publication[0].data], [channel, { n: 1 }]);
  await result('unsubscribe', { user: 'ben-placed', channel });
  await until(() => told.unsubscribed.length === 1, 'its end');
});

test('refresh: a session lives as long as its backend says', async () => {
  const now = Math.floor(Date.now() / 1000);
  const [short, over] = [await wire('cleo-short'), await wire('cleo-over')];
  await result('refresh', { user: 'cleo-short', expire_at: now + 3 });
  await until(async () => (await short.subscribe(fresh('room:late-'))).error?.code === 110, 'commands to be refused');
  await result('refresh', { user: 'cleo-over', expired: true });
  assert.equal((await over.closed).code, 3005);
  for (const expire_at of [undefined, now - 5, now + 10 * 86_400]) assert.equal(await code('refresh', { user: 'x', expire_at }), 107, `${expire_at}`);
});

test('disconnect: one session, all but some, with a code of the backend’s own', async () => {
  const [first, second, third] = [await wire('dora'), await wire('dora'), await wire('dora')];
  const disconnect = { code: 4321, reason: 'come back later' };
  await result('disconnect', { user: 'dora', client: first.hello.connect.client, disconnect });
  assert.deepEqual(await first.closed, disconnect);
  await result('disconnect', { user: 'dora', whitelist: [third.hello.connect.client] });
  assert.equal((await second.closed).code, 3503);
  assert.ok((await third.subscribe(fresh('room:'))).subscribe, 'the one that was spared lives on');
});

test('history_remove: the position stays, and nobody is told a wrong one', async () => {
  const channel = fresh('room:gone-');
  const seen = await follow(await person('emil'), channel);
  for (const n of [1, 2, 3]) await server.api('publish', { channel, data: n });
  await sees(seen, 3);
  await result('history_remove', { channel });
  const { publications, offset } = await result('history', { channel, limit: -1 });
  assert.deepEqual([publications, offset], [[], 3]);
  await server.api('publish', { channel, data: 4 });
  await sees(seen, 4);
  assert.deepEqual(seen.records.map(({ offset: at }) => at), [1, 2, 3, 4]);
});

test('erase: gone for every reader, told in its place, and after a compaction gone from the disk', async () => {
  const channel = fresh('room:erase-');
  const secret = `words that ${channel} must forget`;
  const onDisk = () => {
    const directory = path(server.dir, 'data', 'log');
    return readdirSync(directory).some((name) => readFileSync(path(directory, name)).includes(secret));
  };
  const seen = await follow(await person('fay'), channel);
  await server.api('publish', { channel, data: 'before' });
  await server.api('publish', { channel, data: secret, tags: { kind: 'letter' } });
  await server.api('publish', { channel, data: 'after' });
  await sees(seen, 3);
  const { offset, epoch } = await result('erase', { channel, offset: 2, reason: 'she asked for it', by: 'fay' });
  assert.equal(offset, 4);
  await sees(seen, 4);
  assert.deepEqual(seen.records[3].data, { type: 'erase', of: 2, reason: 'she asked for it', by: 'fay' });
  assert.equal(seen.records[3].tags.fireside, 'erase');
  const shown = async () => (await result('history', { channel, limit: -1 })).publications.map(({ data, tags, offset: at }) => [at, data?.type ?? data, tags?.fireside ?? tags?.kind]);
  const expected = [[1, 'before', undefined], [2, null, 'tombstone'], [3, 'after', undefined], [4, 'erase', 'erase']];
  assert.deepEqual(await shown(), expected);
  const late = await wire('late');
  const { subscribe } = await late.subscribe(channel, { recover: true, epoch, offset: 0 });
  assert.deepEqual(subscribe.publications.map(({ data }) => data?.type ?? data), ['before', null, 'after', 'erase']);
  assert.equal((await result('erase', { channel, offset: 2 })).offset, 4, 'asked for again, it is told no second time');
  assert.ok(onDisk(), 'a segment under way is not written anew for every erasure');
  await result('compact');
  assert.ok(!onDisk(), 'asked for, it is');
  await server.restart();
  assert.deepEqual(await shown(), expected);
  const refused = [await code('erase', { channel, offset: 99 }), await code('erase', { channel, offset: 4 }), await code('erase', { channel: fresh('live:'), offset: 1 })];
  assert.deepEqual(refused, [112, 107, 108]);
});

test('a limit beyond all bounds closes nothing', async () => {
  const channel = fresh('room:n-');
  assert.equal(await code('history', { channel, limit: 2 ** 40 }), 107);
  const gus = await wire('gus');
  await gus.subscribe(channel);
  assert.ok((await gus.ask({ history: { channel, limit: 2 ** 40 } })).history, 'a page at most, however much is asked for');
  assert.ok((await gus.ask({ history: { channel, limit: 1 } })).history);
});

test('with transport errors the status says it too', async () => {
  const call = (method, body) => fetch(`${server.url}/api/${method}`, {
    method: 'POST', body: JSON.stringify(body),
    headers: { 'Content-Type': 'application/json', 'X-API-Key': 'an-API-key-of-the-tests-and-of-nobody-else', 'X-Centrifugo-Error-Mode': 'transport' },
  });
  const statuses = [await call('publish', { channel: 'nowhere:1', data: 1 }), await call('publish', {}), await call('presence', { channel: fresh('live:') })];
  assert.deepEqual(statuses.map(({ status }) => status), [404, 400, 400]);
});
