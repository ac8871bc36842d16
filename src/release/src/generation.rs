//! The contract of one version: what changes, what has to be shown of it, and what gates its promotion.
//!
//! A generation is a file that people write (`spec/generation.md`). It is read whole or refused with everything that is
//! wrong with it. Whether it is a draft, sealed or promoted is not in the file: the ledger says so.

mod amendment;
mod check;
mod digest;
mod error;
mod fixtures;
mod folder;
mod gates;
mod read;
mod schema;
mod sealing;
mod template;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use estoppel_evidence::{KeyId, canonical};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use amendment::Amendment;
pub use error::{GenerationError, GenerationErrorCode};
pub(crate) use fixtures::fixtures_at;
pub use folder::{FILES_MAX, FOLDER, Files, Folder, FolderError};
pub(crate) use folder::{is_contract, is_file_of};
pub use gates::{
    ApprovalsGate, BundleGate, CommandGate, CountGate, FreezeGate, FreezeWindow, Gates, HoursGate,
    NoFailedGate, PerformanceGate, PolicyGate, RegressGate, ReplayGate, Scope,
};
pub use read::{BYTES_MAX, Format};
pub use sealing::{abandon, amend, seal};
pub use template::{Beginning, NewChange, TEMPLATES, Template};

use crate::Version;
use error::GenerationErrorCode as Code;

/// Seconds that a step, a hook or a command may take, where the file does not say.
pub const TIMEOUT_S_DEFAULT: u32 = 600;

/// One generation, checked.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The version that it is promoted to.
    pub version: Version,
    /// What it is for.
    pub description: String,
    /// Who answers for it, and does not approve it.
    pub author: Author,
    /// What changes; ids are unique.
    pub changes: Vec<Change>,
    /// What an evolution runs; ids are unique, and `needs` makes no circle.
    pub steps: Vec<Step>,
    /// Conditions of its promotion beside those that always hold.
    pub gates: Gates,
    /// What changes of a type must have; every change has it.
    pub change_policies: BTreeMap<ChangeType, ChangePolicy>,
    /// Programs that are told of what happens, and may stop it.
    pub hooks: Vec<Hook>,
    /// The ladder to its release, lowest first; empty for none.
    pub stages: Vec<Stage>,
    /// The promoted version that it mends in a hurry.
    pub hotfix: Option<Hotfix>,
    document: Value,
    canonical: Vec<u8>,
}

impl Generation {
    /// Reads a file. All errors come at once, in the order of the text where that is known.
    pub fn parse(text: &str, format: Format) -> Result<Self, Vec<GenerationError>> {
        let written = read::text(text, format)?;
        Self::from_document(written.value.clone()).map_err(|mut errors| {
            for error in &mut errors {
                error.line = error.line.or_else(|| written.line(&error.pointer));
            }
            errors.sort_by_key(|error| error.line);
            errors
        })
    }

    /// Reads the document of a sealed generation.
    pub fn from_document(document: Value) -> Result<Self, Vec<GenerationError>> {
        let errors = schema::errors(&document);
        if !errors.is_empty() {
            return Err(errors);
        }
        let one = |error: GenerationError| vec![error];
        let raw: Raw = serde_json::from_value(document.clone())
            .map_err(|error| one(GenerationError::new(Code::Limit, "", error.to_string())))?;
        let canonical = canonical::foreign(document.to_string().as_bytes())
            .map_err(|error| one(GenerationError::new(Code::Syntax, "", error.to_string())))?;
        let errors = check::errors(&raw);
        if errors.is_empty() { Ok(raw.finish(document, canonical)) } else { Err(errors) }
    }

    /// The document as it was written, without defaults.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The same in its one form (RFC 8785), which the digest is of.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// The same contract with the gates alone that hold at a stage.
    pub fn at_stage(&self, stage: StageName) -> Self {
        Self { gates: self.gates.at(stage), ..self.clone() }
    }

    /// Whether it can be promoted to a stage; to `final` it always can.
    pub fn has_stage(&self, stage: StageName) -> bool {
        stage == StageName::Final || self.stages.iter().any(|known| known.stage == stage)
    }

    /// The stage that it has to have been at before this one, if there is one.
    pub fn stage_before(&self, stage: StageName) -> Option<&Stage> {
        self.stages.iter().rev().find(|known| known.stage < stage)
    }

    /// The change with this id.
    pub fn change(&self, id: &str) -> Option<&Change> {
        self.changes.iter().find(|change| change.id.as_str() == id)
    }
}

/// The document as the schema describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(rename = "generation")]
    _format: u32,
    version: Version,
    description: String,
    author: Author,
    changes: Vec<Change>,
    steps: Vec<Step>,
    #[serde(default)]
    gates: Gates,
    #[serde(default)]
    change_policies: BTreeMap<ChangeType, ChangePolicy>,
    #[serde(default)]
    hooks: Vec<Hook>,
    #[serde(default)]
    stages: Vec<Stage>,
    hotfix: Option<Hotfix>,
}

impl Raw {
    fn finish(self, document: Value, canonical: Vec<u8>) -> Generation {
        Generation {
            version: self.version,
            description: self.description,
            author: self.author,
            changes: self.changes,
            steps: self.steps,
            gates: self.gates,
            change_policies: self.change_policies,
            hooks: self.hooks,
            stages: self.stages,
            hotfix: self.hotfix,
            document,
            canonical,
        }
    }
}

/// Who wrote a generation.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// For people.
    pub name: String,
    /// The key that approvals must not come from.
    #[serde(default, deserialize_with = "key_id")]
    pub key: Option<KeyId>,
}

fn key_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<KeyId>, D::Error> {
    let text = String::deserialize(deserializer)?;
    KeyId::parse(&text).map(Some).ok_or_else(|| serde::de::Error::custom("not the id of a key"))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// As it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// What a change is called; unique in its generation, and only there.
    ChangeId
);
id!(
    /// What a step is called.
    StepId
);
id!(
    /// What a hook, a command or a role is called.
    Name
);

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize, Serialize)]
        pub enum $name { $($(#[$each])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word in documents.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// What a change does.
    ChangeType {
        /// Mends what was wrong.
        Fix = "fix",
        /// Makes better what was there.
        Refine = "refine",
        /// Brings what was not there.
        Add = "add",
        /// Takes away what was there.
        Remove = "remove",
    }
);
words!(
    /// What a step is for.
    StepKind {
        /// Makes what is tested.
        Build = "build",
        /// Looks at sources.
        Lint = "lint",
        /// Tests parts.
        Unit = "unit",
        /// Tests parts together.
        Integration = "integration",
        /// Tests the whole from outside.
        E2e = "e2e",
        /// Looks for weaknesses.
        Security = "security",
        /// Judges recorded calls again.
        Regress = "regress",
        /// Measures.
        Performance = "performance",
        /// Moves stored data.
        Migration = "migration",
        /// Anything else.
        Other = "other",
    }
);
words!(
    /// When a hook is run.
    HookEvent {
        /// Before the first step; a failure stops the evolution.
        EvolutionStart = "evolution_start",
        /// After a step failed.
        StepFail = "step_fail",
        /// After the last step; a failure fails the evolution.
        EvolutionEnd = "evolution_end",
        /// Before gates are evaluated; a failure stops the promotion.
        PromoteStart = "promote_start",
        /// After a promotion, which it cannot undo.
        PromoteEnd = "promote_end",
    }
);
words!(
    /// A rung of the ladder; ordered.
    StageName {
        /// For those who build it.
        Alpha = "alpha",
        /// For a few others.
        Beta = "beta",
        /// What will be released if nothing is found.
        Rc = "rc",
        /// The release.
        Final = "final",
    }
);
words!(
    /// A gate that a hotfix may leave out; proofs, evidence and signatures are none.
    Skip {
        /// `min_evolutions`.
        MinEvolutions = "min_evolutions",
        /// `proof_max_age`.
        ProofMaxAge = "proof_max_age",
        /// `freeze_window`.
        FreezeWindow = "freeze_window",
        /// The time between stages.
        Soak = "soak",
    }
);

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Unique in the generation.
    pub id: ChangeId,
    /// What it does.
    #[serde(rename = "type")]
    pub kind: ChangeType,
    /// On one line.
    pub title: String,
    /// In as many as it needs.
    pub description: Option<String>,
    /// Regress fixtures that show it, as paths in the repository.
    #[serde(default)]
    pub fixtures: Vec<String>,
}

/// One program that an evolution runs.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique in the generation.
    pub id: StepId,
    /// What it is for.
    pub kind: StepKind,
    /// The program and its arguments; never empty.
    pub run: Vec<String>,
    /// The changes that it proves.
    pub proves: Proves,
    /// Steps that have to pass first.
    #[serde(default)]
    pub needs: Vec<StepId>,
    /// Where it runs, as a path in the repository; its root where nothing is said.
    pub folder: Option<String>,
    /// After which it is killed and has failed.
    #[serde(default = "timeout_s")]
    pub timeout_s: u32,
    /// Environment variables that it is given beside those that every program gets, by name.
    #[serde(default)]
    pub env: Vec<String>,
}

fn timeout_s() -> u32 {
    TIMEOUT_S_DEFAULT
}

/// Which changes a step proves.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged)]
pub enum Proves {
    /// Every one.
    All(AllChanges),
    /// These; none for a step that others need.
    These(Vec<ChangeId>),
}

/// The word `all`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum AllChanges {
    /// `all`.
    #[serde(rename = "all")]
    All,
}

impl Proves {
    /// Whether it proves this change.
    pub fn takes(&self, id: &ChangeId) -> bool {
        match self {
            Self::All(AllChanges::All) => true,
            Self::These(ids) => ids.contains(id),
        }
    }
}

/// What changes of one type must have.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangePolicy {
    /// Kinds of steps of which one at least proves the change.
    #[serde(default)]
    pub steps: Vec<StepKind>,
    /// How many fixtures the change has at least.
    #[serde(default)]
    pub fixtures_min: usize,
}

/// A program that is told what happens, as JSON on its standard input.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Unique in the generation.
    pub id: Name,
    /// When it is run.
    pub event: HookEvent,
    /// Only where a change of one of these types is concerned; empty for any.
    #[serde(default)]
    pub types: Vec<ChangeType>,
    /// The program and its arguments; never empty.
    pub run: Vec<String>,
    /// After which it is killed and has failed.
    #[serde(default = "timeout_s")]
    pub timeout_s: u32,
    /// Environment variables that it is given beside those that every program gets, by name.
    #[serde(default)]
    pub env: Vec<String>,
}

/// A rung of the ladder.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Which.
    pub stage: StageName,
    /// How long a commit has to have been there before it goes on; of `final` nothing.
    #[serde(default)]
    pub soak_hours: u32,
}

/// What a hotfix says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hotfix {
    /// The promoted version that it mends.
    pub base: Version,
    /// Why it cannot wait.
    pub reason: String,
    /// Gates that it leaves out.
    #[serde(default)]
    pub skips: Vec<Skip>,
}
