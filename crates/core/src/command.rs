//! What a client asks. Nothing in here is trusted yet: the gate turns a command into `Admitted`.

use std::sync::Arc;

use bytes::Bytes;

use crate::filter::FilterNode;
use crate::position::{Claimed, Epoch};

/// A command and the number its reply bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's number for the reply; 0 for commands that have none.
    pub id: u32,
    /// What it asks.
    pub command: Command,
}

/// Everything a client can ask. Channel names are raw text until the gate has read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Who I am. Always the first one.
    Connect(Connect),
    /// Follow a channel.
    Subscribe(Subscribe),
    /// Stop following it.
    Unsubscribe {
        /// The channel.
        channel: String,
    },
    /// Append a record.
    Publish(Publish),
    /// Who is here.
    Presence {
        /// The channel.
        channel: String,
    },
    /// How many are here.
    PresenceStats {
        /// The channel.
        channel: String,
    },
    /// Read what was.
    History(History),
    /// Call a method of the server: ours, or the backend's.
    Rpc {
        /// The method's name.
        method: String,
        /// Its argument: one JSON value, or empty.
        data: Bytes,
    },
    /// Append a record and be told where (rpc `fireside.publish`).
    PublishRpc(Publish),
    /// Start a run (rpc `ai.start`).
    StartRun(StartRun),
    /// Stop a run (rpc `ai.cancel`).
    CancelRun(CancelRun),
    /// A method of ours whose arguments make no sense: error 107.
    Malformed {
        /// What is wrong, in a sentence.
        why: &'static str,
    },
    /// A message that nobody answers.
    Send {
        /// One JSON value.
        data: Bytes,
    },
    /// A newer token for this session.
    Refresh {
        /// The token.
        token: String,
    },
    /// A newer token for one subscription.
    SubRefresh {
        /// The channel.
        channel: String,
        /// The token.
        token: String,
    },
    /// The answer to a ping of ours.
    Pong,
    /// A command whose form is right and which this protocol version names, but which we do not offer: error 108.
    Unsupported,
}

/// The first command of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    /// The token; empty if none was sent.
    pub token: String,
    /// Data for the backend's connect hook.
    pub data: Bytes,
    /// Positions of server-side subscriptions from an earlier session.
    pub subs: Vec<(String, Claimed)>,
    /// The client's name of itself, for metrics.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Follow a channel, fresh or from a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// The channel.
    pub channel: String,
    /// A subscription token; empty if none was sent.
    pub token: String,
    /// Where to go on; `None` for a fresh subscription.
    pub recover: Option<Claimed>,
    /// Asks for the position in the reply.
    pub positioned: bool,
    /// Asks for recovery to be possible later.
    pub recoverable: bool,
    /// Asks for join and leave.
    pub join_leave: bool,
    /// The client wants error 112 in place of `recovered: false`.
    pub reject_unrecovered: bool,
    /// The client takes records as patches (Fossil's deltas) where that is shorter.
    pub patches: bool,
    /// Only records whose tags fit.
    pub filter: Option<Box<FilterNode>>,
    /// A kind of subscription that we do not offer (map, shared poll): error 108.
    pub unsupported: bool,
}

/// Append a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// The channel.
    pub channel: String,
    /// The body: one JSON value.
    pub body: Bytes,
    /// Makes it happen once, however often it is retried.
    pub key: Option<String>,
    /// Append only if this is the newest position.
    pub expected: Option<Claimed>,
    /// Channels without history: the latest with this key wins for a slow reader.
    pub conflate: Option<String>,
    /// Labels; only a backend may set them.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
}

/// Read what was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The channel.
    pub channel: String,
    /// How many records at most: 0 asks for the position only, negative for as many as a page holds.
    pub limit: i32,
    /// After (or, in reverse, before) this position.
    pub since: Option<Claimed>,
    /// Newest first.
    pub reverse: bool,
}

/// Erase a record: its body goes, its offset stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erase {
    /// The channel.
    pub channel: String,
    /// Which record.
    pub offset: u64,
    /// The epoch that the offset counts in; `None` for whatever it is now.
    pub epoch: Option<Epoch>,
    /// Why, for the record that tells of it.
    pub reason: String,
    /// Who wanted it, for the same.
    pub by: String,
}

/// Start a run (rpc `ai.start`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartRun {
    /// The channel the run belongs to.
    pub channel: String,
    /// Makes the start happen once.
    pub key: String,
    /// What the run is asked: one JSON value, or empty.
    pub input: Bytes,
}

/// Stop a run (rpc `ai.cancel`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CancelRun {
    /// The channel the run belongs to.
    pub channel: String,
    /// The run's id, or
    pub run: Option<String>,
    /// the key it was started with.
    pub key: Option<String>,
    /// Why, for the record.
    pub reason: String,
}
