//! The disk fills up: appends are refused, reads go on, and it recovers by itself.

use crate::plan::{ClientPlan, Fault, Plan};
use crate::seed::Seed;

/// Adds it.
pub fn add(plan: &mut Plan, seed: &Seed) {
    let publishes = seed.between(300, 1_500) as u32;
    let mut writer = ClientPlan::writer(seed, plan.clients.len(), &["s:1", "t:1", "o:1"], publishes);
    (writer.body_max, writer.burst, writer.gap_ms) = (1_300, 10, (1, 30));
    plan.clients.push(writer);
    plan.clients.push(ClientPlan::reader(seed, plan.clients.len(), &["s:1", "t:1", "o:1"]));
    plan.store.segment_bytes = 192 << 10;
    for _ in 0..seed.between(1, 3) {
        let ms = seed.between(200, 2_500);
        plan.faults.push((seed.between(50, 2_000), Fault::Full(seed.between(0, 250_000), ms)));
    }
    if seed.chance(30) {
        plan.faults.push((seed.between(1_000, 3_000), Fault::Kill));
    }
    plan.lasts_ms = plan.lasts_ms.max(5_000);
}
