//! A backup: everything up to a moment of a log, also of one that another process writes meanwhile, as one stream with checksums.
//!
//! `"FBackup1"`, then files, then an end. A file: 1, the name (length, bytes), the length to allocate (u64), its content in pieces
//! (length u32, checksum u32, bytes; the last has no bytes; zeros at the end are left out). The end: 0, how many files (u32), the
//! checksum of all pieces' checksums (u32). Without its end a stream is no backup.

use std::io::{self, Read, Write};
use std::sync::Arc;

use fireside_core::Durability;

use crate::disk::{Disk, File, read_up_to};
use crate::meta::META;
use crate::repair::OpenReport;
use crate::segment::{FoundGroup, Scan, index_name, is_zero, parse_name, segment_name};
use crate::store::{Options, Start, Store, StoreFault, lock};

const MAGIC: [u8; 8] = *b"FBackup1";
/// Bytes of a piece at most.
const PIECE: usize = 1 << 20;
/// How often a directory is listed, or a segment read, that changes while one looks.
const LOOKS: usize = 100;

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// Segments.
    pub segments: usize,
    /// Bytes written.
    pub bytes: u64,
}

/// Writes everything that is in a log now. A store of this or another process may run on it: no group is torn, and what is written or
/// given back meanwhile does not matter. Memory: one segment at a time.
///
/// # Errors
/// There is no log, its last segment is damaged, it cannot be read, or `out` cannot be written.
pub fn backup(disk: &dyn Disk, out: &mut dyn Write) -> io::Result<BackedUp> {
    let (meta, segments) = open_all(disk)?;
    let mut out = Writer { out, bytes: 0, files: 0, crcs: 0 };
    out.put(&MAGIC)?;
    out.file(META, meta.len() as u64, &meta)?;
    let last = last_in_use(&segments)?;
    let in_use = &segments[..last.map_or(0, |last| last + 1)];
    for (at, segment) in in_use.iter().enumerate() {
        let content = match Some(at) == last {
            true => whole_groups(segment)?,
            false => read_all(&*segment.file)?,
        };
        out.file(&segment_name(segment.number), segment.file.len()?, &content)?;
        drop(content);
        if let Some(index) = segment.index.as_ref().filter(|_| Some(at) != last) {
            let content = read_all(&**index)?;
            out.file(&index_name(segment.number), content.len() as u64, &content)?;
        }
    }
    out.end()?;
    Ok(BackedUp { segments: in_use.len(), bytes: out.bytes })
}

/// Puts a backup into an empty directory, opens it as a store does, and closes it with new generations: every channel's next epoch is
/// a later one, so that no reader mistakes what it saw after the backup for what is there now. Only then is it complete.
///
/// # Errors
/// The stream is not a whole backup, or the disk fails; what is in the directory then must not be used.
pub fn restore(
    input: &mut dyn Read,
    disk: Arc<dyn Disk>,
    options: Options,
    start: Start,
) -> Result<OpenReport, StoreFault> {
    unpack(input, &*disk).map_err(|fault| StoreFault::at("restoring", &fault))?;
    let now_ms = start.now_ms;
    let (store, report) = Store::open(disk, options, start)?;
    {
        let mut state = lock(&store.state);
        state.meta.lost(Durability::Fsync, now_ms);
        state.meta.lost(Durability::Os, now_ms);
    }
    store.close()?;
    Ok(report)
}

struct Opened {
    number: u32,
    file: Arc<dyn File>,
    index: Option<Arc<dyn File>>,
}

/// Opens all segments that are there at one moment, ascending. Open files stay readable when they are given back.
fn open_all(disk: &dyn Disk) -> io::Result<(Vec<u8>, Vec<Opened>)> {
    let numbers = || -> io::Result<Vec<u32>> {
        let names = disk.list()?;
        let parsed = names.iter().filter_map(|name| parse_name(name));
        let mut numbers: Vec<u32> = parsed.filter(|(_, index)| !index).map(|(number, _)| number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    };
    for _ in 0..LOOKS {
        let before = numbers()?;
        let meta = read_all(&*disk.open(META)?)?;
        let opened = before.iter().map(|number| {
            let index = match disk.open(&index_name(*number)) {
                Err(fault) if fault.kind() == io::ErrorKind::NotFound => None,
                opened => Some(opened?),
            };
            Ok(Opened { number: *number, file: disk.open(&segment_name(*number))?, index })
        });
        match opened.collect::<io::Result<Vec<_>>>() {
            Ok(opened) if numbers()? == before => return Ok((meta, opened)),
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            // Segments were made or given back meanwhile.
            _ => {}
        }
    }
    Err(io::Error::other("segments come and go too fast"))
}

/// The last segment that was begun. Those before it do not grow any more; those after it are spares, or begun later.
fn last_in_use(segments: &[Opened]) -> io::Result<Option<usize>> {
    for (at, segment) in segments.iter().enumerate().rev() {
        if !is_zero(&read_all(&*segment.file)?) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The content up to the first group that is not written whole.
fn whole_groups(segment: &Opened) -> io::Result<Vec<u8>> {
    for _ in 0..LOOKS {
        let mut scan = Scan::read(&*segment.file, segment.number)?;
        let mut before: Option<&FoundGroup> = None;
        let good = scan.groups.iter().take_while(|group| {
            let begin = before.map_or(crate::segment::SEGMENT_HEADER, FoundGroup::end);
            let chained = before.is_none_or(|b| {
                (group.header.sequence, group.header.previous) == (b.header.sequence + 1, b.crc)
            });
            before = Some(group);
            group.whole && chained && group.at == begin
        });
        let good = good.count();
        if good == scan.groups.len() || !scan.groups[good..].iter().any(|group| group.whole) {
            let end = scan.groups[..good].last().map_or(crate::segment::SEGMENT_HEADER, FoundGroup::end);
            scan.content.truncate(end as usize);
            return Ok(scan.content);
        }
        // A group that was written while it was read, with others after it: the next look finds it whole.
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the last segment is damaged"))
}

fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?];
    let got = read_up_to(file, &mut content, 0)?;
    content.truncate(got);
    Ok(content)
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
    files: u32,
    crcs: u32,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn file(&mut self, name: &str, len: u64, content: &[u8]) -> io::Result<()> {
        self.files += 1;
        let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let mut head = vec![1, name.len() as u8];
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&len.to_le_bytes());
        self.piece(&head)?;
        for piece in content[..end].chunks(PIECE) {
            self.piece(piece)?;
        }
        self.piece(&[])
    }

    fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        let crc = crc32c::crc32c(bytes);
        self.crcs = crc32c::crc32c_append(self.crcs, &crc.to_le_bytes());
        self.put(&(bytes.len() as u32).to_le_bytes())?;
        self.put(&crc.to_le_bytes())?;
        self.put(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        let mut end = vec![0];
        end.extend_from_slice(&self.files.to_le_bytes());
        end.extend_from_slice(&self.crcs.to_le_bytes());
        self.piece(&end)?;
        self.out.flush()
    }
}

/// Reads a backup into files, and syncs them.
fn unpack(input: &mut dyn Read, disk: &dyn Disk) -> io::Result<()> {
    let mut magic = [0; 8];
    if input.read_exact(&mut magic).is_err() || magic != MAGIC {
        return Err(bad("this is not a backup"));
    }
    let (mut input, mut files) = (Reader { input, crcs: 0 }, 0);
    loop {
        let crcs = input.crcs;
        let head = input.piece()?;
        match head.split_first() {
            Some((1, head)) => {
                input.file(disk, head)?;
                files += 1;
            }
            Some((0, end)) => {
                let mut expected = u32::to_le_bytes(files).to_vec();
                expected.extend_from_slice(&crcs.to_le_bytes());
                if end != expected || input.input.read(&mut [0])? > 0 {
                    return Err(bad("the backup does not end where it should"));
                }
                return disk.sync_dir();
            }
            _ => return Err(bad("the backup is damaged")),
        }
    }
}

struct Reader<'a> {
    input: &'a mut dyn Read,
    crcs: u32,
}

impl Reader<'_> {
    fn piece(&mut self) -> io::Result<Vec<u8>> {
        let (len, crc) = (self.number()?, self.number()?);
        if len as usize > PIECE {
            return Err(bad("the backup is damaged"));
        }
        let mut bytes = vec![0; len as usize];
        self.input.read_exact(&mut bytes).map_err(cut)?;
        if crc32c::crc32c(&bytes) != crc {
            return Err(bad("the backup is damaged"));
        }
        self.crcs = crc32c::crc32c_append(self.crcs, &crc.to_le_bytes());
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.input.read_exact(&mut bytes).map_err(cut)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// A file whose head, without its kind, is `head`.
    fn file(&mut self, disk: &dyn Disk, head: &[u8]) -> io::Result<()> {
        let parts = head.split_first().and_then(|(n, rest)| rest.split_at_checked(usize::from(*n)));
        let name = parts.and_then(|(name, _)| std::str::from_utf8(name).ok());
        let len = parts.and_then(|(_, len)| <[u8; 8]>::try_from(len).ok()).map(u64::from_le_bytes);
        // What names a file elsewhere is no backup of ours, whatever its checksums say.
        let name = name.filter(|name| *name == META || parse_name(name).is_some());
        let (Some(name), Some(len)) = (name, len) else { return Err(bad("the backup is damaged")) };
        let file = disk.create(name, len)?;
        let mut at = 0;
        loop {
            let piece = self.piece()?;
            if piece.is_empty() {
                return file.sync();
            }
            if at + piece.len() as u64 > len {
                return Err(bad("the backup is damaged"));
            }
            file.write_at(&piece, at)?;
            at += piece.len() as u64;
        }
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut(fault: io::Error) -> io::Error {
    match fault.kind() {
        io::ErrorKind::UnexpectedEof => bad("the backup ends in the middle"),
        _ => fault,
    }
}
