//! The suites that every Log and every Link must pass, whoever runs the futures: the caller brings its own `block_on`.
//!
//! A suite panics at the first thing that is not as the port says, with a sentence that names it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use fireside_core::batch::ProposalId;
use fireside_core::{
    Batch, ChannelName, Checkpoint, Disconnect, Durability, Epoch, Event, Kind, Outgoing, Position, Reached,
    Record,
};

use crate::ports::{Appended, Link, Log, LogFault, Sent, Sink, Soon, Span, Waking};

/// Runs a future to its end.
pub type Run<'a> = &'a dyn Fn(Soon<()>);

// ----------------------------------------------------------------------------------------------------------------- log

/// What every Log must do, each story with a log of its own that nobody else uses.
pub fn log(run: Run<'_>, fresh: &dyn Fn() -> Arc<dyn Log>, durability: Durability) {
    let story = || Writer { log: fresh(), durability, channel: name("conform:1"), end: None };
    run(Box::pin(begins_empty(story())));
    run(Box::pin(keeps_what_it_accepted(story())));
    run(Box::pin(compares_before_it_appends(story())));
    run(Box::pin(reads_whole_batches(story())));
    run(Box::pin(wakes_with_the_checkpoint_and_what_follows(story())));
    run(Box::pin(says_what_is_gone(story())));
    run(Box::pin(forgets_into_a_later_epoch(story())));
    run(Box::pin(keeps_channels_apart(story())));
    run(Box::pin(shows_nothing_of_what_was_erased(story())));
}

/// Somebody who appends where the log ends.
struct Writer {
    log: Arc<dyn Log>,
    durability: Durability,
    channel: ChannelName,
    /// The newest position and the proposal that wrote it, once it is known.
    end: Option<(Position, ProposalId)>,
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).expect("a name of ours")
}

fn record(offset: u64) -> Record {
    Record {
        offset,
        time_ms: 1_000 + offset,
        kind: Kind::Plain,
        author: None,
        key: None,
        conflate: None,
        tags: Vec::new(),
        body: format!("\"record {offset}\"").into(),
    }
}

impl Writer {
    async fn wake(&self) -> Waking {
        self.log.wake(&self.channel, self.durability).await.expect("a channel wakes")
    }

    async fn end(&mut self) -> (Position, ProposalId) {
        if let Some(end) = self.end {
            return end;
        }
        let waking = self.wake().await;
        let base = waking.checkpoint.map(|known| (Position::new(known.epoch, known.newest), known.proposal));
        let last = waking.tail.last().map(|batch| (batch.end(), batch.proposal));
        let end = last.or(base).unwrap_or((Position::new(waking.generation, 0), ProposalId(0)));
        self.end = Some(end);
        end
    }

    fn batch(&self, after: (Position, ProposalId), records: u64) -> Arc<Batch> {
        let (at, previous) = after;
        let proposal = ProposalId(u128::from(at.offset + 1) << 64 | u128::from(at.epoch.0));
        let records = (at.offset + 1..=at.offset + records).map(record).collect();
        Batch::new(self.channel.clone(), at.epoch, proposal, previous, records)
    }

    async fn append(&mut self, records: u64) -> Arc<Batch> {
        let end = self.end().await;
        let batch = self.batch(end, records);
        let appended = self.log.append(batch.clone(), self.durability).await;
        assert_eq!(appended, Appended::Accepted, "what continues the log is accepted");
        self.end = Some((batch.end(), batch.proposal));
        batch
    }

    async fn read(&self, span: Span) -> Result<Vec<Arc<Batch>>, LogFault> {
        self.log.read(&self.channel, self.durability, span).await
    }

    async fn offsets(&mut self, after: u64) -> Vec<u64> {
        let (end, _) = self.end().await;
        let (mut at, mut offsets) = (after, Vec::new());
        while at < end.offset {
            let page = self.read(span(end.epoch, at, end.offset)).await.expect("what is there can be read");
            assert!(!page.is_empty(), "a page of what is there holds at least one record");
            for batch in page {
                offsets.extend(batch.after(at).iter().map(|record| record.offset));
                at = at.max(batch.last());
            }
        }
        offsets
    }

    fn checkpoint(&self, oldest: u64) -> Checkpoint {
        let (end, proposal) = self.end.expect("something was appended");
        Checkpoint {
            epoch: end.epoch,
            oldest,
            newest: end.offset,
            time_ms: 1_000 + end.offset,
            proposal,
            ..Checkpoint::default()
        }
    }

    async fn save(&self, oldest: u64) {
        let saved = self.log.checkpoint(&self.channel, self.durability, self.checkpoint(oldest)).await;
        assert_eq!(saved, Ok(()), "a checkpoint of what is there is stored");
        self.settle().await;
    }

    /// Makes durable what nobody waits for: an acknowledgement elsewhere comes after everything that was written before it.
    async fn settle(&self) {
        let elsewhere = name("conform:elsewhere");
        let mut other =
            Writer { log: self.log.clone(), durability: self.durability, channel: elsewhere, end: None };
        Box::pin(other.append(1)).await;
    }
}

fn span(epoch: Epoch, after: u64, until: u64) -> Span {
    Span { epoch, after, until, records_max: 100, bytes_max: 1 << 20 }
}

async fn begins_empty(writer: Writer) {
    let waking = writer.wake().await;
    assert!(waking.checkpoint.is_none() && waking.tail.is_empty(), "a channel that never was is empty");
    assert!(waking.generation > Epoch(0), "it has an epoch before its first record");
    let again = writer.wake().await;
    assert_eq!(again.generation, waking.generation, "looking at it changes nothing");
}

async fn keeps_what_it_accepted(mut writer: Writer) {
    let generation = writer.wake().await.generation;
    for records in [1, 3, 1, 40] {
        writer.append(records).await;
    }
    assert_eq!(writer.end().await.0, Position::new(generation, 45), "the first record adopts the generation");
    assert_eq!(
        writer.offsets(0).await,
        (1..=45).collect::<Vec<_>>(),
        "everything is there, once and in order"
    );
    let tail = writer.wake().await.tail;
    let bodies: Vec<_> = tail.iter().flat_map(|batch| batch.records.iter().map(|r| r.body.clone())).collect();
    assert_eq!(
        bodies,
        (1..=45).map(|offset| record(offset).body).collect::<Vec<_>>(),
        "and it is what was written"
    );
}

async fn compares_before_it_appends(mut writer: Writer) {
    writer.append(2).await;
    let end = writer.append(1).await.end();
    let (_, proposal) = writer.end.expect("it was appended");
    let wrong = [
        ("an offset too low", (Position::new(end.epoch, end.offset - 1), proposal)),
        ("an offset too high", (Position::new(end.epoch, end.offset + 1), proposal)),
        ("another epoch", (Position::new(Epoch(end.epoch.0 + 1), end.offset), proposal)),
        ("another predecessor", (end, ProposalId(99))),
    ];
    for (what, after) in wrong {
        let appended = writer.log.append(writer.batch(after, 1), writer.durability).await;
        assert_eq!(appended, Appended::Conflict, "{what} is a conflict");
    }
    writer.end = None;
    assert_eq!(writer.end().await.0, end, "a conflict writes nothing");
    writer.append(1).await;
}

async fn reads_whole_batches(mut writer: Writer) {
    for _ in 0..4 {
        writer.append(3).await;
    }
    let (end, _) = writer.end().await;
    let page = writer.read(span(end.epoch, 4, end.offset)).await.expect("it is there");
    assert!(
        page[0].first() <= 5 && page[0].last() >= 5,
        "the first batch holds the first record that is wanted"
    );
    let few = Span { records_max: 1, ..span(end.epoch, 3, end.offset) };
    let page = writer.read(few).await.expect("it is there");
    assert_eq!(page.len(), 1, "reading stops after the batch in which a bound is reached");
    let small = Span { bytes_max: 1, ..span(end.epoch, 0, end.offset) };
    assert_eq!(writer.read(small).await.expect("it is there").len(), 1, "at least one record is read");
    let until = writer.read(span(end.epoch, 0, 4)).await.expect("it is there");
    assert!(until.iter().all(|batch| batch.first() <= 4), "nothing is read beyond what is wanted");
}

async fn wakes_with_the_checkpoint_and_what_follows(mut writer: Writer) {
    writer.append(5).await;
    writer.save(1).await;
    let after = writer.append(2).await;
    let waking = writer.wake().await;
    assert_eq!(waking.checkpoint.map(|known| known.newest), Some(5), "the last checkpoint is there");
    let tail: Vec<_> = waking.tail.iter().map(|batch| batch.proposal).collect();
    assert_eq!(tail, [after.proposal], "and only what follows it");
    writer.log.slept(&writer.channel, writer.durability);
    assert_eq!(writer.offsets(0).await, (1..=7).collect::<Vec<_>>(), "sleeping loses nothing");
}

async fn says_what_is_gone(mut writer: Writer) {
    for _ in 0..3 {
        writer.append(3).await;
    }
    let (end, _) = writer.end().await;
    let other = writer.read(span(Epoch(end.epoch.0 + 1), 0, end.offset)).await;
    assert_eq!(other.err(), Some(LogFault::Gone), "another epoch is gone");
    writer.save(7).await;
    let trimmed = writer.read(span(end.epoch, 5, end.offset)).await;
    assert_eq!(
        trimmed.err(),
        Some(LogFault::Gone),
        "what is before the oldest is gone ({:?})",
        writer.durability
    );
    assert_eq!(writer.offsets(6).await, [7, 8, 9], "and nothing else");
}

async fn forgets_into_a_later_epoch(mut writer: Writer) {
    let before = writer.append(2).await.end();
    writer.save(3).await;
    let forgotten = writer.log.forget(&writer.channel, writer.durability).await;
    assert_eq!(forgotten, Ok(()), "a channel can be forgotten");
    writer.settle().await;
    let waking = writer.wake().await;
    assert!(waking.checkpoint.is_none() && waking.tail.is_empty(), "nothing of it is left");
    assert!(waking.generation > before.epoch, "its next life has a later epoch");
    writer.end = None;
    assert_eq!(writer.append(1).await.first(), 1, "which begins at 1");
}

async fn shows_nothing_of_what_was_erased(mut writer: Writer) {
    for _ in 0..3 {
        writer.append(3).await;
    }
    writer.save(1).await;
    writer.append(2).await;
    let (end, _) = writer.end().await;
    for offset in [5, 11] {
        let erased = writer.log.erase(&writer.channel, writer.durability, end.epoch, offset).await;
        assert_eq!(erased, Ok(()), "a record that is there can be erased");
    }
    let other = writer.log.erase(&writer.channel, writer.durability, Epoch(end.epoch.0 + 1), 5).await;
    assert!(other.is_err(), "one of another epoch cannot");
    for compacted in [false, true] {
        if compacted {
            assert_eq!(writer.log.compact().await, Ok(()), "a log can be compacted");
        }
        assert_eq!(writer.offsets(0).await, (1..=11).collect::<Vec<_>>(), "offsets stay");
        let (mut at, mut shown) = (0, Vec::new());
        while at < end.offset {
            for batch in writer.read(span(end.epoch, at, end.offset)).await.expect("it is there") {
                shown.extend(batch.after(at).iter().map(|record| (record.kind, record.body.clone())));
                at = batch.last();
            }
        }
        for (index, (kind, body)) in shown.iter().enumerate() {
            let offset = index as u64 + 1;
            let is_erased = [5, 11].contains(&offset);
            assert_eq!(*kind == Kind::Tombstone, is_erased, "a tombstone stands for an erased record");
            assert_eq!(*body != record(offset).body, is_erased, "and only for that");
        }
        let tail = writer.wake().await.tail;
        let last = tail.last().and_then(|batch| batch.records.last()).map(|record| record.kind);
        assert_eq!(last, Some(Kind::Tombstone), "whoever wakes sees it too");
    }
}

async fn keeps_channels_apart(mut writer: Writer) {
    let mut other = Writer {
        log: writer.log.clone(),
        durability: writer.durability,
        channel: name("conform:2"),
        end: None,
    };
    for _ in 0..3 {
        writer.append(2).await;
        other.append(1).await;
    }
    assert_eq!(writer.offsets(0).await.len(), 6, "a channel has its own records");
    assert_eq!(other.offsets(0).await.len(), 3, "and so has another");
}

// ---------------------------------------------------------------------------------------------------------------- sink

/// The client's end of a link under test.
pub trait Peer: Send {
    /// The offset of the next record that arrives, 0 for an event; `None` once the link is over.
    fn take(&mut self) -> Soon<Option<u64>>;

    /// The client goes without a word.
    fn leave(&mut self);
}

/// A link and its client's end.
pub struct Rig {
    /// The node's end.
    pub link: Link,
    /// The client's end.
    pub peer: Box<dyn Peer>,
}

/// Entries after which a link that nobody reads must have said that it is full, unless its buffers are beyond reason.
const UNREAD_MAX: u64 = 20_000;

/// What every Sink must do, each story with a link of its own.
pub fn sink(run: Run<'_>, fresh: &dyn Fn() -> Rig) {
    run(Box::pin(brings_everything_in_order(fresh())));
    run(Box::pin(never_waits_for_a_reader(fresh())));
    run(Box::pin(says_nothing_after_it_is_closed(fresh())));
    run(Box::pin(notices_that_the_client_is_gone(fresh())));
}

fn entry(offset: u64) -> Outgoing {
    let mut one = record(offset);
    one.body = format!("\"{}\"", "x".repeat(if offset.is_multiple_of(7) { 9_000 } else { 900 })).into();
    let proposal = ProposalId(u128::from(offset));
    let batch = Batch::new(name("conform:1"), Epoch(1), proposal, ProposalId(0), vec![one]);
    Reached::from(offset - 1).rest_of(&batch)
}

/// Sends one entry, waiting for the socket where it must. False if the link is closed.
async fn send(sink: &Arc<dyn Sink>, entry: &Outgoing) -> bool {
    loop {
        match sink.try_send(entry, false) {
            Sent::Sent => return true,
            Sent::Partial => return poll_fn(|cx| sink.poll_ready(cx)).await.is_ok(),
            Sent::Full if poll_fn(|cx| sink.poll_ready(cx)).await.is_ok() => {}
            Sent::Full | Sent::Closed => return false,
        }
    }
}

/// Runs two futures until both are done.
async fn both(first: impl Future<Output = ()>, second: impl Future<Output = ()>) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let mut done = (false, false);
    poll_fn(|cx| {
        done.0 = done.0 || first.as_mut().poll(cx).is_ready();
        done.1 = done.1 || second.as_mut().poll(cx).is_ready();
        if done == (true, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn expect(peer: &mut dyn Peer, offsets: std::ops::RangeInclusive<u64>) {
    for offset in offsets {
        assert_eq!(peer.take().await, Some(offset), "every entry arrives whole, once and in order");
    }
}

async fn brings_everything_in_order(rig: Rig) {
    let Rig { link: Link { source: _source, sink, .. }, mut peer } = rig;
    let writes = async {
        for offset in 1..=300 {
            assert!(send(&sink, &entry(offset)).await, "an open link takes entries");
        }
        assert!(send(&sink, &Outgoing::Event(Arc::new(Event::Ping))).await, "and events");
    };
    let reads = async {
        expect(&mut *peer, 1..=300).await;
        assert_eq!(peer.take().await, Some(0), "events keep their place among records");
    };
    both(writes, reads).await;
}

async fn never_waits_for_a_reader(rig: Rig) {
    let Rig { link: Link { source: _source, sink, .. }, mut peer } = rig;
    let mut last = 0;
    let refused = loop {
        last += 1;
        assert!(last < UNREAD_MAX, "a link that nobody reads says at last that it is full");
        match sink.try_send(&entry(last), false) {
            Sent::Sent => {}
            Sent::Partial => break false,
            Sent::Full => break true,
            Sent::Closed => panic!("a reader that is slow is not gone"),
        }
    };
    let writes = async {
        if !refused {
            poll_fn(|cx| sink.poll_ready(cx)).await.expect("the link is open");
        }
        let rest = if refused { last } else { last + 1 };
        for offset in rest..=last + 20 {
            assert!(send(&sink, &entry(offset)).await, "it goes on once the reader does");
        }
    };
    both(writes, expect(&mut *peer, 1..=last + 20)).await;
}

async fn says_nothing_after_it_is_closed(rig: Rig) {
    let Rig { link: Link { source: _source, sink, .. }, mut peer } = rig;
    assert_ne!(sink.try_send(&entry(1), false), Sent::Closed, "an open link is not closed");
    sink.close(&Disconnect::SHUTDOWN);
    assert_eq!(sink.try_send(&entry(2), false), Sent::Closed, "a closed link takes nothing");
    let mut seen = Vec::new();
    while let Some(offset) = peer.take().await {
        seen.push(offset);
    }
    assert!(seen.is_empty() || seen == [1], "nothing follows the close");
}

async fn notices_that_the_client_is_gone(rig: Rig) {
    let Rig { link: Link { source: _source, sink, .. }, mut peer } = rig;
    peer.leave();
    for offset in 1..UNREAD_MAX {
        if !send(&sink, &entry(offset)).await {
            return;
        }
    }
    panic!("a link whose client is gone says at last that it is closed");
}
