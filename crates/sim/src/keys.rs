//! Tokens without signatures: `role.user.expires_s`.

use std::sync::Arc;

use fireside_core::gate::{Capability, Claims, Rights};
use fireside_node::ports::{Keys, TokenFault};

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything that a member of a room may.
    Writer,
    /// Follow and read.
    Reader,
    /// Nothing.
    Stranger,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Reader => "reader",
            Role::Stranger => "stranger",
        }
    }
}

/// A token.
pub fn token(role: Role, user: &str, expires_s: u64) -> String {
    format!("{}.{user}.{expires_s}", role.name())
}

/// The `Keys` port.
pub struct PlainKeys;

impl Keys for PlainKeys {
    fn claims(&self, token: &str) -> Result<Claims, TokenFault> {
        let mut words = token.split('.');
        let (Some(role), Some(user), Some(Ok(expires_s)), None) =
            (words.next(), words.next(), words.next().map(str::parse), words.next())
        else {
            return Err(TokenFault("not a token"));
        };
        let follow = Rights::SUBSCRIBE.and(Rights::HISTORY).and(Rights::PRESENCE);
        let allow = match role {
            "writer" => follow.and(Rights::PUBLISH).and(Rights::AI_START).and(Rights::AI_CANCEL_OWN),
            "reader" => follow,
            "stranger" => Rights::default(),
            _ => return Err(TokenFault("no such role")),
        };
        let channels = vec![Arc::from("*")];
        Ok(Claims {
            user: user.to_owned(),
            expires_s: Some(expires_s),
            caps: vec![Capability { rooms: Vec::new(), channels, allow }],
            ..Claims::default()
        })
    }
}
