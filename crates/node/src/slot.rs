//! A place for one answer, and whoever waits for it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::lock;

pub(crate) struct Slot<T>(Mutex<(Option<T>, Option<Waker>)>);

impl<T> Slot<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Slot(Mutex::new((None, None))))
    }

    /// Puts the answer there. The first one counts.
    pub(crate) fn fill(&self, value: T) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.0.get_or_insert(value);
            slot.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the answer when it is there.
    pub(crate) async fn wait(self: Arc<Self>) -> T {
        poll_fn(|cx| {
            let mut slot = lock(&self.0);
            match slot.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    slot.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
