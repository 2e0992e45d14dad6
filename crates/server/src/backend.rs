//! Hooks out: asks an application's backend over HTTP, within bounds of time, bytes and number.
//!
//! One question is one POST. It fails closed: whatever goes wrong is no answer, and what no answer means is the gate's to say. A backend
//! that fails over and over is not asked for a while ([`circuit`]), so that its sessions hear no at once instead of waiting.

mod circuit;
mod signature;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use bytes::Bytes;
use fireside_core::hook::{Answer, Asked, Hook, Unanswered};
use fireside_core::{Fact, Facts};
use fireside_node::ports::{Backend, Soon};
use fireside_wire::hook;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt, Limited};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;

use circuit::{Circuit, Pass};

/// How long an idle connection is kept: shorter than servers usually do, so that a question seldom meets one that is being closed.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// How long to wait before the one further try.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How to ask by one hook.
#[derive(Clone, Debug)]
pub struct HookSettings {
    /// Where: an http or https address.
    pub url: String,
    /// How long an answer may take, further try included.
    pub timeout: Duration,
    /// What questions are signed with; without it they are not.
    pub secret: Option<Vec<u8>>,
    /// Questions under way at most; more fail at once.
    pub concurrency: usize,
    /// Bytes of an answer at most.
    pub answer_bytes_max: usize,
}

/// An application's backend, reached over HTTP.
pub struct HttpBackend {
    hooks: BTreeMap<Hook, Arc<HttpHook>>,
}

impl HttpBackend {
    /// Sets the client up; asks nothing yet.
    ///
    /// # Errors
    /// An address cannot be used, or the HTTP client not be built; the text says why.
    pub fn new(
        settings: impl IntoIterator<Item = (Hook, HookSettings)>,
        facts: &Arc<dyn Facts>,
    ) -> Result<Self, String> {
        let settings: Vec<_> = settings.into_iter().collect();
        // No redirects: a question and its signature must not travel to where an answer points. No proxy from the environment: what is
        // not in the configuration does not decide who is asked.
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .pool_idle_timeout(IDLE_MAX)
            .user_agent(concat!("fireside/", env!("CARGO_PKG_VERSION")));
        if settings.iter().all(|(_, hook)| hook.url.starts_with("http://")) {
            // Nothing here speaks TLS then, and a machine without root certificates can ask its own backend.
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(|why| format!("the HTTP client could not be built: {why}"))?;
        let hooks = settings.into_iter().map(|(hook, settings)| {
            let url = reqwest::Url::parse(&settings.url)
                .map_err(|why| format!("hook.{}.url: {why}", hook.name()))?;
            let made = HttpHook {
                hook,
                client: client.clone(),
                url,
                timeout: settings.timeout,
                key: settings.secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, &secret)),
                turns: Semaphore::new(settings.concurrency),
                answer_bytes_max: settings.answer_bytes_max,
                circuit: Mutex::default(),
                began: Instant::now(),
                facts: facts.clone(),
            };
            Ok((hook, Arc::new(made)))
        });
        Ok(HttpBackend { hooks: hooks.collect::<Result<_, String>>()? })
    }
}

impl Backend for HttpBackend {
    fn ask(&self, asked: Asked, link: &'static str) -> Soon<Result<Answer, Unanswered>> {
        let hook = self.hooks.get(&asked.hook).cloned();
        Box::pin(async move {
            match hook {
                Some(hook) => hook.ask(&asked, link).await,
                None => Err(Unanswered("not configured")),
            }
        })
    }
}

/// One hook: where it asks, and how that went so far.
struct HttpHook {
    hook: Hook,
    client: reqwest::Client,
    url: reqwest::Url,
    timeout: Duration,
    key: Option<hmac::Key>,
    turns: Semaphore,
    answer_bytes_max: usize,
    circuit: Mutex<Circuit>,
    /// Where the circuit's clock begins.
    began: Instant,
    facts: Arc<dyn Facts>,
}

impl HttpHook {
    async fn ask(&self, asked: &Asked, link: &str) -> Result<Answer, Unanswered> {
        let asked_at = Instant::now();
        let answer = self.ask_if_worth_it(asked, link).await;
        let outcome = answer.as_ref().map_or_else(|why| why.0, |_| "answered");
        let took_us = asked_at.elapsed().as_micros() as u64;
        self.facts.say(Fact::Asked { hook: self.hook, outcome, took_us });
        answer
    }

    async fn ask_if_worth_it(&self, asked: &Asked, link: &str) -> Result<Answer, Unanswered> {
        let _turn = self.turns.try_acquire().map_err(|_| Unanswered("busy"))?;
        let pass = self.circuit(|circuit, now_ms| circuit.admit(now_ms)).ok_or(Unanswered("open"))?;
        let mut probe = Probe { hook: self, pass, over: false };
        let mut body = Vec::new();
        hook::question(asked, link, &mut body);
        let answer = match timeout(self.timeout, self.post(Bytes::from(body))).await {
            Ok(answer) => answer,
            Err(_) => Err(Unanswered("timeout")),
        };
        probe.over = true;
        let opened = self.circuit(|circuit, now_ms| match &answer {
            Ok(_) => {
                circuit.answered();
                false
            }
            Err(_) => circuit.failed(pass, now_ms),
        });
        if opened {
            warn!(target: "fireside", hook = self.hook.name(), "the backend fails over and over: it is not asked for a while");
        }
        answer
    }

    /// One POST, and a second one if the first came to nothing before the backend can have acted on it.
    async fn post(&self, body: Bytes) -> Result<Answer, Unanswered> {
        let response = match self.send(body.clone()).await {
            Err(why) if may_repeat(self.hook, &why) => {
                tokio::time::sleep(RETRY_PAUSE).await;
                self.send(body).await
            }
            sent => sent,
        };
        let response =
            response.map_err(|why| Unanswered(if why.is_connect() { "unreachable" } else { "broken" }))?;
        if !response.status().is_success() {
            return Err(Unanswered("status"));
        }
        let body = Limited::new(http::Response::from(response).into_body(), self.answer_bytes_max);
        let answer = body.collect().await.map_err(|why| {
            Unanswered(if why.is::<http_body_util::LengthLimitError>() { "too large" } else { "broken" })
        })?;
        hook::answer(self.hook, &answer.to_bytes()).map_err(|what| {
            self.facts.say(Fact::AnswerUnusable { hook: self.hook, what });
            Unanswered("nonsense")
        })
    }

    async fn send(&self, body: Bytes) -> Result<reqwest::Response, reqwest::Error> {
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let signed = HeaderValue::from_str(&signature::sign(key, now_s, &body));
            request =
                request.header(signature::HEADER, signed.expect("digits, letters and `=,` are a header's"));
        }
        request.body(body).send().await
    }

    fn circuit<T>(&self, touch: impl FnOnce(&mut Circuit, u64) -> T) -> T {
        let now_ms = self.began.elapsed().as_millis() as u64;
        touch(&mut self.circuit.lock().unwrap_or_else(PoisonError::into_inner), now_ms)
    }
}

/// True if asking once more cannot make the backend act twice: it was never reached, or the connection broke before a byte of an answer
/// and the hook only asks. A publish, an rpc and a prompt may have done something by then.
fn may_repeat(hook: Hook, why: &reqwest::Error) -> bool {
    let only_asks = matches!(hook, Hook::Connect | Hook::Refresh | Hook::Subscribe | Hook::SubRefresh);
    why.is_connect() || (only_asks && why.is_request())
}

/// Whoever asks may go away in the middle.
struct Probe<'a> {
    hook: &'a HttpHook,
    pass: Pass,
    over: bool,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.hook.circuit(|circuit, _| circuit.forgotten(self.pass));
        }
    }
}
