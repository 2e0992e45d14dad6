//! A disk in memory that loses, tears and reorders what was not synced, fills up and fails: the store's `Disk` port.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use fireside_store::{Disk, File};

use crate::lock;
use crate::seed::Seed;
use crate::trace::Trace;

const SECTOR: usize = 512;

/// The medium and the system's cache of it. Survives processes; clones share it.
#[derive(Clone)]
pub struct Medium(Arc<Mutex<Inner>>);

struct Inner {
    names: Names,
    synced_names: Names,
    capacity: u64,
    /// The process whose handles work; those of dead ones do not.
    owner: u64,
    faults: Faults,
    /// Writes and syncs until the owner dies in the middle of one.
    dies_in: Option<u64>,
    died: bool,
    seed: Seed,
    trace: Trace,
}

type Names = BTreeMap<String, Arc<Mutex<Inode>>>;

/// What fails at the moment, in cases of 100.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Syncs of files and of the directory.
    pub syncs: u64,
    /// Writes, some of whose bytes may be there.
    pub writes: u64,
    /// Reads.
    pub reads: u64,
}

struct Inode {
    /// As a process reads it.
    now: Vec<u8>,
    /// As a power cut leaves it at worst.
    synced: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Inode {
    fn settle(&mut self, sector: usize) {
        let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.now.len()));
        let Inode { now, synced, .. } = self;
        synced[from..to].copy_from_slice(&now[from..to]);
    }
}

impl Medium {
    /// An empty disk.
    pub fn new(seed: Seed, trace: Trace) -> Medium {
        Medium(Arc::new(Mutex::new(Inner {
            names: Names::new(),
            synced_names: Names::new(),
            capacity: u64::MAX,
            owner: 0,
            faults: Faults::default(),
            dies_in: None,
            died: false,
            seed,
            trace,
        })))
    }

    /// The disk as process `owner` sees it; every other process's handles stop working.
    pub fn mount(&self, owner: u64) -> Arc<dyn Disk> {
        let mut inner = lock(&self.0);
        (inner.owner, inner.died, inner.dies_in) = (owner, false, None);
        Arc::new(Mounted { medium: self.clone(), owner })
    }

    /// The process that owns it is gone: its handles stop working, what it wrote stays.
    pub fn unmount(&self) {
        lock(&self.0).owner = 0;
    }

    /// What fails from now on.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.0).faults = faults;
    }

    /// Leaves `free` bytes free, or as many as anybody wants.
    pub fn set_free(&self, free: Option<u64>) {
        let mut inner = lock(&self.0);
        inner.capacity = free.map_or(u64::MAX, |free| used(&inner) + free);
    }

    /// The owner dies in the middle of a write or sync soon.
    pub fn die_in(&self, calls: u64) {
        lock(&self.0).dies_in = Some(calls);
    }

    /// True once it did.
    pub fn died(&self) -> bool {
        lock(&self.0).died
    }

    /// The machine's power fails: of what was not synced, whatever the seed says survives.
    pub fn cut_power(&self) {
        let mut inner = lock(&self.0);
        let seed = inner.seed.clone();
        let trace = inner.trace.clone();
        let all: BTreeSet<String> = inner.names.keys().chain(inner.synced_names.keys()).cloned().collect();
        let mut after = Names::new();
        for name in all {
            let (now, synced) = (inner.names.get(&name), inner.synced_names.get(&name));
            let same = matches!((now, synced), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
            let kept = if same || seed.chance(50) { now } else { synced };
            if let Some(inode) = kept {
                after.insert(name, inode.clone());
            }
        }
        let mode = seed.below(4);
        for inode in after.values() {
            cut(&mut lock(inode), mode, &seed, &trace);
        }
        inner.names = after.clone();
        inner.synced_names = after;
    }
}

/// What one file loses: everything, nothing, all behind some sector, or sectors here and there.
fn cut(inode: &mut Inode, mode: u64, seed: &Seed, trace: &Trace) {
    let dirty: Vec<usize> = std::mem::take(&mut inode.dirty).into_iter().collect();
    let prefix = seed.below(dirty.len() as u64 + 1) as usize;
    let (mut lost_before, mut reordered) = (false, false);
    let mut kept = 0;
    for (n, sector) in dirty.iter().enumerate() {
        let keep = match mode {
            0 => false,
            1 => true,
            2 => n < prefix,
            _ => seed.chance(50),
        };
        if keep {
            kept += 1;
            reordered |= lost_before;
            inode.settle(*sector);
        } else {
            lost_before = true;
            trace.count("lost sectors");
        }
    }
    if kept > 0 && kept < dirty.len() {
        trace.count("torn writes");
    }
    if reordered {
        trace.count("reordered writes");
    }
    inode.now = inode.synced.clone();
}

fn used(inner: &Inner) -> u64 {
    inner.names.values().map(|inode| lock(inode).now.len() as u64).sum()
}

/// The disk in the hands of one process.
struct Mounted {
    medium: Medium,
    owner: u64,
}

struct Handle {
    medium: Medium,
    owner: u64,
    inode: Arc<Mutex<Inode>>,
}

fn gone() -> io::Error {
    io::Error::other("the process is dead")
}

impl Medium {
    fn alive(&self, owner: u64) -> io::Result<()> {
        let inner = lock(&self.0);
        if inner.owner == owner && !inner.died { Ok(()) } else { Err(gone()) }
    }

    /// Counts down to the owner's death. True if this very call is its last.
    fn dies_now(&self) -> bool {
        let mut inner = lock(&self.0);
        let Some(left) = &mut inner.dies_in else { return false };
        if *left > 0 {
            *left -= 1;
            return false;
        }
        (inner.dies_in, inner.died) = (None, true);
        inner.trace.count("deaths in a write or sync");
        true
    }

    fn fails(&self, which: impl Fn(&Faults) -> u64, kind: &'static str, what: &str) -> io::Result<()> {
        let inner = lock(&self.0);
        let per_cent = which(&inner.faults);
        if per_cent == 0 || !inner.seed.chance(per_cent) {
            return Ok(());
        }
        inner.trace.count(kind);
        inner.trace.note(kind, "", 0);
        Err(io::Error::other(what))
    }
}

impl Disk for Mounted {
    fn list(&self) -> io::Result<Vec<String>> {
        self.medium.alive(self.owner)?;
        Ok(lock(&self.medium.0).names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.medium.alive(self.owner)?;
        let inode = lock(&self.medium.0).names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Handle { medium: self.medium.clone(), owner: self.owner, inode }))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        self.medium.alive(self.owner)?;
        let mut inner = lock(&self.medium.0);
        if used(&inner) + len > inner.capacity {
            inner.trace.count("full disk");
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; len as usize];
        let inode = Arc::new(Mutex::new(Inode { now: zeros.clone(), synced: zeros, dirty: BTreeSet::new() }));
        inner.names.insert(name.to_owned(), inode.clone());
        Ok(Arc::new(Handle { medium: self.medium.clone(), owner: self.owner, inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.medium.alive(self.owner)?;
        let mut inner = lock(&self.medium.0);
        let inode = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.medium.alive(self.owner)?;
        let removed = lock(&self.medium.0).names.remove(name);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.medium.alive(self.owner)?;
        if self.medium.dies_now() {
            return Err(gone());
        }
        self.medium.fails(|faults| faults.syncs, "failed syncs", "the directory could not be synced")?;
        let mut inner = lock(&self.medium.0);
        inner.synced_names = inner.names.clone();
        Ok(())
    }

    fn space(&self) -> io::Result<u64> {
        let inner = lock(&self.medium.0);
        Ok(inner.capacity.saturating_sub(used(&inner)))
    }
}

impl Handle {
    fn put(&self, buf: &[u8], at: usize) {
        let mut inode = lock(&self.inode);
        let to = at + buf.len();
        assert!(to <= inode.now.len(), "a write beyond what was allocated");
        inode.now[at..to].copy_from_slice(buf);
        inode.dirty.extend(at / SECTOR..to.div_ceil(SECTOR));
    }
}

impl File for Handle {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.medium.alive(self.owner)?;
        self.medium.fails(|faults| faults.reads, "failed reads", "the disk refuses a read")?;
        let inode = lock(&self.inode);
        let from = (at as usize).min(inode.now.len());
        let n = buf.len().min(inode.now.len() - from);
        buf[..n].copy_from_slice(&inode.now[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.medium.alive(self.owner)?;
        let seed = lock(&self.medium.0).seed.clone();
        if self.medium.dies_now() {
            self.put(&buf[..seed.below(buf.len() as u64 + 1) as usize], at as usize);
            return Err(gone());
        }
        let failed = self.medium.fails(|faults| faults.writes, "failed writes", "the disk refuses a write");
        if failed.is_err() {
            self.put(&buf[..seed.below(buf.len() as u64 + 1) as usize], at as usize);
            return failed;
        }
        self.put(buf, at as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.medium.alive(self.owner)?;
        let seed = lock(&self.medium.0).seed.clone();
        if self.medium.dies_now() {
            let mut inode = lock(&self.inode);
            let half: Vec<usize> = inode.dirty.iter().copied().filter(|_| seed.chance(50)).collect();
            for sector in half {
                inode.settle(sector);
                inode.dirty.remove(&sector);
            }
            return Err(gone());
        }
        let failed = self.medium.fails(|faults| faults.syncs, "failed syncs", "the disk refuses a sync");
        let mut inode = lock(&self.inode);
        let dirty = std::mem::take(&mut inode.dirty);
        // As real systems do: after a failed sync what was dirty counts as clean, and some of it is not on the medium.
        for sector in dirty {
            if failed.is_ok() || seed.chance(50) {
                inode.settle(sector);
            }
        }
        failed
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.inode).now.len() as u64)
    }
}
