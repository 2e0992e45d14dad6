// Paragraphs are edited, removed and put back in one browser and followed in another; the story is downloaded as it stands.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { until } from '../support/server.mjs';
import * as room from './room.mjs';

let browser, base, leave, host, mara, tobias;

before(async () => {
  ({ base, leave } = await room.house());
  browser = await room.launch();
  host = await room.begin(base, 'Mara');
  mara = await room.comeBack(await browser.newContext(), base, host);
  await room.live(mara);
  tobias = await room.enter(await browser.newContext(), await room.invitation(base, host, 'writer'), 'Tobias');
}, { timeout: 60_000 });
after(async () => {
  await browser?.close();
  await leave?.();
});

const at = (page, text) => room.paragraph(page, text, 'sent');
const removed = (page) => page.getByTestId('removed');
const texts = async (page) => (await room.story(page)).map(({ text }) => text);
const shows = (page, expected) => until(async () => JSON.stringify(await texts(page)) === JSON.stringify(expected), async () => `${expected}; it shows ${await texts(page)}`);

async function edit(page, before, text) {
  await at(page, before).hover();
  await at(page, before).getByTestId('edit-paragraph').click();
  await page.getByTestId('edit-field').fill(text);
}

test('an author edits by the keyboard alone, and the other sees it, marked', { timeout: 60_000 }, async () => {
  await room.write(tobias, 'The lamp blinked.');
  await room.write(tobias, 'Edda saw it.');
  await tobias.getByTestId('composer').press('ArrowUp'); // in an empty composer: the last one of one's own
  await tobias.getByTestId('edit-field').press('Escape');
  await until(() => tobias.evaluate(() => document.activeElement.dataset.testid === 'edit-paragraph'), 'the focus to be back at its paragraph');
  await tobias.keyboard.press('ArrowUp'); // from there to the one before
  await tobias.keyboard.press('Enter');
  await tobias.getByTestId('edit-field').fill('The lamp went out.');
  await tobias.keyboard.press('Control+Enter');
  for (const page of [tobias, mara]) {
    await shows(page, ['The lamp went out.', 'Edda saw it.']);
    await at(page, 'The lamp went out.').getByTestId('edited').waitFor();
  }
  assert.equal(await at(mara, 'The lamp went out.').getByTestId('edited').textContent(), 'edited');
});

test('a writer cannot open what another wrote, a host can, and it says who', { timeout: 60_000 }, async () => {
  await room.write(mara, 'It was the thaw.');
  await at(tobias, 'It was the thaw.').waitFor();
  assert.equal(await at(tobias, 'It was the thaw.').getByTestId('edit-paragraph').count(), 0);
  await edit(mara, 'Edda saw it.', 'Edda had seen it.');
  await mara.getByTestId('save-edit').click();
  await shows(tobias, ['The lamp went out.', 'Edda had seen it.', 'It was the thaw.']);
  await at(tobias, 'Edda had seen it.').getByText('edited by Mara').waitFor();
});

test('an edit that a page would not send changes nothing for anybody', { timeout: 60_000 }, async () => {
  const link = new URL(await room.invitation(base, host, 'writer'));
  const answer = await fetch(new URL('/story-api/join', base), {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ invite: new URLSearchParams(link.hash.slice(1)).get('invite'), name: 'Mallory' }),
  });
  const { token, story } = await answer.json();
  const mallory = new Centrifuge(base.replace('http', 'ws') + '/connection/websocket', { token, websocket: WebSocket });
  mallory.connect();
  await mallory.ready(15_000);
  for (const data of [{ type: 'edit', of: 1, text: 'Stolen.' }, { type: 'remove', of: 1 }]) {
    await assert.rejects(mallory.rpc('fireside.publish', { channel: `story:${story}`, data }), { code: 403, message: 'only its author and a host may change a paragraph' });
  }
  await assert.rejects(mallory.rpc('fireside.publish', { channel: `story:${story}`, data: { type: 'title', text: 'Mine' } }), { code: 403 });
  mallory.disconnect();
  await room.write(tobias, 'Nobody spoke.');
  await shows(mara, ['The lamp went out.', 'Edda had seen it.', 'It was the thaw.', 'Nobody spoke.']);
});

test('a removed paragraph leaves a quiet mark, and can be put back', { timeout: 60_000 }, async () => {
  await edit(tobias, 'Nobody spoke.', 'Nobody spoke.');
  await tobias.getByTestId('remove-paragraph').click();
  await removed(mara).getByText('Tobias removed a paragraph here.').waitFor();
  await shows(mara, ['The lamp went out.', 'Edda had seen it.', 'It was the thaw.']);
  await removed(tobias).getByTestId('put-back').click();
  for (const page of [mara, tobias]) await shows(page, ['The lamp went out.', 'Edda had seen it.', 'It was the thaw.', 'Nobody spoke.']);
  await edit(mara, 'It was the thaw.', 'It was the thaw.');
  await mara.getByTestId('remove-paragraph').click();
  for (const page of [mara, tobias]) await shows(page, ['The lamp went out.', 'Edda had seen it.', 'Nobody spoke.']);
});

test('it stands so after a reload, and an edit that was begun goes on', { timeout: 60_000 }, async () => {
  await edit(tobias, 'The lamp went out.', 'The lamp went out, and');
  await Promise.all([tobias.reload(), mara.reload()]);
  await Promise.all([room.live(tobias), room.live(mara)]);
  await shows(mara, ['The lamp went out.', 'Edda had seen it.', 'Nobody spoke.']);
  assert.equal(await tobias.getByTestId('edit-field').inputValue(), 'The lamp went out, and');
  await tobias.getByTestId('edit-field').fill('The lamp went out at four.');
  await tobias.getByTestId('save-edit').click();
  await shows(mara, ['The lamp went out at four.', 'Edda had seen it.', 'Nobody spoke.']);
});

test('what was edited without a connection is kept and sent once', { timeout: 60_000 }, async () => {
  const page = await room.watched(await browser.newContext());
  const network = await room.breakable(page);
  await page.goto(await room.invitation(base, host, 'writer'));
  await page.getByTestId('name-input').fill('Isolde');
  await page.getByTestId('join').click();
  await room.live(page);
  await room.write(page, 'Snow fell.');
  network.down();
  await page.locator('[data-link=reconnecting]').first().waitFor();
  await page.getByTestId('composer').press('ArrowUp');
  await page.getByTestId('edit-field').fill('No snow fell.');
  await page.getByTestId('save-edit').click();
  await room.paragraph(page, 'No snow fell.').getByText('changed here, not sent yet').waitFor();
  network.up();
  await shows(mara, ['The lamp went out at four.', 'Edda had seen it.', 'Nobody spoke.', 'No snow fell.']);
  await room.paragraph(page, 'No snow fell.').getByText('edited').waitFor();
  assert.deepEqual(page.troubles, []);
  await page.context().close();
});

test('a host edits what the narrator said, once it has ended', { timeout: 60_000 }, async () => {
  await mara.getByTestId('narrator-go').click();
  const ended = (page) => page.locator('[data-author=narrator][data-state=ended]');
  await mara.getByTestId('narrator-stop').click();
  await ended(mara).waitFor();
  await ended(tobias).waitFor();
  assert.equal(await ended(tobias).getByTestId('edit-paragraph').count(), 0);
  await ended(mara).hover();
  await ended(mara).getByTestId('edit-paragraph').click();
  await mara.getByTestId('edit-field').fill('And it was dark.');
  await mara.getByTestId('save-edit').click();
  await shows(tobias, ['The lamp went out at four.', 'Edda had seen it.', 'Nobody spoke.', 'No snow fell.', 'And it was dark.']);
});

test('the story is downloaded whole, as it stands', { timeout: 60_000 }, async () => {
  for (let count = 1; count <= 110; count += 1) await room.write(tobias, `*${count}*`, { settled: false });
  await at(tobias, '*110*').waitFor({ timeout: 45_000 });
  await mara.getByRole('button', { name: 'Rename the story' }).click();
  await mara.getByRole('textbox', { name: 'The story’s title' }).fill('The Lamp');
  await mara.keyboard.press('Enter');
  await tobias.reload(); // its first page holds the end of the story alone
  await tobias.getByRole('heading', { name: 'The Lamp' }).first().waitFor();
  await room.live(tobias);
  const [file] = await Promise.all([tobias.waitForEvent('download'), tobias.getByTestId('download').click()]);
  assert.equal(file.suggestedFilename(), 'the-lamp.md');
  const text = await readFile(await file.path(), 'utf8');
  const counted = Array.from({ length: 110 }, (_, index) => `\\*${index + 1}\\*`);
  assert.equal(text, [
    '# The Lamp', '*By Tobias, Isolde and the narrator (AI)*',
    'The lamp went out at four.', 'Edda had seen it.', 'Nobody spoke.', 'No snow fell.', 'And it was dark.', ...counted,
  ].join('\n\n') + '\n');
  assert.deepEqual([mara.troubles, tobias.troubles], [[], []]);
});
