//! What a backend asks of the runs that it writes itself, and what it is told.

use std::sync::Arc;

use bytes::Bytes;

use crate::channel::run::{Change, End, Part, Status, Usage};
use crate::name::ChannelName;
use crate::position::{Epoch, Position};

/// Begin a run that the asking backend writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BeginRun {
    /// The channel the run belongs to.
    pub channel: String,
    /// Makes the start happen once.
    pub key: String,
    /// The user on whose behalf it runs: who may stop it as their own. Empty for nobody.
    pub by: String,
    /// What writes it, for the record. Empty if that is nobody's business.
    pub model: String,
    /// What it was asked: one JSON value, or empty. Not kept; the same key with another input is refused.
    pub input: Bytes,
}

/// Add to a run, or, with no changes, only say that its backend lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendRun {
    /// The channel the run belongs to.
    pub channel: String,
    /// The run.
    pub run: String,
    /// What to do to its text, in this order. All fit, or none is done.
    pub changes: Vec<Change>,
}

/// End a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndRun {
    /// The channel the run belongs to.
    pub channel: String,
    /// The run.
    pub run: String,
    /// How it ended.
    pub status: Status,
    /// What it cost, if that is known.
    pub usage: Option<Usage>,
    /// Why it ended, in a sentence. Empty for none.
    pub reason: String,
}

/// Read a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRun {
    /// The channel the run belongs to.
    pub channel: String,
    /// The run.
    pub run: String,
}

/// A run has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunBegun {
    /// Its id.
    pub run: Arc<str>,
    /// Its own log.
    pub log: ChannelName,
    /// That log's epoch.
    pub epoch: Epoch,
    /// It began with an earlier call with this key.
    pub duplicate: bool,
    /// Within so many ms something must be heard of it, again and again.
    pub lease_ms: u64,
}

/// Who stopped a run, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Who, if it was a user.
    pub by: Option<Arc<str>>,
    /// Why, if they said.
    pub reason: Option<String>,
}

/// What was asked for is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAppended {
    /// The newest position of the run's log.
    pub position: Position,
    /// Where its text ends.
    pub end: End,
    /// Within so many ms something must be heard again.
    pub lease_ms: u64,
    /// Somebody stopped the run: nothing was added, and nothing more will be.
    pub cancelled: Option<Cancelled>,
}

/// A run has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnded {
    /// How: what came first counts.
    pub status: Status,
    /// It had ended before this call.
    pub duplicate: bool,
    /// Somebody stopped it.
    pub cancelled: Option<Cancelled>,
}

/// A run as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunState {
    /// Its own log.
    pub log: ChannelName,
    /// The newest position of that.
    pub position: Position,
    /// How it ended; `None` while it is open.
    pub status: Option<Status>,
    /// Its text, part by part.
    pub parts: Vec<Part>,
    /// Where that ends.
    pub end: End,
    /// What it cost, if that is known.
    pub usage: Option<Usage>,
    /// Who stopped it.
    pub by: Option<Arc<str>>,
    /// Why it ended.
    pub reason: Option<String>,
}
