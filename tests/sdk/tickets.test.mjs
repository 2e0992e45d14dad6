// Subscription tokens, private and user-limited channels, and subscriptions that end.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { follow, join, refusal, sees } from '../support/people.mjs';
import { fresh, start, token, until } from '../support/server.mjs';
import { Wire } from '../support/wire.mjs';

let server;
const clients = [];
const person = async (user, claims) => { const client = await join(server, user, claims); clients.push(client); return client; };
before(async () => { server = await start({ session: 'personal_channel = true' }); });
after(async () => { clients.forEach((client) => client.disconnect()); await server?.stop(); });

const ticket = (sub, channel, more = {}, options = {}) => token({ sub, channel, ...more }, options);

/** Why a subscription with these options ends. */
async function ending(client, channel, options) {
  const subscription = client.newSubscription(channel, options);
  const ended = new Promise((done) => { subscription.on('unsubscribed', done); subscription.on('subscribed', () => done({ code: 0 })); });
  subscription.subscribe();
  return (await ended).code;
}

test('a private channel is followed with a token for it, and with nothing else', async () => {
  const channel = fresh('$room:');
  const anna = await person('anna', { caps: [{ channels: ['*'], allow: ['subscribe', 'publish', 'history', 'presence'] }] });
  assert.equal(await ending(anna, channel), 103, 'no capability opens it');
  assert.equal((await refusal(anna.publish(channel, {}))).code, 103);
  const ben = await person('ben');
  const seen = await follow(ben, channel, { token: ticket('ben', channel) });
  await seen.publish({ n: 1 });
  await sees(seen, 1);
  assert.equal((await seen.history({ limit: 1 })).publications.length, 1);
});

test('a token opens what nothing else would, to its user, and what is public about the subscription is seen', async () => {
  const channel = fresh('closed:');
  const anna = await person('anna');
  assert.equal(await ending(anna, channel), 103);
  const ben = await person('ben');
  await follow(ben, channel, { token: ticket('ben', channel, { info: { seat: 7 } }) });
  const { result } = await server.api('presence', { channel });
  assert.deepEqual(Object.values(result.presence).map(({ user, chan_info }) => [user, chan_info]), [['ben', { seat: 7 }]]);
});

test('a token that is wrong is refused; one for somebody or something else ends the session', async () => {
  const channel = fresh('closed:');
  const asked = async (credential, connect = {}) => {
    const wire = await Wire.join(server, 'anna', connect);
    return { answer: await wire.subscribe(channel, { token: credential }), wire };
  };
  const code = async (credential) => {
    const { answer, wire } = await asked(credential);
    wire.socket.close();
    return answer.error?.code ?? 0;
  };
  assert.equal(await code('no token at all'), 103);
  assert.equal(await code(ticket('anna', channel, {}, { secret: 'another secret, just as long as the right one' })), 103);
  assert.equal(await code(token({ sub: 'anna' })), 103, 'a connection token opens no channel');
  assert.equal(await code(ticket('anna', channel, {}, { ttl: -5 })), 109);
  assert.equal(await code(ticket('anna', channel, { nbf: Math.floor(Date.now() / 1000) + 60 })), 109);
  for (const bad of [ticket('ben', channel), ticket('anna', `${channel}x`), ticket('anna', channel, { client: 'another' })]) {
    const { answer } = await asked(bad);
    assert.equal(answer.closed?.code, 3500);
  }
  assert.equal(await code(ticket('anna', channel)), 0);
});

test('a subscription is refreshed in band before its token ends, and lives on', async () => {
  const channel = fresh('closed:');
  let asked = 0;
  const anna = await person('anna', { caps: [{ channels: [channel], allow: ['publish'] }] });
  const getToken = async () => { asked += 1; return ticket('anna', channel, {}, { ttl: asked === 1 ? 2 : 3600 }); };
  const seen = await follow(anna, channel, { getToken });
  await until(() => asked === 2, 'a refresh');
  await anna.publish(channel, { n: 1 });
  await sees(seen, 1);
  assert.equal(seen.starts.length, 1, 'the subscription was not begun anew');
});

test('a newer token of the session ends no subscription that a token of its own opened', async () => {
  const channel = fresh('closed:');
  const wire = await Wire.join(server, 'anna', { claims: { caps: [{ channels: ['closed:*'], allow: ['subscribe'] }] } });
  const other = fresh('closed:');
  assert.ok((await wire.subscribe(channel, { token: ticket('anna', channel) })).subscribe);
  assert.ok((await wire.subscribe(other)).subscribe);
  assert.ok((await wire.ask({ refresh: { token: token({ sub: 'anna' }) } })).refresh);
  await until(() => wire.pushed(other, 'unsubscribe').length === 1, 'the end of the other one');
  assert.deepEqual(wire.pushed(channel, 'unsubscribe'), []);
  assert.ok((await server.api('publish', { channel, data: { n: 1 } })).result);
  await until(() => wire.pushed(channel).length === 1, 'the record');
  wire.socket.close();
});

test('a refresh of a subscription is judged like its beginning', async () => {
  const channel = fresh('closed:');
  const wire = await Wire.join(server, 'anna');
  const refresh = (credential, of = channel) => wire.ask({ sub_refresh: { channel: of, token: credential } });
  assert.equal((await refresh(ticket('anna', channel))).error?.code, 103, 'it is not followed');
  const begun = await wire.subscribe(channel, { token: ticket('anna', channel, {}, { ttl: 100 }) });
  assert.equal(begun.subscribe.expires, true);
  assert.ok(begun.subscribe.ttl > 90 && begun.subscribe.ttl <= 100);
  const { sub_refresh: refreshed } = await refresh(ticket('anna', channel, {}, { ttl: 1000 }));
  assert.ok(refreshed.expires && refreshed.ttl > 990 && refreshed.ttl <= 1000);
  assert.deepEqual((await refresh(ticket('anna', channel, { expire_at: 0 }))).sub_refresh, {}, 'this one never ends');
  assert.equal((await refresh(ticket('anna', channel, {}, { ttl: -5 }))).error?.code, 109);
  assert.equal((await refresh('nonsense')).error?.code, 103);
  assert.equal((await refresh(ticket('ben', channel))).closed?.code, 3500);
});

test('a channel that names its users is for them', async () => {
  const channel = `${fresh('closed:')}#anna,ben`;
  const [anna, eve] = [await person('anna'), await person('eve')];
  const seen = await follow(anna, channel);
  assert.equal(await ending(eve, channel), 103);
  assert.ok((await server.api('publish', { channel, data: { n: 1 } })).result);
  await sees(seen, 1);
});

test('recovery from the beginning, without an epoch', async () => {
  const channel = fresh('room:');
  for (let n = 1; n <= 5; n++) await server.api('publish', { channel, data: { n } });
  const wire = await Wire.join(server, 'anna');
  const { subscribe } = await wire.subscribe(channel, { recover: true });
  assert.equal(subscribe.recovered, true);
  assert.deepEqual(subscribe.publications.map(({ data }) => data.n), [1, 2, 3, 4, 5]);
  const late = await wire.subscribe(fresh('room:'), { recover: true, offset: 3 });
  assert.notEqual(late.subscribe.recovered, true, 'an offset without an epoch proves nothing');
  wire.socket.close();
});
