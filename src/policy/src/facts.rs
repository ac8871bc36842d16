//! What is known of a call when it is judged. Borrowed, because it is judged while it passes.

use std::fmt;

use crate::content::Content;
use crate::pattern::Case;

/// Longest fact that conditions read. A longer one fulfils no condition but `*`, and the call counts as not
/// evaluated.
pub const FACT_BYTES_MAX: usize = 512;
/// Most tools of one request or response that are judged. With more, the call counts as not evaluated.
pub const TOOLS_MAX: usize = 1024;

/// Whether the bytes were understood well enough that the facts are all there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Evaluation {
    /// They were, or there were none.
    #[default]
    Evaluated,
    /// The dialect, the encoding or a defect kept facts from being read, or a name was cut or left out on the
    /// way here. `on_not_evaluated` decides: a tool that no rule was shown may be one that a rule blocks.
    NotEvaluated,
}

/// A tool that a request offers or calls, or that a response calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tool<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is called with.
    pub call: Call<'a>,
}

/// What a tool is called with.
#[derive(Clone, Copy, Debug, Default)]
pub enum Call<'a> {
    /// It is only offered, so there is nothing yet.
    #[default]
    Offered,
    /// It is called; its arguments are judged when they have come, and nothing leaves before.
    ToCome,
    /// It is called with this.
    With(&'a Content),
}

impl<'a> From<&'a str> for Tool<'a> {
    /// A tool that is offered.
    fn from(name: &'a str) -> Self {
        Self { name, call: Call::Offered }
    }
}

/// What is known of a request. Absent facts are empty: they fulfil no condition.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestFacts<'a> {
    /// Name of the route that took the request.
    pub route: &'a str,
    /// What the call does, as `openai.chat.completions` or `mcp.tools/call`.
    pub operation: Option<&'a str>,
    /// Dialect of the body.
    pub dialect: Option<&'a str>,
    /// Method of the HTTP request.
    pub method: Option<&'a str>,
    /// Subject that the connection proved. Never what a caller says of itself.
    pub identity: Option<&'a str>,
    /// Tenant that the identity belongs to.
    pub tenant: Option<&'a str>,
    /// Model that the request asks for.
    pub model: Option<&'a str>,
    /// Tools that the request offers to a model, or the one that `tools/call` names.
    pub tools: &'a [Tool<'a>],
    /// What is in its body; absent without one, and where no rule asks.
    pub body: Option<&'a Content>,
    /// Name of the rule that held the call, once people have let it pass. That rule then allows.
    pub approved: Option<&'a str>,
    /// Whether that is all.
    pub evaluation: Evaluation,
}

/// What is known of a response, or of the part of it that is judged now.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseFacts<'a> {
    /// The request it answers. Its tools and its evaluation were judged with it and are not looked at again.
    pub request: RequestFacts<'a>,
    /// Model that the response says it comes from.
    pub model_served: Option<&'a str>,
    /// Tools that the model calls.
    pub tools_called: &'a [Tool<'a>],
    /// What the response itself says, beside calls. Of it only classes of data are looked at, by rules that name some.
    pub said: Option<&'a Content>,
    /// Whether that is all.
    pub evaluation: Evaluation,
}

impl RequestFacts<'_> {
    /// Whether all facts were read and none is beyond the limits.
    pub(crate) fn are_whole(&self) -> bool {
        let single = [self.operation, self.dialect, self.method, self.identity, self.tenant, self.model];
        self.evaluation == Evaluation::Evaluated
            && self.route.len() <= FACT_BYTES_MAX
            && single.into_iter().all(is_within_limit)
            && are_within_limit(self.tools)
    }
}

impl ResponseFacts<'_> {
    /// Whether all facts were read and none is beyond the limits.
    pub(crate) fn are_whole(&self) -> bool {
        self.evaluation == Evaluation::Evaluated
            && is_within_limit(self.model_served)
            && are_within_limit(self.tools_called)
    }
}

fn is_within_limit(fact: Option<&str>) -> bool {
    fact.is_none_or(|fact| fact.len() <= FACT_BYTES_MAX)
}

fn are_within_limit(tools: &[Tool<'_>]) -> bool {
    tools.len() <= TOOLS_MAX && tools.iter().all(|tool| tool.name.len() <= FACT_BYTES_MAX)
}

/// A key of `when` and `unless`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Condition {
    /// The route's name.
    Route,
    /// The operation.
    Operation,
    /// The dialect.
    Dialect,
    /// The HTTP method.
    Method,
    /// The proven subject.
    Identity,
    /// Its tenant.
    Tenant,
    /// The model: asked for, and served.
    Model,
    /// A tool: offered or named by the request, called by the response.
    Tool,
    /// Values in the arguments of a call.
    Arguments,
    /// Values in the request's body.
    Body,
    /// A class of data in the arguments of a call, or in the body.
    Data,
    /// A host that the arguments of a call, or the body, lead to.
    Destination,
    /// One that is none of these.
    DestinationNot,
    /// A text of the arguments of a call that a tool gave earlier.
    Provenance,
    /// A tool that gave something earlier.
    After,
}

impl Condition {
    /// Every condition, in the order in which they are tried.
    pub const ALL: [Self; 15] = [
        Self::Route,
        Self::Operation,
        Self::Dialect,
        Self::Method,
        Self::Identity,
        Self::Tenant,
        Self::Model,
        Self::Tool,
        Self::Arguments,
        Self::Body,
        Self::Data,
        Self::Destination,
        Self::DestinationNot,
        Self::Provenance,
        Self::After,
    ];

    /// The key in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Operation => "operation",
            Self::Dialect => "dialect",
            Self::Method => "method",
            Self::Identity => "identity",
            Self::Tenant => "tenant",
            Self::Model => "model",
            Self::Tool => "tool",
            Self::Arguments => "arguments",
            Self::Body => "body",
            Self::Data => "data",
            Self::Destination => "destination",
            Self::DestinationNot => "destination_not",
            Self::Provenance => "provenance",
            Self::After => "after",
        }
    }

    /// Names that people and providers write in either case are compared without it, so that `Bash` does not
    /// pass where `bash` is blocked. Routes, subjects, tenants and classes are exact.
    pub(crate) fn case(self) -> Case {
        match self {
            Self::Operation | Self::Dialect | Self::Method | Self::Model | Self::Tool | Self::After => {
                Case::Ignore
            }
            Self::Route
            | Self::Identity
            | Self::Tenant
            | Self::Arguments
            | Self::Body
            | Self::Data
            | Self::Destination
            | Self::DestinationNot
            | Self::Provenance => Case::Exact,
        }
    }

    /// Whether it is about what is in a call or a body, and not about a name of it.
    pub(crate) fn is_of_content(self) -> bool {
        matches!(
            self,
            Self::Arguments
                | Self::Body
                | Self::Data
                | Self::Destination
                | Self::DestinationNot
                | Self::Provenance
                | Self::After
        )
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
