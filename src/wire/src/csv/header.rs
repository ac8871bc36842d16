//! The names of the columns, kept while the body is read.

use std::collections::HashSet;

use crate::as_u64;

/// The header row.
#[derive(Debug, Default)]
pub struct Header {
    /// All names, one after the other.
    text: Vec<u8>,
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    /// Where its name ends in the text.
    end: usize,
    /// Where its field begins in the body.
    offset: u64,
}

impl Header {
    /// How many columns there are.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The name of a column, from 0: UTF-8.
    pub fn name(&self, column: usize) -> Option<&[u8]> {
        let start = match column.checked_sub(1) {
            Some(before) => self.cells.get(before)?.end,
            None => 0,
        };
        self.text.get(start..self.cells.get(column)?.end)
    }

    /// All names in order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|column| self.name(column))
    }

    /// Where the field of a column begins in the body.
    pub(super) fn offset(&self, column: usize) -> Option<u64> {
        self.cells.get(column).map(|cell| cell.offset)
    }

    pub(super) fn push(&mut self, name: &[u8], offset: u64) {
        self.text.extend_from_slice(name);
        self.cells.push(Cell { end: self.text.len(), offset });
    }

    /// The first column whose name stood before.
    pub(super) fn duplicate(&self) -> Option<usize> {
        let mut seen = HashSet::with_capacity(self.len());
        self.names().position(|name| !seen.insert(name))
    }

    /// Bytes kept.
    pub(super) fn held_bytes(&self) -> u64 {
        as_u64(self.text.capacity() + self.cells.capacity() * size_of::<Cell>())
    }
}
