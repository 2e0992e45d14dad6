//! Segments made in advance, so that a full disk is met here and not in the middle of a write.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, File, is_full};
use crate::index::{OpenIndex, SegmentIndex};
use crate::segment::{SEGMENT_HEADER, Segment, SegmentHeader, segment_name};
use crate::store::{Store, StoreFault, lock};
use crate::write::{WriteFault, Writer};

/// One for the next appends, and one that only what frees space may use.
const PREPARED: usize = 2;

impl Store {
    /// Begins the next segment.
    pub(crate) fn roll(&self, writer: &mut Writer, privileged: bool) -> Result<(), WriteFault> {
        let least = if privileged { 1 } else { PREPARED };
        while lock(&self.state).prepared.len() < least {
            self.prepare()?;
        }
        let mut state = lock(&self.state);
        let Some((number, file)) = state.prepared.pop_first() else { return Err(WriteFault::Full) };
        let header =
            SegmentHeader { number, first_sequence: writer.next, previous: writer.previous, salt: self.salt };
        let len = file.len().and_then(|len| file.write_at(&header.encode(), 0).map(|()| len));
        let len = match len {
            Ok(len) => len,
            Err(fault) => {
                state.prepared.insert(number, file);
                return Err(StoreFault::at("beginning a segment", &fault).into());
            }
        };
        let index = SegmentIndex::Open(OpenIndex::begin(writer.next, writer.previous)).into();
        let segment = Arc::new(Segment { number, file, index });
        state.segments.insert(number, segment.clone());
        writer.unsynced.extend(writer.active.replace(segment));
        (writer.at, writer.len) = (SEGMENT_HEADER, len);
        Ok(())
    }

    /// Makes a segment in advance.
    fn prepare(&self) -> Result<(), WriteFault> {
        let number = {
            let mut state = lock(&self.state);
            state.next_segment += 1;
            state.next_segment - 1
        };
        let made = create_segment(&*self.disk, number, self.options.segment_bytes);
        let mut state = lock(&self.state);
        match made {
            Ok(file) => {
                state.prepared.insert(number, file);
                state.full = false;
                Ok(())
            }
            Err(fault) => {
                // The number was never used, unless another one was made meanwhile.
                if state.next_segment == number + 1 {
                    state.next_segment = number;
                }
                state.full |= is_full(&fault);
                Err(if is_full(&fault) {
                    WriteFault::Full
                } else {
                    StoreFault::at("making a segment", &fault).into()
                })
            }
        }
    }

    /// Makes a spare if one is wanting. True if it made one.
    pub(crate) fn prepare_spare(&self) -> Result<bool, StoreFault> {
        if lock(&self.state).prepared.len() >= PREPARED {
            return Ok(false);
        }
        match self.prepare() {
            Ok(()) => Ok(true),
            Err(WriteFault::Full) => Ok(false),
            Err(WriteFault::Fault(fault)) => Err(fault),
        }
    }
}

/// Creates a blank segment, durably.
fn create_segment(disk: &dyn Disk, number: u32, len: u64) -> io::Result<Arc<dyn File>> {
    let name = segment_name(number);
    let file = disk.create(&name, len)?;
    if let Err(fault) = file.sync().and_then(|()| disk.sync_dir()) {
        let _ = disk.remove(&name);
        return Err(fault);
    }
    Ok(file)
}
