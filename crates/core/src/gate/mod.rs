//! The one gate. Every command of every carrier and protocol passes it in this order, and nothing else makes an [`Admitted`]:
//!
//! 1. *bounds*: names, keys and bodies have the form and size they may have;
//! 2. *identity*: the session's token is still good;
//! 3. *permission*: reserved names, run logs, capabilities, then what the namespace opens to others;
//! 4. *quota*: the session's token bucket;
//! 5. *schema*: the body is what the namespace says it is;
//! 6. *question*: where there is a hook, an application's backend has the last word, and what it changes passes 1 and 5 again.
//!
//! A refusal at one step hides what the later ones would have said: who may not publish does not learn the schema.

mod bounds;
mod claims;
mod erase;
mod identity;
mod permission;
mod produce;
mod question;
mod quota;
mod sessions;
mod ticket;
mod trace;

use std::sync::Arc;

use bytes::Bytes;

pub use claims::{Capability, Claims, Rights, is_pattern, is_plain};
pub use erase::Erasure;
pub use identity::{Denial, Entry, Principal};
pub use question::{Question, Verdict};
pub use quota::Bucket;
pub use ticket::Ticket;
pub use trace::{Step, Trace};

use permission::Rule;

use crate::command::{CancelRun, History, Publish, StartRun, Subscribe};
use crate::filter::TagFilter;
use crate::hook::{Asked, Hook, Hooks, Message};
use crate::name::ChannelName;
use crate::namespace::{Namespace, Namespaces};
use crate::position::Claimed;
use crate::record::{Author, KeyMark, Kind};
use crate::refusal::{Code, Refusal};

/// What the gate goes by, beside the namespaces.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The audience a token must name, if any.
    pub audience: Option<String>,
    /// How long a token may still be good for, in seconds.
    pub lifetime_s_max: u64,
    /// A token without `exp` is refused.
    pub exp_required: bool,
    /// Sessions without a token are let in, with what namespaces open to `anyone`.
    pub anonymous: bool,
    /// Everything is allowed to everybody: development on loopback.
    pub insecure: bool,
    /// Commands per second of one session, sustained.
    pub commands_per_second: u32,
    /// Commands at once.
    pub commands_burst: u32,
    /// Subscriptions of one session at most.
    pub subscriptions_max: usize,
    /// Every user follows `#<user>` without asking.
    pub personal_channel: bool,
    /// Hooks that are no namespace's: connect, refresh, rpc.
    pub hooks: Hooks,
    /// Hooks that let through what nobody answered: publish may be among them.
    pub lenient: Hooks,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            audience: None,
            lifetime_s_max: 24 * 60 * 60,
            exp_required: true,
            anonymous: false,
            insecure: false,
            commands_per_second: 50,
            commands_burst: 100,
            subscriptions_max: 128,
            personal_channel: false,
            hooks: Hooks::default(),
            lenient: Hooks::default(),
        }
    }
}

/// Who asks, and what the gate must know of the session to decide.
pub struct Caller<'a> {
    /// Who.
    pub principal: &'a Arc<Principal>,
    /// Unix time in ms.
    pub now_ms: u64,
    /// This session follows the channel in question.
    pub subscribed: bool,
    /// The session's bucket; `None` for a backend, which has no quota of this kind.
    pub bucket: Option<&'a mut Bucket>,
    /// Where the gate tells its steps; `None` where nobody asks why.
    pub trace: Option<&'a mut Trace>,
}

impl Caller<'_> {
    fn enter(&mut self, step: Step) {
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.enter(step);
        }
    }
}

/// The proof that a command passed. Only this module can make one.
#[derive(Clone, Debug)]
pub struct Admitted<C> {
    command: C,
    channel: ChannelName,
    policy: Arc<Namespace>,
    principal: Arc<Principal>,
}

impl<C> Admitted<C> {
    /// What was asked.
    pub fn command(&self) -> &C {
        &self.command
    }

    /// Where.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The channel's policy.
    pub fn policy(&self) -> &Arc<Namespace> {
        &self.policy
    }

    /// By whom.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }
}

/// A channel that may be followed.
#[derive(Clone, Debug, Default)]
pub struct Follow {
    /// How.
    pub asked: Subscribe,
    /// Which of its records.
    pub filter: Option<Arc<TagFilter>>,
    /// What a backend has for the reply.
    pub data: Option<Bytes>,
    /// Public about this subscription.
    pub info: Option<Bytes>,
    /// When it is over, Unix ms; `None` if never.
    pub expires_ms: Option<u64>,
    /// A token of its own opened it, and a newer one prolongs it.
    pub by_token: bool,
}

/// A record that may be written.
#[derive(Clone, Debug)]
pub struct Write {
    /// What it is to the server.
    pub kind: Kind,
    /// One JSON value.
    pub body: Bytes,
    /// Its key's mark.
    pub key: Option<KeyMark>,
    /// The newest position it expects.
    pub expected: Option<Claimed>,
    /// Its conflation key.
    pub conflate: Option<Arc<str>>,
    /// Its labels.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// Who others see as its author.
    pub author: Option<Arc<Author>>,
}

/// Presence or its numbers may be read.
#[derive(Clone, Copy, Debug)]
pub struct SeePresence;

/// A run may be started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The start's key: hash of producer and key, and of the input.
    pub key: KeyMark,
    /// What the run is asked.
    pub input: Bytes,
    /// The user who may stop it as their own; empty for nobody.
    pub by: Arc<str>,
    /// What writes it, if that is the backend that asks.
    pub model: Option<Arc<str>>,
    /// What its backend says it is made from.
    pub prompt: Prompted,
}

/// What a backend says a run is made from, as far as it says.
#[derive(Clone, Debug, Default)]
pub struct Prompted {
    /// The whole prompt; empty: what the server assembles by itself.
    pub messages: Vec<Message>,
    /// The name of the provider that writes, if it is not the namespace's.
    pub provider: Option<Arc<str>>,
    /// Tokens at most; 0 leaves it to the provider.
    pub tokens_max: u32,
}

/// Runs may be stopped.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// The run, or
    pub run: Option<Arc<str>>,
    /// the mark of the key it was started with by the same producer.
    pub key: Option<[u8; 16]>,
    /// Why.
    pub reason: String,
    /// Also runs that somebody else started.
    pub any: bool,
}

/// The gate: rules and namespaces, as they stand.
#[derive(Debug)]
pub struct Gate {
    namespaces: Namespaces,
    rules: Rules,
}

impl Gate {
    /// A gate that goes by these.
    pub fn new(namespaces: Namespaces, rules: Rules) -> Self {
        Gate { namespaces, rules }
    }

    /// The namespaces.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// May this session follow this channel?
    ///
    /// # Errors
    /// 102, 103, 107, 108, 110, 111.
    pub fn subscribe(
        &self,
        mut caller: Caller<'_>,
        asked: Subscribe,
        ticket: Option<&Ticket>,
    ) -> Result<Verdict<Admitted<Follow>>, Refusal> {
        let channel = bounds::channel(&asked.channel)?;
        if asked.unsupported {
            return Err(Refusal::new(Code::NotAvailable));
        }
        let policy = match ticket {
            Some(ticket) => {
                self.admit_if(&mut caller, &channel, |_, _, _| permission::opened_by(ticket, &channel))?
            }
            None => self.admit(&mut caller, &channel, Rights::SUBSCRIBE)?,
        };
        let filter = bounds::filter(&asked, &policy)?;
        let follow = Follow {
            asked,
            filter,
            data: None,
            info: ticket.and_then(Ticket::info).cloned(),
            expires_ms: ticket.and_then(Ticket::expires_ms),
            by_token: ticket.is_some(),
        };
        Ok(self.verdict(Hook::Subscribe, Bytes::new(), admitted(follow, channel, policy, caller.principal)))
    }

    /// The channels that the server subscribes this principal to: those its token names, and its personal one.
    pub fn granted(&self, principal: &Arc<Principal>) -> Vec<Admitted<Follow>> {
        let personal = (self.rules.personal_channel && !principal.is_anonymous())
            .then(|| format!("#{}", principal.user()));
        let mut seen = std::collections::BTreeSet::new();
        let names = principal.channels().iter().cloned().chain(personal);
        let names = names.filter(|name| seen.insert(name.clone()));
        let admit = |name: String| {
            let channel = bounds::channel(&name).ok()?;
            let policy = self.policy(&channel)?;
            (!channel.is_reserved()).then(|| {
                let asked = Subscribe { channel: name, ..Subscribe::default() };
                admitted(Follow { asked, ..Follow::default() }, channel, policy, principal)
            })
        };
        names.filter_map(admit).collect()
    }

    /// May what was once allowed go on? Asked again before a replay and whenever a session's token changes.
    pub fn may_follow(&self, principal: &Arc<Principal>, channel: &ChannelName) -> bool {
        let Some(policy) = self.policy(channel) else { return false };
        permission::decide(&self.rules, principal, channel, &policy, Rights::SUBSCRIBE, false).allows()
            || principal.channels().iter().any(|name| name == channel.as_str())
    }

    /// May this be written?
    ///
    /// # Errors
    /// 102, 103, 107, 108, 110, 111.
    pub fn publish(
        &self,
        mut caller: Caller<'_>,
        asked: Publish,
    ) -> Result<Verdict<Admitted<Write>>, Refusal> {
        let channel = bounds::channel(&asked.channel)?;
        if channel.run().is_some() {
            // Whatever the namespace: nobody writes into what may be the log of a run.
            return Err(Rule::RunLog.refusal());
        }
        bounds::body(&asked.body)?;
        let key = bounds::key(asked.key.as_deref(), caller.principal)?;
        let conflate = bounds::conflate(asked.conflate.as_deref())?;
        bounds::tags(&asked.tags, caller.principal)?;
        let policy = self.admit(&mut caller, &channel, Rights::PUBLISH)?;
        match policy.history {
            None if asked.key.is_some() || asked.expected.is_some() => {
                return Err(Refusal::because(
                    Code::NotAvailable,
                    "key and expected need a channel with history",
                ));
            }
            Some(_) if conflate.is_some() => {
                return Err(Refusal::because(Code::NotAvailable, "conflate needs a channel without history"));
            }
            _ => {}
        }
        fits(&policy, &asked.body)?;
        let key = key.map(|key| caller.principal.mark(key, &asked.body));
        let write = Write {
            kind: Kind::Plain,
            key,
            expected: asked.expected,
            conflate,
            tags: asked.tags,
            author: caller.principal.author(),
            body: asked.body,
        };
        let body = write.body.clone();
        Ok(self.verdict(Hook::Publish, body, admitted(write, channel, policy, caller.principal)))
    }

    /// May this session see who is there?
    ///
    /// # Errors
    /// 102, 103, 107, 108, 110, 111.
    pub fn presence(&self, mut caller: Caller<'_>, channel: &str) -> Result<Admitted<SeePresence>, Refusal> {
        let channel = bounds::channel(channel)?;
        self.offers(&channel, |policy| policy.presence)?;
        let policy = self.admit(&mut caller, &channel, Rights::PRESENCE)?;
        Ok(admitted(SeePresence, channel, policy, caller.principal))
    }

    /// May this session read what was?
    ///
    /// # Errors
    /// 102, 103, 107, 108, 110, 111.
    pub fn history(&self, mut caller: Caller<'_>, asked: History) -> Result<Admitted<History>, Refusal> {
        let channel = bounds::channel(&asked.channel)?;
        self.offers(&channel, |policy| policy.history.is_some())?;
        let policy = self.admit(&mut caller, &channel, Rights::HISTORY)?;
        Ok(admitted(asked, channel, policy, caller.principal))
    }

    /// May this session start a run?
    ///
    /// # Errors
    /// 102, 103, 107, 108, 110, 111.
    pub fn start_run(
        &self,
        mut caller: Caller<'_>,
        asked: StartRun,
    ) -> Result<Verdict<Admitted<Start>>, Refusal> {
        let channel = bounds::channel(&asked.channel)?;
        bounds::input(&asked.input)?;
        let key = bounds::key(Some(&asked.key), caller.principal)?.unwrap_or_default();
        let policy = self.admit(&mut caller, &channel, Rights::AI_START)?;
        Self::has_runs(&channel, &policy)?;
        let start = Start {
            key: caller.principal.mark(key, &asked.input),
            input: asked.input,
            by: caller.principal.user().clone(),
            model: None,
            prompt: Prompted::default(),
        };
        let input = start.input.clone();
        Ok(self.verdict(Hook::Prompt, input, admitted(start, channel, policy, caller.principal)))
    }

    /// May this session stop runs?
    ///
    /// # Errors
    /// 102, 103, 107, 108, 110, 111.
    pub fn cancel_run(&self, mut caller: Caller<'_>, asked: CancelRun) -> Result<Admitted<Cancel>, Refusal> {
        let channel = bounds::channel(&asked.channel)?;
        let key = bounds::key(asked.key.as_deref(), caller.principal)?;
        let reason = bounds::reason(asked.reason)?;
        if asked.run.is_none() && key.is_none() {
            return Err(Refusal::because(Code::BadRequest, "name the run, or the key it was started with"));
        }
        let any = self.admit(&mut caller, &channel, Rights::AI_CANCEL_ANY);
        let (policy, any) = match any {
            Ok(policy) => (policy, true),
            Err(refusal) if refusal.code != Code::PermissionDenied => return Err(refusal),
            Err(_) => (self.admit(&mut caller, &channel, Rights::AI_CANCEL_OWN)?, false),
        };
        let cancel = Cancel {
            run: asked.run.as_deref().map(Arc::from),
            key: key.map(|key| caller.principal.mark(key, b"").id),
            reason,
            any,
        };
        Ok(admitted(cancel, channel, policy, caller.principal))
    }

    /// A command that concerns no channel: identity and quota only.
    ///
    /// # Errors
    /// 110, 111.
    pub fn pass(&self, mut caller: Caller<'_>) -> Result<(), Refusal> {
        identity::still_valid(caller.principal, caller.now_ms)?;
        quota::take(&self.rules, &mut caller)
    }

    /// Takes one command's worth from a session's bucket, for what was refused before the quota's turn.
    ///
    /// # Errors
    /// 111.
    pub fn charge(&self, bucket: &mut Bucket, now_ms: u64) -> Result<(), Refusal> {
        quota::charge(&self.rules, bucket, now_ms)
    }

    /// A newer token may come while the old one's grace lasts, when nothing else passes any more.
    ///
    /// # Errors
    /// 111.
    pub fn pass_refresh(&self, mut caller: Caller<'_>) -> Result<(), Refusal> {
        quota::take(&self.rules, &mut caller)
    }

    /// A record that the server itself writes into the channel or the log of a run. Clients never reach this: the only callers are the
    /// run's own driver, which holds what `start_run` admitted, and the settling of runs at start.
    ///
    /// # Errors
    /// 102 if the namespace is gone.
    pub fn run_record(&self, channel: &ChannelName, write: Write) -> Result<Admitted<Write>, Refusal> {
        debug_assert!(write.kind.is_run());
        let policy = self.policy(channel).ok_or(Code::UnknownChannel)?;
        Ok(admitted(write, channel.clone(), policy, &Principal::node()))
    }

    /// The same for the server's own reserved channels.
    pub fn reserved_record(
        &self,
        channel: ChannelName,
        policy: Arc<Namespace>,
        body: Bytes,
    ) -> Admitted<Write> {
        debug_assert!(channel.is_reserved());
        let write = Write {
            kind: Kind::Plain,
            body,
            key: None,
            expected: None,
            conflate: None,
            tags: Vec::new(),
            author: None,
        };
        admitted(write, channel, policy, &Principal::node())
    }

    /// The policy of a channel; that of a run's log follows from its channel's.
    pub fn policy(&self, channel: &ChannelName) -> Option<Arc<Namespace>> {
        match channel.run() {
            Some((parent, _)) => self.namespaces.find_run_log(&parent).cloned(),
            None => self.namespaces.find(channel).cloned(),
        }
    }

    /// Step 6: what passed the others has passed, unless the namespace has a hook for it. A backend is not asked about its own commands.
    fn verdict<C>(&self, hook: Hook, data: Bytes, passed: Admitted<C>) -> Verdict<Admitted<C>> {
        if !passed.policy.hooks.has(hook) || passed.principal.is_backend() {
            return Verdict::Passed(passed);
        }
        let channel = Some(passed.channel.clone());
        Verdict::ask(Asked { channel, data, ..identity::about(hook, &passed.principal) }, passed)
    }

    /// What a namespace does not offer to anybody is no secret of a channel's, and is said before permission is asked.
    fn offers(&self, channel: &ChannelName, feature: impl Fn(&Namespace) -> bool) -> Result<(), Refusal> {
        match self.policy(channel) {
            Some(policy) if !feature(&policy) => Err(Refusal::new(Code::NotAvailable)),
            _ => Ok(()),
        }
    }

    fn has_runs(channel: &ChannelName, policy: &Namespace) -> Result<(), Refusal> {
        if policy.run.is_none() || policy.history.is_none() || channel.run().is_some() {
            return Err(Refusal::because(Code::NotAvailable, "there are no runs in this namespace"));
        }
        Ok(())
    }

    /// Steps 2 to 4, and the channel's policy.
    fn admit(
        &self,
        caller: &mut Caller<'_>,
        channel: &ChannelName,
        right: Rights,
    ) -> Result<Arc<Namespace>, Refusal> {
        self.admit_if(caller, channel, |principal, subscribed, policy| {
            permission::decide(&self.rules, principal, channel, policy, right, subscribed)
        })
    }

    /// The same, where something else than the usual rules may decide.
    fn admit_if<'a>(
        &self,
        caller: &mut Caller<'a>,
        channel: &ChannelName,
        decide: impl FnOnce(&'a Principal, bool, &Namespace) -> Rule<'a>,
    ) -> Result<Arc<Namespace>, Refusal> {
        caller.enter(Step::Identity);
        identity::still_valid(caller.principal, caller.now_ms)?;
        caller.enter(Step::Permission);
        let policy = self.policy(channel).ok_or(Code::UnknownChannel)?;
        let rule = decide(caller.principal, caller.subscribed, &policy);
        if let Some(trace) = caller.trace.as_deref_mut() {
            trace.decided_by(&rule.in_words(&policy));
        }
        if !rule.allows() {
            return Err(rule.refusal());
        }
        caller.enter(Step::Quota);
        quota::take(&self.rules, caller)?;
        caller.enter(Step::Schema);
        Ok(policy)
    }
}

/// What the namespace says of a body: its size, then its form.
fn fits(policy: &Namespace, body: &Bytes) -> Result<(), Refusal> {
    if body.len() > policy.record_bytes_max {
        let (most, has) = (policy.record_bytes_max, body.len());
        let message = format!("a record here has at most {most} bytes, this one has {has}");
        return Err(Refusal::because(Code::BadRequest, message));
    }
    match policy.schema.as_ref().map(|schema| schema.check(body)) {
        Some(Err(faults)) => {
            let refusal = Refusal::because(Code::BadRequest, "the body does not fit the namespace's schema");
            Err(refusal.with_detail(faults))
        }
        _ => Ok(()),
    }
}

fn admitted<C>(
    command: C,
    channel: ChannelName,
    policy: Arc<Namespace>,
    principal: &Arc<Principal>,
) -> Admitted<C> {
    Admitted { command, channel, policy, principal: principal.clone() }
}

#[cfg(test)]
mod tests;
