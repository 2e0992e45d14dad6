// Bytes that no client would send, and what an operator does to a server in mid-life: each gets its answer, and whoever is connected
// does not notice.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, readdirSync, writeSync } from 'node:fs';
import { join as path } from 'node:path';
import { after, before, test } from 'node:test';
import { API_KEY, BINARY, TOKEN_SECRET, fresh, start, token, until } from '../support/server.mjs';
import { UPGRADE, Wire, bytes, frame } from '../support/wire.mjs';

let server;
let witness; // connected all the while
const channel = fresh('room:');
before(async () => {
  server = await start({ session: 'commands_per_second = 100_000\ncommands_burst = 100_000' });
  witness = await Wire.join(server, 'witness');
  await witness.subscribe(channel);
});
after(async () => { witness?.leave(); await server?.stop(); });

/** The oracle of every row: who was connected still is, and is served; nothing that is secret was printed. */
async function unharmed() {
  assert.ok((await witness.publish(channel, 'a body that nobody prints')).publish);
  for (const secret of [TOKEN_SECRET, API_KEY, 'a body that nobody prints', 'eyJ', 'panicked']) assert.ok(!server.output.includes(secret), secret);
}

const head = (...lines) => `${lines.join('\r\n')}\r\n\r\n`;
const REQUESTS = {
  'a2 a line without end': [`GET / HTTP/1.1\r\nX: ${'a'.repeat(1 << 20)}`, '431'],
  'a2 ten thousand lines': [`GET / HTTP/1.1\r\n${'a: b\r\n'.repeat(10_000)}\r\n`, '431'],
  'a3 seven thousand subprotocols': [`${UPGRADE}Sec-WebSocket-Protocol: ${'a,'.repeat(7000)}\r\n\r\n`, '400'],
  'a4 another version, with a tunnel behind it': [`${UPGRADE.replace('13', '777')}\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n`, '426'],
  'a5 two kinds of length': [`${head('POST /api/info HTTP/1.1', 'Host: x', 'Content-Length: 6', 'Transfer-Encoding: chunked')}0\r\n\r\nG`, '400'],
  'a5 two lengths': [`${head('POST /api/info HTTP/1.1', 'Host: x', 'Content-Length: 6', 'Content-Length: 5')}123456`, '400'],
  'a5 a list of lengths': [`${head('POST /api/info HTTP/1.1', 'Host: x', 'Content-Length: 5, 5')}12345`, '400'],
  'a5 a signed length': [`${head('POST /api/info HTTP/1.1', 'Host: x', 'Content-Length: +5')}12345`, '400'],
  'a5 an unknown coding': [`${head('POST /api/info HTTP/1.1', 'Host: x', 'Transfer-Encoding: xchunked')}0\r\n\r\n`, '400'],
  'a5 bare line feeds': ['GET / HTTP/1.1\nHost: x\n\n', '400'],
  'a5 a folded line': [head('GET / HTTP/1.1', 'Host: x', 'X: a', ' b'), '400'],
  'a5 a space before the colon': [head('GET / HTTP/1.1', 'Host : x'), '400'],
  'a7 a look-alike': [head(`${UPGRADE}Origin: http://127.0.0.1:PORT.evil.example`), '403'],
  'a7 a user in front': [head(`${UPGRADE}Origin: http://x@127.0.0.1:PORT`), '403'],
  'a7 a trailing dot': [head(`${UPGRADE}Origin: http://127.0.0.1.:PORT`), '403'],
  'a7 two origins': [head(`${UPGRADE}Origin: http://127.0.0.1:PORT`, 'Origin: http://evil.example'), '403'],
  'a11 metrics by an absolute address': [head('GET http://127.0.0.1/metrics HTTP/1.1', 'Host: x', 'Connection: close'), '404'],
  'a12 nothing but zeros': [Buffer.alloc(20_000), '400'],
  'a12 the greeting of TLS': [Buffer.from('160301020001000100', 'hex'), '400'],
};

for (const [name, [request, status]] of Object.entries(REQUESTS)) {
  test(name, async () => {
    const { text, closed } = await bytes(server.port, typeof request === 'string' ? request.replace('PORT', server.port) : request);
    assert.equal(text.split(' ')[1], status, text.slice(0, 200));
    assert.deepEqual([closed, text.split('HTTP/1.1 ').length - 1], [true, 1], 'one answer, and an end');
    await unharmed();
  });
}

const close = (code, reason = '') => frame(Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason, 'latin1')]), { head: 0x88 });
const fragments = (count, body) => [frame('', { head: 0x01 }), ...Array(count).fill(frame(body, { head: 0x00 }))];
const FRAMES = {
  'b1 a reserved bit': [[frame('{}', { head: 0xc1 })], 1002],
  'b1 no mask': [[frame('{}', { masked: false })], 1002],
  'b1 a reserved opcode': [[frame('', { head: 0x8b })], 1002],
  'b1 a long ping': [[frame('x'.repeat(126), { head: 0x89 })], 1002],
  'b1 a close that no code is': [[close(999)], 1002],
  'b1 a reason that is no text': [[close(1000, '\xff')], 1007],
  'b1 half a letter at the end': [[frame(Buffer.from([0xe2, 0x82]), { head: 0x01 }), frame('"', { head: 0x80 })], 1007],
  'b2 a length of 2⁶³ - 1': [[frame('', { length: '9223372036854775807' })], 1009],
  'b2 a length beyond that': [[frame('', { length: '18446744073709551615' })], 1002],
  'b3 empty fragments': [fragments(300, ''), 1009],
  'b3 fragments of one byte': [fragments(10_000, ' '), 1009],
  'b6 a flood of pings': [Array(200).fill(frame('a', { head: 0x89 })), 1008],
  'b6 a flood of pongs': [Array(200).fill(frame('a', { head: 0x8a })), 1008],
  'c1 a frame of brackets': [[frame('['.repeat(70_000))], 3501],
  'c2 a pong that nobody asked for': [[frame('{}')], 3501],
  'c2 a command of no kind': [[frame('{"id":4,"zzz":{}}')], 3501],
  'c2 more commands than one frame may have': [[frame(Array(257).fill('{"id":5,"history":{"channel":"room:x"}}').join('\n'))], 3501],
  'c2 an empty message': [[frame('')], 3501],
};

for (const [name, [frames, code]] of Object.entries(FRAMES)) {
  test(name, async () => {
    const hello = frame(JSON.stringify({ id: 1, connect: { token: token({ sub: 'eve' }) } }));
    const { heard, closed } = await bytes(server.port, `${UPGRADE}\r\n`, Buffer.concat([hello, ...frames]));
    const at = heard.lastIndexOf(0x88); // the close frame is the last that is heard
    assert.deepEqual([closed, heard.readUInt16BE(at + 2)], [true, code], heard.toString('latin1').slice(-100));
    await unharmed();
  });
}

test('r7_two_hundred_clients_are_told_that_the_server_stops_and_nothing_acknowledged_is_lost', { timeout: 60_000 }, async () => {
  const room = fresh('room:stop-');
  const wires = [];
  for (let n = 0; n < 200; n++) { wires.push(await Wire.join(server, `reader-${n}`)); await wires[n].subscribe(room); }
  const told = [];
  let said = 0;
  const publishing = (async () => {
    for (let n = 0; ; n++) {
      const { rpc } = await witness.rpc('fireside.publish', { channel: room, key: `k${n}`, data: { n } });
      if (!rpc) return;
      told.push(rpc.data.offset);
      said += 1;
    }
  })();
  await until(() => said >= 50, '50 acknowledged records');
  server.child.kill('SIGTERM');
  assert.deepEqual(await server.ended, { code: 0, signal: null });
  await publishing;
  for (const wire of wires) assert.equal((await wire.closed).code, 3001);
  await server.run();
  witness = await Wire.join(server, 'witness');
  const again = await witness.subscribe(room, { recover: true, epoch: wires[0].heard.find(({ subscribe }) => subscribe).subscribe.epoch, offset: 0 });
  assert.equal(again.subscribe.recovered, true);
  await witness.sees(room, told.at(-1));
  const kept = new Map(witness.records(room).map(({ offset, data }) => [offset, data.n]));
  told.forEach((offset, n) => assert.equal(kept.get(offset), n));
});

test('e6_a_flipped_bit_is_named_and_costs_its_channel_alone', { timeout: 60_000 }, async () => {
  const rooms = ['hit', 'near', 'far'].map((name) => fresh(`room:${name}-`));
  for (let n = 1; n <= 30; n++) for (const room of rooms) await server.api('publish', { channel: room, data: { room, n, text: 'x'.repeat(2000) } });
  const position = async (room) => (await server.api('history', { channel: room, limit: 0 })).result;
  const before = await Promise.all(rooms.map(position));
  await server.kill();
  const log = path(server.dir, 'data', 'log');
  const body = JSON.stringify({ room: rooms[0], n: 15 }).slice(0, -1);
  const [file, at] = readdirSync(log).map((name) => [path(log, name), readFileSync(path(log, name)).indexOf(body)]).find(([, found]) => found > 0);
  const segment = openSync(file, 'r+');
  writeSync(segment, Buffer.from([body.charCodeAt(0) ^ 1]), 0, 1, at);
  closeSync(segment);
  const check = spawnSync(BINARY, ['log', 'check', '--config', server.config], { cwd: server.dir, encoding: 'utf8', timeout: 20_000 });
  assert.equal(check.status, 1);
  assert.match(check.stdout + check.stderr, new RegExp(`channel ${rooms[0]}, records 15 to 15`));
  await server.run();
  await until(() => server.output.includes(rooms[0]), 'the server to name the channel');
  const after = await Promise.all(rooms.map(position));
  assert.deepEqual(after.slice(1), before.slice(1), 'the others are as they were');
  assert.ok(after[0].epoch !== before[0].epoch && after[0].offset === 30, 'readers of the damaged one are told');
  const left = (await server.api('history', { channel: rooms[0], limit: 100 })).result.publications;
  assert.deepEqual(left.map(({ offset }) => offset), Array.from({ length: 15 }, (_, index) => 16 + index));
  for (const room of rooms) assert.equal((await server.api('publish', { channel: room, data: 1 })).result.offset, 31);
});
