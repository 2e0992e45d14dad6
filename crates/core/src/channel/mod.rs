//! The channel: decides what is appended, numbers it, and knows what is kept. A pure state machine over its log:
//! [`Channel::decide`] makes a proposal, the log answers, [`Channel::absorb`] takes in what was really appended.

mod keys;
mod presence;
pub mod run;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::{Batch, ProposalId};
use crate::checkpoint::{Checkpoint, Mark, OpenRun};
use crate::gate::{Admitted, Write};
use crate::limits;
use crate::name::ChannelName;
use crate::namespace::{Namespace, WhenActive};
use crate::position::{Claimed, Epoch, Position};
use crate::record::{KeyMark, Kind, Record};
use crate::refusal::{Code, Refusal};

use keys::Keys;
pub use presence::Presence;

/// What a channel is, beyond the records in its log.
#[derive(Debug)]
pub struct Channel {
    name: ChannelName,
    policy: Arc<Namespace>,
    epoch: Epoch,
    oldest: u64,
    newest: u64,
    time_ms: u64,
    proposal: ProposalId,
    bytes: u64,
    marks: VecDeque<Mark>,
    keys: Keys,
    open_runs: Vec<OpenRun>,
    closed: bool,
    fence: u64,
}

/// What to append, and what each asker is told once it is.
#[derive(Debug)]
pub struct Decision {
    /// The proposal; `None` if nothing is to be written.
    pub batch: Option<Arc<Batch>>,
    /// One answer per asker, in their order.
    pub answers: Vec<Answer>,
}

/// What one asker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The record with this offset (0 without history), once the append is accepted.
    Written {
        /// Its offset.
        offset: u64,
        /// Its key was given twice in the same batch and this is the second.
        duplicate: bool,
    },
    /// The key is known: this is where it went.
    Known {
        /// Offset of the first one's record.
        offset: u64,
        /// For a start of a run: which.
        run: Option<Arc<str>>,
    },
    /// No.
    Refused(Refusal),
}

/// How a position that a client claims stands to this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything after it is there.
    Readable(Position),
    /// Another epoch, trimmed, or beyond the end: the reader is told, and follows from the newest.
    Gone,
}

impl Channel {
    /// A channel as its log woke it: the last checkpoint, and the epoch that a channel without records adopts. The batches after
    /// the checkpoint are then absorbed.
    pub fn wake(
        name: ChannelName,
        policy: Arc<Namespace>,
        checkpoint: Option<Checkpoint>,
        generation: Epoch,
    ) -> Self {
        let known =
            checkpoint.unwrap_or(Checkpoint { epoch: generation, oldest: 1, ..Checkpoint::default() });
        Channel {
            keys: Keys::new(known.keys, policy.dedup_keys_max, policy.dedup_window_ms),
            name,
            policy,
            epoch: known.epoch,
            oldest: known.oldest.max(1),
            newest: known.newest,
            time_ms: known.time_ms,
            proposal: known.proposal,
            bytes: known.bytes,
            marks: known.marks.into(),
            open_runs: known.open_runs,
            closed: known.closed,
            fence: known.fence,
        }
    }

    /// Its name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// Its policy.
    pub fn policy(&self) -> &Arc<Namespace> {
        &self.policy
    }

    /// True if records are kept.
    pub fn has_history(&self) -> bool {
        self.policy.history.is_some()
    }

    /// The newest position.
    pub fn newest(&self) -> Position {
        Position::new(self.epoch, self.newest)
    }

    /// Offset of the oldest record that may be read; one above the newest if there is none.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Runs with a start and no end yet.
    pub fn open_runs(&self) -> &[OpenRun] {
        &self.open_runs
    }

    /// For the log of a run: it has ended.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Records older than this are no longer shown, though the log may still hold them.
    pub fn shown_since_ms(&self, now_ms: u64) -> u64 {
        self.policy.history.map_or(0, |kept| now_ms.saturating_sub(kept.age_ms))
    }

    /// Judges a position that a client claims. A client's offset proves nothing about the log: beyond the end only this reader is told.
    pub fn standing(&self, claimed: Claimed) -> Standing {
        let same_epoch = match claimed.epoch {
            Some(epoch) => epoch == self.epoch,
            None => claimed.offset == 0,
        };
        let readable = claimed.offset <= self.newest && claimed.offset + 1 >= self.oldest;
        match same_epoch && readable {
            true => Standing::Readable(Position::new(self.epoch, claimed.offset)),
            false => Standing::Gone,
        }
    }

    /// Decides what becomes of `asked`: keys answered, records numbered after the newest. Changes nothing: what is proposed counts once it
    /// is absorbed, and after a conflict everything is decided again.
    pub fn decide<'a>(
        &self,
        asked: impl IntoIterator<Item = &'a Admitted<Write>>,
        proposal: ProposalId,
        now_ms: u64,
    ) -> Decision {
        let mut draft = Draft { channel: self, time_ms: self.time_ms.max(now_ms), records: Vec::new() };
        let answers = asked.into_iter().map(|one| draft.answer(one)).collect();
        let records = draft.records;
        let batch = (!records.is_empty())
            .then(|| Batch::new(self.name.clone(), self.epoch, proposal, self.proposal, records));
        Decision { batch, answers }
    }

    /// Where the record of this key is, if there is one; a refusal if it had another body. `None`: the key is not known.
    pub fn publish_known(&self, key: KeyMark, now_ms: u64) -> Option<Result<Position, Refusal>> {
        let known = self.keys.find(&key.id, now_ms.max(self.time_ms))?;
        Some(match known.body == key.body {
            true => Ok(Position::new(self.epoch, known.offset)),
            false => Err(Refusal::because(Code::Conflict, KNOWN_WITH_ANOTHER_BODY)),
        })
    }

    /// What a start of a run with this key is answered without being written: the run it started before, or a refusal. `None`: it may
    /// start now.
    pub fn start_known(&self, key: KeyMark, now_ms: u64) -> Option<Result<Arc<str>, Refusal>> {
        if let Some(known) = self.keys.find(&key.id, now_ms.max(self.time_ms)) {
            let other = || Refusal::because(Code::Conflict, "this key is known with another input");
            return Some(known.run.clone().filter(|_| known.body == key.body).ok_or_else(other));
        }
        let draft = Draft { channel: self, time_ms: now_ms, records: Vec::new() };
        draft.may_start().err().map(Err)
    }

    /// The run that was started with the key of this hash.
    pub fn run_started_by(&self, key: &[u8; 16], now_ms: u64) -> Option<Arc<str>> {
        self.keys.find(key, now_ms)?.run.clone()
    }

    /// True if `batch` continues exactly what is here.
    pub fn continues(&self, batch: &Batch) -> bool {
        batch.epoch == self.epoch && batch.first() == self.newest + 1 && batch.previous == self.proposal
    }

    /// Takes in what was appended, here or elsewhere. It must continue what is here.
    pub fn absorb(&mut self, batch: &Batch) {
        if batch.first() == 0 {
            return;
        }
        assert!(
            batch.epoch == self.epoch && batch.first() == self.newest + 1,
            "a channel absorbs only what continues it"
        );
        for record in &batch.records {
            self.newest = record.offset;
            self.time_ms = record.time_ms;
            self.absorb_run(record);
            if let Some(key) = record.key {
                let run = (record.kind == Kind::RunStart).then(|| run::id_of(&record.body)).flatten();
                self.keys.remember(key, record.offset, record.time_ms, run);
            }
        }
        self.proposal = batch.proposal;
        self.bytes += batch.cost() as u64;
        self.mark();
        self.trim(self.time_ms);
    }

    /// Trims what retention no longer keeps, by count, bytes and age.
    pub fn trim(&mut self, now_ms: u64) {
        let Some(kept) = self.policy.history else { return };
        if self.newest.saturating_sub(self.oldest) + 1 > kept.records {
            self.oldest = self.newest - kept.records + 1;
        }
        let too_old_ms = now_ms.saturating_sub(kept.age_ms);
        while let Some(mark) = self.marks.front() {
            let over_bytes = self.bytes - mark.bytes >= kept.bytes && mark.offset < self.newest;
            if !over_bytes && mark.time_ms >= too_old_ms && mark.offset >= self.oldest {
                break;
            }
            self.oldest = self.oldest.max(mark.offset + 1);
            self.marks.pop_front();
        }
        self.keys.expire(now_ms);
    }

    /// Removes all records and keeps everything else: same epoch, same newest, same keys.
    pub fn remove_history(&mut self) {
        self.remove_until(self.newest());
    }

    /// Removes the records up to a position of this epoch.
    pub fn remove_until(&mut self, last: Position) {
        if last.epoch != self.epoch {
            return;
        }
        self.oldest = self.oldest.max(last.offset.min(self.newest) + 1);
        while self.marks.pop_front_if(|mark| mark.offset < self.oldest).is_some() {}
    }

    /// All that this channel must remember besides its records.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            epoch: self.epoch,
            oldest: self.oldest,
            newest: self.newest,
            time_ms: self.time_ms,
            proposal: self.proposal,
            bytes: self.bytes,
            marks: self.marks.iter().copied().collect(),
            keys: self.keys.all(),
            open_runs: self.open_runs.clone(),
            closed: self.closed,
            fence: self.fence,
        }
    }

    /// True if nothing is left that a later life would have to know.
    pub fn is_forgettable(&self) -> bool {
        self.oldest > self.newest && self.keys.is_empty() && self.open_runs.is_empty()
    }

    fn absorb_run(&mut self, record: &Record) {
        match record.kind {
            Kind::RunStart => {
                if let Some(open) = run::opened(record) {
                    self.open_runs.push(open);
                }
            }
            Kind::RunEnd if self.name.run().is_some() => self.closed = true,
            Kind::RunEnd => {
                let ended = run::id_of(&record.body);
                self.open_runs.retain(|open| Some(&open.run) != ended.as_ref());
            }
            Kind::RunOwner => self.fence = self.fence.max(run::fence_of(&record.body)),
            _ => {}
        }
    }

    /// Notes this place, or moves the last one here while it still stands for less than its share of what is kept.
    fn mark(&mut self) {
        let Some(kept) = self.policy.history else { return };
        let here = Mark { offset: self.newest, bytes: self.bytes, time_ms: self.time_ms };
        let mut latest = self.marks.iter().rev();
        if let (Some(last), Some(before)) = (latest.next(), latest.next()) {
            const SHARES: u64 = limits::MARKS_MAX as u64 / 2 - 1;
            let is_full = last.bytes - before.bytes >= kept.bytes / SHARES
                || last.time_ms - before.time_ms >= kept.age_ms / SHARES;
            if !is_full {
                self.marks.pop_back();
            }
        }
        self.marks.push_back(here);
        if self.marks.len() > limits::MARKS_MAX {
            // More than its shares only while `trim` lags by one: the oldest place is the one that is about to go.
            self.marks.pop_front();
        }
    }
}

const KNOWN_WITH_ANOTHER_BODY: &str = "this key is known with another body";

/// A batch in the making: what is asked is answered as if what was asked before it were there already.
struct Draft<'a> {
    channel: &'a Channel,
    time_ms: u64,
    records: Vec<Record>,
}

impl Draft<'_> {
    fn answer(&mut self, asked: &Admitted<Write>) -> Answer {
        let write = asked.command();
        if let Some(answer) = self.known(write) {
            return answer;
        }
        if let Err(refusal) = self.expected(write).and_then(|()| self.run_rules(write)) {
            return Answer::Refused(refusal);
        }
        let offset = match self.channel.has_history() {
            true => self.newest() + 1,
            false => 0,
        };
        self.records.push(Record {
            offset,
            time_ms: self.time_ms,
            kind: write.kind,
            author: write.author.clone(),
            key: write.key,
            conflate: write.conflate.clone(),
            tags: write.tags.clone(),
            body: write.body.clone(),
        });
        Answer::Written { offset, duplicate: false }
    }

    fn newest(&self) -> u64 {
        self.records.last().map_or(self.channel.newest, |record| record.offset)
    }

    fn known(&self, write: &Write) -> Option<Answer> {
        let key = write.key?;
        let other_body = || Answer::Refused(Refusal::because(Code::Conflict, KNOWN_WITH_ANOTHER_BODY));
        if let Some(known) = self.channel.keys.find(&key.id, self.time_ms) {
            return Some(match known.body == key.body {
                true => Answer::Known { offset: known.offset, run: known.run.clone() },
                false => other_body(),
            });
        }
        let twin = self.records.iter().find(|record| record.key.is_some_and(|other| other.id == key.id))?;
        Some(match twin.key == Some(key) {
            true => Answer::Written { offset: twin.offset, duplicate: true },
            false => other_body(),
        })
    }

    fn expected(&self, write: &Write) -> Result<(), Refusal> {
        let Some(expected) = write.expected else { return Ok(()) };
        let newest = self.newest();
        let matches = match expected.epoch {
            Some(epoch) => epoch == self.channel.epoch && expected.offset == newest,
            None => expected.offset == 0 && newest == 0,
        };
        if matches {
            return Ok(());
        }
        let detail = format!(r#"{{"epoch":"{}","offset":{newest}}}"#, self.channel.epoch);
        Err(Refusal::because(Code::Conflict, "the expected position is not the newest").with_detail(detail))
    }

    /// What may follow in the life of a run.
    fn run_rules(&self, write: &Write) -> Result<(), Refusal> {
        let channel = self.channel;
        let is_run_log = channel.name.run().is_some();
        let over = || Refusal::because(Code::NotAvailable, "the run is over");
        if is_run_log {
            let ended = channel.closed || self.records.iter().any(|record| record.kind == Kind::RunEnd);
            return if ended { Err(over()) } else { Ok(()) };
        }
        match write.kind {
            Kind::RunStart => self.may_start(),
            Kind::RunEnd => {
                let run = run::id_of(&write.body);
                let is_open = channel.open_runs.iter().any(|open| Some(&open.run) == run.as_ref());
                let ended_here =
                    self.records.iter().any(|r| r.kind == Kind::RunEnd && run::id_of(&r.body) == run);
                if is_open && !ended_here { Ok(()) } else { Err(over()) }
            }
            _ => Ok(()),
        }
    }

    fn may_start(&self) -> Result<(), Refusal> {
        let started = self.records.iter().filter(|record| record.kind == Kind::RunStart).count();
        let active = self.channel.open_runs.len() + started;
        let when_active = self.channel.policy.run.as_ref().map(|run| run.when_active).unwrap_or_default();
        if active > 0 && when_active == WhenActive::Reject {
            return Err(Refusal::because(Code::Conflict, "a run is active here"));
        }
        if active >= limits::OPEN_RUNS_MAX {
            return Err(Refusal::because(Code::LimitExceeded, "too many runs are active here"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
