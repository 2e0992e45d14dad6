//! Step 6: what the gate must ask a backend first, and what it makes of the answer.
//!
//! A [`Question`] holds what passed all other steps, and gives it out for an answer only. So nobody can act on a command that its backend
//! has not answered, and what an answer changes is judged here like what a client sends.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::identity::{about, still_valid};
use super::{Admitted, Caller, Denial, Follow, Gate, Principal, Prompted, Start, Write, bounds, fits, quota};
use crate::hook::{Answer, Asked, Grant, Hook, Unanswered};
use crate::limits;
use crate::name::ChannelName;
use crate::namespace::Namespace;
use crate::record::KeyMark;
use crate::refusal::{Code, Refusal};

/// What the gate says to a command that it does not refuse.
#[derive(Debug)]
pub enum Verdict<T> {
    /// It passed.
    Passed(T),
    /// It passed, if a backend says yes.
    Ask(Box<Question<T>>),
}

impl<T> Verdict<T> {
    pub(super) fn ask(asked: Asked, held: T) -> Self {
        Verdict::Ask(Box::new(Question::new(asked, held)))
    }

    /// What passed, for those who are never asked about: backends, and namespaces without hooks.
    ///
    /// # Errors
    /// There is a question after all.
    pub fn at_once(self) -> Result<T, Refusal> {
        match self {
            Verdict::Passed(passed) => Ok(passed),
            Verdict::Ask(_) => {
                Err(Refusal::because(Code::NotAvailable, "a backend must be asked about this"))
            }
        }
    }
}

/// What a backend must be asked, and what passes if it says yes.
pub struct Question<T> {
    asked: Asked,
    held: T,
}

impl<T> fmt::Debug for Question<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("hook", &self.asked.hook).finish_non_exhaustive()
    }
}

impl<T> Question<T> {
    pub(super) fn new(asked: Asked, held: T) -> Self {
        Question { asked, held }
    }

    /// The words of the question.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// What a yes adds, and what it lets pass.
    pub(super) fn granted(self, answer: Result<Answer, Unanswered>) -> Result<(Grant, T), Denial> {
        match answer {
            Ok(Answer::Granted(grant)) => Ok((*grant, self.held)),
            Ok(Answer::Refused(refusal)) => Err(Denial::Refused(refusal)),
            Ok(Answer::Closed(why)) => Err(Denial::Closed(why)),
            Err(Unanswered(_)) => {
                let message = "the application's backend did not answer; try again later";
                Err(Denial::Refused(Refusal::because(Code::Internal, message)))
            }
        }
    }
}

impl<C> Question<Admitted<C>> {
    /// Where.
    pub fn channel(&self) -> &ChannelName {
        &self.held.channel
    }

    /// The channel's policy.
    pub fn policy(&self) -> &Arc<Namespace> {
        &self.held.policy
    }
}

impl Question<Admitted<Write>> {
    /// The mark of the record's key: whoever knows it already need not ask.
    pub fn key(&self) -> Option<KeyMark> {
        self.held.command.key
    }
}

impl Question<Admitted<Start>> {
    /// The mark of the start's key: whoever knows it already need not ask.
    pub fn key(&self) -> KeyMark {
        self.held.command.key
    }
}

impl Gate {
    /// Admits the write that a backend was asked about, with the body and the tags that it gives it.
    ///
    /// # Errors
    /// What the backend says; the session's token ended meanwhile; or the answer breaks a bound or the schema.
    pub fn answer_publish(
        &self,
        question: Question<Admitted<Write>>,
        answer: Result<Answer, Unanswered>,
        now_ms: u64,
    ) -> Result<Admitted<Write>, Denial> {
        let answer = match answer {
            Err(_) if self.rules().lenient.has(Hook::Publish) => Ok(Answer::Granted(Box::default())),
            answer => answer,
        };
        let (grant, mut admitted) = question.granted(answer)?;
        still_valid(&admitted.principal, now_ms).map_err(Denial::Refused)?;
        let wrong = |what| Err(unusable(Hook::Publish, what));
        if let Some(body) = grant.data {
            if bounds::body(&body).is_err() {
                return wrong("data is empty or too deep");
            }
            if fits(&admitted.policy, &body).is_err() {
                return wrong("data is too large, or does not fit the namespace's schema");
            }
            admitted.command.body = body;
        }
        if bounds::backend_tags(&grant.tags).is_err() {
            return wrong("tags are too many, too long, or have the server's own name");
        }
        admitted.command.tags.extend(grant.tags);
        Ok(admitted)
    }

    /// Admits the subscription that a backend was asked about.
    ///
    /// # Errors
    /// What the backend says; the session's token ended meanwhile; or the answer breaks a bound.
    pub fn answer_subscribe(
        &self,
        question: Question<Admitted<Follow>>,
        answer: Result<Answer, Unanswered>,
        now_ms: u64,
    ) -> Result<Admitted<Follow>, Denial> {
        let (grant, mut admitted) = question.granted(answer)?;
        still_valid(&admitted.principal, now_ms).map_err(Denial::Refused)?;
        let wrong = |what| Err(unusable(Hook::Subscribe, what));
        if !bounds::given(grant.data.as_ref(), limits::HOOK_DATA_BYTES_MAX) {
            return wrong("data is too large or too deep");
        }
        if !bounds::given(grant.info.as_ref(), limits::INFO_BYTES_MAX) {
            return wrong("info is too large or too deep");
        }
        // A backend may shorten what a token allows.
        let ends = [self.end(Hook::Subscribe, &grant, now_ms)?, admitted.command.expires_ms];
        admitted.command.expires_ms = ends.into_iter().flatten().min();
        admitted.command.data = grant.data;
        admitted.command.info = grant.info.or(admitted.command.info);
        Ok(admitted)
    }

    /// Admits the start of a run that a backend was asked about, with the prompt and the limits that it gives it.
    ///
    /// # Errors
    /// What the backend says; the session's token ended meanwhile; or the answer breaks a bound.
    pub fn answer_prompt(
        &self,
        question: Question<Admitted<Start>>,
        answer: Result<Answer, Unanswered>,
        now_ms: u64,
    ) -> Result<Admitted<Start>, Denial> {
        let (grant, mut admitted) = question.granted(answer)?;
        still_valid(&admitted.principal, now_ms).map_err(Denial::Refused)?;
        let bytes: usize = grant.messages.iter().map(|message| message.text.len()).sum();
        if grant.messages.len() > limits::PROMPT_MESSAGES_MAX || bytes > limits::PROMPT_BYTES_MAX {
            return Err(unusable(Hook::Prompt, "messages are too many or too long"));
        }
        admitted.command.prompt =
            Prompted { messages: grant.messages, provider: grant.model, tokens_max: grant.tokens_max };
        Ok(admitted)
    }

    /// May this subscription, whose end is near, go on? Asked by the node, since nobody sends a command for it.
    pub fn ask_sub_refresh(&self, who: &Arc<Principal>, channel: ChannelName) -> Question<()> {
        Question::new(Asked { channel: Some(channel), ..about(Hook::SubRefresh, who) }, ())
    }

    /// Until when it goes on, in Unix ms.
    ///
    /// # Errors
    /// What the backend says: 110 for `expired`; or its answer names no end, or one in the past.
    pub fn answer_sub_refresh(
        &self,
        question: Question<()>,
        answer: Result<Answer, Unanswered>,
        now_ms: u64,
    ) -> Result<u64, Denial> {
        let (grant, ()) = question.granted(answer)?;
        if grant.expired {
            return Err(Denial::Refused(Code::Expired.into()));
        }
        let end = self.end(Hook::SubRefresh, &grant, now_ms)?;
        end.ok_or_else(|| unusable(Hook::SubRefresh, "expire_at is missing"))
    }

    /// May this session call a method of its backend? Whatever passes is asked.
    ///
    /// # Errors
    /// 107, 108 where there is no such hook, 110, 111.
    pub fn rpc(&self, mut caller: Caller<'_>, method: String, data: Bytes) -> Result<Question<()>, Refusal> {
        bounds::method(&method)?;
        still_valid(caller.principal, caller.now_ms)?;
        quota::take(self.rules(), &mut caller)?;
        if !self.rules().hooks.has(Hook::Rpc) {
            return Err(Refusal::new(Code::NotAvailable));
        }
        Ok(Question::new(Asked { method, data, ..about(Hook::Rpc, caller.principal) }, ()))
    }

    /// What the method answers: one JSON value, or empty.
    ///
    /// # Errors
    /// What the backend says; or its answer breaks a bound.
    pub fn answer_rpc(
        &self,
        question: Question<()>,
        answer: Result<Answer, Unanswered>,
    ) -> Result<Bytes, Denial> {
        let (grant, ()) = question.granted(answer)?;
        if !bounds::given(grant.data.as_ref(), limits::HOOK_DATA_BYTES_MAX) {
            return Err(unusable(Hook::Rpc, "data is too large or too deep"));
        }
        Ok(grant.data.unwrap_or_default())
    }
}

/// The backend's answer cannot be used.
pub(super) fn unusable(hook: Hook, what: &'static str) -> Denial {
    Denial::Unusable(hook, what)
}
