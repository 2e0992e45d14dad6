//! What a channel must remember beyond its records: with the records after it, a checkpoint is the whole channel.

use std::sync::Arc;

use crate::batch::ProposalId;
use crate::position::Epoch;

/// The state of a channel after record `newest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The life of the log.
    pub epoch: Epoch,
    /// Offset of the oldest record that may be read; `oldest - 1 <= offset <= newest` is a readable position.
    pub oldest: u64,
    /// Offset of the newest record.
    pub newest: u64,
    /// Time stamp of the newest record, Unix ms.
    pub time_ms: u64,
    /// The proposal that wrote the newest record.
    pub proposal: ProposalId,
    /// The cost of all records of this epoch up to `newest`, trimmed ones included.
    pub bytes: u64,
    /// Some places in the log, oldest first, at most [`crate::limits::MARKS_MAX`]: retention by bytes and age trims at these.
    pub marks: Vec<Mark>,
    /// Known keys, oldest first.
    pub keys: Vec<KnownKey>,
    /// Runs that have a start and no end yet.
    pub open_runs: Vec<OpenRun>,
    /// For a run's own log: its terminal record is written, nothing may follow.
    pub closed: bool,
    /// The highest fence seen of a run's owner.
    pub fence: u64,
}

/// A key and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Hash of producer and key.
    pub id: [u8; 16],
    /// Hash of the request's body.
    pub body: [u8; 16],
    /// Offset of its record.
    pub offset: u64,
    /// When it was taken, Unix ms.
    pub time_ms: u64,
    /// For a start of a run: which.
    pub run: Option<Arc<str>>,
}

/// A run that has a start and no end yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// The run's id.
    pub run: Arc<str>,
    /// Offset of its `run.start`.
    pub offset: u64,
    /// Who started it.
    pub by: Arc<str>,
    /// Epoch of the run's own log.
    pub epoch: Epoch,
}

/// A place in the log, and how much stands up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Offset of a record.
    pub offset: u64,
    /// The cost of all records of this epoch up to and including it.
    pub bytes: u64,
    /// Its time stamp, Unix ms.
    pub time_ms: u64,
}
