//! What Fireside asks before it writes a record: the story's rules, which a page could break and a log would keep.

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::claims::Role;
use crate::log::Log;

/// How old a question may be, in seconds: beyond it, somebody plays back what they have copied.
const QUESTION_SECONDS_MAX: u64 = 300;

/// A refusal by the story's rules, from the range that is the application's own.
const AGAINST_THE_RULES: u16 = 403;
/// Fireside's own "not now": the page sends it again.
const NOT_NOW: u16 = 100;

/// What is asked, as far as the rules need it.
#[derive(Deserialize)]
struct Question {
    user: String,
    channel: String,
    #[serde(default)]
    data: Value,
    /// The token's claim of that name: this room's own words about the user.
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    role: Role,
}

/// Why a record is not written.
struct No(u16, &'static str);

pub(crate) struct Hook {
    key: hmac::Key,
    log: Log,
}

impl Hook {
    pub(crate) fn new(secret: &[u8], log: Log) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), log }
    }

    /// The answer to a question, or `None` where it is not from Fireside or cannot be read.
    pub(crate) async fn answer(&self, request: &Request<Bytes>, now: u64) -> Option<Value> {
        let header = request.headers().get("fireside-signature")?.to_str().ok()?;
        if !self.is_signed(header, request.body(), now) {
            return None;
        }
        let question: Question = serde_json::from_slice(request.body()).ok()?;
        Some(match self.judge(&question).await {
            Ok(()) => json!({ "result": {} }),
            Err(No(code, message)) => {
                json!({ "error": { "code": code, "message": message, "temporary": code == NOT_NOW } })
            }
        })
    }

    /// `t=<unix seconds>,v1=<hex of HMAC-SHA256 over "<unix seconds>.<body>">`, compared in constant time.
    fn is_signed(&self, header: &str, body: &[u8], now: u64) -> bool {
        let Some((time, signature)) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1="))
        else {
            return false;
        };
        let is_fresh = time.parse::<u64>().is_ok_and(|time| now.abs_diff(time) <= QUESTION_SECONDS_MAX);
        let signed = [time.as_bytes(), b".", body].concat();
        is_fresh && from_hex(signature).is_some_and(|tag| hmac::verify(&self.key, &signed, &tag).is_ok())
    }

    /// A paragraph is for every writer, which the token says already. The rest depends on who they are.
    async fn judge(&self, question: &Question) -> Result<(), No> {
        let role = question.meta.as_ref().map_or(Role::Reader, |meta| meta.role);
        let Some(story) = question.channel.strip_prefix("story:") else {
            return Ok(());
        };
        match question.data["type"].as_str() {
            Some("title") if role < Role::Host => Err(No(AGAINST_THE_RULES, "only a host names the story")),
            Some("edit" | "remove") if role < Role::Host => {
                self.is_own(story, &question.user, &question.data["of"]).await
            }
            _ => Ok(()),
        }
    }

    /// Whether the record at the offset `of` is a paragraph of this user.
    async fn is_own(&self, story: &str, user: &str, of: &Value) -> Result<(), No> {
        const NOT_YOURS: No = No(AGAINST_THE_RULES, "only its author and a host may change a paragraph");
        const UNREAD: No = No(NOT_NOW, "the story could not be read just now");
        let of = of.as_u64().filter(|&of| of > 0).ok_or(NOT_YOURS)?;
        let end = self.log.before(story, 1, None).await.ok_or(UNREAD)?;
        if of > end.offset {
            return Err(NOT_YOURS);
        }
        let record = if of == end.offset {
            end.publications.into_iter().next()
        } else {
            let page = self.log.before(story, 1, Some(&(end.epoch, of + 1))).await.ok_or(UNREAD)?;
            page.publications.into_iter().next()
        };
        let is_own = record.is_some_and(|record| {
            record.offset == of && record.data["type"] == "paragraph" && record.info["user"] == user
        });
        if is_own { Ok(()) } else { Err(NOT_YOURS) }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests;
