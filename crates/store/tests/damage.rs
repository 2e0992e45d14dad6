//! Torn tails are cut and reported; damage is named, and nobody is lied to.

mod disk;

use disk::*;
use fireside_core::{Durability, Epoch};
use fireside_store::{ReadFault, Span, check};

const SEGMENT: &str = "segment-00000001.log";

fn publish_numbered(app: &App, channel: &str, from: u64, to: u64) {
    for n in from..=to {
        app.publish(channel, &[&format!("r{n}")]);
    }
}

fn numbered(from: u64, to: u64) -> Vec<String> {
    (from..=to).map(|n| format!("r{n}")).collect()
}

#[test]
fn a_torn_tail_is_cut_and_reported() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    publish_numbered(&app, "a:1", 1, 3);
    let end = app.end("a:1");
    // Written, not synced, and the last byte did not make it.
    app.append("a:1", &["never synced"]);
    drop(app);
    let at = disk.find(SEGMENT, b"never synced");
    disk.damage(SEGMENT, at, |b| b ^ 1);
    assert!(check(&disk).unwrap().torn.is_some());
    let (store, report) = open(&disk, 2);
    let torn = report.torn.expect("reported");
    assert_eq!(torn.sequence, 4);
    assert!(report.damage.is_empty() && report.new_epochs.is_empty());
    let app = App { store, degree: Durability::Fsync };
    assert_eq!(app.end("a:1"), end, "same epoch: nobody was shown what is gone");
    publish_numbered(&app, "a:1", 4, 5);
    assert_eq!(app.bodies("a:1"), numbered(1, 5));
    drop(app);
    let (_, report) = open(&disk, 3);
    assert!(report.torn.is_none());
    assert!(check(&disk).unwrap().is_sound());
}

#[test]
fn a_torn_header_and_what_follows_it_is_cut() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    publish_numbered(&app, "a:1", 1, 3);
    app.append("a:1", &["torn"]);
    let mark = disk.find(SEGMENT, b"torn");
    app.append("b:1", &["whole, but after a hole"]);
    drop(app);
    // The header of the first unsynced group: it begins before its body.
    let content = disk.content(SEGMENT);
    let header = (0..mark).rev().find(|at| content[*at..].starts_with(b"FGr1")).unwrap();
    disk.damage(SEGMENT, header + 5, |b| b ^ 0x40);
    let (store, report) = open(&disk, 2);
    assert_eq!(report.torn.unwrap().whole_groups, 1);
    let app = App { store, degree: Durability::Fsync };
    assert_eq!(app.bodies("a:1"), numbered(1, 3));
    assert_eq!(app.end("b:1").1, 0);
}

#[test]
fn damage_in_the_middle_is_named_by_channel_and_range_and_others_are_served() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    publish_numbered(&app, "a:1", 1, 3);
    publish_numbered(&app, "b:1", 1, 3);
    app.publish("a:1", &["bad4", "bad5"]);
    publish_numbered(&app, "a:1", 6, 9);
    publish_numbered(&app, "b:1", 4, 5);
    let (old, _) = app.end("a:1");
    let b = app.end("b:1");
    app.idle();
    drop(app);
    let at = disk.find(SEGMENT, b"bad4");
    disk.damage(SEGMENT, at, |b| b ^ 1);
    let found = check(&disk).unwrap();
    assert!(found.faults.iter().any(|f| f.channel == Some(name("a:1")) && f.records == Some((4, 5))));

    let (store, report) = open(&disk, 2);
    assert!(report.torn.is_none());
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert_eq!(report.damage[0].channel, Some(name("a:1")));
    assert_eq!(report.damage[0].records, Some((4, 5)));
    assert!(report.new_epochs.is_empty());
    let app = App { store, degree: Durability::Fsync };
    assert_eq!(app.end("b:1"), b);
    assert_eq!(app.bodies("b:1"), numbered(1, 5));
    let (epoch, newest) = app.end("a:1");
    assert!(epoch > old);
    assert_eq!(newest, 9);
    assert_eq!(app.bodies("a:1"), numbered(6, 9), "readable after its last hole");
    let span = Span { epoch, after: 2, until: 9, records_max: 9, bytes_max: 999 };
    assert!(matches!(app.store.read(&name("a:1"), Durability::Fsync, span), Err(ReadFault::Gone)));
    publish_numbered(&app, "a:1", 10, 10);
    drop(app);
    let app = App::new(&disk, 3);
    assert_eq!(app.end("a:1"), (epoch, 10), "the new epoch stays");
    assert_eq!(app.bodies("a:1"), numbered(6, 10));
}

#[test]
fn damage_of_the_last_group_is_no_torn_tail_once_it_was_marked() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    publish_numbered(&app, "a:1", 1, 3);
    let (old, _) = app.end("a:1");
    app.idle();
    drop(app);
    let at = disk.find(SEGMENT, b"r3");
    disk.damage(SEGMENT, at, |b| b ^ 1);
    let (store, report) = open(&disk, 2);
    assert!(report.torn.is_none());
    assert_eq!(report.damage[0].records, Some((3, 3)));
    let app = App { store, degree: Durability::Fsync };
    let (epoch, newest) = app.end("a:1");
    assert!(epoch > old, "record 3 was acknowledged");
    assert_eq!(newest, 3, "its offset is not used again");
    app.publish("a:1", &["r4"]);
    assert_eq!(app.bodies("a:1"), ["r4"]);
}

#[test]
fn damage_that_cannot_be_named_moves_every_epoch() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    publish_numbered(&app, "a:1", 1, 3);
    publish_numbered(&app, "b:1", 1, 2);
    let (a, b, empty) = (app.end("a:1"), app.end("b:1"), app.end("c:1"));
    app.idle();
    drop(app);
    let mark = disk.find(SEGMENT, b"r2");
    let content = disk.content(SEGMENT);
    let header = (0..mark).rev().find(|at| content[*at..].starts_with(b"FGr1")).unwrap();
    disk.damage(SEGMENT, header + 33, |b| b ^ 0x40);
    let (store, report) = open(&disk, 2);
    assert_eq!(report.new_epochs.len(), 2);
    assert!(report.damage.iter().any(|d| d.channel.is_none()));
    let app = App { store, degree: Durability::Fsync };
    assert!(app.end("a:1").0 > a.0);
    assert!(app.end("b:1").0 > b.0);
    assert!(app.end("c:1").0 > empty.0);
    assert_eq!(app.bodies("a:1"), ["r3"]);
    assert_eq!(app.bodies("b:1"), numbered(1, 2));
    let (epoch, _) = app.end("a:1");
    drop(app);
    let app = App::new(&disk, 3);
    assert_eq!(app.end("a:1").0, epoch, "once");
    let ends = (app.end("a:1"), app.end("b:1"));
    drop(app);
    let (store, report) = open(&disk, 4);
    let app = App { store, degree: Durability::Fsync };
    assert!(ends.0.0 <= app.end("a:1").0 && ends.1.0 <= app.end("b:1").0, "{report:?}");
}

#[test]
fn damage_in_a_sealed_segment_is_found_on_reading_and_settled_on_waking() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    for n in 1..=40 {
        app.publish("a:1", &[&format!("r{n}:{:-<1000}", "")]);
    }
    app.publish("b:1", &["r1"]);
    while app.store.maintain().unwrap() != fireside_store::Maintained::Idle {}
    let (old, _) = app.end("a:1");
    drop(app);
    let at = disk.find(SEGMENT, b"r5:");
    disk.damage(SEGMENT, at, |b| b ^ 1);
    let (store, report) = open(&disk, 2);
    assert!(report.damage.is_empty(), "sealed segments are not read by opening");
    let app = App { store, degree: Durability::Fsync };
    let (epoch, newest) = app.end("a:1");
    assert!(epoch > old);
    assert_eq!(newest, 40);
    assert_eq!(app.bodies("a:1").len(), 35);
    app.publish("a:1", &["r41"]);
    drop(app);
    let app = App::new(&disk, 3);
    assert_eq!(app.end("a:1"), (epoch, 41));
}

#[test]
fn a_lost_meta_file_moves_every_epoch_and_never_back() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    publish_numbered(&app, "a:1", 1, 3);
    for n in 1..=30 {
        app.publish("b:1", &[&format!("{n:-<1000}")]);
    }
    while app.store.maintain().unwrap() != fireside_store::Maintained::Idle {}
    let (old, _) = app.end("a:1");
    app.store.close().unwrap();
    drop(app);
    disk.damage("meta", 20, |b| b ^ 1);
    let (store, report) = open(&disk, 2);
    assert_eq!(report.new_epochs.len(), 2);
    let app = App { store, degree: Durability::Fsync };
    assert!(app.end("a:1").0 > old);
    assert_eq!(app.bodies("a:1"), numbered(1, 3), "found through the index of a sealed segment");
    assert_eq!(app.bodies("b:1").len(), 30);
    assert!(app.end("new:1").0 > Epoch(old.0));
    assert!(app.store.check().unwrap().is_sound());
}

#[test]
fn a_missing_sealed_segment_is_told_by_its_index() {
    use fireside_store::Disk;
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    for n in 1..=40 {
        app.publish("a:1", &[&format!("r{n}:{:-<1000}", "")]);
    }
    while app.store.maintain().unwrap() != fireside_store::Maintained::Idle {}
    let (old, _) = app.end("a:1");
    drop(app);
    disk.remove(SEGMENT).unwrap();
    disk.sync_dir().unwrap();
    let (store, report) = open(&disk, 2);
    assert!(report.damage.iter().all(|d| d.channel == Some(name("a:1"))));
    assert!(!report.damage.is_empty());
    let app = App { store, degree: Durability::Fsync };
    let (epoch, newest) = app.end("a:1");
    assert!(epoch > old && newest == 40);
    let lost = report.damage.last().unwrap().records.unwrap().1;
    assert_eq!(app.bodies("a:1").len() as u64, 40 - lost);
}

#[test]
fn no_change_of_any_byte_makes_opening_panic_or_lie() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    publish_numbered(&app, "a:1", 1, 3);
    publish_numbered(&app, "b:1", 1, 3);
    let (epoch, _) = app.end("a:1");
    app.idle();
    drop(app);
    let len = disk.content(SEGMENT).iter().rposition(|b| *b != 0).unwrap();
    for at in 0..=len {
        let disk = disk.copy();
        disk.damage(SEGMENT, at, |b| b ^ 0x10);
        let app = App::new(&disk, 2);
        for channel in ["a:1", "b:1"] {
            let (now, newest) = app.end(channel);
            let bodies = app.bodies(channel);
            if now == epoch {
                assert_eq!(bodies, numbered(1, 3), "byte {at}: the old epoch means the whole log");
            } else {
                let whole = numbered(1, 3);
                assert!(whole.ends_with(&bodies) || newest < 3, "byte {at}: {bodies:?}");
            }
            app.publish(channel, &["more"]);
        }
    }
}
