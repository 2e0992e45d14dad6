//! All sessions of a node, and one sweep that looks after their time: an idle session holds no timer, only a number in a slab.

use std::sync::{Arc, Mutex};

use crate::session::Session;
use crate::{Node, lock};

/// Time between two sweeps, in ms: how exact pings, expiry and deadlines are.
const SWEEP_MS: u64 = 250;
/// Sweeps between two looks at quiet channels.
const SWEEPS_PER_DIRECTORY: u64 = 4;

pub(crate) struct Sessions(Mutex<Slab>);

struct Slab {
    /// When to look at each, in sweeps of [`SWEEP_MS`]; `u32::MAX` for never.
    due: Vec<u32>,
    sessions: Vec<Option<Arc<Session>>>,
    free: Vec<u32>,
    max: usize,
}

impl Sessions {
    pub(crate) fn new(max: usize) -> Self {
        Sessions(Mutex::new(Slab { due: Vec::new(), sessions: Vec::new(), free: Vec::new(), max }))
    }

    /// Takes a session in and looks at it at `due_ms`. `None` if there is no room.
    pub(crate) fn add(&self, session: &Arc<Session>, due_ms: u64) -> Option<u32> {
        let mut slab = lock(&self.0);
        let slot = match slab.free.pop() {
            _ if slab.max == 0 => return None,
            Some(slot) => slot,
            None if slab.sessions.len() < slab.max => {
                slab.sessions.push(None);
                slab.due.push(u32::MAX);
                slab.sessions.len() as u32 - 1
            }
            None => return None,
        };
        slab.sessions[slot as usize] = Some(session.clone());
        slab.due[slot as usize] = sweep_of(due_ms);
        Some(slot)
    }

    pub(crate) fn due(&self, slot: u32, due_ms: u64) {
        if let Some(due) = lock(&self.0).due.get_mut(slot as usize) {
            *due = sweep_of(due_ms);
        }
    }

    /// The same, unless its place is somebody else's by now.
    fn due_of(&self, slot: u32, session: &Arc<Session>, due_ms: u64) {
        let mut slab = lock(&self.0);
        let is_there = slab.sessions.get(slot as usize).and_then(Option::as_ref);
        if is_there.is_some_and(|there| Arc::ptr_eq(there, session)) {
            slab.due[slot as usize] = sweep_of(due_ms);
        }
    }

    pub(crate) fn remove(&self, slot: u32) {
        let mut slab = lock(&self.0);
        let Some(session) = slab.sessions.get_mut(slot as usize) else { return };
        if session.take().is_some() {
            slab.due[slot as usize] = u32::MAX;
            slab.free.push(slot);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        lock(&self.0).sessions.iter().flatten().cloned().collect()
    }

    pub(crate) fn refuse_new(&self) {
        let mut slab = lock(&self.0);
        slab.max = 0;
    }

    fn take_due(&self, now_ms: u64) -> Vec<(u32, Arc<Session>)> {
        let now = sweep_of(now_ms);
        let slab = &mut *lock(&self.0);
        let sessions = &slab.sessions;
        let due = slab.due.iter_mut().enumerate().filter(|(_, due)| **due <= now);
        due.filter_map(|(slot, due)| {
            *due = u32::MAX;
            Some((slot as u32, sessions[slot].clone()?))
        })
        .collect()
    }
}

fn sweep_of(ms: u64) -> u32 {
    u32::try_from(ms / SWEEP_MS).unwrap_or(u32::MAX)
}

/// Looks after the time of sessions and channels for as long as the node lives.
pub(crate) async fn sweep(node: Arc<Node>) {
    for sweeps in 0_u64.. {
        node.host.sleep(SWEEP_MS).await;
        let now_ms = node.host.monotonic_ms();
        for (slot, session) in node.sessions.take_due(now_ms) {
            let next_ms = session.tick(&node, now_ms);
            node.sessions.due_of(slot, &session, next_ms);
        }
        if sweeps % SWEEPS_PER_DIRECTORY == 0 {
            node.directory.sweep(&node);
        }
    }
}
