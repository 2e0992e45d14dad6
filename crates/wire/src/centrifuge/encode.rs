//! What a client is told, as messages of the protocol, whatever form they are written in.

use fireside_core::event::{Connected, Page, Start};
use fireside_core::record::OUR_TAG;
use fireside_core::{
    Author, Batch, ChannelName, Disconnect, Epoch, Event, Kind, Position, Record, Refusal, Reply,
    Unsubscribed,
};

use crate::form::{Field, Form};
use crate::fossil;
use crate::object::object;
use crate::rpc;

/// What we say we are in replies to connect and refresh.
const VERSION: &str = concat!("fireside ", env!("CARGO_PKG_VERSION"));

/// Writes the fields of one message.
pub(crate) fn event(event: &Event, o: &mut impl Form) {
    match event {
        Event::Reply { id, reply } => {
            o.number(Field("id", 1), (*id).into());
            answer(reply, o);
        }
        Event::Joined { channel, who } => {
            push(channel, o, |o| o.message(Field("join", 5), |o| o.message(INFO, |o| author(who, o))));
        }
        Event::Left { channel, who } => {
            push(channel, o, |o| o.message(Field("leave", 6), |o| o.message(INFO, |o| author(who, o))));
        }
        Event::Subscribed { channel, start } => {
            push(channel, o, |o| o.message(Field("subscribe", 9), |o| opened(start, o)));
        }
        Event::Unsubscribed { channel, why } => {
            push(channel, o, |o| o.message(Field("unsubscribe", 7), |o| ended(why, o)));
        }
        Event::Missed { channel, entries } => missed(channel, *entries, o),
        Event::Ping => {}
    }
}

/// The protocol has no word for it, so it is a message to the session, which an application that does not listen for it never sees.
fn missed(channel: &ChannelName, entries: u64, o: &mut impl Form) {
    let mut data = Vec::new();
    object(&mut data, |o| {
        o.exact_text("type", "fireside.missed");
        o.exact_text("channel", channel.as_str());
        o.exact_number("entries", entries);
    });
    o.message(PUSH, |o| o.message(Field("message", 8), |o| o.body(Field("data", 1), &data)));
}

/// Writes the fields of the message that bears one record of `batch`.
pub(crate) fn record(batch: &Batch, record: &Record, o: &mut impl Form) {
    let epoch = first_epoch(batch, record);
    push(&batch.channel, o, |o| o.message(PUBLICATION, |o| publication(record, epoch, o)));
}

/// The same for a reader that takes patches and has `base`, if it is given.
pub(crate) fn patched(batch: &Batch, record: &Record, base: Option<&Record>, o: &mut impl Form) {
    let epoch = first_epoch(batch, record);
    push(&batch.channel, o, |o| o.message(PUBLICATION, |o| publication_on(base, record, epoch, o)));
}

/// The records of `batch` after `after`, each with the one before it if the reader has that one: all after `from` up to `after`.
pub(crate) fn on_bases(
    batch: &Batch,
    after: u64,
    from: u64,
) -> impl Iterator<Item = (&Record, Option<&Record>)> {
    let records = batch.after(after);
    let at = batch.records.len() - records.len();
    records.iter().enumerate().map(move |(n, record)| {
        let before = match at + n {
            0 => batch.base(),
            place => batch.records.get(place - 1),
        };
        // An erased one stood there with its body when some readers saw it: nothing builds on it.
        let is_base = |base: &&Record| {
            base.offset > from && base.offset + 1 == record.offset && base.kind != Kind::Tombstone
        };
        (record, before.filter(is_base))
    })
}

/// A client that subscribed to an empty channel learns the epoch with the first record (SDKs take it from there).
fn first_epoch(batch: &Batch, record: &Record) -> Option<Epoch> {
    (record.offset == 1).then_some(batch.epoch)
}

/// Writes the fields of the message that stands for a close frame.
pub(crate) fn disconnect(why: &Disconnect, o: &mut impl Form) {
    o.message(PUSH, |o| {
        o.message(Field("disconnect", 11), |o| {
            o.number(Field("code", 1), why.code.into());
            o.exact_text(Field("reason", 2), &why.reason);
            o.flag(Field("reconnect", 3), why.reconnects());
        });
    });
}

const PUSH: Field = Field("push", 4);
const PUBLICATION: Field = Field("pub", 4);
/// Of a join and a leave.
const INFO: Field = Field("info", 1);

fn push<F: Form>(channel: &ChannelName, o: &mut F, fill: impl FnOnce(&mut F)) {
    o.message(PUSH, |o| {
        o.text(Field("channel", 2), channel.as_str());
        fill(o);
    });
}

fn answer(reply: &Reply, o: &mut impl Form) {
    match reply {
        Reply::Refused(refusal) => o.message(Field("error", 2), |o| error(refusal, o)),
        Reply::Connected(connected) => o.message(Field("connect", 5), |o| connect(connected, o)),
        Reply::Subscribed(start) => o.message(Field("subscribe", 6), |o| subscribe(start, o)),
        Reply::Unsubscribed => o.message(Field("unsubscribe", 7), |_| {}),
        Reply::Published => o.message(Field("publish", 8), |_| {}),
        Reply::PublishedAt { position, duplicate } => {
            called(o, |out| rpc::published(*position, *duplicate, out));
        }
        Reply::RunStarted { run, channel, epoch } => {
            called(o, |out| rpc::run_started(run, channel, *epoch, out));
        }
        Reply::RunCancelled { status } => called(o, |out| rpc::run_cancelled(status, out)),
        Reply::Rpc(data) => o.message(RPC, |o| o.body(RPC_DATA, data)),
        Reply::Presence(members) => o.message(Field("presence", 9), |o| {
            let by_client = members.iter().map(|member| (&*member.client, member));
            o.map(Field("presence", 1), by_client, |o, member| author(member, o));
        }),
        // Here zero is written: centrifuge-js hands these on as they are, and `undefined` is not a number of people.
        Reply::PresenceStats { clients, users } => o.message(Field("presence_stats", 10), |o| {
            o.exact_number(Field("num_clients", 1), (*clients).into());
            o.exact_number(Field("num_users", 2), (*users).into());
        }),
        Reply::History(page) => o.message(Field("history", 11), |o| history(page, o)),
        Reply::Refreshed { client, ttl_s } => o.message(Field("refresh", 14), |o| {
            o.text(Field("client", 1), client);
            o.text(Field("version", 2), VERSION);
            expiry(*ttl_s, [3, 4], o);
        }),
        Reply::SubRefreshed { ttl_s } => {
            o.message(Field("sub_refresh", 15), |o| expiry(*ttl_s, [1, 2], o));
        }
    }
}

const RPC: Field = Field("rpc", 13);
const RPC_DATA: Field = Field("data", 1);

fn called(o: &mut impl Form, write: impl FnOnce(&mut Vec<u8>)) {
    let mut data = Vec::new();
    write(&mut data);
    o.message(RPC, |o| o.body(RPC_DATA, &data));
}

fn error(refusal: &Refusal, o: &mut impl Form) {
    o.number(Field("code", 1), refusal.code.number().into());
    o.exact_text(Field("message", 2), &message(refusal));
    o.flag(Field("temporary", 3), refusal.code.is_temporary());
}

/// The protocol's error has no room for more than a sentence, so what a machine needs takes the sentence's place, as JSON: the
/// detail itself, or an object with the time after which to come back.
fn message(refusal: &Refusal) -> std::borrow::Cow<'_, str> {
    match (refusal.retry_after_ms, &refusal.detail) {
        (None, None) => refusal.message.as_ref().into(),
        (None, Some(detail)) => detail.as_str().into(),
        (Some(ms), detail) => {
            let mut json = Vec::new();
            object(&mut json, |o| {
                o.exact_text("message", &refusal.message);
                o.exact_number("retry_after_ms", ms);
                o.json("detail", detail.as_deref().unwrap_or_default().as_bytes());
            });
            String::from_utf8_lossy(&json).into_owned().into()
        }
    }
}

fn connect(connected: &Connected, o: &mut impl Form) {
    o.text(Field("client", 1), &connected.client);
    o.text(Field("version", 2), VERSION);
    expiry(connected.ttl_s, [3, 4], o);
    o.body(Field("data", 5), connected.data.as_deref().unwrap_or_default());
    if !connected.subs.is_empty() {
        let starts = connected.subs.iter().map(|(channel, start)| (channel.as_str(), start));
        o.map(Field("subs", 6), starts, |o, start| subscribe(start, o));
    }
    o.number(Field("ping", 7), connected.ping_s.into());
    o.flag(Field("pong", 8), connected.pong);
}

/// Never `expires` without a `ttl`: SDKs read the one after the other. Their numbers in Protobuf differ from message to message.
fn expiry(ttl_s: Option<u32>, [expires, ttl]: [u32; 2], o: &mut impl Form) {
    if let Some(seconds) = ttl_s {
        o.flag(Field("expires", expires), true);
        o.number(Field("ttl", ttl), seconds.max(1).into());
    }
}

fn subscribe(start: &Start, o: &mut impl Form) {
    expiry(start.ttl_s, [1, 2], o);
    o.flag(Field("recoverable", 3), start.recoverable);
    epoch(start.position, 6, o);
    match start.patches {
        true => publications_on_each_other(&start.page, o),
        false => publications(&start.page, 7, o),
    }
    o.flag(Field("recovered", 8), start.recovered);
    offset(start.position, 9, o);
    o.flag(Field("positioned", 10), start.positioned);
    o.body(Field("data", 11), start.data.as_deref().unwrap_or_default());
    o.flag(Field("was_recovering", 12), start.was_recovering);
    o.flag(Field("delta", 13), start.patches);
    if start.was_recovering && !start.recovered {
        // Ours: with `offset`, the range that is still there.
        o.number(Field("oldest", 1000), start.oldest);
    }
}

fn opened(start: &Start, o: &mut impl Form) {
    o.flag(Field("recoverable", 1), start.recoverable);
    epoch(start.position, 4, o);
    offset(start.position, 5, o);
    o.flag(Field("positioned", 6), start.positioned);
    o.body(Field("data", 7), start.data.as_deref().unwrap_or_default());
}

fn ended(why: &Unsubscribed, o: &mut impl Form) {
    o.number(Field("code", 2), why.code.into());
    o.exact_text(Field("reason", 3), &why.reason);
}

fn history(page: &Page, o: &mut impl Form) {
    publications(&page.records, 1, o);
    epoch(Some(page.newest), 2, o);
    offset(Some(page.newest), 3, o);
}

fn epoch(position: Option<Position>, number: u32, o: &mut impl Form) {
    if let Some(position) = position {
        o.text(Field("epoch", number), &position.epoch.to_string());
    }
}

fn offset(position: Option<Position>, number: u32, o: &mut impl Form) {
    o.number(Field("offset", number), position.map_or(0, |p| p.offset));
}

fn publications(records: &[Record], number: u32, o: &mut impl Form) {
    if !records.is_empty() {
        o.messages(Field("publications", number), records, |o, record| publication(record, None, o));
    }
}

/// The page of a subscription that takes patches: the first record whole, the others on the one before.
fn publications_on_each_other(records: &[Record], o: &mut impl Form) {
    if !records.is_empty() {
        let is_base = |record: &Record| record.kind != Kind::Tombstone;
        let bases = records.iter().map(|record| Some(record).filter(|record| is_base(record)));
        let bases = std::iter::once(None).chain(bases);
        o.messages(Field("publications", 7), bases.zip(records), |o, (base, record)| {
            publication_on(base, record, None, o);
        });
    }
}

const DATA: Field = Field("data", 4);

/// Writes the fields of a record.
pub(crate) fn publication(record: &Record, epoch: Option<Epoch>, o: &mut impl Form) {
    o.body(DATA, body(record));
    described(record, epoch, o);
}

/// The same for a reader that takes patches: its body is a text to JSON, a patch of what `base` says if that is shorter.
fn publication_on(base: Option<&Record>, record: &Record, epoch: Option<Epoch>, o: &mut impl Form) {
    let text = String::from_utf8_lossy(body(record));
    let patch = base.and_then(|base| fossil::patch(&String::from_utf8_lossy(body(base)), &text));
    o.exact_text(DATA, patch.as_deref().unwrap_or(&text));
    described(record, epoch, o);
    o.flag(Field("delta", 8), patch.is_some());
}

/// What a client is told of a record's body.
fn body(record: &Record) -> &[u8] {
    let erased = record.kind == Kind::Tombstone || record.body.is_empty();
    if erased { b"null" } else { &record.body }
}

/// Everything about a record but its body.
fn described(record: &Record, epoch: Option<Epoch>, o: &mut impl Form) {
    if let Some(who) = &record.author {
        o.message(Field("info", 5), |o| author(who, o));
    }
    o.number(Field("offset", 6), record.offset);
    let ours = record.kind.tag().map(|value| (OUR_TAG, value));
    let theirs = record.tags.iter().map(|(name, value)| (&**name, &**value));
    let mut tags = theirs.filter(|(name, _)| *name != OUR_TAG).chain(ours).peekable();
    if tags.peek().is_some() {
        o.texts(Field("tags", 7), tags);
    }
    if let Some(epoch) = epoch {
        o.text(Field("epoch", 14), &epoch.to_string());
    }
}

/// Writes who somebody is.
pub(crate) fn author(who: &Author, o: &mut impl Form) {
    o.text(Field("user", 1), &who.user);
    o.text(Field("client", 2), &who.client);
    o.body(Field("conn_info", 3), who.info.as_deref().unwrap_or_default());
    o.body(Field("chan_info", 4), who.sub_info.as_deref().unwrap_or_default());
}
