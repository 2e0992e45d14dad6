//! One awake channel: gather, append, acknowledge, fan out, announce.
//!
//! A locked struct, not a task with a mailbox. Whoever finds it with work and no driver starts one; the driver ends when nothing is
//! pending. One append is in flight; meanwhile the next batch gathers, so that under load batches grow by themselves.

mod state;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use fireside_core::channel::{self as core, Answer, Presence};
use fireside_core::gate::{Admitted, Write};
use fireside_core::outbox::Lane;
use fireside_core::position::Position;
use fireside_core::{Batch, ChannelName, Code, Durability, Event, Fact, Namespace, Refusal, limits};

use crate::ports::{Appended, LogFault, proposal_id};
use crate::readers::{Op, Shard, drain_all};
use crate::session::Session;
use crate::slot::Slot;
use crate::{Node, lock};

/// One awake channel.
pub struct Channel {
    pub(crate) name: ChannelName,
    pub(crate) policy: Arc<Namespace>,
    pub(crate) lane: Lane,
    pub(crate) state: Mutex<State>,
}

/// What its lock guards. Lock order: channel, shard, session.
pub(crate) struct State {
    life: Life,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    driving: bool,
    /// Batches kept for readers that are a little behind, oldest first.
    ring: VecDeque<Arc<Batch>>,
    ring_bytes: usize,
    pub(crate) presence: Presence,
    pub(crate) shards: Vec<Arc<Shard>>,
    /// Records since the last checkpoint.
    unsaved: u64,
    /// Where history was removed, until a checkpoint says so.
    removed: Option<Position>,
    /// So many make a checkpoint due; more after one that failed.
    save_at: u64,
    used_ms: u64,
    sleepers: Vec<Waker>,
    /// How often the sleepers were woken: who sleeps on since the last time need not be added again.
    roused: u64,
    /// Checkpoints that others asked whoever drives for, and those that were answered, and how the last one went.
    saves_asked: u64,
    saves_done: u64,
    saved: Result<(), Refusal>,
    /// Somebody starts a run here, or writes into this run's log; others wait for their turn.
    pub(crate) in_turn: bool,
}

enum Life {
    Waking,
    Awake(Box<core::Channel>),
    Failed(Refusal),
}

/// A write that waits for its turn.
pub(crate) struct Waiting {
    write: Admitted<Write>,
    asker: Asker,
}

/// Who is told.
pub(crate) enum Asker {
    /// A client, by the reply to its command.
    Session {
        session: Arc<Session>,
        id: u32,
        /// It wants the position (rpc), not the protocol's empty result.
        positioned: bool,
    },
    /// Somebody in this process.
    Slot(Arc<Slot<Result<Placed, Refusal>>>),
}

/// Where a write went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its position; `None` in a channel without history.
    pub position: Option<Position>,
    /// Its key was known: this is the first one's position.
    pub duplicate: bool,
    /// For a start of a run whose key was known: the run.
    pub run: Option<Arc<str>>,
}

/// What was decided together and waits for the log.
struct Round {
    batch: Arc<Batch>,
    waiting: Vec<Waiting>,
    answers: Vec<Answer>,
    began_ms: u64,
}

/// What the driver does next.
enum Next {
    Append(Round),
    Save,
    /// Nothing is pending: the driver ends.
    Rest,
}

impl Channel {
    pub(crate) fn new(node: &Node, name: ChannelName, policy: Arc<Namespace>) -> Arc<Self> {
        let has_log = policy.history.is_some();
        let life = match has_log {
            true => Life::Waking,
            false => {
                let core = core::Channel::wake(name.clone(), policy.clone(), None, Default::default());
                Life::Awake(Box::new(core))
            }
        };
        let lane = match (has_log, name.run()) {
            (false, _) => Lane::Ephemeral,
            (true, Some(_)) => Lane::Run,
            (true, None) => Lane::Durable,
        };
        Arc::new(Channel {
            name,
            policy,
            lane,
            state: Mutex::new(State {
                life,
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                driving: false,
                ring: VecDeque::new(),
                ring_bytes: 0,
                presence: Presence::default(),
                shards: Vec::new(),
                unsaved: 0,
                removed: None,
                save_at: limits::CHECKPOINT_RECORDS,
                used_ms: node.host.monotonic_ms(),
                sleepers: Vec::new(),
                roused: 0,
                saves_asked: 0,
                saves_done: 0,
                saved: Ok(()),
                in_turn: false,
            }),
        })
    }

    pub(crate) fn durability(&self) -> Durability {
        self.policy.durability
    }

    // ------------------------------------------------------------------------------------------------------ waking

    pub(crate) fn begin_to_wake(self: &Arc<Self>, node: &Arc<Node>) {
        if self.policy.history.is_some() {
            let (channel, node_of_task) = (self.clone(), node.clone());
            node.host.spawn(Box::pin(async move { channel.wake(&node_of_task).await }));
        }
    }

    async fn wake(self: Arc<Self>, node: &Arc<Node>) {
        let woken = node.log.wake(&self.name, self.durability()).await;
        let (sleepers, refused) = {
            let mut state = lock(&self.state);
            match woken {
                Ok(waking) => state.awaken(&self, waking, node.host.now_ms()),
                Err(fault) => {
                    node.say(Fact::LogFault { what: "wake" });
                    state.life = Life::Failed(refusal_of(&fault));
                }
            }
            let refused = match &state.life {
                Life::Failed(refusal) => Some((refusal.clone(), std::mem::take(&mut state.waiting))),
                _ => None,
            };
            (state.rouse(), refused)
        };
        if let Some((refusal, waiting)) = refused {
            for one in waiting {
                one.asker.tell(node, &self, Err(refusal.clone()));
            }
        }
        for sleeper in sleepers {
            sleeper.wake();
        }
        crate::run::settle_orphans(node, &self);
        self.drive_if_needed(node);
    }

    /// Ready when the channel is awake.
    pub(crate) async fn awake(&self) -> Result<(), Refusal> {
        self.wait_until(|state| match &state.life {
            Life::Awake(_) => Some(Ok(())),
            Life::Failed(refusal) => Some(Err(refusal.clone())),
            Life::Waking => None,
        })
        .await
    }

    /// Looks at the state now and whenever its sleepers are roused, until there is an answer.
    pub(crate) async fn wait_until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut asleep: Option<(u64, Waker)> = None;
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            if let Some(answer) = look(&mut state) {
                return Poll::Ready(answer);
            }
            // Polled for some other reason: its place among the sleepers is still there.
            let is_there = asleep
                .as_ref()
                .is_some_and(|(roused, waker)| *roused == state.roused && waker.will_wake(cx.waker()));
            if !is_there {
                state.sleepers.push(cx.waker().clone());
                asleep = Some((state.roused, cx.waker().clone()));
            }
            Poll::Pending
        })
        .await
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(lock(&self.state).life, Life::Failed(_))
    }

    // ---------------------------------------------------------------------------------------------------- sleeping

    /// Nobody reads, writes or is here, and has not for a while.
    pub(crate) fn is_quiet(&self, now_ms: u64) -> bool {
        let state = lock(&self.state);
        !matches!(state.life, Life::Waking)
            && !state.driving
            && !state.in_turn
            && state.waiting.is_empty()
            && state.presence.clients() == 0
            && state.shards.iter().all(|shard| shard.is_empty())
            && now_ms >= state.used_ms + limits::QUIET_MS
    }

    pub(crate) fn has_unsaved(&self) -> bool {
        lock(&self.state).unsaved > 0
    }

    /// Called under the directory's lock: nobody can wake it before the log has heard.
    pub(crate) fn fall_asleep(&self, node: &Node) {
        if self.policy.history.is_some() {
            node.log.slept(&self.name, self.durability());
        }
    }

    pub(crate) fn begin_to_save(self: &Arc<Self>, node: &Arc<Node>) {
        let (channel, node_of_task) = (self.clone(), node.clone());
        node.host.spawn(Box::pin(async move { drop(channel.save(&node_of_task).await) }));
    }

    /// Writes a checkpoint of everything up to now, if there is something to say; while somebody drives, the driver does.
    ///
    /// # Errors
    /// The log cannot take it.
    pub(crate) async fn save(self: &Arc<Self>, node: &Arc<Node>) -> Result<(), Refusal> {
        let asked = {
            let mut state = lock(&self.state);
            if state.unsaved == 0 || !matches!(state.life, Life::Awake(_)) {
                return Ok(());
            }
            let is_driven = std::mem::replace(&mut state.driving, true);
            state.saves_asked += u64::from(is_driven);
            is_driven.then_some(state.saves_asked)
        };
        if let Some(asked) = asked {
            let done = |state: &mut State| (state.saves_done >= asked).then(|| state.saved.clone());
            return self.wait_until(done).await;
        }
        loop {
            let saved = self.checkpoint(node).await;
            let mut state = lock(&self.state);
            if state.saves_done == state.saves_asked {
                state.driving = false;
                drop(state);
                self.drive_if_needed(node);
                return saved;
            }
        }
    }

    /// Called by whoever drives.
    async fn checkpoint(&self, node: &Node) -> Result<(), Refusal> {
        let (checkpoint, unsaved, asked, removed) = {
            let mut state = lock(&self.state);
            let now_ms = node.host.now_ms();
            let (unsaved, asked, removed) = (state.unsaved, state.saves_asked, state.removed);
            let Some(core) = state.core_mut() else { return Ok(()) };
            core.trim(now_ms);
            (core.checkpoint(), unsaved, asked, removed)
        };
        let saved = node.log.checkpoint(&self.name, self.durability(), checkpoint).await;
        let (saved, sleepers) = {
            let mut state = lock(&self.state);
            state.save_at = match saved {
                Ok(()) => limits::CHECKPOINT_RECORDS,
                Err(_) => state.unsaved.max(limits::CHECKPOINT_RECORDS) + limits::CHECKPOINT_RECORDS / 64,
            };
            if saved.is_ok() {
                state.unsaved -= unsaved;
                state.removed = state.removed.filter(|last| Some(*last) != removed);
            }
            state.saved = saved.map_err(|fault| refusal_of(&fault));
            state.saves_done = asked;
            (state.saved.clone(), state.rouse())
        };
        if saved.is_err() {
            node.say(Fact::LogFault { what: "checkpoint" });
        }
        sleepers.into_iter().for_each(Waker::wake);
        saved
    }

    // ----------------------------------------------------------------------------------------------------- writing

    /// Puts a write into its turn. The asker is told when it is decided and, if it was new, committed. True if it waits: then whoever
    /// proposes must also see to it that the channel is driven, once all that it has for it is proposed.
    #[must_use]
    pub(crate) fn propose(self: &Arc<Self>, node: &Arc<Node>, write: Admitted<Write>, asker: Asker) -> bool {
        let queued = {
            let mut state = lock(&self.state);
            state.used_ms = node.host.monotonic_ms();
            if self.policy.history.is_none() && state.is_swift() {
                drop(state);
                self.pass(node, write, asker);
                return false;
            }
            state.enqueue(Waiting { write, asker })
        };
        if let Err(refused) = queued {
            let (refusal, waiting) = *refused;
            waiting.asker.tell(node, self, Err(refusal));
            return false;
        }
        true
    }

    /// The same, for somebody in this process who waits.
    pub(crate) async fn write(
        self: &Arc<Self>,
        node: &Arc<Node>,
        write: Admitted<Write>,
    ) -> Result<Placed, Refusal> {
        let slot = Slot::new();
        if self.propose(node, write, Asker::Slot(slot.clone())) {
            self.drive_if_needed(node);
        }
        slot.wait().await
    }

    /// Starts a driver if something waits and nobody drives.
    pub(crate) fn drive_if_needed(self: &Arc<Self>, node: &Arc<Node>) {
        {
            let mut state = lock(&self.state);
            if state.driving || state.waiting.is_empty() || !matches!(state.life, Life::Awake(_)) {
                return;
            }
            state.driving = true;
        }
        let (channel, node_of_task) = (self.clone(), node.clone());
        node.host.spawn(Box::pin(async move { channel.drive(&node_of_task).await }));
    }

    /// Without history nothing is kept: a batch only waits until its readers have taken what went before.
    async fn try_append(&self, node: &Node, batch: &Arc<Batch>) -> Appended {
        match self.policy.history {
            Some(_) => node.log.append(batch.clone(), self.durability()).await,
            None => Appended::Accepted,
        }
    }

    async fn drive(self: Arc<Self>, node: &Arc<Node>) {
        loop {
            match self.gather(node) {
                Next::Rest => return,
                // Whoever asked is told how it went.
                Next::Save => drop(self.checkpoint(node).await),
                Next::Append(round) => self.append(node, round).await,
            }
        }
    }

    /// Appends until it is certain what became of it.
    async fn append(self: &Arc<Self>, node: &Arc<Node>, mut round: Round) {
        let mut unknown = false;
        loop {
            match self.try_append(node, &round.batch).await {
                Appended::Accepted => return self.commit(node, round).await,
                Appended::Refused(fault) => {
                    // What whoever operates the server can do something about is said by its name.
                    let what = if fault == LogFault::Full { "full" } else { "append" };
                    node.say(Fact::LogFault { what });
                    if !unknown {
                        return self.refuse(node, round, &fault);
                    }
                    // This one was, but one of which nobody knows may still arrive.
                    node.host.sleep(100).await;
                }
                Appended::Unknown => unknown = true,
                Appended::Conflict => {}
            }
            match self.reconsider(node, round).await {
                Some(again) => round = again,
                None => return,
            }
        }
    }

    /// Takes what waits, decides it, and answers what needs no append. A checkpoint that is due goes first.
    fn gather(self: &Arc<Self>, node: &Arc<Node>) -> Next {
        let bytes_max = node.settings.outbox_bytes_max / 4;
        loop {
            let (decision, waiting) = {
                let mut state = lock(&self.state);
                if state.must_save() {
                    return Next::Save;
                }
                let waiting = state.take_waiting(bytes_max);
                let now_ms = node.host.now_ms();
                match state.core_mut() {
                    Some(core) if !waiting.is_empty() => {
                        let proposal = proposal_id(&*node.host);
                        (core.decide(waiting.iter().map(|one| &one.write), proposal, now_ms), waiting)
                    }
                    _ => {
                        state.driving = false;
                        return Next::Rest;
                    }
                }
            };
            match decision.batch {
                Some(batch) => {
                    let began_ms = node.host.monotonic_ms();
                    return Next::Append(Round { batch, waiting, answers: decision.answers, began_ms });
                }
                None => self.answer(node, waiting, decision.answers),
            }
        }
    }

    /// The log has it: absorb, acknowledge, hand it to the readers, announce it.
    async fn commit(self: &Arc<Self>, node: &Arc<Node>, round: Round) {
        let shards = {
            let mut state = lock(&self.state);
            if self.policy.history.is_some() {
                state.absorb(&round.batch);
            }
            state.hand_out(&round.batch)
        };
        if self.policy.history.is_some() {
            node.say(Fact::Appended {
                records: round.batch.records.len() as u32,
                bytes: round.batch.cost() as u32,
                append_us: node.host.monotonic_ms().saturating_sub(round.began_ms) * 1000,
            });
        }
        self.answer(node, round.waiting, round.answers);
        node.bus.announce(&round.batch);
        drain_all(node, &shards).await;
    }

    fn refuse(self: &Arc<Self>, node: &Arc<Node>, round: Round, fault: &LogFault) {
        // A refusal, too, may have been decided by what was to be written and is not: it is asked for again.
        let refused = |answer| match answer {
            Answer::Known { .. } => answer,
            Answer::Written { .. } | Answer::Refused(_) => Answer::Refused(refusal_of(fault)),
        };
        self.answer(node, round.waiting, round.answers.into_iter().map(refused).collect());
    }

    /// The log ends elsewhere, or nobody knows: read it, take in what is new, and decide again what is not there.
    ///
    /// While the log has not moved, the same batch may still arrive: then it is given back, to be appended again under the same
    /// proposal, of which the log takes one. Decided anew, it could be there twice.
    async fn reconsider(self: &Arc<Self>, node: &Arc<Node>, round: Round) -> Option<Round> {
        let waking = loop {
            match node.log.wake(&self.name, self.durability()).await {
                Ok(waking) => break waking,
                Err(_) => {
                    node.say(Fact::LogFault { what: "read after an append" });
                    node.host.sleep(100).await;
                }
            }
        };
        let is_there = waking.tail.iter().any(|batch| batch.proposal == round.batch.proposal);
        let expected = Position::new(round.batch.epoch, round.batch.first() - 1);
        let (shards, has_moved) = {
            let mut state = lock(&self.state);
            let known = state.core().map(core::Channel::newest).unwrap_or_default();
            let fresh: Vec<_> =
                waking.tail.iter().filter(|batch| batch.first() > known.offset).cloned().collect();
            state.awaken(self, waking, node.host.now_ms());
            let has_moved = state.core().is_none_or(|core| core.newest() != expected);
            (fresh.iter().flat_map(|batch| state.hand_out(batch)).collect::<Vec<_>>(), has_moved)
        };
        if !is_there && !has_moved {
            node.host.sleep(10).await;
            return Some(round);
        }
        if is_there {
            self.answer(node, round.waiting, round.answers);
        } else {
            let mut state = lock(&self.state);
            for one in round.waiting.into_iter().rev() {
                state.waiting_bytes += one.write.command().body.len();
                state.waiting.push_front(one);
            }
        }
        drain_all(node, &shards).await;
        None
    }

    /// Tells every asker, and writes each session's replies together.
    fn answer(self: &Arc<Self>, node: &Arc<Node>, waiting: Vec<Waiting>, answers: Vec<Answer>) {
        let epoch = lock(&self.state).core().map(|core| core.newest().epoch).unwrap_or_default();
        let mut told: Vec<Arc<Session>> = Vec::new();
        for (one, answer) in waiting.into_iter().zip(answers) {
            let at = |offset| (offset > 0).then(|| Position::new(epoch, offset));
            let outcome = match answer {
                Answer::Written { offset, duplicate } => {
                    Ok(Placed { position: at(offset), duplicate, run: None })
                }
                Answer::Known { offset, run } => Ok(Placed { position: at(offset), duplicate: true, run }),
                Answer::Refused(refusal) => Err(refusal),
            };
            if outcome.as_ref().is_ok_and(|placed| placed.duplicate) {
                node.say(Fact::Duplicate);
            }
            if let Some(session) = one.asker.answer(node, self, outcome)
                && !told.iter().rev().take(8).any(|known| Arc::ptr_eq(known, &session))
            {
                told.push(session);
            }
        }
        for session in told {
            session.flush();
        }
    }

    /// A record of a channel without history goes out and is gone, if there are few readers: with many, what comes meanwhile gathers.
    fn pass(self: &Arc<Self>, node: &Arc<Node>, write: Admitted<Write>, asker: Asker) {
        let (answer, shards) = {
            let mut state = lock(&self.state);
            state.used_ms = node.host.monotonic_ms();
            let Some(core) = state.core_mut() else { return };
            let mut decision = core.decide([&write], proposal_id(&*node.host), node.host.now_ms());
            let shards = decision.batch.map(|batch| state.hand_out(&batch)).unwrap_or_default();
            (decision.answers.pop(), shards)
        };
        let outcome = match answer {
            Some(Answer::Refused(refusal)) => Err(refusal),
            _ => Ok(Placed { position: None, duplicate: false, run: None }),
        };
        for shard in &shards {
            shard.kick(node);
        }
        asker.tell(node, self, outcome);
    }

    /// Tells those who follow that somebody came or left.
    pub(crate) fn tell_passing(self: &Arc<Self>, node: &Arc<Node>, event: Event) {
        let event = Arc::new(event);
        let shards = lock(&self.state).shards.clone();
        for shard in shards.iter().filter(|shard| !shard.is_empty()) {
            shard.push(Op::Passing(event.clone()));
            shard.kick(node);
        }
    }
}

impl Asker {
    /// Tells it at once.
    pub(crate) fn tell(self, node: &Arc<Node>, channel: &Channel, outcome: Result<Placed, Refusal>) {
        if let Some(session) = self.answer(node, channel, outcome) {
            session.flush();
        }
    }

    /// Queues what it is told. Answers the session whose outbox is to be flushed.
    fn answer(
        self,
        node: &Arc<Node>,
        channel: &Channel,
        outcome: Result<Placed, Refusal>,
    ) -> Option<Arc<Session>> {
        match self {
            Asker::Session { session, id, positioned } => {
                session.published(node, &channel.name, id, positioned, outcome);
                Some(session)
            }
            Asker::Slot(slot) => {
                slot.fill(outcome);
                None
            }
        }
    }
}

pub(crate) fn refusal_of(fault: &LogFault) -> Refusal {
    match fault {
        LogFault::Full => Refusal::because(Code::StoreFull, "the store is full; nothing was written"),
        LogFault::Gone => Refusal::new(Code::UnrecoverablePosition),
        LogFault::Failed(_) => Refusal::new(Code::Internal),
    }
}
