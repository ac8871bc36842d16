//! Judges a bundle: the steps of SPEC section 11, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::check::{Check, Executor, Pending, Sequential};
use crate::container::{Files, Input};
use crate::entry::{Entry, LINE_BYTES_MAX};
use crate::envelope::Envelope;
use crate::hash::{Hash, Hasher};
use crate::json::is_strict;
use crate::keys::{Keys, STATEMENT_TYPE, Usage};
use crate::manifest::{Manifest, sums};
use crate::note::{Checkpoint, Proof};
use crate::reason::Reason;
use crate::report::{
    Anchoring, Authenticity, Completeness, Finding, Integrity, Report, SigningKey, Standing, Step, Stop,
    Subject, Unreadable,
};
use crate::run::{Open, Owner, Run, Signing};
use crate::tally::{Stream, Tally};
use crate::tree::{Tree, root_of_path};
use crate::trust::{check_revocation, find_trusted, read_trust, unusable};

/// Which signatures of entries are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signatures {
    /// All that there are.
    #[default]
    Each,
    /// Only that they are there. Authenticity then rests on the checkpoint, which signs the tree over all entries;
    /// the report says so.
    CheckpointOnly,
}

/// How to verify.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// A trust document from elsewhere than the artifact.
    pub trust: Option<&'a [u8]>,
    pub signatures: Signatures,
    /// Runs the signature checks, perhaps in parallel.
    pub executor: &'a dyn Executor,
    /// Is told now and then how many entries have been read.
    pub progress: &'a dyn Fn(u64),
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { trust: None, signatures: Signatures::Each, executor: &Sequential, progress: &|_| {} }
    }
}

/// Where the content is that is kept beside a bundle.
pub trait Externals {
    /// Opens the content with that SHA-256 (hex), or says that there is none. Called up to twice for each.
    ///
    /// # Errors
    /// Something is there that cannot be read.
    fn open(&mut self, sha256: &str) -> std::io::Result<Option<Box<dyn Read + '_>>>;
}

/// There is nothing beside the bundle.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExternals;

impl Externals for NoExternals {
    fn open(&mut self, _: &str) -> std::io::Result<Option<Box<dyn Read + '_>>> {
        Ok(None)
    }
}

/// Judges a bundle.
///
/// # Errors
/// Only when external content could not be read; everything that is wrong with the bundle is in the report.
pub fn verify_bundle(
    input: Input<'_>,
    externals: &mut dyn Externals,
    options: &Options<'_>,
) -> Result<Report, Unreadable> {
    let mut report = Report::new(Subject::Bundle);
    report.trust_given = options.trust.is_some();
    let outcome = judge(input, externals, options, &mut report);
    report.conclude(outcome)
}

const MANIFEST: &str = "manifest.json";
const ENVELOPE: &str = "manifest.dsse.json";
const ENTRIES: &str = "receipts.ndjson";
const SIGNATURES: &str = "receipts.sig";
const CHECKPOINT: &str = "checkpoint";
const ANCHOR: &str = "anchor.tlog-proof";
const SUMS: &str = "SHA256SUMS";

/// The steps in order. A verdict is decided for good where its last step has passed.
fn judge(
    input: Input<'_>,
    externals: &mut dyn Externals,
    options: &Options<'_>,
    report: &mut Report,
) -> Result<(), Stop> {
    let files = Files::read(input)?; // C1 to C5
    for path in [MANIFEST, ENVELOPE, ENTRIES, CHECKPOINT, SUMS] {
        need(&files, path)?; // F1
    }
    report.files = files.iter().count() as u64; // At most 65,534.
    let manifest = Manifest::read(need(&files, MANIFEST)?)?; // M1 to M4
    report.iss = Some(manifest.iss.clone());
    report.run = Some(manifest.run.clone());
    let (statement, manifest_key) = check_envelope(&files, &manifest)?;

    let mut lines = Lines::new(&files, &manifest, options);
    let outcome = lines.read(need(&files, ENTRIES)?);
    let Lines { mut run, mut tally, seal, first_key, .. } = lines.report_to(report, outcome)?;
    let Open { tree, counters, rotated } = run.close().map(|open| *open).unwrap_or_default();
    check_seal(&files, &run, seal)?; // S1 to S3
    report.counters = counters;
    report.root = Some(tree.root());
    manifest
        .check(&tree, &counters, &mut tally)
        .map_err(|detail| Finding::new(Reason::ManifestMismatch, detail))?; // S4
    report.facts = Some(tally.facts.clone());

    let checkpoint_key = check_checkpoint(&files, &manifest, &tree)?;
    report.checkpoint_size = Some(tree.size());
    let digests = check_files(&files, &manifest)?; // F2, F3
    check_names(&digests, &tally)?; // F4
    if statement != manifest.statement(&tree, &digests).as_bytes() {
        return Err(Finding::new(
            Reason::StatementMismatch,
            "the signed statement is not the one that the manifest and the files of this bundle determine",
        )
        .into()); // F5
    }
    if need(&files, SUMS)? != sums(&digests).as_bytes() {
        let detail = "expected one line for each file but itself, sorted, with its SHA-256";
        return Err(Finding::new(Reason::SumsMismatch, detail).into()); // F6
    }
    for stream in &tally.streams {
        check_stream(&files, &digests, stream)
            .map_err(|detail| Finding::new(Reason::StreamMismatch, detail).at(stream.seq))?; // N1
    }
    check_bodies(&digests, &manifest, &tally)?; // B1
    if matches!(input, Input::Directory(_)) {
        report.verdicts.integrity = Integrity::Ok;
    }
    report.externals = manifest.externals.len() as u64; // At most 65,534.
    check_externals(externals, &manifest)?; // X1, X2
    report.verdicts.completeness = Completeness::Complete;

    let anchor = check_anchor(&files, &manifest, run.last())?; // A1 to A3
    report.anchor_index = anchor.as_ref().map(|anchor| anchor.index);
    report.verdicts.anchoring = if anchor.is_some() { Anchoring::Anchored } else { Anchoring::Absent };

    let mut signers = vec![(Usage::Manifest, manifest_key), (Usage::Checkpoint, checkpoint_key)];
    signers.extend(first_key.map(|key| (Usage::Receipt, key)));
    signers.extend(anchor.as_ref().map(|anchor| (Usage::Checkpoint, anchor.key)));
    let entries_signed = run.signing == Signing::Each && options.signatures == Signatures::Each;
    let signing = Signers { iss: &manifest.iss, keys: &manifest.keys, signers, rotated, entries_signed };
    report.verdicts.authenticity = match options.trust {
        None => signing.assert(report),
        Some(trust) => signing.check(trust, report)?, // K1, K2
    };
    files.check_crcs()?; // Z1
    report.verdicts.integrity = Integrity::Ok;
    Ok(())
}

fn need<'a>(files: &Files<'a>, path: &str) -> Step<&'a [u8]> {
    match files.get(path) {
        Some(file) => Ok(file.bytes),
        None => Err(Finding::new(Reason::FileMissing, format!("expected a file `{path}`, found none"))),
    }
}

/// M5 to M7. Gives the statement and the key that signed it.
fn check_envelope(files: &Files<'_>, manifest: &Manifest<'_>) -> Step<(Vec<u8>, Hash)> {
    let envelope = Envelope::read(need(files, ENVELOPE)?, STATEMENT_TYPE)
        .map_err(|detail| Finding::new(Reason::EnvelopeMalformed, detail))?;
    is_strict(&envelope.payload).map_err(|fault| {
        let detail = format!("the payload: {}", fault.describe(&envelope.payload));
        Finding::new(Reason::EnvelopeMalformed, detail)
    })?;
    let id = envelope.key_id;
    let key = manifest.keys.find(id, Usage::Manifest).ok_or_else(|| {
        let detail =
            format!("the envelope is signed by `{}`, which is not listed as a manifest key", id.hex());
        Finding::new(Reason::KeyUnknown, detail)
    })?;
    if !envelope.is_signed_by(&key.public) {
        let detail = format!("the envelope's signature does not verify with key `{}`", id.hex());
        return Err(Finding::new(Reason::EnvelopeSignature, detail));
    }
    Ok((envelope.payload, id))
}

/// L1 to L12, line after line.
struct Lines<'a> {
    keys: &'a Keys,
    owner: Owner<'a>,
    signatures: Option<&'a [u8]>,
    options: &'a Options<'a>,
    pending: Pending<'a>,
    run: Run,
    tally: Tally,
    /// What S3 has against the seal.
    seal: Result<(), String>,
    first_key: Option<Hash>,
    skipped: u64,
}

impl<'a> Lines<'a> {
    fn new(files: &Files<'a>, manifest: &'a Manifest<'_>, options: &'a Options<'a>) -> Self {
        Lines {
            keys: &manifest.keys,
            owner: Owner { run: manifest.run.as_bytes(), iss: manifest.iss.as_bytes() },
            signatures: files.get(SIGNATURES).map(|file| file.bytes),
            options,
            pending: Pending::new(options.executor),
            run: Run::default(),
            tally: Tally::default(),
            seal: Ok(()),
            first_key: None,
            skipped: 0,
        }
    }

    fn read(&mut self, text: &'a [u8]) -> Step {
        let outcome = self.read_lines(text);
        // What is put aside belongs to lines before the one that stopped the reading, or to that line's L10.
        self.pending.settle()?;
        outcome
    }

    fn read_lines(&mut self, mut rest: &'a [u8]) -> Step {
        loop {
            let (line, after) = split_line(rest).map_err(|finding| finding.at(self.run.size))?;
            self.read_line(line)?;
            if self.pending.is_full() || self.run.size.is_multiple_of(8192) {
                self.pending.settle()?;
                (self.options.progress)(self.run.size);
            }
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
        }
    }

    fn read_line(&mut self, line: &'a [u8]) -> Step {
        let seq = self.run.size;
        let entry = Entry::read(line).map_err(|finding| finding.at(seq))?; // L1 to L4
        let key = self.run.admit(&entry, self.owner, self.keys)?; // L5 to L9
        self.first_key.get_or_insert(key.id);
        if self.run.signing == Signing::Each {
            let signature = signature_at(self.signatures.unwrap_or_default(), seq).ok_or_else(|| {
                let detail = format!("expected 64 bytes at {} of `{SIGNATURES}`, found its end", seq * 64);
                Finding::new(Reason::SignatureMissing, detail).at(seq)
            })?;
            match self.options.signatures {
                Signatures::Each => {
                    self.pending.push(Check::new(&key.public, line, *signature, seq, None)); // L10
                }
                Signatures::CheckpointOnly => self.skipped += 1,
            }
        }
        if let Some(seal) = self.run.take(&entry, self.keys)? {
            self.seal = seal; // L11, L12
        }
        self.tally.add(&entry, seq);
        Ok(())
    }

    /// Puts what was read into the report, then goes on or stops.
    fn report_to(self, report: &mut Report, outcome: Step) -> Step<Self> {
        report.entries = outcome.as_ref().err().and_then(|finding| finding.seq).unwrap_or(self.run.size);
        report.signatures_verified = self.pending.verified;
        report.signatures_skipped = self.skipped;
        outcome.map(|()| self)
    }
}

/// L1, as far as it is about where the line ends.
fn split_line(text: &[u8]) -> Step<(&[u8], &[u8])> {
    let refuse = |detail: &str| Err(Finding::new(Reason::LineLength, detail));
    if text.is_empty() {
        return refuse("expected at least one line, found an empty file");
    }
    let window = text.get(..=LINE_BYTES_MAX).unwrap_or(text);
    match window.iter().position(|byte| *byte == b'\n').and_then(|at| text.split_at_checked(at)) {
        Some((line, [_, after @ ..])) => Ok((line, after)),
        _ if window.len() > LINE_BYTES_MAX => {
            refuse(&format!("expected a line of at most {LINE_BYTES_MAX} bytes, found a longer one"))
        }
        _ => refuse("expected a line feed after the last line, found the end"),
    }
}

fn signature_at(signatures: &[u8], seq: u64) -> Option<&[u8; 64]> {
    let from = usize::try_from(seq).ok()?.checked_mul(64)?;
    signatures.get(from..)?.first_chunk()
}

/// S1 to S3.
fn check_seal(files: &Files<'_>, run: &Run, seal: Result<(), String>) -> Step {
    if !run.sealed {
        let detail = format!("expected `run.seal` as the last of {} entries, found none", run.size);
        return Err(Finding::new(Reason::SealMissing, detail).at(run.size));
    }
    let found = files.get(SIGNATURES).map(|file| file.bytes.len() as u64); // usize fits.
    let expected = (run.signing == Signing::Each).then_some(run.size * 64);
    if found != expected {
        let shown =
            |bytes: Option<u64>| bytes.map_or("no such file".to_owned(), |bytes| format!("{bytes} bytes"));
        let detail = format!("expected `{SIGNATURES}`: {}, found {}", shown(expected), shown(found));
        return Err(Finding::new(Reason::SignatureSurplus, detail));
    }
    seal.map_err(|detail| Finding::new(Reason::SealMismatch, detail).at(run.size.saturating_sub(1)))
}

/// T1 to T3. Gives the key that signed.
fn check_checkpoint(files: &Files<'_>, manifest: &Manifest<'_>, tree: &Tree) -> Step<Hash> {
    let origin = format!("{}/run/{}", manifest.iss, manifest.run);
    let checkpoint = Checkpoint::read_of(need(files, CHECKPOINT)?, &origin)
        .map_err(|detail| Finding::new(Reason::CheckpointMalformed, detail))?;
    check_tree(&checkpoint, tree.size(), tree.root())?;
    let key = checkpoint
        .signer(&manifest.keys, &manifest.iss)
        .map_err(|detail| Finding::new(Reason::CheckpointSignature, detail))?;
    Ok(key.id)
}

/// T2.
pub(crate) fn check_tree(checkpoint: &Checkpoint<'_>, size: u64, root: Hash) -> Step {
    if checkpoint.size == size && checkpoint.root == root {
        return Ok(());
    }
    let detail = format!(
        "the entries form a tree of size {size} with root {}, the checkpoint signs size {} with root {}",
        root.hex(),
        checkpoint.size,
        checkpoint.root.hex()
    );
    Err(Finding::new(Reason::CheckpointMismatch, detail))
}

/// F2 and F3. Gives the digest of every file.
fn check_files<'a>(files: &Files<'a>, manifest: &Manifest<'_>) -> Step<BTreeMap<&'a str, Hash>> {
    for row in &manifest.files {
        if files.get(&row.path).is_none() {
            let detail = format!("the manifest lists `{}`, which is not there", row.path);
            return Err(Finding::new(Reason::FileMissing, detail));
        }
    }
    let unlisted = |detail| Err(Finding::new(Reason::FileUnlisted, detail));
    let mut rows = manifest.files.iter();
    let mut before: Option<&str> = None;
    for row in rows.by_ref() {
        if before.is_some_and(|before| before >= row.path.as_str()) {
            return unlisted(format!("the manifest lists `{}` twice or out of order", row.path));
        }
        if matches!(row.path.as_str(), MANIFEST | ENVELOPE | SUMS) {
            return unlisted(format!("the manifest lists `{}`, which it must not", row.path));
        }
        before = Some(&row.path);
    }
    let mut digests = BTreeMap::new();
    for file in files.iter() {
        let row = manifest.files.binary_search_by(|row| row.path.as_str().cmp(file.path)).ok();
        if row.is_none() && !matches!(file.path, MANIFEST | ENVELOPE | SUMS) {
            return unlisted(format!("`{}` is there, but the manifest does not list it", file.path));
        }
    }
    for file in files.iter() {
        let digest = Hash::of(file.bytes);
        digests.insert(file.path, digest);
        let row = manifest.files.binary_search_by(|row| row.path.as_str().cmp(file.path)).ok();
        let Some(row) = row.and_then(|at| manifest.files.get(at)) else { continue };
        let bytes = file.bytes.len() as u64; // usize fits.
        if row.bytes != bytes || row.digest != digest {
            let detail = format!(
                "`{}`: the manifest states {} bytes with SHA-256 {}, found {bytes} bytes with {}",
                file.path,
                row.bytes,
                row.digest.hex(),
                digest.hex()
            );
            return Err(Finding::new(Reason::FileDigest, detail));
        }
    }
    Ok(digests)
}

/// F4.
fn check_names(digests: &BTreeMap<&str, Hash>, tally: &Tally) -> Step {
    for (path, digest) in digests {
        let Some((folder, _)) = path.split_once('/') else { continue };
        let expected = match folder {
            "policy" | "contracts" => format!("{folder}/{}.json", digest.hex()),
            "bodies" => format!("{folder}/{}", digest.hex()),
            _ => continue,
        };
        if *path != expected {
            let detail = format!("expected the name `{expected}`, found `{path}`");
            return Err(Finding::new(Reason::FileNameDigest, detail));
        }
    }
    let missing = tally
        .policy_seqs
        .iter()
        .filter(|(hash, _)| !digests.contains_key(format!("policy/{}.json", hash.hex()).as_str()));
    match missing.min_by_key(|(_, seq)| **seq) {
        Some((hash, seq)) => {
            let detail = format!("expected `policy/{}.json`, which judged this call, found none", hash.hex());
            Err(Finding::new(Reason::PolicyMissing, detail).at(*seq))
        }
        None => Ok(()),
    }
}

/// The most nodes that a stream's file has.
const NODES_MAX: u64 = 65_536;

/// N1.
fn check_stream(files: &Files<'_>, digests: &BTreeMap<&str, Hash>, stream: &Stream) -> Result<(), String> {
    let path = format!("streams/{}.nodes", stream.call);
    let file = files.get(&path).ok_or_else(|| format!("expected a file `{path}`, found none"))?;
    if digests.get(path.as_str()).copied() != stream.nodes {
        return Err(format!("`{path}` has not the digest that the receipt states as `sse.nodes`"));
    }
    let level = (0..64).find(|level| blocks(stream.units, *level) <= NODES_MAX).unwrap_or_default();
    if stream.level != Some(u64::from(level)) {
        let found = stream.level.map_or("none".to_owned(), |found| found.to_string());
        return Err(format!("{} units need `level` {level}, found {found}", stream.units));
    }
    let (nodes, rest) = file.bytes.as_chunks::<32>();
    let expected = blocks(stream.units, level);
    if nodes.len() as u64 != expected || !rest.is_empty() {
        let found = file.bytes.len();
        return Err(format!("{} units need {expected} nodes of 32 bytes, found {found} bytes", stream.units));
    }
    let mut tree = Tree::default();
    nodes.iter().for_each(|node| tree.push(Hash(*node)));
    if Some(tree.root()) != stream.root {
        return Err(format!("the nodes in `{path}` lead to another root than the receipt states"));
    }
    Ok(())
}

/// How many blocks of 2^level units, the last perhaps not full.
fn blocks(units: u64, level: u32) -> u64 {
    units.div_ceil(1 << level)
}

/// B1.
fn check_bodies(digests: &BTreeMap<&str, Hash>, manifest: &Manifest<'_>, tally: &Tally) -> Step {
    let externals: BTreeSet<Hash> = manifest.externals.iter().map(|external| external.digest).collect();
    let missing = tally.bodies.iter().filter(|(body, _)| {
        !externals.contains(body) && !digests.contains_key(format!("bodies/{}", body.hex()).as_str())
    });
    if let Some((body, seq)) = missing.min_by_key(|(_, seq)| **seq) {
        let detail = format!("expected the body `{}` in `bodies/` or `externals`, found neither", body.hex());
        return Err(Finding::new(Reason::BodyMissing, detail).at(*seq));
    }
    match externals.iter().find(|external| !tally.bodies.contains_key(external)) {
        Some(external) => {
            let detail = format!("the manifest lists `{}` as external, no receipt names it", external.hex());
            Err(Finding::new(Reason::ExternalUnknown, detail))
        }
        None => Ok(()),
    }
}

/// X1 and X2.
fn check_externals(externals: &mut dyn Externals, manifest: &Manifest<'_>) -> Result<(), Stop> {
    for external in &manifest.externals {
        let name = external.digest.hex();
        if open_external(externals, &name)?.is_none() {
            let detail = format!("expected `{name}` beside the bundle, found none");
            return Err(Finding::new(Reason::MissingExternal, detail).into());
        }
    }
    for external in &manifest.externals {
        let name = external.digest.hex();
        let Some(mut content) = open_external(externals, &name)? else { continue };
        let (bytes, digest) =
            digest_of(&mut *content, external.bytes).map_err(|source| unreadable(&name, source))?;
        if bytes != external.bytes || digest != external.digest {
            let detail = format!(
                "`{name}`: the manifest states {} bytes, found {bytes} bytes (or more) with SHA-256 {}",
                external.bytes,
                digest.hex()
            );
            return Err(Finding::new(Reason::ExternalDigest, detail).into());
        }
    }
    Ok(())
}

fn open_external<'e>(
    externals: &'e mut dyn Externals,
    name: &str,
) -> Result<Option<Box<dyn Read + 'e>>, Unreadable> {
    externals.open(name).map_err(|source| unreadable(name, source))
}

fn unreadable(name: &str, source: std::io::Error) -> Unreadable {
    Unreadable { what: format!("external content `{name}`"), source }
}

/// Size and digest, read in pieces; not further than one piece beyond `expected` bytes.
fn digest_of(content: &mut dyn Read, expected: u64) -> std::io::Result<(u64, Hash)> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 256 << 10];
    let mut bytes = 0u64;
    while bytes <= expected {
        let count = match content.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(piece.get(..count).unwrap_or_default());
        bytes = bytes.saturating_add(count as u64); // usize fits.
    }
    Ok((bytes, hasher.finish()))
}

/// An anchor that holds.
struct Anchor {
    index: u64,
    key: Hash,
}

/// A1 to A3.
fn check_anchor(files: &Files<'_>, manifest: &Manifest<'_>, seal: Hash) -> Step<Option<Anchor>> {
    let Some(file) = files.get(ANCHOR) else { return Ok(None) };
    let malformed = |detail| Finding::new(Reason::AnchorMalformed, detail);
    let proof = Proof::read(file.bytes).map_err(malformed)?;
    let note = &proof.checkpoint;
    if note.origin != manifest.iss {
        let detail = format!("expected the origin `{}`, found `{}`", manifest.iss, note.origin);
        return Err(malformed(detail));
    }
    if root_of_path(seal, proof.index, note.size, &proof.path) != Some(note.root) {
        let detail = format!(
            "the path does not lead from the seal at index {} to the root of the log of size {}",
            proof.index, note.size
        );
        return Err(Finding::new(Reason::AnchorMismatch, detail));
    }
    let key = note
        .signer(&manifest.keys, &manifest.iss)
        .map_err(|detail| Finding::new(Reason::AnchorSignature, detail))?;
    Ok(Some(Anchor { index: proof.index, key: key.id }))
}

/// The keys that signed, for K1 and K2.
struct Signers<'a> {
    iss: &'a str,
    keys: &'a Keys,
    signers: Vec<(Usage, Hash)>,
    /// Keys that a `key.rotate` of the run brought in.
    rotated: Vec<(Usage, Hash)>,
    /// Whether each entry's own signature was verified.
    entries_signed: bool,
}

impl Signers<'_> {
    /// No trust document: the keys are only the bundle's own word.
    fn assert(&self, report: &mut Report) -> Authenticity {
        for (usage, id) in self.signers.iter().chain(&self.rotated) {
            self.note(report, *usage, *id, Standing::SelfAsserted);
        }
        Authenticity::SelfAsserted
    }

    /// K1 and K2.
    fn check(&self, trust: &[u8], report: &mut Report) -> Step<Authenticity> {
        let trust = read_trust(trust).map_err(unusable)?;
        for (usage, id) in &self.signers {
            let standing = if find_trusted(&trust, *id, *usage, self.iss).is_some() {
                Standing::Trusted
            } else if self.is_brought_in(*usage, *id) {
                Standing::Rotated
            } else {
                let detail = format!(
                    "{} key `{}` of `{}` signed, but the trust document does not list it so",
                    usage.name(),
                    id.hex(),
                    self.iss
                );
                return Err(Finding::new(Reason::KeyUntrusted, detail));
            };
            self.note(report, *usage, *id, standing);
        }
        for (usage, id) in &self.rotated {
            let standing = match find_trusted(&trust, *id, *usage, self.iss) {
                Some(_) => Standing::Trusted,
                None => Standing::Rotated,
            };
            self.note(report, *usage, *id, standing);
        }
        for (usage, id) in self.signers.iter().chain(&self.rotated) {
            if let Some(key) = find_trusted(&trust, *id, *usage, self.iss) {
                check_revocation(key, report.anchor_index)?;
            }
        }
        Ok(Authenticity::Trusted)
    }

    /// Whether a `key.rotate` vouches for the key.
    ///
    /// Never for the first receipt key: a run that rotates away from it and back would vouch for itself. For others
    /// it can when a trusted key signed the entry that holds it. Where entries have no signature of their own that
    /// was verified, the checkpoint signs for all of them, and then no entry can vouch for the checkpoint's key:
    /// whoever made up the run would vouch for himself.
    fn is_brought_in(&self, usage: Usage, id: Hash) -> bool {
        let vouches = match usage {
            Usage::Receipt => false,
            Usage::Checkpoint => self.entries_signed,
            Usage::Manifest => true,
        };
        vouches && self.rotated.contains(&(usage, id))
    }

    fn note(&self, report: &mut Report, usage: Usage, id: Hash, standing: Standing) {
        if let Some(key) = self.keys.find(id, usage) {
            report.note_key(SigningKey { id, algorithm: key.public.algorithm(), usage, standing });
        }
    }
}

#[cfg(test)]
mod tests;
