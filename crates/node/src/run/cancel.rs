//! Stopping a run: now, or, by its start's key, before it has begun.

use std::sync::Arc;

use fireside_core::channel::run::Status;
use fireside_core::command::CancelRun;
use fireside_core::gate::{Admitted, Cancel, Principal};
use fireside_core::{ChannelName, Code, Refusal, Reply, limits};

use super::{Runs, Stop, settle};
use crate::commands::awake;
use crate::session::Session;
use crate::{Node, lock};

/// A cancel that waits for its start.
#[derive(Clone, Debug)]
pub(super) struct EarlyCancel {
    pub(super) channel: ChannelName,
    /// The start's key.
    pub(super) key: [u8; 16],
    /// How long it waits, on the clock that never goes back.
    pub(super) until_ms: u64,
    pub(super) stop: Stop,
}

impl Runs {
    /// Keeps a cancel for its start; the first one of a key counts.
    pub(super) fn remember(&self, cancel: EarlyCancel, now_ms: u64) -> Result<(), Refusal> {
        let mut early = lock(&self.early);
        early.retain(|known| known.until_ms > now_ms);
        if early.iter().any(|known| known.channel == cancel.channel && known.key == cancel.key) {
            return Ok(());
        }
        if early.len() >= limits::EARLY_CANCELS_MAX {
            return Err(Refusal::because(Code::TooManyRequests, "too many cancels wait for their start"));
        }
        early.push(cancel);
        Ok(())
    }

    pub(super) fn take_early(&self, channel: &ChannelName, key: &[u8; 16], now_ms: u64) -> Option<Stop> {
        let mut early = lock(&self.early);
        let at = early
            .iter()
            .position(|one| one.channel == *channel && one.key == *key && one.until_ms > now_ms)?;
        Some(early.swap_remove(at).stop)
    }
}

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
    let by = admitted.principal().user().clone();
    let status = stop(node, &admitted, by).await?;
    session.reply(id, Reply::RunCancelled { status });
    Ok(())
}

impl Node {
    /// Stops a run, on behalf of the user `by` if that is not empty.
    ///
    /// # Errors
    /// What the gate refuses; 111 and what the log refuses if the cancel has to wait for its start and cannot.
    pub async fn run_cancel(
        self: &Arc<Self>,
        who: &Arc<Principal>,
        asked: CancelRun,
        by: &str,
    ) -> Result<&'static str, Refusal> {
        if by.len() > limits::USER_BYTES_MAX {
            let message = format!("by has at most {} bytes", limits::USER_BYTES_MAX);
            return Err(Refusal::because(Code::BadRequest, message));
        }
        let admitted = self.gate.cancel_run(crate::api::caller(self, who), asked)?;
        stop(self, &admitted, Arc::from(by)).await
    }
}

/// `cancelled`; `ended`, if there is nothing to stop; `remembered`, if no run has this key yet.
async fn stop(node: &Arc<Node>, admitted: &Admitted<Cancel>, by: Arc<str>) -> Result<&'static str, Refusal> {
    let channel = awake(node, admitted.channel(), admitted.policy()).await?;
    let (who, cancel) = (admitted.principal().user(), admitted.command());
    let reason = (!cancel.reason.is_empty()).then(|| cancel.reason.clone());
    let stop = Stop { status: Status::Cancelled, by: (!by.is_empty()).then_some(by), reason };
    let (run, open) = {
        let state = lock(&channel.state);
        let core = state.core().ok_or(Code::Internal)?;
        let by_key = || core.run_started_by(cancel.key.as_ref()?, node.host.now_ms());
        let run = cancel.run.clone().or_else(by_key);
        let open = core.open_runs().iter().find(|open| Some(&open.run) == run.as_ref()).cloned();
        (run, open)
    };
    match (run, open) {
        (_, Some(open)) => {
            let is_own = !who.is_empty() && open.by == *who;
            if !cancel.any && !is_own {
                return Err(Code::PermissionDenied.into());
            }
            match node.runs.find(&open.run) {
                Some(handle) => {
                    handle.stop(stop);
                    Ok("cancelled")
                }
                None => Ok("ended"),
            }
        }
        (Some(_), None) => Ok("ended"),
        (None, None) => {
            let now_ms = node.host.monotonic_ms();
            let key = cancel.key.unwrap_or_default();
            let until_ms = now_ms + limits::EARLY_CANCEL_MS;
            let early = EarlyCancel { channel: channel.name.clone(), key, until_ms, stop };
            node.runs.remember(early.clone(), now_ms)?;
            if let Err(refusal) = settle::list_cancel(node, &channel, &early).await {
                node.runs.take_early(&channel.name, &key, now_ms);
                return Err(refusal);
            }
            // The start may have come since the look above: then it took the note, or, having looked before there was one, is told now.
            let started =
                lock(&channel.state).core().and_then(|core| core.run_started_by(&key, node.host.now_ms()));
            let Some(run) = started else { return Ok("remembered") };
            let note = node.runs.take_early(&channel.name, &key, now_ms);
            if let (Some(stop), Some(handle)) = (note, node.runs.find(&run)) {
                handle.stop(stop);
            }
            Ok("cancelled")
        }
    }
}
