//! Every run ends, whatever dies: what an earlier life left open is ended at the next start, and logs of ended runs go after a while.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use fireside_core::channel::run::{Ending, Status, Text};
use fireside_core::checkpoint::OpenRun;
use fireside_core::namespace::Retention;
use fireside_core::{ChannelName, Durability, Kind, Namespace, Position, Refusal, limits};

use super::{Run, is_listed};
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
struct Entry {
    run: Arc<str>,
    channel: String,
    state: Listed,
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
    let entry = Entry { run: run.clone(), channel: channel.name.as_str().to_owned(), state };
    let body = Bytes::from(serde_json::to_vec(&entry).unwrap_or_default());
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

/// Ends all that an earlier life left open, before anybody listens. The list then begins anew with the logs that still linger.
pub(crate) async fn settle_all(node: &Arc<Node>) {
    let Ok(list_channel) = the_list(node).await else { return };
    let mut listed = BTreeMap::new();
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
            listed.insert(entry.run, (entry.channel, entry.state));
        }
    };
    if listed.is_empty() {
        return;
    }
    // What could not be read is there for the next start.
    if is_whole {
        lock(&list_channel.state).remove_history();
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

/// The channel's open runs decide; the list only said where to look.
async fn settle_listed(node: &Arc<Node>, name: &ChannelName, id: &Arc<str>) {
    let Some(policy) = node.gate.policy(name) else { return };
    let Ok(channel) = awake(node, name, &policy).await else { return };
    let open = lock(&channel.state)
        .core()
        .and_then(|core| core.open_runs().iter().find(|open| open.run == *id).cloned());
    match open {
        Some(open) => settle(node, &channel, &open).await,
        None => {
            if let Some(run) = find(node, &channel, id).await {
                let _ = list(node, &channel, id, Listed::Ended).await;
                forget_later(node, &run);
            }
        }
    }
}

/// A channel that wakes with runs that nobody here drives ends them.
pub(crate) fn settle_orphans(node: &Arc<Node>, channel: &Arc<Channel>) {
    let open = lock(&channel.state).core().map(|core| core.open_runs().to_vec()).unwrap_or_default();
    for orphan in open.into_iter().filter(|open| node.runs.find(&open.run).is_none()) {
        let (node_of_task, channel) = (node.clone(), channel.clone());
        node.host.spawn(Box::pin(async move { settle(&node_of_task, &channel, &orphan).await }));
    }
}

/// Ends one run: with its log's own ending if it has one, else as interrupted, its text kept. Whoever comes second waits for the first.
async fn settle(node: &Arc<Node>, channel: &Arc<Channel>, open: &OpenRun) {
    if !node.runs.add_if_new(&open.run) {
        while node.runs.find(&open.run).is_some() {
            node.host.sleep(10).await;
        }
        return;
    }
    let unreadable = || Ending {
        status: Status::Interrupted,
        parts: Vec::new(),
        usage: None,
        by: None,
        reason: Some("the run's log could not be read".to_owned()),
    };
    match find(node, channel, &open.run).await {
        Some(run) => {
            let ending = read_back(node, &run.log).await.unwrap_or_else(|_| unreadable());
            run.end(node, &ending).await;
        }
        None => super::end_in_channel(node, channel, &open.run, &unreadable()).await,
    }
}

async fn find(node: &Arc<Node>, channel: &Arc<Channel>, id: &Arc<str>) -> Option<Run> {
    let name = channel.name.run_log(id).ok()?;
    let policy = node.gate.policy(&name)?;
    let log = awake(node, &name, &policy).await.ok()?;
    Some(Run { id: id.clone(), channel: channel.clone(), log })
}

async fn read_back(node: &Arc<Node>, log: &Channel) -> Result<Ending, Refusal> {
    let mut text = Text::default();
    let (mut at, newest) = {
        let state = lock(&log.state);
        let newest = state.core().map(|core| core.newest()).unwrap_or_default();
        (Position::new(newest.epoch, 0), newest)
    };
    while at.offset < newest.offset {
        let page = follow::records(node, log, at, newest.offset, limits::PAGE_RECORDS_MAX).await?;
        let Some(last) = page.last() else { return Err(crate::channel::refusal_of(&LogFault::Gone)) };
        at.offset = last.offset;
        for record in &page {
            if record.kind == Kind::RunEnd
                && let Some(ending) = Ending::read(&record.body)
            {
                return Ok(ending);
            }
            text.push(record);
        }
    }
    let reason = Some("the server stopped in the middle".to_owned());
    Ok(Ending { status: Status::Interrupted, parts: text.into_parts(), usage: None, by: None, reason })
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
