//! Running seeds: one, many, or the same ones in two processes.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::world::Outcome;
use crate::{Asked, lock, scenarios, world};

/// What must have fired in a thousand seeds of all scenarios, and how often at least. Fewer seeds must show a fair share of it.
const FLOORS: [(&str, u64); 54] = [
    ("steps", 1_000_000),
    ("records appended", 50_000),
    ("records delivered", 100_000),
    ("kills", 200),
    ("power cuts", 200),
    ("orderly shutdowns", 30),
    ("deaths in a write or sync", 30),
    ("processes that ended themselves", 50),
    ("lost sectors", 400),
    ("torn writes", 30),
    ("reordered writes", 20),
    ("torn tails cut", 30),
    ("failed syncs", 30),
    ("failed writes", 100),
    ("failed reads", 100),
    ("full disk", 100),
    ("refused as full", 20),
    ("unknown appends", 100),
    ("conflicts", 10),
    ("faults that the node met", 100),
    ("links cut", 100),
    ("clients that leave", 1_000),
    ("full sinks", 1_000),
    ("partial writes", 1_000),
    ("clock jumps back", 20),
    ("readers sent back to the log", 100),
    ("pages read for readers", 100),
    ("ephemeral records dropped", 100),
    ("subscriptions ended by clients", 100),
    ("subscriptions ended by the server", 20),
    ("readers told of a loss", 100),
    ("positions above the tail claimed", 50),
    ("recoveries", 1_000),
    ("histories removed", 20),
    ("segments given back", 20),
    ("publishes tried again", 200),
    ("publishes refused", 100),
    ("known keys sent again", 200),
    ("duplicates answered", 200),
    ("refused for want of a right", 500),
    ("expired tokens refused", 10),
    ("tokens refreshed", 100),
    ("runs complete", 50),
    ("runs cancelled", 10),
    ("runs interrupted", 20),
    ("runs failed", 20),
    ("runs of backends", 100),
    ("runs that backends ended", 50),
    ("runs that outlived their server", 5),
    ("backends that died", 20),
    ("backends told of a cancel", 5),
    ("texts taken back", 50),
    ("provider failed", 20),
    ("provider cut off", 10),
];

/// Runs one seed, whatever happens in it.
fn run(number: u64, asked: &Asked, lines: bool) -> Outcome {
    let plan = scenarios::draw(number, asked.scenario.as_deref());
    let names = plan.names.clone();
    let run = std::panic::catch_unwind(AssertUnwindSafe(|| world::run(number, plan, lines)));
    run.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome {
            broken: vec![format!("panic: {}", said.unwrap_or_default())],
            hash: 0,
            counts: BTreeMap::new(),
            steps: 0,
            lines: Vec::new(),
            names,
        }
    })
}

/// One seed, told at length. True if nothing broke.
pub fn one(number: u64, asked: &Asked) -> bool {
    let outcome = run(number, asked, asked.trace);
    for line in &outcome.lines {
        println!("{line}");
    }
    println!("seed {number}: {}", outcome.names.join(" + "));
    for (kind, count) in &outcome.counts {
        println!("  {kind}: {count}");
    }
    for what in &outcome.broken {
        println!("  BROKEN {what}");
    }
    println!("seed {number}: {} steps, hash {:016x}", outcome.steps, outcome.hash);
    outcome.broken.is_empty()
}

/// Many seeds, on several threads; their totals and their floors.
pub fn many(asked: &Asked) -> bool {
    let (from, count) = (asked.from, asked.seeds.unwrap_or(100));
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let found: Mutex<BTreeMap<u64, Outcome>> = Mutex::default();
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= from + count {
                        return;
                    }
                    let outcome = run(number, asked, false);
                    if asked.first && !outcome.broken.is_empty() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    lock(&found).insert(number, outcome);
                }
            });
        }
    });
    let found = lock(&found);
    if asked.hashes {
        for (number, outcome) in found.iter() {
            println!("{number} {:016x}", outcome.hash);
        }
        return true;
    }
    report(asked, count, &found)
}

fn report(asked: &Asked, count: u64, found: &BTreeMap<u64, Outcome>) -> bool {
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for outcome in found.values() {
        *totals.entry("steps").or_default() += outcome.steps;
        for (kind, times) in &outcome.counts {
            *totals.entry(kind).or_default() += times;
        }
    }
    let floors: BTreeMap<&str, u64> = FLOORS.into_iter().collect();
    let scaled = |kind: &str| match asked.scenario {
        // A single scenario does not show everything, and few seeds show little for certain.
        Some(_) => 0,
        None if count < 100 => 0,
        None => floors.get(kind).map_or(0, |floor| (floor * count / 1000).max(1)),
    };
    let kinds: std::collections::BTreeSet<&str> = totals.keys().chain(floors.keys()).copied().collect();
    let mut missing = 0;
    for kind in kinds {
        let (total, floor) = (totals.get(kind).copied().unwrap_or(0), scaled(kind));
        let verdict = if total < floor { "  TOO FEW" } else { "" };
        missing += u64::from(total < floor);
        println!("  {kind:<34} {total:>9} (at least {floor}){verdict}");
    }
    let failed: Vec<_> = found.iter().filter(|(_, outcome)| !outcome.broken.is_empty()).collect();
    for (number, outcome) in failed.iter().take(20) {
        println!("seed {number} ({}):", outcome.names.join(" + "));
        for what in outcome.broken.iter().take(3) {
            println!("  BROKEN {what}");
        }
    }
    let (passed, failed) = (found.len() - failed.len(), failed.len() as u64 + missing);
    println!("sim: {passed} passed, {failed} failed");
    failed == 0
}

/// The same seeds here and in a second process must give the same traces.
pub fn twice(asked: &Asked) -> bool {
    let count = asked.seeds.unwrap_or(20);
    let Ok(program) = std::env::current_exe() else {
        println!("twice: 0 passed, 1 failed");
        return false;
    };
    let words = ["--from", &asked.from.to_string(), "--seeds", &count.to_string(), "--jobs", "1", "--hashes"]
        .map(str::to_owned);
    let told = match Command::new(program).args(words).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(fault) => {
            println!("the second process could not be started: {fault}");
            String::new()
        }
    };
    let theirs: BTreeMap<u64, String> = told
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(number, hash)| Some((number.parse().ok()?, hash.to_owned())))
        .collect();
    let (mut passed, mut failed) = (0, 0);
    for number in asked.from..asked.from + count {
        let ours = format!("{:016x}", run(number, asked, false).hash);
        if theirs.get(&number) == Some(&ours) {
            passed += 1;
        } else {
            failed += 1;
            println!("seed {number}: {ours} here, {:?} in a second process", theirs.get(&number));
        }
    }
    println!("twice: {passed} passed, {failed} failed");
    failed == 0
}
