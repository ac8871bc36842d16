//! Whether the keys that signed a bundle are trusted: steps K1 and K2 of SPEC section 11.

use crate::hash::Hash;
use crate::keys::{Keys, Usage};
use crate::reason::Reason;
use crate::report::{Authenticity, Finding, Report, SigningKey, Standing, Step};
use crate::trust::{check_revocation, find_trusted};

/// The keys that signed, for K1 and K2.
pub(super) struct Signers<'a> {
    pub iss: &'a str,
    pub keys: &'a Keys,
    pub signers: Vec<(Usage, Hash)>,
    /// Keys that a `key.rotate` of the run brought in.
    pub rotated: Vec<(Usage, Hash)>,
    /// Whether each entry's own signature was verified.
    pub entries_signed: bool,
}

impl Signers<'_> {
    /// No trust document: the keys are only the bundle's own word.
    pub(super) fn assert(&self, report: &mut Report) -> Authenticity {
        for (usage, id) in self.signers.iter().chain(&self.rotated) {
            self.note(report, *usage, *id, Standing::SelfAsserted);
        }
        Authenticity::SelfAsserted
    }

    /// K1 and K2.
    pub(super) fn check(&self, trust: &Keys, report: &mut Report) -> Step<Authenticity> {
        for (usage, id) in &self.signers {
            let standing = if find_trusted(trust, *id, *usage, self.iss).is_some() {
                Standing::Trusted
            } else if self.is_brought_in(trust, *usage, *id) {
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
            let standing = match find_trusted(trust, *id, *usage, self.iss) {
                Some(_) => Standing::Trusted,
                None => Standing::Rotated,
            };
            self.note(report, *usage, *id, standing);
        }
        for (usage, id) in self.signers.iter().chain(&self.rotated) {
            if let Some(key) = find_trusted(trust, *id, *usage, self.iss) {
                check_revocation(key, report.anchor_index)?;
            }
        }
        Ok(Authenticity::Trusted)
    }

    /// Whether a `key.rotate` vouches for the key.
    ///
    /// Never for the first receipt key: a run that rotates away from it and back would vouch for itself. For others
    /// it can when a key that the reader trusts signed the entry that holds it. Where entries have no signature of
    /// their own that was verified, the checkpoint and the manifest sign for all of them, and one of these two
    /// must then be trusted for itself: whoever made up the run would bring in both.
    fn is_brought_in(&self, trust: &Keys, usage: Usage, id: Hash) -> bool {
        // The first checkpoint key is that of the run's own; the anchor's comes after it.
        let trusted = |of: Usage| {
            let first = self.signers.iter().find(|(usage, _)| *usage == of);
            first.is_some_and(|(usage, id)| find_trusted(trust, *id, *usage, self.iss).is_some())
        };
        let entry_stands = self.entries_signed || trusted(Usage::Checkpoint) || trusted(Usage::Manifest);
        usage != Usage::Receipt && entry_stands && self.rotated.contains(&(usage, id))
    }

    fn note(&self, report: &mut Report, usage: Usage, id: Hash, standing: Standing) {
        if let Some(key) = self.keys.find(id, usage) {
            report.note_key(SigningKey { id, algorithm: key.public.algorithm(), usage, standing });
        }
    }
}
