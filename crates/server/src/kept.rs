//! What the demo and `fireside dev` make once and keep in their data directory: secrets, and texts like them.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::random;

/// 256 random bits, in hexadecimal digits.
///
/// # Errors
/// None today; what makes a text may fail.
pub fn secret() -> Result<String> {
    Ok(format!("{:032x}{:032x}", random(), random()))
}

/// What the file says; made, and readable by its owner only, if it is not there.
///
/// # Errors
/// It is empty, or as the file system says.
pub fn kept(path: &Path, make: impl FnOnce() -> Result<String>) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => anyhow::bail!("{} is empty: remove it to have it made anew", path.display()),
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => {
            let text = make()?;
            // Whole or not at all: a crash in between leaves the name free.
            let draft = path.with_extension("new");
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&draft, path)?;
            Ok(text)
        }
        Err(fault) => Err(fault).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// A text as TOML writes it.
pub fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
