//! A model and a backend write, well or badly, while readers of every speed look on and the server dies.

use crate::plan::{ClientPlan, Fault, Plan, ProducerPlan, Speed};
use crate::provider::Moods;
use crate::seed::Seed;

/// Adds it.
pub fn add(plan: &mut Plan, seed: &Seed) {
    for _ in 0..seed.between(1, 2) {
        let mut writer = ClientPlan::writer(seed, plan.clients.len(), &["s:1"], 30);
        (writer.runs, writer.cancels, writer.follows_runs) = (seed.between(1, 4) as u32, 20, true);
        plan.clients.push(writer);
    }
    for _ in 0..seed.between(1, 3) {
        let mut reader = ClientPlan::reader(seed, plan.clients.len(), &["s:1"]);
        reader.follows_runs = true;
        reader.leaves_ms = seed.chance(40).then_some((100, 1_500));
        if seed.chance(60) {
            (reader.capacity, reader.balks) = (*seed.pick(&[300, 2_000]), 30);
            reader.speed = Speed::Slow(*seed.pick(&[5_000, 50_000, 300_000]));
        }
        plan.clients.push(reader);
    }
    for _ in 0..seed.between(0, 2) {
        let channel = seed.pick(&["s:1", "s:2"]).to_string();
        let (runs, dies, cancels) =
            (seed.between(1, 4) as u32, *seed.pick(&[0, 2, 10]), *seed.pick(&[0, 0, 3]));
        plan.producers.push(ProducerPlan { channel, runs, dies, cancels });
    }
    plan.moods = Moods { fails: 20, stalls: 10, cuts: 20, endless: 10 };
    for _ in 0..seed.between(0, 2) {
        let fault = match seed.below(4) {
            0 => Fault::Shutdown,
            1 => Fault::PowerCut,
            _ => Fault::Kill,
        };
        plan.faults.push((seed.between(200, 4_000), fault));
    }
    if seed.chance(20) {
        plan.faults.push((seed.between(200, 3_000), Fault::Reads(60, 600)));
    }
    plan.lasts_ms = plan.lasts_ms.max(5_000);
}
