//! What is said of a gate.

use std::time::Instant;

use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;
use serde::Serialize;

/// Whether a gate lets the generation pass. Nothing passes because nobody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Pass,
    Fail,
    /// What it looks at is not there.
    Missing,
    /// It does not pass, and somebody answers for that.
    Waived,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Missing => "missing",
            Self::Waived => "waived",
        }
    }
}

/// Something that a gate looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Looked {
    pub digest: Sha256,
    pub name: String,
}

/// Who answers for a gate that does not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiver {
    pub by: String,
    /// None where it holds for this generation as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixMicros>,
    pub reason: String,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub evidence: Vec<Looked>,
    pub gate: String,
    /// What to run, where something is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    pub state: State,
    /// How long was looked at what is outside of the ledger, microseconds. Gates that look at the same bundles share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiver: Option<Waiver>,
    pub why: String,
}

impl Row {
    fn new(gate: &str, state: State, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { evidence: Vec::new(), gate: gate.to_owned(), run: None, state, us: None, waiver: None, why }
    }

    pub(super) fn pass(gate: &str, why: impl Into<String>) -> Self {
        Self::new(gate, State::Pass, why)
    }

    pub(super) fn fail(gate: &str, why: impl Into<String>) -> Self {
        Self::new(gate, State::Fail, why)
    }

    pub(super) fn missing(gate: &str, why: impl Into<String>, run: impl Into<String>) -> Self {
        Self { run: Some(run.into()), ..Self::new(gate, State::Missing, why) }
    }

    pub(super) fn by(self, looked: impl IntoIterator<Item = (String, Sha256)>) -> Self {
        let looked = looked.into_iter().map(|(name, digest)| Looked { digest, name });
        Self { evidence: self.evidence.into_iter().chain(looked).collect(), ..self }
    }

    pub(super) fn since(self, began: Instant) -> Self {
        let us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Self { us: Some(us), ..self }
    }

    /// Somebody answers for it: nothing is to be run any more.
    pub(super) fn waive(&mut self, waiver: Waiver) {
        self.state = State::Waived;
        self.run = None;
        self.waiver = Some(waiver);
    }

    /// Whether it keeps the generation from being promoted.
    pub fn refuses(&self) -> bool {
        matches!(self.state, State::Fail | State::Missing)
    }
}
