//! What each command does, but for the servers themselves (`run`).

use std::process::ExitCode;

use crate::cli::{Cli, Command, ConfigArgs, ConfigCommand, LogArgs, LogCommand};
use crate::config::{Config, ConfigFaults, Sources, explain, json_schema};
use crate::observe::logs::{self, LogFormat};
use crate::run;
use crate::{demo, dev};

mod backup;
mod call;
mod check;
mod log;
mod token;
mod why;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the configuration is wrong: status 2.
    Wrong(String),
    /// The answer was printed, and it is no: status 1.
    No,
    /// It was tried and failed: status 1.
    Failed(anyhow::Error),
}

impl From<ConfigFaults> for Failure {
    fn from(faults: ConfigFaults) -> Self {
        Failure::Wrong(faults.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Failed(error)
    }
}

/// Does what the command line asks, and says on the standard error why not.
pub fn execute(cli: Cli) -> ExitCode {
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::No) => ExitCode::FAILURE,
        Err(Failure::Wrong(why)) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => {
            eprintln!("fireside: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(options) => {
            log_to_stderr(&options.log, "warn")?;
            Ok(on_all_cores()?.block_on(demo::demo(options))?)
        }
        Command::Dev(options) => {
            log_to_stderr(&options.log, "warn")?;
            Ok(on_all_cores()?.block_on(dev::dev(options))?)
        }
        Command::Serve(args) => {
            let config = load(&args.from)?;
            log_to_stderr(&args.log, "info")?;
            Ok(on_all_cores()?.block_on(run::serve(config))?)
        }
        Command::Token(args) => token::mint(&args),
        Command::Why(args) => why::why(&args),
        Command::Pub(args) => on_one_core()?.block_on(call::publish(&args)),
        Command::Tail(args) => on_one_core()?.block_on(call::tail(&args)),
        Command::Check(args) => {
            let config = load(&args)?;
            say(&check::report(&config, args.config.as_deref()))
        }
        Command::Config(ConfigCommand::Explain(args)) => {
            let config = load(&args.from)?;
            let text = explain(&config.explained, args.only.as_deref());
            match (text.is_empty(), args.only) {
                (true, Some(only)) => {
                    Err(Failure::Wrong(format!("{only} is not a key of the configuration")))
                }
                _ => say(&text),
            }
        }
        Command::Log(LogCommand::Check(args)) => log::check(&load(&args)?),
        Command::Log(LogCommand::Stat(args)) => log::stat(&load(&args)?),
        Command::Log(LogCommand::Backup(args)) => backup::backup(&load(&args.from)?, &args.file),
        Command::Log(LogCommand::Restore(args)) => backup::restore(&load(&args.from)?, &args.file),
        Command::Config(ConfigCommand::Schema) => say(&format!("{:#}\n", json_schema())),
    }
}

fn load(args: &ConfigArgs) -> Result<Config, Failure> {
    Ok(Config::load(&Sources::gather(args.config.as_deref(), args.flags())?)?)
}

fn log_to_stderr(args: &LogArgs, default: &str) -> Result<(), Failure> {
    let format = match args.log_format.as_str() {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => LogFormat::Auto,
    };
    logs::init(args.log.as_deref().unwrap_or(default), format)
        .map_err(|fault| Failure::Wrong(fault.to_string()))
}

/// Prints; a reader who has seen enough is no failure of ours.
fn say(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(|e| Failure::Failed(e.into()))
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn on_all_cores() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| Failure::Failed(e.into()))
}

fn on_one_core() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Failure::Failed(e.into()))
}
