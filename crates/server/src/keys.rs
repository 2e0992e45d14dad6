//! Signatures in, claims out: which key may have signed a token, and what the token says if it did.
//!
//! A token chooses nothing here. Its unverified `iss` selects among the configured issuers only, its `kid` among that issuer's own
//! keys only, each key is pinned to its algorithms, and whatever else stands in its header (`jku`, `x5u`, `jwk`, `x5c`) is not
//! looked at. Nothing is fetched. Whether the claims hold *now* is the gate's question: this file reads no clock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fireside_core::ChannelName;
use fireside_core::gate::{Capability, Claims, is_plain};
use fireside_core::limits;
use fireside_node::ports::{Keys, TokenFault};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, dangerous, decode, decode_header};
use serde::de::{self, Deserializer, IgnoredAny, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The algorithms of the shared secret. One family: a public key can never be taken for the secret.
const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// Unix seconds beyond which a time is not taken for one (the largest integer that every JSON implementation keeps exact).
const SECONDS_MAX: u64 = 1 << 53;

/// Every key that may sign a token.
pub struct TokenKeys {
    secret: Option<Key>,
    issuers: BTreeMap<Arc<str>, Issuer>,
}

/// A key and what it may sign with.
#[derive(Clone)]
struct Key {
    key: DecodingKey,
    check: Validation,
}

/// Somebody else who issues tokens, and their public keys.
#[derive(Clone)]
pub struct Issuer {
    name: Arc<str>,
    /// By `kid`; one key without a `kid` stands for all.
    keys: Vec<(Option<String>, Key)>,
}

impl TokenKeys {
    /// Takes the shared secret and the issuers of the configuration.
    pub fn new(hmac_secret: Option<&[u8]>, issuers: impl IntoIterator<Item = Issuer>) -> Self {
        TokenKeys {
            secret: hmac_secret
                .filter(|secret| !secret.is_empty())
                .map(|secret| Key::new(DecodingKey::from_secret(secret), HMAC.to_vec())),
            issuers: issuers.into_iter().map(|issuer| (issuer.name.clone(), issuer)).collect(),
        }
    }

    fn select(&self, token: &str, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, TokenFault> {
        if !self.issuers.is_empty() {
            // Unverified: it only selects whose keys are tried, and the same bytes are verified next.
            let said: Unverified = dangerous::insecure_decode_claims(token)
                .map_err(|_| TokenFault("the token's claims are not understood"))?;
            if let Some(issuer) = said.iss.as_deref().and_then(|name| self.issuers.get(name)) {
                return issuer.select(kid, algorithm);
            }
        }
        self.secret.as_ref().ok_or(TokenFault("nobody is configured who issues this token"))
    }
}

impl Keys for TokenKeys {
    fn claims(&self, token: &str) -> Result<Claims, TokenFault> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(TokenFault("the token is too long"));
        }
        let header = decode_header(token).map_err(|_| TokenFault("the token's header is not understood"))?;
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err(TokenFault("the token's header asks for what is not supported"));
        }
        if !header
            .typ
            .as_deref()
            .is_none_or(|typ| ["jwt", "at+jwt"].contains(&typ.to_ascii_lowercase().as_str()))
        {
            return Err(TokenFault("the token's type is not JWT"));
        }
        let key = self.select(token, header.kid.as_deref(), header.alg)?;
        if !key.check.algorithms.contains(&header.alg) {
            return Err(TokenFault("the token's algorithm is not the key's"));
        }
        use jsonwebtoken::errors::ErrorKind;
        let said = decode::<Said>(token, &key.key, &key.check).map_err(|e| match e.kind() {
            ErrorKind::InvalidSignature => TokenFault("the token's signature is wrong"),
            ErrorKind::Json(_) => TokenFault("a claim of the token has the wrong form"),
            _ => TokenFault("the token is not understood"),
        })?;
        said.claims.into_claims()
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<_> = self.issuers.keys().collect();
        f.debug_struct("TokenKeys")
            .field("secret", &self.secret.is_some())
            .field("issuers", &issuers)
            .finish()
    }
}

impl Key {
    fn new(key: DecodingKey, algorithms: Vec<Algorithm>) -> Self {
        let mut check = Validation::new(Algorithm::HS256);
        check.algorithms = algorithms;
        // The library reads a clock of its own; the gate has the clock that counts.
        check.validate_exp = false;
        check.validate_nbf = false;
        check.validate_aud = false;
        check.required_spec_claims.clear();
        Key { key, check }
    }
}

impl Issuer {
    /// The `iss` of its tokens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One public key in PEM form (`BEGIN PUBLIC KEY`). Without `algorithms`, the key's usual one is pinned: RS256, ES256, ES384 or
    /// EdDSA.
    ///
    /// # Errors
    /// A clause on the key that says what is wrong with it.
    pub fn from_pem(name: &str, pem: &[u8], algorithms: &[String]) -> Result<Self, String> {
        if String::from_utf8_lossy(pem).contains("PRIVATE KEY") {
            return Err("holds a private key: only the public key belongs here".to_owned());
        }
        let (key, possible) = if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            (key, &RSA[..])
        } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            // An uncompressed point: one byte and two coordinates.
            match key.try_get_as_bytes().map_or(0, <[u8]>::len) {
                65 => (key, &P256[..]),
                97 => (key, &P384[..]),
                _ => return Err("holds a key on a curve other than P-256 and P-384".to_owned()),
            }
        } else if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            (key, &ED[..])
        } else {
            return Err("holds no RSA, EC or Ed25519 public key in PEM form".to_owned());
        };
        let algorithms = match pinned(possible, algorithms) {
            pinned if algorithms.is_empty() => pinned.into_iter().take(1).collect(),
            pinned if pinned.is_empty() => {
                return Err(format!("holds a key that is good for {possible:?} only"));
            }
            pinned => pinned,
        };
        Ok(Issuer { name: Arc::from(name), keys: vec![(None, Key::new(key, algorithms))] })
    }

    /// A JWK Set (RFC 7517). Keys for encryption and of other kinds are passed over; shared secrets (`oct`) are refused.
    ///
    /// # Errors
    /// A clause on the set that says what is wrong with it.
    pub fn from_jwks(name: &str, json: &[u8], algorithms: &[String]) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(json).map_err(|e| format!("is not a JWK Set: {e}"))?;
        let mut keys: Vec<(Option<String>, Key)> = Vec::new();
        for jwk in &set.keys {
            let Some(possible) = possible_algorithms(jwk)? else { continue };
            let algorithms = pinned(possible, algorithms);
            let kid = jwk.common.key_id.clone();
            if algorithms.is_empty() {
                continue;
            }
            if keys.iter().any(|(other, _)| *other == kid) {
                return Err(format!("has two keys with the kid {:?}", kid.unwrap_or_default()));
            }
            let key =
                DecodingKey::from_jwk(jwk).map_err(|e| format!("has a key that is not understood: {e}"))?;
            keys.push((kid, Key::new(key, algorithms)));
        }
        if keys.is_empty() {
            return Err("has no public key that could sign a token".to_owned());
        }
        Ok(Issuer { name: Arc::from(name), keys })
    }

    fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, TokenFault> {
        let fits = |key: &&(Option<String>, Key)| key.1.check.algorithms.contains(&algorithm);
        match (kid, self.keys.as_slice()) {
            // A key without a name is the issuer's only one of its kind: the token's name for it does not matter.
            (_, [only @ (None, _)]) => Ok(&only.1),
            (Some(kid), keys) => keys
                .iter()
                .find(|(known, _)| known.as_deref() == Some(kid))
                .map(|(_, key)| key)
                .ok_or(TokenFault("the token's issuer has no key of this name")),
            (None, keys) => {
                let mut fitting = keys.iter().filter(fits);
                match (fitting.next(), fitting.next()) {
                    (Some((_, key)), None) => Ok(key),
                    _ => Err(TokenFault("the token does not name the key that signed it")),
                }
            }
        }
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name).field("keys", &self.keys.len()).finish()
    }
}

const RSA: [Algorithm; 3] = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];
const P256: [Algorithm; 1] = [Algorithm::ES256];
const P384: [Algorithm; 1] = [Algorithm::ES384];
const ED: [Algorithm; 1] = [Algorithm::EdDSA];

/// The names of every algorithm that an issuer may use.
pub const ISSUER_ALGORITHMS: [&str; 6] = ["RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA"];

/// What is possible with the key and allowed by the configuration; nothing said: all that is possible.
fn pinned(possible: &[Algorithm], allowed: &[String]) -> Vec<Algorithm> {
    let is_allowed = |algorithm: &&Algorithm| {
        allowed.is_empty()
            || allowed.iter().any(|name| name.parse::<Algorithm>().is_ok_and(|a| a == **algorithm))
    };
    possible.iter().filter(is_allowed).copied().collect()
}

/// What a key of a JWK Set can sign. `None`: it is not for signatures, or of a kind that is not supported.
fn possible_algorithms(jwk: &Jwk) -> Result<Option<&'static [Algorithm]>, String> {
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return Ok(None);
    }
    let possible: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &RSA,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &P256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &P384,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &ED,
        AlgorithmParameters::OctetKey(_) => {
            return Err("has a shared secret (kty oct): a JWK Set is for public keys".to_owned());
        }
        _ => return Ok(None),
    };
    // A key that names its algorithm is good for that one only.
    Ok(match &jwk.common.key_algorithm {
        None => Some(possible),
        Some(named) => possible
            .iter()
            .position(|algorithm| format!("{algorithm:?}") == format!("{named:?}"))
            .map(|at| &possible[at..=at]),
    })
}

#[derive(Deserialize)]
struct Unverified {
    iss: Option<String>,
}

/// The claims as they stand in a token. Unknown ones are passed over.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    aud: Option<Audience>,
    #[serde(default)]
    exp: Option<Seconds>,
    #[serde(default)]
    nbf: Option<Seconds>,
    #[serde(default)]
    iat: Option<Seconds>,
    #[serde(default)]
    jti: Option<String>,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    info: Option<Box<RawValue>>,
    #[serde(default)]
    b64info: Option<String>,
    #[serde(default)]
    meta: Option<Box<RawValue>>,
    #[serde(default)]
    channels: Option<Vec<String>>,
    #[serde(default)]
    subs: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default)]
    caps: Option<Vec<SaidCap>>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    client: Option<String>,
    #[serde(default)]
    expire_at: Option<Seconds>,
}

#[derive(Deserialize)]
struct SaidCap {
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    r#match: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// A NumericDate (RFC 7519 §2): a number, perhaps with a fraction, which is dropped. Never a text.
struct Seconds(u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time in Unix seconds")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Seconds, E> {
                if seconds > SECONDS_MAX { Err(E::custom("too far away")) } else { Ok(Seconds(seconds)) }
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Seconds, E> {
                if seconds >= 0.0 && seconds <= SECONDS_MAX as f64 {
                    Ok(Seconds(seconds as u64))
                } else {
                    Err(E::custom("not a time"))
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl Said {
    fn into_claims(self) -> Result<Claims, TokenFault> {
        let info = match (self.b64info, self.info) {
            (Some(encoded), _) if !encoded.is_empty() => {
                let json =
                    STANDARD.decode(encoded).map_err(|_| TokenFault("the claim b64info is not base64"))?;
                let value: Box<RawValue> = serde_json::from_slice(&json)
                    .map_err(|_| TokenFault("the claim b64info does not hold one JSON value"))?;
                Some(value)
            }
            (_, info) => info,
        };
        let mut channels = self.channels.unwrap_or_default();
        channels.extend(self.subs.unwrap_or_default().into_keys());
        channels.sort_unstable();
        channels.dedup();
        for name in &channels {
            ChannelName::parse(name)
                .map_err(|_| TokenFault("a name in the claims channels or subs is no channel name"))?;
        }
        Ok(Claims {
            user: named(
                self.sub,
                limits::USER_BYTES_MAX,
                "the claim sub is too long or has a control character",
            )?,
            issuer: self.iss.unwrap_or_default(),
            audience: match self.aud {
                None => Vec::new(),
                Some(Audience::One(one)) => vec![one],
                Some(Audience::Several(several)) => several,
            },
            expires_s: self.exp.map(|s| s.0),
            not_before_s: self.nbf.map(|s| s.0),
            issued_s: self.iat.map(|s| s.0),
            id: named(
                self.jti,
                limits::USER_BYTES_MAX,
                "the claim jti is too long or has a control character",
            )?,
            tenant: named(
                self.tenant,
                limits::USER_BYTES_MAX,
                "the claim tenant is too long or has a control character",
            )?,
            info: info
                .map(|value| one_line(&value, limits::INFO_BYTES_MAX, "the claim info is too long"))
                .transpose()?,
            meta: self
                .meta
                .map(|value| one_line(&value, limits::META_BYTES_MAX, "the claim meta is too long"))
                .transpose()?,
            channels,
            caps: capabilities(self.caps.unwrap_or_default())?,
            channel: self.channel,
            client: self.client.unwrap_or_default(),
            expire_at_s: self.expire_at.map(|s| s.0),
        })
    }
}

/// A name that will stand in other people's frames, logs and keys: bounded, and without what could break a line.
fn named(text: Option<String>, bytes_max: usize, fault: &'static str) -> Result<String, TokenFault> {
    let text = text.unwrap_or_default();
    if is_plain(&text, bytes_max) { Ok(text) } else { Err(TokenFault(fault)) }
}

/// Bounds a JSON value, and puts it on one line: frames end at a line end, and a raw one in JSON is never part of a text.
fn one_line(value: &RawValue, bytes_max: usize, fault: &'static str) -> Result<Bytes, TokenFault> {
    let json = value.get();
    if json.len() > bytes_max {
        return Err(TokenFault(fault));
    }
    Ok(json.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }).collect())
}

fn capabilities(said: Vec<SaidCap>) -> Result<Vec<Capability>, TokenFault> {
    if said.len() > limits::CAPS_MAX {
        return Err(TokenFault("the claim caps has too many entries"));
    }
    said.into_iter().map(capability).collect()
}

fn capability(said: SaidCap) -> Result<Capability, TokenFault> {
    // What a regular expression would have allowed cannot be guessed.
    if !said.r#match.as_deref().is_none_or(|how| matches!(how, "" | "wildcard")) {
        return Err(TokenFault("an entry of the claim caps has a match that is not supported"));
    }
    Capability::read(said.rooms, said.channels, &said.allow).map_err(TokenFault)
}

/// What `fireside token` writes into a token.
#[derive(Debug, Default, Serialize)]
pub struct Minted {
    /// The user.
    pub sub: String,
    /// Unix seconds.
    pub iat: u64,
    /// Unix seconds.
    pub exp: u64,
    /// The configured audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// Public about the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<serde_json::Value>,
    /// What is allowed where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<MintedCap>,
}

/// One capability of a minted token.
#[derive(Debug, Default, Serialize)]
pub struct MintedCap {
    /// Rooms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<String>,
    /// Names and patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Rights.
    pub allow: Vec<String>,
}

/// Signs a token with the shared secret (HS256).
///
/// # Errors
/// What the crypto library says.
pub fn mint(claims: &Minted, hmac_secret: &[u8]) -> Result<String, jsonwebtoken::errors::Error> {
    let key = jsonwebtoken::EncodingKey::from_secret(hmac_secret);
    jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::HS256), claims, &key)
}

#[cfg(test)]
mod tests;
