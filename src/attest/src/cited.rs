//! What stands outside of bundles and answers controls: chains of custody, the index of an archive, the ledger of releases.
//!
//! A statement says of each how long it was then. All three only grow, so whoever verifies cuts what they have to that length.

use std::collections::BTreeMap;

use estoppel_evidence::envelope::{base64, from_base64};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Leaf, Sha256};
use estoppel_release::audit::as_of;
use estoppel_release::ledger::Ledger;
use estoppel_verify::{CustodyFault, CustodyOf, CustodyReason, Hash, Pointer, verify_custody};
use estoppel_verify::{PublicKey, read_index};
use serde_json::{Value, json};

use crate::error::{AttestError, Cites};
use crate::evidence::{LISTED_MAX, Run};

/// Most copies of bundles that an index may have of them.
const COPIES_MAX: usize = 4096;
const DAY_US: u64 = 86_400_000_000;

/// What was given beside the bundles. Only the ledger is verified yet: there is none that is not.
#[derive(Default)]
pub struct Further {
    /// Chains of custody, one for a bundle.
    pub custody: Vec<Vec<u8>>,
    /// Keys that whoever asks vouches for: every entry of a chain has to be by one of them.
    pub custodians: Vec<PublicKey>,
    /// The index of an archive.
    pub archive: Option<Vec<u8>>,
    pub ledger: Option<Ledger>,
}

/// An entry of a chain of custody.
#[derive(Debug)]
pub(crate) struct Act {
    pub leaf: Leaf,
    pub action: String,
    key: String,
    archived: Option<Pointer>,
    verification: Option<Verification>,
}

/// What a custodian who verified the bundle came to.
#[derive(Debug)]
enum Verification {
    Passed,
    /// As a statement lists it.
    Failed(Value),
}

impl Verification {
    /// Of the predicate of an entry, where it is of one. Only words that are known pass.
    fn of(predicate: &Value, leaf: Leaf) -> Option<Self> {
        const PASSED: [(&str, &[&str]); 4] = [
            ("anchoring", &["absent", "anchored"]),
            ("authenticity", &["self_asserted", "trusted"]),
            ("completeness", &["complete"]),
            ("integrity", &["ok"]),
        ];
        let said = predicate["verified"].as_object()?;
        let is_known = |name: &str, words: &[&str]| {
            said.get(name).and_then(Value::as_str).is_some_and(|word| words.contains(&word))
        };
        let is_passed = PASSED.iter().all(|(name, words)| is_known(name, words));
        if is_passed && !said.contains_key("reason") && !said.contains_key("found") {
            return Some(Self::Passed);
        }
        let mut listed = said.clone();
        listed.insert("entry".to_owned(), json!(leaf));
        listed.insert("ts".to_owned(), predicate["ts"].clone());
        Some(Self::Failed(listed.into()))
    }
}

/// The chain of custody of one bundle.
#[derive(Debug)]
struct Chain {
    run: String,
    bytes: usize,
    digest: Sha256,
    acts: Vec<Act>,
}

/// A copy of a bundle, as the index of the archive says.
#[derive(Debug)]
pub(crate) struct Copied {
    run: String,
    pub leaf: Leaf,
    at: Pointer,
    /// The entry of custody that says the same of it.
    signed: Option<Leaf>,
}

#[derive(Debug)]
struct Index {
    bytes: usize,
    digest: Sha256,
    entries: usize,
    head: Option<Leaf>,
    copies: Vec<Copied>,
}

/// What was given beside the bundles, and verified.
#[derive(Debug, Default)]
pub(crate) struct Cited {
    chains: Vec<Chain>,
    custodians: BTreeMap<String, Value>,
    index: Option<Index>,
    ledger: Option<Ledger>,
}

impl Cited {
    /// Verifies what was given, by the bundles. `stated` is the predicate of a statement that is to be made again.
    ///
    /// # Errors
    /// The code of whatever does not hold, [`AttestError::Twice`], [`AttestError::Limit`].
    pub fn new(runs: &[Run], further: &Further, stated: Option<&Value>) -> Result<Self, AttestError> {
        let custodians = match stated {
            Some(stated) => stated_keys(stated)?,
            None => further.custodians.clone(),
        };
        let index = further.archive.as_deref();
        let index = index.filter(|_| stated.is_none_or(|stated| stated["archive"].is_object()));
        let index = index.map(|index| self::index(runs, index, stated)).transpose()?;
        let (mut index, archived) =
            index.map_or_else(Default::default, |(index, lists)| (Some(index), lists));
        let mut chains = Vec::new();
        for list in &further.custody {
            let chain = chain(runs, list, (&custodians, &further.custodians), stated, &archived)?;
            chains.extend(chain);
        }
        let place = |chain: &Chain| runs.iter().position(|run| run.run == chain.run);
        chains.sort_by_key(place);
        if let Some(pair) = chains
            .windows(2)
            .find(|pair| pair.first().map(|chain| &chain.run) == pair.last().map(|chain| &chain.run))
        {
            return Err(AttestError::Twice(pair.first().map(|chain| chain.run.clone()).unwrap_or_default()));
        }
        for copy in index.iter_mut().flat_map(|index| &mut index.copies) {
            let acts = chains.iter().filter(|chain| chain.run == copy.run).flat_map(|chain| &chain.acts);
            copy.signed =
                acts.filter(|act| act.archived.as_ref() == Some(&copy.at)).map(|act| act.leaf).next_back();
        }
        let custodians = if chains.is_empty() { Vec::new() } else { custodians };
        let custodians = custodians.iter().map(|key| (key.id().hex(), key_document(key))).collect();
        Ok(Self { chains, custodians, index, ledger: ledger(further, stated)? })
    }

    /// Whether everything was given that a statement cites.
    ///
    /// # Errors
    /// [`AttestError::Missing`]
    pub fn check_whole(&self, stated: &Value) -> Result<(), AttestError> {
        let lists = stated["custody"].as_array().into_iter().flatten();
        let mut runs = lists.filter_map(|list| list["run"].as_str());
        let missing = match runs.find(|run| self.chains.iter().all(|chain| chain.run != *run)) {
            Some(run) => Cites::Custody(run.to_owned()),
            None if stated["archive"].is_object() && self.index.is_none() => Cites::Archive,
            None if stated["ledger"].is_object() && self.ledger.is_none() => Cites::Ledger,
            None => return Ok(()),
        };
        Err(AttestError::Missing(missing))
    }

    /// Members of a statement.
    pub fn document(&self) -> Vec<(&'static str, Value)> {
        let mut members = Vec::new();
        if !self.chains.is_empty() {
            members.push(("custody", self.chains.iter().map(Chain::document).collect()));
        }
        if !self.custodians.is_empty() {
            members.push(("custodians", self.custodians.values().cloned().collect()));
        }
        if let Some(index) = &self.index {
            members.push(("archive", index.document()));
        }
        if let Some(ledger) = &self.ledger {
            let document = json!({
                "events": ledger.events().len(), "genesis": ledger.genesis(), "head": ledger.head(), "heads": ledger.heads(),
            });
            members.push(("ledger", document));
        }
        members
    }

    /// How many events of each kind the ledger has; null where there is none.
    pub fn releases(&self) -> Value {
        let Some(ledger) = &self.ledger else { return Value::Null };
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for event in ledger.events() {
            *kinds.entry(event.body.kind()).or_default() += 1;
        }
        kinds.iter().map(|(kind, count)| json!({ "count": count, "kind": kind })).collect()
    }

    /// Entries of all chains, in the order of the bundles.
    pub fn acts(&self) -> impl Iterator<Item = &Act> {
        self.chains.iter().flat_map(|chain| &chain.acts)
    }

    /// Copies of the bundles, in the order of the index; none where no index was given.
    pub fn copies(&self) -> impl Iterator<Item = &Copied> {
        self.index.iter().flat_map(|index| &index.copies)
    }

    pub fn has_archive(&self) -> bool {
        self.index.is_some()
    }

    /// Events of these kinds.
    pub fn events(&self, kinds: &[&str]) -> impl Iterator<Item = Sha256> {
        let events = self.ledger.iter().flat_map(Ledger::events);
        events.filter(|event| kinds.contains(&event.body.kind())).map(|event| event.id)
    }

    /// Whether a copy of the run is kept from being changed at that time, and a custodian signed for it who was vouched for.
    pub fn is_locked(&self, run: &Run, made: UnixMicros) -> bool {
        let is_kept = |copy: &Copied| copy.at.legal_hold || copy.retained().is_some_and(|until| until > made);
        self.signed_copies(run).any(is_kept)
    }

    /// Whether nobody can remove a copy of the run for so many days after it was sealed.
    pub fn is_kept_for(&self, run: &Run, days: u64) -> bool {
        let sealed = UnixMicros::parse(run.sealed());
        let until = sealed.map(|sealed| UnixMicros(sealed.0.saturating_add(days * DAY_US)));
        let is_long = |copy: &Copied| until.is_some_and(|until| copy.retained() >= Some(until));
        self.signed_copies(run).any(|copy| copy.at.mode == "COMPLIANCE" && is_long(copy))
    }

    fn signed_copies(&self, run: &Run) -> impl Iterator<Item = &Copied> {
        let is_vouched = !self.custodians.is_empty();
        self.copies().filter(move |copy| is_vouched && copy.run == run.run && copy.signed.is_some())
    }
}

impl Chain {
    fn document(&self) -> Value {
        let mut actions: BTreeMap<&str, u64> = BTreeMap::new();
        for act in &self.acts {
            *actions.entry(&act.action).or_default() += 1;
        }
        let mut signers: Vec<&str> = self.acts.iter().map(|act| act.key.as_str()).collect();
        signers.sort_unstable();
        signers.dedup();
        let mut document = json!({
            "actions": actions,
            "bytes": self.bytes,
            "digest": self.digest,
            "entries": self.acts.len(),
            "head": self.acts.last().map(|act| act.leaf),
            "run": self.run,
            "signers": signers,
        });
        if let Some(failed) = self.failed() {
            document["failed"] = failed;
        }
        document
    }

    /// Verifications that failed; none where all passed.
    fn failed(&self) -> Option<Value> {
        let verifications = || self.acts.iter().filter_map(|act| act.verification.as_ref());
        let failed = verifications().filter_map(|verification| match verification {
            Verification::Failed(listed) => Some(listed),
            Verification::Passed => None,
        });
        let failed: Vec<&Value> = failed.collect();
        let is_last_failed = matches!(verifications().next_back()?, Verification::Failed(_));
        let more = failed.len().saturating_sub(LISTED_MAX);
        (!failed.is_empty()).then(|| {
            json!({
                "count": failed.len(),
                "last": if is_last_failed { "failed" } else { "passed" },
                "listed": failed.get(more..).unwrap_or_default(),
                "more": more,
            })
        })
    }
}

impl Index {
    fn document(&self) -> Value {
        let mut document = json!({
            "bytes": self.bytes,
            "copies": self.copies.iter().map(Copied::document).collect::<Vec<_>>(),
            "digest": self.digest,
            "entries": self.entries,
        });
        if let Some(head) = self.head {
            document["head"] = head.to_string().into();
        }
        document
    }
}

impl Copied {
    fn retained(&self) -> Option<UnixMicros> {
        UnixMicros::parse(&self.at.retain_until)
    }

    fn document(&self) -> Value {
        let at = &self.at;
        let mut document = json!({
            "bucket": at.bucket, "bytes": at.bytes, "endpoint": at.endpoint, "entry": self.leaf, "key": at.key,
            "legal_hold": at.legal_hold, "mode": at.mode, "retain_until": at.retain_until, "run": self.run,
            "sha256": at.sha256, "version": at.version,
        });
        if let Some(signed) = self.signed {
            document["signed"] = signed.to_string().into();
        }
        document
    }
}

fn key_document(key: &PublicKey) -> Value {
    json!({ "alg": key.algorithm().name(), "kid": key.id().hex(), "spki": base64(key.spki()) })
}

fn stated_keys(stated: &Value) -> Result<Vec<PublicKey>, AttestError> {
    let rows = stated["custodians"].as_array().into_iter().flatten();
    let keys = rows.map(|row| {
        let key = row["spki"].as_str().and_then(from_base64).and_then(|spki| PublicKey::of_spki(&spki));
        key.ok_or_else(|| AttestError::Form("a custodian's key is none".into()))
    });
    keys.collect()
}

/// As much of it as a statement is about.
fn begin<'c>(content: &'c [u8], stated: &Value) -> &'c [u8] {
    let bytes = stated["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
    bytes.and_then(|bytes| content.get(..bytes)).unwrap_or(content)
}

type Sizes = BTreeMap<String, Vec<(u64, Hash)>>;

/// The index, and what it has of lists of custody, by run.
fn index(runs: &[Run], whole: &[u8], stated: Option<&Value>) -> Result<(Index, Sizes), AttestError> {
    read_index(whole)?;
    let bytes = stated.map_or(whole, |stated| begin(whole, &stated["archive"]));
    let entries = read_index(bytes)?;
    let mut index = Index {
        bytes: bytes.len(),
        digest: Sha256::of(bytes),
        entries: entries.len(),
        head: entries.last().map(|entry| Leaf(entry.leaf.0)),
        copies: Vec::new(),
    };
    let mut sizes = Sizes::new();
    for entry in entries {
        let sha256 = Sha256::parse(&entry.at.sha256);
        let named = |end: &str| runs.iter().find(|run| entry.name.strip_prefix(&*run.run) == Some(end));
        let run = match entry.kind.as_str() {
            "bundle" => runs.iter().find(|run| Some(run.archive) == sha256).or_else(|| named(".pef.zip")),
            "custody" => named(".pef.zip.custody.ndjson"),
            _ => None,
        };
        let Some(run) = run else { continue };
        if entry.kind == "custody" {
            let size = sha256.map(|Sha256(digest)| (entry.at.bytes, Hash(digest)));
            sizes.entry(run.run.clone()).or_default().extend(size);
            continue;
        }
        if Some(run.archive) != sha256 {
            return Err(AttestError::ArchiveOther(run.run.clone()));
        }
        if index.copies.len() == COPIES_MAX {
            return Err(AttestError::Limit);
        }
        index.copies.push(Copied {
            run: run.run.clone(),
            leaf: Leaf(entry.leaf.0),
            at: entry.at,
            signed: None,
        });
    }
    Ok((index, sizes))
}

/// The run whose bundle a list is of.
///
/// # Errors
/// [`AttestError::Custody`].
pub(crate) fn run_of(runs: &[Run], list: &[u8]) -> Result<String, AttestError> {
    bundle_of(runs, list, &[]).map(|run| run.run.clone())
}

fn bundle_of<'r>(runs: &'r [Run], list: &[u8], signers: &[PublicKey]) -> Result<&'r Run, AttestError> {
    let of = CustodyOf { signers, ..CustodyOf::default() };
    let entries = verify_custody(list, &of).map_err(AttestError::Custody)?;
    let first = entries.first().map(|first| serde_json::from_slice::<Value>(&first.statement));
    let first = first.and_then(Result::ok).unwrap_or_default();
    let sha256 = first["predicate"]["bundle"]["sha256"].as_str().and_then(Sha256::parse);
    let run = runs.iter().find(|run| Some(run.archive) == sha256);
    run.ok_or_else(|| {
        let detail = "it is of none of these bundles".to_owned();
        AttestError::Custody(CustodyFault { reason: CustodyReason::Bundle, entry: None, detail })
    })
}

/// A list, if it is one that the statement is about.
fn chain(
    runs: &[Run],
    whole: &[u8],
    (custodians, readers): (&[PublicKey], &[PublicKey]),
    stated: Option<&Value>,
    archived: &Sizes,
) -> Result<Option<Chain>, AttestError> {
    let wrong = |fault| AttestError::Custody(fault);
    let run = bundle_of(runs, whole, readers)?;
    let mut sizes = archived.get(&run.run).cloned().unwrap_or_default();
    let mut bytes = whole;
    if let Some(stated) = stated {
        let rows = stated["custody"].as_array().into_iter().flatten();
        let Some(row) = rows.into_iter().find(|row| row["run"] == run.run) else { return Ok(None) };
        bytes = begin(whole, row);
        let digest = row["digest"].as_str().and_then(Sha256::parse);
        sizes.extend(row["bytes"].as_u64().zip(digest.map(|Sha256(digest)| Hash(digest))));
    }
    let of = CustodyOf {
        signers: custodians,
        bundle: Some((Hash(run.archive.0), &run.manifest_bytes)),
        heads: &[],
        archived: &sizes,
    };
    let entries = verify_custody(bytes, &of).map_err(wrong)?;
    let acts = entries.into_iter().map(|entry| {
        let said: Value = serde_json::from_slice(&entry.statement).unwrap_or_default();
        let said = &said["predicate"];
        let leaf = Leaf(entry.leaf.0);
        Act {
            leaf,
            action: said["action"].as_str().unwrap_or_default().to_owned(),
            key: entry.key.hex(),
            archived: entry.archived,
            verification: Verification::of(said, leaf),
        }
    });
    Ok(Some(Chain {
        run: run.run.clone(),
        bytes: bytes.len(),
        digest: Sha256::of(bytes),
        acts: acts.collect(),
    }))
}

/// The ledger, as it was when the statement was made.
fn ledger(further: &Further, stated: Option<&Value>) -> Result<Option<Ledger>, AttestError> {
    let Some(ledger) = &further.ledger else { return Ok(None) };
    let Some(stated) = stated else { return Ok(Some(ledger.clone())) };
    if !stated["ledger"].is_object() {
        return Ok(None);
    }
    let heads = stated["ledger"]["heads"].as_array().into_iter().flatten();
    let heads = heads.filter_map(|head| Sha256::parse(head.as_str()?)).collect();
    Ok(Some(as_of(ledger, &heads, ledger.genesis())?))
}

#[cfg(test)]
pub(crate) mod tests {
    use estoppel_evidence::envelope::{STATEMENT_TYPE, sign};
    use estoppel_evidence::{Signer as _, SoftKey};

    use super::*;
    use crate::evidence::Evidence;
    use crate::evidence::tests::published;

    fn key() -> SoftKey {
        SoftKey::ed25519(&[33; 32])
    }

    fn line(document: &Value) -> Vec<u8> {
        estoppel_evidence::canonical::foreign(document.to_string().as_bytes()).unwrap()
    }

    fn ended(lines: &[Vec<u8>]) -> Vec<u8> {
        lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect()
    }

    /// A list of entries that say this of the published bundle.
    fn list(run: &Run, acts: &[(&str, Value)]) -> Vec<u8> {
        let key = key();
        let bundle = json!({ "run": run.run, "sha256": run.archive });
        let sealed =
            json!({ "iss": run.stated["iss"], "manifest": run.manifest, "sealed": run.stated["sealed"] });
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for (seq, (action, member)) in [("sealed", sealed)].iter().chain(acts).enumerate() {
            let mut predicate = json!({
                "action": action, "actor": "ada", "bundle": bundle, "seq": seq, "ts": "2026-11-22T05:00:00.000000Z", "v": "custody/v0",
                "key": { "alg": "ed25519", "kid": key.public().id(), "spki": base64(key.public().spki()) },
            });
            predicate[*action] = member.clone();
            if let Some(before) = lines.last() {
                predicate["prev"] = json!(Leaf::of(before));
            }
            let statement = json!({
                "_type": "https://in-toto.io/Statement/v1", "predicate": predicate, "predicateType": "urn:estoppel:custody:v0",
                "subject": [{ "digest": { "sha256": run.archive.hex() }, "name": "b.pef.zip" }],
            });
            lines.push(sign(STATEMENT_TYPE, &line(&statement), &key).unwrap());
        }
        ended(&lines)
    }

    fn at(run: &Run, mode: &str, until: &str) -> Value {
        json!({
            "bucket": "evidence", "bytes": 9, "endpoint": "https://s3.test", "key": format!("gw/sha256/{}", run.archive.hex()),
            "legal_hold": false, "mode": mode, "retain_until": until, "sha256": run.archive, "version": "v1",
        })
    }

    /// An index of one copy.
    fn index(at: &Value, name: &str) -> Vec<u8> {
        let mut entry = at.clone();
        let more = json!({ "kind": "bundle", "name": name, "seq": 0, "ts": "2026-11-22T05:00:01.000000Z", "v": "archive/v0" });
        for (member, value) in more.as_object().unwrap() {
            entry[member] = value.clone();
        }
        ended(&[line(&entry)])
    }

    fn vouched() -> Vec<PublicKey> {
        vec![PublicKey::of_spki(key().public().spki()).unwrap()]
    }

    /// What stands beside the published bundle: a copy that is kept so, and a list that says it.
    pub(crate) fn further(mode: &str, until: &str) -> Further {
        let whole_run = published();
        let run = &whole_run.runs()[0];
        let at = at(run, mode, until);
        let custody = vec![list(run, &[("archived", at.clone())])];
        Further { custody, custodians: vouched(), archive: Some(index(&at, "b.pef.zip")), ledger: None }
    }

    fn verified(integrity: &str, more: Value) -> (&'static str, Value) {
        let mut said = json!({
            "anchoring": "absent", "authenticity": "trusted", "completeness": "complete", "integrity": integrity,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            said[name] = value.clone();
        }
        ("verified", said)
    }

    /// The published bundle with a list of which verifications failed, among them the last.
    pub(crate) fn with_failed() -> Evidence {
        let mut evidence = published();
        let found = Sha256::of(b"another file");
        let acts =
            [verified("ok", json!({})), verified("failed", json!({ "found": found, "reason": "ZIP_FORM" }))];
        let custody = vec![list(&evidence.runs()[0], &acts)];
        evidence.cite(&Further { custody, custodians: vouched(), ..Further::default() }).unwrap();
        evidence
    }

    pub(crate) fn with_copy(mode: &str, until: &str) -> Evidence {
        let mut evidence = published();
        evidence.cite(&further(mode, until)).unwrap();
        evidence
    }

    fn code(further: &Further) -> &'static str {
        published().cite(further).unwrap_err().code()
    }

    #[test]
    fn what_is_of_another_bundle_or_comes_twice_is_refused() {
        let whole_run = published();
        let run = &whole_run.runs()[0];
        let whole = further("COMPLIANCE", "2033-01-01T00:00:00.000000Z");
        let twice = Further {
            custody: [whole.custody.clone(), whole.custody.clone()].concat(),
            ..Further::default()
        };
        assert_eq!(code(&twice), "ATTESTATION_TWICE");
        let stranger = vec![PublicKey::of_spki(SoftKey::ed25519(&[34; 32]).public().spki()).unwrap()];
        let by_another =
            Further { custody: whole.custody.clone(), custodians: stranger, ..Further::default() };
        assert_eq!(code(&by_another), "CUSTODY_UNTRUSTED");
        let mut empty = Evidence::default();
        assert_eq!(empty.cite(&whole).unwrap_err().code(), "CUSTODY_BUNDLE");
        let hex = Sha256::of(b"another").hex();
        let another = at(run, "COMPLIANCE", "2033-01-01T00:00:00.000000Z")
            .to_string()
            .replace(&run.archive.hex(), &hex);
        let another = index(&serde_json::from_str(&another).unwrap(), &format!("{}.pef.zip", run.run));
        assert_eq!(code(&Further { archive: Some(another), ..Further::default() }), "ARCHIVE_LOCAL_CHANGED");
    }

    #[test]
    fn a_verification_that_did_not_come_to_every_known_word_failed() {
        let row = |acts: &[(&str, Value)]| {
            let mut evidence = published();
            let custody = vec![list(&evidence.runs()[0], acts)];
            evidence.cite(&Further { custody, ..Further::default() }).unwrap();
            let (name, rows) = evidence.cited.document().remove(0);
            assert_eq!(name, "custody");
            rows[0]["failed"].clone()
        };
        let moved = ("moved", json!({ "from": "a", "to": "b" }));
        let anchored = verified("ok", json!({ "anchoring": "anchored", "authenticity": "self_asserted" }));
        let passed = [verified("ok", json!({})), moved.clone(), anchored];
        assert_eq!(row(&passed), Value::Null);
        assert_eq!(row(&[moved]), Value::Null);
        let found = Sha256::of(b"x");
        for said in [
            verified("failed", json!({})),
            verified("unchecked", json!({})),
            verified("perfect", json!({})),
            verified("ok", json!({ "authenticity": "failed" })),
            verified("ok", json!({ "completeness": "open" })),
            verified("ok", json!({ "anchoring": "unchecked" })),
            verified("ok", json!({ "reason": "SEAL_MISSING" })),
            verified("ok", json!({ "found": found })),
        ] {
            let failed = row(&[verified("ok", json!({})), said.clone()]);
            assert_eq!((&failed["count"], &failed["last"]), (&json!(1), &json!("failed")), "{said:?}");
            for (name, value) in said.1.as_object().unwrap() {
                assert_eq!(&failed["listed"][0][name], value, "{said:?}");
            }
            assert!(failed["listed"][0]["entry"].is_string() && failed["listed"][0]["ts"].is_string());
            assert_eq!(row(&[said, verified("ok", json!({}))])["last"], "passed");
        }
        let many: Vec<_> =
            (0..20).map(|at| verified("failed", json!({ "reason": format!("R{at}") }))).collect();
        let failed = row(&many);
        assert_eq!((&failed["count"], &failed["more"]), (&json!(20), &json!(4)));
        assert_eq!(
            (&failed["listed"][0]["reason"], &failed["listed"][15]["reason"]),
            (&json!("R4"), &json!("R19"))
        );
    }

    #[test]
    fn a_statement_is_made_again_of_what_has_grown_and_not_of_what_was_cut() {
        let whole = further("COMPLIANCE", "2033-01-01T00:00:00.000000Z");
        let whole_run = published();
        let run = &whole_run.runs()[0];
        let stated = |evidence: &Evidence| {
            let mut stated = json!({});
            evidence.cited.document().into_iter().for_each(|(name, member)| stated[name] = member);
            stated
        };
        let mut evidence = published();
        evidence.cite(&whole).unwrap();
        let said = stated(&evidence);
        let archived = at(run, "COMPLIANCE", "2033-01-01T00:00:00.000000Z");
        let moved = ("moved", json!({ "from": "a", "to": "b" }));
        let grown = Further {
            custody: vec![list(run, &[("archived", archived), moved.clone()])],
            ..further("COMPLIANCE", "2033-01-01T00:00:00.000000Z")
        };
        evidence.cite_as(&grown, &said).unwrap();
        assert_eq!(stated(&evidence), said);
        let other = Further { custody: vec![list(run, &[moved])], ..whole };
        assert_eq!(evidence.cite_as(&other, &said).unwrap_err().code(), "CUSTODY_CUT");
        evidence.cite_as(&grown, &json!({})).unwrap();
        assert_eq!(stated(&evidence), json!({}), "what is not cited is left aside");
    }
}
