//! What several keys, or a key and the world, must agree on.

use std::collections::BTreeMap;
use std::sync::Arc;

use fireside_core::Hook;
use fireside_core::hook::Hooks;
use fireside_core::name::{ChannelName, DEFAULT_NAMESPACE, RESERVED_PREFIX};
use fireside_core::namespace::{Durability, Namespace, RunPolicy};

use super::reader::Section;
use super::{HookConfig, Provider, Secret, Server, Session, Token, format_size, is_loopback};
use crate::keys::Issuer;

/// Bytes of an HMAC secret below which it can be guessed (RFC 7518 §3.2: as long as the hash).
const HMAC_SECRET_BYTES_MIN: usize = 32;

/// What stands around a body in its record: author, info, tags, key (the sum of their bounds, rounded up).
pub(super) const RECORD_ENVELOPE_BYTES: usize = 8 * 1024;

pub(super) fn addresses_differ(s: &Section<'_>, server: &Server) {
    if server.listen == server.internal_listen && server.listen.port() != 0 {
        s.refuse(
            "internal_listen",
            "is the same as server.listen",
            "another port",
            "internal_listen = \"127.0.0.1:8001\"",
        );
    }
    if !is_loopback(&server.internal_listen) {
        s.reader().warn(format!(
            "server.internal_listen = \"{}\": metrics are not protected by a token; keep this address from the public",
            server.internal_listen
        ));
    }
}

/// An Origin as browsers send it (RFC 6454 §6.2): scheme, host, and the port unless it is the scheme's own.
pub(super) fn origins_are_exact(s: &Section<'_>, origins: &[String]) {
    for origin in origins {
        let Some(why) = origin_fault(origin) else { continue };
        s.refuse(
            "origins",
            &format!("has an entry {origin:?} that {why}"),
            "scheme://host or scheme://host:port, exact and in small letters",
            "origins = [\"https://story.example.org\"]",
        );
    }
}

fn origin_fault(origin: &str) -> Option<&'static str> {
    if origin.contains('*') {
        return Some("has a *: every origin is named");
    }
    let Some((scheme, rest)) = origin.split_once("://") else {
        return Some("has no scheme");
    };
    let is_scheme = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
        return Some("has no scheme in small letters");
    }
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']) {
        return Some("is more or less than scheme, host and port");
    }
    if rest.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii_graphic()) {
        return Some("is not in small ASCII letters");
    }
    if (scheme == "https" && rest.ends_with(":443")) || (scheme == "http" && rest.ends_with(":80")) {
        return Some("names the scheme's own port, which browsers leave out");
    }
    None
}

pub(super) fn hmac_secret_is_long(s: &Section<'_>, secret: Option<&Secret>, server: &Server) {
    let Some(secret) = secret.filter(|secret| secret.bytes().len() < HMAC_SECRET_BYTES_MIN) else { return };
    let key = if s.has("hmac_secret") { "hmac_secret" } else { "hmac_secret_file" };
    let length = secret.bytes().len();
    if is_loopback(&server.listen) {
        s.reader().warn(format!("token.{key} has {length} bytes: enough on loopback only, beyond it {HMAC_SECRET_BYTES_MIN} are needed"));
    } else {
        s.refuse_hidden(
            key,
            &format!("has {length} bytes, and server.listen = \"{}\" is not loopback", server.listen),
            &format!("at least {HMAC_SECRET_BYTES_MIN} random bytes"),
            "openssl rand -hex 32 > secrets/token",
        );
    }
}

/// Two issuers of one name would be one whose keys nobody chose.
pub(super) fn issuers_differ(s: &Section<'_>, issuers: &[Issuer]) {
    for (i, issuer) in issuers.iter().enumerate() {
        if issuers[..i].iter().any(|other| other.name() == issuer.name()) {
            let allowed = "one [[token.issuer]] for each; several keys go into its jwks_file";
            s.refuse(
                "issuer",
                &format!("has {:?} twice", issuer.name()),
                allowed,
                "jwks_file = \"keys/issuer.json\"",
            );
        }
    }
}

pub(super) fn api_key_is_whole(s: &Section<'_>, id: Option<&str>, secret: Option<&Secret>, server: &Server) {
    if s.reader().describing {
        return;
    }
    let is_id = |id: &str| {
        !id.is_empty()
            && id.len() <= 64
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match id {
        None if !s.has("id") => s.refuse("id", "is missing", "a name for this key", "id = \"backend\""),
        Some(id) if !is_id(id) => {
            s.refuse("id", "is no name for a key", "1 to 64 letters, digits, -, _ and .", "id = \"backend\"");
        }
        _ => {}
    }
    match secret {
        None if !s.has("secret") && !s.has("secret_file") => {
            s.refuse("secret", "is missing", "secret_file or secret", "secret_file = \"secrets/api\"");
        }
        Some(secret) if secret.text().is_none_or(|text| !text.bytes().all(|b| b.is_ascii_graphic())) => {
            let key = if s.has("secret") { "secret" } else { "secret_file" };
            let allowed = "visible ASCII: it is sent in a header";
            s.refuse_hidden(
                key,
                "has a byte that a header cannot bear",
                allowed,
                "openssl rand -hex 32 > secrets/api",
            );
        }
        Some(secret) if secret.bytes().len() < 16 && !is_loopback(&server.listen) => {
            s.reader().warn(format!(
                "the secret of the API key {:?} has {} bytes: it can be guessed",
                id.unwrap_or_default(),
                secret.bytes().len()
            ));
        }
        _ => {}
    }
}

/// What makes development easy is for one's own machine alone.
pub(super) fn dev_only_on_loopback(s: &Section<'_>, key: &'static str, is_on: bool, server: &Server) {
    if is_on && s.has(key) && !is_loopback(&server.listen) {
        s.refuse(
            key,
            &format!("while server.listen = \"{}\" is not loopback", server.listen),
            "true only with server.listen on 127.0.0.1 or [::1]",
            &format!("{key} = false"),
        );
    }
}

pub(super) fn whole_seconds(s: &Section<'_>, key: &'static str, ms: u64, example: &str) -> u32 {
    if !ms.is_multiple_of(1_000) {
        s.refuse(key, "is not a number of whole seconds", "whole seconds", example);
    }
    (ms / 1_000) as u32
}

pub(super) fn pong_before_ping(s: &Section<'_>, session: &Session) {
    if session.pong_timeout_s >= session.ping_s {
        let key = if s.has("pong_timeout") { "pong_timeout" } else { "ping" };
        s.refuse(
            key,
            &format!(
                "makes pong_timeout ({}s) no less than ping ({}s)",
                session.pong_timeout_s, session.ping_s
            ),
            "pong_timeout < ping",
            "pong_timeout = \"8s\"",
        );
    }
}

/// A batch is at most a quarter of an outbox, and holds at least one record.
pub(super) fn record_fits_outbox(s: &Section<'_>, session: &Session) {
    if quarter_is_less(session, session.record_bytes_max) {
        let key = if s.has("record_bytes_max") { "record_bytes_max" } else { "outbox_bytes_max" };
        too_large(
            s,
            key,
            "the largest record",
            session.record_bytes_max,
            session,
            "record_bytes_max = \"64 KiB\"",
        );
    }
}

/// The record that ends a run has its text twice: whole, and part by part.
pub(super) fn run_fits_outbox(s: &Section<'_>, policy: &RunPolicy, session: &Session) {
    let bytes = policy.text_bytes_max.saturating_mul(2);
    if quarter_is_less(session, bytes) {
        too_large(
            s,
            "text_bytes_max",
            "the record that ends a run",
            bytes,
            session,
            "text_bytes_max = \"64 KiB\"",
        );
    }
}

fn quarter_is_less(session: &Session, body_bytes: usize) -> bool {
    session.outbox_bytes_max / 4 < body_bytes + RECORD_ENVELOPE_BYTES
}

fn too_large(s: &Section<'_>, key: &str, what: &str, bytes: usize, session: &Session, example: &str) {
    let need = 4 * (bytes + RECORD_ENVELOPE_BYTES) as u64;
    s.refuse(
        key,
        &format!(
            "makes {what} ({} and {} around it) more than a quarter of session.outbox_bytes_max ({})",
            format_size(bytes as u64),
            format_size(RECORD_ENVELOPE_BYTES as u64),
            format_size(session.outbox_bytes_max as u64)
        ),
        &format!("a smaller one, or outbox_bytes_max of at least {}", format_size(need)),
        example,
    );
}

pub(super) fn run_has_provider(
    s: &Section<'_>,
    policy: &RunPolicy,
    providers: &BTreeMap<Arc<str>, Provider>,
) {
    // Without any provider, and none named, runs here are written by backends.
    let by_backends = providers.is_empty() && !s.has("provider");
    if s.reader().describing || by_backends || providers.contains_key(&policy.provider) {
        return;
    }
    let names: Vec<String> = providers.keys().map(|name| format!("{name:?}")).collect();
    let allowed =
        if names.is_empty() { "a [provider.NAME] first: there is none".to_owned() } else { names.join(", ") };
    s.refuse(
        "provider",
        &format!("names a provider {:?} that is not configured", policy.provider),
        &allowed,
        "[provider.default] kind = \"narrator\"",
    );
}

pub(super) fn narrator_needs_nothing(s: &Section<'_>) {
    for key in ["url", "model", "key", "key_file"] {
        if s.has(key) {
            s.refuse_hidden(
                key,
                "is set, but the narrator uses no service",
                "kind alone",
                "kind = \"narrator\"",
            );
        }
    }
}

pub(super) fn provider_is_whole(s: &Section<'_>, url: Option<&str>, model: Option<&str>, has_key: bool) {
    if s.reader().describing {
        return;
    }
    match url {
        None if !s.has("url") => {
            s.refuse("url", "is missing", "the base of the service", "url = \"https://llm.example.org/v1\"")
        }
        Some(url) if !is_url(url) || url.contains('?') => {
            s.refuse(
                "url",
                "is no http or https address",
                "https://host/path",
                "url = \"https://llm.example.org/v1\"",
            );
        }
        Some(url) if has_key && url.starts_with("http://") && !is_local_url(url) => {
            s.reader().warn(format!("{} = {url:?}: the key travels unencrypted", s.path_of("url")));
        }
        _ => {}
    }
    if model.is_none_or(str::is_empty) && (!s.has("model") || model.is_some()) {
        s.refuse("model", "is missing", "the model's name at the service", "model = \"gpt-4o-mini\"");
    }
}

/// An http or https address that bears no user, password or fragment.
fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['@', ' ', '#', '\\'])
    })
}

/// True if what goes there stays on this machine.
fn is_local_url(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A question bears what users write, and may bear who they are.
pub(super) fn hook_is_whole(s: &Section<'_>, url: Option<&str>, is_signed: bool) {
    if s.reader().describing {
        return;
    }
    match url {
        None if !s.has("url") => {
            s.refuse("url", "is missing", "where questions go", "url = \"http://127.0.0.1:9100/fireside\"");
        }
        Some(url) if !is_url(url) => {
            s.refuse(
                "url",
                "is no http or https address",
                "https://host/path, without a user or password",
                "url = \"http://127.0.0.1:9100/fireside\"",
            );
        }
        Some(url) if !is_local_url(url) => {
            if url.starts_with("http://") {
                s.reader().warn(format!("{} = {url:?}: questions travel unencrypted", s.path_of("url")));
            }
            if !is_signed {
                s.reader().warn(format!(
                    "{} is not set: the backend cannot know that questions are this server's",
                    s.path_of("secret_file")
                ));
            }
        }
        _ => {}
    }
}

/// The hooks that are asked where a namespace names them.
const OF_NAMESPACES: [Hook; 4] = [Hook::Subscribe, Hook::SubRefresh, Hook::Publish, Hook::Prompt];

/// The hooks that a namespace names, each of which must be there.
pub(super) fn hooks_are_there(
    s: &Section<'_>,
    named: &[String],
    hooks: &BTreeMap<Hook, HookConfig>,
) -> Hooks {
    let names = OF_NAMESPACES.map(|hook| format!("{:?}", hook.name())).join(", ");
    let mut asks = Hooks::default();
    for name in named {
        match OF_NAMESPACES.into_iter().find(|hook| hook.name() == name) {
            None => {
                s.refuse("hooks", &format!("has an unknown entry {name:?}"), &names, "hooks = [\"publish\"]")
            }
            Some(hook) if !hooks.contains_key(&hook) => s.refuse(
                "hooks",
                &format!("names {name:?}, but there is no [hook.{name}]"),
                &format!("a [hook.{name}] with its url"),
                &format!("[hook.{name}] url = \"http://127.0.0.1:9100/fireside\""),
            ),
            Some(hook) => asks = asks.with(hook),
        }
    }
    asks
}

pub(super) fn prompt_needs_runs(s: &Section<'_>, asks: Hooks, run: bool) {
    if asks.has(Hook::Prompt) && !run {
        s.refuse(
            "hooks",
            "names \"prompt\", but there are no runs here",
            "run beside it",
            "run = { provider = \"default\" }",
        );
    }
}

/// A hook that no namespace names is never asked, and whoever configured it thinks that it is.
pub(super) fn warn_if_nobody_asks(
    root: &Section<'_>,
    namespaces: &[Arc<Namespace>],
    hooks: &BTreeMap<Hook, HookConfig>,
) {
    for hook in OF_NAMESPACES.into_iter().filter(|hook| hooks.contains_key(hook)) {
        if !namespaces.iter().any(|space| space.hooks.has(hook)) {
            let name = hook.name();
            root.reader().warn(format!("hook.{name} is never asked: no namespace has hooks = [{name:?}]"));
        }
    }
}

pub(super) fn namespace_name(s: &Section<'_>, name: &str) {
    if s.reader().describing {
        return;
    }
    let (head, tail) = name.split_once('/').map_or((name, None), |(head, tail)| (head, Some(tail)));
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if head == RESERVED_PREFIX.trim_end_matches(':') {
        s.refuse_name("is reserved for the server's own channels", "another name", "[namespace.story]");
    } else if !is_word(head) || tail.is_some_and(|tail| !is_word(tail)) || ChannelName::parse(name).is_err() {
        s.refuse_name(
            "is no name for a namespace",
            "letters, digits, -, _ and ., or two such words with a / between them",
            "[namespace.\"story/live\"]",
        );
    } else if tail.is_some() && head == DEFAULT_NAMESPACE {
        s.refuse_name(
            "is never found: channels without a colon have one namespace",
            "a namespace with a colon",
            "[namespace.\"story/live\"]",
        );
    }
}

pub(super) fn namespace_is_consistent(
    s: &Section<'_>,
    history: bool,
    recover: bool,
    run: bool,
    delta: &[String],
    durability: Durability,
) {
    if s.reader().describing {
        return;
    }
    if recover && !history {
        s.refuse(
            "recover",
            "but nothing is kept",
            "history beside it",
            "history = { records = 1000, age = \"24h\" }",
        );
    }
    if run && !history {
        s.refuse_hidden(
            "run",
            "is set, but nothing is kept",
            "history beside it",
            "history = { records = 1000, age = \"24h\" }",
        );
    }
    if !history && durability != Durability::Memory && s.has("durability") {
        s.reader().warn(format!("{} has no effect: nothing is kept", s.path_of("durability")));
    }
    if let Some(unknown) = delta.iter().find(|d| *d != "fossil") {
        s.refuse("delta", &format!("has an unknown entry {unknown:?}"), "\"fossil\"", "delta = [\"fossil\"]");
    } else if !delta.is_empty() && !history {
        s.reader().warn(format!("{} has no effect: nothing is kept", s.path_of("delta")));
    }
}

pub(super) fn warn_if_nobody_can_enter(
    root: &Section<'_>,
    token: &Token,
    namespaces: &[Arc<Namespace>],
    hooks: &BTreeMap<Hook, HookConfig>,
    insecure: bool,
) {
    let warn = |text: &str| root.reader().warn(text.to_owned());
    let by_token = token.hmac_secret.is_some() || !token.issuers.is_empty() || token.anonymous;
    if !by_token && !insecure && !hooks.contains_key(&Hook::Connect) {
        warn(
            "nobody can connect: set token.hmac_secret_file (or a [[token.issuer]], or [hook.connect]), or dev.insecure = true on your own machine",
        );
    }
    if namespaces.is_empty() {
        warn("there is no channel: add a [namespace.NAME], such as [namespace.default]");
    }
}
