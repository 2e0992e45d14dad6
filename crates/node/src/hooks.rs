//! Asking a backend, and what becomes of its no.
//!
//! Whoever asks waits in the command's own future, so a slow backend delays the session that asked and nobody else.

use std::sync::Arc;

use fireside_core::gate::{Denial, Principal};
use fireside_core::hook::{Answer, Asked, Unanswered};
use fireside_core::outbox::SubId;
use fireside_core::{ChannelName, Disconnect, Fact, Refusal};

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

/// Asks whether a session whose end is near may go on. No answer changes nothing: it is asked again, until the end comes.
pub(crate) fn refresh(node: &Arc<Node>, session: &Arc<Session>, who: &Arc<Principal>) {
    let question = node.gate.ask_refresh(who);
    let (node_of_task, session) = (node.clone(), session.clone());
    node.host.spawn(Box::pin(async move {
        let node = node_of_task;
        let answer = ask(&node, &session, question.asked()).await;
        match node.gate.answer_refresh(question, answer, node.host.now_ms()) {
            Ok(principal) => {
                session.replace_principal(principal);
                session.look_again(&node);
            }
            Err(denial) => match refusal(&node, denial) {
                Ok(refusal) if refusal.code.is_temporary() => {}
                Ok(_) => session.close(Disconnect::EXPIRED),
                Err(why) => session.close(why),
            },
        }
    }));
}

/// The same for a subscription.
pub(crate) fn sub_refresh(
    node: &Arc<Node>,
    session: &Arc<Session>,
    who: &Arc<Principal>,
    sub: SubId,
    channel: ChannelName,
) {
    let question = node.gate.ask_sub_refresh(who, channel.clone());
    let (node_of_task, session) = (node.clone(), session.clone());
    node.host.spawn(Box::pin(async move {
        let node = node_of_task;
        let answer = ask(&node, &session, question.asked()).await;
        match node.gate.answer_sub_refresh(question, answer, node.host.now_ms()) {
            Ok(expires_ms) => session.extend_sub(&node, sub, expires_ms),
            Err(denial) => match refusal(&node, denial) {
                Ok(refusal) if refusal.code.is_temporary() => {}
                // Another subscription to the same channel may have come meanwhile: that one is not meant.
                Ok(_) if session.has(sub) => session.end_sub(&node, channel),
                Ok(_) => {}
                Err(why) => session.close(why),
            },
        }
    }));
}
