//! What must hold: one function per invariant. Clients and the world report what they did and saw; the log, read back at the end, is
//! what it is compared with.

mod fin;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fireside_core::Durability;

use crate::lock;
use crate::told::{At, Begun, Shown};
use crate::trace::Trace;

pub use fin::Kept;

/// A reader: a client and one of its channels.
pub type Reader = (usize, String);

/// What everybody reports to. Clones share it.
#[derive(Clone)]
pub struct Check(Arc<Mutex<Book>>);

/// Everything that was reported.
#[derive(Default)]
pub(crate) struct Book {
    broken: Vec<String>,
    trace: Option<Trace>,
    channels: BTreeMap<String, Rules>,
    attempts: Vec<Attempt>,
    /// Every record that anybody was ever shown or told of: by channel, epoch and offset.
    seen: BTreeMap<(String, u64, u64), Bytes>,
    readers: BTreeMap<Reader, Reading>,
    runs: BTreeMap<(usize, String), runs::Reading>,
    passing: BTreeMap<(usize, String), u64>,
    /// Power cuts and restarts so far: what may take records of `os` and `memory` channels.
    cuts: u64,
    lives: u64,
}

/// What a channel promises.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The degree of its acknowledgements.
    pub durability: Durability,
    /// Records may be trimmed.
    pub trims: bool,
}

/// One thing that a client wants to be in the log once.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Where.
    pub channel: String,
    /// Its key, if it may be retried.
    pub key: Option<String>,
    /// Its body, unlike any other.
    pub body: Bytes,
    /// Tries so far, and how many of them were answered with a refusal.
    pub tries: u32,
    /// Tries that were refused.
    pub refused: u32,
    /// How many cuts and lives there were when it was last sent: an answer may be read long after the process that gave it died.
    pub sent: (u64, u64),
    /// The first answer, and how many cuts and lives there were when it was asked for.
    pub acked: Option<(At, u64, u64)>,
    /// The client that asks has no right to.
    pub forbidden: bool,
}

#[derive(Clone, Debug, Default)]
struct Reading {
    /// Where it stands, while it follows.
    at: Option<At>,
    live: bool,
    passing: bool,
}

impl Check {
    /// Nothing is known yet but these channels.
    pub fn new(trace: Trace) -> Check {
        Check(Arc::new(Mutex::new(Book { trace: Some(trace), ..Book::default() })))
    }

    /// A channel and what it promises.
    pub fn channel(&self, name: &str, rules: Rules) {
        lock(&self.0).channels.insert(name.to_owned(), rules);
    }

    /// What was broken.
    pub fn broken(&self) -> Vec<String> {
        lock(&self.0).broken.clone()
    }

    /// Something is not as it must be.
    pub fn break_off(&self, what: String) {
        lock(&self.0).fail(what);
    }

    /// The power failed.
    pub fn power_was_cut(&self) {
        lock(&self.0).cuts += 1;
    }

    /// Another process began.
    pub fn process_began(&self) {
        lock(&self.0).lives += 1;
    }

    // ---------------------------------------------------------------------------------------------------- publishing

    /// A client tries something for the first time.
    pub fn attempt(&self, attempt: Attempt) -> usize {
        let mut book = lock(&self.0);
        book.attempts.push(attempt);
        book.attempts.len() - 1
    }

    /// What it was.
    pub fn attempted(&self, id: usize) -> Attempt {
        lock(&self.0).attempts[id].clone()
    }

    /// It is sent.
    pub fn tried(&self, id: usize) {
        let mut book = lock(&self.0);
        let now = (book.cuts, book.lives);
        let attempt = &mut book.attempts[id];
        (attempt.tries, attempt.sent) = (attempt.tries + 1, now);
    }

    /// It was refused: nothing of this try may be in the log.
    pub fn refused(&self, id: usize) {
        lock(&self.0).attempts[id].refused += 1;
    }

    /// It was acknowledged. `at` is `None` for an answer that names no position.
    pub fn acked(&self, id: usize, at: Option<At>, duplicate: bool) {
        let mut book = lock(&self.0);
        let book = &mut *book;
        let attempt = &mut book.attempts[id];
        let (cuts, lives) = attempt.sent;
        if attempt.forbidden {
            let what =
                format!("I6 admitted: a publish without a right was acknowledged in {}", attempt.channel);
            return book.fail(what);
        }
        let Some(at) = at else {
            attempt.acked.get_or_insert(((0, 0), cuts, lives));
            return;
        };
        let (channel, body, first) = (attempt.channel.clone(), attempt.body.clone(), attempt.acked);
        let tries = attempt.tries;
        attempt.acked.get_or_insert((at, cuts, lives));
        if duplicate && tries < 2 {
            book.fail(format!("I2 once: the first try in {channel} is called a duplicate"));
        }
        if let Some((before, ..)) = first.filter(|(before, ..)| before.0 == at.0 && *before != at) {
            book.fail(format!("I2 once: one key in {channel} is at {before:?} and at {at:?}"));
        }
        book.see(&channel, at, &body, "an acknowledgement");
    }

    // ------------------------------------------------------------------------------------------------------ reading

    /// Where a reader stands, if it ever was told.
    pub fn position(&self, reader: &Reader) -> Option<At> {
        lock(&self.0).readers.get(reader)?.at
    }

    /// Its subscription ended, or its link did.
    pub fn stops(&self, reader: &Reader) {
        if let Some(reading) = lock(&self.0).readers.get_mut(reader) {
            reading.live = false;
        }
    }

    /// I5 told: a subscription begins. `asked` is the position it was to go on from.
    pub fn begins(&self, reader: &Reader, asked: Option<At>, begun: &Begun) {
        let mut book = lock(&self.0);
        let book = &mut *book;
        let channel = &reader.1;
        let Some(at) = begun.at else {
            book.readers.insert(reader.clone(), Reading { at: None, live: true, passing: true });
            return;
        };
        let reading = book.readers.entry(reader.clone()).or_default();
        (reading.live, reading.at) = (true, Some(at));
        book.told_epoch(channel, at.0);
        if begun.was_recovering != asked.is_some() {
            book.fail(format!("I5 told: a subscription to {channel} forgot that it was to recover"));
        }
        match asked {
            Some(asked) if begun.recovered && at != asked => {
                book.fail(format!("I5 told: {channel} recovered from {at:?}, asked was {asked:?}"));
            }
            Some(asked) if !begun.recovered => {
                if let Some(trace) = &book.trace {
                    trace.count("readers told of a loss");
                }
                let gone = asked.0 != at.0 || asked.1 > at.1 || asked.1 + 1 < begun.oldest;
                if !gone {
                    let oldest = begun.oldest;
                    book.fail(format!(
                        "I5 told: {channel} lost {asked:?}, though it reaches from {oldest} to {at:?}"
                    ));
                }
            }
            _ => {}
        }
        for record in &begun.page {
            book.show(reader, Some(at.0), record);
        }
    }

    /// I4 whole: records are shown to a reader.
    pub fn shown(&self, reader: &Reader, epoch: Option<u64>, records: &[Shown]) {
        let mut book = lock(&self.0);
        for record in records {
            book.show(reader, epoch, record);
        }
    }

    /// A page of history: dense, and what everybody else sees. `until` is the newest position it names.
    pub fn page(&self, channel: &str, until: At, records: &[Shown], reverse: bool) {
        let mut book = lock(&self.0);
        book.told_epoch(channel, until.0);
        for pair in records.windows(2) {
            let (first, second) = if reverse { (&pair[1], &pair[0]) } else { (&pair[0], &pair[1]) };
            if second.offset != first.offset + 1 {
                let (a, b) = (first.offset, second.offset);
                book.fail(format!("I1 dense: a page of {channel} goes from {a} to {b}"));
            }
        }
        for record in records {
            if record.offset > until.1 {
                book.fail(format!("I1 dense: a page of {channel} shows {} beyond {until:?}", record.offset));
            }
            book.see(channel, (until.0, record.offset), &record.body, "a page");
        }
    }

    /// I6 admitted: a client without rights got something other than a refusal.
    pub fn let_in(&self, what: &str, channel: &str) {
        lock(&self.0).fail(format!("I6 admitted: a client without a right got {what} of {channel}"));
    }
}

impl Book {
    pub(crate) fn fail(&mut self, what: String) {
        if let Some(trace) = &self.trace {
            trace.note("BROKEN", &what, 0);
        }
        if self.broken.len() < 20 {
            self.broken.push(what);
        }
    }

    /// The same place of the same life of a log holds the same record, whoever looks, for ever.
    fn see(&mut self, channel: &str, at: At, body: &Bytes, how: &str) {
        let key = (channel.to_owned(), at.0, at.1);
        match self.seen.get(&key) {
            None => drop(self.seen.insert(key, body.clone())),
            Some(known) if known == body => {}
            Some(known) => {
                let (known, body) = (text(known), text(body));
                self.fail(format!("I3 true ack: {channel} {at:?} was {known}, and is {body} in {how}"));
            }
        }
    }

    /// Nothing that we do to an `fsync` channel takes what it has acknowledged, so its epoch never changes.
    fn told_epoch(&mut self, channel: &str, epoch: u64) {
        let first = self.seen.range((channel.to_owned(), 0, 0)..).next();
        let known = first.filter(|((name, ..), _)| name == channel).map(|(key, _)| key.1);
        let durability = self.channels.get(channel).map(|rules| rules.durability);
        if durability == Some(Durability::Fsync)
            && let Some(known) = known.filter(|known| *known != epoch)
        {
            self.fail(format!("I3 true ack: the epoch of {channel} went from {known} to {epoch}"));
        }
    }

    fn show(&mut self, reader: &Reader, epoch: Option<u64>, record: &Shown) {
        let (client, channel) = reader;
        let Some(reading) = self.readers.get_mut(reader).filter(|reading| reading.live) else {
            let offset = record.offset;
            return self
                .fail(format!("I4 whole: client {client} is shown {channel} {offset} without following it"));
        };
        if reading.passing {
            return self.pass(reader, record);
        }
        let Some(at) = &mut reading.at else { return };
        let before = *at;
        at.1 = record.offset;
        if epoch.is_some_and(|epoch| epoch != before.0) {
            return self.fail(format!(
                "I4 whole: {channel} {} is of epoch {epoch:?}, not {}",
                record.offset, before.0
            ));
        }
        if channel.contains("/run/") {
            return self.show_run(reader, before, record);
        }
        if record.offset != before.1 + 1 {
            let offset = record.offset;
            return self
                .fail(format!("I4 whole: client {client} is shown {channel} {offset} after {before:?}"));
        }
        self.see(channel, (before.0, record.offset), &record.body, "what a reader is shown");
    }

    /// Records without history: at most once, in the order of each publisher.
    fn pass(&mut self, reader: &Reader, record: &Shown) {
        let Some((who, number)) = numbered(&record.body) else { return };
        let key = (reader.0, format!("{}<{who}", reader.1));
        let before = self.passing.insert(key, number).unwrap_or(0);
        if number <= before {
            self.fail(format!("I1 dense: a passing record of {who} came as {number} after {before}"));
        }
    }

    /// The bodies that no log may hold.
    fn forbidden(&self) -> BTreeSet<Bytes> {
        self.attempts.iter().filter(|one| one.forbidden).map(|one| one.body.clone()).collect()
    }
}

/// Publisher and number of a body of ours: `{"text":"name-7 …"}`.
fn numbered(body: &[u8]) -> Option<(String, u64)> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let word = value["text"].as_str()?.split(' ').next()?.to_owned();
    let (who, number) = word.rsplit_once('-')?;
    Some((who.to_owned(), number.parse().ok()?))
}

pub(crate) fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(60).collect()
}
