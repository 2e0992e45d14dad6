//! Wires everything, and shuts it down in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fireside_core::gate::{Gate, Rules};
use fireside_core::{Facts, Hook, limits};
use fireside_node::ports::{Backend, NoBackend, Provider, Solo};
use fireside_node::{Node, Parts, Settings};
use fireside_wire::centrifuge_json::CentrifugeJson;
use fireside_wire::centrifuge_protobuf::CentrifugeProtobuf;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use crate::backend::{HookSettings, HttpBackend};
use crate::carrier::handshake::{HandshakeRules, Origins};
use crate::carrier::websocket::SocketLimits;
use crate::config::{self, Config};
use crate::front::{Front, FrontCounts, FrontRules, Links, PeerInfo, Rewound};
use crate::host::TokioHost;
use crate::http::HttpLimits;
use crate::http::api::{Api, ApiKeys};
use crate::http::internal::{Internal, Readiness};
use crate::http::router::{Fallback, Router};
use crate::keys::TokenKeys;
use crate::log;
use crate::node_api::OneNode;
use crate::observe::{Fan, logs::FactLog, metrics::Metrics};
use crate::provider::{Narrator, OpenAi, OpenAiSettings};

/// How long sessions may take to hear why they are closed.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long their sockets may take to carry it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until the process is told to stop (SIGINT or SIGTERM).
///
/// # Errors
/// It cannot start: the data directory, an address, a key.
pub async fn serve(config: Config) -> Result<()> {
    for warning in &config.warnings {
        tracing::warn!(target: "fireside", "{warning}");
    }
    let running = Running::start(&config, None).await?;
    info!(target: "fireside", listen = %config.server.listen, internal = %config.server.internal_listen, "ready");
    stop_signal().await?;
    info!(target: "fireside", "stopping");
    running.stop().await;
    Ok(())
}

/// A server that runs.
pub struct Running {
    node: Arc<Node>,
    log: log::Logs,
    readiness: Arc<Readiness>,
    accepting: tokio::task::JoinHandle<()>,
    connections: Box<dyn Fn() -> usize + Send + Sync>,
    stopping: watch::Sender<bool>,
    internal_stopping: watch::Sender<bool>,
    /// Where it really listens: a configured port of 0 was replaced by the system.
    pub listen: SocketAddr,
}

impl Running {
    /// Starts: opens the log, settles what an earlier life left open, then listens. `fallback` answers requests that are neither a
    /// carrier's nor the API's.
    ///
    /// # Errors
    /// It cannot: the data directory, an address, a key.
    pub async fn start(config: &Config, fallback: Option<Fallback>) -> Result<Running> {
        let readiness = Arc::new(Readiness::default());
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
        let internal = listen(config.server.internal_listen, "internal_listen").await?;
        let (internal_stopping, until) = watch::channel(false);
        let counts = Arc::new(FrontCounts::default());
        let (watched, rendered) = (counts.clone(), metrics.clone());
        let inside = Internal {
            readiness: readiness.clone(),
            metrics: Arc::new(move || rendered.render() + &watched.render()),
        };
        tokio::spawn(Arc::new(inside).serve(internal, until));

        let facts: Arc<dyn Facts> = Arc::new(Fan::new(vec![metrics, Arc::new(FactLog::default())]));
        let log = log::Logs::open(&config.data_dir)
            .with_context(|| format!("the data directory {} cannot be opened", config.data_dir.display()))?;
        let node = Node::new(parts(config, &log, facts.clone())?);
        node.start().await;

        let public = listen(config.server.listen, "listen").await?;
        let address = public.local_addr()?;
        let (stopping, until) = watch::channel(false);
        let api_keys = config.api_keys.iter().map(|key| (key.id.as_str(), key.secret.bytes()));
        let api = Api::new(Arc::new(OneNode::new(node.clone())), ApiKeys::new(api_keys), facts);
        let router = Arc::new(Router::new(api, fallback, HttpLimits::default()));
        let front = Front::counted(front_rules(config), reception(node.clone(), router, until), counts);
        let door = front.clone();
        let connections = Box::new(move || door.connections());
        let accepting = tokio::spawn(async move {
            if let Err(fault) = front.serve(public).await {
                tracing::error!(target: "fireside", %fault, "the public listener failed");
            }
        });
        readiness.ready();
        Ok(Running {
            node,
            log,
            readiness,
            accepting,
            connections,
            stopping,
            internal_stopping,
            listen: address,
        })
    }

    /// Stops in order: nobody new, then runs and sessions, then what is under way, then the log; the internal listener last, so that
    /// whoever asks hears that it stops.
    pub async fn stop(self) {
        self.readiness.stop();
        self.accepting.abort();
        self.node.shut_down().await;
        wait_until(GOODBYE, || self.node.info().sessions == 0).await;
        self.stopping.send_replace(true);
        // The last close frames are on their way; an idle HTTP connection does not hold us up.
        wait_until(LAST_WORDS, || (self.connections)() == 0).await;
        self.log.close().await;
        self.internal_stopping.send_replace(true);
    }
}

/// Waits for a condition, and not for ever.
async fn wait_until(patience: Duration, is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Running out of patience is an outcome like the other: shutting down goes on.
    let _ = tokio::time::timeout(patience, waited).await;
}

/// A link becomes a session, anything else speaks HTTP.
fn reception(
    node: Arc<Node>,
    router: Arc<Router>,
    stopping: watch::Receiver<bool>,
) -> Links<impl Fn(fireside_node::ports::Link, PeerInfo), impl Fn(Rewound, SocketAddr)> {
    Links {
        json: (Arc::new(CentrifugeJson), "websocket/centrifuge-json"),
        protobuf: (Arc::new(CentrifugeProtobuf), "websocket/centrifuge-protobuf"),
        // The session is a task of its own, so that nothing of the handshake stays in its future.
        on_link: move |link, _peer: PeerInfo| drop(tokio::spawn(node.serve(link))),
        on_other: move |connection: Rewound, _address| {
            drop(tokio::spawn(router.clone().serve_connection(connection, stopping.clone())));
        },
    }
}

/// What the gate goes by, as the configuration has it.
pub fn rules(config: &Config) -> Rules {
    Rules {
        audience: config.token.audience.clone(),
        lifetime_s_max: config.token.lifetime_max_s,
        exp_required: config.token.exp_required,
        anonymous: config.token.anonymous,
        insecure: config.dev_insecure,
        commands_per_second: config.session.commands_per_second,
        commands_burst: config.session.commands_burst,
        subscriptions_max: config.session.subscriptions_max,
        personal_channel: config.session.personal_channel,
        hooks: config.hooks.keys().copied().collect(),
        lenient: config.hooks.iter().filter(|(_, hook)| hook.lenient).map(|(hook, _)| *hook).collect(),
    }
}

/// The keys that may sign a token.
pub fn token_keys(config: &Config) -> TokenKeys {
    let secret = config.token.hmac_secret.as_ref().map(config::Secret::bytes);
    TokenKeys::new(secret, config.token.issuers.iter().cloned())
}

fn parts(config: &Config, log: &log::Logs, facts: Arc<dyn Facts>) -> Result<Parts> {
    Ok(Parts {
        gate: Gate::new(config.namespaces.clone(), rules(config)),
        host: Arc::new(TokioHost::default()),
        log: log.port(),
        bus: Arc::new(Solo),
        keys: Arc::new(token_keys(config)),
        backend: backend(config, &facts)?,
        providers: config.providers.iter().map(provider).collect::<Result<BTreeMap<_, _>>>()?,
        facts,
        settings: Settings {
            ping_ms: u64::from(config.session.ping_s) * 1000,
            pong_ms_max: u64::from(config.session.pong_timeout_s) * 1000,
            outbox_bytes_max: config.session.outbox_bytes_max,
            sessions_max: config.session.sessions_max,
            ..Settings::default()
        },
    })
}

fn backend(config: &Config, facts: &Arc<dyn Facts>) -> Result<Arc<dyn Backend>> {
    if config.hooks.is_empty() {
        return Ok(Arc::new(NoBackend));
    }
    let settings = config.hooks.iter().map(|(hook, how)| {
        // Half of a JSON text may be escapes.
        let body_bytes = if *hook == Hook::Publish { 2 * config.session.record_bytes_max } else { 0 };
        let settings = HookSettings {
            url: how.url.clone(),
            timeout: Duration::from_millis(how.timeout_ms),
            secret: how.secret.as_ref().map(|secret| secret.bytes().to_vec()),
            concurrency: how.concurrency,
            answer_bytes_max: limits::HOOK_ANSWER_BYTES_MAX + body_bytes,
        };
        (*hook, settings)
    });
    Ok(Arc::new(HttpBackend::new(settings, facts).map_err(anyhow::Error::msg)?))
}

fn provider((name, provider): (&Arc<str>, &config::Provider)) -> Result<(Arc<str>, Arc<dyn Provider>)> {
    let made: Arc<dyn Provider> = match provider {
        config::Provider::Narrator => Arc::new(Narrator::default()),
        config::Provider::OpenAi { url, model, key } => {
            let key = key.as_ref().map(|key| String::from_utf8_lossy(key.bytes()).into_owned());
            let settings = OpenAiSettings { key, ..OpenAiSettings::new(url, model) };
            Arc::new(OpenAi::new(settings).with_context(|| format!("[provider.{name}] cannot be used"))?)
        }
    };
    Ok((name.clone(), made))
}

fn front_rules(config: &Config) -> FrontRules {
    let origins = Origins { exact: config.server.origins.clone(), loopback: config.dev_loopback_origins };
    FrontRules {
        handshake: HandshakeRules { origins, ..HandshakeRules::default() },
        socket: SocketLimits::for_records(config.session.record_bytes_max),
        // Room for the HTTP side beside all sessions.
        connections_max: config.session.sessions_max + 1_000,
        ..FrontRules::production()
    }
}

async fn listen(address: SocketAddr, key: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("[server] {key} = \"{address}\": this address cannot be listened on; is another server running there?")
    })
}

/// Waits for SIGINT or SIGTERM.
///
/// # Errors
/// The system does not let us listen for signals.
pub async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    Ok(())
}

/// Makes a directory that only its owner reads.
///
/// # Errors
/// As the file system says.
pub fn private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
