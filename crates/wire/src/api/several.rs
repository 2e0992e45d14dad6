//! Several calls in one: the same record to many channels, and whatever else belongs together.

use fireside_core::command::Publish;
use fireside_core::{Code, Refusal, limits};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ApiCall, ApiFault, decode, fields, named, publish};
use crate::fields::{Entries, or_default};

/// Calls that are made together and answered one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Each with its method; what could not be understood is answered in its place.
    pub calls: Vec<(&'static str, Result<ApiCall, Refusal>)>,
    /// All at once; else each begins when the one before is answered.
    pub parallel: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BroadcastFields {
    #[serde(deserialize_with = "or_default")]
    channels: Vec<String>,
}

pub(super) fn broadcast(body: &[u8]) -> Result<ApiCall, Refusal> {
    let BroadcastFields { channels } = fields(body)?;
    bounded("channels", channels.len())?;
    let record = publish(fields(body)?)?;
    let to = |channel| Ok(Publish { channel: named(channel, "a channel has no name")?, ..record.clone() });
    channels.into_iter().map(to).collect::<Result<_, _>>().map(ApiCall::Broadcast)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BatchFields<'a> {
    #[serde(borrow, deserialize_with = "or_default")]
    commands: Vec<Entries<&'a RawValue>>,
    #[serde(deserialize_with = "or_default")]
    parallel: bool,
}

/// What may stand in a batch: whatever is over at once.
const METHODS: [&str; 13] = [
    "publish",
    "broadcast",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "refresh",
    "presence",
    "presence_stats",
    "history",
    "history_remove",
    "info",
    "channels",
    "erase",
];

pub(super) fn batch(body: &[u8]) -> Result<ApiCall, Refusal> {
    let BatchFields { commands, parallel } = fields(body)?;
    bounded("commands", commands.len())?;
    let calls = commands.into_iter().map(call).collect::<Result<_, _>>()?;
    Ok(ApiCall::Batch(Batch { calls, parallel }))
}

fn call(command: Entries<&RawValue>) -> Result<(&'static str, Result<ApiCall, Refusal>), Refusal> {
    let bad = |why: String| Refusal::because(Code::BadRequest, why);
    let [(method, body)]: [_; 1] = command
        .0
        .try_into()
        .map_err(|_| bad("a command is an object with one method: {\"publish\": {…}}".to_owned()))?;
    let known = METHODS.into_iter().find(|known| *known == method);
    let known = known.ok_or_else(|| bad(format!("a batch has no method {method:?}")))?;
    let call = match decode(known, body.get().as_bytes()) {
        Ok(call) => Ok(call),
        Err(ApiFault::Refused(refusal)) => Err(refusal),
        Err(ApiFault::NoSuchMethod) => Err(Code::MethodNotFound.into()),
    };
    Ok((known, call))
}

fn bounded(what: &str, count: usize) -> Result<(), Refusal> {
    if (1..=limits::API_MANY_MAX).contains(&count) {
        return Ok(());
    }
    let message = format!("{what} has 1 to {} entries", limits::API_MANY_MAX);
    Err(Refusal::because(Code::BadRequest, message))
}
