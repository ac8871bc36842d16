//! Judges a bundle: the steps of SPEC section 11, in their order.

mod content;
mod lines;
mod signers;

use crate::check::{Executor, Sequential};
use crate::container::{Files, Input};
use crate::envelope::Envelope;
use crate::hash::Hash;
use crate::json::is_strict;
use crate::keys::{STATEMENT_TYPE, Usage};
use crate::manifest::{Manifest, sums};
use crate::note::{Checkpoint, Proof};
use crate::reason::Reason;
use crate::report::{Anchoring, Completeness, Finding, Integrity, Report, Step, Stop, Subject, Unreadable};
use crate::run::{Open, Run, Signing};
use crate::tree::{Tree, root_of_path};
use crate::trust::{read_trust, unusable};

use content::{check_bodies, check_externals, check_files, check_names, check_stream};
use lines::Lines;
use signers::Signers;

pub use content::{Externals, NoExternals};

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
    report.conclude(outcome.map(drop))
}

pub(crate) const MANIFEST: &str = "manifest.json";
const ENVELOPE: &str = "manifest.dsse.json";
pub(crate) const ENTRIES: &str = "receipts.ndjson";
const SIGNATURES: &str = "receipts.sig";
const CHECKPOINT: &str = "checkpoint";
const ANCHOR: &str = "anchor.tlog-proof";
const SUMS: &str = "SHA256SUMS";

/// The steps in order. A verdict is decided for good where its last step has passed.
///
/// That the trust document is usable is seen to first: it is the reader's, and says nothing about the bundle.
pub(crate) fn judge<'a>(
    input: Input<'a>,
    externals: &mut dyn Externals,
    options: &Options<'_>,
    report: &mut Report,
) -> Result<Files<'a>, Stop> {
    let trust = options.trust.map(read_trust).transpose().map_err(unusable)?;
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
    let Open { tree, counters, rotated, .. } = run.close().map(|open| *open).unwrap_or_default();
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
    report.verdicts.authenticity = match &trust {
        None => signing.assert(report),
        Some(trust) => signing.check(trust, report)?, // K1, K2
    };
    files.check_crcs()?; // Z1
    report.verdicts.integrity = Integrity::Ok;
    Ok(files)
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

#[cfg(test)]
mod tests;
