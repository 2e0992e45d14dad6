//! The built-in narrator: deterministic prose from a grammar and the story's last lines, at a human pace. No key, no model, no network.
//!
//! The same lines always give the same turn. It draws nothing and reads no clock; only its pace is time.

mod phrases;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fireside_core::hook::Role;
use fireside_node::ports::{Generation, PartKind, Piece, Prompt, Provider, ProviderFault};
use tokio::time::{Instant, Sleep};

use super::openai::input_text;
use phrases::{AFTER_NAME, AFTER_NOUN, COMMON, NAMELESS, NOUNS, SHAPES, THINGS};

/// The time between two pieces, unless configured: with [`PIECES_MIN`] a turn takes 13 to 14 s, and hardly two pieces fall into one
/// 40 ms flush of a run.
pub const PACE: Duration = Duration::from_millis(38);
/// Pieces in a turn at least.
pub const PIECES_MIN: usize = 350;

/// Records that are searched for names and things, the newest first.
const SEARCHED_RECORDS: usize = 8;
/// Names or things that are remembered.
const FOUND_MAX: usize = 6;
/// Characters of a name or a thing at most.
const WORD_CHARS_MAX: usize = 16;

/// Writes like a narrator by a fire.
#[derive(Clone, Debug)]
pub struct Narrator {
    pace: Duration,
}

impl Narrator {
    /// A narrator that lets `pace` pass between two pieces; none when it is zero.
    pub fn new(pace: Duration) -> Self {
        Narrator { pace }
    }
}

impl Default for Narrator {
    fn default() -> Self {
        Narrator::new(PACE)
    }
}

impl Provider for Narrator {
    fn generate(&self, mut prompt: Prompt) -> Box<dyn Generation> {
        // It tells from who said what, so a prompt that a backend assembled becomes that.
        prompt.records.extend(prompt.messages.drain(..).filter_map(|said| match said.role {
            Role::System => None,
            Role::User => Some((Arc::from("user"), said.text)),
            Role::Assistant => Some((Arc::from(""), said.text)),
        }));
        let mut text = tell(&prompt);
        let cut = prompt.tokens_max > 0 && keep_words(&mut text, prompt.tokens_max as usize);
        let said: usize = prompt.records.iter().map(|(_, text)| words(text)).sum();
        let usage =
            Piece::Usage { input: (said + words(&prompt.system)) as u64, output: words(&text) as u64 };
        let reason = if cut { "length" } else { "stop" };
        let mut pieces: Vec<Piece> =
            cut_up(&text).map(|text| Piece::Text { kind: PartKind::Text, text }).collect();
        pieces.push(Piece::Finished(reason.into()));
        pieces.push(usage);
        Box::new(Telling { pieces: pieces.into_iter(), pace: self.pace, timer: None })
    }

    fn model(&self) -> Arc<str> {
        Arc::from("built-in narrator")
    }
}

struct Telling {
    pieces: std::vec::IntoIter<Piece>,
    pace: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Generation for Telling {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, ProviderFault>>> {
        let is_text = matches!(self.pieces.as_slice().first(), Some(Piece::Text { .. }));
        if is_text && !self.pace.is_zero() {
            // The first piece comes at once. Each later one is due by when the one before was due, so that the slack of timers does
            // not add up; what a stall has cost is not made up for in a burst.
            match &mut self.timer {
                None => self.timer = Some(Box::pin(tokio::time::sleep(self.pace))),
                Some(timer) => {
                    ready!(timer.as_mut().poll(cx));
                    let due = timer.deadline() + self.pace;
                    timer.as_mut().reset(due.max(Instant::now()));
                }
            }
        }
        Poll::Ready(self.pieces.next().map(Ok))
    }
}

// --------------------------------------------------------------------------------------------------------- the prose

/// One turn: two short paragraphs of 80 to 150 words.
fn tell(prompt: &Prompt) -> String {
    let asked = input_text(&prompt.input).unwrap_or_default();
    let mut choice = Choice(seed_of(prompt, &asked));
    let newest_first =
        || std::iter::once(asked.as_str()).chain(prompt.records.iter().rev().map(|(_, text)| text.as_str()));
    // What people wrote is what it is about; its own lines only if they wrote nothing.
    let written = |by_people: bool| {
        let records = prompt.records.iter().rev().filter(move |(who, _)| who.is_empty() != by_people);
        records.map(|(_, text)| text.as_str()).take(SEARCHED_RECORDS)
    };
    let texts = std::iter::once(asked.as_str()).chain(written(true)).chain(written(false));
    let mut cast = Cast::find(texts, &mut choice);
    let shape = SHAPES[choice.below(SHAPES.len())];
    let mut told = String::new();
    for sentences in shape {
        if sentences.is_empty() {
            told.push_str("\n\n");
            cast.change_places();
            continue;
        }
        let sentence = choose(sentences, &told, newest_first(), &mut choice);
        if !told.is_empty() && !told.ends_with('\n') {
            told.push(' ');
        }
        told.push_str(&cast.fill(sentence, &mut choice));
    }
    told
}

/// A sentence that the story does not have yet; when it has them all, one that was not said in this turn.
fn choose<'a>(
    sentences: &[&'a str],
    told: &str,
    story: impl Iterator<Item = &'a str>,
    choice: &mut Choice,
) -> &'a str {
    let is_in = |sentence: &str, text: &str| text.contains(longest_literal(sentence));
    let mut fresh: Vec<&str> = sentences.iter().copied().filter(|sentence| !is_in(sentence, told)).collect();
    for text in story {
        // The newest lines weigh most: stop before nothing is left.
        let left: Vec<&str> = fresh.iter().copied().filter(|sentence| !is_in(sentence, text)).collect();
        if left.is_empty() {
            break;
        }
        fresh = left;
    }
    fresh[choice.below(fresh.len())]
}

/// The longest stretch of a sentence that is the same in every telling. Its first letter may have been raised, so it is left out.
fn longest_literal(sentence: &str) -> &str {
    let stretch = sentence.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
    let longest = stretch.max_by_key(|part| part.len()).unwrap_or(sentence);
    let mut letters = longest.chars();
    letters.next();
    letters.as_str()
}

/// Who and what a turn is about.
struct Cast {
    name: String,
    other: String,
    /// The story names both: then each has a paragraph.
    named: bool,
    nouns: Vec<String>,
}

impl Cast {
    fn find<'a>(texts: impl Iterator<Item = &'a str>, choice: &mut Choice) -> Cast {
        let (mut names, mut nouns) = (Vec::new(), Vec::new());
        for text in texts {
            find_words(text, &mut names, &mut nouns);
        }
        let named = names.len() > 1;
        let mut nameless: Vec<&str> = NAMELESS.to_vec();
        let mut next_name = |choice: &mut Choice| {
            if names.is_empty() {
                nameless.swap_remove(choice.below(nameless.len())).to_owned()
            } else {
                names.remove(choice.below(names.len().min(3)))
            }
        };
        let name = next_name(choice);
        let other = next_name(choice);
        while nouns.len() < 2 {
            nouns.push(THINGS[choice.below(THINGS.len())].to_owned());
        }
        Cast { name, other, named, nouns }
    }

    fn change_places(&mut self) {
        if self.named {
            std::mem::swap(&mut self.name, &mut self.other);
        }
    }

    /// The sentence with its places filled and its first letter raised.
    fn fill(&self, sentence: &str, choice: &mut Choice) -> String {
        let noun = &self.nouns[choice.below(self.nouns.len().min(4))];
        let filled =
            sentence.replace("{name}", &self.name).replace("{other}", &self.other).replace("{noun}", noun);
        // A name without a name ("the keeper") may begin a sentence inside as well.
        let mut raise = true;
        let mut said = String::with_capacity(filled.len());
        for c in filled.chars() {
            if raise && c.is_alphabetic() {
                said.extend(c.to_uppercase());
                raise = false;
            } else {
                said.push(c);
                raise = (raise && !c.is_alphanumeric()) || matches!(c, '.' | '?' | '!');
            }
        }
        said
    }
}

/// Names and things of a text, in its order, added to what newer texts gave.
fn find_words(text: &str, names: &mut Vec<String>, nouns: &mut Vec<String>) {
    let tokens: Vec<&str> = text.split_whitespace().collect();
    let mut begins = true;
    for (at, token) in tokens.iter().enumerate() {
        let quoted = token.starts_with(['"', '“', '«', '„', '(', '‘']);
        let word = bare(token);
        let closed = token.ends_with(|c: char| !c.is_alphanumeric());
        let next = tokens.get(at + 1).map_or("", |next| bare(next));
        let before = at.checked_sub(1).filter(|_| !begins).map(|before| tokens[before]);
        let is_named = is_name(word, begins || quoted, if closed { "" } else { next });
        if is_named && !is_place(before, if closed { "" } else { next }) {
            add(names, word);
        } else if is_noun(
            word,
            at.checked_sub(1).map(|before| tokens[before]),
            at.checked_sub(2).map(|b| tokens[b]),
            next,
            closed,
        ) {
            add(nouns, word);
        }
        begins = token.trim_end_matches(['"', '”', '»', '’', ')']).ends_with(['.', '!', '?', ':', '…']);
    }
}

fn bare(token: &str) -> &str {
    let word = token.trim_matches(|c: char| !c.is_alphanumeric());
    word.strip_suffix("'s").or_else(|| word.strip_suffix("’s")).unwrap_or(word)
}

fn add(found: &mut Vec<String>, word: &str) {
    if found.len() < FOUND_MAX && !found.iter().any(|known| known == word) {
        found.push(word.to_owned());
    }
}

fn is_word(word: &str) -> bool {
    let chars = word.chars().count();
    (2..=WORD_CHARS_MAX).contains(&chars)
        && word.chars().all(|c| c.is_alphabetic() || matches!(c, '-' | '\''))
        && !COMMON.contains(&word.to_lowercase().as_str())
}

/// Two capitals in a row, or one after a word of place, name where something is and not who: "down from Hollow Pass", "in Venice".
fn is_place(before: Option<&str>, next: &str) -> bool {
    let is_capital = |word: &str| word.chars().next().is_some_and(char::is_uppercase);
    let of_place = ["at", "from", "in", "into", "near", "of", "over", "through", "towards", "under"];
    is_capital(next)
        || before.is_some_and(|word| {
            of_place.contains(&word) || is_capital(word) && !COMMON.contains(&&*word.to_lowercase())
        })
}

/// A capital inside a sentence, or at its beginning when a verb follows.
fn is_name(word: &str, begins: bool, next: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(char::is_uppercase)
        && chars.any(char::is_lowercase)
        && is_word(word)
        && !word.contains('\'')
        && !NOUNS.contains(&word.to_lowercase().as_str())
        && (!begins || AFTER_NAME.contains(&next) || (next.len() > 4 && next.ends_with("ed")))
}

/// A known thing, or what stands between "the" and a word that ends it: "the rusty anchor of".
fn is_noun(word: &str, before: Option<&str>, earlier: Option<&str>, next: &str, closed: bool) -> bool {
    if !is_word(word) || word.contains('\'') || !word.chars().all(char::is_lowercase) {
        return false;
    }
    if NOUNS.contains(&word) {
        return true;
    }
    let is_article = |token: Option<&str>| {
        token.is_some_and(|token| {
            ["the", "a", "an", "his", "her", "their", "our", "my"].contains(&token.to_lowercase().as_str())
        })
    };
    let ends = closed || AFTER_NOUN.contains(&next);
    let plain_before =
        before.is_some_and(|token| token.chars().all(char::is_lowercase) && !AFTER_NOUN.contains(&token));
    let known_form = ["ly", "ed", "ing"].iter().any(|ending| word.ends_with(ending));
    word.chars().count() > 2
        && ends
        && !known_form
        && (is_article(before) || (plain_before && is_article(earlier)))
}

// ------------------------------------------------------------------------------------------------------- small parts

/// What makes two turns differ: everything that was said (FNV-1a, 64 bits).
fn seed_of(prompt: &Prompt, asked: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for (who, text) in &prompt.records {
        take(who.as_bytes());
        take(text.as_bytes());
    }
    take(asked.as_bytes());
    hash
}

/// A sequence of choices that follows from a seed alone (splitmix64).
struct Choice(u64);

impl Choice {
    /// One of `0..n`; `n` is not 0.
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Keeps the first `most` words; true if there were more.
fn keep_words(text: &mut String, most: usize) -> bool {
    let begins = |at: usize, c: char| {
        !c.is_whitespace() && text[..at].chars().next_back().is_none_or(char::is_whitespace)
    };
    let Some((end, _)) = text.char_indices().filter(|(at, c)| begins(*at, *c)).nth(most) else {
        return false;
    };
    text.truncate(end);
    text.truncate(text.trim_end().len());
    true
}

/// Pieces of two or three characters, none cut before punctuation: of one length, so that they flow.
fn cut_up(text: &str) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    let pieces = PIECES_MIN.max(chars.len() / 3).min(chars.len().max(1));
    let mut cuts: Vec<usize> = (0..=pieces).map(|i| i * chars.len() / pieces).collect();
    for cut in &mut cuts {
        while *cut < chars.len() && matches!(chars[*cut], '.' | ',' | ';' | ':' | '?' | '!' | '”' | '’') {
            *cut += 1;
        }
    }
    cuts.dedup();
    let pieces: Vec<String> = cuts.windows(2).map(|cut| chars[cut[0]..cut[1]].iter().collect()).collect();
    pieces.into_iter()
}

#[cfg(test)]
mod tests;
