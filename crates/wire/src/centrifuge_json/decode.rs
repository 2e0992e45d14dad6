//! What a client asks, from messages of the protocol.

use bytes::Bytes;
use fireside_core::command::{Connect, History, Publish, Subscribe};
use fireside_core::limits::FRAME_COMMANDS_MAX;
use fireside_core::{Claimed, Command, Disconnect, FilterNode, Request};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::body;
use crate::centrifuge;
use crate::fields::{Entries, Fields, PositionFields, claimed, or_default, present};
use crate::rpc;

/// Decodes the commands of a frame: one a line, perhaps with one line break at the end.
pub(super) fn frame(frame: &[u8], out: &mut Vec<Request>) -> Result<(), Disconnect> {
    let text = std::str::from_utf8(frame).map_err(|_| Disconnect::BAD_REQUEST)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    for (n, line) in text.split('\n').enumerate() {
        if n == FRAME_COMMANDS_MAX {
            return Err(Disconnect::BAD_REQUEST);
        }
        let fields: Fields<CommandFields<'_>> =
            serde_json::from_str(line).map_err(|_| Disconnect::BAD_REQUEST)?;
        out.push(fields.0.request()?);
    }
    Ok(())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CommandFields<'a> {
    #[serde(deserialize_with = "or_default")]
    id: u32,
    #[serde(borrow)]
    connect: Option<Fields<ConnectFields<'a>>>,
    subscribe: Option<Fields<SubscribeFields>>,
    unsubscribe: Option<Fields<ChannelFields>>,
    #[serde(borrow)]
    publish: Option<Fields<PublishFields<'a>>>,
    presence: Option<Fields<ChannelFields>>,
    presence_stats: Option<Fields<ChannelFields>>,
    history: Option<Fields<HistoryFields>>,
    ping: Option<IgnoredAny>,
    #[serde(borrow)]
    send: Option<Fields<SendFields<'a>>>,
    #[serde(borrow)]
    rpc: Option<Fields<RpcFields<'a>>>,
    refresh: Option<Fields<RefreshFields>>,
    sub_refresh: Option<Fields<SubRefreshFields>>,
}

impl CommandFields<'_> {
    fn request(self) -> Result<Request, Disconnect> {
        centrifuge::request(self.id, self.send.is_some(), || self.command())
    }

    /// The first request that is there, in the order of the protocol's field numbers; `None` if there is none.
    fn command(self) -> Result<Option<Command>, body::BodyFault> {
        let command = if let Some(Fields(connect)) = self.connect {
            Command::Connect(connect.into_connect()?)
        } else if let Some(Fields(subscribe)) = self.subscribe {
            Command::Subscribe(subscribe.into_subscribe())
        } else if let Some(Fields(ChannelFields { channel })) = self.unsubscribe {
            Command::Unsubscribe { channel }
        } else if let Some(Fields(publish)) = self.publish {
            publish.into_command()?
        } else if let Some(Fields(ChannelFields { channel })) = self.presence {
            Command::Presence { channel }
        } else if let Some(Fields(ChannelFields { channel })) = self.presence_stats {
            Command::PresenceStats { channel }
        } else if let Some(Fields(HistoryFields { channel, limit, since, reverse })) = self.history {
            // More than a page holds is a page, however much more.
            let limit = limit.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
            Command::History(History { channel, limit, since: since.map(|since| since.0.claimed()), reverse })
        } else if self.ping.is_some() {
            Command::Unsupported
        } else if let Some(Fields(send)) = self.send {
            Command::Send { data: optional(send.data)? }
        } else if let Some(Fields(RpcFields { method, data })) = self.rpc {
            rpc::command(method, data)
        } else if let Some(Fields(RefreshFields { token })) = self.refresh {
            Command::Refresh { token }
        } else if let Some(Fields(SubRefreshFields { channel, token, kind })) = self.sub_refresh {
            if kind == 0 { Command::SubRefresh { channel, token } } else { Command::Unsupported }
        } else {
            return Ok(None);
        };
        Ok(Some(command))
    }
}

fn optional(data: Option<&RawValue>) -> Result<Bytes, body::BodyFault> {
    data.map_or(Ok(Bytes::new()), body::take)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConnectFields<'a> {
    #[serde(deserialize_with = "or_default")]
    token: String,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    subs: Entries<Option<Fields<SubscribeFields>>>,
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    version: String,
}

impl ConnectFields<'_> {
    fn into_connect(self) -> Result<Connect, body::BodyFault> {
        Ok(Connect {
            data: optional(self.data)?,
            token: self.token,
            subs: self
                .subs
                .0
                .into_iter()
                .filter_map(|(channel, sub)| Some((channel, sub?.0.recover()?)))
                .collect(),
            name: centrifuge::name(&self.name),
            version: centrifuge::version(&self.version),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SubscribeFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    token: String,
    #[serde(deserialize_with = "or_default")]
    recover: bool,
    #[serde(deserialize_with = "or_default")]
    epoch: String,
    #[serde(deserialize_with = "or_default")]
    offset: u64,
    #[serde(deserialize_with = "or_default")]
    positioned: bool,
    #[serde(deserialize_with = "or_default")]
    recoverable: bool,
    #[serde(deserialize_with = "or_default")]
    join_leave: bool,
    #[serde(deserialize_with = "or_default")]
    delta: String,
    #[serde(deserialize_with = "or_default")]
    flag: i64,
    #[serde(rename = "type", deserialize_with = "or_default")]
    kind: i32,
    tf: Option<Fields<FilterFields>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FilterFields {
    #[serde(deserialize_with = "or_default")]
    op: String,
    #[serde(deserialize_with = "or_default")]
    key: String,
    #[serde(deserialize_with = "or_default")]
    cmp: String,
    #[serde(deserialize_with = "or_default")]
    val: String,
    #[serde(deserialize_with = "or_default")]
    vals: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    nodes: Vec<Fields<FilterFields>>,
}

impl FilterFields {
    /// Its nesting is bounded by the JSON reader.
    fn into_node(self) -> FilterNode {
        let FilterFields { op, key, cmp, val, vals, nodes } = self;
        let nodes = nodes.into_iter().map(|node| node.0.into_node()).collect();
        FilterNode { op, key, cmp, val, vals, nodes }
    }
}

impl SubscribeFields {
    fn recover(&self) -> Option<Claimed> {
        self.recover.then(|| claimed(&self.epoch, self.offset))
    }

    fn into_subscribe(self) -> Subscribe {
        Subscribe {
            recover: self.recover(),
            positioned: self.positioned,
            recoverable: self.recoverable,
            join_leave: self.join_leave,
            reject_unrecovered: self.flag & centrifuge::REJECT_UNRECOVERED != 0,
            patches: self.delta == centrifuge::PATCHES,
            filter: self.tf.map(|filter| Box::new(filter.0.into_node())),
            unsupported: self.kind != 0,
            channel: self.channel,
            token: self.token,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChannelFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PublishFields<'a> {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    /// Above 0 it is an entry of a map, and `key` its name there: nothing that happens once.
    #[serde(rename = "type", deserialize_with = "or_default")]
    kind: i32,
}

impl PublishFields<'_> {
    fn into_command(self) -> Result<Command, body::BodyFault> {
        if self.kind != 0 {
            return Ok(Command::Unsupported);
        }
        let data = self.data.ok_or(body::BodyFault("data is missing"))?;
        Ok(Command::Publish(Publish { channel: self.channel, body: body::take(data)?, ..Publish::default() }))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HistoryFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    limit: i64,
    since: Option<Fields<PositionFields>>,
    #[serde(deserialize_with = "or_default")]
    reverse: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SendFields<'a> {
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RpcFields<'a> {
    #[serde(deserialize_with = "or_default")]
    method: String,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefreshFields {
    #[serde(deserialize_with = "or_default")]
    token: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SubRefreshFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    token: String,
    /// 0 is a new token; the others move entries of a shared poll.
    #[serde(rename = "type", deserialize_with = "or_default")]
    kind: i32,
}
