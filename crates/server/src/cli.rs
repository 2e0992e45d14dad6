//! The command line: what can be asked of `fireside`, and the help that says so.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Flag, parse_time_ms};

const EXAMPLES: &str = "\
Examples:
  fireside demo                                     the story room on http://127.0.0.1:8000
  fireside dev                                      a server for your own page on this machine
  fireside serve --config /etc/fireside.toml        a server of your own
  fireside token --user anna --room story:42 --allow subscribe,publish --ttl 1h
  fireside tail story:42 --from 1                   every record of a channel, then what comes

Exit status: 0 done, 1 tried and failed, 2 the command line or the configuration is wrong.";

const CONFIG_HELP: &str = "\
Every key can also be set in the environment as FIRESIDE_ and its path with __ between the parts:
  FIRESIDE_SERVER__LISTEN=127.0.0.1:9000 fireside serve
The environment overrides the file, and flags override both. `fireside config explain` shows what holds and why.";

/// Carries everything that happens live between people, documents and AI to every client.
#[derive(Debug, Parser)]
#[command(name = "fireside", bin_name = "fireside", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a server with the story room on it: the address and an invitation are printed
    Demo(DemoOptions),
    /// Start a server for a page of your own on this machine: tokens for the asking, everything allowed in dev:…
    Dev(DevOptions),
    /// Start a server as fireside.toml says
    #[command(after_help = CONFIG_HELP)]
    Serve(ServeArgs),
    /// Mint a token with the configured HMAC secret, and print it
    #[command(after_help = TOKEN_HELP)]
    Token(TokenArgs),
    /// Say which rule lets a token do something, or refuses it; status 1 if it may not
    #[command(after_help = WHY_HELP)]
    Why(WhyArgs),
    /// Publish one record to a running server, and print its position
    #[command(after_help = PUB_HELP)]
    Pub(PubArgs),
    /// Print a channel's records as they come, one JSON object a line
    #[command(after_help = TAIL_HELP)]
    Tail(TailArgs),
    /// Check the configuration, and print the limits that hold
    #[command(after_help = CONFIG_HELP)]
    Check(ConfigArgs),
    /// Show what the configuration means
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the embedded log or back it up, also while a server runs on it, and restore it
    #[command(subcommand)]
    Log(LogCommand),
}

/// `log …`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Verify every checksum, every index and each channel's offsets; damage ends with status 1
    Check(ConfigArgs),
    /// Count channels, records and bytes
    Stat(ConfigArgs),
    /// Write everything that is in the log now to one file
    #[command(after_help = "Example:\n  fireside log backup /backups/monday.fireside")]
    Backup(BackupArgs),
    /// Make the log from a backup; there must be none yet. Every channel begins a new epoch, and readers are told
    #[command(
        after_help = "Example:\n  fireside log restore /backups/monday.fireside --data ./fireside-data"
    )]
    Restore(BackupArgs),
}

/// `log backup`, `log restore`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which configuration.
    #[command(flatten)]
    pub from: ConfigArgs,
}

/// `config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every key with its effective value, where that came from, its default and its meaning
    #[command(after_help = "Example:\n  fireside config explain namespace.story")]
    Explain(ExplainArgs),
    /// Print the JSON Schema of fireside.toml, for editors and checks
    Schema,
}

/// `demo`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = DEMO_HELP)]
pub struct DemoOptions {
    /// Where the stories and the demo's secrets are kept; made if it is missing
    #[arg(long, value_name = "DIR", default_value = "./fireside-data")]
    pub data: PathBuf,
    /// The port of the page and the server
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub port: u16,
    /// An OpenAI-compatible service for the narrator, such as https://llm.example.org/v1; without it, the built-in one
    #[arg(long, value_name = "URL", requires = "model")]
    pub provider: Option<String>,
    /// The model's name at that service
    #[arg(long, value_name = "NAME", requires = "provider")]
    pub model: Option<String>,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

const DEMO_HELP: &str = "\
The service's key is taken from FIRESIDE_PROVIDER_KEY.

Examples:
  fireside demo
  fireside demo --port 9000
  FIRESIDE_PROVIDER_KEY=… fireside demo --provider https://llm.example.org/v1 --model small";

/// `dev`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = DEV_HELP)]
pub struct DevOptions {
    /// Where records and secrets are kept; made if it is missing
    #[arg(long, value_name = "DIR", default_value = "./fireside-dev")]
    pub data: PathBuf,
    /// The port of the server
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub port: u16,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

const DEV_HELP: &str = "\
For development only: whoever reaches the server gets a token, so it listens on this machine alone, and pages of other sites are
refused. A page may come from any port of localhost. Channels dev:… have history, presence and runs by the built-in narrator.

Examples:
  fireside dev
  fireside dev --port 9000 --data /tmp/try";

/// `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Which configuration.
    #[command(flatten)]
    pub from: ConfigArgs,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What a server says on the standard error.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct LogArgs {
    /// What to log: error, warn, info, debug, trace, off, or a list such as info,fireside_store=debug [default: info; demo, dev: warn]
    #[arg(long, value_name = "LEVEL", env = "FIRESIDE_LOG", hide_env_values = true)]
    pub log: Option<String>,
    /// How: text for people, json for machines, auto: text on a terminal, else json
    #[arg(
        long,
        value_name = "FORMAT",
        env = "FIRESIDE_LOG_FORMAT",
        hide_env_values = true,
        default_value = "auto"
    )]
    #[arg(value_parser = ["auto", "text", "json"], hide_possible_values = true)]
    pub log_format: String,
}

/// Which configuration.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// The configuration [default: ./fireside.toml if it is there, else defaults that admit nobody]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Overrides server.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Overrides data.dir
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Overrides any key, as in --set session.ping=10s; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

impl ConfigArgs {
    /// What the command line sets, the particular flags last.
    pub fn flags(&self) -> Vec<Flag> {
        let set = self.set.iter().map(|(path, value)| (path.as_str(), value, "--set"));
        let listen = self.listen.iter().map(|value| ("server.listen", value, "--listen"));
        let data = self.data.iter().map(|value| ("data.dir", value, "--data"));
        set.chain(listen)
            .chain(data)
            .map(|(path, value, flag)| Flag { path: path.to_owned(), value: value.clone(), flag })
            .collect()
    }
}

/// `config explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Only this key, or the keys under it
    #[arg(value_name = "KEY")]
    pub only: Option<String>,
    /// Which configuration.
    #[command(flatten)]
    pub from: ConfigArgs,
}

/// `token`.
#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    /// The user's id
    #[arg(long, value_name = "ID")]
    pub user: String,
    /// A room: the channel of this name and all under it; may be repeated
    #[arg(long, value_name = "NAME")]
    pub room: Vec<String>,
    /// A channel: its name, or the beginning of names and one *; may be repeated
    #[arg(long, value_name = "NAME")]
    pub channel: Vec<String>,
    /// What is allowed there: subscribe, publish, history, presence, ai.start, ai.cancel.own, ai.cancel.any
    #[arg(long, value_name = "RIGHTS", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// How long the token is good for, with its unit
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time_ms)]
    pub ttl: u64,
    /// What others may know about the user, as JSON
    #[arg(long, value_name = "JSON")]
    pub info: Option<String>,
    /// The configuration whose secret signs [default: ./fireside.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

const TOKEN_HELP: &str = "\
Needs no running server. The token is for development and operation: in production the backend mints its own.

Examples:
  fireside token --user anna --room story:42 --allow subscribe,publish,history,presence,ai.start --ttl 1h
  fireside token --user anna --channel 'news:*' --allow subscribe --info '{\"name\": \"Anna\"}'";

/// `why`.
#[derive(Clone, Debug, Args)]
pub struct WhyArgs {
    /// The token; without it, a session that has none
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// What it wants to do
    #[arg(long, value_name = "OP", value_enum)]
    pub op: WhyOp,
    /// Where
    #[arg(long, value_name = "CHANNEL")]
    pub channel: String,
    /// The record's body, or the run's input, as JSON [default: {}]
    #[arg(long, value_name = "JSON")]
    pub data: Option<String>,
    /// The key of a publish or a run
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The session is subscribed to the channel
    #[arg(long)]
    pub subscribed: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The configuration that decides [default: ./fireside.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What `why` can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhyOp {
    /// Follow a channel.
    Subscribe,
    /// Write a record.
    Publish,
    /// Read what was.
    History,
    /// See who is there.
    Presence,
    /// Start a run.
    #[value(name = "ai.start")]
    AiStart,
    /// Stop one's runs.
    #[value(name = "ai.cancel")]
    AiCancel,
}

impl WhyOp {
    /// As it is written on the command line and in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            WhyOp::Subscribe => "subscribe",
            WhyOp::Publish => "publish",
            WhyOp::History => "history",
            WhyOp::Presence => "presence",
            WhyOp::AiStart => "ai.start",
            WhyOp::AiCancel => "ai.cancel",
        }
    }
}

const WHY_HELP: &str = "\
Asks the gate that the server asks, with the same configuration; needs no running server. The token's signature and time come
first, then the gate's steps in their order: bounds, identity, permission, quota, schema.

Example:
  fireside why --token eyJhbGciOi… --op publish --channel story:42 --data '{\"type\": \"title\", \"text\": \"Embers\"}'";

/// Which server.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// The server [default: where the configuration says it listens]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The configuration that has the address and the API key [default: ./fireside.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `pub`.
#[derive(Clone, Debug, Args)]
pub struct PubArgs {
    /// The channel
    #[arg(value_name = "CHANNEL")]
    pub channel: String,
    /// The record's body, one JSON value; - reads it from the standard input
    #[arg(value_name = "JSON")]
    pub body: String,
    /// Publish once under this key, however often the command is run
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
}

const PUB_HELP: &str = "\
The API key is taken from FIRESIDE_API_KEY, or else is the first one of the configuration.

Examples:
  fireside pub news '{\"text\": \"hello\"}'
  fireside pub story:42 '{\"type\": \"title\", \"text\": \"Embers\"}' --key title-1 --url https://live.example.org";

/// `tail`.
#[derive(Clone, Debug, Args)]
pub struct TailArgs {
    /// The channel; it needs history
    #[arg(value_name = "CHANNEL")]
    pub channel: String,
    /// Begin with this offset instead of what comes next; 1 is the oldest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
}

const TAIL_HELP: &str = "\
Asks the server's history every 300 ms. The API key is taken from FIRESIDE_API_KEY, or else is the first one of the configuration.

Examples:
  fireside tail story:42
  fireside tail story:42 --from 1 | jq .data";

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a key and its value, such as session.ping=10s".to_owned()),
    }
}

fn time_ms(text: &str) -> Result<u64, String> {
    parse_time_ms(text).ok_or_else(|| "a whole number and s, m, h or d, such as 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_lines_of_the_help_are_understood() {
        for line in Cli::command()
            .get_subcommands()
            .filter_map(|c| c.get_after_help())
            .map(ToString::to_string)
            .chain([EXAMPLES.to_owned()])
            .flat_map(|help| help.lines().map(str::to_owned).collect::<Vec<_>>())
        {
            let Some((_, command)) = line.split_once("fireside ").filter(|_| line.starts_with("  ")) else {
                continue;
            };
            let command = command.split("  ").next().unwrap().split(" | ").next().unwrap();
            let words = words(command);
            Cli::try_parse_from(std::iter::once("fireside".to_owned()).chain(words))
                .unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    /// Splits as a shell does, as far as the help needs it.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words
    }

    #[test]
    fn later_flags_win_and_name_themselves() {
        let Command::Serve(args) = Cli::try_parse_from([
            "fireside",
            "serve",
            "--set",
            "a.b=c=d",
            "--listen",
            "127.0.0.1:1",
            "--data",
            "x",
        ])
        .unwrap()
        .command
        else {
            panic!()
        };
        let told: Vec<_> = args.from.flags().into_iter().map(|f| (f.path, f.value, f.flag)).collect();
        let flag = |path: &str, value: &str, flag| (path.to_owned(), value.to_owned(), flag);
        assert_eq!(
            told,
            [
                flag("a.b", "c=d", "--set"),
                flag("server.listen", "127.0.0.1:1", "--listen"),
                flag("data.dir", "x", "--data")
            ]
        );
        assert!(Cli::try_parse_from(["fireside", "serve", "--set", "listen"]).is_err());
        assert!(Cli::try_parse_from(["fireside", "token", "--user", "a", "--ttl", "60"]).is_err());
        assert!(Cli::try_parse_from(["fireside", "tail", "a", "--from", "0"]).is_err());
    }
}
