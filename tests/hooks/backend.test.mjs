// What clients see of a backend that is asked: while it answers, and while it hangs, fails, lies, is slow, is gone, and is back.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { Backend, HOOK_SECRET, isSigned, no, yes } from '../support/backend.mjs';
import { ROOT, fresh, start, until } from '../support/server.mjs';
import { Wire } from '../support/wire.mjs';

const TIMEOUT_MS = 400;
const hook = (name, url) => `
[hook.${name}]
url = "${url}"
timeout = "${TIMEOUT_MS}ms"
secret = "${HOOK_SECRET}"
`;
const NAMESPACES = (url) => `
${['connect', 'refresh', 'subscribe', 'sub_refresh', 'rpc', 'prompt', 'publish'].map((name) => hook(name, url)).join('')}
concurrency = 3
[namespace.story]
history = { records = 1000, age = "1d" }
allow = { subscribe = "user", publish = "user", history = "user", presence = "user" }
presence = true
run = { provider = "small", system = "Be brief." }
hooks = ["subscribe", "sub_refresh", "publish", "prompt"]
schema = { type = "object", required = ["text"] }
[provider.small]
kind = "narrator"
[provider.large]
kind = "narrator"
[namespace.free]
allow = { subscribe = "user", publish = "user" }
`;

const backend = new Backend();
let server;
const wires = [];
before(async () => { await backend.up(); server = await start({ session: 'commands_per_second = 10000', namespaces: NAMESPACES(backend.url) }); });
afterEach(settled);
after(async () => { wires.forEach((wire) => wire.leave()); await server?.stop(); await backend.down(); });

/** The backend says yes, and every circuit that was opened is closed again by a probe. */
async function settled() {
  backend.behave = () => yes();
  await until(async () => {
    const probe = await person('probe');
    const channel = fresh('story:');
    return !probe.hello.error && !(await probe.subscribe(channel)).error && !(await probe.publish(channel, { text: '' })).error;
  }, 'the circuits to close');
  backend.asked.length = 0;
}

async function person(user, options) {
  const wire = await Wire.join(server, user, options);
  wires.push(wire);
  return wire;
}

/** In a word: what a reply says. */
function saw(reply, done) {
  if (reply.closed) return `closed ${reply.closed.code}`;
  if (!reply.error) return done;
  return `${reply.error.code}${reply.error.temporary ? ', temporary' : ''}`;
}

test('questions bear what was asked and by whom, signed', async () => {
  backend.behave = ({ hook }) => yes(hook === 'connect' ? { meta: { plan: 'free' }, info: { name: 'Anna' } } : {});
  const anna = await person('anna', { connect: { data: { from: 'test' }, name: 'js', version: '1' } });
  const channel = fresh('story:');
  await anna.subscribe(channel);
  await anna.publish(channel, { text: 'hello' });
  const [connect, subscribe, publish] = backend.asked;
  for (const question of [connect, subscribe, publish]) {
    assert.equal(question.signed, true);
    assert.equal(question.request.method, 'POST');
    const { client, transport, protocol, encoding, user } = question;
    assert.deepEqual({ client, transport, protocol, encoding, user }, { client: anna.hello.connect.client, transport: 'websocket', protocol: 'json', encoding: 'json', user: 'anna' });
  }
  assert.deepEqual([connect.hook, connect.data, connect.name, connect.version, connect.channel], ['connect', { from: 'test' }, 'js', '1', undefined]);
  assert.deepEqual([subscribe.hook, subscribe.channel, subscribe.meta], ['subscribe', channel, { plan: 'free' }]);
  assert.deepEqual([publish.hook, publish.channel, publish.data, publish.meta], ['publish', channel, { text: 'hello' }, { plan: 'free' }]);
  await anna.sees(channel, 1);
  const [record] = anna.records(channel);
  assert.deepEqual(record.info.conn_info, { name: 'Anna' }, 'what the backend says is public is public');
});

test('a signature covers the body and the time, and is of its secret', () => {
  const header = 't=1700000000,v1=63cb1c436d494f6ba7d75662a41e2487f5efc1e73221692a0136c59dabc194df';
  const secret = 'a secret of thirty-two bytes or more';
  const at = { now: 1_700_000_100 };
  assert.equal(isSigned(header, '{"a":1}', secret, at), true);
  assert.equal(isSigned(header, '{"a":2}', secret, at), false);
  assert.equal(isSigned(header, '{"a":1}', 'another secret', at), false);
  assert.equal(isSigned(header, '{"a":1}', secret, { now: 1_700_001_000 }), false, 'too old: somebody plays it again');
});

test('the backend has the last word on a record, and the gate on the backend’s word', async () => {
  const anna = await person('anna');
  const channel = fresh('story:');
  await anna.subscribe(channel);
  backend.behave = () => yes({ data: { text: '***' }, tags: { moderated: 'yes' } });
  assert.equal(saw(await anna.publish(channel, { text: 'rude' }), 'written'), 'written');
  await anna.sees(channel, 1);
  const [{ data, tags }] = anna.records(channel);
  assert.deepEqual({ data, tags: { ...tags } }, { data: { text: '***' }, tags: { moderated: 'yes' } });
  backend.behave = () => yes({ data: { words: 'no text' } });
  assert.equal(saw(await anna.publish(channel, { text: 'x' }), 'written'), '100, temporary', 'what breaks the schema is not written');
  assert.equal((await anna.ask({ history: { channel, limit: -1 } })).history.publications.length, 1);
});

test('a backend lets in who has no token, with what it says', async () => {
  backend.behave = ({ hook }) => yes(hook === 'connect' ? {
    user: 'guest-7', data: { welcome: true }, channels: ['free:news'], expire_at: Math.floor(Date.now() / 1000) + 3600,
    caps: [{ channels: ['story:guests'], allow: ['subscribe'] }],
  } : {});
  const guest = new Wire(server);
  wires.push(guest);
  await guest.opened;
  const { connect } = await guest.ask({ connect: {} });
  assert.deepEqual([connect.data, Object.keys(connect.subs)], [{ welcome: true }, ['free:news']]);
  assert.ok((await guest.subscribe('story:guests')).subscribe);
  assert.equal(backend.of('subscribe')[0].user, 'guest-7');
});

test('a method that is not the server’s own is the backend’s', async () => {
  const anna = await person('anna');
  backend.behave = ({ method, data }) => (method === 'dice.roll' ? yes({ data: { rolled: data.sides } }) : no(404, 'no such method'));
  assert.deepEqual((await anna.rpc('dice.roll', { sides: 6 })).rpc.data, { rolled: 6 });
  assert.deepEqual((await anna.rpc('dice.lose', {})).error, { code: 404, message: 'no such method' });
  assert.equal((await anna.rpc('ai.unheard', {})).error.code, 108, 'our own names are not passed on');
  assert.deepEqual(backend.of('rpc').map(({ method, user }) => [method, user]), [['dice.roll', 'anna'], ['dice.lose', 'anna']]);
});

test('a run is made from what its backend says, and a no starts none', async () => {
  const caps = [{ channels: ['story:*'], allow: ['ai.start', 'history'] }];
  const anna = await person('anna', { claims: { caps } });
  const channel = fresh('story:');
  await anna.publish(channel, { text: 'It was late.' });
  const start = (key) => anna.rpc('ai.start', { channel, key, input: { text: 'go on' } });
  backend.behave = () => no(402, 'no budget left');
  assert.deepEqual((await start('a')).error, { code: 402, message: 'no budget left' });
  backend.behave = () => yes({ model: 'dearest' });
  assert.equal(saw(await start('b'), 'started'), '100, temporary', 'only a configured model writes');
  backend.behave = () => yes({ messages: [{ role: 'user', content: 'Write of the sea.' }], model: 'large', tokens_max: 8 });
  const { run } = (await start('c')).rpc.data;
  const [, , question] = backend.of('prompt');
  assert.deepEqual([question.channel, question.user, question.data], [channel, 'anna', { text: 'go on' }]);
  assert.deepEqual(question.records.map(({ data, info }) => [data, info.user]), [[{ text: 'It was late.' }, 'anna']]);
  const ended = await until(async () => {
    const { publications } = (await anna.ask({ history: { channel, limit: -1 } })).history;
    return publications.find(({ data }) => data.type === 'run.end' && data.run === run);
  }, 'the end of the run');
  assert.ok(ended.data.text.split(/\s+/).length <= 8, ended.data.text);
});

const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds;

test('a session that a backend let in lasts as long as it says', async () => {
  let more = true;
  backend.behave = ({ hook: asked }) => {
    if (asked === 'connect') return yes({ user: 'guest', expire_at: inSeconds(3) });
    return yes(asked === 'refresh' ? (more ? { expire_at: inSeconds(12) } : { expired: true }) : {});
  };
  const guest = new Wire(server);
  wires.push(guest);
  await guest.opened;
  const { connect } = await guest.ask({ connect: {} });
  assert.equal(connect.expires, undefined, 'the guest has nothing to refresh');
  await until(() => backend.of('refresh').length === 1, 'the question whether it may stay');
  assert.equal(backend.of('refresh')[0].user, 'guest');
  more = false;
  assert.equal((await guest.closed).code, 3005);
  assert.equal(backend.of('refresh').length, 2);
});

test('a subscription lasts as long as its backend says, and shows what is public about it', async () => {
  backend.behave = ({ hook: asked }) => yes(asked === 'subscribe' ? { expire_at: inSeconds(3), info: { role: 'guest' }, data: { title: 'A tale' } } : { expired: true });
  const anna = await person('anna');
  const channel = fresh('story:');
  const { subscribe } = await anna.subscribe(channel);
  assert.deepEqual(subscribe.data, { title: 'A tale' });
  const { presence } = (await anna.ask({ presence: { channel } })).presence;
  assert.deepEqual(Object.values(presence)[0].chan_info, { role: 'guest' });
  await until(() => anna.pushed(channel, 'unsubscribe').length, 'the end of the subscription');
  assert.equal(anna.pushed(channel, 'unsubscribe')[0].code, 2501);
  assert.equal(backend.of('sub_refresh')[0].channel, channel);
});

test('a record that is there is answered again without asking', async () => {
  const anna = await person('anna');
  const publish = { channel: fresh('story:'), key: 'k', data: { text: 'once' } };
  const first = (await anna.rpc('fireside.publish', publish)).rpc.data;
  backend.behave = ({ hook: asked }) => (asked === 'publish' ? no(403, 'not your turn any more') : yes());
  const again = (await anna.rpc('fireside.publish', publish)).rpc.data;
  assert.deepEqual(again, { ...first, duplicate: true });
});

test('a slow backend delays only who asked, and keeps the order of that session', async () => {
  const [anna, ben] = [await person('anna'), await person('ben')];
  const channel = fresh('story:');
  let let_go;
  const gone = new Promise((done) => { let_go = done; });
  backend.behave = async ({ user }) => { if (user === 'anna') await gone; return yes(); };
  const slow = anna.askAll({ publish: { channel, data: { text: '1' } } }, { publish: { channel, data: { text: '2' } } }, { publish: { channel: 'free:x', data: 3 } });
  await until(() => backend.of('publish').length === 1, 'the question about the first record');
  assert.equal(saw(await ben.publish(channel, { text: 'ben' }), 'written'), 'written', 'another session is not touched');
  let_go();
  assert.deepEqual((await slow).map((reply) => saw(reply, 'written')), ['written', 'written', 'written']);
  const { history } = await ben.ask({ history: { channel, limit: -1 } });
  assert.deepEqual(history.publications.map(({ data }) => data.text), ['ben', '1', '2']);
});

/** What a backend may do, and what it does then. */
const DEEDS = {
  'says yes': () => yes(),
  'says no: `error` 403': () => no(403, 'not now'),
  'says no: `disconnect` 4501': () => ({ json: { disconnect: { code: 4501, reason: 'banned' } } }),
  'answers with status 500': () => ({ status: 500, text: 'oops' }),
  'redirects': () => ({ status: 302, headers: { Location: backend.url }, text: '' }),
  'answers nonsense': () => ({ text: '<html>' }),
  'answers without a word: `{}`': () => ({ json: {} }),
  'answers too much': () => ({ text: JSON.stringify({ result: { data: 'x'.repeat(1 << 20) } }) }),
  'says what it may not say': () => yes({ data: 'x'.repeat(70_000), user: 'eve' }),
  'cuts the connection': (_, response) => { response.destroy(); },
  'hangs': () => {},
  'is slow, within the time': async () => { await new Promise((done) => setTimeout(done, TIMEOUT_MS / 2)); return yes(); },
};

test('a question is asked again only where that cannot make the backend act twice', async () => {
  const anna = await person('anna');
  backend.behave = (_, response) => { response.destroy(); };
  await anna.subscribe(fresh('story:'));
  await anna.publish(fresh('story:'), { text: 'x' });
  assert.deepEqual([backend.of('subscribe').length, backend.of('publish').length], [2, 1]);
});

test('what clients see of everything that a backend may do', async () => {
  const rows = [];
  for (const [deed, behave] of Object.entries(DEEDS)) {
    await settled();
    const [reader, writer] = [await person('anna'), await person('anna')];
    const before = await outcomes();
    backend.behave = behave;
    const connect = (await person('ben')).hello;
    const subscribe = await reader.subscribe(fresh('story:'));
    const publish = await writer.publish(fresh('story:'), { text: 'x' });
    rows.push([deed, saw(connect, 'in'), saw(subscribe, 'followed'), saw(publish, 'written'), await since(before)]);
  }
  print(rows);
});

test('what clients see while a backend is down, and when it is back', async () => {
  const rows = [];
  const anna = await person('anna');
  const channel = fresh('story:');
  const asks = async (deed) => {
    const began = Date.now();
    const before = await outcomes();
    const publish = await anna.publish(channel, { text: 'x' });
    assert.ok(Date.now() - began < TIMEOUT_MS, `${deed}: at once, not after the timeout`);
    rows.push([deed, '–', '–', saw(publish, 'written'), await since(before)]);
  };
  await backend.down();
  await asks('is down');
  for (let failure = 1; failure < 5; failure += 1) await anna.publish(channel, { text: 'x' });
  await asks('did not answer 5 questions in a row');
  await backend.up();
  await until(async () => !(await anna.publish(channel, { text: 'x' })).error, 'a probe that finds the backend');
  await asks('is back');
  print(rows);
});

test('more questions than a hook may have under way are refused at once', async () => {
  const people = await Promise.all(Array.from({ length: 5 }, (_, n) => person(`p${n}`)));
  const waiting = [];
  backend.behave = () => new Promise((done) => waiting.push(() => done(yes())));
  const channel = fresh('story:');
  const asked = people.map((one) => one.publish(channel, { text: 'x' }));
  await until(() => waiting.length === 3, 'as many questions as may be under way');
  const early = await Promise.race(asked.map((reply) => reply));
  assert.equal(saw(early, 'written'), '100, temporary');
  waiting.forEach((go) => go());
  const all = (await Promise.all(asked)).map((reply) => saw(reply, 'written')).sort();
  assert.deepEqual(all, ['100, temporary', '100, temporary', 'written', 'written', 'written']);
  print([['has as many questions as it may', '–', '–', '100, temporary', '`busy`']]);
});

test('a record that its hook was not asked about is written only where the operator says so', async () => {
  const lenient = await start({ namespaces: NAMESPACES(backend.url).replace('concurrency = 3', 'on_failure = "allow"') });
  try {
    const anna = await Wire.join(lenient, 'anna');
    backend.behave = ({ hook }) => (hook === 'publish' ? { status: 500, text: '' } : yes());
    assert.equal(saw(await anna.publish('story:1', { text: 'x' }), 'written'), 'written');
    backend.behave = ({ hook }) => (hook === 'publish' ? no(403, 'no') : yes());
    assert.equal(saw(await anna.publish('story:1', { text: 'x' }), 'written'), '403', 'a no is a no');
    anna.leave();
  } finally {
    await lenient.stop();
  }
});

async function outcomes() {
  const text = await (await fetch(`http://127.0.0.1:${server.internal}/metrics`)).text();
  const counts = {};
  for (const [, word, n] of text.matchAll(/^fireside_hooks_total\{hook="\w+",outcome="([^"]+)"\} (\d+)$/gm)) counts[word] = (counts[word] ?? 0) + Number(n);
  return counts;
}

/** The outcomes that were counted since `before`. */
async function since(before) {
  return Object.entries(await outcomes()).filter(([word, n]) => n > (before[word] ?? 0)).map(([word]) => `\`${word}\``).join(', ');
}

/** Prints rows as docs/OPERATIONS.md has them, and holds that it has them. */
function print(rows) {
  const document = readFileSync(join(ROOT, 'docs/OPERATIONS.md'), 'utf8').split('\n');
  const lines = rows.map((row) => `| ${row.join(' | ')} |`);
  lines.forEach((line) => console.log(line));
  const missing = lines.filter((line) => !document.includes(line));
  assert.deepEqual(missing, [], 'rows that docs/OPERATIONS.md does not have');
}
