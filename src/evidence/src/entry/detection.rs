//! What detectors did with a call, and what they found (`docs/detectors.md`).

use serde::{Deserialize, Serialize};

use crate::capture::{Label, RunCapture, Tag};
use crate::hash::Sha256;

/// Most findings of a receipt; the rest is counted.
pub const FINDINGS_MAX: usize = 16;
/// Most data classes of a receipt (`receipt.schema.json`).
pub const CLASSES_MAX: usize = 16;

/// Detectors that were to look at a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detection {
    /// Rules that held, sorted; at most [`CLASSES_MAX`].
    pub classes: Vec<Box<str>>,
    pub detectors: Vec<DetectorRun>,
    /// At most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// Findings beyond.
    pub more: u64,
}

/// What became of one detector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectorRun {
    /// Its name in the policy.
    pub id: Box<str>,
    pub outcome: DetectorOutcome,
    /// How long it took, where the call waited for it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub us: Option<u64>,
}

/// How a detector ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorOutcome {
    /// It had nothing to look at.
    Unused,
    /// It was told of the call, which did not wait for it.
    Tapped,
    /// It found nothing.
    Clear,
    /// What it found is recorded.
    Found,
    /// Bytes could not be looked at: a content coding, or no JSON where there should be some.
    Skipped,
    /// There was no answer in time, or no room to ask.
    Timeout,
    /// The answer could not be read.
    Error,
    /// It blocked the call.
    Block,
}

/// One finding. Never the text: a digest of it, from which the receipt gets a keyed tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub at: u64,
    pub bytes: u64,
    pub confidence: Box<str>,
    pub detector: Box<str>,
    pub enforced: bool,
    pub place: Box<str>,
    pub rule: Box<str>,
    pub severity: Box<str>,
    pub surface: Box<str>,
    pub sha256: Sha256,
}

/// Members in the order of their names.
#[derive(Serialize)]
pub(super) struct FindingDocument<'a> {
    at: u64,
    bytes: u64,
    confidence: &'a str,
    detector: &'a str,
    enforced: bool,
    place: &'a str,
    rule: &'a str,
    severity: &'a str,
    surface: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
}

impl Detection {
    /// Drops most findings, and counts them.
    pub fn shorten(&mut self) {
        let kept = self.findings.len().min(4);
        self.more += (self.findings.len() - kept) as u64; // a bounded list
        self.findings.truncate(kept);
    }

    /// As the receipt has them; `keyed` as for bodies.
    pub(super) fn documents(&self, capture: &RunCapture, keyed: bool) -> Vec<FindingDocument<'_>> {
        let of = |finding: &Finding| capture.tag(Label::FoundValue, &finding.sha256.0);
        let findings = self.findings.iter().map(|finding| FindingDocument {
            at: finding.at,
            bytes: finding.bytes,
            confidence: &finding.confidence,
            detector: &finding.detector,
            enforced: finding.enforced,
            place: &finding.place,
            rule: &finding.rule,
            severity: &finding.severity,
            surface: &finding.surface,
            tag: keyed.then(|| of(finding)),
        });
        findings.collect()
    }
}
