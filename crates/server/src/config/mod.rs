//! The configuration: `fireside.toml`, laid over by the environment, laid over by flags.
//!
//! [`keys`] lists every key once: what it takes, its default and its meaning. Checks, faults, `config explain` and `config schema`
//! all come from there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fireside_core::{Hook, Namespaces};

use crate::keys::Issuer;

mod explain;
mod fault;
mod json_schema;
mod keys;
mod kind;
mod reader;
mod rules;
mod secret;
mod tree;
mod units;

pub use explain::explain;
pub use fault::{ConfigFaults, Fault};
pub use json_schema::json_schema;
pub use reader::Explained;
pub use secret::Secret;
pub use tree::{Flag, Origin, Sources};
pub use units::{format_size, format_time, parse_size, parse_time_ms};

/// The file that is read if none is named.
pub const DEFAULT_FILE: &str = "fireside.toml";

/// Everything that the server was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub server: Server,
    /// The embedded log's directory.
    pub data_dir: PathBuf,
    /// Who may issue tokens, and what they must say.
    pub token: Token,
    /// Keys of the HTTP API.
    pub api_keys: Vec<ApiKey>,
    /// Bounds of one client's session.
    pub session: Session,
    /// The policy of every channel.
    pub namespaces: Namespaces,
    /// Where a backend is asked.
    pub hooks: BTreeMap<Hook, HookConfig>,
    /// Models by name.
    pub providers: BTreeMap<Arc<str>, Provider>,
    /// Clients without a token, everything allowed.
    pub dev_insecure: bool,
    /// Pages of any origin on this machine may connect.
    pub dev_loopback_origins: bool,
    /// Every key with its effective value and where that came from.
    pub explained: Vec<Explained>,
    /// What is allowed but should be known.
    pub warnings: Vec<String>,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Clients and the HTTP API.
    pub listen: SocketAddr,
    /// Metrics and health.
    pub internal_listen: SocketAddr,
    /// The Origins that browsers may come from, exact.
    pub origins: Vec<String>,
}

/// `[token]`.
#[derive(Clone, Debug)]
pub struct Token {
    /// The shared secret.
    pub hmac_secret: Option<Secret>,
    /// Others who issue tokens, with their public keys.
    pub issuers: Vec<Issuer>,
    /// The `aud` that is required.
    pub audience: Option<String>,
    /// How long a token may still be good for when it is used, in seconds.
    pub lifetime_max_s: u64,
    /// A token without `exp` is refused.
    pub exp_required: bool,
    /// Clients without a token are let in.
    pub anonymous: bool,
}

/// `[[api.key]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its name in logs and as the author of records.
    pub id: String,
    /// What a request must bring.
    pub secret: Secret,
}

/// `[session]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Time between two pings, in seconds.
    pub ping_s: u32,
    /// Time for the answer, in seconds.
    pub pong_timeout_s: u32,
    /// Commands per second, sustained.
    pub commands_per_second: u32,
    /// Commands at once.
    pub commands_burst: u32,
    /// Subscriptions at most.
    pub subscriptions_max: usize,
    /// Bytes still owed to one session at most.
    pub outbox_bytes_max: usize,
    /// Bytes of one record's body at most.
    pub record_bytes_max: usize,
    /// Every user is subscribed to `#<user>`.
    pub personal_channel: bool,
    /// Sessions on this node at most.
    pub sessions_max: usize,
}

/// `[hook.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookConfig {
    /// Where questions go.
    pub url: String,
    /// How long an answer may take, in ms.
    pub timeout_ms: u64,
    /// What questions are signed with.
    pub secret: Option<Secret>,
    /// Questions under way at most.
    pub concurrency: usize,
    /// What nobody answers is let through.
    pub lenient: bool,
}

/// `[provider.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The built-in narrator: needs no network and no key.
    Narrator,
    /// An OpenAI-compatible service.
    OpenAi {
        /// The base, such as `https://llm.example.org/v1`.
        url: String,
        /// The model's name there.
        model: String,
        /// Its key, if it wants one.
        key: Option<Secret>,
    },
}

impl Config {
    /// Reads and checks the sources.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place, what is allowed, and an example.
    pub fn load(sources: &Sources) -> Result<Config, ConfigFaults> {
        let tree = tree::merge(sources).map_err(|not_toml| {
            ConfigFaults(vec![Fault {
                at: not_toml.at,
                what: format!("this is not TOML: {}", not_toml.message),
                allowed: None,
                hint: None,
            }])
        })?;
        let reader = reader::Reader::default();
        let config = reader.root(tree, keys::read);
        let mut faults = reader.faults.into_inner();
        if !faults.is_empty() {
            faults.sort_by_key(|fault| place(&fault.at));
            return Err(ConfigFaults(faults));
        }
        Ok(Config { explained: reader.rows.into_inner(), warnings: reader.warnings.into_inner(), ..config })
    }

    /// The configuration if nobody says anything: it admits nobody.
    pub fn closed() -> Config {
        // The defaults are constants of this program; a test holds that they pass.
        Config::load(&Sources::default()).expect("the defaults are a valid configuration")
    }
}

impl Sources {
    /// Reads the file (`named`, or else `./fireside.toml` if it is there) and takes the environment of this process.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn gather(named: Option<&Path>, flags: Vec<Flag>) -> Result<Sources, ConfigFaults> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let file = match std::fs::read_to_string(path) {
            Ok(text) => Some((path.to_owned(), text)),
            Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => {
                return Err(ConfigFaults(vec![Fault {
                    at: Origin::Default,
                    what: format!("{} cannot be read: {e}", path.display()),
                    allowed: None,
                    hint: None,
                }]));
            }
        };
        let env =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Ok(Sources { file, env: env.collect(), flags })
    }
}

/// The environment of this process, as far as it is text.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}

/// The order in which faults are told: as they stand in the file, then the rest.
fn place(at: &Origin) -> (u8, usize, usize) {
    match at {
        Origin::File { line, column, .. } => (at.rank(), *line, *column),
        at => (at.rank(), 0, 0),
    }
}

/// True if only this machine can reach it.
fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests;
