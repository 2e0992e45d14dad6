//! What a backend may do: the same gate, as the holder of an API key.

mod sessions;

use std::collections::BTreeSet;
use std::sync::Arc;

use fireside_core::command::{History, Publish};
use fireside_core::event::Page;
use fireside_core::gate::{Caller, Principal};
use fireside_core::{Author, ChannelName, Code, Refusal, Reply};

use crate::channel::Placed;
use crate::commands::{awake, history_of, presence_of};
use crate::{Node, lock};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its id, new with every life.
    pub id: Arc<str>,
    /// Sessions.
    pub sessions: usize,
    /// Users among them.
    pub users: usize,
    /// Subscriptions of these sessions.
    pub subscriptions: usize,
    /// Channels that are awake.
    pub channels: usize,
}

/// How many are in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// The channel.
    pub channel: ChannelName,
    /// Sessions that follow it.
    pub clients: u32,
}

pub(crate) fn caller<'a>(node: &Node, who: &'a Arc<Principal>) -> Caller<'a> {
    Caller { principal: who, now_ms: node.host.now_ms(), subscribed: false, bucket: None, trace: None }
}

impl Node {
    /// Appends a record, or sends it out where there is no history.
    ///
    /// # Errors
    /// What the gate or the channel refuses.
    pub async fn publish(
        self: &Arc<Self>,
        who: &Arc<Principal>,
        publish: Publish,
    ) -> Result<Placed, Refusal> {
        let write = self.gate.publish(caller(self, who), publish)?.at_once()?;
        let channel = self.directory.get(self, write.channel(), write.policy())?;
        channel.write(self, write).await
    }

    /// Reads what was.
    ///
    /// # Errors
    /// What the gate or the log refuses.
    pub async fn history(self: &Arc<Self>, who: &Arc<Principal>, asked: History) -> Result<Page, Refusal> {
        let admitted = self.gate.history(caller(self, who), asked)?;
        history_of(self, &admitted).await
    }

    /// Removes a channel's records; their offsets are not given again, and readers behind are told.
    ///
    /// # Errors
    /// What the gate or the log refuses.
    pub async fn remove_history(
        self: &Arc<Self>,
        who: &Arc<Principal>,
        channel: &str,
    ) -> Result<(), Refusal> {
        let asked = History { channel: channel.to_owned(), ..History::default() };
        let admitted = self.gate.history(caller(self, who), asked)?;
        let channel = awake(self, admitted.channel(), admitted.policy()).await?;
        lock(&channel.state).remove_history();
        channel.save(self).await
    }

    /// Who is in a channel.
    ///
    /// # Errors
    /// What the gate refuses.
    pub fn presence(
        self: &Arc<Self>,
        who: &Arc<Principal>,
        channel: &str,
    ) -> Result<Vec<Arc<Author>>, Refusal> {
        let admitted = self.gate.presence(caller(self, who), channel)?;
        match presence_of(self, &admitted, false) {
            Reply::Presence(members) => Ok(members),
            _ => Err(Code::Internal.into()),
        }
    }

    /// How many sessions and users are in a channel.
    ///
    /// # Errors
    /// What the gate refuses.
    pub fn presence_stats(
        self: &Arc<Self>,
        who: &Arc<Principal>,
        channel: &str,
    ) -> Result<(u32, u32), Refusal> {
        let admitted = self.gate.presence(caller(self, who), channel)?;
        match presence_of(self, &admitted, true) {
            Reply::PresenceStats { clients, users } => Ok((clients, users)),
            _ => Err(Code::Internal.into()),
        }
    }

    /// What this node says of itself.
    pub fn info(&self) -> Info {
        let sessions = self.sessions.all();
        let users: BTreeSet<_> =
            sessions.iter().filter_map(|session| session.principal()).map(|who| who.user().clone()).collect();
        Info {
            id: self.id.clone(),
            sessions: sessions.len(),
            users: users.len(),
            subscriptions: sessions.iter().map(|session| session.subscriptions().len()).sum(),
            channels: self.directory.all().len(),
        }
    }

    /// Channels with somebody in them whose names match (exact, or with one `*` at the end; empty for all); at most `max`.
    pub fn channels(&self, pattern: &str, max: usize) -> Vec<Here> {
        let matches = |name: &str| match pattern.strip_suffix('*') {
            _ if pattern.is_empty() => true,
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        let all = self.directory.all().into_iter().filter(|channel| matches(channel.name.as_str()));
        let here = all.map(|channel| {
            let state = lock(&channel.state);
            let clients = state.presence.clients().max(state.readers());
            Here { channel: channel.name.clone(), clients }
        });
        here.filter(|here| here.clients > 0).take(max).collect()
    }
}
