// A Fireside process of a test's own: loopback, free ports, a scratch data directory, killed by its pid.
import { spawn } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
/** The binary under test: `./verify` names it; by hand it is the one that `cargo build --profile ci` left. */
export const BINARY = process.env.FIRESIDE_BIN ?? resolve(ROOT, process.env.CARGO_TARGET_DIR ?? 'target', 'ci/fireside');
export const TOKEN_SECRET = 'a secret of the tests, thirty-two bytes or more';
export const API_KEY = 'an-API-key-of-the-tests-and-of-nobody-else';

/** Namespaces that the tests share: one for each thing that a channel may promise or refuse. */
const NAMESPACES = `
[namespace.room]
history = { records = 200_000, bytes = "256 MiB", age = "1d" }
durability = "fsync"
presence = true
join_leave = true
recover = true
delta = ["fossil"]
tags_filter = true
allow = { subscribe = "user", publish = "user", history = "subscriber", presence = "subscriber" }

[namespace.short]
history = { records = 10, bytes = "1 MiB", age = "1d" }
durability = "fsync"
recover = true
allow = { subscribe = "user", publish = "user", history = "subscriber" }

[namespace.swift]
history = { records = 1000, bytes = "1 MiB", age = "1d" }
durability = "os"
recover = true
allow = { subscribe = "user", publish = "user", history = "subscriber" }

[namespace.fleeting]
history = { records = 1000, bytes = "1 MiB", age = "1d" }
durability = "memory"
recover = true
allow = { subscribe = "user", publish = "user", history = "subscriber" }

[namespace.live]
allow = { subscribe = "user", publish = "user" }

[namespace.closed]
history = { records = 1000, bytes = "1 MiB", age = "1d" }
durability = "fsync"
presence = true
`;

/** Starts a server and waits until it says that it is ready. `session` and `namespaces` are TOML. */
export async function start({ session = '', namespaces = NAMESPACES, under = [], data } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'fireside-test-'));
  const [port, internal] = [await freePort(), await freePort()];
  writeFileSync(join(dir, 'token'), TOKEN_SECRET, { mode: 0o600 });
  writeFileSync(join(dir, 'api'), API_KEY, { mode: 0o600 });
  writeFileSync(join(dir, 'fireside.toml'), `
[server]
listen = "127.0.0.1:${port}"
internal_listen = "127.0.0.1:${internal}"
origins = ["http://127.0.0.1:${port}"]
[data]
dir = ${JSON.stringify(data ?? join(dir, 'data'))}
[token]
hmac_secret_file = ${JSON.stringify(join(dir, 'token'))}
[[api.key]]
id = "backend"
secret_file = ${JSON.stringify(join(dir, 'api'))}
[session]
${session}
${namespaces}`);
  const server = new Server(dir, port, internal, ['serve', '--config', join(dir, 'fireside.toml')], under);
  await server.run();
  return server;
}

/** Starts the demo with the story room; `server.links` are the invitations that it printed. */
export async function startDemo({ args = [], env = {} } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'fireside-demo-'));
  let port = await freePort();
  while (!await isFree(port + 1)) port = await freePort(); // the demo's internal port is the next one
  const server = new Server(dir, port, port + 1, ['demo', '--data', join(dir, 'data'), '--port', String(port), ...args], [], env);
  await server.run();
  server.links = await until(() => server.output.match(/http:\/\/\S+#invite=[\w.-]+/g), () => `an invitation link in:\n${server.output}`);
  return server;
}

/** Starts `fireside dev`; `server.output` has the page and the lines for the shell that it printed. */
export async function startDev() {
  const dir = mkdtempSync(join(tmpdir(), 'fireside-dev-'));
  let port = await freePort();
  while (!await isFree(port + 1)) port = await freePort();
  const server = new Server(dir, port, port + 1, ['dev', '--data', join(dir, 'data'), '--port', String(port)]);
  await server.run();
  await until(() => server.output.includes('Ctrl-C'), () => `the end of the greeting in:\n${server.output}`);
  return server;
}

class Server {
  constructor(dir, port, internal, args, under = [], env = {}) {
    Object.assign(this, { dir, port, internal, args, under, env, output: '' });
    this.config = join(dir, 'fireside.toml');
    this.url = `http://127.0.0.1:${port}`;
    this.ws = `ws://127.0.0.1:${port}/connection/websocket`;
  }

  /** Starts the process (again), under `this.under` if a tracer is to watch it. */
  async run() {
    const [command, ...args] = [...this.under, BINARY, ...this.args];
    this.child = spawn(command, args, { cwd: this.dir, env: { ...process.env, ...this.env }, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => { this.output = (this.output + text).slice(-64 * 1024); });
    }
    this.ended = new Promise((done) => this.child.once('close', (code, signal) => done({ code, signal })));
    this.child.once('error', (error) => { this.output += String(error); });
    try {
      await ready(`http://127.0.0.1:${this.internal}/readyz`, this);
    } catch (error) {
      this.child.kill('SIGKILL'); // or a test that failed would wait for it for ever
      throw error;
    }
  }

  /** The server's own process: under a tracer it is the tracer's child. */
  get pid() {
    const { pid } = this.child;
    return this.under.length ? Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()) : pid;
  }

  /** kill -9, and the corpse is awaited. */
  async kill() {
    process.kill(this.pid, 'SIGKILL');
    await this.ended;
  }

  async restart() {
    await this.kill();
    await this.run();
  }

  /** Orderly end; the scratch directory goes with it. */
  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const { pid } = this;
      process.kill(pid, 'SIGTERM');
      const late = setTimeout(() => process.kill(pid, 'SIGKILL'), 10_000);
      await this.ended;
      clearTimeout(late);
    }
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** One call of the HTTP API, as a backend makes it. */
  async api(method, body = {}, key = API_KEY) {
    const response = await fetch(`${this.url}/api/${method}`, {
      method: 'POST', headers: { 'Content-Type': 'application/json', 'X-API-Key': key }, body: JSON.stringify(body),
    });
    const text = await response.text();
    try { return { status: response.status, ...JSON.parse(text) }; } catch { return { status: response.status, text }; }
  }
}

/** Mints a token of HS256 by hand, so that the server's own minting is not what proves it. */
export function token(claims, { ttl = 3600, secret = TOKEN_SECRET } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ iat: now, exp: now + ttl, ...claims })}`;
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
}

/** Waits until `condition` is true (its value is returned); says what was awaited if it never is. */
export async function until(condition, what, ms = 20_000) {
  for (const end = Date.now() + ms; ; ) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain for ${typeof what === 'function' ? what() : what}`);
    await new Promise((done) => setTimeout(done, 5));
  }
}

/** A name that no other test has used. */
export const fresh = (prefix) => prefix + randomUUID().slice(0, 8);

export function freePort(wanted = 0) {
  return new Promise((done, failed) => {
    const probe = createServer().once('error', failed).listen(wanted, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}

const isFree = (port) => freePort(port).then(() => true, () => false);

async function ready(url, server) {
  await until(async () => {
    if (server.child.exitCode !== null || server.child.signalCode !== null || server.child.pid === undefined) {
      throw new Error(`the server ended before it was ready:\n${server.output}`);
    }
    return fetch(url).then((answer) => answer.status === 200, () => false);
  }, () => `${url}; the server said:\n${server.output}`, 30_000);
}
