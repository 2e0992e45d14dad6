// Builds the page into dist/: hashed file names, the page that names them, and assets.rs, which embeds them in the server.
import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';

const SCRIPT_GZIPPED_MAX = 60 * 1024;
const KINDS = {
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  woff2: 'font/woff2',
  svg: 'image/svg+xml',
  html: 'text/html; charset=utf-8',
};
const FONTS = {
  literata: 'node_modules/@fontsource-variable/literata/files/literata-latin-wght-normal.woff2',
  inter: 'node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2',
};

process.chdir(import.meta.dirname);
await mkdir('dist', { recursive: true });
for (const name of await readdir('dist')) await rm(`dist/${name}`);

const hash = (bytes) => createHash('sha256').update(bytes).digest('hex').slice(0, 12);
const kind = (name) => KINDS[name.split('.').at(-1)];
const assets = [];

async function keep(stem, extension, bytes) {
  const name = `${stem}-${hash(bytes)}.${extension}`;
  await writeFile(`dist/${name}`, bytes);
  assets.push(name);
  return `/assets/${name}`;
}

async function bundle(entry, options = {}) {
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: ['es2022'],
    charset: 'utf8',
    legalComments: 'none',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    ...options,
  });
  return result.outputFiles[0].contents;
}

const urls = { icon: await keep('flame', 'svg', await readFile('static/flame.svg')) };
for (const [name, path] of Object.entries(FONTS)) urls[name] = await keep(name, 'woff2', await readFile(path));
const script = await bundle('src/main.tsx');
urls.script = await keep('story', 'js', script);
urls.theme = await keep('theme', 'js', await bundle('src/theme-first.ts', { format: 'iife' }));
const style = new TextDecoder().decode(await bundle('src/style.css', { external: ['asset:*'] }));
urls.style = await keep('story', 'css', Buffer.from(style.replaceAll(/asset:(\w+)/g, (_, name) => urls[name])));

const page = (await readFile('static/index.html', 'utf8')).replaceAll(/\{\{(\w+)\}\}/g, (_, name) => {
  if (!urls[name]) throw new Error(`the page names ${name}, which was not built`);
  return urls[name];
});
await writeFile('dist/index.html', page);

const constant = (name, indent) =>
  [
    'Asset {',
    `    name: "${name}",`,
    `    kind: "${kind(name)}",`,
    `    etag: "\\"${name === 'index.html' ? hash(page) : name.match(/-(\w+)\.\w+$/)[1]}\\"",`,
    `    bytes: include_bytes!("${name}"),`,
    '}',
  ].join(`\n${indent}`);
await writeFile(
  'dist/assets.rs',
  `const PAGE: Asset = ${constant('index.html', '')};\n` +
    `const ASSETS: &[Asset] = &[\n${assets.map((name) => `    ${constant(name, '    ')},\n`).join('')}];\n`,
);

const gzipped = gzipSync(script, { level: 9 }).length;
console.log(`script: ${script.length} B, ${gzipped} B gzipped (at most ${SCRIPT_GZIPPED_MAX})`);
if (gzipped > SCRIPT_GZIPPED_MAX) process.exit(1);
