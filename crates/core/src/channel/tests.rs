//! Stories of one channel and its log.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::command::{Connect, Publish};
use crate::gate::{Caller, Claims, Gate, Principal, Rules, Write};
use crate::namespace::{Namespaces, Retention, RunPolicy};
use crate::record::KeyMark;

const NOW_MS: u64 = 1_800_000_000_000;

struct Desk {
    gate: Gate,
    who: Arc<Principal>,
}

fn space(records: u64) -> Namespace {
    Namespace {
        history: Some(Retention { records, bytes: u64::MAX, age_ms: u64::MAX }),
        run: Some(RunPolicy::default()),
        ..Namespace::closed("story")
    }
}

impl Desk {
    fn new(space: Namespace) -> Self {
        let rules = Rules { insecure: true, ..Rules::default() };
        let gate = Gate::new(Namespaces::new(vec![Arc::new(space)]), rules);
        let claims = Claims { user: "anna".into(), expires_s: Some(NOW_MS / 1000 + 60), ..Claims::default() };
        let who = gate
            .connect(&Connect::default(), Some(claims), "c", NOW_MS)
            .unwrap()
            .at_once()
            .unwrap()
            .principal;
        Desk { gate, who }
    }

    fn channel(&self, checkpoint: Option<Checkpoint>) -> Channel {
        let name = ChannelName::parse("story:42").unwrap();
        let policy = self.gate.policy(&name).unwrap();
        Channel::wake(name, policy, checkpoint, Epoch(7))
    }

    fn ask(&self, body: &str, key: Option<&str>, expected: Option<Claimed>) -> Admitted<Write> {
        let asked = Publish {
            channel: "story:42".into(),
            body: Bytes::from(body.to_owned()),
            key: key.map(str::to_owned),
            expected,
            ..Publish::default()
        };
        let caller =
            Caller { principal: &self.who, now_ms: NOW_MS, subscribed: false, bucket: None, trace: None };
        self.gate.publish(caller, asked).unwrap().at_once().unwrap()
    }

    fn run_record(&self, kind: Kind, body: Bytes, key: Option<KeyMark>) -> Admitted<Write> {
        let write = Write { kind, body, key, expected: None, conflate: None, tags: Vec::new(), author: None };
        self.gate.run_record(&ChannelName::parse("story:42").unwrap(), write).unwrap()
    }
}

fn append(channel: &mut Channel, asked: &[Admitted<Write>], proposal: u128, now_ms: u64) -> Vec<Answer> {
    let decision = channel.decide(asked, ProposalId(proposal), now_ms);
    if let Some(batch) = &decision.batch {
        assert!(channel.continues(batch) || batch.first() == 0);
        channel.absorb(batch);
    }
    decision.answers
}

fn written(offset: u64) -> Answer {
    Answer::Written { offset, duplicate: false }
}

#[test]
fn i1_dense_offsets_start_at_one_and_have_no_hole() {
    let desk = Desk::new(space(1000));
    let mut channel = desk.channel(None);
    assert_eq!(
        channel.newest(),
        Position::new(Epoch(7), 0),
        "a channel never written answers with the generation"
    );
    let asked = [desk.ask("1", None, None), desk.ask("2", None, None)];
    assert_eq!(append(&mut channel, &asked, 1, NOW_MS), [written(1), written(2)]);
    assert_eq!(append(&mut channel, &asked[..1], 2, NOW_MS), [written(3)]);
}

#[test]
fn i2_once_a_known_key_answers_the_first_position() {
    let desk = Desk::new(space(1000));
    let mut channel = desk.channel(None);
    let asked =
        [desk.ask("1", Some("k"), None), desk.ask("1", Some("k"), None), desk.ask("2", Some("k"), None)];
    let answers = append(&mut channel, &asked, 1, NOW_MS);
    assert_eq!(answers[..2], [written(1), Answer::Written { offset: 1, duplicate: true }]);
    assert!(matches!(&answers[2], Answer::Refused(refusal) if refusal.code == Code::Conflict));
    assert_eq!(append(&mut channel, &asked[..1], 2, NOW_MS), [Answer::Known { offset: 1, run: None }]);
    assert!(matches!(append(&mut channel, &asked[2..], 3, NOW_MS)[..], [Answer::Refused(_)]));
    // It survives a sleep, and ends with its window.
    let mut woken = desk.channel(Some(channel.checkpoint()));
    assert_eq!(append(&mut woken, &asked[..1], 4, NOW_MS), [Answer::Known { offset: 1, run: None }]);
    assert_eq!(append(&mut woken, &asked[..1], 5, NOW_MS + limits::DEDUP_WINDOW_MS), [written(2)]);
}

#[test]
fn keys_outlive_their_records_and_are_bounded() {
    let desk = Desk::new(Namespace { dedup_keys_max: 3, ..space(2) });
    let mut channel = desk.channel(None);
    for n in 1..=5_u64 {
        let key = format!("k{n}");
        assert_eq!(append(&mut channel, &[desk.ask("1", Some(&key), None)], n.into(), NOW_MS), [written(n)]);
    }
    assert_eq!(channel.oldest(), 4);
    let again = |key: &str| {
        channel.decide(&[desk.ask("1", Some(key), None)], ProposalId(9), NOW_MS).answers.remove(0)
    };
    assert_eq!(again("k3"), Answer::Known { offset: 3, run: None }, "its record is trimmed, its key is not");
    assert_eq!(again("k1"), written(6), "three keys at most");
}

#[test]
fn an_expected_position_is_compared_within_the_batch_too() {
    let desk = Desk::new(space(1000));
    let mut channel = desk.channel(None);
    let at = |offset| Some(Claimed { epoch: Some(Epoch(7)), offset });
    let start = Some(Claimed { epoch: None, offset: 0 });
    let asked = [desk.ask("1", None, start), desk.ask("2", None, at(1)), desk.ask("3", None, at(1))];
    let answers = append(&mut channel, &asked, 1, NOW_MS);
    assert_eq!(answers[..2], [written(1), written(2)]);
    let Answer::Refused(refusal) = &answers[2] else { panic!() };
    assert_eq!(
        (refusal.code, refusal.detail.as_deref()),
        (Code::Conflict, Some(r#"{"epoch":"7","offset":2}"#))
    );
}

#[test]
fn a_clock_that_jumps_back_reorders_nothing() {
    let desk = Desk::new(space(1000));
    let mut channel = desk.channel(None);
    append(&mut channel, &[desk.ask("1", None, None)], 1, NOW_MS);
    let decision = channel.decide(&[desk.ask("2", None, None)], ProposalId(2), NOW_MS - 3_600_000);
    assert_eq!(decision.batch.unwrap().records[0].time_ms, NOW_MS);
}

#[test]
fn retention_trims_a_prefix_by_count_bytes_and_age() {
    let kept = |records, bytes, age_ms| Namespace {
        history: Some(Retention { records, bytes, age_ms }),
        ..space(1)
    };
    let fill = |space| {
        let desk = Desk::new(space);
        let mut channel = desk.channel(None);
        for n in 1..=100_u64 {
            append(&mut channel, &[desk.ask("\"0123456789\"", None, None)], n.into(), NOW_MS + n * 1000);
        }
        channel
    };
    assert_eq!(fill(kept(10, u64::MAX, u64::MAX)).oldest(), 91);
    let cost = fill(kept(1000, u64::MAX, u64::MAX)).checkpoint().bytes / 100;
    assert_eq!(fill(kept(1000, cost * 10, u64::MAX)).oldest(), 91);
    assert_eq!(fill(kept(1000, u64::MAX, 9_500)).oldest(), 91);
    let mut channel = fill(kept(1000, u64::MAX, 9_500));
    channel.trim(NOW_MS + 1_000_000);
    assert_eq!((channel.oldest(), channel.newest().offset), (101, 100), "age empties a quiet channel");
}

#[test]
fn marks_stay_few_and_keep_the_byte_bound_close() {
    let space = Namespace {
        history: Some(Retention { records: u64::MAX, bytes: 500_000, age_ms: u64::MAX }),
        ..space(1)
    };
    let desk = Desk::new(space);
    let mut channel = desk.channel(None);
    for n in 1..=20_000_u64 {
        append(&mut channel, &[desk.ask("\"0123456789\"", None, None)], n.into(), NOW_MS);
        assert!(channel.marks.len() <= limits::MARKS_MAX);
    }
    let per_record = channel.bytes / 20_000;
    let kept = (channel.newest().offset - channel.oldest() + 1) * per_record;
    assert!((400_000..650_000).contains(&kept), "{kept}");
}

#[test]
fn removed_history_keeps_epoch_newest_and_keys() {
    let desk = Desk::new(space(1000));
    let mut channel = desk.channel(None);
    append(&mut channel, &[desk.ask("1", Some("k"), None), desk.ask("2", None, None)], 1, NOW_MS);
    channel.remove_history();
    assert_eq!((channel.oldest(), channel.newest()), (3, Position::new(Epoch(7), 2)));
    assert_eq!(
        append(&mut channel, &[desk.ask("1", Some("k"), None)], 2, NOW_MS),
        [Answer::Known { offset: 1, run: None }]
    );
    assert_eq!(append(&mut channel, &[desk.ask("3", None, None)], 3, NOW_MS), [written(3)]);
}

#[test]
fn i5_told_a_position_is_readable_or_gone_and_nothing_else() {
    let desk = Desk::new(space(2));
    let mut channel = desk.channel(None);
    for n in 1..=5 {
        append(&mut channel, &[desk.ask("1", None, None)], n, NOW_MS);
    }
    let standing = |epoch, offset| channel.standing(Claimed { epoch, offset });
    let readable = |offset| Standing::Readable(Position::new(Epoch(7), offset));
    assert_eq!(standing(Some(Epoch(7)), 3), readable(3), "just before the oldest");
    assert_eq!(standing(Some(Epoch(7)), 5), readable(5));
    assert_eq!(standing(Some(Epoch(7)), 2), Standing::Gone, "trimmed");
    assert_eq!(standing(Some(Epoch(7)), 6), Standing::Gone, "a client's offset proves nothing");
    assert_eq!(standing(Some(Epoch(6)), 5), Standing::Gone);
    assert_eq!(standing(None, 5), Standing::Gone, "no epoch goes with offset 0 only");
    let empty = desk.channel(None);
    assert_eq!(empty.standing(Claimed { epoch: None, offset: 0 }), readable(0));
}

#[test]
fn a_run_has_one_start_and_one_end() {
    let desk = Desk::new(space(1000));
    let mut channel = desk.channel(None);
    let (run, who): (Arc<str>, Arc<str>) = ("r1".into(), "anna".into());
    let start = |run: &Arc<str>, key| {
        let mark = desk.who.mark(key, b"input");
        desk.run_record(Kind::RunStart, super::run::start(run, &who, &"m".into(), Epoch(9)), Some(mark))
    };
    assert_eq!(append(&mut channel, &[start(&run, "s")], 1, NOW_MS), [written(1)]);
    assert_eq!(channel.open_runs().len(), 1);
    let known = Answer::Known { offset: 1, run: Some(run.clone()) };
    assert_eq!(
        append(&mut channel, &[start(&"r2".into(), "s")], 2, NOW_MS),
        [known],
        "a start is once by its key"
    );
    let second = append(&mut channel, &[start(&"r2".into(), "t")], 3, NOW_MS);
    assert!(matches!(&second[..], [Answer::Refused(refusal)] if refusal.code == Code::Conflict));
    // The open run is part of the checkpoint.
    let mut channel = desk.channel(Some(channel.checkpoint()));
    let ending = super::run::Ending {
        status: super::run::Status::Interrupted,
        parts: Vec::new(),
        usage: None,
        by: None,
        reason: None,
    };
    let end = desk.run_record(Kind::RunEnd, ending.body(&run), None);
    let answers = append(&mut channel, &[end.clone(), end.clone()], 4, NOW_MS);
    assert!(matches!(&answers[..], [Answer::Written { offset: 2, .. }, Answer::Refused(_)]));
    assert!(channel.open_runs().is_empty());
    assert!(matches!(append(&mut channel, &[end], 5, NOW_MS)[..], [Answer::Refused(_)]));
}

proptest! {
    /// A checkpoint at any place plus the batches after it is the whole channel.
    #[test]
    fn a_checkpoint_and_its_tail_are_the_whole_channel(
        cut in 0_usize..30,
        asks in proptest::collection::vec((0_u8..6, 0_u8..3), 1..30),
        records in 1_u64..20,
    ) {
        let desk = Desk::new(space(records));
        let mut channel = desk.channel(None);
        let (mut checkpoint, mut tail) = (None, Vec::new());
        for (n, (key, body)) in asks.iter().enumerate() {
            if n == cut {
                (checkpoint, tail) = (Some(channel.checkpoint()), Vec::new());
            }
            let asked = [desk.ask(&body.to_string(), Some(&format!("k{key}")), None), desk.ask("0", None, None)];
            let decision = channel.decide(&asked, ProposalId(n as u128 + 1), NOW_MS + n as u64);
            if let Some(batch) = decision.batch {
                channel.absorb(&batch);
                tail.push(batch);
            }
        }
        let mut woken = desk.channel(checkpoint);
        for batch in &tail {
            prop_assert!(woken.continues(batch));
            woken.absorb(batch);
        }
        prop_assert_eq!(woken.checkpoint(), channel.checkpoint());
    }
}

#[test]
fn no_offset_that_a_client_can_name_is_too_large_to_judge() {
    let desk = Desk::new(space(10));
    let mut channel = desk.channel(None);
    append(&mut channel, &[desk.ask("1", None, None)], 1, NOW_MS);
    let claimed = Claimed { epoch: Some(Epoch(7)), offset: u64::MAX };
    assert_eq!(channel.standing(claimed), Standing::Gone);
}
