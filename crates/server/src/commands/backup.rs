//! `fireside log backup` and `restore`: one file that holds a log, of a running server too.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use fireside_store::{BackedUp, Disk, Options};

use super::log::{Files, LOG, rounded};
use super::{Failure, say};
use crate::config::Config;
use crate::log::disk::Directory;
use crate::log::start;

/// Where a restored log is until it is complete. No server looks there.
const UNFINISHED: &str = "log.restoring";

/// Writes the log to `file`, which must not be there yet.
pub(super) fn backup(config: &Config, file: &Path) -> Result<(), Failure> {
    let done = write(&config.data_dir.join(LOG), file)?;
    say(&format!("{}: {} segments, {}\n", file.display(), done.segments, rounded(done.bytes)))
}

fn write(log: &Path, file: &Path) -> anyhow::Result<BackedUp> {
    if !log.is_dir() {
        bail!("there is no log in {}: data.dir or --data says where it is", log.display());
    }
    if file.exists() {
        bail!("{} is there already, and is not replaced", file.display());
    }
    // Under another name until it is whole and on the disk: a backup that was killed is none.
    let partial = with_suffix(file, ".partial");
    let doing = || format!("{} cannot be written", partial.display());
    let out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let mut out = BufWriter::new(out.with_context(doing)?);
    let done = fireside_store::backup(&Files(log.to_owned()), &mut out);
    let done = done.with_context(|| format!("{} was not backed up", log.display()));
    let done = done.and_then(|done| {
        out.flush().and_then(|()| out.get_ref().sync_all()).with_context(doing)?;
        Ok(done)
    });
    let done = match done {
        Ok(done) => done,
        Err(why) => {
            // What is left of it has no other use, and its name says what it is if it stays.
            let _ = fs::remove_file(&partial);
            return Err(why);
        }
    };
    fs::hard_link(&partial, file).with_context(|| format!("{} cannot be made", file.display()))?;
    fs::remove_file(&partial).with_context(doing)?;
    sync_directory_of(file).with_context(doing)?;
    Ok(done)
}

/// Makes the log of `data.dir` from `file`. There must be none yet.
pub(super) fn restore(config: &Config, file: &Path) -> Result<(), Failure> {
    read(&config.data_dir, file)?;
    say(&format!(
        "{}: restored; every channel begins a new epoch, so readers of the log before are told\n",
        config.data_dir.join(LOG).display()
    ))
}

fn read(data: &Path, file: &Path) -> anyhow::Result<()> {
    let (log, unfinished) = (data.join(LOG), data.join(UNFINISHED));
    if log.exists() {
        let place = log.display();
        bail!("there is a log in {place}: stop its server and move it away first, or name another --data");
    }
    let input = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    crate::run::private_directory(data).with_context(|| format!("{} cannot be made", data.display()))?;
    let disk = Arc::new(Directory::open(&unfinished)?);
    // Of a restore that was killed.
    for name in disk.list()? {
        disk.remove(&name)?;
    }
    let mut input = BufReader::new(input);
    let report = fireside_store::restore(&mut input, disk.clone(), Options::default(), start()?);
    let report = report.map_err(|why| anyhow!("{}: {why}", file.display()))?;
    for damage in &report.damage {
        eprintln!("fireside: the log was damaged when it was backed up: {damage}");
    }
    // Fails if a log was begun there meanwhile.
    fs::rename(&unfinished, &log).with_context(|| format!("{} cannot be made", log.display()))?;
    sync_directory_of(&log)?;
    Ok(())
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_directory_of(file: &Path) -> io::Result<()> {
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fireside_store::Store;

    #[test]
    fn a_log_goes_through_a_file_and_nothing_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, file) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("backup"));
        let disk = Arc::new(Directory::open(&from.join(LOG)).unwrap());
        let options = Options { segment_bytes: 4096, ..Options::default() };
        let (running, _) = Store::open(disk, options, start().unwrap()).unwrap();
        write(&from.join(LOG), &file).unwrap();
        assert!(write(&from.join(LOG), &file).unwrap_err().to_string().contains("is not replaced"));
        assert!(read(&from, &file).unwrap_err().to_string().contains("move it away first"));

        // What a killed restore left does not serve, and does not disturb the next.
        fs::create_dir_all(to.join(UNFINISHED)).unwrap();
        fs::write(to.join(UNFINISHED).join("segment-00000001.log"), "half").unwrap();
        read(&to, &file).unwrap();
        assert!(to.join(LOG).join("meta").exists() && !to.join(UNFINISHED).exists());
        drop(running);

        let cut = with_suffix(&file, ".cut");
        let whole = fs::read(&file).unwrap();
        fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
        let other = dir.path().join("other");
        assert!(read(&other, &cut).unwrap_err().to_string().contains("ends in the middle"));
        assert!(!other.join(LOG).exists());
    }
}
