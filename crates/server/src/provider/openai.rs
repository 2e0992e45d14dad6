//! A streaming client for OpenAI-compatible endpoints (OpenAI, vLLM, llama.cpp, Ollama, OpenRouter, LiteLLM): chat completions and
//! plain completions.
//!
//! A generation is polled and owns its request: dropping it closes the connection. First-token, idle and total times are the
//! node's; here is only what the protocol knows: what is progress, what is an end, and what is worth another try.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fireside_node::ports::{Generation, PartKind, Piece, Prompt, Provider, ProviderFault, Soon};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Body as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::sse::{SseEvent, SseReader};

/// A `retry-after` beyond this is not waited for: the run ends, and its reader is told.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Frames of a body that one poll takes without a piece in them, before others have their turn.
const FRAMES_PER_POLL: usize = 64;
/// Bytes of a provider's error word that are shown.
const WORD_BYTES_MAX: usize = 64;

/// How to reach a model.
#[derive(Clone)]
pub struct OpenAiSettings {
    /// The base address, as in `https://llm.example.org/v1`.
    pub url: String,
    /// The model's name.
    pub model: String,
    /// The key, sent as `authorization: Bearer …`; `None` for servers that want none.
    pub key: Option<String>,
    /// Plain completions (`/completions`) in place of chat (`/chat/completions`): for base models.
    pub plain: bool,
    /// The field that bears the most tokens to write: `max_tokens`, or `max_completion_tokens` where a model insists.
    pub tokens_field: String,
    /// Asks for token counts at the end (`stream_options.include_usage`); false for servers that reject the field.
    pub usage: bool,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long to wait before each further try, before the first piece only; its length is the number of further tries.
    pub backoff: Vec<Duration>,
}

impl OpenAiSettings {
    /// Chat at `url` with `model`, two further tries.
    pub fn new(url: impl Into<String>, model: impl Into<String>) -> Self {
        OpenAiSettings {
            url: url.into(),
            model: model.into(),
            key: None,
            plain: false,
            tokens_field: "max_tokens".into(),
            usage: true,
            connect_timeout: Duration::from_secs(5),
            backoff: vec![Duration::from_millis(500), Duration::from_secs(2)],
        }
    }
}

/// Why a provider cannot be set up. Bears no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderSetupFault {
    /// The address is not an http or https address.
    Url,
    /// The address bears a user or a password: keys belong into the key's file.
    UrlBearsSecret,
    /// The key has bytes that no header may bear.
    Key,
    /// The HTTP client could not be built; the text says why.
    Client(String),
}

impl fmt::Display for ProviderSetupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProviderSetupFault::Url => f.write_str("the provider's url must be an http or https address"),
            ProviderSetupFault::UrlBearsSecret => {
                f.write_str("the provider's url must not bear a user or password; use its key file")
            }
            ProviderSetupFault::Key => f.write_str("the provider's key has bytes that a header cannot bear"),
            ProviderSetupFault::Client(why) => {
                write!(f, "the provider's HTTP client could not be built: {why}")
            }
        }
    }
}

impl std::error::Error for ProviderSetupFault {}

/// A model behind an OpenAI-compatible endpoint. One connection pool for all its generations.
pub struct OpenAi {
    shared: Arc<Shared>,
}

struct Shared {
    client: reqwest::Client,
    url: reqwest::Url,
    model: Arc<str>,
    headers: HeaderMap,
    settings: OpenAiSettings,
}

impl OpenAi {
    /// Sets the client up; sends nothing yet.
    ///
    /// # Errors
    /// The settings make no sense; the text bears no key.
    pub fn new(settings: OpenAiSettings) -> Result<Self, ProviderSetupFault> {
        let endpoint = if settings.plain { "completions" } else { "chat/completions" };
        let url = format!("{}/{endpoint}", settings.url.trim_end_matches('/'));
        let url = reqwest::Url::parse(&url).map_err(|_| ProviderSetupFault::Url)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(ProviderSetupFault::Url);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ProviderSetupFault::UrlBearsSecret);
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(key) = &settings.key {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| ProviderSetupFault::Key)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // No redirects: a key must not travel to where an answer points. No proxy from the environment: what is not in the
        // configuration does not decide where prompts go.
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(settings.connect_timeout)
            .user_agent(concat!("fireside/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "http" {
            // Without redirects nothing here speaks TLS, and a machine without root certificates can use its local model.
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(|why| ProviderSetupFault::Client(innermost(&why)))?;
        let model = Arc::from(settings.model.as_str());
        Ok(OpenAi { shared: Arc::new(Shared { client, url, model, headers, settings }) })
    }
}

/// What an error says at the bottom of its chain: there stands the cause.
fn innermost(why: &dyn std::error::Error) -> String {
    why.source().map_or_else(|| why.to_string(), innermost)
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("url", &self.shared.url.as_str())
            .field("model", &self.shared.model)
            .finish()
    }
}

impl Provider for OpenAi {
    fn generate(&self, prompt: Prompt) -> Box<dyn Generation> {
        let body = bytes::Bytes::from(request_body(&self.shared.settings, &prompt).to_string());
        let state = State::Opening(open(self.shared.clone(), body.clone(), Duration::ZERO));
        Box::new(OpenAiGeneration {
            shared: self.shared.clone(),
            body,
            tries: 0,
            begun: false,
            usage: None,
            ready: VecDeque::new(),
            state,
        })
    }

    fn model(&self) -> Arc<str> {
        self.shared.model.clone()
    }
}

// ------------------------------------------------------------------------------------------------------- the request

/// What is sent for a prompt.
fn request_body(settings: &OpenAiSettings, prompt: &Prompt) -> Value {
    let mut body = json!({ "model": settings.model, "stream": true });
    if settings.usage {
        body["stream_options"] = json!({ "include_usage": true });
    }
    if prompt.tokens_max > 0 {
        body[&settings.tokens_field] = json!(prompt.tokens_max);
    }
    if settings.plain {
        body["prompt"] = json!(plain_prompt(prompt));
    } else {
        body["messages"] = chat_messages(prompt);
    }
    body
}

/// What a backend assembled, as it stands; else system, then what stands in the channel: people are the user, runs are the assistant. Neighbours of one role become one message
/// and the last one is always the user's, because the templates of many models insist on both.
fn chat_messages(prompt: &Prompt) -> Value {
    if !prompt.messages.is_empty() {
        let said = prompt.messages.iter();
        return said.map(|one| json!({ "role": one.role.name(), "content": one.text })).collect();
    }
    let mut messages: Vec<(&str, String)> = Vec::new();
    let mut say = |role: &'static str, text: String| match messages.last_mut() {
        Some((last, so_far)) if *last == role => {
            so_far.push_str("\n\n");
            so_far.push_str(&text);
        }
        _ => messages.push((role, text)),
    };
    if !prompt.system.is_empty() {
        say("system", prompt.system.to_string());
    }
    for (who, text) in &prompt.records {
        if who.is_empty() { say("assistant", text.clone()) } else { say("user", format!("{who}: {text}")) }
    }
    if let Some(asked) = input_text(&prompt.input) {
        say("user", asked);
    } else if prompt.records.last().is_none_or(|(who, _)| who.is_empty()) {
        say("user", "Go on.".into());
    }
    messages.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

/// What a base model goes on from: the texts alone, without roles or names it would imitate.
fn plain_prompt(prompt: &Prompt) -> String {
    let mut text = String::new();
    let records = prompt.records.iter().map(|(_, text)| text.as_str());
    let asked = input_text(&prompt.input);
    let assembled = prompt.messages.iter().map(|one| one.text.as_str());
    for part in std::iter::once(&*prompt.system).chain(records).chain(asked.as_deref()).chain(assembled) {
        if !part.is_empty() {
            text.push_str(part);
            text.push_str("\n\n");
        }
    }
    text
}

/// The `input` of a start as text: a JSON string, an object's `text` or `prompt`, else the JSON itself; `None` if there is none.
pub(super) fn input_text(input: &[u8]) -> Option<String> {
    let text = match serde_json::from_slice::<Value>(input).ok()? {
        Value::Null => return None,
        Value::String(text) => text,
        Value::Object(fields) => match (fields.get("text"), fields.get("prompt")) {
            (Some(Value::String(text)), _) | (None, Some(Value::String(text))) => text.clone(),
            _ if fields.is_empty() => return None,
            _ => Value::Object(fields).to_string(),
        },
        other => other.to_string(),
    };
    (!text.trim().is_empty()).then_some(text)
}

/// One try: waits, asks, and looks at the head of the answer.
fn open(shared: Arc<Shared>, body: bytes::Bytes, wait: Duration) -> Soon<Result<reqwest::Body, Failure>> {
    Box::pin(async move {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let request = shared.client.post(shared.url.clone()).headers(shared.headers.clone()).body(body);
        let response = request.send().await.map_err(|why| Failure::of_transport(&why))?;
        let status = response.status();
        if !status.is_success() {
            return Err(Failure::of_status(status, response.headers()));
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") || kind.starts_with("text/html") {
            return Err(Failure::for_good("the provider did not answer with a stream".into()));
        }
        Ok(http::Response::from(response).into_body())
    })
}

/// A fault, and how long to wait at least before another try.
#[derive(Debug)]
struct Failure {
    fault: ProviderFault,
    wait: Duration,
}

impl Failure {
    fn for_good(message: String) -> Self {
        Failure { fault: ProviderFault { message, retryable: false }, wait: Duration::ZERO }
    }

    fn passing(message: String) -> Self {
        Failure { fault: ProviderFault { message, retryable: true }, wait: Duration::ZERO }
    }

    /// The cause's own text is left out: it names addresses.
    fn of_transport(why: &reqwest::Error) -> Self {
        if why.is_builder() {
            Failure::for_good("the request to the provider could not be built".into())
        } else if why.is_connect() {
            Failure::passing("the provider cannot be reached".into())
        } else {
            Failure::passing("the connection to the provider broke".into())
        }
    }

    fn of_status(status: StatusCode, headers: &HeaderMap) -> Self {
        let message = format!("the provider answered with status {}", status.as_u16());
        if !is_passing(status.as_u16()) {
            return Failure::for_good(message);
        }
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let wait = Duration::from_secs(seconds.unwrap_or(0));
        if wait > RETRY_AFTER_MAX {
            Failure::for_good(message)
        } else {
            Failure { wait, ..Failure::passing(message) }
        }
    }
}

fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

// ---------------------------------------------------------------------------------------------------- the generation

/// One generation. Dropping it drops the request, whatever state it is in.
struct OpenAiGeneration {
    shared: Arc<Shared>,
    body: bytes::Bytes,
    /// Further tries made so far.
    tries: usize,
    /// A piece was given: from here on nothing is tried again.
    begun: bool,
    usage: Option<(u64, u64)>,
    ready: VecDeque<Piece>,
    state: State,
}

enum State {
    Opening(Soon<Result<reqwest::Body, Failure>>),
    Reading {
        body: Box<reqwest::Body>,
        reader: SseReader,
    },
    /// What was written before the fault is given first.
    Failed(ProviderFault),
    Over,
}

impl Generation for OpenAiGeneration {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, ProviderFault>>> {
        for _ in 0..FRAMES_PER_POLL {
            if let Some(piece) = self.ready.pop_front() {
                self.begun = true;
                return Poll::Ready(Some(Ok(piece)));
            }
            match ready!(self.poll_step(cx)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(None),
                Err(failure) => {
                    if let Some(fault) = self.fail(failure) {
                        return Poll::Ready(Some(Err(fault)));
                    }
                }
            }
        }
        // A stream of nothing but keep-alives must not hold the thread.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl OpenAiGeneration {
    /// Goes one step on: false when the stream is over.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Failure>> {
        match &mut self.state {
            State::Over => Poll::Ready(Ok(false)),
            State::Failed(fault) => {
                let failure = Failure { fault: fault.clone(), wait: Duration::ZERO };
                Poll::Ready(Err(failure))
            }
            State::Opening(opening) => {
                let body = Box::new(ready!(opening.as_mut().poll(cx))?);
                self.state = State::Reading { body, reader: SseReader::default() };
                Poll::Ready(Ok(true))
            }
            State::Reading { body, reader } => {
                let event = match reader.next_event() {
                    Ok(event) => event,
                    Err(_) => {
                        return Poll::Ready(Err(Failure::for_good(
                            "the provider's stream has no end of line".into(),
                        )));
                    }
                };
                if let Some(event) = event {
                    return Poll::Ready(self.take(&event));
                }
                match ready!(Pin::new(&mut **body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Ok(bytes) = frame.into_data() {
                            reader.push(bytes);
                        }
                        Poll::Ready(Ok(true))
                    }
                    Some(Err(why)) if !self.begun => Poll::Ready(Err(Failure::of_transport(&why))),
                    // However a stream that has begun is cut, it is an end without a reason.
                    Some(Err(_)) | None => {
                        self.state = State::Over;
                        Poll::Ready(Ok(false))
                    }
                }
            }
        }
    }

    /// Reads one event: false at the stream's own end.
    fn take(&mut self, event: &SseEvent) -> Result<bool, Failure> {
        let data = event.data.trim();
        if data == "[DONE]" {
            self.state = State::Over;
            return Ok(false);
        }
        if data.is_empty() {
            return Ok(true);
        }
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|_| Failure::for_good("the provider's stream is malformed".into()))?;
        if let Some(error) = chunk.error {
            return Err(self.failure_of(&error));
        }
        if event.name == "error" {
            return Err(Failure::passing("the provider reported an error".into()));
        }
        for choice in chunk.choices.unwrap_or_default() {
            if choice.index.unwrap_or(0) == 0 {
                self.take_choice(choice)?;
            }
        }
        // Some servers count in every chunk: a number is given on only when it changes.
        if let Some(usage) = chunk.usage.as_ref().and_then(usage_of)
            && self.usage.replace(usage) != Some(usage)
        {
            self.ready.push_back(Piece::Usage { input: usage.0, output: usage.1 });
        }
        Ok(true)
    }

    fn take_choice(&mut self, choice: Choice) -> Result<(), Failure> {
        if let Some(error) = choice.error {
            return Err(self.failure_of(&error));
        }
        let delta = choice.delta.unwrap_or_default();
        // Some servers send the thinking under both names: one of them counts.
        let reasoning = delta.reasoning_content.filter(|text| text != "").or(delta.reasoning);
        let texts = [
            (PartKind::Reasoning, reasoning),
            (PartKind::Text, delta.content),
            (PartKind::Text, delta.refusal),
            (PartKind::Text, choice.text),
        ];
        for (kind, text) in texts {
            if let Some(Value::String(text)) = text
                && !text.is_empty()
            {
                self.ready.push_back(Piece::Text { kind, text });
            }
        }
        match choice.finish_reason {
            Some(Value::String(reason)) if reason == "error" => {
                Err(Failure::passing("the provider reported an error".into()))
            }
            Some(Value::String(reason)) if !reason.is_empty() => {
                self.ready.push_back(Piece::Finished(reason));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An error object in the stream. Its message may quote the prompt or the key, so only its code is shown, if it is a plain word.
    fn failure_of(&self, error: &Value) -> Failure {
        let word = |field: &str| match &error[field] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let is_plain = |word: &String| {
            !word.is_empty()
                && word.len() <= WORD_BYTES_MAX
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
                && self.shared.settings.key.as_ref().is_none_or(|key| !word.contains(key.as_str()))
        };
        let (code, kind) = (word("code").filter(is_plain), word("type").filter(is_plain));
        let passing = match code.as_deref().and_then(|code| code.parse().ok()) {
            Some(status) => is_passing(status),
            None => code.iter().chain(&kind).any(|word| {
                ["rate_limit", "overloaded", "server_error", "unavailable", "timeout"]
                    .iter()
                    .any(|w| word.contains(w))
            }),
        };
        let message = match code.or(kind) {
            Some(word) => format!("the provider reported the error {word}"),
            None => "the provider reported an error".into(),
        };
        if passing { Failure::passing(message) } else { Failure::for_good(message) }
    }

    /// Goes back to the start if that may help and nothing was given yet; else the fault that ends the generation.
    fn fail(&mut self, failure: Failure) -> Option<ProviderFault> {
        self.state = State::Over;
        let Failure { mut fault, wait } = failure;
        fault.retryable &= !self.begun && self.ready.is_empty();
        if !self.ready.is_empty() {
            self.state = State::Failed(fault);
            return None;
        }
        if !fault.retryable {
            return Some(fault);
        }
        let Some(backoff) = self.shared.settings.backoff.get(self.tries) else { return Some(fault) };
        self.tries += 1;
        self.usage = None;
        self.state = State::Opening(open(self.shared.clone(), self.body.clone(), wait.max(*backoff)));
        None
    }
}

/// What we read of a chunk; everything else is ignored.
#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u32>,
    delta: Option<Delta>,
    text: Option<Value>,
    finish_reason: Option<Value>,
    error: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<Value>,
    reasoning_content: Option<Value>,
    reasoning: Option<Value>,
    refusal: Option<Value>,
}

fn usage_of(usage: &Value) -> Option<(u64, u64)> {
    Some((usage["prompt_tokens"].as_u64()?, usage["completion_tokens"].as_u64().unwrap_or(0)))
}

#[cfg(test)]
mod tests;
