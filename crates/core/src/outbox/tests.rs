//! Stories of a slow reader.

use super::*;
use crate::name::ChannelName;
use crate::position::Epoch;
use crate::record::{Author, Kind, Record};

const SUB: SubId = SubId(1);

fn record(offset: u64, kind: Kind, body: String) -> Record {
    Record {
        offset,
        time_ms: offset,
        kind,
        author: None,
        key: None,
        conflate: None,
        tags: Vec::new(),
        body: body.into(),
    }
}

fn batch(records: Vec<Record>) -> Arc<Batch> {
    let name = ChannelName::parse("story:1").unwrap();
    Batch::new(name, Epoch(1), ProposalId(1), ProposalId::default(), records)
}

fn plain(offsets: std::ops::RangeInclusive<u64>) -> Arc<Batch> {
    batch(offsets.map(|offset| record(offset, Kind::Plain, "x".repeat(100))).collect())
}

/// Everything the link would be handed, and an empty outbox.
fn drain(outbox: &mut Outbox) -> Vec<Outgoing> {
    let mut all = Vec::new();
    while let Some((what, _)) = outbox.peek() {
        all.push(what.clone());
        outbox.taken();
    }
    assert_eq!(outbox.bytes(), 0, "an empty outbox counts nothing");
    all
}

fn offsets(all: &[Outgoing]) -> Vec<u64> {
    let records = |one: &Outgoing| match one {
        Outgoing::Records { batch, after, .. } => batch.after(*after).iter().map(|r| r.offset).collect(),
        Outgoing::Event(_) => Vec::new(),
    };
    all.iter().flat_map(records).collect()
}

#[test]
fn control_goes_first() {
    let mut outbox = Outbox::new(10_000);
    outbox.offer(SUB, Lane::Durable, &plain(1..=1), 0);
    outbox.push_control(Event::Ping).unwrap();
    assert!(matches!(drain(&mut outbox)[..], [Outgoing::Event(_), Outgoing::Records { .. }]));
}

#[test]
fn a_full_outbox_sends_the_reader_back_to_before_the_first_record_it_drops() {
    let mut outbox = Outbox::new(400);
    assert_eq!(outbox.offer(SUB, Lane::Durable, &plain(5..=5), 4), Offered::Queued);
    assert_eq!(outbox.offer(SUB, Lane::Durable, &plain(6..=6), 5), Offered::Queued);
    assert_eq!(outbox.offer(SUB, Lane::Durable, &plain(7..=8), 6), Offered::Rewind(4));
    assert!(drain(&mut outbox).is_empty());
}

#[test]
fn a_cut_batch_that_is_taken_back_rewinds_to_the_cut() {
    let mut outbox = Outbox::new(1000);
    assert_eq!(outbox.offer(SUB, Lane::Durable, &plain(1..=5), 3), Offered::Queued);
    assert_eq!(outbox.offer(SUB, Lane::Durable, &plain(6..=8), 5), Offered::Rewind(3));
}

#[test]
fn one_readers_flood_takes_back_only_its_own() {
    let mut outbox = Outbox::new(500);
    outbox.offer(SubId(2), Lane::Durable, &plain(1..=1), 0);
    outbox.offer(SUB, Lane::Durable, &plain(1..=1), 0);
    assert_eq!(outbox.offer(SUB, Lane::Durable, &plain(2..=3), 1), Offered::Rewind(0));
    assert_eq!(offsets(&drain(&mut outbox)), [1]);
}

#[test]
fn whoever_asks_for_room_first_takes_nothing_back() {
    let mut outbox = Outbox::new(500);
    assert!(outbox.has_room(10_000), "an empty one takes anything");
    outbox.offer(SUB, Lane::Durable, &plain(1..=2), 0);
    let next = plain(3..=4);
    assert!(!outbox.has_room(next.cost()));
    assert_eq!(outbox.offer(SUB, Lane::Durable, &next, 2), Offered::Rewind(0), "offered, it takes all back");
}

#[test]
fn a_batch_larger_than_the_outbox_still_passes_an_empty_one() {
    let mut outbox = Outbox::new(10);
    assert_eq!(outbox.offer(SUB, Lane::Durable, &plain(1..=3), 0), Offered::Queued);
    assert_eq!(offsets(&drain(&mut outbox)), [1, 2, 3]);
}

#[test]
fn a_dead_generation_is_never_sent_but_its_reply_is() {
    let mut outbox = Outbox::new(10_000);
    outbox.push_ordered(Event::Ping).unwrap();
    outbox.offer(SUB, Lane::Durable, &plain(1..=1), 0);
    outbox.offer(SUB, Lane::Run, &plain(1..=1), 0);
    outbox.offer(SUB, Lane::Ephemeral, &plain(1..=1), 0);
    outbox.purge(SUB);
    assert!(matches!(drain(&mut outbox)[..], [Outgoing::Event(_)]));
}

#[test]
fn a_purge_reaches_what_was_tried_and_not_taken() {
    let mut outbox = Outbox::new(10_000);
    outbox.offer(SUB, Lane::Durable, &plain(1..=1), 0);
    assert!(outbox.peek().is_some());
    outbox.purge(SUB);
    assert!(outbox.peek().is_none());
    assert_eq!(outbox.bytes(), 0);
}

#[test]
fn a_slow_reader_of_a_run_gets_fewer_longer_deltas_with_the_same_text() {
    let mut outbox = Outbox::new(100_000);
    let text = ["Nine ", "was the ", "number — ", "für ", "🔥."];
    let mut at = 0;
    for (n, piece) in text.iter().enumerate() {
        let body = run::delta(0, "text", at, (*piece).to_owned());
        at += piece.encode_utf16().count() as u64;
        let mut one = record(n as u64 + 1, Kind::RunDelta, String::new());
        one.body = body;
        assert_eq!(outbox.offer(SUB, Lane::Run, &batch(vec![one]), n as u64), Offered::Queued);
    }
    let all = drain(&mut outbox);
    let [Outgoing::Records { batch, .. }] = &all[..] else { panic!("one entry") };
    assert_eq!(batch.records.len(), 1);
    assert_eq!(batch.records[0].offset, 5);
    assert_eq!(batch.records[0].body, run::delta(0, "text", 0, text.concat()));
}

#[test]
fn i4_whole_a_merged_entry_that_is_taken_back_rewinds_to_before_the_first_of_its_deltas() {
    let delta = |offset: u64| {
        let mut one = record(offset, Kind::RunDelta, String::new());
        one.body = run::delta(0, "text", offset - 1, "x".to_owned());
        batch(vec![one])
    };
    let mut outbox = Outbox::new(600);
    for offset in 1..=3 {
        assert_eq!(outbox.offer(SUB, Lane::Run, &delta(offset), offset - 1), Offered::Queued);
    }
    // Tried as one entry, and not taken.
    assert!(outbox.peek().is_some());
    let rewound = (4..).find_map(|offset| match outbox.offer(SUB, Lane::Run, &delta(offset), offset - 1) {
        Offered::Rewind(to) => Some(to),
        _ => None,
    });
    assert_eq!(rewound, Some(0));
    assert!(drain(&mut outbox).is_empty());
}

#[test]
fn many_small_records_leave_room_for_a_reply() {
    let mut outbox = Outbox::new(16 * 1024 * 1024);
    for offset in 1..=2 * limits::CONTROL_ENTRIES_MAX as u64 {
        outbox.offer(SUB, Lane::Durable, &plain(offset..=offset), offset - 1);
    }
    assert_eq!(outbox.push_ordered(Event::Ping), Ok(()));
}

#[test]
fn i8_bounded_a_reply_counts_for_what_it_holds_until_it_is_taken() {
    let mut outbox = Outbox::new(10_000);
    let page = crate::event::Page { records: plain(1..=9).records.to_vec(), newest: Default::default() };
    let reply = crate::event::Reply::History(Box::new(page));
    outbox.push_control(Event::Reply { id: 1, reply }).unwrap();
    outbox.push_ordered(Event::Ping).unwrap();
    let (events, bytes) = outbox.events();
    assert!(events == 2 && bytes > 9 * 100, "{events} {bytes}");
    drain(&mut outbox);
    assert_eq!(outbox.events(), (0, 0));
}

#[test]
fn merging_stops_at_another_part_and_at_a_reset() {
    let delta = |offset, part, at, text: &str| {
        let mut one = record(offset, Kind::RunDelta, String::new());
        one.body = run::delta(part, "text", at, text.to_owned());
        one
    };
    let reset = record(3, Kind::RunReset, r#"{"type":"run.reset","part":0,"to":0}"#.to_owned());
    let merged = run::merge(
        &[
            &batch(vec![delta(1, 0, 0, "a"), delta(2, 0, 1, "b"), reset]),
            &batch(vec![delta(4, 0, 0, "c"), delta(5, 1, 0, "d")]),
        ],
        0,
    );
    assert_eq!(merged.records.iter().map(|r| r.offset).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!(merged.records[0].body, run::delta(0, "text", 0, "ab".to_owned()));
}

#[test]
fn the_latest_of_a_conflation_key_wins_per_author() {
    let mut outbox = Outbox::new(100_000);
    let typing = |user: &str, on: bool| {
        let mut one = record(0, Kind::Plain, on.to_string());
        one.conflate = Some("typing".into());
        one.author = Some(Arc::new(Author { user: user.into(), ..Author::default() }));
        batch(vec![one])
    };
    assert_eq!(outbox.offer(SUB, Lane::Ephemeral, &typing("anna", true), 0), Offered::Queued);
    assert_eq!(outbox.offer(SUB, Lane::Ephemeral, &typing("ben", true), 0), Offered::Queued);
    assert_eq!(outbox.offer(SUB, Lane::Ephemeral, &typing("anna", false), 0), Offered::Dropped(1));
    assert_eq!(drain(&mut outbox).len(), 2);
}

#[test]
fn i4_whole_a_reader_is_told_how_many_it_missed_before_what_is_left() {
    let mut outbox = Outbox::new(10_000);
    let mut dropped = 0;
    for n in 1..=100 {
        if let Offered::Dropped(entries) = outbox.offer(SUB, Lane::Ephemeral, &plain(n..=n), 0) {
            dropped += u64::from(entries);
        }
    }
    let told = drain(&mut outbox);
    let missed = |one: &Outgoing| match one {
        Outgoing::Event(event) => match &**event {
            Event::Missed { channel, entries } if channel.as_str() == "story:1" => Some(*entries),
            _ => None,
        },
        Outgoing::Records { .. } => None,
    };
    assert_eq!(missed(&told[0]), Some(dropped));
    let left: Vec<u64> = (dropped + 1..=100).collect();
    assert_eq!(offsets(&told[1..]), left);
    assert_eq!(told.len() - 1, left.len(), "it is told once");
    assert!(outbox.is_empty());

    for n in 1..=100 {
        outbox.offer(SUB, Lane::Ephemeral, &plain(n..=n), 0);
    }
    outbox.purge(SUB);
    assert!(outbox.is_empty(), "whoever left is told nothing");
}

#[test]
fn anonymous_sessions_do_not_conflate_each_others_records() {
    let mut outbox = Outbox::new(100_000);
    let typing = |client: &str| {
        let mut one = record(0, Kind::Plain, "true".to_owned());
        one.conflate = Some("typing".into());
        one.author = Some(Arc::new(Author { client: client.into(), ..Author::default() }));
        batch(vec![one])
    };
    assert_eq!(outbox.offer(SUB, Lane::Ephemeral, &typing("1"), 0), Offered::Queued);
    assert_eq!(outbox.offer(SUB, Lane::Ephemeral, &typing("2"), 0), Offered::Queued);
    assert_eq!(outbox.offer(SUB, Lane::Ephemeral, &typing("1"), 0), Offered::Dropped(1));
}

#[test]
fn i8_bounded_an_outbox_never_holds_more_than_its_budget_and_one_batch() {
    let mut outbox = Outbox::new(10_000);
    let mut dropped = 0;
    for offset in 1..=1000 {
        if let Offered::Rewind(_) = outbox.offer(SUB, Lane::Durable, &plain(offset..=offset), offset - 1) {
            dropped += 1;
        }
        if let Offered::Dropped(n) = outbox.offer(SubId(2), Lane::Ephemeral, &plain(offset..=offset), 0) {
            dropped += n;
        }
        assert!(outbox.bytes() <= 10_000 + 2_500 + 200, "{}", outbox.bytes());
    }
    assert!(dropped > 0);
    let mut overrun = false;
    for _ in 0..=limits::CONTROL_ENTRIES_MAX {
        overrun |= outbox.push_control(Event::Ping).is_err();
    }
    assert!(overrun);
}
