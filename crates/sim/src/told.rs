//! What a client says and is told, as itself or through the Centrifuge protocol in JSON.

use bytes::Bytes;
use serde_json::{Value, json};

use fireside_core::command::{Command, Request};
use fireside_core::event::{Event, Reply, Start};
use fireside_core::{Claimed, Kind, Outgoing, Record};

/// Epoch and offset, as a client keeps them.
pub type At = (u64, u64);

/// One thing that a client is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// The answer to request `.0`.
    Answer(u32, Answer),
    /// Records of a channel, of the epoch if it was told.
    Records(String, Option<u64>, Vec<Shown>),
    /// A subscription ended.
    Ended(String, u16),
    /// Somebody came or left.
    Passing,
    /// Are you there?
    Ping,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// No.
    Refused(u16),
    /// You are.
    Connected,
    /// You follow.
    Subscribed(Begun),
    /// Done, and nothing more to say.
    Done,
    /// It went there.
    PublishedAt(At, bool),
    /// The run, its log and that log's epoch.
    RunStarted(String, String, u64),
    /// A page, and the newest position.
    Page(Vec<Shown>, At),
    /// Who is there.
    Here,
}

/// How a subscription begins.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// Its position; `None` without history.
    pub at: Option<At>,
    /// Nothing is missing.
    pub recovered: bool,
    /// Recovery was asked for.
    pub was_recovering: bool,
    /// The oldest record still there, when it was not recovered.
    pub oldest: u64,
    /// The first page.
    pub page: Vec<Shown>,
}

/// A record as a client sees it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its offset; 0 without history.
    pub offset: u64,
    /// Its body.
    pub body: Bytes,
    /// The server made it for a run.
    pub of_run: bool,
}

impl Shown {
    /// The record as it is.
    pub fn of(record: &Record) -> Shown {
        let body = match record.kind {
            Kind::Tombstone => Bytes::from_static(b"null"),
            Kind::Plain => record.body.clone(),
            // As a client of the wire sees it, whose JSON library has its own order of names.
            _ => canonical(&record.body),
        };
        Shown { offset: record.offset, body, of_run: record.kind.is_run() }
    }
}

/// The same JSON value in one way of writing it.
pub fn canonical(body: &Bytes) -> Bytes {
    serde_json::from_slice::<Value>(body)
        .map_or_else(|_| body.clone(), |value| Bytes::from(value.to_string()))
}

// ------------------------------------------------------------------------------------------------------ without bytes

/// What an entry of an outbox tells. `None` for what no client of ours looks at.
pub fn plainly(entry: &Outgoing) -> Option<Told> {
    let event = match entry {
        Outgoing::Records { batch, after, .. } => {
            let records = batch.after(*after).iter().map(Shown::of).collect();
            return Some(Told::Records(batch.channel.as_str().to_owned(), Some(batch.epoch.0), records));
        }
        Outgoing::Event(event) => event,
    };
    Some(match &**event {
        Event::Reply { id, reply } => Told::Answer(*id, answer(reply)),
        Event::Joined { .. } | Event::Left { .. } | Event::Subscribed { .. } | Event::Missed { .. } => {
            Told::Passing
        }
        Event::Unsubscribed { channel, why } => Told::Ended(channel.as_str().to_owned(), why.code),
        Event::Ping => Told::Ping,
    })
}

fn answer(reply: &Reply) -> Answer {
    match reply {
        Reply::Refused(refusal) => Answer::Refused(refusal.code.number()),
        Reply::Connected(_) => Answer::Connected,
        Reply::Subscribed(start) => Answer::Subscribed(begun(start)),
        Reply::PublishedAt { position, duplicate } => {
            Answer::PublishedAt(position.map_or((0, 0), |p| (p.epoch.0, p.offset)), *duplicate)
        }
        Reply::RunStarted { run, channel, epoch } => {
            Answer::RunStarted(run.to_string(), channel.as_str().to_owned(), epoch.0)
        }
        Reply::History(page) => {
            let records = page.records.iter().map(Shown::of).collect();
            Answer::Page(records, (page.newest.epoch.0, page.newest.offset))
        }
        Reply::Presence(_) | Reply::PresenceStats { .. } => Answer::Here,
        Reply::Unsubscribed
        | Reply::Published
        | Reply::RunCancelled { .. }
        | Reply::Rpc(_)
        | Reply::Refreshed { .. }
        | Reply::SubRefreshed { .. } => Answer::Done,
    }
}

fn begun(start: &Start) -> Begun {
    Begun {
        at: start.position.map(|p| (p.epoch.0, p.offset)),
        recovered: start.recovered,
        was_recovering: start.was_recovering,
        oldest: start.oldest,
        page: start.page.iter().map(Shown::of).collect(),
    }
}

// --------------------------------------------------------------------------------------------------------- with bytes

/// A request as a client of the Centrifuge protocol writes it.
pub fn frame(request: &Request) -> Vec<u8> {
    let text = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or(Value::Null);
    let since = |at: Claimed| json!({"epoch": at.epoch.map_or(String::new(), |e| e.to_string()), "offset": at.offset});
    let mut out = match &request.command {
        Command::Connect(connect) => json!({"connect": {"token": connect.token}}),
        Command::Subscribe(asked) => {
            let mut fields = json!({"channel": asked.channel, "positioned": true, "recoverable": true, "join_leave": asked.join_leave});
            if let Some(at) = asked.recover {
                fields["recover"] = json!(true);
                fields["epoch"] = json!(at.epoch.map_or(String::new(), |e| e.to_string()));
                fields["offset"] = json!(at.offset);
            }
            json!({"subscribe": fields})
        }
        Command::Unsubscribe { channel } => json!({"unsubscribe": {"channel": channel}}),
        Command::Publish(p) => json!({"publish": {"channel": p.channel, "data": text(&p.body)}}),
        Command::PublishRpc(p) => {
            json!({"rpc": {"method": "fireside.publish", "data": {"channel": p.channel, "data": text(&p.body), "key": p.key}}})
        }
        Command::StartRun(s) => {
            json!({"rpc": {"method": "ai.start", "data": {"channel": s.channel, "key": s.key, "input": text(&s.input)}}})
        }
        Command::CancelRun(c) => {
            json!({"rpc": {"method": "ai.cancel", "data": {"channel": c.channel, "key": c.key, "run": c.run}}})
        }
        Command::History(h) => {
            let mut fields = json!({"channel": h.channel, "limit": h.limit, "reverse": h.reverse});
            if let Some(at) = h.since {
                fields["since"] = since(at);
            }
            json!({"history": fields})
        }
        Command::Presence { channel } => json!({"presence": {"channel": channel}}),
        Command::PresenceStats { channel } => json!({"presence_stats": {"channel": channel}}),
        Command::Refresh { token } => json!({"refresh": {"token": token}}),
        _ => return b"{}".to_vec(),
    };
    out["id"] = json!(request.id);
    out.to_string().into_bytes()
}

/// What one message of the Centrifuge protocol tells, or what is wrong with it.
pub fn read(message: &[u8]) -> Result<Told, String> {
    let value: Value = serde_json::from_slice(message).map_err(|fault| fault.to_string())?;
    let id = value["id"].as_u64().unwrap_or(0) as u32;
    if id != 0 {
        return Ok(Told::Answer(id, read_answer(&value)?));
    }
    let push = &value["push"];
    let channel = push["channel"].as_str().unwrap_or_default().to_owned();
    if push.is_null() {
        return Ok(Told::Ping);
    }
    if let Some(publication) = present(&push["pub"]) {
        return Ok(Told::Records(channel, epoch(&publication["epoch"]), vec![read_record(publication)]));
    }
    if let Some(ended) = present(&push["unsubscribe"]) {
        return Ok(Told::Ended(channel, ended["code"].as_u64().unwrap_or(0) as u16));
    }
    Ok(Told::Passing)
}

fn present(value: &Value) -> Option<&Value> {
    (!value.is_null()).then_some(value)
}

fn epoch(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

fn at(value: &Value) -> Option<At> {
    Some((epoch(&value["epoch"])?, value["offset"].as_u64().unwrap_or(0)))
}

fn read_record(value: &Value) -> Shown {
    Shown {
        offset: value["offset"].as_u64().unwrap_or(0),
        body: Bytes::from(value["data"].to_string()),
        of_run: value["tags"]["fireside"] == "run",
    }
}

fn read_records(value: &Value) -> Vec<Shown> {
    value["publications"].as_array().into_iter().flatten().map(read_record).collect()
}

fn read_answer(value: &Value) -> Result<Answer, String> {
    if let Some(error) = present(&value["error"]) {
        return Ok(Answer::Refused(error["code"].as_u64().unwrap_or(0) as u16));
    }
    if present(&value["connect"]).is_some() {
        return Ok(Answer::Connected);
    }
    if let Some(start) = present(&value["subscribe"]) {
        let flag = |name: &str| start[name].as_bool().unwrap_or(false);
        return Ok(Answer::Subscribed(Begun {
            at: at(start),
            recovered: flag("recovered"),
            was_recovering: flag("was_recovering"),
            oldest: start["oldest"].as_u64().unwrap_or(0),
            page: read_records(start),
        }));
    }
    if let Some(page) = present(&value["history"]) {
        return Ok(Answer::Page(read_records(page), at(page).ok_or("a page without a position")?));
    }
    if present(&value["presence"]).or(present(&value["presence_stats"])).is_some() {
        return Ok(Answer::Here);
    }
    if let Some(data) = present(&value["rpc"]["data"]) {
        if let Some(run) = data["run"].as_str() {
            let channel = data["channel"].as_str().unwrap_or_default().to_owned();
            return Ok(Answer::RunStarted(run.to_owned(), channel, epoch(&data["epoch"]).unwrap_or(0)));
        }
        if data.get("duplicate").is_some() {
            let duplicate = data["duplicate"].as_bool().unwrap_or(false);
            return Ok(Answer::PublishedAt(at(data).unwrap_or((0, 0)), duplicate));
        }
    }
    Ok(Answer::Done)
}
