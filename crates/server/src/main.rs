//! The `fireside` command.

use std::process::ExitCode;

use clap::Parser;
use fireside_server::cli::Cli;
use fireside_server::commands;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::execute(Cli::parse())
}
