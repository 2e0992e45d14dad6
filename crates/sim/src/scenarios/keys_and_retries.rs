//! Keys are sent again and again, over links and lives, and count once.

use crate::plan::{ClientPlan, Fault, Plan};
use crate::seed::Seed;

/// Adds it.
pub fn add(plan: &mut Plan, seed: &Seed) {
    for _ in 0..seed.between(1, 3) {
        let publishes = seed.between(50, 300) as u32;
        let mut writer = ClientPlan::writer(seed, plan.clients.len(), &["s:1", "t:1"], publishes);
        (writer.keyed, writer.repeats, writer.leaves_ms) = (100, 30, Some((30, 500)));
        plan.clients.push(writer);
    }
    plan.clients.push(ClientPlan::reader(seed, plan.clients.len(), &["s:1", "t:1"]));
    for _ in 0..seed.between(0, 3) {
        let fault = if seed.chance(50) { Fault::Kill } else { Fault::PowerCut };
        plan.faults.push((seed.between(50, 2_500), fault));
    }
    if seed.chance(30) {
        plan.faults.push((seed.between(50, 1_500), Fault::Unknown(30, 500)));
    }
    plan.lasts_ms = plan.lasts_ms.max(3_000);
}
