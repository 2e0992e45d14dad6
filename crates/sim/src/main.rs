//! How it breaks: the simulator, the other host of the same node and store. One seed is one world and always the same one.

mod check;
mod client;
mod disk;
mod executor;
mod keys;
mod link;
mod log;
mod plan;
mod provider;
mod scenarios;
mod seed;
mod told;
mod trace;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock that a panic elsewhere does not take away.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() {
    let seed: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let outcome = world::run(seed, scenarios::draw(seed, None), true);
    for line in &outcome.lines {
        println!("{line}");
    }
    println!(
        "{:?} {:?} {:#?} steps {} hash {:x}",
        outcome.broken, outcome.names, outcome.counts, outcome.steps, outcome.hash
    );
}
