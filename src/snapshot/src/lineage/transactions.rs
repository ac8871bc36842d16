//! A set of transactions that are near to one another, in bits.

use std::collections::BTreeMap;

use crate::error::SnapshotError;

/// Bits of one part, in words of 64.
const WORDS: usize = 64;
const PART: u64 = 4_096;
/// Most parts: 8 MiB, or 67 million transactions in a row.
const PARTS_MAX: usize = 16_384;

#[derive(Default, Debug)]
pub(super) struct Transactions(BTreeMap<u64, Box<[u64; WORDS]>>);

impl Transactions {
    /// # Errors
    /// There are too many.
    pub fn insert(&mut self, transaction: u64) -> Result<(), SnapshotError> {
        let (part, word, bit) = place(transaction);
        if self.0.len() == PARTS_MAX && !self.0.contains_key(&part) {
            return Err(SnapshotError::TooMany);
        }
        if let Some(word) = self.0.entry(part).or_insert_with(|| Box::new([0; WORDS])).get_mut(word) {
            *word |= bit;
        }
        Ok(())
    }

    pub fn contains(&self, transaction: u64) -> bool {
        let (part, word, bit) = place(transaction);
        self.0.get(&part).and_then(|part| part.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// Nobody asks for older ones any more; some of them may stay.
    pub fn forget_below(&mut self, transaction: u64) {
        self.0 = self.0.split_off(&place(transaction).0);
    }
}

fn place(transaction: u64) -> (u64, usize, u64) {
    let in_part = transaction % PART;
    // Below 64.
    (transaction / PART, (in_part / 64) as usize, 1 << (in_part % 64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_in_is_there_and_nothing_else(
            put in prop::collection::btree_set(0..40_000_u64, 0..200),
            asked in prop::collection::vec(0..40_000_u64, 0..200),
            floor in 0..40_000_u64,
        ) {
            let mut set = Transactions::default();
            put.iter().for_each(|one| set.insert(*one).unwrap());
            prop_assert!(put.iter().all(|one| set.contains(*one)));
            prop_assert!(asked.iter().all(|one| set.contains(*one) == put.contains(one)));
            set.forget_below(floor);
            prop_assert!(asked.iter().filter(|one| **one >= floor).all(|one| set.contains(*one) == put.contains(one)));
        }
    }

    #[test]
    fn memory_has_an_end() {
        let mut set = Transactions::default();
        for part in 0..PARTS_MAX as u64 {
            set.insert(part * PART).unwrap();
        }
        set.insert(7).unwrap();
        assert!(matches!(set.insert(PARTS_MAX as u64 * PART), Err(SnapshotError::TooMany)));
        set.forget_below(PART);
        set.insert(PARTS_MAX as u64 * PART).unwrap();
    }
}
