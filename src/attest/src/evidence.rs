//! Bundles that were verified, and what of them can be pointed at by digest.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_bundle::{Bundle, OpenError};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::tree::Frontier;
use estoppel_evidence::{Leaf, Sha256};
use estoppel_verify::{Anchoring, Authenticity, Externals, Input, Options, Report, verify_bundle};
use serde_json::{Value, json};

use crate::cited::{Cited, Further};
use crate::error::AttestError;
use crate::kind::{KINDS, Kind, Of};

/// Most bundles of one statement, and entries in them.
pub const BUNDLES_MAX: usize = 256;
pub(crate) const ENTRIES_MAX: usize = 2_000_000;
/// Most digests of one kind that are listed; the root covers all.
pub(crate) const LISTED_MAX: usize = 16;

/// A sealed bundle as it is on disk, and what lies beside it.
pub struct Given<'a> {
    /// What it is called in messages.
    pub name: String,
    pub bytes: &'a [u8],
    pub beside: &'a mut dyn Externals,
}

/// Digests that something is shown by, in the order of the bundles and their entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pointers {
    pub count: u64,
    listed: Vec<String>,
    tree: Frontier,
}

impl Pointers {
    fn push(&mut self, text: impl FnOnce() -> String, hash: [u8; 32]) {
        self.count += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(text());
        }
        self.tree.push_hash(hash);
    }

    /// Count, root over all and the first of them.
    pub fn document(&self) -> Value {
        let listed = self.listed.len() as u64; // widening
        json!({
            "count": self.count,
            "listed": self.listed,
            "more": self.count - listed,
            "root": self.tree.root().to_string(),
        })
    }
}

/// One bundle that verified.
#[derive(Debug)]
pub struct Run {
    pub run: String,
    /// Of the archive, and of its manifest.
    pub archive: Sha256,
    pub manifest: Sha256,
    pub(crate) manifest_bytes: Vec<u8>,
    pub report: Report,
    pub(crate) stated: Value,
    pub(crate) is_linked: bool,
    previous_seal: Option<String>,
    seal: Option<String>,
    entries: Vec<Marked>,
    documents: BTreeMap<usize, BTreeSet<Sha256>>,
    threats: BTreeMap<String, Vec<Leaf>>,
    inventory: Inventory,
    kinds: BTreeMap<String, u64>,
    times: Option<(String, String)>,
}

/// How often what was named, by what it is.
type Inventory = BTreeMap<&'static str, BTreeMap<String, u64>>;

/// What an inventory counts, and where calls state it: a text or a list of texts.
const INVENTORY: &[(&str, &str)] = &[
    ("models", "/facts/model"),
    ("operations", "/operation"),
    ("outcomes", "/outcome/code"),
    ("rules", "/policy/rule"),
    ("tools", "/facts/tools_called"),
    ("upstreams", "/upstream"),
];
/// Most distinct names of one kind in an inventory.
const NAMES_MAX: usize = 4096;

/// An entry, and by bit which of [`KINDS`] it is of.
#[derive(Debug)]
struct Marked {
    leaf: Leaf,
    marks: u64,
}

const _: () = assert!(KINDS.len() <= 64, "kinds are bits");

impl Run {
    pub(crate) fn is_anchored(&self) -> bool {
        self.report.verdicts.anchoring == Anchoring::Anchored
    }

    pub(crate) fn is_trusted(&self) -> bool {
        self.report.verdicts.authenticity == Authenticity::Trusted
    }

    fn text(&self, name: &str) -> &str {
        self.stated[name].as_str().unwrap_or_default()
    }

    pub(crate) fn opened(&self) -> &str {
        self.text("opened")
    }

    pub(crate) fn sealed(&self) -> &str {
        self.text("sealed")
    }

    /// What a statement says of it.
    pub(crate) fn document(&self) -> Value {
        let counters = self.report.counters.rows().map(|(name, count)| (name.to_owned(), Value::from(count)));
        let verdicts = &self.report.verdicts;
        let mut document = json!({
            "archive": self.archive.to_string(),
            "counters": serde_json::Map::from_iter(counters),
            "entries": self.report.entries,
            "iss": self.stated["iss"],
            "manifest": self.manifest.to_string(),
            "opened": self.stated["opened"],
            "root": self.stated["tree"]["root"],
            "run": self.run,
            "sealed": self.stated["sealed"],
            "verdicts": {
                "anchoring": verdicts.anchoring.name(),
                "authenticity": verdicts.authenticity.name(),
                "completeness": verdicts.completeness.name(),
                "integrity": verdicts.integrity.name(),
            },
        });
        if self.stated["name"].is_string() {
            document["name"] = self.stated["name"].clone();
        }
        document
    }

    fn read_line(&mut self, line: &[u8]) {
        let entry: Value = serde_json::from_slice(line).unwrap_or_default();
        let leaf = Leaf::of(line);
        let mut marks = 0;
        for (bit, kind) in KINDS.iter().enumerate() {
            match kind.of {
                Of::Entries(holds) if holds(&entry) => marks |= 1 << bit,
                Of::Documents(places) if entry["kind"] == "call" => {
                    let found = places.iter().filter_map(|at| entry.pointer(at)?.as_str());
                    self.documents.entry(bit).or_default().extend(found.filter_map(Sha256::parse));
                }
                _ => {}
            }
        }
        self.count_names(&entry);
        self.count_trace(&entry);
        for id in entry["threat"]["ids"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.threats.entry(id.to_owned()).or_default().push(leaf);
        }
        if entry["kind"] == "run.open" {
            self.previous_seal = entry["previous_seal"].as_str().map(str::to_owned);
        }
        if entry["kind"] == "run.seal" {
            self.seal = Some(leaf.to_string());
        }
        self.entries.push(Marked { leaf, marks });
    }
}

impl Run {
    fn count_trace(&mut self, entry: &Value) {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        *self.kinds.entry(text("kind")).or_default() += 1;
        let ts = text("ts");
        self.times = Some(match self.times.take() {
            Some((first, last)) => (first.min(ts.clone()), last.max(ts)),
            None => (ts.clone(), ts),
        });
    }

    fn count_names(&mut self, entry: &Value) {
        if entry["kind"] != "call" {
            return;
        }
        for (what, at) in INVENTORY {
            let stated = entry.pointer(at);
            let names: &[Value] = match stated {
                Some(Value::Array(names)) => names,
                Some(name) => std::slice::from_ref(name),
                None => &[],
            };
            for name in names.iter().filter_map(Value::as_str) {
                *self.inventory.entry(what).or_default().entry(name.to_owned()).or_default() += 1;
            }
        }
    }
}

/// Bundles that all verified, by instance and the time at which they were opened.
#[derive(Debug, Default)]
pub struct Evidence {
    runs: Vec<Run>,
    entries: usize,
    trust: Option<Sha256>,
    keys: BTreeSet<String>,
    pub(crate) cited: Cited,
}

impl Evidence {
    /// In order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Digest of the trust document that the bundles were verified by.
    pub(crate) fn trust(&self) -> Option<Sha256> {
        self.trust
    }

    /// Verifies a bundle, now, and takes what can be pointed at from it. Gives its run.
    ///
    /// # Errors
    /// [`AttestError::Bundle`] if it does not verify, [`AttestError::Trust`], [`AttestError::Twice`], [`AttestError::Limit`].
    pub fn add(&mut self, given: Given<'_>, options: &Options<'_>) -> Result<String, AttestError> {
        if self.runs.len() >= BUNDLES_MAX {
            return Err(AttestError::Limit);
        }
        let run = self.judged(given, options)?;
        if self.runs.iter().any(|other| other.run == run.run) {
            return Err(AttestError::Twice(run.run));
        }
        self.trust = options.trust.map(Sha256::of);
        let id = run.run.clone();
        self.runs.push(run);
        self.runs
            .sort_by_cached_key(|run| (run.text("iss").to_owned(), run.opened().to_owned(), run.run.clone()));
        self.link();
        Ok(id)
    }

    /// Verifies what was given beside the bundles, in the place of what was before. All bundles have to be here.
    ///
    /// # Errors
    /// The code of whatever does not hold, [`AttestError::Twice`], [`AttestError::Limit`].
    pub fn cite(&mut self, further: &Further) -> Result<(), AttestError> {
        self.cited = Cited::new(&self.runs, further, None)?;
        Ok(())
    }

    /// What a statement says of each chain of custody that was cited.
    pub fn custody(&self) -> Value {
        let found = self.cited.document().into_iter().find(|(name, _)| *name == "custody");
        found.map_or_else(|| json!([]), |(_, rows)| rows)
    }

    /// The same, as far as the statement with that predicate is about it.
    pub(crate) fn cite_as(&mut self, further: &Further, stated: &Value) -> Result<(), AttestError> {
        self.cited = Cited::new(&self.runs, further, Some(stated))?;
        Ok(())
    }

    fn judged(&mut self, given: Given<'_>, options: &Options<'_>) -> Result<Run, AttestError> {
        let wrong = |reason: String| AttestError::Bundle { name: given.name.clone(), reason };
        let report = verify_bundle(Input::Zip(given.bytes), given.beside, options)
            .map_err(|error| wrong(error.to_string()))?;
        if let Some(finding) = &report.finding {
            if report.exit_code() == 6 {
                return Err(AttestError::Trust(finding.detail.clone()));
            }
            return Err(wrong(finding.reason.code().to_owned()));
        }
        let unread = |error: OpenError| wrong(error.to_string());
        let bundle = Bundle::from_zip(given.bytes).map_err(unread)?;
        let manifest_bytes = bundle.manifest().to_bytes();
        let stated: Value = serde_json::from_slice(&manifest_bytes).unwrap_or_default();
        self.keys.extend(bundle.manifest().keys.iter().map(|row| row.kid.to_string()));
        let mut run = Run {
            run: bundle.manifest().run.to_string(),
            archive: Sha256::of(given.bytes),
            manifest: bundle.manifest_digest(),
            manifest_bytes,
            report,
            stated,
            is_linked: true,
            previous_seal: None,
            seal: None,
            entries: Vec::new(),
            documents: BTreeMap::new(),
            threats: BTreeMap::new(),
            inventory: Inventory::new(),
            kinds: BTreeMap::new(),
            times: None,
        };
        let mut entries = bundle.entries().map_err(unread)?;
        while let Some(entry) = entries.next().map_err(unread)? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(AttestError::Limit);
            }
            run.read_line(entry.line);
        }
        Ok(run)
    }

    /// A run names the seal before it. All but those that were opened before any given one was sealed have to be given.
    fn link(&mut self) {
        let seals: BTreeSet<String> = self.runs.iter().filter_map(|run| run.seal.clone()).collect();
        let mut firsts: BTreeMap<String, Option<String>> = BTreeMap::new();
        for run in &mut self.runs {
            let first = firsts.entry(run.text("iss").to_owned()).or_insert_with(|| run.previous_seal.clone());
            run.is_linked = run.previous_seal == *first
                || run.previous_seal.as_ref().is_some_and(|seal| seals.contains(seal));
        }
    }

    /// How many entries of each kind there are, and when the first and the last of them were written.
    pub(crate) fn trace(&self) -> Value {
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, count) in self.runs.iter().flat_map(|run| &run.kinds) {
            *kinds.entry(kind).or_default() += count;
        }
        let rows = kinds.iter().map(|(kind, count)| json!({ "count": count, "kind": kind }));
        let times = || self.runs.iter().filter_map(|run| run.times.as_ref());
        json!({
            "entries": kinds.values().sum::<u64>(),
            "first": times().map(|(first, _)| first).min(),
            "kinds": rows.collect::<Vec<_>>(),
            "last": times().map(|(_, last)| last).max(),
        })
    }

    /// What calls named, and how often, by name.
    ///
    /// # Errors
    /// [`AttestError::Limit`].
    pub(crate) fn inventory(&self) -> Result<Value, AttestError> {
        let mut all = serde_json::Map::new();
        for (what, _) in INVENTORY {
            let mut names: BTreeMap<&str, u64> = BTreeMap::new();
            for (name, count) in self.runs.iter().filter_map(|run| run.inventory.get(what)).flatten() {
                *names.entry(name).or_default() += count;
            }
            if names.len() > NAMES_MAX {
                return Err(AttestError::Limit);
            }
            let rows = names.iter().map(|(name, count)| json!({ "count": count, "name": name }));
            all.insert((*what).to_owned(), rows.collect());
        }
        Ok(Value::Object(all))
    }

    /// Whether a key signs anything in the bundles.
    pub(crate) fn has_key(&self, kid: &str) -> bool {
        self.keys.contains(kid)
    }

    #[cfg(test)]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// What there is of a kind at that time.
    pub(crate) fn pointers(&self, kind: &Kind, made: UnixMicros) -> Pointers {
        let mut pointers = Pointers::default();
        let bit = KINDS.iter().position(|known| known == kind).unwrap_or(usize::MAX);
        match kind.of {
            Of::Entries(_) => {
                for marked in self.runs.iter().flat_map(|run| &run.entries) {
                    if marked.marks >> bit & 1 == 1 {
                        pointers.push(|| marked.leaf.to_string(), marked.leaf.0);
                    }
                }
            }
            Of::Bundles(holds) => {
                for run in self.runs.iter().filter(|run| holds(run)) {
                    pointers.push(|| run.manifest.to_string(), run.manifest.0);
                }
            }
            Of::Acts(action) => {
                for act in self.cited.acts().filter(|act| action.is_none_or(|action| act.action == action)) {
                    pointers.push(|| act.leaf.to_string(), act.leaf.0);
                }
            }
            Of::Copies => {
                for copy in self.cited.copies() {
                    pointers.push(|| copy.leaf.to_string(), copy.leaf.0);
                }
            }
            Of::Unlocked => {
                let is_unlocked = |run: &&Run| self.cited.has_archive() && !self.cited.is_locked(run, made);
                for run in self.runs.iter().filter(is_unlocked) {
                    pointers.push(|| run.manifest.to_string(), run.manifest.0);
                }
            }
            Of::Events(kinds) => {
                for id in self.cited.events(kinds) {
                    pointers.push(|| id.to_string(), id.0);
                }
            }
            Of::Documents(_) => {
                let all: BTreeSet<&Sha256> =
                    self.runs.iter().filter_map(|run| run.documents.get(&bit)).flatten().collect();
                for digest in all {
                    pointers.push(|| digest.to_string(), digest.0);
                }
            }
        }
        pointers
    }

    /// Receipts that state any of these threats, each once.
    pub(crate) fn threats(&self, ids: &[String]) -> Pointers {
        let mut pointers = Pointers::default();
        for run in &self.runs {
            let stated: BTreeSet<Leaf> =
                ids.iter().filter_map(|id| run.threats.get(id)).flatten().copied().collect();
            for marked in run.entries.iter().filter(|marked| stated.contains(&marked.leaf)) {
                pointers.push(|| marked.leaf.to_string(), marked.leaf.0);
            }
        }
        pointers
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use estoppel_verify::NoExternals;

    use super::*;

    pub(crate) const BUNDLE: &[u8] = include_bytes!("../../../spec/pef/vectors/valid-trust/bundle.pef.zip");
    const TRUST: &[u8] = include_bytes!("../../../spec/pef/vectors/valid-trust/trust.json");

    pub(crate) fn given(bytes: &[u8], evidence: &mut Evidence) -> Result<String, AttestError> {
        let options = Options { trust: Some(TRUST), ..Options::default() };
        evidence.add(Given { name: "b".into(), bytes, beside: &mut NoExternals }, &options)
    }

    pub(crate) fn published() -> Evidence {
        let mut evidence = Evidence::default();
        given(BUNDLE, &mut evidence).unwrap();
        evidence
    }

    /// The published run as if it had other entries: of checks, what they are about is in the entries.
    pub(crate) fn with(entries: &[Value]) -> Evidence {
        let mut evidence = published();
        for run in &mut evidence.runs {
            (run.entries, run.documents) = (Vec::new(), BTreeMap::new());
            (run.threats, run.inventory) = (BTreeMap::new(), Inventory::new());
            entries.iter().for_each(|entry| run.read_line(entry.to_string().as_bytes()));
        }
        evidence.link();
        evidence
    }

    pub(crate) fn runs_mut(evidence: &mut Evidence) -> &mut [Run] {
        &mut evidence.runs
    }

    /// A second run of the same instance that names `seal` as the one before it.
    pub(crate) fn followed_by(mut evidence: Evidence, seal: &str) -> Evidence {
        let mut second = with(&[]).runs.remove(0);
        second.run = "second".into();
        second.previous_seal = Some(seal.to_owned());
        evidence.runs.push(second);
        evidence.link();
        evidence
    }

    pub(crate) fn seal_of(evidence: &Evidence) -> String {
        evidence.runs[0].seal.clone().unwrap()
    }

    #[test]
    fn a_bundle_that_does_not_verify_or_comes_twice_is_not_taken() {
        let mut evidence = published();
        assert!(matches!(given(BUNDLE, &mut evidence), Err(AttestError::Twice(_))));
        let mut broken = BUNDLE.to_vec();
        broken[BUNDLE.len() / 2] ^= 1;
        assert!(matches!(given(&broken, &mut Evidence::default()), Err(AttestError::Bundle { .. })));
    }

    #[test]
    fn a_root_covers_what_is_not_listed() {
        let calls: Vec<Value> = (0..40).map(|seq| json!({ "kind": "call", "seq": seq })).collect();
        let kind = Kind::of_name("calls").unwrap();
        let all = with(&calls).pointers(kind, UnixMicros(0)).document();
        assert_eq!((&all["count"], &all["more"]), (&json!(40), &json!(24)));
        let leaves: Vec<[u8; 32]> =
            calls.iter().map(|call| Leaf::of(call.to_string().as_bytes()).0).collect();
        assert_eq!(all["root"], estoppel_evidence::tree::root(&leaves).to_string());
        let fewer = with(&calls[..39]).pointers(kind, UnixMicros(0)).document();
        assert_eq!(fewer["listed"], all["listed"]);
        assert_ne!(fewer["root"], all["root"]);
    }

    #[test]
    fn threats_are_told_by_their_ids() {
        let call = |id: &str| json!({ "kind": "call", "threat": { "ids": [id, "x:1/Y"] } });
        let evidence = with(&[call("owasp_llm:2026/LLM01"), call("owasp_llm:2026/LLM03")]);
        let count =
            |ids: &[&str]| evidence.threats(&ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()).count;
        assert_eq!(count(&["owasp_llm:2026/LLM01"]), 1);
        assert_eq!(count(&["owasp_llm:2026/LLM01", "x:1/Y"]), 2, "each once");
        assert_eq!(count(&["owasp_llm:2026/LLM02"]), 0);
    }
}
