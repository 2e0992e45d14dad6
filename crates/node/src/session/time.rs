//! What time brings a session: pings, the end of its identity, the ends of its subscriptions. One look sees to all of them, and says when
//! to look again.

use std::sync::Arc;

use fireside_core::gate::Principal;
use fireside_core::outbox::SubId;
use fireside_core::{ChannelName, Disconnect, Event, Hook, Unsubscribed, limits};

use super::{Inner, Phase, Session};
use crate::{Node, hooks, lock};

/// What a look found to be due, beside what it does itself.
enum Due {
    /// The backend is to say whether the session may go on.
    Refresh(Arc<Principal>),
    /// The backend is to say whether a subscription may.
    SubRefresh(Arc<Principal>, SubId, ChannelName),
    /// A subscription is over.
    Over(ChannelName),
}

impl Session {
    /// The first ping is due in `wait_ms`.
    pub(crate) fn begin_pings(&self, node: &Node, wait_ms: u64) {
        lock(&self.inner).ping_due_ms = node.host.monotonic_ms() + wait_ms;
        self.look_again(node);
    }

    /// An end was set or moved.
    pub(crate) fn look_again(&self, node: &Node) {
        let now_ms = node.host.monotonic_ms();
        let next_ms = lock(&self.inner).next_look_ms(node, now_ms);
        node.sessions.due(self.slot(), next_ms);
    }

    /// A ping is due, its answer is missing, something is over, or nobody ever said who this is. Answers when to look again.
    pub(crate) fn tick(self: &Arc<Self>, node: &Arc<Node>, now_ms: u64) -> u64 {
        let due = {
            let mut inner = lock(&self.inner);
            let unix_ms = node.host.now_ms();
            let why = match inner.phase {
                Phase::New | Phase::Refused => Some(Disconnect::STALE),
                Phase::Closed => return u64::MAX,
                Phase::Open if inner.is_over(unix_ms) => Some(Disconnect::EXPIRED),
                Phase::Open if inner.no_pong(now_ms, node.settings.pong_ms_max) => Some(Disconnect::NO_PONG),
                Phase::Open => None,
            };
            if let Some(why) = why {
                inner.closing.get_or_insert(why);
                inner.wake();
                return u64::MAX;
            }
            if inner.pinged_ms == 0 && now_ms >= inner.ping_due_ms {
                inner.pinged_ms = now_ms.max(1);
                inner.heard = false;
                inner.pongs_owed += 1;
                inner.push(|outbox| outbox.push_control(Event::Ping));
                inner.drain(&*self.sink);
            } else if inner.pinged_ms != 0 && now_ms >= inner.pinged_ms + node.settings.pong_ms_max {
                // Heard from meanwhile: alive, if late with its pong.
                inner.ping_due_ms = inner.pinged_ms + node.settings.ping_ms;
                inner.pinged_ms = 0;
            }
            inner.take_due(node, now_ms, unix_ms)
        };
        for due in due {
            match due {
                Due::Refresh(who) => hooks::refresh(node, self, &who),
                Due::SubRefresh(who, sub, channel) => hooks::sub_refresh(node, self, &who, sub, channel),
                Due::Over(channel) => self.end_sub(node, channel),
            }
        }
        lock(&self.inner).next_look_ms(node, now_ms)
    }

    /// A subscription is over: the client may ask for it anew.
    pub(crate) fn end_sub(self: &Arc<Self>, node: &Arc<Node>, channel: ChannelName) {
        if self.remove_sub(node, &channel).is_some() {
            self.tell_in_order(Event::Unsubscribed { channel, why: Unsubscribed::EXPIRED });
        }
    }

    /// The backend gave a subscription more time.
    pub(crate) fn extend_sub(&self, node: &Node, sub: SubId, expires_ms: u64) {
        if let Some(known) = lock(&self.inner).subs.iter_mut().find(|known| known.id == sub) {
            known.expires_ms = Some(expires_ms);
        }
        self.look_again(node);
    }

    /// A newer token of a subscription came. False if none was opened so.
    pub(crate) fn renew_sub(&self, node: &Node, channel: &ChannelName, expires_ms: Option<u64>) -> bool {
        let is_theirs = {
            let mut inner = lock(&self.inner);
            let mut subs = inner.subs.iter_mut();
            match subs.find(|sub| sub.by_token && sub.channel.name == *channel) {
                Some(sub) => {
                    sub.expires_ms = expires_ms;
                    true
                }
                None => false,
            }
        };
        if is_theirs {
            self.look_again(node);
        }
        is_theirs
    }

    /// A pong came. False if none was asked for.
    pub(super) fn ponged(&self, node: &Node) -> bool {
        let mut inner = lock(&self.inner);
        let asked = inner.pongs_owed > 0;
        inner.pongs_owed = inner.pongs_owed.saturating_sub(1);
        inner.pinged_ms = 0;
        if asked {
            let now_ms = node.host.monotonic_ms();
            inner.ping_due_ms = now_ms + node.settings.ping_ms;
            let next_ms = inner.next_look_ms(node, now_ms);
            drop(inner);
            node.sessions.due(self.slot(), next_ms);
        }
        asked
    }
}

impl Inner {
    /// Its identity ended, and so did the grace within which a newer token may come.
    fn is_over(&self, unix_ms: u64) -> bool {
        let expires_ms = self.principal.as_ref().and_then(|who| who.expires_ms());
        expires_ms.is_some_and(|exp| unix_ms > exp.saturating_add(limits::EXPIRED_GRACE_MS))
    }

    /// When the backend is to be asked whether this session may go on, Unix ms. `None`: never.
    fn refresh_ms(&self, node: &Node) -> Option<u64> {
        // A token is refreshed by a newer one.
        let who = self.principal.as_ref().filter(|who| !who.has_token())?;
        node.gate.rules().hooks.has(Hook::Refresh).then(|| ahead_of(who.expires_ms()))?
    }

    /// Takes what is due now. What is asked is not asked again before some time has passed, whatever the answer.
    fn take_due(&mut self, node: &Node, now_ms: u64, unix_ms: u64) -> Vec<Due> {
        let Some(who) = self.principal.clone() else { return Vec::new() };
        let mut due = Vec::new();
        if self.refresh_ms(node).is_some_and(|at| at <= unix_ms) && self.next_refresh_ms <= now_ms {
            self.next_refresh_ms = now_ms + limits::REFRESH_PAUSE_MS;
            due.push(Due::Refresh(who.clone()));
        }
        for sub in self.subs.iter_mut().filter(|sub| sub.begun) {
            let name = || sub.channel.name.clone();
            if sub.over_ms().is_some_and(|over| over <= unix_ms) {
                due.push(Due::Over(name()));
            } else if sub.refresh_ms().is_some_and(|at| at <= unix_ms) && sub.next_refresh_ms <= now_ms {
                due.push(Due::SubRefresh(who.clone(), sub.id, name()));
                sub.next_refresh_ms = now_ms + limits::REFRESH_PAUSE_MS;
            }
        }
        due
    }

    /// When something is due next, monotonic ms.
    fn next_look_ms(&self, node: &Node, now_ms: u64) -> u64 {
        let unix_ms = node.host.now_ms();
        let at = |unix: u64| now_ms.saturating_add(unix.saturating_sub(unix_ms));
        let ping_ms = match self.pinged_ms {
            0 => self.ping_due_ms,
            pinged => pinged + node.settings.pong_ms_max,
        };
        let expires_ms = self.principal.as_ref().and_then(|who| who.expires_ms());
        let over = expires_ms.map(|exp| at(exp.saturating_add(limits::EXPIRED_GRACE_MS)).saturating_add(1));
        let refresh = self.refresh_ms(node).map(|unix| at(unix).max(self.next_refresh_ms));
        let subs = self.subs.iter().flat_map(|sub| {
            [sub.over_ms().map(at), sub.refresh_ms().map(|unix| at(unix).max(sub.next_refresh_ms))]
        });
        [over, refresh].into_iter().chain(subs).flatten().fold(ping_ms, u64::min)
    }
}

impl super::Sub {
    /// When it ends, Unix ms. A client begins to fetch a newer token when the old one is over: until it comes the subscription goes on.
    fn over_ms(&self) -> Option<u64> {
        let grace_ms = if self.by_token { limits::EXPIRED_GRACE_MS } else { 0 };
        self.expires_ms.map(|end| end.saturating_add(grace_ms))
    }

    /// When the backend is to be asked whether this subscription may go on, Unix ms. `None`: never.
    fn refresh_ms(&self) -> Option<u64> {
        self.channel.policy.hooks.has(Hook::SubRefresh).then(|| ahead_of(self.expires_ms))?
    }
}

fn ahead_of(end_ms: Option<u64>) -> Option<u64> {
    end_ms.map(|end| end.saturating_sub(limits::REFRESH_AHEAD_MS))
}
