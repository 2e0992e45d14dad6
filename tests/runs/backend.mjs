// A backend that begins a run and says one word after the other until it is killed.
import { API_KEY } from '../support/server.mjs';

const [url, channel] = process.argv.slice(2);
async function call(method, body) {
  const headers = { 'X-API-Key': API_KEY };
  const answer = await fetch(`${url}/api/${method}`, { method: 'POST', headers, body: JSON.stringify({ channel, ...body }) });
  const { result, error } = await answer.json();
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
}

const { run } = await call('run_start', { key: 'k' });
for (let at = 0; ;) ({ at } = await call('run_append', { run, deltas: [{ part: 0, at, text: 'word ' }] }));
