//! What a story is called: the newest title record by a host, read from the story's log over Fireside's HTTP API.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::log::{Log, Publication};

/// Records asked for at a time.
const PAGE_RECORDS: usize = 200;
/// How far back a title is looked for: beyond this the page shows the story without one until it has read that far itself.
const PAGES_MAX: usize = 25;
/// Stories whose title is remembered; past that the memory starts anew.
const STORIES_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Title {
    pub(crate) text: String,
    pub(crate) offset: u64,
}

/// What is known of one story: up to which offset of which epoch it was read, and the title found.
#[derive(Clone)]
struct Known {
    epoch: String,
    top: u64,
    title: Option<Title>,
}

pub(crate) struct Titles {
    log: Log,
    known: Mutex<BTreeMap<String, Known>>,
}

impl Titles {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, known: Mutex::default() }
    }

    /// The title of a story, if it has one and Fireside answers in time.
    pub(crate) async fn of(&self, story: &str) -> Option<Title> {
        let known = {
            let titles = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            titles.get(story).cloned()
        };
        let Some(read) = self.read(story, known.as_ref()).await else {
            return known?.title;
        };
        let title = read.title.clone();
        let mut titles = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if titles.len() >= STORIES_MAX && !titles.contains_key(story) {
            titles.clear();
        }
        titles.insert(story.to_owned(), read);
        title
    }

    /// Reads backwards from the newest record to the newest title, or to what was read before.
    async fn read(&self, story: &str, known: Option<&Known>) -> Option<Known> {
        let mut found: Option<Known> = None;
        let mut since: Option<(String, u64)> = None;
        for _ in 0..PAGES_MAX {
            let page = self.log.before(story, PAGE_RECORDS, since.as_ref()).await?;
            let read = found.get_or_insert_with(|| Known {
                epoch: page.epoch.clone(),
                top: page.offset,
                title: None,
            });
            let known = known.filter(|known| known.epoch == page.epoch);
            for publication in &page.publications {
                if let Some(known) = known.filter(|known| publication.offset <= known.top) {
                    read.title.clone_from(&known.title);
                    return found;
                }
                if let Some(text) = title_of(publication) {
                    read.title = Some(Title { text, offset: publication.offset });
                    return found;
                }
            }
            match page.publications.last() {
                Some(last) if last.offset > 1 => since = Some((page.epoch, last.offset)),
                _ => return found,
            }
        }
        found
    }
}

/// Only a host names a story; who wrote a record is what its token said, never a field of its body.
fn title_of(publication: &Publication) -> Option<String> {
    let by_host = publication.info["conn_info"]["role"] == "host";
    let is_title = publication.data["type"] == "title";
    let text = publication.data["text"].as_str()?.trim();
    (by_host && is_title && !text.is_empty()).then(|| text.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::{Log, PAGE_RECORDS, Publication, Titles, title_of};
    use serde_json::{Value, json};
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Fireside as far as a title needs it: the history of one story, and how often it was asked.
    #[derive(Clone, Default)]
    struct Fireside {
        records: Arc<Mutex<Vec<Value>>>,
        asked: Arc<Mutex<usize>>,
    }

    impl Fireside {
        async fn listen(&self) -> SocketAddr {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let fireside = self.clone();
            tokio::spawn(async move {
                while let Ok((mut socket, _)) = listener.accept().await {
                    let mut request = Vec::new();
                    // A query is one small object, the last thing in its request.
                    while !request.ends_with(b"}") {
                        assert_ne!(socket.read_buf(&mut request).await.expect("a request"), 0);
                    }
                    let text = String::from_utf8(request).expect("text");
                    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
                    assert!(head.to_lowercase().contains("x-api-key: key"));
                    let query: Value = serde_json::from_str(body).expect("JSON");
                    let answer = fireside.history(&query).to_string();
                    let length = answer.len();
                    let response = format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{answer}"
                    );
                    socket.write_all(response.as_bytes()).await.expect("an answer");
                }
            });
            address
        }

        fn history(&self, query: &Value) -> Value {
            *self.asked.lock().expect("a lock") += 1;
            assert_eq!(query["channel"], "story:lamp");
            let records = self.records.lock().expect("a lock");
            let before = query["since"]["offset"].as_u64().unwrap_or(u64::MAX);
            let page: Vec<&Value> = records
                .iter()
                .rev()
                .filter(|record| record["offset"].as_u64() < Some(before))
                .take(PAGE_RECORDS)
                .collect();
            json!({ "result": { "publications": page, "offset": records.len(), "epoch": "7" } })
        }

        fn write(&self, role: &str, body: Value) {
            let mut records = self.records.lock().expect("a lock");
            let offset = records.len() + 1;
            records
                .push(json!({ "data": body, "info": { "conn_info": { "role": role } }, "offset": offset }));
        }

        fn asked(&self) -> usize {
            std::mem::take(&mut *self.asked.lock().expect("a lock"))
        }
    }

    #[tokio::test]
    async fn the_newest_title_is_found_however_far_back_and_only_news_is_read_again() {
        let fireside = Fireside::default();
        let titles = Titles::new(Log::new(fireside.listen().await, "key".to_owned()));
        assert_eq!(titles.of("lamp").await, None);
        fireside.write("host", json!({ "type": "title", "text": "The Lamp" }));
        for _ in 0..2 * PAGE_RECORDS + 50 {
            fireside.write("writer", json!({ "type": "paragraph", "text": "It blinked." }));
        }
        fireside.asked();
        let found = titles.of("lamp").await.expect("a title");
        assert_eq!((found.text.as_str(), found.offset), ("The Lamp", 1));
        assert_eq!(fireside.asked(), 3);
        fireside.write("writer", json!({ "type": "title", "text": "Mine" }));
        assert_eq!(titles.of("lamp").await, Some(found));
        assert_eq!(fireside.asked(), 1);
        fireside.write("host", json!({ "type": "title", "text": "The Lamp at Hollow Pass" }));
        assert_eq!(titles.of("lamp").await.expect("a title").text, "The Lamp at Hollow Pass");
    }

    #[tokio::test]
    async fn without_an_answer_there_is_no_title() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        assert_eq!(Titles::new(Log::new(address, "key".to_owned())).of("lamp").await, None);
    }

    fn record(role: &str, body: serde_json::Value) -> Publication {
        Publication { data: body, info: json!({ "conn_info": { "role": role } }), offset: 1 }
    }

    #[test]
    fn only_a_hosts_record_names_a_story() {
        let body = json!({ "type": "title", "text": " The Lamp " });
        assert_eq!(title_of(&record("host", body.clone())), Some("The Lamp".to_owned()));
        assert_eq!(title_of(&record("writer", body)), None);
        assert_eq!(title_of(&record("host", json!({ "type": "paragraph", "text": "x" }))), None);
        assert_eq!(title_of(&record("host", json!({ "type": "title", "text": "  " }))), None);
    }
}
