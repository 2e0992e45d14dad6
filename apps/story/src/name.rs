//! Names as people give them, made fit to stand beside others' names.

/// The longest name, in characters.
const CHARACTERS_MAX: usize = 40;

/// A name with its spaces put in order, or nothing if it is empty or too long. Control characters, and those that turn the direction of
/// text or have no width, are taken out: with them a name could pass for another's.
pub(crate) fn clean(name: &str) -> Option<String> {
    let visible: String = name
        .chars()
        .map(|letter| if letter.is_whitespace() { ' ' } else { letter })
        .filter(|&letter| !letter.is_control() && !is_invisible(letter))
        .collect();
    let words: Vec<&str> = visible.split(' ').filter(|word| !word.is_empty()).collect();
    let name = words.join(" ");
    let length = name.chars().count();
    (1..=CHARACTERS_MAX).contains(&length).then_some(name)
}

fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn a_name_is_put_in_order() {
        assert_eq!(clean("  Mara \t of\nthe  Pass "), Some("Mara of the Pass".to_owned()));
        assert_eq!(clean("\u{202e}araM\u{200b}"), Some("araM".to_owned()));
        assert_eq!(clean("مارا"), Some("مارا".to_owned()));
    }

    #[test]
    fn no_name_and_a_name_without_end_are_refused() {
        assert_eq!(clean(" \u{200b} "), None);
        assert_eq!(clean(&"a".repeat(41)), None);
        assert!(clean(&"ä".repeat(40)).is_some());
    }
}
