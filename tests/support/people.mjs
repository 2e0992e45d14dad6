// People who use the unmodified SDK: what they connect with, and what they saw.
//
// FIRESIDE_ENCODING=protobuf has them speak Protobuf. Bodies are bytes to the SDK then; people still say and see values.
import WebSocket from 'ws';
import { token, until } from './server.mjs';

const PROTOBUF = process.env.FIRESIDE_ENCODING === 'protobuf';
const { Centrifuge } = await import(PROTOBUF ? 'centrifuge/build/protobuf' : 'centrifuge');

const bytes = (value) => new TextEncoder().encode(JSON.stringify(value));

/** The same, with the values that bytes in it stand for. */
function values(told) {
  if (told instanceof Uint8Array) return told.length ? JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(told)) : undefined;
  if (Array.isArray(told)) return told.map(values);
  if (told === null || typeof told !== 'object' || told instanceof Error) return told;
  return Object.fromEntries(Object.entries(told).map(([name, value]) => [name, values(value)]));
}

/** Events of `emitter` tell values. */
function telling(emitter) {
  const emit = emitter.emit.bind(emitter);
  return Object.assign(emitter, { emit: (event, ...told) => emit(event, ...told.map(values)) });
}

class SpeakingProtobuf extends Centrifuge {
  constructor(url, options) { telling(super(url, { ...options, protocol: 'protobuf' })); }
  publish(channel, value) { return super.publish(channel, bytes(value)); }
  rpc(method, value) { return super.rpc(method, bytes(value)).then(values); }
  history(channel, options) { return super.history(channel, options).then(values); }
  presence(channel) { return super.presence(channel).then(values); }
  newSubscription(channel, options) { return telling(super.newSubscription(channel, options)); }
}

/** The SDK's client, in the encoding under test. */
export const Client = PROTOBUF ? SpeakingProtobuf : Centrifuge;

/** A client of `user`, connected. The SDK is given its URL, a token and the WebSocket class, nothing else. */
export async function join(server, user, claims = {}) {
  const client = new Client(server.ws, { token: token({ sub: user, ...claims }), websocket: WebSocket });
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
