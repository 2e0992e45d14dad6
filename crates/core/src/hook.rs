//! Hooks: where an application's backend has the last word on a command, and the words of the question and of the answer.
//!
//! Nothing in here is a proof of anything: a question is put by the gate, and what an answer is worth is the gate's to judge.

use std::sync::Arc;

use bytes::Bytes;

use crate::gate::Capability;
use crate::name::ChannelName;
use crate::record::Record;
use crate::refusal::{Disconnect, Refusal};

/// A place where a backend may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Hook {
    /// Who is this, and may it come in?
    Connect,
    /// May this session go on?
    Refresh,
    /// May it follow this channel?
    Subscribe,
    /// May it follow it further?
    SubRefresh,
    /// May this be written, and in what form?
    Publish,
    /// What does this method answer?
    Rpc,
    /// What is this run made from?
    Prompt,
}

impl Hook {
    /// All of them.
    pub const ALL: [Hook; 7] = [
        Hook::Connect,
        Hook::Refresh,
        Hook::Subscribe,
        Hook::SubRefresh,
        Hook::Publish,
        Hook::Rpc,
        Hook::Prompt,
    ];

    /// Its name in the configuration, in metrics and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Connect => "connect",
            Hook::Refresh => "refresh",
            Hook::Subscribe => "subscribe",
            Hook::SubRefresh => "sub_refresh",
            Hook::Publish => "publish",
            Hook::Rpc => "rpc",
            Hook::Prompt => "prompt",
        }
    }
}

/// A set of hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks(u8);

impl Hooks {
    /// The same set with `hook` in it.
    #[must_use]
    pub fn with(self, hook: Hook) -> Hooks {
        Hooks(self.0 | 1 << hook as u8)
    }

    /// True if `hook` is in it.
    pub fn has(self, hook: Hook) -> bool {
        self.0 & 1 << hook as u8 != 0
    }
}

impl FromIterator<Hook> for Hooks {
    fn from_iter<I: IntoIterator<Item = Hook>>(hooks: I) -> Self {
        hooks.into_iter().fold(Hooks::default(), Hooks::with)
    }
}

/// What a backend is asked. Fields that a hook has nothing to say about are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which hook.
    pub hook: Hook,
    /// The session's id.
    pub client: Arc<str>,
    /// The user as far as somebody has proven who it is; else empty.
    pub user: Arc<str>,
    /// What the token, or an earlier answer, has for backends only: one JSON value.
    pub meta: Option<Bytes>,
    /// What stands last in the channel, oldest first (prompt).
    pub records: Vec<Record>,
    /// The channel in question.
    pub channel: Option<ChannelName>,
    /// The data of a connect, the body of a record, the argument of a method, the input of a run: one JSON value, or empty.
    pub data: Bytes,
    /// The method of an rpc.
    pub method: String,
    /// What the client calls itself, and its version (connect).
    pub program: (String, String),
    /// The server-side subscriptions that the client had before (connect).
    pub channels: Vec<String>,
}

impl Asked {
    /// A question of `hook` about `client` of `user`, and nothing more yet.
    pub fn new(hook: Hook, client: Arc<str>, user: Arc<str>) -> Self {
        Asked {
            hook,
            client,
            user,
            meta: None,
            records: Vec::new(),
            channel: None,
            data: Bytes::new(),
            method: String::new(),
            program: (String::new(), String::new()),
            channels: Vec::new(),
        }
    }
}

/// A backend's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, with what it adds or changes.
    Granted(Box<Grant>),
    /// No: the command is refused.
    Refused(Refusal),
    /// No: the session ends.
    Closed(Disconnect),
}

/// What a yes adds or changes. Which hook takes what is said at each field; a hook passes over the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Connect: the user.
    pub user: Option<String>,
    /// Connect and refresh: public about the user. Subscribe and sub_refresh: public about this subscription. One JSON value.
    pub info: Option<Bytes>,
    /// Connect: what is kept for later questions and never reaches a client. One JSON value.
    pub meta: Option<Bytes>,
    /// Connect and subscribe: goes into the reply. Publish: takes the body's place. Rpc: the result. One JSON value.
    pub data: Option<Bytes>,
    /// Connect, refresh, subscribe, sub_refresh: when it is over, in Unix seconds.
    pub expires_s: Option<u64>,
    /// Refresh and sub_refresh: it is over now.
    pub expired: bool,
    /// Connect: channels that the server subscribes the session to.
    pub channels: Vec<String>,
    /// Connect: capabilities beside those of the token.
    pub caps: Vec<Capability>,
    /// Publish: labels of the record.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// Prompt: what the run is made from. Empty: what it would be made from without the hook.
    pub messages: Vec<Message>,
    /// Prompt: the name of the configured provider that writes.
    pub model: Option<Arc<str>>,
    /// Prompt: tokens at most; 0 leaves it to the provider.
    pub tokens_max: u32,
}

/// A message of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whose words they are.
    pub role: Role,
    /// The words.
    pub text: String,
}

/// Whose words a message is, to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The application's.
    System,
    /// People's.
    User,
    /// The model's own, from before.
    Assistant,
}

impl Role {
    /// Its name on the wire, ours and that of models.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }

    /// Reads a role's name. `None`: there is none.
    pub fn parse(name: &str) -> Option<Role> {
        [Role::System, Role::User, Role::Assistant].into_iter().find(|role| role.name() == name)
    }
}

/// No answer came, or none that can be read: a word for logs and metrics (`timeout`, `unreachable`, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered(pub &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let some: Hooks = [Hook::Publish, Hook::Connect].into_iter().collect();
        let has: Vec<_> = Hook::ALL.into_iter().filter(|hook| some.has(*hook)).collect();
        assert_eq!(has, [Hook::Connect, Hook::Publish]);
        assert_eq!(Hook::ALL.into_iter().filter(|hook| Hooks::default().has(*hook)).count(), 0);
    }
}
