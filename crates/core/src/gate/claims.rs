//! What a token says, once its signature is known to be good. Whether it is valid now is the gate's question.

use std::sync::Arc;

use bytes::Bytes;

use crate::limits;
use crate::name::ChannelName;

/// The claims of a token (names as in the token itself).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// `sub`: the user; empty for an anonymous one.
    pub user: String,
    /// `iss`.
    pub issuer: String,
    /// `aud`: one or several.
    pub audience: Vec<String>,
    /// `exp`, Unix seconds.
    pub expires_s: Option<u64>,
    /// `nbf`, Unix seconds.
    pub not_before_s: Option<u64>,
    /// `iat`, Unix seconds.
    pub issued_s: Option<u64>,
    /// `jti`.
    pub id: String,
    /// `tenant`.
    pub tenant: String,
    /// `info`: public about the user, one JSON value.
    pub info: Option<Bytes>,
    /// `meta`: for backends only, one JSON value.
    pub meta: Option<Bytes>,
    /// `channels` and the names in `subs`: server-side subscriptions.
    pub channels: Vec<String>,
    /// `caps`.
    pub caps: Vec<Capability>,
    /// `client`, of a subscription token: the only session it is for; empty for any.
    pub client: String,
    /// `expire_at`, of a subscription token, Unix seconds: when the subscription is over, if not at `exp`; 0 for never.
    pub expire_at_s: Option<u64>,
    /// A `channel` claim is there: this is a subscription token, never good for connecting.
    pub channel: Option<String>,
}

/// One entry of `caps`: what is allowed where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capability {
    /// Rooms: the channel and all under its name.
    pub rooms: Vec<Arc<str>>,
    /// Channels: exact, or ending in one `*`.
    pub channels: Vec<Arc<str>>,
    /// What.
    pub allow: Rights,
}

impl Capability {
    /// Reads an entry as it is written, in a token or in a backend's answer. Words of `allow` that a later version may know grant nothing.
    ///
    /// # Errors
    /// It has too many names, or one that names nothing; the text says which.
    pub fn read(rooms: Vec<String>, channels: Vec<String>, allow: &[String]) -> Result<Self, &'static str> {
        if rooms.len() + channels.len() > limits::CAP_NAMES_MAX {
            return Err("an entry of caps has too many names");
        }
        if rooms.iter().any(|room| ChannelName::parse(room).is_err()) {
            return Err("a room in caps is no channel name");
        }
        if !channels.iter().all(|pattern| is_pattern(pattern)) {
            return Err("a channel in caps is neither a name nor a name that ends in one *");
        }
        let shared = |names: Vec<String>| names.into_iter().map(Arc::from).collect();
        let rights = allow.iter().filter_map(|word| Rights::parse(word));
        Ok(Capability {
            rooms: shared(rooms),
            channels: shared(channels),
            allow: rights.fold(Rights::default(), Rights::and),
        })
    }
}

/// True for a channel's name, and for the beginning of one with a `*` behind it.
pub fn is_pattern(text: &str) -> bool {
    match text.strip_suffix('*') {
        None => ChannelName::parse(text).is_ok(),
        Some("") => true,
        // `news:` and `docs/` are no names yet: what follows makes them so.
        Some(prefix) => ChannelName::parse(&format!("{prefix}x")).is_ok(),
    }
}

/// True for a text that may stand in other people's frames, logs and keys: bounded, and without what could break a line.
pub fn is_plain(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u16);

impl Rights {
    /// Follow.
    pub const SUBSCRIBE: Rights = Rights(1);
    /// Write.
    pub const PUBLISH: Rights = Rights(1 << 1);
    /// Read what was.
    pub const HISTORY: Rights = Rights(1 << 2);
    /// See who is there.
    pub const PRESENCE: Rights = Rights(1 << 3);
    /// Start runs.
    pub const AI_START: Rights = Rights(1 << 4);
    /// Stop one's own runs.
    pub const AI_CANCEL_OWN: Rights = Rights(1 << 5);
    /// Stop anybody's runs.
    pub const AI_CANCEL_ANY: Rights = Rights(1 << 6);
    /// Everything.
    pub const ALL: Rights = Rights(0x7f);

    /// Reads a word of `allow`; the protocol's short words are understood. `None`: no such right.
    pub fn parse(word: &str) -> Option<Rights> {
        Some(match word {
            "subscribe" | "sub" => Rights::SUBSCRIBE,
            "publish" | "pub" => Rights::PUBLISH,
            "history" | "hst" => Rights::HISTORY,
            "presence" | "prs" => Rights::PRESENCE,
            "ai.start" => Rights::AI_START,
            "ai.cancel" | "ai.cancel.any" => Rights::AI_CANCEL_ANY,
            "ai.cancel.own" => Rights::AI_CANCEL_OWN,
            _ => return None,
        })
    }

    /// Both sets.
    pub fn and(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// True if every right of `other` is in here.
    pub fn has(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }
}
