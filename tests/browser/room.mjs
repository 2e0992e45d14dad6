// What browser checks of the story room share: a browser, people in it, and a network that can be broken on purpose.
// They work against any server that serves the room at `base`: nothing here is a stand-in for it.
import { startDemo } from '../support/server.mjs';

export { launch } from '../support/browser.mjs';

const PATIENCE_MS = 15_000;

/** Where the room is: at ROOM_URL if that is set, else in a demo of this test's own. Answers its address and how to leave it. */
export async function house() {
  if (process.env.ROOM_URL) return { base: process.env.ROOM_URL, leave: () => undefined };
  const server = await startDemo();
  return { base: server.url, leave: () => server.stop() };
}

async function call(base, name, body) {
  const response = await fetch(new URL(`/story-api/${name}`, base), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`/story-api/${name}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

/** Begins a story and answers its host: `{story, user, session, token, …}`. */
export const begin = (base, name) => call(base, 'stories', { name });

/** An invitation by somebody's session: the fragment of its link, on this base. */
export async function invitation(base, member, role) {
  const { link } = await call(base, 'invite', { session: member.session, role });
  return new URL(new URL(link).pathname + new URL(link).hash, base).href;
}

/** Opens a page as a member who has been there before. */
export async function comeBack(context, base, member) {
  const page = await watched(context);
  await page.addInitScript(({ story, held }) => localStorage.setItem(`fireside.session.${story}`, held), {
    story: member.story,
    held: JSON.stringify({ session: member.session, user: member.user, name: member.name, role: member.role }),
  });
  await page.goto(new URL(`/story/${member.story}`, base).href);
  return page;
}

/** Opens an invitation and joins with a name. */
export async function enter(context, link, name) {
  const page = await watched(context);
  await page.goto(link);
  await page.getByTestId('name-input').fill(name);
  await page.getByTestId('join').click();
  await live(page);
  return page;
}

/** A page whose errors, refused scripts and styles included, are kept in `page.troubles`. */
export async function watched(context) {
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.troubles = [];
  page.on('pageerror', (error) => page.troubles.push(String(error)));
  page.on('console', (message) => {
    const text = message.text();
    if (message.type() === 'error' && !/WebSocket|Failed to load resource|ERR_/.test(text)) page.troubles.push(text);
  });
  return page;
}

export const live = (page) => page.locator('[data-testid=connection-state][data-link=live]').waitFor({ state: 'attached' });

/** Adds a paragraph as a person does. Answers once it stands in the log, unless told not to wait. */
export async function write(page, text, { settled = true } = {}) {
  await page.getByTestId('composer').fill(text);
  await page.getByTestId('composer').press('Control+Enter');
  if (settled) await paragraph(page, text, 'sent').waitFor();
}

export function paragraph(page, text, state) {
  const selector = state ? `[data-testid=paragraph][data-state=${state}]` : '[data-testid=paragraph]';
  return page.locator(selector).filter({ hasText: text }).last();
}

export async function say(page, text) {
  await page.getByTestId('chat-input').fill(text);
  await page.getByTestId('chat-input').press('Enter');
}

export const line = (page, text) => page.getByTestId('chat-line').filter({ hasText: text }).last();

/** The story as this page shows it, in order: id, author, state and text of each paragraph. */
export function story(page) {
  return page.$$eval('[data-testid=paragraph]', (elements) =>
    elements.map((element) => ({
      id: element.dataset.id,
      author: element.dataset.author,
      state: element.dataset.state,
      offset: Number(element.dataset.offset ?? 0),
      text: element.querySelector('.text').textContent,
    })),
  );
}

/** A network that can be broken: put it between the page and the server before the page is opened. */
export async function breakable(page) {
  const network = { down: false, lost: false, sockets: new Set(), refuse: undefined };
  await page.routeWebSocket(/\/connection\/websocket/, (socket) => {
    if (network.down) {
      void socket.close({ code: 1001 });
      return;
    }
    const server = socket.connectToServer();
    network.sockets.add(socket);
    socket.onMessage((message) => {
      for (const line of String(message).split('\n')) {
        const command = JSON.parse(line);
        const refusal = command.rpc && network.refuse?.(command.rpc);
        if (refusal) socket.send(JSON.stringify({ id: command.id, error: refusal }));
        else server.send(line);
      }
    });
    server.onMessage((message) => network.lost || socket.send(message));
    socket.onClose(() => network.sockets.delete(socket));
  });
  const cut = (code) => {
    for (const socket of network.sockets) void socket.close(code);
    network.sockets.clear();
  };
  return {
    /** Cuts the connection, and every new one, until `up`. */
    down() {
      network.down = true;
      cut({ code: 1001 });
    },
    up: () => (network.down = false),
    /** Closes the connection as a server does, with a code that says whether to come back. */
    close: (code, reason) => cut({ code, reason }),
    /** Loses what the server says from now on; what the page says still gets there. */
    lose: (lost) => (network.lost = lost),
    /** Answers certain calls with an error instead of passing them on: `(rpc) => error | undefined`. */
    refuse: (rule) => (network.refuse = rule),
  };
}
