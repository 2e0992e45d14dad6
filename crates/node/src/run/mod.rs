//! One AI run: provider or backend -> paced deltas -> its own log -> one `run.end` in its channel.
//!
//! The server owns a run, whoever writes it; clients only follow logs. The order of a start: the list of open runs, the first record of the run's log (which
//! fixes that log's epoch), `run.start`. The order of an end: close the run's log, `run.end`, the list. Whatever dies in between, the
//! channel's open runs decide at the next start what is still to be ended; the list only says where to look.

mod cancel;
mod generate;
mod produced;
mod settle;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use fireside_core::channel::run::{self as records, Ending, Producer, Room, Status};
use fireside_core::command::StartRun;
use fireside_core::gate::{Admitted, Denial, Question, Start, Verdict, Write};
use fireside_core::namespace::RunPolicy;
use fireside_core::{ChannelName, Code, Durability, Epoch, Fact, Hook, Kind, Refusal, Reply};

use crate::channel::{Channel, Placed};
use crate::commands::awake;
use crate::session::Session;
use crate::slot::Slot;
use crate::{Node, hooks, lock};

use cancel::EarlyCancel;
pub(crate) use cancel::cancel;
use produced::Produced;
pub(crate) use settle::{forget_now, settle_all, settle_orphans};

/// Text beyond which a flush does not wait for the pace, in bytes.
const FLUSH_BYTES: usize = 1024;

/// The runs that this node looks after, and the cancels that came before their start.
#[derive(Default)]
pub(crate) struct Runs {
    driven: Mutex<BTreeMap<Arc<str>, Arc<Handle>>>,
    /// Those among them that a backend writes.
    produced: Mutex<BTreeMap<Arc<str>, Arc<Produced>>>,
    early: Mutex<Vec<EarlyCancel>>,
}

/// Why a run is to stop.
#[derive(Clone, Debug)]
struct Stop {
    status: Status,
    by: Option<Arc<str>>,
    reason: Option<String>,
}

/// What others hold of a run that is being looked after.
#[derive(Default)]
struct Handle {
    stop: Mutex<(Option<Stop>, Option<Waker>)>,
    /// It is, or was, an earlier life's run that is being settled.
    settles: bool,
}

impl Handle {
    fn stop(&self, stop: Stop) {
        let waker = {
            let mut inner = lock(&self.stop);
            inner.0.get_or_insert(stop);
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take_stop(&self) -> Option<Stop> {
        lock(&self.stop).0.take()
    }

    /// Ready with a stop, if there is one. Else whoever polls is woken by the next.
    fn poll_stop(&self, cx: &mut Context<'_>) -> Poll<Stop> {
        let mut inner = lock(&self.stop);
        match inner.0.take() {
            Some(stop) => Poll::Ready(stop),
            None => {
                inner.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Runs {
    fn find(&self, run: &str) -> Option<Arc<Handle>> {
        lock(&self.driven).get(run).cloned()
    }

    fn add(&self, run: &Arc<str>) -> Arc<Handle> {
        let handle = Arc::new(Handle::default());
        lock(&self.driven).insert(run.clone(), handle.clone());
        handle
    }

    /// The same, unless somebody drives or settles it already.
    fn add_if_new(&self, run: &Arc<str>) -> Option<Arc<Handle>> {
        let mut driven = lock(&self.driven);
        if driven.contains_key(run) {
            return None;
        }
        let handle = Arc::new(Handle { settles: true, ..Handle::default() });
        driven.insert(run.clone(), handle.clone());
        Some(handle)
    }

    fn remove(&self, run: &str) {
        lock(&self.driven).remove(run);
        lock(&self.produced).remove(run);
    }

    fn produced(&self, run: &str) -> Option<Arc<Produced>> {
        lock(&self.produced).get(run).cloned()
    }
}

/// A run: its id, its channel and its own log.
#[derive(Clone)]
struct Run {
    id: Arc<str>,
    channel: Arc<Channel>,
    log: Arc<Channel>,
}

// --------------------------------------------------------------------------------------------------------------- start

/// Answers rpc `ai.start`.
pub(crate) async fn start(
    node: &Arc<Node>,
    session: &Arc<Session>,
    id: u32,
    asked: StartRun,
) -> Result<(), Refusal> {
    let name = asked.channel.clone();
    let admitted = match session.ask(node, Some(&name), |caller| node.gate.start_run(caller, asked))? {
        Verdict::Passed(admitted) => {
            session.published_all(admitted.channel()).await;
            admitted
        }
        Verdict::Ask(question) => match prompted(node, session, *question).await? {
            Prompting::Ready(admitted) => *admitted,
            Prompting::Known((run, channel, epoch)) => {
                session.reply(id, Reply::RunStarted { run, channel, epoch });
                return Ok(());
            }
            Prompting::Denied(denial) => return hooks::refuse(node, session, denial),
        },
    };
    // A task of its own: what has begun goes on, or is taken back, whether whoever asked stays or not.
    let begun = Slot::new();
    let (node_of_task, slot) = (node.clone(), begun.clone());
    node.host.spawn(Box::pin(async move { slot.fill(begin(&node_of_task, &admitted).await) }));
    let (run, log, epoch) = begun.wait().await?;
    session.reply(id, Reply::RunStarted { run, channel: log, epoch });
    Ok(())
}

/// What becomes of a start whose prompt a backend is asked for.
enum Prompting {
    Ready(Box<Admitted<Start>>),
    /// The key is known: this is the run that it started.
    Known(Started),
    Denied(Denial),
}

/// A run that has started: its id, its log and the epoch of that.
type Started = (Arc<str>, ChannelName, Epoch);

/// Asks for messages, model and limits, unless the start would come to nothing anyway.
async fn prompted(
    node: &Arc<Node>,
    session: &Arc<Session>,
    question: Question<Admitted<Start>>,
) -> Result<Prompting, Refusal> {
    session.published_all(question.channel()).await;
    let channel = awake(node, question.channel(), question.policy()).await?;
    let now_ms = node.host.now_ms();
    let known = lock(&channel.state).core().and_then(|core| core.start_known(question.key(), now_ms));
    if let Some(known) = known {
        return existing(node, &channel, known?).await.map(Prompting::Known);
    }
    let mut asked = question.asked().clone();
    asked.records = generate::told(node, &channel).await?;
    let answer = hooks::ask(node, session, &asked).await;
    let admitted = match node.gate.answer_prompt(question, answer, node.host.now_ms()) {
        Ok(admitted) => admitted,
        Err(denial) => return Ok(Prompting::Denied(denial)),
    };
    // A model is one that the configuration names, whoever chooses it.
    Ok(match &admitted.command().prompt.provider {
        Some(name) if !node.providers.contains_key(name) => {
            Prompting::Denied(Denial::Unusable(Hook::Prompt, "model names no configured provider"))
        }
        _ => Prompting::Ready(Box::new(admitted)),
    })
}

async fn begin(node: &Arc<Node>, admitted: &Admitted<Start>) -> Result<Started, Refusal> {
    let channel = awake(node, admitted.channel(), admitted.policy()).await?;
    let no_runs = || Refusal::because(Code::NotAvailable, "no provider is configured for runs here");
    let policy = channel.policy.run.clone().ok_or_else(no_runs)?;
    let prompted = admitted.command().prompt.clone();
    let provider = prompted.provider.as_ref().unwrap_or(&policy.provider);
    let provider = node.providers.get(provider).cloned().ok_or_else(no_runs)?;
    let _turn = Turn::take(&channel).await;
    let opened = match open(node, &channel, admitted, provider.model(), Producer::Node).await? {
        Opening::Known(run) => return existing(node, &channel, run).await,
        Opening::New(opened) => opened,
    };
    let Opened { run, handle, epoch } = opened;
    let started = (run.id.clone(), run.log.name.clone(), epoch);
    let generation =
        generate::Task { run, handle, provider, policy, input: admitted.command().input.clone(), prompted };
    let node_of_task = node.clone();
    node.host.spawn(Box::pin(async move { generation.drive(&node_of_task).await }));
    Ok(started)
}

/// What a start comes to.
enum Opening {
    /// A new run, for whoever asked to write.
    New(Opened),
    /// The run that an earlier start with this key began.
    Known(Arc<str>),
}

struct Opened {
    run: Run,
    handle: Arc<Handle>,
    /// Of the run's log.
    epoch: Epoch,
}

/// Makes a run, unless the start's key is known. The caller holds the channel's turn: a second start with the same key finds what the
/// first one made.
async fn open(
    node: &Arc<Node>,
    channel: &Arc<Channel>,
    admitted: &Admitted<Start>,
    model: Arc<str>,
    producer: Producer,
) -> Result<Opening, Refusal> {
    let start = admitted.command();
    let known = lock(&channel.state).core().and_then(|core| core.start_known(start.key, node.host.now_ms()));
    if let Some(known) = known {
        return known.map(Opening::Known);
    }
    let run: Arc<str> = Arc::from(format!("{:024x}", node.host.random() >> 32));
    let log_name =
        channel.name.run_log(&run).map_err(|fault| Refusal::because(Code::BadRequest, fault.to_string()))?;
    settle::list(node, channel, &run, settle::Listed::Open).await?;
    let log_policy = node.gate.policy(&log_name).ok_or(Code::UnknownChannel)?;
    let log = awake(node, &log_name, &log_policy).await?;
    let run = Run { id: run, channel: channel.clone(), log };
    let owner = run.write_log(node, Kind::RunOwner, records::owner(1, producer)).await?;
    let epoch = owner.position.map(|position| position.epoch).unwrap_or_default();
    let started = Write {
        kind: Kind::RunStart,
        body: records::start(&run.id, &start.by, &model, epoch),
        key: Some(start.key),
        expected: None,
        conflate: None,
        tags: Vec::new(),
        author: admitted.principal().author(),
    };
    // Known before it can be seen: whoever sees the start may cancel it.
    let handle = node.runs.add(&run.id);
    let placed = match node.gate.run_record(&run.channel.name, started) {
        Ok(write) => run.channel.write(node, write).await,
        Err(refusal) => Err(refusal),
    };
    match placed {
        Ok(Placed { run: None, .. }) => {}
        Ok(Placed { run: Some(known), .. }) => {
            run.abandon(node).await;
            return Ok(Opening::Known(known));
        }
        Err(refusal) => {
            run.abandon(node).await;
            return Err(refusal);
        }
    }
    node.say(Fact::RunStarted);
    if let Some(stop) = node.runs.take_early(&run.channel.name, &start.key.id, node.host.monotonic_ms()) {
        handle.stop(stop);
    }
    Ok(Opening::New(Opened { run, handle, epoch }))
}

/// The answer to a start whose key is known.
async fn existing(node: &Arc<Node>, channel: &Arc<Channel>, run: Arc<str>) -> Result<Started, Refusal> {
    let name =
        channel.name.run_log(&run).map_err(|fault| Refusal::because(Code::BadRequest, fault.to_string()))?;
    let policy = node.gate.policy(&name).ok_or(Code::UnknownChannel)?;
    let log = awake(node, &name, &policy).await?;
    let epoch = lock(&log.state).core().map(|core| core.newest().epoch).unwrap_or_default();
    Ok((run, name, epoch))
}

/// The right to start a run in a channel, or to write into the log of one: one at a time.
struct Turn(Arc<Channel>);

impl Turn {
    async fn take(channel: &Arc<Channel>) -> Turn {
        channel.wait_until(|state| (!std::mem::replace(&mut state.in_turn, true)).then_some(())).await;
        Turn(channel.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let sleepers = {
            let mut state = lock(&self.0.state);
            state.in_turn = false;
            state.rouse()
        };
        for sleeper in sleepers {
            sleeper.wake();
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------- end

impl Run {
    /// Writes into the run's own log.
    async fn write_log(&self, node: &Arc<Node>, kind: Kind, body: bytes::Bytes) -> Result<Placed, Refusal> {
        write(node, &self.log, kind, body).await
    }

    /// Ends the run, whatever it takes: closes its log, then says so in its channel, then in the list; and after a while its log goes.
    async fn end(&self, node: &Arc<Node>, ending: &Ending) {
        insist(node, &self.log, &ending.body(&self.id)).await;
        end_in_channel(node, &self.channel, &self.id, ending).await;
        settle::forget_later(node, self);
    }

    /// A run that never started leaves nothing.
    async fn abandon(&self, node: &Arc<Node>) {
        node.runs.remove(&self.id);
        let ending =
            Ending { status: Status::Cancelled, parts: Vec::new(), usage: None, by: None, reason: None };
        let _ = self.write_log(node, Kind::RunEnd, ending.body(&self.id)).await;
        let _ = settle::list(node, &self.channel, &self.id, settle::Listed::Ended).await;
        settle::forget_later(node, self);
    }
}

/// Says in its channel that a run has ended, then in the list.
async fn end_in_channel(node: &Arc<Node>, channel: &Arc<Channel>, id: &Arc<str>, ending: &Ending) {
    insist(node, channel, &ending.body(id)).await;
    node.runs.remove(id);
    node.say(Fact::RunEnded { status: ending.status.as_str() });
    // Refused only when the store is full: the list is a hint, and the channel knows that the run is over.
    let _ = settle::list(node, channel, id, settle::Listed::Ended).await;
}

/// Writes a terminal record until it is there, or until somebody else's is.
async fn insist(node: &Arc<Node>, channel: &Arc<Channel>, body: &bytes::Bytes) {
    let mut wait_ms = 50;
    while let Err(refusal) = write(node, channel, Kind::RunEnd, body.clone()).await {
        if refusal.code == Code::NotAvailable || refusal.code == Code::UnknownChannel {
            return;
        }
        node.host.sleep(wait_ms).await;
        wait_ms = (wait_ms * 2).min(5_000);
    }
}

async fn write(
    node: &Arc<Node>,
    channel: &Arc<Channel>,
    kind: Kind,
    body: bytes::Bytes,
) -> Result<Placed, Refusal> {
    let write =
        Write { kind, body, key: None, expected: None, conflate: None, tags: Vec::new(), author: None };
    channel.write(node, node.gate.run_record(&channel.name, write)?).await
}

// ---------------------------------------------------------------------------------------------------------------- stop

/// The server stops: the runs that it writes end as interrupted, and readers still see it. What a backend writes goes on with the next
/// life, if there can be one.
pub(crate) async fn interrupt_all(node: &Arc<Node>) {
    const PATIENCE_MS: u64 = 3_000;
    let ending = || {
        let goes_on =
            |run: &str| node.runs.produced(run).is_some_and(|produced| produced.outlives_the_node());
        let driven: Vec<_> = lock(&node.runs.driven).clone().into_iter().collect();
        driven.into_iter().filter(|(run, _)| !goes_on(run)).map(|(_, handle)| handle).collect::<Vec<_>>()
    };
    for handle in ending() {
        handle.stop(Stop {
            status: Status::Interrupted,
            by: None,
            reason: Some("the server stopped".to_owned()),
        });
    }
    let until_ms = node.host.monotonic_ms() + PATIENCE_MS;
    while !ending().is_empty() && node.host.monotonic_ms() < until_ms {
        node.host.sleep(10).await;
    }
}

fn is_listed(channel: &Channel) -> bool {
    channel.policy.durability != Durability::Memory
}

fn room(node: &Node, policy: &RunPolicy) -> Room {
    Room::new(policy.text_bytes_max, node.settings.outbox_bytes_max)
}
