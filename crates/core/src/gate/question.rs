//! Step 6: what the gate must ask a backend first, and what it makes of the answer.
//!
//! A [`Question`] holds what passed all other steps, and gives it out for an answer only. So nobody can act on a command that its backend
//! has not answered, and what an answer changes is judged here like what a client sends.

use std::fmt;

use super::identity::still_valid;
use super::{Admitted, Denial, Follow, Gate, Write, bounds, fits};
use crate::hook::{Answer, Asked, Grant, Hook, Unanswered};
use crate::limits;
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
        Verdict::Ask(Box::new(Question { asked, held }))
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
        if !bounds::given(grant.data.as_ref(), limits::HOOK_DATA_BYTES_MAX) {
            return Err(unusable(Hook::Subscribe, "data is too large or too deep"));
        }
        admitted.command.data = grant.data;
        Ok(admitted)
    }
}

/// The backend's answer cannot be used.
pub(super) fn unusable(hook: Hook, what: &'static str) -> Denial {
    Denial::Unusable(hook, what)
}
