//! Wires everything, serves, and shuts down in order.

use crate::cli::DemoOptions;
use crate::config::Config;

/// Serves until the process is told to end.
///
/// # Errors
/// The server cannot start.
pub async fn serve(_config: Config) -> anyhow::Result<()> {
    anyhow::bail!("the server is not wired yet")
}

/// Serves the story room beside the server until the process is told to end.
///
/// # Errors
/// The server cannot start.
pub async fn demo(_options: DemoOptions) -> anyhow::Result<()> {
    anyhow::bail!("the demo is not wired yet")
}
