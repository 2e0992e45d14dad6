//! One simulated world: a disk that outlives its processes, a node in each of them, clients around it, and what befalls them all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use fireside_core::gate::{Gate, Principal};
use fireside_core::{Fact, Facts};
use fireside_node::ports::{Host, NoBackend, Solo, Soon};
use fireside_node::{Node, Parts, Settings};
use fireside_store::{Start, Store};

use crate::check::Check;
use crate::client;
use crate::disk::{Faults, Medium};
use crate::executor::{Answer, Bell, Executor, Group, Stuck};
use crate::keys::PlainKeys;
use crate::link::Pipe;
use crate::lock;
use crate::log::SimLog;
use crate::plan::{Fault, Plan, namespaces, rules_of};
use crate::producer::Producer;
use crate::provider::{Given, Scripted};
use crate::seed::Seed;
use crate::trace::Trace;

mod ending;

/// Unix time at the begin of every world, in ms.
const BEGAN_MS: u64 = 1_700_000_000_000;

/// Everything that a task of the world may need.
pub struct World {
    pub executor: Executor,
    pub trace: Trace,
    pub check: Check,
    pub plan: Plan,
    pub seed: Seed,
    medium: Medium,
    faults: Mutex<Faults>,
    unknown: Mutex<u64>,
    process: Mutex<Option<Process>>,
    next_group: Mutex<Group>,
    died: Bell,
    /// The id of the machine's boot.
    boot: Mutex<u64>,
    back_ms: Mutex<u64>,
    phase: Mutex<Phase>,
    pub(crate) given: Given,
    /// Clients that are not done, and what they wait for.
    pub(crate) restless: Mutex<BTreeMap<usize, String>>,
    /// Who is to reach the tail of which channel.
    pub(crate) follows: Mutex<BTreeSet<(usize, String)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Anything may happen.
    Wild,
    /// No more faults: what was begun is to be finished.
    Calm,
    /// Everybody goes home.
    Over,
}

/// One life of the server.
struct Process {
    group: Group,
    node: Arc<Node>,
    log: Arc<SimLog>,
    listens: bool,
    pipes: Vec<Weak<Pipe>>,
}

/// What became of one seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was broken; empty if nothing was.
    pub broken: Vec<String>,
    /// The hash of all that happened.
    pub hash: u64,
    /// How often each thing fired.
    pub counts: BTreeMap<&'static str, u64>,
    /// Steps of tasks.
    pub steps: u64,
    /// All that happened, if it was to be kept.
    pub lines: Vec<String>,
    /// The scenarios that were mixed.
    pub names: Vec<&'static str>,
}

/// Runs one plan to its end.
pub fn run(seed: u64, plan: Plan, lines: bool) -> Outcome {
    let trace = Trace::new(lines);
    let executor = Executor::new(Seed::new(seed, 1), trace.clone());
    let world = Arc::new(World {
        check: Check::new(trace.clone()),
        medium: Medium::new(Seed::new(seed, 2), trace.clone()),
        seed: Seed::new(seed, 3),
        faults: Mutex::default(),
        unknown: Mutex::default(),
        process: Mutex::default(),
        next_group: Mutex::new(0),
        died: Bell::default(),
        boot: Mutex::new(1),
        back_ms: Mutex::default(),
        phase: Mutex::new(Phase::Wild),
        given: Given::default(),
        restless: Mutex::default(),
        follows: Mutex::default(),
        executor: executor.clone(),
        trace: trace.clone(),
        plan,
    });
    let time_ms_max = world.plan.lasts_ms + ending::PATIENCE_MS * 2;
    let ended = executor.run(world.clone().main(), time_ms_max);
    if let Err(stuck) = ended {
        let why = match stuck {
            Stuck::Deadlock => "nothing moves any more",
            Stuck::Steps => "something turns in circles",
            Stuck::Time => "something waits for ever",
        };
        world.check.break_off(format!("I13 live: {why}"));
    }
    world.leave_process();
    let outcome = Outcome {
        broken: world.check.broken(),
        hash: trace.hash(),
        counts: trace.counts(),
        steps: executor.steps(),
        lines: trace.lines(),
        names: world.plan.names.clone(),
    };
    executor.clear();
    outcome
}

impl World {
    async fn main(self: Arc<Self>) {
        for channel in self.plan.channels() {
            self.check.channel(&channel, rules_of(&channel));
        }
        self.executor.spawn(0, Box::pin(self.clone().keep_alive()));
        self.executor.spawn(0, Box::pin(self.clone().measure()));
        for (number, plan) in self.plan.clients.iter().enumerate() {
            let client = client::Client::new(self.clone(), number, plan.clone());
            self.executor.spawn(0, Box::pin(client.live()));
        }
        for (number, plan) in self.plan.producers.iter().enumerate() {
            let producer = Producer::new(self.clone(), number, plan.clone());
            self.executor.spawn(0, Box::pin(producer.live()));
        }
        for (at_ms, fault) in self.plan.faults.clone() {
            let wait_ms = at_ms.saturating_sub(self.executor.now_ms());
            self.executor.sleep_ms(wait_ms).await;
            self.strike(fault);
        }
        let wait_ms = self.plan.lasts_ms.saturating_sub(self.executor.now_ms());
        self.executor.sleep_ms(wait_ms).await;
        self.calm_down();
        self.end().await;
    }

    pub(crate) fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    /// Unix time in ms, as the machine's clock has it.
    pub fn unix_ms(&self) -> u64 {
        BEGAN_MS + self.executor.now_ms() - *lock(&self.back_ms)
    }

    // ------------------------------------------------------------------------------------------------------ processes

    /// Starts a process, and another one whenever it dies.
    async fn keep_alive(self: Arc<Self>) {
        loop {
            if lock(&self.process).is_none() {
                self.boot();
            }
            if lock(&self.process).is_none() {
                self.executor.sleep_ms(self.seed.between(20, 200)).await;
                continue;
            }
            self.died.rung().await;
            if self.phase() == Phase::Over {
                return;
            }
            self.executor.sleep_ms(self.seed.between(5, 300)).await;
        }
    }

    /// One attempt to start a process.
    fn boot(self: &Arc<Self>) {
        let group = {
            let mut next = lock(&self.next_group);
            *next += 1;
            *next
        };
        self.trace.note("boot", "", group);
        self.check.process_began();
        let disk = self.medium.mount(group);
        let start = Start {
            life: self.seed.wide(),
            boot_id: format!("boot-{}", lock(&self.boot)),
            now_ms: self.unix_ms(),
        };
        let (store, report) = match Store::open(disk, self.plan.store.clone(), start) {
            Ok(opened) => opened,
            Err(_) => {
                self.trace.count("starts that failed");
                return self.medium.unmount();
            }
        };
        if report.torn.is_some() {
            self.trace.count("torn tails cut");
        }
        if let Some(damage) = report.damage.first() {
            self.check.break_off(format!("I3 true ack: the log is damaged without our doing: {damage}"));
        }
        let (dies, died) = (self.clone(), self.medium.clone());
        let log = SimLog::start(
            crate::log::Parts {
                store: Arc::new(store),
                executor: self.executor.clone(),
                seed: self.seed.clone(),
                trace: self.trace.clone(),
                dies: Box::new(move || dies.dies_by_itself(group)),
                died: Box::new(move || died.died()),
                now_ms: self.unix_ms(),
            },
            group,
        );
        log.set_unknown(*lock(&self.unknown));
        let node = Node::new(self.parts(group, &log));
        *lock(&self.process) =
            Some(Process { group, node: node.clone(), log, listens: false, pipes: Vec::new() });
        let world = self.clone();
        self.executor.spawn(
            group,
            Box::pin(async move {
                node.start().await;
                if let Some(process) = lock(&world.process).as_mut().filter(|process| process.group == group)
                {
                    process.listens = true;
                }
            }),
        );
    }

    fn parts(self: &Arc<Self>, group: Group, log: &Arc<SimLog>) -> Parts {
        let provider = Scripted {
            executor: self.executor.clone(),
            seed: self.seed.clone(),
            trace: self.trace.clone(),
            given: self.given.clone(),
            moods: self.plan.moods,
        };
        let (namespaces, rules) = namespaces(&self.plan);
        Parts {
            gate: Gate::new(namespaces, rules),
            host: Arc::new(ProcessHost { world: self.clone(), group }),
            log: log.clone(),
            bus: Arc::new(Solo),
            keys: Arc::new(PlainKeys),
            backend: Arc::new(NoBackend),
            providers: BTreeMap::from([(Arc::from("default"), Arc::new(provider) as _)]),
            facts: Arc::new(Counted(self.trace.clone())),
            settings: Settings {
                ping_ms: self.plan.ping_ms,
                pong_ms_max: self.plan.ping_ms / 2,
                outbox_bytes_max: self.plan.outbox_bytes_max,
                ..Settings::default()
            },
        }
    }

    /// The process is gone from one moment to the next.
    fn kill(&self) {
        let Some(process) = lock(&self.process).take() else { return };
        self.trace.note("dies", "", process.group);
        self.medium.unmount();
        for pipe in process.pipes.iter().filter_map(Weak::upgrade) {
            pipe.cut();
        }
        self.executor.kill(process.group);
        self.died.ring();
    }

    fn dies_by_itself(&self, group: Group) {
        if lock(&self.process).as_ref().is_some_and(|process| process.group == group) {
            self.trace.count("processes that ended themselves");
            self.kill();
        }
    }

    fn leave_process(&self) {
        *lock(&self.phase) = Phase::Over;
        self.kill();
    }

    /// The node, if it listens.
    pub(crate) fn node(&self) -> Option<(Group, Arc<Node>)> {
        let process = lock(&self.process);
        process
            .as_ref()
            .filter(|process| process.listens)
            .map(|process| (process.group, process.node.clone()))
    }

    /// Runs something in the server's process. `None` if that dies meanwhile, or takes too long.
    pub(crate) async fn within<T: Send + 'static>(
        self: &Arc<Self>,
        group: Group,
        task: Soon<T>,
    ) -> Option<T> {
        let answer: Arc<Answer<Option<T>>> = Answer::new();
        let (given, late, executor) = (answer.clone(), answer.clone(), self.executor.clone());
        self.executor.spawn(group, Box::pin(async move { given.give(Some(task.await)) }));
        self.executor.spawn(
            0,
            Box::pin(async move {
                executor.sleep_ms(20_000).await;
                late.give(None);
            }),
        );
        answer.get().await
    }

    /// A link to the server, if it listens.
    pub fn dial(self: &Arc<Self>, plan: &crate::plan::ClientPlan) -> Option<Arc<Pipe>> {
        let (group, node) = self.node()?;
        let seed = self.seed.clone();
        let pipe = Pipe::new(plan.wire, plan.capacity, plan.balks, seed, self.trace.clone());
        let driver = node.serve(pipe.link());
        if let Some(process) = lock(&self.process).as_mut() {
            process.pipes.retain(|pipe| pipe.strong_count() > 0);
            process.pipes.push(Arc::downgrade(&pipe));
        }
        self.executor.spawn(group, Box::pin(driver));
        Some(pipe)
    }

    // --------------------------------------------------------------------------------------------------------- faults

    fn strike(self: &Arc<Self>, fault: Fault) {
        self.trace.note("fault", fault.name(), 0);
        match fault {
            Fault::Kill => {
                self.trace.count("kills");
                self.kill();
            }
            Fault::PowerCut => self.cut_power(),
            Fault::DieIn(calls) => self.medium.die_in(calls),
            Fault::Syncs(per_cent, ms) => self.for_a_while(ms, move |faults| &mut faults.syncs, per_cent),
            Fault::Writes(per_cent, ms) => self.for_a_while(ms, move |faults| &mut faults.writes, per_cent),
            Fault::Reads(per_cent, ms) => self.for_a_while(ms, move |faults| &mut faults.reads, per_cent),
            Fault::Full(free, ms) => {
                self.medium.set_free(Some(free));
                self.later(ms, |world| world.medium.set_free(None));
            }
            Fault::Unknown(per_cent, ms) => {
                self.set_unknown(per_cent);
                self.later(ms, |world| world.set_unknown(0));
            }
            Fault::Links => {
                let pipes =
                    lock(&self.process).as_ref().map(|process| process.pipes.clone()).unwrap_or_default();
                for pipe in pipes.iter().filter_map(Weak::upgrade) {
                    self.trace.count("links cut");
                    pipe.cut();
                }
            }
            Fault::ClockBack(ms) => {
                self.trace.count("clock jumps back");
                *lock(&self.back_ms) += ms;
            }
            Fault::Shutdown => self.shut_down_soon(),
            Fault::RemoveHistory(channel) => self.remove_history(channel),
        }
    }

    fn cut_power(&self) {
        self.trace.count("power cuts");
        self.check.power_was_cut();
        self.kill();
        self.medium.cut_power();
        *lock(&self.boot) += 1;
    }

    fn for_a_while(self: &Arc<Self>, ms: u64, which: fn(&mut Faults) -> &mut u64, per_cent: u64) {
        self.set_fault(which, per_cent);
        self.later(ms, move |world| world.set_fault(which, 0));
    }

    fn set_fault(&self, which: fn(&mut Faults) -> &mut u64, per_cent: u64) {
        let mut faults = lock(&self.faults);
        *which(&mut faults) = per_cent;
        self.medium.set_faults(*faults);
    }

    fn set_unknown(&self, per_cent: u64) {
        *lock(&self.unknown) = per_cent;
        if let Some(process) = &*lock(&self.process) {
            process.log.set_unknown(per_cent);
        }
    }

    fn later(self: &Arc<Self>, ms: u64, what: impl FnOnce(&World) + Send + 'static) {
        let world = self.clone();
        self.executor.spawn(
            0,
            Box::pin(async move {
                world.executor.sleep_ms(ms).await;
                what(&world);
            }),
        );
    }

    fn shut_down_soon(self: &Arc<Self>) {
        let world = self.clone();
        self.executor.spawn(
            0,
            Box::pin(async move {
                if world.shut_down().await {
                    world.trace.count("orderly shutdowns");
                }
            }),
        );
    }

    /// Ends the process in order. False if it died before.
    pub(crate) async fn shut_down(self: &Arc<Self>) -> bool {
        let Some((group, node)) = self.node() else { return false };
        if let Some(process) = lock(&self.process).as_mut() {
            process.listens = false;
        }
        let done = self.within(group, Box::pin(async move { node.shut_down().await })).await;
        let log = lock(&self.process).as_ref().filter(|one| one.group == group).map(|one| one.log.clone());
        let Some(log) = log.filter(|_| done.is_some()) else { return false };
        let closed = log.store().close().is_ok();
        self.kill();
        closed
    }

    fn remove_history(self: &Arc<Self>, channel: &'static str) {
        let Some((group, node)) = self.node() else { return };
        let world = self.clone();
        self.executor.spawn(
            group,
            Box::pin(async move {
                if node.remove_history(&Principal::backend("sim"), channel).await.is_ok() {
                    world.trace.count("histories removed");
                }
            }),
        );
    }

    fn calm_down(&self) {
        self.trace.note("calm", "", 0);
        *lock(&self.phase) = Phase::Calm;
        *lock(&self.faults) = Faults::default();
        self.medium.set_faults(Faults::default());
        self.medium.set_free(None);
        self.set_unknown(0);
    }

    /// I8 bounded: looks at what the node holds, again and again.
    async fn measure(self: Arc<Self>) {
        while self.phase() != Phase::Over {
            if let Some((_, node)) = self.node() {
                let peaks = node.peaks();
                let outbox_max = self.plan.outbox_bytes_max;
                // One batch always fits, ephemeral entries have a quarter of their own, and events are counted by their number.
                if peaks.outbox_bytes > outbox_max + outbox_max / 2 + 64 * 1024 {
                    self.check.break_off(format!("I8 bounded: an outbox of {} bytes", peaks.outbox_bytes));
                }
                let limits = [
                    ("publishes wait", peaks.waiting, fireside_core::limits::WAITING_PUBLISHES_MAX),
                    ("batches in a ring", peaks.ring_batches, fireside_core::limits::RING_BATCHES_MAX),
                    ("publishes of a session", peaks.pending, fireside_core::limits::SESSION_PENDING_MAX),
                ];
                for (what, found, max) in limits {
                    if found > max {
                        self.check.break_off(format!("I8 bounded: {found} {what}, at most {max} may"));
                    }
                }
            }
            self.executor.sleep_ms(50).await;
        }
    }
}

/// Time, randomness and tasks of one process.
struct ProcessHost {
    world: Arc<World>,
    group: Group,
}

impl Host for ProcessHost {
    fn now_ms(&self) -> u64 {
        self.world.unix_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        self.world.executor.now_ms()
    }

    fn random(&self) -> u128 {
        self.world.seed.wide()
    }

    fn spawn(&self, task: Soon<()>) {
        self.world.executor.spawn(self.group, task);
    }

    fn sleep(&self, ms: u64) -> Soon<()> {
        Box::pin(self.world.executor.sleep_ms(ms))
    }
}

/// Facts that prove that a way was really gone.
struct Counted(Trace);

impl Facts for Counted {
    fn say(&self, fact: Fact) {
        let kind = match fact {
            Fact::Detached => "readers sent back to the log",
            Fact::PageRead { .. } => "pages read for readers",
            Fact::Duplicate => "duplicates answered",
            Fact::Dropped { .. } => "ephemeral records dropped",
            Fact::Refused { .. } => "refusals",
            Fact::RunEnded { status } => match status {
                "complete" => "runs complete",
                "cancelled" => "runs cancelled",
                "interrupted" => "runs interrupted",
                "error" => "runs failed",
                _ => "runs over budget",
            },
            Fact::Appended { records, .. } => {
                return self.0.count_many("records appended", u64::from(records));
            }
            Fact::Delivered { records } => return self.0.count_many("records delivered", records),
            Fact::LogFault { .. } => "faults that the node met",
            _ => return,
        };
        self.0.count(kind);
    }
}
