//! Records are trimmed by number, size and age, and removed: whoever comes too late is told.

use crate::plan::{ClientPlan, Fault, Plan, Speed};
use crate::seed::Seed;

/// Adds it.
pub fn add(plan: &mut Plan, seed: &Seed) {
    let publishes = seed.between(300, 1_200) as u32;
    let mut writer = ClientPlan::writer(seed, plan.clients.len(), &["t:1"], publishes);
    (writer.gap_ms, writer.burst) = ((0, 15), 8);
    plan.clients.push(writer);
    for _ in 0..seed.between(2, 4) {
        let mut reader = ClientPlan::reader(seed, plan.clients.len(), &["t:1"]);
        reader.leaves_ms = Some((50, 1_200));
        reader.reads = 30;
        if seed.chance(50) {
            (reader.capacity, reader.balks) = (1_000, 10);
            reader.speed = Speed::Stalls(seed.between(100, 2_000));
        }
        plan.clients.push(reader);
    }
    for _ in 0..seed.between(0, 2) {
        plan.faults.push((seed.between(200, 4_000), Fault::RemoveHistory("t:1")));
    }
    if seed.chance(40) {
        plan.faults
            .push((seed.between(200, 4_000), if seed.chance(50) { Fault::Kill } else { Fault::PowerCut }));
    }
    plan.store.segment_bytes = 192 << 10;
    plan.lasts_ms = plan.lasts_ms.max(5_000);
}
