//! `fireside log`: looks at the embedded log's files without changing them, also while a server writes them.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use fireside_store::{CheckReport, Disk, check as check_disk};
use rustix::fs::{FlockOperation, flock, statvfs};

use super::{Failure, say};
use crate::config::{Config, format_size};

/// Where in the data directory the log is.
pub(super) const LOG: &str = "log";
/// What a server holds a lock on while it runs.
const LOCK: &str = "lock";

/// Verifies everything; damage is a failure.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    let (disk, report) = look(config)?;
    say(&findings(&disk, &report))?;
    verdict(&report)
}

fn findings(disk: &Files, report: &CheckReport) -> String {
    let mut out = String::new();
    for fault in &report.faults {
        // Writing to a String does not fail, here and below.
        let _ = writeln!(out, "damaged: {fault}");
    }
    if let Some(torn) = report.torn {
        let _ = match disk.is_in_use() {
            true => writeln!(out, "a group is being written at {} of segment {}", torn.at, torn.segment),
            false => writeln!(
                out,
                "the log ends in the middle of a write, at {} of segment {}: the next start cuts it off, nothing acknowledged is lost",
                torn.at, torn.segment
            ),
        };
    }
    let _ = writeln!(
        out,
        "{}: {} records of {} channels in {} groups, {}",
        disk.0.display(),
        report.records,
        report.channels,
        report.groups,
        if report.is_sound() { "all sound" } else { "damaged" }
    );
    out
}

fn verdict(report: &CheckReport) -> Result<(), Failure> {
    match report.faults.len() {
        0 => Ok(()),
        1 => Err(Failure::Failed(anyhow!("the log is damaged in one place"))),
        n => Err(Failure::Failed(anyhow!("the log is damaged in {n} places"))),
    }
}

/// Counts.
pub(super) fn stat(config: &Config) -> Result<(), Failure> {
    let (disk, report) = look(config)?;
    say(&figures(&disk, &report)?)
}

fn figures(disk: &Files, report: &CheckReport) -> anyhow::Result<String> {
    let on_disk = disk.bytes().context("the log cannot be measured")?;
    let free = disk.space().map_or_else(|_| "unknown".to_owned(), rounded);
    let rows = [
        ("directory", disk.0.display().to_string()),
        ("a server runs on it", if disk.is_in_use() { "yes" } else { "no" }.to_owned()),
        ("channels", report.channels.to_string()),
        ("records", report.records.to_string()),
        ("groups", report.groups.to_string()),
        ("segments", format!("{} and {} made in advance", report.segments, report.spares)),
        ("in use", rounded(report.bytes)),
        ("on disk", rounded(on_disk)),
        ("free", free),
        ("damaged places", report.faults.len().to_string()),
    ];
    let mut out = String::new();
    for (what, value) in rows {
        let _ = writeln!(out, "{what:<22}{value}");
    }
    Ok(out)
}

fn look(config: &Config) -> Result<(Files, CheckReport), Failure> {
    let path = config.data_dir.join(LOG);
    if !path.is_dir() {
        let why = "the directory is made at a server's first start; data.dir or --data says where";
        return Err(Failure::Failed(anyhow!("there is no log in {}: {why}", path.display())));
    }
    let disk = Files(path);
    let again = || check_disk(&disk).with_context(|| format!("{} cannot be read", disk.0.display()));
    let mut report = again()?;
    if !report.is_sound() && disk.is_in_use() {
        // A running server gives segments back: what was only that, a second look does not find.
        let second = again()?;
        report.faults.retain(|fault| second.faults.contains(fault));
    }
    Ok((disk, report))
}

/// Bytes for people: whole up to 10 KiB, then in the unit that leaves at most four digits.
pub(super) fn rounded(bytes: u64) -> String {
    let shift = [30, 20, 10, 0].into_iter().find(|shift| bytes >> shift >= 10).unwrap_or(0);
    format_size(bytes >> shift << shift)
}

/// The log's directory, for reading only.
pub(super) struct Files(pub(super) PathBuf);

impl Files {
    /// True if a server holds the lock.
    fn is_in_use(&self) -> bool {
        let Ok(lock) = File::open(self.0.join(LOCK)) else { return false };
        flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
    }

    fn bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for name in self.list()? {
            match fs::metadata(self.0.join(name)) {
                Ok(facts) => bytes += facts.len(),
                // Given back since it was listed.
                Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(bytes)
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the log is only looked at"))
}

impl Disk for Files {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        Ok(names.into_iter().flatten().filter(|name| name != LOCK).collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn fireside_store::File>> {
        Ok(Arc::new(Opened(OpenOptions::new().read(true).open(self.0.join(name))?)))
    }

    fn create(&self, _: &str, _: u64) -> io::Result<Arc<dyn fireside_store::File>> {
        read_only()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        read_only()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn sync_dir(&self) -> io::Result<()> {
        read_only()
    }

    fn space(&self) -> io::Result<u64> {
        let stat = statvfs(&self.0)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

struct Opened(File);

impl fireside_store::File for Opened {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buf, at)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        read_only()
    }

    fn sync(&self) -> io::Result<()> {
        read_only()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flag, Sources};
    use crate::log::disk::Directory;
    use fireside_store::{Options, Start, Store};

    fn config(data: &std::path::Path) -> Config {
        let flag = Flag { path: "data.dir".into(), value: data.display().to_string(), flag: "--data" };
        Config::load(&Sources { flags: vec![flag], ..Sources::default() }).unwrap()
    }

    fn failure(result: Result<(), Failure>) -> String {
        match result {
            Err(Failure::Failed(why)) => format!("{why:#}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn damage_is_a_failure_and_a_running_server_is_none() {
        let data = tempfile::tempdir().unwrap();
        let config = config(data.path());
        assert!(failure(check(&config)).starts_with("there is no log in "));
        let start = Start { life: 1, boot_id: "boot".into(), now_ms: 1 };
        let options = Options { segment_bytes: 4096, ..Options::default() };
        let disk = Arc::new(Directory::open(&data.path().join(LOG)).unwrap());
        let (store, _) = Store::open(disk, options, start).unwrap();
        let (files, report) = look(&config).unwrap();
        assert!(files.is_in_use());
        verdict(&report).unwrap();
        drop(store);
        assert!(!files.is_in_use());
        assert!(findings(&files, &report).ends_with("0 records of 0 channels in 0 groups, all sound\n"));

        let meta = data.path().join(LOG).join("meta");
        let mut bytes = fs::read(&meta).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 1);
        fs::write(&meta, bytes).unwrap();
        let (files, report) = look(&config).unwrap();
        assert_eq!(failure(verdict(&report)), "the log is damaged in one place");
        assert!(findings(&files, &report).starts_with("damaged: segment 0 at 0: the meta file is damaged\n"));
        assert!(figures(&files, &report).unwrap().ends_with("damaged places        1\n"));
    }

    #[test]
    fn nothing_can_be_written_through_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "abc").unwrap();
        let files = Files(dir.path().to_owned());
        let file = files.open("a").unwrap();
        assert!(file.write_at(b"x", 0).is_err() && file.sync().is_err() && files.sync_dir().is_err());
        assert!(
            files.create("b", 1).is_err() && files.rename("a", "b").is_err() && files.remove("a").is_err()
        );
        assert_eq!((files.list().unwrap(), file.len().unwrap()), (vec!["a".to_owned()], 3));
    }

    #[test]
    fn bytes_are_rounded_for_people() {
        assert_eq!(
            [0, 768, 10 << 10, 201_326_592, 78_459_482_112].map(rounded),
            ["0 B", "768 B", "10 KiB", "192 MiB", "73 GiB"]
        );
    }
}
