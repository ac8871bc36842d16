//! What a verification answers: four verdicts, at most one finding, and what was seen on the way
//! (the end of SPEC section 11).

use crate::body::Part;
use crate::hash::Hash;
use crate::keys::{Algorithm, Usage};
use crate::reason::{Decides, Reason};

/// What was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Bundle,
    Journal,
    Receipt,
    Checkpoint,
}

impl Subject {
    pub fn name(self) -> &'static str {
        match self {
            Subject::Bundle => "bundle",
            Subject::Journal => "journal",
            Subject::Receipt => "receipt",
            Subject::Checkpoint => "checkpoint",
        }
    }
}

macro_rules! verdict {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $value,)*
            /// An earlier failure stopped the verification before this was decided.
            #[default]
            Unchecked,
        }

        impl $name {
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$value => $text,)*
                    $name::Unchecked => "unchecked",
                }
            }
        }
    };
}

verdict! {
    /// Whether the bytes are those that were sealed.
    Integrity { Ok "ok", Failed "failed", }
}

verdict! {
    /// Whose word it is.
    Authenticity {
        /// The keys that signed are keys that the reader trusts.
        Trusted "trusted",
        /// The signatures fit keys for which only the artifact itself vouches.
        SelfAsserted "self_asserted",
        Failed "failed",
    }
}

verdict! {
    /// Whether anything is left out.
    Completeness {
        Complete "complete",
        /// There is no seal, so nothing says how many entries there should be.
        Open "open",
        Failed "failed",
    }
}

verdict! {
    /// Whether it has a place in a log beyond itself.
    Anchoring { Anchored "anchored", Absent "absent", Failed "failed", }
}

verdict! {
    /// Whether given bytes are those of a stream (SPEC section 16), or a body (section 17).
    Proof { Proven "proven", Failed "failed", }
}

/// The way from a node of a stream to its root (RFC 6962 section 2.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPath {
    pub node: Hash,
    pub index: u64,
    pub size: u64,
    pub path: Vec<Hash>,
}

/// What was asked of a stream, and the answer.
#[derive(Clone, Debug, Default)]
pub struct StreamProof {
    pub verdict: Proof,
    /// The call's id, once it was found; before, as it was asked for.
    pub call: String,
    pub seq: Option<u64>,
    /// Of the whole stream, as the receipt states it.
    pub units: Option<u64>,
    pub level: Option<u64>,
    pub root: Option<Hash>,
    /// Place of the first unit that was given; none where the whole stream was.
    pub place: Option<u64>,
    /// Units that are proven.
    pub count: u64,
    /// Where the units of one node were given.
    pub path: Option<AuditPath>,
}

/// What was asked of a body, and the answer.
#[derive(Clone, Debug, Default)]
pub struct BodyProof {
    pub verdict: Proof,
    /// The call's id, once it was found; before, as it was asked for.
    pub call: String,
    pub part: Part,
    pub seq: Option<u64>,
    /// Of the body that was recorded.
    pub bytes: Option<u64>,
}

/// The four answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    pub integrity: Integrity,
    pub authenticity: Authenticity,
    pub completeness: Completeness,
    pub anchoring: Anchoring,
}

/// The first step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub reason: Reason,
    /// Place in the run, where the step has one.
    pub seq: Option<u64>,
    /// Place in the instance log; only of journals.
    pub index: Option<u64>,
    /// Place in a stream; only of its events.
    pub unit: Option<u64>,
    /// What was expected and what was found, in plain words.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Finding {
        Finding { reason, seq: None, index: None, unit: None, detail: detail.into() }
    }

    pub(crate) fn at(self, seq: u64) -> Finding {
        Finding { seq: Some(seq), ..self }
    }

    pub(crate) fn at_index(self, index: u64) -> Finding {
        Finding { index: Some(index), ..self }
    }

    pub(crate) fn at_unit(self, unit: u64) -> Finding {
        Finding { unit: Some(unit), ..self }
    }
}

/// Passed, or the finding that ends the verification.
pub(crate) type Step<T = ()> = Result<T, Finding>;

/// Something that had to be read could not be. Exit code 6: this says nothing about the evidence.
#[derive(Debug, thiserror::Error)]
#[error("could not read {what}")]
pub struct Unreadable {
    pub what: String,
    #[source]
    pub source: std::io::Error,
}

/// Why a verification ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    Refuse(Finding),
    Unreadable(Unreadable),
}

impl From<Finding> for Stop {
    fn from(finding: Finding) -> Stop {
        Stop::Refuse(finding)
    }
}

impl From<Unreadable> for Stop {
    fn from(error: Unreadable) -> Stop {
        Stop::Unreadable(error)
    }
}

/// What is counted over the entries of a run and stated in its seal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub calls: u64,
    pub allow: u64,
    pub repair: u64,
    pub hold: u64,
    pub block: u64,
    pub interrupted: u64,
    pub incomplete: u64,
}

impl Counters {
    /// Names and values, in the order of the names.
    pub fn rows(&self) -> [(&'static str, u64); 7] {
        [
            ("allow", self.allow),
            ("block", self.block),
            ("calls", self.calls),
            ("hold", self.hold),
            ("incomplete", self.incomplete),
            ("interrupted", self.interrupted),
            ("repair", self.repair),
        ]
    }
}

/// Why a key was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The reader's trust document lists it.
    Trusted,
    /// A `key.rotate` that a trusted key signed brought it in.
    Rotated,
    /// Only the artifact itself lists it.
    SelfAsserted,
}

impl Standing {
    pub fn name(self) -> &'static str {
        match self {
            Standing::Trusted => "trusted",
            Standing::Rotated => "rotated",
            Standing::SelfAsserted => "self_asserted",
        }
    }
}

/// A key that signed something that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    pub id: Hash,
    pub algorithm: Algorithm,
    pub usage: Usage,
    pub standing: Standing,
}

/// What the first and last entry of a run say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFacts {
    pub class: String,
    pub name: Option<String>,
    pub opened: String,
    pub sealed: String,
    pub seal_reason: String,
    pub sign: String,
    pub durability: String,
}

/// Where a journal begins whose oldest segments were deleted, as its signed `beginning.json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begins {
    /// Entries before its first one.
    pub size: u64,
    /// Segments that were deleted.
    pub segments: u64,
    /// Runs of which only the later entries are there.
    pub runs: u64,
    /// `sha256:` of the plan of the last deletion.
    pub plan: String,
    /// Where copies of the deleted segments are.
    pub copies: Vec<Copies>,
    /// Segments from before that are still there; they were not read.
    pub passed_over: u64,
}

/// Copies of deleted segments in one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    pub endpoint: String,
    pub bucket: String,
    pub segments: u64,
    /// Until when all of them are kept.
    pub retain_until: String,
}

/// The outcome of a verification.
#[derive(Clone, Debug)]
pub struct Report {
    pub subject: Subject,
    pub verdicts: Verdicts,
    /// None when no step failed.
    pub finding: Option<Finding>,
    /// Whether the reader gave the keys to trust.
    pub trust_given: bool,
    pub iss: Option<String>,
    pub run: Option<String>,
    pub facts: Option<RunFacts>,
    /// Entries that passed every step that is made line by line.
    pub entries: u64,
    /// Runs that were opened and sealed; only of journals.
    pub runs: u64,
    pub runs_sealed: u64,
    pub counters: Counters,
    /// Root of the run tree, or of the instance tree.
    pub root: Option<Hash>,
    /// Signatures of single entries that were verified.
    pub signatures_verified: u64,
    /// Signatures of single entries that are there and were not looked at, because the caller asked for that.
    pub signatures_skipped: u64,
    /// How many entries from the first on the newest verified checkpoint covers.
    pub checkpoint_size: Option<u64>,
    /// Log index of the seal, when the bundle is anchored.
    pub anchor_index: Option<u64>,
    pub files: u64,
    pub externals: u64,
    pub keys: Vec<SigningKey>,
    /// Where a journal begins whose oldest segments were deleted.
    pub begins: Option<Begins>,
    /// None when no stream was asked about.
    pub stream: Option<StreamProof>,
    /// None when no body was asked about.
    pub body: Option<BodyProof>,
}

impl Report {
    pub(crate) fn new(subject: Subject) -> Report {
        Report {
            subject,
            verdicts: Verdicts::default(),
            finding: None,
            trust_given: false,
            iss: None,
            run: None,
            facts: None,
            entries: 0,
            runs: 0,
            runs_sealed: 0,
            counters: Counters::default(),
            root: None,
            signatures_verified: 0,
            signatures_skipped: 0,
            checkpoint_size: None,
            anchor_index: None,
            files: 0,
            externals: 0,
            keys: Vec::new(),
            begins: None,
            stream: None,
            body: None,
        }
    }

    /// 0: no step failed. 2: one did. 6: what the reader gave beside the evidence is unusable.
    pub fn exit_code(&self) -> u8 {
        self.finding.as_ref().map_or(0, |finding| finding.reason.exit_code())
    }

    /// Whether no step failed. That is not the same as four good verdicts.
    pub fn passed(&self) -> bool {
        self.finding.is_none()
    }

    /// Ends the verification: the finding decides one verdict, the others stay as they are.
    pub(crate) fn refuse(&mut self, finding: Finding) {
        match finding.reason.decides() {
            Decides::Integrity => self.verdicts.integrity = Integrity::Failed,
            Decides::Authenticity => self.verdicts.authenticity = Authenticity::Failed,
            Decides::Open => self.verdicts.completeness = Completeness::Open,
            Decides::Completeness => self.verdicts.completeness = Completeness::Failed,
            Decides::Anchoring => self.verdicts.anchoring = Anchoring::Failed,
            Decides::Proof => {
                if let Some(stream) = &mut self.stream {
                    stream.verdict = Proof::Failed;
                }
                if let Some(body) = &mut self.body {
                    body.verdict = Proof::Failed;
                }
            }
            Decides::Nothing => {}
        }
        self.finding = Some(finding);
    }

    /// Records a key that signed, once.
    pub(crate) fn note_key(&mut self, key: SigningKey) {
        if !self.keys.iter().any(|known| known.id == key.id && known.usage == key.usage) {
            self.keys.push(key);
        }
    }

    /// Puts `outcome` into this report.
    pub(crate) fn conclude(mut self, outcome: Result<(), Stop>) -> Result<Report, Unreadable> {
        match outcome {
            Ok(()) => {}
            Err(Stop::Refuse(finding)) => self.refuse(finding),
            Err(Stop::Unreadable(error)) => return Err(error),
        }
        Ok(self)
    }
}
