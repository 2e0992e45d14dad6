//! What durable publishes are compared with: write and fdatasync, one group after the other, into one file allocated in advance.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::fs::{FallocateFlags, fallocate};

/// Bytes of the file; where they are used up, the writer ends early.
const FILE_BYTES: u64 = 512 * 1024 * 1024;

/// Groups per second of `group_bytes` each, for about `patience`.
///
/// # Errors
/// The disk is full or failing.
pub fn groups_per_second(directory: &Path, group_bytes: usize, patience: Duration) -> Result<f64> {
    let file = File::create_new(directory.join("segment"))?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    file.sync_all()?;
    // Not zeros: a disk might be clever about those.
    let group: Vec<u8> =
        (0..group_bytes).map(|n| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[5]).collect();
    let begin = Instant::now();
    let mut groups = 0u64;
    let mut at = 0;
    while begin.elapsed() < patience && at + group.len() as u64 <= FILE_BYTES {
        file.write_all_at(&group, at)?;
        file.sync_data()?;
        at += group.len() as u64;
        groups += 1;
    }
    ensure!(groups > 0, "no group fits");
    Ok(groups as f64 / begin.elapsed().as_secs_f64())
}
