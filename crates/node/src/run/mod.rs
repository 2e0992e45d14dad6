//! One AI run: provider -> paced deltas -> its own log -> one `run.end` in its channel.
//!
//! The server owns a run; clients only follow logs. The order of a start: the list of open runs, the first record of the run's log (which
//! fixes that log's epoch), `run.start`. The order of an end: close the run's log, `run.end`, the list. Whatever dies in between, the
//! channel's open runs decide at the next start what is still to be ended; the list only says where to look.

mod generate;
mod settle;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use fireside_core::channel::run::{self as records, Ending, Status};
use fireside_core::command::{CancelRun, StartRun};
use fireside_core::gate::{Admitted, Start, Write};
use fireside_core::{ChannelName, Code, Durability, Epoch, Fact, Kind, Refusal, Reply};

use crate::channel::{Channel, Placed};
use crate::commands::awake;
use crate::session::Session;
use crate::slot::Slot;
use crate::{Node, lock};

pub(crate) use settle::{settle_all, settle_orphans};

/// The runs that this node drives, and the cancels that came before their start.
#[derive(Default)]
pub(crate) struct Runs {
    driven: Mutex<BTreeMap<Arc<str>, Arc<Handle>>>,
    early: Mutex<Vec<EarlyCancel>>,
}

/// How long a cancel waits for its start, in ms, and how many do.
const EARLY_CANCEL_MS: u64 = 60_000;
const EARLY_CANCELS_MAX: usize = 1024;

struct EarlyCancel {
    channel: ChannelName,
    key: [u8; 16],
    until_ms: u64,
    stop: Stop,
}

/// Why a run is to stop.
#[derive(Clone, Debug)]
struct Stop {
    status: Status,
    by: Option<Arc<str>>,
    reason: Option<String>,
}

/// What others hold of a run that is being driven.
#[derive(Default)]
struct Handle(Mutex<(Option<Stop>, Option<Waker>)>);

impl Handle {
    fn stop(&self, stop: Stop) {
        let waker = {
            let mut inner = lock(&self.0);
            inner.0.get_or_insert(stop);
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Runs {
    fn find(&self, run: &str) -> Option<Arc<Handle>> {
        lock(&self.driven).get(run).cloned()
    }

    fn add(&self, run: &Arc<str>) -> Arc<Handle> {
        let handle = Arc::new(Handle::default());
        lock(&self.driven).insert(run.clone(), handle.clone());
        handle
    }

    /// The same, unless somebody drives or settles it already.
    fn add_if_new(&self, run: &Arc<str>) -> bool {
        let mut driven = lock(&self.driven);
        let is_new = !driven.contains_key(run);
        if is_new {
            driven.insert(run.clone(), Arc::default());
        }
        is_new
    }

    fn remove(&self, run: &str) {
        lock(&self.driven).remove(run);
    }

    fn remember(&self, cancel: EarlyCancel, now_ms: u64) -> Result<(), Refusal> {
        let mut early = lock(&self.early);
        early.retain(|known| known.until_ms > now_ms);
        if early.len() >= EARLY_CANCELS_MAX {
            return Err(Refusal::because(Code::TooManyRequests, "too many cancels wait for their start"));
        }
        early.push(cancel);
        Ok(())
    }

    fn take_early(&self, channel: &ChannelName, key: &[u8; 16], now_ms: u64) -> Option<Stop> {
        let mut early = lock(&self.early);
        let at = early
            .iter()
            .position(|one| one.channel == *channel && one.key == *key && one.until_ms > now_ms)?;
        Some(early.swap_remove(at).stop)
    }
}

/// A run: its id, its channel and its own log.
#[derive(Clone)]
struct Run {
    id: Arc<str>,
    channel: Arc<Channel>,
    log: Arc<Channel>,
}

// --------------------------------------------------------------------------------------------------------------- start

/// Answers rpc `ai.start`.
pub(crate) async fn start(
    node: &Arc<Node>,
    session: &Arc<Session>,
    id: u32,
    asked: StartRun,
) -> Result<(), Refusal> {
    let name = asked.channel.clone();
    let admitted = session.ask(node, Some(&name), |caller| node.gate.start_run(caller, asked))?;
    session.published_all(admitted.channel()).await;
    // A task of its own: what has begun goes on, or is taken back, whether whoever asked stays or not.
    let begun = Slot::new();
    let (node_of_task, slot) = (node.clone(), begun.clone());
    node.host.spawn(Box::pin(async move { slot.fill(begin(&node_of_task, &admitted).await) }));
    let (run, log, epoch) = begun.wait().await?;
    session.reply(id, Reply::RunStarted { run, channel: log, epoch });
    Ok(())
}

async fn begin(
    node: &Arc<Node>,
    admitted: &Admitted<Start>,
) -> Result<(Arc<str>, ChannelName, Epoch), Refusal> {
    let channel = awake(node, admitted.channel(), admitted.policy()).await?;
    let no_runs = || Refusal::because(Code::NotAvailable, "no provider is configured for runs here");
    let policy = channel.policy.run.clone().ok_or_else(no_runs)?;
    let provider = node.providers.get(&policy.provider).cloned().ok_or_else(no_runs)?;
    // One start at a time: a second one with the same key finds what the first one began.
    let _turn = StartTurn::take(&channel).await;
    let key = admitted.command().key;
    let known = lock(&channel.state).core().and_then(|core| core.start_known(key, node.host.now_ms()));
    if let Some(known) = known {
        return existing(node, &channel, known?).await;
    }
    let run: Arc<str> = Arc::from(format!("{:024x}", node.host.random() >> 32));
    let log_name =
        channel.name.run_log(&run).map_err(|fault| Refusal::because(Code::BadRequest, fault.to_string()))?;
    settle::list(node, &channel, &run, settle::Listed::Open).await?;
    let log_policy = node.gate.policy(&log_name).ok_or(Code::UnknownChannel)?;
    let log = awake(node, &log_name, &log_policy).await?;
    let run = Run { id: run, channel, log };
    let owner = run.write_log(node, Kind::RunOwner, r#"{"type":"run.owner","fence":1}"#.into()).await?;
    let epoch = owner.position.map(|position| position.epoch).unwrap_or_default();
    let by = admitted.principal().user().clone();
    let started = Write {
        kind: Kind::RunStart,
        body: records::start(&run.id, &by, &provider.model(), epoch),
        key: Some(key),
        expected: None,
        conflate: None,
        tags: Vec::new(),
        author: admitted.principal().author(),
    };
    // Known before it can be seen: whoever sees the start may cancel it.
    let handle = node.runs.add(&run.id);
    let placed = match node.gate.run_record(&run.channel.name, started) {
        Ok(write) => run.channel.write(node, write).await,
        Err(refusal) => Err(refusal),
    };
    match placed {
        Ok(Placed { run: None, .. }) => {}
        Ok(Placed { run: Some(known), .. }) => {
            run.abandon(node).await;
            return existing(node, &run.channel, known).await;
        }
        Err(refusal) => {
            run.abandon(node).await;
            return Err(refusal);
        }
    }
    node.say(Fact::RunStarted);
    if let Some(stop) = node.runs.take_early(&run.channel.name, &key.id, node.host.monotonic_ms()) {
        handle.stop(stop);
    }
    let started = (run.id.clone(), run.log.name.clone(), epoch);
    let generation =
        generate::Task { run, handle, provider, policy, input: admitted.command().input.clone() };
    let node_of_task = node.clone();
    node.host.spawn(Box::pin(async move { generation.drive(&node_of_task).await }));
    Ok(started)
}

/// The answer to a start whose key is known.
async fn existing(
    node: &Arc<Node>,
    channel: &Arc<Channel>,
    run: Arc<str>,
) -> Result<(Arc<str>, ChannelName, Epoch), Refusal> {
    let name =
        channel.name.run_log(&run).map_err(|fault| Refusal::because(Code::BadRequest, fault.to_string()))?;
    let policy = node.gate.policy(&name).ok_or(Code::UnknownChannel)?;
    let log = awake(node, &name, &policy).await?;
    let epoch = lock(&log.state).core().map(|core| core.newest().epoch).unwrap_or_default();
    Ok((run, name, epoch))
}

/// The right to start a run in a channel, one at a time.
struct StartTurn(Arc<Channel>);

impl StartTurn {
    async fn take(channel: &Arc<Channel>) -> StartTurn {
        channel.wait_until(|state| (!std::mem::replace(&mut state.starting, true)).then_some(())).await;
        StartTurn(channel.clone())
    }
}

impl Drop for StartTurn {
    fn drop(&mut self) {
        let sleepers = {
            let mut state = lock(&self.0.state);
            state.starting = false;
            state.rouse()
        };
        for sleeper in sleepers {
            sleeper.wake();
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------- end

impl Run {
    /// Writes into the run's own log.
    async fn write_log(&self, node: &Arc<Node>, kind: Kind, body: bytes::Bytes) -> Result<Placed, Refusal> {
        write(node, &self.log, kind, body).await
    }

    /// Ends the run, whatever it takes: closes its log, then says so in its channel, then in the list; and after a while its log goes.
    async fn end(&self, node: &Arc<Node>, ending: &Ending) {
        insist(node, &self.log, &ending.body(&self.id)).await;
        end_in_channel(node, &self.channel, &self.id, ending).await;
        settle::forget_later(node, self);
    }

    /// A run that never started leaves nothing.
    async fn abandon(&self, node: &Arc<Node>) {
        node.runs.remove(&self.id);
        let ending =
            Ending { status: Status::Cancelled, parts: Vec::new(), usage: None, by: None, reason: None };
        let _ = self.write_log(node, Kind::RunEnd, ending.body(&self.id)).await;
        let _ = settle::list(node, &self.channel, &self.id, settle::Listed::Ended).await;
        settle::forget_later(node, self);
    }
}

/// Says in its channel that a run has ended, then in the list.
async fn end_in_channel(node: &Arc<Node>, channel: &Arc<Channel>, id: &Arc<str>, ending: &Ending) {
    insist(node, channel, &ending.body(id)).await;
    node.runs.remove(id);
    node.say(Fact::RunEnded { status: ending.status.as_str() });
    // Refused only when the store is full: the list is a hint, and the channel knows that the run is over.
    let _ = settle::list(node, channel, id, settle::Listed::Ended).await;
}

/// Writes a terminal record until it is there, or until somebody else's is.
async fn insist(node: &Arc<Node>, channel: &Arc<Channel>, body: &bytes::Bytes) {
    let mut wait_ms = 50;
    while let Err(refusal) = write(node, channel, Kind::RunEnd, body.clone()).await {
        if refusal.code == Code::NotAvailable || refusal.code == Code::UnknownChannel {
            return;
        }
        node.host.sleep(wait_ms).await;
        wait_ms = (wait_ms * 2).min(5_000);
    }
}

async fn write(
    node: &Arc<Node>,
    channel: &Arc<Channel>,
    kind: Kind,
    body: bytes::Bytes,
) -> Result<Placed, Refusal> {
    let write =
        Write { kind, body, key: None, expected: None, conflate: None, tags: Vec::new(), author: None };
    channel.write(node, node.gate.run_record(&channel.name, write)?).await
}

// -------------------------------------------------------------------------------------------------------------- cancel

/// Answers rpc `ai.cancel`.
pub(crate) async fn cancel(
    node: &Arc<Node>,
    session: &Arc<Session>,
    id: u32,
    asked: CancelRun,
) -> Result<(), Refusal> {
    let name = asked.channel.clone();
    let admitted = session.ask(node, Some(&name), |caller| node.gate.cancel_run(caller, asked))?;
    session.published_all(admitted.channel()).await;
    let channel = awake(node, admitted.channel(), admitted.policy()).await?;
    let (who, cancel) = (admitted.principal().user(), admitted.command());
    let reason = (!cancel.reason.is_empty()).then(|| cancel.reason.clone());
    let stop = Stop { status: Status::Cancelled, by: Some(who.clone()), reason };
    let (run, open) = {
        let state = lock(&channel.state);
        let core = state.core().ok_or(Code::Internal)?;
        let by_key = || core.run_started_by(cancel.key.as_ref()?, node.host.now_ms());
        let run = cancel.run.clone().or_else(by_key);
        let open = core.open_runs().iter().find(|open| Some(&open.run) == run.as_ref()).cloned();
        (run, open)
    };
    let status = match (run, open) {
        (_, Some(open)) => {
            let is_own = !who.is_empty() && open.by == *who;
            if !cancel.any && !is_own {
                return Err(Code::PermissionDenied.into());
            }
            match node.runs.find(&open.run) {
                Some(handle) => {
                    handle.stop(stop);
                    "cancelled"
                }
                None => "ended",
            }
        }
        (Some(_), None) => "ended",
        (None, None) => {
            let now_ms = node.host.monotonic_ms();
            let key = cancel.key.unwrap_or_default();
            let until_ms = now_ms + EARLY_CANCEL_MS;
            node.runs.remember(EarlyCancel { channel: channel.name.clone(), key, until_ms, stop }, now_ms)?;
            // The start may have come between the look above and the note: then it did not see the note.
            let started =
                lock(&channel.state).core().and_then(|core| core.run_started_by(&key, node.host.now_ms()));
            let handle = started.and_then(|run| node.runs.find(&run));
            match handle.and_then(|handle| Some((handle, node.runs.take_early(&channel.name, &key, now_ms)?)))
            {
                Some((handle, stop)) => {
                    handle.stop(stop);
                    "cancelled"
                }
                None => "remembered",
            }
        }
    };
    session.reply(id, Reply::RunCancelled { status });
    Ok(())
}

/// The server stops: every run ends as interrupted, and readers still see it.
pub(crate) async fn interrupt_all(node: &Arc<Node>) {
    const PATIENCE_MS: u64 = 3_000;
    let handles: Vec<_> = lock(&node.runs.driven).values().cloned().collect();
    for handle in handles {
        handle.stop(Stop {
            status: Status::Interrupted,
            by: None,
            reason: Some("the server stopped".to_owned()),
        });
    }
    let until_ms = node.host.monotonic_ms() + PATIENCE_MS;
    while !lock(&node.runs.driven).is_empty() && node.host.monotonic_ms() < until_ms {
        node.host.sleep(10).await;
    }
}

fn is_listed(channel: &Channel) -> bool {
    channel.policy.durability != Durability::Memory
}
