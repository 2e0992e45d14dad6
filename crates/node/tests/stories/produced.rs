//! Runs that a backend writes: the same log, cancel and bounds as any other run, and one end, whatever dies.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fireside_core::channel::run::{Change, End, Status};
use fireside_core::command::{CancelRun, Command};
use fireside_core::gate::Principal;
use fireside_core::namespace::RunPolicy;
use fireside_core::produce::{
    AppendRun, BeginRun, Cancelled, EndRun, ReadRun, RunAppended, RunBegun, RunEnded, RunState,
};
use fireside_core::{Code, Namespace, Refusal, Reply};
use fireside_node::ports::LogFault;
use fireside_node::{Node, Settings};
use serde_json::{Value, json};

use crate::host::{MemoryLog, Outcome, World, lock, namespaces};

const STORY: &str = "story:1";

type Asked<T> = Arc<Mutex<Option<Result<T, Refusal>>>>;

/// A call, begun: its answer comes when the world runs.
fn begun<T: Send + 'static, F>(world: &World, call: impl FnOnce(Arc<Node>, Arc<Principal>) -> F) -> Asked<T>
where
    F: Future<Output = Result<T, Refusal>> + Send + 'static,
{
    let (asked, answer) = (Asked::default(), call(world.node.clone(), Principal::backend("backend")));
    let told = asked.clone();
    world.tasks.add(async move { *lock(&told) = Some(answer.await) });
    asked
}

fn called<T: Send + 'static, F>(
    world: &World,
    call: impl FnOnce(Arc<Node>, Arc<Principal>) -> F,
) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>> + Send + 'static,
{
    let asked = begun(world, call);
    world.pass_ms(100);
    lock(&asked).take().expect("an answer within 100 ms")
}

fn start(world: &World, key: &str) -> Result<RunBegun, Refusal> {
    let asked = BeginRun {
        channel: STORY.to_owned(),
        key: key.to_owned(),
        by: "anna".to_owned(),
        model: "a model".to_owned(),
        input: Bytes::new(),
    };
    called(world, move |node, who| async move { node.run_start(&who, asked).await })
}

fn delta(part: u32, kind: &str, at: u64, text: &str) -> Change {
    Change::Delta { part, kind: kind.to_owned(), at, text: text.to_owned() }
}

fn appending(run: &str, changes: Vec<Change>) -> AppendRun {
    AppendRun { channel: STORY.to_owned(), run: run.to_owned(), changes }
}

fn append(world: &World, run: &str, changes: Vec<Change>) -> Result<RunAppended, Refusal> {
    let asked = appending(run, changes);
    called(world, move |node, who| async move { node.run_append(&who, asked).await })
}

fn say(world: &World, run: &str, at: u64, text: &str) -> Result<RunAppended, Refusal> {
    append(world, run, vec![delta(0, "text", at, text)])
}

fn finish(world: &World, run: &str, status: Status) -> Result<RunEnded, Refusal> {
    let (channel, run) = (STORY.to_owned(), run.to_owned());
    let asked = EndRun { channel, run, status, usage: None, reason: String::new() };
    called(world, move |node, who| async move { node.run_end(&who, asked).await })
}

fn get(world: &World, run: &str) -> Result<RunState, Refusal> {
    let asked = ReadRun { channel: STORY.to_owned(), run: run.to_owned() };
    called(world, move |node, who| async move { node.run_get(&who, asked).await })
}

fn bodies(log: &MemoryLog, channel: &str) -> Vec<Value> {
    let records = log.records(channel).into_iter();
    records.map(|(_, body)| serde_json::from_str(&body).unwrap()).collect()
}

/// The ends of runs in the channel.
fn ends(log: &MemoryLog) -> Vec<Value> {
    bodies(log, STORY).into_iter().filter(|body| body["type"] == "run.end").collect()
}

fn detail(refusal: &Refusal) -> Value {
    serde_json::from_str(refusal.detail.as_deref().unwrap_or("null")).unwrap()
}

#[test]
fn a_backend_writes_a_run_as_the_server_would() {
    let world = World::new();
    let reader = world.client("ben|story:1");
    let RunBegun { run, log, duplicate, lease_ms, .. } = start(&world, "k").unwrap();
    assert_eq!((duplicate, lease_ms), (false, 10_000));
    let told = append(
        &world,
        &run,
        vec![delta(0, "reasoning", 0, "Hm"), delta(1, "text", 0, "Once "), delta(1, "text", 5, "🔥")],
    )
    .unwrap();
    assert_eq!(told.end, End { part: 1, at: 7 });
    assert_eq!(finish(&world, &run, Status::Complete).unwrap().status, Status::Complete);
    let written = bodies(&world.log, log.as_str());
    assert_eq!(written[0], json!({"type": "run.owner", "fence": 1, "producer": "backend"}));
    assert_eq!(
        written[1],
        json!({"type": "run.delta", "part": 0, "kind": "reasoning", "at": 0, "text": "Hm"})
    );
    // What comes together is one record.
    assert_eq!(
        written[2],
        json!({"type": "run.delta", "part": 1, "kind": "text", "at": 0, "text": "Once 🔥"})
    );
    assert_eq!((written.len(), &written[3]["type"]), (4, &json!("run.end")));
    let room = bodies(&world.log, STORY);
    assert_eq!((&room[0]["by"], &room[0]["model"]), (&json!("anna"), &json!("a model")));
    assert_eq!(
        (room.len(), &room[1]["status"], &room[1]["text"]),
        (2, &json!("complete"), &json!("Once 🔥"))
    );
    assert_eq!(reader.offsets(STORY), [1, 2]);
    let state = get(&world, &run).unwrap();
    assert_eq!((state.status, state.parts.len(), state.end), (Some(Status::Complete), 2, told.end));
}

#[test]
fn i2_once_a_start_an_append_and_an_end_are_tried_again_without_effect() {
    let world = World::new();
    let first = start(&world, "k").unwrap();
    let again = start(&world, "k").unwrap();
    assert_eq!((&again.run, again.epoch, again.duplicate), (&first.run, first.epoch, true));
    assert_eq!(start(&world, "other").unwrap_err().code, Code::Conflict, "another is active");
    let run = &first.run;
    let told = say(&world, run, 0, "Once upon").unwrap();
    assert_eq!(say(&world, run, 0, "Once upon").unwrap(), told);
    assert_eq!(say(&world, run, 5, "upon").unwrap(), told);
    let more = say(&world, run, 5, "upon a time").unwrap();
    assert_eq!(more.end.at, 16);
    assert!(!finish(&world, run, Status::Complete).unwrap().duplicate);
    let again = finish(&world, run, Status::Error).unwrap();
    assert_eq!((again.status, again.duplicate), (Status::Complete, true));
    assert_eq!(ends(&world.log).len(), 1);
    assert_eq!(ends(&world.log)[0]["text"], "Once upon a time");
}

#[test]
fn a_delta_that_does_not_fit_is_told_where_the_text_ends_and_none_of_its_call_is_done() {
    let world = World::new();
    let run = start(&world, "k").unwrap().run;
    say(&world, &run, 0, "a🔥").unwrap();
    for (changes, code) in [
        (vec![delta(0, "text", 3, "b"), delta(0, "text", 5, "gap")], Code::Conflict),
        (vec![delta(0, "text", 0, "b")], Code::Conflict),
        (vec![delta(0, "tool", 3, "b")], Code::Conflict),
        (vec![delta(2, "text", 0, "b")], Code::Conflict),
        (vec![delta(0, "text", 2, "b")], Code::BadRequest),
        (vec![Change::Reset { part: 0, to: 2 }], Code::BadRequest),
        (vec![Change::Reset { part: 0, to: 4 }], Code::Conflict),
    ] {
        let refusal = append(&world, &run, changes.clone()).unwrap_err();
        assert_eq!((refusal.code, detail(&refusal)), (code, json!({"part": 0, "at": 3})), "{changes:?}");
    }
    assert_eq!(append(&world, &run, vec![delta(0, "song", 3, "b")]).unwrap_err().code, Code::BadRequest);
    assert_eq!(get(&world, &run).unwrap().parts[0].text, "a🔥");
    let told =
        append(&world, &run, vec![Change::Reset { part: 0, to: 1 }, delta(0, "text", 1, "bc")]).unwrap();
    assert_eq!(told.end.at, 3);
    finish(&world, &run, Status::Complete).unwrap();
    assert_eq!(ends(&world.log)[0]["text"], "abc");
}

#[test]
fn a_cancel_ends_it_at_once_and_the_backend_is_told_in_its_next_answer() {
    let world = World::new();
    let mut anna = world.client("anna");
    let run = start(&world, "k").unwrap().run;
    say(&world, &run, 0, "Once").unwrap();
    let (channel, reason) = (STORY.to_owned(), "enough".to_owned());
    let named = CancelRun { channel, run: Some(run.to_string()), reason, ..CancelRun::default() };
    let asked = anna.send(Command::CancelRun(named));
    world.run();
    assert!(matches!(anna.reply(asked), Some(Reply::RunCancelled { status: "cancelled" })));
    let end = &ends(&world.log)[0];
    assert_eq!(
        (&end["status"], &end["text"], &end["by"]),
        (&json!("cancelled"), &json!("Once"), &json!("anna"))
    );
    let told = say(&world, &run, 4, " upon").unwrap();
    let cancelled = Cancelled { by: Some(Arc::from("anna")), reason: Some("enough".to_owned()) };
    assert_eq!((told.end.at, told.cancelled), (4, Some(cancelled.clone())));
    let over = finish(&world, &run, Status::Complete).unwrap();
    assert_eq!((over.status, over.cancelled), (Status::Cancelled, Some(cancelled)));
    assert_eq!(ends(&world.log).len(), 1);
}

#[test]
fn a_cancel_while_an_append_waits_for_the_log_comes_before_the_backends_own_end() {
    let world = World::new();
    let mut anna = world.client("anna");
    let RunBegun { run, log, .. } = start(&world, "k").unwrap();
    world.log.hold(&format!("append {log}"));
    let changes = appending(&run, vec![delta(0, "text", 0, "Once")]);
    let appended = begun(&world, move |node, who| async move { node.run_append(&who, changes).await });
    world.run();
    let named = CancelRun { channel: STORY.to_owned(), run: Some(run.to_string()), ..CancelRun::default() };
    anna.send(Command::CancelRun(named));
    let (channel, id) = (STORY.to_owned(), run.to_string());
    let asked = EndRun { channel, run: id, status: Status::Complete, usage: None, reason: String::new() };
    let ended = begun(&world, move |node, who| async move { node.run_end(&who, asked).await });
    world.run();
    world.log.release(&format!("append {log}"));
    world.run();
    assert_eq!(lock(&appended).take().unwrap().unwrap().end.at, 4);
    assert_eq!(lock(&ended).take().unwrap().unwrap().status, Status::Cancelled);
    assert_eq!((ends(&world.log).len(), &ends(&world.log)[0]["text"]), (1, &json!("Once")));
}

#[test]
fn i10_settled_a_backend_that_dies_leaves_a_run_that_ends_as_interrupted() {
    let world = World::new();
    let run = start(&world, "k").unwrap().run;
    say(&world, &run, 0, "Once").unwrap();
    for _ in 0..3 {
        world.pass_ms(9_000);
        append(&world, &run, Vec::new()).unwrap();
    }
    world.pass_ms(9_000);
    assert_eq!(ends(&world.log).len(), 0, "it holds the lease by saying nothing, too");
    world.pass_ms(1_500);
    let end = &ends(&world.log)[0];
    assert_eq!((&end["status"], &end["text"]), (&json!("interrupted"), &json!("Once")));
    let refusal = say(&world, &run, 4, " upon").unwrap_err();
    assert_eq!((refusal.code, detail(&refusal)), (Code::NotAvailable, json!({"status": "interrupted"})));
    assert_eq!(finish(&world, &run, Status::Complete).unwrap().status, Status::Interrupted);
}

#[test]
fn a_log_that_hangs_costs_no_backend_its_lease() {
    let world = World::new();
    let RunBegun { run, log, .. } = start(&world, "k").unwrap();
    world.log.hold(&format!("append {log}"));
    let changes = appending(&run, vec![delta(0, "text", 0, "Once")]);
    let appended = begun(&world, move |node, who| async move { node.run_append(&who, changes).await });
    world.pass_ms(30_000);
    world.log.release(&format!("append {log}"));
    world.run();
    assert!(lock(&appended).take().unwrap().is_ok());
    assert_eq!(say(&world, &run, 4, " upon").unwrap().end.at, 9);
}

#[test]
fn i10_settled_what_an_earlier_life_left_open_goes_on_with_its_backend_or_ends_without() {
    for goes_on in [true, false] {
        let world = World::new();
        let run = start(&world, "k").unwrap().run;
        say(&world, &run, 0, "Once").unwrap();
        append(&world, &run, vec![delta(0, "text", 4, "!"), Change::Reset { part: 0, to: 4 }]).unwrap();
        let mut world = World::on(Arc::new((*world.log).clone()), namespaces(), Settings::default());
        // Twice: the list of open runs begins anew with each life.
        world = World::on(Arc::new((*world.log).clone()), namespaces(), Settings::default());
        assert_eq!(ends(&world.log).len(), 0);
        if goes_on {
            assert_eq!(say(&world, &run, 0, "Once upon").unwrap().end.at, 9);
            finish(&world, &run, Status::Complete).unwrap();
        }
        world.pass_ms(11_000);
        let ends = ends(&world.log);
        let expected = if goes_on { ("complete", "Once upon") } else { ("interrupted", "Once") };
        assert_eq!(ends.len(), 1);
        assert_eq!(
            (ends[0]["status"].as_str(), ends[0]["text"].as_str()),
            (Some(expected.0), Some(expected.1))
        );
        assert_eq!(world.facts.count("RunEnded"), 1);
    }
}

#[test]
fn an_orderly_stop_leaves_a_backends_run_to_the_next_life() {
    let world = World::new();
    let run = start(&world, "k").unwrap().run;
    say(&world, &run, 0, "Once").unwrap();
    let node = world.node.clone();
    world.tasks.add(async move { node.shut_down().await });
    world.pass_ms(4_000);
    assert_eq!(ends(&world.log).len(), 0);
    let world = World::on(Arc::new((*world.log).clone()), namespaces(), Settings::default());
    assert_eq!(say(&world, &run, 4, " upon").unwrap().end.at, 9);
}

#[test]
fn i10_settled_the_run_of_a_backend_whose_log_cannot_be_read_ends() {
    let world = World::new();
    let run = start(&world, "k").unwrap().run;
    say(&world, &run, 0, "Once").unwrap();
    let log = (*world.log).clone();
    let damaged = LogFault::Failed(Arc::from("damaged"));
    for _ in 0..100 {
        log.script(&format!("wake story:1/run/{run}"), Outcome::Fails(damaged.clone()));
    }
    let world = World::on(Arc::new(log), namespaces(), Settings::default());
    world.pass_ms(2_000);
    assert_eq!(ends(&world.log)[0]["status"], "interrupted");
}

#[test]
fn a_fault_of_the_log_that_passes_costs_a_run_no_text() {
    let world = World::new();
    let run = start(&world, "k").unwrap().run;
    say(&world, &run, 0, "Once").unwrap();
    let log = (*world.log).clone();
    for _ in 0..3 {
        log.script(
            &format!("wake story:1/run/{run}"),
            Outcome::Fails(LogFault::Failed(Arc::from("for once"))),
        );
    }
    let world = World::on(Arc::new(log), namespaces(), Settings::default());
    world.pass_ms(2_000);
    assert_eq!(say(&world, &run, 4, " upon").unwrap().end.at, 9);
}

#[test]
fn a_backend_that_hangs_up_in_the_middle_of_an_append_finds_it_done() {
    let world = World::new();
    let RunBegun { run, log, .. } = start(&world, "k").unwrap();
    world.log.hold(&format!("append {log}"));
    let changes = appending(&run, vec![delta(0, "text", 0, "Once")]);
    begun(&world, move |node, who| async move { node.run_append(&who, changes).await });
    let call = world.tasks.newest();
    world.run();
    world.tasks.kill(call);
    world.log.release(&format!("append {log}"));
    world.run();
    assert_eq!(say(&world, &run, 0, "Once upon").unwrap().end.at, 9);
    finish(&world, &run, Status::Complete).unwrap();
    assert_eq!(ends(&world.log)[0]["text"], "Once upon");
}

/// One namespace with runs like this.
fn stories(run: RunPolicy) -> Vec<Namespace> {
    let spaces = namespaces().into_iter();
    spaces.map(|space| Namespace { run: space.run.is_some().then(|| run.clone()), ..space }).collect()
}

#[test]
fn i8_bounded_a_run_at_its_bound_ends_as_budget_with_what_fits() {
    let spaces = stories(RunPolicy { text_bytes_max: 8, ..RunPolicy::default() });
    let world = World::with(spaces, Settings::default());
    let run = start(&world, "k").unwrap().run;
    say(&world, &run, 0, "Once").unwrap();
    let refusal = say(&world, &run, 4, " up🔥").unwrap_err();
    assert_eq!(refusal.code, Code::LimitExceeded);
    assert_eq!(detail(&refusal), json!({"status": "budget", "part": 0, "at": 7}));
    assert_eq!(
        (&ends(&world.log)[0]["status"], &ends(&world.log)[0]["text"]),
        (&json!("budget"), &json!("Once up"))
    );

    let spaces = stories(RunPolicy { total_ms_max: 25_000, ..RunPolicy::default() });
    let world = World::with(spaces, Settings::default());
    let run = start(&world, "k").unwrap().run;
    while append(&world, &run, Vec::new()).is_ok() {
        assert!(world.tasks.elapsed_ms() < 30_000);
        world.pass_ms(5_000);
    }
    assert_eq!(ends(&world.log)[0]["status"], "budget");
}

#[test]
fn small_appends_are_paced_and_large_ones_are_not() {
    let spaces = stories(RunPolicy { pace_ms: 1_000, ..RunPolicy::default() });
    let world = World::with(spaces, Settings::default());
    let RunBegun { run, log, .. } = start(&world, "k").unwrap();
    say(&world, &run, 0, "first").unwrap();
    let small = appending(&run, vec![delta(0, "text", 5, " small")]);
    let appended = begun(&world, move |node, who| async move { node.run_append(&who, small).await });
    world.pass_ms(800);
    assert_eq!(bodies(&world.log, log.as_str()).len(), 2);
    world.pass_ms(200);
    assert!(lock(&appended).take().unwrap().is_ok());
    say(&world, &run, 11, &"large ".repeat(200)).unwrap();
}

#[test]
fn who_is_no_backend_and_what_is_no_run_is_refused() {
    let world = World::new();
    let mut anna = world.client("anna");
    assert_eq!(say(&world, "0123", 0, "x").unwrap_err().code, Code::UnknownChannel);
    assert_eq!(get(&world, "a/b").unwrap_err().code, Code::UnknownChannel);
    let asked = anna.start_run(STORY, "a-key");
    world.run();
    let Some(Reply::RunStarted { run, .. }) = anna.reply(asked) else { panic!() };
    assert_eq!(say(&world, &run, 0, "x").unwrap_err().code, Code::NotAvailable, "the server writes it");
    assert_eq!(finish(&world, &run, Status::Complete).unwrap_err().code, Code::NotAvailable);
    assert_eq!(get(&world, &run).unwrap().status, None);
    let begin = BeginRun { channel: "live:1".to_owned(), key: "k".to_owned(), ..BeginRun::default() };
    let refused = called(&world, move |node, who| async move { node.run_start(&who, begin).await });
    assert_eq!(refused.unwrap_err().code, Code::NotAvailable);
}
