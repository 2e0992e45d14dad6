//! Syncs, writes and reads fail, and nobody learns what became of appends.

use crate::plan::{ClientPlan, Fault, Plan};
use crate::seed::Seed;

/// Adds it.
pub fn add(plan: &mut Plan, seed: &Seed) {
    for _ in 0..seed.between(1, 2) {
        let publishes = seed.between(100, 500) as u32;
        let mut writer = ClientPlan::writer(seed, plan.clients.len(), &["s:1", "o:1"], publishes);
        writer.gap_ms = (0, 30);
        plan.clients.push(writer);
    }
    let mut reader = ClientPlan::reader(seed, plan.clients.len(), &["s:1", "o:1"]);
    reader.leaves_ms = Some((100, 900));
    plan.clients.push(reader);
    for _ in 0..seed.between(1, 4) {
        let (per_cent, ms) = (seed.between(0, 30), seed.between(50, 800));
        let fault = match seed.below(4) {
            0 => Fault::Syncs(per_cent, ms),
            1 => Fault::Writes(per_cent, ms),
            2 => Fault::Reads(per_cent, ms),
            _ => Fault::Unknown(per_cent, ms),
        };
        plan.faults.push((seed.between(50, 2_500), fault));
    }
    if seed.chance(40) {
        plan.faults.push((seed.between(500, 3_000), Fault::PowerCut));
    }
    plan.lasts_ms = plan.lasts_ms.max(3_500);
}
