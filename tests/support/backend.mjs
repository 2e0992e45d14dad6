// An application's backend as a test scripts it: one HTTP server that answers the questions of hooks, or does not.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { freePort } from './server.mjs';

export const HOOK_SECRET = 'a secret that questions are signed with, long enough';

/** Is this header the signature of this body, made lately? As docs/PROTOCOL.md tells a backend to check it. */
export function isSigned(header, body, secret, { now = Date.now() / 1000, window = 300 } = {}) {
  const parts = Object.fromEntries((header ?? '').split(',').map((part) => part.split('=', 2)));
  const wanted = createHmac('sha256', secret).update(`${parts.t}.`).update(body).digest();
  const given = Buffer.from(parts.v1 ?? '', 'hex');
  return Math.abs(now - Number(parts.t)) <= window && given.length === wanted.length && timingSafeEqual(given, wanted);
}

export const yes = (result = {}) => ({ json: { result } });
export const no = (code, message, more = {}) => ({ json: { error: { code, message, ...more } } });

export class Backend {
  /** `behave(question, response)` answers `{status?, json | text}`, or handles the response itself and answers nothing. */
  behave = () => yes();
  asked = [];

  async up(port = this.port) {
    this.port = port ?? await freePort();
    this.http = createServer((request, response) => this.#take(request, response));
    await new Promise((done, failed) => this.http.once('error', failed).listen(this.port, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${this.port}/hooks`;
    return this;
  }

  /** Nobody listens any more, and open connections are cut. */
  async down() {
    const closed = new Promise((done) => this.http.close(done));
    this.http.closeAllConnections();
    await closed;
  }

  of = (hook) => this.asked.filter((question) => question.hook === hook);

  async #take(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = Buffer.concat(parts);
    const question = JSON.parse(body);
    this.asked.push(Object.assign(question, { signed: isSigned(request.headers['fireside-signature'], body, HOOK_SECRET), request }));
    response.on('error', () => {});
    const answer = await this.behave(question, response);
    if (answer) response.writeHead(answer.status ?? 200, { 'Content-Type': 'application/json', ...answer.headers }).end(answer.text ?? JSON.stringify(answer.json));
  }
}
