//! A story's log, read over Fireside's HTTP API as any backend would.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// How long an answer is waited for. Somebody waits meanwhile: for the room to open, or for a paragraph to be taken.
const PATIENCE: Duration = Duration::from_millis(800);

#[derive(Clone)]
pub(crate) struct Log {
    client: reqwest::Client,
    url: String,
    api_key: String,
}

/// A page of a log, and where the log ends.
#[derive(Deserialize)]
pub(crate) struct History {
    #[serde(default)]
    pub(crate) publications: Vec<Publication>,
    #[serde(default)]
    pub(crate) epoch: String,
    #[serde(default)]
    pub(crate) offset: u64,
}

#[derive(Deserialize)]
pub(crate) struct Publication {
    #[serde(default)]
    pub(crate) data: Value,
    /// Who wrote it; nobody, for what the server or its API wrote.
    #[serde(default)]
    pub(crate) info: Value,
    #[serde(default)]
    pub(crate) offset: u64,
}

#[derive(Deserialize)]
struct Envelope {
    result: Option<History>,
}

impl Log {
    pub(crate) fn new(address: SocketAddr, api_key: String) -> Self {
        Self {
            client: reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap_or_default(),
            url: format!("http://{address}/api/history"),
            api_key,
        }
    }

    /// At most `records` of a story, newest first, from its end or from before `(epoch, offset)`; nothing without an answer in time.
    pub(crate) async fn before(
        &self,
        story: &str,
        records: usize,
        position: Option<&(String, u64)>,
    ) -> Option<History> {
        let mut query = json!({ "channel": format!("story:{story}"), "limit": records, "reverse": true });
        if let Some((epoch, offset)) = position {
            query["since"] = json!({ "epoch": epoch, "offset": offset });
        }
        let answer = self
            .client
            .post(&self.url)
            .header("X-API-Key", &self.api_key)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(query.to_string())
            .send()
            .await
            .ok()?;
        let bytes = answer.bytes().await.ok()?;
        serde_json::from_slice::<Envelope>(&bytes).ok()?.result
    }
}
