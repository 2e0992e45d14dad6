//! What can befall a world, one file each. A seed mixes some of them.

mod expiry_and_refusals;
mod failing_disk;
mod full_disk;
mod keys_and_retries;
mod kills;
mod publish_and_read;
mod reconnects;
mod retention_and_gone;
mod runs;
mod slow_readers;

use crate::plan::Plan;
use crate::seed::Seed;

/// A scenario adds its clients and faults to a plan.
pub type Scenario = fn(&mut Plan, &Seed);

/// All of them.
pub const ALL: [(&str, Scenario); 10] = [
    ("publish_and_read", publish_and_read::add),
    ("slow_readers", slow_readers::add),
    ("reconnects", reconnects::add),
    ("kills", kills::add),
    ("full_disk", full_disk::add),
    ("failing_disk", failing_disk::add),
    ("keys_and_retries", keys_and_retries::add),
    ("runs", runs::add),
    ("expiry_and_refusals", expiry_and_refusals::add),
    ("retention_and_gone", retention_and_gone::add),
];

/// The plan of a seed: one scenario or a mix, or the one that is asked for.
pub fn draw(number: u64, only: Option<&str>) -> Plan {
    let seed = Seed::new(number, 7);
    let mut plan = Plan::new(&seed);
    let mut chosen: Vec<_> = ALL.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    let count = seed.between(1, 3) as usize;
    while chosen.len() > count.min(if only.is_some() { 1 } else { 3 }) {
        let at = seed.below(chosen.len() as u64) as usize;
        chosen.swap_remove(at);
    }
    for (name, add) in chosen {
        plan.names.push(name);
        add(&mut plan, &seed);
    }
    plan.faults.sort_by_key(|(at_ms, _)| *at_ms);
    plan
}
