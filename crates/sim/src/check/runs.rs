//! I10 settled: every run ends once, and what it said is the same for every reader, whatever its speed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Book, Check, Reader, text};
use crate::told::{At, Shown};

/// What a reader of a run's log has pieced together.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    pub parts: BTreeMap<u64, String>,
    /// The ending it was shown: status and all parts.
    pub ended: Option<(String, BTreeMap<u64, String>)>,
    /// It did not see the beginning.
    pub partial: bool,
}

/// The parts that a `run.end` names.
pub(super) fn parts_of(end: &Value) -> BTreeMap<u64, String> {
    let parts = end["parts"].as_array().into_iter().flatten();
    parts
        .map(|part| {
            (part["part"].as_u64().unwrap_or(u64::MAX), part["text"].as_str().unwrap_or("").to_owned())
        })
        .collect()
}

impl Book {
    pub(super) fn show_run(&mut self, reader: &Reader, before: At, record: &Shown) {
        let (client, channel) = reader;
        if record.offset <= before.1 {
            return self.fail(format!(
                "I4 whole: client {client} is shown {channel} {} after {before:?}",
                record.offset
            ));
        }
        let Ok(body) = serde_json::from_slice::<Value>(&record.body) else {
            return self.fail(format!(
                "I10 settled: {channel} has a record that is not JSON: {}",
                text(&record.body)
            ));
        };
        let reading = self.runs.entry((*client, channel.clone())).or_default();
        if before.1 == 0 {
            *reading = Reading::default();
        }
        if reading.partial {
            return;
        }
        match body["type"].as_str() {
            Some("run.delta") => {
                let part = reading.parts.entry(body["part"].as_u64().unwrap_or(0)).or_default();
                let (at, there) =
                    (body["at"].as_u64().unwrap_or(u64::MAX), part.encode_utf16().count() as u64);
                if at != there {
                    return self.fail(format!(
                        "I10 settled: client {client} is at {there} of {channel}, the delta at {at}"
                    ));
                }
                part.push_str(body["text"].as_str().unwrap_or(""));
            }
            Some("run.reset") => {
                let (part, to) = (body["part"].as_u64().unwrap_or(0), body["to"].as_u64().unwrap_or(0));
                reading.parts.retain(|known, _| *known < part || (*known == part && to > 0));
                if let Some(text) = reading.parts.get_mut(&part) {
                    let units: Vec<u16> = text.encode_utf16().take(to as usize).collect();
                    *text = String::from_utf16_lossy(&units);
                }
            }
            Some("run.end") => {
                let parts = parts_of(&body);
                let (whole, seen) = (parts == reading.parts, reading.parts.clone());
                reading.ended = Some((body["status"].as_str().unwrap_or("").to_owned(), parts.clone()));
                if !whole {
                    self.fail(format!(
                        "I10 settled: client {client} saw {seen:?} of {channel}, which ended as {parts:?}"
                    ));
                }
            }
            _ => {}
        }
    }
}

impl Check {
    /// A reader of a run has seen its end.
    pub fn saw_end(&self, reader: &Reader) -> bool {
        crate::lock(&self.0).runs.get(reader).is_some_and(|reading| reading.ended.is_some())
    }

    /// The log of a run begins for it somewhere else than at its beginning.
    pub fn reads_part(&self, reader: &Reader) {
        crate::lock(&self.0).runs.entry(reader.clone()).or_default().partial = true;
    }
}
