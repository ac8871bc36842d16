//! The instance tree: its right edge in memory, its hashes in a file for inclusion proofs.
//!
//! The file `hashes` is derived from the segments and can be lost: recovery compares it with what it recomputes and
//! writes what differs. It holds each leaf followed by the hashes of the subtrees which that leaf completes, so it is
//! only ever appended to, and a proof reads O(log² n) hashes instead of n. Nothing relies on its content: a proof that
//! does not lead to the signed root is made again from the segments.

use std::io;

use estoppel_evidence::hash::{Leaf, Root};
use estoppel_evidence::tree::{Frontier, node};
use sha2::Digest as _;

use crate::storage::{StorageFile, read_full};

/// Bytes that wait at most before they are written.
const PENDING_BYTES_MAX: usize = 64 << 10;
const HASH_BYTES: u64 = 32;

/// The instance tree.
pub(crate) struct HashIndex {
    size: u64,
    /// Roots of the full subtrees from the largest to the smallest: one per set bit of `size`.
    peaks: Vec<[u8; 32]>,
    pending: Vec<u8>,
    written: u64,
    /// None once it could not be written: proofs are then made from the segments.
    file: Option<Box<dyn StorageFile>>,
}

impl HashIndex {
    /// An empty tree whose hashes go to `file`.
    pub fn new(file: Box<dyn StorageFile>) -> Self {
        Self { size: 0, peaks: Vec::new(), pending: Vec::new(), written: 0, file: Some(file) }
    }

    /// A tree of which nothing is kept but its right edge.
    pub fn in_memory() -> Self {
        Self { size: 0, peaks: Vec::new(), pending: Vec::new(), written: 0, file: None }
    }

    /// Goes on from a tree whose first leaves are not there any more. What the file holds of them stays in it.
    pub fn begin(&mut self, frontier: &Frontier) {
        self.size = frontier.size();
        self.peaks = frontier.peaks().map(|peak| peak.0).collect();
        // Each leaf, and each subtree that is full: two for a leaf, less one for each tree that stands alone.
        self.written = (2 * self.size - u64::from(self.size.count_ones())) * HASH_BYTES;
    }

    /// Roots of the full subtrees, from the largest to the smallest.
    pub fn peaks(&self) -> impl Iterator<Item = Root> {
        self.peaks.iter().map(|peak| Root(*peak))
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds one leaf.
    pub fn push(&mut self, leaf: Leaf) {
        let mut hash = leaf.0;
        self.pending.extend_from_slice(&hash);
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one peak per set bit of the size");
            hash = node(&left, &hash);
            self.pending.extend_from_slice(&hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root over all leaves.
    pub fn root(&self) -> Root {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Root(sha2::Sha256::digest([]).into()),
            Some(last) => Root(peaks.fold(*last, |right, left| node(left, &right))),
        }
    }

    /// As [`HashIndex::flush`] once that is worth a write.
    pub fn flush_many(&mut self) {
        if self.pending.len() >= PENDING_BYTES_MAX {
            self.flush();
        }
    }

    /// Writes what waits. An error is logged and ends the file's use; evidence does not depend on it.
    pub fn flush(&mut self) {
        if let Some(file) = &self.file
            && let Err(error) = file.write_at(&self.pending, self.written)
        {
            tracing::warn!(%error, "the hash index cannot be written; proofs are made from the segments");
            self.file = None;
        }
        self.written += self.pending.len() as u64; // a length fits
        self.pending.clear();
    }

    /// As [`HashIndex::push`] while the journal is read back: writes only what the file does not hold already.
    pub fn restore(&mut self, leaf: Leaf) {
        self.push(leaf);
        if self.pending.len() >= PENDING_BYTES_MAX {
            self.settle();
        }
    }

    /// Ends reading back.
    pub fn settle(&mut self) {
        let mut found = vec![0; self.pending.len()];
        let same = match &self.file {
            Some(file) => read_full(&**file, &mut found, self.written).is_ok() && found == self.pending,
            None => false,
        };
        if same {
            self.written += self.pending.len() as u64; // a length fits
            self.pending.clear();
        } else {
            self.flush();
        }
    }
}

/// Inclusion path of leaf `index` in the tree over the first `size` leaves, from the file `hashes`.
///
/// # Errors
/// The file cannot be read or is too short, or there is no such leaf.
pub(crate) fn path(file: &dyn StorageFile, index: u64, size: u64) -> io::Result<Vec<[u8; 32]>> {
    siblings(index, size).into_iter().map(|(from, to)| subtree(file, from, to)).collect()
}

/// Ranges of leaves whose roots are the inclusion path of leaf `index`, in the order of the path (RFC 6962 section
/// 2.1.1). Empty when there is no such leaf.
pub(crate) fn siblings(index: u64, size: u64) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    let (mut from, mut to) = (0, size);
    while index < to && to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            out.push((middle, to));
            to = middle;
        } else {
            out.push((from, middle));
            from = middle;
        }
    }
    out.reverse();
    out
}

/// The largest power of two below `n`, for n > 1.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

fn subtree(file: &dyn StorageFile, from: u64, to: u64) -> io::Result<[u8; 32]> {
    let count = to - from;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        let mut hash = [0; 32];
        let offset = position(level, from >> level) * HASH_BYTES;
        return match read_full(file, &mut hash, offset)? {
            32 => Ok(hash),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        };
    }
    let middle = from + split(count);
    Ok(node(&subtree(file, from, middle)?, &subtree(file, middle, to)?))
}

/// Where the hash of the `n`th subtree of 2^level leaves stands in the file, counted in hashes.
fn position(level: u32, n: u64) -> u64 {
    // It is written right after its last leaf and the smaller subtrees which that leaf completes.
    let mut leaf = ((n + 1) << level) - 1;
    let mut before = u64::from(level);
    while leaf > 0 {
        before += leaf;
        leaf >>= 1;
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{FileSystem, Storage as _};
    use estoppel_evidence::tree;

    fn leaf(n: u64) -> Leaf {
        Leaf::of(&n.to_be_bytes())
    }

    #[test]
    fn root_and_paths_are_those_of_the_plain_tree_at_every_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = HashIndex::new(FileSystem.open_write(&dir.path().join("hashes")).unwrap());
        let mut leaves = Vec::new();
        for n in 0..70 {
            assert_eq!(index.root(), tree::root(&leaves));
            index.push(leaf(n));
            leaves.push(leaf(n).0);
        }
        index.flush();
        let file = FileSystem.open(&dir.path().join("hashes")).unwrap();
        for size in 1..=leaves.len() {
            for at in 0..size {
                let expected = tree::inclusion(&leaves[..size], at).unwrap();
                assert_eq!(path(&*file, at as u64, size as u64).unwrap(), expected, "{at} of {size}");
            }
        }
    }

    #[test]
    fn a_tree_that_goes_on_from_its_right_edge_writes_what_a_whole_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| FileSystem.open_write(&dir.path().join(name)).unwrap();
        for from in 1..40 {
            let mut whole = HashIndex::new(file("whole"));
            let mut before = Frontier::default();
            (0..from).for_each(|n| before.push(leaf(n)));
            (0..50).for_each(|n| whole.push(leaf(n)));
            whole.flush();
            std::fs::copy(dir.path().join("whole"), dir.path().join("part")).unwrap();
            file("part").set_len((2 * from - u64::from(from.count_ones())) * HASH_BYTES).unwrap();
            let mut part = HashIndex::new(file("part"));
            part.begin(&before);
            (from..50).for_each(|n| part.restore(leaf(n)));
            part.settle();
            assert_eq!(part.root(), whole.root());
            let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
            assert!(read("part") == read("whole"), "{from}");
        }
    }

    #[test]
    fn reading_back_mends_a_damaged_file() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("hashes");
        let fill = |index: &mut HashIndex| (0..50).for_each(|n| index.restore(leaf(n)));
        let mut index = HashIndex::new(FileSystem.open_write(&name).unwrap());
        fill(&mut index);
        index.settle();
        let good = std::fs::read(&name).unwrap();
        for damage in [vec![], good[..100].to_vec(), vec![7; good.len()]] {
            std::fs::write(&name, damage).unwrap();
            let mut index = HashIndex::new(FileSystem.open_write(&name).unwrap());
            fill(&mut index);
            index.settle();
            assert_eq!(std::fs::read(&name).unwrap(), good);
        }
    }

    #[test]
    fn there_is_no_path_of_a_leaf_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileSystem.open_write(&dir.path().join("hashes")).unwrap();
        assert!(path(&*file, 0, 2).is_err());
        assert!(siblings(5, 5).is_empty());
    }
}
