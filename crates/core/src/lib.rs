//! What is true: names, positions, records, the gate, the channel, the outbox. No runtime, no clock, no randomness, no I/O.
//!
//! | look for | in |
//! |---|---|
//! | what a client asks and is told | [`command`], [`event`], [`refusal`] |
//! | what a backend that writes runs asks and is told | [`produce`] |
//! | who may do what | [`gate`], [`namespace`] |
//! | what a backend is asked, and answers | [`hook`] |
//! | how records get their numbers | [`channel`] |
//! | what a session is still owed | [`outbox`] |
//! | every bound | [`limits`] |

pub mod batch;
pub mod channel;
pub mod checkpoint;
pub mod command;
pub mod event;
pub mod fact;
pub mod filter;
pub mod gate;
pub mod hook;
pub mod limits;
pub mod name;
pub mod namespace;
pub mod outbox;
pub mod position;
pub mod produce;
pub mod record;
pub mod refusal;

pub use batch::{Batch, ProposalId};
pub use checkpoint::{Checkpoint, KnownKey, Mark, OpenRun};
pub use command::{Command, Request};
pub use event::{Event, Outgoing, Reached, Reply};
pub use fact::{Fact, Facts};
pub use filter::{FilterNode, TagFilter};
pub use hook::Hook;
pub use name::ChannelName;
pub use namespace::{Durability, Namespace, Namespaces};
pub use position::{Claimed, Epoch, Position};
pub use record::{Author, Kind, Record};
pub use refusal::{Code, Disconnect, Refusal, Unsubscribed};
