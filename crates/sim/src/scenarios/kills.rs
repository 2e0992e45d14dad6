//! The process is killed and the power fails, with writes under way that are lost, torn or reordered.

use crate::plan::{ClientPlan, Fault, Plan};
use crate::seed::Seed;

/// Adds it.
pub fn add(plan: &mut Plan, seed: &Seed) {
    for _ in 0..seed.between(1, 3) {
        let publishes = seed.between(100, 600) as u32;
        let mut writer = ClientPlan::writer(seed, plan.clients.len(), &["s:1", "o:1", "m:1"], publishes);
        writer.gap_ms = (0, 30);
        plan.clients.push(writer);
    }
    plan.clients.push(ClientPlan::reader(seed, plan.clients.len(), &["s:1", "o:1", "m:1"]));
    for _ in 0..seed.between(1, 5) {
        let fault = match seed.below(5) {
            0 => Fault::Kill,
            1 => Fault::DieIn(seed.below(30)),
            2 => Fault::Shutdown,
            _ => Fault::PowerCut,
        };
        plan.faults.push((seed.between(50, 3_000), fault));
    }
    plan.lasts_ms = plan.lasts_ms.max(3_500);
}
