//! The protocol's messages as an independent codec knows them, with the numbers of `client.proto`; in JSON as the protocol writes them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::strategies::{channel, json_value};

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn embedded<S: Serializer>(json: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let value: Box<RawValue> = serde_json::from_slice(json).map_err(serde::ser::Error::custom)?;
    value.serialize(serializer)
}

/// Messages whose zero values JSON leaves out, whose bytes are embedded JSON and whose messages are there or not.
macro_rules! messages {
    ($($name:ident { $($field:ident: $kind:tt $of:tt = $tag:literal,)* })*) => {
        $(message! { @ $name; []; $($field: $kind $of = $tag,)* })*
    };
}

macro_rules! message {
    (@ $name:ident; [$($done:tt)*];) => {
        #[derive(Clone, PartialEq, Serialize, Message)]
        pub struct $name { $($done)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: text _ = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(string, tag = $tag)] #[serde(skip_serializing_if = "is_zero")] pub $field: String,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: json _ = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(bytes = "vec", tag = $tag)]
            #[serde(skip_serializing_if = "is_zero", serialize_with = "embedded")] pub $field: Vec<u8>,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: flag _ = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(bool, tag = $tag)] #[serde(skip_serializing_if = "is_zero")] pub $field: bool,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: u32 _ = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(uint32, tag = $tag)] #[serde(skip_serializing_if = "is_zero")] pub $field: u32,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: u64 _ = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(uint64, tag = $tag)] #[serde(skip_serializing_if = "is_zero")] pub $field: u64,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: i32 _ = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(int32, tag = $tag)] #[serde(skip_serializing_if = "is_zero")] pub $field: i32,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: i64 _ = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(int64, tag = $tag)] #[serde(skip_serializing_if = "is_zero")] pub $field: i64,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: one $of:ident = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(message, optional, tag = $tag)]
            #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$of>,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: many $of:ident = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(message, repeated, tag = $tag)]
            #[serde(skip_serializing_if = "Vec::is_empty")] pub $field: Vec<$of>,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: strings _ = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(string, repeated, tag = $tag)]
            #[serde(skip_serializing_if = "Vec::is_empty")] pub $field: Vec<String>,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: texts _ = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(btree_map = "string, string", tag = $tag)]
            #[serde(skip_serializing_if = "BTreeMap::is_empty")] pub $field: BTreeMap<String, String>,]; $($rest)* }
    };
    (@ $name:ident; [$($done:tt)*]; $field:ident: map $of:ident = $tag:literal, $($rest:tt)*) => {
        message! { @ $name; [$($done)* #[prost(btree_map = "string, message", tag = $tag)]
            #[serde(skip_serializing_if = "BTreeMap::is_empty")] pub $field: BTreeMap<String, $of>,]; $($rest)* }
    };
}

messages! {
    Command {
        id: u32 _ = 1, connect: one ConnectRequest = 4, subscribe: one SubscribeRequest = 5, unsubscribe: one ChannelRequest = 6,
        publish: one PublishRequest = 7, presence: one ChannelRequest = 8, presence_stats: one ChannelRequest = 9,
        history: one HistoryRequest = 10, ping: one Empty = 11, send: one DataMessage = 12, rpc: one RpcRequest = 13,
        refresh: one RefreshRequest = 14, sub_refresh: one SubRefreshRequest = 15,
    }
    ConnectRequest {
        token: text _ = 1, data: json _ = 2, subs: map SubscribeRequest = 3, name: text _ = 4, version: text _ = 5, headers: texts _ = 6,
        flag: i64 _ = 7,
    }
    SubscribeRequest {
        channel: text _ = 1, token: text _ = 2, recover: flag _ = 3, epoch: text _ = 6, offset: u64 _ = 7, data: json _ = 8,
        positioned: flag _ = 9, recoverable: flag _ = 10, join_leave: flag _ = 11, delta: text _ = 12, tf: one FilterNode = 13, flag: i64 _ = 14, r#type: i32 _ = 15,
    }
    FilterNode {
        op: text _ = 1, key: text _ = 2, cmp: text _ = 3, val: text _ = 4, vals: strings _ = 5, nodes: many FilterNode = 6,
    }
    ChannelRequest { channel: text _ = 1, }
    PublishRequest { channel: text _ = 1, data: json _ = 2, r#type: i32 _ = 3, key: text _ = 4, }
    HistoryRequest { channel: text _ = 1, limit: i32 _ = 7, since: one StreamPosition = 8, reverse: flag _ = 9, }
    StreamPosition { offset: u64 _ = 1, epoch: text _ = 2, }
    RpcRequest { data: json _ = 1, method: text _ = 2, }
    RefreshRequest { token: text _ = 1, }
    SubRefreshRequest { channel: text _ = 1, token: text _ = 2, r#type: i32 _ = 3, }
    Empty {}
    DataMessage { data: json _ = 1, }

    Reply {
        id: u32 _ = 1, error: one Error = 2, push: one Push = 4, connect: one ConnectResult = 5, subscribe: one SubscribeResult = 6,
        unsubscribe: one Empty = 7, publish: one Empty = 8, presence: one PresenceResult = 9, presence_stats: one PresenceStatsResult = 10,
        history: one HistoryResult = 11, ping: one Empty = 12, rpc: one DataMessage = 13, refresh: one RefreshResult = 14,
        sub_refresh: one SubRefreshResult = 15,
    }
    Error { code: u32 _ = 1, message: text _ = 2, temporary: flag _ = 3, }
    Push {
        channel: text _ = 2, r#pub: one Publication = 4, join: one Join = 5, leave: one Join = 6, unsubscribe: one Unsubscribe = 7,
        message: one DataMessage = 8, subscribe: one Subscribe = 9, disconnect: one Disconnect = 11,
    }
    Publication {
        data: json _ = 4, info: one ClientInfo = 5, offset: u64 _ = 6, tags: texts _ = 7, delta: flag _ = 8, time: i64 _ = 9, epoch: text _ = 14,
    }
    ClientInfo { user: text _ = 1, client: text _ = 2, conn_info: json _ = 3, chan_info: json _ = 4, }
    Join { info: one ClientInfo = 1, }
    Unsubscribe { code: u32 _ = 2, reason: text _ = 3, }
    Subscribe { recoverable: flag _ = 1, epoch: text _ = 4, offset: u64 _ = 5, positioned: flag _ = 6, data: json _ = 7, }
    Disconnect { code: u32 _ = 1, reason: text _ = 2, reconnect: flag _ = 3, }
    ConnectResult {
        client: text _ = 1, version: text _ = 2, expires: flag _ = 3, ttl: u32 _ = 4, data: json _ = 5, subs: map SubscribeResult = 6,
        ping: u32 _ = 7, pong: flag _ = 8, session: text _ = 9, node: text _ = 10,
    }
    SubscribeResult {
        expires: flag _ = 1, ttl: u32 _ = 2, recoverable: flag _ = 3, epoch: text _ = 6, publications: many Publication = 7,
        recovered: flag _ = 8, offset: u64 _ = 9, positioned: flag _ = 10, data: json _ = 11, was_recovering: flag _ = 12, delta: flag _ = 13,
        oldest: u64 _ = 1000,
    }
    PresenceResult { presence: map ClientInfo = 1, }
    PresenceStatsResult { num_clients: u32 _ = 1, num_users: u32 _ = 2, }
    HistoryResult { publications: many Publication = 1, epoch: text _ = 2, offset: u64 _ = 3, }
    RefreshResult { client: text _ = 1, version: text _ = 2, expires: flag _ = 3, ttl: u32 _ = 4, }
    SubRefreshResult { expires: flag _ = 1, ttl: u32 _ = 2, }
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    json_value().prop_map(|value| value.to_string().into_bytes())
}

fn name() -> impl Strategy<Value = String> {
    channel().prop_map(|name| name.as_str().to_owned())
}

fn filter() -> impl Strategy<Value = FilterNode> {
    let leaf = (any::<[String; 3]>(), prop::collection::vec(any::<String>(), 0..3))
        .prop_map(|([key, cmp, val], vals)| FilterNode { key, cmp, val, vals, ..FilterNode::default() });
    leaf.prop_recursive(4, 12, 3, |inner| {
        ("and|or|not", prop::collection::vec(inner, 0..3)).prop_map(|(op, nodes)| FilterNode {
            op,
            nodes,
            ..FilterNode::default()
        })
    })
}

fn subscribe() -> impl Strategy<Value = SubscribeRequest> {
    let epoch =
        prop_oneof![Just(String::new()), any::<u64>().prop_map(|epoch| epoch.to_string()), any::<String>()];
    let kind = prop_oneof![4 => Just(0), 1 => any::<i32>()];
    let more = (any::<i64>(), kind, "fossil|", prop::option::of(filter()));
    (name(), any::<String>(), any::<[bool; 4]>(), epoch, any::<u64>(), more).prop_map(
        |(channel, token, flags, epoch, offset, (flag, r#type, delta, tf))| {
            let [recover, positioned, recoverable, join_leave] = flags;
            SubscribeRequest {
                delta,
                tf,
                channel,
                token,
                recover,
                epoch,
                offset,
                positioned,
                recoverable,
                join_leave,
                flag,
                r#type,
                ..SubscribeRequest::default()
            }
        },
    )
}

/// Any command that a client may send, well formed.
pub fn command() -> impl Strategy<Value = Command> {
    let connect = (any::<[String; 3]>(), data(), prop::collection::btree_map(name(), subscribe(), 0..3))
        .prop_map(|([token, name, version], data, subs)| ConnectRequest {
            token,
            data,
            subs,
            name,
            version,
            headers: BTreeMap::from([("a".into(), "b".into())]),
            ..ConnectRequest::default()
        });
    let history = (name(), any::<i32>(), prop::option::of((any::<u64>(), any::<String>())), any::<bool>())
        .prop_map(|(channel, limit, since, reverse)| {
            let since = since.map(|(offset, epoch)| StreamPosition { offset, epoch });
            HistoryRequest { channel, limit, since, reverse }
        });
    let method =
        prop_oneof![Just("fireside.publish".to_owned()), Just("ai.start".to_owned()), any::<String>()];
    let of = Command::default;
    let asked = prop_oneof![
        connect.prop_map(move |connect| Command { connect: Some(connect), ..of() }),
        subscribe().prop_map(move |subscribe| Command { subscribe: Some(subscribe), ..of() }),
        name().prop_map(move |channel| Command { unsubscribe: Some(ChannelRequest { channel }), ..of() }),
        (name(), data(), 0..2).prop_map(move |(channel, data, r#type)| Command {
            publish: Some(PublishRequest { channel, data, r#type, key: String::new() }),
            presence: Some(ChannelRequest::default()),
            ..of()
        }),
        name().prop_map(move |channel| Command { presence: Some(ChannelRequest { channel }), ..of() }),
        name().prop_map(move |channel| Command { presence_stats: Some(ChannelRequest { channel }), ..of() }),
        history.prop_map(move |history| Command { history: Some(history), ..of() }),
        Just(Command { ping: Some(Empty {}), ..of() }),
        data().prop_map(move |data| Command { send: Some(DataMessage { data }), ..of() }),
        (data(), method)
            .prop_map(move |(data, method)| Command { rpc: Some(RpcRequest { data, method }), ..of() }),
        any::<String>().prop_map(move |token| Command { refresh: Some(RefreshRequest { token }), ..of() }),
        (name(), any::<String>(), 0..3).prop_map(move |(channel, token, r#type)| Command {
            sub_refresh: Some(SubRefreshRequest { channel, token, r#type }),
            ..of()
        }),
    ];
    (prop_oneof![1 => Just(0), 9 => any::<u32>()], asked).prop_map(|(id, command)| Command { id, ..command })
}
