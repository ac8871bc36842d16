//! What happened, by the kinds of spec/ledger.md section 3.

use std::collections::BTreeMap;

use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::roles::{Role, Roles};
use crate::generation::StageName;
use crate::git::ObjectId;
use crate::version::Version;

macro_rules! bodies {
    ($($name:ident($type:ty) $kind:literal $role:ident;)*) => {
        /// What an event says happened.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Body { $($name($type),)* }

        impl Body {
            pub const KINDS: &'static [&'static str] = &[$($kind,)*];

            pub fn kind(&self) -> &'static str {
                match self { $(Self::$name(_) => $kind,)* }
            }

            /// The role that the key of an event of this kind needs.
            pub fn role(&self) -> Role {
                match self { $(Self::$name(_) => Role::$role,)* }
            }

            pub(super) fn write(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$name(body) => serde_json::to_value(body),)* }
            }

            pub(super) fn read(kind: &str, body: Value) -> Option<Self> {
                match kind { $($kind => read(body).map(Self::$name),)* _ => None }
            }
        }
    };
}

bodies! {
    Approved(Approved) "approval.given" Approver;
    Waived(Waived) "approval.waiver" Approver;
    EnvironmentSet(EnvironmentSet) "environment.set" Releaser;
    EvolutionFinished(Box<EvolutionFinished>) "evolution.finished" Runner;
    EvolutionStarted(EvolutionStarted) "evolution.started" Runner;
    GenerationAbandoned(GenerationAbandoned) "generation.abandoned" Author;
    GenerationAmended(Box<Contracted>) "generation.amended" Author;
    GenerationSealed(Box<Contracted>) "generation.sealed" Author;
    PromotionFinished(Box<PromotionFinished>) "promotion.finished" Releaser;
    PromotionRefused(PromotionRefused) "promotion.refused" Releaser;
    PromotionStarted(PromotionStarted) "promotion.started" Releaser;
    RolesSet(Roles) "roles.set" Owner;
    RolledBack(RolledBack) "rollback.done" Releaser;
    StagePromoted(Box<StagePromoted>) "stage.promoted" Releaser;
}

fn read<T: DeserializeOwned>(body: Value) -> Option<T> {
    serde_json::from_value(body).ok()
}

/// A contract that was sealed, or put in the place of one that was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contracted {
    /// Each change by its id with the digest of all that has to be shown of it.
    pub changes: BTreeMap<String, Sha256>,
    /// Digest of `document` in canonical form.
    pub contract: Sha256,
    pub document: Value,
    /// The contract that it takes the place of; only of `generation.amended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Sha256>,
    /// Why; only of `generation.amended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub version: Version,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationAbandoned {
    pub reason: String,
    pub version: Version,
}

/// A run was begun. Without its end it proves nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvolutionStarted {
    pub changes: Vec<String>,
    pub commit: ObjectId,
    pub contract: Sha256,
    pub evolution: String,
    /// What the tested service sends, so that receipts of its calls name this run.
    pub nonce: String,
    pub version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    Passed,
    Failed,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Failed => "FAILED",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvolutionFinished {
    /// A DSSE envelope with an in-toto statement `https://in-toto.io/attestation/test-result/v0.1`.
    pub attestation: Value,
    /// What it was to prove, each with the digest that the change had.
    pub changes: BTreeMap<String, Sha256>,
    pub commit: ObjectId,
    pub contract: Sha256,
    /// Files that its steps left as evidence, by name.
    pub evidence: BTreeMap<String, Content>,
    pub evolution: String,
    /// Hooks that were run.
    pub hooks: Vec<HookResult>,
    pub result: Outcome,
    pub steps: Vec<StepResult>,
    /// Of a run that passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    pub version: Version,
    /// Why it failed, where no step says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    Passed,
    /// It ended with another exit code than 0, or by a signal.
    Failed,
    /// It took longer than it may.
    TimedOut,
    /// It could not be started.
    NotStarted,
    /// It was not run, because what it needs did not pass.
    Skipped,
    /// It wrote more than a log may hold.
    LogBytesMax,
}

impl StepOutcome {
    const ALL: [Self; 6] =
        [Self::Passed, Self::Failed, Self::TimedOut, Self::NotStarted, Self::Skipped, Self::LogBytesMax];

    /// The word that events have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::NotStarted => "not_started",
            Self::Skipped => "skipped",
            Self::LogBytesMax => "log_bytes_max",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepResult {
    pub duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    pub id: String,
    pub kind: String,
    /// None of a step that was not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Content>,
    pub outcome: StepOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookResult {
    pub id: String,
    pub on: String,
    /// Whether it ended with 0.
    pub passed: bool,
}

/// A file that is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    pub bytes: u64,
    pub sha256: Sha256,
}

/// Somebody wants exactly this to be promoted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    pub commit: ObjectId,
    pub contract: Sha256,
    pub expires: UnixMicros,
    /// Hash of the policy that the contract names, at that commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Sha256>,
    pub version: Version,
}

/// Somebody answers for a gate that does not pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waived {
    pub commit: ObjectId,
    pub contract: Sha256,
    pub expires: UnixMicros,
    pub gate: String,
    pub reason: String,
    pub version: Version,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionStarted {
    pub commit: ObjectId,
    pub contract: Sha256,
    /// Hash of version, contract, commit and stage: trying again is the same promotion.
    pub promotion: Sha256,
    /// None for the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageName>,
    pub version: Version,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionRefused {
    pub commit: ObjectId,
    pub contract: Sha256,
    /// One row per gate, as `estoppel promote --explain --json` prints it.
    pub gates: Vec<Value>,
    pub promotion: Sha256,
    /// None for the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageName>,
    pub version: Version,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionFinished {
    pub commit: ObjectId,
    pub contract: Sha256,
    pub gates: Vec<Value>,
    pub promotion: Sha256,
    pub tag: String,
    pub version: Version,
    /// A DSSE envelope with an in-toto statement `https://slsa.dev/verification_summary/v1`.
    pub vsa: Value,
}

/// An environment has what was promoted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentSet {
    pub commit: ObjectId,
    pub environment: String,
    /// The event that gave it what it had until now; none of its first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Sha256>,
    /// The event that promoted it.
    pub promoted: Sha256,
    pub tag: String,
    pub version: Version,
}

/// A commit reached a stage before the release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePromoted {
    pub commit: ObjectId,
    pub contract: Sha256,
    pub gates: Vec<Value>,
    pub promotion: Sha256,
    pub stage: StageName,
    /// Its own; of `rc` that of the candidate, which an evolution gave away.
    pub tag: String,
    pub version: Version,
    /// A DSSE envelope with an in-toto statement `https://slsa.dev/verification_summary/v1`.
    pub vsa: Value,
}

impl StagePromoted {
    /// The tag that it gives away.
    pub fn own_tag(&self) -> Option<&str> {
        (self.stage != StageName::Rc).then_some(&*self.tag)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolledBack {
    /// The commit whose tree is that of `to`, on a branch that is offered.
    pub commit: ObjectId,
    /// Environments that had `from` and have `to` from here on, each with the event that gave it what it had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<String, Sha256>,
    pub from: Version,
    pub reason: String,
    pub tag: String,
    pub to: Version,
}
