//! What durable publishes are compared with: write and fdatasync, one group after the other, into one file allocated in advance.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::fs::{FallocateFlags, fallocate};

/// Bytes of the file; who has used them up writes no more.
const FILE_BYTES: u64 = 512 * 1024 * 1024;

/// A file that grows by groups.
pub struct SegmentWriter {
    file: File,
    group: Vec<u8>,
    at: u64,
    groups: u64,
    took: Duration,
}

impl SegmentWriter {
    /// Allocates the file.
    ///
    /// # Errors
    /// The disk is full or failing.
    pub fn create(directory: &Path, group_bytes: u64) -> Result<SegmentWriter> {
        let file = File::create_new(directory.join("segment"))?;
        fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
        file.sync_all()?;
        // Not zeros: a disk might be clever about those.
        let byte = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[5];
        Ok(SegmentWriter {
            file,
            group: (0..group_bytes).map(byte).collect(),
            at: 0,
            groups: 0,
            took: Duration::ZERO,
        })
    }

    /// Writes and syncs groups for that long, or until the file is full.
    ///
    /// # Errors
    /// The disk is failing.
    pub fn write(&mut self, patience: Duration) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < patience && self.at + self.group.len() as u64 <= FILE_BYTES {
            self.file.write_all_at(&self.group, self.at)?;
            self.file.sync_data()?;
            self.at += self.group.len() as u64;
            self.groups += 1;
        }
        self.took += begin.elapsed();
        Ok(())
    }

    /// Groups that were synced in a second of writing.
    pub fn per_second(&self) -> f64 {
        self.groups as f64 / self.took.as_secs_f64()
    }
}
