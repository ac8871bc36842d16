//! The same bytes, cut in every way that matters.
//!
//! A push parser must not care where its input was cut. [`every_split`] runs one check over many cuts of
//! one input; a failing cut is printed with its seed.

use crate::seeded::{Seeded, seed};

/// Longest input for which each single cut is tried; above it, both ends and a sample.
const FULL_CUTS_MAX: usize = 2048;
/// How many positions near each end are tried when not all are.
const END_CUTS: usize = 256;
/// How many positions between the ends are tried when not all are.
const SAMPLED_CUTS: usize = 512;
/// How many random splits into several pieces are tried.
const RANDOM_SPLITS: usize = 64;
/// Most cuts of one random split.
const RANDOM_CUTS_MAX: usize = 24;

/// Calls `check` with the pieces of `bytes`:
/// whole; in two pieces at every position (an empty first and an empty last piece included); one byte at
/// a time; and in random pieces, some of them empty. For long input the two-piece cuts are the first and
/// last 256 positions and 512 sampled ones, so the work stays bounded.
///
/// The pieces joined always equal `bytes`. Random cuts follow [`seed`]; on a panic in `check` the cut and
/// the seed are printed.
pub fn every_split(bytes: &[u8], mut check: impl FnMut(&[&[u8]])) {
    let mut rng = Seeded::new(seed());
    run(bytes, &[], &mut check);
    for cut in single_cuts(bytes.len(), &mut rng) {
        run(bytes, &[cut], &mut check);
    }
    let everywhere: Vec<usize> = (1..bytes.len()).collect();
    run(bytes, &everywhere, &mut check);
    for _ in 0..RANDOM_SPLITS {
        run(bytes, &random_cuts(bytes.len(), &mut rng), &mut check);
    }
}

fn single_cuts(len: usize, rng: &mut Seeded) -> Vec<usize> {
    if len <= FULL_CUTS_MAX {
        return (0..=len).collect();
    }
    let mut cuts: Vec<usize> = (0..END_CUTS).chain(len - END_CUTS..=len).collect();
    cuts.extend((0..SAMPLED_CUTS).map(|_| END_CUTS + rng.below(len - 2 * END_CUTS)));
    cuts
}

/// Sorted positions; one that occurs twice makes an empty piece, as real transports do.
fn random_cuts(len: usize, rng: &mut Seeded) -> Vec<usize> {
    let count = 2 + rng.below(RANDOM_CUTS_MAX - 1);
    let mut cuts: Vec<usize> = (0..count).map(|_| rng.below(len + 1)).collect();
    cuts.sort_unstable();
    cuts
}

fn run(bytes: &[u8], cuts: &[usize], check: &mut impl FnMut(&[&[u8]])) {
    let mut pieces = Vec::with_capacity(cuts.len() + 1);
    let mut start = 0;
    for &cut in cuts {
        pieces.push(&bytes[start..cut]);
        start = cut;
    }
    pieces.push(&bytes[start..]);
    let _tells = TellOnPanic { cuts, len: bytes.len() };
    check(&pieces);
}

/// Prints the cut that made the check panic.
struct TellOnPanic<'a> {
    cuts: &'a [usize],
    len: usize,
}

impl Drop for TellOnPanic<'_> {
    #[allow(clippy::print_stderr)] // The failing cut is what makes the failure repeatable.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let (len, seed) = (self.len, seed());
        if self.cuts.len() + 1 == len {
            eprintln!("failing split: {len} bytes one at a time");
        } else {
            eprintln!("failing split: {len} bytes cut at {:?} (ESTOPPEL_SEED={seed})", self.cuts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut seen = Vec::new();
        every_split(bytes, |chunks| seen.push(chunks.iter().map(|chunk| chunk.to_vec()).collect()));
        seen
    }

    #[test]
    fn pieces_always_join_to_the_input() {
        for input in [&b""[..], b"a", b"ab", b"data: x\r\n\r\n"] {
            assert!(splits(input).iter().all(|pieces| pieces.concat() == input));
        }
    }

    #[test]
    fn covers_whole_every_two_pieces_and_single_bytes() {
        let seen = splits(b"abc");
        let expected: [&[&str]; 6] =
            [&["abc"], &["", "abc"], &["a", "bc"], &["ab", "c"], &["abc", ""], &["a", "b", "c"]];
        for pieces in expected {
            let wanted: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
            assert!(seen.contains(&wanted), "{pieces:?}");
        }
    }

    #[test]
    fn work_is_bounded_for_long_input() {
        let long = vec![7; 100_000];
        let mut calls = 0;
        every_split(&long, |chunks| {
            calls += 1;
            assert_eq!(chunks.iter().map(|chunk| chunk.len()).sum::<usize>(), long.len());
        });
        assert!((1000..1200).contains(&calls), "{calls}");
    }

    #[test]
    fn the_same_seed_gives_the_same_splits() {
        assert_eq!(splits(b"hello world"), splits(b"hello world"));
    }
}
