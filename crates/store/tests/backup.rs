//! Backups: of a log at rest, of one that is written meanwhile, cut off, damaged, and what readers see of a restored one.

mod disk;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use disk::*;
use fireside_core::Durability;
use fireside_store::{Maintained, Outcome, ReadFault, Span, backup, check, restore};

fn backup_of(disk: &TestDisk) -> Vec<u8> {
    let mut out = Vec::new();
    let done = backup(disk, &mut out).unwrap();
    assert_eq!(done.bytes, out.len() as u64);
    out
}

/// A disk with what the backup holds.
fn restored(mut backup: &[u8]) -> Result<TestDisk, String> {
    let disk = TestDisk::new();
    restore(&mut backup, Arc::new(disk.clone()), options(), start(1_000)).map_err(|why| why.to_string())?;
    Ok(disk)
}

fn long(n: u64) -> String {
    format!("{n}{:-<700}", "")
}

#[test]
fn a_restored_log_has_the_records_in_a_later_epoch() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    for n in 0..60 {
        app.publish(&format!("c{}", n % 3), &[&long(n)]);
        while app.store.maintain().unwrap() != Maintained::Idle {}
    }
    assert!(app.store.stat().segments > 2);
    let (epoch, newest) = app.end("c0");
    let copy = backup_of(&disk);
    app.publish("c0", &["after the backup"]);

    let again = restored(&copy).unwrap();
    assert!(check(&again).unwrap().is_sound());
    let twin = App::new(&again, 2);
    for channel in ["c0", "c1", "c2"] {
        let expected: Vec<_> = app.bodies(channel).into_iter().filter(|b| b != "after the backup").collect();
        assert_eq!(twin.bodies(channel), expected);
    }
    let now = twin.end("c0");
    assert!(now.0 > epoch && now.1 == newest, "a reader of the old log is told");
    let span = Span { epoch, after: 0, until: newest, records_max: 1, bytes_max: 1 };
    let old = twin.store.read(&name("c0"), Durability::Fsync, span);
    assert!(matches!(old, Err(ReadFault::Gone)));
    let fresh = twin.end("never").0;
    assert!(fresh > app.end("never").0, "also what was never written has a new generation");
    twin.publish("c0", &["goes on"]);
    assert_eq!(twin.bodies("c0").last().map(String::as_str), Some("goes on"));
}

#[test]
fn an_empty_log_can_be_backed_up() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    let again = restored(&backup_of(&disk)).unwrap();
    drop(app);
    App::new(&again, 2).publish("a", &["first"]);
}

#[test]
fn a_backup_that_is_cut_off_or_changed_is_refused() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.publish("a", &["one", "two"]);
    let copy = backup_of(&disk);
    for len in 0..copy.len() {
        assert!(restored(&copy[..len]).is_err(), "cut at {len}");
    }
    for at in 0..copy.len() {
        let mut bad = copy.clone();
        bad[at] ^= 0x10;
        assert!(restored(&bad).is_err(), "changed at {at}");
    }
    restored(&copy).unwrap();
    assert!(restored(b"no backup").err().unwrap().contains("this is not a backup"));
}

#[test]
fn a_damaged_last_segment_is_not_cut_silently() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.publish("a", &["wounded"]);
    app.publish("a", &["second"]);
    app.idle();
    let file = disk.names().into_iter().find(|n| n.ends_with(".log")).unwrap();
    let at = disk.find(&file, b"wounded");
    disk.damage(&file, at, |byte| byte ^ 1);
    let why = backup(&disk, &mut io::sink()).unwrap_err();
    assert_eq!(why.to_string(), "the last segment is damaged");
}

/// Another thread appends, seals and gives back while backups are taken: each is a beginning of what was written, without a hole.
#[test]
fn a_log_that_is_written_meanwhile_is_backed_up_whole() {
    let disk = TestDisk::new();
    let app = App::new(&disk, 1);
    app.publish("a", &["begin"]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !over.load(Ordering::Relaxed) && n < 3_000 {
                assert_eq!(app.append("a", &[&n.to_string()]), Outcome::Accepted);
                assert_eq!(app.append("b", &[&long(n)]), Outcome::Accepted);
                app.store.sync().unwrap();
                app.store.maintain().unwrap();
                n += 1;
            }
        });
        let mut most = 0;
        // The writer stops by itself, far beyond this.
        while most < 300 {
            let twin = App::new(&restored(&backup_of(&disk)).unwrap(), 2);
            let (a, b) = (twin.bodies("a"), twin.bodies("b"));
            let expected: Vec<String> = (0..a.len() as u64 - 1).map(|n| n.to_string()).collect();
            assert_eq!(a[1..], expected);
            assert!(b.len() == a.len() - 1 || b.len() + 1 == a.len() - 1, "in the order of their groups");
            assert!(a.len() >= most);
            most = a.len();
        }
        over.store(true, Ordering::Relaxed);
    });
}
