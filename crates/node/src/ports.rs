//! All that a node needs of its world. Each port has one production form in `server` and one that breaks on purpose in `sim`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use fireside_core::batch::ProposalId;
use fireside_core::checkpoint::Checkpoint;
use fireside_core::event::Outgoing;
use fireside_core::gate::Claims;
use fireside_core::hook::{Answer, Asked, Message, Unanswered};
use fireside_core::{Batch, ChannelName, Disconnect, Durability, Epoch, Request};

/// A boxed future: one per batch, never one per record.
pub type Soon<T> = Pin<Box<dyn Future<Output = T> + Send>>;

// ---------------------------------------------------------------------------------------------------------------- Host

/// Time, randomness and tasks.
pub trait Host: Send + Sync {
    /// Unix time in ms.
    fn now_ms(&self) -> u64;
    /// A clock that never goes back, in ms from an arbitrary start.
    fn monotonic_ms(&self) -> u64;
    /// Unpredictable bits.
    fn random(&self) -> u128;
    /// Runs a task to its end.
    fn spawn(&self, task: Soon<()>);
    /// Ends after `ms`.
    fn sleep(&self, ms: u64) -> Soon<()>;
}

// ----------------------------------------------------------------------------------------------------------------- Log

/// Durable truth.
///
/// An append is compare-and-append: `batch.first() - 1` in `batch.epoch`, written by `batch.previous`, must be where the log ends.
/// What `wake` and `read` show has been committed to the degree that the channel's namespace asks for.
pub trait Log: Send + Sync {
    /// The channel's last checkpoint and the batches after it.
    fn wake(&self, channel: &ChannelName, durability: Durability) -> Soon<Result<Waking, LogFault>>;

    /// Appends, and answers when the degree is reached.
    fn append(&self, batch: Arc<Batch>, durability: Durability) -> Soon<Appended>;

    /// Whole batches that hold the records of `span`, ascending, the first perhaps beginning before it.
    fn read(
        &self,
        channel: &ChannelName,
        durability: Durability,
        span: Span,
    ) -> Soon<Result<Vec<Arc<Batch>>, LogFault>>;

    /// Stores a checkpoint. It is a fact about what is already there, so nothing waits for its durability, except that records
    /// before its `oldest` may be given back only after it is durable.
    fn checkpoint(
        &self,
        channel: &ChannelName,
        durability: Durability,
        checkpoint: Checkpoint,
    ) -> Soon<Result<(), LogFault>>;

    /// Forgets a channel that has no records, keys or open runs: its next life has a later epoch.
    fn forget(&self, channel: &ChannelName, durability: Durability) -> Soon<Result<(), LogFault>>;

    /// The record at this offset becomes a tombstone wherever it is shown from here on; answers when the degree is reached. Its bytes go
    /// with the next compaction.
    fn erase(
        &self,
        channel: &ChannelName,
        durability: Durability,
        epoch: Epoch,
        offset: u64,
    ) -> Soon<Result<(), LogFault>>;

    /// Gives back all that is dead (erased, trimmed, forgotten), whatever it costs; answers when nothing of it is left.
    fn compact(&self) -> Soon<Result<(), LogFault>>;

    /// The channel sleeps: what the log kept in memory for it may go.
    fn slept(&self, _channel: &ChannelName, _durability: Durability) {}
}

/// What a channel wakes with.
#[derive(Clone, Debug, Default)]
pub struct Waking {
    /// The last checkpoint; `None` if there never was one.
    pub checkpoint: Option<Checkpoint>,
    /// The batches after it, in order.
    pub tail: Vec<Arc<Batch>>,
    /// The epoch that a channel without any record adopts with its first.
    pub generation: Epoch,
}

/// What to read: records `after < offset <= until`, at least one, stopping after the batch in which either bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The life of the log; another one is [`LogFault::Gone`].
    pub epoch: Epoch,
    /// The last offset that is not wanted.
    pub after: u64,
    /// The last offset that is wanted: what the channel has absorbed.
    pub until: u64,
    /// Records at most.
    pub records_max: usize,
    /// Cost at most.
    pub bytes_max: usize,
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is there, to the degree asked for.
    Accepted,
    /// The log ends elsewhere: wake the channel again and decide again.
    Conflict,
    /// Nothing was written.
    Refused(LogFault),
    /// Nobody knows: settled by reading, never by guessing.
    Unknown,
}

/// What the log cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFault {
    /// No room; reads go on, and it recovers by itself when space returns.
    Full,
    /// The records are trimmed, erased with their epoch, or damaged.
    Gone,
    /// The disk or the backend failed; the text is for the log, not for clients.
    Failed(Arc<str>),
}

impl fmt::Display for LogFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogFault::Full => f.write_str("the log has no room for more"),
            LogFault::Gone => f.write_str("the records are no longer there"),
            LogFault::Failed(what) => write!(f, "the log failed: {what}"),
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------- Bus

/// Lossy news between nodes.
pub trait Bus: Send + Sync {
    /// Tells the other nodes what was appended.
    fn announce(&self, batch: &Arc<Batch>);
}

/// The bus of a node that is alone.
pub struct Solo;

impl Bus for Solo {
    fn announce(&self, _: &Arc<Batch>) {}
}

// ---------------------------------------------------------------------------------------------------------------- Link

/// The half of a link that brings requests. Polled by the session's one task only.
pub trait Source: Send {
    /// The next request. `None`: the client or the network closed the link. `Err`: the client broke the protocol.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Request, Disconnect>>>;
}

/// The half of a link that takes what a client is told. Called by whoever fans out, under the lock of the session's outbox, so
/// calls never overlap; it never waits.
pub trait Sink: Send + Sync {
    /// Hands over one entry. With `more`, another one follows at once and this one may be held back to share a write with it.
    fn try_send(&self, entry: &Outgoing, more: bool) -> Sent;

    /// Writes the rest of what was begun; ready when another entry can be tried. Called by the session's task only: it alone arms
    /// the waker for writability.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), LinkClosed>>;

    /// Says why, as far as the socket takes it at once, and closes. Nothing is sent afterwards.
    fn close(&self, why: &Disconnect);
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Taken whole.
    Sent,
    /// Taken, but some of it waits for the socket: `poll_ready` before the next entry.
    Partial,
    /// Not taken: `poll_ready`, then try again.
    Full,
    /// Not taken, and nothing ever will be.
    Closed,
}

/// The link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkClosed;

/// The two halves of one client's link and what is known of its peer.
pub struct Link {
    /// Brings requests.
    pub source: Box<dyn Source>,
    /// Takes what the client is told.
    pub sink: Arc<dyn Sink>,
    /// Carrier and protocol, for facts: `websocket/centrifuge-json`.
    pub kind: &'static str,
}

// ---------------------------------------------------------------------------------------------------------------- Keys

/// Signatures in, claims out.
pub trait Keys: Send + Sync {
    /// Checks a token's signature, algorithm and form, and nothing that needs a clock or a policy: that is the gate's.
    ///
    /// # Errors
    /// Why it is not a token of ours; the text bears no part of the token.
    fn claims(&self, token: &str) -> Result<Claims, TokenFault>;
}

/// Why a text is not a token of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFault(pub &'static str);

// ------------------------------------------------------------------------------------------------------------- Backend

/// The application's backend, as far as it is asked.
pub trait Backend: Send + Sync {
    /// Asks about a client of this kind of link (as in [`Link::kind`]), within a bound of time that is the port's. Dropping what is
    /// returned drops the question.
    fn ask(&self, asked: Asked, link: &'static str) -> Soon<Result<Answer, Unanswered>>;
}

/// Nobody to ask: no question is ever answered.
pub struct NoBackend;

impl Backend for NoBackend {
    fn ask(&self, _: Asked, _: &'static str) -> Soon<Result<Answer, Unanswered>> {
        Box::pin(std::future::ready(Err(Unanswered("no backend"))))
    }
}

// ------------------------------------------------------------------------------------------------------------ Provider

/// A model, or something that writes like one.
pub trait Provider: Send + Sync {
    /// Begins one generation. Dropping what is returned drops the request.
    fn generate(&self, prompt: Prompt) -> Box<dyn Generation>;

    /// The name that `run.start` shows.
    fn model(&self) -> Arc<str>;
}

/// One generation under way.
pub trait Generation: Send {
    /// The next piece of it. `None`: the stream ended; without a [`Piece::Finished`] before, it was cut.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, ProviderFault>>>;
}

/// What a run is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The whole prompt, if a backend assembled it; else empty, and the fields below are what there is.
    pub messages: Vec<Message>,
    /// The system text.
    pub system: Arc<str>,
    /// What stands in the channel: who wrote it (empty for a run) and its text, oldest first.
    pub records: Vec<(Arc<str>, String)>,
    /// The `input` of `ai.start`: one JSON value, or empty.
    pub input: bytes::Bytes,
    /// Tokens at most; 0 leaves it to the provider.
    pub tokens_max: u32,
}

/// A piece of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// More text of a kind. A change of kind begins a new part.
    Text {
        /// `text`, `reasoning`, …
        kind: PartKind,
        /// The text.
        text: String,
    },
    /// The model said it was done, and why (`stop`, `length`, …).
    Finished(String),
    /// What it cost: tokens in, tokens out.
    Usage {
        /// Tokens of the prompt.
        input: u64,
        /// Tokens of the answer.
        output: u64,
    },
}

/// What a part of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// For the reader.
    Text,
    /// The model's thinking.
    Reasoning,
}

impl PartKind {
    /// Its name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            PartKind::Text => "text",
            PartKind::Reasoning => "reasoning",
        }
    }
}

/// What went wrong with a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderFault {
    /// A sentence for the run's end; bears no key and no prompt.
    pub message: String,
    /// True if the same request may succeed when tried again; only before the first piece.
    pub retryable: bool,
}

/// A random id that is never 0.
pub fn proposal_id(host: &dyn Host) -> ProposalId {
    ProposalId(host.random() | 1)
}
