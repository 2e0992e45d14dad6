//! A client as an SDK is one: it follows, keeps its positions, comes back, and retries what was not answered, under the same key.

mod acts;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use fireside_core::command::{Command, Connect, Request, Subscribe};
use fireside_core::{Claimed, Epoch};

use crate::check::Reader;
use crate::keys::{Role, token};
use crate::link::{Brought, Pipe};
use crate::lock;
use crate::plan::{ClientPlan, Speed};
use crate::told::{Answer, At, Begun, Shown, Told};
use crate::world::{Phase, World};

/// One client over all its sessions.
pub struct Client {
    world: Arc<World>,
    number: usize,
    plan: ClientPlan,
    subs: BTreeMap<String, Sub>,
    /// Attempts with a key that are to be tried again.
    retries: VecDeque<usize>,
    /// Starts of runs that are to be tried again: key and tries left.
    starts: VecDeque<(String, u32)>,
    /// Runs by the key that started them.
    started: BTreeMap<String, String>,
    /// Keys that were acknowledged.
    known: Vec<usize>,
    published: u32,
    runs: u32,
    sent: u64,
    token_until_ms: u64,
    session: Session,
}

/// What belongs to one link.
#[derive(Default)]
struct Session {
    pending: BTreeMap<u32, Pending>,
    last_id: u32,
    open: bool,
    act_ms: u64,
    leaves_ms: u64,
    retry_ms: u64,
}

/// A channel that it follows, or wants to.
#[derive(Clone, Debug, Default)]
struct Sub {
    wanted: bool,
    live: bool,
    asked: bool,
    /// Where to begin if nothing else is known.
    from: Option<At>,
    retry_ms: u64,
}

/// What a request that is not answered yet was.
#[derive(Clone, Debug)]
enum Pending {
    Connect,
    Subscribe(String, Option<At>),
    Unsubscribe(String),
    Publish(usize),
    History(String, bool),
    Start(String),
    Other,
    Refresh(u64),
    /// What must be refused, and where.
    Forbidden(&'static str, String),
}

enum Next {
    Brought(Brought),
    Time,
}

impl Client {
    /// A client that has not done anything yet.
    pub fn new(world: Arc<World>, number: usize, plan: ClientPlan) -> Client {
        let wanted = |name: &String| (name.clone(), Sub { wanted: true, ..Sub::default() });
        let subs = plan.follows.iter().map(wanted).collect();
        if plan.role != Role::Stranger {
            let mut follows = lock(&world.follows);
            follows.extend(plan.follows.iter().map(|name| (number, name.clone())));
        }
        Client {
            world,
            number,
            plan,
            subs,
            retries: VecDeque::new(),
            starts: VecDeque::new(),
            started: BTreeMap::new(),
            known: Vec::new(),
            published: 0,
            runs: 0,
            sent: 0,
            token_until_ms: 0,
            session: Session::default(),
        }
    }

    /// Its whole life.
    pub async fn live(mut self) {
        while self.world.phase() < Phase::Over {
            match self.world.dial(&self.plan) {
                Some(pipe) => {
                    self.session(&pipe).await;
                    pipe.leave();
                    self.came_apart();
                    let ms = self.world.seed.between(1, 200);
                    self.world.executor.sleep_ms(ms).await;
                }
                None => {
                    self.is_restless("has no link");
                    let ms = self.world.seed.between(20, 100);
                    self.world.executor.sleep_ms(ms).await;
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.world.executor.now_ms()
    }

    fn reader(&self, channel: &str) -> Reader {
        (self.number, channel.to_owned())
    }

    fn is_restless(&self, why: &str) {
        lock(&self.world.restless).insert(self.number, why.to_owned());
    }

    fn send(&mut self, pipe: &Pipe, command: Command, pending: Pending) {
        self.session.last_id += 1;
        let id = self.session.last_id;
        self.session.pending.insert(id, pending);
        pipe.send(Request { id, command });
    }

    // -------------------------------------------------------------------------------------------------------- a session

    async fn session(&mut self, pipe: &Pipe) {
        let now_ms = self.now_ms();
        let leaves_ms = match self.plan.leaves_ms {
            Some((from, to)) if self.world.phase() == Phase::Wild => {
                now_ms + self.world.seed.between(from, to)
            }
            _ => u64::MAX,
        };
        self.session = Session { leaves_ms, act_ms: now_ms, ..Session::default() };
        // At times it comes with its old token, and must be told that it is over.
        if self.token_until_ms <= self.world.unix_ms()
            && !(self.token_until_ms > 0 && self.world.seed.chance(30))
        {
            self.token_until_ms = self.world.unix_ms() / 1000 * 1000 + self.plan.token_s * 1000;
        }
        let token = token(self.plan.role, &self.plan.user, self.token_until_ms / 1000);
        self.send(pipe, Command::Connect(Connect { token, ..Connect::default() }), Pending::Connect);
        loop {
            if self.world.phase() == Phase::Over {
                return;
            }
            match self.next(pipe).await {
                Next::Brought(Brought::Told(all)) => {
                    for told in all {
                        self.take(pipe, told);
                    }
                    self.pace().await;
                }
                Next::Brought(Brought::Over(code)) => {
                    self.world.trace.note("over", &self.plan.user, u64::from(code.unwrap_or(0)));
                    return self.was_closed(code);
                }
                Next::Time => {}
            }
            if !self.act(pipe) {
                return;
            }
        }
    }

    /// What it is told, or, when nothing comes, time to do something.
    async fn next(&self, pipe: &Pipe) -> Next {
        let now_ms = self.now_ms();
        let until_ms = self.session.act_ms.min(self.session.leaves_ms).clamp(now_ms + 1, now_ms + 200);
        let mut timer = pin!(self.world.executor.sleep_ms(until_ms - now_ms));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(brought) = pipe.poll_brought(cx) {
                return Poll::Ready(Next::Brought(brought));
            }
            timer.as_mut().poll(cx).map(|()| Next::Time)
        })
        .await
    }

    async fn pace(&self) {
        if self.world.phase() > Phase::Wild {
            return;
        }
        let us = match self.plan.speed {
            Speed::Fast => self.world.seed.between(0, 300),
            Speed::Slow(us) => us,
            Speed::Stalls(ms) if self.world.seed.chance(5) => ms * 1000,
            Speed::Stalls(_) => 0,
        };
        if us > 0 {
            self.world.executor.sleep_us(us).await;
        }
    }

    fn was_closed(&self, code: Option<u16>) {
        // 3001 shutdown, 3005 expired, 3008 slow, 3009 write error, 3012 no pong; 3500: a token's life is longer than it may be.
        if let Some(code) = code
            && !matches!(code, 3001 | 3005 | 3008 | 3009 | 3012)
        {
            self.world.check.break_off(format!("I13 live: client {} was closed with {code}", self.number));
        }
    }

    /// The link is gone: what was not answered is unknown.
    fn came_apart(&mut self) {
        self.is_restless("has lost its link");
        for pending in std::mem::take(&mut self.session.pending).into_values() {
            match pending {
                Pending::Publish(id) if self.world.check.attempted(id).key.is_some() => {
                    self.retries.push_back(id)
                }
                Pending::Start(key) => self.starts.push_back((key, 20)),
                _ => {}
            }
        }
        for (channel, sub) in &mut self.subs {
            (sub.live, sub.asked, sub.retry_ms) = (false, false, 0);
            self.world.check.stops(&(self.number, channel.clone()));
        }
        self.session.open = false;
    }

    // ------------------------------------------------------------------------------------------------------------- told

    fn take(&mut self, pipe: &Pipe, told: Told) {
        match told {
            Told::Ping => pipe.send(Request { id: 0, command: Command::Pong }),
            Told::Passing => {}
            Told::Records(channel, epoch, records) => {
                self.is_in_time("records", fireside_core::limits::EXPIRED_GRACE_MS);
                if self.plan.role == Role::Stranger {
                    return self.world.check.let_in("records", &channel);
                }
                self.world.check.shown(&self.reader(&channel), epoch, &records);
                self.watch(pipe, &channel, &records);
            }
            Told::Ended(channel, code) => {
                self.world.trace.count("subscriptions ended by the server");
                self.world.check.stops(&self.reader(&channel));
                if let Some(sub) = self.subs.get_mut(&channel) {
                    sub.live = false;
                    if code < 2500 {
                        self.world.check.break_off(format!("I13 live: {channel} was ended with {code}"));
                    }
                }
            }
            Told::Answer(id, answer) => match self.session.pending.remove(&id) {
                Some(pending) => self.answered(pipe, pending, answer),
                None => {
                    self.world.check.break_off(format!("I13 live: an answer to {id}, which waits for none"))
                }
            },
        }
    }

    fn answered(&mut self, pipe: &Pipe, pending: Pending, answer: Answer) {
        let check = self.world.check.clone();
        match (pending, answer) {
            (Pending::Forbidden(..), Answer::Refused(_)) => {
                self.world.trace.count("refused for want of a right")
            }
            (Pending::Forbidden(what, channel), _) => check.let_in(what, &channel),
            (Pending::Connect, Answer::Connected) => self.session.open = true,
            (Pending::Connect, Answer::Refused(_)) => {
                self.world.trace.count("expired tokens refused");
                self.token_until_ms = 0;
                self.session.leaves_ms = 0;
            }
            (Pending::Subscribe(channel, asked), Answer::Subscribed(begun)) => {
                self.follows(pipe, &channel, asked, &begun);
            }
            (Pending::Subscribe(channel, _), Answer::Refused(code)) => self.may_not_follow(&channel, code),
            (Pending::Unsubscribe(channel), Answer::Done) => {
                check.stops(&self.reader(&channel));
                if let Some(sub) = self.subs.get_mut(&channel) {
                    (sub.live, sub.asked) = (false, false);
                }
            }
            (Pending::Publish(id), Answer::PublishedAt(at, duplicate)) => {
                self.is_in_time("an acknowledgement", fireside_core::limits::EXPIRED_SKEW_MS);
                check.acked(id, (at != (0, 0)).then_some(at), duplicate);
                if check.attempted(id).key.is_some() {
                    self.known.push(id);
                }
            }
            (Pending::Publish(id), Answer::Done) => check.acked(id, None, false),
            (Pending::Publish(id), Answer::Refused(code)) => self.publish_refused(id, code),
            (Pending::History(channel, reverse), Answer::Page(records, until)) => {
                check.page(&channel, until, &records, reverse);
            }
            (Pending::Start(key), Answer::RunStarted(run, log, epoch)) => {
                self.run_started(key, run, log, epoch)
            }
            (Pending::Start(key), Answer::Refused(code)) => self.start_refused(key, code),
            (Pending::Refresh(until_ms), Answer::Done) => {
                self.world.trace.count("tokens refreshed");
                self.token_until_ms = until_ms;
            }
            (Pending::Refresh(_), Answer::Refused(_)) => self.session.leaves_ms = 0,
            (Pending::Other | Pending::History(..), Answer::Refused(103)) => {
                check.break_off("I6 admitted: somebody with a right was refused".to_owned());
            }
            (Pending::Other | Pending::History(..), _) => {}
            (pending, answer) => {
                check.break_off(format!("I13 live: {pending:?} was answered by {answer:?}"));
            }
        }
    }

    /// I6 admitted: nothing is taken from a session once its token is over, and nothing is sent to it long after.
    fn is_in_time(&self, what: &str, after_ms: u64) {
        // A moment for what was under way.
        let until_ms = self.token_until_ms + after_ms + 3_000;
        if self.plan.role != Role::Stranger && self.world.unix_ms() > until_ms {
            self.world.check.let_in(&format!("{what} long after its token's end"), &self.plan.user);
        }
    }

    fn follows(&mut self, pipe: &Pipe, channel: &str, asked: Option<At>, begun: &Begun) {
        if self.plan.role == Role::Stranger {
            return self.world.check.let_in("a subscription", channel);
        }
        let reader = self.reader(channel);
        self.world.check.begins(&reader, asked, begun);
        if asked.is_some() && begun.recovered {
            self.world.trace.count("recoveries");
        }
        if channel.contains("/run/") && !begun.recovered {
            self.world.check.reads_part(&reader);
        }
        if let Some(sub) = self.subs.get_mut(channel) {
            (sub.live, sub.asked) = (true, false);
        }
        self.watch(pipe, channel, &begun.page);
    }

    fn may_not_follow(&mut self, channel: &str, code: u16) {
        let retry_ms = self.now_ms() + 200;
        let Some(sub) = self.subs.get_mut(channel) else { return };
        (sub.asked, sub.retry_ms) = (false, retry_ms);
        match code {
            102 if channel.contains("/run/") => {
                sub.wanted = false;
                self.world.trace.count("run logs gone");
            }
            100 | 110 | 111 => {}
            _ => self.world.check.break_off(format!("I13 live: {channel} may not be followed: {code}")),
        }
    }

    /// Looks for runs that begin and end.
    fn watch(&mut self, pipe: &Pipe, channel: &str, records: &[Shown]) {
        if channel.contains("/run/") {
            if self.world.check.saw_end(&self.reader(channel))
                && let Some(sub) = self.subs.get_mut(channel).filter(|sub| sub.wanted)
            {
                sub.wanted = false;
                self.send(
                    pipe,
                    Command::Unsubscribe { channel: channel.to_owned() },
                    Pending::Unsubscribe(channel.to_owned()),
                );
            }
            return;
        }
        let looks = self.plan.follows_runs;
        for record in records.iter().filter(|record| record.of_run && looks) {
            let Ok(body) = serde_json::from_slice::<serde_json::Value>(&record.body) else { continue };
            if body["type"] == "run.start"
                && let (Some(run), Some(Ok(epoch))) =
                    (body["run"].as_str(), body["epoch"].as_str().map(str::parse))
            {
                self.follow_run(format!("{channel}/run/{run}"), epoch);
            }
        }
    }

    fn follow_run(&mut self, log: String, epoch: u64) {
        self.subs.entry(log).or_insert(Sub { wanted: true, from: Some((epoch, 0)), ..Sub::default() });
    }

    fn subscribe(&mut self, pipe: &Pipe, channel: String) {
        let Some(sub) = self.subs.get_mut(&channel) else { return };
        sub.asked = true;
        let from = sub.from;
        let known = self.world.check.position(&self.reader(&channel)).or(from);
        let asked = known.filter(|_| !channel.starts_with("e:"));
        let asked = match asked {
            Some(at) if self.world.phase() == Phase::Wild && self.world.seed.chance(self.plan.lies) => {
                self.world.trace.count("positions above the tail claimed");
                Some((at.0, at.1 + 1_000_000))
            }
            other => other,
        };
        let recover = asked.map(|at| Claimed { epoch: Some(Epoch(at.0)), offset: at.1 });
        let subscribe = Subscribe {
            channel: channel.clone(),
            recover,
            positioned: true,
            recoverable: true,
            join_leave: self.number.is_multiple_of(2),
            ..Subscribe::default()
        };
        let pending = match self.plan.role {
            Role::Stranger => Pending::Forbidden("a subscription", channel),
            _ => Pending::Subscribe(channel, asked),
        };
        self.send(pipe, Command::Subscribe(subscribe), pending);
    }
}
