//! The embedded store behind the Log port: a writer thread that commits what is waiting in groups, a sync thread that syncs the
//! previous group meanwhile, and one that keeps the directory tidy. Two watermarks release answers, so that `os` never waits for
//! a sync. Namespaces that are kept in memory only have a log of their own.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fireside_core::{Batch, ChannelName, Checkpoint, Durability, Epoch};
use fireside_node::ports::{Appended, Log, LogFault, Soon, Span, Waking};
use fireside_store::{Entry, Maintained, Memory, Outcome, Purged, ReadFault, Store, StoreFault, Woken};
use tokio::sync::oneshot;
use tracing::error;

/// Entries of one commit group at most.
const GROUP_ENTRIES_MAX: usize = 1024;
/// Entries that wait for the writer at most; more are refused as unknown to nobody: nothing was written.
const QUEUE_ENTRIES_MAX: usize = 64 * 1024;
/// How long nothing is written before that is called idle, and the pause between two rounds of maintenance.
const IDLE: Duration = Duration::from_millis(200);
/// For whoever only waits to be told.
const LONG: Duration = Duration::from_secs(3600);

/// The store, its threads and what waits for them.
pub struct Embedded {
    store: Arc<Store>,
    memory: Memory,
    writing: Arc<Desk<Job>>,
    tidying: Arc<Desk<()>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// An entry to write, and who waits for it.
struct Job {
    entry: Entry,
    /// It counts only when it is synced.
    durable: bool,
    done: oneshot::Sender<Appended>,
}

/// Written; to be synced, and answered when the sync has reached it.
struct Written {
    sequence: u64,
    waiting: Vec<oneshot::Sender<Appended>>,
}

/// A queue between threads.
struct Desk<T> {
    inner: Mutex<(Vec<T>, bool)>,
    filled: Condvar,
}

enum Taken<T> {
    Some(Vec<T>),
    Idle,
    Closed,
}

impl<T> Desk<T> {
    fn new() -> Arc<Self> {
        Arc::new(Desk { inner: Mutex::new((Vec::new(), false)), filled: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<T>, bool)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if it is full or closed.
    fn put(&self, one: T, max: usize) -> bool {
        let mut inner = self.lock();
        if inner.1 || inner.0.len() >= max {
            return false;
        }
        inner.0.push(one);
        drop(inner);
        self.filled.notify_one();
        true
    }

    /// Waits, but not for what is put here. False if it was closed.
    fn pause(&self, patience: Duration) -> bool {
        let inner = self.lock();
        let waited = self.filled.wait_timeout_while(inner, patience, |inner| !inner.1);
        !waited.unwrap_or_else(PoisonError::into_inner).0.1
    }

    fn take(&self, max: usize, patience: Duration) -> Taken<T> {
        let mut inner = self.lock();
        while inner.0.is_empty() {
            if inner.1 {
                return Taken::Closed;
            }
            let (waited, timed_out) =
                self.filled.wait_timeout(inner, patience).unwrap_or_else(PoisonError::into_inner);
            inner = waited;
            if timed_out.timed_out() && inner.0.is_empty() && !inner.1 {
                return Taken::Idle;
            }
        }
        let count = inner.0.len().min(max);
        Taken::Some(inner.0.drain(..count).collect())
    }

    fn close(&self) {
        self.lock().1 = true;
        self.filled.notify_all();
    }
}

impl Embedded {
    /// Starts the threads. `now_ms` is what the epochs of namespaces in memory begin with.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(store: Arc<Store>, now_ms: u64) -> io::Result<Embedded> {
        let (writing, syncing, tidying) = (Desk::new(), Desk::new(), Desk::new());
        let mut threads = Vec::new();
        {
            let (store, writing, tidying) = (store.clone(), writing.clone(), tidying.clone());
            let syncing = syncing.clone();
            threads.push(thread("log-write", move || write(&store, &writing, &syncing, &tidying))?);
        }
        {
            let store = store.clone();
            threads.push(thread("log-sync", move || sync(&store, &syncing))?);
        }
        {
            let (store, tidying) = (store.clone(), tidying.clone());
            threads.push(thread("log-tidy", move || tidy(&store, &tidying))?);
        }
        tidying.put((), 1);
        Ok(Embedded { store, memory: Memory::new(now_ms), writing, tidying, threads: Mutex::new(threads) })
    }

    /// Writes what waits, syncs, and closes the store in order. Blocks.
    ///
    /// # Errors
    /// The disk fails.
    pub fn close(&self) -> Result<(), StoreFault> {
        self.writing.close();
        self.tidying.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has said so, and what it did not answer is unknown to whoever asked.
            let _ = thread.join();
        }
        self.store.close()
    }

    fn put(&self, entry: Entry, degree: Durability) -> Soon<Appended> {
        if degree == Durability::Memory {
            let done = answer(self.memory.commit(&entry));
            return Box::pin(async { done });
        }
        let (done, answer) = oneshot::channel();
        let job = Job { entry, durable: degree == Durability::Fsync, done };
        if !self.writing.put(job, QUEUE_ENTRIES_MAX) {
            let fault = LogFault::Failed("the log takes no more at the moment".into());
            return Box::pin(async { Appended::Refused(fault) });
        }
        // A dropped sender is a thread that died between writing and answering: nobody knows.
        Box::pin(async move { answer.await.unwrap_or(Appended::Unknown) })
    }

    fn put_aside(&self, entry: Entry, degree: Durability) -> Soon<Result<(), LogFault>> {
        let written = self.put(entry, degree);
        Box::pin(async move {
            match written.await {
                Appended::Accepted => Ok(()),
                Appended::Refused(fault) => Err(fault),
                Appended::Conflict => Err(LogFault::Gone),
                Appended::Unknown => Err(LogFault::Failed("nobody knows what became of it".into())),
            }
        })
    }

    /// Reading blocks, if only for a moment: it has its own threads.
    fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, LogFault> + Send + 'static,
    ) -> Soon<Result<T, LogFault>> {
        let store = self.store.clone();
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || read(&store)).await {
                Ok(read) => read,
                Err(_) => Err(LogFault::Failed("a read of the log was given up".into())),
            }
        })
    }
}

impl Log for Embedded {
    fn wake(&self, channel: &ChannelName, durability: Durability) -> Soon<Result<Waking, LogFault>> {
        if durability == Durability::Memory {
            let woken = waking(self.memory.wake(channel));
            return Box::pin(async { Ok(woken) });
        }
        let channel = channel.clone();
        self.blocking(move |store| store.wake(&channel, durability).map(waking).map_err(fault_of))
    }

    fn append(&self, batch: Arc<Batch>, durability: Durability) -> Soon<Appended> {
        self.put(Entry::Batch { batch, degree: durability }, durability)
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
            let page = self.memory.read(channel, span).map_err(unread);
            return Box::pin(async { page });
        }
        let channel = channel.clone();
        self.blocking(move |store| store.read(&channel, durability, span).map_err(unread))
    }

    fn checkpoint(
        &self,
        channel: &ChannelName,
        durability: Durability,
        checkpoint: Checkpoint,
    ) -> Soon<Result<(), LogFault>> {
        let checkpoint = Arc::new(checkpoint);
        let entry = Entry::Checkpoint { channel: channel.clone(), checkpoint, degree: durability };
        // Nothing waits for its durability: the store itself does before it gives anything back.
        self.put_aside(entry, if durability == Durability::Memory { durability } else { Durability::Os })
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
        let entry = Entry::Erase { channel: channel.clone(), epoch, offset, degree: durability };
        self.put_aside(entry, durability)
    }

    fn compact(&self) -> Soon<Result<(), LogFault>> {
        const PAUSE: Duration = Duration::from_millis(20);
        let asked = self.blocking(|store| store.purge().map_err(fault_of));
        let (store, tidying) = (self.store.clone(), self.tidying.clone());
        Box::pin(async move {
            asked.await?;
            loop {
                // The thread that tidies may have come to rest.
                tidying.put((), 1);
                match store.purged() {
                    Purged::Done => return Ok(()),
                    Purged::InPart => return Err(LogFault::Full),
                    Purged::NotYet => tokio::time::sleep(PAUSE).await,
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

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}

fn waking(woken: Woken) -> Waking {
    Waking { checkpoint: woken.checkpoint, tail: woken.tail, generation: woken.generation }
}

fn unread(fault: ReadFault) -> LogFault {
    match fault {
        ReadFault::Gone => LogFault::Gone,
        ReadFault::Failed(fault) => fault_of(fault),
    }
}

fn fault_of(fault: StoreFault) -> LogFault {
    match fault {
        StoreFault::Full => LogFault::Full,
        other => LogFault::Failed(Arc::from(other.to_string())),
    }
}

fn answer(outcome: Outcome) -> Appended {
    match outcome {
        Outcome::Accepted => Appended::Accepted,
        Outcome::Conflict => Appended::Conflict,
        Outcome::Full => Appended::Refused(LogFault::Full),
        Outcome::TooLarge => {
            Appended::Refused(LogFault::Failed("a batch does not fit into a segment".into()))
        }
    }
}

// --------------------------------------------------------------------------------------------------------- the threads

fn write(store: &Store, writing: &Desk<Job>, syncing: &Desk<Written>, tidying: &Desk<()>) {
    loop {
        match writing.take(GROUP_ENTRIES_MAX, LONG) {
            Taken::Some(jobs) => {
                commit(store, jobs, syncing);
                tidying.put((), 1);
            }
            Taken::Idle => {}
            Taken::Closed => return syncing.close(),
        }
    }
}

fn commit(store: &Store, jobs: Vec<Job>, syncing: &Desk<Written>) {
    let (entries, asked): (Vec<_>, Vec<_>) =
        jobs.into_iter().map(|job| (job.entry, (job.durable, job.done))).unzip();
    let committed = match store.commit(&entries) {
        Ok(committed) => committed,
        Err(fault) => {
            die_if_poisoned(&fault);
            // What did not fit into the last group may be there: whoever asked must read.
            for (_, done) in asked {
                let _ = done.send(Appended::Unknown);
            }
            return;
        }
    };
    let mut waiting = Vec::new();
    for (outcome, (durable, done)) in committed.outcomes.into_iter().zip(asked) {
        if outcome == Outcome::Accepted && durable {
            waiting.push(done);
        } else {
            // Whoever no longer waits for an answer does not need one.
            let _ = done.send(answer(outcome));
        }
    }
    // Also what nobody waits for is synced. The desk holds at most what was written since the last sync.
    syncing.put(Written { sequence: committed.sequence, waiting }, usize::MAX);
}

fn sync(store: &Store, syncing: &Desk<Written>) {
    let mut patience = LONG;
    loop {
        let written = match syncing.take(usize::MAX, patience) {
            Taken::Some(written) => written,
            Taken::Idle => {
                patience = LONG;
                mark(store);
                continue;
            }
            Taken::Closed => return,
        };
        patience = IDLE;
        match store.sync() {
            Ok(durable) => {
                for group in written {
                    assert!(
                        group.sequence <= durable,
                        "a sync reaches everything that was written before it"
                    );
                    for done in group.waiting {
                        let _ = done.send(Appended::Accepted);
                    }
                }
            }
            Err(fault) => die(&fault),
        }
    }
}

/// Before idling: says on disk that all is synced, so that later damage of the last group cannot pass for a torn tail.
fn mark(store: &Store) {
    match store.mark().and_then(|marked| if marked { store.sync().map(|_| ()) } else { Ok(()) }) {
        Ok(()) => {}
        Err(fault) => die_if_poisoned(&fault),
    }
}

/// Keeps a spare segment, writes the indexes of full ones, gives back dead ones: whenever something was written, in rounds.
fn tidy(store: &Store, tidying: &Desk<()>) {
    while !matches!(tidying.take(1, LONG), Taken::Closed) {
        loop {
            match store.maintain() {
                Ok(Maintained::Idle) => break,
                Ok(_) if tidying.lock().1 => return,
                Ok(_) => {}
                Err(fault) => {
                    die_if_poisoned(&fault);
                    break;
                }
            }
        }
        if !tidying.pause(IDLE) {
            return;
        }
    }
}

fn die_if_poisoned(fault: &StoreFault) {
    if matches!(fault, StoreFault::Poisoned(_)) {
        die(fault);
    }
    error!(target: "fireside", %fault, "the log failed");
}

/// A second sync would succeed without the data: what is durable is unknown, and the next start finds out.
fn die(fault: &StoreFault) -> ! {
    error!(target: "fireside", %fault, "the log cannot be trusted any more; the process ends, and the next start will read what is there");
    std::process::exit(1);
}

#[cfg(test)]
mod tests;
