//! Tokens run out and are refreshed or not, and some have no right to anything.

use crate::keys::Role;
use crate::plan::{ClientPlan, Fault, Plan};
use crate::seed::Seed;

/// Adds it.
pub fn add(plan: &mut Plan, seed: &Seed) {
    let mut writer = ClientPlan::writer(seed, plan.clients.len(), &["s:1", "t:1"], 200);
    (writer.token_s, writer.gap_ms) = (seed.between(2, 6), (50, 600));
    plan.clients.push(writer);
    let mut careless = ClientPlan::writer(seed, plan.clients.len(), &["s:1"], 200);
    (careless.token_s, careless.refreshes, careless.gap_ms) = (seed.between(1, 4), false, (100, 900));
    plan.clients.push(careless);
    let mut reader = ClientPlan::writer(seed, plan.clients.len(), &["s:1"], 20);
    reader.role = Role::Reader;
    plan.clients.push(reader);
    let mut stranger = ClientPlan::writer(seed, plan.clients.len(), &["s:1", "s:2", "t:1", "o:1", "e:1"], 20);
    (stranger.role, stranger.gap_ms) = (Role::Stranger, (50, 900));
    plan.clients.push(stranger);
    plan.faults.retain(|(_, fault)| !matches!(fault, Fault::ClockBack(_)));
    plan.lasts_ms = plan.lasts_ms.max(seed.between(3_000, 40_000));
}
