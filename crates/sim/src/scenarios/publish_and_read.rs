//! People write at once, others read, come late, look back.

use crate::plan::{ClientPlan, Fault, Plan};
use crate::seed::Seed;

/// Adds it.
pub fn add(plan: &mut Plan, seed: &Seed) {
    for _ in 0..seed.between(1, 3) {
        let publishes = seed.between(40, 300) as u32;
        let mut writer =
            ClientPlan::writer(seed, plan.clients.len(), &["s:1", "o:1", "m:1", "e:1"], publishes);
        writer.reads = 15;
        plan.clients.push(writer);
    }
    for _ in 0..seed.between(1, 3) {
        let mut reader = ClientPlan::reader(seed, plan.clients.len(), &["s:1", "o:1", "m:1", "e:1"]);
        (reader.toggles, reader.lies) = (10, 10);
        plan.clients.push(reader);
    }
    if seed.chance(30) {
        plan.faults.push((seed.between(100, 1_500), Fault::ClockBack(seed.between(10, 60_000))));
    }
}
