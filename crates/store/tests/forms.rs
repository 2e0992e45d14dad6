//! Stored forms read back as they were, and no bytes make reading them panic.

use std::sync::Arc;

use bytes::Bytes;
use fireside_core::checkpoint::Mark;
use fireside_core::record::KeyMark;
use fireside_core::{
    Author, Batch, ChannelName, Checkpoint, Epoch, Kind, KnownKey, OpenRun, ProposalId, Record,
};
use fireside_store::format::{decode_batch, decode_checkpoint, encode_batch, encode_checkpoint};
use fireside_store::group::{EntryHead, Header, entries};
use proptest::prelude::*;

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zé ]{0,12}".prop_map(|s| Arc::from(s.as_str()))
}

fn body() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from)
}

fn record() -> impl Strategy<Value = Record> {
    let author = (text(), text(), prop::option::of(body()))
        .prop_map(|(user, client, info)| Arc::new(Author { user, client, info, sub_info: None }));
    let key = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(id, body)| KeyMark { id, body });
    (
        any::<u64>(),
        0u8..7,
        prop::option::of(author),
        prop::option::of(key),
        prop::option::of(text()),
        prop::collection::vec((text(), text()), 0..4),
        body(),
    )
        .prop_map(|(time_ms, kind, author, key, conflate, tags, body)| Record {
            offset: 0,
            time_ms,
            kind: Kind::from_stored(kind).unwrap(),
            author,
            key,
            conflate,
            tags,
            body,
        })
}

fn batch() -> impl Strategy<Value = Arc<Batch>> {
    (prop::collection::vec(record(), 1..8), 1u64..u64::MAX - 10, any::<u128>(), any::<u128>(), any::<bool>())
        .prop_map(|(mut records, first, proposal, previous, same)| {
            for (record, offset) in records.iter_mut().zip(first..) {
                record.offset = offset;
            }
            if same {
                let author = records[0].author.clone();
                records.iter_mut().for_each(|r| r.author = author.clone());
            }
            let channel = ChannelName::parse("a:1").unwrap();
            Batch::new(channel, Epoch(3), ProposalId(proposal), ProposalId(previous), records)
        })
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    let key = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u64>(), any::<u64>(), prop::option::of(text()))
        .prop_map(|(id, body, offset, time_ms, run)| KnownKey { id, body, offset, time_ms, run });
    let mark = (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(offset, bytes, time_ms)| Mark {
        offset,
        bytes,
        time_ms,
    });
    let run = (text(), any::<u64>(), text(), any::<u64>()).prop_map(|(run, offset, by, epoch)| OpenRun {
        run,
        offset,
        by,
        epoch: Epoch(epoch),
    });
    (
        (0..1u64 << 62, 0..1u64 << 62, 0..1u64 << 62, any::<u64>(), any::<u128>(), any::<u64>()),
        prop::collection::vec(key, 0..5),
        prop::collection::vec(run, 0..3),
        prop::collection::vec(mark, 0..4),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(
            |((epoch, oldest, newest, time_ms, proposal, bytes), keys, open_runs, marks, closed, fence)| {
                Checkpoint {
                    epoch: Epoch(epoch),
                    oldest,
                    newest,
                    time_ms,
                    proposal: ProposalId(proposal),
                    bytes,
                    marks,
                    keys,
                    open_runs,
                    closed,
                    fence,
                }
            },
        )
}

fn stored(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::new();
    encode_batch(batch, &mut out);
    out
}

fn read(batch: &Batch, bytes: Vec<u8>) -> Result<Arc<Batch>, fireside_store::Malformed> {
    decode_batch(&batch.channel, batch.epoch, batch.first(), batch.last(), Bytes::from(bytes))
}

/// Changes, cuts and extends bytes.
fn mutate(bytes: &mut Vec<u8>, changes: &[(prop::sample::Index, u8)], cut: Option<prop::sample::Index>) {
    for (at, to) in changes {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = *to;
        }
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len() + 1));
    }
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_reads_back_as_it_was(batch in batch()) {
        let back = read(&batch, stored(&batch)).unwrap();
        prop_assert_eq!(&back.records, &batch.records);
        prop_assert_eq!((back.proposal, back.previous, back.epoch), (batch.proposal, batch.previous, batch.epoch));
    }

    #[test]
    fn a_checkpoint_reads_back_as_it_was(checkpoint in checkpoint()) {
        let mut out = Vec::new();
        encode_checkpoint(&checkpoint, &mut out);
        prop_assert_eq!(decode_checkpoint(Bytes::from(out)).unwrap(), checkpoint);
    }

    #[test]
    fn c6_changed_bytes_are_refused_or_read_but_never_panic(
        batch in batch(),
        checkpoint in checkpoint(),
        changes in changes(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = stored(&batch);
        mutate(&mut bytes, &changes, cut);
        if let Ok(back) = read(&batch, bytes) {
            prop_assert_eq!(back.records.len(), batch.records.len());
        }
        let mut bytes = Vec::new();
        encode_checkpoint(&checkpoint, &mut bytes);
        mutate(&mut bytes, &changes, cut);
        let _ = decode_checkpoint(Bytes::from(bytes));
    }

    #[test]
    fn c6_any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Header::decode(&bytes).is_none());
        prop_assert!(EntryHead::decode(&bytes).is_err());
        let (found, complete) = entries(&bytes);
        prop_assert!(found.is_empty() && complete == bytes.is_empty());
        let _ = decode_checkpoint(Bytes::from(bytes.clone()));
        let _ = decode_batch(&ChannelName::parse("a").unwrap(), Epoch(1), 1, 2, Bytes::from(bytes));
    }
}
