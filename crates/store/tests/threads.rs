//! Commit, sync, maintenance and reads at the same time, as a server uses them.

// The store spawns no thread; this test does.
#![allow(clippy::disallowed_methods)]

mod disk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use disk::*;
use fireside_core::{Batch, Checkpoint, Durability, ProposalId, Record};
use fireside_store::{Entry, Outcome, ReadFault, Span};

const RECORDS: u64 = 3000;
const KEEP: u64 = 40;

#[test]
fn everything_at_once_and_then_a_power_cut() {
    let disk = TestDisk::new();
    let store = Arc::new(open(&disk, 1).0);
    let channel = name("a:1");
    let epoch = store.wake(&channel, Durability::Fsync).unwrap().generation;
    let (done, acked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for offset in 1..=RECORDS {
                let records: Vec<Record> = vec![record(offset, &format!("r{offset}:{:-<100}", ""))];
                let previous = ProposalId(u128::from(offset - 1));
                let proposal = ProposalId(u128::from(offset));
                let batch = Batch::new(channel.clone(), epoch, proposal, previous, records);
                let mut group = vec![Entry::Batch { batch, degree: Durability::Fsync }];
                if offset % 50 == 0 {
                    let checkpoint = Checkpoint {
                        epoch,
                        oldest: (offset + 1).saturating_sub(KEEP).max(1),
                        newest: offset,
                        proposal,
                        ..Checkpoint::default()
                    };
                    let (channel, checkpoint) = (channel.clone(), Arc::new(checkpoint));
                    group.push(Entry::Checkpoint { channel, checkpoint, degree: Durability::Fsync });
                }
                let committed = store.commit(&group).unwrap();
                assert!(committed.outcomes.iter().all(|o| *o == Outcome::Accepted));
            }
            done.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                store.sync().unwrap();
                let woken = store.wake(&channel, Durability::Fsync).unwrap();
                let newest = woken.tail.last().map(|b| b.last()).or(woken.checkpoint.map(|c| c.newest));
                acked.fetch_max(newest.unwrap_or(0), Ordering::AcqRel);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                store.maintain().unwrap();
            }
        });
        scope.spawn(|| {
            let mut read = 0u64;
            while !done.load(Ordering::Acquire) {
                let until = acked.load(Ordering::Acquire);
                let span = Span { epoch, after: read, until, records_max: 50, bytes_max: 1 << 20 };
                match store.read(&channel, Durability::Fsync, span) {
                    Ok(page) => {
                        for record in page.iter().flat_map(|b| b.after(span.after)) {
                            assert_eq!(record.offset, read + 1);
                            assert!(record.body.starts_with(format!("\"r{}:", read + 1).as_bytes()));
                            read += 1;
                        }
                    }
                    // Trimmed meanwhile: told, and the reader goes on from what is there.
                    Err(ReadFault::Gone) => read = until.saturating_sub(1).max(read),
                    Err(ReadFault::Failed(fault)) => panic!("{fault}"),
                }
            }
        });
    });
    store.sync().unwrap();
    while store.maintain().unwrap() != fireside_store::Maintained::Idle {}
    let report = store.check().unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
    assert!(store.stat().segments < 10, "dead segments were given back: {:?}", store.stat());
    drop(store);
    disk.cut_power(&mut Seed(5));
    let app = App::new(&disk, 2);
    assert_eq!(app.end("a:1"), (epoch, RECORDS));
    assert_eq!(app.bodies("a:1").len() as u64, KEEP);
}
