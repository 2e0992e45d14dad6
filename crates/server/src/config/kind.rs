//! The kinds of values that keys take, and how each is described.

use std::ops::RangeInclusive;

use super::units;

/// What a key takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    Bool,
    Whole(RangeInclusive<u64>),
    /// In bytes.
    Size(RangeInclusive<u64>),
    /// In ms.
    Time(RangeInclusive<u64>),
    /// One of these words; `true` and `false` are booleans.
    Choice(&'static [&'static str]),
    Address,
    File,
    Texts,
    Secret,
    /// A file's name, or the JSON Schema itself as a table.
    Schema,
    /// A table with keys of its own.
    Table,
}

impl Kind {
    /// The word for it in `config explain`.
    pub fn unit(&self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Bool => "true or false",
            Kind::Whole(_) => "whole number",
            Kind::Size(_) => "size",
            Kind::Time(_) => "time",
            Kind::Choice(_) => "word",
            Kind::Address => "address and port",
            Kind::File => "path",
            Kind::Texts => "list of texts",
            Kind::Secret => "secret",
            Kind::Schema => "path or JSON Schema",
            Kind::Table => "table",
        }
    }

    /// What is allowed, as a fault says it.
    pub fn allowed(&self) -> String {
        match self {
            Kind::Text | Kind::Secret => "a text in quotes".to_owned(),
            Kind::Bool => "true or false".to_owned(),
            Kind::Whole(range) => format!("a whole number from {} to {}", range.start(), range.end()),
            Kind::Size(range) => format!(
                "a whole number and B, KiB, MiB or GiB, from {} to {}",
                units::format_size(*range.start()),
                units::format_size(*range.end())
            ),
            Kind::Time(range) => format!(
                "a whole number and ms, s, m, h or d, from {} to {}",
                units::format_time(*range.start()),
                units::format_time(*range.end())
            ),
            Kind::Choice(words) => words.iter().map(|w| word_literal(w)).collect::<Vec<_>>().join(", "),
            Kind::Address => "an IP address and a port".to_owned(),
            Kind::File => "the path of a file or directory".to_owned(),
            Kind::Texts => "a list of texts".to_owned(),
            Kind::Schema => "the path of a JSON Schema, or the schema itself as a table".to_owned(),
            Kind::Table => "a table of keys".to_owned(),
        }
    }

    /// An example as it would stand in the file.
    pub fn literal(&self, example: &str) -> String {
        match self {
            Kind::Bool | Kind::Whole(_) | Kind::Texts => example.to_owned(),
            Kind::Choice(_) => word_literal(example),
            _ => format!("{example:?}"),
        }
    }
}

/// A word as it stands in the file.
pub(super) fn word_literal(word: &str) -> String {
    if matches!(word, "true" | "false") { word.to_owned() } else { format!("{word:?}") }
}
