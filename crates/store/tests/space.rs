//! Giving back what is dead, and a disk without room.

mod disk;

use std::sync::Arc;

use disk::*;
use fireside_core::{Checkpoint, Durability, Kind};
use fireside_store::{Disk, Entry, Maintained, Options, Outcome, Purged, Store};

/// Maintains until nothing is left to do, and returns what was given back.
fn maintain(store: &Store) -> Vec<u32> {
    let mut gone = Vec::new();
    for _ in 0..10_000 {
        match store.maintain().unwrap() {
            Maintained::Idle => return gone,
            Maintained::GivenBack { segment } => gone.push(segment),
            _ => {}
        }
    }
    panic!("maintenance does not come to rest");
}

fn fill(app: &App, channel: &str, records: u64) {
    for _ in 0..records {
        app.publish(channel, &[&format!("{:-<1000}", "")]);
    }
}

/// Writes a checkpoint that keeps the last `keep` records.
fn trim(app: &App, channel: &str, keep: u64) {
    let woken = app.store.wake(&name(channel), app.degree).unwrap();
    let (epoch, newest) = app.end(channel);
    let proposal =
        woken.tail.last().map(|b| b.proposal).or(woken.checkpoint.map(|c| c.proposal)).unwrap_or_default();
    let checkpoint = Checkpoint {
        epoch,
        oldest: newest + 1 - keep,
        newest,
        time_ms: 1,
        proposal,
        ..Checkpoint::default()
    };
    let entry =
        Entry::Checkpoint { channel: name(channel), checkpoint: Arc::new(checkpoint), degree: app.degree };
    assert_eq!(app.store.commit(&[entry]).unwrap().outcomes, [Outcome::Accepted]);
    app.store.sync().unwrap();
}

#[test]
fn segments_without_anything_alive_are_given_back() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    fill(&app, "a:1", 60);
    maintain(&app.store);
    let before = app.store.stat().segments;
    trim(&app, "a:1", 3);
    let gone = maintain(&app.store);
    assert!(!gone.is_empty());
    assert!(app.store.stat().segments < before);
    assert_eq!(app.bodies("a:1").len(), 3);
    assert!(app.store.check().unwrap().is_sound());
    drop(app);
    disk.cut_power(&mut Seed(1));
    let (store, report) = open(&disk, 2);
    assert!(report.damage.is_empty() && report.torn.is_none(), "{report:?}");
    let app = App { store, degree: Durability::Fsync };
    assert_eq!(app.bodies("a:1").len(), 3);
    assert_eq!(app.end("a:1").1, 60);
}

#[test]
fn what_is_alive_in_a_mostly_dead_segment_is_copied_forward_in_its_order() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    // A quiet channel with a record in each of the segments that a busy one fills.
    for n in 1..=6 {
        app.publish("quiet:1", &[&format!("r{n}")]);
        fill(&app, "busy:1", 14);
    }
    let end = app.end("quiet:1");
    trim(&app, "busy:1", 2);
    let gone = maintain(&app.store);
    assert!(gone.len() >= 3, "{gone:?}");
    let quiet: Vec<String> = (1..=6).map(|n| format!("r{n}")).collect();
    assert_eq!(app.bodies("quiet:1"), quiet);
    app.publish("quiet:1", &["r7"]);
    let report = app.store.check().unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
    drop(app);
    for seed in 0..8 {
        let disk = disk.copy();
        disk.cut_power(&mut Seed(seed));
        let app = App::new(&disk, 2);
        assert_eq!(app.end("quiet:1"), (end.0, 7));
        assert_eq!(app.bodies("quiet:1")[..6], quiet);
    }
}

#[test]
fn erasure_beats_copies_and_forgetting_is_never_forgotten() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.publish("erase:1", &["keep", "secret"]);
    app.publish("forget:1", &["old life"]);
    let (old, _) = app.end("forget:1");
    fill(&app, "busy:1", 20);
    let (epoch, _) = app.end("erase:1");
    let erase = Entry::Erase { channel: name("erase:1"), epoch, offset: 2, degree: Durability::Fsync };
    let forget = Entry::Forget { channel: name("forget:1"), degree: Durability::Fsync };
    assert_eq!(app.store.commit(&[erase, forget]).unwrap().outcomes, [Outcome::Accepted; 2]);
    fill(&app, "busy:1", 40);
    trim(&app, "busy:1", 1);
    maintain(&app.store);
    fill(&app, "busy:1", 40);
    trim(&app, "busy:1", 1);
    let gone = maintain(&app.store);
    assert!(!gone.is_empty());
    assert_eq!(app.bodies("erase:1"), ["keep", "null"]);
    let (next, newest) = app.end("forget:1");
    assert!(next > old && newest == 0);
    for name in disk.names().iter().filter(|n| n.ends_with(".log")) {
        let content = disk.content(name);
        assert!(!content.windows(6).any(|w| w == b"secret"), "{name}: the copy bears no erased body");
    }
    drop(app);
    let app = App::new(&disk, 2);
    assert_eq!(app.bodies("erase:1"), ["keep", "null"]);
    assert_eq!(app.end("forget:1"), (next, 0), "though its note is gone, the generation stands");
}

#[test]
fn a_purge_leaves_nothing_of_what_was_erased_trimmed_or_forgotten() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    let anywhere = |text: &str| {
        disk.names().iter().any(|n| disk.content(n).windows(text.len()).any(|w| w == text.as_bytes()))
    };
    app.publish("a:1", &["first", "erased words", "third"]);
    app.publish("b:1", &["trimmed words"]);
    app.publish("b:1", &["kept"]);
    app.publish("c:1", &["forgotten words"]);
    let (epoch, _) = app.end("a:1");
    trim(&app, "b:1", 1);
    let erase = Entry::Erase { channel: name("a:1"), epoch, offset: 2, degree: Durability::Fsync };
    let forget = Entry::Forget { channel: name("c:1"), degree: Durability::Fsync };
    app.store.commit(&[erase, forget]).unwrap();
    maintain(&app.store);
    for text in ["erased words", "trimmed words", "forgotten words"] {
        assert!(anywhere(text), "maintenance by itself saw no worth in it: {text}");
    }
    app.store.purge().unwrap();
    assert_eq!(app.store.purged(), Purged::NotYet);
    maintain(&app.store);
    assert_eq!(app.store.purged(), Purged::Done);
    for text in ["erased words", "trimmed words", "forgotten words"] {
        assert!(!anywhere(text), "{text}");
    }
    assert_eq!(app.bodies("a:1"), ["first", "null", "third"]);
    assert_eq!(app.bodies("b:1"), ["kept"]);
    app.publish("a:1", &["fourth"]);
    assert!(app.store.check().unwrap().is_sound());
    let written = app.store.stat().written;
    app.store.purge().unwrap();
    let gone = maintain(&app.store);
    assert_eq!((app.store.purged(), gone), (Purged::Done, Vec::new()), "there is nothing more to give back");
    assert!(app.store.stat().written <= written + 1, "and nothing is copied for it");
    drop(app);
    for seed in 0..8 {
        let disk = disk.copy();
        disk.cut_power(&mut Seed(seed));
        let app = App::new(&disk, 2);
        assert_eq!(app.bodies("a:1"), ["first", "null", "third", "fourth"]);
        assert_eq!(app.bodies("b:1"), ["kept"]);
    }
}

#[test]
fn a_full_disk_refuses_appends_reads_go_on_and_it_recovers() {
    let disk = TestDisk::new();
    disk.set_capacity(16 << 14);
    let app = App::new(&disk, 1);
    let mut written = 0;
    loop {
        match app.append("a:1", &[&format!("{:-<1000}", "")]) {
            Outcome::Accepted => written += 1,
            Outcome::Full => break,
            other => panic!("{other:?}"),
        }
        app.store.sync().unwrap();
        app.store.maintain().unwrap();
        assert!(written < 1000);
    }
    assert!(written > 50);
    assert!(app.store.stat().full);
    assert_eq!(app.bodies("a:1").len(), written, "reads go on");
    // What frees space still works, from the reserve.
    trim(&app, "a:1", 5);
    maintain(&app.store);
    assert_eq!(app.append("a:1", &["again"]), Outcome::Accepted);
    app.store.sync().unwrap();
    assert_eq!(app.bodies("a:1").len(), 6);
    assert!(!app.store.stat().full);
    drop(app);
    let app = App::new(&disk, 2);
    assert_eq!(app.bodies("a:1").len(), 6);
}

#[test]
fn the_end_of_a_run_is_written_though_the_disk_is_full() {
    let disk = TestDisk::new();
    disk.set_capacity(6 << 14);
    let app = App::new(&disk, 1);
    while app.append("a:1", &[&format!("{:-<1000}", "")]) == Outcome::Accepted {
        app.store.sync().unwrap();
    }
    let (epoch, newest) = app.end("b:1");
    assert_eq!(app.append("b:1", &[&format!("{:-<1000}", "")]), Outcome::Full);
    let mut end = record(newest + 1, "end");
    end.kind = Kind::RunEnd;
    let batch = fireside_core::Batch::new(
        name("b:1"),
        epoch,
        fireside_core::ProposalId(5),
        Default::default(),
        vec![end],
    );
    let plain = batch_for(&app, "c:1");
    let group = [plain, Entry::Batch { batch, degree: Durability::Fsync }];
    let done = app.store.commit(&group).unwrap();
    assert!(
        done.outcomes == [Outcome::Full, Outcome::Accepted],
        "only what may use the reserve: {:?}",
        done.outcomes
    );
    app.store.sync().unwrap();
    assert_eq!(app.bodies("b:1"), ["end"]);
}

fn batch_for(app: &App, channel: &str) -> Entry {
    let (epoch, _) = app.end(channel);
    Entry::Batch { batch: batch(channel, epoch, 1, &[&format!("{:-<9000}", "")]), degree: Durability::Fsync }
}

#[test]
fn a_failed_write_is_refused_and_never_turns_up_later() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.publish("a:1", &["r1"]);
    let (epoch, _) = app.end("a:1");
    let entry = Entry::Batch { batch: batch("b:1", epoch, 1, &["x"]), degree: Durability::Fsync };
    disk.fail_writes(true);
    let fault = app.store.commit(&[entry]).unwrap_err();
    assert!(is_poisoned(&fault), "not even the header could be wiped");
    disk.fail_writes(false);
    drop(app);
    let app = App::new(&disk, 2);
    assert_eq!(app.bodies("a:1"), ["r1"]);
    assert_eq!(app.end("b:1").1, 0);
}

#[test]
fn names_that_collide_are_not_mixed() {
    let disk = TestDisk::new();
    let options = Options { hash_mask: 1, ..options() };
    let open = |life| {
        let store = Store::open(Arc::new(disk.clone()), options.clone(), start(life)).unwrap().0;
        App { store, degree: Durability::Fsync }
    };
    let app = open(1);
    for n in 1..=30 {
        for channel in ["a:1", "b:1", "c:1", "d:1"] {
            app.publish(channel, &[&format!("{channel}-{n}-{:-<200}", "")]);
        }
    }
    let forget = Entry::Forget { channel: name("d:1"), degree: Durability::Fsync };
    app.store.commit(&[forget]).unwrap();
    trim(&app, "c:1", 2);
    maintain(&app.store);
    for app in [app, open(2)] {
        for channel in ["a:1", "b:1"] {
            let bodies = app.bodies(channel);
            assert_eq!(bodies.len(), 30);
            assert!(bodies.iter().all(|b| b.starts_with(channel)));
        }
        assert_eq!(app.bodies("c:1").len(), 2);
        assert_eq!(app.end("d:1").1, 0);
    }
}

#[test]
fn opening_a_full_disk_gives_up_a_spare_rather_than_service() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    fill(&app, "a:1", 5);
    maintain(&app.store);
    drop(app);
    disk.set_capacity(disk.used());
    let app = App::new(&disk, 2);
    assert_eq!(app.bodies("a:1").len(), 5);
    assert_eq!(app.append("a:1", &["more"]), Outcome::Accepted);
    assert_eq!(disk.space().unwrap() > 0, app.store.stat().spares < 2);
}
