//! Erasing: what is gone is gone for everybody, and everything else stays as it was.

use std::sync::{Arc, Mutex};

use fireside_core::command::Erase;
use fireside_core::gate::{Principal, Rules};
use fireside_core::{Claimed, Code, Epoch, Kind, Outgoing, Record, Refusal, Reply};
use fireside_node::Settings;
use fireside_node::channel::Placed;
use fireside_node::ports::LogFault;

use crate::host::{Client, Outcome, World, lock, namespaces};

type Erased = Arc<Mutex<Option<Result<Placed, Refusal>>>>;

fn erase(world: &World, offset: u64) -> Erased {
    let answer = Erased::default();
    let (node, filled) = (world.node.clone(), answer.clone());
    world.tasks.add(async move {
        let asked =
            Erase { channel: "story:1".into(), offset, reason: "asked for".into(), ..Erase::default() };
        let erased = node.erase(&Principal::backend("key"), asked).await;
        *lock(&filled) = Some(erased);
    });
    answer
}

fn placed(erased: &Erased) -> Result<u64, Code> {
    let answer = lock(erased).clone().expect("it was answered");
    answer.map(|placed| placed.position.expect("it has a place").offset).map_err(|refusal| refusal.code)
}

fn history(world: &World, client: &mut Client) -> Vec<Record> {
    let asked = client.history("story:1");
    world.run();
    match client.reply(asked) {
        Some(Reply::History(page)) => page.records,
        other => panic!("no history: {other:?}"),
    }
}

#[test]
fn whatever_reads_afterwards_sees_a_tombstone_and_everybody_is_told_once() {
    let world = World::new();
    let mut anna = world.client("anna");
    anna.subscribe("story:1", None);
    for body in ["1", "2", "3"] {
        anna.publish("story:1", body, None);
    }
    world.run();
    let erased = erase(&world, 2);
    world.run();
    assert_eq!(placed(&erased), Ok(4));
    assert_eq!(anna.offsets("story:1"), [1, 2, 3, 4], "a reader at the tail is told");
    let kinds = |records: &[Record]| records.iter().map(|r| r.kind).collect::<Vec<_>>();
    let expected = [Kind::Plain, Kind::Tombstone, Kind::Plain, Kind::Erase];
    let records = history(&world, &mut anna);
    assert_eq!(kinds(&records), expected);
    assert_eq!(records[3].body, r#"{"type":"erase","of":2,"reason":"asked for"}"#);
    // Whoever attaches inside the ring is handed the same.
    let mut ben = world.client("ben");
    ben.subscribe("story:1", Some(Claimed { epoch: Some(Epoch(1)), offset: 1 }));
    world.run();
    let page = ben.got().iter().find_map(|entry| match entry {
        Outgoing::Event(event) => match &**event {
            fireside_core::Event::Reply { reply: Reply::Subscribed(start), .. } => Some(start.page.clone()),
            _ => None,
        },
        Outgoing::Records { .. } => None,
    });
    assert_eq!(kinds(&page.expect("it was recovered")), expected[1..]);
    let again = erase(&world, 2);
    world.run();
    assert_eq!(placed(&again), Ok(4), "asked for again, it is answered alike and told no second time");
    let next = World::ruled(world.log.clone(), namespaces(), Settings::default(), Rules::default());
    let mut cleo = next.client("cleo");
    assert_eq!(kinds(&history(&next, &mut cleo)), expected, "and so it is in the next life");
}

#[test]
fn i10_settled_a_run_whose_end_was_erased_stays_ended_in_the_next_life() {
    let world = World::new();
    let mut anna = world.client("anna");
    anna.start_run("story:1", "a-key");
    world.run();
    world.model.say("Words that are to go.");
    world.model.finish();
    world.run();
    let end = world.log.records("story:1").len() as u64;
    let erased = erase(&world, end);
    world.run();
    assert_eq!(placed(&erased), Ok(end + 1));
    let everywhere = |log: &crate::host::MemoryLog| log.calls("forget").len();
    assert_eq!(everywhere(&world.log), 1, "the run's own log, which holds the same words, went too");
    let next = World::ruled(world.log.clone(), namespaces(), Settings::default(), Rules::default());
    next.run();
    assert_eq!(next.log.records("story:1").len() as u64, end + 1, "nothing was left to settle");
}

#[test]
fn what_cannot_be_erased_is_refused_and_nothing_changes() {
    let world = World::new();
    let mut anna = world.client("anna");
    anna.publish("story:1", "1", None);
    world.run();
    let beyond = erase(&world, 2);
    let none = erase(&world, 0);
    world.run();
    assert_eq!((placed(&beyond), placed(&none)), (Err(Code::UnrecoverablePosition), Err(Code::BadRequest)));
    world.log.script("erase story:1 1", Outcome::Fails(LogFault::Full));
    let full = erase(&world, 1);
    world.run();
    assert_eq!(placed(&full), Err(Code::StoreFull));
    assert_eq!(history(&world, &mut anna)[0].body, "1");
    let done = erase(&world, 1);
    world.run();
    assert_eq!(placed(&done), Ok(2));
    let note = erase(&world, 2);
    world.run();
    assert_eq!(placed(&note), Err(Code::BadRequest), "what tells of an erasure stays");
}
