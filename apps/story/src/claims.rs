//! What the story room signs: invitations and sessions for itself, connection tokens for Fireside.

use jsonwebtoken::errors::Error;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long an invitation lets people in: thirty days, in seconds.
pub(crate) const INVITATION_SECONDS: u64 = 30 * 86_400;
/// How long a device is remembered after it was last here: ninety days, in seconds.
const SESSION_SECONDS: u64 = 90 * 86_400;
/// How long a connection token lives: fifteen minutes, in seconds. The page renews it by its session.
const TOKEN_SECONDS: u64 = 15 * 60;

const INVITATION_AUDIENCE: &str = "fireside-story:invitation";
const SESSION_AUDIENCE: &str = "fireside-story:session";

/// What somebody may do in a story; each role may do all that the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads the story and talks in the chat.
    Reader,
    /// Writes paragraphs, asks the narrator to go on, and stops the narrator they started.
    Writer,
    /// Names the story and stops any narrator.
    Host,
}

pub(crate) struct Invitation {
    pub(crate) story: String,
    pub(crate) role: Role,
}

#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) story: String,
    pub(crate) user: String,
    pub(crate) name: String,
    pub(crate) role: Role,
}

#[derive(Serialize, Deserialize)]
struct InvitationClaims {
    aud: String,
    exp: u64,
    story: String,
    role: Role,
}

#[derive(Serialize, Deserialize)]
struct SessionClaims {
    aud: String,
    exp: u64,
    sub: String,
    story: String,
    name: String,
    role: Role,
}

/// Holds the two secrets; the audience keeps an invitation from passing for a session.
pub(crate) struct Signer {
    token_key: EncodingKey,
    token_audience: Option<String>,
    own_key: EncodingKey,
    own_check: DecodingKey,
}

impl Signer {
    pub(crate) fn new(token_secret: &[u8], token_audience: Option<String>, own: &[u8]) -> Self {
        Self {
            token_key: EncodingKey::from_secret(token_secret),
            token_audience,
            own_key: EncodingKey::from_secret(own),
            own_check: DecodingKey::from_secret(own),
        }
    }

    pub(crate) fn invitation(&self, story: &str, role: Role, now: u64) -> Result<String, Error> {
        let claims = InvitationClaims {
            aud: INVITATION_AUDIENCE.to_owned(),
            exp: now + INVITATION_SECONDS,
            story: story.to_owned(),
            role,
        };
        encode(&Header::default(), &claims, &self.own_key)
    }

    pub(crate) fn read_invitation(&self, token: &str, now: u64) -> Option<Invitation> {
        let claims: InvitationClaims = self.read(token, INVITATION_AUDIENCE)?;
        (claims.exp > now).then_some(Invitation { story: claims.story, role: claims.role })
    }

    pub(crate) fn session(&self, session: &Session, now: u64) -> Result<String, Error> {
        let claims = SessionClaims {
            aud: SESSION_AUDIENCE.to_owned(),
            exp: now + SESSION_SECONDS,
            sub: session.user.clone(),
            story: session.story.clone(),
            name: session.name.clone(),
            role: session.role,
        };
        encode(&Header::default(), &claims, &self.own_key)
    }

    pub(crate) fn read_session(&self, token: &str, now: u64) -> Option<Session> {
        let claims: SessionClaims = self.read(token, SESSION_AUDIENCE)?;
        (claims.exp > now).then_some(Session {
            story: claims.story,
            user: claims.sub,
            name: claims.name,
            role: claims.role,
        })
    }

    /// The token that Fireside admits: who it is, and what the role may do in this one room.
    pub(crate) fn token(&self, session: &Session, now: u64) -> Result<String, Error> {
        let mut claims = json!({
            "sub": session.user,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            // What the publish hook is told of them; no client sees it.
            "meta": { "role": session.role },
            "info": { "name": session.name, "role": session.role },
            "caps": caps(&session.story, session.role),
        });
        if let Some(audience) = &self.token_audience {
            claims["aud"] = json!(audience);
        }
        encode(&Header::default(), &claims, &self.token_key)
    }

    fn read<T: DeserializeOwned>(&self, token: &str, audience: &str) -> Option<T> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&[audience]);
        rules.required_spec_claims.insert("aud".to_owned());
        // Expiry is compared by the caller, against the time of the request.
        rules.validate_exp = false;
        decode(token, &self.own_check, &rules).ok().map(|data| data.claims)
    }
}

/// A reader publishes only where readers may be heard: the chat, and the live channel that says who is typing or away.
fn caps(story: &str, role: Role) -> Value {
    let room = format!("story:{story}");
    let read = ["subscribe", "history", "presence"];
    match role {
        Role::Reader => json!([
            { "rooms": [room], "allow": read },
            { "channels": [format!("{room}/chat"), format!("{room}/live")], "allow": ["publish"] },
        ]),
        Role::Writer | Role::Host => {
            let cancel = if role == Role::Host { "ai.cancel.any" } else { "ai.cancel.own" };
            let mut allow = read.to_vec();
            allow.extend(["publish", "ai.start", cancel]);
            json!([{ "rooms": [room], "allow": allow }])
        }
    }
}
