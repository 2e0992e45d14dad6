//! Every key of `fireside.toml`, once: what it takes, its default, and what it means.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use fireside_core::namespace::{
    Allow, Durability, Namespace, Namespaces, Retention, RunPolicy, Schema, WhenActive, Who,
};
use fireside_core::{Hook, limits};

use super::reader::{SchemaSource, Section};
use super::{ApiKey, Config, HookConfig, Provider, Server, Session, Token, rules};
use crate::keys::{ISSUER_ALGORITHMS, Issuer};
use crate::schema::{JsonSchema, SCHEMA_BYTES_MAX};

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Bytes of a file with public keys.
const KEY_FILE_BYTES_MAX: usize = 256 * 1024;

/// Reads the whole file.
pub(super) fn read(root: &Section<'_>) -> Config {
    let server = root.section("server", "Where the server listens, and for whom.", server);
    let data_dir = root.section("data", "Where the server keeps what must survive.", |s| {
        s.path_or("dir", "./fireside-data", "The directory of the embedded log; made if it is missing.")
    });
    let token = root.section("token", "Who may issue tokens, and what they must say.", |s| token(s, &server));
    let api_keys = root.section("api", "The HTTP API under /api.", |s| api_keys(s, &server));
    let session = root.section("session", "Bounds of one client's session.", session);
    let providers: BTreeMap<Arc<str>, Provider> = root
        .each(
            "provider",
            "A language model, or something that writes like one; a namespace's run.provider names it.",
            |name, s| (Arc::from(name), provider(s)),
        )
        .into_iter()
        .collect();
    let hooks =
        root.section("hook", "Where an application's backend is asked before something is done.", hooks);
    let namespaces = root.each(
        "namespace",
        "The policy of the channels NAME:…, of those without a colon (default), or of those under a last part (\"NAME/part\").",
        |name, s| Arc::new(namespace(name, s, &session, &providers, &hooks)),
    );
    let (dev_insecure, dev_loopback_origins) =
        root.section("dev", "For development on one's own machine.", |s| dev(s, &server));
    rules::warn_if_nobody_can_enter(root, &token, &namespaces, &hooks, dev_insecure);
    rules::warn_if_nobody_asks(root, &namespaces, &hooks);
    Config {
        server,
        data_dir,
        token,
        api_keys,
        session,
        namespaces: Namespaces::new(namespaces),
        hooks,
        providers,
        dev_insecure,
        dev_loopback_origins,
        explained: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Whether everybody may do everything, and whether every page of this machine may connect.
fn dev(s: &Section<'_>, server: &Server) -> (bool, bool) {
    let insecure =
        s.boolean("insecure", false, "Clients need no token and may do everything; only on loopback.");
    let origins = s.boolean(
        "loopback_origins",
        insecure,
        "Pages of this machine may connect from any port, beside server.origins; only on loopback.",
    );
    rules::dev_only_on_loopback(s, "insecure", insecure, server);
    rules::dev_only_on_loopback(s, "loopback_origins", origins, server);
    if insecure {
        s.reader().warn("dev.insecure = true: every client may do everything".to_owned());
    }
    (insecure, origins)
}

fn server(s: &Section<'_>) -> Server {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let server = Server {
        listen: s.address("listen", local(8000), "Address and port for clients and the HTTP API."),
        internal_listen: s.address(
            "internal_listen",
            local(8001),
            "Address and port for metrics and health; keep it from the public.",
        ),
        origins: s.texts(
            "origins",
            "[\"https://story.example.org\"]",
            "The Origins that browsers may come from, exact; a browser's Origin that is not here is refused.",
        ),
    };
    rules::addresses_differ(s, &server);
    rules::origins_are_exact(s, &server.origins);
    server
}

fn token(s: &Section<'_>, server: &Server) -> Token {
    let hmac_secret = s.secret(
        "hmac_secret",
        "hmac_secret_file",
        "The secret shared with the backend that signs tokens (HS256, HS384, HS512).",
    );
    rules::hmac_secret_is_long(s, hmac_secret.as_ref(), server);
    let audience = s.text("audience", "fireside", "The `aud` that a token must have; without it, any.");
    let lifetime_max_ms = s.time_ms(
        "lifetime_max",
        DAY,
        SECOND..=366 * DAY,
        "The longest life of a token: one that expires later is refused.",
    );
    let exp_required = s.boolean(
        "exp_required",
        true,
        "A token without `exp` is refused; false only to migrate from servers whose tokens never expire.",
    );
    let anonymous = s.boolean(
        "anonymous",
        false,
        "Clients without a token are let in, to what namespaces open to `anyone` and to nothing else.",
    );
    if !exp_required {
        s.reader()
            .warn("token.exp_required = false: a stolen token without `exp` is good for ever".to_owned());
    }
    let issuers: Vec<Issuer> = s
        .list("issuer", "Somebody else who issues tokens, with public keys.", issuer)
        .into_iter()
        .flatten()
        .collect();
    rules::issuers_differ(s, &issuers);
    Token {
        hmac_secret,
        issuers,
        audience,
        lifetime_max_s: lifetime_max_ms / SECOND,
        exp_required,
        anonymous,
    }
}

fn issuer(s: &Section<'_>) -> Option<Issuer> {
    let name = s.text("issuer", "https://id.example.org", "The `iss` of its tokens, exact.");
    let pem = s.path(
        "public_key_file",
        "keys/issuer.pem",
        "Its one public key, as PEM (RSA, P-256, P-384 or Ed25519).",
    );
    let jwks = s.path(
        "jwks_file",
        "keys/issuer.json",
        "Its public keys as a JWK Set; a token's `kid` chooses among them.",
    );
    let url = s.text("jwks_url", "", "Not supported yet: save the set to a file and name it in jwks_file.");
    let algorithms = s.texts(
        "algorithms",
        "[\"ES256\"]",
        "The algorithms that it may use; without it, those that its keys are made for.",
    );
    if let Some(unknown) = algorithms.iter().find(|a| !ISSUER_ALGORITHMS.contains(&a.as_str())) {
        s.refuse(
            "algorithms",
            &format!("has an unknown entry {unknown:?}"),
            &ISSUER_ALGORITHMS.join(", "),
            "algorithms = [\"ES256\"]",
        );
    }
    if url.is_some() {
        s.refuse(
            "jwks_url",
            "is not supported yet: this server fetches no keys",
            "public_key_file or jwks_file",
            "jwks_file = \"keys/issuer.json\"",
        );
        return None;
    }
    if s.reader().describing {
        return None;
    }
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        if !s.has("issuer") || s.reader().faults.borrow().is_empty() {
            s.refuse(
                "issuer",
                "is missing",
                "the `iss` of its tokens",
                "issuer = \"https://id.example.org\"",
            );
        }
        return None;
    };
    let made = match (pem, jwks) {
        (Some(path), None) => key_file(&path).and_then(|pem| Issuer::from_pem(&name, &pem, &algorithms)),
        (None, Some(path)) => key_file(&path).and_then(|json| Issuer::from_jwks(&name, &json, &algorithms)),
        _ => {
            let example = "public_key_file = \"keys/issuer.pem\"";
            s.refuse("issuer", "needs exactly one source of keys", "public_key_file or jwks_file", example);
            return None;
        }
    };
    let used = if s.has("public_key_file") { "public_key_file" } else { "jwks_file" };
    made.map_err(|why| {
        s.refuse(used, &why, "a public key as PEM, or a JWK Set", "public_key_file = \"keys/issuer.pem\"")
    })
    .ok()
}

fn key_file(path: &Path) -> Result<Vec<u8>, String> {
    bounded_file(path, KEY_FILE_BYTES_MAX)
}

fn bounded_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() > bytes_max {
        Err(format!("is larger than {}", super::format_size(bytes_max as u64)))
    } else {
        Ok(bytes)
    }
}

fn api_keys(s: &Section<'_>, server: &Server) -> Vec<ApiKey> {
    let mut seen: Vec<String> = Vec::new();
    let keys = s.list("key", "A key that a backend calls the HTTP API with (X-API-Key).", |s| {
        let id = s.text("id", "backend", "The key's name in logs and as the author of what it publishes.");
        let secret = s.secret("secret", "secret_file", "What requests must bring.");
        rules::api_key_is_whole(s, id.as_deref(), secret.as_ref(), server);
        Some(ApiKey { id: id?, secret: secret? })
    });
    let keys: Vec<ApiKey> = keys.into_iter().flatten().collect();
    for key in &keys {
        if seen.contains(&key.id) {
            s.refuse(
                "key",
                &format!("has the id {:?} twice", key.id),
                "an id of its own for each key",
                "id = \"backend-2\"",
            );
        }
        seen.push(key.id.clone());
    }
    keys
}

fn session(s: &Section<'_>) -> Session {
    let ping_ms = s.time_ms("ping", 25 * SECOND, SECOND..=HOUR, "Time between two pings; whole seconds.");
    let pong_ms = s.time_ms(
        "pong_timeout",
        8 * SECOND,
        SECOND..=HOUR,
        "Time for a client's answer before it counts as gone; less than ping, whole seconds.",
    );
    let whole = |key, default, range, doc| s.whole(key, default, range, doc);
    let session = Session {
        ping_s: rules::whole_seconds(s, "ping", ping_ms, "ping = \"25s\""),
        pong_timeout_s: rules::whole_seconds(s, "pong_timeout", pong_ms, "pong_timeout = \"8s\""),
        commands_per_second: whole("commands_per_second", 50, 1..=100_000, "Commands that a client may send, sustained.") as u32,
        commands_burst: whole("commands_burst", 100, 1..=100_000, "Commands that a client may send at once.") as u32,
        subscriptions_max: whole("subscriptions_max", 128, 1..=10_000, "Subscriptions of one session.") as usize,
        outbox_bytes_max: s.size(
            "outbox_bytes_max",
            MIB,
            64 * KIB..=256 * MIB,
            "What one session may still be owed before it has to read from the log; at least four of the largest records.",
        ) as usize,
        record_bytes_max: s.size("record_bytes_max", 64 * KIB, KIB..=16 * MIB, "One record's body.") as usize,
        personal_channel: s.boolean("personal_channel", false, "Every user is subscribed to the channel #<user>."),
        sessions_max: whole("sessions_max", limits::SESSIONS_MAX as u64, 1..=10_000_000, "Sessions on this server; more are told to come back later.") as usize,
    };
    rules::pong_before_ping(s, &session);
    rules::record_fits_outbox(s, &session);
    session
}

fn provider(s: &Section<'_>) -> Provider {
    let kind = s.choice(
        "kind",
        "openai",
        &["openai", "narrator"],
        "openai: a service with that interface; narrator: the built-in writer, which needs no network.",
    );
    let url =
        s.text("url", "https://llm.example.org/v1", "The base of the service; /chat/completions is added.");
    let model = s.text("model", "gpt-4o-mini", "The model's name there.");
    let key = s.secret("key", "key_file", "The service's key.");
    match kind {
        "narrator" => {
            rules::narrator_needs_nothing(s);
            Provider::Narrator
        }
        _ => {
            rules::provider_is_whole(s, url.as_deref(), model.as_deref(), key.is_some());
            Provider::OpenAi { url: url.unwrap_or_default(), model: model.unwrap_or_default(), key }
        }
    }
}

/// What each hook is asked about; the first ones for every session, the others where a namespace names them.
const HOOKS: [(Hook, &str, &str); 7] = [
    (
        Hook::Connect,
        "connect",
        "Who is this, and may it come in? Asked for every connect, with or without a token.",
    ),
    (
        Hook::Refresh,
        "refresh",
        "May it stay? Asked before the end of a session that came in without a token.",
    ),
    (Hook::Rpc, "rpc", "What does this method answer? Asked for every rpc that is not the server's own."),
    (Hook::Subscribe, "subscribe", "May it follow this channel? Asked where a namespace's hooks name it."),
    (
        Hook::SubRefresh,
        "sub_refresh",
        "May it follow on? Asked before the end of a subscription where a namespace's hooks name it.",
    ),
    (
        Hook::Publish,
        "publish",
        "May this be written, and in what form? Asked where a namespace's hooks name it.",
    ),
    (
        Hook::Prompt,
        "prompt",
        "What is this run made from, and by which model? Asked where a namespace's hooks name it.",
    ),
];

fn hooks(s: &Section<'_>) -> BTreeMap<Hook, HookConfig> {
    HOOKS
        .into_iter()
        .filter_map(|(hook, name, doc)| Some((hook, s.optional(name, doc, |s| self::hook(hook, s))?)))
        .collect()
}

fn hook(hook: Hook, s: &Section<'_>) -> HookConfig {
    let url = s.text("url", "http://127.0.0.1:9100/fireside", "Where questions go: one POST each.");
    let timeout_ms = s.time_ms(
        "timeout",
        SECOND,
        10..=60 * SECOND,
        "How long an answer may take; after that there is none.",
    );
    let secret = s.secret("secret", "secret_file", "What questions are signed with (Fireside-Signature).");
    let concurrency = s.whole(
        "concurrency",
        256,
        1..=10_000,
        "Questions under way at most; more are refused, to be tried again later.",
    );
    // Only where all other steps of the gate decided already that it may be done.
    let lenient = hook == Hook::Publish
        && s.choice(
            "on_failure",
            "refuse",
            &["refuse", "allow"],
            "What happens to a record when there is no answer: refused, to be tried again later, or written as it is.",
        ) == "allow";
    rules::hook_is_whole(s, url.as_deref(), secret.is_some());
    HookConfig {
        url: url.unwrap_or_default(),
        timeout_ms,
        secret,
        concurrency: concurrency as usize,
        lenient,
    }
}

const WHO: &[&str] = &["caps", "subscriber", "user", "anyone"];

fn namespace(
    name: &str,
    s: &Section<'_>,
    session: &Session,
    providers: &BTreeMap<Arc<str>, Provider>,
    hooks: &BTreeMap<Hook, HookConfig>,
) -> Namespace {
    rules::namespace_name(s, name);
    let history =
        s.optional("history", "What is kept; without it, nothing is. Each bound trims the oldest.", history);
    let durability = match s.choice(
        "durability",
        "fsync",
        &["fsync", "os", "memory"],
        "What an acknowledged record survives: fsync a power cut, os a kill of the process, memory nothing.",
    ) {
        "os" => Durability::Os,
        "memory" => Durability::Memory,
        _ => Durability::Fsync,
    };
    let presence = s.boolean("presence", false, "Members are tracked and can be listed.");
    let join_leave = s.choice(
        "join_leave",
        "false",
        &["false", "true", "push"],
        "Coming and going is told to those who ask; push: to all.",
    );
    let recover = s.boolean("recover", false, "A reader may come back to its position; needs history.");
    let delta = s.texts("delta", "[\"fossil\"]", "Delta formats that a reader may negotiate.");
    let tags_filter =
        s.boolean("tags_filter", false, "A reader may ask for the records whose tags fit its filter.");
    let allow = s.section(
        "allow",
        "Who may, besides those with a capability: caps (nobody), subscriber, user (any token), anyone.",
        |s| Allow {
            subscribe: who(s, "subscribe", "Who may follow."),
            publish: who(s, "publish", "Who may write."),
            history: who(s, "history", "Who may read what was."),
            presence: who(s, "presence", "Who may see who is there."),
        },
    );
    let asks = s.texts(
        "hooks",
        "[\"publish\"]",
        "Where the backend has the last word: subscribe, sub_refresh, publish, prompt; each needs its [hook.NAME].",
    );
    let asks = rules::hooks_are_there(s, &asks, hooks);
    let schema = s.schema(
        "schema",
        "schemas/story.json",
        "The JSON Schema of a record's body: a file, or the schema itself as a table.",
    );
    let schema = schema.and_then(|source| compile(s, source));
    let run =
        s.optional("run", "Answers of a language model as runs; without it, there are none here.", |s| {
            run(s, session, providers)
        });
    rules::prompt_needs_runs(s, asks, run.is_some());
    rules::namespace_is_consistent(s, history.is_some(), recover, run.is_some(), &delta, durability);
    Namespace {
        history,
        durability,
        presence,
        join_leave: join_leave != "false",
        join_leave_push: join_leave == "push",
        recover,
        patches: !delta.is_empty(),
        tags_filter,
        allow,
        hooks: asks,
        schema,
        run,
        record_bytes_max: session.record_bytes_max,
        ..Namespace::closed(name)
    }
}

fn history(s: &Section<'_>) -> Retention {
    Retention {
        records: s.whole("records", 100_000, 1..=1_000_000_000_000, "Records of one channel."),
        bytes: s.size("bytes", 256 * MIB, 64 * KIB..=64 * 1024 * GIB, "Bytes of one channel."),
        age_ms: s.time_ms("age", 365 * DAY, SECOND..=36_500 * DAY, "Age of a record."),
    }
}

fn who(s: &Section<'_>, key: &'static str, doc: &'static str) -> Who {
    match s.choice(key, "caps", WHO, doc) {
        "subscriber" => Who::Subscriber,
        "user" => Who::User,
        "anyone" => Who::Anyone,
        _ => Who::Caps,
    }
}

fn run(s: &Section<'_>, session: &Session, providers: &BTreeMap<Arc<str>, Provider>) -> RunPolicy {
    let base = RunPolicy::default();
    let when_active = s.choice(
        "when_active",
        "reject",
        &["reject", "concurrent"],
        "What happens to a start while a run is active.",
    );
    let policy = RunPolicy {
        when_active: if when_active == "concurrent" { WhenActive::Concurrent } else { WhenActive::Reject },
        pace_ms: s.whole("pace_ms", base.pace_ms, 1..=1_000, "Milliseconds between two pieces of text."),
        text_bytes_max: s.size(
            "text_bytes_max",
            base.text_bytes_max as u64,
            KIB..=16 * MIB,
            "Text of one run; at the bound it ends.",
        ) as usize,
        linger_ms: s.time_ms(
            "linger",
            base.linger_ms,
            SECOND..=DAY,
            "How long a run's own log stays after its end.",
        ),
        system: Arc::from(s.text_or(
            "system",
            "",
            "The instruction that the model gets before the channel's last records.",
        )),
        provider: Arc::from(s.text_or("provider", "default", "The [provider.NAME] that writes.")),
        first_token_ms_max: s.time_ms(
            "first_token_max",
            base.first_token_ms_max,
            SECOND..=HOUR,
            "Time for the model's first text.",
        ),
        idle_ms_max: s.time_ms(
            "idle_max",
            base.idle_ms_max,
            SECOND..=HOUR,
            "Time between two pieces of text.",
        ),
        total_ms_max: s.time_ms("total_max", base.total_ms_max, SECOND..=DAY, "Time for the whole run."),
        lease_ms: s.time_ms(
            "lease",
            base.lease_ms,
            SECOND..=HOUR,
            "How long a run whose backend says nothing stays open.",
        ),
    };
    rules::run_fits_outbox(s, &policy, session);
    rules::run_has_provider(s, &policy, providers);
    policy
}

fn compile(s: &Section<'_>, source: SchemaSource) -> Option<Arc<dyn Schema>> {
    let read = match source {
        SchemaSource::Inline(schema) => Ok(schema),
        SchemaSource::File(path) => bounded_file(&path, SCHEMA_BYTES_MAX)
            .and_then(|json| serde_json::from_slice(&json).map_err(|e| format!("is not JSON: {e}"))),
    };
    match read.and_then(|schema| JsonSchema::compile(&schema)) {
        Ok(schema) => Some(Arc::new(schema)),
        Err(why) => {
            s.refuse(
                "schema",
                &why,
                "a JSON Schema (2020-12), as a file or a table",
                "schema = \"schemas/story.json\"",
            );
            None
        }
    }
}
