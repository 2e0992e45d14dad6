//! `fireside pub` and `fireside tail`: a running server, from the shell, through its HTTP API.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use fireside_core::limits::PAGE_RECORDS_MAX;
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Failure, say};
use crate::cli::{PubArgs, ServerArgs, TailArgs};
use crate::config::{Config, Sources};

/// Time between two questions to a channel that had nothing new.
const TAIL_WAIT: Duration = Duration::from_millis(300);
/// Time for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The code of a position that is no longer there (Centrifuge protocol).
const UNRECOVERABLE_POSITION: u32 = 112;

/// A server and the key for its API.
struct Server {
    client: Client,
    url: String,
    key: String,
}

/// What the API answers.
#[derive(Deserialize)]
struct Answer<T> {
    result: Option<T>,
    error: Option<ApiError>,
}

#[derive(Debug, Deserialize)]
struct ApiError {
    code: u32,
    message: String,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default = "Vec::new")]
    publications: Vec<Box<RawValue>>,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    epoch: String,
}

#[derive(Deserialize)]
struct Offset {
    #[serde(default)]
    offset: u64,
}

pub(super) async fn publish(args: &PubArgs) -> Result<(), Failure> {
    let body = match args.body.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(|e| Failure::Failed(e.into()))?,
        body => body.to_owned(),
    };
    let data: Box<RawValue> = serde_json::from_str(body.trim()).map_err(|e| {
        Failure::Wrong(format!(
            "the body is not JSON: {e}\n  example: fireside pub {} '{{\"text\": \"hello\"}}'",
            args.channel
        ))
    })?;
    let mut call = json!({"channel": args.channel, "data": data});
    if let Some(key) = &args.key {
        call["idempotency_key"] = key.as_str().into();
    }
    let server = Server::find(&args.server)?;
    let position: Value = server.call("publish", &call).await?.map_err(|e| refused(&e))?;
    say(&format!("{position}\n"))
}

pub(super) async fn tail(args: &TailArgs) -> Result<(), Failure> {
    let server = Server::find(&args.server)?;
    let mut follow = Follow::begin(server, &args.channel, args.from).await?;
    loop {
        let lines = follow.next().await?;
        if lines.is_empty() {
            tokio::time::sleep(TAIL_WAIT).await;
        } else {
            say(&lines)?;
            std::io::stdout().flush().map_err(|e| Failure::Failed(e.into()))?;
        }
    }
}

/// A position in a channel that moves as its records are read.
struct Follow {
    server: Server,
    channel: String,
    epoch: String,
    after: u64,
}

impl Follow {
    /// Stands before offset `from`, or at the end.
    async fn begin(server: Server, channel: &str, from: Option<u64>) -> Result<Follow, Failure> {
        let call = json!({"channel": channel, "limit": 0});
        let end: Page = server.call("history", &call).await?.map_err(|e| refused(&e))?;
        let after = from.map_or(end.offset, |from| from - 1);
        Ok(Follow { server, channel: channel.to_owned(), epoch: end.epoch, after })
    }

    /// The next records, one a line; nothing if there are none yet.
    async fn next(&mut self) -> Result<String, Failure> {
        let mut call = json!({"channel": self.channel, "limit": PAGE_RECORDS_MAX});
        call["since"] = json!({"offset": self.after, "epoch": self.epoch});
        let page: Page = match self.server.call("history", &call).await? {
            Ok(page) => page,
            Err(error) if error.code == UNRECOVERABLE_POSITION => {
                // Trimmed, or another life of the log: say so, and go on with the oldest that is there.
                eprintln!(
                    "fireside: what follows offset {} is no longer there; going on with the oldest record",
                    self.after
                );
                call.as_object_mut().and_then(|call| call.remove("since"));
                self.server.call("history", &call).await?.map_err(|e| refused(&e))?
            }
            Err(error) => return Err(refused(&error)),
        };
        let mut lines = String::new();
        // Without records, the position is the channel's end, in whatever life of the log.
        self.after = page.offset;
        self.epoch = page.epoch;
        for publication in &page.publications {
            let Offset { offset } =
                serde_json::from_str(publication.get()).context("the server's record has no offset")?;
            self.after = offset;
            lines.push_str(&one_line(publication.get()));
            lines.push('\n');
        }
        Ok(lines)
    }
}

/// A raw line end in JSON is never part of a text.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

fn refused(error: &ApiError) -> Failure {
    Failure::Failed(anyhow!("the server refused: {} (code {})", error.message, error.code))
}

impl Server {
    fn find(args: &ServerArgs) -> Result<Server, Failure> {
        Server::of(args, std::env::var("FIRESIDE_API_KEY").ok().filter(|key| !key.is_empty()))
    }

    fn of(args: &ServerArgs, key: Option<String>) -> Result<Server, Failure> {
        // With both given, no configuration is needed, and a broken one beside it does not matter.
        let config = match (&args.url, &key, &args.config) {
            (Some(_), Some(_), None) => None,
            (_, _, named) => Some(load(named.as_deref())?),
        };
        let url = match (&args.url, &config) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(config)) => format!("http://{}", reachable(config.server.listen)),
            (None, None) => return Err(Failure::Wrong("which server? Give --url".to_owned())),
        };
        let configured = || config.as_ref()?.api_keys.first()?.secret.text().map(str::to_owned);
        let Some(key) = key.or_else(configured) else {
            return Err(Failure::Wrong(
                "there is no API key: set FIRESIDE_API_KEY, or [[api.key]] in the configuration".to_owned(),
            ));
        };
        let builder = Client::builder().timeout(ANSWER_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        // A proxy has no business on the way to this machine itself.
        let builder = if is_local(&url) { builder.no_proxy() } else { builder };
        let client = builder.build().context("cannot make an HTTP client")?;
        Ok(Server { client, url, key })
    }

    /// One call. The inner error is the server's refusal.
    async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        body: &Value,
    ) -> anyhow::Result<Result<T, ApiError>> {
        let url = format!("{}/api/{method}", self.url);
        let request =
            self.client.post(&url).header("X-API-Key", &self.key).header("Content-Type", "application/json");
        let response = request
            .body(body.to_string())
            .send()
            .await
            .with_context(|| format!("no answer from {}", self.url))?;
        let status = response.status();
        let text = response.text().await.with_context(|| format!("the answer of {} broke off", self.url))?;
        let answer: Answer<T> = serde_json::from_str(&text)
            .with_context(|| format!("{url} answered {status}, and not as Fireside does"))?;
        match answer {
            Answer { error: Some(error), .. } => Ok(Err(error)),
            Answer { result: Some(result), .. } => Ok(Ok(result)),
            _ => Err(anyhow!("{url} answered {status} with neither a result nor an error")),
        }
    }
}

fn load(named: Option<&Path>) -> Result<Config, Failure> {
    Ok(Config::load(&Sources::gather(named, Vec::new())?)?)
}

/// An address that means "every interface" is reached on this machine by the loopback one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn is_local(url: &str) -> bool {
    let host =
        reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn args(url: &str) -> ServerArgs {
        ServerArgs { url: Some(url.to_owned()), config: None }
    }

    /// Answers each connection with the next of `answers`, and returns what was asked.
    async fn scripted(
        answers: &'static [(&'static str, &'static str)],
    ) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut asked = Vec::new();
            for (status, body) in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                // A request is whole once its body ends as our JSON does.
                while !request.ends_with(b"}") {
                    let mut buffer = [0; 4096];
                    let n = socket.read(&mut buffer).await.unwrap();
                    assert_ne!(n, 0, "the request broke off");
                    request.extend_from_slice(&buffer[..n]);
                }
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                asked.push(String::from_utf8(request).unwrap());
            }
            asked
        });
        (url, task)
    }

    #[tokio::test]
    async fn a_call_bears_the_key_and_brings_the_result() {
        let (url, asked) = scripted(&[("200 OK", r#"{"result":{"offset":7,"epoch":"e"}}"#)]).await;
        let server = Server::of(&args(&format!("{url}/")), Some("a-key".to_owned())).unwrap();
        let position: Value =
            server.call("publish", &json!({"channel": "news", "data": {"a": 1}})).await.unwrap().unwrap();
        assert_eq!(position, json!({"offset": 7, "epoch": "e"}));
        let request = asked.await.unwrap().remove(0);
        assert!(request.starts_with("POST /api/publish HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("x-api-key: a-key\r\n"), "{request}");
        assert!(request.ends_with(r#"{"channel":"news","data":{"a":1}}"#), "{request}");
    }

    #[tokio::test]
    async fn refusals_and_strangers_are_told_apart() {
        let (url, _task) = scripted(&[
            ("200 OK", r#"{"error":{"code":102,"message":"unknown channel"}}"#),
            ("502 Bad Gateway", "<html>"),
        ])
        .await;
        let server = Server::of(&args(&url), Some("k".to_owned())).unwrap();
        let error = server.call::<Value>("publish", &json!({})).await.unwrap().unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (102, "unknown channel"));
        let error = format!("{:#}", server.call::<Value>("publish", &json!({})).await.unwrap_err());
        assert!(
            error.starts_with(&format!(
                "{url}/api/publish answered 502 Bad Gateway, and not as Fireside does"
            )),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_tail_moves_on_and_tells_of_a_gap() {
        let (url, asked) = scripted(&[
            ("200 OK", r#"{"result":{"publications":[],"offset":2,"epoch":"a"}}"#),
            ("200 OK", "{\"result\":{\"publications\":[{\"offset\":1,\"data\":{\n}},{\"offset\":2,\"data\":7}],\"offset\":2,\"epoch\":\"a\"}}"),
            ("200 OK", r#"{"result":{"offset":2,"epoch":"a"}}"#),
            ("200 OK", r#"{"error":{"code":112,"message":"unrecoverable position"}}"#),
            ("200 OK", r#"{"result":{"publications":[{"offset":5,"data":1}],"offset":6,"epoch":"b"}}"#),
            ("200 OK", r#"{"error":{"code":103,"message":"permission denied"}}"#),
        ])
        .await;
        let server = Server::of(&args(&url), Some("k".to_owned())).unwrap();
        let mut follow = Follow::begin(server, "news", Some(1)).await.unwrap();
        assert_eq!(follow.next().await.unwrap(), "{\"offset\":1,\"data\":{ }}\n{\"offset\":2,\"data\":7}\n");
        assert_eq!(follow.next().await.unwrap(), "");
        assert_eq!(follow.next().await.unwrap(), "{\"offset\":5,\"data\":1}\n");
        assert!(matches!(follow.next().await, Err(Failure::Failed(e)) if e.to_string().contains("code 103")));
        let asked: Vec<Value> = asked
            .await
            .unwrap()
            .iter()
            .map(|request| serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap())
            .collect();
        let since = |offset: u64, epoch: &str| json!({"channel": "news", "limit": 300, "since": {"offset": offset, "epoch": epoch}});
        assert_eq!(asked[0], json!({"channel": "news", "limit": 0}));
        assert_eq!(asked[1..4], [since(0, "a"), since(2, "a"), since(2, "a")]);
        assert_eq!(asked[4], json!({"channel": "news", "limit": 300}));
        assert_eq!(asked[5], since(5, "b"));
    }

    #[test]
    fn where_the_server_is() {
        let address = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(address("0.0.0.0:8000"), "127.0.0.1:8000");
        assert_eq!(address("[::]:8000"), "[::1]:8000");
        assert_eq!(address("192.0.2.1:80"), "192.0.2.1:80");
        for (url, local) in [
            ("http://127.0.0.2:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("https://a.org", false),
        ] {
            assert_eq!(is_local(url), local, "{url}");
        }
    }
}
