//! `config explain`: every key, its effective value, where that came from, and what it means.

use std::fmt::Write;

use super::reader::Explained;
use super::tree::Origin;

/// Writes the rows whose path is `only` or lies under it; all of them without it.
///
/// The lines are TOML but for secrets, so that a part of the output can be copied into a file.
pub fn explain(rows: &[Explained], only: Option<&str>) -> String {
    let is_wanted = |path: &str| {
        only.is_none_or(|only| {
            path.strip_prefix(only).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    };
    let mut out = String::new();
    for row in rows.iter().filter(|row| is_wanted(&row.path)) {
        if !out.is_empty() {
            out.push('\n');
        }
        let source = match &row.source {
            Origin::Default => "default".to_owned(),
            source => format!("{source}; default {}", row.default),
        };
        // Writing to a String does not fail.
        let _ = writeln!(out, "# {} [{}]\n{} = {}  # {source}", row.doc, row.unit, row.path, row.value);
    }
    out
}
