//! Sets of hashes, one for each open container that needs one, in one stretch of memory.
//!
//! Containers close in the reverse order of opening, and only the innermost one grows: so the sets are a stack.

/// A set in [`Sets`]. Copied out of the frame that has it, changed, and put back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Set {
    start: u32,
    /// Slots taken up; hashes in order as long as there are few, a table after that.
    slots: u32,
    len: u32,
}

impl Set {
    pub(super) const EMPTY: Self = Self { start: 0, slots: 0, len: 0 };
}

/// Up to so many hashes are simply looked through.
const FEW: u32 = 12;

/// What came of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insert {
    New,
    Twice,
    Full,
}

#[derive(Debug)]
pub(super) struct Sets {
    slots: Vec<u64>,
    /// Hashes in all sets together.
    len: usize,
    len_max: usize,
}

impl Sets {
    pub(super) fn new(len_max: usize) -> Self {
        Self { slots: Vec::new(), len: 0, len_max: len_max.min(u32::MAX as usize / 16) }
    }

    /// An empty set of the container that opens now.
    #[inline]
    pub(super) fn open(&self) -> Set {
        Set { start: self.slots.len() as u32, slots: 0, len: 0 } // see `new`: at most 16 slots for each hash
    }

    pub(super) fn has_room(&self) -> bool {
        self.len < self.len_max
    }

    /// The container closes.
    #[inline]
    pub(super) fn close(&mut self, set: Set) {
        if set.len > 0 {
            self.slots.truncate(set.start as usize);
            self.len -= set.len as usize;
        }
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.len = 0;
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.slots.capacity() * 8
    }

    /// Puts `hash`, which is not zero, into the set of the innermost container.
    #[inline]
    pub(super) fn insert(&mut self, set: &mut Set, hash: u64) -> Insert {
        if self.len >= self.len_max {
            return Insert::Full;
        }
        if set.len < FEW {
            let own = self.slots.get(set.start as usize..).unwrap_or_default();
            if own.contains(&hash) {
                return Insert::Twice;
            }
            self.slots.push(hash);
            set.slots += 1;
        } else {
            if set.len == FEW || set.len * 2 > set.slots {
                self.grow(set);
            }
            if !self.place(set, hash) {
                return Insert::Twice;
            }
        }
        set.len += 1;
        self.len += 1;
        Insert::New
    }

    /// Rebuilds the set as a table of four times its size.
    #[cold]
    fn grow(&mut self, set: &mut Set) {
        let start = set.start as usize;
        let slots = (set.len as usize * 4).next_power_of_two();
        let held = set.slots as usize;
        self.slots.resize(start + held + slots, 0);
        for index in start..start + held {
            let hash = self.slots.get(index).copied().unwrap_or_default();
            if hash != 0 {
                put(self.slots.get_mut(start + held..).unwrap_or_default(), hash);
            }
        }
        self.slots.drain(start..start + held);
        set.slots = slots as u32; // see `new`
    }

    fn place(&mut self, set: &Set, hash: u64) -> bool {
        put(self.slots.get_mut(set.start as usize..).unwrap_or_default(), hash)
    }
}

/// Puts a hash into a table of a power of two; false if it is there.
fn put(table: &mut [u64], hash: u64) -> bool {
    let mask = table.len().wrapping_sub(1);
    let mut at = hash as usize & mask; // the low bits are wanted
    while let Some(slot) = table.get_mut(at) {
        if *slot == hash {
            return false;
        }
        if *slot == 0 {
            *slot = hash;
            return true;
        }
        at = (at + 1) & mask; // at most half is taken
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        (n % 7) << 40 | n << 1 | 1 << 63
    }

    #[test]
    fn nested_sets_know_their_own() {
        let mut sets = Sets::new(100_000);
        let mut outer = sets.open();
        for n in 0..3_000 {
            assert_eq!(sets.insert(&mut outer, hash(n)), Insert::New);
            if n % 500 == 0 {
                let mut inner = sets.open();
                for n in 0..100 {
                    assert_eq!(sets.insert(&mut inner, hash(n)), Insert::New);
                }
                assert_eq!(sets.insert(&mut inner, hash(50)), Insert::Twice);
                sets.close(inner);
            }
            assert_eq!(sets.insert(&mut outer, hash(n / 2)), Insert::Twice);
        }
        sets.close(outer);
        assert_eq!((sets.len, sets.slots.len()), (0, 0));
    }

    #[test]
    fn is_full_at_its_limit() {
        let mut sets = Sets::new(20);
        let mut set = sets.open();
        (0..20).for_each(|n| assert_eq!(sets.insert(&mut set, hash(n)), Insert::New));
        assert_eq!(sets.insert(&mut set, hash(20)), Insert::Full);
        sets.close(set);
        assert_eq!(sets.insert(&mut sets.open(), hash(20)), Insert::New);
    }
}
