//! A generation under way: pieces in, paced deltas out, one ending.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde::Deserialize;

use fireside_core::channel::run::{Change, Ending, Room, Status, Text, Usage};
use fireside_core::gate::Prompted;
use fireside_core::namespace::RunPolicy;
use fireside_core::{Position, Record, Refusal, limits};

use super::{FLUSH_BYTES, Handle, Run, Stop};
use crate::channel::Channel;
use crate::ports::{Generation, PartKind, Piece, Prompt, Provider, ProviderFault, Soon};
use crate::{Node, lock};

pub(super) struct Task {
    pub(super) run: Run,
    pub(super) handle: Arc<Handle>,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) policy: RunPolicy,
    pub(super) input: Bytes,
    pub(super) prompted: Prompted,
}

/// What happens next.
enum Next {
    Stopped(Stop),
    Piece(Option<Result<Piece, ProviderFault>>),
    Due,
}

/// What was written so far, and what waits to be.
struct Draft {
    text: Text,
    room: Room,
    kind: PartKind,
    pending: String,
    /// UTF-16 units of the current part that are written.
    at: u64,
    has_begun: bool,
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
        let room = super::room(node, &self.policy);
        let mut draft = Draft::new(node.host.monotonic_ms(), room);
        let (status, by, reason) = match prompt {
            Ok(prompt) => self.generate(node, prompt, &mut draft).await,
            Err(refusal) => (Status::Error, None, Some(refusal.message.into_owned())),
        };
        let ending = Ending { status, parts: draft.text.into_parts(), usage: draft.usage, by, reason };
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
                fault.message.truncate(fault.message.floor_char_boundary(limits::RUN_REASON_BYTES_MAX));
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
        let is_new_part = draft.at == 0 && draft.pending.is_empty();
        let fits = draft.room.take(kind.as_str(), is_new_part, &text);
        let is_over = fits < text.len();
        text.truncate(fits);
        draft.has_begun = true;
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
        let units = text.encode_utf16().count() as u64;
        // A new part begins with the first text of its kind.
        let part = draft.text.parts().len() as u32 - u32::from(draft.at > 0);
        let change = Change::Delta { part, kind: draft.kind.as_str().to_owned(), at: draft.at, text };
        match self.run.write_log(node, change.kind(), change.body()).await {
            Ok(_) => {
                draft.at += units;
                draft.text.apply(change);
                draft.flushed_ms = Some(node.host.monotonic_ms());
                Ok(())
            }
            // What readers never saw is not in the ending either, not even as an empty part.
            Err(refusal) => Err((Status::Error, Some(refusal.message.into_owned()))),
        }
    }

    /// What the backend assembled, or else the namespace's system text and what stands last in the channel.
    async fn prompt(&self, node: &Arc<Node>) -> Result<Prompt, Refusal> {
        let Prompted { messages, tokens_max, .. } = self.prompted.clone();
        if !messages.is_empty() {
            return Ok(Prompt { messages, tokens_max, ..Prompt::default() });
        }
        let last = last_records(node, &self.run.channel).await?;
        let mut bytes = 0;
        let told = last.iter().filter_map(text_of).take_while(|(_, text)| {
            bytes += text.len();
            bytes <= limits::RUN_PROMPT_BYTES_MAX
        });
        let mut records: Vec<_> = told.collect();
        records.reverse();
        let (system, input) = (self.policy.system.clone(), self.input.clone());
        Ok(Prompt { messages, system, records, input, tokens_max })
    }
}

/// The last records of a channel that a prompt may be made from, oldest first.
pub(super) async fn told(node: &Arc<Node>, channel: &Arc<Channel>) -> Result<Vec<Record>, Refusal> {
    let mut bytes = 0;
    let last = last_records(node, channel).await?.into_iter().take_while(|record| {
        bytes += record.body.len();
        bytes <= limits::RUN_PROMPT_BYTES_MAX
    });
    let mut records: Vec<_> = last.collect();
    records.reverse();
    Ok(records)
}

/// What stands last in a channel, newest first.
async fn last_records(node: &Arc<Node>, channel: &Arc<Channel>) -> Result<Vec<Record>, Refusal> {
    let (newest, oldest) = {
        let state = lock(&channel.state);
        state.core().map(|core| (core.newest(), core.oldest())).unwrap_or((Position::default(), 1))
    };
    crate::commands::backwards(node, channel, newest, oldest, limits::RUN_PROMPT_RECORDS_MAX).await
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
    fn new(now_ms: u64, room: Room) -> Self {
        Draft {
            text: Text::default(),
            room,
            kind: PartKind::Text,
            pending: String::new(),
            at: 0,
            has_begun: false,
            usage: None,
            finished: None,
            began_ms: now_ms,
            flushed_ms: None,
            heard_ms: now_ms,
        }
    }

    /// When silence has lasted too long.
    fn silent_ms(&self, policy: &RunPolicy) -> u64 {
        let patience = if self.has_begun { policy.idle_ms_max } else { policy.first_token_ms_max };
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

/// A stop goes first, then pieces, then the clock.
async fn next(handle: &Handle, generation: &mut dyn Generation, mut timer: Soon<()>) -> Next {
    poll_fn(|cx: &mut Context<'_>| {
        if let Poll::Ready(stop) = handle.poll_stop(cx) {
            return Poll::Ready(Next::Stopped(stop));
        }
        if let Poll::Ready(piece) = generation.poll_piece(cx) {
            return Poll::Ready(Next::Piece(piece));
        }
        timer.as_mut().poll(cx).map(|()| Next::Due)
    })
    .await
}
