//! A log in memory: correct unless a test scripts the next answer, and as slow as a test holds it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use fireside_core::checkpoint::Checkpoint;
use fireside_core::{Batch, ChannelName, Durability, Epoch};
use fireside_node::ports::{Appended, Log, LogFault, Soon, Span, Waking};

use super::lock;

#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    channels: BTreeMap<String, Kept>,
    generation: u64,
    /// `append story:1`, `read story:1`, …: these wait.
    held: BTreeSet<String>,
    waiting: Vec<Waker>,
    script: BTreeMap<String, VecDeque<Outcome>>,
    calls: Vec<String>,
    late: Vec<Arc<Batch>>,
}

#[derive(Clone, Default)]
struct Kept {
    checkpoint: Option<Checkpoint>,
    batches: Vec<Arc<Batch>>,
}

/// What the next call of a kind is answered.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// As if nothing were scripted.
    Works,
    /// Refused, nothing written.
    Fails(LogFault),
    /// Unknown, and it was written.
    UnknownThere,
    /// Unknown, and it was not.
    UnknownLost,
    /// Unknown, and it is there only after the log was read, before the next append.
    UnknownLate,
}

impl MemoryLog {
    /// Calls of this kind (`append story:1`) wait until released.
    pub fn hold(&self, call: &str) {
        lock(&self.0).held.insert(call.to_owned());
    }

    pub fn release(&self, call: &str) {
        let mut state = lock(&self.0);
        state.held.remove(call);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The next call of this kind is answered so.
    pub fn script(&self, call: &str, outcome: Outcome) {
        lock(&self.0).script.entry(call.to_owned()).or_default().push_back(outcome);
    }

    /// The calls that begin so, in order.
    pub fn calls(&self, begins: &str) -> Vec<String> {
        lock(&self.0).calls.iter().filter(|call| call.starts_with(begins)).cloned().collect()
    }

    /// The records of a channel: offset and body.
    pub fn records(&self, channel: &str) -> Vec<(u64, String)> {
        let state = lock(&self.0);
        let batches = state.channels.get(channel).map(|kept| kept.batches.clone()).unwrap_or_default();
        let records = batches.iter().flat_map(|batch| batch.records.iter());
        records.map(|record| (record.offset, String::from_utf8_lossy(&record.body).into_owned())).collect()
    }

    /// The channel's checkpoint.
    pub fn saved(&self, channel: &str) -> Option<Checkpoint> {
        lock(&self.0).channels.get(channel)?.checkpoint.clone()
    }

    /// Waits until the call is not held, and takes what is scripted for it.
    async fn turn(&self, call: String) -> Option<Outcome> {
        lock(&self.0).calls.push(call.clone());
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            if state.held.contains(&call) {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(state.script.get_mut(&call).and_then(VecDeque::pop_front))
        })
        .await
    }

    fn store(&self, batch: Arc<Batch>) -> Appended {
        let mut state = lock(&self.0);
        let generation = Epoch(state.generation + 1);
        let kept = state.channels.entry(batch.channel.as_str().to_owned()).or_default();
        let saved = kept.checkpoint.as_ref().map(|saved| (saved.epoch, saved.newest));
        let (epoch, newest) =
            kept.batches.last().map(|batch| (batch.epoch, batch.last())).or(saved).unwrap_or((generation, 0));
        if batch.epoch != epoch || batch.first() != newest + 1 {
            return Appended::Conflict;
        }
        kept.batches.push(batch);
        Appended::Accepted
    }
}

impl Log for MemoryLog {
    fn wake(&self, channel: &ChannelName, _: Durability) -> Soon<Result<Waking, LogFault>> {
        let (log, channel) = (self.clone(), channel.clone());
        Box::pin(async move {
            if let Some(Outcome::Fails(fault)) = log.turn(format!("wake {channel}")).await {
                return Err(fault);
            }
            let state = lock(&log.0);
            let kept = state.channels.get(channel.as_str()).cloned().unwrap_or_default();
            let newest = kept.checkpoint.as_ref().map_or(0, |saved| saved.newest);
            let tail = kept.batches.into_iter().filter(|batch| batch.first() > newest).collect();
            Ok(Waking { checkpoint: kept.checkpoint, tail, generation: Epoch(state.generation + 1) })
        })
    }

    fn append(&self, batch: Arc<Batch>, _: Durability) -> Soon<Appended> {
        let log = self.clone();
        Box::pin(async move {
            let scripted = log.turn(format!("append {}", batch.channel)).await;
            let late = std::mem::take(&mut lock(&log.0).late);
            late.into_iter().for_each(|batch| drop(log.store(batch)));
            match scripted {
                None | Some(Outcome::Works) => log.store(batch),
                Some(Outcome::Fails(fault)) => Appended::Refused(fault),
                Some(Outcome::UnknownThere) => {
                    log.store(batch);
                    Appended::Unknown
                }
                Some(Outcome::UnknownLost) => Appended::Unknown,
                Some(Outcome::UnknownLate) => {
                    lock(&log.0).late.push(batch);
                    Appended::Unknown
                }
            }
        })
    }

    fn read(
        &self,
        channel: &ChannelName,
        _: Durability,
        span: Span,
    ) -> Soon<Result<Vec<Arc<Batch>>, LogFault>> {
        let (log, channel) = (self.clone(), channel.clone());
        Box::pin(async move {
            if let Some(Outcome::Fails(fault)) = log.turn(format!("read {channel}")).await {
                return Err(fault);
            }
            let state = lock(&log.0);
            let all =
                state.channels.get(channel.as_str()).map(|kept| kept.batches.clone()).unwrap_or_default();
            let (mut page, mut records, mut bytes) = (Vec::new(), 0, 0);
            for batch in all.into_iter().filter(|batch| batch.last() > span.after) {
                if batch.epoch != span.epoch {
                    return Err(LogFault::Gone);
                }
                let is_full = records >= span.records_max || bytes >= span.bytes_max;
                if batch.first() > span.until || is_full {
                    break;
                }
                (records, bytes) = (records + batch.records.len(), bytes + batch.cost());
                page.push(batch);
            }
            Ok(page)
        })
    }

    fn checkpoint(
        &self,
        channel: &ChannelName,
        _: Durability,
        checkpoint: Checkpoint,
    ) -> Soon<Result<(), LogFault>> {
        let (log, channel) = (self.clone(), channel.clone());
        Box::pin(async move {
            if let Some(Outcome::Fails(fault)) = log.turn(format!("checkpoint {channel}")).await {
                return Err(fault);
            }
            let mut state = lock(&log.0);
            let kept = state.channels.entry(channel.as_str().to_owned()).or_default();
            kept.batches.retain(|batch| batch.last() >= checkpoint.oldest);
            kept.checkpoint = Some(checkpoint);
            Ok(())
        })
    }

    fn forget(&self, channel: &ChannelName, _: Durability) -> Soon<Result<(), LogFault>> {
        let (log, channel) = (self.clone(), channel.clone());
        Box::pin(async move {
            log.turn(format!("forget {channel}")).await;
            lock(&log.0).channels.remove(channel.as_str());
            Ok(())
        })
    }

    fn erase(
        &self,
        channel: &ChannelName,
        _: Durability,
        epoch: Epoch,
        offset: u64,
    ) -> Soon<Result<(), LogFault>> {
        let (log, channel) = (self.clone(), channel.clone());
        Box::pin(async move {
            if let Some(Outcome::Fails(fault)) = log.turn(format!("erase {channel} {offset}")).await {
                return Err(fault);
            }
            let mut state = lock(&log.0);
            let kept = state.channels.entry(channel.as_str().to_owned()).or_default();
            for batch in kept.batches.iter_mut().filter(|batch| batch.epoch == epoch) {
                *batch = batch.erased(&[offset]);
            }
            Ok(())
        })
    }

    fn compact(&self) -> Soon<Result<(), LogFault>> {
        Box::pin(async { Ok(()) })
    }

    fn slept(&self, channel: &ChannelName, _: Durability) {
        lock(&self.0).calls.push(format!("slept {channel}"));
    }
}
