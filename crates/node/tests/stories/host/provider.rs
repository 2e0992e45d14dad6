//! A model that says what a test hands it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use fireside_node::ports::{Generation, PartKind, Piece, Prompt, Provider, ProviderFault};

use super::lock;

type Said = Option<Result<Piece, ProviderFault>>;

#[derive(Default, Clone)]
pub struct Script(Arc<Mutex<(VecDeque<Said>, Option<Waker>)>>, Arc<Mutex<Vec<Prompt>>>);

impl Script {
    fn push(&self, said: Said) {
        let mut state = lock(&self.0);
        state.0.push_back(said);
        let waker = state.1.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What it was asked to write from.
    pub fn prompts(&self) -> Vec<Prompt> {
        lock(&self.1).clone()
    }

    pub fn say(&self, text: &str) {
        self.say_as(PartKind::Text, text);
    }

    pub fn say_as(&self, kind: PartKind, text: &str) {
        self.push(Some(Ok(Piece::Text { kind, text: text.to_owned() })));
    }

    pub fn finish(&self) {
        self.push(Some(Ok(Piece::Finished("stop".to_owned()))));
        self.push(None);
    }

    pub fn fail(&self, message: String) {
        self.push(Some(Err(ProviderFault { message, retryable: false })));
    }
}

impl Provider for Script {
    fn generate(&self, prompt: Prompt) -> Box<dyn Generation> {
        lock(&self.1).push(prompt);
        Box::new(self.clone())
    }

    fn model(&self) -> Arc<str> {
        Arc::from("script")
    }
}

impl Generation for Script {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Said> {
        let mut state = lock(&self.0);
        match state.0.pop_front() {
            Some(said) => Poll::Ready(said),
            None => {
                state.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
