//! Which segments contain something of a channel: all that is kept in memory of one that sleeps.

use std::collections::HashMap;

use crate::hash::Hashed;

/// A map from a channel's hash to segment numbers, some 30 to 60 bytes per channel.
#[derive(Default)]
pub struct Slots {
    map: HashMap<u64, Slot, Hashed>,
}

/// Up to three segments need no allocation; 0 is no segment.
// A list without its own box would make every slot half as large again.
#[allow(clippy::box_collection)]
enum Slot {
    Few([u32; 3]),
    Many(Box<Vec<u32>>),
}

impl Slots {
    /// `segment` contains something of the channel.
    pub fn add(&mut self, slot: u64, segment: u32) {
        match self.map.entry(slot).or_insert(Slot::Few([0; 3])) {
            Slot::Many(list) => {
                if !list.contains(&segment) {
                    list.push(segment);
                }
            }
            place @ Slot::Few(_) => {
                let Slot::Few(few) = place else { return };
                if few.contains(&segment) {
                    return;
                }
                match few.iter_mut().find(|n| **n == 0) {
                    Some(free) => *free = segment,
                    None => {
                        let mut list = few.to_vec();
                        list.push(segment);
                        *place = Slot::Many(Box::new(list));
                    }
                }
            }
        }
    }

    /// `segment` is gone.
    pub fn remove(&mut self, slot: u64, segment: u32) {
        let Some(place) = self.map.get_mut(&slot) else { return };
        let empty = match place {
            Slot::Few(few) => {
                few.iter_mut().filter(|n| **n == segment).for_each(|n| *n = 0);
                *few == [0; 3]
            }
            Slot::Many(list) => {
                list.retain(|n| *n != segment);
                list.is_empty()
            }
        };
        if empty {
            self.map.remove(&slot);
        }
    }

    /// The segments that contain something of the channel, ascending.
    pub fn get(&self, slot: u64) -> Vec<u32> {
        let mut list = match self.map.get(&slot) {
            None => Vec::new(),
            Some(Slot::Few(few)) => few.iter().copied().filter(|n| *n != 0).collect(),
            Some(Slot::Many(list)) => list.to_vec(),
        };
        list.sort_unstable();
        list
    }

    /// How many channels there are (those that share a hash count once).
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Bytes of memory, without what the longest lists need.
    pub fn bytes(&self) -> usize {
        let many: usize = self
            .map
            .values()
            .map(|s| if let Slot::Many(list) = s { 24 + list.capacity() * 4 } else { 0 })
            .sum();
        // A table of power-of-two size at most 7/8 full, one control byte per place.
        let places = (self.map.capacity() * 8 / 7).next_power_of_two();
        places * (size_of::<(u64, Slot)>() + 1) + many
    }
}
