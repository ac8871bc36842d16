//! What evidence shows of each control.

use std::collections::BTreeMap;

use estoppel_evidence::time::UnixMicros;
use serde_json::{Value, json};

use crate::check::{Check, Finding};
use crate::evidence::{Evidence, Pointers};
use crate::framework::{Control, Framework, FrameworkKind};
use crate::kind::Kind;

/// What came of a control of a framework in which controls can pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Pass,
    Fail,
    NotAssessed,
    NoEvidence,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotAssessed => "not_assessed",
            Self::NoEvidence => "no_evidence",
        }
    }
}

/// One control, with what answers it.
#[derive(Debug)]
pub struct ControlRow<'a> {
    pub control: &'a Control,
    /// None in a mapping.
    pub outcome: Option<Outcome>,
    pub has_evidence: bool,
    evidence: Vec<(String, Pointers)>,
    checks: Vec<(&'static Check, Finding)>,
}

/// All controls of a framework, and the evidence that they point at.
#[derive(Debug)]
pub struct Assessment<'a> {
    pub rows: Vec<ControlRow<'a>>,
    index: BTreeMap<String, Pointers>,
}

impl<'a> Assessment<'a> {
    pub fn new(framework: &'a Framework, evidence: &Evidence, made: UnixMicros) -> Self {
        let mut index = BTreeMap::new();
        let rows = framework.controls.iter();
        let rows = rows.map(|control| row(control, framework.kind, evidence, made, &mut index)).collect();
        Self { rows, index }
    }

    /// The evidence that is pointed at, by kind.
    pub fn index(&self) -> Value {
        let found = self.index.iter().filter(|(_, pointers)| pointers.count > 0);
        let rows = found.map(|(name, pointers)| {
            let mut row = pointers.document();
            row["kind"] = name.as_str().into();
            row
        });
        rows.collect()
    }

    /// How many controls came to what.
    pub(crate) fn counts(&self) -> Value {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.word()).or_default() += 1;
        }
        json!(counts)
    }
}

fn row<'a>(
    control: &'a Control,
    kind: FrameworkKind,
    evidence: &Evidence,
    made: UnixMicros,
    index: &mut BTreeMap<String, Pointers>,
) -> ControlRow<'a> {
    let mut found = Vec::new();
    for kind in &control.evidence {
        found.push((kind.name.to_owned(), noted(index, evidence, kind, made)));
    }
    if !control.threats.is_empty() {
        let name = format!("threats:{}", control.threats.join(","));
        let pointers = evidence.threats(&control.threats);
        index.insert(name.clone(), pointers.clone());
        found.push((name, pointers));
    }
    let checks: Vec<(&'static Check, Finding)> =
        control.checks.iter().map(|check| (*check, check.judge(evidence, made))).collect();
    for (_, finding) in &checks {
        if let Finding::Against(kind) = finding
            && let Some(kind) = Kind::of_name(kind)
        {
            noted(index, evidence, kind, made);
        }
    }
    let has_evidence = found.iter().any(|(_, pointers)| pointers.count > 0);
    let outcome = (kind == FrameworkKind::Assessment).then(|| outcome(&checks, has_evidence, evidence));
    ControlRow { control, outcome, has_evidence, evidence: found, checks }
}

fn noted(
    index: &mut BTreeMap<String, Pointers>,
    evidence: &Evidence,
    kind: &Kind,
    made: UnixMicros,
) -> Pointers {
    index.entry(kind.name.to_owned()).or_insert_with(|| evidence.pointers(kind, made)).clone()
}

fn outcome(checks: &[(&'static Check, Finding)], has_evidence: bool, evidence: &Evidence) -> Outcome {
    let is_failed = |finding: &Finding| matches!(finding, Finding::Lacks(_) | Finding::Against(_));
    if evidence.runs().is_empty() && !has_evidence {
        Outcome::NoEvidence
    } else if checks.iter().any(|(_, finding)| is_failed(finding)) {
        Outcome::Fail
    } else if !checks.is_empty() && checks.iter().all(|(_, finding)| *finding == Finding::Holds) {
        Outcome::Pass
    } else if has_evidence {
        Outcome::NotAssessed
    } else {
        Outcome::NoEvidence
    }
}

impl ControlRow<'_> {
    /// What came of it, in one word.
    pub fn word(&self) -> &'static str {
        match self.outcome {
            Some(outcome) => outcome.name(),
            None if self.has_evidence => "evidence",
            None => "no_evidence",
        }
    }

    /// Checks that did not hold, in words.
    pub fn faults(&self) -> Vec<String> {
        let told = self.checks.iter().filter_map(|(check, finding)| match finding {
            Finding::Holds => None,
            Finding::Lacks(kind) => Some(format!("{}: there are no {kind}", check.name)),
            Finding::Against(kind) => Some(format!("{}: there are {kind}", check.name)),
            Finding::Undecided(why) => Some(format!("{}: {why}", check.name)),
        });
        told.collect()
    }

    /// Kinds of evidence that there are, with how many.
    pub fn evidence(&self) -> Vec<(&str, u64)> {
        let found = self.evidence.iter().filter(|(_, pointers)| pointers.count > 0);
        found.map(|(name, pointers)| (name.as_str(), pointers.count)).collect()
    }

    /// As it stands in a statement.
    pub fn document(&self) -> Value {
        let found = self.evidence.iter().filter(|(_, pointers)| pointers.count > 0);
        let evidence: Vec<Value> = found
            .map(|(name, pointers)| {
                let document = pointers.document();
                json!({ "count": document["count"], "kind": name, "root": document["root"] })
            })
            .collect();
        let mut document = json!({
            "about": self.control.about,
            "evidence": evidence,
            "id": self.control.id,
            "state": if self.has_evidence { "evidence" } else { "no_evidence" },
        });
        if let Some(outcome) = self.outcome {
            document["result"] = outcome.name().into();
            document["checks"] =
                self.checks.iter().map(|(check, finding)| check_row(check, finding)).collect();
        }
        document
    }
}

fn check_row(check: &Check, finding: &Finding) -> Value {
    match finding {
        Finding::Holds => json!({ "check": check.name, "result": "pass" }),
        Finding::Lacks(kind) => json!({ "check": check.name, "lacks": kind, "result": "fail" }),
        Finding::Against(kind) => json!({ "against": kind, "check": check.name, "result": "fail" }),
        Finding::Undecided(why) => json!({ "check": check.name, "result": "not_assessed", "why": why }),
    }
}
