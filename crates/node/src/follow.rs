//! Attach or read: the one loop behind subscribing, recovering, falling behind and coming back.
//!
//! Attaching succeeds anywhere inside the channel's ring of recent batches, which hands over the missing ones in the same turn. Only a
//! reader behind the ring reads the log, in pages that are batches, then tries again.

use std::sync::Arc;

use fireside_core::channel::Standing;
use fireside_core::event::Start;
use fireside_core::outbox::SubId;
use fireside_core::position::{Claimed, Position};
use fireside_core::record::Record;
use fireside_core::{Batch, Code, Disconnect, Event, Fact, Refusal, Unsubscribed, limits};

use crate::channel::{Channel, refusal_of};
use crate::ports::{LogFault, Span};
use crate::readers::{Op, Reader};
use crate::session::Session;
use crate::{Node, lock};

enum Attached {
    /// It follows (or the outbox was full already, and it will read on).
    Yes,
    /// It is behind the ring.
    Behind,
    /// Its position is gone.
    Gone,
    /// The subscription ended meanwhile.
    Over,
}

/// Brings a subscription to the tail, or leaves it to [`catch_up`], or tells the client that its position is gone.
pub(crate) fn attach(node: &Arc<Node>, session: &Arc<Session>, sub: SubId) {
    session.begin(sub);
    if let Attached::Gone = try_attach(node, session, sub) {
        lose(node, session, sub);
    }
}

/// One turn of a detached subscription: attach, or read one page.
pub(crate) async fn catch_up(node: Arc<Node>, session: Arc<Session>, sub: SubId) {
    match try_attach(&node, &session, sub) {
        Attached::Yes | Attached::Over => return,
        Attached::Gone => return lose(&node, &session, sub),
        Attached::Behind => {}
    }
    let Some((channel, position)) = session.standing(sub) else { return };
    match read(&node, &channel, position, limits::PAGE_RECORDS_MAX, limits::PAGE_BYTES_MAX).await {
        Ok(page) if page.is_empty() => node.host.sleep(100).await,
        Ok(page) => {
            let records = page.iter().map(|batch| batch.records.len() as u32).sum();
            node.say(Fact::PageRead { records });
            session.offer_page(sub, &page);
        }
        Err(LogFault::Gone) => lose(&node, &session, sub),
        Err(_) => {
            node.say(Fact::LogFault { what: "read" });
            node.host.sleep(100).await;
        }
    }
}

fn try_attach(node: &Arc<Node>, session: &Arc<Session>, sub: SubId) -> Attached {
    let Some((channel, position)) = session.standing(sub) else { return Attached::Over };
    let shard = {
        let mut state = lock(&channel.state);
        state.used(node.host.monotonic_ms());
        let Some(core) = state.core() else { return Attached::Gone };
        let newest = core.newest();
        let is_gone = core.has_history()
            && (position.epoch != newest.epoch
                || position.offset > newest.offset
                || position.offset + 1 < core.oldest());
        if is_gone {
            return Attached::Gone;
        }
        let Some(missing) = state.missing_after(position.offset) else { return Attached::Behind };
        let shard = state.shard();
        let reader = Reader { session: session.clone(), sub };
        shard.push(Op::Attach(reader.clone()));
        if !session.attached(node, sub, &shard, &missing) {
            shard.push(Op::Detach(reader));
        }
        shard
    };
    shard.kick(node);
    Attached::Yes
}

/// The position is gone: the client is told before anything else.
fn lose(node: &Arc<Node>, session: &Arc<Session>, sub: SubId) {
    let Some((channel, _)) = session.standing(sub) else { return };
    let Some(lost) = session.remove_sub(node, &channel.name) else { return };
    if lost.by_server {
        return session.close(Disconnect::INSUFFICIENT_STATE);
    }
    let why = Unsubscribed::INSUFFICIENT_STATE;
    session.tell_in_order(Event::Unsubscribed { channel: channel.name.clone(), why });
}

/// Reads batches after `position`, up to what the channel has absorbed.
pub(crate) async fn read(
    node: &Node,
    channel: &Channel,
    position: Position,
    records_max: usize,
    bytes_max: usize,
) -> Result<Vec<Arc<Batch>>, LogFault> {
    let newest = lock(&channel.state).core().map(|core| core.newest()).unwrap_or_default();
    if newest.epoch != position.epoch {
        return Err(LogFault::Gone);
    }
    if position.offset >= newest.offset {
        return Ok(Vec::new());
    }
    let span =
        Span { epoch: position.epoch, after: position.offset, until: newest.offset, records_max, bytes_max };
    let page = node.log.read(&channel.name, channel.durability(), span).await?;
    if channel.policy.patches {
        page.windows(2).for_each(|pair| pair[1].follows(&pair[0]));
    }
    Ok(page)
}

/// The records after `position` up to offset `until`, from memory if they are there, else from the log.
pub(crate) async fn records(
    node: &Node,
    channel: &Channel,
    position: Position,
    until: u64,
    records_max: usize,
) -> Result<Vec<Record>, Refusal> {
    let in_memory = lock(&channel.state).missing_after(position.offset);
    let batches = match in_memory {
        Some(batches) => batches,
        None => read(node, channel, position, records_max, limits::PAGE_BYTES_MAX)
            .await
            .map_err(|f| refusal_of(&f))?,
    };
    let mut bytes = 0;
    let fits = |record: &&Record| {
        let first = bytes == 0;
        bytes += record.cost();
        record.offset <= until && (first || bytes <= limits::PAGE_BYTES_MAX)
    };
    let all = batches.iter().flat_map(|batch| batch.after(position.offset));
    Ok(all.take(records_max).take_while(fits).cloned().collect())
}

/// Decides where a subscription starts, and what became of the position it was asked to go on from. Answers also where it follows from.
///
/// A fresh one starts at the newest read here, before the reply: what comes later follows it.
pub(crate) async fn start(
    node: &Node,
    channel: &Channel,
    recover: Option<Claimed>,
) -> Result<(Start, Position), Refusal> {
    if channel.policy.history.is_none() {
        return Ok((Start { was_recovering: recover.is_some(), ..Start::default() }, Position::default()));
    }
    let (newest, oldest, standing) = {
        let mut state = lock(&channel.state);
        let now_ms = node.host.now_ms();
        let Some(core) = state.core_mut() else { return Err(Code::Internal.into()) };
        core.trim(now_ms);
        let claimed = recover.filter(|_| channel.policy.recover);
        (core.newest(), core.oldest(), claimed.map(|claimed| core.standing(claimed)))
    };
    let start = Start {
        recoverable: channel.policy.recover,
        positioned: true,
        position: Some(newest),
        was_recovering: recover.is_some(),
        oldest,
        ..Start::default()
    };
    let Some(Standing::Readable(from)) = standing else { return Ok((start, newest)) };
    let page = match records(node, channel, from, newest.offset, limits::PAGE_RECORDS_MAX).await {
        Ok(page) => page,
        // It went while it was read: told like one that was gone before, from where the log stands now.
        Err(refusal) if refusal.code == Code::UnrecoverablePosition => {
            let state = lock(&channel.state);
            let (newest, oldest) =
                state.core().map_or((newest, oldest), |core| (core.newest(), core.oldest()));
            return Ok((Start { position: Some(newest), oldest, ..start }, newest));
        }
        Err(refusal) => return Err(refusal),
    };
    let follow_from = page.last().map_or(from, |last| Position::new(from.epoch, last.offset));
    Ok((Start { recovered: true, position: Some(from), page, ..start }, follow_from))
}
