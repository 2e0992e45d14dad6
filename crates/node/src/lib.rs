//! How it moves: sessions, channels, and the loop that keeps a reader at the tail of its log.
//!
//! Start reading at [`session`]: one client, from its commands through the gate to channels, and from its outbox to its link.
//!
//! | look for | in |
//! |---|---|
//! | one client | [`session`], what it may ask in `commands` |
//! | one awake channel: gather, append, acknowledge, fan out | [`channel`] |
//! | its readers, in shards | `readers` |
//! | attach or read: subscribing, recovering, falling behind | `follow` |
//! | which channels are awake | `directory` |
//! | one AI run | `run` |
//! | asking a backend | `hooks` |
//! | what a backend may do | `api`, `erase` |
//! | all that a node needs of its world | [`ports`] |

mod api;
pub mod channel;
mod commands;
pub mod conformance;
mod directory;
mod erase;
mod follow;
mod hooks;
pub mod ports;
mod probe;
mod readers;
mod run;
pub mod session;
mod sessions;
mod slot;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fireside_core::gate::Gate;
use fireside_core::{Disconnect, Fact, Facts, limits};

pub use api::{Here, Info};
use directory::Directory;
use ports::{Backend, Bus, Host, Keys, Link, Log, Provider};
pub use probe::Peaks;
use run::Runs;
use sessions::Sessions;

/// What a node is told about itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time between pings, in ms.
    pub ping_ms: u64,
    /// Time within which the answer must come, in ms.
    pub pong_ms_max: u64,
    /// Bytes of records that wait for one session.
    pub outbox_bytes_max: usize,
    /// Sessions at most.
    pub sessions_max: usize,
    /// Channels awake at most.
    pub channels_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            ping_ms: 25_000,
            pong_ms_max: 8_000,
            outbox_bytes_max: 1024 * 1024,
            sessions_max: limits::SESSIONS_MAX,
            channels_max: limits::CHANNELS_AWAKE_MAX,
        }
    }
}

/// Everything a node is made of.
pub struct Parts {
    /// The gate, with its namespaces.
    pub gate: Gate,
    /// Time, randomness, tasks.
    pub host: Arc<dyn Host>,
    /// Durable truth.
    pub log: Arc<dyn Log>,
    /// News to other nodes.
    pub bus: Arc<dyn Bus>,
    /// Tokens.
    pub keys: Arc<dyn Keys>,
    /// Whom hooks ask.
    pub backend: Arc<dyn Backend>,
    /// Models, by the name that namespaces call them by.
    pub providers: BTreeMap<Arc<str>, Arc<dyn Provider>>,
    /// Who reads facts.
    pub facts: Arc<dyn Facts>,
    /// What it is told about itself.
    pub settings: Settings,
}

/// One node: its sessions, its awake channels, its runs.
pub struct Node {
    pub(crate) gate: Gate,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) providers: BTreeMap<Arc<str>, Arc<dyn Provider>>,
    pub(crate) facts: Arc<dyn Facts>,
    pub(crate) settings: Settings,
    pub(crate) directory: Directory,
    pub(crate) sessions: Sessions,
    pub(crate) runs: Runs,
    pub(crate) id: Arc<str>,
}

impl Node {
    /// A node made of these parts. It does nothing until it is started.
    pub fn new(parts: Parts) -> Arc<Node> {
        let id = Arc::from(uuid(&*parts.host));
        Arc::new(Node {
            sessions: Sessions::new(parts.settings.sessions_max),
            directory: Directory::new(parts.settings.channels_max),
            runs: Runs::default(),
            gate: parts.gate,
            host: parts.host,
            log: parts.log,
            bus: parts.bus,
            keys: parts.keys,
            backend: parts.backend,
            providers: parts.providers,
            facts: parts.facts,
            settings: parts.settings,
            id,
        })
    }

    /// Settles what an earlier life left open, then begins to look after sessions and quiet channels. Before anybody listens.
    pub async fn start(self: &Arc<Self>) {
        run::settle_all(self).await;
        self.host.spawn(Box::pin(sessions::sweep(self.clone())));
    }

    /// Takes a client's link and looks after it until it ends.
    pub fn serve(self: &Arc<Self>, link: Link) -> session::Driver {
        session::Driver::new(self.clone(), link)
    }

    /// Ends everything in order: runs first, whose ends readers still see, then sessions, then channels write what they know.
    pub async fn shut_down(self: &Arc<Self>) {
        self.sessions.refuse_new();
        run::interrupt_all(self).await;
        for session in self.sessions.all() {
            session.close(Disconnect::SHUTDOWN);
        }
        self.directory.save_all(self).await;
    }

    pub(crate) fn say(&self, fact: Fact) {
        self.facts.say(fact);
    }
}

/// A lock that a panic elsewhere does not take away: what it guards is changed in whole steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A random id in the form of a UUID, version 4 (RFC 9562 §5.4).
pub(crate) fn uuid(host: &dyn Host) -> String {
    let bits = host.random() & !(0xf << 76) | (4 << 76);
    let bits = bits & !(3 << 62) | (2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
