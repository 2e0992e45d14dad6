// A developer's first minutes: what `fireside dev` prints works as it is pasted, for pages of this machine and for nobody else's.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { after, before, test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { launch } from '../support/browser.mjs';
import { follow } from '../support/people.mjs';
import { BINARY, freePort, startDev, until } from '../support/server.mjs';

let server, browser, printed, elsewhere, page;
const shows = (page, ...lines) => until(
  async () => JSON.stringify(await page.locator('li').allTextContents()) === JSON.stringify(lines),
  async () => `${JSON.stringify(lines)} on the page, which has ${JSON.stringify(await page.locator('li').allTextContents())}`);
const write = async (page, text) => {
  await page.getByPlaceholder('say something').fill(text);
  await page.keyboard.press('Enter');
};
const open = async (url) => {
  const page = await (await browser.newContext()).newPage();
  await page.goto(url);
  return page;
};

before(async () => {
  server = await startDev();
  printed = /^-+\n(.*)\n-+$/ms.exec(server.output)[1];
  // The developer's own server for their own page, on a port of its own.
  elsewhere = createServer((_, response) => response.setHeader('Content-Type', 'text/html; charset=utf-8').end(printed));
  await new Promise((done) => { elsewhere.listen(0, '127.0.0.1', done); });
  browser = await launch();
}, { timeout: 60_000 });
after(async () => {
  await browser?.close();
  elsewhere?.close();
  await server?.stop();
});

test('the page has twenty lines and works where it is served and as a copy on another port', { timeout: 60_000 }, async () => {
  assert.equal(printed.split('\n').length, 20);
  page = await open(`${server.url}/?user=anna`);
  const copy = await open(`http://localhost:${elsewhere.address().port}/?user=ben`);
  await write(page, 'is anybody here?');
  await shows(copy, 'anna: is anybody here?');
  await write(copy, 'yes <b>I</b> am');
  await shows(page, 'anna: is anybody here?', 'ben: yes <b>I</b> am');
});

test('the lines for the shell work as they are pasted, wherever the shell is', { timeout: 60_000 }, async () => {
  const lines = server.output.split('\n').filter((line) => line.startsWith('curl '));
  const said = lines.map((line) => execFileSync('bash', ['-c', line], { cwd: tmpdir(), encoding: 'utf8' }));
  assert.match(said[0], /^[\w-]+\.[\w-]+\.[\w-]+$/);
  assert.equal(JSON.parse(said[1]).result.offset, 3);
  assert.deepEqual(JSON.parse(said[2]).result.publications.map(({ data }) => data.text), ['is anybody here?', 'yes <b>I</b> am', 'hello from the shell']);
  assert.deepEqual(Object.values(JSON.parse(said[3]).result.presence).map(({ user }) => user).sort(), ['anna', 'ben']);
  await shows(page, 'anna: is anybody here?', 'ben: yes <b>I</b> am', 'backend: hello from the shell');
});

test('the page comes back after kill -9, and a newcomer sees what was', { timeout: 60_000 }, async () => {
  await server.restart();
  await until(async () => {
    const presence = await fetch(`${server.url}/api/presence`, { method: 'POST', headers: { 'X-API-Key': apiKey() }, body: '{"channel": "dev:lobby"}' });
    return Object.values((await presence.json()).result.presence).some(({ user }) => user === 'anna');
  }, 'anna to be back');
  await write(page, 'still here');
  const known = ['anna: is anybody here?', 'ben: yes <b>I</b> am', 'backend: hello from the shell', 'anna: still here'];
  await shows(page, ...known);
  await shows(await open(`${server.url}/?user=carl`), ...known);
});

test('an SDK with the printed getToken may do everything in dev, and nothing elsewhere', { timeout: 60_000 }, async () => {
  const getToken = async () => (await fetch(`${server.url}/dev/token?user=anna`)).text();
  const anna = new Centrifuge(server.ws, { getToken, websocket: WebSocket });
  anna.connect();
  await anna.ready(15_000);
  const room = await follow(anna, 'dev:room');
  await room.publish({ n: 1 });
  assert.deepEqual((await room.history({ limit: 10 })).publications.map(({ data }) => data), [{ n: 1 }]);
  assert.equal(Object.keys((await room.presence()).clients).length, 1);
  await anna.rpc('ai.start', { channel: 'dev:room', key: 'first', input: {} });
  await until(() => room.records.some(({ data }) => data.type === 'run.end' && data.text), 'the narrator to come to an end', 40_000);
  await assert.rejects(anna.publish('story:1', {}), { code: 102 });
  anna.disconnect();
});

test('a7 pages of others get no token and no socket', { timeout: 60_000 }, async () => {
  const ask = (headers) => new Promise((done, failed) => {
    request(`${server.url}/dev/token?user=anna`, { headers }, (response) => { response.resume(); done(response); }).once('error', failed).end();
  });
  assert.equal((await ask({ Host: `evil.example:${server.port}` })).statusCode, 403, 'a rebound name');
  const foreign = await ask({ Origin: 'https://evil.example' });
  assert.deepEqual([foreign.statusCode, foreign.headers['access-control-allow-origin']], [403, undefined]);
  for (const [origin, status] of [['https://evil.example', 403], ['null', 403], ['http://localhost:5173', 101], ['http://[::1]:1', 101]]) {
    const socket = new WebSocket(server.ws, { origin });
    const answer = await new Promise((done) => {
      socket.once('open', () => done(101)).once('unexpected-response', (_, response) => done(response.statusCode)).once('error', () => {});
    });
    socket.terminate();
    assert.equal(answer, status, origin);
  }
});

test('it does not listen beyond this machine', async () => {
  const env = { ...process.env, FIRESIDE_SERVER__LISTEN: `0.0.0.0:${await freePort()}` };
  const { status, stderr } = spawnSync(BINARY, ['dev', '--data', `${server.dir}/other`], { env, encoding: 'utf8', timeout: 20_000 });
  assert.notEqual(status, 0);
  assert.match(stderr, /dev\.loopback_origins = true while server\.listen = "0\.0\.0\.0:\d+" is not loopback/);
});

const apiKey = () => execFileSync('cat', [`${server.dir}/data/secrets/api`], { encoding: 'utf8' });
