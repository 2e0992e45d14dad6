//! Whatever the server may be asked to say.

use std::sync::Arc;

use fireside_core::event::{Connected, Page, Start};
use fireside_core::{
    Author, ChannelName, Code, Epoch, Event, Kind, Position, Record, Refusal, Reply, Unsubscribed,
};
use proptest::prelude::*;
use serde_json::Value;

pub fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\u{0}-\u{20}\"\\\\/\u{2028}\u{2029}😀é]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

pub fn channel() -> impl Strategy<Value = ChannelName> {
    "[a-z]{1,6}(:[a-z0-9#$]{1,8})?".prop_map(|name| ChannelName::parse(&name).unwrap())
}

pub fn author() -> impl Strategy<Value = Arc<Author>> {
    (any::<String>(), any::<String>(), prop::option::of(json_value())).prop_map(|(user, client, info)| {
        let info = info.map(|info| info.to_string().into());
        Arc::new(Author { user: user.into(), client: client.into(), info, sub_info: None })
    })
}

pub fn record(offset: u64) -> impl Strategy<Value = Record> {
    let kind = prop_oneof![4 => Just(Kind::Plain), 1 => Just(Kind::RunDelta), 1 => Just(Kind::Tombstone)];
    let tags = prop::collection::btree_map("[a-z\"\\\\]{1,9}", any::<String>(), 0..3);
    (kind, prop::option::of(author()), tags, json_value()).prop_map(move |(kind, author, tags, body)| {
        Record {
            offset,
            time_ms: 1,
            kind,
            author,
            key: None,
            conflate: None,
            tags: tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            body: body.to_string().into(),
        }
    })
}

pub fn page() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(any::<()>(), 0..4)
        .prop_flat_map(|n| (1..=n.len() as u64).map(record).collect::<Vec<_>>())
}

pub fn start() -> impl Strategy<Value = Start> {
    let flags = any::<(bool, bool, bool, bool)>();
    (flags, prop::option::of(any::<(u64, u64)>()), page(), any::<u64>(), prop::option::of(any::<u32>()))
        .prop_map(|((recoverable, positioned, was_recovering, recovered), position, page, oldest, ttl_s)| {
            Start {
                recoverable,
                positioned,
                position: position.map(|(epoch, offset)| Position::new(Epoch(epoch), offset)),
                was_recovering,
                recovered,
                page,
                oldest,
                ttl_s,
                data: None,
                patches: false,
            }
        })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let code = prop_oneof![Just(Code::Internal), Just(Code::BadRequest), Just(Code::Conflict)];
    (code, any::<String>(), prop::option::of(any::<u64>()), prop::option::of(json_value())).prop_map(
        |(code, message, retry_after_ms, detail)| Refusal {
            code,
            message: message.into(),
            retry_after_ms,
            detail: detail.map(|detail| detail.to_string()),
        },
    )
}

fn reply() -> impl Strategy<Value = Reply> {
    let connected = (start(), channel(), any::<(u32, bool)>(), prop::option::of(json_value())).prop_map(
        |(start, channel, (ping_s, pong), data)| {
            let subs = vec![(channel, start)];
            let data = data.map(|data| data.to_string().into());
            Reply::Connected(Box::new(Connected {
                client: "c".into(),
                ttl_s: Some(0),
                subs,
                ping_s,
                pong,
                data,
            }))
        },
    );
    prop_oneof![
        refusal().prop_map(Reply::Refused),
        connected,
        start().prop_map(|start| Reply::Subscribed(Box::new(start))),
        Just(Reply::Unsubscribed),
        Just(Reply::Published),
        prop::collection::vec(author(), 0..3).prop_map(Reply::Presence),
        any::<(u32, u32)>().prop_map(|(clients, users)| Reply::PresenceStats { clients, users }),
        (page(), any::<(u64, u64)>()).prop_map(|(records, (epoch, offset))| {
            Reply::History(Box::new(Page { records, newest: Position::new(Epoch(epoch), offset) }))
        }),
        prop::option::of(any::<u32>()).prop_map(|ttl_s| Reply::Refreshed { client: "c".into(), ttl_s }),
        prop::option::of(any::<u32>()).prop_map(|ttl_s| Reply::SubRefreshed { ttl_s }),
    ]
}

pub fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1u32.., reply()).prop_map(|(id, reply)| Event::Reply { id, reply }),
        1 => (channel(), author()).prop_map(|(channel, who)| Event::Joined { channel, who }),
        1 => (channel(), author()).prop_map(|(channel, who)| Event::Left { channel, who }),
        1 => (channel(), start()).prop_map(|(channel, start)| Event::Subscribed { channel, start }),
        1 => channel().prop_map(|channel| Event::Unsubscribed { channel, why: Unsubscribed::EXPIRED }),
        1 => (channel(), any::<u64>()).prop_map(|(channel, entries)| Event::Missed { channel, entries }),
        1 => Just(Event::Ping),
    ]
}
