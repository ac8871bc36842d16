//! Which values of a column were seen, as keyed hashes.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::super::Finding;

/// The values of all unique columns of one body.
///
/// Of each value 128 bits are kept, under keys that nobody knows, so a body cannot be made to look as if a value
/// came twice, and two values that share a hash by chance are not to be expected in any body.
#[derive(Debug)]
pub(super) struct UniqueValues {
    keys: [RandomState; 2],
    seen: HashSet<u128>,
    values_max: usize,
}

impl UniqueValues {
    pub(super) fn new(values_max: usize) -> Self {
        Self { keys: [RandomState::new(), RandomState::new()], seen: HashSet::new(), values_max }
    }

    /// Notes a value of a column. A full set is a finding: what cannot be remembered is not known to be unique.
    pub(super) fn note(&mut self, column: usize, value: impl Hash) -> Result<(), Finding> {
        let [high, low] = self.keys.each_ref().map(|key| {
            let mut hasher = key.build_hasher();
            hasher.write_usize(column);
            value.hash(&mut hasher);
            u128::from(hasher.finish())
        });
        let hash = high << 64 | low;
        if self.seen.contains(&hash) {
            return Err(Finding::ValueDuplicate);
        }
        if self.seen.len() >= self.values_max {
            return Err(Finding::UniqueValuesMax);
        }
        self.seen.insert(hash);
        Ok(())
    }

    pub(super) fn held_bytes(&self) -> usize {
        // The table keeps a byte beside each place, and an eighth of the places is free.
        self.seen.capacity() * (size_of::<u128>() + 1) * 8 / 7
    }
}
