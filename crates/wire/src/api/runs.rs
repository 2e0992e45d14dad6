//! The methods for runs: `run_start`, `run_append`, `run_end`, `run_get` and `run_cancel`.

use fireside_core::channel::run::{Change, Status, Usage};
use fireside_core::command::CancelRun;
use fireside_core::produce::{
    AppendRun, BeginRun, Cancelled, EndRun, ReadRun, RunAppended, RunBegun, RunEnded, RunState,
};
use fireside_core::{Code, Refusal};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{filled, named};
use crate::body;
use crate::fields::{Fields, or_default, present};
use crate::object::Object;

/// What a backend asks of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunCall {
    /// Begin one that it writes.
    Start(BeginRun),
    /// Add to it.
    Append(AppendRun),
    /// End it.
    End(EndRun),
    /// Read one as it stands.
    Get(ReadRun),
    /// Stop one, whoever writes it.
    Cancel {
        /// Which.
        asked: CancelRun,
        /// On behalf of this user; empty for nobody.
        by: String,
    },
}

/// What it is told of them.
#[derive(Clone, Debug)]
pub enum RunReply {
    /// It has begun.
    Begun(RunBegun),
    /// What was asked for is there.
    Appended(RunAppended),
    /// It has ended.
    Ended(RunEnded),
    /// This is how it stands.
    State(Box<RunState>),
    /// What the cancel came to.
    Cancelled(&'static str),
}

/// Reads a call of one of these methods; `None` for another's.
pub(super) fn decode(method: &str, body: &[u8]) -> Option<Result<RunCall, Refusal>> {
    Some(match method {
        "run_start" => super::fields(body).and_then(start),
        "run_append" => super::fields(body).and_then(append),
        "run_end" => super::fields(body).and_then(end),
        "run_get" => super::fields(body).and_then(|RunFields { channel, run }| {
            Ok(RunCall::Get(ReadRun { channel: channel_of(channel)?, run: run_of(run)? }))
        }),
        "run_cancel" => super::fields(body).and_then(cancel),
        _ => return None,
    })
}

pub(super) fn result(reply: &RunReply, o: &mut Object<'_>) {
    match reply {
        RunReply::Begun(RunBegun { run, log, epoch, duplicate, lease_ms }) => {
            o.exact_text("run", run);
            o.exact_text("channel", log.as_str());
            o.exact_text("epoch", &epoch.to_string());
            o.exact_number("lease_ms", *lease_ms);
            o.flag("duplicate", *duplicate);
        }
        RunReply::Appended(RunAppended { position, end, lease_ms, cancelled: stopped }) => {
            o.exact_number("offset", position.offset);
            o.exact_text("epoch", &position.epoch.to_string());
            o.exact_number("part", end.part.into());
            o.exact_number("at", end.at);
            o.exact_number("lease_ms", *lease_ms);
            cancelled(stopped.as_ref(), o);
        }
        RunReply::Ended(RunEnded { status, duplicate, cancelled: stopped }) => {
            o.exact_text("status", status.as_str());
            o.flag("duplicate", *duplicate);
            cancelled(stopped.as_ref(), o);
        }
        RunReply::State(state) => standing(state, o),
        RunReply::Cancelled(status) => o.exact_text("status", status),
    }
}

fn cancelled(stopped: Option<&Cancelled>, o: &mut Object<'_>) {
    if let Some(Cancelled { by, reason }) = stopped {
        o.object("cancelled", |o| {
            o.text("by", by.as_deref().unwrap_or_default());
            o.text("reason", reason.as_deref().unwrap_or_default());
        });
    }
}

fn standing(state: &RunState, o: &mut Object<'_>) {
    o.exact_text("status", state.status.map_or("open", Status::as_str));
    o.exact_text("channel", state.log.as_str());
    o.exact_text("epoch", &state.position.epoch.to_string());
    o.exact_number("offset", state.position.offset);
    let told = state.parts.iter().filter(|part| part.kind == "text");
    o.exact_text("text", &told.map(|part| part.text.as_str()).collect::<String>());
    o.objects("parts", &state.parts, |o, part| {
        o.exact_number("part", part.part.into());
        o.exact_text("kind", &part.kind);
        o.exact_text("text", &part.text);
    });
    o.exact_number("part", state.end.part.into());
    o.exact_number("at", state.end.at);
    if let Some(Usage { input, output }) = state.usage {
        o.object("usage", |o| {
            o.exact_number("input", input);
            o.exact_number("output", output);
        });
    }
    o.text("by", state.by.as_deref().unwrap_or_default());
    o.text("reason", state.reason.as_deref().unwrap_or_default());
}

fn channel_of(text: String) -> Result<String, Refusal> {
    named(text, "channel is missing")
}

fn run_of(text: String) -> Result<String, Refusal> {
    named(text, "run is missing")
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RunFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    run: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StartFields<'a> {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    key: String,
    #[serde(deserialize_with = "or_default")]
    by: String,
    #[serde(deserialize_with = "or_default")]
    model: String,
    #[serde(borrow, deserialize_with = "present")]
    input: Option<&'a RawValue>,
}

fn start(fields: StartFields<'_>) -> Result<RunCall, Refusal> {
    let StartFields { channel, key, by, model, input } = fields;
    let taken = input.map(body::take).transpose();
    Ok(RunCall::Start(BeginRun {
        channel: channel_of(channel)?,
        key: named(key, "key is missing: it makes the start happen once")?,
        by,
        model,
        input: taken.map_err(|fault| Refusal::because(Code::BadRequest, fault.0))?.unwrap_or_default(),
    }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AppendFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    run: String,
    reset: Option<Fields<ResetFields>>,
    #[serde(deserialize_with = "or_default")]
    deltas: Vec<Fields<DeltaFields>>,
}

#[derive(Deserialize)]
struct ResetFields {
    part: u32,
    to: u64,
}

#[derive(Deserialize)]
struct DeltaFields {
    part: u32,
    #[serde(default, deserialize_with = "or_default")]
    kind: String,
    at: u64,
    text: String,
}

fn append(fields: AppendFields) -> Result<RunCall, Refusal> {
    let AppendFields { channel, run, reset, deltas } = fields;
    let reset = reset.map(|Fields(ResetFields { part, to })| Change::Reset { part, to });
    let deltas = deltas.into_iter().map(|Fields(DeltaFields { part, kind, at, text })| {
        let kind = filled(Some(kind)).unwrap_or_else(|| "text".to_owned());
        Change::Delta { part, kind, at, text }
    });
    let changes = reset.into_iter().chain(deltas).collect();
    Ok(RunCall::Append(AppendRun { channel: channel_of(channel)?, run: run_of(run)?, changes }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EndFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    run: String,
    #[serde(deserialize_with = "or_default")]
    status: String,
    usage: Option<Fields<UsageFields>>,
    #[serde(deserialize_with = "or_default")]
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UsageFields {
    #[serde(deserialize_with = "or_default")]
    input: u64,
    #[serde(deserialize_with = "or_default")]
    output: u64,
}

fn end(fields: EndFields) -> Result<RunCall, Refusal> {
    let EndFields { channel, run, status, usage, reason } = fields;
    let unknown =
        || Refusal::because(Code::BadRequest, "status is complete, cancelled, error, interrupted or budget");
    Ok(RunCall::End(EndRun {
        channel: channel_of(channel)?,
        run: run_of(run)?,
        status: Status::parse(&status).ok_or_else(unknown)?,
        usage: usage.map(|Fields(UsageFields { input, output })| Usage { input, output }),
        reason,
    }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CancelFields {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    run: Option<String>,
    key: Option<String>,
    #[serde(deserialize_with = "or_default")]
    reason: String,
    #[serde(deserialize_with = "or_default")]
    by: String,
}

fn cancel(fields: CancelFields) -> Result<RunCall, Refusal> {
    let CancelFields { channel, run, key, reason, by } = fields;
    let (run, key) = (filled(run), filled(key));
    if run.is_some() == key.is_some() {
        return Err(Refusal::because(Code::BadRequest, "either run or key names what to cancel"));
    }
    Ok(RunCall::Cancel { asked: CancelRun { channel: channel_of(channel)?, run, key, reason }, by })
}

#[cfg(test)]
mod tests {
    use fireside_core::channel::run::{End, Part};
    use fireside_core::{ChannelName, Epoch, Position};

    use super::super::{ApiCall, ApiFault, ApiReply, decode, encode};
    use super::*;

    fn asked(method: &str, body: &str) -> RunCall {
        match decode(method, body.as_bytes()) {
            Ok(ApiCall::Run(call)) => call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_append_has_a_reset_first_and_deltas_of_kind_text() {
        let call = asked(
            "run_append",
            r#"{"channel":"s:1","run":"r","reset":{"part":0,"to":2},"deltas":[
                {"part":0,"at":2,"text":"a"},{"part":1,"kind":"tool","at":0,"text":"{}"}]}"#,
        );
        let delta = |part, kind: &str, at, text: &str| Change::Delta {
            part,
            kind: kind.to_owned(),
            at,
            text: text.to_owned(),
        };
        let changes =
            vec![Change::Reset { part: 0, to: 2 }, delta(0, "text", 2, "a"), delta(1, "tool", 0, "{}")];
        let expected = AppendRun { channel: "s:1".to_owned(), run: "r".to_owned(), changes };
        assert_eq!(call, RunCall::Append(expected));
        let renewal = AppendRun { channel: "s:1".to_owned(), run: "r".to_owned(), changes: Vec::new() };
        assert_eq!(asked("run_append", r#"{"channel":"s:1","run":"r"}"#), RunCall::Append(renewal));
    }

    #[test]
    fn what_is_missing_or_wrong_is_refused() {
        for (method, body) in [
            ("run_start", r#"{"channel":"s:1"}"#),
            ("run_start", r#"{"key":"k"}"#),
            ("run_append", r#"{"channel":"s:1"}"#),
            ("run_append", r#"{"channel":"s:1","run":"r","deltas":[{"part":0,"text":"a"}]}"#),
            ("run_append", r#"{"channel":"s:1","run":"r","deltas":[{"part":0,"at":-1,"text":"a"}]}"#),
            ("run_append", r#"{"channel":"s:1","run":"r","deltas":[{"part":0,"at":0,"text":"\ud83d"}]}"#),
            ("run_append", r#"{"channel":"s:1","run":"r","deltas":[[0,"text",0,"a"]]}"#),
            ("run_end", r#"{"channel":"s:1","run":"r"}"#),
            ("run_end", r#"{"channel":"s:1","run":"r","status":"done"}"#),
            ("run_get", r#"{"channel":"s:1"}"#),
            ("run_cancel", r#"{"channel":"s:1"}"#),
            ("run_cancel", r#"{"channel":"s:1","run":"r","key":"k"}"#),
        ] {
            let Err(ApiFault::Refused(refusal)) = decode(method, body.as_bytes()) else {
                panic!("{method} {body}")
            };
            assert_eq!(refusal.code, Code::BadRequest, "{method} {body}");
        }
    }

    #[test]
    fn answers_are_written_in_full() {
        let written = |reply| String::from_utf8(encode(&ApiReply::Run(reply))).unwrap();
        let appended = RunAppended {
            position: Position::new(Epoch(7), 3),
            end: End { part: 0, at: 0 },
            lease_ms: 10_000,
            cancelled: Some(Cancelled { by: Some("anna".into()), reason: None }),
        };
        assert_eq!(
            written(RunReply::Appended(appended)),
            r#"{"result":{"offset":3,"epoch":"7","part":0,"at":0,"lease_ms":10000,"cancelled":{"by":"anna"}}}"#
        );
        let state = RunState {
            log: ChannelName::parse("s:1/run/r").unwrap(),
            position: Position::new(Epoch(7), 3),
            status: None,
            parts: vec![Part { part: 0, kind: "text".to_owned(), text: "a".to_owned() }],
            end: End { part: 0, at: 1 },
            usage: None,
            by: None,
            reason: None,
        };
        assert_eq!(
            written(RunReply::State(Box::new(state))),
            r#"{"result":{"status":"open","channel":"s:1/run/r","epoch":"7","offset":3,"text":"a","parts":[{"part":0,"kind":"text","text":"a"}],"part":0,"at":1}}"#
        );
        let ended = RunEnded { status: Status::Complete, duplicate: true, cancelled: None };
        assert_eq!(written(RunReply::Ended(ended)), r#"{"result":{"status":"complete","duplicate":true}}"#);
    }
}
