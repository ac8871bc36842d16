//! Why there is no attestation, or none to rely on.

use std::fmt;

use estoppel_evidence::key::KeyError;
use estoppel_release::Refusal;
use estoppel_verify::{CustodyFault, IndexFault};

use crate::evidence::{BUNDLES_MAX, ENTRIES_MAX};
use crate::framework::FRAMEWORK_BYTES_MAX;

/// What a statement cites beside bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cites {
    /// The chain of custody of a run.
    Custody(String),
    Archive,
    Ledger,
}

impl Cites {
    /// The member of the statement.
    pub fn member(&self) -> &'static str {
        match self {
            Self::Custody(_) => "custody",
            Self::Archive => "archive",
            Self::Ledger => "ledger",
        }
    }
}

impl fmt::Display for Cites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custody(run) => write!(f, "the chain of custody of run {run}"),
            Self::Archive => f.write_str("the index of an archive"),
            Self::Ledger => f.write_str("a ledger of releases"),
        }
    }
}

/// Each has a stable code.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    #[error("the framework cannot be used: {0}")]
    Framework(String),
    #[error("no framework `{0}` is known")]
    FrameworkUnknown(String),
    #[error("bundle `{name}` does not verify: {reason}")]
    Bundle { name: String, reason: String },
    #[error("run {0} comes twice")]
    Twice(String),
    #[error("there is no bundle to attest")]
    Empty,
    #[error("a chain of custody does not hold: {}: {_0}", _0.reason.meaning())]
    Custody(CustodyFault),
    #[error("the index of the archive does not hold: {0}")]
    Archive(IndexFault),
    #[error("what the archive has of run {0} is another file than the bundle")]
    ArchiveOther(String),
    #[error("the ledger of releases does not hold: {0}")]
    Ledger(Refusal),
    #[error("the trust document cannot be used: {0}")]
    Trust(String),
    #[error("key {0} signs evidence of these bundles; an attestation needs a key of its own")]
    Shared(String),
    #[error("the key did not sign")]
    Key(#[from] KeyError),
    #[error("not an attestation: {0}")]
    Form(String),
    #[error("the attestation is signed by key {found}, not by the one that was given")]
    Untrusted { found: String },
    #[error("the attestation cites {0}, which was not given")]
    Missing(Cites),
    #[error("`{at}` is not what the bundles give")]
    Mismatch { at: String },
    #[error("`{0}` is not what the attestation gives")]
    Copy(String),
    #[error("not a kit: {0}")]
    KitForm(String),
    #[error("`{0}` is declared and not there")]
    KitMissing(String),
    #[error("`{0}` is not what was declared")]
    KitAltered(String),
    #[error("`{0}` is not declared")]
    KitUndeclared(String),
    #[error("the trust document of the kit is not the one that was given")]
    KitTrust,
    #[error("certificate `{path}` does not hold: {why}")]
    KitCertificate { path: String, code: &'static str, why: String },
    #[error("`{path}` is no result of regress over these bundles: {why}")]
    KitResult { path: String, why: String },
    #[error("the summary is not what the contents give")]
    KitSummary,
    #[error(
        "more than {BUNDLES_MAX} bundles, {ENTRIES_MAX} entries or {FRAMEWORK_BYTES_MAX} bytes of a framework"
    )]
    Limit,
}

impl From<IndexFault> for AttestError {
    fn from(fault: IndexFault) -> Self {
        Self::Archive(fault)
    }
}

impl From<Refusal> for AttestError {
    fn from(refusal: Refusal) -> Self {
        Self::Ledger(refusal)
    }
}

impl AttestError {
    /// The code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Framework(_) => "FRAMEWORK_INVALID",
            Self::FrameworkUnknown(_) => "FRAMEWORK_UNKNOWN",
            Self::Bundle { .. } => "ATTESTATION_BUNDLE",
            Self::Twice(_) => "ATTESTATION_TWICE",
            Self::Empty => "ATTESTATION_EMPTY",
            Self::Custody(fault) => fault.reason.code(),
            Self::Archive(fault) => fault.reason.code(),
            Self::ArchiveOther(_) => "ARCHIVE_LOCAL_CHANGED",
            Self::Ledger(refusal) => refusal.code.as_str(),
            Self::Trust(_) => "TRUST_INVALID",
            Self::Shared(_) | Self::Key(_) => "KEY_INVALID",
            Self::Form(_) => "ATTESTATION_FORM",
            Self::Untrusted { .. } => "ATTESTATION_UNTRUSTED",
            Self::Missing(_) => "ATTESTATION_MISSING",
            Self::Mismatch { .. } => "ATTESTATION_MISMATCH",
            Self::Copy(_) => "ATTESTATION_COPY",
            Self::KitForm(_) => "KIT_FORM",
            Self::KitMissing(_) => "KIT_MISSING",
            Self::KitAltered(_) => "KIT_ALTERED",
            Self::KitUndeclared(_) => "KIT_UNDECLARED",
            Self::KitTrust => "KIT_TRUST",
            Self::KitCertificate { code, .. } => code,
            Self::KitResult { .. } => "KIT_RESULT",
            Self::KitSummary => "KIT_SUMMARY",
            Self::Limit => "ATTESTATION_LIMIT",
        }
    }

    /// What a program ends with: 6 for what was given beside the evidence, else 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Custody(fault) => fault.reason.exit_code(),
            Self::Archive(fault) => fault.reason.exit_code(),
            // 3 is of what cannot be true beside a ledger that is here; this one contradicts itself.
            Self::Ledger(refusal) => match refusal.code.exit() {
                3 => 2,
                exit => exit,
            },
            Self::Bundle { .. }
            | Self::ArchiveOther(_)
            | Self::Form(_)
            | Self::Untrusted { .. }
            | Self::Mismatch { .. }
            | Self::Copy(_)
            | Self::KitForm(_)
            | Self::KitMissing(_)
            | Self::KitAltered(_)
            | Self::KitUndeclared(_)
            | Self::KitTrust
            | Self::KitCertificate { .. }
            | Self::KitResult { .. }
            | Self::KitSummary => 2,
            Self::Framework(_)
            | Self::FrameworkUnknown(_)
            | Self::Twice(_)
            | Self::Empty
            | Self::Missing(_)
            | Self::Trust(_)
            | Self::Shared(_)
            | Self::Key(_)
            | Self::Limit => 6,
        }
    }
}
