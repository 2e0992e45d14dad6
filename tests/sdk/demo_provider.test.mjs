// The demo with a model of one's own: what it asks of an OpenAI-compatible service, and what readers see of what that does.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { Client, follow } from '../support/people.mjs';
import { startDemo, until } from '../support/server.mjs';

const KEY = 'a-key-of-the-fake-provider';
let server, provider, anna, story;
const asked = []; // the requests that reached the provider
let script = () => {}; // what it does with the next one

const say = (response, ...texts) => texts.forEach((content) => response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`));
const finish = (response) => {
  response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })}\n\n`);
  response.end('data: [DONE]\n\n');
};

/** Has the narrator go on, and gives back the record that ends the run. */
async function narrate(key) {
  const { run } = await anna.rpc('ai.start', { channel: story.channel, key, input: {} }).then(({ data }) => data);
  const ends = () => story.records.map(({ data }) => data).find((data) => data.type === 'run.end' && data.run === run);
  return until(ends, `the end of ${key}; the server said:\n${server.output}`);
}

before(async () => {
  provider = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (more) => { body += more; }).on('end', () => {
      asked.push({ url: request.url, authorization: request.headers.authorization, ...JSON.parse(body) });
      script(response);
    });
  });
  await new Promise((done) => { provider.listen(0, '127.0.0.1', done); });
  const url = `http://127.0.0.1:${provider.address().port}/v1`;
  server = await startDemo({ args: ['--provider', url, '--model', 'small'], env: { FIRESIDE_PROVIDER_KEY: KEY } });
  const link = new URL(server.links[0]);
  const answer = await fetch(`${server.url}/story-api/join`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ invite: new URLSearchParams(link.hash.slice(1)).get('invite'), name: 'Anna' }),
  });
  const member = await answer.json();
  anna = new Client(server.ws, { token: member.token, websocket: WebSocket });
  anna.connect();
  await anna.ready(15_000);
  story = await follow(anna, `story:${member.story}`);
}, { timeout: 60_000 });
after(async () => {
  anna?.disconnect();
  provider?.close();
  await server?.stop();
});

test('the model at the given address writes, with the given key and under the given name', { timeout: 60_000 }, async () => {
  await story.publish({ type: 'paragraph', id: 'p1', text: 'The lamp went out.' });
  script = (response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    say(response, 'Somebody ', 'lit ', 'it again.');
    finish(response);
  };
  const end = await narrate('first');
  assert.deepEqual([end.status, end.text], ['complete', 'Somebody lit it again.']);
  assert.equal(asked.length, 1);
  const [{ url, authorization, model, stream, messages }] = asked;
  assert.deepEqual([url, authorization, model, stream], ['/v1/chat/completions', `Bearer ${KEY}`, 'small', true]);
  assert.ok(messages[0].role === 'system' && JSON.stringify(messages).includes('The lamp went out.'), 'it is told the story so far');
  assert.ok(!server.output.includes(KEY), 'the key is in no output');
});

test('a stream that breaks off keeps its text and says so; a refusal is an error', { timeout: 60_000 }, async () => {
  script = (response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    say(response, 'And then');
    setTimeout(() => response.destroy(), 200);
  };
  const cut = await narrate('second');
  assert.deepEqual([cut.status, cut.text], ['interrupted', 'And then']);
  script = (response) => response.writeHead(401).end('{"error": {"message": "no such key"}}');
  assert.equal((await narrate('third')).status, 'error');
});
