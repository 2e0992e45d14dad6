// Runs what the documents show. Every fenced block of README.md and docs/**/*.md is either `text` (nothing to run, such
// as a picture or an excerpt of output) or has a comment right before it that says how it is held true:
//
//   <!-- test: run -->              shell: each runs to its end and succeeds
//   <!-- test: run prints "…" -->   and prints that
//   <!-- test: starts "…" -->       shell: started, left running until the document ends, must print that
//   <!-- test: file NAME -->        written to NAME, for the blocks after it
//   <!-- test: config NAME -->      the same, and `fireside check` accepts it
//   <!-- test: parses -->           json or toml: well-formed
//   <!-- test: parts -->            lines of `./verify …`: each part named is one that `./verify list` has
//
// The blocks of one document run in their order in one empty directory, which has the tests' npm packages. `fireside`
// and `cargo run --release --` mean the binary under test.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { BINARY, ROOT, until } from '../support/server.mjs';

const RUN_MS_MAX = 60_000;
let [passed, failed] = [0, 0];
const documents = ['README.md', ...readdirSync(join(ROOT, 'docs'), { recursive: true }).map((name) => join('docs', name))]
  .filter((name) => name.endsWith('.md') && existsSync(join(ROOT, name)));
for (const document of documents) {
  const place = { dir: mkdtempSync(join(tmpdir(), 'fireside-docs-')), running: [] };
  symlinkSync(join(ROOT, 'tests/node_modules'), join(place.dir, 'node_modules'));
  for (const block of blocks(readFileSync(join(ROOT, document), 'utf8'))) {
    if (block.language === 'text' && !block.mark) continue;
    try {
      await hold(block, place);
      passed += 1;
    } catch (error) {
      failed += 1;
      console.log(`${document}:${block.line}: ${error.message}`);
    }
  }
  await Promise.all(place.running.map(end));
  rmSync(place.dir, { recursive: true });
}
console.log(`docs: ${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;

/** The fenced blocks of a document, each with the mark before it. */
function blocks(text) {
  const found = [];
  let [block, mark] = [null, ''];
  text.split('\n').forEach((line, index) => {
    const fence = /^\s*```\s*(\S*)/.exec(line);
    if (block) {
      if (fence && fence[1] === '') { found.push(block); [block, mark] = [null, '']; } else block.text += `${line}\n`;
    } else if (fence) block = { line: index + 1, language: fence[1] || 'text', mark, text: '' };
    else if (line.trim()) mark = /^\s*<!-- test: (.*) -->\s*$/.exec(line)?.[1] ?? '';
  });
  if (block) found.push({ ...block, mark: 'an end of the block' });
  return found;
}

/** Does what a block's mark says, or throws what is wrong. */
async function hold({ mark, text, language }, place) {
  const [verb, rest] = [mark.split(' ')[0], mark.slice(mark.indexOf(' ') + 1)];
  const quoted = /"(.*)"/.exec(rest)?.[1];
  if (verb === 'run') {
    const { ended, said } = shell(text, place.dir);
    const late = new Promise((done) => setTimeout(done, RUN_MS_MAX, 'late').unref());
    const code = await Promise.race([ended, late]);
    if (code !== 0) throw new Error(`ended with ${code}:\n${said()}`);
    if (quoted && !said().includes(quoted)) throw new Error(`does not print "${quoted}", but:\n${said()}`);
  } else if (verb === 'starts') {
    const process = shell(text, place.dir);
    place.running.push(process);
    await Promise.race([
      until(() => process.said().includes(quoted), () => `"${quoted}" in:\n${process.said()}`, RUN_MS_MAX),
      process.ended.then((code) => { throw new Error(`ended with ${code}:\n${process.said()}`); }),
    ]);
  } else if (verb === 'file' || verb === 'config') {
    writeFileSync(join(place.dir, rest), text);
    if (verb === 'config') execFileSync(BINARY, ['check', '--config', rest], { cwd: place.dir, encoding: 'utf8', stdio: 'pipe' });
  } else if (verb === 'parses') {
    if (language === 'json') JSON.parse(text);
    else if (language === 'toml') execFileSync('python3', ['-c', 'import sys, tomllib; tomllib.load(sys.stdin.buffer)'], { input: text, stdio: 'pipe' });
    else throw new Error(`no way to parse ${language}`);
  } else if (verb === 'parts') {
    const known = execFileSync(join(ROOT, 'verify'), ['list'], { encoding: 'utf8' }).split('\n');
    for (const part of text.replace(/#.*$/gm, '').split('\n').flatMap((line) => {
      const [command, ...parts] = line.trim().split(/\s+/);
      if (command && command !== './verify') throw new Error(`not ./verify: ${line}`);
      return parts;
    })) if (part !== 'list' && !known.includes(part)) throw new Error(`no part of ./verify is called ${part}`);
  } else throw new Error(mark ? `unknown mark: ${mark}` : `a ${language} block without a mark that says how it is tested`);
}

/** A shell with `fireside` in its path, in a process group of its own. */
function shell(text, cwd) {
  const script = `set -eu\n${text.replaceAll('cargo run --release --', 'fireside')}`;
  const child = spawn('bash', ['-c', script], {
    cwd, detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PATH: `${dirname(BINARY)}:${process.env.PATH}` },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (more) => { output += more; });
  return { child, said: () => output, ended: new Promise((done) => child.once('exit', (code, signal) => done(code ?? signal))) };
}

async function end({ child, ended }) {
  if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, 'SIGKILL');
  await ended;
}
