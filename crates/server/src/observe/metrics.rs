//! Facts as numbers for Prometheus.
//!
//! What happens per batch is one or two relaxed atomic additions; only rare facts with labels look up a family.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fireside_core::{Code, Fact, Facts};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};

/// One label's name and its value.
type Labels<const N: usize> = [(&'static str, String); N];
type Labelled<const N: usize> = Family<Labels<N>, Counter>;

/// The numbers of one node.
pub struct Metrics {
    registry: Registry,
    sessions: Gauge,
    connects: Counter,
    disconnects: Labelled<1>,
    subscriptions: Gauge,
    subscribes: Counter,
    refusals: Labelled<2>,
    appends: Latency,
    appended_records: Counter,
    appended_bytes: Counter,
    duplicates: Counter,
    delivered_records: Counter,
    detaches: Counter,
    dropped_entries: Counter,
    page_reads: Counter,
    page_records: Counter,
    runs_started: Counter,
    runs_ended: Labelled<1>,
    log_faults: Labelled<1>,
    hooks: Labelled<2>,
    hook_seconds: Family<Labels<1>, Latency>,
    hook_answers_unusable: Labelled<1>,
}

impl Metrics {
    /// All families, registered; `version` is shown as `fireside_build_info`.
    pub fn new(version: &'static str) -> Self {
        let mut registry = Registry::with_prefix("fireside");
        let r = &mut registry;
        let build: Family<Labels<1>, Gauge> = family(r, "build_info", "The version that runs");
        build.get_or_create(&[("version", version.to_owned())]).set(1);
        let metrics = Metrics {
            sessions: family(r, "sessions", "Sessions that are open"),
            connects: family(r, "connects", "Sessions that began"),
            disconnects: family(r, "disconnects", "Sessions that ended, by close code"),
            subscriptions: family(r, "subscriptions", "Subscriptions that are open"),
            subscribes: family(r, "subscribes", "Subscriptions that began"),
            refusals: family(
                r,
                "refusals",
                "Commands and calls that were refused, by what was asked and error code",
            ),
            appends: family(
                r,
                "append_seconds",
                "Time from a batch's proposal to the answer of the log, in seconds",
            ),
            appended_records: family(r, "appended_records", "Records that were appended to the log"),
            appended_bytes: family(r, "appended_bytes", "Cost of the appended records, in bytes"),
            duplicates: family(r, "duplicates", "Publishes that were answered by their known key"),
            delivered_records: family(
                r,
                "delivered_records",
                "Records handed to readers, readers times records",
            ),
            detaches: family(r, "detaches", "Times that a slow reader was sent back to the log"),
            dropped_entries: family(r, "dropped_entries", "Ephemeral entries dropped for slow readers"),
            page_reads: family(r, "page_reads", "Pages read from the log for readers that were behind"),
            page_records: family(r, "page_records", "Records in those pages"),
            runs_started: family(r, "runs_started", "Runs that began"),
            runs_ended: family(r, "runs_ended", "Runs that ended, by status"),
            log_faults: family(r, "log_faults", "Times that the log failed or refused, by what it said"),
            hooks: family(r, "hooks", "Questions to the backend, by hook and outcome"),
            hook_seconds: family(
                r,
                "hook_seconds",
                "Time from a question to its outcome, by hook, in seconds",
            ),
            hook_answers_unusable: family(
                r,
                "hook_answers_unusable",
                "Answers that could not be used, by hook",
            ),
            registry,
        };
        // A rate needs a beginning: what is expected to happen stands at 0 from the start.
        for status in ["complete", "cancelled", "error", "interrupted", "budget", "moderated"] {
            drop(metrics.runs_ended.get_or_create(&[("status", status.to_owned())]));
        }
        metrics
    }

    /// Everything in Prometheus's text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut open_metrics = String::with_capacity(8 * 1024);
        let encoded = prometheus_client::encoding::text::encode_registry(&mut open_metrics, &self.registry);
        debug_assert!(encoded.is_ok(), "writing to a string does not fail");
        let mut text = as_text_format(&open_metrics);
        process(&mut text);
        text
    }
}

impl Facts for Metrics {
    fn say(&self, fact: Fact) {
        match fact {
            Fact::Connected { .. } => {
                self.connects.inc();
                self.sessions.inc();
            }
            Fact::Disconnected { code, .. } => {
                self.sessions.dec();
                self.disconnects.get_or_create(&[("code", close_code(code))]).inc();
            }
            Fact::Subscribed { .. } => {
                self.subscribes.inc();
                self.subscriptions.inc();
            }
            Fact::Unsubscribed { .. } => {
                self.subscriptions.dec();
            }
            Fact::Refused { op, code, .. } => {
                self.refusals.get_or_create(&refusal(op, code)).inc();
            }
            Fact::Appended { records, bytes, append_us } => {
                self.appends.observe(append_us);
                self.appended_records.inc_by(records.into());
                self.appended_bytes.inc_by(bytes.into());
            }
            Fact::Duplicate => {
                self.duplicates.inc();
            }
            Fact::Delivered { records } => {
                self.delivered_records.inc_by(records);
            }
            Fact::Detached => {
                self.detaches.inc();
            }
            Fact::Dropped { entries } => {
                self.dropped_entries.inc_by(entries.into());
            }
            Fact::PageRead { records } => {
                self.page_reads.inc();
                self.page_records.inc_by(records.into());
            }
            Fact::RunStarted => {
                self.runs_started.inc();
            }
            Fact::RunEnded { status } => {
                self.runs_ended.get_or_create(&[("status", status.to_owned())]).inc();
            }
            Fact::Asked { hook, outcome, took_us } => {
                let hook = [("hook", hook.name().to_owned())];
                self.hook_seconds.get_or_create(&hook).observe(took_us);
                let [hook] = hook;
                self.hooks.get_or_create(&[hook, ("outcome", outcome.to_owned())]).inc();
            }
            Fact::AnswerUnusable { hook, .. } => {
                self.hook_answers_unusable.get_or_create(&[("hook", hook.name().to_owned())]).inc();
            }
            Fact::LogFault { what } => {
                self.log_faults.get_or_create(&[("what", what.to_owned())]).inc();
            }
        }
    }
}

fn family<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// A close code as a label. Ours are told one by one; those that a backend or a client chose, by their thousand: labels are bounded.
fn close_code(code: u16) -> String {
    match code {
        3000..3600 => code.to_string(),
        _ => format!("{}xxx", code / 1000),
    }
}

/// The codes that a backend makes up are one: labels are bounded.
fn refusal(op: &'static str, code: Code) -> Labels<2> {
    let code = if let Code::Backend { .. } = code { "backend".to_owned() } else { code.number().to_string() };
    [("op", op.to_owned()), ("code", code)]
}

// ----------------------------------------------------------------------------------------------------------- latency

/// Upper bounds in µs; what is above all of them is counted apart.
const BOUNDS_US: [u64; 15] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000,
];

/// A histogram without a lock: prometheus-client's own takes one for each observation.
#[derive(Clone, Debug, Default)]
struct Latency(Arc<LatencyCounts>);

#[derive(Debug, Default)]
struct LatencyCounts {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    fn observe(&self, us: u64) {
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.0.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let counts = self.0.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        // Counted from what was just read, so that the last bucket and the count agree.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.0.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

// ------------------------------------------------------------------------------------------------------- text format

/// OpenMetrics as the older text format, which every tool reads: there a counter's family bears `_total` as its samples do.
fn as_text_format(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 512);
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let described = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '));
        let typed = |line: &&str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        match described {
            Some((name, help)) if lines.next_if(typed).is_some() => {
                let _ = writeln!(text, "# HELP {name}_total {help}\n# TYPE {name}_total counter");
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// What the system knows of this process, under the names that every dashboard expects. Left out where there is no /proc.
fn process(text: &mut String) {
    let mut gauge = |name: &str, help: &str, value: u64| {
        let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}");
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    if let Some(kilobytes) = resident {
        let bytes: u64 = kilobytes;
        gauge("process_resident_memory_bytes", "Resident memory in bytes", bytes.saturating_mul(1024));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // Reading the directory holds one open itself.
        gauge("process_open_fds", "Open file descriptors", open.count().saturating_sub(1) as u64);
    }
}

#[cfg(test)]
mod tests {
    use fireside_core::{ChannelName, Hook};

    use super::*;

    fn has(metrics: &Metrics, line: &str) {
        let text = metrics.render();
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }

    fn all_facts() -> Vec<Fact> {
        let channel = ChannelName::parse("a").unwrap();
        vec![
            Fact::Connected { user: "anna".into(), client: "c1".into() },
            Fact::Connected { user: "anna".into(), client: "c2".into() },
            Fact::Disconnected { client: "c1".into(), code: 3001 },
            Fact::Subscribed { channel: channel.clone() },
            Fact::Subscribed { channel: channel.clone() },
            Fact::Unsubscribed { channel },
            Fact::Refused { op: "publish", code: Code::PermissionDenied, user: "anna".into() },
            Fact::Appended { records: 3, bytes: 700, append_us: 250 },
            Fact::Appended { records: 1, bytes: 300, append_us: 3_000_000 },
            Fact::Duplicate,
            Fact::Delivered { records: 1000 },
            Fact::Detached,
            Fact::Dropped { entries: 4 },
            Fact::PageRead { records: 300 },
            Fact::RunStarted,
            Fact::RunEnded { status: "complete" },
            Fact::LogFault { what: "full" },
            Fact::Asked { hook: Hook::Publish, outcome: "answered", took_us: 300 },
            Fact::Asked { hook: Hook::Publish, outcome: "timeout", took_us: 1_000_000 },
            Fact::AnswerUnusable { hook: Hook::Publish, what: "data is too large" },
        ]
    }

    #[test]
    fn every_fact_is_counted_where_it_belongs() {
        let metrics = Metrics::new("1.2.3");
        all_facts().into_iter().for_each(|fact| metrics.say(fact));
        for line in [
            "fireside_build_info{version=\"1.2.3\"} 1",
            "fireside_sessions 1",
            "fireside_connects_total 2",
            "fireside_disconnects_total{code=\"3001\"} 1",
            "fireside_subscriptions 1",
            "fireside_subscribes_total 2",
            "fireside_refusals_total{op=\"publish\",code=\"103\"} 1",
            "fireside_append_seconds_bucket{le=\"0.0001\"} 0",
            "fireside_append_seconds_bucket{le=\"0.00025\"} 1",
            "fireside_append_seconds_bucket{le=\"2.5\"} 1",
            "fireside_append_seconds_bucket{le=\"+Inf\"} 2",
            "fireside_append_seconds_count 2",
            "fireside_append_seconds_sum 3.00025",
            "fireside_appended_records_total 4",
            "fireside_appended_bytes_total 1000",
            "fireside_duplicates_total 1",
            "fireside_delivered_records_total 1000",
            "fireside_detaches_total 1",
            "fireside_dropped_entries_total 4",
            "fireside_page_reads_total 1",
            "fireside_page_records_total 300",
            "fireside_runs_started_total 1",
            "fireside_runs_ended_total{status=\"complete\"} 1",
            "fireside_runs_ended_total{status=\"error\"} 0",
            "fireside_log_faults_total{what=\"full\"} 1",
            "fireside_hooks_total{hook=\"publish\",outcome=\"timeout\"} 1",
            "fireside_hook_seconds_bucket{le=\"0.0005\",hook=\"publish\"} 1",
            "fireside_hook_seconds_count{hook=\"publish\"} 2",
            "fireside_hook_answers_unusable_total{hook=\"publish\"} 1",
        ] {
            has(&metrics, line);
        }
    }

    #[test]
    fn families_are_described_under_the_name_of_their_samples() {
        let metrics = Metrics::new("1");
        all_facts().into_iter().for_each(|fact| metrics.say(fact));
        let text = metrics.render();
        let described: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert!(
            described.contains(&"fireside_connects_total") && described.contains(&"fireside_append_seconds")
        );
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(described.contains(&family), "{line}");
        }
        assert!(!text.contains("EOF"));
        if cfg!(target_os = "linux") {
            assert!(
                described.contains(&"process_resident_memory_bytes")
                    && described.contains(&"process_open_fds")
            );
        }
    }

    #[test]
    fn i8_what_others_choose_does_not_grow_the_labels() {
        let metrics = Metrics::new("1");
        for code in 0..=u16::MAX {
            metrics.say(Fact::Disconnected { client: "c".into(), code });
        }
        let lines =
            metrics.render().lines().filter(|line| line.starts_with("fireside_disconnects_total{")).count();
        assert!(lines <= 600 + 66, "{lines}");
    }

    #[test]
    fn i12_nobody_is_named() {
        let metrics = Metrics::new("1");
        all_facts().into_iter().for_each(|fact| metrics.say(fact));
        assert!(!metrics.render().contains("anna"));
    }
}
