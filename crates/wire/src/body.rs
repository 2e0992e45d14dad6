//! What a body must be: one JSON value that every reader understands alike, on one line.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use fireside_core::limits::JSON_DEPTH_MAX;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Why a text is not a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyFault(pub &'static str);

const UNCLEAR: BodyFault = BodyFault("the body is not JSON that every reader understands alike");
const DEEP: BodyFault = BodyFault("the body nests too deep");
const TWICE: BodyFault = BodyFault("the body has an object with the same name twice");

/// Reads bytes that must be one JSON value and nothing behind it.
///
/// # Errors
/// They are something else.
pub fn read(bytes: &[u8]) -> Result<&RawValue, BodyFault> {
    serde_json::from_slice(bytes).map_err(|_| UNCLEAR)
}

/// Takes a value out of a frame: its text as it was written, without raw line breaks.
///
/// A raw line break can only stand between two tokens (RFC 8259 §7 forbids it inside a string), so leaving it out changes
/// nothing, and no reader that splits lines can be misled.
///
/// # Errors
/// Readers would differ about it: an object with the same name twice, half a surrogate pair, a number beyond a double's range;
/// or it nests deeper than [`JSON_DEPTH_MAX`].
pub fn take(value: &RawValue) -> Result<Bytes, BodyFault> {
    let text = value.get();
    check(text)?;
    // Without an early exit the compiler compares many bytes at once.
    let breaks = text.bytes().fold(false, |found, byte| found | is_break(byte));
    if breaks {
        return Ok(text.bytes().filter(|byte| !is_break(*byte)).collect::<Vec<u8>>().into());
    }
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

fn is_break(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

fn check(text: &str) -> Result<(), BodyFault> {
    let fault = Cell::new(UNCLEAR);
    let mut reader = serde_json::Deserializer::from_str(text);
    Walk { depth: 0, fault: &fault }.deserialize(&mut reader).map_err(|_| fault.get())
}

/// Walks over a value and keeps nothing of it.
struct Walk<'a> {
    depth: usize,
    fault: &'a Cell<BodyFault>,
}

impl Walk<'_> {
    fn deeper<E: Error>(&self) -> Result<Walk<'_>, E> {
        if self.depth == JSON_DEPTH_MAX {
            self.fault.set(DEEP);
            return Err(E::custom(DEEP.0));
        }
        Ok(Walk { depth: self.depth + 1, fault: self.fault })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(Walk { ..inner })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut names: Vec<Cow<'de, str>> = Vec::new();
        while let Some(name) = entries.next_key_seed(Name)? {
            names.push(name);
            entries.next_value_seed(Walk { ..inner })?;
        }
        // Sorting keeps a hostile object with thousands of names cheap, where comparing each with each would not.
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            self.fault.set(TWICE);
            return Err(A::Error::custom(TWICE.0));
        }
        Ok(())
    }
}

/// A name in an object, borrowed unless it has escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Bytes, BodyFault> {
        take(serde_json::from_str(text).expect("JSON by its grammar"))
    }

    #[test]
    fn a_body_keeps_its_text() {
        for text in [
            r#"{"a":1.50,"b":[true,null,"\u00e9\ud83d\ude00"]}"#,
            r#""""#,
            "0",
            "-0.0",
            "null",
            r#"{ "a" : 1 }"#,
        ] {
            assert_eq!(of(text).unwrap(), text);
        }
        assert_eq!(of(r#"{"a":{"a":1},"b":{"a":1}}"#).unwrap().len(), 25);
    }

    #[test]
    fn raw_line_breaks_are_left_out() {
        assert_eq!(of("{\r\n  \"a\": [\n1,\r2]\n}").unwrap(), "{  \"a\": [1,2]}");
        assert_eq!(of(r#""a\n\r""#).unwrap(), r#""a\n\r""#, "escapes stay");
    }

    #[test]
    fn c1_what_readers_would_differ_about_is_refused() {
        for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#"{"\ud800":1}"#, "1e400", "-1e400"]
        {
            assert_eq!(of(text), Err(UNCLEAR), "{text}");
        }
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"x":1,"y":2,"x":1}}]"#] {
            assert_eq!(of(text), Err(TWICE), "{text}");
        }
    }

    #[test]
    fn c1_depth_is_bounded_and_never_overflows_the_stack() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(of(&nested(JSON_DEPTH_MAX)).is_ok());
        assert_eq!(of(&nested(JSON_DEPTH_MAX + 1)), Err(DEEP));
        assert_eq!(of(&nested(100_000)), Err(DEEP));
        let objects = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
        assert_eq!(of(&objects), Err(DEEP));
    }
}
