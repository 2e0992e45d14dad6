// Looks at every state of the story room: on a desk and on a phone, by day and by night. In each, axe finds nothing, nothing scrolls sideways, no
// script failed, and a picture is kept.
//
// By hand: ROOM_URL=http://127.0.0.1:8000 SHOTS=pictures node --test --test-name-pattern=refused tests/browser/states.mjs
import axe from 'axe-core';
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as room from './room.mjs';

const SIZES = { phone: { width: 390, height: 844 }, desk: { width: 1280, height: 800 } };
const LAMP = [
  ['mara', 'The lamp had not gone out in sixty years, and nobody in the valley could say who filled it. They only knew that when the snow came down from Hollow Pass, a yellow point stayed lit above the dark, patient as an eye.'],
  ['mara', 'On the first night of the thaw, it blinked.'],
  ['tobias', 'Edda saw it from the kitchen. She counted the dark between blinks, the way her grandmother had taught her to count thunder: four, then four, then nine.'],
];

const { SHOTS } = process.env;

let browser, base, leave;
/** What was found wrong in the state that is looked at: all of it is told, not the first alone. */
let failures = [];

before(async () => {
  if (SHOTS) await mkdir(SHOTS, { recursive: true });
  ({ base, leave } = await room.house());
  browser = await room.launch();
});
after(async () => {
  await browser?.close();
  await leave?.();
});

function check(name, holds, detail = '') {
  if (!holds) failures.push(`${name}${detail ? `: ${detail}` : ''}`);
}

async function look(name, page, { sizes = Object.keys(SIZES), before } = {}) {
  for (const size of sizes) {
    await page.setViewportSize(SIZES[size]);
    for (const theme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
      await before?.(page);
      const label = `${name}-${size}-${theme}`;
      await page.evaluate(() => document.fonts.ready);
      if (SHOTS) await page.screenshot({ path: join(SHOTS, `${label}.png`) });
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
async function company() {
  const host = await room.begin(base, 'Mara');
  const link = await room.invitation(base, host, 'writer');
  const contexts = await Promise.all([1, 2, 3].map(() => browser.newContext()));
  const mara = await room.comeBack(contexts[0], base, host);
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

async function lampStory() {
  const all = await company();
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

const drafted = (page, text) =>
  page.waitForFunction((text) => document.querySelector('[data-testid=composer]')?.value.startsWith(text), text);
const open = (page, tab) => page.getByRole('button', { name: new RegExp(`^${tab}`) }).click();

const STATES = {
  async 'first-visit'() {
    const host = await room.begin(base, 'Mara');
    const page = await room.watched(await browser.newContext());
    await page.goto(await room.invitation(base, host, 'writer'));
    await page.getByTestId('name-input').waitFor();
    await look('first-visit', page);
    await page.getByTestId('join').click();
    await page.getByText('A name is all it takes.').waitFor();
    await page.context().close();
  },

  async expired() {
    const page = await room.watched(await browser.newContext());
    const claims = Buffer.from(JSON.stringify({ role: 'writer', exp: 1_000_000_000 })).toString('base64url');
    await page.goto(new URL(`/story/lamp#invite=e30.${claims}.e30`, base).href);
    await page.getByText('This invitation does not open the story').waitFor();
    await look('expired', page);
    await page.goto(new URL('/story/lamp', base).href);
    await page.getByText('This story opens by invitation').waitFor();
    await look('uninvited', page, { sizes: ['phone'] });
    await page.context().close();
  },

  async begin() {
    const page = await room.watched(await browser.newContext());
    await page.goto(base);
    await page.getByRole('button', { name: 'Begin' }).waitFor();
    await look('begin', page, { sizes: ['desk'] });
    await page.context().close();
  },

  async empty() {
    const host = await room.begin(base, 'Mara');
    const page = await room.comeBack(await browser.newContext(), base, host);
    await page.getByText('Nobody has written yet').waitFor();
    await look('empty', page);
    await page.context().close();
  },

  async writing() {
    const all = await lampStory();
    await all.isolde.getByTestId('composer').fill('The path was softer than she remembered.');
    const typing = async () => {
      await all.tobias.getByTestId('composer').fill(`She ${Math.random()}`);
      await all.isolde.getByTestId('typing').getByText('Tobias is writing').waitFor();
    };
    await look('writing', all.isolde, { before: typing });
    await all.isolde.setViewportSize(SIZES.phone);
    await room.say(all.mara, 'and who fills the lamp?');
    await all.isolde.getByRole('button', { name: 'Chat · 1' }).waitFor();
    await open(all.isolde, 'Chat');
    await all.isolde.getByRole('button', { name: 'Chat', exact: true }).waitFor();
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

  async streaming() {
    const all = await lampStory();
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

  async disconnected() {
    const all = await lampStory();
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

  async refused() {
    const all = await lampStory();
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
    await drafted(all.isolde, 'The path was');
    await all.isolde.reload();
    await drafted(all.isolde, 'The path was');
    await all.close();
  },

  async amended() {
    const all = await lampStory();
    const own = all.tobias.locator('[data-testid=paragraph]').filter({ hasText: 'Edda saw it' });
    await own.hover();
    await look('own', all.tobias, { before: () => own.hover() });
    await all.tobias.setViewportSize(SIZES.desk);
    await own.hover();
    await own.getByTestId('edit-paragraph').click();
    await all.tobias.getByTestId('edit-field').fill('Edda saw it from the kitchen, and counted the dark between blinks: four, then four, then nine.');
    await look('editing', all.tobias);
    await all.tobias.getByTestId('save-edit').click();
    await all.tobias.getByTestId('edited').waitFor();
    const blinked = room.paragraph(all.mara, 'it blinked', 'sent');
    await blinked.hover();
    await blinked.getByTestId('edit-paragraph').click();
    await all.mara.getByTestId('remove-paragraph').click();
    for (const page of [all.mara, all.isolde]) await page.getByTestId('removed').waitFor();
    await all.isolde.getByTestId('edited').waitFor();
    await look('amended', all.isolde);
    await look('amended-host', all.mara);
    await all.close();
  },

  async 'not-changed'() {
    const all = await lampStory();
    await room.write(all.isolde, 'The path was softer than she remembered.');
    all.network.refuse((rpc) => rpc.data?.data?.type === 'edit' && { code: 103, message: 'permission denied' });
    await all.isolde.getByTestId('composer').press('ArrowUp');
    await all.isolde.getByTestId('edit-field').fill('The path was soft.');
    await all.isolde.getByTestId('edit-field').press('Control+Enter');
    await all.isolde.getByTestId('not-changed').waitFor();
    await look('not-changed', all.isolde);
    await all.isolde.getByTestId('not-changed').getByRole('button', { name: 'Edit' }).click();
    check('a refused edit is edited on', (await all.isolde.getByTestId('edit-field').inputValue()) === 'The path was soft.');
    await all.close();
  },

  async sending() {
    const all = await lampStory();
    await room.write(all.isolde, 'The path was softer than she remembered.');
    all.network.lose(true);
    await room.write(all.isolde, 'It gave at every second step.', { settled: false });
    await room.paragraph(all.isolde, 'It gave at', 'pending').waitFor();
    await look('sending', all.isolde);
    // The log has it, but the answer and the news of it are lost: it is sent again, and is there once.
    await room.paragraph(all.tobias, 'It gave at', 'sent').waitFor();
    all.network.close(3000, 'closed');
    all.network.lose(false);
    await room.paragraph(all.isolde, 'It gave at', 'sent').waitFor();
    await room.write(all.isolde, 'She went on.');
    await room.paragraph(all.tobias, 'She went on', 'sent').waitFor();
    for (const page of [all.isolde, all.tobias]) {
      check('what was sent twice is there once', (await room.story(page)).filter(({ text }) => text.startsWith('It gave')).length === 1);
    }
    await all.close();
  },

  async invited() {
    const all = await lampStory();
    // As on an address without https: the clipboard is closed to the page.
    await all.isolde.evaluate(() => (navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'))));
    await all.isolde.getByTestId('invite').click();
    await all.isolde.getByText('Copy this link for whoever you invite').waitFor();
    await look('invited', all.isolde, { sizes: ['desk'] });
    await all.isolde.reload();
    await room.live(all.isolde);
    await all.isolde.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await all.isolde.getByTestId('invite').click();
    await all.isolde.getByTestId('invite').getByText('Link copied').waitFor();
    const copied = await all.isolde.evaluate(() => navigator.clipboard.readText());
    check('the copied link is an invitation', new RegExp(`/story/${all.host.story}#invite=`).test(copied), copied);
    await all.close();
  },

  async zoomed() {
    const all = await lampStory();
    await all.isolde.setViewportSize({ width: 640, height: 400 });
    if (SHOTS) await all.isolde.screenshot({ path: join(SHOTS, 'zoomed.png') });
    await examine('zoomed to 200 %', all.isolde);
    const box = await all.isolde.getByTestId('manuscript').boundingBox();
    check('zoomed to 200 %, three lines of the story can be read', box.height >= 90, `${box.height} px`);
    await all.close();
  },

  async keyboard() {
    const all = await lampStory();
    await all.mara.bringToFront();
    const reached = new Set();
    for (let presses = 0; presses < 30; presses += 1) {
      await all.mara.keyboard.press('Tab');
      const focus = await all.mara.evaluate(() => {
        const { activeElement: element } = document;
        if (element === document.body) return undefined;
        const name = element.dataset.testid ?? element.getAttribute('aria-label') ?? element.textContent;
        // Fields show it by their edge.
        const field = /textarea|input/i.test(element.tagName);
        const { outlineStyle, borderColor, caretColor } = getComputedStyle(element);
        return { name, seen: field ? borderColor !== caretColor : outlineStyle !== 'none' };
      });
      if (!focus) continue;
      reached.add(focus.name);
      check(`focus on ${focus.name} is seen`, focus.seen);
    }
    for (const name of ['Rename the story', 'invite', 'manuscript', 'edit-paragraph', 'composer', 'narrator-go', 'download', 'chat-input']) {
      check(`${name} is reached by the keyboard`, reached.has(name), [...reached].join(', '));
    }
    await all.close();
  },

  async closed() {
    const all = await lampStory();
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

  async connecting() {
    const host = await room.begin(base, 'Mara');
    const context = await browser.newContext();
    await context.routeWebSocket(/\/connection\/websocket/, () => undefined);
    const page = await room.comeBack(context, base, host);
    await page.locator('[data-link=connecting]').first().waitFor();
    await look('connecting', page, { sizes: ['phone'] });
    await page.getByText('The server has not answered yet.').waitFor();
    await look('unanswered', page, { sizes: ['desk'] });
    await context.close();
  },

  async reading() {
    const all = await lampStory();
    const context = await browser.newContext({ viewport: SIZES.desk });
    const reader = await room.enter(context, await room.invitation(base, all.host, 'reader'), 'Ana');
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

for (const [name, state] of Object.entries(STATES)) {
  test(name, { timeout: 120_000 }, async () => {
    failures = [];
    try {
      await state();
    } finally {
      for (const context of browser.contexts()) await context.close();
    }
    assert.deepEqual(failures, []);
  });
}
