//! What a session that only is there costs the server in resident memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::Process;
use crate::report::{Figure, Report};
use crate::server::{Binary, Server};
use crate::session::Session;
use crate::{Scale, say};

/// Channels that the subscribers share.
const CHANNELS: u32 = 100;
/// Memory has settled when it has not changed by more than [`NOISE_BYTES`] for this long.
const QUIET: Duration = Duration::from_secs(2);
const NOISE_BYTES: u64 = 64 * 1024;
/// If it never settles, the figure is taken then.
const SETTLING_MAX: Duration = Duration::from_secs(15);

/// Measures and reports. Every run is a server's whole life: what it gave back would hide what it needs.
///
/// # Errors
/// A session is refused, or a process failed.
pub async fn measure(binary: &Binary, scale: &Scale, report: &mut Report) -> Result<()> {
    let n = scale.sessions;
    let mut empty = Figure::new("Idle memory, nobody connected", "MiB RSS");
    let mut connected =
        Figure::new(&format!("Idle memory at {n} sessions, not subscribed"), "KiB RSS per session");
    let name = format!("Idle memory at {n} sessions, each subscribed to one channel of {CHANNELS}");
    let mut subscribed = Figure::new(&name, "KiB RSS per session").expected("≤ 4 KiB");
    for run in 0..scale.runs {
        say(&format!("memory, run {} of {}", run + 1, scale.runs));
        let server = Server::start(binary)?;
        let nobody = settled(server.process).await?;
        let mut sessions = Vec::new();
        for index in 0..n {
            let session = Session::connect(server.address, index, &server.token).await;
            sessions.push(session.with_context(|| format!("session {index}"))?);
        }
        let here = settled(server.process).await?;
        for (session, index) in sessions.iter_mut().zip(0..) {
            session.subscribe(&format!("memory:idle-{}", index % CHANNELS)).await?;
        }
        let following = settled(server.process).await?;
        let each = |bytes: u64| bytes.saturating_sub(nobody) as f64 / 1024.0 / f64::from(n);
        empty.add(nobody as f64 / 1024.0 / 1024.0);
        connected.add(each(here));
        subscribed.add(each(following));
        drop(sessions);
        server.stop()?;
    }
    report.extend([empty, connected, subscribed]);
    Ok(())
}

async fn settled(process: Process) -> Result<u64> {
    let end = Instant::now() + SETTLING_MAX;
    let (mut settled, mut since) = (process.resident()?, Instant::now());
    while since.elapsed() < QUIET && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = process.resident()?;
        if now.abs_diff(settled) > NOISE_BYTES {
            (settled, since) = (now, Instant::now());
        }
    }
    process.resident()
}
