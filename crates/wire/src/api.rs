//! The shapes of the HTTP API: one JSON object in, `{"result": {…}}` or `{"error": {code, message, …}}` out.

use std::sync::Arc;

use fireside_core::command::{History, Publish};
use fireside_core::event::Page;
use fireside_core::{Author, ChannelName, Code, Disconnect, Position, Refusal};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::body;
use crate::centrifuge_json::{author, publication};
use crate::fields::{DisconnectFields, Entries, Fields, PositionFields, or_default, present};
use crate::object::{Object, object};

mod runs;

pub use runs::{RunCall, RunReply};

/// What a backend asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiCall {
    /// Append a record. `idempotency_key` and our own `key` are the same thing.
    Publish(Publish),
    /// Read what was.
    History(History),
    /// Who is here.
    Presence {
        /// The channel.
        channel: String,
    },
    /// How many are here.
    PresenceStats {
        /// The channel.
        channel: String,
    },
    /// End sessions of a user.
    Disconnect {
        /// The user.
        user: String,
        /// Only this session of it.
        client: Option<String>,
        /// Sessions that stay.
        whitelist: Vec<String>,
        /// What they are told.
        why: Disconnect,
    },
    /// End a user's subscription.
    Unsubscribe {
        /// The user.
        user: String,
        /// The channel.
        channel: String,
        /// Only in this session.
        client: Option<String>,
    },
    /// Something about runs.
    Run(RunCall),
    /// Which nodes there are.
    Info,
    /// Which channels have subscribers.
    Channels {
        /// Only those that match: exact, or with one `*` at the end; empty for all.
        pattern: String,
    },
}

/// What a backend is told.
#[derive(Clone, Debug)]
pub enum ApiReply {
    /// No.
    Refused(Refusal),
    /// It is done, and there is nothing to say.
    Done,
    /// It is in the log, or went out where there is none.
    Published {
        /// Where; `None` in a channel without history.
        position: Option<Position>,
        /// The key was known: this is the first publish's position.
        duplicate: bool,
    },
    /// This is what was.
    History(Box<Page>),
    /// These are here.
    Presence(Vec<Arc<Author>>),
    /// So many are here.
    PresenceStats {
        /// Sessions.
        clients: u32,
        /// Users.
        users: u32,
    },
    /// This is to be said of a run.
    Run(RunReply),
    /// These are the nodes.
    Info(Vec<NodeInfo>),
    /// These channels have so many subscribers.
    Channels(Vec<(ChannelName, u32)>),
}

/// A node, as the API shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id, new with each start.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Sessions.
    pub clients: u32,
    /// Users.
    pub users: u32,
    /// Subscriptions.
    pub subs: u32,
    /// Channels with subscribers.
    pub channels: u32,
    /// Seconds since its start.
    pub uptime_s: u64,
}

/// Why a call cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiFault {
    /// There is no such method: 404.
    NoSuchMethod,
    /// The method is known, and this is the answer.
    Refused(Refusal),
}

impl From<Refusal> for ApiFault {
    fn from(refusal: Refusal) -> Self {
        ApiFault::Refused(refusal)
    }
}

/// Reads a call of `method` with a JSON object, or nothing, as its body.
///
/// # Errors
/// The method is unknown, the body is not what it takes (107), or it asks for something that is not offered (108).
pub fn decode(method: &str, body: &[u8]) -> Result<ApiCall, ApiFault> {
    let call = match method {
        "publish" => publish(fields(body)?)?,
        "history" => {
            let HistoryFields { channel, limit, since, reverse } = fields(body)?;
            let since = since.map(|since| since.0.claimed());
            ApiCall::History(History {
                channel: named(channel, "channel is missing")?,
                limit,
                since,
                reverse,
            })
        }
        "presence" => ApiCall::Presence { channel: channel(fields(body)?)? },
        "presence_stats" => ApiCall::PresenceStats { channel: channel(fields(body)?)? },
        "disconnect" => disconnect(fields(body)?)?,
        "unsubscribe" => {
            let SessionFields { user, channel, client, session, .. } = fields(body)?;
            offered(session.is_none(), "session is not offered, client is")?;
            let user = named(user, "user is missing")?;
            ApiCall::Unsubscribe {
                user,
                channel: named(channel, "channel is missing")?,
                client: filled(client),
            }
        }
        "info" => fields(body).map(|Nothing {}| ApiCall::Info)?,
        "channels" => fields(body).map(|ChannelsFields { pattern }| ApiCall::Channels { pattern })?,
        _ => match runs::decode(method, body) {
            Some(call) => ApiCall::Run(call?),
            None => return Err(ApiFault::NoSuchMethod),
        },
    };
    Ok(call)
}

/// Writes an answer. Unlike on the clients' wire, zero values are written: whoever reads this may be a typed client.
pub fn encode(reply: &ApiReply) -> Vec<u8> {
    let mut out = Vec::new();
    object(&mut out, |o| match reply {
        ApiReply::Refused(refusal) => o.object("error", |o| error(refusal, o)),
        reply => o.object("result", |o| result(reply, o)),
    });
    out
}

fn error(refusal: &Refusal, o: &mut Object<'_>) {
    o.exact_number("code", refusal.code.number().into());
    o.exact_text("message", &refusal.message);
    o.exact_flag("temporary", refusal.code.is_temporary());
    if let Some(ms) = refusal.retry_after_ms {
        o.exact_number("retry_after_ms", ms);
    }
    o.json("detail", refusal.detail.as_deref().unwrap_or_default().as_bytes());
}

fn result(reply: &ApiReply, o: &mut Object<'_>) {
    match reply {
        ApiReply::Refused(_) | ApiReply::Done => {}
        ApiReply::Published { position, duplicate } => {
            o.exact_number("offset", position.map_or(0, |p| p.offset));
            o.exact_text("epoch", &position.map_or(String::new(), |p| p.epoch.to_string()));
            o.flag("duplicate", *duplicate);
        }
        ApiReply::History(page) => {
            o.objects("publications", &page.records, |o, record| publication(record, None, o));
            o.exact_number("offset", page.newest.offset);
            o.exact_text("epoch", &page.newest.epoch.to_string());
        }
        ApiReply::Presence(members) => o.object("presence", |o| {
            for member in members {
                o.entry(&member.client, |o| author(member, o));
            }
        }),
        ApiReply::PresenceStats { clients, users } => {
            o.exact_number("num_clients", (*clients).into());
            o.exact_number("num_users", (*users).into());
        }
        ApiReply::Run(reply) => runs::result(reply, o),
        ApiReply::Info(nodes) => o.objects("nodes", nodes, |o, node| {
            o.exact_text("uid", &node.uid);
            o.exact_text("name", &node.name);
            o.exact_text("version", &node.version);
            o.exact_number("num_clients", node.clients.into());
            o.exact_number("num_users", node.users.into());
            o.exact_number("num_subs", node.subs.into());
            o.exact_number("num_channels", node.channels.into());
            o.exact_number("uptime", node.uptime_s);
        }),
        ApiReply::Channels(channels) => o.object("channels", |o| {
            for (channel, clients) in channels {
                o.entry(channel.as_str(), |o| o.exact_number("num_clients", (*clients).into()));
            }
        }),
    }
}

fn fields<'a, T: Deserialize<'a> + Default>(body: &'a [u8]) -> Result<T, Refusal> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let fields: Fields<T> = serde_json::from_slice(body).map_err(|fault| {
        Refusal::because(Code::BadRequest, format!("the request is not understood: {fault}"))
    })?;
    Ok(fields.0)
}

fn named(text: String, missing: &'static str) -> Result<String, Refusal> {
    if text.is_empty() { Err(Refusal::because(Code::BadRequest, missing)) } else { Ok(text) }
}

fn offered(is: bool, why: &'static str) -> Result<(), Refusal> {
    if is { Ok(()) } else { Err(Refusal::because(Code::NotAvailable, why)) }
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Nothing {}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChannelFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
}

fn channel(fields: ChannelFields) -> Result<String, Refusal> {
    named(fields.channel, "channel is missing")
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChannelsFields {
    #[serde(deserialize_with = "or_default")]
    pattern: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HistoryFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    limit: i32,
    since: Option<Fields<PositionFields>>,
    #[serde(deserialize_with = "or_default")]
    reverse: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PublishFields<'a> {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    b64data: Option<IgnoredAny>,
    idempotency_key: Option<String>,
    key: Option<String>,
    expected: Option<Fields<PositionFields>>,
    conflate: Option<String>,
    #[serde(deserialize_with = "or_default")]
    tags: Entries<String>,
    #[serde(deserialize_with = "or_default")]
    skip_history: bool,
    #[serde(deserialize_with = "or_default")]
    version: u64,
}

fn publish(fields: PublishFields<'_>) -> Result<ApiCall, Refusal> {
    offered(fields.b64data.is_none(), "b64data is not offered: a body is JSON")?;
    // To ignore either would do something else than what was asked.
    offered(
        !fields.skip_history,
        "skip_history is not offered: a channel without history is another namespace",
    )?;
    offered(fields.version == 0, "version is not offered, expected is")?;
    let (key, ours) = (filled(fields.idempotency_key), filled(fields.key));
    if key.is_some() && ours.is_some() && key != ours {
        return Err(Refusal::because(Code::BadRequest, "idempotency_key and key differ"));
    }
    let data = fields.data.ok_or_else(|| Refusal::because(Code::BadRequest, "data is missing"))?;
    Ok(ApiCall::Publish(Publish {
        channel: named(fields.channel, "channel is missing")?,
        body: body::take(data).map_err(|fault| Refusal::because(Code::BadRequest, fault.0))?,
        key: key.or(ours),
        expected: fields.expected.map(|expected| expected.0.claimed()),
        conflate: filled(fields.conflate),
        tags: fields.tags.0.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SessionFields {
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    channel: String,
    client: Option<String>,
    session: Option<IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    whitelist: Vec<String>,
    disconnect: Option<Fields<DisconnectFields>>,
}

fn disconnect(fields: SessionFields) -> Result<ApiCall, Refusal> {
    let SessionFields { user, client, session, whitelist, disconnect, .. } = fields;
    offered(session.is_none(), "session is not offered, client is")?;
    let why = match disconnect {
        None => Disconnect::FORCE_NO_RECONNECT,
        Some(Fields(why)) => why.disconnect().map_err(|fault| Refusal::because(Code::BadRequest, fault))?,
    };
    Ok(ApiCall::Disconnect { user: named(user, "user is missing")?, client: filled(client), whitelist, why })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fireside_core::{Claimed, Epoch, Kind, Record};

    use super::*;

    fn code(method: &str, body: &str) -> Option<Code> {
        match decode(method, body.as_bytes()) {
            Ok(_) => None,
            Err(ApiFault::Refused(refusal)) => Some(refusal.code),
            Err(ApiFault::NoSuchMethod) => Some(Code::MethodNotFound),
        }
    }

    fn written(reply: ApiReply) -> String {
        String::from_utf8(encode(&reply)).unwrap()
    }

    #[test]
    fn a_publish_has_a_key_tags_and_an_expected_position() {
        let body = r#"{
            "channel": "news:1", "data": {"a":
            1}, "idempotency_key": "k", "tags": {"b": "2", "a": "1"}, "expected": {"epoch": "4", "offset": 9}, "delta": true
        }"#;
        let ApiCall::Publish(publish) = decode("publish", body.as_bytes()).unwrap() else { panic!() };
        assert_eq!(publish.channel, "news:1");
        assert!(!publish.body.contains(&b'\n'));
        assert_eq!(publish.key.as_deref(), Some("k"));
        assert_eq!(publish.expected, Some(Claimed { epoch: Some(Epoch(4)), offset: 9 }));
        assert_eq!(publish.tags, [("a".into(), "1".into()), ("b".into(), "2".into())]);
        let same = |body: &str| decode("publish", body.as_bytes());
        assert_eq!(
            same(r#"{"channel":"a","data":1,"key":"k"}"#),
            same(r#"{"channel":"a","data":1,"idempotency_key":"k"}"#)
        );
    }

    #[test]
    fn what_is_wrong_is_said_by_its_code() {
        for (method, body) in [
            ("publish", r#"{"data":{}}"#),
            ("publish", r#"{"channel":"a"}"#),
            ("publish", ""),
            ("publish", "[]"),
            ("publish", r#"["a",1]"#),
            ("publish", r#"{"channel":"a","data":"\ud800"}"#),
            ("publish", r#"{"channel":"a","channel":"b","data":1}"#),
            ("publish", r#"{"channel":"a","data":1,"tags":{"a":"1","a":"2"}}"#),
            ("publish", r#"{"channel":"a","data":1,"key":"k","idempotency_key":"l"}"#),
            ("presence", "{}"),
            ("history", r#"{"channel":5}"#),
            ("disconnect", "{}"),
            ("disconnect", r#"{"user":"a","disconnect":{"code":1000}}"#),
            ("disconnect", r#"{"user":"a","disconnect":{"code":4000,"reason":"{\"reconnect\":true}"}}"#),
            ("unsubscribe", r#"{"user":"a"}"#),
            ("info", "\u{0}"),
        ] {
            assert_eq!(code(method, body), Some(Code::BadRequest), "{method} {body}");
        }
        for body in [r#""skip_history":true"#, r#""b64data":"AA==""#, r#""version":3"#] {
            let body = format!(r#"{{"channel":"a","data":1,{body}}}"#);
            assert_eq!(code("publish", &body), Some(Code::NotAvailable), "{body}");
        }
        assert_eq!(code("no_such_method", "{}"), Some(Code::MethodNotFound));
    }

    #[test]
    fn the_other_calls() {
        assert_eq!(decode("info", b""), Ok(ApiCall::Info));
        assert_eq!(decode("channels", b"{}"), Ok(ApiCall::Channels { pattern: String::new() }));
        assert_eq!(
            decode("disconnect", br#"{"user":"anna","whitelist":["c1"]}"#),
            Ok(ApiCall::Disconnect {
                user: "anna".into(),
                client: None,
                whitelist: vec!["c1".into()],
                why: Disconnect::FORCE_NO_RECONNECT,
            })
        );
        assert_eq!(
            decode("unsubscribe", br#"{"user":"anna","channel":"a","client":"c"}"#),
            Ok(ApiCall::Unsubscribe { user: "anna".into(), channel: "a".into(), client: Some("c".into()) })
        );
        assert_eq!(
            decode("history", br#"{"channel":"a","limit":-1,"reverse":true}"#),
            Ok(ApiCall::History(History { channel: "a".into(), limit: -1, since: None, reverse: true }))
        );
    }

    #[test]
    fn answers_have_one_envelope() {
        let position = Some(Position::new(Epoch(7), 3));
        for (reply, json) in [
            (ApiReply::Done, r#"{"result":{}}"#),
            (ApiReply::Published { position, duplicate: false }, r#"{"result":{"offset":3,"epoch":"7"}}"#),
            (
                ApiReply::Published { position, duplicate: true },
                r#"{"result":{"offset":3,"epoch":"7","duplicate":true}}"#,
            ),
            (
                ApiReply::PresenceStats { clients: 0, users: 0 },
                r#"{"result":{"num_clients":0,"num_users":0}}"#,
            ),
            (ApiReply::Presence(Vec::new()), r#"{"result":{"presence":{}}}"#),
            (
                ApiReply::Channels(vec![(ChannelName::parse("a:1").unwrap(), 2)]),
                r#"{"result":{"channels":{"a:1":{"num_clients":2}}}}"#,
            ),
            (
                ApiReply::Refused(Refusal::new(Code::TooManyRequests).retry_after(250)),
                r#"{"error":{"code":111,"message":"too many requests","temporary":true,"retry_after_ms":250}}"#,
            ),
            (
                ApiReply::Refused(Refusal::new(Code::BadRequest).with_detail(r#"[{"path":"/a"}]"#.into())),
                r#"{"error":{"code":107,"message":"bad request","temporary":false,"detail":[{"path":"/a"}]}}"#,
            ),
        ] {
            assert_eq!(written(reply), json);
        }
    }

    #[test]
    fn history_tells_records_and_the_newest_position() {
        let record = Record {
            offset: 1,
            time_ms: 5,
            kind: Kind::Plain,
            author: Some(Arc::new(Author { user: "anna".into(), client: "c".into(), ..Author::default() })),
            key: None,
            conflate: None,
            tags: Vec::new(),
            body: Bytes::from_static(b"{}"),
        };
        let page = Page { records: vec![record], newest: Position::new(Epoch(7), 1) };
        assert_eq!(
            written(ApiReply::History(Box::new(page))),
            r#"{"result":{"publications":[{"data":{},"info":{"user":"anna","client":"c"},"offset":1}],"offset":1,"epoch":"7"}}"#
        );
        let empty = Page { records: Vec::new(), newest: Position::new(Epoch(7), 0) };
        assert_eq!(
            written(ApiReply::History(Box::new(empty))),
            r#"{"result":{"publications":[],"offset":0,"epoch":"7"}}"#
        );
    }
}
