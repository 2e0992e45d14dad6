//! A model whose every generation goes as the seed says: long or short, in any script, failing, stalling or cut off.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use fireside_node::ports::{Generation, PartKind, Piece, Prompt, Provider, ProviderFault};

use crate::executor::{Executor, Sleep};
use crate::lock;
use crate::seed::Seed;
use crate::trace::Trace;

/// What it gave away, by the run's input: all the text of kind `text`, and whether it said that it was done.
pub type Given = Arc<Mutex<BTreeMap<String, Vec<(String, bool)>>>>;

/// How generations go, in cases of 100.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moods {
    /// They fail in the middle.
    pub fails: u64,
    /// They go silent for ever.
    pub stalls: u64,
    /// Their stream ends without a reason.
    pub cuts: u64,
    /// They never stop by themselves.
    pub endless: u64,
}

/// The `Provider` port.
pub struct Scripted {
    pub executor: Executor,
    pub seed: Seed,
    pub trace: Trace,
    pub given: Given,
    pub moods: Moods,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Fails,
    Stalls,
    Cut,
}

struct Script {
    executor: Executor,
    seed: Seed,
    trace: Trace,
    given: Given,
    input: String,
    turn: usize,
    left: u64,
    end: End,
    finished: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

const WORDS: [&str; 12] = [
    "once ",
    "upon ",
    "a ",
    "time, ",
    "der Fuß ",
    "\"said\" ",
    "line\n",
    "👩‍🚀 ",
    "𝄞𝄞 ",
    "日本語 ",
    "e\u{301}tude ",
    "\\u0000 ",
];

impl Provider for Scripted {
    fn generate(&self, prompt: Prompt) -> Box<dyn Generation> {
        let input = String::from_utf8_lossy(&prompt.input).into_owned();
        let turn = {
            let mut given = lock(&self.given);
            let turns = given.entry(input.clone()).or_default();
            turns.push((String::new(), false));
            turns.len() - 1
        };
        let (draw, moods) = (self.seed.below(100), self.moods);
        let bounds = [moods.fails, moods.fails + moods.stalls, moods.fails + moods.stalls + moods.cuts];
        let end = match draw {
            draw if draw < bounds[0] => End::Fails,
            draw if draw < bounds[1] => End::Stalls,
            draw if draw < bounds[2] => End::Cut,
            _ => End::Done,
        };
        let left = if self.seed.chance(moods.endless) { u64::MAX } else { self.seed.between(0, 50) };
        Box::new(Script {
            executor: self.executor.clone(),
            seed: self.seed.clone(),
            trace: self.trace.clone(),
            given: self.given.clone(),
            input,
            turn,
            left,
            end,
            finished: false,
            sleep: None,
        })
    }

    fn model(&self) -> Arc<str> {
        Arc::from("scripted")
    }
}

impl Script {
    fn ending(&mut self) -> Poll<Option<Result<Piece, ProviderFault>>> {
        match self.end {
            End::Fails => {
                self.trace.count("provider failed");
                Poll::Ready(Some(Err(ProviderFault { message: "scripted".into(), retryable: false })))
            }
            End::Stalls => {
                self.trace.count("provider stalled");
                Poll::Pending
            }
            End::Cut => {
                self.trace.count("provider cut off");
                Poll::Ready(None)
            }
            End::Done if self.finished => Poll::Ready(None),
            End::Done => {
                self.finished = true;
                if let Some(turns) = lock(&self.given).get_mut(&self.input) {
                    turns[self.turn].1 = true;
                }
                Poll::Ready(Some(Ok(Piece::Finished("stop".into()))))
            }
        }
    }
}

impl Generation for Script {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, ProviderFault>>> {
        if self.left == 0 {
            return self.ending();
        }
        let (executor, seed) = (self.executor.clone(), self.seed.clone());
        let sleep = self.sleep.get_or_insert_with(|| {
            let ms = if seed.chance(10) { seed.between(50, 400) } else { seed.between(0, 20) };
            Box::pin(executor.sleep_ms(ms))
        });
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.sleep = None;
        self.left -= 1;
        let text: String = (0..self.seed.between(1, 6)).map(|_| *self.seed.pick(&WORDS)).collect();
        let kind = if self.seed.chance(10) { PartKind::Reasoning } else { PartKind::Text };
        if kind == PartKind::Text
            && let Some(turns) = lock(&self.given).get_mut(&self.input)
        {
            turns[self.turn].0.push_str(&text);
        }
        Poll::Ready(Some(Ok(Piece::Text { kind, text })))
    }
}
