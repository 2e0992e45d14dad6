//! Step 2: who is acting, and whether that is still so.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::question::{Question, Verdict, unusable};
use super::{Capability, Claims, Gate, Rules, bounds, is_plain};
use crate::command::Connect;
use crate::hook::{Answer, Asked, Grant, Hook, Unanswered};
use crate::limits;
use crate::name::ChannelName;
use crate::record::{Author, KeyMark};
use crate::refusal::{Code, Disconnect, Refusal};

/// Who is acting, proven.
#[derive(Clone, Debug)]
pub struct Principal {
    author: Arc<Author>,
    issuer: Box<str>,
    token_id: Box<str>,
    caps: Box<[Capability]>,
    channels: Box<[String]>,
    meta: Option<Bytes>,
    expires_ms: Option<u64>,
    has_token: bool,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Backend,
    Node,
}

/// Why something does not come to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The command is answered with this.
    Refused(Refusal),
    /// The link is closed.
    Closed(Disconnect),
    /// A backend's answer to this hook cannot be used; the sentence is for the log. The client is answered with [`Denial::unusable`].
    Unusable(Hook, &'static str),
}

impl Denial {
    /// What a client is told of an answer that cannot be used.
    pub fn unusable() -> Refusal {
        Refusal::because(Code::Internal, "the application's backend gave an answer that cannot be used")
    }
}

/// A session that may begin.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose.
    pub principal: Arc<Principal>,
    /// What its backend has for the reply.
    pub data: Option<Bytes>,
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
            meta: None,
            expires_ms: None,
            has_token: false,
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

    /// The same, good until then.
    pub fn until(&self, expires_ms: Option<u64>) -> Arc<Principal> {
        Arc::new(Principal { expires_ms, ..self.clone() })
    }

    /// The channels that the token subscribes to without asking.
    pub fn channels(&self) -> &[String] {
        &self.channels
    }

    /// What backends said to keep for their questions.
    pub fn meta(&self) -> Option<&Bytes> {
        self.meta.as_ref()
    }

    /// Who issued its token; the API key's id of a backend.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A token proved who this is; else a backend's answer did, or nobody.
    pub fn has_token(&self) -> bool {
        self.has_token
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
    /// Begins a session: who is it, if its token's signature was good (`claims`) or it had none? Where there is a connect hook, the
    /// backend is asked in either case.
    ///
    /// # Errors
    /// 109 for a token out of its time; closed with 3500 for one that never will be good, 3501 for none where one is needed.
    pub fn connect(
        &self,
        connect: &Connect,
        claims: Option<Claims>,
        client: &str,
        now_ms: u64,
    ) -> Result<Verdict<Entry>, Denial> {
        let is_asked = self.rules().hooks.has(Hook::Connect);
        let principal = match claims {
            Some(claims) => self.proven(claims, client, now_ms)?,
            None if is_asked || self.rules().anonymous || self.rules().insecure => {
                Arc::new(Principal::without_token(client, Role::Client))
            }
            None => return Err(Denial::Closed(NO_CREDENTIALS)),
        };
        if !is_asked {
            return Ok(Verdict::Passed(Entry { principal, data: None }));
        }
        let asked = Asked {
            data: connect.data.clone(),
            program: (connect.name.clone(), connect.version.clone()),
            channels: connect.subs.iter().map(|(name, _)| name.clone()).collect(),
            ..about(Hook::Connect, &principal)
        };
        Ok(Verdict::ask(asked, Entry { principal, data: None }))
    }

    /// Begins the session that a backend was asked about.
    ///
    /// # Errors
    /// What the backend says; or its answer breaks a bound, or names another user than the token.
    pub fn answer_connect(
        &self,
        question: Question<Entry>,
        answer: Result<Answer, Unanswered>,
        now_ms: u64,
    ) -> Result<Entry, Denial> {
        let (grant, Entry { principal, .. }) = question.granted(answer)?;
        let wrong = |what| Err(unusable(Hook::Connect, what));
        if !bounds::given(grant.data.as_ref(), limits::HOOK_DATA_BYTES_MAX) {
            return wrong("data is too large or too deep");
        }
        if !bounds::given(grant.meta.as_ref(), limits::META_BYTES_MAX) {
            return wrong("meta is too large or too deep");
        }
        let name = |name: &String| ChannelName::parse(name).is_ok_and(|name| !name.is_reserved());
        if !grant.channels.iter().all(name) {
            return wrong("channels has an entry that is no channel's name");
        }
        if grant.caps.len() > limits::CAPS_MAX {
            return wrong("caps has too many entries");
        }
        let user = grant.user.as_deref().unwrap_or_default();
        let proven = principal.user();
        if !is_plain(user, limits::USER_BYTES_MAX) {
            return wrong("user is too long or has a control character");
        }
        if principal.has_token && !user.is_empty() && *user != **proven {
            return wrong("user is another one than the token's");
        }
        let user = if principal.has_token { proven.clone() } else { Arc::from(user) };
        let author = self.author(Hook::Connect, &principal, user, grant.info.as_ref())?;
        let expires_ms = self.end(Hook::Connect, &grant, now_ms)?;
        let extended = Principal {
            author,
            caps: principal.caps.iter().cloned().chain(grant.caps).collect(),
            channels: principal.channels.iter().cloned().chain(grant.channels).collect(),
            meta: grant.meta.or_else(|| principal.meta.clone()),
            // A backend may shorten what a token allows; longer is a longer token's business.
            expires_ms: [principal.expires_ms, expires_ms].into_iter().flatten().min(),
            ..(*principal).clone()
        };
        Ok(Entry { principal: Arc::new(extended), data: grant.data })
    }

    /// May this session, whose end is near, go on? Asked by the node, since nobody sends a command for it.
    pub fn ask_refresh(&self, who: &Arc<Principal>) -> Question<Arc<Principal>> {
        Question::new(about(Hook::Refresh, who), who.clone())
    }

    /// The principal that goes on, until when the backend says.
    ///
    /// # Errors
    /// What the backend says: 3005 for `expired`; or its answer breaks a bound, or names no end.
    pub fn answer_refresh(
        &self,
        question: Question<Arc<Principal>>,
        answer: Result<Answer, Unanswered>,
        now_ms: u64,
    ) -> Result<Arc<Principal>, Denial> {
        let (grant, who) = question.granted(answer)?;
        if grant.expired {
            return Err(Denial::Closed(Disconnect::EXPIRED));
        }
        let author = self.author(Hook::Refresh, &who, who.user().clone(), grant.info.as_ref())?;
        let end = self.end(Hook::Refresh, &grant, now_ms)?;
        // Without one it would never end: nobody can have meant that by saying nothing.
        let end = end.ok_or_else(|| unusable(Hook::Refresh, "expire_at is missing"))?;
        Ok(Arc::new(Principal { author, expires_ms: Some(end), ..(*who).clone() }))
    }

    /// The same author, with what a backend says is public about the user.
    fn author(
        &self,
        hook: Hook,
        who: &Principal,
        user: Arc<str>,
        info: Option<&Bytes>,
    ) -> Result<Arc<Author>, Denial> {
        if !bounds::given(info, limits::INFO_BYTES_MAX) {
            return Err(unusable(hook, "info is too large or too deep"));
        }
        let info = info.cloned().or_else(|| who.author.info.clone());
        Ok(Arc::new(Author { user, info, client: who.author.client.clone(), sub_info: None }))
    }

    /// When what a backend grants is over, in Unix ms.
    pub(super) fn end(&self, hook: Hook, grant: &Grant, now_ms: u64) -> Result<Option<u64>, Denial> {
        match grant.expires_s.map(|s| s.saturating_mul(1000)) {
            Some(end) if end <= now_ms => Err(unusable(hook, "expire_at is in the past")),
            end => Ok(end),
        }
    }

    /// Who a token proves somebody to be.
    fn proven(&self, claims: Claims, client: &str, now_ms: u64) -> Result<Arc<Principal>, Denial> {
        check(self.rules(), &claims, now_ms)?;
        let (user, info) = (Arc::from(claims.user), claims.info);
        let author = Author { user, client: Arc::from(client), info, sub_info: None };
        Ok(Arc::new(Principal {
            author: Arc::new(author),
            issuer: claims.issuer.into(),
            token_id: claims.id.into(),
            caps: claims.caps.into(),
            channels: claims.channels.into(),
            meta: claims.meta,
            expires_ms: claims.expires_s.map(|s| s.saturating_mul(1000)),
            has_token: true,
            role: Role::Client,
        }))
    }

    /// Replaces a session's token by a newer one of the same user.
    ///
    /// # Errors
    /// As for [`Gate::connect`], and 3500 if it is somebody else's.
    pub fn refresh(&self, who: &Principal, claims: Claims, now_ms: u64) -> Result<Arc<Principal>, Denial> {
        if claims.user != *who.author.user || *claims.issuer != *who.issuer {
            return Err(Denial::Closed(Disconnect::INVALID_TOKEN));
        }
        self.proven(claims, &who.author.client, now_ms)
    }
}

/// A question about what this principal asks.
pub(super) fn about(hook: Hook, who: &Principal) -> Asked {
    Asked { meta: who.meta.clone(), ..Asked::new(hook, who.author.client.clone(), who.author.user.clone()) }
}

fn check(rules: &Rules, claims: &Claims, now_ms: u64) -> Result<(), Denial> {
    let is_for_this = claims.channel.is_none() && claims.user.len() <= limits::USER_BYTES_MAX;
    match times(rules, claims, now_ms) {
        Times::Good if is_for_this => Ok(()),
        Times::Out if is_for_this => Err(Denial::Refused(Refusal::new(Code::TokenExpired))),
        _ => Err(Denial::Closed(Disconnect::INVALID_TOKEN)),
    }
}

/// What the rules say to a token's audience and times.
pub(super) enum Times {
    /// It is good now.
    Good,
    /// It was, or will be.
    Out,
    /// It never will be.
    Wrong,
}

pub(super) fn times(rules: &Rules, claims: &Claims, now_ms: u64) -> Times {
    let now_s = now_ms / 1000;
    if rules.audience.as_ref().is_some_and(|wanted| !claims.audience.contains(wanted)) {
        return Times::Wrong;
    }
    match claims.expires_s {
        None if rules.exp_required => Times::Wrong,
        Some(exp) if exp <= now_s => Times::Out,
        Some(exp) if exp - now_s > rules.lifetime_s_max => Times::Wrong,
        _ if claims.not_before_s.is_some_and(|nbf| nbf > now_s) => Times::Out,
        _ => Times::Good,
    }
}

/// The session's token is not over. The link lives on for a while, so that its refresh may come; nothing else does.
pub(super) fn still_valid(principal: &Principal, now_ms: u64) -> Result<(), Refusal> {
    match principal.expires_ms {
        Some(exp) if now_ms > exp.saturating_add(limits::EXPIRED_SKEW_MS) => Err(Refusal::new(Code::Expired)),
        _ => Ok(()),
    }
}
