// Autobahn's cases 1 to 10 against the `echo` example, which speaks through the production front door and codec.
// Needs FIRESIDE_ECHO (the example's binary) and KOSOKU (the runner's command).
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, until } from '../support/server.mjs';

const CASES_MIN = 301; // what the suite's groups 1 to 10 hold: fewer means that some were not run
const GOOD = ['OK', 'NON-STRICT', 'INFORMATIONAL'];

const port = await freePort();
const out = mkdtempSync(join(tmpdir(), 'fireside-autobahn-'));
const echo = spawn(process.env.FIRESIDE_ECHO, ['--port', String(port)], { stdio: ['ignore', 'inherit', 'inherit'] });
let [passed, failed] = [0, 0];
try {
  await until(() => new Promise((done) => {
    if (echo.exitCode !== null) throw new Error(`the echo ended with ${echo.exitCode}`);
    const socket = connect(port, '127.0.0.1', () => { socket.destroy(); done(true); }).on('error', () => done(false));
  }), 'the echo to listen');
  const groups = [1, 2, 3, 4, 5, 6, 7, 9, 10].flatMap((group) => ['-i', `${group}.*`]); // there is no group 8
  try {
    execFileSync(process.env.KOSOKU, ['-m', 'fuzzingclient', ...groups, '-o', out, `127.0.0.1:${port}`], { stdio: ['ignore', 'ignore', 'inherit'] });
  } catch (error) {
    console.log(`the runner ended with ${error.status ?? error}`); // it does so when a case failed: the index tells which
  }
  const [cases] = Object.values(JSON.parse(readFileSync(join(out, 'index.json'), 'utf8')));
  for (const [name, { behavior, behaviorClose }] of Object.entries(cases)) {
    const good = GOOD.includes(behavior) && GOOD.includes(behaviorClose);
    if (good) passed += 1; else failed += 1;
    if (behavior !== 'OK' || !good) console.log(`case ${name}: ${behavior}, close ${behaviorClose}`);
  }
  if (passed + failed < CASES_MIN) { console.log(`only ${passed + failed} of ${CASES_MIN} cases were run`); failed += 1; }
} finally {
  echo.kill();
  rmSync(out, { recursive: true });
}
console.log(`autobahn: ${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
