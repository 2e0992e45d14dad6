//! Step 1: what a client sends has the form and size it may have.

use std::sync::Arc;

use bytes::Bytes;

use super::Principal;
use crate::command::Subscribe;
use crate::filter::TagFilter;
use crate::limits;
use crate::name::ChannelName;
use crate::namespace::Namespace;
use crate::refusal::{Code, Refusal};

pub(super) fn channel(text: &str) -> Result<ChannelName, Refusal> {
    ChannelName::parse(text).map_err(|fault| Refusal::because(Code::BadRequest, fault.to_string()))
}

/// A body is one JSON value; that it is well formed is the decoder's business, that it is not a trap is ours.
pub(super) fn body(body: &[u8]) -> Result<(), Refusal> {
    if body.is_empty() {
        return Err(Refusal::because(Code::BadRequest, "a publish needs data"));
    }
    depth(body)
}

pub(super) fn input(input: &[u8]) -> Result<(), Refusal> {
    if input.len() > limits::RUN_INPUT_BYTES_MAX {
        let message = format!("an input has at most {} bytes", limits::RUN_INPUT_BYTES_MAX);
        return Err(Refusal::because(Code::LimitExceeded, message));
    }
    depth(input)
}

/// A JSON value that a backend gives away: not larger than `bytes_max`, and no trap.
pub(super) fn given(json: Option<&Bytes>, bytes_max: usize) -> bool {
    json.is_none_or(|json| !json.is_empty() && json.len() <= bytes_max && depth(json).is_ok())
}

/// Nesting of a JSON text, by one linear scan without recursion.
fn depth(json: &[u8]) -> Result<(), Refusal> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits::JSON_DEPTH_MAX {
            let message = format!("JSON is nested at most {} deep", limits::JSON_DEPTH_MAX);
            return Err(Refusal::because(Code::BadRequest, message));
        }
    }
    Ok(())
}

pub(super) fn key<'k>(key: Option<&'k str>, principal: &Principal) -> Result<Option<&'k str>, Refusal> {
    let Some(text) = key else { return Ok(None) };
    if text.is_empty() || text.len() > limits::KEY_BYTES_MAX {
        return Err(Refusal::because(
            Code::BadRequest,
            format!("a key has 1 to {} bytes", limits::KEY_BYTES_MAX),
        ));
    }
    if principal.is_anonymous() && text.len() < limits::ANONYMOUS_KEY_BYTES_MIN {
        // All anonymous sessions are one producer: only chance keeps their keys apart.
        return Err(Refusal::because(
            Code::BadRequest,
            "without a user a key must be 128 random bits (22 characters)",
        ));
    }
    Ok(key)
}

/// A filter, if one is asked for: whoever asks must not be sent everything, so where there are none it is refused.
pub(super) fn filter(asked: &Subscribe, policy: &Namespace) -> Result<Option<Arc<TagFilter>>, Refusal> {
    let Some(node) = &asked.filter else { return Ok(None) };
    if !policy.tags_filter {
        return Err(Refusal::because(Code::NotAvailable, "there are no tag filters in this namespace"));
    }
    if asked.patches {
        return Err(Refusal::because(Code::BadRequest, "a tag filter and deltas exclude each other"));
    }
    let read = TagFilter::read(node).map_err(|fault| Refusal::because(Code::BadRequest, fault.0))?;
    Ok(Some(Arc::new(read)))
}

pub(super) fn conflate(text: Option<&str>) -> Result<Option<Arc<str>>, Refusal> {
    match text {
        None => Ok(None),
        Some(text) if (1..=limits::CONFLATE_BYTES_MAX).contains(&text.len()) => Ok(Some(Arc::from(text))),
        Some(_) => {
            let message = format!("a conflation key has 1 to {} bytes", limits::CONFLATE_BYTES_MAX);
            Err(Refusal::because(Code::BadRequest, message))
        }
    }
}

/// A method of a backend's: what begins like ours is kept for ours.
pub(super) fn method(name: &str) -> Result<(), Refusal> {
    if name.len() > limits::METHOD_BYTES_MAX {
        let message = format!("a method's name has at most {} bytes", limits::METHOD_BYTES_MAX);
        return Err(Refusal::because(Code::BadRequest, message));
    }
    match name.starts_with("fireside.") || name.starts_with("ai.") {
        true => Err(Refusal::because(Code::NotAvailable, "there is no such method of this server")),
        false => Ok(()),
    }
}

pub(super) fn reason(text: String) -> Result<String, Refusal> {
    if text.len() > 256 {
        return Err(Refusal::because(Code::BadRequest, "a reason has at most 256 bytes"));
    }
    Ok(text)
}

pub(super) fn tags(tags: &[(Arc<str>, Arc<str>)], principal: &Principal) -> Result<(), Refusal> {
    if !tags.is_empty() && !principal.is_backend() {
        return Err(Refusal::because(Code::PermissionDenied, "only a backend sets tags"));
    }
    backend_tags(tags)
}

/// Tags that a backend sets.
pub(super) fn backend_tags(tags: &[(Arc<str>, Arc<str>)]) -> Result<(), Refusal> {
    let fits = |text: &str| (1..=limits::TAG_BYTES_MAX).contains(&text.len());
    if tags.len() > limits::TAGS_MAX
        || !tags.iter().all(|(name, value)| fits(name) && value.len() <= limits::TAG_BYTES_MAX)
    {
        let message = format!("at most {} tags of {} bytes", limits::TAGS_MAX, limits::TAG_BYTES_MAX);
        return Err(Refusal::because(Code::BadRequest, message));
    }
    if tags.iter().any(|(name, _)| &**name == "fireside") {
        return Err(Refusal::because(Code::PermissionDenied, "the tag `fireside` is the server's own"));
    }
    Ok(())
}
