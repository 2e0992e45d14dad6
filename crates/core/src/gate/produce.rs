//! What a backend may do with the runs that it writes itself.

use std::sync::Arc;

use super::{Admitted, Caller, Gate, Prompted, Rights, Start, admitted, bounds};
use crate::channel::run::{Change, KINDS};
use crate::limits;
use crate::produce::{AppendRun, BeginRun, EndRun, ReadRun};
use crate::refusal::{Code, Refusal};

impl Gate {
    /// May this backend begin a run here?
    ///
    /// # Errors
    /// 102, 103, 106, 107, 108.
    pub fn begin_run(&self, caller: Caller<'_>, asked: BeginRun) -> Result<Admitted<Start>, Refusal> {
        bounds::input(&asked.input)?;
        let key = bounds::key(Some(&asked.key), caller.principal)?.unwrap_or_default();
        at_most("by", &asked.by, limits::USER_BYTES_MAX)?;
        at_most("model", &asked.model, limits::RUN_MODEL_BYTES_MAX)?;
        let start = Start {
            key: caller.principal.mark(key, &asked.input),
            input: asked.input,
            by: Arc::from(asked.by),
            model: Some(Arc::from(asked.model)),
            prompt: Prompted::default(),
        };
        self.produce(caller, &asked.channel, start)
    }

    /// May this backend add to this run?
    ///
    /// # Errors
    /// 102, 103, 106, 107, 108.
    pub fn append_run(&self, caller: Caller<'_>, asked: AppendRun) -> Result<Admitted<AppendRun>, Refusal> {
        if asked.changes.len() > limits::RUN_CHANGES_MAX {
            let message = format!("one call has at most {} deltas", limits::RUN_CHANGES_MAX);
            return Err(Refusal::because(Code::LimitExceeded, message));
        }
        let unknown = asked.changes.iter().find_map(|change| match change {
            Change::Delta { kind, .. } if !KINDS.contains(&kind.as_str()) => Some(kind),
            _ => None,
        });
        if unknown.is_some() {
            let message = format!("a part is of one of the kinds {}", KINDS.join(", "));
            return Err(Refusal::because(Code::BadRequest, message));
        }
        let channel = asked.channel.clone();
        self.produce(caller, &channel, asked)
    }

    /// May this backend end this run?
    ///
    /// # Errors
    /// 102, 103, 107, 108.
    pub fn end_run(&self, caller: Caller<'_>, asked: EndRun) -> Result<Admitted<EndRun>, Refusal> {
        at_most("reason", &asked.reason, limits::RUN_REASON_BYTES_MAX)?;
        let channel = asked.channel.clone();
        self.produce(caller, &channel, asked)
    }

    /// May this backend read this run as it stands?
    ///
    /// # Errors
    /// 102, 103, 107, 108.
    pub fn read_run(&self, caller: Caller<'_>, asked: ReadRun) -> Result<Admitted<ReadRun>, Refusal> {
        let channel = asked.channel.clone();
        self.produce(caller, &channel, asked)
    }

    fn produce<C>(&self, mut caller: Caller<'_>, channel: &str, what: C) -> Result<Admitted<C>, Refusal> {
        if !caller.principal.is_backend() {
            return Err(Refusal::because(Code::PermissionDenied, "only a backend writes runs"));
        }
        let channel = bounds::channel(channel)?;
        let policy = self.admit(&mut caller, &channel, Rights::AI_START)?;
        Self::has_runs(&channel, &policy)?;
        Ok(admitted(what, channel, policy, caller.principal))
    }
}

fn at_most(what: &str, text: &str, bytes_max: usize) -> Result<(), Refusal> {
    if text.len() > bytes_max {
        return Err(Refusal::because(Code::BadRequest, format!("{what} has at most {bytes_max} bytes")));
    }
    Ok(())
}
