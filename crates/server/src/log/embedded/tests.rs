//! Who is answered when.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fireside_core::{Epoch, Kind, ProposalId, Record};
use fireside_store::{Disk, File, Options, Start};

use super::*;
use crate::log::disk::Directory;

/// A disk whose syncs wait for permission.
struct Gated {
    inner: Directory,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }
}

struct GatedFile(Arc<dyn File>, Arc<Gate>);

impl Gated {
    fn file(&self, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(file?, self.gate.clone())))
    }
}

impl Disk for Gated {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.file(self.inner.open(name))
    }
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        self.file(self.inner.create(name, len))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }
    fn space(&self) -> io::Result<u64> {
        self.inner.space()
    }
}

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buf, at)
    }
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.0.write_at(buf, at)
    }
    fn sync(&self) -> io::Result<()> {
        let closed = self.1.closed.lock().unwrap();
        drop(self.1.opened.wait_while(closed, |closed| *closed).unwrap());
        self.0.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

fn open(path: &std::path::Path) -> (Embedded, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let disk = Gated { inner: Directory::open(path).unwrap(), gate: gate.clone() };
    let options = Options { segment_bytes: 64 << 10, ..Options::default() };
    let start = Start { life: 7, boot_id: "boot".into(), now_ms: 1_000 };
    let (store, report) = Store::open(Arc::new(disk), options, start).unwrap();
    assert!(report.damage.is_empty());
    (Embedded::start(Arc::new(store), 1_000).unwrap(), gate)
}

fn batch(channel: &str, epoch: Epoch, offset: u64) -> Arc<Batch> {
    let record = Record {
        offset,
        time_ms: 1,
        kind: Kind::Plain,
        author: None,
        key: None,
        conflate: None,
        tags: vec![],
        body: format!("{offset}").into(),
    };
    let previous = ProposalId(u128::from(offset - 1));
    let channel = ChannelName::parse(channel).unwrap();
    Batch::new(channel, epoch, ProposalId(u128::from(offset)), previous, vec![record])
}

fn is_pending<T>(soon: &mut Soon<T>) -> bool {
    matches!(pin!(soon).poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}

#[tokio::test]
async fn no_acknowledgement_precedes_a_returned_sync_and_os_waits_for_none() {
    let directory = tempfile::tempdir().unwrap();
    let (log, gate) = open(directory.path());
    let channel = ChannelName::parse("a:1").unwrap();
    let generation = log.wake(&channel, Durability::Fsync).await.unwrap().generation;
    // The first group makes a segment, which syncs.
    assert_eq!(log.append(batch("c:1", generation, 1), Durability::Fsync).await, Appended::Accepted);
    gate.set(true);
    let mut synced = log.append(batch("a:1", generation, 1), Durability::Fsync);
    // Answered though no sync returns; and it was written after the other, in the same or a later group.
    assert_eq!(log.append(batch("b:1", generation, 1), Durability::Os).await, Appended::Accepted);
    assert!(is_pending(&mut synced));
    assert!(log.wake(&channel, Durability::Fsync).await.unwrap().tail.is_empty(), "nor is it shown");
    gate.set(false);
    assert_eq!(synced.await, Appended::Accepted);
    assert_eq!(log.wake(&channel, Durability::Fsync).await.unwrap().tail.len(), 1);
    log.close().unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_in_the_next_life_and_memory_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (a, m) = (ChannelName::parse("a:1").unwrap(), ChannelName::parse("m:1").unwrap());
    let (log, _gate) = open(directory.path());
    assert!(Directory::open(directory.path()).is_err(), "one process at a time");
    let epoch = log.wake(&a, Durability::Fsync).await.unwrap().generation;
    let answers: Vec<_> =
        (1..=500).map(|offset| log.append(batch("a:1", epoch, offset), Durability::Fsync)).collect();
    for answer in answers {
        assert_eq!(answer.await, Appended::Accepted);
    }
    assert_eq!(log.append(batch("a:1", epoch, 500), Durability::Fsync).await, Appended::Conflict);
    let in_memory = log.wake(&m, Durability::Memory).await.unwrap().generation;
    assert_eq!(log.append(batch("m:1", in_memory, 1), Durability::Memory).await, Appended::Accepted);
    assert_eq!(log.wake(&m, Durability::Memory).await.unwrap().tail.len(), 1);
    log.close().unwrap();
    drop(log);

    let (log, _gate) = open(directory.path());
    let woken = log.wake(&a, Durability::Fsync).await.unwrap();
    assert_eq!(woken.tail.last().unwrap().end(), fireside_core::Position::new(epoch, 500));
    let span = Span { epoch, after: 250, until: 500, records_max: 10, bytes_max: 1 << 20 };
    assert_eq!(log.read(&a, Durability::Fsync, span).await.unwrap()[0].first(), 251);
    assert!(log.wake(&m, Durability::Memory).await.unwrap().tail.is_empty());
    log.close().unwrap();
}
