//! Channels: what is answered when the log refuses, hangs or does not know, and who waits for whom.

use fireside_core::command::{Command, Publish};
use fireside_core::gate::Principal;
use fireside_core::position::{Claimed, Epoch};
use fireside_core::{Code, Reply};
use fireside_node::Settings;
use fireside_node::ports::LogFault;

use crate::host::{Outcome, Shown, World};

#[test]
fn what_an_unknown_append_did_is_read_and_nothing_is_there_twice() {
    for outcome in [Outcome::UnknownThere, Outcome::UnknownLost, Outcome::UnknownLate] {
        let world = World::new();
        let mut anna = world.client("anna");
        anna.subscribe("story:1", None);
        world.run();
        world.log.script("append story:1", outcome);
        let asked = [anna.publish("story:1", "1", None), anna.publish("story:1", "2", Some("a-key"))];
        world.pass_ms(1_000);
        let expected = [(1, "1".to_owned()), (2, "2".to_owned())];
        assert_eq!(world.log.records("story:1"), expected);
        assert_eq!(anna.offsets("story:1"), [1, 2]);
        assert!(
            asked
                .iter()
                .all(|id| matches!(anna.reply(*id), Some(Reply::PublishedAt { duplicate: false, .. })))
        );
    }
}

#[test]
fn a_refusal_after_an_unknown_append_does_not_claim_that_nothing_is_there() {
    let world = World::new();
    let mut anna = world.client("anna");
    world.log.script("append story:1", Outcome::UnknownLate);
    world.log.script("append story:1", Outcome::Fails(LogFault::Full));
    let asked = anna.publish("story:1", "1", None);
    world.pass_ms(1_000);
    assert_eq!(world.log.records("story:1").len(), 1);
    assert!(matches!(anna.reply(asked), Some(Reply::PublishedAt { duplicate: false, .. })));
}

#[test]
fn a_refused_append_answers_nobody_by_what_it_would_have_written() {
    let world = World::new();
    let mut anna = world.client("anna");
    anna.publish("story:1", "1", None);
    world.run();
    world.log.hold("append story:1");
    anna.publish("story:1", "2", None);
    world.run();
    // These two gather while that one is written, and only one of them can be the third record.
    let mut third = |body: &'static str| {
        anna.send(Command::PublishRpc(Publish {
            channel: "story:1".to_owned(),
            body: body.into(),
            expected: Some(Claimed { epoch: Some(Epoch(1)), offset: 2 }),
            ..Publish::default()
        }))
    };
    let asked = [third("3"), third("4")];
    world.run();
    world.log.script("append story:1", Outcome::Works);
    world.log.script("append story:1", Outcome::Fails(LogFault::Full));
    world.log.release("append story:1");
    world.run();
    for id in asked {
        assert!(matches!(anna.reply(id), Some(Reply::Refused(refusal)) if refusal.code == Code::StoreFull));
    }
    assert_eq!(
        world.facts.count("LogFault { what: \"full\""),
        1,
        "whoever operates it is told what is wrong"
    );
}

#[test]
fn removed_history_is_removed_for_good_once_it_is_said() {
    let world = World::new();
    let mut anna = world.client("anna");
    anna.publish("story:1", "1", None);
    world.run();
    world.log.hold("append story:1");
    anna.publish("story:1", "2", None);
    world.run();
    let said = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (node, told) = (world.node.clone(), said.clone());
    world.tasks.add(async move {
        *told.lock().unwrap() = Some(node.remove_history(&Principal::backend("test"), "story:1").await);
    });
    world.run();
    let is_said = said.lock().unwrap().is_some();
    assert!(
        !is_said || world.log.saved("story:1").is_some_and(|saved| saved.oldest > 1),
        "a crash would undo it"
    );
    world.log.release("append story:1");
    world.run();
    assert_eq!(*said.lock().unwrap(), Some(Ok(())));
    assert!(world.log.saved("story:1").is_some_and(|saved| saved.oldest > 1));
}

#[test]
fn removed_history_stays_removed_when_the_channel_is_read_anew() {
    let world = World::new();
    let mut anna = world.client("anna");
    anna.publish("story:1", "1", None);
    world.run();
    world.log.hold("append story:1");
    anna.publish("story:1", "2", None);
    world.run();
    let node = world.node.clone();
    world.tasks.add(async move {
        node.remove_history(&Principal::backend("test"), "story:1").await.unwrap();
    });
    world.run();
    world.log.script("append story:1", Outcome::UnknownThere);
    world.log.release("append story:1");
    world.pass_ms(1_000);
    assert!(world.log.saved("story:1").is_some_and(|saved| saved.oldest == 2));
    let asked = anna.history("story:1");
    world.run();
    match anna.reply(asked) {
        Some(Reply::History(page)) => assert_eq!(page.records[0].offset, 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_cannot_make_a_removal_last_says_so() {
    let world = World::new();
    let mut anna = world.client("anna");
    anna.publish("story:1", "1", None);
    world.run();
    world.log.script("checkpoint story:1", Outcome::Fails(LogFault::Full));
    let said = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (node, told) = (world.node.clone(), said.clone());
    world.tasks.add(async move {
        *told.lock().unwrap() = Some(node.remove_history(&Principal::backend("test"), "story:1").await);
    });
    world.run();
    let code = said.lock().unwrap().clone().unwrap().map_err(|refusal| refusal.code.number());
    assert_eq!(code, Err(507));
}

#[test]
fn the_next_batch_waits_until_the_readers_have_taken_the_one_before() {
    let world = World::new();
    let readers: Vec<_> = (0..80).map(|n| world.client(&format!("reader{n}|story:1"))).collect();
    let mut writer = world.client("writer");
    // A join in a shard this large is told by a task of its own.
    let before = world.tasks.newest();
    let late = world.client_but("late|story:1");
    let teller: Vec<_> = (before + 1..=world.tasks.newest()).filter(|task| *task != late.task).collect();
    // It is in the middle of its work, and others come first.
    teller.iter().for_each(|task| world.tasks.poll(*task));
    for n in 0..20 {
        writer.publish("story:1", &n.to_string(), None);
        world.tasks.run_but(&teller);
    }
    let appended = world.log.records("story:1").len();
    assert!(appended <= 2, "{appended} batches are ahead of the readers");
    world.run();
    assert_eq!(world.log.records("story:1").len(), 20);
    assert!(readers.iter().all(|reader| reader.offsets("story:1") == (1..=20).collect::<Vec<_>>()));
    assert!(readers[0].shown().contains(&Shown::Joined("late".to_owned())));
}

#[test]
fn i8_bounded_no_more_channels_wake_than_may_and_those_that_fell_asleep_make_room() {
    let world = World::with(crate::host::namespaces(), Settings { channels_max: 2, ..Settings::default() });
    let mut anna = world.client("anna");
    anna.subscribe("story:1", None);
    anna.publish("story:2", "1", None);
    world.run();
    let asked = anna.subscribe("story:3", None);
    world.run();
    assert!(
        matches!(anna.reply(asked), Some(Reply::Refused(refusal)) if refusal.code == Code::TooManyRequests)
    );
    let awake = anna.publish("story:1", "1", None);
    world.run();
    assert!(matches!(anna.reply(awake), Some(Reply::PublishedAt { .. })), "what is awake already goes on");
    // The second has no reader, and falls asleep.
    world.pass_ms(10_000);
    let again = anna.subscribe("story:3", None);
    world.run();
    assert!(matches!(anna.reply(again), Some(Reply::Subscribed(_))));
}
