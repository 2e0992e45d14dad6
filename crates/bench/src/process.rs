//! What the system says about a process: CPU time and resident memory.

use std::fs;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A process that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// CPU time so far, of all its threads, user and system, in µs. The system counts in steps of 10 ms.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu_us(self) -> Result<u64> {
        let stat = self.read("stat")?;
        // The second field is the program's name, which may hold anything; the rest follows its last parenthesis.
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("odd /proc stat")?.1.split_ascii_whitespace().collect();
        let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("odd /proc stat")?.parse()?) };
        let per_second = rustix::param::clock_ticks_per_second();
        Ok((ticks(11)? + ticks(12)?) * 1_000_000 / per_second)
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resident(self) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    fn read(self, what: &str) -> Result<String> {
        let path = format!("/proc/{}/{what}", self.0);
        fs::read_to_string(&path).with_context(|| format!("{path} cannot be read: has the process ended?"))
    }
}

/// Raises this process's limit of open files, which the server inherits, as far as it may be.
///
/// # Errors
/// It may not be raised to what `connections` need.
pub fn allow_many_files(connections: u32) -> Result<()> {
    // Three audiences of the same size are open at once.
    let need = u64::from(connections) * 3 + 200;
    let now = getrlimit(Resource::Nofile);
    let Some(current) = now.current else { return Ok(()) };
    if current >= need {
        return Ok(());
    }
    let raised = now.maximum.unwrap_or(need);
    if raised < need {
        bail!(
            "{need} open files are needed and {raised} allowed: ask for fewer connections, or raise `ulimit -Hn`"
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: now.maximum })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_time_and_memory() {
        let own = Process(std::process::id());
        let before = own.cpu_us().unwrap();
        let mut spent = 0u64;
        while own.cpu_us().unwrap() == before {
            spent = (0..100_000).fold(spent, |sum, n| std::hint::black_box(sum ^ n));
        }
        assert!(own.cpu_us().unwrap() > before);
        assert!(own.resident().unwrap() > 100 * 1024, "a test binary is not that small");
    }
}
