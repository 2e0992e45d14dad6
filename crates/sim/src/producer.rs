//! A backend that writes runs over the API, tries again what was not answered, and at times dies in the middle.

use std::sync::Arc;

use bytes::Bytes;
use fireside_core::channel::run::{Change, Status};
use fireside_core::command::CancelRun;
use fireside_core::gate::Principal;
use fireside_core::produce::{AppendRun, BeginRun, EndRun, ReadRun, RunAppended};
use fireside_core::{Code, Refusal};
use fireside_node::Node;

use crate::executor::Group;
use crate::lock;
use crate::plan::ProducerPlan;
use crate::world::{Phase, World};

/// One backend.
pub struct Producer {
    world: Arc<World>,
    number: usize,
    plan: ProducerPlan,
}

/// How a run goes on.
enum Next {
    On,
    /// It has ended, by whomever.
    Over,
    /// The backend is dead.
    Dead,
}

/// A run, as its backend knows it.
struct Writing {
    key: String,
    run: String,
    group: Group,
    /// All that it was told is there.
    text: String,
    at: u64,
    cancelled: bool,
}

const WORDS: [&str; 6] = ["once ", "upon ", "der Fuß ", "👩‍🚀 ", "\"said\"\n", "𝄞"];

impl Producer {
    /// A backend that has not done anything yet.
    pub fn new(world: Arc<World>, number: usize, plan: ProducerPlan) -> Producer {
        Producer { world, number, plan }
    }

    /// Its whole life: one run after the other. One that died is started anew.
    pub async fn live(self) {
        for turn in 0..self.plan.runs {
            let key = format!("produced-{}-{turn}", self.number);
            self.waits("begins a run");
            let Some(mut writing) = self.begin(key).await else { break };
            self.waits("writes a run");
            let next = self.write(&mut writing).await;
            if matches!(next, Next::Dead) {
                self.world.trace.count("backends that died");
            }
            self.waits("waits for the end of its run");
            self.sees_the_end(&writing).await;
        }
        lock(&self.world.restless).remove(&self.id());
    }

    /// Clients have the lower numbers.
    fn id(&self) -> usize {
        1_000 + self.number
    }

    fn waits(&self, why: &str) {
        lock(&self.world.restless).insert(self.id(), format!("a backend {why}"));
    }

    async fn sleep(&self, from_ms: u64, to_ms: u64) {
        let ms = self.world.seed.between(from_ms, to_ms);
        self.world.executor.sleep_ms(ms).await;
    }

    /// One call, asked again until it is answered for good. `None`: the world is over.
    async fn call<T: Send + 'static, F>(
        &self,
        ask: impl Fn(Arc<Node>, Arc<Principal>) -> F,
    ) -> Option<(Group, Result<T, Refusal>)>
    where
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        while self.world.phase() < Phase::Over {
            if let Some((group, node)) = self.world.node() {
                let answer =
                    self.world.within(group, Box::pin(ask(node, Principal::backend("producer")))).await;
                match answer {
                    Some(Err(refusal)) if refusal.code.is_temporary() => {
                        self.world.trace.count("calls of backends refused for now");
                    }
                    Some(answer) => return Some((group, answer)),
                    None => self.world.trace.count("calls of backends without an answer"),
                }
            }
            self.sleep(10, 60).await;
        }
        None
    }

    async fn begin(&self, key: String) -> Option<Writing> {
        loop {
            let asked = BeginRun {
                channel: self.plan.channel.clone(),
                key: key.clone(),
                by: "user0".to_owned(),
                model: "produced".to_owned(),
                input: Bytes::new(),
            };
            let ask = |node: Arc<Node>, who: Arc<Principal>| {
                let asked = asked.clone();
                async move { node.run_start(&who, asked).await }
            };
            match self.call(ask).await? {
                (group, Ok(begun)) => {
                    self.world.trace.count("runs of backends");
                    lock(&self.world.given).entry(key.clone()).or_default().push((String::new(), false));
                    let run = begun.run.to_string();
                    return Some(Writing { key, run, group, text: String::new(), at: 0, cancelled: false });
                }
                // Another one is active: it waits for its turn, but not for ever.
                (_, Err(refusal)) if refusal.code == Code::Conflict => {
                    if self.world.phase() > Phase::Wild {
                        return None;
                    }
                    self.sleep(20, 200).await;
                }
                (_, Err(refusal)) => {
                    self.world
                        .check
                        .break_off(format!("I13 live: a backend's start was refused: {refusal:?}"));
                    return None;
                }
            }
        }
    }

    async fn write(&self, writing: &mut Writing) -> Next {
        let seed = self.world.seed.clone();
        for _ in 0..seed.between(0, 30) {
            self.sleep(0, 80).await;
            if self.world.phase() == Phase::Wild && seed.chance(self.plan.dies) {
                return Next::Dead;
            }
            if seed.chance(self.plan.cancels) {
                self.cancel(writing).await;
            }
            let next = match seed.below(10) {
                0 => self.append(writing, Vec::new(), writing.text.clone()).await,
                1 => self.take_back(writing).await,
                _ => self.say(writing).await,
            };
            if !matches!(next, Next::On) {
                return next;
            }
        }
        self.end(writing).await
    }

    async fn say(&self, writing: &mut Writing) -> Next {
        let seed = self.world.seed.clone();
        let more: String = (0..seed.between(1, 5)).map(|_| *seed.pick(&WORDS)).collect();
        let all = format!("{}{more}", writing.text);
        // At times what is there is said again with it.
        let (at, text) = if seed.chance(20) { (0, all.clone()) } else { (writing.at, more) };
        self.append(writing, vec![Change::Delta { part: 0, kind: "text".to_owned(), at, text }], all).await
    }

    async fn take_back(&self, writing: &mut Writing) -> Next {
        let chars = writing.text.chars().count() as u64;
        let all: String = writing.text.chars().take(self.world.seed.below(chars + 1) as usize).collect();
        let to = all.encode_utf16().count() as u64;
        self.world.trace.count("texts taken back");
        self.append(writing, vec![Change::Reset { part: 0, to }], all).await
    }

    /// Asks until it is there. What may be there is said to have been given before it is asked.
    async fn append(&self, writing: &mut Writing, changes: Vec<Change>, all: String) -> Next {
        lock(&self.world.given).entry(writing.key.clone()).or_default().push((all.clone(), false));
        let asked = AppendRun { channel: self.plan.channel.clone(), run: writing.run.clone(), changes };
        let ask = |node: Arc<Node>, who: Arc<Principal>| {
            let asked = asked.clone();
            async move { node.run_append(&who, asked).await }
        };
        match self.call(ask).await {
            None => Next::Over,
            Some((group, Ok(told))) => self.appended(writing, group, &told, all),
            Some((_, Err(refusal))) => self.refused(&refusal),
        }
    }

    fn appended(&self, writing: &mut Writing, group: Group, told: &RunAppended, all: String) -> Next {
        if told.cancelled.is_some() {
            self.world.trace.count("backends told of a cancel");
            return Next::Over;
        }
        if writing.cancelled {
            let run = &writing.run;
            self.world.check.break_off(format!("I10 settled: {run} was cancelled, and takes more"));
        }
        if group != writing.group {
            self.world.trace.count("runs that outlived their server");
            writing.group = group;
        }
        (writing.text, writing.at) = (all, told.end.at);
        let expected = writing.text.encode_utf16().count() as u64;
        if told.end.at != expected {
            let (run, at) = (&writing.run, told.end.at);
            self.world
                .check
                .break_off(format!("I2 once: {run} ends at {at}, and {expected} units were said"));
        }
        Next::On
    }

    fn refused(&self, refusal: &Refusal) -> Next {
        // Over, by its lease or its bounds. Anything else would be a lie about what was acknowledged.
        if !matches!(refusal.code, Code::NotAvailable | Code::LimitExceeded) {
            self.world
                .check
                .break_off(format!("I3 true ack: an append of a backend was refused: {refusal:?}"));
        }
        Next::Over
    }

    async fn cancel(&self, writing: &mut Writing) {
        let (channel, run) = (self.plan.channel.clone(), Some(writing.run.clone()));
        let asked = CancelRun { channel, run, ..CancelRun::default() };
        let ask = |node: Arc<Node>, who: Arc<Principal>| {
            let asked = asked.clone();
            async move { node.run_cancel(&who, asked, "").await }
        };
        if let Some((group, Ok("cancelled"))) = self.call(ask).await {
            // A cancel is carried out by the life that took it.
            writing.cancelled = self.world.node().is_some_and(|(now, _)| now == group);
        }
    }

    async fn end(&self, writing: &Writing) -> Next {
        lock(&self.world.given).entry(writing.key.clone()).or_default().push((writing.text.clone(), true));
        let asked = EndRun {
            channel: self.plan.channel.clone(),
            run: writing.run.clone(),
            status: Status::Complete,
            usage: None,
            reason: String::new(),
        };
        let ask = |node: Arc<Node>, who: Arc<Principal>| {
            let asked = asked.clone();
            async move { node.run_end(&who, asked).await }
        };
        match self.call(ask).await {
            Some((_, Ok(ended))) if ended.status == Status::Complete => {
                self.world.trace.count("runs that backends ended");
            }
            Some((_, Err(refusal))) => {
                self.world.check.break_off(format!("I10 settled: a backend cannot end its run: {refusal:?}"));
            }
            _ => {}
        }
        Next::Over
    }

    /// I10 settled: it ends, whether its backend lives or not.
    async fn sees_the_end(&self, writing: &Writing) {
        let asked = ReadRun { channel: self.plan.channel.clone(), run: writing.run.clone() };
        loop {
            let ask = |node: Arc<Node>, who: Arc<Principal>| {
                let asked = asked.clone();
                async move { node.run_get(&who, asked).await }
            };
            match self.call(ask).await {
                None => return,
                Some((_, Ok(state))) if state.status.is_some() => break,
                Some((_, Ok(_))) => self.sleep(100, 300).await,
                Some((_, Err(refusal))) => {
                    let run = &writing.run;
                    return self.world.check.break_off(format!("I10 settled: {run} is gone: {refusal:?}"));
                }
            }
        }
        // Its log is closed first; its channel hears of the end right after.
        self.sleep(1_000, 1_000).await;
    }
}
