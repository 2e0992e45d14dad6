//! A follower of everything that is committed: what it sees, what waits for it, and how it survives a crash.

mod disk;

use std::collections::BTreeMap;

use disk::*;
use fireside_core::{Checkpoint, Durability};
use fireside_store::{Entry, Followed, Follower, Maintained, Outcome, Store};

/// Channel, first and last offset of each batch.
fn seen(followed: &Followed) -> Vec<(String, u64, u64)> {
    followed.batches.iter().map(|b| (b.channel.to_string(), b.first(), b.last())).collect()
}

fn batch_of(channel: &str, first: u64, last: u64) -> (String, u64, u64) {
    (channel.to_owned(), first, last)
}

/// Maintains until nothing is left to do, and returns what was given back.
fn maintain(store: &Store) -> Vec<u32> {
    let mut gone = Vec::new();
    loop {
        match store.maintain().unwrap() {
            Maintained::Idle => return gone,
            Maintained::GivenBack { segment } => gone.push(segment),
            _ => {}
        }
    }
}

/// Writes and syncs a checkpoint that keeps the last record alone.
fn trim(app: &App, channel: &str) {
    let woken = app.store.wake(&name(channel), app.degree).unwrap();
    let (epoch, newest) = app.end(channel);
    let proposal =
        woken.tail.last().map(|b| b.proposal).or(woken.checkpoint.map(|c| c.proposal)).unwrap_or_default();
    let checkpoint =
        Checkpoint { epoch, oldest: newest, newest, time_ms: 1, proposal, ..Checkpoint::default() };
    let entry =
        Entry::Checkpoint { channel: name(channel), checkpoint: checkpoint.into(), degree: app.degree };
    assert_eq!(app.store.commit(&[entry]).unwrap().outcomes, [Outcome::Accepted]);
    app.store.sync().unwrap();
}

#[test]
fn what_is_not_synced_is_not_seen() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    let mut follower = Follower::after(0);
    assert_eq!(app.append("a", &["one", "two"]), Outcome::Accepted);
    let before = follower.next(&app.store, 1 << 20).unwrap();
    assert_eq!((seen(&before), before.sequence), (vec![], 0));
    app.store.sync().unwrap();
    let after = follower.next(&app.store, 1 << 20).unwrap();
    assert_eq!(seen(&after), [batch_of("a", 1, 2)]);
    assert_eq!(after.sequence, app.store.durable());
    assert_eq!(seen(&follower.next(&app.store, 1 << 20).unwrap()), []);
}

#[test]
fn groups_come_in_order_and_in_bounded_pages_over_all_segments() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    let body = format!("{:-<900}", "");
    for _ in 0..40 {
        app.publish("a", &[&body]);
        app.publish("b", &[&body]);
    }
    maintain(&app.store);
    assert!(app.store.stat().segments > 3);
    let (mut follower, mut all, mut pages) = (Follower::after(0), Vec::new(), 0);
    loop {
        let page = follower.next(&app.store, 4_000).unwrap();
        if page.batches.is_empty() {
            break;
        }
        assert!(page.batches.len() <= 5, "a page is bounded");
        (pages, all) = (pages + 1, [all, seen(&page)].concat());
    }
    let expected: Vec<_> = (1..=40).flat_map(|n| [batch_of("a", n, n), batch_of("b", n, n)]).collect();
    assert_eq!(all, expected);
    assert!(pages > 10);
    let least = Follower::after(0).next(&app.store, 0).unwrap();
    assert_eq!(seen(&least), [batch_of("a", 1, 1)], "a page has at least one group");
}

#[test]
fn segments_wait_for_the_follower_and_copies_are_no_news() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.store.passed(0);
    app.publish("kept", &["small"]);
    let body = format!("{:-<1000}", "");
    for _ in 0..60 {
        app.publish("a", &[&body]);
    }
    trim(&app, "a");
    assert!(maintain(&app.store).is_empty(), "nothing was passed yet");

    let mut follower = Follower::after(0);
    let half = follower.next(&app.store, 25_000).unwrap();
    app.store.passed(half.sequence);
    let gone = maintain(&app.store);
    assert!(!gone.is_empty(), "what was passed is given back");
    let rest = follower.next(&app.store, 1 << 20).unwrap();
    let all = [seen(&half), seen(&rest)].concat();
    let expected: Vec<_> =
        std::iter::once(batch_of("kept", 1, 1)).chain((1..=60).map(|n| batch_of("a", n, n))).collect();
    assert_eq!(all, expected, "each once, though `kept` was copied forward meanwhile");

    app.store.passed(rest.sequence);
    assert!(!maintain(&app.store).is_empty(), "and so is the rest");
    assert_eq!(app.bodies("kept"), ["small"]);
    assert_eq!(seen(&follower.next(&app.store, 1 << 20).unwrap()), [], "the copy is no news either");
}

#[test]
fn a_follower_that_finds_its_segment_gone_goes_on_with_what_is_left() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    let body = format!("{:-<1000}", "");
    let mut follower = Follower::after(0);
    for _ in 0..60 {
        app.publish("a", &[&body]);
    }
    follower.next(&app.store, 1).unwrap();
    trim(&app, "a");
    assert!(!maintain(&app.store).is_empty());
    let rest = follower.next(&app.store, 1 << 20).unwrap();
    assert_eq!(seen(&rest).last(), Some(&batch_of("a", 60, 60)));
    assert_eq!(rest.sequence, app.store.durable());
}

#[test]
fn a_damaged_group_is_counted_and_what_follows_it_is_seen() {
    let disk = TestDisk::new();
    {
        let app = App::new(&disk, 1);
        app.publish("a", &["first"]);
        app.publish("b", &["wounded"]);
        app.publish("a", &["third"]);
        app.idle();
    }
    let file = disk.names().into_iter().find(|n| n.ends_with(".log")).unwrap();
    let at = disk.find(&file, b"wounded");
    disk.damage(&file, at, |byte| byte ^ 1);
    let app = App::new(&disk, 2);
    let followed = Follower::after(0).next(&app.store, 1 << 20).unwrap();
    assert_eq!(seen(&followed), [batch_of("a", 1, 1), batch_of("a", 2, 2)]);
    assert_eq!(followed.damaged, 1);
    assert_eq!(followed.sequence, app.store.durable());
}

/// Powers are cut at random places. Whoever stores what it followed and the sequence in one write has each surviving record once.
#[test]
fn nothing_is_missed_or_seen_twice_over_crashes() {
    for seed in 0..60 {
        let mut seed = Seed(seed);
        let disk = TestDisk::new();
        let (mut stored, mut at) = (BTreeMap::<String, Vec<u64>>::new(), 0);
        for life in 1..=8 {
            let app = App { store: open(&disk, life).0, degree: Durability::Fsync };
            app.store.passed(at);
            let mut follower = Follower::after(at);
            for _ in 0..seed.below(60) {
                let channel = format!("c{}", seed.below(3));
                match seed.below(6) {
                    0 => {
                        app.store.sync().unwrap();
                    }
                    1 => {
                        let page = follower.next(&app.store, 1 + seed.below(4_000) as usize).unwrap();
                        for batch in &page.batches {
                            let offsets = batch.records.iter().map(|r| r.offset);
                            stored.entry(batch.channel.to_string()).or_default().extend(offsets);
                        }
                        at = page.sequence;
                        app.store.passed(at);
                    }
                    2 if app.end(&channel).1 > 0 => trim(&app, &channel),
                    3 => {
                        app.store.maintain().unwrap();
                    }
                    _ => {
                        app.append(&channel, &[&format!("{:-<700}", "")]);
                    }
                }
            }
            drop(app);
            disk.cut_power(&mut seed);
        }
        let app = App { store: open(&disk, 99).0, degree: Durability::Fsync };
        let rest = Follower::after(at).next(&app.store, usize::MAX).unwrap();
        for batch in &rest.batches {
            let offsets = batch.records.iter().map(|r| r.offset);
            stored.entry(batch.channel.to_string()).or_default().extend(offsets);
        }
        for (channel, offsets) in stored {
            let newest = app.end(&channel).1;
            assert_eq!(offsets, (1..=newest).collect::<Vec<_>>(), "{channel}");
        }
    }
}
