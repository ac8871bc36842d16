//! Delta debugging (Zeller and Hildebrandt 2002): fewer and fewer of a list, as long as a predicate holds.

use std::collections::BTreeMap;

use estoppel_evidence::Sha256;

/// What is left.
#[derive(Debug, PartialEq, Eq)]
pub struct Minimal {
    /// Places in the list. Without any one of them the predicate does not hold.
    pub kept: Vec<usize>,
    /// How many sets were asked about.
    pub asked: usize,
}

/// Why nothing is left.
#[derive(Debug, PartialEq, Eq)]
pub enum Failed<E> {
    /// The predicate does not hold of the whole list.
    Unmet,
    /// More sets than that would have to be asked about.
    AskedMax,
    Predicate(E),
}

/// A 1-minimal part of `0..count` of which `holds` says so. Equal questions are asked once.
pub fn minimize<E>(
    count: usize,
    asked_max: usize,
    holds: impl FnMut(&[usize]) -> Result<bool, E>,
) -> Result<Minimal, Failed<E>> {
    let mut asking = Asking { known: BTreeMap::new(), asked_max, holds };
    let mut kept: Vec<usize> = (0..count).collect();
    if !asking.ask(&kept)? {
        return Err(Failed::Unmet);
    }
    let mut parts = 2;
    while !kept.is_empty() {
        parts = parts.min(kept.len());
        let size = kept.len().div_ceil(parts);
        let mut smaller = None;
        for part in kept.chunks(size) {
            if part.len() < kept.len() && asking.ask(part)? {
                smaller = Some((part.to_vec(), 2));
                break;
            }
        }
        for part in kept.chunks(size) {
            if smaller.is_some() {
                break;
            }
            let rest: Vec<usize> = kept.iter().copied().filter(|at| !part.contains(at)).collect();
            if asking.ask(&rest)? {
                smaller = Some((rest, parts.saturating_sub(1).max(2)));
            }
        }
        match smaller {
            Some((set, finer)) => (kept, parts) = (set, finer),
            None if parts == kept.len() => break,
            None => parts = (parts * 2).min(kept.len()),
        }
    }
    Ok(Minimal { kept, asked: asking.known.len() })
}

struct Asking<F> {
    /// By the digest of the set, which may be long.
    known: BTreeMap<[u8; 32], bool>,
    asked_max: usize,
    holds: F,
}

impl<F> Asking<F> {
    fn ask<E>(&mut self, set: &[usize]) -> Result<bool, Failed<E>>
    where
        F: FnMut(&[usize]) -> Result<bool, E>,
    {
        let places: Vec<u8> = set.iter().flat_map(|at| at.to_be_bytes()).collect();
        let digest = Sha256::of(&places).0;
        if let Some(known) = self.known.get(&digest) {
            return Ok(*known);
        }
        if self.known.len() == self.asked_max {
            return Err(Failed::AskedMax);
        }
        let holds = (self.holds)(set).map_err(Failed::Predicate)?;
        self.known.insert(digest, holds);
        Ok(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal(count: usize, holds: impl Fn(&[usize]) -> bool) -> Minimal {
        let found = minimize(count, 100_000, |set| Ok::<_, ()>(holds(set))).unwrap();
        assert!(holds(&found.kept), "{found:?}");
        for without in &found.kept {
            let rest: Vec<usize> = found.kept.iter().copied().filter(|at| at != without).collect();
            assert!(!holds(&rest), "{without} is not needed in {found:?}");
        }
        found
    }

    #[test]
    fn what_is_left_holds_and_no_less_of_it_does() {
        for count in 0..40 {
            assert!(minimal(count, |_| true).kept.is_empty());
            for step in 1..7 {
                let wanted: Vec<usize> = (0..count).step_by(step).collect();
                assert_eq!(minimal(count, |set| wanted.iter().all(|at| set.contains(at))).kept, wanted);
                let most = count / step;
                let found = minimal(count, |set| set.iter().filter(|at| *at % 3 != 1).count() >= most / 2);
                assert_eq!(found.kept.len(), most / 2);
            }
        }
    }

    #[test]
    fn it_stops_where_the_predicate_never_held_fails_or_is_asked_too_often() {
        assert_eq!(minimize(9, 100, |_| Ok::<_, ()>(false)), Err(Failed::Unmet));
        assert_eq!(minimize(9, 100, |_| Err::<bool, _>(7)), Err(Failed::Predicate(7)));
        assert_eq!(minimize(9, 3, |set| Ok::<_, ()>(set.len() > 5)), Err(Failed::AskedMax));
    }
}
