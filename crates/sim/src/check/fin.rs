//! The log, read back at the end, beside everything that was reported.

use std::collections::BTreeMap;

use bytes::Bytes;
use fireside_core::{Durability, Kind, Record};
use serde_json::Value;

use super::runs::parts_of;
use super::{Book, Check, text};
use crate::lock;
use crate::provider::Given;
use crate::told::Shown;

/// A channel as it was read back from the store.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its name.
    pub channel: String,
    /// Its epoch.
    pub epoch: u64,
    /// The oldest offset that can be read.
    pub oldest: u64,
    /// The newest offset.
    pub newest: u64,
    /// What can be read.
    pub records: Vec<Record>,
}

impl Check {
    /// All that can only be said at the end.
    pub fn close(&self, kept: &[Kept], given: &Given) {
        let mut book = lock(&self.0);
        for channel in kept {
            book.dense(channel);
            book.once(channel);
            book.true_acks(channel);
            book.admitted(channel);
            book.settled(channel, given);
        }
    }
}

impl Book {
    /// I1 dense: no hole, no repeat, and everything that was ever shown is still what it was.
    fn dense(&mut self, kept: &Kept) {
        let offsets: Vec<u64> = kept.records.iter().map(|record| record.offset).collect();
        let expected: Vec<u64> = (kept.oldest..=kept.newest).collect();
        if offsets != expected {
            let (oldest, newest) = (kept.oldest, kept.newest);
            self.fail(format!(
                "I1 dense: {} reaches from {oldest} to {newest}, and has {offsets:?}",
                kept.channel
            ));
        }
        for record in &kept.records {
            let body = Shown::of(record).body;
            self.see(&kept.channel, (kept.epoch, record.offset), &body, "the log at the end");
        }
        let shown_beyond = self.seen.keys().filter(|key| key.0 == kept.channel && key.1 == kept.epoch);
        if let Some(beyond) = shown_beyond.map(|key| key.2).max().filter(|offset| *offset > kept.newest) {
            self.fail(format!(
                "I3 true ack: {} {beyond} was shown and is gone, the log ends at {}",
                kept.channel, kept.newest
            ));
        }
    }

    /// I2 once: one record for one body, and every body is unlike any other.
    fn once(&mut self, kept: &Kept) {
        let mut places: BTreeMap<&Bytes, u64> = BTreeMap::new();
        let mut twice = Vec::new();
        for record in kept.records.iter().filter(|record| record.kind == Kind::Plain) {
            if let Some(before) = places.insert(&record.body, record.offset) {
                twice.push(format!(
                    "I2 once: {} has {} at {before} and {}",
                    kept.channel,
                    text(&record.body),
                    record.offset
                ));
            }
        }
        twice.into_iter().for_each(|what| self.fail(what));
    }

    /// I3 true ack: what was acknowledged is there, and what was refused is not.
    fn true_acks(&mut self, kept: &Kept) {
        let Some(rules) = self.channels.get(&kept.channel).copied() else { return };
        let (cuts, lives) = (self.cuts, self.lives);
        let mut wrong = Vec::new();
        for attempt in self.attempts.iter().filter(|attempt| attempt.channel == kept.channel) {
            let place =
                kept.records.iter().find(|record| record.body == attempt.body).map(|record| record.offset);
            let name = text(&attempt.body);
            match attempt.acked {
                Some((at, cuts_then, lives_then)) => {
                    let may_be_lost = match rules.durability {
                        Durability::Fsync => false,
                        Durability::Os => cuts > cuts_then && at.0 != kept.epoch,
                        Durability::Memory => lives > lives_then,
                    };
                    let trimmed = rules.trims && (at == (0, 0) || at.1 < kept.oldest);
                    if place.is_none() && !may_be_lost && !trimmed {
                        wrong.push(format!(
                            "I3 true ack: {} {at:?} ({name}) was acknowledged and is not in the log",
                            kept.channel
                        ));
                    }
                    if let Some(place) = place.filter(|place| at.0 == kept.epoch && *place != at.1) {
                        wrong.push(format!("I3 true ack: {} {at:?} ({name}) is at {place}", kept.channel));
                    }
                }
                None if place.is_some() && attempt.tries > 0 && attempt.refused == attempt.tries => {
                    wrong.push(format!(
                        "I3 true ack: every try of {name} was refused, and it is in {}",
                        kept.channel
                    ));
                }
                None => {}
            }
        }
        wrong.into_iter().for_each(|what| self.fail(what));
    }

    /// I6 admitted: nothing of those without a right is in the log.
    fn admitted(&mut self, kept: &Kept) {
        let forbidden = self.forbidden();
        if let Some(record) = kept.records.iter().find(|record| forbidden.contains(&record.body)) {
            self.fail(format!("I6 admitted: {} {} was written without a right", kept.channel, record.offset));
        }
    }

    /// I10 settled: one end for each start, whose text is that of the run's own log and no more than the model gave.
    fn settled(&mut self, kept: &Kept, given: &Given) {
        let mut runs: BTreeMap<String, (u32, Vec<Value>)> = BTreeMap::new();
        for record in
            kept.records.iter().filter(|record| record.kind.is_run() && !kept.channel.contains("/run/"))
        {
            let Ok(body) = serde_json::from_slice::<Value>(&record.body) else { continue };
            let run = body["run"].as_str().unwrap_or("").to_owned();
            let entry = runs.entry(run).or_default();
            match record.kind {
                Kind::RunStart => entry.0 += 1,
                Kind::RunEnd => entry.1.push(body),
                _ => {}
            }
        }
        for (run, (starts, ends)) in runs {
            let at = format!("run {run} of {}", kept.channel);
            // The start may have been trimmed; nothing else may be missing.
            if ends.len() != 1 || (starts != 1 && kept.oldest == 1) {
                self.fail(format!("I10 settled: {at} has {starts} starts and {} ends", ends.len()));
            }
            for end in &ends {
                self.ended(kept, &run, end, given);
            }
        }
    }

    fn ended(&mut self, kept: &Kept, run: &str, end: &Value, given: &Given) {
        let log = format!("{}/run/{run}", kept.channel);
        let parts = parts_of(end);
        let all: String = end["parts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|part| part["kind"] == "text")
            .map(|part| part["text"].as_str().unwrap_or(""))
            .collect();
        if end["text"].as_str() != Some(&all) {
            self.fail(format!("I10 settled: the text of {log} is not that of its parts"));
        }
        let readings: Vec<_> = self
            .runs
            .iter()
            .filter(|((_, channel), _)| *channel == log)
            .map(|(key, r)| (key.0, r.clone()))
            .collect();
        for (client, reading) in readings.iter().filter(|(_, reading)| !reading.partial) {
            if let Some((status, seen)) = &reading.ended
                && (*seen != parts || end["status"] != status.as_str())
            {
                self.fail(format!(
                    "I10 settled: {log} ended for client {client} otherwise than in its channel"
                ));
            }
        }
        let given = lock(given);
        let mut turns = given.values().flatten();
        let is_given = turns.any(|(text, done)| match end["status"].as_str() {
            Some("complete") => *done && *text == all,
            _ => text.starts_with(&all),
        });
        if !is_given && !all.is_empty() {
            drop(given);
            self.fail(format!("I10 settled: {log} ({}) says what no model said", end["status"]));
        }
    }
}
