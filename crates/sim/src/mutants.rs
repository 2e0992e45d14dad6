//! One-line sabotages, each of which some scenario must catch.

use crate::Asked;

/// All of them, or the one that is asked for.
pub fn all(_asked: &Asked) -> bool {
    println!("mutants: 0 passed, 1 failed");
    false
}
