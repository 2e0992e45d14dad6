//! What a backend may do with the sessions of its users on this node.

use std::sync::Arc;

use bytes::Bytes;
use fireside_core::gate::Principal;
use fireside_core::{ChannelName, Claimed, Code, Disconnect, Event, Refusal, Unsubscribed};

use super::caller;
use crate::Node;
use crate::commands::place;
use crate::session::Session;

impl Node {
    /// Closes the sessions of a user, or one of them, save those in `spared`. Answers how many.
    pub fn disconnect(&self, user: &str, client: Option<&str>, spared: &[String], why: &Disconnect) -> usize {
        let mut theirs = self.sessions_of(user, client);
        theirs.retain(|session| !spared.iter().any(|spared| **spared == *session.client));
        for session in &theirs {
            session.close(why.clone());
        }
        theirs.len()
    }

    /// Makes the sessions of a user, or one of them, follow a channel, from a position or from the newest; those that do already stay
    /// where they are. Answers how many follow it now. It holds until the session ends, whatever newer token comes.
    ///
    /// # Errors
    /// What the gate or the log refuses; 106 if a session has as many subscriptions as may be.
    pub async fn subscribe(
        self: &Arc<Self>,
        who: &Arc<Principal>,
        (user, client): (&str, Option<&str>),
        channel: &str,
        recover: Option<Claimed>,
        data: Option<Bytes>,
    ) -> Result<usize, Refusal> {
        let admitted = self.gate.place(caller(self, who), channel, recover, data)?;
        let theirs = self.sessions_of(user, client);
        for session in &theirs {
            place(self, session, &admitted).await?;
        }
        Ok(theirs.len())
    }

    /// Ends the subscriptions of a user, or of one session, to a channel. Answers how many.
    ///
    /// # Errors
    /// The text is not a channel's name.
    pub fn unsubscribe(
        self: &Arc<Self>,
        user: &str,
        client: Option<&str>,
        channel: &str,
    ) -> Result<usize, Refusal> {
        let name = ChannelName::parse(channel)
            .map_err(|fault| Refusal::because(Code::BadRequest, fault.to_string()))?;
        let mut ended = 0;
        for session in self.sessions_of(user, client) {
            if session.remove_sub(self, &name).is_some() {
                ended += 1;
                let why = Unsubscribed::BY_SERVER;
                session.tell_in_order(Event::Unsubscribed { channel: name.clone(), why });
            }
        }
        Ok(ended)
    }

    /// Sets when the sessions of a user, or one of them, are over: Unix time in s, or never. Answers how many.
    ///
    /// # Errors
    /// 107 if that is in the past or further away than a token may be.
    pub fn refresh(
        &self,
        user: &str,
        client: Option<&str>,
        expires_s: Option<u64>,
    ) -> Result<usize, Refusal> {
        let expires_ms = self.gate.end_of_session(expires_s, self.host.now_ms())?;
        let theirs = self.sessions_of(user, client);
        for session in &theirs {
            if let Some(who) = session.principal() {
                session.replace_principal(who.until(expires_ms));
                // When to look after it next is reckoned anew.
                session.look_again(self);
            }
        }
        Ok(theirs.len())
    }

    fn sessions_of(&self, user: &str, client: Option<&str>) -> Vec<Arc<Session>> {
        let all = self.sessions.all().into_iter();
        all.filter(|session| {
            client.is_none_or(|client| *session.client == *client)
                && session.principal().is_some_and(|who| **who.user() == *user)
        })
        .collect()
    }
}
