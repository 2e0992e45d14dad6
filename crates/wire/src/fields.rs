//! How the fields of a request are read: `null` is like nothing, an object is an object, and unknown names are passed over.

use std::fmt;
use std::marker::PhantomData;

use fireside_core::{Claimed, Disconnect, Epoch};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A field whose `null` means its default.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A body: there, be it `null`.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Fields written as a JSON object, and in no other way: derived code would take a list of values too.
#[derive(Debug, Default)]
pub(crate) struct Fields<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Fields<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Fields<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Fields<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(entries)).map(Fields)
            }
        }
        deserializer.deserialize_map(Read(PhantomData))
    }
}

/// An object whose names are data, such as channels or tags, ordered by name. The same name twice is an error.
#[derive(Debug)]
pub(crate) struct Entries<V>(pub(crate) Vec<(String, V)>);

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Entries(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Read<V> {
            type Value = Entries<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, V>()? {
                    entries.push(entry);
                }
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    return Err(A::Error::custom("a name twice"));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Read(PhantomData))
    }
}

/// A position as it is written: `{"epoch": "17", "offset": 5}`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct PositionFields {
    #[serde(deserialize_with = "or_default")]
    pub(crate) epoch: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) offset: u64,
}

impl PositionFields {
    pub(crate) fn claimed(&self) -> Claimed {
        claimed(&self.epoch, self.offset)
    }
}

/// Bytes of a close reason: what a close frame has room for (RFC 6455 §5.5).
const REASON_BYTES_MAX: usize = 123;

/// Why a backend ends a session.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct DisconnectFields {
    #[serde(deserialize_with = "or_default")]
    code: u16,
    #[serde(deserialize_with = "or_default")]
    reason: String,
}

impl DisconnectFields {
    pub(crate) fn disconnect(self) -> Result<Disconnect, &'static str> {
        let DisconnectFields { code, reason } = self;
        if !(3000..5000).contains(&code) {
            return Err("disconnect.code is from 3000 to 4999");
        }
        // An SDK would read its advice in JSON instead of in the code.
        if reason.len() > REASON_BYTES_MAX || serde_json::from_str::<IgnoredAny>(&reason).is_ok() {
            return Err("disconnect.reason is a sentence of at most 123 bytes, not JSON");
        }
        Ok(Disconnect { code, reason: reason.into() })
    }
}

/// A claimed position. Epochs of ours are decimal numbers; "" is none, and any other text is one that no log ever had.
pub(crate) fn claimed(epoch: &str, offset: u64) -> Claimed {
    let epoch = match epoch {
        "" => None,
        text => Some(of_ours(text).unwrap_or(Epoch::FOREIGN)),
    };
    Claimed { epoch, offset }
}

fn of_ours(text: &str) -> Option<Epoch> {
    // One number, one text: otherwise "07" would name an epoch that "7" names.
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok().map(Epoch) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_is_not_ours_matches_none() {
        assert_eq!(claimed("", 3), Claimed { epoch: None, offset: 3 });
        assert_eq!(claimed("17", 3), Claimed { epoch: Some(Epoch(17)), offset: 3 });
        for text in ["_", "xxxx", "017", "+17", " 17", "17.0", "99999999999999999999", "-1", "١"] {
            assert_eq!(claimed(text, 3), Claimed { epoch: Some(Epoch::FOREIGN), offset: 3 }, "{text}");
        }
    }
}
