//! A namespace: the policy of the channels whose names begin alike.

use std::sync::Arc;

use crate::hook::Hooks;
use crate::limits;
use crate::name::ChannelName;

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// On the disk: survives the machine's power cut.
    #[default]
    Fsync,
    /// With the operating system: survives a kill of the process.
    Os,
    /// In this process: survives nothing.
    Memory,
}

/// How much of a channel is kept. Each bound trims a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Records at most.
    pub records: u64,
    /// Bytes (costs) at most.
    pub bytes: u64,
    /// Age at most, in ms.
    pub age_ms: u64,
}

/// Who may do something besides those whose token has the capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Who {
    /// Nobody.
    #[default]
    Caps,
    /// Whoever is subscribed to the channel in this session.
    Subscriber,
    /// Whoever has a token with a user in it.
    User,
    /// Every session.
    Anyone,
}

/// The four things that `allow` opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Following.
    pub subscribe: Who,
    /// Writing.
    pub publish: Who,
    /// Reading what was.
    pub history: Who,
    /// Seeing who is there.
    pub presence: Who,
}

/// What happens to a start while a run is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenActive {
    /// It is refused.
    #[default]
    Reject,
    /// Both run.
    Concurrent,
}

/// How runs behave here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPolicy {
    /// While one is active.
    pub when_active: WhenActive,
    /// Time between two flushes of text, in ms.
    pub pace_ms: u64,
    /// Text of one run at most, in bytes; at the bound it ends as `budget`.
    pub text_bytes_max: usize,
    /// How long a run's own log stays after its end, in ms.
    pub linger_ms: u64,
    /// The system text of the prompt that the server assembles by itself.
    pub system: Arc<str>,
    /// The provider's name in the configuration.
    pub provider: Arc<str>,
    /// First token within, in ms.
    pub first_token_ms_max: u64,
    /// Next token within, in ms; keep-alives are not progress.
    pub idle_ms_max: u64,
    /// The whole run within, in ms.
    pub total_ms_max: u64,
    /// How long a run whose backend says nothing stays open, in ms.
    pub lease_ms: u64,
}

impl Default for RunPolicy {
    fn default() -> Self {
        RunPolicy {
            when_active: WhenActive::Reject,
            pace_ms: 40,
            text_bytes_max: limits::RUN_TEXT_BYTES_MAX,
            linger_ms: 600_000,
            system: Arc::from(""),
            provider: Arc::from("default"),
            first_token_ms_max: 30_000,
            idle_ms_max: 30_000,
            total_ms_max: 600_000,
            lease_ms: limits::RUN_LEASE_MS,
        }
    }
}

/// A check of bodies, compiled from a JSON Schema where the server lives: the regular expressions and reference resolution that
/// it needs have no place in a pure crate.
pub trait Schema: Send + Sync {
    /// Checks one JSON value.
    ///
    /// # Errors
    /// A JSON list of `{path, keyword, message}`, bounded in length.
    fn check(&self, body: &[u8]) -> Result<(), String>;
}

/// The policy of the channels of one namespace.
#[derive(Clone)]
pub struct Namespace {
    /// Its name: `story`, or `story/live` for the channels `story:…/live`.
    pub name: Arc<str>,
    /// What is kept; `None`: a channel without history.
    pub history: Option<Retention>,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Members are tracked.
    pub presence: bool,
    /// Coming and going is told to those who ask.
    pub join_leave: bool,
    /// Coming and going is told to those who did not ask, too.
    pub join_leave_push: bool,
    /// A reader may come back to its position.
    pub recover: bool,
    /// A reader may take records as patches of those before them.
    pub patches: bool,
    /// A reader may ask for the records whose tags fit a filter of its own.
    pub tags_filter: bool,
    /// Who may, besides those with a capability.
    pub allow: Allow,
    /// Where a backend has the last word.
    pub hooks: Hooks,
    /// What a body must look like.
    pub schema: Option<Arc<dyn Schema>>,
    /// Runs; `None`: there are none here.
    pub run: Option<RunPolicy>,
    /// Bytes of one record's body at most.
    pub record_bytes_max: usize,
    /// Keys remembered per channel at most.
    pub dedup_keys_max: usize,
    /// How long keys are remembered, in ms.
    pub dedup_window_ms: u64,
}

impl Namespace {
    /// A namespace that keeps nothing and allows nobody: what configuration builds upon.
    pub fn closed(name: &str) -> Self {
        Namespace {
            name: Arc::from(name),
            history: None,
            durability: Durability::Fsync,
            presence: false,
            join_leave: false,
            join_leave_push: false,
            recover: false,
            patches: false,
            tags_filter: false,
            allow: Allow::default(),
            hooks: Hooks::default(),
            schema: None,
            run: None,
            record_bytes_max: 64 * 1024,
            dedup_keys_max: limits::DEDUP_KEYS_MAX,
            dedup_window_ms: limits::DEDUP_WINDOW_MS,
        }
    }

    /// The policy of the log of one of its runs: whole while the run is open, readable like its channel, written by nobody.
    pub fn run_log(&self) -> Namespace {
        Namespace {
            name: Arc::from(format!("{}/run", self.name)),
            history: Some(Retention { records: u64::MAX, bytes: u64::MAX, age_ms: u64::MAX }),
            presence: false,
            join_leave: false,
            join_leave_push: false,
            recover: true,
            // Deltas of a run are merged for a slow reader.
            patches: false,
            tags_filter: false,
            schema: None,
            run: None,
            ..self.clone()
        }
    }
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Every namespace, found by a channel's name.
#[derive(Clone, Debug, Default)]
pub struct Namespaces(Vec<Known>);

#[derive(Clone, Debug)]
struct Known {
    namespace: Arc<Namespace>,
    /// The policy of the logs of its runs, if it has runs.
    run_log: Option<Arc<Namespace>>,
}

impl Namespaces {
    /// Takes the configured ones.
    pub fn new(all: Vec<Arc<Namespace>>) -> Self {
        let known = |namespace: Arc<Namespace>| Known {
            run_log: namespace.run.as_ref().map(|_| Arc::new(namespace.run_log())),
            namespace,
        };
        let mut all: Vec<_> = all.into_iter().map(known).collect();
        // The longest name first, so that `story/live` is found before `story`.
        all.sort_by_key(|known| std::cmp::Reverse(known.namespace.name.len()));
        Namespaces(all)
    }

    /// The policy of `channel`: `story/live` for `story:…/live` if there is one, else `story`. `None`: error 102.
    pub fn find(&self, channel: &ChannelName) -> Option<&Arc<Namespace>> {
        self.known(channel).map(|known| &known.namespace)
    }

    /// The policy of the logs of the runs of `channel`. `None`: there are no runs.
    pub fn find_run_log(&self, channel: &ChannelName) -> Option<&Arc<Namespace>> {
        self.known(channel)?.run_log.as_ref()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.0.iter().map(|known| &known.namespace)
    }

    fn known(&self, channel: &ChannelName) -> Option<&Known> {
        let space = channel.namespace();
        let last = channel.as_str().rsplit_once('/').map(|(_, last)| last);
        self.0.iter().find(|known| match known.namespace.name.split_once('/') {
            None => &*known.namespace.name == space,
            Some((head, tail)) => head == space && Some(tail) == last,
        })
    }
}
