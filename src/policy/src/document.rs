//! One policy.yaml as it was written, checked. What it leaves out stays left out; [`crate::Policy`] fills it
//! in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::control::{Control, Price};
use crate::detecting::DetectorWritten;
use crate::determinism::{Determinism, RouteDeterminism};
use crate::error::PolicyError;
use crate::facts::Condition;
use crate::hold::{Approver, Hold};
use crate::judging::{ContractText, Judging};
use crate::limits::LimitValues;
use crate::operations::Operations;
use crate::pack::{PackedContract, PackedUse};
use crate::path::ValuePath;
use crate::policy::Policy;
use crate::predicate::Predicate;
use crate::provenance::Provenance;
use crate::snapshot::Snapshotting;
use crate::{canonical, read};

/// A checked policy.yaml.
#[derive(Clone, Debug)]
pub struct PolicyDocument {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) defaults: Settings,
    pub(crate) limits: LimitValues,
    pub(crate) approvers: BTreeMap<String, Approver>,
    pub(crate) routes: BTreeMap<String, Route>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) controls: Vec<Control>,
    pub(crate) prices: Vec<Price>,
    pub(crate) contracts: BTreeMap<String, ContractText>,
    pub(crate) detectors: BTreeMap<String, DetectorWritten>,
    pub(crate) packed: BTreeMap<String, PackedContract>,
    pub(crate) packed_uses: Vec<PackedUse>,
    /// Of those in `packed`, all or none.
    pub(crate) taken: BTreeMap<String, ContractText>,
    pub(crate) warnings: Vec<PolicyError>,
}

impl PolicyDocument {
    /// Reads a document. All errors come at once, in the order of the text.
    pub fn parse(yaml: &str) -> Result<Self, Vec<PolicyError>> {
        read::document(yaml)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says it is for.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// The contracts that are written in it, by name.
    pub fn contracts(&self) -> &BTreeMap<String, ContractText> {
        &self.contracts
    }

    /// What it says of a call that is run again: of the MCP tool, of the operation, or else of the route. None: nothing.
    pub fn determinism(&self, route: &str, operation: &str, tool: Option<&str>) -> Option<&Determinism> {
        let route = self.routes.get(route)?;
        let said = route.determinism.as_ref();
        match tool {
            Some(tool) => said.and_then(|said| said.tools.get(tool)),
            None => route.operations.get(operation).and_then(|operation| operation.determinism.as_ref()),
        }
        .or(said.map(|said| &said.all))
    }

    /// What is allowed and probably a mistake.
    pub fn warnings(&self) -> &[PolicyError] {
        &self.warnings
    }

    /// Canonical bytes: the document as written, as RFC 8785 JSON. Values that may be text or a list are
    /// lists; an empty `defaults`, `limits`, `contracts`, `approvers`, `detectors`, `routes`,
    /// `rules`, `controls` or `prices` is left out; defaults are not filled in.
    /// Comments, the order of keys and the spelling of YAML leave no trace. The bytes are themselves a policy
    /// with the same hash.
    pub fn canonical(&self) -> Vec<u8> {
        canonical::document(self)
    }

    /// The hash that receipts name this policy by.
    pub fn hash(&self) -> PolicyHash {
        PolicyHash(Sha256::digest(self.canonical()).into())
    }

    /// Makes it ready to judge.
    pub fn compile(&self) -> Policy {
        Policy::new(self)
    }
}

/// SHA-256 of a policy's canonical bytes. Text form: `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyHash([u8; 32]);

impl PolicyHash {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What `defaults` and a route may set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub verdict: Option<Verdict>,
    pub body_storage: Option<BodyStorage>,
    pub on_not_evaluated: Option<Verdict>,
    pub disconnect: Option<Disconnect>,
    pub tool_lists: Option<ToolLists>,
    pub judge: Option<Judging>,
    pub snapshot: Option<Snapshotting>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    pub settings: Settings,
    pub limits: LimitValues,
    pub detectors: BTreeMap<String, DetectorWritten>,
    pub determinism: Option<RouteDeterminism>,
    pub operations: Operations,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub id: RuleId,
    pub when: When,
    /// Conditions of which one must not hold. INVARIANT: never empty.
    pub unless: Option<When>,
    pub verdict: Verdict,
    /// INVARIANT: present if the verdict is hold, and only then.
    pub hold: Option<Hold>,
    /// INVARIANT: present if the verdict is block.
    pub reason: Option<ReasonCode>,
    pub message: Option<String>,
    pub severity: Option<Severity>,
    pub threat: Vec<ThreatId>,
    pub body_storage: Option<BodyStorage>,
}

/// Conditions that must all hold. Empty: every call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct When {
    /// Of each, one pattern must match.
    pub names: BTreeMap<Condition, Vec<String>>,
    /// Of the arguments of a call all must hold.
    pub arguments: Vec<Predicate>,
    /// Of the body all must hold.
    pub body: Vec<Predicate>,
    pub provenance: Option<Provenance>,
}

impl When {
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
            && self.arguments.is_empty()
            && self.body.is_empty()
            && self.provenance.is_none()
    }

    /// Whether it has the condition.
    pub fn has(&self, condition: Condition) -> bool {
        match condition {
            Condition::Arguments => !self.arguments.is_empty(),
            Condition::Body => !self.body.is_empty(),
            Condition::Provenance => self.provenance.is_some(),
            _ => self.names.contains_key(&condition),
        }
    }
}

/// What is to be done with a call. Of several, the least decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Verdict {
    /// Refuse it.
    Block,
    /// Keep it until people have let it pass.
    Hold,
    /// Let it go on.
    Allow,
}

impl Verdict {
    pub(crate) const ALL: [Self; 3] = [Self::Allow, Self::Hold, Self::Block];
    /// Those that a default may be: only a rule says who would decide.
    pub(crate) const DEFAULTS: [Self; 2] = [Self::Allow, Self::Block];

    /// Whether the call goes on.
    pub fn lets_go(self) -> bool {
        match self {
            Self::Block | Self::Hold => false,
            Self::Allow => true,
        }
    }

    /// The word in documents and receipts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Hold => "hold",
            Self::Allow => "allow",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of the tools in the list of an MCP server that its caller may not call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ToolLists {
    /// They are left out of the list. Where there are none, no byte of it changes.
    #[default]
    Filter,
    /// The list is forwarded as it is; calls are blocked all the same.
    AsIs,
}

impl ToolLists {
    pub(crate) const ALL: [Self; 2] = [Self::Filter, Self::AsIs];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::AsIs => "as_is",
        }
    }
}

/// What is kept of a body. Whoever can edit the policy can have bodies stored; the reason then stands in each
/// receipt.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum BodyStorage {
    /// Nothing but its length.
    None,
    /// A keyed digest: equal bodies can be found by whoever holds the key, nothing can be read back.
    #[default]
    Hmac,
    /// The body itself.
    Full {
        /// Why; part of every receipt of such a call.
        reason: String,
        /// Values that are replaced by keyed digests before anything is stored.
        redact: Vec<ValuePath>,
    },
}

/// What happens to the upstream exchange when the client leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Disconnect {
    /// It ends at once.
    #[default]
    Cancel,
    /// It is read on, so that the receipt covers the whole answer, until one of the bounds is reached.
    Drain {
        /// Most bytes read after the client left.
        bytes: u64,
        /// Longest time read after the client left.
        seconds: u64,
    },
}

/// How bad a decision of a rule is, for those who watch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Severity {
    /// For the record.
    Info,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    pub(crate) const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word in documents and receipts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Name of a rule: `[a-z0-9][a-z0-9._-]{0,63}`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct RuleId(String);

impl RuleId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        is_slug(text).then(|| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names of policies, routes and rules.
pub(crate) fn is_slug(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with(['.', '_', '-'])
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

/// A stable code: `[A-Z][A-Z0-9_]{0,63}`, and not `OK`, which says that nothing stood in the way.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ReasonCode(Cow<'static, str>);

impl ReasonCode {
    /// The default verdict of the route blocks.
    pub const POLICY_BLOCK: &'static Self = &Self(Cow::Borrowed("POLICY_BLOCK"));
    /// A rule holds the call.
    pub const APPROVAL_REQUIRED: &'static Self = &Self(Cow::Borrowed("APPROVAL_REQUIRED"));
    /// The call was not evaluated, and `on_not_evaluated` blocks.
    pub const NOT_EVALUATED: &'static Self = &Self(Cow::Borrowed("NOT_EVALUATED"));

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
            && text != "OK";
        fits.then(|| Self(Cow::Owned(text.into())))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entry of a threat list, with the list's edition: `owasp_llm:2025/LLM06`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ThreatId(String);

impl ThreatId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (list, rest) = text.split_once(':')?;
        let (edition, entry) = rest.split_once('/')?;
        let fits = text.len() <= 128
            && list.starts_with(|c: char| c.is_ascii_lowercase())
            && list.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && is_entry(edition)
            && is_entry(entry);
        fits.then(|| Self(text.into()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// List, edition and entry.
    pub(crate) fn parts(&self) -> (&str, &str, &str) {
        let (list, rest) = self.0.split_once(':').unwrap_or_default();
        let (edition, entry) = rest.split_once('/').unwrap_or_default();
        (list, edition, entry)
    }
}

impl fmt::Display for ThreatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_entry(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
