//! Hooks: what a client sees while a backend thinks, says no, says nothing, or says something else.

use bytes::Bytes;
use fireside_core::gate::{Principal, Rules};
use fireside_core::hook::{Answer, Grant, Hook, Message, Role, Unanswered};
use fireside_core::{Code, Command, Disconnect, Refusal, Reply};
use fireside_node::Settings;
use fireside_node::ports::Host;

use crate::host::{MemoryLog, Shown, World, namespaces};

/// A world in which `story:…` asks before it is followed or written to, and every connect is asked about if `hooks` says so.
fn asking(hooks: &[Hook], lenient: &[Hook]) -> World {
    let mut spaces = namespaces();
    spaces[0].hooks = [Hook::Subscribe, Hook::SubRefresh, Hook::Publish, Hook::Prompt].into_iter().collect();
    let rules = Rules {
        hooks: hooks.iter().copied().collect(),
        lenient: lenient.iter().copied().collect(),
        commands_per_second: 1_000_000,
        commands_burst: 1_000_000,
        ..Rules::default()
    };
    // No pings: these stories are about other times.
    let settings = Settings { ping_ms: 3_600_000, ..Settings::default() };
    World::ruled(MemoryLog::default().into(), spaces, settings, rules)
}

fn json(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

#[test]
fn nothing_is_written_before_the_backend_said_yes_and_then_what_it_says() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    let asked = anna.publish("story:1", r#"{"text":"rude"}"#, None);
    world.run();
    assert!(anna.reply(asked).is_none(), "nobody has answered yet");
    assert!(world.log.records("story:1").is_empty());
    let question = world.backend.grant(Grant { data: json(r#"{"text":"***"}"#), ..Grant::default() });
    assert_eq!((question.hook, &*question.user), (Hook::Publish, "anna"));
    assert_eq!(question.data, r#"{"text":"rude"}"#);
    world.run();
    assert!(matches!(anna.reply(asked), Some(Reply::PublishedAt { .. })));
    assert_eq!(world.log.records("story:1"), [(1, r#"{"text":"***"}"#.to_owned())]);
}

#[test]
fn a_slow_backend_delays_only_who_asked() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    let mut ben = world.client("ben");
    let first = anna.publish("story:1", "1", None);
    let second = anna.publish("live:1", "2", None);
    let other = ben.publish("live:1", "3", None);
    world.run();
    assert!(ben.reply(other).is_some(), "another session is not touched");
    assert!(anna.reply(first).is_none() && anna.reply(second).is_none(), "one's own commands stay in order");
    world.backend.grant(Grant::default());
    world.run();
    let order: Vec<_> = anna.shown().into_iter().filter(|shown| matches!(shown, Shown::Reply(_))).collect();
    assert_eq!(order.len(), 2, "{order:?}");
}

#[test]
fn records_of_a_session_stay_in_its_order_though_each_is_asked_about() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    for n in 1..=3 {
        anna.publish("story:1", &n.to_string(), None);
    }
    for _ in 1..=3 {
        world.run();
        assert_eq!(world.backend.waiting(), 1, "one question at a time");
        world.backend.grant(Grant::default());
    }
    world.run();
    let bodies: Vec<_> = world.log.records("story:1").into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
}

#[test]
fn no_answer_is_a_refusal_for_now_unless_the_operator_says_otherwise() {
    for (lenient, wanted) in [(&[][..], Some(Code::Internal)), (&[Hook::Publish][..], None)] {
        let world = asking(&[], lenient);
        let mut anna = world.client("anna");
        let asked = anna.publish("story:1", "1", None);
        world.run();
        world.backend.say(Err(Unanswered("timeout")));
        world.run();
        let refused = match anna.reply(asked) {
            Some(Reply::Refused(refusal)) => Some(refusal.code),
            _ => None,
        };
        assert_eq!(refused, wanted);
        let followed = anna.subscribe("story:1", None);
        world.run();
        world.backend.say(Err(Unanswered("timeout")));
        world.run();
        assert!(anna.shown().contains(&Shown::Refused(followed, 100)), "only a publish may be let through");
    }
}

#[test]
fn an_answer_that_breaks_a_bound_is_refused_and_told_to_the_operator() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    let asked = anna.publish("story:1", "1", None);
    world.run();
    let large = Bytes::from(format!("\"{}\"", "x".repeat(64 * 1024)));
    world.backend.grant(Grant { data: Some(large), ..Grant::default() });
    world.run();
    assert!(anna.shown().contains(&Shown::Refused(asked, 100)));
    assert_eq!(world.facts.count("AnswerUnusable"), 1);
    assert!(world.log.records("story:1").is_empty());
}

#[test]
fn a_backend_may_end_the_session() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    anna.publish("story:1", "1", None);
    world.run();
    world.backend.say(Ok(Answer::Closed(Disconnect { code: 4501, reason: "banned".into() })));
    world.run();
    assert_eq!(anna.closed(), Some(4501));
}

#[test]
fn a_session_that_leaves_takes_its_question_back() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    anna.publish("story:1", "1", None);
    world.run();
    anna.kill();
    world.run();
    world.backend.grant(Grant::default());
    world.run();
    assert!(world.log.records("story:1").is_empty(), "nobody waits for it any more");
}

#[test]
fn a_subscription_is_asked_about_and_answered_with_data() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    let asked = anna.subscribe("story:1", None);
    world.run();
    assert!(anna.reply(asked).is_none());
    world.backend.grant(Grant { data: json(r#"{"title":"A tale"}"#), ..Grant::default() });
    world.run();
    let Some(Reply::Subscribed(start)) = anna.reply(asked) else { panic!("not subscribed") };
    assert_eq!(start.data, json(r#"{"title":"A tale"}"#));
    let refused = anna.subscribe("story:2", None);
    world.run();
    let no = Refusal::because(Code::Backend { number: 403, temporary: false }, "members only");
    world.backend.say(Ok(Answer::Refused(no.clone())));
    world.run();
    assert!(matches!(anna.reply(refused), Some(Reply::Refused(refusal)) if refusal == no));
}

#[test]
fn who_has_no_token_is_whom_the_backend_says() {
    let world = asking(&[Hook::Connect], &[]);
    let anna = world.client("");
    assert!(anna.shown().is_empty());
    let grant = Grant {
        user: Some("anna".into()),
        data: json(r#"{"hello":"anna"}"#),
        channels: vec!["live:1".into()],
        meta: json(r#"{"plan":"x"}"#),
        ..Grant::default()
    };
    let question = world.backend.grant(grant);
    assert_eq!((question.hook, &*question.user), (Hook::Connect, ""));
    world.run();
    let Some(Reply::Connected(connected)) = anna.reply(1) else { panic!("not connected") };
    assert_eq!(connected.data, json(r#"{"hello":"anna"}"#));
    assert_eq!(connected.subs.len(), 1);
    let mut anna = anna;
    anna.publish("story:1", "1", None);
    world.run();
    let question = world.backend.grant(Grant::default());
    assert_eq!((&*question.user, question.meta), ("anna", json(r#"{"plan":"x"}"#)));
}

#[test]
fn a_backend_makes_nobody_another_than_the_token_says() {
    let world = asking(&[Hook::Connect], &[]);
    let anna = world.client("anna");
    let question = world.backend.grant(Grant { user: Some("eve".into()), ..Grant::default() });
    assert_eq!(&*question.user, "anna");
    world.run();
    assert!(anna.shown().contains(&Shown::Refused(1, 100)));
    assert_eq!(world.facts.count("Connected"), 0);
}

#[test]
fn who_is_not_let_in_is_told_why_or_sent_away() {
    let world = asking(&[Hook::Connect], &[]);
    let refused = world.client("anna");
    world.backend.say(Ok(Answer::Refused(Code::PermissionDenied.into())));
    world.run();
    assert!(refused.shown().contains(&Shown::Refused(1, 103)));
    let closed = world.client("ben");
    world.backend.say(Ok(Answer::Closed(Disconnect { code: 4502, reason: "closed today".into() })));
    world.run();
    assert_eq!(closed.closed(), Some(4502));
}

#[test]
fn i2_once_a_record_that_is_there_is_not_asked_about_again() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    let first = anna.publish("story:1", "1", Some("k"));
    world.run();
    world.backend.grant(Grant { data: json("2"), ..Grant::default() });
    world.run();
    let again = anna.publish("story:1", "1", Some("k"));
    let other = anna.publish("story:1", "3", Some("k"));
    world.run();
    assert_eq!(world.backend.waiting(), 0, "its turn may be over by now");
    let place = |asked| match anna.reply(asked) {
        Some(Reply::PublishedAt { position, duplicate }) => (position, duplicate),
        other => panic!("{other:?}"),
    };
    assert_eq!(place(first).0, place(again).0);
    assert!(place(again).1 && !place(first).1);
    assert!(anna.shown().contains(&Shown::Refused(other, 409)));
}

#[test]
fn a_method_that_is_not_ours_is_the_backends() {
    let world = asking(&[Hook::Rpc], &[]);
    let mut anna = world.client("anna");
    let call = |method: &str| Command::Rpc { method: method.into(), data: Bytes::from_static(b"[1]") };
    let asked = anna.send(call("dice.roll"));
    let reserved = anna.send(call("ai.stop"));
    world.run();
    let question = world.backend.grant(Grant { data: json("6"), ..Grant::default() });
    assert_eq!((question.method.as_str(), question.data), ("dice.roll", Bytes::from_static(b"[1]")));
    world.run();
    assert!(matches!(anna.reply(asked), Some(Reply::Rpc(data)) if data == "6"));
    assert!(anna.shown().contains(&Shown::Refused(reserved, 108)), "our own names are kept for us");
    let nobody = asking(&[], &[]);
    let mut ben = nobody.client("ben");
    let asked = ben.send(call("dice.roll"));
    nobody.run();
    assert!(ben.shown().contains(&Shown::Refused(asked, 108)));
}

/// Seconds of the world's clock, from now on.
fn in_s(world: &World, seconds: u64) -> Option<u64> {
    Some(world.tasks.now_ms() / 1000 + seconds)
}

#[test]
fn a_session_that_its_backend_let_in_lasts_as_long_as_the_backend_says() {
    let world = asking(&[Hook::Connect, Hook::Refresh], &[]);
    let anna = world.client("");
    let user = || Some("anna".to_owned());
    world.backend.grant(Grant { user: user(), expires_s: in_s(&world, 60), ..Grant::default() });
    world.pass_ms(49_000);
    assert_eq!(world.backend.waiting(), 0, "its end is not near");
    world.pass_ms(2_000);
    assert_eq!(world.backend.waiting(), 1);
    let question = world.backend.grant(Grant { expires_s: in_s(&world, 60), ..Grant::default() });
    assert_eq!((question.hook, &*question.user), (Hook::Refresh, "anna"));
    world.pass_ms(40_000);
    assert_eq!((world.backend.waiting(), anna.closed()), (0, None), "it has more time");
    world.pass_ms(11_000);
    world.backend.grant(Grant { expired: true, ..Grant::default() });
    world.run();
    assert_eq!(anna.closed(), Some(3005));
}

#[test]
fn a_backend_that_does_not_answer_is_asked_again_until_the_session_is_over() {
    let world = asking(&[Hook::Connect, Hook::Refresh], &[]);
    let anna = world.client("");
    world.backend.grant(Grant { expires_s: in_s(&world, 60), ..Grant::default() });
    let mut asked = 0;
    for _ in 0..200 {
        world.pass_ms(500);
        while world.backend.waiting() > 0 {
            asked += 1;
            // Neither silence nor an answer without an end gives it more time.
            match asked % 2 {
                0 => world.backend.say(Err(Unanswered("timeout"))),
                _ => world.backend.grant(Grant::default()),
            };
        }
        if anna.closed().is_some() {
            break;
        }
    }
    assert_eq!(anna.closed(), Some(3005));
    assert!((6..=8).contains(&asked), "35 s, a question each 5 s: {asked}");
}

#[test]
fn a_subscription_lasts_as_long_as_its_backend_says() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    anna.subscribe("story:1", None);
    world.run();
    let info = json(r#"{"role":"guest"}"#);
    world.backend.grant(Grant { expires_s: in_s(&world, 30), info: info.clone(), ..Grant::default() });
    world.run();
    let members = world.node.presence(&Principal::backend("test"), "story:1").unwrap();
    assert_eq!(members[0].sub_info, info, "what is public about it is shown with it");
    world.pass_ms(21_000);
    let question = world.backend.grant(Grant { expires_s: in_s(&world, 30), ..Grant::default() });
    assert_eq!((question.hook, question.channel.unwrap().as_str()), (Hook::SubRefresh, "story:1"));
    world.pass_ms(15_000);
    assert!(!anna.shown().iter().any(|shown| matches!(shown, Shown::Unsubscribed(..))));
    world.pass_ms(20_000);
    let over = Shown::Unsubscribed("story:1".into(), 2501);
    assert!(anna.shown().contains(&over), "nobody answered: {:?}", anna.shown());
    assert!(world.node.presence(&Principal::backend("test"), "story:1").unwrap().is_empty());
}

#[test]
fn a_run_is_made_from_what_its_backend_says() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    anna.publish("story:1", r#"{"text":"It was late."}"#, None);
    world.run();
    world.backend.grant(Grant::default());
    let started = anna.start_run("story:1", "k");
    world.run();
    assert!(anna.reply(started).is_none(), "nobody has answered yet");
    let messages = vec![Message { role: Role::User, text: "Go on, darkly.".into() }];
    let grant = Grant { messages: messages.clone(), tokens_max: 50, ..Grant::default() };
    let question = world.backend.grant(grant);
    assert_eq!((question.hook, question.records.len()), (Hook::Prompt, 1));
    assert_eq!(question.records[0].body, r#"{"text":"It was late."}"#);
    world.run();
    let Some(Reply::RunStarted { run, .. }) = anna.reply(started) else { panic!("not started") };
    let again = anna.start_run("story:1", "k");
    world.run();
    assert_eq!(world.backend.waiting(), 0, "a start that is known is not asked about");
    assert!(matches!(anna.reply(again), Some(Reply::RunStarted { run: same, .. }) if same == run));
    let prompts = world.model.prompts();
    assert_eq!(prompts.len(), 1);
    assert_eq!((&prompts[0].messages, prompts[0].tokens_max), (&messages, 50));
}

#[test]
fn a_backends_no_starts_no_run_and_it_chooses_among_configured_models_only() {
    let world = asking(&[], &[]);
    let mut anna = world.client("anna");
    let refused = anna.start_run("story:1", "a");
    world.run();
    world.backend.say(Ok(Answer::Refused(Code::Backend { number: 402, temporary: false }.into())));
    world.run();
    let foreign = anna.start_run("story:1", "b");
    world.run();
    world.backend.grant(Grant { model: Some("dearest".into()), ..Grant::default() });
    world.run();
    let silent = anna.start_run("story:1", "c");
    world.run();
    world.backend.say(Err(Unanswered("timeout")));
    world.run();
    for (asked, code) in [(refused, 402), (foreign, 100), (silent, 100)] {
        assert!(anna.shown().contains(&Shown::Refused(asked, code)), "{:?}", anna.shown());
    }
    assert_eq!((world.facts.count("RunStarted"), world.facts.count("AnswerUnusable")), (0, 1));
    assert!(world.log.records("story:1").is_empty());
    // A yes without messages lets the server assemble the prompt as it would without a hook.
    let started = anna.start_run("story:1", "d");
    world.run();
    world.backend.grant(Grant { model: Some("default".into()), ..Grant::default() });
    world.run();
    assert!(matches!(anna.reply(started), Some(Reply::RunStarted { .. })));
    assert!(world.model.prompts()[0].messages.is_empty());
}
