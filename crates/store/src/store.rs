//! The embedded log: one segmented log for all channels.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fireside_core::{Batch, ChannelName, Checkpoint, Durability, Epoch};

use crate::cache::Cache;
use crate::chain::{EntryFault, Located, Summary};
use crate::compact::Maintenance;
use crate::disk::{Disk, File};
use crate::format;
use crate::hash::Id;
use crate::index::{Ask, SegmentIndex};
use crate::meta::Meta;
use crate::repair::{self, OpenReport};
use crate::segment::Segment;
use crate::slots::Slots;
use crate::write::Writer;

/// How the store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a segment, taken as at least 4 KiB and at most 1 GiB. An entry must fit into one.
    pub segment_bytes: u64,
    /// Bytes of batches kept in memory.
    pub cache_bytes: usize,
    /// Bytes that one step of maintenance copies forward at most (and at least one entry).
    pub copy_bytes: usize,
    /// A mask of the hash of names, by which tests make names collide.
    #[doc(hidden)]
    pub hash_mask: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { segment_bytes: 64 << 20, cache_bytes: 64 << 20, copy_bytes: 1 << 20, hash_mask: u64::MAX }
    }
}

/// What the store cannot know by itself.
#[derive(Clone, Debug)]
pub struct Start {
    /// A random id of this process's life.
    pub life: u128,
    /// The id of the machine's boot; empty if unknown, which counts as another boot each time.
    pub boot_id: String,
    /// Unix time in ms: the first generation of a fresh store, and a lower bound of later ones after a loss.
    pub now_ms: u64,
}

/// Something to commit.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Records, if the channel ends where they begin.
    Batch {
        /// The records.
        batch: Arc<Batch>,
        /// `Fsync` or `Os`.
        degree: Durability,
    },
    /// The channel's state as of a record that is there.
    Checkpoint {
        /// The channel.
        channel: ChannelName,
        /// Its state.
        checkpoint: Arc<Checkpoint>,
        /// `Fsync` or `Os`.
        degree: Durability,
    },
    /// One record's body goes, its offset stays.
    Erase {
        /// The channel.
        channel: ChannelName,
        /// Its epoch.
        epoch: Epoch,
        /// Which record.
        offset: u64,
        /// `Fsync` or `Os`.
        degree: Durability,
    },
    /// The channel goes; its next life has a later epoch.
    Forget {
        /// The channel.
        channel: ChannelName,
        /// `Fsync` or `Os`.
        degree: Durability,
    },
}

/// What became of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written; durable once the commit's sequence is.
    Accepted,
    /// The channel ends elsewhere, or is in another epoch. Nothing was written.
    Conflict,
    /// The disk is full. Nothing was written.
    Full,
    /// It does not fit into a segment. Nothing was written.
    TooLarge,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The sequence of the last group written so far: everything accepted here is durable when a sync has reached it.
    pub sequence: u64,
    /// One for each entry, in order.
    pub outcomes: Vec<Outcome>,
}

/// What a channel wakes with.
#[derive(Clone, Debug)]
pub struct Woken {
    /// The last checkpoint; `None` if there never was one.
    pub checkpoint: Option<Checkpoint>,
    /// The batches after it, in order.
    pub tail: Vec<Arc<Batch>>,
    /// The epoch that a channel without any record adopts with its first.
    pub generation: Epoch,
}

/// Which records to read: `after < offset <= until`, at least one batch, stopping after the one in which a bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The epoch they are counted in.
    pub epoch: Epoch,
    /// The last offset that is not wanted.
    pub after: u64,
    /// The last offset that is wanted.
    pub until: u64,
    /// Records at most.
    pub records_max: usize,
    /// Cost at most.
    pub bytes_max: usize,
}

/// Why records cannot be read.
#[derive(Debug)]
pub enum ReadFault {
    /// They are trimmed, damaged, or of another epoch.
    Gone,
    /// The disk failed.
    Failed(StoreFault),
}

/// Why the store cannot go on.
#[derive(Clone, Debug)]
pub enum StoreFault {
    /// There is no room, not even for what must be written to open.
    Full,
    /// A sync or a write failed earlier: what is durable is unknown, and this process must end.
    Poisoned(Arc<str>),
    /// The disk failed; nothing was written, or it is a read.
    Disk(Arc<str>),
}

impl StoreFault {
    pub(crate) fn reading(fault: io::Error) -> StoreFault {
        StoreFault::Disk(Arc::from(format!("reading: {fault}")))
    }

    pub(crate) fn at(doing: &str, fault: &io::Error) -> StoreFault {
        StoreFault::Disk(Arc::from(format!("{doing}: {fault}")))
    }
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreFault::Full => f.write_str("the disk is full"),
            StoreFault::Poisoned(what) => write!(f, "the log cannot be trusted any more: {what}"),
            StoreFault::Disk(what) => write!(f, "the disk failed: {what}"),
        }
    }
}

impl std::error::Error for StoreFault {}

/// The log of all channels of a node. Shared behind an `Arc`; see each method for who may call it when.
pub struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) life: u128,
    pub(crate) salt: [u8; 16],
    pub(crate) writer: Mutex<Writer>,
    pub(crate) state: Mutex<State>,
    pub(crate) cache: Mutex<Cache>,
    pub(crate) syncing: Mutex<()>,
    pub(crate) maintenance: Mutex<Maintenance>,
    pub(crate) written: AtomicU64,
    pub(crate) durable: AtomicU64,
    pub(crate) poison: OnceLock<Arc<str>>,
}

/// What all calls share.
pub(crate) struct State {
    pub segments: BTreeMap<u32, Arc<Segment>>,
    /// Allocated and never written: the spare, and the one that only what frees space may use.
    pub prepared: BTreeMap<u32, Arc<dyn File>>,
    pub next_segment: u32,
    pub slots: Slots,
    pub awake: BTreeMap<ChannelName, Summary>,
    /// Channels that are being loaded, and whether something was committed to them meanwhile.
    pub loading: BTreeMap<ChannelName, (u32, bool)>,
    pub meta: Meta,
    /// True if `meta` knows generations that its file does not.
    pub meta_dirty: bool,
    /// True since the last attempt to make a spare met a full disk.
    pub full: bool,
    /// How many records and notes died in this life, roughly: tells when it is worth looking for dead segments.
    pub trimmed: u64,
}

/// Figures of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Segments in use, the one that is written to included.
    pub segments: usize,
    /// Bytes of them on disk, spares included.
    pub disk_bytes: u64,
    /// Segments made in advance.
    pub spares: usize,
    /// Sequence of the last group written.
    pub written: u64,
    /// Sequence up to which everything is durable.
    pub durable: u64,
    /// Channels that have anything on disk.
    pub channels: usize,
    /// Channels that are awake.
    pub awake: usize,
    /// Bytes of memory for finding channels.
    pub index_bytes: usize,
    /// Bytes of batches in the cache.
    pub cache_bytes: usize,
    /// True while appends are, or soon will be, refused for want of space.
    pub full: bool,
    /// Bytes free for new files, if the disk says so.
    pub space: Option<u64>,
}

impl Store {
    /// Opens the log in `disk`, or begins one. Nothing of it is shown before it is durable.
    ///
    /// # Errors
    /// The disk fails, or is too full to begin. Torn and damaged groups are no error: see the report.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        start: Start,
    ) -> Result<(Store, OpenReport), StoreFault> {
        repair::open(disk, options, start)
    }

    /// The last checkpoint of a channel and the batches after it, as far as they are committed to `degree`. From here on the
    /// channel is awake, until [`Store::slept`].
    ///
    /// # Errors
    /// The disk fails.
    pub fn wake(&self, channel: &ChannelName, degree: Durability) -> Result<Woken, StoreFault> {
        self.healthy()?;
        lock(&self.state).loading.entry(channel.clone()).or_insert((0, false)).0 += 1;
        let woken = self.wake_marked(channel, degree);
        let mut state = lock(&self.state);
        let touched = match state.loading.get_mut(channel) {
            Some((1, touched)) => {
                let touched = *touched;
                state.loading.remove(channel);
                touched
            }
            Some((waking, touched)) => {
                *waking -= 1;
                *touched
            }
            None => true,
        };
        let (woken, summary) = woken?;
        if !touched {
            state.awake.entry(channel.clone()).or_insert(summary);
        }
        Ok(woken)
    }

    fn wake_marked(&self, channel: &ChannelName, degree: Durability) -> Result<(Woken, Summary), StoreFault> {
        let mut loaded = self.load(channel, degree, u64::MAX)?;
        if let Some(hole) = loaded.hole {
            self.note_hole(channel, degree, hole)?;
            loaded = self.load(channel, degree, u64::MAX)?;
        }
        let mut summary = loaded.summary.clone();
        let durable = self.durable.load(Ordering::Acquire);
        if degree == Durability::Fsync && loaded.latest > durable {
            let latest = loaded.latest;
            loaded = self.load(channel, degree, durable)?;
            summary.trimming = Some((latest, summary.oldest));
            summary.oldest = summary.oldest.min(loaded.summary.oldest);
            summary.erased.extend(&loaded.summary.erased);
        }
        let generation = lock(&self.state).meta.generation(degree, self.id(channel).bucket());
        Ok((Woken { checkpoint: loaded.checkpoint, tail: loaded.tail, generation }, summary))
    }

    /// Whole batches that hold the records of `span`, ascending; the first may begin before it. Empty if the first of them is not
    /// committed to `degree` yet.
    ///
    /// # Errors
    /// [`ReadFault::Gone`] if the first of them is not there in that epoch.
    pub fn read(
        &self,
        channel: &ChannelName,
        degree: Durability,
        span: Span,
    ) -> Result<Vec<Arc<Batch>>, ReadFault> {
        self.healthy().map_err(ReadFault::Failed)?;
        let limit = if degree == Durability::Fsync { self.durable.load(Ordering::Acquire) } else { u64::MAX };
        let awake = lock(&self.state).awake.get(channel).cloned();
        let summary = match awake {
            Some(summary) => summary,
            None => self.load(channel, degree, limit).map_err(ReadFault::Failed)?.summary,
        };
        let floor = lock(&self.state).meta.floor(degree);
        if !summary.tip.exists
            || summary.tip.epoch.max(floor) != span.epoch
            || span.after + 1 < summary.oldest_at(limit)
        {
            return Err(ReadFault::Gone);
        }
        let id = self.id(channel);
        let ask = Ask {
            later_than: summary.since,
            after: span.after,
            until: span.until,
            max: span.records_max.max(1),
        };
        let found = self.batches(&self.segments_of(id), id, ask).map_err(ReadFault::Failed)?;
        let visible = found.iter().take_while(|l| l.entry.order.0 <= limit).count();
        if visible == 0 && !found.is_empty() {
            return Ok(Vec::new());
        }
        self.page(channel, span, &summary, &found[..visible])
    }

    fn page(
        &self,
        channel: &ChannelName,
        span: Span,
        summary: &Summary,
        found: &[Located],
    ) -> Result<Vec<Arc<Batch>>, ReadFault> {
        let (mut page, mut records, mut cost) = (Vec::new(), 0, 0);
        let mut next = span.after + 1;
        for at in found {
            if at.entry.first > next || records >= span.records_max || cost >= span.bytes_max {
                break;
            }
            let batch = match self.batch(channel, at) {
                Ok(batch) => batch,
                Err(EntryFault::Damaged) => break,
                Err(EntryFault::Disk(fault)) => return Err(ReadFault::Failed(StoreFault::reading(fault))),
            };
            records += batch.after(span.after).len();
            cost += batch.cost();
            next = batch.last() + 1;
            page.push(format::shown(&batch, span.epoch, &summary.erased));
        }
        if page.is_empty() && span.until > span.after {
            return Err(ReadFault::Gone);
        }
        Ok(page)
    }

    /// The channel sleeps: what memory held for it goes.
    pub fn slept(&self, channel: &ChannelName) {
        lock(&self.state).awake.remove(channel);
    }

    /// The sequence up to which everything is durable.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Says in the store's memory that it was closed in order, after a last sync and a mark.
    ///
    /// # Errors
    /// The disk fails; then it was not closed in order.
    pub fn close(&self) -> Result<(), StoreFault> {
        self.sync()?;
        self.mark()?;
        let synced = self.sync()?;
        let mut meta = lock(&self.state).meta.clone();
        (meta.clean, meta.synced) = (true, synced);
        meta.write(&*self.disk).map_err(|fault| StoreFault::at("closing", &fault))
    }

    /// Figures.
    pub fn stat(&self) -> Stat {
        let state = lock(&self.state);
        let open: usize = state
            .segments
            .values()
            .map(|s| match &*read_lock(&s.index) {
                SegmentIndex::Open(index) => index.bytes(),
                SegmentIndex::Sealed(index) => index.bytes(),
            })
            .sum();
        let files = state.segments.values().map(|s| &s.file).chain(state.prepared.values());
        Stat {
            segments: state.segments.len(),
            disk_bytes: files.map(|f| f.len().unwrap_or(0)).sum(),
            spares: state.prepared.len(),
            written: self.written.load(Ordering::Acquire),
            durable: self.durable(),
            channels: state.slots.len(),
            awake: state.awake.len(),
            index_bytes: state.slots.bytes() + open,
            cache_bytes: lock(&self.cache).bytes(),
            full: state.full,
            space: self.disk.space().ok(),
        }
    }

    pub(crate) fn id(&self, channel: &ChannelName) -> Id {
        Id::of(&self.salt, channel.as_str(), self.options.hash_mask)
    }

    pub(crate) fn healthy(&self) -> Result<(), StoreFault> {
        match self.poison.get() {
            Some(what) => Err(StoreFault::Poisoned(what.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn poisoned(&self, doing: &str, fault: &io::Error) -> StoreFault {
        let what = self.poison.get_or_init(|| Arc::from(format!("{doing}: {fault}")));
        StoreFault::Poisoned(what.clone())
    }
}

/// A lock outlives a panic of its holder here: everything behind one is replaced, never half changed across a call that may panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read_lock<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write_lock<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
