//! Judges one receipt that was exported alone (SPEC section 14), or one checkpoint note (steps T1 and T3).

use crate::entry::Entry;
use crate::envelope::Envelope;
use crate::keys::{ENTRY_TYPE, Key, Keys, PublicKey, Usage};
use crate::note::Checkpoint;
use crate::reason::Reason;
use crate::report::{Authenticity, Finding, Integrity, Report, SigningKey, Standing, Step, Subject};
use crate::schema::Slot;
use crate::trust::{check_revocation, read_trust, unusable};
use crate::view::View;

/// Keys that the reader has from elsewhere.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// One public key, SubjectPublicKeyInfo DER.
    Spki(&'a [u8]),
    /// A trust document.
    Trust(&'a [u8]),
}

impl Given<'_> {
    pub(crate) fn read(self, usage: Usage) -> Step<Keys> {
        match self {
            Given::Trust(document) => read_trust(document).map_err(unusable),
            Given::Spki(spki) => match PublicKey::of_spki(spki) {
                Some(public) => Ok(Keys::single(public, usage)),
                None => {
                    Err(unusable("the given key is in neither of the two forms that are allowed".to_owned()))
                }
            },
        }
    }
}

/// Judges an envelope that holds one entry.
pub fn verify_receipt(envelope: &[u8], keys: Given<'_>) -> Report {
    let mut report = Report::new(Subject::Receipt);
    report.trust_given = true;
    if let Err(finding) = judge_receipt(envelope, keys, &mut report) {
        report.refuse(finding);
    }
    report
}

fn judge_receipt(envelope: &[u8], given: Given<'_>, report: &mut Report) -> Step {
    let keys = given.read(Usage::Receipt)?;
    let envelope = Envelope::read(envelope, ENTRY_TYPE)
        .map_err(|detail| Finding::new(Reason::EnvelopeMalformed, detail))?;
    let id = envelope.key_id.hex();
    let key = keys.find(envelope.key_id, Usage::Receipt).ok_or_else(|| {
        let detail = format!("the envelope is signed by `{id}`, which is not a receipt key that was given");
        Finding::new(Reason::KeyUnknown, detail)
    })?;
    if !envelope.is_signed_by(&key.public) {
        let detail = format!("the envelope's signature does not verify with key `{id}`");
        return Err(Finding::new(Reason::EnvelopeSignature, detail));
    }
    let entry = Entry::read(&envelope.payload)?; // L1 to L4
    let seq = entry.seq();
    check_key(&entry, key).map_err(|finding| finding.at(seq))?;
    report.iss = Some(entry.view().text_of("iss").into_owned());
    report.run = entry.view().member("run").and_then(View::text).map(|run| run.into_owned());
    report.entries = 1;
    report.signatures_verified = 1;
    note(report, key);
    report.verdicts.integrity = Integrity::Ok;
    report.verdicts.authenticity = Authenticity::Trusted;
    Ok(())
}

fn check_key(entry: &Entry<'_>, key: &Key) -> Step {
    let kid = entry.raw(Slot::Kid);
    if kid != key.id.hex_bytes() {
        let detail = format!(
            "the envelope is signed by `{}`, the entry names `{}`",
            key.id.hex(),
            String::from_utf8_lossy(kid)
        );
        return Err(Finding::new(Reason::KeyMismatch, detail));
    }
    let iss = entry.view().text_of("iss");
    if let Some(expected) = key.iss.as_deref()
        && expected != iss
    {
        let detail = format!("the key is listed for `{expected}`, the entry is of `{iss}`");
        return Err(Finding::new(Reason::KeyMismatch, detail));
    }
    check_revocation(key, None)
}

fn note(report: &mut Report, key: &Key) {
    report.note_key(SigningKey {
        id: key.id,
        algorithm: key.public.algorithm(),
        usage: key.usage,
        standing: Standing::Trusted,
    });
}

/// Judges a checkpoint note of the log `origin`: a run's (`<iss>/run/<run>`) or an instance's (`<iss>`).
pub fn verify_checkpoint(note: &[u8], origin: &str, keys: Given<'_>) -> Report {
    let mut report = Report::new(Subject::Checkpoint);
    report.trust_given = true;
    if let Err(finding) = judge_checkpoint(note, origin, keys, &mut report) {
        report.refuse(finding);
    }
    report
}

fn judge_checkpoint(bytes: &[u8], origin: &str, given: Given<'_>, report: &mut Report) -> Step {
    let keys = given.read(Usage::Checkpoint)?;
    let checkpoint = Checkpoint::read_of(bytes, origin)
        .map_err(|detail| Finding::new(Reason::CheckpointMalformed, detail))?;
    let (iss, run) = match origin.split_once("/run/") {
        Some((iss, run)) => (iss, Some(run)),
        None => (origin, None),
    };
    report.iss = Some(iss.to_owned());
    report.run = run.map(str::to_owned);
    let key =
        checkpoint.signer(&keys, iss).map_err(|detail| Finding::new(Reason::CheckpointSignature, detail))?;
    // Only of the instance's log is the size a place in it.
    check_revocation(key, run.is_none().then_some(checkpoint.size.saturating_sub(1)))?;
    note(report, key);
    report.checkpoint_size = Some(checkpoint.size);
    report.root = Some(checkpoint.root);
    report.verdicts.integrity = Integrity::Ok;
    report.verdicts.authenticity = Authenticity::Trusted;
    Ok(())
}

#[cfg(test)]
mod tests;
