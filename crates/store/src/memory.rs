//! placeholder
/// p
pub struct Memory;
