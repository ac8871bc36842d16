//! The member names that one object schema knows: looked up by the guess that members come in the schema's
//! order, then by hash.

use std::collections::HashMap;

use super::{hash, hash::HashKey, node::NodeId};
use crate::json::Expected;

/// A text that others are compared with.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    pub bytes: Box<[u8]>,
    ends: Ends,
}

impl Fixed {
    pub(super) fn new(text: &str) -> Self {
        let bytes: Box<[u8]> = text.as_bytes().into();
        Self { ends: Ends::of(&bytes), bytes }
    }

    #[inline(always)]
    pub(super) fn is(&self, text: &[u8], ends: Ends) -> bool {
        self.ends == ends && self.bytes.len() == text.len() && (text.len() <= 16 || *self.bytes == *text)
    }
}

/// One known name.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub text: Fixed,
    /// As it is looked for in the text itself.
    pub expected: Option<Expected>,
    /// What the member must be.
    pub child: NodeId,
    /// The member must not be there.
    pub never: bool,
    /// `properties` or `patternProperties` speak of it.
    pub evaluated: bool,
}

impl Name {
    pub(super) fn new(text: &str, child: NodeId, evaluated: bool) -> Self {
        Self { text: Fixed::new(text), expected: Expected::new(text), child, never: false, evaluated }
    }
}

/// The first and the last bytes of a text; with its length, all there is to a text of up to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    head: u64,
    tail: u64,
}

impl Ends {
    #[inline(always)]
    pub(super) fn of(text: &[u8]) -> Self {
        match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (Some(head), Some(tail)) => {
                Self { head: u64::from_le_bytes(*head), tail: u64::from_le_bytes(*tail) }
            }
            _ => Self { head: short(text), tail: 0 },
        }
    }
}

/// Up to 7 bytes as one word; texts of one length have words of their own.
#[inline(always)]
fn short(text: &[u8]) -> u64 {
    match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(head), Some(tail)) => {
            u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << 32
        }
        _ => {
            let byte = |at: usize| u64::from(text.get(at).copied().unwrap_or_default());
            byte(0) | byte(1) << 8 | byte(2) << 16
        }
    }
}

/// All known names of one object schema.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    list: Box<[Name]>,
    /// Open addressing by hash: index into `list` plus one; zero is free. Empty, or a power of two.
    table: Box<[u32]>,
    seed: u64,
}

/// Tries for a table without collisions.
const SEEDS: u64 = 16;

impl Names {
    pub(super) fn new(list: Vec<Name>) -> Self {
        let size = (list.len() * 4).next_power_of_two();
        let mut best = (0, usize::MAX);
        for seed in 0..SEEDS {
            let collisions = collisions(&list, seed, size);
            if collisions < best.1 {
                best = (seed, collisions);
            }
            if collisions == 0 {
                break;
            }
        }
        let mut names = Self { list: list.into(), table: Box::default(), seed: best.0 };
        if !names.list.is_empty() {
            names.fill(size);
        }
        names
    }

    fn fill(&mut self, size: usize) {
        let mut table = vec![0_u32; size];
        for (index, name) in self.list.iter().enumerate() {
            let mut slot = slot(self.seed, &name.text.bytes, size);
            while table[slot] != 0 {
                slot = (slot + 1) & (size - 1); // at most a quarter is taken
            }
            table[slot] = index as u32 + 1; // fewer than the values of the document, which `u32` counts
        }
        self.table = table.into();
    }

    /// Words that a bit for each name takes.
    #[inline]
    pub(super) fn words(&self) -> usize {
        self.list.len().div_ceil(64)
    }

    pub(super) fn list_mut(&mut self) -> &mut [Name] {
        &mut self.list
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Name> {
        self.list.get(index as usize)
    }

    /// The index of `key`, and its name; `guess` is tried first.
    #[inline]
    pub(super) fn find(&self, key: &[u8], guess: u32) -> Option<(u32, &Name)> {
        let ends = Ends::of(key);
        if let Some(name) = self.get(guess)
            && name.text.is(key, ends)
        {
            return Some((guess, name));
        }
        self.find_by_hash(key, ends)
    }

    fn find_by_hash(&self, key: &[u8], ends: Ends) -> Option<(u32, &Name)> {
        if self.table.is_empty() {
            return None;
        }
        let mask = self.table.len() - 1;
        let mut at = slot(self.seed, key, self.table.len());
        loop {
            let index = self.table.get(at)?.checked_sub(1)?;
            let name = self.get(index)?;
            if name.text.is(key, ends) {
                return Some((index, name));
            }
            at = (at + 1) & mask;
        }
    }
}

#[inline]
fn slot(seed: u64, key: &[u8], size: usize) -> usize {
    hash::of(HashKey([seed, !seed]), key) as usize & (size - 1) // the low bits are wanted
}

fn collisions(list: &[Name], seed: u64, size: usize) -> usize {
    let mut seen = HashMap::new();
    for name in list {
        *seen.entry(slot(seed, &name.text.bytes, size)).or_insert(0_usize) += 1;
    }
    seen.values().map(|count| (count - 1) * count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_name_by_guess_and_by_hash_and_nothing_else() {
        for count in [0, 1, 2, 63, 64, 65, 600] {
            let texts: Vec<String> = (0..count).map(|n| format!("{}{n}", "n".repeat(n % 20))).collect();
            let list = texts.iter().map(|text| Name::new(text, NodeId::TRUE, true));
            let names = Names::new(list.collect());
            for (index, text) in texts.iter().enumerate() {
                for guess in [0, index as u32, 1_000] {
                    let found = names.find(text.as_bytes(), guess).map(|(index, _)| index as usize);
                    assert_eq!(found, Some(index));
                }
                assert!(names.find(format!("{text}x").as_bytes(), index as u32).is_none());
            }
            assert!(names.find(b"", 0).is_none());
        }
    }
}
