//! What a great many sleeping channels cost.

// The store reads no clock; this test measures it.
#![allow(clippy::disallowed_methods)]

mod disk;

use std::sync::Arc;
use std::time::Instant;

use disk::*;
use fireside_core::{Batch, Durability, Epoch, ProposalId};
use fireside_store::{Entry, Maintained, Options, Outcome, Start, Store};

const CHANNELS: usize = 200_000;
/// Tens of bytes: a slot of a hash table that may be half empty.
const BYTES_PER_CHANNEL_MAX: usize = 80;

#[test]
fn sleeping_channels_cost_tens_of_bytes_each() {
    let disk = TestDisk::new();
    let options = Options { segment_bytes: 8 << 20, cache_bytes: 1 << 20, ..Options::default() };
    let open = |life| {
        let start = Start { life, boot_id: "boot".into(), now_ms: 1_000 };
        Store::open(Arc::new(disk.clone()), options.clone(), start).unwrap()
    };
    let (store, _) = open(1);
    let began = Instant::now();
    for chunk in 0..CHANNELS / 1000 {
        let entries: Vec<Entry> = (0..1000)
            .map(|n| {
                let channel = name(&format!("story:{}", chunk * 1000 + n));
                let records = vec![record(1, "It was a dark and stormy night")];
                let batch = Batch::new(channel, Epoch(1_000), ProposalId(1), ProposalId(0), records);
                Entry::Batch { batch, degree: Durability::Fsync }
            })
            .collect();
        let done = store.commit(&entries).unwrap();
        assert!(done.outcomes.iter().all(|o| *o == Outcome::Accepted));
        store.sync().unwrap();
    }
    println!("written: {:?}", began.elapsed());
    while !matches!(store.maintain().unwrap(), Maintained::Idle) {}
    let stat = store.stat();
    println!(
        "{} channels in {} segments: {} bytes of index each (the segment being written included)",
        stat.channels,
        stat.segments,
        stat.index_bytes / CHANNELS
    );
    assert_eq!(stat.channels, CHANNELS);
    assert!(stat.index_bytes / CHANNELS <= BYTES_PER_CHANNEL_MAX);
    drop(store);

    let began = Instant::now();
    let (store, report) = open(2);
    println!("opened in {:?}, {} groups read", began.elapsed(), report.groups);
    let began = Instant::now();
    for n in 0..1000 {
        let channel = name(&format!("story:{}", n * 199));
        let woken = store.wake(&channel, Durability::Fsync).unwrap();
        assert_eq!(woken.tail.len(), 1);
        store.slept(&channel);
    }
    println!("waking one: {:?}", began.elapsed() / 1000);
    assert_eq!(store.stat().awake, 0);
    assert_eq!(store.stat().channels, CHANNELS);
}
