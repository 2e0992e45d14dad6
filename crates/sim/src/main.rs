//! How it breaks: the simulator, the other host of the same node and store. One seed is one world and always the same one.
//!
//! ```text
//! fireside-sim --seeds 1000 [--from 0] [--scenario NAME] [--jobs 2]
//! fireside-sim --seed 17 [--scenario NAME] [--trace]
//! fireside-sim twice --seeds 20
//! fireside-sim mutants [--only NAME]
//! ```

mod check;
mod client;
#[cfg(test)]
mod conform;
mod disk;
mod executor;
mod keys;
mod link;
mod log;
mod mutants;
mod plan;
mod producer;
mod provider;
mod scenarios;
mod seed;
mod seeds;
mod told;
mod trace;
mod world;

use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock that a panic elsewhere does not take away.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    what: String,
    seeds: Option<u64>,
    from: u64,
    seed: Option<u64>,
    scenario: Option<String>,
    only: Option<String>,
    jobs: usize,
    trace: bool,
    hashes: bool,
    /// Stop at the first seed that fails.
    first: bool,
}

impl Asked {
    fn read(words: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut asked = Asked { jobs: 2, ..Asked::default() };
        let mut words = words.peekable();
        if let Some(word) = words.next_if(|word| !word.starts_with("--")) {
            asked.what = word;
        }
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
            match word.as_str() {
                "--seeds" => asked.seeds = Some(number(value()?)?),
                "--from" => asked.from = number(value()?)?,
                "--seed" => asked.seed = Some(number(value()?)?),
                "--jobs" => asked.jobs = number(value()?)?.clamp(1, 64) as usize,
                "--scenario" => asked.scenario = Some(value()?),
                "--only" => asked.only = Some(value()?),
                "--trace" => asked.trace = true,
                "--hashes" => asked.hashes = true,
                "--first" => asked.first = true,
                other => return Err(format!("what is {other}?")),
            }
        }
        let known = |name: &String| scenarios::ALL.iter().any(|(one, _)| one == name);
        match &asked.scenario {
            Some(name) if !known(name) => Err(format!("there is no scenario {name}")),
            _ => Ok(asked),
        }
    }
}

fn main() -> ExitCode {
    let asked = match Asked::read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("fireside-sim: {why}");
            return ExitCode::from(2);
        }
    };
    let passed = match (asked.what.as_str(), asked.seed) {
        ("", Some(seed)) => seeds::one(seed, &asked),
        ("", None) => seeds::many(&asked),
        ("twice", _) => seeds::twice(&asked),
        ("mutants", _) => mutants::all(&asked),
        (other, _) => {
            eprintln!("fireside-sim: what is {other}?");
            return ExitCode::from(2);
        }
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
