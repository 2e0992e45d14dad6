//! How the gate came to its answer, for whoever asks why.

use std::fmt;

/// A step of the gate, in the gate's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Names, keys and bodies have the form and size they may have.
    Bounds,
    /// The token is still good.
    Identity,
    /// Something allows it.
    Permission,
    /// The session does not ask too fast.
    Quota,
    /// What is asked is what the namespace takes.
    Schema,
}

impl Step {
    /// All of them, in their order.
    pub const ALL: [Step; 5] = [Step::Bounds, Step::Identity, Step::Permission, Step::Quota, Step::Schema];

    /// Its name, as in the documents.
    pub fn name(self) -> &'static str {
        match self {
            Step::Bounds => "bounds",
            Step::Identity => "identity",
            Step::Permission => "permission",
            Step::Quota => "quota",
            Step::Schema => "schema",
        }
    }
}

/// The steps that one command took, and what decided the one for which there are rules. The gate itself fills it in as it goes; a
/// session has none, and costs nothing.
#[derive(Debug, Default)]
pub struct Trace {
    entered: Vec<Step>,
    rule: Option<String>,
}

impl Trace {
    /// The last step that the command came to: the one that refused it, if one did.
    pub fn last(&self) -> Option<Step> {
        self.entered.iter().max().copied()
    }

    /// The rule that decided about permission, if the command came so far.
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    pub(super) fn enter(&mut self, step: Step) {
        self.entered.push(step);
    }

    pub(super) fn decided_by(&mut self, rule: &dyn fmt::Display) {
        self.rule = Some(rule.to_string());
    }
}
