//! The story room's backend: it serves the page, hands out invitations and tokens, and knows Fireside only by its public API.

mod assets;
mod claims;
mod hook;
mod log;
mod name;
mod title;

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

pub use claims::Role;
use claims::{INVITATION_SECONDS, Invitation, Session, Signer};
use hook::Hook;
use log::Log;
use title::Titles;

/// Where Fireside asks whether a record may be written: the path of the URL in `[hook.publish]`.
pub const HOOK_PATH: &str = "/story-hooks/publish";

/// The longest request body that is read, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// What the story room needs to know of its world.
pub struct StoryConfig {
    /// The HMAC secret that Fireside checks connection tokens with (HS256).
    pub token_secret: Vec<u8>,
    /// The audience that Fireside requires in a token, if it requires one.
    pub token_audience: Option<String>,
    /// Where Fireside's HTTP API listens.
    pub api_address: SocketAddr,
    /// The key for that API, sent as `X-API-Key`.
    pub api_key: String,
    /// The HMAC secret of invitations and sessions; Fireside never sees it.
    pub invite_secret: Vec<u8>,
    /// The secret that Fireside signs its questions with (`[hook.publish]`).
    pub hook_secret: Vec<u8>,
    /// What links to this room begin with, as `http://127.0.0.1:8000`.
    pub public_url: String,
}

/// The story room: one value per process, shared by all requests.
pub struct Story {
    public_url: String,
    signer: Signer,
    titles: Titles,
    hook: Hook,
}

/// A refusal of the story room's own JSON interface: a status, a word for the page and a sentence for a person.
struct Refused(StatusCode, &'static str, &'static str);

type Answer = Result<Value, Refused>;

impl Story {
    /// A story room with these secrets and addresses. It keeps no state of its own but a cache of titles.
    pub fn new(config: StoryConfig) -> Self {
        let log = Log::new(config.api_address, config.api_key);
        Self {
            public_url: config.public_url.trim_end_matches('/').to_owned(),
            signer: Signer::new(&config.token_secret, config.token_audience, &config.invite_secret),
            titles: Titles::new(log.clone()),
            hook: Hook::new(&config.hook_secret, log),
        }
    }

    /// A name for a new story: 60 random bits in 12 readable characters. The caller keeps the first one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn first_story_id() -> Result<String, getrandom::Error> {
        readable_id(12)
    }

    /// The link that lets somebody into `story` with `role`, for thirty days from `now` (seconds since 1970).
    ///
    /// # Errors
    /// When the token cannot be signed.
    pub fn invitation_link(
        &self,
        story: &str,
        role: Role,
        now: u64,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let token = self.signer.invitation(story, role, now)?;
        Ok(format!("{}/story/{story}#invite={token}", self.public_url))
    }

    /// Answers one request. Never fails: what cannot be answered becomes a status and a sentence.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let path = request.uri().path();
        if path == HOOK_PATH {
            return match self.hook.answer(&request, now).await {
                Some(answer) => answered(StatusCode::OK, &answer),
                None => assets::plain(StatusCode::UNAUTHORIZED, "Only Fireside asks here.\n"),
            };
        }
        if let Some(call) = path.strip_prefix("/story-api/") {
            return self.call(call, &request, now).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return assets::plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET is understood here.\n");
        }
        assets::serve(&request)
    }

    async fn call(&self, call: &str, request: &Request<Bytes>, now: u64) -> Response<Bytes> {
        if request.method() != Method::POST {
            return assets::plain(StatusCode::METHOD_NOT_ALLOWED, "Only POST is understood here.\n");
        }
        if !is_json(request) {
            return refused(Refused(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "The body has to be application/json.",
            ));
        }
        let body = request.body();
        if body.len() > BODY_BYTES_MAX {
            return refused(Refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "That is more than this call takes.",
            ));
        }
        let answer = match call {
            "stories" => self.create(body, now).await,
            "join" => self.join(body, now).await,
            "session" => self.refresh(body, now).await,
            "invite" => self.invite(body, now),
            _ => Err(Refused(StatusCode::NOT_FOUND, "unknown", "There is no such call.")),
        };
        match answer {
            Ok(value) => answered(StatusCode::OK, &value),
            Err(refusal) => refused(refusal),
        }
    }

    /// Begins a story; whoever begins it is its host.
    async fn create(&self, body: &[u8], now: u64) -> Answer {
        #[derive(Deserialize)]
        struct Create {
            name: String,
        }
        let Create { name } = parse(body)?;
        let name = name::clean(&name).ok_or(NAMELESS)?;
        let session = Session {
            story: readable_id(12).map_err(|_| UNAVAILABLE)?,
            user: readable_id(20).map_err(|_| UNAVAILABLE)?,
            name,
            role: Role::Host,
        };
        self.admitted(&session, now).await
    }

    /// Lets somebody in by an invitation; with a session of the same story it is the same person again, with the greater of both roles.
    async fn join(&self, body: &[u8], now: u64) -> Answer {
        #[derive(Deserialize)]
        struct Join {
            invite: String,
            #[serde(default)]
            name: String,
            #[serde(default)]
            session: Option<String>,
        }
        let join: Join = parse(body)?;
        let Invitation { story, role } =
            self.signer.read_invitation(&join.invite, now).ok_or(BAD_INVITATION)?;
        let known = join
            .session
            .and_then(|session| self.signer.read_session(&session, now))
            .filter(|session| session.story == story);
        let session = match known {
            Some(known) => Session { role: known.role.max(role), ..known },
            None => Session {
                story,
                user: readable_id(20).map_err(|_| UNAVAILABLE)?,
                name: name::clean(&join.name).ok_or(NAMELESS)?,
                role,
            },
        };
        self.admitted(&session, now).await
    }

    /// A fresh token for a session that is still good.
    async fn refresh(&self, body: &[u8], now: u64) -> Answer {
        let session = self.session(body, now)?;
        self.admitted(&session, now).await
    }

    /// A link for somebody else, with a role no greater than one's own.
    fn invite(&self, body: &[u8], now: u64) -> Answer {
        #[derive(Deserialize)]
        struct Wanted {
            role: Role,
        }
        let session = self.session(body, now)?;
        let Wanted { role } = parse(body)?;
        if role > session.role {
            return Err(Refused(
                StatusCode::FORBIDDEN,
                "role",
                "You cannot give a role that is greater than your own.",
            ));
        }
        let link = self.invitation_link(&session.story, role, now).map_err(|_| UNAVAILABLE)?;
        Ok(json!({ "link": link, "role": role, "expires_at": now + INVITATION_SECONDS }))
    }

    fn session(&self, body: &[u8], now: u64) -> Result<Session, Refused> {
        #[derive(Deserialize)]
        struct Held {
            session: String,
        }
        let Held { session } = parse(body)?;
        self.signer.read_session(&session, now).ok_or(Refused(
            StatusCode::UNAUTHORIZED,
            "session",
            "This device is not known here any more. Open an invitation again.",
        ))
    }

    async fn admitted(&self, session: &Session, now: u64) -> Answer {
        let token = self.signer.token(session, now).map_err(|_| UNAVAILABLE)?;
        let secret = self.signer.session(session, now).map_err(|_| UNAVAILABLE)?;
        let title = self.titles.of(&session.story).await;
        Ok(json!({
            "story": session.story,
            "user": session.user,
            "name": session.name,
            "role": session.role,
            "token": token,
            "session": secret,
            "title": title.as_ref().map(|title| title.text.as_str()),
            "title_offset": title.as_ref().map(|title| title.offset),
        }))
    }
}

const NAMELESS: Refused = Refused(StatusCode::BAD_REQUEST, "name", "A name has one to forty characters.");
const BAD_INVITATION: Refused =
    Refused(StatusCode::FORBIDDEN, "invitation", "This invitation has expired, or it is not whole.");
const UNAVAILABLE: Refused =
    Refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The story room cannot do that just now.");

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    serde_json::from_slice(body)
        .map_err(|_| Refused(StatusCode::BAD_REQUEST, "body", "The call is not shaped as it should be."))
}

/// Only JSON is taken: a form of another site cannot send it without asking first.
fn is_json(request: &Request<Bytes>) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().unwrap_or("").trim() == "application/json")
}

fn answered(status: StatusCode, value: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(value.to_string()));
    *response.status_mut() = status;
    assets::guard(response.headers_mut());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

fn refused(Refused(status, code, message): Refused) -> Response<Bytes> {
    answered(status, &json!({ "code": code, "message": message }))
}

/// Random characters that nobody confuses when they read them aloud: 5 bits each.
fn readable_id(length: usize) -> Result<String, getrandom::Error> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

#[cfg(test)]
mod tests;
