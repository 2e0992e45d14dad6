//! A backend whose every answer is a test's.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use fireside_core::hook::{Answer, Asked, Grant, Unanswered};
use fireside_node::ports::{Backend, Soon};

use super::lock;

type Said = Result<Answer, Unanswered>;

/// Questions that wait on its desk, in the order of their coming.
#[derive(Default)]
pub struct Desk(Mutex<VecDeque<(Asked, Arc<Slip>)>>);

#[derive(Default)]
struct Slip(Mutex<(Option<Said>, Option<Waker>)>);

impl Backend for Desk {
    fn ask(&self, asked: Asked, _: &'static str) -> Soon<Said> {
        let slip = Arc::new(Slip::default());
        lock(&self.0).push_back((asked, slip.clone()));
        Box::pin(poll_fn(move |cx| {
            let mut slip = lock(&slip.0);
            slip.1 = Some(cx.waker().clone());
            slip.0.take().map_or(Poll::Pending, Poll::Ready)
        }))
    }
}

impl Desk {
    /// How many questions wait.
    pub fn waiting(&self) -> usize {
        lock(&self.0).len()
    }

    /// Answers the oldest question, and tells what it was.
    pub fn say(&self, said: Said) -> Asked {
        let (asked, slip) = lock(&self.0).pop_front().expect("a question waits");
        let waker = {
            let mut slip = lock(&slip.0);
            slip.0 = Some(said);
            slip.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        asked
    }

    /// Says yes to the oldest question.
    pub fn grant(&self, grant: Grant) -> Asked {
        self.say(Ok(Answer::Granted(Box::new(grant))))
    }
}
