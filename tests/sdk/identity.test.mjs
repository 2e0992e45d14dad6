// Tokens as the SDK lives with them: refusals, refresh in band, expiry of an open session.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { Client, follow, join, refusal } from '../support/people.mjs';
import { fresh, start, token, until } from '../support/server.mjs';

let server;
const clients = [];
const person = async (user, claims) => { const client = await join(server, user, claims); clients.push(client); return client; };
before(async () => { server = await start({ session: 'subscriptions_max = 5' }); });
after(async () => { clients.forEach((client) => client.disconnect()); await server?.stop(); });

/** Connects with `credential` and tells how the SDK ended. */
async function ending(credential) {
  const client = new Client(server.ws, { token: credential, websocket: WebSocket });
  const ended = new Promise((done) => client.on('disconnected', done));
  client.connect();
  const context = await ended;
  client.disconnect();
  return context;
}

/** Why a subscription to `channel` ends. */
async function subscribing(client, channel) {
  const subscription = client.newSubscription(channel);
  const ended = new Promise((done) => { subscription.on('unsubscribed', done); subscription.on('subscribed', () => done({ code: 0 })); });
  subscription.subscribe();
  return (await ended).code;
}

test('a token that is forged, unsigned, expired or without an end is refused', async () => {
  assert.equal((await ending(token({ sub: 'eve' }, { secret: 'another secret, just as long as the right one' }))).code, 3500);
  assert.equal((await ending('not.a.token')).code, 3500);
  const [, body] = token({ sub: 'eve' }).split('.');
  const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'JWT' })).toString('base64url');
  assert.equal((await ending(`${none}.${body}.`)).code, 3500);
  assert.equal((await ending(token({ sub: 'eve', exp: undefined }))).code, 3500);
  assert.equal((await ending(token({ sub: 'eve' }, { ttl: -60 }))).code, 1, 'expired is error 109, which the SDK without getToken ends as unauthorized');
});

test('nobody comes in without a token', async () => {
  const { code } = await ending('');
  assert.ok(code === 3501 || code === 3500 || code === 101, `ended with ${code}`);
});

test('what the token and the namespace do not allow is refused, by its code', async () => {
  const eve = await person('eve');
  assert.equal(await subscribing(eve, fresh('closed:')), 103);
  assert.equal(await subscribing(eve, fresh('unheard-of:')), 102);
  assert.equal((await refusal(eve.publish(fresh('closed:'), {}))).code, 103);
  assert.equal((await refusal(eve.publish(fresh('unheard-of:'), {}))).code, 102);
  assert.ok([102, 103].includes(await subscribing(eve, 'fireside:audit')));
  assert.equal((await refusal(eve.history(fresh('room:'), { limit: 1 }))).code, 103, 'history is for subscribers');
  assert.equal((await refusal(eve.presence(fresh('room:')))).code, 103, 'presence is for subscribers');
  assert.ok([104, 108].includes((await refusal(eve.rpc('no.such.method', {}))).code));
  assert.equal((await refusal(eve.publish('room:' + 'x'.repeat(300), {}))).code, 107, 'a name of at most 255 bytes');
  assert.equal(eve.state, 'connected', 'a refusal costs no session');
});

test('a cap allows what it names, there and nowhere else', async () => {
  const room = fresh('closed:story-');
  const anna = await person('anna', { caps: [{ rooms: [room], allow: ['subscribe', 'publish', 'history', 'presence'] }] });
  const seen = await follow(anna, room);
  await follow(anna, `${room}/chat`);
  await seen.publish({ text: 'allowed' });
  assert.equal((await seen.history({ limit: 1 })).publications.length, 1);
  assert.equal(Object.keys((await seen.presence()).clients).length, 1);
  assert.equal(await subscribing(anna, `${room}2`), 103);
  const reader = await person('ben', { caps: [{ channels: ['closed:story-*'], allow: ['sub'] }] });
  await follow(reader, room);
  assert.equal((await refusal(reader.publish(room, {}))).code, 103);
});

test('a run’s log is nobody’s to publish to, and one that never was is unknown', async () => {
  const anna = await person('anna');
  const channel = fresh('room:runs-');
  assert.equal((await refusal(anna.publish(`${channel}/run/1`, {}))).code, 103);
  assert.equal(await subscribing(anna, `${channel}/run/no-such-run`), 102);
});

test('a record over the bound is refused and none of it kept', async () => {
  const anna = await person('anna');
  const seen = await follow(anna, fresh('room:big-'));
  const { code } = await refusal(seen.publish({ text: 'x'.repeat(70 * 1024) }));
  assert.ok([106, 107].includes(code), `refused by ${code}`);
  await anna.ready(10_000).catch(() => {});
  assert.deepEqual((await server.api('history', { channel: seen.channel, limit: -1 })).result.publications ?? [], []);
});

test('one session subscribes to so many channels and no more', async () => {
  const anna = await person('anna');
  for (let n = 0; n < 5; n++) assert.equal(await subscribing(anna, fresh('room:')), 0);
  assert.equal(await subscribing(anna, fresh('room:')), 106);
});

test('a session is refreshed in band before its token ends, and lives on', async () => {
  let asked = 0;
  // `getToken` is how this SDK refreshes at all: it is the token option in its other form.
  const client = new Client(server.ws, {
    token: token({ sub: 'anna' }, { ttl: 2 }), websocket: WebSocket,
    getToken: async () => { asked += 1; return token({ sub: 'anna' }, { ttl: asked === 1 ? 2 : 3600 }); },
  });
  clients.push(client);
  const connects = [];
  client.on('connected', (context) => connects.push(context));
  client.connect();
  await client.ready(10_000);
  const seen = await follow(client, fresh('room:refresh-'));
  await until(() => asked >= 2, 'two refreshes');
  await seen.publish({ text: 'still here' });
  assert.equal(connects.length, 1, 'no reconnect: the refresh was in band');
});

test('a refresh with somebody else’s token ends the session', async () => {
  const client = new Client(server.ws, {
    token: token({ sub: 'anna' }, { ttl: 2 }), websocket: WebSocket, getToken: async () => token({ sub: 'eve' }),
  });
  clients.push(client);
  const lost = new Promise((done) => { client.on('disconnected', done); client.on('connecting', (context) => context.code >= 3000 && done(context)); });
  client.connect();
  assert.ok((await lost).code >= 3000);
});

test('an open session whose token ended is closed with 3005', { timeout: 60_000 }, async () => {
  const socket = new WebSocket(server.ws);
  await new Promise((done) => socket.once('open', done));
  const closed = new Promise((done) => socket.once('close', (code, reason) => done({ code, reason: String(reason) })));
  const replies = [];
  socket.on('message', (data) => String(data).split('\n').forEach((line) => {
    const reply = JSON.parse(line);
    if (Object.keys(reply).length === 0) socket.send('{}'); else replies.push(reply);
  }));
  socket.send(JSON.stringify({ id: 1, connect: { token: token({ sub: 'anna' }, { ttl: 1 }) } }));
  await until(() => replies.length, 'the connect reply');
  assert.equal(replies[0].connect.expires, true);
  assert.ok(replies[0].connect.ttl <= 1);
  assert.equal((await closed).code, 3005);
});

test('an expired session writes nothing, whether or not it has been closed yet', async () => {
  const channel = fresh('room:expired-');
  const socket = new WebSocket(server.ws);
  await new Promise((done) => socket.once('open', done));
  let answered = 0;
  const closed = new Promise((done) => socket.once('close', done));
  socket.on('message', (data) => String(data).split('\n').forEach((line) => {
    const reply = JSON.parse(line);
    if (reply.id === 2 && reply.error) answered += 1;
    if (Object.keys(reply).length === 0) socket.send('{}');
  }));
  const credential = token({ sub: 'anna' }, { ttl: 1 });
  const { exp } = JSON.parse(Buffer.from(credential.split('.')[1], 'base64url'));
  socket.send(JSON.stringify({ id: 1, connect: { token: credential } }));
  await until(() => Date.now() > (exp + 2) * 1000, 'the token to be over');
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ id: 2, publish: { channel, data: {} } }));
  await Promise.race([until(() => answered, 'a refusal'), closed]);
  assert.deepEqual((await server.api('history', { channel, limit: -1 })).result.publications ?? [], []);
  socket.close();
});
