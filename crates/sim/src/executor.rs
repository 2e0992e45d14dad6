//! Tasks in virtual time: one thread, and the seed picks which ready task goes next.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::lock;
use crate::seed::Seed;
use crate::trace::Trace;

/// What runs.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tasks that die together: those of one process, or the world's own (0).
pub type Group = u64;

/// Clones share the same tasks and the same time.
#[derive(Clone)]
pub struct Executor(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    ready: Arc<Ready>,
    seed: Seed,
    trace: Trace,
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, Slot>,
    timers: BTreeMap<(u64, u64), Waker>,
    now_us: u64,
    next: u64,
    dead: Vec<Group>,
    steps: u64,
}

struct Slot {
    group: Group,
    /// Taken out while it is polled.
    task: Option<Task>,
    waker: Waker,
}

#[derive(Default)]
struct Ready(Mutex<Vec<u64>>);

struct TaskWaker {
    id: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut ready = lock(&self.ready.0);
        if !ready.contains(&self.id) {
            ready.push(self.id);
        }
    }
}

/// Why a run did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// Nothing is ready and no timer is set.
    Deadlock,
    /// So many steps that something must turn in circles.
    Steps,
    /// So much time that something must wait for ever.
    Time,
}

/// Steps of one run at most.
const STEPS_MAX: u64 = 1_000_000;

impl Executor {
    /// Nothing yet, at time 0.
    pub fn new(seed: Seed, trace: Trace) -> Executor {
        Executor(Arc::new(Inner { state: Mutex::default(), ready: Arc::default(), seed, trace }))
    }

    /// Virtual time in µs.
    pub fn now_us(&self) -> u64 {
        lock(&self.0.state).now_us
    }

    /// Virtual time in ms.
    pub fn now_ms(&self) -> u64 {
        self.now_us() / 1000
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        lock(&self.0.state).steps
    }

    /// Adds a task. What belongs to a dead group is dropped at once.
    pub fn spawn(&self, group: Group, task: Task) {
        let mut state = lock(&self.0.state);
        if state.dead.contains(&group) {
            drop(state);
            return drop(task);
        }
        state.next += 1;
        let id = state.next;
        let waker = Waker::from(Arc::new(TaskWaker { id, ready: self.0.ready.clone() }));
        state.tasks.insert(id, Slot { group, task: Some(task), waker: waker.clone() });
        drop(state);
        waker.wake();
    }

    /// Ends a group: none of its tasks is polled again.
    pub fn kill(&self, group: Group) {
        let gone: Vec<Slot> = {
            let mut state = lock(&self.0.state);
            state.dead.push(group);
            let ids: Vec<u64> =
                state.tasks.iter().filter(|(_, s)| s.group == group).map(|(id, _)| *id).collect();
            ids.into_iter().filter_map(|id| state.tasks.remove(&id)).collect()
        };
        // Outside the lock: what a task drops may wake others.
        drop(gone);
    }

    /// Ends after `us`.
    pub fn sleep_us(&self, us: u64) -> Sleep {
        Sleep { executor: self.clone(), at_us: self.now_us() + us, key: None }
    }

    /// Ends after `ms`.
    pub fn sleep_ms(&self, ms: u64) -> Sleep {
        self.sleep_us(ms.saturating_mul(1000))
    }

    /// Runs everything until `main` is done, for at most `time_ms_max` of virtual time.
    ///
    /// # Errors
    /// It never came to its end.
    pub fn run<T: Send + 'static>(
        &self,
        main: impl Future<Output = T> + Send + 'static,
        time_ms_max: u64,
    ) -> Result<T, Stuck> {
        let done: Arc<Mutex<Option<T>>> = Arc::default();
        let result = done.clone();
        self.spawn(
            0,
            Box::pin(async move {
                let value = main.await;
                *lock(&result) = Some(value);
            }),
        );
        loop {
            if let Some(value) = lock(&done).take() {
                return Ok(value);
            }
            if self.step() {
                if self.steps() > STEPS_MAX {
                    return Err(Stuck::Steps);
                }
                continue;
            }
            if !self.advance() {
                return Err(Stuck::Deadlock);
            }
            if self.now_ms() > time_ms_max {
                return Err(Stuck::Time);
            }
        }
    }

    /// Drops all that is left.
    pub fn clear(&self) {
        let (tasks, timers) = {
            let mut state = lock(&self.0.state);
            (std::mem::take(&mut state.tasks), std::mem::take(&mut state.timers))
        };
        drop(tasks);
        drop(timers);
    }

    /// Polls one ready task. False if there is none.
    fn step(&self) -> bool {
        let id = {
            let mut ready = lock(&self.0.ready.0);
            if ready.is_empty() {
                return false;
            }
            let at = self.0.seed.below(ready.len() as u64) as usize;
            ready.swap_remove(at)
        };
        let (mut task, waker) = {
            let mut state = lock(&self.0.state);
            state.steps += 1;
            let now_us = state.now_us;
            let Some(slot) = state.tasks.get_mut(&id) else { return true };
            let Some(task) = slot.task.take() else { return true };
            self.0.trace.step(id, now_us);
            (task, slot.waker.clone())
        };
        let ended = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let gone = {
            let mut state = lock(&self.0.state);
            if ended {
                state.tasks.remove(&id);
                Some(task)
            } else if let Some(slot) = state.tasks.get_mut(&id) {
                slot.task = Some(task);
                None
            } else {
                // Its group died while it was polled.
                Some(task)
            }
        };
        drop(gone);
        true
    }

    /// Goes on to the next timer. False if none is set.
    fn advance(&self) -> bool {
        let due: Vec<Waker> = {
            let mut state = lock(&self.0.state);
            let Some((&(at_us, _), _)) = state.timers.first_key_value() else { return false };
            state.now_us = state.now_us.max(at_us);
            let later = state.timers.split_off(&(at_us + 1, 0));
            std::mem::replace(&mut state.timers, later).into_values().collect()
        };
        due.into_iter().for_each(Waker::wake);
        true
    }
}

/// Waits in virtual time.
pub struct Sleep {
    executor: Executor,
    at_us: u64,
    key: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let executor = self.executor.clone();
        let mut state = lock(&executor.0.state);
        if state.now_us >= self.at_us {
            if let Some(key) = self.key.take() {
                state.timers.remove(&key);
            }
            return Poll::Ready(());
        }
        let key = match self.key {
            Some(key) => key,
            None => {
                state.next += 1;
                (self.at_us, state.next)
            }
        };
        state.timers.insert(key, cx.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = lock(&self.executor.0.state).timers.remove(&key);
            drop(waker);
        }
    }
}

/// A place for one answer.
pub struct Answer<T>(Mutex<(Option<T>, Option<Waker>, bool)>);

impl<T> Answer<T> {
    /// Empty.
    pub fn new() -> Arc<Self> {
        Arc::new(Answer(Mutex::new((None, None, false))))
    }

    /// Puts the answer there; the first counts.
    pub fn give(&self, value: T) {
        let waker = {
            let mut inner = lock(&self.0);
            if !inner.2 {
                inner.2 = true;
                inner.0 = Some(value);
            }
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for it.
    pub async fn get(self: Arc<Self>) -> T {
        std::future::poll_fn(|cx| {
            let mut inner = lock(&self.0);
            match inner.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    inner.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// Wakes whoever waits for something to change.
#[derive(Default)]
pub struct Bell(Mutex<(bool, Option<Waker>)>);

impl Bell {
    /// Something changed.
    pub fn ring(&self) {
        let waker = {
            let mut inner = lock(&self.0);
            inner.0 = true;
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready when it rang since the last time.
    pub async fn rung(&self) {
        std::future::poll_fn(|cx| {
            let mut inner = lock(&self.0);
            if std::mem::take(&mut inner.0) {
                return Poll::Ready(());
            }
            inner.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> (Vec<u64>, u64) {
        let trace = Trace::new(false);
        let executor = Executor::new(Seed::new(seed, 1), trace.clone());
        let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
        for n in 0..8 {
            let (seen, executor_of_task) = (seen.clone(), executor.clone());
            executor.spawn(
                1,
                Box::pin(async move {
                    executor_of_task.sleep_ms(n % 3).await;
                    lock(&seen).push(n);
                }),
            );
        }
        let main = executor.sleep_ms(10);
        executor.run(main, 100).unwrap();
        let seen = lock(&seen).clone();
        (seen, trace.hash())
    }

    #[test]
    fn the_seed_decides_the_order_and_time_decides_first() {
        assert_eq!(order(1), order(1));
        assert!((2..20).any(|seed| order(seed).0 != order(1).0));
        let position = |all: &[u64], n| all.iter().position(|one| *one == n).unwrap();
        let (seen, _) = order(3);
        assert!(position(&seen, 0) < position(&seen, 1) && position(&seen, 1) < position(&seen, 2));
    }

    #[test]
    fn a_dead_group_is_not_polled_and_a_deadlock_is_named() {
        let executor = Executor::new(Seed::new(1, 1), Trace::new(false));
        let (of_task, ran) = (executor.clone(), Arc::new(Mutex::new(false)));
        let seen = ran.clone();
        executor.spawn(
            7,
            Box::pin(async move {
                of_task.sleep_ms(5).await;
                *lock(&seen) = true;
            }),
        );
        let of_main = executor.clone();
        executor
            .run(
                async move {
                    of_main.sleep_ms(1).await;
                    of_main.kill(7);
                    of_main.sleep_ms(20).await;
                },
                100,
            )
            .unwrap();
        assert!(!*lock(&ran));
        assert_eq!(executor.run(std::future::pending::<()>(), 100), Err(Stuck::Deadlock));
    }
}
