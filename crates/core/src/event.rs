//! What a client is told.

use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Batch;
use crate::name::ChannelName;
use crate::position::{Epoch, Position};
use crate::record::{Author, Record};
use crate::refusal::{Refusal, Unsubscribed};

/// Everything a client can be told, records apart (those travel as batches).
#[derive(Clone, Debug)]
pub enum Event {
    /// The answer to command `id`.
    Reply {
        /// The command's number.
        id: u32,
        /// The answer.
        reply: Reply,
    },
    /// Somebody came.
    Joined {
        /// Where.
        channel: ChannelName,
        /// Who.
        who: Arc<Author>,
    },
    /// Somebody left.
    Left {
        /// Where.
        channel: ChannelName,
        /// Who.
        who: Arc<Author>,
    },
    /// The server opened a subscription for this client.
    Subscribed {
        /// The channel.
        channel: ChannelName,
        /// Its start.
        start: Start,
    },
    /// The server ended a subscription.
    Unsubscribed {
        /// The channel.
        channel: ChannelName,
        /// Why.
        why: Unsubscribed,
    },
    /// You were too slow for a channel without history.
    Missed {
        /// The channel.
        channel: ChannelName,
        /// How many records, joins and leaves were dropped for this reader just before what follows; what a newer one of the same conflation key
        /// replaced is not among them.
        entries: u64,
    },
    /// Are you there?
    Ping,
}

impl Event {
    /// What an event without records counts for in byte budgets.
    pub const COST: usize = 128;

    /// What this event holds in memory, about: a fixed share, and what a client can make large.
    pub fn cost(&self) -> usize {
        let page = |records: &[Record]| records.iter().map(Record::cost).sum::<usize>();
        let bytes = |data: &Option<Bytes>| data.as_ref().map_or(0, Bytes::len);
        let held = match self {
            Event::Reply { reply: Reply::Subscribed(start), .. } => page(&start.page) + bytes(&start.data),
            Event::Reply { reply: Reply::History(history), .. } => page(&history.records),
            Event::Reply { reply: Reply::Connected(connected), .. } => {
                let subs = connected.subs.iter().map(|(_, start)| Event::COST + page(&start.page));
                subs.sum::<usize>() + bytes(&connected.data)
            }
            Event::Reply { reply: Reply::Rpc(data), .. } => data.len(),
            // The members themselves are shared; what is written of each is not.
            Event::Reply { reply: Reply::Presence(members), .. } => members.len() * Event::COST,
            _ => 0,
        };
        Event::COST + held
    }
}

/// The answer to one command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// No.
    Refused(Refusal),
    /// You are.
    Connected(Box<Connected>),
    /// You follow.
    Subscribed(Box<Start>),
    /// You no longer follow.
    Unsubscribed,
    /// It is in the log (or went out, where there is none).
    Published,
    /// It is in the log, there (rpc `fireside.publish`).
    PublishedAt {
        /// Where; `None` in a channel without history.
        position: Option<Position>,
        /// The key was known: this is the first publish's position.
        duplicate: bool,
    },
    /// The run has started, or had (rpc `ai.start`).
    RunStarted {
        /// Its id.
        run: Arc<str>,
        /// Its own log.
        channel: ChannelName,
        /// The epoch of that log.
        epoch: Epoch,
    },
    /// What the stop met (rpc `ai.cancel`).
    RunCancelled {
        /// `cancelled`, `ended` (there was nothing to stop) or `remembered` (it stops the start that is still to come).
        status: &'static str,
    },
    /// These are here.
    Presence(Vec<Arc<Author>>),
    /// So many are here.
    PresenceStats {
        /// Sessions.
        clients: u32,
        /// Users.
        users: u32,
    },
    /// This is what was.
    History(Box<Page>),
    /// The method's result: one JSON value.
    Rpc(Bytes),
    /// The new token is taken.
    Refreshed {
        /// The session's id.
        client: Arc<str>,
        /// Seconds until it is over; `None` if never.
        ttl_s: Option<u32>,
    },
    /// The new subscription token is taken.
    SubRefreshed {
        /// Seconds until it is over; `None` if never.
        ttl_s: Option<u32>,
    },
}

/// A session has begun.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The session's id, visible to others.
    pub client: Arc<str>,
    /// Seconds until the token is over; `None` if never.
    pub ttl_s: Option<u32>,
    /// Server-side subscriptions.
    pub subs: Vec<(ChannelName, Start)>,
    /// Seconds between pings.
    pub ping_s: u32,
    /// True if the client must answer them.
    pub pong: bool,
    /// Data from the backend's connect hook.
    pub data: Option<Bytes>,
}

/// Where a subscription starts, and what became of the position it was asked to go on from.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The channel has history and may be recovered.
    pub recoverable: bool,
    /// The position is given (positioned or recoverable was asked and is allowed).
    pub positioned: bool,
    /// The newest position, or, when recovered, the position asked for. `None` in a channel without history.
    pub position: Option<Position>,
    /// Recovery was asked for.
    pub was_recovering: bool,
    /// Nothing is missing between the position asked for and what follows.
    pub recovered: bool,
    /// The first page of what was missed.
    pub page: Vec<Record>,
    /// The oldest record still there, told when a position is gone.
    pub oldest: u64,
    /// Seconds until the subscription is over; `None` if never.
    pub ttl_s: Option<u32>,
    /// Data from the backend's subscribe hook.
    pub data: Option<Bytes>,
    /// Records are told as patches of those before them, where that is shorter.
    pub patches: bool,
}

/// A page of history.
#[derive(Clone, Debug)]
pub struct Page {
    /// The records, in the order asked for.
    pub records: Vec<Record>,
    /// The channel's newest position.
    pub newest: Position,
}

/// One entry of an outbox: what a Sink is handed.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// An event.
    Event(Arc<Event>),
    /// The records of `batch` after offset `after` (all of them in a channel without history).
    Records {
        /// The batch, shared.
        batch: Arc<Batch>,
        /// Offset of the last record the reader already has; below `batch.first()` unless the batch is cut.
        after: u64,
        /// For a reader that takes patches: it has every record after this offset up to `after`, and a patch may build on those.
        patches_from: Option<u64>,
    },
}

impl Outgoing {
    /// The channel that it is about. `None` for replies and pings.
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            Outgoing::Records { batch, .. } => Some(&batch.channel),
            Outgoing::Event(event) => match &**event {
                Event::Joined { channel, .. }
                | Event::Left { channel, .. }
                | Event::Subscribed { channel, .. }
                | Event::Unsubscribed { channel, .. }
                | Event::Missed { channel, .. } => Some(channel),
                Event::Reply { .. } | Event::Ping => None,
            },
        }
    }
}

/// Where a reader stands: what it has already, and what patches may build on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Offset of the last record that it has.
    pub after: u64,
    /// See [`Outgoing::Records`].
    pub patches_from: Option<u64>,
}

impl From<u64> for Reached {
    /// A reader that takes no patches.
    fn from(after: u64) -> Self {
        Reached { after, patches_from: None }
    }
}

impl Reached {
    /// The records of `batch` that it has not.
    pub fn rest_of(self, batch: &Arc<Batch>) -> Outgoing {
        Outgoing::Records { batch: batch.clone(), after: self.after, patches_from: self.patches_from }
    }
}
