//! The stored forms of a batch and of a checkpoint. The first byte is the version of the form.

use std::sync::Arc;

use bytes::Bytes;
use fireside_core::checkpoint::Mark;
use fireside_core::record::KeyMark;
use fireside_core::{
    Author, Batch, ChannelName, Checkpoint, Epoch, Kind, KnownKey, OpenRun, ProposalId, Record,
};

use crate::codec::{Malformed, Put, Reader};
use crate::group::NUMBER_MAX;

const VERSION: u8 = 1;

const HAS_AUTHOR: u8 = 1;
const SAME_AUTHOR: u8 = 2;
const HAS_INFO: u8 = 4;
const HAS_KEY: u8 = 8;
const HAS_CONFLATE: u8 = 16;
const HAS_TAGS: u8 = 32;

/// Appends the stored form of a batch's records and proposals; channel, epoch and offsets stand in the head of its entry.
pub fn encode_batch(batch: &Batch, out: &mut Vec<u8>) {
    encode_records(batch.proposal, batch.previous, &batch.records, out);
}

fn encode_records(proposal: ProposalId, previous: ProposalId, records: &[Record], out: &mut Vec<u8>) {
    out.put_u8(VERSION);
    out.put_u128(proposal.0);
    out.put_u128(previous.0);
    out.put_varint(records.len() as u64);
    let mut before: Option<&Record> = None;
    for record in records {
        encode_record(record, before, out);
        before = Some(record);
    }
}

fn encode_record(record: &Record, before: Option<&Record>, out: &mut Vec<u8>) {
    let same = record.author.is_some() && before.is_some_and(|b| b.author == record.author);
    let mut flags = 0;
    if let Some(author) = record.author.as_ref().filter(|_| !same) {
        flags |= HAS_AUTHOR | if author.info.is_some() { HAS_INFO } else { 0 };
    }
    flags |= if same { SAME_AUTHOR } else { 0 };
    flags |= if record.key.is_some() { HAS_KEY } else { 0 };
    flags |= if record.conflate.is_some() { HAS_CONFLATE } else { 0 };
    flags |= if record.tags.is_empty() { 0 } else { HAS_TAGS };
    out.put_u8(record.kind as u8);
    out.put_u8(flags);
    // A difference that wraps is read back by wrapping again, so that no time stamp is impossible to store.
    out.put_varint(record.time_ms.wrapping_sub(before.map_or(0, |b| b.time_ms)));
    if let Some(author) = record.author.as_ref().filter(|_| !same) {
        out.put_bytes(author.user.as_bytes());
        out.put_bytes(author.client.as_bytes());
        if let Some(info) = &author.info {
            out.put_bytes(info);
        }
    }
    if let Some(key) = &record.key {
        out.extend_from_slice(&key.id);
        out.extend_from_slice(&key.body);
    }
    if let Some(conflate) = &record.conflate {
        out.put_bytes(conflate.as_bytes());
    }
    if !record.tags.is_empty() {
        out.put_varint(record.tags.len() as u64);
        for (name, value) in &record.tags {
            out.put_bytes(name.as_bytes());
            out.put_bytes(value.as_bytes());
        }
    }
    out.put_bytes(&record.body);
}

/// Reads what [`encode_batch`] wrote. Bodies share the memory of `data`.
///
/// # Errors
/// The bytes are not a batch of this version, or of another number of records than `first ..= last`.
pub fn decode_batch(
    channel: &ChannelName,
    epoch: Epoch,
    first: u64,
    last: u64,
    data: Bytes,
) -> Result<Arc<Batch>, Malformed> {
    let mut reader = Reader::new(data);
    if reader.u8("batch version")? != VERSION {
        return Err(Malformed("batch version"));
    }
    let proposal = ProposalId(reader.u128("proposal")?);
    let previous = ProposalId(reader.u128("previous proposal")?);
    let count = reader.count(4, "record count")?;
    if count == 0 || last.checked_sub(first).and_then(|n| n.checked_add(1)) != Some(count as u64) {
        return Err(Malformed("record count"));
    }
    let mut records: Vec<Record> = Vec::with_capacity(count);
    for offset in first..=last {
        let record = decode_record(&mut reader, offset, records.last())?;
        records.push(record);
    }
    reader.end("batch end")?;
    Ok(Batch::new(channel.clone(), epoch, proposal, previous, records))
}

fn decode_record(reader: &mut Reader, offset: u64, before: Option<&Record>) -> Result<Record, Malformed> {
    let kind = Kind::from_stored(reader.u8("record kind")?).ok_or(Malformed("record kind"))?;
    let flags = reader.u8("record flags")?;
    let time_ms = before.map_or(0, |b| b.time_ms).wrapping_add(reader.varint("time")?);
    let author = if flags & SAME_AUTHOR != 0 {
        Some(before.and_then(|b| b.author.clone()).ok_or(Malformed("author"))?)
    } else if flags & HAS_AUTHOR != 0 {
        let user = reader.text("user")?;
        let client = reader.text("client")?;
        let info = if flags & HAS_INFO != 0 { Some(reader.bytes("info")?) } else { None };
        Some(Arc::new(Author { user, client, info, sub_info: None }))
    } else {
        None
    };
    let key = if flags & HAS_KEY != 0 {
        Some(KeyMark { id: reader.array("key")?, body: reader.array("key")? })
    } else {
        None
    };
    let conflate = if flags & HAS_CONFLATE != 0 { Some(reader.text("conflate")?) } else { None };
    let mut tags = Vec::new();
    if flags & HAS_TAGS != 0 {
        for _ in 0..reader.count(2, "tags")? {
            tags.push((reader.text("tag")?, reader.text("tag")?));
        }
    }
    let body = reader.bytes("body")?;
    Ok(Record { offset, time_ms, kind, author, key, conflate, tags, body })
}

/// Appends the stored form of a checkpoint.
pub fn encode_checkpoint(checkpoint: &Checkpoint, out: &mut Vec<u8>) {
    // By name, so that a new field cannot be left out.
    let Checkpoint { epoch, oldest, newest, time_ms, proposal, bytes, marks, keys, open_runs, closed, fence } =
        checkpoint;
    out.put_u8(VERSION);
    for number in [epoch.0, *oldest, *newest, *time_ms, *bytes, *fence] {
        out.put_varint(number);
    }
    out.put_u128(proposal.0);
    out.put_u8(u8::from(*closed));
    out.put_varint(marks.len() as u64);
    for mark in marks {
        out.put_varint(mark.offset);
        out.put_varint(mark.bytes);
        out.put_varint(mark.time_ms);
    }
    out.put_varint(keys.len() as u64);
    for key in keys {
        out.extend_from_slice(&key.id);
        out.extend_from_slice(&key.body);
        out.put_varint(key.offset);
        out.put_varint(key.time_ms);
        out.put_u8(u8::from(key.run.is_some()));
        if let Some(run) = &key.run {
            out.put_bytes(run.as_bytes());
        }
    }
    out.put_varint(open_runs.len() as u64);
    for run in open_runs {
        out.put_bytes(run.run.as_bytes());
        out.put_varint(run.offset);
        out.put_bytes(run.by.as_bytes());
        out.put_varint(run.epoch.0);
    }
}

/// Reads what [`encode_checkpoint`] wrote.
///
/// # Errors
/// The bytes are not a checkpoint of this version.
pub fn decode_checkpoint(data: Bytes) -> Result<Checkpoint, Malformed> {
    let mut reader = Reader::new(data);
    if reader.u8("checkpoint version")? != VERSION {
        return Err(Malformed("checkpoint version"));
    }
    let mut checkpoint = Checkpoint {
        epoch: Epoch(reader.varint("epoch")?),
        oldest: reader.varint("oldest")?,
        newest: reader.varint("newest")?,
        time_ms: reader.varint("time")?,
        bytes: reader.varint("bytes")?,
        fence: reader.varint("fence")?,
        proposal: ProposalId(reader.u128("proposal")?),
        closed: reader.u8("closed")? != 0,
        ..Checkpoint::default()
    };
    if checkpoint.epoch.0.max(checkpoint.oldest).max(checkpoint.newest) > NUMBER_MAX {
        return Err(Malformed("checkpoint position"));
    }
    for _ in 0..reader.count(3, "marks")? {
        let (offset, bytes) = (reader.varint("mark")?, reader.varint("mark")?);
        checkpoint.marks.push(Mark { offset, bytes, time_ms: reader.varint("mark")? });
    }
    for _ in 0..reader.count(35, "keys")? {
        let (id, body) = (reader.array("key")?, reader.array("key")?);
        let (offset, time_ms) = (reader.varint("key offset")?, reader.varint("key time")?);
        let run = if reader.u8("key run")? != 0 { Some(reader.text("key run")?) } else { None };
        checkpoint.keys.push(KnownKey { id, body, offset, time_ms, run });
    }
    for _ in 0..reader.count(4, "open runs")? {
        let (run, offset) = (reader.text("run")?, reader.varint("run offset")?);
        let (by, epoch) = (reader.text("run by")?, Epoch(reader.varint("run epoch")?));
        checkpoint.open_runs.push(OpenRun { run, offset, by, epoch });
    }
    reader.end("checkpoint end")?;
    Ok(checkpoint)
}

/// A batch as it must be shown: in the channel's present epoch, with the erased offsets as tombstones. Shares `batch` itself if
/// there is nothing to change.
pub fn shown(batch: &Arc<Batch>, epoch: Epoch, erased: &[u64]) -> Arc<Batch> {
    let shown = batch.erased(erased);
    if shown.epoch == epoch {
        return shown;
    }
    Batch::new(shown.channel.clone(), epoch, shown.proposal, shown.previous, shown.records.to_vec())
}
