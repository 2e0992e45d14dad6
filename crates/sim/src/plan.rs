//! What is to happen in one world: its clients, its faults, its bounds. Scenarios add to it, a seed draws the rest.

use std::sync::Arc;

use fireside_core::gate::Rules as GateRules;
use fireside_core::namespace::{Retention, RunPolicy};
use fireside_core::{Durability, Namespace, Namespaces};
use fireside_store::Options;

use crate::check::Rules;
use crate::keys::Role;
use crate::provider::Moods;
use crate::seed::Seed;

/// One world, before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenarios in it.
    pub names: Vec<&'static str>,
    /// Who takes part.
    pub clients: Vec<ClientPlan>,
    /// What befalls it, in order of time (ms).
    pub faults: Vec<(u64, Fault)>,
    /// When faults end, in ms.
    pub lasts_ms: u64,
    /// The store's bounds.
    pub store: Options,
    /// Bytes of an outbox.
    pub outbox_bytes_max: usize,
    /// Time between pings, in ms.
    pub ping_ms: u64,
    /// How long a run's log stays after its end, in ms.
    pub linger_ms: u64,
    /// Bytes of a run's text.
    pub run_bytes_max: usize,
    /// How models behave.
    pub moods: Moods,
    /// Backends that write runs.
    pub producers: Vec<ProducerPlan>,
}

/// One backend.
#[derive(Clone, Debug)]
pub struct ProducerPlan {
    /// Where it writes.
    pub channel: String,
    /// How many runs.
    pub runs: u32,
    /// In how many of 100 cases it dies before an append.
    pub dies: u64,
    /// In how many of 100 cases somebody stops the run before an append.
    pub cancels: u64,
}

/// What befalls a world.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The process ends at once.
    Kill,
    /// The machine loses its power.
    PowerCut,
    /// The process dies in the middle of a write or sync, so many calls later.
    DieIn(u64),
    /// Syncs fail in so many cases of 100, for so many ms.
    Syncs(u64, u64),
    /// Writes do.
    Writes(u64, u64),
    /// Reads do.
    Reads(u64, u64),
    /// So many bytes are left, for so many ms.
    Full(u64, u64),
    /// Nobody learns what became of appends in so many cases of 100, for so many ms.
    Unknown(u64, u64),
    /// Every link is cut.
    Links,
    /// The clock jumps back by so many ms.
    ClockBack(u64),
    /// The server is shut down in order.
    Shutdown,
    /// A backend removes a channel's records.
    RemoveHistory(&'static str),
}

impl Fault {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::PowerCut => "power cut",
            Fault::DieIn(_) => "die in a write",
            Fault::Syncs(..) => "failing syncs",
            Fault::Writes(..) => "failing writes",
            Fault::Reads(..) => "failing reads",
            Fault::Full(..) => "full disk",
            Fault::Unknown(..) => "unknown appends",
            Fault::Links => "links cut",
            Fault::ClockBack(_) => "clock back",
            Fault::Shutdown => "shutdown",
            Fault::RemoveHistory(_) => "remove history",
        }
    }
}

/// How fast a client reads.
#[derive(Clone, Copy, Debug)]
pub enum Speed {
    /// At once.
    Fast,
    /// So many µs for each thing it is told.
    Slow(u64),
    /// At once, but at times not at all for so many ms.
    Stalls(u64),
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// Who it says it is.
    pub user: String,
    /// What its token allows.
    pub role: Role,
    /// It speaks the Centrifuge protocol in JSON.
    pub wire: bool,
    /// How fast it reads, until everything calms down.
    pub speed: Speed,
    /// Bytes of its socket's buffer.
    pub capacity: usize,
    /// In how many of 100 cases its sink says that it is full without being so.
    pub balks: u64,
    /// What it follows.
    pub follows: Vec<String>,
    /// It also follows the runs that it sees begin.
    pub follows_runs: bool,
    /// Where it writes.
    pub writes: Vec<String>,
    /// How many records.
    pub publishes: u32,
    /// How many at once, at most.
    pub burst: u64,
    /// How many of 100 bear a key.
    pub keyed: u64,
    /// Time between two things it does, in ms, from and to.
    pub gap_ms: (u64, u64),
    /// Bytes of a body at most.
    pub body_max: u64,
    /// How many runs it starts.
    pub runs: u32,
    /// How many of 100 of them it cancels.
    pub cancels: u64,
    /// In how many of 100 cases it reads history in place of what it was to do.
    pub reads: u64,
    /// It closes its link after so many ms, from and to.
    pub leaves_ms: Option<(u64, u64)>,
    /// In how many of 100 cases it unsubscribes and subscribes again.
    pub toggles: u64,
    /// In how many of 100 cases it claims a position that it never was at.
    pub lies: u64,
    /// For how many seconds its token is good.
    pub token_s: u64,
    /// It fetches another one in time.
    pub refreshes: bool,
    /// In how many of 100 cases it sends a known key again.
    pub repeats: u64,
}

impl ClientPlan {
    /// Somebody who follows and does nothing else.
    pub fn reader(seed: &Seed, number: usize, follows: &[&str]) -> ClientPlan {
        ClientPlan {
            user: format!("user{number}"),
            role: Role::Writer,
            wire: seed.chance(30),
            speed: Speed::Fast,
            capacity: *seed.pick(&[2_000, 16_000, 64_000]),
            balks: 2,
            follows: follows.iter().map(|name| (*name).to_owned()).collect(),
            follows_runs: false,
            writes: Vec::new(),
            publishes: 0,
            burst: 1,
            keyed: 0,
            gap_ms: (5, 200),
            body_max: 200,
            runs: 0,
            cancels: 0,
            reads: 5,
            leaves_ms: None,
            toggles: 0,
            lies: 0,
            token_s: 12 * 60 * 60,
            refreshes: true,
            repeats: 0,
        }
    }

    /// Somebody who follows and writes there.
    pub fn writer(seed: &Seed, number: usize, channels: &[&str], publishes: u32) -> ClientPlan {
        let writes = channels.iter().map(|name| (*name).to_owned()).collect();
        let keyed = *seed.pick(&[0, 50, 90, 100]);
        ClientPlan {
            writes,
            publishes,
            keyed,
            burst: seed.between(1, 8),
            ..ClientPlan::reader(seed, number, channels)
        }
    }
}

impl Plan {
    /// A calm world of the size that the seed draws.
    pub fn new(seed: &Seed) -> Plan {
        let outbox_bytes_max = *seed.pick(&[8_000, 32_000, 128_000]);
        Plan {
            names: Vec::new(),
            clients: Vec::new(),
            faults: Vec::new(),
            lasts_ms: 2_000,
            store: Options {
                segment_bytes: *seed.pick(&[192 << 10, 256 << 10, 512 << 10]),
                cache_bytes: *seed.pick(&[0, 8 << 10, 256 << 10]),
                copy_bytes: 4 << 10,
                ..Options::default()
            },
            outbox_bytes_max,
            ping_ms: *seed.pick(&[1_000, 5_000, 25_000]),
            linger_ms: 600_000,
            // A `run.end` says everything twice and escapes some of it, and must be at most a quarter of an outbox.
            run_bytes_max: (outbox_bytes_max / 14).min(8 << 10),
            moods: Moods::default(),
            producers: Vec::new(),
        }
    }

    /// Every channel in it.
    pub fn channels(&self) -> Vec<String> {
        ["s:1", "s:2", "o:1", "m:1", "t:1", "e:1"].map(str::to_owned).to_vec()
    }
}

/// What a channel of this name promises.
pub fn rules_of(channel: &str) -> Rules {
    let durability = match channel.as_bytes().first() {
        Some(b'o') => Durability::Os,
        Some(b'm') => Durability::Memory,
        _ => Durability::Fsync,
    };
    Rules { durability, trims: channel.starts_with("t:") }
}

/// The namespaces of every world: `s` keeps all on disk, `o` with the system, `m` in memory, `t` only a little, `e` nothing.
pub fn namespaces(plan: &Plan) -> (Namespaces, GateRules) {
    let run = RunPolicy {
        linger_ms: plan.linger_ms,
        text_bytes_max: plan.run_bytes_max,
        first_token_ms_max: 3_000,
        idle_ms_max: 3_000,
        total_ms_max: 10_000,
        lease_ms: 2_000,
        ..RunPolicy::default()
    };
    let one = |name: &str, durability, kept: Option<Retention>, run: Option<RunPolicy>| {
        Arc::new(Namespace {
            history: kept,
            durability,
            presence: true,
            join_leave: true,
            recover: true,
            run,
            record_bytes_max: 1_900,
            // More than any seed writes: what is forgotten on purpose cannot be told from what is forgotten by mistake.
            dedup_keys_max: 3_000,
            ..Namespace::closed(name)
        })
    };
    let all = Some(Retention { records: 1_000_000, bytes: 1 << 40, age_ms: u64::MAX / 2 });
    let few = Some(Retention { records: 40, bytes: 6_000, age_ms: 3_000 });
    let spaces = vec![
        one("s", Durability::Fsync, all, Some(run.clone())),
        one("o", Durability::Os, all, Some(run)),
        one("m", Durability::Memory, all, None),
        one("t", Durability::Fsync, few, None),
        one("e", Durability::Memory, None, None),
    ];
    let rules = GateRules { commands_per_second: 2_000, commands_burst: 2_000, ..GateRules::default() };
    (Namespaces::new(spaces), rules)
}
