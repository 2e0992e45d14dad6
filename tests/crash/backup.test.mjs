// A backup of a running server, and what is left of one, and of a restore, that are killed in the middle.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BINARY, fresh, start } from '../support/server.mjs';

const RECORDS = 400;
const channel = fresh('room:kept-');
const scratch = mkdtempSync(join(tmpdir(), 'fireside-backup-'));
const body = (n) => ({ n, text: 'x'.repeat(40_000) });
let server;

before(async () => {
  server = await start();
  await publish(1, RECORDS);
});
after(async () => {
  await server?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

async function publish(from, to) {
  for (let n = from; n <= to; n++) assert.ok((await server.api('publish', { channel, data: body(n) })).result);
}

/** Runs `fireside log …`; killed after `ms` if it has not ended by then. */
function log(args, ms) {
  const child = spawn(BINARY, ['log', ...args, '--config', server.config], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => { output += text; });
  const timer = ms === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), ms);
  return new Promise((done) => child.once('close', (code, signal) => { clearTimeout(timer); done({ code, signal, output }); }));
}

/** Kills it later and later, until once it was done before that; answers how often it was killed. */
async function killed(args, isThere) {
  for (let kills = 0; ; kills++) {
    const { code, signal, output } = await log(args(kills), kills * 8);
    if (isThere(kills)) return kills; // whole, though its last breath may have been cut off
    assert.equal(signal, 'SIGKILL', `it ended with ${code} and made nothing: ${output}`);
  }
}

test('i3_true_ack_a_backup_of_a_running_server_holds_what_was_acknowledged_before_it', { timeout: 120_000 }, async () => {
  const file = join(scratch, 'running');
  const [done] = await Promise.all([log(['backup', file]), publish(RECORDS + 1, RECORDS + 50)]);
  assert.equal(done.code, 0, done.output);
  assert.equal((await log(['backup', file])).code, 1, 'it replaces nothing');
  assert.equal((await log(['restore', file])).code, 1, 'nor does a restore');
  const { epoch } = (await server.api('history', { channel, limit: 0 })).result;
  const data = join(scratch, 'restored');
  const restored = await log(['restore', file, '--data', data]);
  assert.equal(restored.code, 0, restored.output);
  const other = await start({ data });
  try {
    const top = (await other.api('history', { channel, limit: 0 })).result;
    assert.ok(top.offset >= RECORDS && top.offset <= RECORDS + 50, `${top.offset}`);
    assert.ok(BigInt(top.epoch) > BigInt(epoch), 'a reader of the log before must be told');
    const last = (await other.api('history', { channel, limit: 1, reverse: true })).result.publications[0];
    assert.deepEqual([last.offset, last.data], [top.offset, body(top.offset)]);
  } finally {
    await other.stop();
  }
});

test('a_backup_that_is_killed_is_none_and_a_restore_that_is_killed_serves_nothing', { timeout: 120_000 }, async () => {
  const file = join(scratch, 'killed');
  const backups = await killed(() => ['backup', file], () => existsSync(file));
  const data = (kills) => join(scratch, `killed-${kills}`);
  const restores = await killed((kills) => ['restore', file, '--data', data(kills)], (kills) => existsSync(join(data(kills), 'log')));
  assert.ok(backups > 2 && restores > 2, `killed ${backups} and ${restores} times`);
  const again = await log(['restore', file, '--data', data(restores - 1)]);
  assert.equal(again.code, 0, `what a killed one left is in nobody's way: ${again.output}`);
  for (const kills of [restores - 1, restores]) {
    const whole = await log(['check', '--data', data(kills)]);
    assert.match(whole.output, /all sound/);
  }
});
