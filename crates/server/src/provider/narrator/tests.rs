//! Stories of what the narrator says, and when.

use std::collections::HashSet;
use std::future::poll_fn;

use super::*;

fn prompt(lines: &[(&str, &str)]) -> Prompt {
    let records = lines.iter().map(|(who, text)| (Arc::from(*who), (*text).to_owned())).collect();
    Prompt { records, ..Prompt::default() }
}

async fn all(mut generation: Box<dyn Generation>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some(piece) = poll_fn(|cx| generation.poll_piece(cx)).await {
        pieces.push(piece.unwrap());
    }
    pieces
}

fn text_of(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .filter_map(|piece| if let Piece::Text { text, .. } = piece { Some(text.as_str()) } else { None })
        .collect()
}

/// A story of `turns` in which the narrator answers itself.
fn long_story(turns: usize) -> Vec<String> {
    let mut prompt =
        prompt(&[("anna", "Mara climbed the stairs of the lighthouse with a rusty key in her hand.")]);
    let mut told = Vec::new();
    for _ in 0..turns {
        let turn = tell(&prompt);
        prompt.records.push(("".into(), turn.clone()));
        told.push(turn);
    }
    told
}

#[tokio::test]
async fn a_turn_is_a_short_text_in_many_small_pieces_and_then_done() {
    let pieces = all(Narrator::new(Duration::ZERO).generate(prompt(&[("anna", "It was late.")]))).await;
    let text = text_of(&pieces);
    let [.., Piece::Finished(reason), Piece::Usage { output, .. }] = pieces.as_slice() else {
        panic!("{pieces:?}")
    };
    assert_eq!((reason.as_str(), *output), ("stop", words(&text) as u64));
    assert!(pieces.len() > 330, "{} pieces", pieces.len());
}

#[test]
fn every_turn_keeps_its_measure_and_fills_every_place() {
    for (turn, text) in long_story(200).iter().enumerate() {
        let pieces: Vec<String> = cut_up(text).collect();
        assert_eq!(&pieces.concat(), text);
        assert!((70..=150).contains(&words(text)), "turn {turn}: {} words\n{text}", words(text));
        assert!((330..=370).contains(&pieces.len()), "turn {turn}: {} pieces\n{text}", pieces.len());
        assert!(!text.contains(['{', '}']) && !text.contains("  "), "{text}");
        assert!(text.ends_with(['.', '?', '!', '”']), "{text}");
        assert!(!pieces.iter().any(|piece| piece.starts_with([',', '.', '”'])), "{pieces:?}");
        for sentence in text.split(". ") {
            let first = sentence.chars().find(|c| c.is_alphabetic()).unwrap();
            assert!(first.is_uppercase(), "{sentence}");
        }
    }
}

#[test]
fn the_same_lines_give_the_same_turn_and_others_another() {
    let lines = [("anna", "The fox waited at the gate."), ("ben", "Nobody came.")];
    assert_eq!(tell(&prompt(&lines)), tell(&prompt(&lines)));
    let turns: HashSet<String> =
        (0..100).map(|n| tell(&prompt(&[("anna", &format!("Night {n}."))]))).collect();
    assert_eq!(turns.len(), 100);
}

#[test]
fn a_place_is_not_taken_for_somebody() {
    let (mut names, mut nouns) = (Vec::new(), Vec::new());
    let text = "They only knew that when the snow came down from Hollow Pass, old Edda saw it. She had been born in Venice.";
    find_words(text, &mut names, &mut nouns);
    assert_eq!(names, ["Edda"]);
}

#[test]
fn it_takes_up_who_and_what_the_last_lines_named() {
    for n in 0..50 {
        let first = format!("Night {n}. Mara opened the rusty hatch of the lighthouse.");
        let text =
            tell(&prompt(&[("u-1", &first), ("u-2", "She thought that Tomas had lied about the anchor.")]));
        assert!(text.contains("Mara") || text.contains("Tomas"), "{text}");
        assert!(!NAMELESS.iter().any(|nameless| text.contains(nameless)), "{text}");
        assert!(
            !THINGS.iter().any(|thing| text.contains(&format!("the {thing}")) && *thing != "lamp"),
            "{text}"
        );
        assert!(!text.contains("u-1") && !text.contains("u-2"), "{text}");
    }
    let (mut names, mut nouns) = (Vec::new(), Vec::new());
    find_words(
        "“Come,” said Mara. Tomas, who had the brass compass, followed. Suddenly It rained on THE old mill. <b>Eve</b>",
        &mut names,
        &mut nouns,
    );
    assert_eq!((names, nouns), (vec!["Mara".to_owned()], vec!["compass".to_owned(), "mill".to_owned()]));
}

#[test]
fn it_does_not_say_a_sentence_again_while_others_are_left() {
    let told = long_story(6);
    let mut sentences = HashSet::new();
    for sentence in
        phrases::SHAPES.iter().flat_map(|shape| shape.iter()).flat_map(|sentences| sentences.iter())
    {
        let times = told.iter().filter(|turn| turn.contains(longest_literal(sentence))).count();
        assert!(times <= 1, "{times} times: {sentence}");
        sentences.insert(*sentence);
    }
    assert!(sentences.len() > 80, "only {} sentences", sentences.len());
}

#[test]
fn no_two_sentences_share_what_tells_them_apart() {
    let sentences: HashSet<&str> = phrases::SHAPES
        .iter()
        .flat_map(|shape| shape.iter())
        .flat_map(|sentences| sentences.iter().copied())
        .collect();
    for one in &sentences {
        assert!(longest_literal(one).len() >= 12, "{one}");
        assert_eq!(sentences.iter().filter(|other| other.contains(longest_literal(one))).count(), 1, "{one}");
    }
}

#[tokio::test]
async fn it_stops_at_the_words_it_was_given() {
    let asked = Prompt { tokens_max: 10, ..prompt(&[("anna", "It was late.")]) };
    let pieces = all(Narrator::new(Duration::ZERO).generate(asked)).await;
    assert_eq!(words(&text_of(&pieces)), 10);
    assert!(
        pieces.contains(&Piece::Finished("length".into()))
            && pieces.contains(&Piece::Usage { input: 3, output: 10 })
    );
}

#[test]
fn lines_in_any_script_are_no_trouble() {
    for line in [
        "",
        "Слон шёл домой.",
        "老人坐在火边。",
        "\u{202e}مرحبا",
        "🦊🦊🦊",
        "A\0b {name} {noun}",
        &"x".repeat(30_000),
    ] {
        let text = tell(&prompt(&[("", line)]));
        assert!(words(&text) > 60 && !text.contains('{'), "{text}");
    }
}

#[tokio::test]
async fn pieces_come_at_their_pace_and_the_first_at_once() {
    let prompt = prompt(&[("anna", "It was late.")]);
    let pieces = cut_up(&tell(&prompt)).count() as u32;
    let usual = PACE * (pieces - 1);
    assert!(usual > Duration::from_secs(12) && usual < Duration::from_secs(15), "{pieces} in {usual:?}");

    let mut asleep = Narrator::new(Duration::from_secs(3600)).generate(prompt.clone());
    assert!(poll_fn(|cx| asleep.poll_piece(cx)).await.is_some());
    assert!(poll_fn(|cx| Poll::Ready(asleep.poll_piece(cx))).await.is_pending());

    let (few, pace) = (Prompt { tokens_max: 10, ..prompt }, Duration::from_millis(5));
    let began = Instant::now();
    let pieces = all(Narrator::new(pace).generate(few)).await.len() as u32 - 2;
    assert!(pieces > 20 && began.elapsed() >= pace * (pieces - 1), "{pieces} in {:?}", began.elapsed());
}
