// No acknowledgement leaves before the fdatasync that covers its record has returned: read off the system calls.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { after, test } from 'node:test';
import WebSocket from 'ws';
import { start, token } from '../support/server.mjs';

const PUBLISHES = 300;

/** Publishes under strace, `together` at a time, and gives back the system calls. */
async function traced(channel, together) {
  const scratch = mkdtempSync(path(tmpdir(), 'fireside-trace-'));
  after(() => rmSync(scratch, { recursive: true }));
  const trace = path(scratch, 'calls');
  const calls = 'trace=pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,fdatasync,fsync';
  const server = await start({
    session: 'commands_per_second = 100_000\ncommands_burst = 100_000',
    namespaces: ['fsync', 'os'].map((degree) => `[namespace.${degree}]
history = { records = 10_000, bytes = "64 MiB", age = "1d" }
durability = "${degree}"
allow = { publish = "user" }`).join('\n'),
    // -y names descriptors, -s keeps whole buffers.
    under: ['strace', '-f', '-y', '-s', '1000000', '-e', calls, '-e', 'signal=none', '-o', trace],
  });
  after(() => server.stop());
  const socket = new WebSocket(server.ws);
  await new Promise((done, failed) => socket.once('open', done).once('error', failed));
  socket.send(JSON.stringify({ id: 1, connect: { token: token({ sub: 'anna' }) } }));
  let next = 0;
  let answered = 0;
  const ask = () => {
    if (next < PUBLISHES) socket.send(JSON.stringify({ id: 1_000_000 + next, rpc: { method: 'fireside.publish', data: { channel, key: `k${next}`, data: `mark-${next}-` } } }));
    next += 1;
  };
  await new Promise((done, failed) => socket.on('message', (data) => {
    for (const line of String(data).split('\n')) {
      const reply = JSON.parse(line);
      if (reply.connect) for (let n = 0; n < together; n++) ask();
      else if (reply.error) failed(new Error(line));
      else if (reply.rpc) { answered += 1; ask(); if (answered === PUBLISHES) done(); }
      else if (Object.keys(reply).length === 0) socket.send('{}');
    }
  }));
  socket.close();
  await server.stop();
  return parse(readFileSync(trace, 'utf8'));
}

/** The calls of a trace: name, descriptor, arguments, result, and the lines on which each began and returned. */
function parse(trace) {
  const calls = [];
  const open = new Map(); // by thread: a call that another thread's call interrupted
  trace.split('\n').forEach((line, at) => {
    const [, thread, rest] = /^(\d+)\s+(.*)$/s.exec(line) ?? [];
    if (!thread) return;
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/s.exec(rest);
    if (resumed) {
      const call = open.get(thread);
      open.delete(thread);
      if (call) Object.assign(call, { text: call.text + resumed[1], returned: at });
    } else {
      const [, name] = /^(\w+)\(/.exec(rest) ?? [];
      if (!name) return;
      const call = { name, began: at, returned: at, text: rest.replace(/ <unfinished \.\.\.>$/, '') };
      if (rest.endsWith('<unfinished ...>')) { open.set(thread, call); call.returned = Infinity; }
      calls.push(call);
    }
  });
  for (const call of calls) {
    call.file = /^\w+\(\d+<([^>]*)>/.exec(call.text)?.[1] ?? '';
    call.ok = / = (\d+)( |$)/.test(call.text.slice(-60));
    call.socket = /^(socket|TCP|UNIX)/i.test(call.file);
  }
  return calls;
}

/** The publishes whose acknowledgement began to leave before a sync of their record's file, begun after its write, had returned. */
function early(calls) {
  const syncs = calls.filter(({ name, ok }) => (name === 'fdatasync' || name === 'fsync') && ok);
  const writes = calls.filter(({ name, socket }) => /write/.test(name) && !socket);
  const sends = calls.filter(({ socket }) => socket);
  return Array.from({ length: PUBLISHES }, (_, n) => n).filter((n) => {
    const written = writes.find(({ text }) => text.includes(`mark-${n}-`));
    const answer = sends.find(({ text }) => text.includes(`\\"id\\":${1_000_000 + n},`));
    assert.ok(written, `the write of record ${n} is in no call: the trace does not show what it must`);
    assert.ok(answer, `the acknowledgement of record ${n} is in no call: the trace does not show what it must`);
    return !syncs.some(({ file, began, returned }) => file === written.file && began > written.returned && returned < answer.began);
  });
}

for (const together of [1, 32]) {
  test(`with ${together} in flight, no acknowledgement precedes the fdatasync of its record`, { timeout: 120_000 }, async () => {
    assert.deepEqual(early(await traced('fsync:order', together)), []);
  });
}

test('the same reading finds the acknowledgements of an `os` namespace early: it can fail', { timeout: 120_000 }, async () => {
  assert.ok(early(await traced('os:order', 1)).length > 0);
});
