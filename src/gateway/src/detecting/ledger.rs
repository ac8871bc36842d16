//! What was found, and whether it stands in the way.

use std::collections::{BTreeSet, HashSet};

use estoppel_detect::{Class, Found, RuleInfo};
use estoppel_evidence::entry::{
    CLASSES_MAX, Detection, DetectorOutcome, DetectorRun, FINDINGS_MAX, Finding, Threat,
};
use estoppel_evidence::{Reason, Sha256};
use estoppel_policy::{Confidence, DetectorTerms, Surface};

use super::{On as _, suffices};
use crate::judging::Objection;

/// Most findings of one body that are told apart; with more in what may block, it blocks.
pub(super) const HITS_MAX: usize = 1024;

/// A finding without its text.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) rule: RuleInfo,
    confidence: Confidence,
    at: u64,
    bytes: u64,
    sha256: Sha256,
    pub(super) place: Box<str>,
    /// By a rule that may block.
    may_block: bool,
}

impl Hit {
    pub(super) fn of(found: &Found<'_>, place: &str, may_block: bool) -> Self {
        Self {
            rule: found.rule.clone(),
            confidence: confidence(found.confidence),
            at: found.at,
            bytes: found.bytes.len() as u64,
            sha256: Sha256::of(found.bytes),
            place: place.into(),
            may_block,
        }
    }

    /// Whether its detector looks at this surface.
    pub(super) fn is_on(&self, terms: &[DetectorTerms], surface: Surface) -> bool {
        let own = terms.iter().find(|terms| terms.name == self.rule.detector.as_str());
        own.is_some_and(|terms| terms.on(&[surface]))
    }

    /// Adds a finding to those of a body, while there is room. One too many that may block is kept, so that it is seen.
    pub(super) fn keep(hits: &mut Vec<Self>, found: &Found<'_>, place: &str, may_block: bool) {
        if hits.len() < if may_block { HITS_MAX + 1 } else { HITS_MAX } {
            hits.push(Self::of(found, place, may_block));
        }
    }
}

pub(super) fn confidence(confidence: estoppel_detect::Confidence) -> Confidence {
    match confidence {
        estoppel_detect::Confidence::Low => Confidence::Low,
        estoppel_detect::Confidence::Medium => Confidence::Medium,
        estoppel_detect::Confidence::High => Confidence::High,
    }
}

/// What the detectors of one call did, each at the place of its terms.
pub(super) struct Ledger {
    outcomes: Vec<DetectorOutcome>,
    /// What each looks at.
    surfaces: Vec<Vec<Surface>>,
    found: Vec<(u64, u64)>,
    findings: Vec<Finding>,
    more: u64,
    seen: HashSet<(&'static str, Surface, [u8; 32])>,
    classes: BTreeSet<&'static str>,
    hits: usize,
    /// How long each took, where the call waited for it alone.
    us: Vec<Option<u64>>,
    /// The detector that blocks, and the severity of what it found.
    blocking: Option<(usize, &'static str)>,
}

impl Ledger {
    pub(super) fn new(terms: &[DetectorTerms]) -> Self {
        Self {
            outcomes: vec![DetectorOutcome::Unused; terms.len()],
            surfaces: terms
                .iter()
                .map(|terms| terms.external.as_ref().map_or(terms.surfaces.clone(), |_| Vec::new()))
                .collect(),
            found: vec![(0, 0); terms.len()],
            findings: Vec::new(),
            more: 0,
            seen: HashSet::new(),
            classes: BTreeSet::new(),
            hits: 0,
            us: vec![None; terms.len()],
            blocking: None,
        }
    }

    /// These surfaces were looked at.
    pub(super) fn looked(&mut self, at: &[Surface]) {
        self.mark(at, DetectorOutcome::Clear);
    }

    /// They could not be.
    pub(super) fn skipped(&mut self, at: &[Surface]) {
        self.mark(at, DetectorOutcome::Skipped);
    }

    fn mark(&mut self, at: &[Surface], outcome: DetectorOutcome) {
        for (known, surfaces) in self.outcomes.iter_mut().zip(&self.surfaces) {
            if surfaces.iter().any(|surface| at.contains(surface)) {
                *known = (*known).max(outcome);
            }
        }
    }

    /// Takes findings on one surface.
    ///
    /// # Errors
    /// The first that blocks.
    pub(super) fn take(
        &mut self,
        terms: &[DetectorTerms],
        surface: Surface,
        hits: Vec<Hit>,
    ) -> Result<(), Objection> {
        for hit in hits {
            self.hits += usize::from(hit.may_block);
            self.take_one(terms, surface, &hit)?;
        }
        Ok(())
    }

    fn take_one(&mut self, all: &[DetectorTerms], surface: Surface, hit: &Hit) -> Result<(), Objection> {
        let by = |terms: &DetectorTerms| terms.name == hit.rule.detector.as_str();
        let Some((index, terms)) = all.iter().enumerate().find(|(_, terms)| by(terms)) else { return Ok(()) };
        if !terms.on(&[surface]) || !self.seen.insert((hit.rule.id, surface, hit.sha256.0)) {
            return Ok(());
        }
        let blocks = suffices(terms, hit.confidence);
        self.note(index, terms, surface, hit, blocks);
        if !blocks {
            return Ok(());
        }
        self.blocking.get_or_insert((index, hit.rule.severity.as_str()));
        let place = if hit.place.is_empty() { "the body" } else { &hit.place };
        Err(Objection::new(
            reason(hit.rule.class),
            &format!("{surface} at {place}: {id}", surface = surface.as_str(), id = hit.rule.id),
        ))
    }

    fn note(&mut self, index: usize, terms: &DetectorTerms, surface: Surface, hit: &Hit, enforced: bool) {
        let outcome = if enforced { DetectorOutcome::Block } else { DetectorOutcome::Found };
        if let Some(known) = self.outcomes.get_mut(index) {
            *known = (*known).max(outcome);
        }
        if let Some((shadow, enforce)) = self.found.get_mut(index) {
            *(if enforced { enforce } else { shadow }) += 1;
        }
        if self.classes.len() < CLASSES_MAX {
            self.classes.insert(hit.rule.id);
        }
        if self.findings.len() == FINDINGS_MAX {
            self.more += 1;
            if !enforced {
                return;
            }
            self.findings.pop(); // what blocks is always there
        }
        self.findings.push(Finding {
            at: hit.at,
            bytes: hit.bytes,
            confidence: hit.confidence.as_str().into(),
            detector: terms.name.as_str().into(),
            enforced,
            place: (&*hit.place).into(),
            rule: hit.rule.id.into(),
            severity: hit.rule.severity.as_str().into(),
            surface: surface.as_str().into(),
            sha256: hit.sha256,
        });
    }

    /// Classes that rules were told of, wherever they are.
    pub(super) fn told(&mut self, classes: &[&'static str]) {
        let room = CLASSES_MAX.saturating_sub(self.classes.len());
        self.classes.extend(classes.iter().copied().take(room));
    }

    /// How an external detector ended.
    pub(super) fn asked(&mut self, terms: &[DetectorTerms], name: &str, outcome: DetectorOutcome, us: u64) {
        let Some(index) = terms.iter().position(|terms| terms.name == name) else { return };
        if let Some(known) = self.outcomes.get_mut(index) {
            *known = (*known).max(outcome);
        }
        if let Some(all) = self.us.get_mut(index) {
            *all = Some(all.unwrap_or(0) + us);
        }
        let (shadow, enforce) = match outcome {
            DetectorOutcome::Block => (0, 1),
            DetectorOutcome::Found => (1, 0),
            _ => (0, 0),
        };
        if let Some(found) = self.found.get_mut(index) {
            *found = (found.0 + shadow, found.1 + enforce);
        }
        if outcome == DetectorOutcome::Block {
            self.blocking.get_or_insert((index, "high"));
        }
    }

    /// # Errors
    /// There was more that may block than can be told apart.
    pub(super) fn overflow(&self) -> Result<(), Objection> {
        if self.hits > HITS_MAX { Err(Reason::FindingsMax.into()) } else { Ok(()) }
    }

    pub(super) fn threat(&self, terms: &[DetectorTerms]) -> Option<Threat> {
        let (index, severity) = self.blocking?;
        let terms = terms.get(index)?;
        let severity = terms.severity.map_or(severity, |severity| severity.as_str());
        let ids = terms.threat.iter().map(|id| id.as_str().into()).collect();
        Some(Threat { ids, severity: Some(severity.into()) })
    }

    pub(super) fn counts(&self, terms: &[DetectorTerms]) -> Vec<(String, bool, u64)> {
        let each = terms.iter().zip(&self.found);
        let both = each.flat_map(|(terms, (shadow, enforce))| {
            [(terms.name.clone(), false, *shadow), (terms.name.clone(), true, *enforce)]
        });
        both.filter(|(_, _, count)| *count > 0).collect()
    }

    pub(super) fn record(self, terms: &[DetectorTerms]) -> Detection {
        let run = |((terms, outcome), us): ((&DetectorTerms, &DetectorOutcome), &Option<u64>)| DetectorRun {
            id: terms.name.as_str().into(),
            outcome: *outcome,
            us: *us,
        };
        Detection {
            classes: self.classes.into_iter().map(Into::into).collect(),
            detectors: terms.iter().zip(&self.outcomes).zip(&self.us).map(run).collect(),
            findings: self.findings,
            more: self.more,
        }
    }
}

/// What a caller is told.
fn reason(class: Class) -> Reason {
    match class {
        Class::Secret => Reason::SecretFound,
        Class::Pii => Reason::PiiFound,
        Class::Unicode => Reason::UnicodeFound,
        Class::Ssrf => Reason::SsrfFound,
        Class::Exfiltration => Reason::ExfiltrationFound,
        Class::Injection => Reason::InjectionFound,
        Class::Poisoning => Reason::PoisoningFound,
    }
}
