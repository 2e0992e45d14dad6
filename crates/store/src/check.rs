//! placeholder
/// p
pub struct CheckReport;
/// p
pub fn check() {}
