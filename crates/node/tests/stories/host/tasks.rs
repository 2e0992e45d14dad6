//! Tasks in virtual time, polled one after the other in the order in which they became ready.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use fireside_node::ports::{Host, Soon};

use super::lock;

const BEGIN_MS: u64 = 1_800_000_000_000;

#[derive(Default)]
pub struct Tasks {
    state: Mutex<State>,
    clock: Arc<Mutex<Clock>>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct State {
    /// `None` while it is polled.
    tasks: BTreeMap<u64, Option<Soon<()>>>,
    next: u64,
    random: u64,
}

#[derive(Default)]
struct Clock {
    now_ms: u64,
    timers: Vec<(u64, Waker)>,
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

struct WakeTask(u64, Arc<Ready>);

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        let mut ready = lock(&self.1.0);
        if !ready.contains(&self.0) {
            ready.push_back(self.0);
        }
    }
}

impl Tasks {
    /// Adds a task and answers its number.
    pub fn add(&self, task: impl Future<Output = ()> + Send + 'static) -> u64 {
        let mut state = lock(&self.state);
        state.next += 1;
        let id = state.next;
        state.tasks.insert(id, Some(Box::pin(task)));
        lock(&self.ready.0).push_back(id);
        id
    }

    /// The number of the newest task.
    pub fn newest(&self) -> u64 {
        lock(&self.state).next
    }

    /// Virtual time since the beginning, in ms.
    pub fn elapsed_ms(&self) -> u64 {
        lock(&self.clock).now_ms
    }

    /// Drops a task wherever it is.
    pub fn kill(&self, id: u64) {
        let task = lock(&self.state).tasks.remove(&id);
        drop(task);
    }

    /// The tasks that would run next.
    pub fn ready(&self) -> Vec<u64> {
        lock(&self.ready.0).iter().copied().collect()
    }

    /// Polls one task, which need not be ready.
    pub fn poll(&self, id: u64) {
        lock(&self.ready.0).retain(|ready| *ready != id);
        let Some(Some(mut task)) = lock(&self.state).tasks.get_mut(&id).map(Option::take) else { return };
        let waker = Waker::from(Arc::new(WakeTask(id, self.ready.clone())));
        let ended = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut state = lock(&self.state);
        if ended {
            state.tasks.remove(&id);
        } else if let Some(place) = state.tasks.get_mut(&id) {
            *place = Some(task);
        }
    }

    pub fn run(&self) {
        self.run_but(&[]);
    }

    /// Runs everything but these tasks until nothing else is ready.
    pub fn run_but(&self, held: &[u64]) {
        for _ in 0..1_000_000 {
            let next = lock(&self.ready.0).iter().copied().find(|id| !held.contains(id));
            let Some(next) = next else { return };
            self.poll(next);
        }
        panic!("the tasks never come to rest");
    }

    pub fn pass_ms(&self, ms: u64) {
        let until_ms = lock(&self.clock).now_ms + ms;
        loop {
            self.run();
            let mut clock = lock(&self.clock);
            let Some(next_ms) = clock.timers.iter().map(|(at, _)| *at).filter(|at| *at <= until_ms).min()
            else {
                clock.now_ms = until_ms;
                return;
            };
            clock.now_ms = clock.now_ms.max(next_ms);
            let (due, later) =
                std::mem::take(&mut clock.timers).into_iter().partition(|(at, _)| *at <= next_ms);
            clock.timers = later;
            drop(clock);
            let due: Vec<(u64, Waker)> = due;
            due.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }
}

impl Host for Tasks {
    fn now_ms(&self) -> u64 {
        BEGIN_MS + lock(&self.clock).now_ms
    }

    fn monotonic_ms(&self) -> u64 {
        lock(&self.clock).now_ms
    }

    fn random(&self) -> u128 {
        let mut state = lock(&self.state);
        state.random += 1;
        // Splitmix64, twice.
        let mix = |n: u64| {
            let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u128::from(z ^ (z >> 31))
        };
        mix(2 * state.random) << 64 | mix(2 * state.random + 1)
    }

    fn spawn(&self, task: Soon<()>) {
        self.add(task);
    }

    fn sleep(&self, ms: u64) -> Soon<()> {
        let clock = self.clock.clone();
        let until_ms = lock(&clock).now_ms.saturating_add(ms);
        Box::pin(poll_fn(move |cx| {
            let mut clock = lock(&clock);
            if clock.now_ms >= until_ms {
                return Poll::Ready(());
            }
            clock.timers.push((until_ms, cx.waker().clone()));
            Poll::Pending
        }))
    }
}
