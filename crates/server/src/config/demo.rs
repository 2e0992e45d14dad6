//! The configuration of `fireside demo`: a built-in file, and what differs from one start to the next.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::{Flag, Sources};

const FILE: &str = include_str!("demo.toml");

/// What a start of the demo decides.
#[derive(Clone, Copy, Debug)]
pub struct DemoSources<'a> {
    /// The page and the server.
    pub listen: SocketAddr,
    /// The Origins under which the page is reached.
    pub origins: &'a [String],
    /// The data directory.
    pub data_dir: &'a Path,
    /// The file with the secret of tokens.
    pub token_secret_file: &'a Path,
    /// The file with the API key of the story room, whose id is `story`.
    pub api_secret_file: &'a Path,
    /// Base and model of an OpenAI-compatible service; `None`: the built-in narrator.
    pub provider: Option<(&'a str, &'a str)>,
    /// That service's key.
    pub provider_key: Option<&'a str>,
}

impl DemoSources<'_> {
    /// The sources for [`super::Config::load`], with the environment of this process between the built-in file and the flags.
    pub fn sources(&self, env: Vec<(String, String)>) -> Sources {
        let text = |path: &Path| path.display().to_string();
        let keys = json!([{"id": "story", "secret_file": text(self.api_secret_file)}]);
        let mut flags = vec![
            flag("server.listen", self.listen.to_string(), "--port"),
            flag("server.origins", json!(self.origins).to_string(), "--port"),
            flag("data.dir", text(self.data_dir), "--data"),
            flag("token.hmac_secret_file", text(self.token_secret_file), "--data"),
            flag("api.key", inline(&keys), "--data"),
        ];
        match self.provider {
            None => flags.push(flag("provider.default.kind", "narrator".to_owned(), "demo")),
            Some((url, model)) => {
                flags.push(flag("provider.default.kind", "openai".to_owned(), "--provider"));
                flags.push(flag("provider.default.url", url.to_owned(), "--provider"));
                flags.push(flag("provider.default.model", model.to_owned(), "--model"));
                flags.extend(
                    self.provider_key
                        .map(|key| flag("provider.default.key", key.to_owned(), "FIRESIDE_PROVIDER_KEY")),
                );
            }
        }
        Sources { file: Some(("demo.toml".into(), FILE.to_owned())), env, flags }
    }
}

fn flag(path: &str, value: String, flag: &'static str) -> Flag {
    Flag { path: path.to_owned(), value, flag }
}

/// JSON as TOML writes it inline: the same, but for the sign between key and value.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Provider};
    use fireside_core::ChannelName;
    use fireside_core::namespace::Namespace;
    use std::sync::Arc;

    fn demo(provider: Option<(&str, &str)>) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let [token, api] = ["token \"secret\"", "api"].map(|name| dir.path().join(name));
        std::fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
        std::fs::write(&api, "0123456789abcdef").unwrap();
        let start = DemoSources {
            listen: "0.0.0.0:8000".parse().unwrap(),
            origins: &["http://127.0.0.1:8000".to_owned(), "http://localhost:8000".to_owned()],
            data_dir: dir.path(),
            token_secret_file: &token,
            api_secret_file: &api,
            provider,
            provider_key: Some("a-key"),
        };
        let env = vec![("FIRESIDE_SERVER__INTERNAL_LISTEN".to_owned(), "127.0.0.1:9".to_owned())];
        let config = Config::load(&start.sources(env)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.data_dir, dir.path());
        config
    }

    #[test]
    fn the_demo_is_a_valid_configuration() {
        let config = demo(None);
        assert_eq!(config.server.internal_listen.port(), 9);
        assert_eq!(config.server.origins, ["http://127.0.0.1:8000", "http://localhost:8000"]);
        assert_eq!(
            (config.api_keys[0].id.as_str(), config.api_keys[0].secret.text()),
            ("story", Some("0123456789abcdef"))
        );
        assert_eq!(config.providers["default"], Provider::Narrator);
        let other = demo(Some(("https://llm.example.org/v1", "small")));
        assert!(
            matches!(&other.providers["default"], Provider::OpenAi { model, key: Some(_), .. } if model == "small")
        );
    }

    #[test]
    fn the_demo_takes_what_the_story_room_writes_and_nothing_else() {
        let config = demo(None);
        let find = |name: &str| -> Arc<Namespace> {
            config.namespaces.find(&ChannelName::parse(name).unwrap()).unwrap().clone()
        };
        let takes =
            |channel: &str, body: &str| find(channel).schema.as_ref().unwrap().check(body.as_bytes()).is_ok();
        for body in [
            r#"{"type":"paragraph","id":"a","text":"Once."}"#,
            r#"{"type":"edit","of":7,"text":"Twice."}"#,
            r#"{"type":"remove","of":"a"}"#,
            r#"{"type":"title","text":"Embers"}"#,
        ] {
            assert!(takes("story:42", body), "{body}");
        }
        for body in [
            r#"{"type":"paragraph","text":""}"#,
            r#"{"type":"remove"}"#,
            r#"{"type":"run.end"}"#,
            r#"{"type":"title","text":"a","user":"b"}"#,
            "7",
        ] {
            assert!(!takes("story:42", body), "{body}");
        }
        assert!(takes("story:42/chat", r#"{"type":"say","text":"hi"}"#));
        assert!(!takes("story:42/chat", r#"{"type":"paragraph","id":"a","text":"Once."}"#));
        let live = find("story:42/live");
        assert!(live.history.is_none() && live.schema.is_none());
        assert!(find("story:42").run.as_ref().unwrap().system.contains("narrator"));
    }
}
