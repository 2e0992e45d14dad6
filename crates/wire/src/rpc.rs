//! Our own rpc methods: what the client protocols cannot say is said through their rpc.

use bytes::Bytes;
use fireside_core::command::{CancelRun, Publish, StartRun};
use fireside_core::{ChannelName, Command, Epoch, Position};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::body;
use crate::fields::{Fields, PositionFields, or_default, present};
use crate::object::object;

/// Appends a record and answers its position.
pub const PUBLISH: &str = "fireside.publish";
/// Starts a run.
pub const START_RUN: &str = "ai.start";
/// Stops a run.
pub const CANCEL_RUN: &str = "ai.cancel";

/// The command that a call of `method` is: one of ours, or an [`Command::Rpc`] for the backend.
pub fn command(method: String, data: Option<&RawValue>) -> Command {
    let outcome = match method.as_str() {
        PUBLISH => publish(data),
        START_RUN => start_run(data),
        CANCEL_RUN => cancel_run(data),
        _ => data.map_or(Ok(Bytes::new()), taken).map(|data| Command::Rpc { method, data }),
    };
    outcome.unwrap_or_else(|why| Command::Malformed { why })
}

/// Writes the result of [`PUBLISH`]. In a channel without history the epoch is empty and the offset 0.
pub fn published(position: Option<Position>, duplicate: bool, out: &mut Vec<u8>) {
    object(out, |o| {
        o.exact_text("epoch", &position.map_or(String::new(), |p| p.epoch.to_string()));
        o.exact_number("offset", position.map_or(0, |p| p.offset));
        o.exact_flag("duplicate", duplicate);
    });
}

/// Writes the result of [`START_RUN`].
pub fn run_started(run: &str, channel: &ChannelName, epoch: Epoch, out: &mut Vec<u8>) {
    object(out, |o| {
        o.exact_text("run", run);
        o.exact_text("channel", channel.as_str());
        o.exact_text("epoch", &epoch.to_string());
    });
}

/// Writes the result of [`CANCEL_RUN`].
pub fn run_cancelled(status: &str, out: &mut Vec<u8>) {
    object(out, |o| o.exact_text("status", status));
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PublishFields<'a> {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    key: Option<String>,
    expected: Option<Fields<PositionFields>>,
    conflate: Option<String>,
}

fn publish(data: Option<&RawValue>) -> Result<Command, &'static str> {
    let fields: PublishFields<'_> = arguments(
        data,
        "fireside.publish takes {channel, data, key?, expected? {epoch, offset}, conflate?}",
    )?;
    Ok(Command::PublishRpc(Publish {
        channel: fields.channel,
        body: taken(fields.data.ok_or("data is missing")?)?,
        key: fields.key,
        expected: fields.expected.map(|expected| expected.0.claimed()),
        conflate: fields.conflate,
        tags: Vec::new(),
    }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StartFields<'a> {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    key: String,
    #[serde(borrow, deserialize_with = "present")]
    input: Option<&'a RawValue>,
}

fn start_run(data: Option<&RawValue>) -> Result<Command, &'static str> {
    let fields: StartFields<'_> = arguments(data, "ai.start takes {channel, key, input?}")?;
    if fields.key.is_empty() {
        return Err("key is missing: it makes the start happen once");
    }
    Ok(Command::StartRun(StartRun {
        channel: fields.channel,
        key: fields.key,
        input: fields.input.map_or(Ok(Bytes::new()), taken)?,
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
}

fn cancel_run(data: Option<&RawValue>) -> Result<Command, &'static str> {
    let fields: CancelFields = arguments(data, "ai.cancel takes {channel, run | key, reason?}")?;
    if fields.run.is_some() == fields.key.is_some() {
        return Err("either run or key names what to cancel");
    }
    let CancelFields { channel, run, key, reason } = fields;
    Ok(Command::CancelRun(CancelRun { channel, run, key, reason }))
}

fn arguments<'a, T: Deserialize<'a>>(
    data: Option<&'a RawValue>,
    usage: &'static str,
) -> Result<T, &'static str> {
    let fields: Fields<T> = serde_json::from_str(data.ok_or(usage)?.get()).map_err(|_| usage)?;
    Ok(fields.0)
}

fn taken(value: &RawValue) -> Result<Bytes, &'static str> {
    body::take(value).map_err(|fault| fault.0)
}

#[cfg(test)]
mod tests {
    use fireside_core::Claimed;

    use super::*;

    fn call(method: &str, data: &str) -> Command {
        let data = (!data.is_empty()).then(|| serde_json::from_str(data).unwrap());
        command(method.to_owned(), data)
    }

    #[test]
    fn a_publish_bears_all_that_the_protocol_has_no_words_for() {
        let all = call(
            PUBLISH,
            r#"{"channel":"story:1","data":{"a":1},"key":"k","expected":{"epoch":"7","offset":3},"conflate":"typing","later":1}"#,
        );
        assert_eq!(
            all,
            Command::PublishRpc(Publish {
                channel: "story:1".into(),
                body: Bytes::from_static(br#"{"a":1}"#),
                key: Some("k".into()),
                expected: Some(Claimed { epoch: Some(Epoch(7)), offset: 3 }),
                conflate: Some("typing".into()),
                tags: Vec::new(),
            })
        );
        let Command::PublishRpc(least) = call(PUBLISH, r#"{"channel":"a","data":null,"key":null}"#) else {
            panic!()
        };
        assert_eq!((least.body.as_ref(), least.key, least.expected), (&b"null"[..], None, None));
    }

    #[test]
    fn runs_are_started_and_cancelled() {
        assert_eq!(
            call(START_RUN, r#"{"channel":"story:1","key":"k","input":{"text":"go on"}}"#),
            Command::StartRun(StartRun {
                channel: "story:1".into(),
                key: "k".into(),
                input: Bytes::from_static(br#"{"text":"go on"}"#),
            })
        );
        assert_eq!(
            call(CANCEL_RUN, r#"{"channel":"story:1","key":"k","reason":"enough"}"#),
            Command::CancelRun(CancelRun {
                channel: "story:1".into(),
                run: None,
                key: Some("k".into()),
                reason: "enough".into(),
            })
        );
    }

    #[test]
    fn arguments_that_make_no_sense_are_malformed() {
        for (method, data) in [
            (PUBLISH, ""),
            (PUBLISH, "[]"),
            (PUBLISH, r#"["story:1",{}]"#),
            (PUBLISH, r#"{"channel":"a"}"#),
            (PUBLISH, r#"{"channel":"a","data":1,"key":5}"#),
            (PUBLISH, r#"{"channel":"a","data":1,"key":"a","key":"b"}"#),
            (PUBLISH, r#"{"channel":"a","data":1,"expected":3}"#),
            (PUBLISH, r#"{"channel":"a","data":1,"expected":{"offset":-1}}"#),
            (PUBLISH, r#"{"channel":"a","data":"\ud800"}"#),
            (START_RUN, r#"{"channel":"a"}"#),
            (START_RUN, "null"),
            (CANCEL_RUN, r#"{"channel":"a"}"#),
            (CANCEL_RUN, r#"{"channel":"a","run":"r","key":"k"}"#),
            ("other", r#"{"a":1,"a":1}"#),
        ] {
            assert!(matches!(call(method, data), Command::Malformed { .. }), "{method} {data}");
        }
        assert_eq!(call("other", ""), Command::Rpc { method: "other".into(), data: Bytes::new() });
    }

    #[test]
    fn results_always_have_the_same_names() {
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let at = Some(Position::new(Epoch(7), 3));
        assert_eq!(written(&|out| published(at, true, out)), r#"{"epoch":"7","offset":3,"duplicate":true}"#);
        assert_eq!(
            written(&|out| published(None, false, out)),
            r#"{"epoch":"","offset":0,"duplicate":false}"#
        );
        let log = ChannelName::parse("story:1/run/9").unwrap();
        assert_eq!(
            written(&|out| run_started("9", &log, Epoch(2), out)),
            r#"{"run":"9","channel":"story:1/run/9","epoch":"2"}"#
        );
        assert_eq!(written(&|out| run_cancelled("cancelled", out)), r#"{"status":"cancelled"}"#);
    }
}
