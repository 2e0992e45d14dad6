//! Runs: every one ends, once, whatever goes away in the middle.

use std::sync::Arc;

use fireside_core::command::{CancelRun, Command};
use fireside_core::{Disconnect, Reply, limits};
use fireside_node::Settings;
use fireside_node::ports::{LogFault, PartKind};

use crate::host::{Client, MemoryLog, Outcome, Shown, World, namespaces};

/// The ends of runs in a channel: their bodies.
fn ends(log: &MemoryLog, channel: &str) -> Vec<serde_json::Value> {
    let records = log.records(channel).into_iter();
    let bodies = records.filter_map(|(_, body)| serde_json::from_str(&body).ok());
    bodies.filter(|body: &serde_json::Value| body["type"] == "run.end").collect()
}

fn run_of(client: &Client, asked: u32) -> Arc<str> {
    match client.reply(asked) {
        Some(Reply::RunStarted { run, .. }) => run,
        other => panic!("not started: {other:?}"),
    }
}

#[test]
fn i10_settled_a_run_goes_on_when_its_starter_leaves_in_the_middle_of_the_start() {
    for held in ["append fireside:runs", "append story:1"] {
        let world = World::new();
        let mut anna = world.client("anna");
        world.log.hold(held);
        anna.start_run("story:1", "a-key");
        world.run();
        world.node.disconnect("anna", None, &[], &Disconnect::FORCE_NO_RECONNECT);
        world.run();
        assert!(anna.closed().is_some());
        world.log.release(held);
        world.run();
        world.model.say("Once.");
        world.model.finish();
        world.run();
        let ends = ends(&world.log, "story:1");
        assert_eq!(ends.len(), 1, "{held}");
        assert_eq!(ends[0]["text"], "Once.");
    }
}

#[test]
fn a_cancel_reaches_a_run_as_soon_as_its_start_can_be_seen() {
    let world = World::new();
    let mut anna = world.client("anna");
    let mut ben = world.client("ben|story:1");
    world.log.hold("append story:1");
    let asked = anna.start_run("story:1", "a-key");
    world.run();
    world.log.release("append story:1");
    let run = loop {
        // Only the channel's own task runs, until ben sees the start.
        let seen = ben.shown().into_iter().find_map(|shown| match shown {
            Shown::Record(_, _, body) => serde_json::from_str::<serde_json::Value>(&body).ok(),
            _ => None,
        });
        match seen {
            Some(body) => break body["run"].as_str().unwrap().to_owned(),
            None => world.tasks.poll(world.tasks.ready()[0]),
        }
    };
    let starter = world.tasks.ready();
    let cancelled = ben.send(Command::CancelRun(CancelRun {
        channel: "story:1".to_owned(),
        run: Some(run),
        ..CancelRun::default()
    }));
    world.tasks.run_but(&starter);
    assert!(matches!(ben.reply(cancelled), Some(Reply::RunCancelled { status: "cancelled" })));
    world.run();
    run_of(&anna, asked);
    assert_eq!(ends(&world.log, "story:1")[0]["status"], "cancelled");
}

#[test]
fn i8_bounded_no_text_makes_the_end_of_a_run_larger_than_a_quarter_of_an_outbox() {
    let quarter = Settings::default().outbox_bytes_max / 4;
    let control = "\u{1}".repeat(limits::RUN_TEXT_BYTES_MAX / 4);
    for hostile in ["escapes", "parts", "fault"] {
        let world = World::new();
        let mut anna = world.client("anna");
        let reader = world.client("reader|story:1");
        anna.start_run("story:1", "a-key");
        world.run();
        match hostile {
            "escapes" => (0..4).for_each(|_| world.model.say(&control)),
            "parts" => (0..10_000).for_each(|n| {
                let kind = if n % 2 == 0 { PartKind::Text } else { PartKind::Reasoning };
                world.model.say_as(kind, "x");
            }),
            _ => world.model.fail("x".repeat(quarter)),
        }
        world.model.finish();
        world.run();
        let records = world.log.records("story:1");
        let end = &records.last().unwrap().1;
        assert!(end.contains(r#""type":"run.end""#), "{hostile}");
        assert!(end.len() <= quarter, "{hostile}: {} bytes", end.len());
        if hostile != "fault" {
            assert!(end.contains(r#""status":"budget""#), "{hostile}");
        }
        reader.leave();
    }
}

/// A log that bears one open run, and the run's id.
fn left_open() -> (MemoryLog, Arc<str>) {
    let world = World::new();
    let mut anna = world.client("anna");
    let asked = anna.start_run("story:1", "a-key");
    world.run();
    world.model.say("Once");
    world.run();
    ((*world.log).clone(), run_of(&anna, asked))
}

#[test]
fn i10_settled_a_run_that_an_earlier_life_left_open_ends_once() {
    let (log, _) = left_open();
    let world = World::on(Arc::new(log), namespaces(), Settings::default());
    let ends = ends(&world.log, "story:1");
    assert_eq!(ends.len(), 1);
    assert_eq!((ends[0]["status"].as_str(), ends[0]["text"].as_str()), (Some("interrupted"), Some("Once")));
    assert_eq!(world.facts.count("RunEnded"), 1);
    assert_eq!(world.log.calls("append fireside:runs").len(), 2, "the list is told of the end once");
}

#[test]
fn i10_settled_a_run_whose_log_cannot_be_woken_ends_all_the_same() {
    let (log, run) = left_open();
    let damaged = LogFault::Failed(Arc::from("damaged"));
    for _ in 0..100 {
        log.script(&format!("wake story:1/run/{run}"), Outcome::Fails(damaged.clone()));
    }
    let world = World::on(Arc::new(log), namespaces(), Settings::default());
    world.pass_ms(2_000);
    let ends = ends(&world.log, "story:1");
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0]["status"], "interrupted");
}

#[test]
fn i10_settled_a_list_that_cannot_be_read_to_its_end_is_kept() {
    let world = World::new();
    let mut anna = world.client("anna");
    for n in 0..200 {
        anna.start_run(&format!("story:{n}"), "a-key");
        world.run();
        world.model.finish();
        world.run();
    }
    anna.start_run("story:200", "a-key");
    world.run();
    let log = (*world.log).clone();
    log.script("read fireside:runs", Outcome::Works);
    log.script("read fireside:runs", Outcome::Fails(LogFault::Failed(Arc::from("for once"))));
    World::on(Arc::new(log.clone()), namespaces(), Settings::default());
    assert_eq!(ends(&log, "story:200").len(), 0, "what was not read is not known");
    let world = World::on(Arc::new(log.clone()), namespaces(), Settings::default());
    assert_eq!(ends(&world.log, "story:200").len(), 1);
}

#[test]
fn a_cancel_before_its_start_is_kept_over_a_restart_for_its_minute() {
    for (waited_ms, status) in [(0, "cancelled"), (59_000, "cancelled"), (61_000, "complete")] {
        let world = World::new();
        let mut anna = world.client("anna");
        let asked = anna.send(Command::CancelRun(CancelRun {
            channel: "story:1".to_owned(),
            key: Some("a-key".to_owned()),
            reason: "never mind".to_owned(),
            ..CancelRun::default()
        }));
        world.run();
        assert!(matches!(anna.reply(asked), Some(Reply::RunCancelled { status: "remembered" })));
        // Two lives: the list begins anew with each.
        let world = World::on(Arc::new((*world.log).clone()), namespaces(), Settings::default());
        let world = World::on(Arc::new((*world.log).clone()), namespaces(), Settings::default());
        world.pass_ms(waited_ms);
        let mut anna = world.client("anna");
        anna.start_run("story:1", "a-key");
        world.model.say("Once.");
        world.model.finish();
        world.run();
        let ends = ends(&world.log, "story:1");
        assert_eq!((ends.len(), ends[0]["status"].as_str()), (1, Some(status)), "{waited_ms}");
        if status == "cancelled" {
            assert_eq!(
                (ends[0]["by"].as_str(), ends[0]["reason"].as_str()),
                (Some("anna"), Some("never mind"))
            );
        }
    }
}

#[test]
fn a_cancel_that_cannot_be_kept_is_refused_and_forgotten() {
    let world = World::new();
    let mut anna = world.client("anna");
    world.log.script("append fireside:runs", Outcome::Fails(LogFault::Full));
    let asked = anna.send(Command::CancelRun(CancelRun {
        channel: "story:1".to_owned(),
        key: Some("a-key".to_owned()),
        ..CancelRun::default()
    }));
    world.run();
    assert!(anna.shown().contains(&Shown::Refused(asked, 507)));
    anna.start_run("story:1", "a-key");
    world.model.finish();
    world.run();
    assert_eq!(ends(&world.log, "story:1")[0]["status"], "complete");
}
