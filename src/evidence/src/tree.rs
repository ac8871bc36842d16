//! RFC 6962 Merkle trees: a frontier that grows by one leaf at a time, and proofs over known leaves.
//!
//! The frontier keeps one hash per set bit of the tree's size, so appending is O(1) amortized and it can be stored
//! in a few hundred bytes. Proofs need the leaf hashes and are made when something is sealed, never per call.

use sha2::Digest as _;

use crate::hash::{Leaf, Root};

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right) (RFC 6962 section 2.1).
pub fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hasher = sha2::Sha256::new_with_prefix([1]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// The right edge of a growing tree.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the full subtrees from the largest to the smallest: one per set bit of `size`.
    peaks: Vec<[u8; 32]>,
}

impl Frontier {
    /// The frontier of a tree of `size` leaves whose full subtrees have these roots, from the largest to the smallest; none unless
    /// there is one for each bit that is set in `size`.
    pub fn resumed(size: u64, peaks: &[Root]) -> Option<Self> {
        let fits = u32::try_from(peaks.len()) == Ok(size.count_ones());
        fits.then(|| Self { size, peaks: peaks.iter().map(|peak| peak.0).collect() })
    }

    /// The leaves `from..to`, or as many of them as there are, where they are made of full subtrees; none otherwise.
    pub fn part(&self, from: u64, to: u64) -> Option<Self> {
        let (mut at, mut taken) = (0_u64, Self::default());
        for peak in &self.peaks {
            let leaves = 1 << (self.size - at).checked_ilog2()?;
            let is_within = at >= from && at + leaves <= to;
            match is_within {
                true => {
                    taken.peaks.push(*peak);
                    taken.size += leaves;
                }
                false if at < to && at + leaves > from => return None,
                false => {}
            }
            at += leaves;
        }
        (taken.size > 0).then_some(taken)
    }

    /// Roots of the full subtrees, from the largest to the smallest: one for each bit that is set in the size.
    pub fn peaks(&self) -> impl Iterator<Item = Root> {
        self.peaks.iter().map(|peak| Root(*peak))
    }

    /// The number of leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds one leaf.
    pub fn push(&mut self, leaf: Leaf) {
        self.push_hash(leaf.0);
    }

    /// Adds one leaf by its 32-byte hash.
    pub fn push_hash(&mut self, leaf: [u8; 32]) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one peak per set bit of the size");
            hash = node(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Inclusion path of the leaf that is pushed next, in the tree that ends with it.
    pub fn next_path(&self) -> Vec<[u8; 32]> {
        self.peaks.iter().rev().copied().collect()
    }

    /// The frontier of a full subtree of `size` leaves (a power of two) followed by `tail`, which has fewer.
    pub(crate) fn joined(full: [u8; 32], size: u64, tail: &Self) -> Self {
        debug_assert!(size.is_power_of_two() && tail.size < size);
        let mut peaks = vec![full];
        peaks.extend_from_slice(&tail.peaks);
        Self { size: size + tail.size, peaks }
    }

    /// The root over the leaves so far.
    pub fn root(&self) -> Root {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return Root(sha2::Sha256::digest([]).into());
        };
        Root(peaks.fold(*last, |right, left| node(left, &right)))
    }
}

/// Root over a list of leaf hashes.
pub fn root(leaves: &[[u8; 32]]) -> Root {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push_hash(*leaf));
    frontier.root()
}

/// The largest power of two below `n`, for n > 1 (RFC 6962 section 2.1).
fn split(n: usize) -> usize {
    1 << (usize::BITS - 1 - (n - 1).leading_zeros())
}

/// Inclusion path of leaf `index` in the tree over `leaves` (RFC 6962 section 2.1.1); `None` when there is no such leaf.
pub fn inclusion(leaves: &[[u8; 32]], index: usize) -> Option<Vec<[u8; 32]>> {
    if index >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    let (mut span, mut at) = (leaves, index);
    while span.len() > 1 {
        let (left, right) = span.split_at(split(span.len()));
        if at < left.len() {
            path.push(root(right).0);
            span = left;
        } else {
            path.push(root(left).0);
            at -= left.len();
            span = right;
        }
    }
    path.reverse();
    Some(path)
}

/// Consistency proof between the first `old` leaves and all of `leaves` (RFC 6962 section 2.1.2); `None` unless
/// 0 < old ≤ number of leaves.
pub fn consistency(leaves: &[[u8; 32]], old: usize) -> Option<Vec<[u8; 32]>> {
    if old == 0 || old > leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    let (mut span, mut old, mut whole) = (leaves, old, true);
    while old != span.len() {
        let (left, right) = span.split_at(split(span.len()));
        if old <= left.len() {
            path.push(root(right).0);
            span = left;
        } else {
            path.push(root(left).0);
            old -= left.len();
            span = right;
            whole = false;
        }
    }
    if !whole {
        path.push(root(span).0);
    }
    path.reverse();
    Some(path)
}

/// Whether `path` leads from `leaf` at `index` to `root` in a tree of `size` leaves (RFC 9162 section 2.1.3.2).
pub fn includes(leaf: Leaf, index: u64, size: u64, path: &[[u8; 32]], root: Root) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf.0);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{from_hex, hex};

    /// The eight entries of the RFC 6962 reference tree.
    const ENTRIES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

    fn leaves() -> Vec<[u8; 32]> {
        let bytes = |text: &str| {
            text.as_bytes()
                .chunks(2)
                .map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap())
                .collect::<Vec<_>>()
        };
        ENTRIES.iter().map(|entry| Leaf::of(&bytes(entry)).0).collect()
    }

    #[test]
    fn roots_are_those_of_the_reference_tree() {
        let expected = [
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        for (size, text) in expected {
            assert_eq!(hex(&root(&leaves()[..size]).0), text);
        }
        assert_eq!(hex(&root(&[]).0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn inclusion_path_of_the_reference_tree() {
        let path = inclusion(&leaves(), 0).unwrap();
        let expected = [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ];
        assert_eq!(path.iter().map(|h| hex(h)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn consistency_proof_of_the_reference_tree() {
        let proof = consistency(&leaves(), 6).unwrap();
        let expected = [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(proof.iter().map(|h| hex(h)).collect::<Vec<_>>(), expected);
        assert_eq!(from_hex::<32>(expected[0]), Some(proof[0]));
    }

    #[test]
    fn every_path_proves_its_leaf_and_no_other() {
        let leaves: Vec<[u8; 32]> = (0u32..40).map(|n| Leaf::of(&n.to_be_bytes()).0).collect();
        for size in 1..=leaves.len() {
            let tree = root(&leaves[..size]);
            for index in 0..size {
                let path = inclusion(&leaves[..size], index).unwrap();
                for other in 0..size {
                    let holds = includes(Leaf(leaves[index]), other as u64, size as u64, &path, tree);
                    assert_eq!(holds, other == index, "{index} at {other} of {size}");
                }
            }
        }
    }

    #[test]
    fn the_next_leaf_s_path_is_known_before_it_comes() {
        let mut frontier = Frontier::default();
        for n in 0u64..40 {
            let leaf = Leaf::of(&n.to_be_bytes());
            let path = frontier.next_path();
            frontier.push(leaf);
            assert!(includes(leaf, n, n + 1, &path, frontier.root()), "{n}");
        }
    }

    #[test]
    fn frontier_and_list_agree_at_every_size() {
        let mut frontier = Frontier::default();
        let mut list = Vec::new();
        for n in 0u32..70 {
            assert_eq!(frontier.root(), root(&list));
            frontier.push(Leaf::of(&n.to_be_bytes()));
            list.push(Leaf::of(&n.to_be_bytes()).0);
        }
    }
}
