//! Something worth counting or auditing. Core and node say facts; metrics, audit and traces are three readers of them.

use std::sync::Arc;

use crate::hook::Hook;
use crate::name::ChannelName;
use crate::refusal::Code;

/// What happened. Bears no body and no secret.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A session began.
    Connected {
        /// Whose.
        user: Arc<str>,
        /// Which.
        client: Arc<str>,
    },
    /// A session ended.
    Disconnected {
        /// Which.
        client: Arc<str>,
        /// The close code.
        code: u16,
    },
    /// A subscription began.
    Subscribed {
        /// Where.
        channel: ChannelName,
    },
    /// A subscription ended.
    Unsubscribed {
        /// Where.
        channel: ChannelName,
    },
    /// Something was refused.
    Refused {
        /// What was asked, in a word of the protocol.
        op: &'static str,
        /// Why.
        code: Code,
        /// By whom.
        user: Arc<str>,
    },
    /// Records are in the log.
    Appended {
        /// How many.
        records: u32,
        /// Their cost in bytes.
        bytes: u32,
        /// From the proposal to the log's answer, in µs.
        append_us: u64,
    },
    /// A known key was answered again.
    Duplicate,
    /// Records were handed to readers of one shard.
    Delivered {
        /// Readers times records.
        records: u64,
    },
    /// A slow reader was sent back to the log.
    Detached,
    /// Ephemeral entries were dropped for a slow reader.
    Dropped {
        /// How many.
        entries: u32,
    },
    /// A page was read from the log for a reader behind the ring.
    PageRead {
        /// How many records.
        records: u32,
    },
    /// A run began.
    RunStarted,
    /// A run ended.
    RunEnded {
        /// `complete`, `cancelled`, …
        status: &'static str,
    },
    /// A backend was asked.
    Asked {
        /// By which hook.
        hook: Hook,
        /// `answered`, or why there was no answer: `timeout`, `unreachable`, …
        outcome: &'static str,
        /// From the question to its outcome, in µs.
        took_us: u64,
    },
    /// A backend's answer could not be used.
    AnswerUnusable {
        /// Of which hook.
        hook: Hook,
        /// What is wrong with it, in a sentence.
        what: &'static str,
    },
    /// The log failed or refused.
    LogFault {
        /// What it said, without names or bodies.
        what: &'static str,
    },
}

/// Who reads facts. Must be quick and must not fail.
pub trait Facts: Send + Sync {
    /// Takes one.
    fn say(&self, fact: Fact);
}

/// Nobody reads them.
pub struct Unheard;

impl Facts for Unheard {
    fn say(&self, _: Fact) {}
}
