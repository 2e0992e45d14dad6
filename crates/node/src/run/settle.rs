//! Every run ends, whatever dies: what an earlier life left open is settled at the next start, and logs of ended runs go after a while.
//!
//! What the server wrote is ended. What a backend writes goes on if the backend does: it is watched over anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use fireside_core::channel::run::{self as records, Change, Ending, Producer, Room, Status, Text};
use fireside_core::checkpoint::OpenRun;
use fireside_core::namespace::Retention;
use fireside_core::{ChannelName, Code, Durability, Kind, Namespace, Position, Record, Refusal, limits};

use super::{EarlyCancel, Run, Stop, is_listed, produced};
use crate::channel::Channel;
use crate::commands::awake;
use crate::ports::LogFault;
use crate::{Node, follow, lock};

/// Where runs are listed.
const LIST: &str = "fireside:runs";

/// What the list says of a run.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Listed {
    Open,
    Ended,
    Gone,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Run {
        run: Arc<str>,
        channel: String,
        state: Listed,
    },
    /// A cancel that came before its start.
    Cancel {
        /// The start's key: the mark of producer and key, in hexadecimal.
        cancel: String,
        channel: String,
        /// How long it waits, Unix ms.
        until_ms: u64,
        by: Option<Arc<str>>,
        reason: Option<String>,
    },
}

/// Says of a run where it stands. Runs of `memory` namespaces end with their epoch and are not listed.
pub(super) async fn list(
    node: &Arc<Node>,
    channel: &Channel,
    run: &Arc<str>,
    state: Listed,
) -> Result<(), Refusal> {
    if !is_listed(channel) {
        return Ok(());
    }
    enter(node, &Entry::Run { run: run.clone(), channel: channel.name.as_str().to_owned(), state }).await
}

/// Keeps a cancel over a restart.
pub(super) async fn list_cancel(
    node: &Arc<Node>,
    channel: &Channel,
    early: &EarlyCancel,
) -> Result<(), Refusal> {
    if is_listed(channel) { enter(node, &entry_of(node, early)).await } else { Ok(()) }
}

fn entry_of(node: &Node, early: &EarlyCancel) -> Entry {
    let left_ms = early.until_ms.saturating_sub(node.host.monotonic_ms());
    Entry::Cancel {
        cancel: format!("{:032x}", u128::from_be_bytes(early.key)),
        channel: early.channel.as_str().to_owned(),
        until_ms: node.host.now_ms() + left_ms,
        by: early.stop.by.clone(),
        reason: early.stop.reason.clone(),
    }
}

async fn enter(node: &Arc<Node>, entry: &Entry) -> Result<(), Refusal> {
    let body = Bytes::from(serde_json::to_vec(entry).unwrap_or_default());
    let list = the_list(node).await?;
    let write = node.gate.reserved_record(list.name.clone(), list.policy.clone(), body);
    list.write(node, write).await.map(drop)
}

async fn the_list(node: &Arc<Node>) -> Result<Arc<Channel>, Refusal> {
    let name = ChannelName::parse(LIST).map_err(|_| fireside_core::Code::Internal)?;
    let policy = Namespace {
        history: Some(Retention { records: 100_000, bytes: 64 << 20, age_ms: u64::MAX }),
        durability: Durability::Fsync,
        ..Namespace::closed("fireside")
    };
    awake(node, &name, &Arc::new(policy)).await
}

/// Settles all that an earlier life left open, before anybody listens. The list then begins anew with what goes on, the logs that still
/// linger, and the cancels that still wait.
pub(crate) async fn settle_all(node: &Arc<Node>) {
    let Ok(list_channel) = the_list(node).await else { return };
    let (mut listed, mut cancels) = (BTreeMap::new(), Vec::new());
    let mut at = lock(&list_channel.state)
        .core()
        .map(|core| Position::new(core.newest().epoch, core.oldest() - 1))
        .unwrap_or_default();
    let is_whole = loop {
        let page = follow::records(node, &list_channel, at, u64::MAX, limits::PAGE_RECORDS_MAX).await;
        let Ok(page) = page else { break false };
        let Some(last) = page.last() else { break true };
        at.offset = last.offset;
        for entry in page.iter().filter_map(|record| serde_json::from_slice::<Entry>(&record.body).ok()) {
            match entry {
                Entry::Run { run, channel, state } => drop(listed.insert(run, (channel, state))),
                cancel @ Entry::Cancel { .. } => cancels.push(cancel),
            }
        }
    };
    if listed.is_empty() && cancels.is_empty() {
        return;
    }
    // What could not be read is there for the next start.
    if is_whole {
        lock(&list_channel.state).remove_history();
    }
    for cancel in cancels {
        remember(node, &cancel).await;
    }
    for (run, (channel, state)) in listed {
        if state != Listed::Gone
            && let Ok(name) = ChannelName::parse(&channel)
        {
            settle_listed(node, &name, &run).await;
        }
    }
    let _ = list_channel.save(node).await;
}

/// A cancel that still waits is known again, and stays in the list.
async fn remember(node: &Arc<Node>, entry: &Entry) {
    let Entry::Cancel { cancel, channel, until_ms, by, reason } = entry else { return };
    let left_ms = until_ms.saturating_sub(node.host.now_ms()).min(limits::EARLY_CANCEL_MS);
    let (Ok(channel), Ok(key)) = (ChannelName::parse(channel), u128::from_str_radix(cancel, 16)) else {
        return;
    };
    if left_ms == 0 {
        return;
    }
    let now_ms = node.host.monotonic_ms();
    let stop = Stop { status: Status::Cancelled, by: by.clone(), reason: reason.clone() };
    let early = EarlyCancel { channel, key: key.to_be_bytes(), until_ms: now_ms + left_ms, stop };
    if node.runs.remember(early, now_ms).is_ok() {
        // Refused only when the store is full: then it is kept for this life only.
        let _ = enter(node, entry).await;
    }
}

/// The channel's open runs decide; the list only said where to look.
async fn settle_listed(node: &Arc<Node>, name: &ChannelName, id: &Arc<str>) {
    let Some(policy) = node.gate.policy(name) else { return };
    let Ok(channel) = awake(node, name, &policy).await else { return };
    let open = lock(&channel.state)
        .core()
        .and_then(|core| core.open_runs().iter().find(|open| open.run == *id).cloned());
    match open {
        Some(open) => {
            settle(node, &channel, &open).await;
            if node.runs.produced(id).is_some() {
                let _ = list(node, &channel, id, Listed::Open).await;
            }
        }
        None => {
            if let Ok(run) = find(node, &channel, id).await {
                let _ = list(node, &channel, id, Listed::Ended).await;
                forget_later(node, &run);
            }
        }
    }
}

/// A channel that wakes with runs that nobody here looks after settles them.
pub(crate) fn settle_orphans(node: &Arc<Node>, channel: &Arc<Channel>) {
    let open = lock(&channel.state).core().map(|core| core.open_runs().to_vec()).unwrap_or_default();
    for orphan in open.into_iter().filter(|open| node.runs.find(&open.run).is_none()) {
        let (node_of_task, channel) = (node.clone(), channel.clone());
        node.host.spawn(Box::pin(async move { settle(&node_of_task, &channel, &orphan).await }));
    }
}

/// Settles one run: it ends with its log's own ending if that has one; else, if its backend may go on, it is watched over; else it ends as
/// interrupted, its text kept. Whoever comes second waits for the first.
pub(super) async fn settle(node: &Arc<Node>, channel: &Arc<Channel>, open: &OpenRun) {
    let Some(handle) = node.runs.add_if_new(&open.run) else {
        while node.runs.find(&open.run).is_some() && node.runs.produced(&open.run).is_none() {
            node.host.sleep(10).await;
        }
        return;
    };
    let interrupted = |text: Text, why: &str| Ending {
        status: Status::Interrupted,
        parts: text.into_parts(),
        usage: None,
        by: None,
        reason: Some(why.to_owned()),
    };
    const WHY: &str = "the run's log could not be read";
    match read_patiently(node, channel, &open.run).await {
        Ok((run, Whole { ending: Some(ending), .. })) => run.end(node, &ending).await,
        Ok((run, whole)) if whole.producer == Producer::Backend => produced::resume(node, run, handle, whole),
        Ok((run, whole)) => {
            run.end(node, &interrupted(whole.text, "the server stopped in the middle")).await;
        }
        Err(_) => match find(node, channel, &open.run).await {
            Ok(run) => run.end(node, &interrupted(Text::default(), WHY)).await,
            Err(_) => {
                let ending = interrupted(Text::default(), WHY);
                super::end_in_channel(node, channel, &open.run, &ending).await;
            }
        },
    }
}

/// A run and what its log holds. A fault that passes costs no text: readers of the log have seen that.
async fn read_patiently(
    node: &Arc<Node>,
    channel: &Arc<Channel>,
    id: &Arc<str>,
) -> Result<(Run, Whole), Refusal> {
    let mut waits_ms = [50, 100, 200, 400, 800].into_iter();
    loop {
        let read = match find(node, channel, id).await {
            Ok(run) => read_back(node, &run).await.map(|whole| (run, whole)),
            Err(refusal) => Err(refusal),
        };
        match (read, waits_ms.next()) {
            (Err(_), Some(wait_ms)) => node.host.sleep(wait_ms).await,
            (read, _) => return read,
        }
    }
}

/// A run, its log awake.
pub(super) async fn find(node: &Arc<Node>, channel: &Arc<Channel>, id: &Arc<str>) -> Result<Run, Refusal> {
    let name = channel.name.run_log(id).map_err(|_| Code::UnknownChannel)?;
    let policy = node.gate.policy(&name).ok_or(Code::UnknownChannel)?;
    let log = awake(node, &name, &policy).await?;
    Ok(Run { id: id.clone(), channel: channel.clone(), log })
}

/// What the log of a run holds.
pub(super) struct Whole {
    pub(super) text: Text,
    /// What it may still grow by.
    pub(super) room: Room,
    pub(super) producer: Producer,
    pub(super) began_unix_ms: u64,
    pub(super) newest: Position,
    pub(super) ending: Option<Ending>,
}

pub(super) async fn read_back(node: &Arc<Node>, run: &Run) -> Result<Whole, Refusal> {
    let newest = lock(&run.log.state).core().map(|core| core.newest()).unwrap_or_default();
    let policy = run.channel.policy.run.clone().unwrap_or_default();
    let mut whole = Whole {
        text: Text::default(),
        room: super::room(node, &policy),
        producer: Producer::Node,
        began_unix_ms: node.host.now_ms(),
        newest,
        ending: None,
    };
    let mut at = Position::new(newest.epoch, 0);
    while at.offset < newest.offset {
        let page = follow::records(node, &run.log, at, newest.offset, limits::PAGE_RECORDS_MAX).await?;
        let Some(last) = page.last() else { return Err(crate::channel::refusal_of(&LogFault::Gone)) };
        at.offset = last.offset;
        page.iter().for_each(|record| whole.take(record));
    }
    Ok(whole)
}

impl Whole {
    fn take(&mut self, record: &Record) {
        match record.kind {
            Kind::RunOwner => {
                self.producer = records::producer_of(&record.body);
                self.began_unix_ms = self.began_unix_ms.min(record.time_ms);
            }
            Kind::RunEnd => self.ending = Ending::read(&record.body),
            _ => {
                if let Some(change) = Change::read(record) {
                    self.room.take_written(&change);
                    self.text.apply(change);
                }
            }
        }
    }
}

/// The run's log lingers for late readers, then goes.
pub(super) fn forget_later(node: &Arc<Node>, run: &Run) {
    let linger_ms = run.channel.policy.run.as_ref().map_or(0, |policy| policy.linger_ms);
    let (node_of_task, log, channel, id) =
        (node.clone(), run.log.name.clone(), run.channel.name.clone(), run.id.clone());
    node.host.spawn(Box::pin(async move {
        node_of_task.host.sleep(linger_ms).await;
        forget(&node_of_task, &log, &channel, &id).await;
    }));
}

/// The same, at once: what the run wrote was erased.
pub(crate) async fn forget_now(node: &Arc<Node>, channel: &Arc<Channel>, id: &Arc<str>) {
    if let Ok(log) = channel.name.run_log(id) {
        forget(node, &log, &channel.name, id).await;
    }
}

async fn forget(node: &Arc<Node>, log: &ChannelName, channel: &ChannelName, id: &Arc<str>) {
    let Some(policy) = node.gate.policy(log) else { return };
    let Ok(awake_log) = awake(node, log, &policy).await else { return };
    lock(&awake_log.state).remove_history();
    let _ = awake_log.save(node).await;
    let _ = node.log.forget(log, policy.durability).await;
    if let Some(policy) = node.gate.policy(channel)
        && let Ok(channel) = awake(node, channel, &policy).await
    {
        let _ = list(node, &channel, id, Listed::Gone).await;
    }
}
