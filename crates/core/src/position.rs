//! Where a reader is in a channel's log.

use std::fmt;

/// One life of a channel's log. It changes exactly when a reader could otherwise be lied to; later lives are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of a position that some other server gave out: no log ever bears it, so it matches none.
    pub const FOREIGN: Epoch = Epoch(u64::MAX);
}

/// The last record a reader has, or may begin after: offsets are dense and start at 1, so 0 is "before everything".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The life of the log that `offset` counts in.
    pub epoch: Epoch,
    /// Offset of the last record at or before this position.
    pub offset: u64,
}

impl Position {
    /// The position after record `offset` of `epoch`.
    pub const fn new(epoch: Epoch, offset: u64) -> Self {
        Position { epoch, offset }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.offset, self.epoch)
    }
}

/// A position as a client gives it: nothing about it is trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The epoch it names; `None` ("" on the wire) is valid with offset 0 only and means "from the beginning".
    pub epoch: Option<Epoch>,
    /// The offset it names.
    pub offset: u64,
}
