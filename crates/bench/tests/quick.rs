//! The bench at a small scale: every line of the report is there, and what must be exact is.

use std::process::Command;

/// Every figure, by its beginning, and what it is compared with.
const ROWS: [(&str, &str); 10] = [
    ("Fan-out 1 → 20, memory, 1 in flight, µs CPU per delivery", "write loop"),
    ("Fan-out 1 → 20, ephemeral, 1 in flight, µs CPU per delivery", "write loop"),
    ("Fan-out 1 → 20, memory, 64 in flight, µs CPU per delivery", "write loop"),
    ("Fan-out 1 → 20, ephemeral, 64 in flight, µs CPU per delivery", "write loop"),
    ("Idle memory, nobody connected, MiB RSS", ""),
    ("Idle memory at 50 sessions, not subscribed, KiB RSS per session", ""),
    ("Idle memory at 50 sessions, each subscribed to one channel of 100, KiB RSS per session", ""),
    ("Durable publishes, 1 in flight, 1 connection and channel, acknowledged per second", "segment writer"),
    (
        "Durable publishes, 64 in flight, 8 connections and channels, acknowledged per second",
        "segment writer",
    ),
    (
        "Durable publishes, 512 in flight, 16 connections and channels, acknowledged per second",
        "segment writer",
    ),
];
/// What `--quick` publishes into each of the two fan-out channels: two runs of 30 with one in flight and of 640 with 64, and a tenth and
/// one more before each.
const PUBLISHED: u32 = 2 * (30 + 4 + 640 + 65);
const SUBSCRIBERS: u32 = 20;

#[test]
fn a_quick_run_reports_every_figure_and_counts_exactly() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_fireside-bench"));
    bench.arg("--quick");
    // `./verify` names the server that it built for all its parts; by hand the bench builds its own.
    if let Some(server) = std::env::var_os("FIRESIDE_BIN") {
        bench.arg("--server").arg(server);
    }
    let bench = bench.output().expect("the bench is built with its tests");
    let report = String::from_utf8_lossy(&bench.stdout);
    assert!(bench.status.success(), "{report}\n{}", String::from_utf8_lossy(&bench.stderr));

    let rows: Vec<&str> = report
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .map(|line| line.trim_matches('|'))
        .collect();
    assert_eq!(rows.len(), ROWS.len(), "{report}");
    for (row, (name, beside)) in rows.iter().zip(ROWS) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        assert!(cells[0].starts_with(name), "{row}\nshould be {name}");
        assert!(cells[1].contains(" [") && cells[1].ends_with(']'), "no spread in {row}");
        assert!(cells[2].starts_with(beside) && cells[2].is_empty() == beside.is_empty(), "{row}");
        assert_eq!(cells[3].is_empty(), beside.is_empty(), "{row}");
    }

    let deliveries = PUBLISHED * SUBSCRIBERS * 2;
    let proof = format!("Checked: {deliveries} deliveries to {SUBSCRIBERS} subscribers of either channel");
    assert!(report.contains(&proof), "{report}\nshould say: {proof}");
    assert!(report.contains(&format!("the last offset of everybody is {PUBLISHED}.")), "{report}");
    assert!(report.contains("the log holds exactly these"), "{report}");
}
