//! A log without a disk: for namespaces that promise nothing beyond this process, and for tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use fireside_core::{Batch, ChannelName, Checkpoint, Epoch, ProposalId};

use crate::format;
use crate::hash::Id;
use crate::store::{Entry, Outcome, ReadFault, Span, Woken, lock};

/// All channels of one life of the process: each life has a later epoch. The degree in entries is not looked at.
pub struct Memory {
    state: Mutex<State>,
}

struct State {
    /// What a channel without records adopts, unless its bucket moved.
    first: u64,
    moved: BTreeMap<u16, u64>,
    channels: BTreeMap<ChannelName, Channel>,
}

#[derive(Default)]
struct Channel {
    epoch: Epoch,
    newest: u64,
    proposal: ProposalId,
    checkpoint: Option<Checkpoint>,
    batches: VecDeque<Arc<Batch>>,
}

impl State {
    fn generation(&self, channel: &ChannelName) -> Epoch {
        Epoch(self.moved.get(&bucket(channel)).copied().unwrap_or(0).max(self.first))
    }
}

/// The same spread as in the store; nobody gains anything by a collision here.
fn bucket(channel: &ChannelName) -> u16 {
    Id::of(&[0; 16], channel.as_str(), u64::MAX).bucket()
}

impl Channel {
    fn oldest(&self) -> u64 {
        self.checkpoint.as_ref().map_or(1, |c| c.oldest.max(1))
    }
}

impl Memory {
    /// Nothing yet. Epochs begin at the clock's ms, so that they are greater than those of the life before.
    pub fn new(now_ms: u64) -> Memory {
        Memory {
            state: Mutex::new(State {
                first: now_ms.max(1),
                moved: BTreeMap::new(),
                channels: BTreeMap::new(),
            }),
        }
    }

    /// As [`crate::Store::commit`], for one entry, done at once.
    pub fn commit(&self, entry: &Entry) -> Outcome {
        let mut state = lock(&self.state);
        match entry {
            Entry::Batch { batch, .. } => {
                let generation = state.generation(&batch.channel);
                append(&mut state.channels, batch, generation)
            }
            Entry::Checkpoint { channel, checkpoint, .. } => {
                let generation = state.generation(channel);
                let kept = match state.channels.get_mut(channel) {
                    Some(kept) => kept,
                    None if checkpoint.newest == 0 && checkpoint.epoch == generation => {
                        let fresh = Channel { epoch: checkpoint.epoch, ..Channel::default() };
                        state.channels.entry(channel.clone()).or_insert(fresh)
                    }
                    None => return Outcome::Conflict,
                };
                if kept.epoch != checkpoint.epoch || checkpoint.newest > kept.newest {
                    return Outcome::Conflict;
                }
                while kept.batches.front().is_some_and(|b| b.last() < checkpoint.oldest) {
                    kept.batches.pop_front();
                }
                kept.checkpoint = Some(Checkpoint::clone(checkpoint));
                Outcome::Accepted
            }
            Entry::Erase { channel, epoch, offset, .. } => {
                let Some(kept) = state.channels.get_mut(channel).filter(|c| c.epoch == *epoch) else {
                    return Outcome::Conflict;
                };
                for batch in &mut kept.batches {
                    *batch = format::shown(batch, *epoch, &[*offset]);
                }
                Outcome::Accepted
            }
            Entry::Forget { channel, .. } => {
                if let Some(gone) = state.channels.remove(channel)
                    && channel.run().is_none()
                {
                    let moved = state.moved.entry(bucket(channel)).or_default();
                    *moved = (*moved).max(gone.epoch.0 + 1);
                }
                Outcome::Accepted
            }
        }
    }

    /// As [`crate::Store::wake`].
    pub fn wake(&self, channel: &ChannelName) -> Woken {
        let state = lock(&self.state);
        let generation = state.generation(channel);
        let Some(kept) = state.channels.get(channel) else {
            return Woken { checkpoint: None, tail: Vec::new(), generation };
        };
        let after = kept.checkpoint.as_ref().map_or(0, |c| c.newest);
        let tail = kept.batches.iter().filter(|b| b.last() > after).cloned().collect();
        Woken { checkpoint: kept.checkpoint.clone(), tail, generation }
    }

    /// As [`crate::Store::read`].
    ///
    /// # Errors
    /// [`ReadFault::Gone`].
    pub fn read(&self, channel: &ChannelName, span: Span) -> Result<Vec<Arc<Batch>>, ReadFault> {
        let state = lock(&self.state);
        let kept = state.channels.get(channel).filter(|c| c.epoch == span.epoch).ok_or(ReadFault::Gone)?;
        if span.after + 1 < kept.oldest() {
            return Err(ReadFault::Gone);
        }
        let from = kept.batches.partition_point(|b| b.last() <= span.after);
        let (mut page, mut records, mut cost) = (Vec::new(), 0, 0);
        for batch in kept.batches.range(from..).take_while(|b| b.first() <= span.until) {
            if !page.is_empty() && (records >= span.records_max || cost >= span.bytes_max) {
                break;
            }
            records += batch.after(span.after).len();
            cost += batch.cost();
            page.push(batch.clone());
        }
        if page.is_empty() && span.until > span.after { Err(ReadFault::Gone) } else { Ok(page) }
    }

    /// Channels that have anything.
    pub fn channels(&self) -> usize {
        lock(&self.state).channels.len()
    }
}

fn append(channels: &mut BTreeMap<ChannelName, Channel>, batch: &Arc<Batch>, generation: Epoch) -> Outcome {
    let dense = batch.records.iter().zip(batch.first()..).all(|(r, offset)| r.offset == offset);
    let fits = match channels.get(&batch.channel) {
        Some(kept) => {
            batch.epoch == kept.epoch && batch.first() == kept.newest + 1 && batch.previous == kept.proposal
        }
        None => batch.first() == 1 && batch.previous == ProposalId(0) && batch.epoch == generation,
    };
    if !dense || !fits {
        return Outcome::Conflict;
    }
    let kept = channels.entry(batch.channel.clone()).or_default();
    (kept.epoch, kept.newest, kept.proposal) = (batch.epoch, batch.last(), batch.proposal);
    kept.batches.push_back(batch.clone());
    Outcome::Accepted
}

#[cfg(test)]
mod tests {
    use super::*;
    use fireside_core::{Durability, Kind, Record};

    fn record(offset: u64) -> Record {
        Record {
            offset,
            time_ms: 1,
            kind: Kind::Plain,
            author: None,
            key: None,
            conflate: None,
            tags: vec![],
            body: "1".into(),
        }
    }

    #[test]
    fn a_memory_log_compares_reads_and_forgets() {
        let memory = Memory::new(7);
        let channel = ChannelName::parse("m:1").unwrap();
        let at = |first, previous, epoch| {
            let records = vec![record(first)];
            let batch = Batch::new(
                channel.clone(),
                Epoch(epoch),
                ProposalId(u128::from(first)),
                ProposalId(previous),
                records,
            );
            memory.commit(&Entry::Batch { batch, degree: Durability::Memory })
        };
        assert_eq!(at(1, 0, 7), Outcome::Accepted);
        assert_eq!(at(1, 0, 7), Outcome::Conflict);
        assert_eq!(at(2, 1, 7), Outcome::Accepted);
        let span = Span { epoch: Epoch(7), after: 1, until: 2, records_max: 9, bytes_max: 999 };
        assert_eq!(memory.read(&channel, span).unwrap()[0].first(), 2);
        memory.commit(&Entry::Forget { channel: channel.clone(), degree: Durability::Memory });
        assert!(matches!(memory.read(&channel, span), Err(ReadFault::Gone)));
        assert_eq!(memory.wake(&channel).generation, Epoch(8));
    }
}
