// Looks at every state of the story room: on a desk and on a phone, by day and by night. In each, axe finds nothing, nothing scrolls sideways, no
// script failed, and a picture is kept.
//
//   node tests/browser/states.mjs --base http://127.0.0.1:8000 [--shots DIR] [--only streaming,refused]
import axe from 'axe-core';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import * as room from './room.mjs';

const { values: options } = parseArgs({
  options: {
    base: { type: 'string', default: 'http://127.0.0.1:8000' },
    shots: { type: 'string' },
    only: { type: 'string' },
  },
});
const SIZES = { phone: { width: 390, height: 844 }, desk: { width: 1280, height: 800 } };
const LAMP = [
  ['mara', 'The lamp had not gone out in sixty years, and nobody in the valley could say who filled it. They only knew that when the snow came down from Hollow Pass, a yellow point stayed lit above the dark, patient as an eye.'],
  ['mara', 'On the first night of the thaw, it blinked.'],
  ['tobias', 'Edda saw it from the kitchen. She counted the dark between blinks, the way her grandmother had taught her to count thunder: four, then four, then nine.'],
];

let passed = 0;
const failures = [];

function check(name, holds, detail = '') {
  if (holds) passed += 1;
  else failures.push(`${name}${detail ? `: ${detail}` : ''}`);
}

async function look(name, page, { sizes = Object.keys(SIZES), before } = {}) {
  for (const size of sizes) {
    await page.setViewportSize(SIZES[size]);
    for (const theme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
      await before?.(page);
      const label = `${name}-${size}-${theme}`;
      await page.evaluate(() => document.fonts.ready);
      if (options.shots) await page.screenshot({ path: join(options.shots, `${label}.png`) });
      await examine(label, page);
    }
  }
  check(`${name}: no script failed`, page.troubles.length === 0, page.troubles.join(' | '));
}

/** Axe is evaluated by the debugger, which the page's policy does not bind; the policy stays as strict as it is. */
async function examine(label, page) {
  const { violations } = await page.evaluate(`(() => { ${axe.source}; return axe.run(document, { resultTypes: ['violations'] }); })()`);
  const found = violations.map((rule) => `${rule.id} (${rule.nodes.map((node) => `${node.target} ${node.failureSummary.split('\n')[1] ?? ''}`).join('; ')})`);
  check(`${label}: axe finds nothing`, violations.length === 0, found.join(' | '));
  const sideways = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(`${label}: nothing scrolls sideways`, sideways <= 0, `${sideways} px`);
}

/** A story with three people in it; `isolde` is the one who looks, over a network that can be broken. */
async function company(browser) {
  const host = await room.begin(options.base, 'Mara');
  const link = await room.invitation(options.base, host, 'writer');
  const contexts = await Promise.all([1, 2, 3].map(() => browser.newContext()));
  const mara = await room.comeBack(contexts[0], options.base, host);
  await room.live(mara);
  const tobias = await room.enter(contexts[1], link, 'Tobias');
  const isolde = await room.watched(contexts[2]);
  const network = await room.breakable(isolde);
  await isolde.goto(link);
  await isolde.getByTestId('name-input').fill('Isolde');
  await isolde.getByTestId('join').click();
  await room.live(isolde);
  const people = { mara, tobias, isolde };
  return { ...people, people, host, network, link, close: () => Promise.all(contexts.map((context) => context.close())) };
}

async function lampStory(browser) {
  const all = await company(browser);
  const named = all.mara.getByRole('button', { name: 'Rename the story' });
  await named.click();
  await all.mara.getByRole('textbox', { name: 'The story’s title' }).fill('The Lamp at Hollow Pass');
  await all.mara.keyboard.press('Enter');
  for (const [who, text] of LAMP) await room.write(all.people[who], text);
  await room.say(all.mara, 'nine blinks. should we say what nine means?');
  await room.line(all.tobias, 'should we say what nine means?').waitFor();
  await room.say(all.tobias, 'let the narrator, then we can argue with it');
  await room.line(all.isolde, 'then we can argue with it').waitFor();
  await room.say(all.isolde, "I like that she doesn't wake him");
  await room.paragraph(all.isolde, LAMP[2][1], 'sent').waitFor();
  return all;
}

const open = (page, tab) => page.getByRole('button', { name: new RegExp(`^${tab}`) }).click();

const STATES = {
  async 'first-visit'(browser) {
    const host = await room.begin(options.base, 'Mara');
    const page = await room.watched(await browser.newContext());
    await page.goto(await room.invitation(options.base, host, 'writer'));
    await page.getByTestId('name-input').waitFor();
    await look('first-visit', page);
    await page.getByTestId('join').click();
    await page.getByText('A name is all it takes.').waitFor();
    await page.context().close();
  },

  async expired(browser) {
    const page = await room.watched(await browser.newContext());
    const claims = Buffer.from(JSON.stringify({ role: 'writer', exp: 1_000_000_000 })).toString('base64url');
    await page.goto(new URL(`/story/lamp#invite=e30.${claims}.e30`, options.base).href);
    await page.getByText('This invitation does not open the story').waitFor();
    await look('expired', page);
    await page.goto(new URL('/story/lamp', options.base).href);
    await page.getByText('This story opens by invitation').waitFor();
    await look('uninvited', page, { sizes: ['phone'] });
    await page.context().close();
  },

  async begin(browser) {
    const page = await room.watched(await browser.newContext());
    await page.goto(options.base);
    await page.getByRole('button', { name: 'Begin' }).waitFor();
    await look('begin', page, { sizes: ['desk'] });
    await page.context().close();
  },

  async empty(browser) {
    const host = await room.begin(options.base, 'Mara');
    const page = await room.comeBack(await browser.newContext(), options.base, host);
    await page.getByText('Nobody has written yet').waitFor();
    await look('empty', page);
    await page.context().close();
  },

  async writing(browser) {
    const all = await lampStory(browser);
    await all.isolde.getByTestId('composer').fill('The path was softer than she remembered.');
    const typing = async () => {
      await all.tobias.getByTestId('composer').fill(`She ${Math.random()}`);
      await all.isolde.getByTestId('typing').getByText('Tobias is writing').waitFor();
    };
    await look('writing', all.isolde, { before: typing });
    await all.isolde.setViewportSize(SIZES.phone);
    await open(all.isolde, 'Chat');
    await look('chat', all.isolde, { sizes: ['phone'] });
    await all.isolde.setViewportSize(SIZES.phone);
    await open(all.isolde, 'People');
    await look('people', all.isolde, { sizes: ['phone'] });
    await all.isolde.setViewportSize(SIZES.phone);
    await open(all.isolde, 'Story');
    await room.write(all.tobias, 'نظرت إيدا إلى الضوء، ثم عدّت من جديد: أربعة، ثم أربعة، ثم تسعة.');
    await room.paragraph(all.isolde, 'نظرت إيدا').waitFor();
    const direction = await room.paragraph(all.isolde, 'نظرت إيدا').locator('.text').evaluate((text) => getComputedStyle(text).direction);
    check('right-to-left text keeps its direction', direction === 'rtl', direction);
    await room.write(all.mara, '<img src=x onerror="document.title=1"><b>bold</b>');
    await room.paragraph(all.isolde, '<b>bold</b>', 'sent').waitFor();
    check('text of others is text', (await all.isolde.locator('article img, article .text b').count()) === 0);
    await look('directions', all.isolde, { sizes: ['desk'] });
    await all.close();
  },

  async streaming(browser) {
    const all = await lampStory(browser);
    await all.isolde.getByTestId('narrator-go').click();
    const voice = all.isolde.locator('[data-testid=paragraph][data-state=streaming]');
    await voice.waitFor();
    await all.isolde.waitForFunction(() => document.querySelector('[data-state=streaming] .text')?.textContent.length > 160);
    await all.isolde.getByTestId('narrator-stop').waitFor();
    await look('streaming', all.isolde);
    await all.tobias.getByText('Isolde or a host can stop the narrator').waitFor();
    await all.mara.getByTestId('narrator-stop').click();
    await all.isolde.getByText('The narrator was stopped here.').waitFor();
    await look('stopped', all.isolde);
    await all.close();
  },

  async disconnected(browser) {
    const all = await lampStory(browser);
    all.network.down();
    await all.isolde.locator('[data-link=reconnecting]').first().waitFor();
    await room.write(all.isolde, 'The path was softer than she remembered.', { settled: false });
    await all.isolde.getByText('1 paragraph is kept on this device').waitFor();
    await look('disconnected', all.isolde);
    const now = await all.isolde.evaluate(() => Date.now());
    await all.isolde.clock.setSystemTime(now + 150_000);
    await all.isolde.getByRole('button', { name: 'Try now' }).waitFor();
    await look('gone-long', all.isolde);
    await all.isolde.clock.setSystemTime(now + 151_000);
    all.network.up();
    await all.isolde.getByRole('button', { name: 'Try now' }).click();
    await room.paragraph(all.isolde, 'The path was softer', 'sent').waitFor();
    await room.paragraph(all.tobias, 'The path was softer', 'sent').waitFor();
    check('what was kept is there once', (await room.story(all.tobias)).filter(({ text }) => text.startsWith('The path was')).length === 1);
    await all.close();
  },

  async refused(browser) {
    const all = await lampStory(browser);
    all.network.refuse((rpc) => {
      const long = rpc.data?.data?.type === 'paragraph' && { path: '/text', keyword: 'maxLength', message: 'is too long' };
      return long ? { code: 107, message: JSON.stringify([long]) } : undefined;
    });
    await room.write(all.isolde, 'The path was softer than she remembered, and it went on for longer than anybody could have said.', { settled: false });
    await room.paragraph(all.isolde, 'The path was softer', 'failed').waitFor();
    await look('refused', all.isolde);
    await all.isolde.reload();
    await room.paragraph(all.isolde, 'The path was softer', 'failed').waitFor();
    await all.isolde.getByTestId('edit').click();
    check('a refused paragraph comes back to be edited', (await all.isolde.getByTestId('composer').inputValue()).startsWith('The path was'));
    await all.isolde.reload();
    check('the draft is kept over a reload', (await all.isolde.getByTestId('composer').inputValue()).startsWith('The path was'));
    await all.close();
  },

  async closed(browser) {
    const all = await lampStory(browser);
    all.network.close(3500, 'invalid token');
    await all.isolde.getByText('You are not allowed in this story any more').waitFor();
    await look('not-allowed', all.isolde);
    await all.isolde.reload();
    await room.live(all.isolde);
    all.network.close(3504, 'connection limit');
    await all.isolde.getByRole('button', { name: 'Use it here' }).waitFor();
    await look('elsewhere', all.isolde);
    await all.isolde.getByRole('button', { name: 'Use it here' }).click();
    await room.live(all.isolde);
    await all.close();
  },

  async connecting(browser) {
    const host = await room.begin(options.base, 'Mara');
    const context = await browser.newContext();
    await context.routeWebSocket(/\/connection\/websocket/, () => undefined);
    const page = await room.comeBack(context, options.base, host);
    await page.locator('[data-link=connecting]').first().waitFor();
    await look('connecting', page, { sizes: ['phone'] });
    await page.getByText('The server has not answered yet.').waitFor();
    await look('unanswered', page, { sizes: ['desk'] });
    await context.close();
  },

  async reading(browser) {
    const all = await lampStory(browser);
    const context = await browser.newContext({ viewport: SIZES.desk });
    const reader = await room.enter(context, await room.invitation(options.base, all.host, 'reader'), 'Ana');
    await reader.getByText('You are reading along').waitFor();
    check('a reader has no composer', (await reader.getByTestId('composer').count()) === 0);
    await look('reader', reader);
    await context.close();
    for (let count = 1; count <= 12; count += 1) await room.write(all.tobias, `${LAMP[2][1]} And again, for the ${count}. time.`);
    const manuscript = all.isolde.getByTestId('manuscript');
    await room.paragraph(all.isolde, 'for the 12. time', 'sent').waitFor();
    await manuscript.hover();
    await all.isolde.mouse.wheel(0, -900);
    await all.isolde.waitForFunction(() => {
      const box = document.querySelector('[data-testid=manuscript]');
      return box.scrollHeight - box.scrollTop - box.clientHeight > 100;
    });
    const before = await manuscript.evaluate((box) => box.scrollTop);
    for (const word of ['One', 'Two', 'Three']) await room.write(all.mara, `${word}: the lamp went on as before.`);
    await all.isolde.getByText('3 new paragraphs below').waitFor();
    check('what is read stays put', (await manuscript.evaluate((box) => box.scrollTop)) === before);
    await look('below', all.isolde, { sizes: ['desk'] });
    await all.isolde.getByTestId('below').click();
    await all.isolde.getByTestId('below').waitFor({ state: 'detached' });
    await all.close();
  },
};

if (options.shots) await mkdir(options.shots, { recursive: true });
const wanted = options.only?.split(',') ?? Object.keys(STATES);
const browser = await room.launch();
for (const name of wanted) {
  try {
    await STATES[name](browser);
  } catch (error) {
    failures.push(`${name}: ${error.message.split('\n').slice(0, 3).join(' ')}`);
    for (const context of browser.contexts()) await context.close();
  }
}
await browser.close();
for (const failure of failures) console.error(`failed: ${failure}`);
console.log(`states: ${passed} passed, ${failures.length} failed`);
process.exit(failures.length === 0 ? 0 : 1);
