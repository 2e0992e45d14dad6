//! Channel names: one canonical grammar, so that no backend, path or broker ever sees a name it could misread.

use std::fmt;
use std::sync::Arc;

use crate::limits::CHANNEL_NAME_BYTES_MAX;

/// The name of a channel, `namespace:rest`, proven to follow the grammar.
///
/// 1 to 255 bytes of visible ASCII without `* > % ? & \ " ' < ; { } | ^` and the backtick; no segment between slashes is empty,
/// `.` or `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a text is not a channel name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// No bytes at all.
    Empty,
    /// More than [`CHANNEL_NAME_BYTES_MAX`] bytes.
    TooLong,
    /// A byte outside the grammar.
    Byte(u8),
    /// An empty, `.` or `..` segment between slashes.
    Segment,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameFault::Empty => f.write_str("a channel name must not be empty"),
            NameFault::TooLong => write!(f, "a channel name has at most {CHANNEL_NAME_BYTES_MAX} bytes"),
            NameFault::Byte(b) => write!(f, "a channel name must not contain the byte 0x{b:02x}"),
            NameFault::Segment => f.write_str("a channel name has no empty, \".\" or \"..\" segment"),
        }
    }
}

/// The path segment between a channel and the id of one of its runs.
pub const RUN_SEGMENT: &str = "/run/";

/// Every name that begins so is the server's own: no pattern and no `allow` covers it.
pub const RESERVED_PREFIX: &str = "fireside:";

/// The namespace of channels whose name has no colon.
pub const DEFAULT_NAMESPACE: &str = "default";

impl ChannelName {
    /// Reads a name.
    ///
    /// # Errors
    /// The first rule of the grammar that the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameFault> {
        check(text)?;
        Ok(ChannelName(Arc::from(text)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first colon, or `default`. The `$` of a private channel is no part of it.
    pub fn namespace(&self) -> &str {
        let text = self.0.strip_prefix('$').unwrap_or(&self.0);
        text.split_once(':').map_or(DEFAULT_NAMESPACE, |(namespace, _)| namespace)
    }

    /// True for the server's own channels.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }

    /// For the log of a run, the channel it belongs to and the run's id.
    pub fn run(&self) -> Option<(ChannelName, &str)> {
        let at = self.0.rfind(RUN_SEGMENT)?;
        let run = &self.0[at + RUN_SEGMENT.len()..];
        (at > 0 && !run.is_empty() && !run.contains('/'))
            .then(|| (ChannelName(Arc::from(&self.0[..at])), run))
    }

    /// The log of run `run` of this channel.
    ///
    /// # Errors
    /// The resulting name breaks the grammar, which in practice means that it is too long.
    pub fn run_log(&self, run: &str) -> Result<ChannelName, NameFault> {
        ChannelName::parse(&format!("{}{RUN_SEGMENT}{run}", self.0))
    }

    /// True if this channel is `room` or lies under it.
    pub fn is_in_room(&self, room: &str) -> bool {
        self.0.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn check(text: &str) -> Result<(), NameFault> {
    if text.is_empty() {
        return Err(NameFault::Empty);
    }
    if text.len() > CHANNEL_NAME_BYTES_MAX {
        return Err(NameFault::TooLong);
    }
    if let Some(byte) = text.bytes().find(|b| !is_allowed(*b)) {
        return Err(NameFault::Byte(byte));
    }
    if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(NameFault::Segment);
    }
    Ok(())
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:/#$@+=~!,()[]".contains(&byte)
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    #[test]
    fn c5_hostile_names_are_refused() {
        for text in [
            "",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            ".",
            "a b",
            "a*",
            "a>",
            "é",
            "a\0",
            "a\r\n",
            "a%2f",
            "a\u{2028}",
        ] {
            assert!(ChannelName::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(ChannelName::parse(&"a".repeat(256)), Err(NameFault::TooLong));
        assert!(ChannelName::parse(&"a".repeat(255)).is_ok());
    }

    #[test]
    fn a_name_knows_its_parts() {
        assert_eq!(name("story:42/chat").namespace(), "story");
        assert_eq!(name("lobby").namespace(), "default");
        assert!(name("story:42/chat").is_in_room("story:42"));
        assert!(name("story:42").is_in_room("story:42"));
        assert!(!name("story:420").is_in_room("story:42"));
        let (parent, run) = {
            let log = name("story:42/run/7");
            let (parent, run) = log.run().unwrap();
            (parent, run.to_owned())
        };
        assert_eq!((parent.as_str(), run.as_str()), ("story:42", "7"));
        assert!(name("story:42/chat").run().is_none());
        assert!(name("fireside:runs").is_reserved());
    }
}
