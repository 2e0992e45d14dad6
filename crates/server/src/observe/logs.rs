//! Facts as lines for people, and where all lines of the program go.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fireside_core::{Fact, Facts};
use tracing::{debug, info, warn};
use tracing_subscriber::EnvFilter;

/// Lines about one trouble in one window; the rest is counted.
const FAULTS_PER_WINDOW: u32 = 5;
/// The window.
const FAULT_WINDOW: Duration = Duration::from_secs(10);

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSetupFault {
    /// The level is none of `error warn info debug trace off`, nor a list as `info,fireside_store=debug`; the text says where.
    Level(String),
    /// Somebody has set it up already.
    Twice,
}

impl fmt::Display for LogSetupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogSetupFault::Level(why) => {
                write!(f, "--log takes error, warn, info, debug, trace, off or a list of target=level: {why}")
            }
            LogSetupFault::Twice => f.write_str("logging is set up already"),
        }
    }
}

impl std::error::Error for LogSetupFault {}

/// Sends every line of the program to stderr, from `level` on.
///
/// # Errors
/// The level makes no sense, or this was called before.
pub fn init(level: &str, format: LogFormat) -> Result<(), LogSetupFault> {
    let filter = filter(level)?;
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        lines.try_init()
    };
    set.map_err(|_| LogSetupFault::Twice)
}

/// A single level is ours alone: what libraries say below a warning may be anything, a request's head included.
fn filter(level: &str) -> Result<EnvFilter, LogSetupFault> {
    let level = level.trim();
    let directives = match tracing_subscriber::filter::LevelFilter::from_str(level) {
        Ok(_) if level.is_empty() => return Err(LogSetupFault::Level("it is empty".into())),
        Ok(ours) => format!("{},fireside={ours}", ours.min(tracing_subscriber::filter::LevelFilter::WARN)),
        Err(_) => level.to_owned(),
    };
    EnvFilter::try_new(directives).map_err(|why| LogSetupFault::Level(why.to_string()))
}

/// Logs who comes and goes and what is refused at `debug`, runs at `info`, and what fails at `warn`, a few at a time.
#[derive(Debug, Default)]
pub struct FactLog {
    faults: Mutex<Sampler>,
}

impl Facts for FactLog {
    fn say(&self, fact: Fact) {
        match fact {
            // Ids are written as quoted text: they may hold anything, line breaks included.
            Fact::Connected { user, client } => debug!(target: "fireside", ?user, ?client, "connected"),
            Fact::Disconnected { client, code } => debug!(target: "fireside", ?client, code, "disconnected"),
            Fact::Subscribed { channel } => debug!(target: "fireside", %channel, "subscribed"),
            Fact::Unsubscribed { channel } => debug!(target: "fireside", %channel, "unsubscribed"),
            Fact::Refused { op, code, user } => {
                debug!(target: "fireside", op, code = code.number(), why = code.words(), ?user, "refused");
            }
            Fact::RunStarted => info!(target: "fireside", "run started"),
            Fact::RunEnded { status } => info!(target: "fireside", status, "run ended"),
            Fact::LogFault { what } => {
                let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(unsaid) = faults.admit(Instant::now()) {
                    warn!(target: "fireside", what, unsaid, "the log failed");
                }
            }
            Fact::AnswerUnusable { hook, what } => {
                let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(unsaid) = faults.admit(Instant::now()) {
                    warn!(target: "fireside", hook = hook.name(), what, unsaid, "the backend's answer cannot be used");
                }
            }
            Fact::Asked { outcome: "answered", .. } => {}
            Fact::Asked { hook, outcome, .. } => {
                let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(unsaid) = faults.admit(Instant::now()) {
                    warn!(target: "fireside", hook = hook.name(), outcome, unsaid, "the backend did not answer");
                }
            }
            // What happens per batch or per reader is for metrics.
            Fact::Appended { .. }
            | Fact::Duplicate
            | Fact::Delivered { .. }
            | Fact::Detached
            | Fact::Dropped { .. }
            | Fact::PageRead { .. } => {}
        }
    }
}

/// Lets a few through in each window and counts the rest.
#[derive(Debug, Default)]
struct Sampler {
    began: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Sampler {
    /// Whether to say this one, and how many were not said since the last one that was.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= FAULT_WINDOW) {
            self.began = Some(now);
            self.said = 0;
        }
        if self.said == FAULTS_PER_WINDOW {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use fireside_core::{ChannelName, Code};

    use super::*;

    #[test]
    fn a_level_is_ours_and_libraries_stay_quiet() {
        assert_eq!(filter("debug").unwrap().to_string(), "fireside=debug,warn");
        assert_eq!(filter("OFF").unwrap().to_string(), "fireside=off,off");
        assert_eq!(filter("error").unwrap().to_string(), "fireside=error,error");
        assert_eq!(filter("info,fireside_store=trace").unwrap().to_string(), "fireside_store=trace,info");
        for wrong in ["", " ", "fireside=loud", "a=b=c"] {
            assert!(matches!(filter(wrong), Err(LogSetupFault::Level(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_flood_of_faults_is_counted_and_not_written() {
        let (mut sampler, start) = (Sampler::default(), Instant::now());
        let said = (0..1000).filter_map(|_| sampler.admit(start)).collect::<Vec<_>>();
        assert_eq!(said, [0; FAULTS_PER_WINDOW as usize]);
        assert_eq!(sampler.admit(start + FAULT_WINDOW), Some(995));
        assert_eq!(sampler.admit(start + FAULT_WINDOW), Some(0));
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines_at(level: &str, facts: Vec<Fact>) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(level).unwrap())
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let log = FactLog::default();
            facts.into_iter().for_each(|fact| log.say(fact));
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_written_depends_on_the_level() {
        let facts = || {
            vec![
                Fact::Connected { user: "anna\nroot".into(), client: "c1".into() },
                Fact::Subscribed { channel: ChannelName::parse("story:1").unwrap() },
                Fact::Refused { op: "publish", code: Code::PermissionDenied, user: "anna".into() },
                Fact::Delivered { records: 1 },
                Fact::RunEnded { status: "complete" },
                Fact::LogFault { what: "full" },
            ]
        };
        let all = lines_at("debug", facts());
        assert_eq!(all.len(), 5, "{all:?}");
        assert!(all[0].contains(r#"connected user="anna\nroot" client="c1""#), "{}", all[0]);
        assert!(all[2].contains("op=\"publish\" code=103 why=\"permission denied\""), "{}", all[2]);
        assert!(
            all[4].contains("WARN") && all[4].contains("the log failed what=\"full\" unsaid=0"),
            "{}",
            all[4]
        );
        assert_eq!(lines_at("warn", facts()).len(), 1);
        assert_eq!(lines_at("off", facts()).len(), 0);
    }
}
