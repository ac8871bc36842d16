//! What a policy says of values: the contracts that it has, and which of them are held against what.

use std::collections::{BTreeMap, BTreeSet};

/// A contract as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContractText {
    /// Its language.
    pub kind: ContractKind,
    /// JSON text, which is read by whoever enforces it.
    pub text: String,
}

/// The language of a contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContractKind {
    /// JSON Schema, of a JSON value.
    Json,
    /// spec/contracts/csv.md, of a CSV body.
    Csv,
}

impl ContractKind {
    pub(crate) const ALL: [Self; 2] = [Self::Json, Self::Csv];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }
}

/// Whether values are held against contracts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Judging {
    /// They are not looked into.
    #[default]
    None,
    /// On these terms.
    On(Box<Terms>),
}

impl Judging {
    /// This, and what `wider` says where this says nothing.
    pub(crate) fn over(self, wider: Self) -> Self {
        match (self, wider) {
            (Self::On(own), Self::On(wider)) => Self::On(Box::new(own.over(*wider))),
            (own, _) => own,
        }
    }
}

/// How values are judged, as written. Contracts are named; [`crate::Policy::contracts`] has them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    pub(crate) unknown_tools: Option<UnknownTools>,
    pub(crate) changed_tools: Option<ChangedTools>,
    pub(crate) repair: Option<Repair>,
    pub(crate) reask: Option<Reask>,
    pub(crate) release: Option<Release>,
    pub(crate) formats: Option<Formats>,
    pub(crate) tools: BTreeMap<String, String>,
    pub(crate) results: BTreeMap<String, String>,
    pub(crate) text: Option<String>,
    pub(crate) request: Option<String>,
    pub(crate) answer: Option<String>,
}

/// Names of both; of those in both, `own`.
fn joined(own: BTreeMap<String, String>, mut wider: BTreeMap<String, String>) -> BTreeMap<String, String> {
    wider.extend(own);
    wider
}

impl Terms {
    fn over(self, wider: Self) -> Self {
        Self {
            unknown_tools: self.unknown_tools.or(wider.unknown_tools),
            changed_tools: self.changed_tools.or(wider.changed_tools),
            repair: self.repair.or(wider.repair),
            reask: self.reask.or(wider.reask),
            release: self.release.or(wider.release),
            formats: self.formats.or(wider.formats),
            tools: joined(self.tools, wider.tools),
            results: joined(self.results, wider.results),
            text: self.text.or(wider.text),
            request: self.request.or(wider.request),
            answer: self.answer.or(wider.answer),
        }
    }

    /// What a call of a tool must be for which nobody has a schema that can be read. Default JSON.
    pub fn unknown_tools(&self) -> UnknownTools {
        self.unknown_tools.unwrap_or(UnknownTools::Json)
    }

    /// What becomes of an MCP server's list in which a tool is not the one that was listed first. Default refused.
    pub fn changed_tools(&self) -> ChangedTools {
        self.changed_tools.unwrap_or(ChangedTools::Block)
    }

    /// Whether a value that is not well-formed is repaired, once. Default not.
    pub fn repair(&self) -> &Repair {
        self.repair.as_ref().unwrap_or(&Repair::None)
    }

    /// Whether a model is asked again when its answer is refused. Default not.
    pub fn reask(&self) -> Reask {
        self.reask.unwrap_or(Reask::None)
    }

    /// What the keyword `format` of schemas means. Default nothing.
    pub fn formats(&self) -> Formats {
        self.formats.unwrap_or(Formats::Annotate)
    }

    /// Names of all contracts that these terms need.
    pub fn contracts(&self) -> impl Iterator<Item = &str> {
        let single = [&self.text, &self.request, &self.answer].into_iter().flatten();
        self.tools.values().chain(self.results.values()).chain(single).map(String::as_str)
    }

    /// When what is judged leaves. Default once it has passed.
    pub fn release(&self) -> Release {
        self.release.unwrap_or(Release::HoldStructured)
    }

    /// Tools with the names of the contracts for the arguments of their calls, in the place of the request's own.
    pub fn tools(&self) -> &BTreeMap<String, String> {
        &self.tools
    }

    /// Tools with the names of the contracts for their results, on their way to a model.
    pub fn results(&self) -> &BTreeMap<String, String> {
        &self.results
    }

    /// Name of the contract for the text of a model's answer, in the place of the request's own.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Name of the contract for the body of a request.
    pub fn request(&self) -> Option<&str> {
        self.request.as_deref()
    }

    /// Name of the contract for the body of an answer on a route that no model speaks on.
    pub fn answer(&self) -> Option<&str> {
        self.answer.as_deref()
    }
}

/// What a call of a tool without a contract must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownTools {
    /// Any JSON object.
    Json,
    /// It is refused.
    Block,
}

impl UnknownTools {
    pub(crate) const ALL: [Self; 2] = [Self::Json, Self::Block];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Block => "block",
        }
    }
}

/// What becomes of a list of tools in which one is not as it was when it was listed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangedTools {
    /// It passes, and what it says counts from then on.
    Allow,
    /// It is refused.
    Block,
}

impl ChangedTools {
    pub(crate) const ALL: [Self; 2] = [Self::Allow, Self::Block];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
        }
    }
}

/// Whether values are repaired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Repair {
    /// They are refused.
    None,
    /// By profile `r1` (spec/repair.md), once: the safe classes, and these.
    R1(BTreeSet<RepairClass>),
}

/// Whether a model whose answer is refused is asked again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reask {
    /// The answer stays refused.
    None,
    /// Once for a call.
    Once(ReaskTerms),
}

/// How a model is asked again, as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReaskTerms {
    pub(crate) tell: Option<Tell>,
    pub(crate) bytes_max: Option<u64>,
}

impl ReaskTerms {
    /// What the model is told. Default the place.
    pub fn tell(self) -> Tell {
        self.tell.unwrap_or(Tell::Place)
    }

    /// Most bytes of the second request. Default as many as the first may have; more is never allowed.
    pub fn bytes_max(self) -> Option<u64> {
        self.bytes_max
    }
}

/// What a model is told of why its answer was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tell {
    /// The code alone.
    Code,
    /// The code, the tool, the place in the value and the keyword that it fails.
    Place,
}

impl Tell {
    pub(crate) const ALL: [Self; 2] = [Self::Code, Self::Place];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Place => "place",
        }
    }
}

/// A class of edits that is made only where a policy names it (spec/repair.md section 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RepairClass {
    /// Two closers where one belongs.
    DoubledCloser,
    /// `3.0` where an integer is wanted.
    FractionToInteger,
    /// The text ends inside its containers. What was lost with the end stays lost.
    MissingCloser,
    /// One comma is missing.
    MissingComma,
    /// Text around one value.
    Prose,
    /// Strings in `'`.
    SingleQuote,
    /// `"true"` where a boolean is wanted.
    StringToBoolean,
    /// `"42"` where a number is wanted.
    StringToInteger,
    /// A member name without quotes.
    UnquotedKey,
}

impl RepairClass {
    /// Every class, in the order of their words.
    pub const ALL: [Self; 9] = [
        Self::DoubledCloser,
        Self::FractionToInteger,
        Self::MissingCloser,
        Self::MissingComma,
        Self::Prose,
        Self::SingleQuote,
        Self::StringToBoolean,
        Self::StringToInteger,
        Self::UnquotedKey,
    ];

    /// The word in documents and receipts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DoubledCloser => "doubled_closer",
            Self::FractionToInteger => "fraction_to_integer",
            Self::MissingCloser => "missing_closer",
            Self::MissingComma => "missing_comma",
            Self::Prose => "prose",
            Self::SingleQuote => "single_quote",
            Self::StringToBoolean => "string_to_boolean",
            Self::StringToInteger => "string_to_integer",
            Self::UnquotedKey => "unquoted_key",
        }
    }
}

/// What the keyword `format` means (JSON Schema Validation section 7.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Formats {
    /// Nothing.
    Annotate,
    /// Strings must be in it; a schema with one that is not known cannot be enforced.
    Assert,
}

impl Formats {
    pub(crate) const ALL: [Self; 2] = [Self::Annotate, Self::Assert];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Annotate => "annotate",
            Self::Assert => "assert",
        }
    }
}

/// When judged bytes leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// Structured values once they have passed; all else at once.
    HoldStructured,
    /// Nothing before all of the answer has passed.
    HoldAll,
    /// At once; the answer is cut at the first violation. Nothing is repaired.
    StreamAndCut,
    /// At once, and whatever is found is only recorded.
    Observe,
}

impl Release {
    pub(crate) const ALL: [Self; 4] =
        [Self::HoldStructured, Self::HoldAll, Self::StreamAndCut, Self::Observe];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HoldStructured => "hold_structured",
            Self::HoldAll => "hold_all",
            Self::StreamAndCut => "stream_and_cut",
            Self::Observe => "observe",
        }
    }
}
