//! RFC 6962 Merkle trees: a growing one that keeps only its frontier, and inclusion proofs (SPEC section 5).

use crate::hash::Hash;

/// A tree that only grows. It keeps the roots of its complete subtrees, largest first: one for each bit that is
/// set in its size.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    size: u64,
    frontier: Vec<Hash>,
}

impl Tree {
    /// A tree of `size` leaves, of which only the roots of the complete subtrees are known: one for each bit that is set in `size`.
    pub(crate) fn resumed(size: u64, frontier: Vec<Hash>) -> Self {
        Self { size, frontier }
    }

    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.frontier.pop() {
                node = Hash::node(left, node);
            }
        }
        self.frontier.push(node);
        self.size += 1;
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The root; of the empty tree it is the hash of nothing.
    pub(crate) fn root(&self) -> Hash {
        let mut nodes = self.frontier.iter().rev();
        match nodes.next() {
            None => Hash::of(b""),
            Some(last) => nodes.fold(*last, |right, left| Hash::node(*left, right)),
        }
    }
}

/// The audit path of leaf `index` (RFC 6962 section 2.1.1), from the leaf up. None when there is no such leaf.
pub(crate) fn audit_path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    let mut path = Vec::new();
    let (mut span, mut at) = (leaves, index);
    while span.len() > 1 {
        let (left, right) = span.split_at_checked(span.len().next_power_of_two() / 2)?;
        let (inner, sibling) = if at < left.len() { (left, right) } else { (right, left) };
        at -= if at < left.len() { 0 } else { left.len() };
        let mut tree = Tree::default();
        sibling.iter().for_each(|leaf| tree.push(*leaf));
        path.push(tree.root());
        span = inner;
    }
    path.reverse();
    (at < span.len()).then_some(path)
}

/// The root to which `path` leads from the leaf at `index` in a tree of `size` leaves (RFC 9162 section 2.1.3.2).
/// None when the path has not the length that this place needs.
pub(crate) fn root_of_path(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut place, mut last) = (index, size - 1);
    let mut node = leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if place & 1 == 1 || place == last {
            node = Hash::node(*sibling, node);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            node = Hash::node(node, *sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    if last == 0 { Some(node) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The inputs and roots of the Certificate Transparency tests, used by every implementation of RFC 6962.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn unhex(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn leaves(count: usize) -> Vec<Hash> {
        LEAVES[..count].iter().map(|leaf| Hash::leaf(&unhex(leaf))).collect()
    }

    /// RFC 6962 section 2.1, as it is written there.
    fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of(b""),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                Hash::node(root(left), root(right))
            }
        }
    }

    /// RFC 6962 section 2.1.1, as it is written there.
    fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let at = split(leaves.len());
        let (left, right) = leaves.split_at(at);
        let (mut inner, sibling) =
            if index < at { (path(index, left), root(right)) } else { (path(index - at, right), root(left)) };
        inner.push(sibling);
        inner
    }

    fn split(count: usize) -> usize {
        count.next_power_of_two() / 2
    }

    #[test]
    fn roots_are_those_of_the_known_tree() {
        let mut tree = Tree::default();
        assert_eq!(tree.root().hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (count, leaf) in leaves(8).into_iter().enumerate() {
            tree.push(leaf);
            assert_eq!(tree.root().hex(), ROOTS[count]);
            assert_eq!(tree.size(), count as u64 + 1);
        }
    }

    #[test]
    fn known_proofs_lead_to_the_root() {
        let leaves = leaves(8);
        let proof = |hexes: &[&str]| hexes.iter().map(|hex| Hash::of_hex(hex.as_bytes()).unwrap()).collect();
        let known: [(u64, u64, Vec<Hash>); 3] = [
            (0, 1, proof(&[])),
            (
                0,
                8,
                proof(&[
                    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
                ]),
            ),
            (2, 3, proof(&["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"])),
        ];
        for (index, size, path) in known {
            let found = root_of_path(leaves[index as usize], index, size, &path).unwrap();
            assert_eq!(found.hex(), ROOTS[size as usize - 1], "{index} of {size}");
        }
    }

    proptest! {
        #[test]
        fn the_frontier_and_the_recursion_agree(count in 0usize..200) {
            let leaves: Vec<Hash> = (0..count).map(|n| Hash::leaf(&n.to_le_bytes())).collect();
            let mut tree = Tree::default();
            leaves.iter().for_each(|leaf| tree.push(*leaf));
            prop_assert_eq!(tree.root(), root(&leaves));
        }

        #[test]
        fn only_the_right_path_at_the_right_place_leads_to_the_root(
            size in 1usize..80, pick in 0usize..80, other in 0u64..90, drop in 0usize..8,
        ) {
            let leaves: Vec<Hash> = (0..size).map(|n| Hash::leaf(&n.to_le_bytes())).collect();
            let index = pick % size;
            let proof = path(index, &leaves);
            prop_assert_eq!(audit_path(&leaves, index), Some(proof.clone()));
            prop_assert_eq!(audit_path(&leaves, size), None);
            let (at, of) = (index as u64, size as u64);
            prop_assert_eq!(root_of_path(leaves[index], at, of, &proof), Some(root(&leaves)));
            if other != at {
                prop_assert_ne!(root_of_path(leaves[index], other, of, &proof), Some(root(&leaves)));
            }
            let mut longer = proof.clone();
            longer.push(leaves[0]);
            prop_assert_eq!(root_of_path(leaves[index], at, of, &longer), None);
            if drop < proof.len() {
                let mut shorter = proof.clone();
                shorter.remove(drop);
                prop_assert_eq!(root_of_path(leaves[index], at, of, &shorter), None);
            }
        }
    }
}
