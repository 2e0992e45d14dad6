use std::fs;
use std::os::unix::fs::PermissionsExt;

use fireside_core::namespace::{Durability, WhenActive, Who};
use fireside_core::{ChannelName, Hook};

use super::*;

/// The example of the interface, without what is not there yet.
const EXAMPLE: &str = r#"
[server]
listen = "127.0.0.1:8000"
internal_listen = "127.0.0.1:8001"
origins = ["https://story.example.org"]     # exact; a browser's Origin that is not here is refused

[data]
dir = "./fireside-data"

[token]
hmac_secret_file = "secrets/token"          # or hmac_secret; or [[token.issuer]] with issuer, public_key_file | jwks_file
audience = "fireside"                       # optional; required claim when set
lifetime_max = "24h"
exp_required = true                         # false only to migrate from servers whose tokens never expire; the start warns

[[api.key]]
id = "backend"
secret_file = "secrets/api"

[session]
ping = "25s"
pong_timeout = "8s"
commands_per_second = 50
commands_burst = 100
subscriptions_max = 128
outbox_bytes_max = "1 MiB"
record_bytes_max = "64 KiB"
personal_channel = false                    # subscribes every user to `#<user>`

[namespace.default]                         # channels whose name has no colon

[namespace.story]                           # channels story:…
history = { records = 100_000, bytes = "256 MiB", age = "365d" }
durability = "fsync"                        # fsync | os | memory
presence = true
join_leave = true                           # "push" = also to clients that did not ask
recover = true
delta = ["fossil"]                          # what a reader may negotiate; default none
allow = { subscribe = "caps", publish = "caps", history = "subscriber", presence = "subscriber" }
schema = "schemas/story.json"               # JSON Schema 2020-12, file or inline table
run = { when_active = "reject", pace_ms = 40, text_bytes_max = "64 KiB", linger = "10m" }

[namespace."story/live"]
presence = true

[hook.connect]                              # likewise subscribe, publish; per namespace by hooks = ["publish"]
url = "http://127.0.0.1:9000/fireside"
timeout = "1s"

[provider.default]
kind = "openai"                             # or "narrator"
url = "https://llm.example.org/v1"
model = "some-model"
key_file = "secrets/provider"

[dev]
insecure = false                            # clients without a token, everything allowed: only on loopback
"#;

/// A directory with everything that the example names.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("secrets")).unwrap();
    fs::create_dir(dir.path().join("schemas")).unwrap();
    for (name, text) in [
        ("secrets/token", "0123456789abcdef0123456789abcdef\n"),
        ("secrets/api", "api-secret-0123456789\r\n"),
        ("secrets/provider", "sk-provider"),
        ("secrets/short", "short"),
        ("secrets/empty", "\n"),
        ("schemas/story.json", r#"{"type": "object"}"#),
        ("schemas/broken.json", r#"{"type": "strin"}"#),
        ("schemas/cut.json", "{"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

fn sources(dir: &tempfile::TempDir, text: &str) -> Sources {
    Sources { file: Some((dir.path().join("fireside.toml"), text.to_owned())), ..Sources::default() }
}

fn env(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A JWK Set with a public key (RFC 8037 appendix A.2), beside the configuration.
fn json_key(dir: &tempfile::TempDir) -> &'static str {
    let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    fs::write(dir.path().join("keys.json"), set).unwrap();
    "keys.json"
}

/// The faults of a file, with the directory's name taken out.
fn faults(text: &str) -> String {
    let dir = place();
    let all = Config::load(&sources(&dir, text)).expect_err("was taken").to_string();
    all.replace(&format!("{}/", dir.path().display()), "")
}

fn row<'a>(config: &'a Config, path: &str) -> &'a Explained {
    config.explained.iter().find(|row| row.path == path).unwrap_or_else(|| panic!("no row {path}"))
}

#[test]
fn the_example_is_read() {
    let dir = place();
    let config = Config::load(&sources(&dir, EXAMPLE)).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.server.origins, ["https://story.example.org"]);
    assert_eq!(config.data_dir, dir.path().join("./fireside-data"));
    assert_eq!(config.token.hmac_secret.as_ref().unwrap().bytes(), b"0123456789abcdef0123456789abcdef");
    assert_eq!((config.token.audience.as_deref(), config.token.lifetime_max_s), (Some("fireside"), 86_400));
    assert!(config.token.exp_required && !config.dev_insecure);
    assert_eq!(
        (config.api_keys[0].id.as_str(), config.api_keys[0].secret.text()),
        ("backend", Some("api-secret-0123456789"))
    );
    let session = &config.session;
    assert_eq!(
        (session.ping_s, session.pong_timeout_s, session.commands_per_second, session.commands_burst),
        (25, 8, 50, 100)
    );
    assert_eq!(
        (session.subscriptions_max, session.outbox_bytes_max, session.record_bytes_max),
        (128, 1 << 20, 65_536)
    );
    let find = |name: &str| config.namespaces.find(&ChannelName::parse(name).unwrap()).unwrap().clone();
    assert_eq!(&*find("lobby").name, "default");
    assert!(find("lobby").history.is_none());
    let story = find("story:42");
    let history = story.history.unwrap();
    assert_eq!((history.records, history.bytes, history.age_ms), (100_000, 256 << 20, 365 * 86_400_000));
    assert_eq!(
        (story.durability, story.presence, story.join_leave, story.join_leave_push, story.recover),
        (Durability::Fsync, true, true, false, true)
    );
    assert_eq!((story.allow.subscribe, story.allow.history), (Who::Caps, Who::Subscriber));
    assert!(story.schema.as_ref().unwrap().check(b"[]").is_err());
    let run = story.run.as_ref().unwrap();
    assert_eq!(
        (run.when_active, run.pace_ms, run.text_bytes_max, run.linger_ms),
        (WhenActive::Reject, 40, 65_536, 600_000)
    );
    assert_eq!(&*find("story:42/live").name, "story/live");
    assert!(
        matches!(&config.providers["default"], Provider::OpenAi { url, key: Some(_), .. } if url == "https://llm.example.org/v1")
    );
    assert!(find("story:42").patches);
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn the_json_schema_takes_the_example_and_refuses_what_the_reader_refuses() {
    let schema = json_schema();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let as_json = |text: &str| {
        let tree = tree::merge(&Sources { file: Some(("f".into(), text.to_owned())), ..Sources::default() });
        tree.unwrap().node.to_json()
    };
    let errors: Vec<String> = validator.iter_errors(&as_json(EXAMPLE)).map(|e| e.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    for text in [
        "[webhook.connect]\nurl = 'http://127.0.0.1:9000'",
        "[session]\nping = 25",
        "[session]\nping = '25'",
        "[session]\npong = '8s'",
        "[namespace.a]\ndurability = 'disk'",
        "[namespace.a]\nallow = { subscribe = 'all' }",
        "[namespace.a.history]\nrecords = 0",
        "[[api.key]]\nname = 'x'",
        "[provider.a]\nkind = 'x'",
    ] {
        assert!(!validator.is_valid(&as_json(text)), "the schema takes {text}");
        assert!(Config::load(&sources(&place(), text)).is_err(), "the reader takes {text}");
    }
    let ping = &schema["properties"]["session"]["properties"]["ping"];
    assert_eq!((ping["default"].as_str(), ping["type"].as_str()), (Some("25s"), Some("string")));
    assert!(ping["description"].as_str().unwrap().starts_with("Time between two pings"));
    assert_eq!(schema["properties"]["token"]["properties"]["hmac_secret"]["writeOnly"], true);
    assert_eq!(schema["properties"]["api"]["properties"]["key"]["type"], "array");
}

#[test]
fn every_key_has_a_sentence() {
    fn walk(path: &str, schema: &serde_json::Value) {
        for (key, below) in schema["properties"].as_object().into_iter().flatten() {
            let doc = below["description"].as_str().unwrap_or_default();
            assert!(doc.ends_with('.') && doc.len() > 10, "{path}.{key}: {doc:?}");
            walk(&format!("{path}.{key}"), below);
            walk(&format!("{path}.{key}.*"), &below["additionalProperties"]);
            walk(&format!("{path}.{key}[]"), &below["items"]);
        }
    }
    walk("", &json_schema());
}

#[test]
fn without_a_word_nobody_is_admitted() {
    let config = Config::closed();
    assert!(
        config.token.hmac_secret.is_none() && config.token.issuers.is_empty() && config.api_keys.is_empty()
    );
    assert_eq!(config.namespaces.iter().count(), 0);
    assert_eq!(
        config.warnings,
        [
            "nobody can connect: set token.hmac_secret_file (or a [[token.issuer]], or [hook.connect]), or dev.insecure = true on your own machine",
            "there is no channel: add a [namespace.NAME], such as [namespace.default]",
        ]
    );
    assert_eq!(row(&config, "token.hmac_secret_file").value, "(not set)");
    assert!(config.explained.iter().all(|row| row.source == Origin::Default && row.value == row.default));
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_one() {
    assert_eq!(
        faults("[session]\nping = \"25s\"\npong = \"8s\"\n"),
        "fireside.toml:3:1: session.pong = \"8s\" is not a key of the configuration\n  \
         allowed: ping, pong_timeout, commands_per_second, commands_burst, subscriptions_max, outbox_bytes_max, record_bytes_max, \
         personal_channel, sessions_max\n  \
         nearest: pong_timeout"
    );
    assert_eq!(
        faults("[webhook.connect]\nurl = \"http://127.0.0.1:9000/fireside\"\n"),
        "fireside.toml:1:2: webhook = {…} is not a key of the configuration\n  \
         allowed: server, data, token, api, session, provider, hook, namespace, dev"
    );
    assert_eq!(
        faults("[namespace.story.allow]\nsubscibe = \"caps\"\n"),
        "fireside.toml:2:1: namespace.story.allow.subscibe = \"caps\" is not a key of the configuration\n  \
         allowed: subscribe, publish, history, presence\n  \
         nearest: subscribe"
    );
}

#[test]
fn sizes_and_times_bear_a_unit() {
    assert_eq!(
        faults("[session]\nping = 25\n  outbox_bytes_max = \"1 MB\"\n"),
        "fireside.toml:2:1: session.ping = 25 is not understood\n  \
         allowed: a whole number and ms, s, m, h or d, from 1s to 1h\n  \
         example: ping = \"25s\"\n\
         fireside.toml:3:3: session.outbox_bytes_max = \"1 MB\" is not understood\n  \
         allowed: a whole number and B, KiB, MiB or GiB, from 64 KiB to 256 MiB\n  \
         example: outbox_bytes_max = \"1 MiB\""
    );
    assert_eq!(
        faults("[namespace.a]\nhistory = { age = \"1h30m\" }\n"),
        "fireside.toml:2:13: namespace.a.history.age = \"1h30m\" is not understood\n  \
         allowed: a whole number and ms, s, m, h or d, from 1s to 36500d\n  \
         example: age = \"365d\""
    );
    assert_eq!(
        faults("[session]\nping = \"1500ms\"\npong_timeout = \"1s\"\n"),
        "fireside.toml:2:1: session.ping = \"1500ms\" is not a number of whole seconds\n  \
         allowed: whole seconds\n  \
         example: ping = \"25s\"\n\
         fireside.toml:3:1: session.pong_timeout = \"1s\" makes pong_timeout (1s) no less than ping (1s)\n  \
         allowed: pong_timeout < ping\n  \
         example: pong_timeout = \"8s\""
    );
}

#[test]
fn values_of_the_wrong_kind_are_told_what_is_allowed() {
    assert_eq!(
        faults("[server]\nlisten = \"localhost\"\norigins = \"https://a.org\"\n[dev]\ninsecure = \"true\"\n"),
        "fireside.toml:2:1: server.listen = \"localhost\" is not understood\n  \
         allowed: an IP address and a port\n  \
         example: listen = \"127.0.0.1:8000\"\n\
         fireside.toml:3:1: server.origins = \"https://a.org\" is not understood\n  \
         allowed: a list of texts\n  \
         example: origins = [\"https://story.example.org\"]\n\
         fireside.toml:5:1: dev.insecure = \"true\" is not understood\n  \
         allowed: true or false\n  \
         example: insecure = true"
    );
    assert_eq!(
        faults("[namespace.a]\ndurability = \"disk\"\njoin_leave = \"yes\"\n"),
        "fireside.toml:2:1: namespace.a.durability = \"disk\" is not understood\n  \
         allowed: \"fsync\", \"os\", \"memory\"\n  \
         example: durability = \"fsync\"\n\
         fireside.toml:3:1: namespace.a.join_leave = \"yes\" is not understood\n  \
         allowed: false, true, \"push\"\n  \
         example: join_leave = false"
    );
    assert_eq!(
        faults("[session]\ncommands_burst = 0\n[api]\nkey = 7\n"),
        "fireside.toml:2:1: session.commands_burst = 0 is not understood\n  \
         allowed: a whole number from 1 to 100000\n  \
         example: commands_burst = 100\n\
         fireside.toml:4:1: api.key = 7 is not understood\n  \
         allowed: a list of tables\n  \
         example: [[api.key]]"
    );
    assert_eq!(
        faults("session = 7\n"),
        "fireside.toml:1:1: session = 7 is not understood\n  allowed: a table of keys"
    );
}

#[test]
fn a_file_that_is_not_toml_says_where() {
    let told = faults("[session]\nping = 25s\n");
    assert!(told.starts_with("fireside.toml:2:8: this is not TOML: "), "{told}");
    assert!(!told.contains('\n'), "{told}");
    let told = faults("[session]\nping = \"25s\"\nping = \"26s\"\n");
    assert!(told.starts_with("fireside.toml:3:1: this is not TOML: duplicate key"), "{told}");
}

#[test]
fn origins_are_exact() {
    for (origin, why) in [
        ("*", "has a *: every origin is named"),
        ("https://*.example.org", "has a *: every origin is named"),
        ("story.example.org", "has no scheme"),
        ("null", "has no scheme"),
        ("https://a.org/", "is more or less than scheme, host and port"),
        ("https://A.org", "is not in small ASCII letters"),
        ("https://a.org:443", "names the scheme's own port, which browsers leave out"),
    ] {
        assert_eq!(
            faults(&format!("[server]\norigins = [\"https://ok.org:8443\", \"{origin}\"]\n")),
            format!(
                "fireside.toml:2:1: server.origins = […] has an entry \"{origin}\" that {why}\n  \
                 allowed: scheme://host or scheme://host:port, exact and in small letters\n  \
                 example: origins = [\"https://story.example.org\"]"
            )
        );
    }
}

#[test]
fn a_short_secret_stays_on_loopback() {
    assert_eq!(
        faults("[server]\nlisten = \"0.0.0.0:8000\"\n[token]\nhmac_secret_file = \"secrets/short\"\n"),
        "fireside.toml:4:1: token.hmac_secret_file has 5 bytes, and server.listen = \"0.0.0.0:8000\" is not loopback\n  \
         allowed: at least 32 random bytes\n  \
         example: openssl rand -hex 32 > secrets/token"
    );
    let config =
        Config::load(&sources(&place(), "[token]\nhmac_secret = \"short\"\n[namespace.default]\n")).unwrap();
    assert_eq!(
        config.warnings,
        ["token.hmac_secret has 5 bytes: enough on loopback only, beyond it 32 are needed"]
    );
}

#[test]
fn a_secret_is_given_once_and_never_shown() {
    assert_eq!(
        faults("[token]\nhmac_secret = \"one\"\nhmac_secret_file = \"secrets/token\"\n"),
        "fireside.toml:2:1: token.hmac_secret and hmac_secret_file are both set\n  \
         allowed: one of the two\n  \
         example: hmac_secret_file = \"secrets/token\""
    );
    assert_eq!(
        faults(
            "[token]\nhmac_secret_file = \"secrets/empty\"\n[[api.key]]\nid = \"a\"\nsecret = \"with space\"\n"
        ),
        "fireside.toml:2:1: token.hmac_secret_file is empty\n  \
         allowed: a secret of at least one byte\n  \
         example: hmac_secret_file = \"secrets/token\"\n\
         fireside.toml:5:1: api.key[0].secret has a byte that a header cannot bear\n  \
         allowed: visible ASCII: it is sent in a header\n  \
         example: openssl rand -hex 32 > secrets/api"
    );
    let told = faults("[token]\nhmac_secret_file = \"secrets/absent\"\n");
    assert!(
        told.starts_with(
            "fireside.toml:2:1: token.hmac_secret_file = \"secrets/absent\" cannot be read: No such file"
        ),
        "{told}"
    );

    let dir = place();
    let text = "[token]\nhmac_secret = \"TOPSECRET\"\n[[api.key]]\nid = \"b\"\nsecret = \"TOPSECRET\"\n[provider.default]\nurl = \"https://a.org\"\nmodel = \"m\"\nkey = \"TOPSECRET\"\n";
    let config = Config::load(&sources(&dir, text)).unwrap();
    let shown = format!("{config:?}{}", explain(&config.explained, None));
    assert!(!shown.contains("TOPSECRET") && !shown.contains("84, 79, 80"), "{shown}");
    assert_eq!(row(&config, "token.hmac_secret").value, "(set)");
    let config = Config::load(&sources(&dir, EXAMPLE)).unwrap();
    let file = dir.path().join("secrets/token");
    assert_eq!(row(&config, "token.hmac_secret_file").value, format!("(set, from file {})", file.display()));
}

#[test]
fn a_secret_that_everybody_can_read_is_warned_of() {
    let dir = place();
    let path = dir.path().join("secrets/token");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let config =
        Config::load(&sources(&dir, "[token]\nhmac_secret_file = \"secrets/token\"\n[namespace.default]\n"))
            .unwrap();
    let shown = path.display();
    assert_eq!(
        config.warnings,
        [format!("everybody on this machine can read the secret in {shown}: chmod 600 {shown}")]
    );
}

#[test]
fn insecure_is_for_loopback() {
    assert_eq!(
        faults("[server]\nlisten = \"[::]:8000\"\n[dev]\ninsecure = true\n"),
        "fireside.toml:4:1: dev.insecure = true while server.listen = \"[::]:8000\" is not loopback\n  \
         allowed: true only with server.listen on 127.0.0.1 or [::1]\n  \
         example: insecure = false"
    );
    for listen in ["127.0.0.1:0", "[::1]:8000", "[::ffff:127.0.0.1]:8000"] {
        let text = format!("[server]\nlisten = \"{listen}\"\n[dev]\ninsecure = true\n");
        assert!(Config::load(&sources(&place(), &text)).unwrap().dev_insecure, "{listen}");
    }
}

#[test]
fn the_largest_record_fits_a_quarter_of_the_outbox() {
    assert_eq!(
        faults("[session]\nrecord_bytes_max = \"256 KiB\"\n"),
        "fireside.toml:2:1: session.record_bytes_max = \"256 KiB\" makes the largest record (256 KiB and 8 KiB around it) more than a \
         quarter of session.outbox_bytes_max (1 MiB)\n  \
         allowed: a smaller one, or outbox_bytes_max of at least 1056 KiB\n  \
         example: record_bytes_max = \"64 KiB\""
    );
    assert_eq!(
        faults(
            "[provider.default]\nkind = \"narrator\"\n[namespace.a]\nhistory = {}\nrun = { text_bytes_max = \"1 MiB\" }\n"
        ),
        "fireside.toml:5:9: namespace.a.run.text_bytes_max = \"1 MiB\" makes the record that ends a run (2 MiB and 8 KiB around it) more \
         than a quarter of session.outbox_bytes_max (1 MiB)\n  \
         allowed: a smaller one, or outbox_bytes_max of at least 8224 KiB\n  \
         example: text_bytes_max = \"64 KiB\""
    );
}

#[test]
fn a_namespace_has_a_name_of_its_own() {
    assert_eq!(
        faults("[namespace.fireside]\n"),
        "fireside.toml:1:12: namespace.fireside is reserved for the server's own channels\n  \
         allowed: another name\n  \
         example: [namespace.story]"
    );
    for name in ["a:b", "a/b/c", "/a", "a/", "", "é", "a b", "$a", "a/.."] {
        let told = faults(&format!("[namespace.\"{name}\"]\n"));
        assert!(told.contains("is no name for a namespace"), "{name}: {told}");
    }
    assert!(faults("[namespace.\"default/live\"]\n").contains("is never found"));
    assert!(faults("[namespace.\"fireside/live\"]\n").contains("is reserved"));
}

#[test]
fn what_needs_history_says_so() {
    assert_eq!(
        faults("[namespace.a]\nrecover = true\n"),
        "fireside.toml:2:1: namespace.a.recover = true but nothing is kept\n  \
         allowed: history beside it\n  \
         example: history = { records = 1000, age = \"24h\" }"
    );
    assert_eq!(
        faults("[namespace.a]\nhistory = {}\nrun = {}\n[provider.x]\nkind = \"narrator\"\n"),
        "fireside.toml:3:1: namespace.a.run.provider names a provider \"default\" that is not configured\n  \
         allowed: \"x\"\n  \
         example: [provider.default] kind = \"narrator\""
    );
    // Without any provider backends write the runs; a name is then a mistake.
    let by_backends = "[namespace.a]\nhistory = {}\nrun = { lease = \"5s\" }\n";
    let config = Config::load(&sources(&place(), by_backends)).unwrap();
    assert_eq!(config.namespaces.iter().next().unwrap().run.as_ref().unwrap().lease_ms, 5_000);
    assert!(
        faults("[namespace.a]\nhistory = {}\nrun = { provider = \"x\" }\n")
            .contains("a [provider.NAME] first")
    );
}

#[test]
fn schemas_are_compiled_at_the_start() {
    let told = faults("[namespace.a]\nschema = \"schemas/broken.json\"\n");
    assert!(told.starts_with("fireside.toml:2:1: namespace.a.schema = \"schemas/broken.json\" is no JSON Schema that can be used: "), "{told}");
    let told = faults("[namespace.a]\nschema = \"schemas/cut.json\"\n");
    assert!(
        told.starts_with("fireside.toml:2:1: namespace.a.schema = \"schemas/cut.json\" is not JSON: "),
        "{told}"
    );
    let config = Config::load(&sources(
        &place(),
        "[namespace.a]\nschema = { type = \"object\", maxProperties = 1 }\n",
    ))
    .unwrap();
    let a = config.namespaces.find(&ChannelName::parse("a:1").unwrap()).unwrap().clone();
    assert!(a.schema.as_ref().unwrap().check(br#"{"x":1}"#).is_ok());
    assert!(a.schema.as_ref().unwrap().check(br#"{"x":1,"y":2}"#).is_err());
}

#[test]
fn an_issuer_has_one_source_of_keys() {
    assert_eq!(
        faults("[[token.issuer]]\nissuer = \"https://id.example.org\"\n"),
        "fireside.toml:2:1: token.issuer[0].issuer = \"https://id.example.org\" needs exactly one source of keys\n  \
         allowed: public_key_file or jwks_file\n  \
         example: public_key_file = \"keys/issuer.pem\""
    );
    assert_eq!(
        faults("[[token.issuer]]\nissuer = \"x\"\njwks_url = \"https://id.example.org/jwks\"\n"),
        "fireside.toml:3:1: token.issuer[0].jwks_url = \"https://id.example.org/jwks\" is not supported yet: this server fetches no keys\n  \
         allowed: public_key_file or jwks_file\n  \
         example: jwks_file = \"keys/issuer.json\""
    );
    assert_eq!(
        faults(
            "[[token.issuer]]\nissuer = \"x\"\npublic_key_file = \"secrets/token\"\nalgorithms = [\"HS256\"]\n"
        ),
        "fireside.toml:3:1: token.issuer[0].public_key_file = \"secrets/token\" holds no RSA, EC or Ed25519 public key in PEM form\n  \
         allowed: a public key as PEM, or a JWK Set\n  \
         example: public_key_file = \"keys/issuer.pem\"\n\
         fireside.toml:4:1: token.issuer[0].algorithms = […] has an unknown entry \"HS256\"\n  \
         allowed: RS256, RS384, RS512, ES256, ES384, EdDSA\n  \
         example: algorithms = [\"ES256\"]"
    );
    assert!(
        faults("[[token.issuer]]\npublic_key_file = \"secrets/token\"\n")
            .contains("token.issuer[0].issuer is missing")
    );
}

#[test]
fn an_issuer_is_configured_once() {
    let dir = place();
    let key = json_key(&dir);
    let issuer = |name: &str| format!("[[token.issuer]]\nissuer = \"{name}\"\njwks_file = \"{key}\"\n");
    let told = Config::load(&sources(&dir, &issuer("x").repeat(2))).unwrap_err().to_string();
    assert!(told.contains("token.issuer = […] has \"x\" twice"), "{told}");
    let both = Config::load(&sources(&dir, &(issuer("x") + &issuer("y")))).unwrap();
    assert_eq!(both.token.issuers.iter().map(Issuer::name).collect::<Vec<_>>(), ["x", "y"]);
}

#[test]
fn a_provider_is_whole() {
    assert_eq!(
        faults("[provider.default]\nurl = \"llm.example.org\"\n"),
        "fireside.toml:1:11: provider.default.model is missing\n  \
         allowed: the model's name at the service\n  \
         example: model = \"gpt-4o-mini\"\n\
         fireside.toml:2:1: provider.default.url = \"llm.example.org\" is no http or https address\n  \
         allowed: https://host/path\n  \
         example: url = \"https://llm.example.org/v1\""
    );
    assert_eq!(
        faults("[provider.default]\nkind = \"narrator\"\nmodel = \"x\"\n"),
        "fireside.toml:3:1: provider.default.model is set, but the narrator uses no service\n  \
         allowed: kind alone\n  \
         example: kind = \"narrator\""
    );
}

#[test]
fn api_keys_have_names() {
    assert_eq!(
        faults("[[api.key]]\nsecret = \"0123456789abcdef\"\n[[api.key]]\nid = \"a b\"\nsecret = \"x\"\n"),
        "fireside.toml:1:1: api.key[0].id is missing\n  \
         allowed: a name for this key\n  \
         example: id = \"backend\"\n\
         fireside.toml:4:1: api.key[1].id = \"a b\" is no name for a key\n  \
         allowed: 1 to 64 letters, digits, -, _ and .\n  \
         example: id = \"backend\""
    );
    let twice = "[[api.key]]\nid = \"a\"\nsecret = \"x\"\n[[api.key]]\nid = \"a\"\nsecret = \"y\"\n";
    assert!(faults(twice).contains("api.key = […] has the id \"a\" twice"), "{}", faults(twice));
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let dir = place();
    let mut all = sources(&dir, EXAMPLE);
    all.env = vec![
        env("FIRESIDE_SERVER__LISTEN", "127.0.0.1:9000"),
        env("FIRESIDE_SERVER__ORIGINS", "https://a.org, https://b.org"),
        env("FIRESIDE_SESSION__PING", "30s"),
        env("FIRESIDE_SESSION__COMMANDS_BURST", "7"),
        env("FIRESIDE_DEV__INSECURE", "true"),
        env("FIRESIDE_NAMESPACE__CHAT__HISTORY", "{ records = 10 }"),
        env("FIRESIDE_NAMESPACE__CHAT__HISTORY__AGE", "1h"),
        env("FIRESIDE_NAMESPACE__CHAT__JOIN_LEAVE", "push"),
        env("FIRESIDE_DATA__DIR", "elsewhere"),
        env("FIRESIDE_TOKEN__HMAC_SECRET", "98765432109876543210987654321098"),
        env("FIRESIDE_API_KEY", "not a key of the configuration"),
        env("OTHER__THING", "x"),
    ];
    all.flags = vec![Flag { path: "server.listen".into(), value: "127.0.0.1:9001".into(), flag: "--listen" }];
    let config = Config::load(&all).unwrap();
    assert_eq!(config.server.listen.port(), 9001);
    assert_eq!(config.server.origins, ["https://a.org", "https://b.org"]);
    assert_eq!((config.session.ping_s, config.session.commands_burst, config.dev_insecure), (30, 7, true));
    assert_eq!(config.data_dir, Path::new("elsewhere"));
    assert_eq!(config.token.hmac_secret.as_ref().unwrap().bytes(), b"98765432109876543210987654321098");
    let chat = config.namespaces.find(&ChannelName::parse("chat:1").unwrap()).unwrap().clone();
    assert_eq!(chat.history.map(|h| (h.records, h.age_ms)), Some((10, 3_600_000)));
    assert!(chat.join_leave_push);

    assert_eq!(row(&config, "server.listen").source, Origin::Flag("--listen"));
    assert_eq!(row(&config, "session.ping").source.to_string(), "FIRESIDE_SESSION__PING");
    assert_eq!(row(&config, "session.ping").value, "\"30s\"");
    assert_eq!(row(&config, "session.ping").default, "\"25s\"");
    let file = dir.path().join("fireside.toml");
    assert_eq!(row(&config, "session.pong_timeout").source.to_string(), format!("{}:22:1", file.display()));
    assert_eq!(row(&config, "session.sessions_max").source, Origin::Default);
    assert_eq!(row(&config, "namespace.\"story/live\".presence").value, "true");
}

#[test]
fn a_wrong_override_names_its_variable_or_flag() {
    let told = |sources: Sources| Config::load(&sources).unwrap_err().to_string();
    let all = Sources { env: vec![env("FIRESIDE_SESSION__PING", "25")], ..Sources::default() };
    assert_eq!(
        told(all),
        "FIRESIDE_SESSION__PING: session.ping = \"25\" is not understood\n  \
         allowed: a whole number and ms, s, m, h or d, from 1s to 1h\n  \
         example: ping = \"25s\""
    );
    let all = Sources { env: vec![env("FIRESIDE_SERVER__LISEN", "x")], ..Sources::default() };
    assert_eq!(
        told(all),
        "FIRESIDE_SERVER__LISEN: server.lisen = \"x\" is not a key of the configuration\n  \
         allowed: listen, internal_listen, origins\n  \
         nearest: listen"
    );
    let flag = Flag { path: "server.listen".into(), value: "8000".into(), flag: "--listen" };
    assert_eq!(
        told(Sources { flags: vec![flag], ..Sources::default() }),
        "--listen: server.listen = \"8000\" is not understood\n  \
         allowed: an IP address and a port\n  \
         example: listen = \"127.0.0.1:8000\""
    );
}

#[test]
fn explain_shows_value_source_default_unit_and_meaning() {
    let all = Sources { env: vec![env("FIRESIDE_SESSION__PING", "1m")], ..Sources::default() };
    let config = Config::load(&all).unwrap();
    assert_eq!(
        explain(&config.explained, Some("session.ping")),
        "# Time between two pings; whole seconds. [time]\nsession.ping = \"1m\"  # FIRESIDE_SESSION__PING; default \"25s\"\n"
    );
    assert_eq!(
        explain(&config.explained, Some("data")),
        "# The directory of the embedded log; made if it is missing. [path]\ndata.dir = \"./fireside-data\"  # default\n"
    );
    assert!(explain(&config.explained, Some("sess")).is_empty());
}

const HOOK: &str = "[hook.publish]\nurl = \"http://127.0.0.1:9100/x\"\n";

#[test]
fn a_hook_is_asked_where_a_namespace_names_it() {
    let dir = place();
    let text = format!(
        "{HOOK}secret_file = \"secrets/api\"\non_failure = \"allow\"\n[namespace.story]\nhooks = [\"publish\"]\n"
    );
    let config = Config::load(&sources(&dir, &text)).unwrap();
    let hook = &config.hooks[&Hook::Publish];
    assert_eq!((hook.timeout_ms, hook.concurrency, hook.lenient), (1_000, 256, true));
    assert_eq!(hook.secret.as_ref().unwrap().bytes(), b"api-secret-0123456789");
    let story = config.namespaces.find(&ChannelName::parse("story:1").unwrap()).unwrap();
    assert!(story.hooks.has(Hook::Publish) && !story.hooks.has(Hook::Subscribe));
    assert!(!config.warnings.iter().any(|warning| warning.contains("hook.publish")), "{:?}", config.warnings);
}

#[test]
fn a_hook_that_cannot_be_asked_is_a_fault() {
    for (text, wanted) in [
        ("[hook.publish]\n", "hook.publish.url is missing"),
        ("[hook.publish]\nurl = \"ftp://x\"\n", "hook.publish.url = \"ftp://x\" is no http or https address"),
        ("[hook.publish]\nurl = \"http://u:p@x/\"\n", "is no http or https address"),
        (
            "[hook.connect]\nurl = \"http://127.0.0.1/\"\non_failure = \"allow\"\n",
            "hook.connect.on_failure = \"allow\" is not a key",
        ),
        ("[hook.publish]\nurl = \"http://127.0.0.1/\"\ntimeout = \"2m\"\n", "hook.publish.timeout = \"2m\""),
        ("[namespace.a]\nhooks = [\"publish\"]\n", "names \"publish\", but there is no [hook.publish]"),
        ("[namespace.a]\nhooks = [\"connect\"]\n", "has an unknown entry \"connect\""),
        (
            "[hook.prompt]\nurl = \"http://127.0.0.1/\"\n[namespace.a]\nhooks = [\"prompt\"]\n",
            "names \"prompt\", but there are no runs here",
        ),
    ] {
        let told = faults(text);
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn what_should_be_known_of_a_hook_is_said() {
    let warnings = |text: &str| Config::load(&sources(&place(), text)).unwrap().warnings.join("\n");
    assert!(warnings(HOOK).contains("hook.publish is never asked"));
    let open = warnings("[hook.connect]\nurl = \"http://hooks.example.org/\"\n");
    assert!(
        open.contains("questions travel unencrypted") && open.contains("secret_file is not set"),
        "{open}"
    );
    assert!(!open.contains("nobody can connect"), "the backend lets in whom it likes");
    let looks_local = warnings("[hook.connect]\nurl = \"http://127.0.0.1.example.org/\"\n");
    assert!(looks_local.contains("unencrypted"), "{looks_local}");
    for local in ["http://127.0.0.1:9/x", "http://localhost/", "http://[::1]:9/"] {
        let told = warnings(&format!("[hook.connect]\nurl = \"{local}\"\n"));
        assert!(!told.contains("hook.connect."), "{told}");
    }
}
