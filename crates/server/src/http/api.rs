//! The HTTP API for backends: who calls, what they ask, how they are answered.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use fireside_core::{Code, Fact, Facts, Refusal};
use fireside_node::ports::Soon;
use fireside_wire::api::{ApiCall, ApiFault, ApiReply, decode, encode};
use http::header::{ALLOW, AUTHORIZATION, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::body::Body;
use sha2::{Digest, Sha256};

use super::{HttpLimits, body_of, last, of_kind};

/// What the API asks of the node.
pub trait NodeApi: Send + Sync {
    /// Does what the backend with key `key_id` asks. When the backend hangs up, the future is dropped.
    fn call(&self, key_id: Arc<str>, call: ApiCall) -> Soon<ApiReply>;
}

/// The keys that may call. Only their hashes stay in memory.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<(Arc<str>, [u8; 32])>);

impl ApiKeys {
    /// Keys by id and secret. An empty secret is no key and is left out: it would admit whoever sends an empty header.
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let keys = keys.into_iter().filter(|(_, secret)| !secret.is_empty());
        ApiKeys(keys.map(|(id, secret)| (Arc::from(id), Sha256::digest(secret).into())).collect())
    }

    /// The id of a key. Every key is compared whole, and by its hash: the time tells nothing about a secret.
    pub fn id_of(&self, presented: &[u8]) -> Option<Arc<str>> {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        let mut found = None;
        for (id, known) in &self.0 {
            let difference = known.iter().zip(&presented).fold(0, |all, (a, b)| all | (a ^ b));
            if std::hint::black_box(difference) == 0 {
                found = Some(id);
            }
        }
        found.cloned()
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

/// The API on one node.
pub struct Api {
    node: Arc<dyn NodeApi>,
    keys: ApiKeys,
    facts: Arc<dyn Facts>,
}

impl Api {
    /// An API for those who bear one of `keys`.
    pub fn new(node: Arc<dyn NodeApi>, keys: ApiKeys, facts: Arc<dyn Facts>) -> Self {
        Api { node, keys, facts }
    }

    /// Answers `POST /api/{method}`. Nothing of a body is taken before the key is known.
    pub(super) async fn answer<B>(
        &self,
        method: &str,
        head: &Parts,
        body: B,
        limits: &HttpLimits,
    ) -> Response<Bytes>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // No page of a browser has a key, so one that calls has got it where it must not be.
        if head.headers.contains_key(ORIGIN) {
            self.note(Code::PermissionDenied);
            let why = Refusal::because(Code::PermissionDenied, "the API is for backends, not for browsers");
            return last(refused(StatusCode::FORBIDDEN, why));
        }
        if head.method != Method::POST {
            let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotFound.into());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return last(response);
        }
        let Some(key_id) = presented_key(&head.headers).and_then(|key| self.keys.id_of(key)) else {
            self.note(Code::Unauthorized);
            return last(refused(StatusCode::UNAUTHORIZED, Code::Unauthorized.into()));
        };
        let body = match body_of(body, limits.body_bytes_max, limits).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        let call = match decode(method, &body) {
            Ok(call) => call,
            Err(ApiFault::NoSuchMethod) => {
                return refused(StatusCode::NOT_FOUND, Code::MethodNotFound.into());
            }
            Err(ApiFault::Refused(refusal)) => return self.told(&ApiReply::Refused(refusal), &head.headers),
        };
        self.told(&self.node.call(key_id, call).await, &head.headers)
    }

    fn told(&self, reply: &ApiReply, asked: &HeaderMap) -> Response<Bytes> {
        let status = match reply {
            ApiReply::Refused(refusal) if wants_status(asked) => status_of(refusal.code),
            _ => StatusCode::OK,
        };
        json(status, reply)
    }

    fn note(&self, code: Code) {
        self.facts.say(Fact::Refused { op: "api", code, user: Arc::from("") });
    }
}

/// The key of a request: `X-API-Key`, or the older `Authorization: apikey …`. Never the query: addresses end up in logs.
fn presented_key(headers: &HeaderMap) -> Option<&[u8]> {
    const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
    if let Some(key) = headers.get(X_API_KEY) {
        return Some(key.as_bytes());
    }
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("apikey").then_some(key.trim().as_bytes())
}

/// A refusal is an answer with status 200, unless the backend asks for more (as in Centrifugo).
fn wants_status(headers: &HeaderMap) -> bool {
    headers.get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport")
}

fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::UnknownChannel | Code::MethodNotFound => StatusCode::NOT_FOUND,
        Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        Code::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
        Code::Conflict => StatusCode::CONFLICT,
        Code::StoreFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::AlreadySubscribed
        | Code::LimitExceeded
        | Code::BadRequest
        | Code::NotAvailable
        | Code::TokenExpired
        | Code::Expired
        | Code::Backend { .. } => StatusCode::BAD_REQUEST,
    }
}

fn refused(status: StatusCode, refusal: Refusal) -> Response<Bytes> {
    json(status, &ApiReply::Refused(refusal))
}

fn json(status: StatusCode, reply: &ApiReply) -> Response<Bytes> {
    of_kind(status, "application/json", encode(reply).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_whole_secret_only() {
        let keys = ApiKeys::new([("one", &b"secret-1"[..]), ("two", b"secret-2"), ("none", b"")]);
        assert_eq!(keys.id_of(b"secret-2").as_deref(), Some("two"));
        for wrong in [&b""[..], b"secret-", b"secret-11", b"Secret-1", &[0; 32]] {
            assert_eq!(keys.id_of(wrong), None);
        }
        assert_eq!(format!("{keys:?}"), r#"["one", "two"]"#);
    }

    #[test]
    fn a_key_is_taken_from_either_header() {
        let key_in = |name: &'static str, value: &'static str| {
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            presented_key(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(key_in("x-api-key", "k").as_deref(), Some(&b"k"[..]));
        assert_eq!(key_in("authorization", "ApiKey  k ").as_deref(), Some(&b"k"[..]));
        for value in ["Bearer k", "apikey", "k", ""] {
            assert_eq!(key_in("authorization", value), None, "{value}");
        }
    }
}
