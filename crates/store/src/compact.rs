//! Giving back what is dead.

/// What one step of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained;

#[derive(Default)]
pub(crate) struct Maintenance;
