// What hostile, slow and flapping readers do to a server and to each other, over real sockets.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fresh, start, token, until } from '../support/server.mjs';
import { Wire, resident } from '../support/wire.mjs';

let server;
const wires = [];
const person = async (user, more) => { const wire = await Wire.join(server, user, more); wires.push(wire); return wire; };
const range = (from, to) => Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => from + index);
const offsets = (records) => records.map(({ offset }) => offset);
before(async () => { server = await start({ session: 'commands_per_second = 100_000\ncommands_burst = 100_000' }); });
after(async () => { wires.forEach((wire) => wire.leave()); await server?.stop(); });

/** Publishes `count` bodies of `size` bytes, sixteen at a time; answers how long each took, in ms. */
async function fill(writer, channel, count, size) {
  const times = [];
  const one = async () => {
    const began = performance.now();
    const answer = await writer.publish(channel, 'x'.repeat(size));
    assert.ok(answer.publish, JSON.stringify(answer));
    times.push(performance.now() - began);
  };
  for (let n = 0; n < count; n += 16) await Promise.all(range(n, Math.min(n + 16, count) - 1).map(one));
  return times.sort((a, b) => a - b);
}

test('b7_readers_that_never_read_cost_a_bound_and_delay_nobody', { timeout: 60_000 }, async () => {
  const [channel, records] = [fresh('room:stalled-'), 480];
  const [writer, steady] = [await person('writer'), await person('steady')];
  const stalled = [];
  for (let n = 0; n < 20; n++) stalled.push(await person(`stalled-${n}`));
  for (const wire of [steady, ...stalled]) assert.ok((await wire.subscribe(channel)).subscribe);
  const before = await resident(server);
  stalled.forEach(({ socket }) => socket.pause());
  const times = await fill(writer, channel, records, 60_000); // 29 MB: more than outbox, kernel and client hold
  await steady.sees(channel, records);
  assert.ok(times[times.length >> 1] < 250, `half of the publishes took ${times[times.length >> 1]} ms or more`);
  const grown = await resident(server) - before;
  assert.ok(grown < 200 * 1024, `${grown} KiB for 20 readers who do not read, and what the log keeps in memory`);
  assert.equal(stalled.some((wire) => wire.records(channel).length === records), false, 'they do not read');
  stalled.forEach(({ socket }) => socket.resume());
  for (const wire of [steady, ...stalled]) {
    await wire.sees(channel, records);
    assert.deepEqual(offsets(wire.records(channel)), range(1, records));
  }
});

test('b7_whoever_is_too_slow_for_a_channel_without_history_is_told_how_much_it_missed', { timeout: 60_000 }, async () => {
  const channel = fresh('live:flood-');
  const [writer, slow] = [await person('writer'), await person('slow')];
  await slow.subscribe(channel);
  let missed = 0;
  slow.onheard = ({ push }) => { if (push?.message?.data.channel === channel) missed += push.message.data.entries; };
  slow.socket.pause();
  await fill(writer, channel, 480, 60_000);
  slow.socket.resume();
  await until(() => missed + slow.records(channel).length === 480);
  assert.ok(missed > 0, 'it did not read, and nothing was kept for it');
});

test('b7_whoever_is_far_behind_catches_up_as_fast_as_it_reads', { timeout: 60_000 }, async () => {
  const [channel, records] = [fresh('room:behind-'), 240];
  await fill(await person('writer'), channel, records, 60_000);
  const late = await person('late');
  const began = performance.now();
  await late.subscribe(channel, { recover: true, epoch: '', offset: 0 });
  await late.sees(channel, records);
  // 14 MB; one delayed acknowledgement for each segment would be 40 ms for each record.
  assert.ok(performance.now() - began < 4_000, `${performance.now() - began} ms`);
  assert.deepEqual(offsets(late.records(channel)), range(1, records));
});

test('i4_whole_subscriptions_that_flap_never_show_a_record_of_an_earlier_one', { timeout: 60_000 }, async () => {
  const channel = fresh('room:flap-');
  const [writer, flapper] = [await person('writer'), await person('flapper')];
  const wrong = [];
  let next; // the offset that the open subscription shows next
  let shown = 0;
  flapper.onheard = ({ subscribe, unsubscribe, push, error }) => {
    if (subscribe) next = (subscribe.offset ?? 0) + 1;
    if (unsubscribe) next = undefined;
    for (const { offset } of subscribe?.publications ?? (push?.pub ? [push.pub] : [])) {
      if (offset !== next) wrong.push(`${offset} in place of ${next}`);
      next = offset + 1;
      shown += 1;
    }
    if (error) wrong.push(JSON.stringify(error));
  };
  let over = false;
  const writing = (async () => { while (!over) await Promise.all(range(1, 8).map((n) => writer.publish(channel, n))); })();
  let last;
  for (let n = 0; n < 1000 || shown < 100; n++) { // however the two fall together, enough must come between
    const back = n % 2 && last ? { recover: true, epoch: last.epoch, offset: last.offset ?? 0 } : {};
    const commands = [{ subscribe: { channel, ...back } }, { unsubscribe: { channel } }];
    const [opened] = n % 3 ? [await flapper.ask(commands[0]), await flapper.ask(commands[1])] : await flapper.askAll(...commands);
    last = opened.subscribe ?? last;
  }
  over = true;
  await writing;
  assert.deepEqual(wrong, []);
});

test('i5_told_a_position_is_continued_exactly_or_said_to_be_gone', async () => {
  const [whole, short] = [fresh('room:'), fresh('short:')]; // `short` keeps ten records
  for (const channel of [whole, short]) for (const n of range(1, 25)) await server.api('publish', { channel, data: { n } });
  const wire = await person('anna');
  const ask = async (channel, epoch, offset) => {
    const { subscribe } = await wire.subscribe(channel, { recover: true, epoch, offset });
    await wire.ask({ unsubscribe: { channel } });
    return subscribe;
  };
  const { epoch } = (await server.api('history', { channel: whole, limit: 0 })).result;
  const cases = [
    ...range(0, 27).map((offset) => [whole, epoch, offset, offset <= 25]), ...range(0, 27).map((offset) => [short, epoch, offset, offset >= 15 && offset <= 25]),
    [whole, '', 0, true], [short, '', 0, false], [whole, '', 3, false], [whole, '12345', 3, false], [whole, 'abc', 3, false], [whole, epoch, 2 ** 53, false],
  ];
  for (const [channel, known, offset, readable] of cases) {
    const start = await ask(channel, known, offset);
    assert.deepEqual([start.recovered ?? false, start.offset ?? 0, start.was_recovering], [readable, readable ? offset : 25, true], `${channel} ${known} ${offset}`);
    assert.deepEqual(offsets(start.publications ?? []), readable ? range(offset + 1, 25) : [], `${channel} ${known} ${offset}`);
  }
});

test('commands of one frame see each other in their order', async () => {
  const channel = fresh('room:frame-');
  const wire = new Wire(server);
  wires.push(wire);
  await wire.opened;
  const commands = [{ subscribe: { channel } }, { subscribe: { channel } }, { publish: { channel, data: 1 } }, { history: { channel, limit: 9 } }, { unsubscribe: { channel } }, { subscribe: { channel } }];
  const [hello, first, second, published, history, ended, again] = await wire.askAll({ connect: { token: token({ sub: 'anna' }) } }, ...commands);
  assert.ok(hello.connect && first.subscribe && published.publish && ended.unsubscribe);
  assert.equal(second.error.code, 105);
  assert.deepEqual(offsets(history.history.publications), [1]);
  assert.deepEqual([again.subscribe.offset, wire.pushed(channel).length], [1, 1]);
});

test('e3_whoever_vanishes_has_left_once_for_each_join', async () => {
  const channel = fresh('room:crowd-');
  const watch = await person('watch');
  await watch.subscribe(channel, { join_leave: true });
  const crowd = [];
  for (let n = 0; n < 20; n++) { crowd.push(await person(`crowd-${n}`)); await crowd[n].subscribe(channel); }
  crowd.forEach(({ socket }, n) => (n % 2 ? socket._socket.resetAndDestroy() : socket._socket.destroy()));
  await until(() => watch.pushed(channel, 'leave').length >= 20, '20 leaves');
  assert.equal((await watch.ask({ presence_stats: { channel } })).presence_stats.num_clients, 1);
  const flapper = await person('flapper');
  for (let n = 0; n < 100; n++) flapper.askAll({ subscribe: { channel } }, { unsubscribe: { channel } });
  await until(() => watch.pushed(channel, 'leave').length >= 120, '100 more');
  const of = (client) => watch.heard.flatMap(({ push }) => (push?.join ?? push?.leave)?.info.client === client ? [push.join ? 'join' : 'leave'] : []);
  for (const wire of [...crowd, flapper]) {
    const told = of(wire.hello.connect.client);
    assert.deepEqual(told, range(1, told.length / 2).flatMap(() => ['join', 'leave']));
  }
});

test('d8_a_refresh_that_loses_a_right_takes_what_was_queued_with_it', async () => {
  const channel = fresh('closed:');
  const wire = await person('anna', { claims: { caps: [{ channels: [channel], allow: ['subscribe'] }] } });
  await wire.subscribe(channel);
  wire.socket.pause();
  const backend = range(1, 300).map(() => ({ channel, data: 'x'.repeat(60_000) }));
  for (const record of backend) await server.api('publish', record);
  const refreshed = wire.ask({ refresh: { token: token({ sub: 'anna', caps: [] }) } });
  await until(async () => (await server.api('channels', { pattern: channel })).result.channels[channel] === undefined, 'the subscription to end');
  wire.socket.resume();
  assert.ok((await refreshed).refresh);
  await until(() => wire.pushed(channel, 'unsubscribe').length, 'the push that ends it');
  assert.equal(wire.pushed(channel, 'unsubscribe')[0].code, 2501);
  const after = wire.heard.slice(wire.heard.findIndex(({ push }) => push?.unsubscribe));
  assert.ok(wire.records(channel).length < 300 && !after.some(({ push }) => push?.pub), 'what was queued is not shown');
  assert.equal((await wire.subscribe(channel, { recover: true, epoch: '', offset: 0 })).error.code, 103);
});

test('d11_what_is_not_allowed_is_refused_alike_whether_it_exists_or_not', async () => {
  const there = fresh('closed:');
  assert.ok((await server.api('publish', { channel: there, data: 1 })).result);
  const eve = await person('eve');
  for (const method of ['subscribe', 'history', 'presence', 'presence_stats', 'publish']) {
    const [real, never] = await eve.askAll(...[there, fresh('closed:')].map((channel) => ({ [method]: { channel, data: 1 } })));
    assert.equal(real.error.code, 103, method);
    assert.deepEqual(real.error, never.error, method);
  }
});
