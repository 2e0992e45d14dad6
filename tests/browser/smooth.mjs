// Measures that a long story stays smooth on a slow phone: it opens at its end, older pages come in without moving what is read, and while the
// narrator streams the page keeps its frames and nothing shifts.
//
// By hand: ROOM_URL=http://127.0.0.1:8000 PARAGRAPHS=5000 node --test tests/browser/smooth.mjs
import { Centrifuge } from 'centrifuge';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import * as room from './room.mjs';

const COUNT = Number(process.env.PARAGRAPHS ?? 5_000);
const WRITERS = 20;
const THROTTLE = 4;
/** Of the main thread: what is left is enough for fifty frames a second. */
const BUSY_MOST = 0.6;
const STREAM_MS = 5_000;

let base, leave, browser, page, manuscript, session;

/** Fills a story by many writers at once; each keeps within what one session may send. */
async function fill(host, count) {
  const link = await room.invitation(base, host, 'writer');
  const invite = new URL(link).hash.slice('#invite='.length);
  const writers = Array.from({ length: Math.min(WRITERS, count) }, async (_, writer) => {
    const joined = await fetch(new URL('/story-api/join', base), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ invite, name: `Writer ${writer + 1}` }),
    });
    const { token } = await joined.json();
    const client = new Centrifuge(new URL('/connection/websocket', base).href.replace('http', 'ws'), { token, websocket: WebSocket });
    client.connect();
    await client.ready();
    for (let index = writer; index < count; index += WRITERS) {
      const key = randomUUID();
      const text = `Paragraph ${index + 1} of the night. ${'The lamp stayed lit above the dark, patient as an eye. '.repeat(1 + (index % 4))}`.trim();
      for (;;) {
        try {
          await client.rpc('fireside.publish', { channel: `story:${host.story}`, key, data: { type: 'paragraph', id: key, text } });
          break;
        } catch (error) {
          // 111: too much at once. The key makes it safe to send it again.
          if (error.code !== 111 && error.code >= 100) throw error;
          await new Promise((resolve) => setTimeout(resolve, 250));
        }
      }
    }
    client.disconnect();
  });
  await Promise.all(writers);
}

/**
 * Scrolls up until older pages come in, and answers by how much that moved the paragraph that is being read: watched frame by frame, from
 * when the scrolling has settled until some frames after they came in.
 */
const movedByOlder = (page) =>
  page.evaluate(async () => {
    const box = document.querySelector('[data-testid=manuscript]');
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const count = () => document.querySelectorAll('[data-testid=paragraph]').length;
    const before = count();
    box.scrollTop = 900;
    for (let frames = 0; frames < 3; frames += 1) await frame();
    const edge = box.getBoundingClientRect().top;
    const read = [...document.querySelectorAll('[data-testid=paragraph]')].find((element) => element.getBoundingClientRect().bottom > edge);
    const { top } = read.getBoundingClientRect();
    let moved = 0;
    for (let settled = 0; settled < 5; settled += count() > before ? 1 : 0) {
      await frame();
      moved = Math.max(moved, Math.abs(read.getBoundingClientRect().top - top));
    }
    return moved;
  });
/** Seconds that the page's main thread has worked. */
async function busy() {
  const { metrics } = await session.send('Performance.getMetrics');
  return metrics.find(({ name }) => name === 'TaskDuration').value;
}
const shown = (page) => page.getByTestId('paragraph').count();

/** Frames per second and the longest frame, while something goes on. */
function frames(page, milliseconds) {
  return page.evaluate(
    (milliseconds) =>
      new Promise((resolve) => {
        const times = [];
        let shift = 0;
        const moved = new Set();
        const watch = new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) {
            shift += entry.value;
            for (const { node } of entry.sources) moved.add(node?.nodeType === 3 ? `text in ${node.parentElement?.className}` : node?.className);
          }
        });
        watch.observe({ type: 'layout-shift' });
        const begin = performance.now();
        const frame = (now) => {
          times.push(now);
          if (now - begin < milliseconds) requestAnimationFrame(frame);
          else {
            const gaps = times.slice(1).map((time, index) => time - times[index]);
            watch.disconnect();
            resolve({ perSecond: (gaps.length * 1_000) / (times.at(-1) - times[0]), longest: Math.max(...gaps), shift, moved: [...moved].join(', ') });
          }
        };
        requestAnimationFrame(frame);
      }),
    milliseconds,
  );
}

before(
  async () => {
    ({ base, leave } = await room.house());
    const host = await room.begin(base, 'Mara');
    await fill(host, COUNT);
    browser = await room.launch();
    const context = await browser.newContext({ viewport: { width: 390, height: 844 } });
    page = await room.comeBack(context, base, host);
    manuscript = page.getByTestId('manuscript');
    session = await context.newCDPSession(page);
    // Processor time of the page's main thread: what others do on the machine does not count.
    await session.send('Performance.enable', { timeDomain: 'threadTicks' });
    await session.send('Emulation.setCPUThrottlingRate', { rate: THROTTLE });
  },
  { timeout: 180_000 },
);
after(async () => {
  await browser?.close();
  await leave?.();
});

test('a long story opens at its end', { timeout: 30_000 }, async () => {
  await room.paragraph(page, 'of the night', 'sent').waitFor({ state: 'attached' });
  await page.evaluate(() => document.fonts.ready);
  const rest = await manuscript.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight);
  assert.ok(rest < 48, `${rest} px from it`);
});

test('older pages come in without moving what is read, and all of it is there once', { timeout: 120_000 }, async () => {
  let moved = 0;
  while ((await shown(page)) < COUNT) moved = Math.max(moved, await movedByOlder(page));
  assert.ok(moved <= 1, `moved by ${moved.toFixed(1)} px`);
  const story = await room.story(page);
  assert.equal(story.length, COUNT);
  assert.equal(new Set(story.map(({ id }) => id)).size, COUNT);
});

test(`the narrator streams smoothly, processor ${THROTTLE} times slower`, { timeout: 60_000 }, async (t) => {
  await manuscript.evaluate((box) => (box.scrollTop = box.scrollHeight));
  await page.waitForFunction(() => {
    const box = document.querySelector('[data-testid=manuscript]');
    return box.scrollHeight - box.scrollTop - box.clientHeight < 48;
  });
  const still = await frames(page, 2_000);
  await page.getByTestId('narrator-go').click();
  await page.waitForFunction(() => document.querySelector('[data-state=streaming] .text')?.textContent.length > 40);
  const kept = await page.evaluate(() => {
    window.first = document.querySelector('[data-testid=paragraph]');
    window.voice = document.querySelector('[data-state=streaming] .text span').firstChild;
    return window.voice.data.length;
  });
  const spent = await busy();
  const streaming = await frames(page, STREAM_MS);
  const share = ((await busy()) - spent) / (STREAM_MS / 1_000);
  const grown = await page.evaluate(() => ({ whole: window.voice.isConnected && window.first.isConnected, length: window.voice.data.length }));
  t.diagnostic(`${streaming.perSecond.toFixed(1)} frames a second, longest ${streaming.longest.toFixed(0)} ms; at rest ${still.perSecond.toFixed(1)}`);
  t.diagnostic(`the main thread is busy for ${(share * 100).toFixed(0)} % of the time`);
  assert.ok(grown.whole && grown.length > kept, 'the text grows in one text node');
  assert.ok(share <= BUSY_MOST, `the main thread is busy for ${(share * 100).toFixed(0)} % of the time`);
  assert.equal(streaming.shift, 0, `nothing shifts: ${streaming.moved}`);
  assert.deepEqual(page.troubles, []);
});
