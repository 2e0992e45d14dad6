//! The port to a disk: all that the store asks of a file system, and what it may rely on.

use std::io;
use std::sync::Arc;

/// One directory of files. Names are plain ASCII without separators.
///
/// What is durable when:
/// - the *content* of a file, up to a write that returned, once [`File::sync`] returned that was called after that write;
/// - the *names* (a file exists, was renamed, was removed) once [`Disk::sync_dir`] returned that was called after the change; before,
///   each change alone may or may not survive a power cut;
/// - after the death of the process alone, everything that returned, synced or not.
///
/// A power cut may keep any subset of what was not synced, in pieces of any size.
pub trait Disk: Send + Sync {
    /// The names of all files, in no particular order.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading and writing. A file stays usable through its handle after [`Disk::remove`].
    ///
    /// # Errors
    /// There is no such file, or it cannot be opened.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Creates a file of exactly `len` bytes, all zero, whose space is allocated, so that a later write inside `len` cannot find the
    /// disk full. The length and the allocation are part of the content that [`File::sync`] makes durable. An existing file of
    /// that name is replaced. When it fails, it leaves nothing behind.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] (or `QuotaExceeded`) when there is no room; anything else is a failing disk.
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>>;

    /// Renames a file, replacing the target at once: after a power cut, the target is the old or the new file, never neither.
    ///
    /// # Errors
    /// The rename failed; nothing changed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The removal failed; nothing changed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable that returned before.
    ///
    /// # Errors
    /// They may or may not be durable, and never will be by trying again.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that are free for new files; only reported, never decided upon.
    ///
    /// # Errors
    /// Unknown.
    fn space(&self) -> io::Result<u64>;
}

/// One file. All calls may overlap; a read that overlaps a write may see any mix of old and new bytes.
pub trait File: Send + Sync {
    /// Reads into `buf` from offset `at`; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// The bytes cannot be read.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `buf` at offset `at`, within the length given at creation.
    ///
    /// # Errors
    /// Any part of it may have been written.
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()>;

    /// Makes every write durable that returned before this call.
    ///
    /// # Errors
    /// What was not durable may be lost, and a second call may succeed without it: whoever sees this must stop.
    fn sync(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// Unknown.
    fn len(&self) -> io::Result<u64>;

    /// True for a file of no bytes.
    ///
    /// # Errors
    /// Unknown.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads exactly `len` bytes at `at`.
pub(crate) fn read_exact(file: &dyn File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let got = read_up_to(file, &mut buf, at)?;
    if got < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(buf)
}

/// Fills `buf` as far as the file reaches.
pub(crate) fn read_up_to(file: &dyn File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match file.read_at(&mut buf[got..], at + got as u64)? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

/// True if the disk said that it is full, which is a state and not a failure.
pub(crate) fn is_full(fault: &io::Error) -> bool {
    matches!(fault.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Replaces file `name` by `content` in one step that survives a power cut.
pub(crate) fn replace(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    let fresh = format!("{name}.new");
    let file = disk.create(&fresh, content.len() as u64)?;
    let written = file.write_at(content, 0).and_then(|()| file.sync());
    if let Err(fault) = written {
        let _ = disk.remove(&fresh);
        return Err(fault);
    }
    disk.rename(&fresh, name)?;
    disk.sync_dir()
}
