//! Asking a backend, and what becomes of its no.
//!
//! Whoever asks waits in the command's own future, so a slow backend delays the session that asked and nobody else.

use fireside_core::gate::Denial;
use fireside_core::hook::{Answer, Asked, Unanswered};
use fireside_core::{Disconnect, Fact, Refusal};

use crate::Node;
use crate::session::Session;

/// Asks what a command of this session needs to be asked.
pub(crate) async fn ask(node: &Node, session: &Session, asked: &Asked) -> Result<Answer, Unanswered> {
    node.backend.ask(asked.clone(), session.link).await
}

/// What to answer to a command that was denied.
///
/// # Errors
/// Nothing: the session ends.
pub(crate) fn refusal(node: &Node, denial: Denial) -> Result<Refusal, Disconnect> {
    match denial {
        Denial::Refused(refusal) => Ok(refusal),
        Denial::Closed(why) => Err(why),
        Denial::Unusable(hook, what) => {
            node.say(Fact::AnswerUnusable { hook, what });
            Ok(Denial::unusable())
        }
    }
}

/// Answers a command that was denied, or ends the session.
pub(crate) fn deny(node: &Node, session: &Session, op: &'static str, id: u32, denial: Denial) {
    match refusal(node, denial) {
        Ok(refusal) => session.refuse(node, op, id, refusal),
        Err(why) => session.close(why),
    }
}

/// The same, for whoever answers refusals himself.
pub(crate) fn refuse(node: &Node, session: &Session, denial: Denial) -> Result<(), Refusal> {
    match refusal(node, denial) {
        Ok(refusal) => Err(refusal),
        Err(why) => {
            session.close(why);
            Ok(())
        }
    }
}
