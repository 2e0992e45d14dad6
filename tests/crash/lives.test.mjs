// Fifty lives of one server, each ended by kill -9 while appends are in flight; then what the publishers were told
// is held against the log. `SEED=7 LIVES=50 node --test tests/crash/lives.test.mjs` repeats a run's draws.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import WebSocket from 'ws';
import { join, readAll } from '../support/people.mjs';
import { BINARY, start, token, until } from '../support/server.mjs';

const SEED = Number(process.env.SEED ?? randomInt(2 ** 31));
const LIVES = Number(process.env.LIVES ?? 50);
const ACKNOWLEDGED_PER_LIFE = 1000;
const IN_FLIGHT_MAX = 16;
const CHANNELS = ['room:one', 'room:two', 'room:three'];
const draw = mulberry32(SEED);
console.log(`# seed ${SEED}, ${LIVES} lives`);

/** One who publishes to one channel: `ledger` is its own list of what it asked for, and what it was told. */
class Publisher {
  constructor(number) {
    Object.assign(this, { user: `publisher-${number}`, channel: CHANNELS[number % CHANNELS.length], ledger: [] });
  }

  /** Retries what was left unanswered, in its order and with its keys, then goes on; calls `told` at each answer. */
  async live(server, told) {
    this.socket = new WebSocket(server.ws);
    await new Promise((done, failed) => this.socket.once('open', done).once('error', failed));
    this.socket.on('error', () => {}); // the server is about to be killed
    this.retries = this.ledger.filter((entry) => entry.offset === undefined);
    this.asked = new Map();
    const connected = new Promise((done) => { this.connected = done; });
    this.socket.on('message', (data) => { for (const line of String(data).split('\n')) this.hear(JSON.parse(line), told); });
    this.send({ id: 1, connect: { token: token({ sub: this.user }) } });
    await connected;
    for (let n = 0; n < IN_FLIGHT_MAX; n++) this.ask();
  }

  hear(reply, told) {
    if (Object.keys(reply).length === 0) return this.send({}); // a ping
    if (reply.connect) return this.connected();
    const entry = this.asked.get(reply.id);
    assert.ok(entry && reply.rpc, `${this.user} was answered ${JSON.stringify(reply)}`);
    this.asked.delete(reply.id);
    Object.assign(entry, reply.rpc.data);
    told(entry);
    this.ask();
  }

  ask() {
    const n = this.ledger.length;
    const entry = this.retries.shift() ?? (this.ledger.push({ n, key: `${this.user}/${n}`, text: '.'.repeat((n * 37) % 400) }), this.ledger[n]);
    const id = this.asked.size ? Math.max(...this.asked.keys()) + 1 : 2;
    this.asked.set(id, entry);
    this.send({ id, rpc: { method: 'fireside.publish', data: { channel: this.channel, key: entry.key, data: { by: this.user, n: entry.n, text: entry.text } } } });
  }

  send(command) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(command));
  }
}

test('what is acknowledged survives kill -9', { timeout: 600_000 }, async (t) => {
  const server = await start({ session: 'commands_per_second = 100_000\ncommands_burst = 100_000' });
  after(() => server.stop());
  const publishers = Array.from({ length: 8 }, (_, number) => new Publisher(number));
  let rescued = 0;

  for (let life = 1; life <= LIVES; life++) {
    await t.test(`life ${life}`, async () => {
      if (life > 1) await server.run();
      const [enough, pause] = [ACKNOWLEDGED_PER_LIFE + Math.floor(draw() * 400), draw() * 4];
      let acknowledged = 0;
      const reached = new Promise((done) => {
        const told = (entry) => {
          if (entry.duplicate) rescued += 1;
          if (++acknowledged === enough) done();
        };
        for (const publisher of publishers) publisher.living = publisher.live(server, told);
      });
      await Promise.race([Promise.all([reached, ...publishers.map(({ living }) => living)]), server.ended.then(() => assert.fail(server.output))]);
      await moment(pause);
      await server.kill();
      await Promise.all(publishers.map(({ socket }) => until(() => socket.readyState === WebSocket.CLOSED, 'the sockets to end')));
      assert.ok(publishers.some(({ asked }) => asked.size > 0), 'the kill met nothing in flight');
    });
  }

  // What the last life left unanswered stays so: it may be there or not, but not twice and not out of order.
  await server.run();
  const reader = await join(server, 'reader', { caps: [{ channels: ['room:*'], allow: ['subscribe', 'history'] }] });
  after(() => reader.disconnect());
  for (const channel of CHANNELS) {
    await t.test(`the log of ${channel} has each acknowledged record, there, once, in order`, async () => {
      const { records, epoch } = await readAll(reader, channel);
      assert.deepEqual(records.map(({ offset }) => offset), records.map((_, index) => index + 1), 'dense');
      for (const publisher of publishers.filter((one) => one.channel === channel)) {
        const own = records.filter(({ data }) => data.by === publisher.user);
        assert.deepEqual(own.map(({ data }) => data.n), own.map((_, index) => index), `${publisher.user}: once, in order`);
        for (const { n, offset, epoch: told, text } of publisher.ledger.filter((entry) => entry.offset !== undefined)) {
          const record = records[offset - 1];
          assert.deepEqual([record?.data.by, record?.data.n, record?.data.text, epoch], [publisher.user, n, text, told], `offset ${offset}`);
        }
      }
    });
  }
  await t.test('kills fell between the write and its answer', () => assert.ok(rescued > 0));
  await t.test('fireside log check finds nothing wrong, while the server runs and after it', async () => {
    const check = () => promisify(execFile)(BINARY, ['log', 'check', '--config', server.config], { cwd: server.dir });
    await check();
    await server.kill();
    await check();
  });
  const count = publishers.flatMap(({ ledger }) => ledger).filter(({ offset }) => offset !== undefined).length;
  t.diagnostic(`seed ${SEED}: ${count} acknowledged, ${rescued} retries met their record already written`);
});

/** Waits `ms`, fractions included: the kill is to fall anywhere between two turns of the event loop. */
async function moment(ms) {
  const end = performance.now() + ms;
  while (performance.now() < end) await new Promise((done) => setImmediate(done));
}

/** A small generator of numbers in 0..1 from a seed. */
function mulberry32(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
