// The server as its operator sees it: origins, health, metrics, an orderly end, a configuration that is wrong.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join as path } from 'node:path';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { follow, join, sees } from '../support/people.mjs';
import { API_KEY, BINARY, TOKEN_SECRET, fresh, start, until } from '../support/server.mjs';

let server;
before(async () => { server = await start(); });
after(() => server?.stop());

/** How the handshake of a browser page of `origin` is answered. */
const handshake = (origin) => new Promise((done, failed) => {
  const socket = new WebSocket(server.ws, { ...(origin && { origin }) });
  socket.once('open', () => { socket.close(); done(101); });
  socket.once('unexpected-response', (request, { statusCode }) => { request.destroy(); done(statusCode); });
  socket.once('error', failed);
});

test('only pages of listed origins connect, exactly; who is no browser needs none', async () => {
  assert.equal(await handshake(server.url), 101);
  assert.equal(await handshake(undefined), 101);
  for (const origin of ['http://evil.example', `${server.url}.evil.example`, `https${server.url.slice(4)}`, 'null']) {
    assert.equal(await handshake(origin), 403, origin);
  }
});

test('health, readiness and metrics are on the internal port and on no other', async () => {
  for (const name of ['healthz', 'readyz', 'metrics']) {
    assert.equal((await fetch(`http://127.0.0.1:${server.internal}/${name}`)).status, 200, name);
    assert.equal((await fetch(`${server.url}/${name}`)).status, 404, name);
  }
  const metrics = await (await fetch(`http://127.0.0.1:${server.internal}/metrics`)).text();
  assert.match(metrics, /^# TYPE fireside_\w+ (counter|gauge|histogram)$/m);
});

test('SIGTERM: sessions are told to come back, the process ends well, and nothing acknowledged is lost', async () => {
  const channel = fresh('room:term-');
  const client = await join(server, 'anna');
  after(() => client.disconnect());
  const seen = await follow(client, channel);
  for (let n = 1; n <= 20; n++) await seen.publish({ n });
  const told = new Promise((done) => client.once('connecting', done));
  server.child.kill('SIGTERM');
  assert.deepEqual(await server.ended, { code: 0, signal: null });
  const { code } = await told;
  assert.ok(code === 3001 || code === 3000, `told ${code}: a code that says to come back`);
  await server.run();
  assert.ok((await server.api('publish', { channel, data: { n: 21 } })).result);
  await sees(seen, 21);
  assert.deepEqual(seen.records.map(({ data }) => data.n), Array.from({ length: 21 }, (_, index) => index + 1));
});

test('no secret, no token and no body of a record in what the server prints', async () => {
  const channel = fresh('room:quiet-');
  const client = await join(server, 'quiet-anna');
  after(() => client.disconnect());
  const seen = await follow(client, channel);
  await seen.publish({ text: 'a-body-that-nobody-logs' });
  await sees(seen, 1);
  assert.ok((await server.api('publish', { channel, data: 'a-body-that-nobody-logs' }, 'a-key-that-nobody-logs')).status === 401);
  for (const secret of [TOKEN_SECRET, API_KEY, 'a-body-that-nobody-logs', 'a-key-that-nobody-logs', client._token]) {
    assert.ok(!server.output.includes(secret), secret);
  }
});

test('a configuration that is wrong is named by its place and starts nothing', () => {
  const file = path(server.dir, 'wrong.toml');
  for (const [text, place] of [['[server]\nlissten = "127.0.0.1:0"\n', 'lissten'], ['[session]\nping = 25\n', 'ping'], ['[server\n', '1']]) {
    writeFileSync(file, text);
    for (const command of ['check', 'serve']) {
      const { status, stdout, stderr } = spawnSync(BINARY, [command, '--config', file], { cwd: server.dir, encoding: 'utf8', timeout: 10_000 });
      assert.ok(status > 0, `${command} ends with ${status}`);
      assert.ok(`${stdout}${stderr}`.includes(place), `${command} names ${place}: ${stdout}${stderr}`);
    }
  }
});

test('a second server on the same data directory is refused', async () => {
  const { status, stderr } = spawnSync(BINARY, ['serve', '--config', server.config], {
    cwd: server.dir, encoding: 'utf8', timeout: 10_000,
    env: { ...process.env, FIRESIDE_SERVER__LISTEN: '127.0.0.1:0', FIRESIDE_SERVER__INTERNAL_LISTEN: '127.0.0.1:0' },
  });
  assert.ok(status > 0, `it ended with ${status}: ${stderr}`);
  await until(async () => (await server.api('info')).result, 'the first one, untroubled');
});
