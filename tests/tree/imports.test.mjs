// Reads the tree: who may depend on whom, what the pure crates may pull in, what no module may be called.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join, relative, sep } from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../support/server.mjs';

/** Which crates of ours a crate may depend on. */
const OURS = {
  core: [],
  wire: ['core'],
  node: ['core'],
  store: ['core'],
  server: ['core', 'wire', 'node', 'store', 'story'],
  sim: ['core', 'wire', 'node', 'store'],
  bench: [],
  story: [],
};
/** All that the four pure crates may pull in, transitively: no runtime, no clock, no randomness, no I/O. */
const PURE = ['core', 'wire', 'node', 'store'];
const ALLOWED = new Set([
  'bytes', 'crc32c', 'serde', 'serde_core', 'serde_derive', 'serde_json', 'sha2', 'smallvec',
  // What those are made of.
  'block-buffer', 'cfg-if', 'const-oid', 'cpufeatures', 'crypto-common', 'digest', 'hybrid-array', 'itoa', 'libc', 'memchr', 'proc-macro2', 'quote',
  'rustc_version', 'ryu', 'semver', 'syn', 'typenum', 'unicode-ident', 'zmij',
]);
const NAMES_FORBIDDEN = ['utils', 'util', 'common', 'manager', 'managers', 'handler', 'handlers', 'helper', 'helpers', 'misc'];
const SERVER_PARTS = ['carrier', 'log', 'bus', 'http', 'observe'];

const metadata = JSON.parse(execFileSync('cargo', ['metadata', '--format-version', '1', '--locked'], { cwd: ROOT, maxBuffer: 2 ** 28, stdio: ['ignore', 'pipe', 'inherit'] }));
const packages = new Map(metadata.packages.map((one) => [one.id, one]));
const nodes = new Map(metadata.resolve.nodes.map((one) => [one.id, one]));
const idOf = (crate) => metadata.workspace_members.find((id) => packages.get(id).name === `fireside-${crate}`);
/** The crates that `id` is linked with: normal and build dependencies; what only tests use is left out. */
const needs = (id) => nodes.get(id).deps.filter(({ dep_kinds }) => dep_kinds.some(({ kind }) => kind !== 'dev')).map(({ pkg }) => pkg);

test('the workspace has the crates of the design and no other', () => {
  const found = metadata.workspace_members.map((id) => packages.get(id).name.replace(/^fireside-/, '')).sort();
  assert.deepEqual(found, Object.keys(OURS).sort());
});

for (const [crate, allowed] of Object.entries(OURS)) {
  test(`${crate} depends on no crate of ours but: ${allowed.join(', ') || 'none'}`, () => {
    const direct = nodes.get(idOf(crate)).deps.map(({ pkg }) => packages.get(pkg).name).filter((name) => name.startsWith('fireside-'));
    assert.deepEqual(direct.map((name) => name.slice(9)).filter((name) => !allowed.includes(name)), []);
  });
}

for (const crate of PURE) {
  test(`${crate} pulls in nothing beyond the allowlist`, () => {
    const seen = new Set();
    const walk = (id) => { if (!seen.has(id)) { seen.add(id); needs(id).forEach(walk); } };
    walk(idOf(crate));
    const strangers = [...seen].map((id) => packages.get(id).name).filter((name) => !name.startsWith('fireside-') && !ALLOWED.has(name));
    assert.deepEqual(strangers, []);
  });

  test(`${crate} has a clippy.toml that keeps clocks, randomness and threads out`, () => {
    const file = join(ROOT, 'crates', crate, 'clippy.toml');
    assert.ok(existsSync(file), `${relative(ROOT, file)} is missing`);
    const text = readFileSync(file, 'utf8');
    for (const method of ['std::time::Instant::now', 'std::time::SystemTime::now', 'std::env::var', 'std::thread::spawn']) {
      assert.ok(text.includes(`"${method}"`), `${method} is not disallowed`);
    }
  });
}

test('no module is called by a name that says nothing', () => {
  const bad = sources(join(ROOT, 'crates')).concat(sources(join(ROOT, 'apps/story/src')))
    .filter((file) => file.split(sep).some((part) => NAMES_FORBIDDEN.includes(basename(part, '.rs'))));
  assert.deepEqual(bad.map((file) => relative(ROOT, file)), []);
});

test('inside server, carrier, log, bus, http and observe ignore each other', () => {
  const root = join(ROOT, 'crates/server/src');
  const bad = [];
  for (const file of sources(root)) {
    const part = relative(root, file).split(sep)[0].replace(/\.rs$/, '');
    if (!SERVER_PARTS.includes(part)) continue;
    for (const other of imports(file)) if (SERVER_PARTS.includes(other) && other !== part) bad.push(`${relative(root, file)} imports ${other}`);
  }
  assert.deepEqual(bad, []);
});

test('only run.rs knows all of them', () => {
  const root = join(ROOT, 'crates/server/src');
  const all = sources(root).filter((file) => SERVER_PARTS.filter((part) => existsSync(join(root, part)) || existsSync(join(root, `${part}.rs`)))
    .every((part) => imports(file).includes(part)));
  assert.deepEqual(all.map((file) => relative(root, file)).filter((file) => file !== 'run.rs'), []);
});

test('node knows no bytes of a protocol, core no protocol', () => {
  const bad = ['core', 'node'].flatMap((crate) => sources(join(ROOT, 'crates', crate, 'src')))
    .filter((file) => /fireside_wire|centrifuge/i.test(code(file)));
  assert.deepEqual(bad.map((file) => relative(ROOT, file)), []);
});

/** Every .rs file under `dir`. */
function sources(dir) {
  return readdirSync(dir, { recursive: true }).filter((name) => name.endsWith('.rs')).map((name) => join(dir, name));
}

/** What a file says apart from its comments. */
const code = (file) => readFileSync(file, 'utf8').replace(/\/\/.*$/gm, '');

/** The top-level modules of its own crate that a file names: `crate::x`, also in braces. */
function imports(file) {
  const text = code(file);
  const single = [...text.matchAll(/\bcrate::(\w+)/g)].map(([, name]) => name);
  const braced = [...text.matchAll(/\bcrate::\{([^;]*)\}/g)].flatMap(([, list]) => [...list.matchAll(/(?:^|,)\s*(\w+)/g)].map(([, name]) => name));
  return [...new Set([...single, ...braced])];
}
