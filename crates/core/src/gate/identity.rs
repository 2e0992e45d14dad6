//! Step 2: who is acting, and whether that is still so.

use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::{Capability, Claims, Gate, Rules};
use crate::command::Connect;
use crate::limits;
use crate::record::{Author, KeyMark};
use crate::refusal::{Code, Disconnect, Refusal};

/// Who is acting, proven.
#[derive(Debug)]
pub struct Principal {
    author: Arc<Author>,
    issuer: Box<str>,
    token_id: Box<str>,
    caps: Box<[Capability]>,
    channels: Box<[String]>,
    expires_ms: Option<u64>,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Backend,
    Node,
}

/// Why a session does not begin, or a token does not replace the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// Answered; the client may try again with another token.
    Refused(Refusal),
    /// The link is closed.
    Closed(Disconnect),
}

const NO_CREDENTIALS: Disconnect = Disconnect::fixed(3501, "client credentials not found");

impl Principal {
    /// The server itself.
    pub fn node() -> Arc<Principal> {
        static NODE: OnceLock<Arc<Principal>> = OnceLock::new();
        NODE.get_or_init(|| Arc::new(Principal::without_token("", Role::Node))).clone()
    }

    /// Whoever holds the API key `id`.
    pub fn backend(id: &str) -> Arc<Principal> {
        Arc::new(Principal { issuer: Box::from(id), ..Principal::without_token("", Role::Backend) })
    }

    fn without_token(client: &str, role: Role) -> Principal {
        Principal {
            author: Arc::new(Author { client: Arc::from(client), ..Author::default() }),
            issuer: Box::default(),
            token_id: Box::default(),
            caps: Box::default(),
            channels: Box::default(),
            expires_ms: None,
            role,
        }
    }

    /// The user's id; empty for an anonymous session, a backend and the server.
    pub fn user(&self) -> &Arc<str> {
        &self.author.user
    }

    /// As others see it: presence, join and leave.
    pub fn member(&self) -> &Arc<Author> {
        &self.author
    }

    /// Who a record of this principal says it is by; nobody for a backend.
    pub fn author(&self) -> Option<Arc<Author>> {
        (self.role == Role::Client).then(|| self.author.clone())
    }

    /// The token's `jti`.
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    /// When the token is over, Unix ms.
    pub fn expires_ms(&self) -> Option<u64> {
        self.expires_ms
    }

    /// The channels that the token subscribes to without asking.
    pub fn channels(&self) -> &[String] {
        &self.channels
    }

    /// Nobody has said who this is.
    pub fn is_anonymous(&self) -> bool {
        self.role == Role::Client && self.author.user.is_empty()
    }

    /// It came with an API key.
    pub fn is_backend(&self) -> bool {
        self.role != Role::Client
    }

    pub(super) fn caps(&self) -> &[Capability] {
        &self.caps
    }

    /// Marks a key of this producer. A producer is (issuer, subject) or the API key's id, never the client's id: that changes on
    /// reconnect, and the retry would not match.
    pub fn mark(&self, key: &str, body: &[u8]) -> KeyMark {
        let mut id = Sha256::new();
        id.update([self.role as u8]);
        // Lengths first: ("a", "bc") and ("ab", "c") are different producers and keys.
        for part in [&*self.issuer, &*self.author.user, key] {
            id.update((part.len() as u64).to_le_bytes());
            id.update(part);
        }
        KeyMark { id: half(&id.finalize()), body: half(&Sha256::digest(body)) }
    }
}

fn half(hash: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

impl Gate {
    /// Begins a session: who is it, if its token's signature was good (`claims`) or it had none?
    ///
    /// # Errors
    /// 109 for a token out of its time; closed with 3500 for one that never will be good, 3501 for none where one is needed.
    pub fn connect(
        &self,
        connect: &Connect,
        claims: Option<Claims>,
        client: &str,
        now_ms: u64,
    ) -> Result<Arc<Principal>, ConnectRefusal> {
        let Some(claims) = claims else {
            debug_assert!(connect.token.is_empty());
            return match self.rules().anonymous || self.rules().insecure {
                true => Ok(Arc::new(Principal::without_token(client, Role::Client))),
                false => Err(ConnectRefusal::Closed(NO_CREDENTIALS)),
            };
        };
        check(self.rules(), &claims, now_ms)?;
        let author = Author { user: Arc::from(claims.user), client: Arc::from(client), info: claims.info };
        Ok(Arc::new(Principal {
            author: Arc::new(author),
            issuer: claims.issuer.into(),
            token_id: claims.id.into(),
            caps: claims.caps.into(),
            channels: claims.channels.into(),
            expires_ms: claims.expires_s.map(|s| s.saturating_mul(1000)),
            role: Role::Client,
        }))
    }

    /// Replaces a session's token by a newer one of the same user.
    ///
    /// # Errors
    /// As for [`Gate::connect`], and 3500 if it is somebody else's.
    pub fn refresh(
        &self,
        who: &Principal,
        claims: Claims,
        now_ms: u64,
    ) -> Result<Arc<Principal>, ConnectRefusal> {
        if claims.user != *who.author.user || *claims.issuer != *who.issuer {
            return Err(ConnectRefusal::Closed(Disconnect::INVALID_TOKEN));
        }
        self.connect(&Connect::default(), Some(claims), &who.author.client, now_ms)
    }
}

fn check(rules: &Rules, claims: &Claims, now_ms: u64) -> Result<(), ConnectRefusal> {
    let invalid = Err(ConnectRefusal::Closed(Disconnect::INVALID_TOKEN));
    let now_s = now_ms / 1000;
    if claims.channel.is_some() || claims.user.len() > limits::USER_BYTES_MAX {
        return invalid;
    }
    if rules.audience.as_ref().is_some_and(|wanted| !claims.audience.contains(wanted)) {
        return invalid;
    }
    match claims.expires_s {
        None if rules.exp_required => return invalid,
        Some(exp) if exp <= now_s => return Err(ConnectRefusal::Refused(Refusal::new(Code::TokenExpired))),
        Some(exp) if exp - now_s > rules.lifetime_s_max => return invalid,
        _ => {}
    }
    if claims.not_before_s.is_some_and(|nbf| nbf > now_s) {
        return Err(ConnectRefusal::Refused(Refusal::new(Code::TokenExpired)));
    }
    Ok(())
}

/// The session's token is not over. The link lives on for a while, so that its refresh may come; nothing else does.
pub(super) fn still_valid(principal: &Principal, now_ms: u64) -> Result<(), Refusal> {
    match principal.expires_ms {
        Some(exp) if now_ms > exp.saturating_add(limits::EXPIRED_SKEW_MS) => Err(Refusal::new(Code::Expired)),
        _ => Ok(()),
    }
}
