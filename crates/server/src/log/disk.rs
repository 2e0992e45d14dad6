//! A directory as the store's disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, fdatasync, flock, statvfs};

/// The name of the file that keeps a second server out.
const LOCK: &str = "lock";

/// One directory of files, locked for this process.
pub struct Directory {
    path: PathBuf,
    handle: File,
    _lock: File,
}

impl Directory {
    /// Opens the directory, makes it if it is not there, and locks it.
    ///
    /// # Errors
    /// It cannot be made or opened, or another process has it.
    pub fn open(path: &Path) -> Result<Directory> {
        crate::run::private_directory(path).with_context(|| format!("{} cannot be made", path.display()))?;
        let lock = options().create(true).truncate(false).open(path.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("{} is in use by another process", path.display()))?;
        Ok(Directory { path: path.to_owned(), handle: File::open(path)?, _lock: lock })
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl fireside_store::Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        Ok(names.into_iter().flatten().filter(|name| name != LOCK).collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn fireside_store::File>> {
        Ok(Arc::new(OnDisk(options().open(self.path.join(name))?)))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn fireside_store::File>> {
        let path = self.path.join(name);
        let file = options().create(true).truncate(true).open(&path)?;
        let allocated = match len {
            0 => Ok(()),
            len => fallocate(&file, FallocateFlags::empty(), 0, len).map_err(io::Error::from),
        };
        match allocated {
            Ok(()) => Ok(Arc::new(OnDisk(file))),
            Err(fault) => {
                fs::remove_file(&path)?;
                Err(fault)
            }
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn space(&self) -> io::Result<u64> {
        let stat = statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

struct OnDisk(File);

impl fireside_store::File for OnDisk {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(buf, at)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&self.0)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
