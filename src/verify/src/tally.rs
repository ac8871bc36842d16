//! What the lines of a bundle say in sum: the base of S4, F4, N1 and B1 of SPEC section 11.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::Entry;
use crate::hash::Hash;
use crate::report::RunFacts;
use crate::schema::{Kind, Slot};
use crate::view::View;

/// Distinct values of one claim that a manifest lists, SPEC section 15.
const CLAIM_VALUES_MAX: usize = 16;

/// A receipt whose stream nodes are stored.
pub(crate) struct Stream {
    pub seq: u64,
    pub call: String,
    pub units: u64,
    pub level: Option<u64>,
    pub nodes: Option<Hash>,
    pub root: Option<Hash>,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub facts: RunFacts,
    /// As it stands in `run.open`.
    pub build: Vec<u8>,
    /// Policy hashes of `run.open` and the receipts.
    pub policies: BTreeSet<Hash>,
    /// The first receipt of each policy hash.
    pub policy_seqs: BTreeMap<Hash, u64>,
    /// Claim to its smallest distinct values.
    pub claims: BTreeMap<String, BTreeSet<String>>,
    /// `time.total_us` of each receipt.
    pub totals: Vec<u64>,
    pub streams: Vec<Stream>,
    /// The first receipt that names each stored body.
    pub bodies: BTreeMap<Hash, u64>,
    /// The policy of the receipt before, as it stands there: mostly the next has the same.
    last_policy: Vec<u8>,
}

impl Tally {
    /// Takes in the entry at `seq`.
    pub(crate) fn add(&mut self, entry: &Entry<'_>, seq: u64) {
        match entry.kind {
            Kind::RunOpen => self.add_open(entry.view()),
            Kind::RunSeal => {
                self.facts.sealed = entry.view().text_of("ts").into_owned();
                self.facts.seal_reason = entry.view().text_of("reason").into_owned();
            }
            Kind::Call => self.add_call(entry, seq),
            _ => {}
        }
    }

    fn add_open(&mut self, open: View<'_>) {
        let text = |name: &str| open.text_of(name).into_owned();
        self.facts.class = text("class");
        self.facts.name = open.member("name").and_then(View::text).map(|name| name.into_owned());
        self.facts.opened = text("ts");
        self.facts.sign = text("sign");
        self.facts.durability = text("durability");
        self.build = open.member("build").map(|build| build.raw().to_vec()).unwrap_or_default();
        self.policies.extend(Hash::of_text("sha256:", text("policy").as_bytes()));
    }

    fn add_call(&mut self, entry: &Entry<'_>, seq: u64) {
        let policy = entry.raw(Slot::Policy);
        if policy != self.last_policy {
            self.last_policy = policy.to_vec();
            if let Some(hash) = Hash::of_text("sha256:", policy) {
                self.policies.insert(hash);
                self.policy_seqs.entry(hash).or_insert(seq);
            }
        }
        self.totals.push(entry.count(Slot::TotalUs));
        if let Some(claims) = entry.optional(Slot::Claims) {
            self.add_claims(View::of(claims));
        }
        for slot in [Slot::RequestBody, Slot::ClientBody, Slot::UpstreamBody] {
            if let Some(hash) = entry.optional(slot).and_then(|body| Hash::of_text("sha256:", body)) {
                self.bodies.entry(hash).or_insert(seq);
            }
        }
        if let Some(sse) = entry.optional(Slot::Sse).map(View::of)
            && let Some(nodes) = sse.member("nodes").and_then(View::text)
        {
            self.streams.push(Stream {
                seq,
                call: String::from_utf8_lossy(entry.raw(Slot::Call)).into_owned(),
                units: sse.member("units").and_then(View::count).unwrap_or_default(),
                level: sse.member("level").and_then(View::count),
                nodes: Hash::of_text("sha256:", nodes.as_bytes()),
                root: Hash::of_text("root:", sse.text_of("root").as_bytes()),
            });
        }
    }

    fn add_claims(&mut self, claims: View<'_>) {
        for (name, value) in claims.members() {
            let Some(value) = value.text() else { continue };
            let values = match self.claims.get_mut(&*name) {
                Some(values) => values,
                None => self.claims.entry(name.into_owned()).or_default(),
            };
            let listed = values.contains(&*value);
            if listed || values.len() >= CLAIM_VALUES_MAX && values.last().is_some_and(|last| **last < *value)
            {
                continue;
            }
            values.insert(value.into_owned());
            if values.len() > CLAIM_VALUES_MAX {
                values.pop_last();
            }
        }
    }

    /// The nearest-rank percentile of `total_us`; none without a receipt.
    pub(crate) fn percentile(&mut self, percent: u64) -> Option<u64> {
        let count = self.totals.len() as u64; // usize fits.
        let rank = (percent * count).div_ceil(100);
        let at = usize::try_from(rank).ok()?.checked_sub(1)?;
        if at >= self.totals.len() {
            return None;
        }
        Some(*self.totals.select_nth_unstable(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut tally = Tally { totals: (1..=200).rev().collect(), ..Tally::default() };
        assert_eq!([50, 95, 99].map(|percent| tally.percentile(percent)), [Some(100), Some(190), Some(198)]);
        tally.totals = vec![7];
        assert_eq!([50, 95, 99].map(|percent| tally.percentile(percent)), [Some(7); 3]);
        tally.totals = vec![5, 1, 3];
        assert_eq!([50, 95, 99].map(|percent| tally.percentile(percent)), [Some(3), Some(5), Some(5)]);
        tally.totals.clear();
        assert_eq!(tally.percentile(50), None);
    }

    #[test]
    fn claims_keep_the_sixteen_smallest_values() {
        let mut tally = Tally::default();
        for n in (10..40).rev().chain(20..30) {
            let claims = format!(r#"{{"agent":"a{n}","job_id":"j"}}"#);
            tally.add_claims(View::of(claims.as_bytes()));
        }
        let expected: Vec<String> = (10..26).map(|n| format!("a{n}")).collect();
        assert_eq!(tally.claims["agent"].iter().cloned().collect::<Vec<_>>(), expected);
        assert_eq!(tally.claims["job_id"].len(), 1);
    }
}
