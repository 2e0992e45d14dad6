// Chromium as Debian packages it; every person has a context of their own, as on two machines.
import { execFileSync } from 'node:child_process';
import { chromium } from 'playwright-core';

const ARGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

export function launch() {
  const executablePath = process.env.CHROMIUM ?? execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).trim();
  return chromium.launch({ executablePath, headless: true, args: ARGS });
}

/** Opens a page of one's own, by an invitation link, under a name. What the page complains about is kept in `page.complaints`. */
export async function enter(browser, link, name, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.complaints = [];
  page.on('pageerror', (error) => page.complaints.push(String(error)));
  await page.goto(link);
  await page.getByTestId('name-input').fill(name);
  await page.getByTestId('join').click();
  await live(page);
  return page;
}

export const live = (page) => page.locator('[data-testid=connection-state][data-link=live]').waitFor();

export async function write(page, text) {
  await page.getByTestId('composer').fill(text);
  await page.getByTestId('add').click();
}

/** What the page shows as the story: [id, author, text, state] of each paragraph, from top to bottom. */
export const story = (page) => page.getByTestId('paragraph').evaluateAll((paragraphs) => paragraphs.map((paragraph) => [
  paragraph.dataset.id, paragraph.dataset.author, paragraph.querySelector('.text').textContent, paragraph.dataset.state,
]));
