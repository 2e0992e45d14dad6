//! The embedded store behind the Log port: a writer thread that commits what is waiting in groups, and a sync thread that syncs the
//! previous group meanwhile. Two watermarks release answers, so that `os` never waits for a sync.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fireside_core::{Batch, ChannelName, Checkpoint, Durability};
use fireside_node::ports::{Appended, Log, LogFault, Soon, Span, Waking};
use fireside_store::{Entry, Maintained, Outcome, ReadFault, Store, StoreFault};
use tokio::sync::oneshot;
use tracing::error;

/// Entries of one commit group at most.
const GROUP_ENTRIES_MAX: usize = 1024;
/// Entries that wait for the writer at most; more are refused as unknown to nobody: nothing was written.
const QUEUE_ENTRIES_MAX: usize = 64 * 1024;
/// How long the writer is idle before it looks after the store.
const IDLE: Duration = Duration::from_millis(200);

/// The store, its two threads and what waits for them.
pub struct Embedded {
    store: Arc<Store>,
    writing: Arc<Desk<Job>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// An entry to write, and who waits for it.
struct Job {
    entry: Entry,
    /// It counts only when it is synced.
    durable: bool,
    done: oneshot::Sender<Appended>,
}

/// Written; to be answered when the sync has reached it.
struct Written {
    sequence: u64,
    done: oneshot::Sender<Appended>,
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
    fn put(&self, all: impl IntoIterator<Item = T>) -> bool {
        let mut inner = self.lock();
        if inner.1 || inner.0.len() >= QUEUE_ENTRIES_MAX {
            return false;
        }
        inner.0.extend(all);
        drop(inner);
        self.filled.notify_one();
        true
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
    /// Starts the threads.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(store: Arc<Store>) -> io::Result<Embedded> {
        let (writing, syncing) = (Desk::new(), Desk::new());
        let writer = {
            let (store, writing, syncing) = (store.clone(), writing.clone(), syncing.clone());
            std::thread::Builder::new().name("log-write".into()).spawn(move || write(&store, &writing, &syncing))?
        };
        let syncer = {
            let store = store.clone();
            std::thread::Builder::new().name("log-sync".into()).spawn(move || sync(&store, &syncing))?
        };
        Ok(Embedded { store, writing, threads: Mutex::new(vec![writer, syncer]) })
    }

    /// Writes what waits, syncs, and closes the store in order. Blocks.
    ///
    /// # Errors
    /// The disk fails.
    pub fn close(&self) -> Result<(), StoreFault> {
        self.writing.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has said so, and what it did not answer is unknown to whoever asked.
            let _ = thread.join();
        }
        self.store.close()
    }

    fn put(&self, entry: Entry, durable: bool) -> Soon<Appended> {
        let (done, answer) = oneshot::channel();
        if !self.writing.put([Job { entry, durable, done }]) {
            let fault = LogFault::Failed("the log takes no more at the moment".into());
            return Box::pin(async { Appended::Refused(fault) });
        }
        // A dropped sender is a thread that died between writing and answering: nobody knows.
        Box::pin(async move { answer.await.unwrap_or(Appended::Unknown) })
    }

    fn put_aside(&self, entry: Entry) -> Soon<Result<(), LogFault>> {
        let written = self.put(entry, false);
        Box::pin(async move {
            match written.await {
                Appended::Accepted => Ok(()),
                Appended::Refused(fault) => Err(fault),
                Appended::Conflict => Err(LogFault::Gone),
                Appended::Unknown => Err(LogFault::Failed("the log's writer died".into())),
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
        let channel = channel.clone();
        self.blocking(move |store| {
            let woken = store.wake(&channel, durability).map_err(fault_of)?;
            Ok(Waking { checkpoint: woken.checkpoint, tail: woken.tail, generation: woken.generation })
        })
    }

    fn append(&self, batch: Arc<Batch>, durability: Durability) -> Soon<Appended> {
        self.put(Entry::Batch { batch, degree: durability }, durability == Durability::Fsync)
    }

    fn read(
        &self,
        channel: &ChannelName,
        durability: Durability,
        span: Span,
    ) -> Soon<Result<Vec<Arc<Batch>>, LogFault>> {
        let channel = channel.clone();
        let Span { epoch, after, until, records_max, bytes_max } = span;
        let span = fireside_store::Span { epoch, after, until, records_max, bytes_max };
        self.blocking(move |store| {
            store.read(&channel, durability, span).map_err(|fault| match fault {
                ReadFault::Gone => LogFault::Gone,
                ReadFault::Failed(fault) => fault_of(fault),
            })
        })
    }

    fn checkpoint(
        &self,
        channel: &ChannelName,
        durability: Durability,
        checkpoint: Checkpoint,
    ) -> Soon<Result<(), LogFault>> {
        let checkpoint = Arc::new(checkpoint);
        self.put_aside(Entry::Checkpoint { channel: channel.clone(), checkpoint, degree: durability })
    }

    fn forget(&self, channel: &ChannelName, durability: Durability) -> Soon<Result<(), LogFault>> {
        self.put_aside(Entry::Forget { channel: channel.clone(), degree: durability })
    }

    fn slept(&self, channel: &ChannelName, _durability: Durability) {
        self.store.slept(channel);
    }
}

fn fault_of(fault: StoreFault) -> LogFault {
    match fault {
        StoreFault::Full => LogFault::Full,
        other => LogFault::Failed(Arc::from(other.to_string())),
    }
}

// --------------------------------------------------------------------------------------------------------- the threads

fn write(store: &Store, writing: &Desk<Job>, syncing: &Desk<Written>) {
    loop {
        match writing.take(GROUP_ENTRIES_MAX, IDLE) {
            Taken::Some(jobs) => commit(store, jobs, syncing),
            Taken::Idle => tidy(store),
            Taken::Closed => return syncing.close(),
        }
    }
}

fn commit(store: &Store, jobs: Vec<Job>, syncing: &Desk<Written>) {
    let (entries, asked): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.entry, (job.durable, job.done))).unzip();
    let committed = match store.commit(&entries) {
        Ok(committed) => committed,
        Err(fault) => {
            die_if_poisoned(&fault);
            for (_, done) in asked {
                let _ = done.send(Appended::Refused(fault_of(fault.clone())));
            }
            return;
        }
    };
    let mut written = Vec::new();
    for (outcome, (durable, done)) in committed.outcomes.into_iter().zip(asked) {
        // Whoever no longer waits for an answer does not need one.
        let _ = match outcome {
            Outcome::Accepted if durable => {
                written.push(Written { sequence: committed.sequence, done });
                continue;
            }
            Outcome::Accepted => done.send(Appended::Accepted),
            Outcome::Conflict => done.send(Appended::Conflict),
            Outcome::Full => done.send(Appended::Refused(LogFault::Full)),
            Outcome::TooLarge => {
                done.send(Appended::Refused(LogFault::Failed("a batch does not fit into a segment".into())))
            }
        };
    }
    if !written.is_empty() {
        // The sync desk holds at most what the writer has written since the last sync.
        syncing.put(written);
    }
}

fn sync(store: &Store, syncing: &Desk<Written>) {
    let mut waiting: Vec<Written> = Vec::new();
    loop {
        match syncing.take(usize::MAX, Duration::from_secs(3600)) {
            Taken::Some(more) => waiting.extend(more),
            Taken::Idle => continue,
            Taken::Closed => return,
        }
        match store.sync() {
            Ok(durable) => {
                let (synced, later): (Vec<_>, Vec<_>) =
                    waiting.drain(..).partition(|written| written.sequence <= durable);
                debug_assert!(later.is_empty(), "a sync reaches everything that was written before it");
                waiting = later;
                for written in synced {
                    let _ = written.done.send(Appended::Accepted);
                }
            }
            Err(fault) => die(&fault),
        }
    }
}

/// Between writes: say that all is synced, keep a spare segment, give back what is dead.
fn tidy(store: &Store) {
    if let Err(fault) = store.mark() {
        die_if_poisoned(&fault);
    }
    match store.maintain() {
        Ok(Maintained::Idle) | Ok(_) => {}
        Err(fault) => die_if_poisoned(&fault),
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
