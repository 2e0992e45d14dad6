//! A circuit breaker: when a backend fails over and over, questions fail at once, and one at a time tries whether it is back.
//!
//! It reads no clock: `now_ms` is any clock that never goes back.

/// Failures in a row after which it opens.
const FAILURES_MAX: u32 = 5;
/// How long it stays open the first time, in ms; after each probe that failed twice as long.
const WAIT_MS: u64 = 1_000;
/// How long at most, in ms.
const WAIT_MS_MAX: u64 = 30_000;

/// Whether a backend is worth asking.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    /// In a row.
    failures: u32,
    /// Set while it is open.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until_ms: u64,
    wait_ms: u64,
    /// A probe is under way.
    probing: bool,
}

/// How a question may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Like any other.
    Plain,
    /// The one that finds out whether the backend is back.
    Probe,
}

impl Circuit {
    /// May a question be asked now? `None`: it fails at once.
    pub(super) fn admit(&mut self, now_ms: u64) -> Option<Pass> {
        match &mut self.open {
            None => Some(Pass::Plain),
            Some(open) if open.probing || now_ms < open.until_ms => None,
            Some(open) => {
                open.probing = true;
                Some(Pass::Probe)
            }
        }
    }

    /// The backend answered.
    pub(super) fn answered(&mut self) {
        *self = Circuit::default();
    }

    /// It did not. True if this opened the circuit.
    pub(super) fn failed(&mut self, pass: Pass, now_ms: u64) -> bool {
        match (&mut self.open, pass) {
            (Some(open), Pass::Probe) => {
                let wait_ms = (open.wait_ms * 2).min(WAIT_MS_MAX);
                *open = Open { until_ms: now_ms + wait_ms, wait_ms, probing: false };
                false
            }
            // Asked before it opened: nothing new.
            (Some(_), Pass::Plain) => false,
            (None, _) => {
                self.failures += 1;
                let opens = self.failures >= FAILURES_MAX;
                if opens {
                    self.open = Some(Open { until_ms: now_ms + WAIT_MS, wait_ms: WAIT_MS, probing: false });
                }
                opens
            }
        }
    }

    /// Whoever asked went away before there was an answer: that proves nothing.
    pub(super) fn forgotten(&mut self, pass: Pass) {
        if let (Some(open), Pass::Probe) = (&mut self.open, pass) {
            open.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Circuit {
        let mut circuit = Circuit::default();
        for failure in 1..=FAILURES_MAX {
            assert_eq!(circuit.admit(0), Some(Pass::Plain));
            assert_eq!(circuit.failed(Pass::Plain, 0), failure == FAILURES_MAX);
        }
        circuit
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let mut circuit = Circuit::default();
        for _ in 0..100 {
            for _ in 1..FAILURES_MAX {
                circuit.failed(Pass::Plain, 0);
            }
            circuit.answered();
        }
        assert_eq!(circuit.admit(0), Some(Pass::Plain));
        assert_eq!(opened().admit(WAIT_MS - 1), None);
    }

    #[test]
    fn one_question_at_a_time_tries_whether_it_is_back() {
        let mut circuit = opened();
        assert_eq!(circuit.admit(WAIT_MS), Some(Pass::Probe));
        assert_eq!(circuit.admit(WAIT_MS), None, "one probe at a time");
        circuit.failed(Pass::Probe, WAIT_MS);
        assert_eq!(circuit.admit(2 * WAIT_MS), None, "it waits twice as long");
        assert_eq!(circuit.admit(3 * WAIT_MS), Some(Pass::Probe));
        circuit.answered();
        assert_eq!(circuit.admit(3 * WAIT_MS), Some(Pass::Plain));
    }

    #[test]
    fn the_wait_is_bounded() {
        let mut circuit = opened();
        let mut now_ms = WAIT_MS;
        for _ in 0..20 {
            assert_eq!(circuit.admit(now_ms), Some(Pass::Probe));
            circuit.failed(Pass::Probe, now_ms);
            now_ms += WAIT_MS_MAX;
        }
    }

    #[test]
    fn a_probe_whose_asker_left_blocks_nobody() {
        let mut circuit = opened();
        assert_eq!(circuit.admit(WAIT_MS), Some(Pass::Probe));
        circuit.forgotten(Pass::Probe);
        assert_eq!(circuit.admit(WAIT_MS), Some(Pass::Probe));
    }

    #[test]
    fn late_failures_do_not_make_it_wait_longer() {
        let mut circuit = opened();
        for _ in 0..10 {
            circuit.failed(Pass::Plain, WAIT_MS - 1);
        }
        assert_eq!(circuit.admit(WAIT_MS), Some(Pass::Probe));
    }
}
