//! The records of runs: how they are made, read back, and merged for a slow reader.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, ProposalId};
use crate::checkpoint::OpenRun;
use crate::position::Epoch;
use crate::record::{Kind, Record};

mod text;

pub use text::{Change, End, KINDS, Misfit, Room, Text};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The model was done.
    Complete,
    /// Somebody stopped it.
    Cancelled,
    /// The provider failed.
    Error,
    /// The server or the provider's stream died in the middle; what was there is kept.
    Interrupted,
    /// It reached a bound.
    Budget,
}

impl Status {
    /// Its name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Complete => "complete",
            Status::Cancelled => "cancelled",
            Status::Error => "error",
            Status::Interrupted => "interrupted",
            Status::Budget => "budget",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Status> {
        [Status::Complete, Status::Cancelled, Status::Error, Status::Interrupted, Status::Budget]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// One stretch of one kind of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its number in the run, from 0.
    pub part: u32,
    /// `text`, `reasoning`, …
    pub kind: String,
    /// All of it.
    pub text: String,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum Body {
    #[serde(rename = "run.start")]
    Start { run: Arc<str>, by: Arc<str>, model: Arc<str>, epoch: String },
    #[serde(rename = "run.owner")]
    Owner {
        fence: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        producer: Option<String>,
    },
    #[serde(rename = "run.delta")]
    Delta { part: u32, kind: String, at: u64, text: String },
    #[serde(rename = "run.reset")]
    Reset { part: u32, to: u64 },
    #[serde(rename = "run.end")]
    End {
        run: Arc<str>,
        status: String,
        text: String,
        parts: Vec<Part>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

fn json(body: &Body) -> Bytes {
    Bytes::from(serde_json::to_vec(body).expect("strings and numbers always serialise"))
}

/// The body of `run.start`.
pub fn start(run: &Arc<str>, by: &Arc<str>, model: &Arc<str>, epoch: Epoch) -> Bytes {
    json(&Body::Start { run: run.clone(), by: by.clone(), model: model.clone(), epoch: epoch.to_string() })
}

/// Who writes a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producer {
    /// The server, by asking a provider. The run ends with the server's process.
    Node,
    /// The application's backend, over the HTTP API. The run goes on when the server comes back while its backend holds on to it.
    Backend,
}

/// The body of `run.owner`, the first record of a run's log.
pub fn owner(fence: u64, producer: Producer) -> Bytes {
    json(&Body::Owner { fence, producer: (producer == Producer::Backend).then(|| "backend".to_owned()) })
}

/// Who writes the run whose `run.owner` this is.
pub fn producer_of(owner: &[u8]) -> Producer {
    match serde_json::from_slice(owner) {
        Ok(Body::Owner { producer: Some(producer), .. }) if producer == "backend" => Producer::Backend,
        _ => Producer::Node,
    }
}

/// The body of `run.delta`: `text` stands at UTF-16 unit `at` of its part.
pub fn delta(part: u32, kind: &str, at: u64, text: String) -> Bytes {
    json(&Body::Delta { part, kind: kind.to_owned(), at, text })
}

/// What a run leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub status: Status,
    /// What it wrote, part by part.
    pub parts: Vec<Part>,
    /// What it cost, if the provider said.
    pub usage: Option<Usage>,
    /// Who stopped it.
    pub by: Option<Arc<str>>,
    /// Why.
    pub reason: Option<String>,
}

impl Ending {
    /// The body of `run.end`.
    pub fn body(&self, run: &Arc<str>) -> Bytes {
        let text =
            self.parts.iter().filter(|part| part.kind == "text").map(|part| part.text.as_str()).collect();
        json(&Body::End {
            run: run.clone(),
            status: self.status.as_str().to_owned(),
            text,
            parts: self.parts.clone(),
            usage: self.usage,
            by: self.by.clone(),
            reason: self.reason.clone(),
        })
    }

    /// Reads a `run.end` back.
    pub fn read(body: &[u8]) -> Option<Ending> {
        match serde_json::from_slice(body).ok()? {
            Body::End { status, parts, usage, by, reason, .. } => {
                Some(Ending { status: Status::parse(&status)?, parts, usage, by, reason })
            }
            _ => None,
        }
    }
}

/// The run that a `run.start` or `run.end` names.
pub fn id_of(body: &[u8]) -> Option<Arc<str>> {
    #[derive(Deserialize)]
    struct Named {
        run: Arc<str>,
    }
    serde_json::from_slice::<Named>(body).ok().map(|named| named.run)
}

/// The fence that a `run.owner` names; 0 if none.
pub fn fence_of(owner: &[u8]) -> u64 {
    match serde_json::from_slice(owner) {
        Ok(Body::Owner { fence, .. }) => fence,
        _ => 0,
    }
}

/// The run that this `run.start` opens.
pub fn opened(record: &Record) -> Option<OpenRun> {
    match serde_json::from_slice(&record.body).ok()? {
        Body::Start { run, by, epoch, .. } => {
            Some(OpenRun { run, offset: record.offset, by, epoch: Epoch(epoch.parse().ok()?) })
        }
        _ => None,
    }
}

/// Joins adjacent deltas of one part: first `at`, last offset; never across another record. The text is the same to the byte.
pub fn merge(batches: &[&Batch], after: u64) -> Arc<Batch> {
    let mut records: Vec<Record> = Vec::new();
    let mut open: Option<(u32, String, u64, String)> = None;
    let flush = |open: &mut Option<(u32, String, u64, String)>, records: &mut Vec<Record>| {
        if let (Some((part, kind, at, text)), Some(last)) = (open.take(), records.last_mut()) {
            last.body = delta(part, &kind, at, text);
        }
    };
    for record in batches.iter().flat_map(|batch| batch.after(after)) {
        let read = match record.kind {
            Kind::RunDelta => serde_json::from_slice(&record.body).ok(),
            _ => None,
        };
        let Some(Body::Delta { part, kind, at, text }) = read else {
            flush(&mut open, &mut records);
            records.push(record.clone());
            continue;
        };
        match &mut open {
            Some((same, _, _, joined)) if *same == part => {
                joined.push_str(&text);
                let last = records.last_mut().expect("an open delta has its record");
                (last.offset, last.time_ms) = (record.offset, record.time_ms);
            }
            _ => {
                flush(&mut open, &mut records);
                records.push(record.clone());
                open = Some((part, kind, at, text));
            }
        }
    }
    flush(&mut open, &mut records);
    let first = batches[0];
    Batch::new(first.channel.clone(), first.epoch, ProposalId::default(), first.previous, records)
}
