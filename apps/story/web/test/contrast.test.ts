// Every colour of text on every ground it stands on, in both themes: at least 4.5 to 1 (WCAG 2.2, 1.4.3). Edges of fields: 3 to 1 (1.4.11).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const css = readFileSync('src/style/base.css', 'utf8');
const colours = new Map([...css.matchAll(/--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)].map(([, name, light, dark]) => [name!, { light: light!, dark: dark! }]));

function luminance(colour: string): number {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one: string, other: string): number {
  const [dark = 0, light = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

const AUTHORS = ['a0', 'a1', 'a2', 'a3', 'a4', 'a5'];
const PAIRS: [string[], string[], number][] = [
  [['ink', 'ink-2'], ['paper', 'raised', 'sunk', 'ember-soft'], 4.5],
  [[...AUTHORS, 'bad'], ['paper', 'sunk'], 4.5],
  [['bad'], ['raised'], 4.5],
  [['ember'], ['paper', 'raised', 'ember-soft'], 4.5],
  [['on-ember'], ['ember'], 4.5],
  [['edge', 'good', 'warn', 'bad'], ['paper', 'raised'], 3],
];

test('text can be read on its ground, by day and by night', () => {
  assert.ok(colours.size >= 18, 'the colours were found');
  for (const [texts, grounds, least] of PAIRS) {
    for (const text of texts) {
      for (const ground of grounds) {
        for (const theme of ['light', 'dark'] as const) {
          const ratio = contrast(colours.get(text)![theme], colours.get(ground)![theme]);
          assert.ok(ratio >= least, `${text} on ${ground}, ${theme}: ${ratio.toFixed(2)} < ${least}`);
        }
      }
    }
  }
});
