//! Reads Protobuf messages: every length is checked against what is there, and nothing is allocated for what is passed over.

/// The bytes are not a message of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The value of one field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// Of a wire type that no field of ours has.
    Other,
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Value::Bytes(bytes) = self { Ok(bytes) } else { Err(Malformed) }
    }

    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// An unsigned number of 64 bits.
    pub(super) fn number(self) -> Result<u64, Malformed> {
        if let Value::Number(number) = self { Ok(number) } else { Err(Malformed) }
    }

    /// A signed number of 64 bits, or of fewer: a negative one is written with all 64.
    pub(super) fn signed(self) -> Result<i64, Malformed> {
        self.number().map(u64::cast_signed)
    }

    pub(super) fn flag(self) -> Result<bool, Malformed> {
        self.number().map(|number| number != 0)
    }
}

/// Gives each field of `message` to `take`, in their order: of one that comes twice the last wins. Protobuf would have two messages of
/// one field merged, but no encoder writes them.
pub(super) fn each<'a>(
    message: &'a [u8],
    mut take: impl FnMut(u32, Value<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut rest = message;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => passed(&mut rest, 8)?,
            2 => Value::Bytes(delimited(&mut rest)?),
            5 => passed(&mut rest, 4)?,
            // Groups: proto3 has none.
            _ => return Err(Malformed),
        };
        if number == 0 {
            return Err(Malformed);
        }
        take(number, value)?;
    }
    Ok(())
}

/// Takes bytes behind their length off the front.
pub(super) fn delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let len = usize::try_from(varint(rest)?).map_err(|_| Malformed)?;
    let (bytes, behind) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = behind;
    Ok(bytes)
}

fn passed<'a>(rest: &mut &'a [u8], len: usize) -> Result<Value<'a>, Malformed> {
    *rest = rest.get(len..).ok_or(Malformed)?;
    Ok(Value::Other)
}

/// A number of at most 64 bits, seven in each byte, the lowest first.
fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0_u64;
    for (at, &byte) in rest.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if at == 9 && byte > 1 {
            return Err(Malformed);
        }
        number |= bits << (7 * at);
        if byte & 0x80 == 0 {
            *rest = &rest[at + 1..];
            return Ok(number);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(message: &[u8]) -> Result<Vec<u32>, Malformed> {
        let mut numbers = Vec::new();
        each(message, |number, _| {
            numbers.push(number);
            Ok(())
        })?;
        Ok(numbers)
    }

    #[test]
    fn numbers_have_at_most_64_bits() {
        let read = |mut bytes: &[u8]| varint(&mut bytes);
        assert_eq!(read(&[0]), Ok(0));
        assert_eq!(read(&[0x96, 0x01]), Ok(150));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Ok(u64::MAX));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), Err(Malformed));
        assert_eq!(read(&[0x80; 11]), Err(Malformed));
        assert_eq!(read(&[0x80]), Err(Malformed));
        assert_eq!(read(&[]), Err(Malformed));
    }

    #[test]
    fn c1_what_is_cut_or_has_a_form_of_its_own_is_malformed() {
        assert_eq!(numbers(&[0x08, 1, 0x12, 2, 7, 7, 0x12, 0, 0x1d, 1, 2, 3, 4]), Ok(vec![1, 2, 2, 3]));
        for bytes in [
            &[0x08][..],
            &[0x00, 1],
            &[0x0b],
            &[0x0c],
            &[0x0e, 0],
            &[0x12, 2, 7],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0x09, 1, 2, 3],
            &[0x1d, 1],
        ] {
            assert_eq!(numbers(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
