//! Everybody who listens to one channel or to the write loop, and the proof that each of them got everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::session::number_after;
use crate::socket::Socket;

/// What a reader checks of what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Records are numbered by their publisher without a gap, and their offsets are those numbers.
    Offsets,
    /// Records are numbered by their publisher without a gap.
    Numbers,
    /// Their count; the write loop repeats itself.
    Count,
}

/// Readers, each a task of its own.
pub struct Audience {
    tally: Arc<Tally>,
    tasks: Vec<JoinHandle<()>>,
}

/// What all readers together got.
#[derive(Default)]
struct Tally {
    readers: u64,
    records: AtomicU64,
    frames: AtomicU64,
    progress: Notify,
    failed: Mutex<Option<anyhow::Error>>,
    /// A frame as it came, for the write loop to repeat.
    sample: Mutex<Vec<u8>>,
}

impl Audience {
    /// Everybody listens from now on.
    pub fn listen(sockets: Vec<Socket>, check: Check) -> Audience {
        let tally = Arc::new(Tally { readers: sockets.len() as u64, ..Tally::default() });
        let read = |(n, socket)| tokio::spawn(tally.clone().read(socket, check, n == 0));
        let tasks = sockets.into_iter().enumerate().map(read).collect();
        Audience { tally, tasks }
    }

    /// How many listen.
    pub fn readers(&self) -> u64 {
        self.tally.readers
    }

    /// Records that everybody got, so far and on average.
    pub fn heard(&self) -> u64 {
        self.tally.records.load(Ordering::Relaxed) / self.tally.readers
    }

    /// Frames that came, all readers together.
    pub fn frames(&self) -> u64 {
        self.tally.frames.load(Ordering::Relaxed)
    }

    /// The last frame's payload as the first reader got it.
    pub fn sample(&self) -> Vec<u8> {
        lock(&self.tally.sample).clone()
    }

    /// Waits for [`Audience::heard`] to grow.
    ///
    /// # Errors
    /// A reader missed something.
    pub async fn progress(&self) -> Result<()> {
        self.tally.progress.notified().await;
        match lock(&self.tally.failed).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits until everybody got `records` in all, and fails if anybody got more. Since no reader accepts a gap, the sum is the proof for each.
    ///
    /// # Errors
    /// A reader missed something, got more than there was, or waits in vain.
    pub async fn all_heard(&self, records: u64) -> Result<()> {
        while self.heard() < records {
            let patience = Duration::from_secs(60);
            match tokio::time::timeout(patience, self.progress()).await {
                Ok(progress) => progress?,
                Err(_) => bail!("{} of {records} records in {patience:?}: the rest is lost", self.heard()),
            }
        }
        let (got, due) = (self.tally.records.load(Ordering::Relaxed), records * self.tally.readers);
        ensure!(got == due, "{got} deliveries of {due}");
        Ok(())
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Tally {
    async fn read(self: Arc<Self>, mut socket: Socket, check: Check, keeps_sample: bool) {
        let mut got = 0;
        let error = loop {
            let read = socket.receive(|payload| {
                let records = count(payload, check, got)?;
                got += records;
                if keeps_sample {
                    payload.clone_into(&mut lock(&self.sample));
                }
                self.add(records);
                Ok(())
            });
            if let Err(error) = read.await {
                break error;
            }
        };
        lock(&self.failed).get_or_insert(error);
        self.progress.notify_one();
    }

    fn add(&self, records: u64) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        let before = self.records.fetch_add(records, Ordering::Relaxed);
        if before / self.readers != (before + records) / self.readers {
            self.progress.notify_one();
        }
    }
}

/// The records of a frame, one a line, of which `before` came before.
fn count(payload: &[u8], check: Check, before: u64) -> Result<u64> {
    ensure!(
        payload.starts_with(br#"{"push":{"channel":""#),
        "no record: {}",
        String::from_utf8_lossy(payload)
    );
    // A sum of bytes, because the compiler makes it fast.
    let records = 1 + payload.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
    if check == Check::Count {
        return Ok(records);
    }
    let last = payload.iter().rposition(|byte| *byte == b'\n').map_or(payload, |at| &payload[at + 1..]);
    let due = Some(before + records);
    let number = number_after(last, br#""n""#);
    ensure!(number == due, "record {number:?} where {due:?} was due");
    if check == Check::Offsets {
        let offset = number_after(last, br#""offset""#);
        ensure!(offset == due, "offset {offset:?} where {due:?} was due");
    }
    Ok(records)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64, offset: u64) -> String {
        format!(r#"{{"push":{{"channel":"a","pub":{{"data":{{"n":"{n:08}"}},"offset":{offset}}}}}}}"#)
    }

    #[test]
    fn a_gap_or_a_repeat_is_found() {
        let two = format!("{}\n{}", record(4, 4), record(5, 5));
        assert_eq!(count(two.as_bytes(), Check::Offsets, 3).unwrap(), 2);
        for before in [2, 4] {
            assert!(count(two.as_bytes(), Check::Offsets, before).is_err());
            assert!(count(two.as_bytes(), Check::Numbers, before).is_err());
            assert_eq!(count(two.as_bytes(), Check::Count, before).unwrap(), 2);
        }
    }

    #[test]
    fn an_offset_that_is_not_the_number_is_found() {
        assert!(count(record(4, 5).as_bytes(), Check::Offsets, 3).is_err());
        assert_eq!(count(record(4, 5).as_bytes(), Check::Numbers, 3).unwrap(), 1);
    }

    #[test]
    fn what_is_no_record_is_not_counted() {
        assert!(count(br#"{"push":{}}"#, Check::Count, 0).is_err());
    }
}
