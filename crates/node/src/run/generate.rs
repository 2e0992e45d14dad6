//! A generation under way: pieces in, paced deltas out, one ending.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde::Deserialize;

use fireside_core::channel::run::{self as records, Ending, Part, Status, Usage};
use fireside_core::namespace::RunPolicy;
use fireside_core::{Kind, Position, Record, Refusal, limits};

use super::{Handle, Run, Stop};
use crate::ports::{Generation, PartKind, Piece, Prompt, Provider, ProviderFault, Soon};
use crate::{Node, lock};

/// Pending text beyond which a flush does not wait for the pace, in bytes.
const FLUSH_BYTES: usize = 1024;

pub(super) struct Task {
    pub(super) run: Run,
    pub(super) handle: Arc<Handle>,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) policy: RunPolicy,
    pub(super) input: Bytes,
}

/// What `run.end` holds beside its texts, and each of its parts beside its own: with these it fits a quarter of an outbox.
const ENVELOPE_BYTES: usize = 8 * 1024;
const PART_BYTES: usize = 64;
/// Bytes of what a provider says went wrong.
const REASON_BYTES_MAX: usize = 512;

/// What happens next.
enum Next {
    Stopped(Stop),
    Piece(Option<Result<Piece, ProviderFault>>),
    Due,
}

/// What was written so far, and what waits to be.
struct Draft {
    parts: Vec<Part>,
    kind: PartKind,
    pending: String,
    /// UTF-16 units of the current part that are written.
    at: u64,
    bytes: usize,
    /// Bytes that `run.end` may still grow by.
    end_room: usize,
    usage: Option<Usage>,
    finished: Option<String>,
    began_ms: u64,
    flushed_ms: Option<u64>,
    heard_ms: u64,
}

impl Task {
    /// Generates to the end, and ends the run.
    pub(super) async fn drive(self, node: &Arc<Node>) {
        let prompt = self.prompt(node).await;
        let quarter = node.settings.outbox_bytes_max / 4;
        let mut draft = Draft::new(node.host.monotonic_ms(), quarter - ENVELOPE_BYTES.min(quarter / 8));
        let (status, by, reason) = match prompt {
            Ok(prompt) => self.generate(node, prompt, &mut draft).await,
            Err(refusal) => (Status::Error, None, Some(refusal.message.into_owned())),
        };
        let ending = Ending { status, parts: draft.parts, usage: draft.usage, by, reason };
        self.run.end(node, &ending).await;
    }

    /// Dropping the generation, however this returns, drops the provider's request.
    async fn generate(
        &self,
        node: &Arc<Node>,
        prompt: Prompt,
        draft: &mut Draft,
    ) -> (Status, Option<Arc<str>>, Option<String>) {
        let mut generation = self.provider.generate(prompt);
        let ended = loop {
            let due_ms = draft.due_ms(&self.policy);
            let wait_ms = due_ms.saturating_sub(node.host.monotonic_ms());
            let next = next(&self.handle, &mut *generation, node.host.sleep(wait_ms)).await;
            let now_ms = node.host.monotonic_ms();
            let step = match next {
                Next::Stopped(stop) => break (stop.status, stop.by, stop.reason),
                Next::Piece(piece) => self.take(node, draft, piece, now_ms).await,
                Next::Due => self.due(node, draft, now_ms).await,
            };
            if let Err((status, reason)) = step {
                break (status, None, reason);
            }
        };
        drop(generation);
        match self.flush(node, draft).await {
            Ok(()) => ended,
            Err((status, reason)) => (status, None, reason),
        }
    }

    async fn take(
        &self,
        node: &Arc<Node>,
        draft: &mut Draft,
        piece: Option<Result<Piece, ProviderFault>>,
        now_ms: u64,
    ) -> Result<(), (Status, Option<String>)> {
        let (kind, mut text) = match piece {
            None => return Err(draft.verdict()),
            Some(Err(mut fault)) => {
                fault.message.truncate(fault.message.floor_char_boundary(REASON_BYTES_MAX));
                return Err((Status::Error, Some(fault.message)));
            }
            Some(Ok(Piece::Finished(reason))) => {
                draft.finished = Some(reason);
                return Ok(());
            }
            Some(Ok(Piece::Usage { input, output })) => {
                draft.usage = Some(Usage { input, output });
                return Ok(());
            }
            Some(Ok(Piece::Text { text, .. })) if text.is_empty() => return Ok(()),
            Some(Ok(Piece::Text { kind, text })) => (kind, text),
        };
        draft.heard_ms = now_ms;
        if kind != draft.kind {
            self.flush(node, draft).await?;
            draft.kind = kind;
            draft.at = 0;
        }
        let fits = draft.take_room(&text, self.policy.text_bytes_max);
        let is_over = fits < text.len();
        text.truncate(fits);
        draft.bytes += text.len();
        draft.pending.push_str(&text);
        if is_over {
            let most = self.policy.text_bytes_max;
            return Err((
                Status::Budget,
                Some(format!("a run has at most {most} bytes here, and its end must fit")),
            ));
        }
        let is_due = draft.flushed_ms.is_none_or(|flushed| now_ms >= flushed + self.policy.pace_ms);
        if is_due || draft.pending.len() >= FLUSH_BYTES {
            self.flush(node, draft).await?;
        }
        Ok(())
    }

    async fn due(
        &self,
        node: &Arc<Node>,
        draft: &mut Draft,
        now_ms: u64,
    ) -> Result<(), (Status, Option<String>)> {
        if now_ms >= draft.began_ms + self.policy.total_ms_max {
            return Err((Status::Budget, Some("the run took too long".to_owned())));
        }
        if now_ms >= draft.silent_ms(&self.policy) {
            return Err((Status::Error, Some("the provider went silent".to_owned())));
        }
        self.flush(node, draft).await
    }

    /// Writes what waits as one delta.
    async fn flush(&self, node: &Arc<Node>, draft: &mut Draft) -> Result<(), (Status, Option<String>)> {
        if draft.pending.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut draft.pending);
        let kind = draft.kind.as_str();
        // A new part begins with the first text of its kind.
        let part = draft.parts.len() as u32 - u32::from(draft.at > 0);
        let body = records::delta(part, kind, draft.at, text.clone());
        match self.run.write_log(node, Kind::RunDelta, body).await {
            Ok(_) => {
                draft.at += text.encode_utf16().count() as u64;
                match draft.parts.get_mut(part as usize) {
                    Some(begun) => begun.text.push_str(&text),
                    None => draft.parts.push(Part { part, kind: kind.to_owned(), text }),
                }
                draft.flushed_ms = Some(node.host.monotonic_ms());
                Ok(())
            }
            // What readers never saw is not in the ending either, not even as an empty part.
            Err(refusal) => Err((Status::Error, Some(refusal.message.into_owned()))),
        }
    }

    /// Until a backend assembles prompts: the namespace's system text, and what stands last in the channel.
    async fn prompt(&self, node: &Arc<Node>) -> Result<Prompt, Refusal> {
        let channel = &self.run.channel;
        let (newest, oldest) = {
            let state = lock(&channel.state);
            state.core().map(|core| (core.newest(), core.oldest())).unwrap_or((Position::default(), 1))
        };
        let last =
            crate::commands::backwards(node, channel, newest, oldest, limits::RUN_PROMPT_RECORDS_MAX).await?;
        let mut bytes = 0;
        let told = last.iter().filter_map(text_of).take_while(|(_, text)| {
            bytes += text.len();
            bytes <= limits::RUN_PROMPT_BYTES_MAX
        });
        let mut records: Vec<_> = told.collect();
        records.reverse();
        Ok(Prompt { system: self.policy.system.clone(), records, input: self.input.clone(), tokens_max: 0 })
    }
}

/// What a record says, if it says something: its body's `text`, by the name that its author's `info` gives, else by the user's id.
fn text_of(record: &Record) -> Option<(Arc<str>, String)> {
    #[derive(Deserialize)]
    struct Told {
        text: String,
    }
    #[derive(Deserialize)]
    struct Named {
        name: Arc<str>,
    }
    let told: Told = serde_json::from_slice(&record.body).ok()?;
    let by = record.author.as_ref().map(|author| {
        let named = author.info.as_ref().and_then(|info| serde_json::from_slice::<Named>(info).ok());
        named.map_or_else(|| author.user.clone(), |named| named.name)
    });
    (!told.text.is_empty()).then(|| (by.unwrap_or_default(), told.text))
}

impl Draft {
    fn new(now_ms: u64, end_room: usize) -> Self {
        Draft {
            parts: Vec::new(),
            kind: PartKind::Text,
            pending: String::new(),
            at: 0,
            bytes: 0,
            end_room,
            usage: None,
            finished: None,
            began_ms: now_ms,
            flushed_ms: None,
            heard_ms: now_ms,
        }
    }

    /// How much of `text` the run may still hold, by its own bound and by what it makes of `run.end`, where it stands escaped.
    fn take_room(&mut self, text: &str, text_bytes_max: usize) -> usize {
        let is_new_part = self.at == 0 && self.pending.is_empty();
        let Some(mut room) = self.end_room.checked_sub(if is_new_part { PART_BYTES } else { 0 }) else {
            return 0;
        };
        // Once in its part; what is for the reader, in the whole text too.
        let times = if self.kind == PartKind::Text { 2 } else { 1 };
        let mut fits = 0;
        for char in text.chars() {
            let bytes = times * escaped_bytes(char);
            if self.bytes + fits + char.len_utf8() > text_bytes_max || bytes > room {
                break;
            }
            room -= bytes;
            fits += char.len_utf8();
        }
        self.end_room = room;
        fits
    }

    /// When silence has lasted too long.
    fn silent_ms(&self, policy: &RunPolicy) -> u64 {
        let patience = if self.bytes == 0 { policy.first_token_ms_max } else { policy.idle_ms_max };
        self.heard_ms + patience
    }

    /// When something must happen even if nothing comes.
    fn due_ms(&self, policy: &RunPolicy) -> u64 {
        let flush = match self.flushed_ms {
            Some(flushed) if !self.pending.is_empty() => flushed + policy.pace_ms,
            _ => u64::MAX,
        };
        flush.min(self.silent_ms(policy)).min(self.began_ms + policy.total_ms_max)
    }

    /// The stream is over: was it done, or cut?
    fn verdict(&self) -> (Status, Option<String>) {
        match self.finished.as_deref() {
            None => (Status::Interrupted, Some("the provider's stream was cut".to_owned())),
            Some("length") => (Status::Budget, Some("the model reached its token limit".to_owned())),
            Some("content_filter") => (Status::Error, Some("the provider filtered the answer".to_owned())),
            Some(_) => (Status::Complete, None),
        }
    }
}

/// What JSON makes of a character (RFC 8259 §7), as our encoder writes it.
fn escaped_bytes(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => char.len_utf8(),
    }
}

/// A stop goes first, then pieces, then the clock.
async fn next(handle: &Handle, generation: &mut dyn Generation, mut timer: Soon<()>) -> Next {
    poll_fn(|cx: &mut Context<'_>| {
        {
            let mut inner = lock(&handle.0);
            if let Some(stop) = inner.0.take() {
                return Poll::Ready(Next::Stopped(stop));
            }
            inner.1 = Some(cx.waker().clone());
        }
        if let Poll::Ready(piece) = generation.poll_piece(cx) {
            return Poll::Ready(Next::Piece(piece));
        }
        timer.as_mut().poll(cx).map(|()| Next::Due)
    })
    .await
}
