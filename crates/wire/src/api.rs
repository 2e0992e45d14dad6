//! The shapes of the HTTP API: one JSON object in, `{"result": {…}}` or `{"error": {code, message, …}}` out.

use std::sync::Arc;

use fireside_core::command::{Erase, History, Publish};
use fireside_core::event::Page;
use fireside_core::{Author, ChannelName, Code, Position, Refusal};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::body;
use crate::centrifuge_json::{author, publication};
use crate::fields::{Entries, Fields, PositionFields, claimed, or_default, present};
use crate::object::{Object, object};

mod runs;
mod sessions;
mod several;

pub use runs::{RunCall, RunReply};
pub use sessions::{Change, SessionsCall};
pub use several::Batch;

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
    /// Append a record to each of these channels.
    Broadcast(Vec<Publish>),
    /// Remove what was.
    HistoryRemove {
        /// The channel.
        channel: String,
    },
    /// Erase one record.
    Erase(Erase),
    /// Give back all of the disk that holds nothing but what was erased, trimmed or forgotten.
    Compact,
    /// Something about a user's sessions.
    Sessions(SessionsCall),
    /// Several calls.
    Batch(Batch),
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
    /// What became of each record of a broadcast, in the order of its channels.
    Broadcast(Vec<ApiReply>),
    /// What became of each call of a batch, by its method, in their order.
    Batch(Vec<(&'static str, ApiReply)>),
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
        "publish" => {
            let asked = publish(fields(body)?)?;
            ApiCall::Publish(Publish { channel: named(asked.channel, "channel is missing")?, ..asked })
        }
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
        "history_remove" => ApiCall::HistoryRemove { channel: channel(fields(body)?)? },
        "erase" => erase(fields(body)?)?,
        "compact" => fields(body).map(|Nothing {}| ApiCall::Compact)?,
        "broadcast" => several::broadcast(body)?,
        "batch" => several::batch(body)?,
        "info" => fields(body).map(|Nothing {}| ApiCall::Info)?,
        "channels" => fields(body).map(|ChannelsFields { pattern }| ApiCall::Channels { pattern })?,
        _ => match (sessions::decode(method, body), runs::decode(method, body)) {
            (Some(call), _) => ApiCall::Sessions(call?),
            (_, Some(call)) => ApiCall::Run(call?),
            (None, None) => return Err(ApiFault::NoSuchMethod),
        },
    };
    Ok(call)
}

/// Writes an answer. Unlike on the clients' wire, zero values are written: whoever reads this may be a typed client.
pub fn encode(reply: &ApiReply) -> Vec<u8> {
    let mut out = Vec::new();
    object(&mut out, |o| answer("result", reply, o));
    out
}

fn answer(name: &'static str, reply: &ApiReply, o: &mut Object<'_>) {
    match reply {
        ApiReply::Refused(refusal) => o.object("error", |o| error(refusal, o)),
        reply => o.object(name, |o| result(reply, o)),
    }
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
        ApiReply::Broadcast(replies) => {
            o.objects("responses", replies, |o, reply| answer("result", reply, o));
        }
        ApiReply::Batch(replies) => {
            o.objects("replies", replies, |o, (method, reply)| answer(method, reply, o));
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
struct EraseFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    offset: u64,
    #[serde(deserialize_with = "or_default")]
    epoch: String,
    #[serde(deserialize_with = "or_default")]
    reason: String,
    #[serde(deserialize_with = "or_default")]
    by: String,
}

fn erase(fields: EraseFields) -> Result<ApiCall, Refusal> {
    let EraseFields { channel, offset, epoch, reason, by } = fields;
    Ok(ApiCall::Erase(Erase {
        channel: named(channel, "channel is missing")?,
        epoch: claimed(&epoch, offset).epoch,
        offset,
        reason,
        by,
    }))
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

fn publish(fields: PublishFields<'_>) -> Result<Publish, Refusal> {
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
    Ok(Publish {
        channel: fields.channel,
        body: body::take(data).map_err(|fault| Refusal::because(Code::BadRequest, fault.0))?,
        key: key.or(ours),
        expected: fields.expected.map(|expected| expected.0.claimed()),
        conflate: filled(fields.conflate),
        tags: fields.tags.0.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fireside_core::{Claimed, Disconnect, Epoch, Kind, Record};

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
        let of = |method, client: Option<&str>, body: &str, change| {
            let client = client.map(str::to_owned);
            let call = SessionsCall { user: "anna".into(), client, change };
            assert_eq!(decode(method, body.as_bytes()), Ok(ApiCall::Sessions(call)), "{method} {body}");
        };
        let whitelist = vec!["c1".into()];
        let end = Change::Disconnect { whitelist, why: Disconnect::FORCE_NO_RECONNECT };
        of("disconnect", None, r#"{"user":"anna","whitelist":["c1"]}"#, end);
        let body = r#"{"user":"anna","channel":"a","client":"c","session":""}"#;
        of("unsubscribe", Some("c"), body, Change::Unsubscribe { channel: "a".into() });
        let body = r#"{"user":"anna","channel":"a","data":{"b":1},"recover_since":{"offset":3,"epoch":"7"}}"#;
        let recover = Some(Claimed { epoch: Some(Epoch(7)), offset: 3 });
        let data = Some(Bytes::from_static(br#"{"b":1}"#));
        of("subscribe", None, body, Change::Subscribe { channel: "a".into(), recover, data });
        of("refresh", None, r#"{"user":"anna","expired":true,"expire_at":5}"#, Change::Expire);
        of("refresh", None, r#"{"user":"anna","expire_at":5}"#, Change::Refresh { expires_s: Some(5) });
        let erase = Erase { channel: "a".into(), offset: 3, by: "ben".into(), ..Erase::default() };
        assert_eq!(decode("erase", br#"{"channel":"a","offset":3,"by":"ben"}"#), Ok(ApiCall::Erase(erase)));
        assert_eq!(decode("compact", b""), Ok(ApiCall::Compact));
        assert_eq!(
            decode("history", br#"{"channel":"a","limit":-1,"reverse":true}"#),
            Ok(ApiCall::History(History { channel: "a".into(), limit: -1, since: None, reverse: true }))
        );
    }

    #[test]
    fn several_calls_in_one_are_bounded_and_each_is_answered_for_itself() {
        let Ok(ApiCall::Broadcast(records)) =
            decode("broadcast", br#"{"channels":["a","b"],"data":1,"idempotency_key":"k"}"#)
        else {
            panic!("a broadcast")
        };
        let to: Vec<_> = records.iter().map(|record| (&*record.channel, record.key.as_deref())).collect();
        assert_eq!(to, [("a", Some("k")), ("b", Some("k"))]);
        let body = br#"{"parallel":true,"commands":[{"publish":{"channel":"a","data":1}},{"presence":{}},{"info":{}}]}"#;
        let Ok(ApiCall::Batch(batch)) = decode("batch", body) else { panic!("a batch") };
        let methods: Vec<_> = batch.calls.iter().map(|(method, call)| (*method, call.is_ok())).collect();
        assert_eq!(methods, [("publish", true), ("presence", false), ("info", true)]);
        assert!(batch.parallel);
        let many = format!(r#"{{"channels":[{}],"data":1}}"#, vec![r#""a""#; 1_001].join(","));
        for (method, body) in [
            ("broadcast", many.as_str()),
            ("broadcast", r#"{"channels":[],"data":1}"#),
            ("broadcast", r#"{"channels":["a",""],"data":1}"#),
            ("broadcast", r#"{"channels":["a"]}"#),
            ("batch", "{}"),
            ("batch", r#"{"commands":[{"batch":{"commands":[]}}]}"#),
            ("batch", r#"{"commands":[{"publish":{},"info":{}}]}"#),
            ("batch", r#"{"commands":[{}]}"#),
            ("batch", r#"{"commands":[5]}"#),
        ] {
            assert_eq!(code(method, body), Some(Code::BadRequest), "{method} {body:.60}");
        }
        let replies =
            vec![("publish", ApiReply::Done), ("presence", ApiReply::Refused(Code::UnknownChannel.into()))];
        assert_eq!(
            written(ApiReply::Batch(replies)),
            r#"{"result":{"replies":[{"publish":{}},{"error":{"code":102,"message":"unknown channel","temporary":false}}]}}"#
        );
        let done = vec![ApiReply::Done, ApiReply::Refused(Code::PermissionDenied.into())];
        assert_eq!(
            written(ApiReply::Broadcast(done)),
            r#"{"result":{"responses":[{"result":{}},{"error":{"code":103,"message":"permission denied","temporary":false}}]}}"#
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
