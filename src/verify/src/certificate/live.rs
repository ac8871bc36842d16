//! Calls that were made again for real: whose, and which were allowed (steps R6 and R7).

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{CertificateReason, Check, fault};
use crate::view::View;

/// What was allowed.
pub(super) struct Live<'a> {
    kind: Kind,
    allowed: BTreeSet<Cow<'a, str>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Operations of a plain API.
    Operations,
    /// Tools of MCP.
    Tools,
}

impl Kind {
    fn member(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Tools => "tools",
        }
    }

    /// Of steps that were not allowed.
    fn code(self) -> &'static str {
        match self {
            Self::Operations => "OPERATION_NOT_ALLOWED",
            Self::Tools => "TOOL_NOT_ALLOWED",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Operations => Self::Tools,
            Self::Tools => Self::Operations,
        }
    }
}

impl<'a> Live<'a> {
    pub(super) fn read(live: View<'a>) -> Self {
        let kind = if live.member("operations").is_some() { Kind::Operations } else { Kind::Tools };
        let names = live.member(kind.member()).into_iter().flat_map(View::items);
        Self { kind, allowed: names.filter_map(View::text).collect() }
    }

    pub(super) fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// Whether a call is one of those that are made again.
    pub(super) fn is_of(&self, entry: View<'_>) -> bool {
        match self.kind {
            Kind::Operations => entry.text_of("dialect") == "json",
            Kind::Tools => tool_of(entry).is_some(),
        }
    }

    /// Whether one of these was allowed.
    pub(super) fn allows(&self, entry: View<'_>) -> bool {
        let has = |name: &str| self.allowed.contains(name);
        match self.kind {
            Kind::Operations => {
                let request = entry.member("request");
                let of = |name: &str| request.map(|request| request.text_of(name)).unwrap_or_default();
                has(&entry.text_of("operation")) || has(&format!("{} {}", of("method"), of("target_tag")))
            }
            Kind::Tools => tool_of(entry).is_some_and(|tool| has(&tool)),
        }
    }
}

/// One kind of names was allowed, in byte order, none twice, and what was not counts by its code.
pub(super) fn check_allowed(predicate: View<'_>, live: View<'_>, skipped: &[(String, u64)]) -> Check {
    let refuse = |detail: String| Err(fault(CertificateReason::Status, detail));
    let kind = Live::read(live).kind;
    let names = live.member(kind.member());
    if names.is_none() || live.member(kind.other().member()).is_some() {
        return refuse("`live` has not one of `tools` and `operations`".to_owned());
    }
    if !names.into_iter().flat_map(View::items).filter_map(View::text).is_sorted_by(|one, other| one < other)
    {
        return refuse(format!("`{}` is not in order", kind.member()));
    }
    if let Some(code) = skipped.iter().map(|(code, _)| code).find(|code| **code == kind.other().code()) {
        return refuse(format!("`{code}` does not fit `{}`", kind.member()));
    }
    if kind == Kind::Operations && predicate.text_of("bodies_by") != "tag" {
        return refuse("`bodies_by` does not fit `operations`".to_owned());
    }
    Ok(())
}

/// The tool that a call of MCP calls.
fn tool_of(entry: View<'_>) -> Option<Cow<'_, str>> {
    let called = entry.member("facts").and_then(|facts| facts.member("tools_called"))?;
    called.items().next().filter(|_| entry.text_of("dialect") == "mcp").and_then(View::text)
}
