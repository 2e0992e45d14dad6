//! The store behind the node's `Log` port: one task writes what waits in groups, one syncs the previous group meanwhile, in virtual time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use fireside_core::{Batch, ChannelName, Checkpoint, Durability, Epoch};
use fireside_node::ports::{Appended, Log, LogFault, Soon, Span, Waking};
use fireside_store::{Entry, Maintained, Memory, Outcome, Purged, ReadFault, Store, StoreFault};

use crate::executor::{Answer, Bell, Executor, Group};
use crate::lock;
use crate::seed::Seed;
use crate::trace::Trace;

/// The log of one life of a process.
pub struct SimLog {
    store: Arc<Store>,
    memory: Memory,
    executor: Executor,
    seed: Seed,
    trace: Trace,
    queue: Mutex<VecDeque<Job>>,
    filled: Bell,
    written: Mutex<Vec<(u64, Arc<Answer<Appended>>)>>,
    to_sync: Bell,
    /// In how many of 100 cases nobody learns what became of an append.
    unknown: Mutex<u64>,
    /// The process must end: what is durable is unknown, or it died in a write.
    dies: Box<dyn Fn() + Send + Sync>,
    died: Box<dyn Fn() -> bool + Send + Sync>,
}

struct Job {
    entry: Entry,
    /// It counts only when it is synced.
    durable: bool,
    done: Arc<Answer<Appended>>,
}

/// What a log is made of.
pub struct Parts {
    /// The open store.
    pub store: Arc<Store>,
    /// Virtual time.
    pub executor: Executor,
    /// Latencies and faults.
    pub seed: Seed,
    /// What happened.
    pub trace: Trace,
    /// Ends the process.
    pub dies: Box<dyn Fn() + Send + Sync>,
    /// True once it died in the middle of a write or sync.
    pub died: Box<dyn Fn() -> bool + Send + Sync>,
    /// Where epochs of `memory` channels begin.
    pub now_ms: u64,
}

impl SimLog {
    /// Starts the two tasks.
    pub fn start(parts: Parts, group: Group) -> Arc<SimLog> {
        let executor = parts.executor.clone();
        let log = Arc::new(SimLog {
            store: parts.store,
            memory: Memory::new(parts.now_ms),
            executor: parts.executor,
            seed: parts.seed,
            trace: parts.trace,
            queue: Mutex::default(),
            filled: Bell::default(),
            written: Mutex::default(),
            to_sync: Bell::default(),
            unknown: Mutex::new(0),
            dies: parts.dies,
            died: parts.died,
        });
        for task in [
            Box::pin(log.clone().write()) as Soon<()>,
            Box::pin(log.clone().sync()),
            Box::pin(log.clone().tidy()),
        ] {
            executor.spawn(group, task);
        }
        log
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// In how many of 100 cases nobody learns what became of an append.
    pub fn set_unknown(&self, per_cent: u64) {
        *lock(&self.unknown) = per_cent;
    }

    async fn write(self: Arc<Self>) {
        loop {
            if lock(&self.queue).is_empty() {
                self.filled.rung().await;
                continue;
            }
            self.executor.sleep_us(self.seed.between(10, 400)).await;
            let count = self.seed.between(1, 64) as usize;
            let jobs: Vec<Job> = {
                let mut queue = lock(&self.queue);
                let count = count.min(queue.len());
                queue.drain(..count).collect()
            };
            self.commit(jobs);
        }
    }

    fn commit(&self, jobs: Vec<Job>) {
        let entries: Vec<Entry> = jobs.iter().map(|job| job.entry.clone()).collect();
        let committed = self.store.commit(&entries);
        if (self.died)() {
            return (self.dies)();
        }
        let committed = match committed {
            Ok(committed) => committed,
            Err(StoreFault::Poisoned(_)) => return (self.dies)(),
            Err(fault) => {
                let refused = Appended::Refused(fault_of(&fault));
                return jobs.iter().for_each(|job| job.done.give(refused.clone()));
            }
        };
        let mut to_sync = false;
        for (outcome, job) in committed.outcomes.into_iter().zip(jobs) {
            let answer = match outcome {
                Outcome::Accepted if job.durable => {
                    lock(&self.written).push((committed.sequence, job.done));
                    to_sync = true;
                    continue;
                }
                Outcome::Accepted => Appended::Accepted,
                Outcome::Conflict => {
                    self.trace.count("conflicts");
                    Appended::Conflict
                }
                Outcome::Full => {
                    self.trace.count("refused as full");
                    Appended::Refused(LogFault::Full)
                }
                Outcome::TooLarge => Appended::Refused(LogFault::Failed("a batch does not fit".into())),
            };
            job.done.give(answer);
        }
        if to_sync {
            self.to_sync.ring();
        }
    }

    async fn sync(self: Arc<Self>) {
        loop {
            self.to_sync.rung().await;
            while !lock(&self.written).is_empty() {
                let us = if self.seed.chance(5) {
                    self.seed.between(5_000, 60_000)
                } else {
                    self.seed.between(100, 4_000)
                };
                self.executor.sleep_us(us).await;
                let synced = self.store.sync();
                if (self.died)() {
                    return (self.dies)();
                }
                let Ok(durable) = synced else { return (self.dies)() };
                let reached: Vec<_> = {
                    let mut written = lock(&self.written);
                    let (reached, later) = written.drain(..).partition(|(sequence, _)| *sequence <= durable);
                    *written = later;
                    reached
                };
                reached.into_iter().for_each(|(_, done)| done.give(Appended::Accepted));
            }
        }
    }

    /// Between writes: says that all is synced, keeps a spare segment, gives back what is dead.
    async fn tidy(self: Arc<Self>) {
        loop {
            self.executor.sleep_ms(self.seed.between(20, 200)).await;
            // What nobody waits for is synced in the end, too.
            let synced = if self.seed.chance(50) { self.store.sync().map(drop) } else { Ok(()) };
            let tidied = synced.and_then(|()| self.store.mark()).and_then(|_| self.store.maintain());
            if (self.died)() {
                return (self.dies)();
            }
            match tidied {
                Ok(Maintained::GivenBack { .. }) => self.trace.count("segments given back"),
                Ok(Maintained::Copied { .. }) => self.trace.count("entries copied forward"),
                Err(StoreFault::Poisoned(_)) => return (self.dies)(),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn put(&self, entry: Entry, durable: bool) -> Soon<Appended> {
        let done = Answer::new();
        let unknown = *lock(&self.unknown);
        if matches!(entry, Entry::Batch { .. }) && self.seed.chance(unknown) {
            self.trace.count("unknown appends");
            if self.seed.chance(30) {
                return Box::pin(async { Appended::Unknown });
            }
            if self.seed.chance(50) {
                // It is on its way, and whoever decides again meets it.
                lock(&self.queue).push_back(Job { entry, durable, done });
                self.filled.ring();
                let (executor, us) = (self.executor.clone(), self.seed.between(0, 3_000));
                return Box::pin(async move {
                    executor.sleep_us(us).await;
                    Appended::Unknown
                });
            }
            lock(&self.queue).push_back(Job { entry, durable, done: done.clone() });
            self.filled.ring();
            return Box::pin(async move {
                done.get().await;
                Appended::Unknown
            });
        }
        lock(&self.queue).push_back(Job { entry, durable, done: done.clone() });
        self.filled.ring();
        Box::pin(done.get())
    }

    fn put_aside(&self, entry: Entry, degree: Durability) -> Soon<Result<(), LogFault>> {
        if degree == Durability::Memory {
            let outcome = self.memory.commit(&entry);
            return Box::pin(async move {
                if outcome == Outcome::Accepted { Ok(()) } else { Err(LogFault::Gone) }
            });
        }
        // Of all that is put aside, only an erasure is waited for until it is durable.
        let durable = matches!(entry, Entry::Erase { .. }) && degree == Durability::Fsync;
        let written = self.put(entry, durable);
        Box::pin(async move {
            match written.await {
                Appended::Accepted => Ok(()),
                Appended::Refused(fault) => Err(fault),
                Appended::Conflict => Err(LogFault::Gone),
                Appended::Unknown => Err(LogFault::Failed("nobody knows".into())),
            }
        })
    }

    fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, LogFault> + Send + 'static,
    ) -> Soon<Result<T, LogFault>> {
        let (store, executor) = (self.store.clone(), self.executor.clone());
        let us = self.seed.between(10, 2_000);
        Box::pin(async move {
            executor.sleep_us(us).await;
            read(&store)
        })
    }
}

impl Log for SimLog {
    fn wake(&self, channel: &ChannelName, durability: Durability) -> Soon<Result<Waking, LogFault>> {
        if durability == Durability::Memory {
            let woken = self.memory.wake(channel);
            return Box::pin(async move { Ok(waking(woken)) });
        }
        let channel = channel.clone();
        self.reading(move |store| {
            store.wake(&channel, durability).map(waking).map_err(|fault| fault_of(&fault))
        })
    }

    fn append(&self, batch: Arc<Batch>, durability: Durability) -> Soon<Appended> {
        let entry = Entry::Batch { batch, degree: durability };
        if durability == Durability::Memory {
            let outcome = self.memory.commit(&entry);
            return Box::pin(async move {
                if outcome == Outcome::Accepted { Appended::Accepted } else { Appended::Conflict }
            });
        }
        self.put(entry, durability == Durability::Fsync)
    }

    fn read(
        &self,
        channel: &ChannelName,
        durability: Durability,
        span: Span,
    ) -> Soon<Result<Vec<Arc<Batch>>, LogFault>> {
        let Span { epoch, after, until, records_max, bytes_max } = span;
        let span = fireside_store::Span { epoch, after, until, records_max, bytes_max };
        if durability == Durability::Memory {
            let read = self.memory.read(channel, span).map_err(read_fault);
            return Box::pin(async move { read });
        }
        let channel = channel.clone();
        self.reading(move |store| store.read(&channel, durability, span).map_err(read_fault))
    }

    fn checkpoint(
        &self,
        channel: &ChannelName,
        durability: Durability,
        checkpoint: Checkpoint,
    ) -> Soon<Result<(), LogFault>> {
        let checkpoint = Arc::new(checkpoint);
        self.put_aside(
            Entry::Checkpoint { channel: channel.clone(), checkpoint, degree: durability },
            durability,
        )
    }

    fn forget(&self, channel: &ChannelName, durability: Durability) -> Soon<Result<(), LogFault>> {
        self.put_aside(Entry::Forget { channel: channel.clone(), degree: durability }, durability)
    }

    fn erase(
        &self,
        channel: &ChannelName,
        durability: Durability,
        epoch: Epoch,
        offset: u64,
    ) -> Soon<Result<(), LogFault>> {
        self.put_aside(
            Entry::Erase { channel: channel.clone(), epoch, offset, degree: durability },
            durability,
        )
    }

    fn compact(&self) -> Soon<Result<(), LogFault>> {
        let asked = self.store.purge().map_err(|fault| fault_of(&fault));
        let (store, executor) = (self.store.clone(), self.executor.clone());
        Box::pin(async move {
            asked?;
            loop {
                match store.purged() {
                    Purged::Done => return Ok(()),
                    Purged::InPart => return Err(LogFault::Full),
                    Purged::NotYet => executor.sleep_ms(20).await,
                }
            }
        })
    }

    fn slept(&self, channel: &ChannelName, durability: Durability) {
        if durability != Durability::Memory {
            self.store.slept(channel);
        }
    }
}

fn waking(woken: fireside_store::Woken) -> Waking {
    Waking { checkpoint: woken.checkpoint, tail: woken.tail, generation: woken.generation }
}

fn fault_of(fault: &StoreFault) -> LogFault {
    match fault {
        StoreFault::Full => LogFault::Full,
        other => LogFault::Failed(Arc::from(other.to_string())),
    }
}

fn read_fault(fault: ReadFault) -> LogFault {
    match fault {
        ReadFault::Gone => LogFault::Gone,
        ReadFault::Failed(fault) => fault_of(&fault),
    }
}
