import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Outbox, type Keeper, type Letter, type Outcome } from '../src/outbox';

/** A server that answers when the test says so, and a log that takes each key once. */
class World {
  readonly kept = new Map<string, string>();
  readonly asked: { letter: Letter; answer(outcome: Outcome): void }[] = [];
  readonly timers: (() => void)[] = [];
  readonly log: string[] = [];

  open(): Outbox {
    const keeper: Keeper = {
      getItem: (key) => this.kept.get(key) ?? null,
      setItem: (key, value) => void this.kept.set(key, value),
      removeItem: (key) => void this.kept.delete(key),
      keys: () => [...this.kept.keys()],
    };
    return new Outbox({
      keeper,
      prefix: 'out.',
      send: (letter) => new Promise((answer) => this.asked.push({ letter, answer })),
      later: (_, then) => void this.timers.push(then),
      changed: () => undefined,
    });
  }

  /** Takes the oldest question; the log has it, whether or not the answer gets through. */
  async take(answered: 'answered' | 'lost'): Promise<string> {
    const question = this.asked.shift();
    assert.ok(question, 'something was sent');
    const { key } = question.letter;
    if (!this.log.includes(key)) this.log.push(key);
    question.answer(answered === 'lost' ? { type: 'unanswered' } : { type: 'answered', offset: this.log.indexOf(key) + 1 });
    await turn();
    return key;
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const states = (outbox: Outbox) => outbox.letters.map((letter) => `${letter.key} ${letter.state}`);

test('letters go one at a time, in order, and stay until the log has shown them', async () => {
  const world = new World();
  const outbox = world.open();
  for (const key of ['a', 'b']) outbox.add(key, 'story', { text: key });
  assert.equal(world.asked.length, 0, 'nothing is sent without a connection');
  outbox.connected(true);
  assert.equal(world.asked.length, 1);
  assert.equal(await world.take('answered'), 'a');
  assert.deepEqual(states(outbox), ['a answered', 'b sending']);
  assert.deepEqual([...world.kept.keys()], ['out.b'], 'what is answered need not be kept');
  outbox.arrived('a');
  await world.take('answered');
  outbox.reached('elsewhere', 9);
  assert.deepEqual(states(outbox), ['b answered']);
  outbox.reached('story', 1);
  assert.deepEqual(states(outbox), ['b answered']);
  outbox.reached('story', 2);
  assert.deepEqual(states(outbox), []);
});

test('lost answers, reconnects and reloads send it again with the same key: the log has it once', async () => {
  const world = new World();
  let outbox = world.open();
  outbox.add('a', 'story', { text: 'a' });
  outbox.connected(true);
  await world.take('lost');
  assert.deepEqual(states(outbox), ['a waiting']);
  world.timers.shift()?.();
  await world.take('lost');
  outbox.connected(false);
  world.timers.shift()?.();
  assert.equal(world.asked.length, 0);
  outbox = world.open();
  assert.deepEqual(states(outbox), ['a waiting'], 'the next page has it still');
  outbox.connected(true);
  await world.take('answered');
  outbox.reached('story', 1);
  assert.deepEqual(world.log, ['a']);
  assert.deepEqual(states(outbox), []);
  assert.equal(world.kept.size, 0);
});

test('a refused letter stays with its reason, over a reload too, and does not hold up the others', async () => {
  const world = new World();
  let outbox = world.open();
  outbox.connected(true);
  outbox.add('a', 'story', { text: 'a' });
  outbox.add('b', 'story', { text: 'b' });
  world.asked.shift()?.answer({ type: 'refused', reason: 'it is too long' });
  await turn();
  await world.take('answered');
  assert.deepEqual(states(outbox), ['a refused', 'b answered']);
  outbox = world.open();
  assert.deepEqual(outbox.letters.map(({ key, reason }) => [key, reason]), [['a', 'it is too long']]);
  outbox.connected(true);
  assert.equal(world.asked.length, 0, 'a refusal is not argued with');
  assert.equal(outbox.discard('a')?.data['text'], 'a');
  assert.equal(world.kept.size, 0);
});

test('a record that comes before its answer settles the letter', async () => {
  const world = new World();
  const outbox = world.open();
  outbox.connected(true);
  outbox.add('a', 'story', { text: 'a' });
  outbox.arrived('a');
  assert.deepEqual(states(outbox), []);
  await world.take('answered');
  assert.deepEqual(states(outbox), []);
  outbox.add('b', 'story', { text: 'b' });
  assert.equal(await world.take('answered'), 'b');
});

test('what others or older versions left in the storage does no harm', () => {
  const world = new World();
  world.kept.set('out.x', 'not json');
  world.kept.set('out.y', '{"key":7}');
  world.kept.set('else', '{}');
  assert.deepEqual(world.open().letters, []);
});
