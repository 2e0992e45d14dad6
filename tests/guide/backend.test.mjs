// The backends that docs/guide shows, each as it stands there but for its ports: they mint, check signatures, and narrate.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { follow } from '../support/people.mjs';
import { API_KEY, ROOT, TOKEN_SECRET, freePort, start, until } from '../support/server.mjs';

const HOOK_SECRET = 'a hook secret of the tests, thirty-two bytes or more';
const page = readFileSync(join(ROOT, 'docs/guide/backend.md'), 'utf8');
/** The file that the guide shows under this name. */
const shown = (name) => page.split(`<!-- test: file ${name} -->\n`)[1].replace(/^```\w+\n/, '').split('\n```')[0];

for (const [file, command] of [['backend.py', 'python3'], ['backend.mjs', process.execPath]]) {
  describe(file, () => {
    const worlds = [];
    after(() => Promise.all(worlds.map((world) => world.end())));

    /** A server, the backend beside it, and anna in the room. */
    async function world() {
      const [dir, port] = [mkdtempSync(join(tmpdir(), 'fireside-guide-')), await freePort()];
      const server = await start({ namespaces: `
[hook.publish]
url = "http://127.0.0.1:${port}/asked"
secret = "${HOOK_SECRET}"
[namespace.story]
history = { records = 1000, age = "1d" }
recover = true
hooks = ["publish"]
run = { lease = "5s" }` });
      mkdirSync(join(dir, 'secrets'));
      for (const [name, secret] of Object.entries({ token: TOKEN_SECRET, hooks: HOOK_SECRET, api: API_KEY })) writeFileSync(join(dir, 'secrets', name), `${secret}\n`);
      writeFileSync(join(dir, file), shown(file).replaceAll('127.0.0.1:9000', `127.0.0.1:${server.port}`).replaceAll('9100', port));
      const backend = spawn(command, [file], { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
      let said = '';
      for (const stream of [backend.stdout, backend.stderr]) stream.setEncoding('utf8').on('data', (more) => { said += more; });
      await until(() => said.includes('answering'), () => `the backend, which said:\n${said}`);
      const url = `http://127.0.0.1:${port}`;
      const token = await (await fetch(`${url}/token?user=anna`)).text();
      const anna = new Centrifuge(server.ws, { token, websocket: WebSocket, minReconnectDelay: 50 });
      anna.connect();
      const room = await follow(anna, 'story:1', { recoverable: true });
      const end = async () => {
        anna.disconnect();
        backend.kill('SIGKILL');
        await server.stop();
        rmSync(dir, { recursive: true });
      };
      const found = { server, url, anna, room, end, said: () => said };
      worlds.push(found);
      return found;
    }
    const of = (room, type, count = 1) => until(() => room.records.filter(({ data }) => data.type === type)[count - 1]?.data, type, 30_000);
    const listen = (anna, { run, epoch }) => follow(anna, `story:1/run/${run}`, { recoverable: true, since: { epoch, offset: 0 } });
    const words = (seen) => seen.records.filter(({ data }) => data.type === 'run.delta').map(({ data }) => data.text).join('');

    test('a line of a user is answered word by word, and a second time by no second run', async () => {
      const { anna, room } = await world();
      await room.publish({ id: 'line-1', text: 'It was late 🔥.' });
      const seen = await listen(anna, await of(room, 'run.start'));
      const { status, text } = await of(room, 'run.end');
      assert.deepEqual([status, text], ['complete', 'You wrote: It was late 🔥. ']);
      await until(() => words(seen) === text, 'all words');
      assert.ok(seen.records.filter(({ data }) => data.type === 'run.delta').length > 2, 'in pieces');
      const { by } = await of(room, 'run.start');
      assert.equal(by, 'anna');
      await room.publish({ id: 'line-1', text: 'It was late 🔥.' });
      await room.publish({ id: 'line-2', text: 'And dark.' });
      assert.equal((await of(room, 'run.end', 2)).text, 'You wrote: And dark. ');
    });

    test('a question that is not signed, or not so, or long ago, starts nothing', async () => {
      const { url, room } = await world();
      const body = JSON.stringify({ hook: 'publish', channel: 'story:1', user: 'eve', data: { id: 'forged', text: 'forged' } });
      const now = Math.floor(Date.now() / 1000);
      const signed = (t, secret = HOOK_SECRET) => `t=${t},v1=${createHmac('sha256', secret).update(`${t}.${body}`).digest('hex')}`;
      for (const header of [undefined, '', 'nonsense', 't=,v1=', `t=${now},v1=`, `t=${now},v1=é`, signed('now'), signed(now, 'another'), signed(now - 3600)]) {
        const headers = header === undefined ? {} : { 'Fireside-Signature': header };
        const { status } = await fetch(`${url}/asked`, { method: 'POST', headers, body });
        assert.equal(status, 401, header);
      }
      assert.equal((await fetch(`${url}/asked`, { method: 'POST', headers: { 'Fireside-Signature': signed(now) }, body })).status, 200);
      assert.equal((await of(room, 'run.end')).text, 'You wrote: forged ', 'what is signed is believed');
      assert.equal(room.records.length, 2);
    });

    test('a run that its reader stops is over for the backend, which answers the next line', async () => {
      const { anna, room, said } = await world();
      await room.publish({ id: 'long', text: 'word '.repeat(2_000).trim() });
      const { run } = await of(room, 'run.start');
      await anna.rpc('ai.cancel', { channel: 'story:1', run, reason: 'enough' });
      const { status, by } = await of(room, 'run.end');
      assert.deepEqual([status, by], ['cancelled', 'anna']);
      await room.publish({ id: 'next', text: 'On.' });
      assert.deepEqual((await of(room, 'run.end', 2)).text, 'You wrote: On. ');
      assert.doesNotMatch(said(), /Error/);
    });

    test('a server that is killed in the middle finds the backend going on', async () => {
      const { server, anna, room } = await world();
      const line = Array.from({ length: 60 }, (_, n) => `w${n}`).join(' ');
      await room.publish({ id: 'line-1', text: line });
      const seen = await listen(anna, await of(room, 'run.start'));
      await until(() => words(seen).includes('w9 '), 'ten words');
      await server.restart();
      const { status, text } = await of(room, 'run.end');
      assert.deepEqual([status, text], ['complete', `You wrote: ${line} `]);
      await until(() => words(seen) === text, 'all words, once');
    });
  });
}
