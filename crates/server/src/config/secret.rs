//! A secret: usable, never printable.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a secret's file.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// A secret and the file it came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    bytes: Arc<[u8]>,
    file: Option<PathBuf>,
}

impl Secret {
    /// Takes the bytes; `file` is where they were read, if anywhere.
    pub fn new(bytes: Vec<u8>, file: Option<PathBuf>) -> Self {
        Secret { bytes: Arc::from(bytes), file }
    }

    /// The secret itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The secret as text, for headers. `None`: it is not UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// True without a byte.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What may be shown of it.
    pub fn shown(&self) -> String {
        match &self.file {
            Some(file) => format!("(set, from file {})", file.display()),
            None => "(set)".to_owned(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Reads a secret's file, and warns if others on this machine can read it, too.
///
/// # Errors
/// A clause that follows the key and the path.
pub(super) fn read_file(path: &Path) -> Result<(Secret, Option<String>), String> {
    let shown = path.display();
    let facts = fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?;
    if facts.len() > SECRET_FILE_BYTES_MAX {
        return Err("holds more than 64 KiB: that is no secret".to_owned());
    }
    let mut bytes = fs::read(path).map_err(|e| format!("cannot be read: {e}"))?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    let open = facts.permissions().mode() & 0o004 != 0;
    let warning =
        open.then(|| format!("everybody on this machine can read the secret in {shown}: chmod 600 {shown}"));
    Ok((Secret::new(bytes, Some(path.to_owned())), warning))
}
