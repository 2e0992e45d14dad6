//! Step 3: who may do what where. Denied unless something allows it.

use super::{Capability, Principal, Rights, Rules, Ticket};
use crate::name::ChannelName;
use crate::namespace::{Namespace, Who};

/// The first rule that applies decides:
///
/// 1. the log of a run is written by nobody, and read with the rights of its channel;
/// 2. the server's own channels are open to exact names in capabilities only;
/// 3. a backend, and in development everybody, may;
/// 4. `$…` is followed with a subscription token only, and nobody else may do anything there;
/// 5. `…#a,b` is for the users it names: nobody else may do anything there, and they may follow it;
/// 6. a capability of the token;
/// 7. what the namespace opens to others.
pub(super) fn decide(
    rules: &Rules,
    principal: &Principal,
    channel: &ChannelName,
    policy: &Namespace,
    right: Rights,
    subscribed: bool,
) -> bool {
    let run = channel.run();
    if run.is_some() && (right == Rights::PUBLISH || right == Rights::AI_START) {
        return false;
    }
    let channel = run.as_ref().map_or(channel, |(parent, _)| parent);
    if channel.is_reserved() {
        return principal
            .caps()
            .iter()
            .any(|cap| cap.allow.has(right) && cap.channels.iter().any(|name| **name == *channel.as_str()));
    }
    if principal.is_backend() || rules.insecure {
        return true;
    }
    if channel.as_str().starts_with('$') && (right == Rights::SUBSCRIBE || !subscribed) {
        // Into a private channel leads a subscription token and nothing else; who is in has the rights it has elsewhere.
        return false;
    }
    if let Some((_, users)) = channel.as_str().rsplit_once('#') {
        let is_named = !principal.is_anonymous() && users.split(',').any(|user| user == &**principal.user());
        // Whoever has a token can name such a channel: what costs or writes still needs the rights it needs elsewhere.
        if !is_named || right == Rights::SUBSCRIBE {
            return is_named;
        }
    }
    principal.caps().iter().any(|cap| cap.allow.has(right) && covers(cap, channel))
        || opened(policy, right).is_some_and(|who| is_among(who, principal, subscribed))
}

/// What a subscription token opens: the channel it names, and not the server's own.
pub(super) fn opened_by(ticket: &Ticket, channel: &ChannelName) -> bool {
    let is_reserved = channel.run().map_or(channel.is_reserved(), |(parent, _)| parent.is_reserved());
    ticket.channel() == channel && !is_reserved
}

fn covers(cap: &Capability, channel: &ChannelName) -> bool {
    cap.rooms.iter().any(|room| channel.is_in_room(room))
        || cap.channels.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => channel.as_str().starts_with(prefix),
            None => **pattern == *channel.as_str(),
        })
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
