//! A small store whose files are damaged, or made by somebody who knows the checksums; then it is opened, read and written to.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fireside_core::batch::ProposalId;
use fireside_core::{Batch, ChannelName, Checkpoint, Durability, Epoch, Kind, Record};
use fireside_store::format::{decode_batch, decode_checkpoint, encode_batch, encode_checkpoint};
use fireside_store::group::{EntryHead, EntryKind, HEADER, Header, entries, stride};
use fireside_store::{Disk, Entry, File, Options, Outcome, Span, Start, Store, check};

const CHANNELS: [&str; 2] = ["a:1", "b:1"];
/// A hostile length must not make the disk of a fuzzer large.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The first byte says how: 0, the rest are edits of files; 1, it is the entries of a well-formed last group; else, the body of an entry.
pub fn store(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    match how {
        0 => {
            let disk = RamDisk::written();
            edit(&disk, rest);
            live_with(&disk);
        }
        1 => {
            let disk = RamDisk::written();
            append(&disk, rest);
            live_with(&disk);
        }
        _ => body(rest),
    }
}

/// The body of a batch or a checkpoint: what can be read is written as it was understood.
fn body(data: &[u8]) {
    let _ = entries(data);
    let _ = EntryHead::decode(data);
    let _ = Header::decode(data);
    if let Ok(checkpoint) = decode_checkpoint(Bytes::copy_from_slice(data)) {
        let mut out = Vec::new();
        encode_checkpoint(&checkpoint, &mut out);
        assert_eq!(decode_checkpoint(Bytes::from(out)).expect("it was written by us"), checkpoint);
    }
    for last in 1..=3 {
        if let Ok(batch) = decode_batch(&name(CHANNELS[0]), Epoch(1), 1, last, Bytes::copy_from_slice(data)) {
            let mut out = Vec::new();
            encode_batch(&batch, &mut out);
            let again = decode_batch(&batch.channel, Epoch(1), 1, last, Bytes::from(out));
            assert_eq!(again.expect("it was written by us").records, batch.records);
        }
    }
}

/// Edits of seven bytes: which file, where in it (three), what (0 changes a byte, 1 cuts the file, 2 clears the rest, 3 removes it, 4 copies
/// it over the next one), and two for the change.
fn edit(disk: &RamDisk, edits: &[u8]) {
    for edit in edits.chunks_exact(7).take(64) {
        let mut files = lock(&disk.0);
        let names: Vec<String> = files.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let file = usize::from(edit[0]) % names.len();
        let inode = files[&names[file]].clone();
        let mut bytes = lock(&inode.0);
        let place = usize::from(edit[1]) << 16 | usize::from(edit[2]) << 8 | usize::from(edit[3]);
        let at = place % bytes.len().max(1);
        match edit[4] {
            0 if !bytes.is_empty() => bytes[at] ^= edit[5].max(1),
            1 => bytes.truncate(at),
            2 => bytes[at..].fill(0),
            3 => drop(files.remove(&names[file])),
            4 => {
                let copy = Arc::new(RamFile(Mutex::new(bytes.clone())));
                drop(files.insert(names[(file + 1) % names.len()].clone(), copy));
            }
            _ => {}
        }
    }
}

/// A group after the last one, with every checksum right, of entries of up to 40 bytes of numbers and a body each.
fn append(disk: &RamDisk, mut data: &[u8]) {
    let mut body = Vec::new();
    let mut count = 0;
    while let Some((fixed, rest)) = data.split_at_checked(12) {
        let (content, rest) = rest.split_at(usize::from(fixed[11]).min(rest.len()));
        data = rest;
        let kinds =
            [EntryKind::Batch, EntryKind::Checkpoint, EntryKind::Erase, EntryKind::Forget, EntryKind::Hole];
        let number = |byte: u8| if byte < 128 { u64::from(byte) } else { u64::MAX - u64::from(byte - 128) };
        let head = EntryHead {
            kind: kinds[usize::from(fixed[0]) % kinds.len()],
            degree: if fixed[1] & 1 == 0 { Durability::Fsync } else { Durability::Os },
            copy: fixed[1] & 2 == 2,
            order: (number(fixed[2]), u32::from(fixed[3])),
            epoch: Epoch(if fixed[4] == 0 { EPOCH } else { number(fixed[4]) }),
            first: number(fixed[5]),
            last: number(fixed[6]),
            body_len: content.len() as u32,
            body_crc: crc32c::crc32c(content),
            channel: name(CHANNELS[usize::from(fixed[7]) % CHANNELS.len()]),
        };
        head.encode(content, &mut body);
        count += 1;
    }
    let files = lock(&disk.0);
    let mut content = lock(&files["segment-00000001.log"].0);
    let groups = (0..content.len() / 8).map(|at| at * 8);
    let last = groups.filter_map(|at| Some((at, Header::decode(&content[at..])?))).next_back();
    let Some((at, (last, crc))) = last else { return };
    let header = Header {
        length: body.len() as u32,
        entries: count,
        sequence: last.sequence + 1,
        previous: crc,
        body_crc: crc32c::crc32c(&body),
        ..last
    };
    let from = at + stride(last.length) as usize;
    if from + HEADER + body.len() <= content.len() {
        content[from..from + HEADER].copy_from_slice(&header.encode().0);
        content[from + HEADER..from + HEADER + body.len()].copy_from_slice(&body);
    }
}

/// Opens what is there; what can be read of it is read, and a channel that wakes takes another record.
fn live_with(disk: &RamDisk) {
    let _ = check(disk);
    for life in 2..4 {
        let Some(store) = open(disk, life) else { return };
        for channel in CHANNELS.map(name) {
            for degree in [Durability::Fsync, Durability::Os] {
                let Ok(woken) = store.wake(&channel, degree) else { continue };
                let known = woken.checkpoint.clone().unwrap_or_default();
                let end = woken.tail.last().map(|batch| (batch.epoch, batch.last(), batch.proposal));
                let fresh = (woken.generation, 0, ProposalId(0));
                let kept = woken.checkpoint.map(|known| (known.epoch, known.newest, known.proposal));
                let (epoch, newest, proposal) = end.or(kept).unwrap_or(fresh);
                let mut after = known.oldest.max(1) - 1;
                for _ in 0..64 {
                    let span = Span { epoch, after, until: newest, records_max: 10, bytes_max: 1000 };
                    let Ok(page) = store.read(&channel, degree, span) else { break };
                    let Some(last) = page.last().map(|batch| batch.last()) else { break };
                    assert!(last > after, "a page that does not go on");
                    after = last;
                }
                if newest < u64::MAX - 8 {
                    let batch = batch(&channel, epoch, newest + 1, proposal);
                    let _ = store.commit(&[Entry::Batch { batch, degree }]);
                }
            }
            store.slept(&channel);
        }
        let _ = store.sync().and_then(|_| store.maintain().map(drop)).and_then(|()| store.close());
    }
}

const EPOCH: u64 = 1_000;

fn open(disk: &RamDisk, life: u128) -> Option<Store> {
    let options = Options { segment_bytes: 4096, ..Options::default() };
    let start = Start { life, boot_id: "boot".to_owned(), now_ms: EPOCH };
    Store::open(Arc::new(disk.clone()), options, start).ok().map(|(store, _)| store)
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).expect("a name of ours")
}

fn batch(channel: &ChannelName, epoch: Epoch, offset: u64, previous: ProposalId) -> Arc<Batch> {
    let record = Record {
        offset,
        time_ms: EPOCH,
        kind: Kind::Plain,
        author: None,
        key: None,
        conflate: None,
        tags: Vec::new(),
        body: Bytes::from_static(b"\"once upon a time\""),
    };
    Batch::new(channel.clone(), epoch, ProposalId(u128::from(offset)), previous, vec![record])
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory in memory that fails in nothing.
#[derive(Clone, Default)]
struct RamDisk(Arc<Mutex<BTreeMap<String, Arc<RamFile>>>>);

struct RamFile(Mutex<Vec<u8>>);

impl RamDisk {
    /// A disk with a store of two segments: two channels, a checkpoint, an erased record, one that was forgotten.
    fn written() -> RamDisk {
        let disk = RamDisk::default();
        let store = open(&disk, 1).expect("an empty disk is no fault");
        let (a, b) = (name(CHANNELS[0]), name(CHANNELS[1]));
        for channel in [&a, &b] {
            for offset in 1..=6 {
                let batch = batch(channel, Epoch(EPOCH), offset, ProposalId(u128::from(offset - 1)));
                let entry = Entry::Batch { batch, degree: Durability::Fsync };
                let outcomes = store.commit(&[entry]).expect("there is room").outcomes;
                assert_eq!(outcomes, [Outcome::Accepted]);
            }
        }
        let checkpoint = Checkpoint {
            epoch: Epoch(EPOCH),
            oldest: 3,
            newest: 6,
            proposal: ProposalId(6),
            ..Checkpoint::default()
        };
        let degree = Durability::Fsync;
        let others = [
            Entry::Checkpoint { channel: a.clone(), checkpoint: Arc::new(checkpoint), degree },
            Entry::Erase { channel: a, epoch: Epoch(EPOCH), offset: 4, degree },
            Entry::Forget { channel: b, degree },
        ];
        store.commit(&others).and_then(|_| store.sync()).expect("there is room");
        drop(store);
        disk
    }
}

impl Disk for RamDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.0).keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = lock(&self.0).get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        if len > FILE_BYTES_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = Arc::new(RamFile(Mutex::new(vec![0; len as usize])));
        lock(&self.0).insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.0);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.0).remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<u64> {
        Ok(FILE_BYTES_MAX)
    }
}

impl File for RamFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let bytes = lock(&self.0);
        let from = usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let mut bytes = lock(&self.0);
        let end = usize::try_from(at).ok().and_then(|at| at.checked_add(buf.len()));
        match end.filter(|end| *end <= bytes.len()) {
            Some(end) => bytes[end - buf.len()..end].copy_from_slice(buf),
            None => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }
}
