//! Why a release goes no further, by stable codes, and what a refusal says.

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($name:ident $code:literal $exit:literal $text:literal;)*) => {
        /// A code of a refusal. In byte order of the codes.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code { $(#[doc = $text] $name,)* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// One sentence for people.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Exit code of the program that refuses for it.
            pub fn exit(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }
        }
    };
}

codes! {
    ApprovalsMissing "APPROVALS_MISSING" 4 "too few people have approved what would be promoted";
    AuditAltered "AUDIT_ALTERED" 2 "an export is not what its ledger gives";
    CandidateMissing "CANDIDATE_MISSING" 3 "the generation has no candidate";
    ChangeUnknown "CHANGE_UNKNOWN" 6 "the generation has no such change";
    DestinationUnknown "DESTINATION_UNKNOWN" 6 "the settings name no such destination";
    EnvironmentInvalid "ENVIRONMENT_INVALID" 6 "it names no environment";
    EvidenceTwice "EVIDENCE_TWICE" 3 "two bundles of an evolution are of one run, or have a call in common";
    EvolutionFailed "EVOLUTION_FAILED" 3 "a step of the evolution failed";
    EvolutionUnknown "EVOLUTION_UNKNOWN" 6 "the ledger has no such evolution";
    FixtureMissing "FIXTURE_MISSING" 3 "a fixture that a change names is not in the commit";
    GateRefused "GATE_REFUSED" 3 "a gate does not let the generation pass";
    GateUnknown "GATE_UNKNOWN" 6 "the generation asks no such gate, or it cannot be waived";
    GenerationUnknown "GENERATION_UNKNOWN" 6 "the ledger has no sealed generation of this version";
    GitFailed "GIT_FAILED" 1 "git failed";
    GitMissing "GIT_MISSING" 7 "git cannot be started";
    GitOld "GIT_OLD" 7 "git is older than what is needed";
    GitTime "GIT_TIME" 1 "git was not done in time";
    HistoryMissing "HISTORY_MISSING" 7 "the clone does not have the part of a history that is asked about";
    IndexExists "INDEX_EXISTS" 8 "a file for the index is there already";
    IndexFailed "INDEX_FAILED" 1 "the index of the ledger could not be made";
    LedgerAltered "LEDGER_ALTERED" 2 "the ledger has lost or changed what it had";
    LedgerBusy "LEDGER_BUSY" 1 "others wrote to the ledger at each attempt";
    LedgerConflict "LEDGER_CONFLICT" 3 "two events cannot both be true";
    LedgerEventInvalid "LEDGER_EVENT_INVALID" 2 "an event of the ledger is not one";
    LedgerExists "LEDGER_EXISTS" 8 "the repository has a ledger already";
    LedgerGenesis "LEDGER_GENESIS" 2 "the ledger does not begin as it must, or with another event than is trusted";
    LedgerMax "LEDGER_MAX" 1 "the ledger would have more than it may";
    LedgerMissing "LEDGER_MISSING" 7 "the repository has no ledger";
    LedgerParentMissing "LEDGER_PARENT_MISSING" 2 "an event of the ledger is gone";
    LedgerSignature "LEDGER_SIGNATURE" 2 "the signature of an event does not verify";
    LedgerTime "LEDGER_TIME" 2 "an event is older than what it follows";
    LogAltered "LOG_ALTERED" 2 "the log of a step is not the one whose digest is signed";
    LogMissing "LOG_MISSING" 6 "the log of a step is not on this machine";
    MetricUnknown "METRIC_UNKNOWN" 6 "there is no such figure";
    NotifyState "NOTIFY_STATE" 1 "what a destination was told is not known, or cannot be kept";
    NotARepository "NOT_A_REPOSITORY" 6 "there is no git repository";
    PromotedAlready "PROMOTED_ALREADY" 8 "the generation was promoted before";
    QueryInvalid "QUERY_INVALID" 6 "it is no question that the index understands";
    QueryRowsMax "QUERY_ROWS_MAX" 6 "the answer would be larger than it may";
    QueryTime "QUERY_TIME" 1 "the question was not answered in time";
    QueryWrites "QUERY_WRITES" 8 "only questions are answered, and nothing is written";
    ReasonMissing "REASON_MISSING" 6 "a reason is asked for, and none is given";
    RemoteFailed "REMOTE_FAILED" 1 "the remote did not say whether it took what was pushed";
    RevisionUnknown "REVISION_UNKNOWN" 6 "the repository has no such commit";
    RolesInvalid "ROLES_INVALID" 6 "the roles are not usable";
    RoleMissing "ROLE_MISSING" 3 "the key does not have the role that this needs";
    StageUnknown "STAGE_UNKNOWN" 6 "the generation has no such stage";
    StateInvalid "STATE_INVALID" 3 "the generation is not in a state in which this can be done";
    SyncMode "SYNC_MODE" 6 "the mode of telling the remote is none";
    TagEventMissing "TAG_EVENT_MISSING" 7 "a tag is signed by a key that may sign it, and the event that it names is not in the ledger of this clone";
    TagForged "TAG_FORGED" 2 "a tag is not what its name, its signature or the ledger says";
    TagTaken "TAG_TAKEN" 8 "the tag is there already, and tags are not moved";
    TagUnknown "TAG_UNKNOWN" 6 "there is no such tag in this clone";
    VersionInvalid "VERSION_INVALID" 6 "it is no version";
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Why something was not done, or does not verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    pub code: Code,
    /// What was expected and what was found, in plain words.
    pub detail: String,
    /// What to do, where there is something.
    pub hint: Option<String>,
}

impl Refusal {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), hint: None }
    }

    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Says no to a reason that says nothing.
pub(crate) fn demand_reason(text: &str) -> Result<(), Refusal> {
    let says_something = text.chars().any(|c| !c.is_whitespace() && !c.is_control());
    let missing = || Refusal::new(Code::ReasonMissing, "what is signed says why; the reason is empty");
    says_something.then_some(()).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_once() {
        assert!(Code::ALL.is_sorted_by(|a, b| a.as_str() < b.as_str()));
        assert!(Code::ALL.iter().all(|code| (1..=8).contains(&code.exit())));
    }
}
