//! `cargo run --release -p fireside-bench`: how fast it is. Starts a server of its own on loopback, drives it over real sockets, and prints
//! each figure beside the least that any server could spend on the same bytes, measured in the same run.

mod audience;
mod durable;
mod fan_out;
mod memory;
mod process;
mod report;
mod segment_writer;
mod server;
mod session;
mod socket;
mod write_loop;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use report::Report;
use server::Binary;

/// Measures Fireside on this machine and prints a table.
#[derive(Parser)]
#[command(name = "fireside-bench", version)]
struct Cli {
    /// The server to measure. Default: the one of this build, which is built if it is missing or old.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Where the scratch data directories go; a disk, not memory. Default: beside the server.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Small numbers, to see that everything works; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Paired runs of each figure.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=25))]
    runs: Option<u32>,
    /// Subscribers of one channel.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8_000))]
    readers: Option<u32>,
    /// Sessions that are only there.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    sessions: Option<u32>,
    /// Only these parts.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    #[command(subcommand)]
    inner: Option<Inner>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    FanOut,
    Memory,
    Durable,
}

#[derive(Subcommand)]
enum Inner {
    /// The bare write loop, in a process of its own so that its CPU time can be read like the server's.
    #[command(hide = true)]
    WriteLoop,
}

/// How much of everything. Every number is a bound.
pub struct Scale {
    /// Paired runs.
    pub runs: u32,
    /// Subscribers of one channel.
    pub readers: u32,
    /// Publishes of one fan-out run with one in flight.
    pub singles: u32,
    /// Publishes of one fan-out run with 64 in flight.
    pub bursts: u32,
    /// The same where there is no history, so that nothing but the readers holds a publisher back.
    pub bursts_live: u32,
    /// Idle sessions.
    pub sessions: u32,
    /// How long durable publishes are sent in one run, in ms; the bare writer has as long.
    pub durable_ms: u64,
}

impl Scale {
    const FULL: Scale = Scale {
        runs: 5,
        readers: 1_000,
        singles: 400,
        bursts: 12_800,
        bursts_live: 1_280,
        sessions: 5_000,
        durable_ms: 2_000,
    };
    const QUICK: Scale = Scale {
        runs: 2,
        readers: 20,
        singles: 30,
        bursts: 640,
        bursts_live: 640,
        sessions: 50,
        durable_ms: 100,
    };
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Some(Inner::WriteLoop) = cli.inner {
        return write_loop::serve();
    }
    let mut scale = if cli.quick { Scale::QUICK } else { Scale::FULL };
    scale.runs = cli.runs.unwrap_or(scale.runs);
    scale.readers = cli.readers.unwrap_or(scale.readers);
    scale.sessions = cli.sessions.unwrap_or(scale.sessions);
    process::allow_many_files(scale.readers.max(scale.sessions))?;

    let binary = Binary::find(cli.server, cli.data)?;
    let wanted = |part| cli.only.is_empty() || cli.only.contains(&part);
    let mut report = Report::default();
    // One thread for all who listen, and this one for who publishes, so that it need not wait for their turns. The load generator must cost
    // less than what it measures.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let measured = async {
        if wanted(Part::FanOut) {
            fan_out::measure(&binary, &scale, &mut report).await.context("fan-out")?;
        }
        if wanted(Part::Memory) {
            memory::measure(&binary, &scale, &mut report).await.context("memory")?;
        }
        if wanted(Part::Durable) {
            durable::measure(&binary, &scale, &mut report).await.context("durable publishes")?;
        }
        anyhow::Ok(())
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = measured => outcome,
            // What was started ends, and scratch directories go.
            stopped = stop_signal() => stopped.and_then(|()| bail!("stopped")),
        }
    });

    let mut out = std::io::stdout().lock();
    // Also when a later part failed: what was measured was measured.
    writeln!(out, "{report}")?;
    outcome?;
    if cli.quick {
        writeln!(out, "--quick: everything works; the figures mean nothing.")?;
    }
    if cfg!(debug_assertions) && !cli.quick {
        bail!("this is no release build: the figures mean nothing");
    }
    Ok(())
}

async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    Ok(())
}

/// Says what is being done. The report alone goes to standard output.
pub fn say(what: &str) {
    // Nobody needs to see it.
    let _ = writeln!(std::io::stderr(), "{what}");
}
