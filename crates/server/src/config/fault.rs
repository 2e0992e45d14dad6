//! What is wrong with a configuration: where, what, what is allowed, and an example.

use std::fmt;

use super::tree::{Node, Origin};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it was said: file, line and column, environment variable or flag.
    pub at: Origin,
    /// The key, its value, and what is wrong with it.
    pub what: String,
    /// What would be right.
    pub allowed: Option<String>,
    /// `example: …` or `nearest: …`.
    pub hint: Option<String>,
}

impl Fault {
    /// A value that the key does not take.
    pub(super) fn value(
        at: &Origin,
        path: &str,
        node: &Node,
        allowed: String,
        example: Option<String>,
    ) -> Self {
        Fault {
            at: at.clone(),
            what: format!("{path} = {} is not understood", node.show()),
            allowed: Some(allowed),
            hint: example.map(|example| format!("example: {example}")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            // Missing as a whole: there is no place to point at.
            Origin::Default => f.write_str(&self.what)?,
            at => write!(f, "{at}: {}", self.what)?,
        }
        if let Some(allowed) = &self.allowed {
            write!(f, "\n  allowed: {allowed}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration: the start stops, and says it all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<Fault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}

/// The allowed word that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let bound = (word.len() / 3).max(1);
    let begins = |candidate: &&&str| candidate.strip_prefix(word).is_some_and(|rest| rest.starts_with('_'));
    allowed.iter().find(begins).copied().or_else(|| {
        let near = allowed.iter().map(|candidate| (distance(word, candidate), *candidate));
        near.filter(|(distance, _)| *distance <= bound)
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, near)| near)
    })
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let allowed = ["ping", "pong_timeout", "outbox_bytes_max"];
        assert_eq!(nearest("pingg", &allowed), Some("ping"));
        assert_eq!(nearest("pong", &allowed), Some("pong_timeout"));
        assert_eq!(nearest("outbox_max_bytes", &allowed), None);
        assert_eq!(nearest("outbox_byte_max", &allowed), Some("outbox_bytes_max"));
        assert_eq!(nearest("hooks", &allowed), None);
    }
}
