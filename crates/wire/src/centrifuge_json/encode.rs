//! What a client is told, as messages of the protocol.

use fireside_core::event::{Connected, Page, Start};
use fireside_core::{
    Author, Batch, ChannelName, Disconnect, Epoch, Event, Kind, Position, Record, Refusal, Reply,
    Unsubscribed,
};

use crate::object::{Object, object};
use crate::rpc;

/// What we say we are in replies to connect and refresh.
const VERSION: &str = concat!("fireside ", env!("CARGO_PKG_VERSION"));

/// The tag by which a client knows records that only the server makes. Nobody else's tag of that name is ever written.
const OUR_TAG: &str = "fireside";

/// Appends one message.
pub(super) fn event(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Reply { id, reply } => object(out, |o| {
            o.number("id", (*id).into());
            answer(reply, o);
        }),
        Event::Joined { channel, who } => {
            push(channel, out, |o| o.object("join", |o| o.object("info", |o| author(who, o))));
        }
        Event::Left { channel, who } => {
            push(channel, out, |o| o.object("leave", |o| o.object("info", |o| author(who, o))));
        }
        Event::Subscribed { channel, start } => {
            push(channel, out, |o| o.object("subscribe", |o| opened(start, o)))
        }
        Event::Unsubscribed { channel, why } => {
            push(channel, out, |o| o.object("unsubscribe", |o| ended(why, o)))
        }
        Event::Ping => object(out, |_| {}),
    }
}

/// Appends the records of `batch` after `after`, one message each.
pub(super) fn records(batch: &Batch, after: u64, out: &mut Vec<u8>) {
    for (n, record) in batch.after(after).iter().enumerate() {
        if n > 0 {
            out.push(b'\n');
        }
        // A client that subscribed to an empty channel learns the epoch with the first record (SDKs take it from there).
        let epoch = (record.offset == 1).then_some(batch.epoch);
        push(&batch.channel, out, |o| o.object("pub", |o| publication(record, epoch, o)));
    }
}

/// Appends the message that stands for a close frame.
pub(super) fn disconnect(why: &Disconnect, out: &mut Vec<u8>) {
    object(out, |o| {
        o.object("push", |o| {
            o.object("disconnect", |o| {
                o.number("code", why.code.into());
                o.exact_text("reason", &why.reason);
                o.flag("reconnect", why.reconnects());
            });
        });
    });
}

fn push(channel: &ChannelName, out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    object(out, |o| {
        o.object("push", |o| {
            o.text("channel", channel.as_str());
            fill(o);
        });
    });
}

fn answer(reply: &Reply, o: &mut Object<'_>) {
    match reply {
        Reply::Refused(refusal) => o.object("error", |o| error(refusal, o)),
        Reply::Connected(connected) => o.object("connect", |o| connect(connected, o)),
        Reply::Subscribed(start) => o.object("subscribe", |o| subscribe(start, o)),
        Reply::Unsubscribed => o.object("unsubscribe", |_| {}),
        Reply::Published => o.object("publish", |_| {}),
        Reply::PublishedAt { position, duplicate } => {
            called(o, |out| rpc::published(*position, *duplicate, out));
        }
        Reply::RunStarted { run, channel, epoch } => {
            called(o, |out| rpc::run_started(run, channel, *epoch, out));
        }
        Reply::RunCancelled { status } => called(o, |out| rpc::run_cancelled(status, out)),
        Reply::Rpc(data) => o.object("rpc", |o| o.json("data", data)),
        // Here zero is written: centrifuge-js hands these on as they are, and `undefined` is not a number of people.
        Reply::Presence(members) => o.object("presence", |o| {
            o.object("presence", |o| {
                for member in members {
                    o.entry(&member.client, |o| author(member, o));
                }
            });
        }),
        Reply::PresenceStats { clients, users } => o.object("presence_stats", |o| {
            o.exact_number("num_clients", (*clients).into());
            o.exact_number("num_users", (*users).into());
        }),
        Reply::History(page) => o.object("history", |o| history(page, o)),
        Reply::Refreshed { client, ttl_s } => o.object("refresh", |o| {
            o.text("client", client);
            o.text("version", VERSION);
            expiry(*ttl_s, o);
        }),
        Reply::SubRefreshed { ttl_s } => o.object("sub_refresh", |o| expiry(*ttl_s, o)),
    }
}

fn called(o: &mut Object<'_>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut data = Vec::new();
    write(&mut data);
    o.object("rpc", |o| o.json("data", &data));
}

fn error(refusal: &Refusal, o: &mut Object<'_>) {
    o.number("code", refusal.code.number().into());
    o.exact_text("message", &message(refusal));
    o.flag("temporary", refusal.code.is_temporary());
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

fn connect(connected: &Connected, o: &mut Object<'_>) {
    o.text("client", &connected.client);
    o.text("version", VERSION);
    expiry(connected.ttl_s, o);
    o.json("data", connected.data.as_deref().unwrap_or_default());
    if !connected.subs.is_empty() {
        o.object("subs", |o| {
            for (channel, start) in &connected.subs {
                o.entry(channel.as_str(), |o| subscribe(start, o));
            }
        });
    }
    o.number("ping", connected.ping_s.into());
    o.flag("pong", connected.pong);
}

/// Never `expires` without a `ttl`: SDKs read the one after the other.
fn expiry(ttl_s: Option<u32>, o: &mut Object<'_>) {
    if let Some(seconds) = ttl_s {
        o.flag("expires", true);
        o.number("ttl", seconds.max(1).into());
    }
}

fn subscribe(start: &Start, o: &mut Object<'_>) {
    expiry(start.ttl_s, o);
    o.flag("recoverable", start.recoverable);
    epoch(start.position, o);
    publications(&start.page, o);
    o.flag("recovered", start.recovered);
    offset(start.position, o);
    o.flag("positioned", start.positioned);
    o.flag("was_recovering", start.was_recovering);
    if start.was_recovering && !start.recovered {
        // Ours: with `offset`, the range that is still there.
        o.number("oldest", start.oldest);
    }
}

fn opened(start: &Start, o: &mut Object<'_>) {
    o.flag("recoverable", start.recoverable);
    epoch(start.position, o);
    offset(start.position, o);
    o.flag("positioned", start.positioned);
}

fn ended(why: &Unsubscribed, o: &mut Object<'_>) {
    o.number("code", why.code.into());
    o.exact_text("reason", &why.reason);
}

fn history(page: &Page, o: &mut Object<'_>) {
    publications(&page.records, o);
    epoch(Some(page.newest), o);
    offset(Some(page.newest), o);
}

fn epoch(position: Option<Position>, o: &mut Object<'_>) {
    if let Some(position) = position {
        o.text("epoch", &position.epoch.to_string());
    }
}

fn offset(position: Option<Position>, o: &mut Object<'_>) {
    o.number("offset", position.map_or(0, |p| p.offset));
}

fn publications(records: &[Record], o: &mut Object<'_>) {
    if !records.is_empty() {
        o.objects("publications", records, |o, record| publication(record, None, o));
    }
}

/// Writes the fields of a record.
pub(crate) fn publication(record: &Record, epoch: Option<Epoch>, o: &mut Object<'_>) {
    let erased = record.kind == Kind::Tombstone || record.body.is_empty();
    o.json("data", if erased { b"null" } else { &record.body });
    if let Some(who) = &record.author {
        o.object("info", |o| author(who, o));
    }
    o.number("offset", record.offset);
    let ours = our_tag(record.kind);
    if ours.is_some() || record.tags.iter().any(|(name, _)| &**name != OUR_TAG) {
        o.object("tags", |o| {
            for (name, value) in record.tags.iter().filter(|(name, _)| &**name != OUR_TAG) {
                o.text_entry(name, value);
            }
            if let Some(value) = ours {
                o.text_entry(OUR_TAG, value);
            }
        });
    }
    if let Some(epoch) = epoch {
        o.text("epoch", &epoch.to_string());
    }
}

fn our_tag(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Plain => None,
        Kind::Tombstone => Some("tombstone"),
        kind => kind.is_run().then_some("run"),
    }
}

/// Writes who somebody is.
pub(crate) fn author(who: &Author, o: &mut Object<'_>) {
    o.text("user", &who.user);
    o.text("client", &who.client);
    o.json("conn_info", who.info.as_deref().unwrap_or_default());
}
