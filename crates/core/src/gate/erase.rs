//! Erasing: a backend's right alone.

use bytes::Bytes;
use serde::Serialize;

use super::{Admitted, Caller, Gate, Rights, Write, admitted, bounds};
use crate::command::Erase;
use crate::position::Epoch;
use crate::record::Kind;
use crate::refusal::{Code, Refusal};

/// A record may be erased.
#[derive(Clone, Debug)]
pub struct Erasure {
    /// Which record.
    pub offset: u64,
    /// The epoch that the offset counts in; `None` for whatever it is now.
    pub epoch: Option<Epoch>,
    /// What tells of it, to be written once it is done.
    pub note: Admitted<Write>,
}

#[derive(Serialize)]
struct Note<'a> {
    r#type: &'static str,
    of: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    by: &'a str,
}

impl Gate {
    /// May this record be erased?
    ///
    /// # Errors
    /// 102, 103 for clients, reserved channels and the logs of runs, 107, 108 in a channel without history.
    pub fn erase(&self, mut caller: Caller<'_>, asked: Erase) -> Result<Erasure, Refusal> {
        let channel = bounds::channel(&asked.channel)?;
        if channel.run().is_some() || !caller.principal.is_backend() {
            return Err(Code::PermissionDenied.into());
        }
        let by = bounds::reason(asked.by)?;
        let reason = bounds::reason(asked.reason)?;
        if asked.offset == 0 {
            return Err(Refusal::because(Code::BadRequest, "an offset is a number from 1"));
        }
        self.offers(&channel, |policy| policy.history.is_some())?;
        let policy = self.admit(&mut caller, &channel, Rights::PUBLISH)?;
        let note = Note { r#type: "erase", of: asked.offset, reason: &reason, by: &by };
        let body = Bytes::from(serde_json::to_vec(&note).expect("strings and numbers always serialise"));
        let note = Write {
            kind: Kind::Erase,
            // However often an erasure is asked for, it is told once.
            key: Some(caller.principal.mark(&format!("fireside:erase:{}", asked.offset), b"")),
            body,
            expected: None,
            conflate: None,
            tags: Vec::new(),
            author: None,
        };
        let note = admitted(note, channel, policy, caller.principal);
        Ok(Erasure { offset: asked.offset, epoch: asked.epoch, note })
    }
}
