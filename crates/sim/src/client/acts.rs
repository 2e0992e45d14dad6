//! What a client does by itself: subscribe, publish, read, start runs, refresh its token, leave.

use bytes::Bytes;
use fireside_core::command::{CancelRun, Command, History, Publish, StartRun};
use fireside_core::{Claimed, Epoch};

use super::{Client, Pending};
use crate::check::Attempt;
use crate::keys::{Role, token};
use crate::link::Pipe;
use crate::lock;
use crate::world::Phase;

impl Client {
    /// One turn. False if it leaves.
    pub(super) fn act(&mut self, pipe: &Pipe) -> bool {
        let now_ms = self.now_ms();
        let wild = self.world.phase() == Phase::Wild;
        if now_ms >= self.session.leaves_ms && (wild || !self.session.open) {
            self.world.trace.count("clients that leave");
            return false;
        }
        if !self.session.open {
            return true;
        }
        self.resubscribe(pipe, now_ms);
        self.refresh(pipe);
        if now_ms >= self.session.retry_ms {
            self.retry(pipe);
            self.session.retry_ms = now_ms + 50;
        }
        if now_ms >= self.session.act_ms {
            let (from, to) = self.plan.gap_ms;
            self.session.act_ms = now_ms + self.world.seed.between(from, to);
            if wild {
                self.something(pipe);
            }
        }
        self.tell_whether_done(wild);
        true
    }

    fn tell_whether_done(&self, wild: bool) {
        let waits_for = || {
            if wild {
                return Some("is not done".to_owned());
            }
            if let Some(pending) = self.session.pending.values().next() {
                return Some(format!("waits for an answer to {pending:?}"));
            }
            if !self.retries.is_empty() || !self.starts.is_empty() {
                return Some("has something to retry".to_owned());
            }
            let unsettled = self.subs.iter().find(|(_, sub)| sub.wanted && !sub.live);
            if let Some((channel, _)) = unsettled.filter(|_| self.plan.role != Role::Stranger) {
                return Some(format!("does not follow {channel}"));
            }
            let runs = self.subs.iter().find(|(channel, sub)| sub.wanted && channel.contains("/run/"));
            runs.map(|(channel, _)| format!("waits for the end of {channel}"))
        };
        let mut restless = lock(&self.world.restless);
        match waits_for() {
            Some(why) => restless.insert(self.number, why),
            None => restless.remove(&self.number),
        };
    }

    fn resubscribe(&mut self, pipe: &Pipe, now_ms: u64) {
        let wild = self.world.phase() == Phase::Wild;
        let missing = |sub: &super::Sub| sub.wanted && !sub.live && !sub.asked && now_ms >= sub.retry_ms;
        let due: Vec<String> =
            self.subs.iter().filter(|(_, sub)| missing(sub)).map(|(name, _)| name.clone()).collect();
        for channel in due {
            if self.plan.role == Role::Stranger && !wild {
                continue;
            }
            self.subscribe(pipe, channel);
        }
    }

    fn refresh(&mut self, pipe: &Pipe) {
        let left_ms = self.token_until_ms.saturating_sub(self.world.unix_ms());
        let waits = self.session.pending.values().any(|pending| matches!(pending, Pending::Refresh(_)));
        if !self.plan.refreshes || waits || left_ms > self.plan.token_s * 300 {
            return;
        }
        let until_ms = self.world.unix_ms() / 1000 * 1000 + self.plan.token_s * 1000;
        let token = token(self.plan.role, &self.plan.user, until_ms / 1000);
        self.send(pipe, Command::Refresh { token }, Pending::Refresh(until_ms));
    }

    fn retry(&mut self, pipe: &Pipe) {
        for id in std::mem::take(&mut self.retries) {
            self.world.trace.count("publishes tried again");
            self.publish(pipe, id);
        }
        for (key, left) in std::mem::take(&mut self.starts) {
            if left > 0 {
                self.start(pipe, key, left);
            }
        }
    }

    /// One thing that the plan leaves to chance.
    fn something(&mut self, pipe: &Pipe) {
        let seed = self.world.seed.clone();
        if seed.chance(self.plan.reads) {
            return self.read(pipe);
        }
        if seed.chance(self.plan.toggles) {
            return self.toggle(pipe);
        }
        if self.plan.role == Role::Stranger {
            return self.try_what_is_forbidden(pipe);
        }
        if seed.chance(self.plan.repeats) && !self.known.is_empty() {
            let id = *seed.pick(&self.known);
            self.world.trace.count("known keys sent again");
            return self.publish(pipe, id);
        }
        if self.runs < self.plan.runs && seed.chance(30) {
            self.runs += 1;
            let key = format!("start-{}-{}", self.number, self.runs);
            if seed.chance(self.plan.cancels / 4) {
                self.world.trace.count("cancels before their start");
                self.cancel(pipe, None, Some(key.clone()));
            }
            return self.start(pipe, key, 20);
        }
        if seed.chance(self.plan.cancels)
            && let Some((_, run)) = self.started.pop_first()
        {
            return self.cancel(pipe, Some(run), None);
        }
        for _ in 0..seed.between(1, self.plan.burst) {
            self.publish_something(pipe);
        }
    }

    // ------------------------------------------------------------------------------------------------------- publishing

    fn body(&mut self) -> Bytes {
        self.sent += 1;
        let length = self.world.seed.below(self.plan.body_max) as usize;
        let filler: String =
            ["lorem ", "ipsum ", "größe ", "👩‍🚀 ", "日本 "].iter().cycle().take(length / 6).copied().collect();
        Bytes::from(
            serde_json::json!({"text": format!("{}-{} {filler}", self.plan.user, self.sent)}).to_string(),
        )
    }

    fn publish_something(&mut self, pipe: &Pipe) {
        if self.published >= self.plan.publishes || self.plan.writes.is_empty() {
            return;
        }
        self.published += 1;
        let channel = self.world.seed.pick(&self.plan.writes).clone();
        let forbidden = self.plan.role != Role::Writer;
        let keyed = self.world.seed.chance(self.plan.keyed) && !channel.starts_with("e:");
        let key = keyed.then(|| format!("key-{}", self.sent + 1));
        let body = self.body();
        let id = self.world.check.attempt(Attempt {
            channel,
            key,
            body,
            tries: 0,
            refused: 0,
            sent: (0, 0),
            acked: None,
            forbidden,
        });
        self.publish(pipe, id);
    }

    fn publish(&mut self, pipe: &Pipe, id: usize) {
        let attempt = self.world.check.attempted(id);
        self.world.check.tried(id);
        let publish = Publish {
            channel: attempt.channel.clone(),
            body: attempt.body,
            key: attempt.key.clone(),
            ..Publish::default()
        };
        let plain = attempt.key.is_none() && self.world.seed.chance(50);
        let command = if plain { Command::Publish(publish) } else { Command::PublishRpc(publish) };
        let pending = match attempt.forbidden {
            true => Pending::Forbidden("a publish", attempt.channel),
            false => Pending::Publish(id),
        };
        self.send(pipe, command, pending);
    }

    pub(super) fn publish_refused(&mut self, id: usize, code: u16) {
        self.world.check.refused(id);
        self.world.trace.count("publishes refused");
        let over = code == 110 && self.world.unix_ms() > self.token_until_ms;
        match code {
            _ if over => self.session.leaves_ms = 0,
            100 | 111 | 507 => {}
            _ => self.world.check.break_off(format!("I13 live: a publish was refused with {code}")),
        }
        if self.world.check.attempted(id).key.is_some() {
            self.retries.push_back(id);
        }
    }

    // ------------------------------------------------------------------------------------------------------------- runs

    fn start(&mut self, pipe: &Pipe, key: String, left: u32) {
        let start = StartRun {
            channel: self.plan.writes.first().cloned().unwrap_or_default(),
            key: key.clone(),
            input: Bytes::from(format!("\"{key}\"")),
        };
        self.world.trace.note("start", &key, u64::from(left));
        self.send(pipe, Command::StartRun(start), Pending::Start(key));
    }

    pub(super) fn run_started(&mut self, key: String, run: String, log: String, epoch: u64) {
        self.world.trace.count("runs started");
        let known = self.started.insert(key.clone(), run.clone());
        if let Some(known) = known.filter(|known| *known != run) {
            self.world.check.break_off(format!("I2 once: {key} started {known} and {run}"));
        }
        self.follow_run(log, epoch);
    }

    pub(super) fn start_refused(&mut self, key: String, code: u16) {
        let over = code == 110 && self.world.unix_ms() > self.token_until_ms;
        match code {
            _ if over => self.starts.push_back((key, 20)),
            // Another one is active: it waits for its turn, but not for ever.
            409 if self.world.phase() == Phase::Wild => self.starts.push_back((key, 1)),
            409 => {}
            100 | 111 | 507 => self.starts.push_back((key, 20)),
            _ => self.world.check.break_off(format!("I13 live: a start was refused with {code}")),
        }
    }

    fn cancel(&mut self, pipe: &Pipe, run: Option<String>, key: Option<String>) {
        let channel = self.plan.writes.first().cloned().unwrap_or_default();
        self.send(
            pipe,
            Command::CancelRun(CancelRun { channel, run, key, reason: String::new() }),
            Pending::Other,
        );
    }

    // ---------------------------------------------------------------------------------------------------------- reading

    fn read(&mut self, pipe: &Pipe) {
        let seed = self.world.seed.clone();
        let channel = seed.pick(&self.plan.follows).clone();
        if seed.chance(20) || channel.starts_with("e:") {
            let command = match seed.chance(50) {
                true => Command::Presence { channel: channel.clone() },
                false => Command::PresenceStats { channel: channel.clone() },
            };
            let pending = match self.plan.role {
                Role::Stranger => Pending::Forbidden("presence", channel),
                _ => Pending::Other,
            };
            return self.send(pipe, command, pending);
        }
        let reverse = seed.chance(50);
        let at = self.world.check.position(&self.reader(&channel));
        let since = at
            .filter(|_| seed.chance(40))
            .map(|at| Claimed { epoch: Some(Epoch(at.0)), offset: at.1.saturating_sub(seed.below(30)) });
        let limit = *seed.pick(&[-1, 0, 1, 7, 50]);
        let pending = match self.plan.role {
            Role::Stranger => Pending::Forbidden("history", channel.clone()),
            _ => Pending::History(channel.clone(), reverse),
        };
        self.send(pipe, Command::History(History { channel, limit, since, reverse }), pending);
    }

    fn toggle(&mut self, pipe: &Pipe) {
        let channel = self.world.seed.pick(&self.plan.follows).clone();
        if self.subs.get(&channel).is_some_and(|sub| sub.live) {
            self.world.trace.count("subscriptions ended by clients");
            self.send(pipe, Command::Unsubscribe { channel: channel.clone() }, Pending::Unsubscribe(channel));
        }
    }

    fn try_what_is_forbidden(&mut self, pipe: &Pipe) {
        let seed = self.world.seed.clone();
        let channel = seed.pick(&self.plan.follows).clone();
        match seed.below(4) {
            0 => self.publish_something(pipe),
            1 => self.read(pipe),
            2 => {
                let start = StartRun { channel: channel.clone(), key: "mine".into(), input: Bytes::new() };
                self.send(pipe, Command::StartRun(start), Pending::Forbidden("a run", channel));
            }
            _ => {
                let name = "fireside:runs".to_owned();
                let command =
                    Command::History(History { channel: name.clone(), limit: 5, ..History::default() });
                self.send(pipe, command, Pending::Forbidden("reserved history", name));
            }
        }
    }
}
