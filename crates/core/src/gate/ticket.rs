//! Subscription tokens: what one opens, judged apart from the session's own token.

use bytes::Bytes;

use super::identity::{Times, times};
use super::{Claims, Denial, Gate, Principal};
use crate::name::ChannelName;
use crate::refusal::{Code, Disconnect, Refusal};

/// The proof that a subscription token is good: it opens one channel to the one session that showed it.
#[derive(Clone, Debug)]
pub struct Ticket {
    channel: ChannelName,
    info: Option<Bytes>,
    expires_ms: Option<u64>,
}

impl Ticket {
    /// What it opens.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Public about the subscription.
    pub fn info(&self) -> Option<&Bytes> {
        self.info.as_ref()
    }

    /// When the subscription is over unless a newer token comes, Unix ms; `None`: never.
    pub fn expires_ms(&self) -> Option<u64> {
        self.expires_ms
    }
}

impl Gate {
    /// Judges the token that a session shows for `channel`, by its claims if its signature was good, else by `None`.
    ///
    /// # Errors
    /// 103 for a token that never will be good, 109 for one out of its time; closed with 3500 for a good one that is made out for another
    /// channel, user or session, or by another issuer than the session's own.
    pub fn ticket(
        &self,
        who: &Principal,
        channel: &str,
        claims: Option<Claims>,
        now_ms: u64,
    ) -> Result<Ticket, Denial> {
        let never = |why| Err(Denial::Refused(Refusal::because(Code::PermissionDenied, why)));
        let Some(claims) = claims else { return never("the subscription token is not valid") };
        let Some(opened) = claims.channel.as_deref() else {
            return never("a token without the claim channel opens no channel");
        };
        let is_theirs = claims.user == **who.user()
            && (claims.client.is_empty() || *claims.client == *who.member().client)
            && (!who.has_token() || *claims.issuer == *who.issuer());
        if opened != channel || !is_theirs {
            return Err(Denial::Closed(Disconnect::INVALID_TOKEN));
        }
        let Ok(channel) = ChannelName::parse(opened) else { return never("the claim channel is no name") };
        let over = || Err(Denial::Refused(Refusal::new(Code::TokenExpired)));
        match times(self.rules(), &claims, now_ms) {
            Times::Good => {}
            Times::Out => return over(),
            Times::Wrong => {
                return never("the subscription token is for another audience, or without an end");
            }
        }
        let end_s = match claims.expire_at_s {
            Some(0) => None,
            given => given.or(claims.expires_s),
        };
        let expires_ms = end_s.map(|s| s.saturating_mul(1000));
        if expires_ms.is_some_and(|end| end <= now_ms) {
            return over();
        }
        Ok(Ticket { channel, info: claims.info, expires_ms })
    }
}
