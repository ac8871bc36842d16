//! As many pairs of overlapping spans as there can be.

use std::collections::BTreeSet;

/// A span of time and what has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub from: u64,
    pub to: u64,
    pub of: usize,
}

/// Pairs spans of the left with spans of the right that overlap, each at most once, and as many as possible.
///
/// Whatever ends first overlaps only with what contains its end; of that, what itself ends first can overlap with nothing that
/// the others could not. So taking it never costs a pair.
pub(crate) fn pairs(left: &[Span], right: &[Span]) -> Vec<(usize, usize)> {
    let mut sides = [Side::new(left), Side::new(right)];
    let mut ends: Vec<(u64, usize, usize)> = Vec::with_capacity(left.len() + right.len());
    for (side, spans) in [left, right].into_iter().enumerate() {
        ends.extend(spans.iter().map(|span| (span.to, side, span.of)));
    }
    ends.sort_unstable();
    let mut found = Vec::new();
    for (end, side, of) in ends {
        let [left, right] = &mut sides;
        let (own, other) = if side == 0 { (left, right) } else { (right, left) };
        own.open_until(end);
        other.open_until(end);
        if !own.open.remove(&(end, of)) {
            continue;
        }
        if let Some((_, partner)) = other.open.pop_first() {
            found.push(if side == 0 { (of, partner) } else { (partner, of) });
        }
    }
    found
}

/// Spans of one side that have begun and are free, by their ends.
struct Side {
    /// Those that have not begun, the next one last.
    coming: Vec<Span>,
    open: BTreeSet<(u64, usize)>,
}

impl Side {
    fn new(spans: &[Span]) -> Self {
        let mut coming = spans.to_vec();
        coming.sort_unstable_by_key(|span| std::cmp::Reverse((span.from, span.to, span.of)));
        Self { coming, open: BTreeSet::new() }
    }

    fn open_until(&mut self, end: u64) {
        while let Some(span) = self.coming.pop_if(|span| span.from <= end) {
            self.open.insert((span.to, span.of));
        }
    }
}

/// How many of some spans overlap with one.
pub(crate) struct Overlaps {
    froms: Vec<u64>,
    tos: Vec<u64>,
}

impl Overlaps {
    pub(crate) fn of(spans: &[Span]) -> Self {
        let sorted = |of: fn(&Span) -> u64| {
            let mut list: Vec<u64> = spans.iter().map(of).collect();
            list.sort_unstable();
            list
        };
        Self { froms: sorted(|span| span.from), tos: sorted(|span| span.to) }
    }

    pub(crate) fn with(&self, span: &Span) -> usize {
        let begun = self.froms.partition_point(|from| *from <= span.to);
        begun - self.tos.partition_point(|to| *to < span.from)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn overlap(a: &Span, b: &Span) -> bool {
        a.from <= b.to && b.from <= a.to
    }

    /// The largest number of pairs, by augmenting paths.
    fn largest(left: &[Span], right: &[Span]) -> usize {
        fn augment(at: usize, edges: &[Vec<usize>], seen: &mut [bool], of: &mut [Option<usize>]) -> bool {
            for &to in &edges[at] {
                if !std::mem::replace(&mut seen[to], true)
                    && of[to].is_none_or(|taken| augment(taken, edges, seen, of))
                {
                    of[to] = Some(at);
                    return true;
                }
            }
            false
        }
        let edges: Vec<Vec<usize>> =
            left.iter().map(|a| (0..right.len()).filter(|at| overlap(a, &right[*at])).collect()).collect();
        let mut of = vec![None; right.len()];
        (0..left.len()).filter(|at| augment(*at, &edges, &mut vec![false; right.len()], &mut of)).count()
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        proptest::collection::vec((0_u64..30, 0_u64..12), 0..12).prop_map(|list| {
            let span = |(of, (from, long)): (usize, (u64, u64))| Span { from, to: from + long, of };
            list.into_iter().enumerate().map(span).collect()
        })
    }

    proptest! {
        #[test]
        fn pairs_overlap_and_there_are_as_many_as_there_can_be(left in spans(), right in spans()) {
            let found = pairs(&left, &right);
            prop_assert_eq!(found.len(), largest(&left, &right));
            let (lefts, rights): (BTreeSet<_>, BTreeSet<_>) = found.iter().copied().unzip();
            prop_assert_eq!((lefts.len(), rights.len()), (found.len(), found.len()));
            for (a, b) in found {
                prop_assert!(overlap(&left[a], &right[b]));
            }
            let overlaps = Overlaps::of(&right);
            for span in &left {
                prop_assert_eq!(overlaps.with(span), right.iter().filter(|other| overlap(span, other)).count());
            }
        }
    }
}
