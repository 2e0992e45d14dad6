//! Readers that take their time, or none at all, beside one that does not.

use crate::plan::{ClientPlan, Plan, Speed};
use crate::seed::Seed;

/// Adds it.
pub fn add(plan: &mut Plan, seed: &Seed) {
    let publishes = seed.between(300, 1_500) as u32;
    let mut writer = ClientPlan::writer(seed, plan.clients.len(), &["s:1", "s:2", "e:1"], publishes);
    (writer.body_max, writer.burst, writer.gap_ms) = (1_200, seed.between(4, 16), (0, 12));
    plan.clients.push(writer);
    for _ in 0..seed.between(1, 4) {
        let mut reader = ClientPlan::reader(seed, plan.clients.len(), &["s:1", "s:2", "e:1"]);
        reader.capacity = *seed.pick(&[600, 2_000, 8_000]);
        reader.balks = 20;
        reader.speed = match seed.chance(50) {
            true => Speed::Slow(*seed.pick(&[2_000, 20_000, 100_000])),
            false => Speed::Stalls(seed.between(100, 3_000)),
        };
        plan.clients.push(reader);
    }
    plan.lasts_ms = plan.lasts_ms.max(4_000);
}
