//! Calls about a user's sessions.

use bytes::Bytes;
use fireside_core::{Claimed, Code, Disconnect, Refusal};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{fields, filled, named, offered};
use crate::body;
use crate::fields::{DisconnectFields, Fields, PositionFields, or_default, present};

/// What is to become of a user's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionsCall {
    /// The user.
    pub user: String,
    /// Only this session of it.
    pub client: Option<String>,
    /// What.
    pub change: Change,
}

/// What becomes of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// They end.
    Disconnect {
        /// Sessions that stay.
        whitelist: Vec<String>,
        /// What they are told.
        why: Disconnect,
    },
    /// They follow a channel.
    Subscribe {
        /// The channel.
        channel: String,
        /// Where they go on; `None` for the newest.
        recover: Option<Claimed>,
        /// Data that the clients are told with it: one JSON value.
        data: Option<Bytes>,
    },
    /// They no longer follow it.
    Unsubscribe {
        /// The channel.
        channel: String,
    },
    /// They are over at once.
    Expire,
    /// They are over at this Unix time in s; `None` for never.
    Refresh {
        /// When.
        expires_s: Option<u64>,
    },
}

/// Reads a call. `None` if it is none of these.
pub(super) fn decode(method: &str, body: &[u8]) -> Option<Result<SessionsCall, Refusal>> {
    let change = match method {
        "disconnect" => disconnect,
        "subscribe" => subscribe,
        "unsubscribe" => unsubscribe,
        "refresh" => refresh,
        _ => return None,
    };
    let read = |mut asked: SessionFields<'_>| {
        // `session` is the secret of a transport that we do not have.
        offered(filled(asked.session.take()).is_none(), "session is not offered, client is")?;
        let user = named(std::mem::take(&mut asked.user), "user is missing")?;
        let client = filled(asked.client.take());
        Ok(SessionsCall { user, client, change: change(asked)? })
    };
    Some(fields(body).and_then(read))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SessionFields<'a> {
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    channel: String,
    client: Option<String>,
    session: Option<String>,
    #[serde(deserialize_with = "or_default")]
    whitelist: Vec<String>,
    disconnect: Option<Fields<DisconnectFields>>,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    b64data: Option<IgnoredAny>,
    info: Option<IgnoredAny>,
    b64info: Option<IgnoredAny>,
    r#override: Option<IgnoredAny>,
    recover_since: Option<Fields<PositionFields>>,
    #[serde(deserialize_with = "or_default")]
    expired: bool,
    #[serde(deserialize_with = "or_default")]
    expire_at: u64,
}

fn disconnect(asked: SessionFields<'_>) -> Result<Change, Refusal> {
    let why = match asked.disconnect {
        None => Disconnect::FORCE_NO_RECONNECT,
        Some(Fields(why)) => why.disconnect().map_err(|fault| Refusal::because(Code::BadRequest, fault))?,
    };
    Ok(Change::Disconnect { whitelist: asked.whitelist, why })
}

fn subscribe(asked: SessionFields<'_>) -> Result<Change, Refusal> {
    let channel = named(asked.channel, "channel is missing")?;
    // To pass over any of these would do something else than what was asked.
    offered(asked.b64data.is_none(), "b64data is not offered: data is JSON")?;
    offered(
        asked.info.is_none() && asked.b64info.is_none(),
        "info is not offered: a user's stands in its token",
    )?;
    offered(asked.r#override.is_none(), "override is not offered: a namespace has one policy")?;
    offered(asked.expire_at == 0, "expire_at is not offered here: unsubscribe ends it")?;
    let data = asked.data.filter(|data| data.get() != "null").map(body::take).transpose();
    let data = data.map_err(|fault| Refusal::because(Code::BadRequest, fault.0))?;
    let recover = asked.recover_since.map(|since| since.0.claimed());
    Ok(Change::Subscribe { channel, recover, data })
}

fn unsubscribe(asked: SessionFields<'_>) -> Result<Change, Refusal> {
    Ok(Change::Unsubscribe { channel: named(asked.channel, "channel is missing")? })
}

fn refresh(asked: SessionFields<'_>) -> Result<Change, Refusal> {
    offered(
        asked.info.is_none() && asked.b64info.is_none(),
        "info is not offered: a user's stands in its token",
    )?;
    Ok(match asked.expired {
        true => Change::Expire,
        false => Change::Refresh { expires_s: (asked.expire_at > 0).then_some(asked.expire_at) },
    })
}
