//! The store's small memory beside the log: generations, the machine's boot, and what was synced.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use fireside_core::{Durability, Epoch};

use crate::codec::{Malformed, Put, Reader};
use crate::disk::{Disk, read_exact, replace};

/// The name of its file.
pub const META: &str = "meta";
const MAGIC: [u8; 8] = *b"FMeta001";

/// What the store remembers beside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Keys the hash of channel names.
    pub salt: [u8; 16],
    /// Per degree: a channel with a lower epoch is in this one now, because its log may have lost records.
    floors: [u64; 2],
    /// Per degree and bucket, where it is above the floor: the epoch that a channel without records adopts.
    moved: BTreeMap<(u8, u16), u64>,
    /// No epoch above this was ever given.
    epoch_max: u64,
    /// The machine's boot in which the store was last opened.
    pub boot: String,
    /// True if it was closed since.
    pub clean: bool,
    /// A sequence that was synced.
    pub synced: u64,
}

fn row(degree: Durability) -> usize {
    usize::from(degree != Durability::Fsync)
}

impl Meta {
    /// For a store that begins. Generations begin at the clock's ms, so that after a reset epochs are greater than before it.
    pub fn fresh(salt: [u8; 16], now_ms: u64) -> Meta {
        let first = now_ms.max(1);
        Meta {
            salt,
            floors: [first; 2],
            moved: BTreeMap::new(),
            epoch_max: first,
            boot: String::new(),
            clean: false,
            synced: 0,
        }
    }

    /// Channels of `degree` with a lower epoch are in this one now.
    pub fn floor(&self, degree: Durability) -> Epoch {
        Epoch(self.floors[row(degree)])
    }

    /// The epoch that a channel of this bucket without records adopts with its first.
    pub fn generation(&self, degree: Durability, bucket: u16) -> Epoch {
        let moved = self.moved.get(&(row(degree) as u8, bucket)).copied().unwrap_or(0);
        Epoch(moved.max(self.floors[row(degree)]))
    }

    /// A channel of this bucket was forgotten in `epoch`: later lives of it are later epochs, in either degree.
    pub fn forgot(&mut self, bucket: u16, epoch: Epoch) {
        let next = epoch.0.saturating_add(1);
        for row in 0..2u8 {
            if next > self.floors[usize::from(row)] {
                let moved = self.moved.entry((row, bucket)).or_insert(next);
                *moved = (*moved).max(next);
            }
        }
        self.saw(Epoch(next));
    }

    /// Any channel of `degree` may have lost records: all of them get a new epoch, and what was never written a new generation.
    pub fn lost(&mut self, degree: Durability, now_ms: u64) {
        let next = self.epoch_max.saturating_add(1).max(now_ms);
        self.floors[row(degree)] = next;
        self.moved.retain(|(r, _), _| usize::from(*r) != row(degree));
        self.epoch_max = next;
    }

    /// An epoch is in use.
    pub fn saw(&mut self, epoch: Epoch) {
        self.epoch_max = self.epoch_max.max(epoch.0);
    }

    /// Writes it, in one step that survives a power cut.
    ///
    /// # Errors
    /// The disk is full or fails; what was written before stands.
    pub fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        replace(disk, META, &self.encode())
    }

    /// Reads it; `None` if it is damaged.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    pub fn read(disk: &dyn Disk) -> io::Result<Option<Meta>> {
        let file = disk.open(META)?;
        let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(Meta::decode(Bytes::from(read_exact(&*file, 0, len)?)).ok())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.salt);
        out.put_u64(self.floors[0]);
        out.put_u64(self.floors[1]);
        out.put_u64(self.epoch_max);
        out.put_u64(self.synced);
        out.put_u8(u8::from(self.clean));
        out.put_bytes(self.boot.as_bytes());
        out.put_varint(self.moved.len() as u64);
        for ((row, bucket), epoch) in &self.moved {
            out.put_u8(*row);
            out.extend_from_slice(&bucket.to_le_bytes());
            out.put_varint(*epoch);
        }
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out
    }

    fn decode(data: Bytes) -> Result<Meta, Malformed> {
        let body = data.len().checked_sub(4).ok_or(Malformed("meta"))?;
        let crc = Reader::new(data.slice(body..)).u32("meta")?;
        if crc32c::crc32c(&data[..body]) != crc {
            return Err(Malformed("meta"));
        }
        let mut reader = Reader::new(data.slice(..body));
        if reader.array::<8>("meta")? != MAGIC {
            return Err(Malformed("meta"));
        }
        let salt = reader.array("salt")?;
        let floors = [reader.u64("floor")?, reader.u64("floor")?];
        let (epoch_max, synced) = (reader.u64("epochs")?, reader.u64("synced")?);
        let clean = reader.u8("clean")? != 0;
        let boot = reader.text("boot")?.to_string();
        let mut moved = BTreeMap::new();
        for _ in 0..reader.count(4, "generations")? {
            let row = reader.u8("generation")? & 1;
            let bucket = u16::from_le_bytes(reader.array("generation")?);
            moved.insert((row, bucket), reader.varint("generation")?);
        }
        Ok(Meta { salt, floors, moved, epoch_max, boot, clean, synced })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_survive_their_file() {
        let mut meta = Meta::fresh([3; 16], 100);
        meta.forgot(7, Epoch(100));
        meta.boot = "b".into();
        meta.lost(Durability::Os, 50);
        assert_eq!(meta.generation(Durability::Fsync, 7), Epoch(101));
        assert_eq!(meta.generation(Durability::Fsync, 8), Epoch(100));
        assert_eq!(meta.generation(Durability::Os, 7), Epoch(102));
        assert_eq!(meta.floor(Durability::Os), Epoch(102));
        let bytes = meta.encode();
        assert_eq!(Meta::decode(Bytes::from(bytes.clone())).unwrap(), meta);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Meta::decode(Bytes::from(bad)).is_err());
        }
    }
}
