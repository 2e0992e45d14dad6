//! A run that the application's backend writes: start, append, end, read, over the API. The same log, cancel and bounds as any other.
//!
//! The backend holds a lease by appending. Whoever has the turn of the run's log may write to it or end it: an append, a call that ends
//! the run, or its watch, which sees to cancels, to the lease and to the run's time. When the server comes back, what its earlier life
//! left open is watched again, with a whole lease in which the backend may go on.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use fireside_core::channel::run::{Change, End, Ending, Misfit, Producer, Room, Status, Text, Usage};
use fireside_core::gate::{Admitted, Principal, Start};
use fireside_core::namespace::RunPolicy;
use fireside_core::produce::{
    AppendRun, BeginRun, Cancelled, EndRun, ReadRun, RunAppended, RunBegun, RunEnded, RunState,
};
use fireside_core::{ChannelName, Code, Namespace, Position, Refusal};

use super::settle::{self, Whole};
use super::{FLUSH_BYTES, Handle, Opened, Opening, Run, Stop, Turn, existing, is_listed, open};
use crate::api::caller;
use crate::channel::Channel;
use crate::commands::awake;
use crate::ports::Soon;
use crate::slot::Slot;
use crate::{Node, lock};

/// A run that is open, as the node holds it.
pub(super) struct Produced {
    run: Run,
    handle: Arc<Handle>,
    policy: RunPolicy,
    state: Mutex<State>,
}

struct State {
    text: Text,
    room: Room,
    /// Of the run's log.
    newest: Position,
    lease_until_ms: u64,
    began_ms: u64,
    flushed_ms: Option<u64>,
    is_over: bool,
}

/// Where a run that a backend names is to be found.
enum Found {
    Open(Arc<Produced>),
    Over(Box<Whole>),
}

impl Node {
    /// Begins a run that the asking backend writes. A known key is answered with the run it began.
    ///
    /// # Errors
    /// What the gate refuses; 409 if the key is known with another input, or a run is active and the namespace rejects another; 106.
    pub async fn run_start(
        self: &Arc<Self>,
        who: &Arc<Principal>,
        asked: BeginRun,
    ) -> Result<RunBegun, Refusal> {
        let admitted = self.gate.begin_run(caller(self, who), asked)?;
        let node = self.clone();
        self.to_its_end(Box::pin(async move { begin(&node, &admitted).await })).await
    }

    /// Adds to a run, holds its lease, and tells of a cancel. What is there already is not added again.
    ///
    /// # Errors
    /// What the gate refuses; 102 if there is no such run; 108 if it is over, with `detail.status`; 409 if a change does not fit, with
    /// the place where the text ends; 106 if it reached its bound, and ended with that.
    pub async fn run_append(
        self: &Arc<Self>,
        who: &Arc<Principal>,
        asked: AppendRun,
    ) -> Result<RunAppended, Refusal> {
        let admitted = self.gate.append_run(caller(self, who), asked)?;
        let node = self.clone();
        self.to_its_end(Box::pin(async move { append(&node, &admitted).await })).await
    }

    /// Ends a run. One that has ended stays as it is.
    ///
    /// # Errors
    /// What the gate refuses; 102 if there is no such run.
    pub async fn run_end(self: &Arc<Self>, who: &Arc<Principal>, asked: EndRun) -> Result<RunEnded, Refusal> {
        let admitted = self.gate.end_run(caller(self, who), asked)?;
        let node = self.clone();
        self.to_its_end(Box::pin(async move { end(&node, &admitted).await })).await
    }

    /// A run as it stands, whoever writes it, while its log is there.
    ///
    /// # Errors
    /// What the gate refuses; 102 if there is no such run, or its log is gone.
    pub async fn run_get(
        self: &Arc<Self>,
        who: &Arc<Principal>,
        asked: ReadRun,
    ) -> Result<RunState, Refusal> {
        let admitted = self.gate.read_run(caller(self, who), asked)?;
        let channel = awake(self, admitted.channel(), admitted.policy()).await?;
        let (log, whole) = read(self, &channel, &admitted.command().run).await?;
        let end = whole.text.end();
        let (status, usage, by, reason) = match whole.ending {
            Some(ending) => (Some(ending.status), ending.usage, ending.by, ending.reason),
            None => (None, None, None, None),
        };
        let parts = whole.text.into_parts();
        Ok(RunState { log, position: whole.newest, status, parts, end, usage, by, reason })
    }

    /// Runs a task of its own and waits for it: what has begun is finished, whether whoever asked stays or not.
    async fn to_its_end<T: Send + 'static>(self: &Arc<Self>, task: Soon<T>) -> T {
        let slot = Slot::new();
        let filled = slot.clone();
        self.host.spawn(Box::pin(async move { filled.fill(task.await) }));
        slot.wait().await
    }
}

async fn begin(node: &Arc<Node>, admitted: &Admitted<Start>) -> Result<RunBegun, Refusal> {
    let channel = awake(node, admitted.channel(), admitted.policy()).await?;
    let policy = channel.policy.run.clone().ok_or(Code::NotAvailable)?;
    let lease_ms = policy.lease_ms;
    let model = admitted.command().model.clone().unwrap_or_default();
    let _turn = Turn::take(&channel).await;
    match open(node, &channel, admitted, model, Producer::Backend).await? {
        Opening::Known(run) => {
            let (run, log, epoch) = existing(node, &channel, run).await?;
            Ok(RunBegun { run, log, epoch, duplicate: true, lease_ms })
        }
        Opening::New(Opened { run, handle, epoch }) => {
            let (id, log) = (run.id.clone(), run.log.name.clone());
            let newest = Position::new(epoch, 1);
            let room = super::room(node, &policy);
            let began_ms = node.host.monotonic_ms();
            watch_over(node, run, handle, policy, Begun { text: Text::default(), room, newest, began_ms });
            Ok(RunBegun { run: id, log, epoch, duplicate: false, lease_ms })
        }
    }
}

/// What a run is when its watch begins.
struct Begun {
    text: Text,
    room: Room,
    newest: Position,
    began_ms: u64,
}

/// Watches over a run that an earlier life left open.
pub(super) fn resume(node: &Arc<Node>, run: Run, handle: Arc<Handle>, whole: Whole) {
    let Some(policy) = run.channel.policy.run.clone() else { return };
    let age_ms = node.host.now_ms().saturating_sub(whole.began_unix_ms);
    let began_ms = node.host.monotonic_ms().saturating_sub(age_ms);
    watch_over(
        node,
        run,
        handle,
        policy,
        Begun { text: whole.text, room: whole.room, newest: whole.newest, began_ms },
    );
}

fn watch_over(node: &Arc<Node>, run: Run, handle: Arc<Handle>, policy: RunPolicy, begun: Begun) {
    let Begun { text, room, newest, began_ms } = begun;
    let lease_until_ms = node.host.monotonic_ms() + policy.lease_ms;
    let state = State { text, room, newest, lease_until_ms, began_ms, flushed_ms: None, is_over: false };
    let produced = Arc::new(Produced { run, handle, policy, state: Mutex::new(state) });
    lock(&node.runs.produced).insert(produced.run.id.clone(), produced.clone());
    let node_of_task = node.clone();
    node.host.spawn(Box::pin(async move { produced.watch(&node_of_task).await }));
}

impl Produced {
    /// What the log keeps goes on when the server comes back.
    pub(super) fn outlives_the_node(&self) -> bool {
        is_listed(&self.run.channel)
    }

    fn renew(&self, now_ms: u64) {
        lock(&self.state).lease_until_ms = now_ms + self.policy.lease_ms;
    }

    /// Ends the run when somebody stops it, when nothing is heard of its backend, or when it takes too long. Ends when the run does.
    async fn watch(self: Arc<Self>, node: &Arc<Node>) {
        loop {
            let due_ms = {
                let state = lock(&self.state);
                state.lease_until_ms.min(state.began_ms + self.policy.total_ms_max)
            };
            let mut timer = node.host.sleep(due_ms.saturating_sub(node.host.monotonic_ms()));
            let stop = poll_fn(|cx| match self.handle.poll_stop(cx) {
                Poll::Ready(stop) => Poll::Ready(Some(stop)),
                Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
            })
            .await;
            // Whoever else has the turn before must see it too.
            if let Some(stop) = stop {
                self.handle.stop(stop);
            }
            let turn = Turn::take(&self.run.log).await;
            if lock(&self.state).is_over {
                return;
            }
            // An append that was under way has renewed the lease meanwhile.
            if let Some(stop) = self.handle.take_stop().or_else(|| self.is_due(node.host.monotonic_ms())) {
                self.finish(node, turn, stop, None).await;
                return;
            }
        }
    }

    fn is_due(&self, now_ms: u64) -> Option<Stop> {
        let state = lock(&self.state);
        let (status, reason) = if now_ms >= state.began_ms + self.policy.total_ms_max {
            (Status::Budget, "the run took too long")
        } else if now_ms >= state.lease_until_ms {
            (Status::Interrupted, "nothing was heard of the backend")
        } else {
            return None;
        };
        Some(Stop { status, by: None, reason: Some(reason.to_owned()) })
    }

    /// Ends the run, as somebody stopped it if somebody did. Whoever calls this has found it open in its turn.
    async fn finish(&self, node: &Arc<Node>, turn: Turn, stop: Stop, usage: Option<Usage>) -> Ending {
        let Stop { status, by, reason } = self.handle.take_stop().unwrap_or(stop);
        let parts = {
            let mut state = lock(&self.state);
            state.is_over = true;
            std::mem::take(&mut state.text).into_parts()
        };
        let ending = Ending { status, parts, usage, by, reason };
        self.run.end(node, &ending).await;
        drop(turn);
        // The watch sees that it is over.
        self.handle.stop(Stop { status, by: None, reason: None });
        ending
    }

    /// What is to be written of what is asked, and whether the run's bound is reached with it.
    fn plan(&self, asked: &[Change]) -> Result<(Vec<Change>, bool), Refusal> {
        let (mut text, mut room) = {
            let state = lock(&self.state);
            (state.text.clone(), state.room)
        };
        let written = text.end();
        let mut changes: Vec<Change> = Vec::new();
        for change in asked {
            let news = text.news(change).map_err(|misfit| misfits(misfit, change, written))?;
            let Some(mut news) = news else { continue };
            let is_whole = match &mut news {
                Change::Reset { .. } => room.take_reset(),
                Change::Delta { kind, at, text, .. } => {
                    let fits = room.take(kind, *at == 0, text);
                    let is_whole = fits == text.len();
                    text.truncate(fits);
                    is_whole
                }
            };
            let is_nothing = match &news {
                Change::Reset { .. } => !is_whole,
                Change::Delta { text, .. } => text.is_empty(),
            };
            if !is_nothing {
                text.apply(news.clone());
                add(&mut changes, news);
            }
            if !is_whole {
                return Ok((changes, true));
            }
        }
        Ok((changes, false))
    }

    /// Little text waits until the pace allows it; what gathers at the backend meanwhile comes as one. The first comes at once.
    async fn pace(&self, node: &Node, changes: &[Change]) {
        let bytes: usize = changes.iter().map(Change::bytes).sum();
        let flushed_ms = lock(&self.state).flushed_ms;
        if let Some(flushed_ms) = flushed_ms.filter(|_| bytes > 0 && bytes < FLUSH_BYTES) {
            let due_ms = flushed_ms + self.policy.pace_ms;
            node.host.sleep(due_ms.saturating_sub(node.host.monotonic_ms())).await;
        }
    }

    /// Writes one change after the other: what is refused leaves no hole, and what is written is known.
    async fn write(&self, node: &Arc<Node>, changes: Vec<Change>) -> Result<(), Refusal> {
        for change in changes {
            let placed = self.run.write_log(node, change.kind(), change.body()).await?;
            let mut state = lock(&self.state);
            state.newest = placed.position.unwrap_or(state.newest);
            state.flushed_ms = Some(node.host.monotonic_ms());
            state.room.take_written(&change);
            state.text.apply(change);
        }
        Ok(())
    }

    fn told(&self, cancelled: Option<Cancelled>) -> RunAppended {
        let state = lock(&self.state);
        let (position, end) = (state.newest, state.text.end());
        RunAppended { position, end, lease_ms: self.policy.lease_ms, cancelled }
    }
}

/// Adds a change, to the last one if both are of one part: what comes together is one record.
fn add(changes: &mut Vec<Change>, more: Change) {
    match (changes.last_mut(), more) {
        (Some(Change::Delta { part: last, text, .. }), Change::Delta { part, text: more, .. })
            if *last == part =>
        {
            text.push_str(&more)
        }
        (_, more) => changes.push(more),
    }
}

fn misfits(misfit: Misfit, change: &Change, end: End) -> Refusal {
    let (what, part, at) = match change {
        Change::Delta { part, at, .. } => ("a delta", part, at),
        Change::Reset { part, to } => ("a reset", part, to),
    };
    let why = match misfit {
        Misfit::Gap => "leaves a gap",
        Misfit::Contradicts => "contradicts what is there",
        Misfit::Splits => "splits a character",
    };
    let End { part: last, at: ends } = end;
    let message =
        format!("{what} at unit {at} of part {part} {why}: the text ends at unit {ends} of part {last}");
    let code = if misfit == Misfit::Splits { Code::BadRequest } else { Code::Conflict };
    Refusal::because(code, message).with_detail(format!(r#"{{"part":{last},"at":{ends}}}"#))
}

// -------------------------------------------------------------------------------------------------------------- calls

async fn append(node: &Arc<Node>, admitted: &Admitted<AppendRun>) -> Result<RunAppended, Refusal> {
    let asked = admitted.command();
    let produced = match find(node, admitted.channel(), admitted.policy(), &asked.run).await? {
        Found::Open(produced) => produced,
        Found::Over(whole) => return too_late(*whole),
    };
    produced.renew(node.host.monotonic_ms());
    let turn = Turn::take(&produced.run.log).await;
    if lock(&produced.state).is_over {
        return too_late(read(node, &produced.run.channel, &asked.run).await?.1);
    }
    let (changes, is_full) = produced.plan(&asked.changes)?;
    produced.pace(node, &changes).await;
    if let Some(stop) = produced.handle.take_stop() {
        let told = produced.told(Some(Cancelled { by: stop.by.clone(), reason: stop.reason.clone() }));
        produced.finish(node, turn, stop, None).await;
        return Ok(told);
    }
    produced.write(node, changes).await?;
    produced.renew(node.host.monotonic_ms());
    if !is_full {
        return Ok(produced.told(None));
    }
    let most = produced.policy.text_bytes_max;
    let reason = format!("a run has at most {most} bytes here, and its end must fit");
    let stop = Stop { status: Status::Budget, by: None, reason: Some(reason.clone()) };
    let End { part, at } = produced.told(None).end;
    let status = produced.finish(node, turn, stop, None).await.status.as_str();
    let detail = format!(r#"{{"status":"{status}","part":{part},"at":{at}}}"#);
    Err(Refusal::because(Code::LimitExceeded, reason).with_detail(detail))
}

/// The answer to an append to a run that has ended.
fn too_late(whole: Whole) -> Result<RunAppended, Refusal> {
    let end = whole.text.end();
    match whole.ending {
        Some(Ending { status: Status::Cancelled, by, reason, .. }) => Ok(RunAppended {
            position: whole.newest,
            end,
            lease_ms: 0,
            cancelled: Some(Cancelled { by, reason }),
        }),
        Some(Ending { status, .. }) => {
            let status = status.as_str();
            let refusal =
                Refusal::because(Code::NotAvailable, format!("the run is over: it ended as {status}"));
            Err(refusal.with_detail(format!(r#"{{"status":"{status}"}}"#)))
        }
        None => Err(Code::UnknownChannel.into()),
    }
}

async fn end(node: &Arc<Node>, admitted: &Admitted<EndRun>) -> Result<RunEnded, Refusal> {
    let asked = admitted.command();
    let whole = match find(node, admitted.channel(), admitted.policy(), &asked.run).await? {
        Found::Over(whole) => *whole,
        Found::Open(produced) => {
            let turn = Turn::take(&produced.run.log).await;
            if !lock(&produced.state).is_over {
                let reason = (!asked.reason.is_empty()).then(|| asked.reason.clone());
                let stop = Stop { status: asked.status, by: None, reason };
                let ending = produced.finish(node, turn, stop, asked.usage).await;
                return Ok(ended(ending, false));
            }
            read(node, &produced.run.channel, &asked.run).await?.1
        }
    };
    whole.ending.map(|ending| ended(ending, true)).ok_or(Code::UnknownChannel.into())
}

fn ended(ending: Ending, duplicate: bool) -> RunEnded {
    let Ending { status, by, reason, .. } = ending;
    let cancelled = (status == Status::Cancelled).then_some(Cancelled { by, reason });
    RunEnded { status, duplicate, cancelled }
}

async fn find(
    node: &Arc<Node>,
    name: &ChannelName,
    policy: &Arc<Namespace>,
    id: &str,
) -> Result<Found, Refusal> {
    let channel = awake(node, name, policy).await?;
    let produced = || node.runs.produced(id).filter(|produced| produced.run.channel.name == *name);
    if let Some(produced) = produced() {
        return Ok(Found::Open(produced));
    }
    let open = lock(&channel.state)
        .core()
        .and_then(|core| core.open_runs().iter().find(|open| *open.run == *id).cloned());
    if let Some(open) = open {
        if node.runs.find(id).is_some_and(|handle| !handle.settles) {
            return Err(Refusal::because(Code::NotAvailable, "the server itself writes this run"));
        }
        settle::settle(node, &channel, &open).await;
        if let Some(produced) = produced() {
            return Ok(Found::Open(produced));
        }
    }
    Ok(Found::Over(Box::new(read(node, &channel, id).await?.1)))
}

/// A run's log: its name, and what it holds.
async fn read(node: &Arc<Node>, channel: &Arc<Channel>, id: &str) -> Result<(ChannelName, Whole), Refusal> {
    let unknown = || Refusal::because(Code::UnknownChannel, "there is no such run, or its log is gone");
    let run = settle::find(node, channel, &Arc::from(id)).await.map_err(|refusal| match refusal.code {
        Code::UnknownChannel => unknown(),
        _ => refusal,
    })?;
    if lock(&run.log.state).has_no_records() {
        return Err(unknown());
    }
    Ok((run.log.name.clone(), settle::read_back(node, &run).await?))
}
