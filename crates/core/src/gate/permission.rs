//! Step 3: who may do what where. Denied unless something allows it.

use super::{Capability, Principal, Rights, Rules, Ticket};
use crate::name::ChannelName;
use crate::namespace::{Namespace, Who};
use crate::refusal::{Code, Refusal};

/// The rule that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule<'p> {
    /// The log of a run: no.
    RunLog,
    /// One of the server's own channels: yes if a capability names it.
    Reserved(bool),
    /// A backend: yes.
    Backend,
    /// Development without tokens: yes.
    Insecure,
    /// A private channel: no.
    Private,
    /// A subscription token was given: yes if it is for this channel.
    Ticket(bool),
    /// A channel for the users it names: yes if this is one of them.
    Named(bool),
    /// A capability for this room or these channels: yes.
    Capability {
        /// Of the token.
        cap: &'p Capability,
        /// The room or pattern.
        place: &'p str,
    },
    /// No capability, and the namespace opens it to these: yes if this is one of them.
    Opened {
        /// To whom.
        to: Option<Who>,
        /// Whether.
        allows: bool,
    },
}

impl Rule<'_> {
    pub(super) fn allows(&self) -> bool {
        match *self {
            Rule::RunLog | Rule::Private => false,
            Rule::Backend | Rule::Insecure | Rule::Capability { .. } => true,
            Rule::Reserved(allows)
            | Rule::Ticket(allows)
            | Rule::Named(allows)
            | Rule::Opened { allows, .. } => allows,
        }
    }

    /// What the client is told: what its own token lacks, and what holds for every channel of the kind. Nothing of it depends on whether
    /// the channel exists.
    pub(super) fn refusal(&self) -> Refusal {
        let why = match self {
            Rule::RunLog => "permission denied: nobody writes into the log of a run",
            Rule::Reserved(_) => {
                "permission denied: the server's own channels need a capability that names them exactly"
            }
            Rule::Private => "permission denied: a channel that begins with $ needs a subscription token",
            Rule::Ticket(_) => "permission denied: the subscription token is for another channel",
            Rule::Named(_) => "permission denied: this channel is for the users that its name lists",
            Rule::Opened { to: Some(Who::Subscriber), .. } => {
                "permission denied: no capability of the token allows it here; subscribers may"
            }
            Rule::Opened { to: Some(Who::User), .. } => {
                "permission denied: no capability of the token allows it here; users with a name may"
            }
            _ => "permission denied: no capability of the token allows it here",
        };
        Refusal::because(Code::PermissionDenied, why)
    }

    /// What whoever runs the server is told.
    pub(super) fn in_words(&self, policy: &Namespace) -> String {
        let name = &policy.name;
        match self {
            Rule::RunLog => "nobody writes into the log of a run".to_owned(),
            Rule::Reserved(true) => {
                "a capability of the token names this channel of the server exactly".to_owned()
            }
            Rule::Reserved(false) => {
                "one of the server's own channels, and no capability of the token names it exactly".to_owned()
            }
            Rule::Backend => "a backend may do everything".to_owned(),
            Rule::Insecure => "everybody may do everything (dev.insecure)".to_owned(),
            Rule::Private => "a channel that begins with $ needs a subscription token".to_owned(),
            Rule::Ticket(true) => "the subscription token is for this channel".to_owned(),
            Rule::Ticket(false) => "the subscription token is for another channel".to_owned(),
            Rule::Named(true) => "the name of the channel lists this user".to_owned(),
            Rule::Named(false) => {
                "the name of the channel lists its users, and this is none of them".to_owned()
            }
            Rule::Capability { cap, place } => {
                let kind = if cap.rooms.iter().any(|room| &**room == *place) { "room" } else { "channels" };
                format!("a capability of the token for the {kind} {place} allows it")
            }
            Rule::Opened { to: None, .. } => {
                "no capability of the token allows this here, and a namespace cannot open it".to_owned()
            }
            Rule::Opened { to: Some(to), allows: false } => format!(
                "no capability of the token allows this here, and namespace.{name} opens it to {}",
                word(*to)
            ),
            Rule::Opened { to: Some(to), allows: true } => {
                format!("namespace.{name} opens it to {}", word(*to))
            }
        }
    }
}

fn word(who: Who) -> &'static str {
    match who {
        Who::Caps => "caps",
        Who::Subscriber => "subscriber",
        Who::User => "user",
        Who::Anyone => "anyone",
    }
}

/// The first rule that applies decides:
///
/// 1. the log of a run is written by nobody, and read with the rights of its channel;
/// 2. the server's own channels are open to exact names in capabilities only;
/// 3. a backend, and in development everybody, may;
/// 4. `$…` is followed with a subscription token only, and nobody else may do anything there;
/// 5. `…#a,b` is for the users it names: nobody else may do anything there, and they may follow it;
/// 6. a capability of the token;
/// 7. what the namespace opens to others.
pub(super) fn decide<'p>(
    rules: &Rules,
    principal: &'p Principal,
    channel: &ChannelName,
    policy: &Namespace,
    right: Rights,
    subscribed: bool,
) -> Rule<'p> {
    let run = channel.run();
    if run.is_some() && (right == Rights::PUBLISH || right == Rights::AI_START) {
        return Rule::RunLog;
    }
    let channel = run.as_ref().map_or(channel, |(parent, _)| parent);
    let mut fitting = principal.caps().iter().filter(|cap| cap.allow.has(right));
    if channel.is_reserved() {
        return Rule::Reserved(
            fitting.any(|cap| cap.channels.iter().any(|name| **name == *channel.as_str())),
        );
    }
    if principal.is_backend() {
        return Rule::Backend;
    }
    if rules.insecure {
        return Rule::Insecure;
    }
    if channel.as_str().starts_with('$') && (right == Rights::SUBSCRIBE || !subscribed) {
        // Into a private channel leads a subscription token and nothing else; who is in has the rights it has elsewhere.
        return Rule::Private;
    }
    if let Some((_, users)) = channel.as_str().rsplit_once('#') {
        let is_named = !principal.is_anonymous() && users.split(',').any(|user| user == &**principal.user());
        // Whoever has a token can name such a channel: what costs or writes still needs the rights it needs elsewhere.
        if !is_named || right == Rights::SUBSCRIBE {
            return Rule::Named(is_named);
        }
    }
    if let Some((cap, place)) = fitting.find_map(|cap| Some((cap, covering(cap, channel)?))) {
        return Rule::Capability { cap, place };
    }
    let to = opened(policy, right);
    Rule::Opened { to, allows: to.is_some_and(|who| is_among(who, principal, subscribed)) }
}

/// What a subscription token opens: the channel it names, and not the server's own.
pub(super) fn opened_by<'p>(ticket: &Ticket, channel: &ChannelName) -> Rule<'p> {
    let is_reserved = channel.run().map_or(channel.is_reserved(), |(parent, _)| parent.is_reserved());
    Rule::Ticket(ticket.channel() == channel && !is_reserved)
}

/// The room or pattern of the capability that covers the channel.
fn covering<'c>(cap: &'c Capability, channel: &ChannelName) -> Option<&'c str> {
    let room = cap.rooms.iter().find(|room| channel.is_in_room(room));
    let covers = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => channel.as_str().starts_with(prefix),
        None => pattern == channel.as_str(),
    };
    room.or_else(|| cap.channels.iter().find(|pattern| covers(pattern))).map(|place| &**place)
}

fn opened(policy: &Namespace, right: Rights) -> Option<Who> {
    match right {
        Rights::SUBSCRIBE => Some(policy.allow.subscribe),
        Rights::PUBLISH => Some(policy.allow.publish),
        Rights::HISTORY => Some(policy.allow.history),
        Rights::PRESENCE => Some(policy.allow.presence),
        _ => None,
    }
}

fn is_among(who: Who, principal: &Principal, subscribed: bool) -> bool {
    match who {
        Who::Caps => false,
        Who::Subscriber => subscribed,
        Who::User => !principal.is_anonymous(),
        Who::Anyone => true,
    }
}
