//! The rules of the log, one story each.

mod disk;

use std::sync::Arc;

use disk::*;
use fireside_core::{Checkpoint, Durability, Epoch, ProposalId};
use fireside_store::{Entry, Outcome, ReadFault, Span, Start, Store};

fn numbered(from: u64, to: u64) -> Vec<String> {
    (from..=to).map(|n| format!("r{n}")).collect()
}

fn publish_numbered(app: &App, channel: &str, from: u64, to: u64) {
    for n in from..=to {
        app.publish(channel, &[&format!("r{n}")]);
    }
}

#[test]
fn what_was_synced_is_there_after_a_power_cut() {
    for seed in 0..40 {
        let disk = TestDisk::new();
        let app = App::new(&disk, 1);
        publish_numbered(&app, "a:1", 1, 20);
        publish_numbered(&app, "b:1", 1, 5);
        let end = app.end("a:1");
        drop(app);
        disk.cut_power(&mut Seed(seed));
        let app = App::new(&disk, 2);
        assert_eq!(app.end("a:1"), end, "the same epoch, the same end");
        assert_eq!(app.bodies("a:1"), numbered(1, 20));
        assert_eq!(app.bodies("b:1"), numbered(1, 5));
    }
}

#[test]
fn a_channel_spans_segments() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    for n in 1..=30 {
        app.publish("a:1", &[&format!("{n:-<2000}")]);
    }
    assert!(app.store.stat().segments > 3);
    assert_eq!(app.bodies("a:1").len(), 30);
    drop(app);
    assert_eq!(App::new(&disk, 2).bodies("a:1").len(), 30);
}

#[test]
fn an_append_names_where_the_log_ends() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.publish("a:1", &["r1", "r2"]);
    let (epoch, _) = app.end("a:1");
    let other = |epoch, first, previous: u128| {
        let b = batch("a:1", epoch, first, &["x"]);
        let b = fireside_core::Batch::new(
            b.channel.clone(),
            epoch,
            ProposalId(99),
            ProposalId(previous),
            b.records.to_vec(),
        );
        Entry::Batch { batch: b, degree: Durability::Fsync }
    };
    let tail = app.store.wake(&name("a:1"), Durability::Fsync).unwrap().tail.pop().unwrap().proposal.0;
    let good = batch("b:1", app.end("b:1").0, 1, &["y"]);
    let group = [
        other(epoch, 2, tail),
        other(epoch, 4, tail),
        other(Epoch(epoch.0 + 1), 3, tail),
        other(epoch, 3, tail + 1),
        Entry::Batch { batch: good, degree: Durability::Fsync },
        other(epoch, 3, tail),
        other(epoch, 3, tail),
    ];
    use Outcome::{Accepted, Conflict};
    let done = app.store.commit(&group).unwrap();
    assert_eq!(
        done.outcomes,
        [Conflict, Conflict, Conflict, Conflict, Accepted, Accepted, Conflict],
        "each for itself"
    );
    app.store.sync().unwrap();
    assert_eq!(app.bodies("a:1"), ["r1", "r2", "x"]);
}

#[test]
fn reads_show_only_what_the_degree_has_committed() {
    let disk = TestDisk::new();
    let mut app = App::new(&disk, 1);
    app.publish("a:1", &["r1"]);
    let (epoch, _) = app.end("a:1");
    assert_eq!(app.append("a:1", &["r2"]), Outcome::Accepted);
    assert_eq!(app.end("a:1"), (epoch, 1));
    let span = Span { epoch, after: 1, until: 2, records_max: 9, bytes_max: 9999 };
    assert!(app.store.read(&name("a:1"), Durability::Fsync, span).unwrap().is_empty());
    app.store.sync().unwrap();
    assert_eq!(app.end("a:1"), (epoch, 2));
    app.degree = Durability::Os;
    assert_eq!(app.append("o:1", &["s1"]), Outcome::Accepted);
    assert_eq!(app.bodies("o:1"), ["s1"], "written is enough for `os`");
}

#[test]
fn a_kill_between_write_and_sync_then_a_power_cut_lies_to_nobody() {
    // What the second life showed must survive the power cut, though only the first life wrote it.
    for seed in 0..20 {
        let disk = TestDisk::new();
        let app = App::new(&disk, 1);
        app.publish("a:1", &["r1"]);
        assert_eq!(app.append("a:1", &["r2"]), Outcome::Accepted);
        drop(app);
        let app = App::new(&disk, 2);
        let shown = (app.end("a:1"), app.bodies("a:1"));
        assert_eq!(shown.1, ["r1", "r2"]);
        drop(app);
        disk.cut_power(&mut Seed(seed));
        let app = App::new(&disk, 3);
        assert_eq!((app.end("a:1"), app.bodies("a:1")), shown);
    }
}

#[test]
fn a_failed_sync_ends_the_store_and_the_next_life_does_not_believe_the_page_cache() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.publish("a:1", &["r1"]);
    assert_eq!(app.append("a:1", &["r2"]), Outcome::Accepted);
    disk.fail_syncs(true);
    assert!(is_poisoned(&app.store.sync().unwrap_err()));
    disk.fail_syncs(false);
    assert!(is_poisoned(&app.store.sync().unwrap_err()), "a second sync would succeed without the data");
    assert!(is_poisoned(&app.store.commit(&[]).unwrap_err()));
    drop(app);
    let app = App::new(&disk, 2);
    let shown = (app.end("a:1"), app.bodies("a:1"));
    drop(app);
    disk.cut_power(&mut Seed(0));
    let app = App::new(&disk, 3);
    assert_eq!((app.end("a:1"), app.bodies("a:1")), shown);
}

#[test]
fn an_empty_channel_keeps_the_generation_that_it_answered_with() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    let (generation, newest) = app.end("a:1");
    assert_eq!(newest, 0);
    drop(app);
    let app = App::new(&disk, 2);
    app.publish("a:1", &["r1"]);
    assert_eq!(app.end("a:1"), (generation, 1));
}

#[test]
fn a_forgotten_channel_has_a_later_epoch_in_its_next_life() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.publish("a:1", &["r1"]);
    let (before, _) = app.end("a:1");
    let stale = batch("a:1", before, 1, &["stale"]);
    let forget = Entry::Forget { channel: name("a:1"), degree: Durability::Fsync };
    assert_eq!(app.store.commit(&[forget]).unwrap().outcomes, [Outcome::Accepted]);
    app.store.sync().unwrap();
    let entry = Entry::Batch { batch: stale, degree: Durability::Fsync };
    assert_eq!(app.store.commit(&[entry]).unwrap().outcomes, [Outcome::Conflict]);
    let (after, newest) = app.end("a:1");
    assert!(after > before && newest == 0);
    drop(app);
    let app = App::new(&disk, 2);
    assert_eq!(app.end("a:1"), (after, 0));
    app.publish("a:1", &["n1"]);
    assert_eq!(app.bodies("a:1"), ["n1"]);
    let span = Span { epoch: before, after: 0, until: 1, records_max: 9, bytes_max: 999 };
    assert!(matches!(app.store.read(&name("a:1"), Durability::Fsync, span), Err(ReadFault::Gone)));
}

#[test]
fn an_os_channel_gets_a_new_epoch_after_an_unclean_end_of_the_machine_only() {
    let disk = TestDisk::new();
    let boot = |life, boot: &str| {
        let start = Start { life, boot_id: boot.into(), now_ms: 1_000_000 };
        let (store, report) = Store::open(Arc::new(disk.clone()), options(), start).unwrap();
        (App { store, degree: Durability::Os }, report)
    };
    let (mut app, _) = boot(1, "one");
    app.append("o:1", &["s1"]);
    let first = app.end("o:1");
    app.degree = Durability::Fsync;
    app.publish("f:1", &["r1"]);
    let fsync = app.end("f:1");
    drop(app);
    // kill -9
    let (app, report) = boot(2, "one");
    assert_eq!(app.end("o:1"), first);
    assert!(report.new_epochs.is_empty());
    app.store.close().unwrap();
    drop(app);
    // An orderly shutdown, then another boot.
    let (app, report) = boot(3, "two");
    assert_eq!(app.end("o:1"), first);
    assert!(report.new_epochs.is_empty());
    drop(app);
    // Power cut.
    disk.cut_power(&mut Seed(3));
    let (mut app, report) = boot(4, "three");
    assert_eq!(report.new_epochs.len(), 1);
    let (epoch, newest) = app.end("o:1");
    assert!(epoch > first.0);
    assert_eq!(newest, 1);
    assert_eq!(app.bodies("o:1"), ["s1"], "what is there stays readable");
    assert_eq!(app.append("o:1", &["s2"]), Outcome::Accepted);
    assert_eq!(app.bodies("o:1"), ["s1", "s2"]);
    app.degree = Durability::Fsync;
    assert_eq!(app.end("f:1"), fsync);
}

#[test]
fn waking_reads_the_checkpoint_and_what_follows_it() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    publish_numbered(&app, "a:1", 1, 6);
    let woken = app.store.wake(&name("a:1"), Durability::Fsync).unwrap();
    let last = &woken.tail[5];
    let checkpoint = Checkpoint {
        epoch: last.epoch,
        oldest: 4,
        newest: 6,
        time_ms: 1006,
        proposal: last.proposal,
        ..Checkpoint::default()
    };
    let entry = Entry::Checkpoint {
        channel: name("a:1"),
        checkpoint: Arc::new(checkpoint.clone()),
        degree: Durability::Fsync,
    };
    assert_eq!(app.store.commit(&[entry]).unwrap().outcomes, [Outcome::Accepted]);
    publish_numbered(&app, "a:1", 7, 8);
    for app in [app, App::new(&disk, 2)] {
        let woken = app.store.wake(&name("a:1"), Durability::Fsync).unwrap();
        assert_eq!(woken.checkpoint.as_ref(), Some(&checkpoint));
        assert_eq!(woken.tail.iter().map(|b| b.last()).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(app.bodies("a:1"), numbered(4, 8));
        let span = Span { epoch: checkpoint.epoch, after: 2, until: 8, records_max: 9, bytes_max: 999 };
        assert!(matches!(app.store.read(&name("a:1"), Durability::Fsync, span), Err(ReadFault::Gone)));
    }
}

#[test]
fn erasing_a_record_leaves_its_offset() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.publish("a:1", &["r1", "secret", "r3"]);
    let (epoch, _) = app.end("a:1");
    let erase = Entry::Erase { channel: name("a:1"), epoch, offset: 2, degree: Durability::Fsync };
    assert_eq!(app.store.commit(&[erase]).unwrap().outcomes, [Outcome::Accepted]);
    app.store.sync().unwrap();
    assert_eq!(app.bodies("a:1"), ["r1", "null", "r3"]);
    drop(app);
    let app = App::new(&disk, 2);
    assert_eq!(app.bodies("a:1"), ["r1", "null", "r3"]);
    let woken = app.store.wake(&name("a:1"), Durability::Fsync).unwrap();
    assert_eq!(woken.tail[0].records[1].kind, fireside_core::Kind::Tombstone);
}

#[test]
fn of_a_write_that_failed_nothing_is_found_later() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.publish("a:1", &["r1"]);
    let most = "x".repeat(options().segment_bytes as usize * 3 / 4);
    disk.spoil_next_write();
    let entry = {
        let woken = app.store.wake(&name("b:1"), app.degree).unwrap();
        let batch = batch("b:1", woken.generation, 1, &[&most]);
        Entry::Batch { batch, degree: app.degree }
    };
    app.store.commit(&[entry]).unwrap_err();
    // A short group takes its place, and a long one that no longer fits begins the next segment.
    app.publish("a:1", &["r2"]);
    app.publish("c:1", &["y".repeat(options().segment_bytes as usize * 15 / 16).as_str()]);
    assert_eq!(app.bodies("a:1"), ["r1", "r2"]);
    assert_eq!(app.bodies("b:1"), [""; 0]);
    let report = app.store.check().unwrap();
    assert!(report.is_sound(), "{report:?}");
}
