//! A disk in memory that loses, tears, fills up and fails.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use fireside_core::{Author, Batch, ChannelName, Durability, Epoch, Kind, ProposalId, Record};
use fireside_store::{Disk, Entry, File, OpenReport, Options, Outcome, Start, Store, StoreFault};

const SECTOR: usize = 512;

#[derive(Default)]
struct Inode {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Sectors that differ, perhaps.
    dirty: std::collections::BTreeSet<usize>,
}

#[derive(Default)]
struct Inner {
    names: BTreeMap<String, Arc<Mutex<Inode>>>,
    synced_names: BTreeMap<String, Arc<Mutex<Inode>>>,
    capacity: u64,
    fail_syncs: bool,
    fail_writes: bool,
    spoil_next_write: bool,
    syncs: u64,
}

/// Clones share the same disk.
#[derive(Clone)]
pub struct TestDisk(Arc<Mutex<Inner>>);

struct TestFile {
    inode: Arc<Mutex<Inode>>,
    disk: TestDisk,
}

/// A small generator, so that every run is the same.
pub struct Seed(pub u64);

impl Seed {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

impl TestDisk {
    pub fn new() -> Self {
        TestDisk(Arc::new(Mutex::new(Inner { capacity: u64::MAX, ..Inner::default() })))
    }

    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().unwrap().capacity = bytes;
    }

    pub fn used(&self) -> u64 {
        used(&self.0.lock().unwrap())
    }

    pub fn fail_syncs(&self, fail: bool) {
        self.0.lock().unwrap().fail_syncs = fail;
    }

    pub fn fail_writes(&self, fail: bool) {
        self.0.lock().unwrap().fail_writes = fail;
    }

    /// The next write fails, though all of it arrives.
    pub fn spoil_next_write(&self) {
        self.0.lock().unwrap().spoil_next_write = true;
    }

    pub fn syncs(&self) -> u64 {
        self.0.lock().unwrap().syncs
    }

    /// Takes the machine's power: of what was not synced, whatever the seed says survives.
    pub fn cut_power(&self, seed: &mut Seed) {
        let mut inner = self.0.lock().unwrap();
        let all: std::collections::BTreeSet<String> =
            inner.names.keys().chain(inner.synced_names.keys()).cloned().collect();
        let mut after = BTreeMap::new();
        for name in all {
            let (now, synced) = (inner.names.get(&name), inner.synced_names.get(&name));
            let same = matches!((now, synced), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
            let kept = if same || seed.below(2) == 0 { now } else { synced };
            if let Some(inode) = kept {
                after.insert(name, inode.clone());
            }
        }
        let mode = seed.below(3);
        for inode in after.values() {
            let mut inode = inode.lock().unwrap();
            for sector in std::mem::take(&mut inode.dirty) {
                let keep = match mode {
                    0 => false,
                    1 => true,
                    _ => seed.below(2) == 0,
                };
                let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(inode.now.len()));
                if keep {
                    let bytes = inode.now[from..to].to_vec();
                    inode.synced[from..to].copy_from_slice(&bytes);
                }
            }
            inode.now = inode.synced.clone();
        }
        inner.names = after.clone();
        inner.synced_names = after;
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().names.keys().cloned().collect()
    }

    pub fn content(&self, name: &str) -> Vec<u8> {
        self.0.lock().unwrap().names[name].lock().unwrap().now.clone()
    }

    /// Changes what is on the medium itself.
    pub fn damage(&self, name: &str, at: usize, change: impl Fn(u8) -> u8) {
        let inner = self.0.lock().unwrap();
        let mut inode = inner.names[name].lock().unwrap();
        inode.now[at] = change(inode.now[at]);
        let byte = inode.now[at];
        inode.synced[at] = byte;
    }

    /// Where `needle` stands in a file.
    pub fn find(&self, name: &str, needle: &[u8]) -> usize {
        let content = self.content(name);
        content.windows(needle.len()).position(|w| w == needle).expect("it is there")
    }

    /// A disk with the same content, of which everything is synced.
    pub fn copy(&self) -> TestDisk {
        let inner = self.0.lock().unwrap();
        let names: BTreeMap<_, _> = inner
            .names
            .iter()
            .map(|(name, inode)| {
                let now = inode.lock().unwrap().now.clone();
                let inode = Inode { synced: now.clone(), now, dirty: Default::default() };
                (name.clone(), Arc::new(Mutex::new(inode)))
            })
            .collect();
        let synced_names = names.clone();
        TestDisk(Arc::new(Mutex::new(Inner { names, synced_names, capacity: u64::MAX, ..Inner::default() })))
    }
}

fn used(inner: &Inner) -> u64 {
    inner.names.values().map(|i| i.lock().unwrap().now.len() as u64).sum()
}

impl Disk for TestDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let inode = self.0.lock().unwrap().names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(TestFile { inode, disk: self.clone() }))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        let mut inner = self.0.lock().unwrap();
        if used(&inner) + len > inner.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; len as usize];
        let inode =
            Arc::new(Mutex::new(Inode { now: zeros.clone(), synced: zeros, dirty: Default::default() }));
        inner.names.insert(name.to_owned(), inode.clone());
        Ok(Arc::new(TestFile { inode, disk: self.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        let inode = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().names.remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        inner.synced_names = inner.names.clone();
        Ok(())
    }

    fn space(&self) -> io::Result<u64> {
        let inner = self.0.lock().unwrap();
        Ok(inner.capacity.saturating_sub(used(&inner)))
    }
}

impl File for TestFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let inode = self.inode.lock().unwrap();
        let from = (at as usize).min(inode.now.len());
        let n = buf.len().min(inode.now.len() - from);
        buf[..n].copy_from_slice(&inode.now[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        if self.disk.0.lock().unwrap().fail_writes {
            return Err(io::Error::other("the disk refuses writes"));
        }
        let is_spoilt = std::mem::take(&mut self.disk.0.lock().unwrap().spoil_next_write);
        let mut inode = self.inode.lock().unwrap();
        let (from, to) = (at as usize, at as usize + buf.len());
        assert!(to <= inode.now.len(), "a write beyond what was allocated");
        inode.now[from..to].copy_from_slice(buf);
        inode.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
        match is_spoilt {
            true => Err(io::Error::other("the write failed")),
            false => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        {
            let mut inner = self.disk.0.lock().unwrap();
            inner.syncs += 1;
            if inner.fail_syncs {
                // As real systems do: what was dirty counts as clean, and is not on the medium.
                self.inode.lock().unwrap().dirty.clear();
                return Err(io::Error::other("sync failed"));
            }
        }
        let mut inode = self.inode.lock().unwrap();
        for sector in std::mem::take(&mut inode.dirty) {
            let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(inode.now.len()));
            let bytes = inode.now[from..to].to_vec();
            inode.synced[from..to].copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.lock().unwrap().now.len() as u64)
    }
}

// ------------------------------------------------------------------------------------------------- what stories need

pub fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

pub fn record(offset: u64, body: &str) -> Record {
    Record {
        offset,
        time_ms: 1_000 + offset,
        kind: Kind::Plain,
        author: Some(Arc::new(Author { user: "anna".into(), client: "c1".into(), ..Author::default() })),
        key: None,
        conflate: None,
        tags: vec![],
        body: format!("\"{body}\"").into_bytes().into(),
    }
}

/// Records `first ..` with these bodies; proposals are the offsets of the last records.
pub fn batch(channel: &str, epoch: Epoch, first: u64, bodies: &[&str]) -> Arc<Batch> {
    let records: Vec<Record> = bodies.iter().zip(first..).map(|(b, offset)| record(offset, b)).collect();
    let proposal = ProposalId(u128::from(first + bodies.len() as u64 - 1));
    Batch::new(name(channel), epoch, proposal, ProposalId(u128::from(first - 1)), records)
}

pub fn start(life: u128) -> Start {
    Start { life, boot_id: "boot-1".into(), now_ms: 1_000_000 }
}

pub fn options() -> Options {
    Options { segment_bytes: 16 << 10, cache_bytes: 1 << 20, copy_bytes: 4 << 10, ..Options::default() }
}

pub fn open(disk: &TestDisk, life: u128) -> (Store, OpenReport) {
    Store::open(Arc::new(disk.clone()), options(), start(life)).unwrap()
}

/// A small application: appends to channels and remembers where they end.
pub struct App {
    pub store: Store,
    pub degree: Durability,
}

impl App {
    pub fn new(disk: &TestDisk, life: u128) -> App {
        App { store: open(disk, life).0, degree: Durability::Fsync }
    }

    pub fn end(&self, channel: &str) -> (Epoch, u64) {
        let woken = self.store.wake(&name(channel), self.degree).unwrap();
        let base = woken.checkpoint.as_ref().map(|c| (c.epoch, c.newest));
        woken.tail.last().map(|b| (b.epoch, b.last())).or(base).unwrap_or((woken.generation, 0))
    }

    /// Appends at the end; not durable yet.
    pub fn append(&self, channel: &str, bodies: &[&str]) -> Outcome {
        let woken = self.store.wake(&name(channel), self.degree).unwrap();
        let (epoch, newest, previous) = match (woken.tail.last(), &woken.checkpoint) {
            (Some(b), _) => (b.epoch, b.last(), b.proposal),
            (None, Some(c)) => (c.epoch, c.newest, c.proposal),
            (None, None) => (woken.generation, 0, ProposalId(0)),
        };
        let records: Vec<Record> = bodies.iter().zip(newest + 1..).map(|(b, o)| record(o, b)).collect();
        let proposal = ProposalId(u128::from(newest + 1) << 64 | u128::from(epoch.0));
        let batch = Batch::new(name(channel), epoch, proposal, previous, records);
        let entry = Entry::Batch { batch, degree: self.degree };
        self.store.commit(&[entry]).unwrap().outcomes[0]
    }

    /// Appends and syncs.
    pub fn publish(&self, channel: &str, bodies: &[&str]) {
        assert_eq!(self.append(channel, bodies), Outcome::Accepted);
        self.store.sync().unwrap();
    }

    /// All bodies that can be read, from the oldest readable on.
    pub fn bodies(&self, channel: &str) -> Vec<String> {
        let (epoch, newest) = self.end(channel);
        let woken = self.store.wake(&name(channel), self.degree).unwrap();
        let oldest = woken.checkpoint.map_or(1, |c| c.oldest.max(1));
        self.read(channel, epoch, oldest - 1, newest)
    }

    pub fn read(&self, channel: &str, epoch: Epoch, after: u64, until: u64) -> Vec<String> {
        let mut found = Vec::new();
        let mut at = after;
        while at < until {
            let span = fireside_store::Span { epoch, after: at, until, records_max: 3, bytes_max: 1 << 20 };
            let page = self.store.read(&name(channel), self.degree, span).unwrap();
            assert!(!page.is_empty());
            for batch in page {
                assert_eq!(batch.epoch, epoch);
                for record in batch.after(at) {
                    assert_eq!(record.offset, at + 1, "dense");
                    at += 1;
                    found.push(String::from_utf8(record.body.to_vec()).unwrap().trim_matches('"').to_owned());
                }
            }
        }
        found
    }

    pub fn idle(&self) {
        self.store.sync().unwrap();
        self.store.mark().unwrap();
        self.store.sync().unwrap();
    }
}

pub fn is_poisoned(fault: &StoreFault) -> bool {
    matches!(fault, StoreFault::Poisoned(_))
}
