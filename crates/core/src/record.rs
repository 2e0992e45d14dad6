//! One entry of a channel's log.

use std::sync::Arc;

use bytes::Bytes;

/// What a record is to the server. Only the server makes kinds other than [`Kind::Plain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Written by a client or a backend.
    Plain = 0,
    /// A run began: `{type: "run.start", run, by, model, epoch}`.
    RunStart = 1,
    /// Text of a run, in the run's own log: `{type: "run.delta", part, kind, at, text}`.
    RunDelta = 2,
    /// A run took text back, in its own log: `{type: "run.reset", part, to}`.
    RunReset = 3,
    /// A run ended: `{type: "run.end", run, status, text, parts, usage}`.
    RunEnd = 4,
    /// A run has a new owner, whose lower fences are refused from here on.
    RunOwner = 5,
    /// A record whose body was erased.
    Tombstone = 6,
    /// Tells of an erasure: `{type: "erase", of, reason, by}`.
    Erase = 7,
}

impl Kind {
    /// Reads the stored number of a kind.
    pub fn from_stored(number: u8) -> Option<Kind> {
        Some(match number {
            0 => Kind::Plain,
            1 => Kind::RunStart,
            2 => Kind::RunDelta,
            3 => Kind::RunReset,
            4 => Kind::RunEnd,
            5 => Kind::RunOwner,
            6 => Kind::Tombstone,
            7 => Kind::Erase,
            _ => return None,
        })
    }

    /// The value of the tag by which a client knows records that only the server makes.
    pub fn tag(self) -> Option<&'static str> {
        match self {
            Kind::Plain => None,
            Kind::Tombstone => Some("tombstone"),
            Kind::Erase => Some("erase"),
            _ => Some("run"),
        }
    }

    /// True for the kinds that a run writes.
    pub fn is_run(self) -> bool {
        !matches!(self, Kind::Plain | Kind::Tombstone | Kind::Erase)
    }
}

/// Who wrote a record, as others see it. Stamped by the server, never taken from a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// The user's id; empty for an anonymous session.
    pub user: Arc<str>,
    /// The session's id; empty for a backend.
    pub client: Arc<str>,
    /// The token's `info`: JSON, or nothing.
    pub info: Option<Bytes>,
    /// What is public about this subscription: JSON, or nothing. For presence, joins and leaves; records are by whoever wrote them.
    pub sub_info: Option<Bytes>,
}

/// What makes a publish happen once: hashes of (producer, key) and of the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyMark {
    /// Hash of the producer and its key.
    pub id: [u8; 16],
    /// Hash of the request's body, so that the same key with another body can be refused.
    pub body: [u8; 16],
}

/// One entry of a channel's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log, from 1; 0 in a channel without history.
    pub offset: u64,
    /// When it was numbered: Unix time in ms, never below its predecessor's.
    pub time_ms: u64,
    /// What it is to the server.
    pub kind: Kind,
    /// Who wrote it; `None` when a backend did not say.
    pub author: Option<Arc<Author>>,
    /// The mark of its key; never leaves the server.
    pub key: Option<KeyMark>,
    /// In a channel without history: a later record of this author with the same text replaces this one for a slow reader.
    pub conflate: Option<Arc<str>>,
    /// Labels set by a backend.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// The body: one JSON value as it was written, without raw line breaks.
    pub body: Bytes,
}

/// The tag by which a client knows records that only the server makes. Nobody else's tag of that name is ever shown.
pub const OUR_TAG: &str = "fireside";

impl Record {
    /// The value of a tag as clients see it.
    pub fn tag(&self, name: &str) -> Option<&str> {
        if name == OUR_TAG {
            return self.kind.tag();
        }
        self.tags.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }

    /// What stands where this record stood once it is erased: its offset, time and key, and nothing of what it said.
    pub fn tombstone(&self) -> Record {
        Record {
            offset: self.offset,
            time_ms: self.time_ms,
            kind: Kind::Tombstone,
            author: None,
            key: self.key,
            conflate: None,
            tags: Vec::new(),
            body: Bytes::from_static(b"null"),
        }
    }

    /// What this record counts for in every byte budget: its variable parts and a fixed share for the rest.
    pub fn cost(&self) -> usize {
        const FIXED: usize = 64;
        let tags: usize = self.tags.iter().map(|(k, v)| k.len() + v.len()).sum();
        let author = self
            .author
            .as_ref()
            .map_or(0, |a| a.user.len() + a.client.len() + a.info.as_ref().map_or(0, Bytes::len));
        FIXED + self.body.len() + tags + author
    }
}
