//! Links come and go, and readers go on where they were.

use crate::plan::{ClientPlan, Fault, Plan};
use crate::seed::Seed;

/// Adds it.
pub fn add(plan: &mut Plan, seed: &Seed) {
    let publishes = seed.between(100, 600) as u32;
    let mut writer = ClientPlan::writer(seed, plan.clients.len(), &["s:1", "o:1"], publishes);
    writer.leaves_ms = seed.chance(50).then_some((50, 800));
    plan.clients.push(writer);
    for _ in 0..seed.between(2, 4) {
        let mut reader = ClientPlan::reader(seed, plan.clients.len(), &["s:1", "o:1"]);
        reader.leaves_ms = Some((20, 600));
        (reader.toggles, reader.lies) = (20, 5);
        plan.clients.push(reader);
    }
    for _ in 0..seed.between(0, 3) {
        plan.faults.push((seed.between(50, 2_500), Fault::Links));
    }
    plan.lasts_ms = plan.lasts_ms.max(3_000);
}
