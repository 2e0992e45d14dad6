//! How it is kept: one segmented log for all channels, over a small [`Disk`] port. No threads, no clock, no randomness of its own.
//!
//! | look for | in |
//! |---|---|
//! | what a disk must do | [`Disk`], [`File`] |
//! | committing, syncing, waking, reading | [`Store`] |
//! | the bytes of a group and of an entry | [`group`], [`format`] |
//! | a channel out of its entries | `chain` |
//! | opening: torn tails, damage, epochs | `repair` |
//! | following everything that is committed | [`Follower`] |
//! | giving back what is dead: when it is worth it; when it is asked for | `compact`; `purge` |
//! | one file that holds everything | [`backup()`], [`restore`] |
//! | verifying everything | [`check`] |
//! | a log without a disk | [`Memory`] |

mod backup;
mod cache;
mod chain;
pub mod check;
mod codec;
mod compact;
mod disk;
mod follow;
pub mod format;
pub mod group;
mod hash;
mod index;
mod memory;
mod meta;
mod purge;
mod repair;
mod segment;
mod slots;
mod spare;
mod store;
mod walk;
mod write;

pub use backup::{BackedUp, backup, restore};
pub use check::{CheckReport, check};
pub use codec::Malformed;
pub use compact::Maintained;
pub use disk::{Disk, File};
pub use follow::{Followed, Follower};
pub use memory::Memory;
pub use purge::Purged;
pub use repair::{Damage, OpenReport, Torn};
pub use store::{Committed, Entry, Options, Outcome, ReadFault, Span, Start, Stat, Store, StoreFault, Woken};
