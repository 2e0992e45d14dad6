//! Sizes and times as they stand in the configuration: a whole number and its unit.

/// The units of a size, largest first, in bytes.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// The units of a time, largest first, in ms.
const TIMES: [(&str, u64); 5] =
    [("d", 24 * 3_600_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a size: `64 KiB` or `64KiB`, in bytes. `None`: it is not one, or it does not fit.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// Reads a time: `25s` or `25 s`, in ms. `None`: it is not one, or it does not fit.
pub fn parse_time_ms(text: &str) -> Option<u64> {
    parse(text, &TIMES)
}

/// Writes a size in the largest unit that needs no fraction: `64 KiB`.
pub fn format_size(bytes: u64) -> String {
    let (unit, factor) = largest(bytes, &SIZES).unwrap_or(("B", 1));
    format!("{} {unit}", bytes / factor)
}

/// Writes a time in the largest unit that needs no fraction: `25s`.
pub fn format_time(ms: u64) -> String {
    let (unit, factor) = largest(ms, &TIMES).unwrap_or(("s", 1));
    format!("{}{unit}", ms / factor)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn largest<'a>(value: u64, units: &[(&'a str, u64)]) -> Option<(&'a str, u64)> {
    units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_never_guessed() {
        for text in
            ["25", "", "s", "1.5h", "1h30m", "-1s", "+1s", "25 S", "25  s", "25sec", " 25s", "25s ", "١s"]
        {
            assert_eq!(parse_time_ms(text), None, "{text:?}");
        }
        for text in
            ["64", "64 KB", "64 kib", "64 K", "1_000 B", "99999999999999999999 B", "18446744073709551615 GiB"]
        {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (text, ms) in
            [("25s", 25_000), ("365d", 31_536_000_000), ("40ms", 40), ("90m", 5_400_000), ("0s", 0)]
        {
            assert_eq!(parse_time_ms(text), Some(ms));
            assert_eq!(format_time(ms), text);
        }
        for (text, bytes) in [("64 KiB", 65_536), ("1 MiB", 1 << 20), ("1000 B", 1000), ("2 GiB", 2 << 30)] {
            assert_eq!(parse_size(text), Some(bytes));
            assert_eq!(parse_size(&text.replace(' ', "")), Some(bytes));
            assert_eq!(format_size(bytes), text);
        }
    }
}
