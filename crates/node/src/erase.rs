//! Erasing a record: its body goes, from the log and from memory, and its offset stays.
//!
//! The order: a checkpoint, so that no later life has to read out of the erased record what it did (which run it started or ended);
//! the log; the ring; then a record that tells everybody. A crash in between leaves an erasure that is not told of, which whoever asked
//! for it was not acknowledged: asked for again, it is told.

use std::sync::Arc;

use fireside_core::channel::run::id_of;
use fireside_core::command::Erase;
use fireside_core::gate::{Erasure, Principal};
use fireside_core::{Code, Kind, Position, Record, Refusal};

use crate::api::caller;
use crate::channel::{Channel, Placed, refusal_of};
use crate::commands::awake;
use crate::slot::Slot;
use crate::{Node, follow, lock, run};

impl Node {
    /// Erases a record. What is still on its way to a slow reader may arrive; whatever is read from here on is a tombstone. Answers where
    /// the record stands that tells of it.
    ///
    /// # Errors
    /// What the gate or the log refuses; 112 if there is no such record; 107 for a record that itself tells of an erasure.
    pub async fn erase(self: &Arc<Self>, who: &Arc<Principal>, asked: Erase) -> Result<Placed, Refusal> {
        let erasure = self.gate.erase(caller(self, who), asked)?;
        // A task of its own: what has begun is done to its end, whether whoever asked stays or not.
        let done = Slot::new();
        let (node, slot) = (self.clone(), done.clone());
        self.host.spawn(Box::pin(async move { slot.fill(perform(&node, erasure).await) }));
        done.wait().await
    }

    /// Gives back all of the disk that holds nothing but what was erased, trimmed or forgotten.
    ///
    /// # Errors
    /// 507 if there is no room to write anew what must stay.
    pub async fn compact(&self) -> Result<(), Refusal> {
        self.log.compact().await.map_err(|fault| refusal_of(&fault))
    }
}

async fn perform(node: &Arc<Node>, erasure: Erasure) -> Result<Placed, Refusal> {
    let Erasure { offset, epoch, note } = erasure;
    let channel = awake(node, note.channel(), note.policy()).await?;
    let record = find(node, &channel, offset, epoch.unwrap_or(newest(&channel).epoch)).await?;
    if record.kind == Kind::Erase {
        return Err(Refusal::because(Code::BadRequest, "a record that tells of an erasure stays"));
    }
    if record.kind != Kind::Tombstone {
        channel.save(node).await?;
        let epoch = newest(&channel).epoch;
        let erased = node.log.erase(&channel.name, channel.durability(), epoch, offset).await;
        erased.map_err(|fault| refusal_of(&fault))?;
        lock(&channel.state).erase(offset);
        // What a run wrote stands in its own log too, as long as that lingers.
        if let (Kind::RunEnd, Some(run)) = (record.kind, id_of(&record.body)) {
            run::forget_now(node, &channel, &run).await;
        }
    }
    channel.write(node, note).await
}

fn newest(channel: &Channel) -> Position {
    lock(&channel.state).core().map(|core| core.newest()).unwrap_or_default()
}

async fn find(
    node: &Arc<Node>,
    channel: &Channel,
    offset: u64,
    epoch: fireside_core::Epoch,
) -> Result<Record, Refusal> {
    let gone = || Refusal::because(Code::UnrecoverablePosition, "there is no record at this position");
    let before = Position::new(epoch, offset - 1);
    let is_there = {
        let state = lock(&channel.state);
        let core = state.core().ok_or(Code::Internal)?;
        core.newest().epoch == epoch && (core.oldest()..=core.newest().offset).contains(&offset)
    };
    if !is_there {
        return Err(gone());
    }
    let found = follow::records(node, channel, before, offset, 1).await?;
    found.into_iter().find(|record| record.offset == offset).ok_or_else(gone)
}
