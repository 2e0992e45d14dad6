//! Sessions: connecting, following, falling behind, pinging, ending.

use fireside_core::event::Start;
use fireside_core::gate::{Principal, Rules};
use fireside_core::position::{Claimed, Epoch};
use fireside_core::{Code, Disconnect, Reply, limits};
use fireside_node::Settings;
use fireside_node::ports::LogFault;

use crate::host::{Client, Outcome, Shown, World, namespaces};

const EPOCH: Epoch = Epoch(1);

fn after(offset: u64) -> Option<Claimed> {
    Some(Claimed { epoch: Some(EPOCH), offset })
}

/// Publishes so many records, each in a batch of its own.
fn fill(world: &World, channel: &str, records: u64, body: &str) {
    let mut writer = world.client("writer");
    for _ in 0..records {
        writer.publish(channel, body, None);
        world.run();
    }
    writer.leave();
    world.run();
}

fn started(client: &Client, asked: u32) -> Box<Start> {
    match client.reply(asked) {
        Some(Reply::Subscribed(start)) => start,
        other => panic!("not subscribed: {other:?}"),
    }
}

#[test]
fn nothing_of_a_granted_channel_is_shown_before_the_connect_reply() {
    let world = World::new();
    world.log.hold("wake story:2");
    let anna = world.client("anna|story:1,story:2,live:1");
    fill(&world, "story:1", 1, "1");
    world.log.release("wake story:2");
    world.run();
    fill(&world, "live:1", 1, "2");
    let shown = anna.shown();
    assert_eq!(shown.first(), Some(&Shown::Connected), "{shown:?}");
    assert_eq!(anna.offsets("story:1"), [1]);
    assert_eq!(anna.offsets("live:1"), [0], "a reader stands in a shard once");
}

#[test]
fn a_reader_whose_position_goes_before_it_follows_is_no_member() {
    let world = World::new();
    fill(&world, "story:1", 100, "1");
    let mut anna = world.client("anna");
    world.log.hold("read story:1");
    anna.subscribe("story:1", after(0));
    world.run();
    let node = world.node.clone();
    world.tasks.add(async move {
        node.remove_history(&Principal::backend("test"), "story:1").await.unwrap();
    });
    world.run();
    world.log.release("read story:1");
    world.run();
    let members = world.node.presence(&Principal::backend("test"), "story:1").unwrap();
    let follows = world.facts.count("Subscribed") - world.facts.count("Unsubscribed");
    assert_eq!(members.len(), follows, "{:?}", anna.shown());
}

#[test]
fn i5_told_a_position_that_goes_while_it_is_read_is_not_recovered() {
    let world = World::new();
    fill(&world, "story:1", 100, "1");
    let mut anna = world.client("anna");
    world.log.script("read story:1", Outcome::Fails(LogFault::Gone));
    let asked = anna.subscribe("story:1", after(0));
    world.run();
    let start = started(&anna, asked);
    assert!(start.was_recovering && !start.recovered);
    assert_eq!(start.position.map(|position| position.offset), Some(100));
}

#[test]
fn a_reader_that_fell_behind_reads_on_as_soon_as_its_link_is_ready() {
    let world = World::with(namespaces(), Settings { outbox_bytes_max: 4_000, ..Settings::default() });
    let mut anna = world.client("anna");
    anna.subscribe("story:1", None);
    world.run();
    anna.room(Some(0));
    fill(&world, "story:1", 100, "1");
    anna.unready(1);
    anna.room(None);
    world.run();
    assert_eq!(anna.offsets("story:1"), (1..=100).collect::<Vec<_>>());
}

#[test]
fn subscriptions_that_fell_behind_take_turns() {
    let world = World::new();
    for channel in ["story:1", "story:2", "story:3"] {
        fill(&world, channel, 1_300, "1");
    }
    let mut anna = world.client("anna");
    anna.room(Some(0));
    for channel in ["story:1", "story:2", "story:3"] {
        anna.subscribe(channel, after(0));
    }
    world.run();
    let before = world.log.calls("read").len();
    anna.room(None);
    world.run();
    let turns: Vec<_> = world.log.calls("read")[before..].iter().take(6).cloned().collect();
    let mut first: Vec<_> = turns[..3].to_vec();
    first.sort();
    assert_eq!(first, ["read story:1", "read story:2", "read story:3"]);
    assert_eq!(turns[..3], turns[3..]);
}

#[test]
fn i8_bounded_who_reads_no_replies_is_asked_for_nothing_more() {
    let world = World::new();
    fill(&world, "story:1", 100, &format!("\"{}\"", "x".repeat(10_000)));
    let mut anna = world.client("anna");
    anna.room(Some(0));
    let asked: Vec<_> = (0..100).map(|_| anna.history("story:1")).collect();
    world.run();
    assert!(anna.unread() > 90, "{} of 100 wait", anna.unread());
    anna.room(None);
    world.run();
    assert_eq!(anna.unread(), 0);
    assert!(asked.iter().all(|asked| anna.reply(*asked).is_some()), "I13: every command is answered");
}

#[test]
fn a_client_that_answers_late_but_each_ping_once_stays() {
    let world = World::new();
    let mut anna = world.client("anna");
    let pings = |anna: &Client| anna.shown().iter().filter(|shown| **shown == Shown::Ping).count();
    while pings(&anna) < 2 {
        world.pass_ms(1_000);
        anna.history("story:1");
        world.run();
    }
    anna.pong();
    anna.pong();
    world.run();
    assert_eq!(anna.closed(), None);
    anna.pong();
    world.run();
    assert_eq!(anna.closed(), Some(Disconnect::BAD_REQUEST.code), "one pong per ping");
}

#[test]
fn a_log_that_hangs_makes_no_client_look_dead() {
    let world = World::new();
    let mut anna = world.client("anna");
    let dead = world.client("ben");
    world.log.hold("wake story:1");
    let asked = anna.subscribe("story:1", None);
    world.run();
    for _ in 0..60 {
        anna.pong();
        world.pass_ms(1_000);
        if anna.shown().last() == Some(&Shown::Ping) {
            anna.pong();
        }
    }
    assert_eq!(anna.closed(), None);
    assert_eq!(dead.closed(), Some(Disconnect::NO_PONG.code));
    world.log.release("wake story:1");
    world.run();
    assert!(matches!(anna.reply(asked), Some(Reply::Subscribed(_))));
}

#[test]
fn i7_revoked_a_session_that_is_to_end_takes_no_more_commands() {
    let world = World::new();
    let mut anna = world.client("anna");
    world.node.disconnect("anna", None, &[], &Disconnect::FORCE_NO_RECONNECT);
    anna.publish("story:1", "1", None);
    world.run();
    assert_eq!(anna.closed(), Some(Disconnect::FORCE_NO_RECONNECT.code));
    assert_eq!(world.log.records("story:1"), []);
}

#[test]
fn a_node_that_shuts_down_lets_nobody_in() {
    let world = World::new();
    let anna = world.client("anna");
    let node = world.node.clone();
    world.tasks.add(async move { node.shut_down().await });
    world.run();
    assert_eq!(anna.closed(), Some(Disconnect::SHUTDOWN.code));
    let late = world.link();
    world.run();
    assert_eq!(late.closed(), Some(Disconnect::CONNECTION_LIMIT.code));
}

#[test]
fn every_way_to_end_pairs_what_was_said_and_leaves_no_member() {
    let world = World::new();
    for end in 0..4 {
        let mut anna = world.client("anna|live:1");
        anna.subscribe("story:1", None);
        world.run();
        world.log.hold("wake story:2");
        anna.subscribe("story:2", None);
        world.run();
        match end {
            0 => anna.leave(),
            1 => anna.kill(),
            2 => drop(world.node.disconnect("anna", None, &[], &Disconnect::SHUTDOWN)),
            _ => world.pass_ms(1),
        }
        world.log.release("wake story:2");
        world.run();
        anna.leave();
        world.run();
        for (begins, ends) in [("Connected", "Disconnected"), ("Subscribed", "Unsubscribed")] {
            assert_eq!(world.facts.count(begins), world.facts.count(ends), "way {end}");
        }
        for channel in ["story:1", "story:2"] {
            assert_eq!(
                world.node.presence_stats(&Principal::backend("test"), channel),
                Ok((0, 0)),
                "way {end}"
            );
        }
    }
}

#[test]
fn a_refusal_is_paid_for_and_a_flood_ends() {
    let world = World::ruled(Default::default(), namespaces(), Settings::default(), Rules::default());
    let mut eve = world.client("eve");
    let code = |eve: &Client, id| match eve.reply(id) {
        Some(Reply::Refused(refusal)) => refusal.code,
        other => panic!("not refused: {other:?}"),
    };
    let flood = |eve: &mut Client, count: u32| {
        let mut last = 0;
        for _ in 0..count {
            last = eve.publish("nowhere:1", "1", None);
        }
        world.run();
        last
    };
    let last = flood(&mut eve, 100);
    assert_eq!(code(&eve, last), Code::UnknownChannel);
    let last = flood(&mut eve, 1);
    assert_eq!(code(&eve, last), Code::TooManyRequests);
    flood(&mut eve, limits::OVERRUNS_MAX);
    assert_eq!(eve.closed(), Some(Disconnect::TOO_MANY_REQUESTS.code));
}

#[test]
fn a_link_that_takes_what_is_sent_is_not_dead_however_late_its_pong() {
    let world = World::new();
    let anna = world.client("anna");
    anna.room(Some(0));
    let settings = Settings::default();
    world.pass_ms(settings.ping_ms);
    // The ping waits behind a full socket, which then takes something.
    anna.room(None);
    world.pass_ms(settings.pong_ms_max + 1_000);
    assert_eq!(anna.closed(), None);
}
