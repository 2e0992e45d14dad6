//! The `fireside` command.

use std::process::ExitCode;

use clap::Parser;
use fireside_server::cli::Cli;
use fireside_server::commands;

fn main() -> ExitCode {
    commands::execute(Cli::parse())
}
