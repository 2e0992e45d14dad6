// People who use the unmodified SDK: what they connect with, and what they saw.
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { token, until } from './server.mjs';

/** A client of `user`, connected. The SDK is given its URL, a token and the WebSocket class, nothing else. */
export async function join(server, user, claims = {}) {
  const client = new Centrifuge(server.ws, { token: token({ sub: user, ...claims }), websocket: WebSocket });
  client.connect();
  await client.ready(15_000);
  return client;
}

/** Subscribes, and keeps every publication, join and leave in the order of their coming. */
export async function follow(client, channel, options = {}) {
  const subscription = client.newSubscription(channel, options);
  const seen = Object.assign(subscription, { records: [], joins: [], leaves: [], starts: [] });
  subscription.on('publication', (publication) => seen.records.push(publication));
  subscription.on('join', ({ info }) => seen.joins.push(info));
  subscription.on('leave', ({ info }) => seen.leaves.push(info));
  subscription.on('subscribed', (context) => seen.starts.push(context));
  subscription.subscribe();
  await subscription.ready(15_000);
  return seen;
}

/** Waits until `subscription` has seen `count` records. */
export const sees = (subscription, count) => until(
  () => subscription.records.length >= count, () => `${count} records, seen ${subscription.records.length}`);

/** The refusal that a call ends with; it is an error if the call is not refused. */
export async function refusal(promise) {
  const value = await promise.then((answer) => ({ answer }), (error) => ({ error }));
  if (!('error' in value)) throw new Error(`not refused, but answered ${JSON.stringify(value.answer)}`);
  return value.error;
}

/** The whole history of a channel, page by page, as an independent reader reads it. */
export async function readAll(client, channel, limit = 200) {
  const records = [];
  for (let since; ;) {
    const page = await client.history(channel, { limit, ...(since && { since }) });
    if (!since && page.publications.length && page.publications[0].offset !== 1) {
      throw new Error(`the history of ${channel} begins at ${page.publications[0].offset}`);
    }
    records.push(...page.publications);
    if (page.publications.length === 0 || records.at(-1).offset >= page.offset) return { records, epoch: page.epoch, offset: page.offset };
    since = { offset: records.at(-1).offset, epoch: page.epoch };
  }
}
