// A client without an SDK: it says exactly what a test gives it, and keeps what it hears in the order of its coming.
import { connect as dial } from 'node:net';
import WebSocket from 'ws';
import { token, until } from './server.mjs';

export class Wire {
  constructor(server) {
    Object.assign(this, { heard: [], pings: 0, ids: 1, waiting: new Map(), position: new Map() });
    this.socket = new WebSocket(server.ws);
    this.opened = new Promise((done, failed) => this.socket.once('open', done).once('error', failed));
    this.opened.catch(() => {});
    this.closed = new Promise((done) => this.socket.once('close', (code, reason) => done({ code, reason: String(reason) })));
    this.socket.on('error', () => {});
    this.socket.on('message', (data) => { for (const line of String(data).split('\n')) this.hear(JSON.parse(line)); });
  }

  /** Connected as `user`. `connect` are more fields of the command, `lifetime` the token's. */
  static async join(server, user, { claims = {}, connect = {}, ttl } = {}) {
    const wire = new Wire(server);
    await wire.opened;
    wire.hello = await wire.ask({ connect: { token: token({ sub: user, ...claims }, { ttl: ttl ?? 3600 }), ...connect } });
    return wire;
  }

  hear(line) {
    if (Object.keys(line).length === 0) { this.pings += 1; return this.say('{}'); }
    this.heard.push(line);
    this.waiting.get(line.id)?.(line);
    this.waiting.delete(line.id);
    this.onheard?.(line);
  }

  say(...texts) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(texts.join('\n'));
  }

  /** Sends commands in one frame; answers their replies. One that is never answered ends as `{closed}` when the socket does. */
  askAll(...commands) {
    const asked = commands.map((command) => {
      const id = this.ids++;
      const answer = new Promise((done) => this.waiting.set(id, done));
      return { text: JSON.stringify({ id, ...command }), answer: Promise.race([answer, this.closed.then((closed) => ({ closed }))]) };
    });
    this.say(...asked.map(({ text }) => text));
    return Promise.all(asked.map(({ answer }) => answer));
  }

  ask = async (command) => (await this.askAll(command))[0];
  subscribe = (channel, more = {}) => this.ask({ subscribe: { channel, ...more } });
  publish = (channel, data) => this.ask({ publish: { channel, data } });
  rpc = (method, data) => this.ask({ rpc: { method, data } });

  /** What was pushed of `channel`: `pub`, `join`, `leave` or `unsubscribe`. */
  pushed = (channel, kind = 'pub') => this.heard.filter(({ push }) => push?.channel === channel && push[kind]).map(({ push }) => push[kind]);

  /** Records of `channel` in the order they were shown, those of subscribe replies included. */
  records(channel) {
    const of = (line) => {
      if (line.push) return line.push.channel === channel && line.push.pub ? [line.push.pub] : [];
      return line.subscribe?.publications ?? [];
    };
    return this.heard.flatMap(of);
  }

  sees = (channel, count) => until(() => this.records(channel).length >= count, () => `${count} records of ${channel}, seen ${this.records(channel).length}`);
  leave() { this.socket.terminate(); }
}

/** Sends bytes over plain TCP and answers all that came until the other side closed, or `ms` passed. */
export function bytes(port, ...parts) {
  return new Promise((done) => {
    const socket = dial(port, '127.0.0.1');
    const began = Date.now();
    let heard = Buffer.alloc(0);
    const end = (closed) => { socket.destroy(); done({ text: heard.toString('latin1'), heard, closed, ms: Date.now() - began }); };
    const late = setTimeout(() => end(false), 15_000);
    socket.on('data', (data) => { heard = Buffer.concat([heard, data]); });
    socket.on('error', () => {});
    socket.on('close', () => { clearTimeout(late); end(true); });
    for (const part of parts) socket.write(part);
  });
}

/** One masked frame as a client sends it. `head` overrides its first byte, `length` what it says of its length. */
export function frame(payload, { head = 0x81, length, masked = true } = {}) {
  const body = Buffer.from(payload);
  const said = BigInt(length ?? body.length);
  const size = said < 126n ? Buffer.from([Number(said)]) : said < 65536n ? Buffer.from([126, Number(said >> 8n), Number(said & 255n)])
    : Buffer.concat([Buffer.from([127]), Buffer.from(said.toString(16).padStart(16, '0'), 'hex')]);
  if (masked) size[0] |= 0x80;
  return Buffer.concat([Buffer.from([head]), size, masked ? Buffer.alloc(4) : Buffer.alloc(0), body]); // a mask of zeros masks nothing
}

export const UPGRADE = 'GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
  + 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n';

/** Resident memory of the process, in KiB. */
export async function resident(server) {
  const metrics = await (await fetch(`http://127.0.0.1:${server.internal}/metrics`)).text();
  return Number(metrics.match(/^process_resident_memory_bytes (\S+)/m)[1]) / 1024;
}

export async function metric(server, name) {
  const metrics = await (await fetch(`http://127.0.0.1:${server.internal}/metrics`)).text();
  return [...metrics.matchAll(/^(\w+)(\{[^}]*\})? (\S+)$/gm)].filter(([, known]) => known === name).reduce((sum, [, , , value]) => sum + Number(value), 0);
}
