//! Durable truth, as production has it: the embedded log on this machine's disk.

pub mod disk;
pub mod embedded;

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use fireside_node::ports::Log;
use fireside_store::{Options, Start, Store};
use tracing::{info, warn};

use disk::Directory;
use embedded::Embedded;

/// The logs of one node.
pub struct Logs {
    embedded: Arc<Embedded>,
}

impl Logs {
    /// Opens the log in `data`, makes it if there is none, and reports what was found.
    ///
    /// # Errors
    /// The directory is another server's, or the disk fails.
    pub fn open(data: &Path) -> Result<Logs> {
        let disk = Arc::new(Directory::open(&data.join("log"))?);
        let start = start()?;
        let now_ms = start.now_ms;
        let (store, report) =
            Store::open(disk, Options::default(), start).map_err(|fault| anyhow::anyhow!("{fault}"))?;
        if let Some(torn) = report.torn {
            warn!(target: "fireside", segment = torn.segment, at = torn.at, "the log ended in the middle of a write; nothing acknowledged was lost");
        }
        for damage in &report.damage {
            warn!(target: "fireside", ?damage, "the log is damaged");
        }
        for (degree, why) in &report.new_epochs {
            info!(target: "fireside", ?degree, why, "channels of this durability begin anew");
        }
        let embedded =
            Embedded::start(Arc::new(store), now_ms).context("the log's threads cannot be started")?;
        Ok(Logs { embedded: Arc::new(embedded) })
    }

    /// The port.
    pub fn port(&self) -> Arc<dyn Log> {
        self.embedded.clone()
    }

    /// Syncs, and says that the log was closed in order.
    pub async fn close(self) {
        let embedded = self.embedded;
        let closed = tokio::task::spawn_blocking(move || embedded.close()).await;
        if let Ok(Err(fault)) = closed {
            warn!(target: "fireside", %fault, "the log was not closed in order");
        }
    }
}

/// What a store cannot know by itself.
///
/// # Errors
/// The clock stands before 1970.
pub(crate) fn start() -> Result<Start> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    Ok(Start { life: crate::host::random(), boot_id: boot_id(), now_ms })
}

/// The id of the machine's boot; empty if the system does not tell.
fn boot_id() -> String {
    let mut id = String::new();
    match std::fs::File::open("/proc/sys/kernel/random/boot_id")
        .and_then(|file| file.take(64).read_to_string(&mut id))
    {
        Ok(_) => id.trim().to_owned(),
        Err(_) => String::new(),
    }
}
