//! Patches in Fossil's delta format: copies out of the text before, and what is new between them.
//!
//! The format: the length of the result and a line end, then `LENGTH@OFFSET,` for a copy and `LENGTH:` with so many bytes for what is new,
//! then a checksum of the result and `;`. Numbers have base 64. Whoever writes is free in what to copy; here the time taken is linear in
//! both texts, whatever they are, since clients choose them.

/// Bytes that must be equal before a copy is thought of. The longest command of a copy takes fewer.
const BLOCK: usize = 16;

/// The factor of the rolling hash of a block.
const FACTOR: u32 = 0x0100_0193;

/// The patch that makes `text` out of `base`; `None` if it would not be shorter than `text`.
///
/// A patch is itself text: what is new in it begins and ends between characters.
pub(crate) fn patch(base: &str, text: &str) -> Option<String> {
    let (from, to) = (base.as_bytes(), text.as_bytes());
    let blocks = Blocks::of(from);
    let mut out = String::new();
    put_number(&mut out, to.len() as u32);
    out.push('\n');
    let (mut at, mut done) = (0, 0);
    let mut hash = to.get(..BLOCK).map_or(0, hash_of);
    while at + BLOCK <= to.len() {
        let Some(known) = blocks.find(hash, &to[at..at + BLOCK]) else {
            if let Some(next) = to.get(at + BLOCK) {
                hash = rolled(hash, to[at], *next);
            }
            at += 1;
            continue;
        };
        let back = common(to[done..at].iter().rev(), from[..known].iter().rev());
        let ahead = common(to[at..].iter(), from[known..].iter());
        let (mut begin, mut end) = (at - back, at + ahead);
        while !text.is_char_boundary(begin) {
            begin += 1;
        }
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        put_new(&mut out, &text[done..begin]);
        put_number(&mut out, (end - begin) as u32);
        out.push('@');
        put_number(&mut out, (known + begin - at) as u32);
        out.push(',');
        if out.len() >= to.len() {
            return None;
        }
        (at, done) = (end, end);
        hash = to.get(at..at + BLOCK).map_or(0, hash_of);
    }
    put_new(&mut out, &text[done..]);
    put_number(&mut out, checksum(to));
    out.push(';');
    (out.len() < to.len()).then_some(out)
}

/// Where the blocks of a text stand: of those with one hash, the first.
struct Blocks<'a> {
    text: &'a [u8],
    /// Number of the block plus one, by the low bits of its hash; 0 for none.
    places: Vec<u32>,
}

impl<'a> Blocks<'a> {
    fn of(text: &'a [u8]) -> Self {
        let mut places = vec![0; (text.len() / BLOCK * 2).next_power_of_two()];
        for (number, block) in (1..).zip(text.chunks_exact(BLOCK)) {
            let place = hash_of(block) as usize & (places.len() - 1);
            if places[place] == 0 {
                places[place] = number;
            }
        }
        Blocks { text, places }
    }

    fn find(&self, hash: u32, block: &[u8]) -> Option<usize> {
        let number = self.places[hash as usize & (self.places.len() - 1)];
        let at = (number as usize).checked_sub(1)? * BLOCK;
        (self.text[at..at + BLOCK] == *block).then_some(at)
    }
}

fn hash_of(block: &[u8]) -> u32 {
    block.iter().fold(0, |hash, byte| hash.wrapping_mul(FACTOR).wrapping_add((*byte).into()))
}

/// The hash of the block one byte on.
fn rolled(hash: u32, gone: u8, next: u8) -> u32 {
    const GONE: u32 = FACTOR.wrapping_pow(BLOCK as u32 - 1);
    let rest = hash.wrapping_sub(GONE.wrapping_mul(gone.into()));
    rest.wrapping_mul(FACTOR).wrapping_add(next.into())
}

/// How many bytes are equal from the beginning.
fn common<'a>(one: impl Iterator<Item = &'a u8>, other: impl Iterator<Item = &'a u8>) -> usize {
    one.zip(other).take_while(|(a, b)| a == b).count()
}

fn put_new(out: &mut String, text: &str) {
    if !text.is_empty() {
        put_number(out, text.len() as u32);
        out.push(':');
        out.push_str(text);
    }
}

fn put_number(out: &mut String, number: u32) {
    const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
    let digits = (u32::BITS - number.leading_zeros()).div_ceil(6).max(1);
    for digit in (0..digits).rev() {
        out.push(char::from(DIGITS[(number >> (6 * digit) & 63) as usize]));
    }
}

/// The sum of all groups of four bytes, the highest byte first, the last group filled up with zeros.
fn checksum(text: &[u8]) -> u32 {
    text.chunks(4).fold(0_u32, |sum, group| {
        let mut bytes = [0; 4];
        bytes[..group.len()].copy_from_slice(group);
        sum.wrapping_add(u32::from_be_bytes(bytes))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What an independent reader of the format makes of a patch; it checks lengths and the checksum.
    fn applied(base: &str, patch: &str) -> String {
        String::from_utf8(fossil_delta::apply(base, patch).expect("a patch")).expect("text")
    }

    #[test]
    fn a_small_change_of_a_long_text_is_a_short_patch() {
        let base = format!(r#"{{"text":"{}","n":1}}"#, "Once upon a time 🔥 ".repeat(200));
        let text = base.replace("\"n\":1", "\"n\":2").replacen("Once", "Twice", 1);
        let patch = patch(&base, &text).expect("shorter");
        assert!(patch.len() < 60, "{patch}");
        assert_eq!(applied(&base, &patch), text);
    }

    #[test]
    fn what_saves_nothing_is_no_patch() {
        for (base, text) in [("", ""), ("", "new"), ("a", "a"), ("null", "{}")] {
            assert_eq!(patch(base, text), None, "{base} {text}");
        }
        assert!(patch(&"a".repeat(40), &"a".repeat(40)).is_some());
    }

    #[test]
    fn numbers_are_those_of_the_format() {
        let written = |number| {
            let mut out = String::new();
            put_number(&mut out, number);
            out
        };
        assert_eq!([written(0), written(63), written(64), written(u32::MAX)], ["0", "~", "10", "3~~~~~"]);
    }

    /// A text and one that is like it: pieces of it, moved and changed.
    fn alike() -> impl Strategy<Value = (String, String)> {
        let piece = prop_oneof![
            any::<String>(),
            "[ab]{0,40}",
            "[é🔥a]{0,40}",
            r#"\{"id":[0-9]{1,5},"text":"[a-z ]{0,60}"\}"#
        ];
        let pieces = prop::collection::vec(piece, 0..12);
        (pieces.clone(), pieces, prop::collection::vec((any::<bool>(), 0usize..12), 0..16)).prop_map(
            |(old, new, mix)| {
                let pick = |(is_old, at): &(bool, usize)| {
                    let from = if *is_old { &old } else { &new };
                    from.get(*at).cloned().unwrap_or_default()
                };
                let text: String = mix.iter().map(pick).collect();
                (old.concat(), text)
            },
        )
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_text_and_is_shorter((base, text) in alike()) {
            if let Some(patch) = patch(&base, &text) {
                prop_assert!(patch.len() < text.len());
                prop_assert_eq!(&applied(&base, &patch), &text);
            }
        }
    }
}
