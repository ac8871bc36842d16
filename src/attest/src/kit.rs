//! A kit: bundles, attestations, trust document and verifiers as one file for an auditor (`spec/kit.md`).
//!
//! - [`assemble`] makes a [`Kit`] of [`Contents`] that all verify; [`Kit::to_zip`] is the one file.
//! - [`check`] judges one: it is made again from its contents and compared.

mod parts;

use std::collections::{BTreeMap, BTreeSet};

use estoppel_bundle::{Archive, BundlePath, ZipWriter};
use estoppel_evidence::envelope::{STATEMENT_TYPE, base64, from_base64, sign};
use estoppel_evidence::{PublicKey, Sha256, Signer};
use estoppel_release::audit;
use estoppel_verify::{Externals, Options, read_statement};
use serde_json::{Value, json};

use crate::cited::{Further, run_of};
use crate::error::AttestError;
use crate::evidence::{Evidence, Given};
use crate::framework::Framework;
use crate::statement::{Statement, Tool, canonical};
use crate::verify::verify;
use crate::{oscal, pdf};
pub use parts::result_of;

/// Most bytes of a kit.
pub const KIT_BYTES_MAX: u64 = 1 << 30;
/// Predicate type of its statement.
const PREDICATE: &str = "urn:estoppel:kit:v0";
const INDEX: &str = "kit.json";
const TRUST: &str = "trust.json";
const ARCHIVE: &str = "archive.ndjson";
const LEDGER: &str = "ledger.json";
/// What the name of a chain of custody ends with, after that of its bundle.
const CUSTODY: &str = ".custody.ndjson";

/// The files of a kit, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kit {
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A sealed run as it is on disk, and what lies beside it by SHA-256 (hex).
#[derive(Clone, Debug, Default)]
pub struct Archived {
    pub archive: Vec<u8>,
    pub beside: BTreeMap<String, Vec<u8>>,
}

/// What a kit is made of.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    pub bundles: Vec<Archived>,
    /// Statements about all of them, with the file of their framework.
    pub attestations: Vec<(Vec<u8>, Vec<u8>)>,
    pub trust: Vec<u8>,
    /// Chains of custody of the bundles.
    pub custody: Vec<Vec<u8>>,
    /// The index of the archive.
    pub archive: Option<Vec<u8>>,
    /// An export of the ledger of releases, as JSON.
    pub ledger: Option<Vec<u8>>,
    /// Certificates of replays of the bundles.
    pub certificates: Vec<Vec<u8>>,
    /// Results of regress over calls of the bundles, as [`result_of`] gives them.
    pub results: Vec<Vec<u8>>,
    /// Policies in canonical form, each the one of a result.
    pub policies: Vec<Vec<u8>>,
    /// Files of the contracts that these policies take from packs.
    pub contracts: Vec<Vec<u8>>,
    /// Verifiers and guides, by path.
    pub further: BTreeMap<String, Vec<u8>>,
}

/// A kit that holds.
#[derive(Debug)]
pub struct CheckedKit {
    pub summary: Value,
    /// The key that signed it.
    pub kid: String,
}

/// Makes a kit and signs it.
///
/// # Errors
/// [`AttestError`]: what does not verify, limits.
pub fn assemble(
    contents: &Contents,
    tool: &Tool,
    signer: &dyn Signer,
    options: &Options<'_>,
) -> Result<Kit, AttestError> {
    let mut files = contents.further.clone();
    files.insert(TRUST.to_owned(), contents.trust.clone());
    let options = Options { trust: Some(&contents.trust), ..*options };
    let mut evidence = Evidence::default();
    for Archived { archive, beside } in &contents.bundles {
        let given = Given { name: "given".into(), bytes: archive, beside: &mut Beside(beside) };
        let run = evidence.add(given, &options)?;
        let path = format!("bundles/{run}.pef.zip");
        for (sha256, content) in beside {
            files.insert(format!("{path}.d/{sha256}"), content.clone());
        }
        files.insert(path, archive.clone());
    }
    if evidence.runs().is_empty() {
        return Err(AttestError::Empty);
    }
    for list in &contents.custody {
        let run = run_of(evidence.runs(), list)?;
        if files.insert(format!("bundles/{run}.pef.zip{CUSTODY}"), list.clone()).is_some() {
            return Err(AttestError::Twice(run));
        }
    }
    files.extend(contents.archive.iter().map(|index| (ARCHIVE.to_owned(), index.clone())));
    files.extend(contents.ledger.iter().map(|ledger| (LEDGER.to_owned(), ledger.clone())));
    let certificates = contents.certificates.iter();
    files.extend(certificates.map(|content| (parts::certificate_path(content), content.clone())));
    files.extend(contents.results.iter().map(|content| (parts::result_path(content), content.clone())));
    files.extend(contents.policies.iter().map(|content| (parts::policy_path(content), content.clone())));
    files.extend(contents.contracts.iter().map(|content| (parts::contract_path(content), content.clone())));
    let mut kit = Kit { files };
    let further = kit.further()?;
    for (statement, framework) in &contents.attestations {
        let framework_read = Framework::parse(framework)?;
        let statement = verify(statement, &framework_read, &mut evidence, &further, None)?.statement;
        let folder = format!("attestations/{}", framework_read.id);
        kit.files.insert(format!("frameworks/{}.toml", framework_read.id), framework.clone());
        for (name, copy) in copies(&statement)? {
            if kit.files.insert(format!("{folder}/{name}"), copy).is_some() {
                return Err(AttestError::Twice(framework_read.id));
            }
        }
    }
    let index = document(&kit, &mut evidence, &options, tool, signer.public())?;
    kit.files.insert(INDEX.to_owned(), sign(STATEMENT_TYPE, &canonical(&index)?, signer)?);
    kit.is_within()?;
    Ok(kit)
}

/// A statement and what follows from it, by name.
///
/// # Errors
/// As [`oscal`].
pub fn copies(statement: &Statement) -> Result<Vec<(&'static str, Vec<u8>)>, AttestError> {
    Ok(vec![
        ("attestation.json", statement.bytes.clone()),
        ("attestation.pdf", pdf(statement)),
        ("assessment-results.json", oscal(statement)?),
    ])
}

struct Beside<'c>(&'c BTreeMap<String, Vec<u8>>);

impl Externals for Beside<'_> {
    fn open(&mut self, sha256: &str) -> std::io::Result<Option<Box<dyn std::io::Read + '_>>> {
        Ok(self.0.get(sha256).map(|content| Box::new(content.as_slice()) as Box<dyn std::io::Read>))
    }
}

fn document(
    kit: &Kit,
    evidence: &mut Evidence,
    options: &Options<'_>,
    tool: &Tool,
    key: &PublicKey,
) -> Result<Value, AttestError> {
    if evidence.has_key(&key.id().to_string()) {
        return Err(AttestError::Shared(key.id().to_string()));
    }
    let subject: Vec<Value> = kit
        .files
        .iter()
        .filter(|(path, _)| *path != INDEX)
        .map(|(path, content)| json!({ "digest": { "sha256": Sha256::of(content).hex() }, "name": path }))
        .collect();
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": {
            "key": { "alg": key.alg(), "kid": key.id().to_string(), "spki": base64(key.spki()) },
            "summary": summary(kit, evidence, options)?,
            "tool": tool,
            "v": "kit/v0",
        },
        "predicateType": PREDICATE,
        "subject": subject,
    }))
}

/// Numbers over what is in the kit, all of which a reader can count again.
fn summary(kit: &Kit, evidence: &mut Evidence, options: &Options<'_>) -> Result<Value, AttestError> {
    evidence.cite(&kit.further()?)?;
    let mut counters: BTreeMap<&str, u64> = BTreeMap::new();
    for run in evidence.runs() {
        for (name, count) in run.report.counters.rows() {
            *counters.entry(name).or_default() += count;
        }
    }
    let mut attestations = Vec::new();
    for (path, content) in kit.files.iter().filter(|(path, _)| path.ends_with("/attestation.json")) {
        let signed = read_statement(content).map_err(AttestError::Form)?;
        let stated: Value =
            serde_json::from_slice(&signed.payload).map_err(|error| AttestError::Form(error.to_string()))?;
        attestations.push(json!({
            "counts": stated["predicate"]["counts"],
            "digest": Sha256::of(content).to_string(),
            "framework": stated["predicate"]["framework"]["id"],
            "path": path,
        }));
    }
    let runs: Vec<Value> = evidence.runs().iter().map(|run| run.document()).collect();
    let mut summary = json!({
        "attestations": attestations,
        "certificates": parts::certificates(kit, evidence, options)?,
        "counters": counters,
        "inventory": evidence.inventory()?,
        "regress": parts::results(kit)?,
        "runs": runs,
        "trace": evidence.trace(),
    });
    let cited = evidence.cited.document().into_iter();
    for (name, member) in cited.chain([("releases", evidence.cited.releases())]) {
        if !member.is_null() {
            summary[name] = member;
        }
    }
    Ok(summary)
}

/// Judges a kit by the trust document inside, which is also `trust` where the reader has one from elsewhere.
///
/// # Errors
/// [`AttestError`], the first that is wrong.
pub fn check(
    kit: &Kit,
    options: &Options<'_>,
    signer: Option<&PublicKey>,
) -> Result<CheckedKit, AttestError> {
    let signed = read_statement(kit.content(INDEX)?).map_err(AttestError::KitForm)?;
    let kid = signed.key.hex();
    if signer.is_some_and(|signer| signer.id().to_string() != kid) {
        return Err(AttestError::Untrusted { found: kid });
    }
    let stated: Value =
        serde_json::from_slice(&signed.payload).map_err(|error| AttestError::KitForm(error.to_string()))?;
    compare(kit, &stated)?;
    if options.trust.is_some_and(|trust| kit.files.get(TRUST).map(Vec::as_slice) != Some(trust)) {
        return Err(AttestError::KitTrust);
    }
    let mut evidence = kit.evidence(options)?;
    kit.attestations(&mut evidence)?;
    let predicate = &stated["predicate"];
    let told = |what: &str| AttestError::KitForm(format!("it does not state its {what}"));
    let tool = serde_json::from_value::<Tool>(predicate["tool"].clone());
    let tool = tool.map_err(|error| AttestError::KitForm(format!("`/predicate/tool`: {error}")))?;
    let key = predicate["key"]["spki"].as_str().and_then(from_base64);
    let key = key.and_then(|spki| PublicKey::from_spki(&spki).ok()).ok_or_else(|| told("key"))?;
    if canonical(&document(kit, &mut evidence, options, &tool, &key)?)? != signed.payload {
        return Err(AttestError::KitSummary);
    }
    Ok(CheckedKit { summary: predicate["summary"].clone(), kid })
}

/// What is declared is there as declared, and nothing else is there.
fn compare(kit: &Kit, stated: &Value) -> Result<(), AttestError> {
    let mut declared = BTreeSet::from([INDEX]);
    for subject in stated["subject"].as_array().into_iter().flatten() {
        let path = subject["name"].as_str().unwrap_or_default();
        if !declared.insert(path) {
            return Err(AttestError::KitForm(format!("`{path}` is declared twice")));
        }
        if subject["digest"]["sha256"] != Sha256::of(kit.content(path)?).hex() {
            return Err(AttestError::KitAltered(path.to_owned()));
        }
    }
    for path in kit.files.keys() {
        if !declared.contains(path.as_str()) {
            return Err(AttestError::KitUndeclared(path.clone()));
        }
        if !is_file_of_a_kit(path) {
            return Err(AttestError::KitForm(format!("`{path}` is no file of a kit")));
        }
        let framework = path.strip_prefix("attestations/").and_then(|rest| rest.split_once('/'));
        if let Some((id, _)) = framework {
            kit.content(&format!("frameworks/{id}.toml"))?;
        }
        let framework = path.strip_prefix("frameworks/").and_then(|file| file.strip_suffix(".toml"));
        if let Some(id) = framework {
            kit.content(&format!("attestations/{id}/attestation.json"))?;
        }
    }
    Ok(())
}

/// The table of `spec/kit.md`.
fn is_file_of_a_kit(path: &str) -> bool {
    const COPIES: [&str; 3] = ["attestation.json", "attestation.pdf", "assessment-results.json"];
    let is_hex =
        |text: &str| text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    match path.split('/').collect::<Vec<_>>()[..] {
        [INDEX | TRUST | ARCHIVE | LEDGER | "verify.md" | "verify.py"] => true,
        ["verifiers", _, ..] => true,
        ["bundles", bundle] => bundle.strip_suffix(CUSTODY).unwrap_or(bundle).ends_with(".pef.zip"),
        ["certificates" | "policies" | "regress", file] => file.strip_suffix(".json").is_some_and(is_hex),
        ["contracts", file] => is_hex(file),
        ["bundles", folder, content] => folder.ends_with(".pef.zip.d") && is_hex(content),
        ["frameworks", file] => file.ends_with(".toml"),
        ["attestations", _, copy] => COPIES.contains(&copy),
        _ => false,
    }
}

impl Kit {
    fn content(&self, path: &str) -> Result<&[u8], AttestError> {
        let found = self.files.get(path).map(Vec::as_slice);
        found.ok_or_else(|| AttestError::KitMissing(path.to_owned()))
    }

    fn below<'k>(&'k self, folder: &'k str) -> impl Iterator<Item = (&'k String, &'k Vec<u8>)> {
        self.files.iter().filter(move |(path, _)| path.starts_with(folder))
    }

    /// What lies beside a bundle, by SHA-256 (hex).
    fn beside(&self, run: &str) -> BTreeMap<String, Vec<u8>> {
        let place = format!("bundles/{run}.pef.zip.d/");
        let beside = self.files.iter();
        beside
            .filter_map(|(path, content)| Some((path.strip_prefix(&place)?.to_owned(), content.clone())))
            .collect()
    }

    /// What is cited beside the bundles.
    fn further(&self) -> Result<Further, AttestError> {
        let ledger = self.files.get(LEDGER).map(|export| audit::verify(export, None, None)).transpose()?;
        let lists = self.below("bundles/").filter(|(path, _)| path.ends_with(CUSTODY));
        Ok(Further {
            custody: lists.map(|(_, list)| list.clone()).collect(),
            custodians: Vec::new(),
            archive: self.files.get(ARCHIVE).cloned(),
            ledger: ledger.map(|verified| verified.ledger),
        })
    }

    /// A name that is also a folder of another, so that nobody could unpack both.
    fn file_and_folder(&self) -> Option<&str> {
        let folders =
            self.files.keys().flat_map(|path| path.match_indices('/').filter_map(|(end, _)| path.get(..end)));
        folders.into_iter().find(|folder| self.files.contains_key(*folder))
    }

    fn is_within(&self) -> Result<(), AttestError> {
        let bytes: u64 = self.files.values().map(|content| content.len() as u64).sum(); // widening
        if bytes > KIT_BYTES_MAX { Err(AttestError::Limit) } else { Ok(()) }
    }

    fn evidence(&self, options: &Options<'_>) -> Result<Evidence, AttestError> {
        let options = Options { trust: Some(self.content(TRUST)?), ..*options };
        let mut evidence = Evidence::default();
        for (path, archive) in &self.files {
            if !path.starts_with("bundles/") || !path.ends_with(".pef.zip") {
                continue;
            }
            let run = path.strip_prefix("bundles/").and_then(|file| file.strip_suffix(".pef.zip"));
            let beside = self.beside(run.unwrap_or_default());
            let given = Given { name: path.clone(), bytes: archive, beside: &mut Beside(&beside) };
            let run = evidence.add(given, &options)?;
            if *path != format!("bundles/{run}.pef.zip") {
                return Err(AttestError::KitAltered(path.clone()));
            }
        }
        for (path, list) in self.below("bundles/").filter(|(path, _)| path.ends_with(CUSTODY)) {
            if *path != format!("bundles/{}.pef.zip{CUSTODY}", run_of(evidence.runs(), list)?) {
                return Err(AttestError::KitAltered(path.clone()));
            }
        }
        Ok(evidence)
    }

    fn attestations(&self, evidence: &mut Evidence) -> Result<(), AttestError> {
        let further = self.further()?;
        for (path, framework) in self.files.iter().filter(|(path, _)| path.starts_with("frameworks/")) {
            let framework = Framework::parse(framework)?;
            if *path != format!("frameworks/{}.toml", framework.id) {
                return Err(AttestError::KitAltered(path.clone()));
            }
            let folder = format!("attestations/{}", framework.id);
            let statement = self.content(&format!("{folder}/attestation.json"))?;
            let verified = verify(statement, &framework, evidence, &further, None);
            // A kit is whole: what it lacks was not left away by whoever verifies.
            let verified = verified.map_err(|error| match error {
                AttestError::Missing(cites) => {
                    AttestError::Mismatch { at: format!("/predicate/{}", cites.member()) }
                }
                error => error,
            });
            let statement = verified?.statement;
            for (name, copy) in copies(&statement)? {
                let path = format!("{folder}/{name}");
                if self.content(&path)? != copy {
                    return Err(AttestError::Copy(path));
                }
            }
        }
        Ok(())
    }

    /// The one file, as bundles are written (PEF section 9).
    ///
    /// # Errors
    /// [`AttestError::Limit`], [`AttestError::KitForm`] for a path that no archive has.
    pub fn to_zip(&self) -> Result<Vec<u8>, AttestError> {
        let mut files = BTreeMap::new();
        for (path, content) in &self.files {
            let path: BundlePath = path
                .parse()
                .map_err(|_| AttestError::KitForm(format!("`{}` is no path", path.escape_debug())))?;
            files.insert(path, content);
        }
        let mut zip = ZipWriter::new(Vec::new());
        for (path, content) in files {
            let crc32 = crc32fast::hash(content);
            zip.entry(&path, content.len() as u64, crc32, &mut content.as_slice()) // widening
                .map_err(|_| AttestError::Limit)?;
        }
        zip.finish().map_err(|_| AttestError::Limit)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`AttestError::KitForm`] for anything but the bytes that [`Kit::to_zip`] gives, [`AttestError::Limit`].
    pub fn from_zip(bytes: &[u8]) -> Result<Self, AttestError> {
        let wrong = |error: &dyn std::fmt::Display| AttestError::KitForm(error.to_string());
        let archive = Archive::open(bytes).map_err(|error| wrong(&error))?;
        let mut files = BTreeMap::new();
        for entry in archive.entries() {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut archive.content(entry), &mut content)
                .map_err(|error| wrong(&error))?;
            if crc32fast::hash(&content) != entry.crc32 {
                return Err(AttestError::KitAltered(entry.path.to_string()));
            }
            files.insert(entry.path.to_string(), content);
        }
        let kit = Self { files };
        if let Some(path) = kit.file_and_folder() {
            return Err(AttestError::KitForm(format!("`{path}` is a file and a folder")));
        }
        kit.is_within()?;
        Ok(kit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_archives_are_answered_as_the_vectors_say() {
        let vectors: Value = serde_json::from_str(include_str!("../../../spec/kit-vectors.json")).unwrap();
        let cases = vectors["archives"].as_array().unwrap();
        assert!(cases.len() >= 5, "{}", cases.len());
        for case in cases {
            let names =
                case["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
            let kit = Kit { files: names.map(|name| (name, b"x".to_vec())).collect() };
            let read = Kit::from_zip(&kit.to_zip().unwrap());
            assert_eq!(json!(read.err().map(|error| error.code())), case["code"], "{}", case["names"]);
        }
    }
}
