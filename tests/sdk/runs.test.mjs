// Runs as an unmodified SDK follows them, over the built-in narrator and over a scripted model behind real HTTP.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { follow, join, readAll, refusal } from '../support/people.mjs';
import { fresh, start, until } from '../support/server.mjs';

/** What the scripted model does, by the word that the channel's last record has. */
const SCRIPTS = {
  whole: async (say) => { for (const word of ['Once ', 'upon ', 'a ', 'time 🔥.']) await say(word); say.done(); },
  cut: async (say) => { await say('Half a'); say.cut(); },
  bare: async (say) => { await say('No reason'); say.end(); },
  endless: async (say) => { while (say.open()) await say('more '); },
};
const model = createServer((request, response) => {
  let body = '';
  request.on('data', (more) => { body += more; });
  request.on('end', () => {
    const script = Object.keys(SCRIPTS).find((name) => body.includes(`script ${name}`));
    if (!script) return response.writeHead(500).end();
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    const event = (choice) => response.write(`data: ${JSON.stringify({ choices: [{ index: 0, ...choice }] })}\n\n`);
    const say = async (content) => { event({ delta: { content } }); await new Promise((done) => setTimeout(done, 20)); };
    Object.assign(say, {
      open: () => !response.destroyed,
      done: () => { event({ delta: {}, finish_reason: 'stop' }); response.end('data: [DONE]\n\n'); },
      end: () => response.end(),
      cut: () => response.destroy(),
    });
    model.ongoing += 1;
    response.once('close', () => { model.ongoing -= 1; });
    SCRIPTS[script](say);
  });
});
model.ongoing = 0;

let server;
const clients = [];
before(async () => {
  await new Promise((done) => model.listen(0, '127.0.0.1', done));
  const kinds = { tale: 'narrator', story: 'scripted' };
  server = await start({ namespaces: `
[provider.narrator]
kind = "narrator"
[provider.scripted]
kind = "openai"
url = "http://127.0.0.1:${model.address().port}/v1"
model = "scripted"
${Object.entries(kinds).map(([name, provider]) => `[namespace.${name}]
history = { records = 10_000, bytes = "64 MiB", age = "1d" }
durability = "fsync"
recover = true
allow = { subscribe = "user", publish = "user", history = "subscriber" }
run = { provider = "${provider}" }`).join('\n')}` });
});
after(async () => {
  clients.forEach((client) => client.disconnect());
  await server?.stop();
  model.closeAllConnections();
  model.close();
});

const person = async (user, ...allow) => {
  const client = await join(server, user, { caps: [{ channels: ['tale:*', 'story:*'], allow }] });
  clients.push(client);
  return client;
};
const begin = async (client, channel, key, input = {}) => (await client.rpc('ai.start', { channel, key, input })).data;
const cancel = (client, channel, run) => client.rpc('ai.cancel', { channel, run, reason: 'enough' }).then(({ data }) => data);
const listen = (client, { channel, epoch }) => follow(client, channel, { since: { offset: 0, epoch } });
const over = (seen) => until(() => seen.records.find(({ data }) => data.type === 'run.end')?.data, 'run.end', 60_000);
const words = (seen) => seen.records.filter(({ data }) => data.type === 'run.delta').map(({ data }) => data.text).join('');

/** Has the scripted model do `script`, and gives back what its readers saw. */
async function scripted(script) {
  const channel = fresh('story:');
  const anna = await person('anna', 'ai.start', 'ai.cancel.own');
  const room = await follow(anna, channel);
  await room.publish({ type: 'paragraph', id: '1', text: `script ${script}` });
  const run = await begin(anna, channel, 'k');
  return { anna, channel, room, run, seen: await listen(anna, run) };
}

test('the narrator’s deltas add up to its end, for whoever came first and for whoever comes late', { timeout: 120_000 }, async () => {
  const channel = fresh('tale:');
  const anna = await person('anna', 'ai.start');
  const room = await follow(anna, channel);
  const run = await begin(anna, channel, 'k');
  assert.ok(run.channel.startsWith(`${channel}/run/`), run.channel);
  const first = await listen(anna, run);
  await until(() => first.records.length > 10, 'ten deltas');
  const late = await listen(await person('ben'), run);
  const { status, text } = await over(first);
  await over(late);
  assert.equal(status, 'complete');
  assert.ok(text.length > 0);
  assert.equal(words(first), text);
  assert.equal(words(late), text);
  let at = 0;
  for (const { data } of first.records.filter(({ data }) => data.type === 'run.delta' && data.part === 0)) {
    assert.equal(data.at, at, 'UTF-16 units, without a gap');
    at += data.text.length;
  }
  await until(() => room.records.length === 2, 'start and end in the channel');
  assert.deepEqual(room.records.map(({ data, tags }) => [data.type, data.run, tags?.fireside]), [['run.start', run.run, 'run'], ['run.end', run.run, 'run']]);
  assert.equal(room.records[1].data.text, text);
});

test('a start is once by its key; another is refused while one is active', async () => {
  const { anna, channel, run, room } = await scripted('endless');
  assert.equal((await begin(anna, channel, 'k')).run, run.run);
  await refusal(begin(anna, channel, 'another key'));
  await cancel(anna, channel, run.run);
  await until(() => room.records.some(({ data }) => data.type === 'run.end'), 'run.end');
  assert.equal(room.records.filter(({ data }) => data.type === 'run.start').length, 1);
});

test('a cancel ends it, at the model too; a late one does nothing', async () => {
  const { anna, channel, run, seen } = await scripted('endless');
  await until(() => words(seen).includes('more'), 'a first word');
  const ongoing = model.ongoing;
  await cancel(anna, channel, run.run);
  const { status, text } = await over(seen);
  assert.deepEqual([status, text], ['cancelled', words(seen)]);
  await until(() => model.ongoing < ongoing, 'the request to the model to be dropped');
  await cancel(anna, channel, run.run);
});

test('who may not, may not start and not stop', async () => {
  const { anna, channel, run } = await scripted('endless');
  const [ben, eve] = [await person('ben', 'ai.start', 'ai.cancel.own'), await person('eve')];
  assert.equal((await refusal(cancel(ben, channel, run.run))).code, 103);
  assert.equal((await refusal(cancel(eve, channel, run.run))).code, 103);
  assert.equal((await refusal(begin(eve, fresh('story:'), 'k'))).code, 103);
  await cancel(await person('host', 'ai.cancel.any'), channel, run.run);
  await until(async () => (await readAll(anna, channel)).records.some(({ data }) => data.type === 'run.end'), 'run.end');
});

test('a model’s stream that ends well is complete, and one without a finish is interrupted, its text kept', async () => {
  for (const [script, status, text] of [['whole', 'complete', 'Once upon a time 🔥.'], ['bare', 'interrupted', 'No reason'], ['cut', 'interrupted', 'Half a']]) {
    const { seen } = await scripted(script);
    const end = await over(seen);
    assert.deepEqual([end.status, end.text, words(seen)], [status, text, text], script);
  }
});

test('a model that refuses ends the run as an error', async () => {
  const { seen } = await scripted('nothing that it knows');
  assert.equal((await over(seen)).status, 'error');
});

test('kill -9 in mid-run: at the next start it is over as interrupted, once, its text kept', { timeout: 60_000 }, async () => {
  const { anna, channel, seen, run } = await scripted('endless');
  await until(() => words(seen).length > 20, 'some words');
  const before = words(seen);
  await server.restart();
  const end = await over(seen);
  assert.equal(end.status, 'interrupted');
  assert.ok(end.text.startsWith(before) && end.text === words(seen), 'what was seen is kept, and no more was invented');
  await anna.ready(15_000);
  const log = (await readAll(anna, channel)).records.map(({ data }) => data).filter(({ run: of }) => of === run.run);
  assert.deepEqual(log.map(({ type }) => type), ['run.start', 'run.end']);
});
