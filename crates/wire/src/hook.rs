//! The shapes of hooks: what a backend is asked, as one JSON object, and `{"result": {…}}`, `{"error": {…}}` or `{"disconnect": {…}}` back.

use std::sync::Arc;

use bytes::Bytes;
use fireside_core::gate::Capability;
use fireside_core::hook::{Answer, Asked, Grant, Hook, Message, Role};
use fireside_core::{Code, Refusal, limits};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::body;
use crate::centrifuge_json::publication;
use crate::fields::{DisconnectFields, Entries, Fields, or_default, present};
use crate::object::object;

/// Writes a question. `link` is the carrier and the protocol of the client, as in `websocket/centrifuge-json`.
pub fn question(asked: &Asked, link: &str, out: &mut Vec<u8>) {
    let (transport, protocol) = link.split_once('/').unwrap_or((link, ""));
    object(out, |o| {
        o.text("hook", asked.hook.name());
        o.text("client", &asked.client);
        o.text("transport", transport);
        o.text("protocol", protocol.strip_prefix("centrifuge-").unwrap_or(protocol));
        o.text("encoding", "json");
        o.exact_text("user", &asked.user);
        o.text("channel", asked.channel.as_ref().map_or("", |channel| channel.as_str()));
        o.text("method", &asked.method);
        o.text("name", &asked.program.0);
        o.text("version", &asked.program.1);
        if !asked.channels.is_empty() {
            o.texts("channels", &asked.channels);
        }
        o.json("data", &asked.data);
        if asked.hook == Hook::Prompt {
            o.objects("records", &asked.records, |o, record| publication(record, None, o));
        }
        o.json("meta", asked.meta.as_deref().unwrap_or_default());
    });
}

/// Reads an answer.
///
/// # Errors
/// It is none: a sentence for whoever runs the server.
pub fn answer(hook: Hook, json: &[u8]) -> Result<Answer, &'static str> {
    let fields: Fields<AnswerFields<'_>> = serde_json::from_slice(json)
        .map_err(|_| "it is not a JSON object with result, error or disconnect")?;
    match fields.0 {
        AnswerFields { result: Some(Fields(result)), error: None, disconnect: None } => {
            result.grant(hook).map(|grant| Answer::Granted(Box::new(grant)))
        }
        AnswerFields { result: None, error: Some(Fields(error)), disconnect: None } => {
            error.refusal().map(Answer::Refused)
        }
        AnswerFields { result: None, error: None, disconnect: Some(Fields(why)) } => {
            why.disconnect().map(Answer::Closed)
        }
        _ => Err("it must have exactly one of result, error and disconnect"),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AnswerFields<'a> {
    #[serde(borrow)]
    result: Option<Fields<ResultFields<'a>>>,
    error: Option<Fields<ErrorFields>>,
    disconnect: Option<Fields<DisconnectFields>>,
}

/// The fields of every hook's result; which of them a hook takes is said at [`Grant`].
#[derive(Default, Deserialize)]
#[serde(default)]
struct ResultFields<'a> {
    user: Option<String>,
    #[serde(borrow, deserialize_with = "present")]
    info: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    meta: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    expire_at: u64,
    #[serde(deserialize_with = "or_default")]
    expired: bool,
    #[serde(deserialize_with = "or_default")]
    channels: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    subs: Entries<IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    caps: Vec<Fields<CapFields>>,
    #[serde(deserialize_with = "or_default")]
    tags: Entries<String>,
    #[serde(deserialize_with = "or_default")]
    messages: Vec<Fields<MessageFields>>,
    model: Option<String>,
    #[serde(deserialize_with = "or_default")]
    tokens_max: u32,
    // To pass over what we do not offer would do something else than what was said.
    b64info: Option<IgnoredAny>,
    b64data: Option<IgnoredAny>,
    r#override: Option<IgnoredAny>,
    idempotency_key: Option<IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    skip_history: bool,
    #[serde(deserialize_with = "or_default")]
    version: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CapFields {
    #[serde(deserialize_with = "or_default")]
    rooms: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    channels: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    allow: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MessageFields {
    #[serde(deserialize_with = "or_default")]
    role: String,
    #[serde(deserialize_with = "or_default")]
    content: String,
}

impl MessageFields {
    fn message(self) -> Result<Message, &'static str> {
        let role = Role::parse(&self.role).ok_or("messages: a role is system, user or assistant")?;
        Ok(Message { role, text: self.content })
    }
}

impl ResultFields<'_> {
    fn grant(self, hook: Hook) -> Result<Grant, &'static str> {
        if self.b64info.is_some() || self.b64data.is_some() {
            return Err("b64info and b64data are not offered: info and data are JSON");
        }
        if self.skip_history
            || self.version > 0
            || self.r#override.is_some()
            || self.idempotency_key.is_some()
        {
            return Err("skip_history, version, override and idempotency_key are not offered");
        }
        let json = |value: Option<&RawValue>| match value.filter(|value| value.get() != "null") {
            None => Ok(None),
            Some(value) => body::take(value).map(Some).map_err(|fault| fault.0),
        };
        // A result that is `null` is a result; elsewhere `null` is nothing.
        let data = match (hook, self.data) {
            (Hook::Rpc, Some(data)) if data.get() == "null" => Some(Bytes::from_static(b"null")),
            (_, data) => json(data)?,
        };
        let mut channels = self.channels;
        channels.extend(self.subs.0.into_iter().map(|(name, _)| name));
        let caps =
            self.caps.into_iter().map(|Fields(cap)| Capability::read(cap.rooms, cap.channels, &cap.allow));
        Ok(Grant {
            user: self.user,
            info: json(self.info)?,
            meta: json(self.meta)?,
            data,
            expires_s: (self.expire_at > 0).then_some(self.expire_at),
            expired: self.expired,
            channels,
            caps: caps.collect::<Result<_, _>>()?,
            messages: self.messages.into_iter().map(|one| one.0.message()).collect::<Result<_, _>>()?,
            model: self.model.filter(|name| !name.is_empty()).map(Arc::from),
            tokens_max: self.tokens_max,
            tags: self.tags.0.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorFields {
    #[serde(deserialize_with = "or_default")]
    code: u16,
    #[serde(deserialize_with = "or_default")]
    message: String,
    #[serde(deserialize_with = "or_default")]
    temporary: bool,
}

impl ErrorFields {
    fn refusal(self) -> Result<Refusal, &'static str> {
        let ErrorFields { code, message, temporary } = self;
        let code = Code::from_backend(code, temporary)
            .ok_or("error.code is one of the protocol's (100 to 111), or from 400 to 1999")?;
        if message.len() > limits::HOOK_MESSAGE_BYTES_MAX {
            return Err("error.message is too long");
        }
        Ok(if message.is_empty() { Refusal::new(code) } else { Refusal::because(code, message) })
    }
}

#[cfg(test)]
mod tests {
    use fireside_core::{ChannelName, Disconnect};

    use super::*;

    fn granted(hook: Hook, json: &str) -> Grant {
        match answer(hook, json.as_bytes()) {
            Ok(Answer::Granted(grant)) => *grant,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn a_question_has_the_fields_of_its_hook() {
        let asked = Asked {
            channel: Some(ChannelName::parse("story:1").unwrap()),
            data: Bytes::from_static(br#"{"text":"hi"}"#),
            meta: Some(Bytes::from_static(b"7")),
            ..Asked::new(Hook::Publish, "c-1".into(), "anna".into())
        };
        let mut out = Vec::new();
        question(&asked, "websocket/centrifuge-json", &mut out);
        let wanted = r#"{"hook":"publish","client":"c-1","transport":"websocket","protocol":"json","encoding":"json","user":"anna","channel":"story:1","data":{"text":"hi"},"meta":7}"#;
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn an_answer_is_exactly_one_of_three() {
        assert_eq!(granted(Hook::Publish, r#"{"result":{}}"#), Grant::default());
        assert_eq!(
            answer(Hook::Publish, br#"{"error":{"code":403,"message":"not your turn"}}"#),
            Ok(Answer::Refused(Refusal::because(
                Code::Backend { number: 403, temporary: false },
                "not your turn"
            )))
        );
        assert_eq!(
            answer(Hook::Publish, br#"{"error":{"code":103}}"#),
            Ok(Answer::Refused(Code::PermissionDenied.into()))
        );
        assert_eq!(
            answer(Hook::Connect, br#"{"disconnect":{"code":4501,"reason":"banned"}}"#),
            Ok(Answer::Closed(Disconnect { code: 4501, reason: "banned".into() }))
        );
        for wrong in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"result":null}"#,
            r#"{"result":{},"error":{"code":403}}"#,
            r#"{"result":{}}{"result":{}}"#,
            r#"{"error":{"code":99}}"#,
            r#"{"error":{"code":70000}}"#,
            r#"{"disconnect":{"code":1000}}"#,
            r#"{"disconnect":{"code":4000,"reason":"{\"reconnect\":true}"}}"#,
            r#"{"result":{"messages":[{"role":"tool","content":"x"}]}}"#,
            r#"{"result":{"skip_history":true}}"#,
            r#"{"result":{"b64data":"e30="}}"#,
            r#"{"result":{"data":{"a":1,"a":2}}}"#,
            r#"{"result":{"caps":[{"rooms":["a b"]}]}}"#,
            "{\"result\":{\"data\":\"\\ud800\"}}",
        ] {
            assert!(answer(Hook::Publish, wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_grant_has_what_the_result_says() {
        let grant = granted(
            Hook::Connect,
            r#"{"result":{"user":"anna","info":{"name":"Anna"},"meta":{"plan":"x"},"data":1,"expire_at":99,
                "channels":["news:1"],"subs":{"story:2":{}},"caps":[{"rooms":["story:2"],"allow":["publish"]}],"later":true}}"#,
        );
        assert_eq!((grant.user.as_deref(), grant.expires_s), (Some("anna"), Some(99)));
        assert_eq!(grant.info.as_deref(), Some(&br#"{"name":"Anna"}"#[..]));
        assert_eq!(grant.channels, ["news:1", "story:2"]);
        assert_eq!(grant.caps.len(), 1);
        let prompt = granted(
            Hook::Prompt,
            r#"{"result":{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Go on."}],"model":"small","tokens_max":9}}"#,
        );
        let said: Vec<_> = prompt.messages.iter().map(|said| (said.role, said.text.as_str())).collect();
        assert_eq!(said, [(Role::System, "Be brief."), (Role::User, "Go on.")]);
        assert_eq!((prompt.model.as_deref(), prompt.tokens_max), (Some("small"), 9));
        let tags = granted(Hook::Publish, r#"{"result":{"tags":{"lang":"en"},"data":null,"expire_at":0}}"#);
        assert_eq!((tags.tags.len(), tags.data, tags.expires_s), (1, None, None));
        assert_eq!(granted(Hook::Rpc, r#"{"result":{"data":null}}"#).data.as_deref(), Some(&b"null"[..]));
    }
}
