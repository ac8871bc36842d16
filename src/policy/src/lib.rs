//! policy.yaml to compiled policy; facts to verdict.
//!
//! | type | is |
//! |---|---|
//! | [`PolicyDocument`] | one policy.yaml, checked; its canonical bytes and its hash |
//! | [`Policy`] | the same, compiled; judges [`RequestFacts`] and [`ResponseFacts`] |
//! | [`Control`] | what is counted over calls, and how much of it is let through |
//! | [`Decision`] | what is to be done with a call, and which rule says so |
//! | [`Cases`] | facts with the decision that is expected of them, to test a policy |
//! | [`PackManifest`] | what a pack of contracts says of itself |
//! | [`Fixtures`] | bodies with the verdict that is expected of them, to test a contract |
//! | [`YamlValue`] | any document in that part of YAML which every reader agrees about |
//!
//! ```
//! use estoppel_policy::{PolicyDocument, RequestFacts, Verdict};
//!
//! let document = PolicyDocument::parse(
//!     "version: 1
//! name: example
//! defaults: { verdict: allow }
//! rules:
//! - { id: no-shell, when: { tool: shell* }, verdict: block, reason: TOOL_DENIED }
//! ",
//! )
//! .unwrap();
//! let policy = document.compile();
//! let decision = policy.request(&RequestFacts { tools: &["shell_exec".into()], ..RequestFacts::default() });
//! assert_eq!(decision.verdict, Verdict::Block);
//! assert_eq!(decision.rule.unwrap().as_str(), "no-shell");
//! ```
//!
//! What this crate promises:
//!
//! - A document is accepted whole or refused with every error it has, each with its place.
//! - Judging is a function of the policy and the facts. It allocates nothing and looks at a bounded part of
//!   them.
//! - A call with several tools is judged for each of them, so the order and the grouping of tools change
//!   nothing.
//! - [`Policy::explain_request`] and [`Policy::explain_response`] watch the decision being made; there is no
//!   second evaluator.
//!
//! Left to others: where facts come from (wire), what a verdict does to the traffic (gateway), whether the
//! routes that a policy names exist (the daemon, from [`Policy::route_names`]) and whether its reason codes
//! may be used for a policy's decision (the daemon, from [`Policy::reasons`]). The language is described in
//! `docs/policy.md`.

mod canonical;
mod cases;
mod content;
mod control;
mod detecting;
mod determinism;
mod document;
mod error;
mod explain;
mod facts;
mod fixtures;
mod hold;
mod host;
mod index;
mod judging;
mod layout;
mod limits;
mod operations;
mod pack;
mod path;
mod pattern;
mod policy;
mod predicate;
mod provenance;
mod reach;
mod read;
mod rule;
mod snapshot;
mod sql;
mod threats;
mod value;
mod written;
mod yaml;

pub use cases::{Case, CaseFailure, Cases, Expectation};
pub use content::{Content, DESTINATIONS_MAX, VALUES_MAX, Wanted, read_json};
pub use control::{Applied, By, Control, ControlKind, OnStoreDown, Per, Price, TARGETS_MAX, Targets, Unit};
pub use detecting::{BuiltIn, Confidence, DetectorMode, DetectorTerms, External, Surface};
pub use determinism::{Amount, Determinism, Tolerance, Tolerances, Within};
pub use document::{
    BodyStorage, Disconnect, PolicyDocument, PolicyHash, ReasonCode, RuleId, Severity, ThreatId, ToolLists,
    Verdict,
};
pub use error::{PolicyError, PolicyErrorCode};
pub use explain::{Explanation, Failed, Step, Subject, Then};
pub use facts::{Call, Condition, Evaluation, FACT_BYTES_MAX, RequestFacts, ResponseFacts, TOOLS_MAX, Tool};
pub use fixtures::{BodyFormat, Expected, Fixture, Fixtures, Source, Subject as FixtureSubject};
pub use hold::{Approver, HoldMode, HoldTerms};
pub use host::Host;
pub use judging::{
    ChangedTools, ContractKind, ContractText, Formats, Judging, Reask, ReaskTerms, Release, Repair,
    RepairClass, Tell, Terms, UnknownTools,
};
pub use limits::{LIMITS, Limit, Limits};
pub use operations::{Listed, Operation, Operations};
pub use pack::{PackFile, PackManifest, PackedContract, file_digest};
pub use path::{Reach, ValuePath};
pub use policy::{Decision, Needs, Policy, RouteSettings};
pub use predicate::{Predicate, ValueClass};
pub use provenance::{
    CALL_CHARACTERS_MAX, Earlier, Learned, STRETCH_DEFAULT, STRETCH_MAX, STRETCH_MIN, TOOLS_TOLD_APART_MAX,
};
pub use snapshot::{SnapshotMode, SnapshotSource, Snapshotting};
pub use threats::{ThreatEntry, ThreatList, Threats};
pub use value::YamlValue;
pub use written::WrittenContract;
