//! The server's no: one code, one sentence, and whether to come back.

use std::borrow::Cow;

/// Why a command was refused. The codes are those of the Centrifuge protocol; other protocols map them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of no this is.
    pub code: Code,
    /// One sentence for whoever reads it.
    pub message: Cow<'static, str>,
    /// For a quota: when to come back, in ms.
    pub retry_after_ms: Option<u64>,
    /// JSON where a machine needs more than the sentence (schema faults).
    pub detail: Option<String>,
}

/// The kinds of no, numbered as the Centrifuge protocol numbers its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Something failed on our side; the same command may succeed later.
    Internal,
    /// Nobody has proven who this is.
    Unauthorized,
    /// No such channel, namespace or run.
    UnknownChannel,
    /// Not allowed.
    PermissionDenied,
    /// No such method.
    MethodNotFound,
    /// Already subscribed on this session.
    AlreadySubscribed,
    /// A limit of this session or channel is reached.
    LimitExceeded,
    /// The command breaks a rule of its form.
    BadRequest,
    /// The channel does not offer this.
    NotAvailable,
    /// The token is over; fetch another.
    TokenExpired,
    /// The session or subscription is over.
    Expired,
    /// Too fast; slow down.
    TooManyRequests,
    /// The position is gone.
    UnrecoverablePosition,
    /// The key is known with another body, or the expected position is not the newest. Ours.
    Conflict,
    /// The store cannot take more; reads go on. Ours.
    StoreFull,
    /// An application's backend said no, in a number of its own.
    Backend {
        /// 400 to 1999.
        number: u16,
        /// The same command may succeed later.
        temporary: bool,
    },
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            Code::Internal => 100,
            Code::Unauthorized => 101,
            Code::UnknownChannel => 102,
            Code::PermissionDenied => 103,
            Code::MethodNotFound => 104,
            Code::AlreadySubscribed => 105,
            Code::LimitExceeded => 106,
            Code::BadRequest => 107,
            Code::NotAvailable => 108,
            Code::TokenExpired => 109,
            Code::Expired => 110,
            Code::TooManyRequests => 111,
            Code::UnrecoverablePosition => 112,
            Code::Conflict => 409,
            Code::StoreFull => 507,
            Code::Backend { number, .. } => number,
        }
    }

    /// True if the same command may succeed later without being changed.
    pub fn is_temporary(self) -> bool {
        match self {
            Code::Backend { temporary, .. } => temporary,
            code => matches!(code, Code::Internal | Code::TooManyRequests | Code::StoreFull),
        }
    }

    /// What a backend means by a number: one of the protocol's, or one of its own from 400 to 1999. `None`: nothing.
    pub fn from_backend(number: u16, temporary: bool) -> Option<Code> {
        Some(match number {
            100 => Code::Internal,
            101 => Code::Unauthorized,
            102 => Code::UnknownChannel,
            103 => Code::PermissionDenied,
            104 => Code::MethodNotFound,
            106 => Code::LimitExceeded,
            107 => Code::BadRequest,
            108 => Code::NotAvailable,
            109 => Code::TokenExpired,
            110 => Code::Expired,
            111 => Code::TooManyRequests,
            400..=1999 => Code::Backend { number, temporary },
            _ => return None,
        })
    }

    /// The protocol's own words for it.
    pub fn words(self) -> &'static str {
        match self {
            Code::Internal => "internal server error",
            Code::Unauthorized => "unauthorized",
            Code::UnknownChannel => "unknown channel",
            Code::PermissionDenied => "permission denied",
            Code::MethodNotFound => "method not found",
            Code::AlreadySubscribed => "already subscribed",
            Code::LimitExceeded => "limit exceeded",
            Code::BadRequest => "bad request",
            Code::NotAvailable => "not available",
            Code::TokenExpired => "token expired",
            Code::Expired => "expired",
            Code::TooManyRequests => "too many requests",
            Code::UnrecoverablePosition => "unrecoverable position",
            Code::Conflict => "conflict",
            Code::StoreFull => "store is full",
            Code::Backend { .. } => "refused by the backend",
        }
    }
}

impl Refusal {
    /// A refusal in the protocol's own words.
    pub fn new(code: Code) -> Self {
        Refusal { code, message: Cow::Borrowed(code.words()), retry_after_ms: None, detail: None }
    }

    /// A refusal with a sentence of its own.
    pub fn because(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { message: message.into(), ..Refusal::new(code) }
    }

    /// The same, with the time after which to come back.
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The same, with a JSON detail.
    pub fn with_detail(mut self, json: String) -> Self {
        self.detail = Some(json);
        self
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Refusal::new(code)
    }
}

/// Why a session is closed. The number tells an SDK whether to come back: 3000 to 3499 and 4000 to 4499 yes, 3500 to 3999 and
/// 4500 to 4999 no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// The close code.
    pub code: u16,
    /// At most 123 bytes (RFC 6455 §5.5), never JSON: centrifuge-js would parse it.
    pub reason: Cow<'static, str>,
}

impl Disconnect {
    /// The client or the network closed it.
    pub const CLOSED: Disconnect = Disconnect::fixed(3000, "connection closed");
    /// This node is going away; another one, or this one later, will take the client.
    pub const SHUTDOWN: Disconnect = Disconnect::fixed(3001, "shutdown");
    /// A fault on our side.
    pub const SERVER_ERROR: Disconnect = Disconnect::fixed(3004, "internal server error");
    /// The token ran out and was not refreshed in time.
    pub const EXPIRED: Disconnect = Disconnect::fixed(3005, "connection expired");
    /// The client cannot drain even its replies.
    pub const SLOW: Disconnect = Disconnect::fixed(3008, "slow");
    /// Writing to it failed.
    pub const WRITE_ERROR: Disconnect = Disconnect::fixed(3009, "write error");
    /// A server-side subscription lost its position.
    pub const INSUFFICIENT_STATE: Disconnect = Disconnect::fixed(3010, "insufficient state");
    /// Asked to come back at once.
    pub const FORCE_RECONNECT: Disconnect = Disconnect::fixed(3011, "force reconnect");
    /// No pong in time.
    pub const NO_PONG: Disconnect = Disconnect::fixed(3012, "no pong");
    /// Too fast, over and over.
    pub const TOO_MANY_REQUESTS: Disconnect = Disconnect::fixed(3013, "too many requests");
    /// The token is not valid and will not become so.
    pub const INVALID_TOKEN: Disconnect = Disconnect::fixed(3500, "invalid token");
    /// The client breaks the protocol.
    pub const BAD_REQUEST: Disconnect = Disconnect::fixed(3501, "bad request");
    /// Connected and never said who it is.
    pub const STALE: Disconnect = Disconnect::fixed(3502, "stale");
    /// Sent away for good.
    pub const FORCE_NO_RECONNECT: Disconnect = Disconnect::fixed(3503, "force disconnect");
    /// No room for more sessions of this kind.
    pub const CONNECTION_LIMIT: Disconnect = Disconnect::fixed(3504, "connection limit");
    /// More server-side subscriptions than a session may have.
    pub const CHANNEL_LIMIT: Disconnect = Disconnect::fixed(3505, "channel limit");
    /// The protocol does not offer what it asks.
    pub const NOT_AVAILABLE: Disconnect = Disconnect::fixed(3508, "not available");

    /// A disconnect with a fixed reason.
    pub const fn fixed(code: u16, reason: &'static str) -> Self {
        Disconnect { code, reason: Cow::Borrowed(reason) }
    }

    /// True if an SDK comes back after it.
    pub fn reconnects(&self) -> bool {
        !matches!(self.code, 3500..=3999 | 4500..=4999)
    }
}

/// Why a subscription ended without the client's asking: below 2500 it stays so, from 2500 on the SDK subscribes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    /// The protocol's number.
    pub code: u16,
    /// One sentence.
    pub reason: Cow<'static, str>,
}

impl Unsubscribed {
    /// A backend ended it.
    pub const BY_SERVER: Unsubscribed = Unsubscribed::fixed(2000, "server unsubscribe");
    /// The position is gone: subscribe again and be told.
    pub const INSUFFICIENT_STATE: Unsubscribed = Unsubscribed::fixed(2500, "insufficient state");
    /// The subscription's right ran out.
    pub const EXPIRED: Unsubscribed = Unsubscribed::fixed(2501, "subscription expired");

    const fn fixed(code: u16, reason: &'static str) -> Self {
        Unsubscribed { code, reason: Cow::Borrowed(reason) }
    }
}
