//! `fireside check`: says that the configuration is good, what should be known about it, and the limits that hold.

use std::fmt::Write;
use std::path::Path;

use fireside_core::limits;

use crate::config::{Config, DEFAULT_FILE, format_size, format_time};

/// The report on a configuration that passed.
pub(super) fn report(config: &Config, named: Option<&Path>) -> String {
    let file = named.unwrap_or(Path::new(DEFAULT_FILE));
    let subject = if file.exists() { file.display().to_string() } else { "the defaults".to_owned() };
    let verdict = match config.warnings.len() {
        0 => "good".to_owned(),
        1 => "good, with 1 warning".to_owned(),
        n => format!("good, with {n} warnings"),
    };
    let mut out = format!("{subject}: {verdict}\n");
    for warning in &config.warnings {
        // Writing to a String does not fail, here and below.
        let _ = writeln!(out, "warning: {warning}");
    }
    for (title, rows) in [("configured", configured(config)), ("fixed", fixed())] {
        let _ = writeln!(out, "\nlimits, {title}");
        for (what, value) in rows {
            let _ = writeln!(out, "  {what:<48}{value}");
        }
    }
    out
}

fn configured(config: &Config) -> Vec<(&'static str, String)> {
    let session = &config.session;
    let size = |bytes: usize| format_size(bytes as u64);
    vec![
        ("sessions", session.sessions_max.to_string()),
        ("subscriptions of one session", session.subscriptions_max.to_string()),
        (
            "commands of one session",
            format!("{} a second, {} at once", session.commands_per_second, session.commands_burst),
        ),
        ("bytes owed to one session", size(session.outbox_bytes_max)),
        ("body of one record", size(session.record_bytes_max)),
        ("time between two pings", format_time(u64::from(session.ping_s) * 1_000)),
        ("time for the answer", format_time(u64::from(session.pong_timeout_s) * 1_000)),
        ("life of a token", format_time(config.token.lifetime_max_s * 1_000)),
    ]
}

fn fixed() -> Vec<(&'static str, String)> {
    let size = |bytes: usize| format_size(bytes as u64);
    vec![
        ("name of a channel", size(limits::CHANNEL_NAME_BYTES_MAX)),
        ("id of a user", size(limits::USER_BYTES_MAX)),
        ("token", size(limits::TOKEN_BYTES_MAX)),
        ("info of a token", size(limits::INFO_BYTES_MAX)),
        ("capabilities of a token", limits::CAPS_MAX.to_string()),
        ("names in one capability", limits::CAP_NAMES_MAX.to_string()),
        ("publish key", size(limits::KEY_BYTES_MAX)),
        ("conflation key", size(limits::CONFLATE_BYTES_MAX)),
        ("tags of one record", limits::TAGS_MAX.to_string()),
        ("name or value of a tag", size(limits::TAG_BYTES_MAX)),
        ("nesting of a JSON body", limits::JSON_DEPTH_MAX.to_string()),
        ("commands in one frame", limits::FRAME_COMMANDS_MAX.to_string()),
        ("publishes of one session without an answer", limits::SESSION_PENDING_MAX.to_string()),
        (
            "publishes that wait in one channel",
            format!("{}, {}", limits::WAITING_PUBLISHES_MAX, size(limits::WAITING_BYTES_MAX)),
        ),
        (
            "one page of history",
            format!("{} records, {}", limits::PAGE_RECORDS_MAX, size(limits::PAGE_BYTES_MAX)),
        ),
        (
            "keys that a channel remembers",
            format!("{}, for {}", limits::DEDUP_KEYS_MAX, format_time(limits::DEDUP_WINDOW_MS)),
        ),
        ("channels awake at once", limits::CHANNELS_AWAKE_MAX.to_string()),
        ("members in one answer of presence", limits::PRESENCE_MAX.to_string()),
        ("open runs of one channel", limits::OPEN_RUNS_MAX.to_string()),
        ("input of ai.start", size(limits::RUN_INPUT_BYTES_MAX)),
        (
            "channel in a prompt",
            format!("{} records, {}", limits::RUN_PROMPT_RECORDS_MAX, size(limits::RUN_PROMPT_BYTES_MAX)),
        ),
        ("time until a connection is a session", format_time(limits::HANDSHAKE_MS_MAX)),
        ("time for an expired token's refresh", format_time(limits::EXPIRED_GRACE_MS)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn the_report_says_what_holds() {
        let all = Sources {
            env: vec![
                ("FIRESIDE_SESSION__OUTBOX_BYTES_MAX".to_owned(), "2 MiB".to_owned()),
                ("FIRESIDE_DEV__INSECURE".to_owned(), "true".to_owned()),
                ("FIRESIDE_NAMESPACE__DEFAULT".to_owned(), "{}".to_owned()),
            ],
            ..Sources::default()
        };
        let report = report(&Config::load(&all).unwrap(), Some(Path::new("/no/such/file")));
        assert!(
            report.starts_with(
                "the defaults: good, with 1 warning\nwarning: dev.insecure = true: every client may do everything\n\nlimits, configured\n"
            ),
            "{report}"
        );
        let line = |what: &str| report.lines().find(|l| l.trim_start().starts_with(what)).unwrap().to_owned();
        assert!(line("bytes owed to one session").ends_with(" 2 MiB"));
        assert!(line("one page of history").ends_with(" 300 records, 256 KiB"));
        assert!(report.lines().all(|line| line.len() < 120), "{report}");
    }
}
