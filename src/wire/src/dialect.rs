//! Dialects: the APIs whose traffic is understood, and what is read from it.
//!
//! A [`RequestScan`] and a [`ResponseScan`] are pushed the two bodies of a call as they pass, and give the facts
//! that a receipt holds: operation, model, tools, token usage, how it ended. This is *recognition*. Nothing is
//! judged, held back or changed here, and a fact that is absent means "not seen", never "not there".
//!
//! Each file below names, for one dialect, the places in its documents that lead to facts, as a table from
//! (place, member name) to place. What is done with a fact is common to all ([`request`], [`response`]).
//!
//! ```
//! use estoppel_wire::dialect::{Dialect, Framing, MarkKind, ResponseScan};
//!
//! let mut scan = ResponseScan::new(Dialect::AnthropicMessages, Framing::Sse);
//! let mut ended = false;
//! for chunk in ["event: message_stop\ndata: {\"type\":\"mess", "age_stop\"}\n\n"] {
//!     scan.push(chunk.as_bytes(), &mut |mark| ended |= mark.kind == MarkKind::Terminator);
//! }
//! assert!(ended);
//! assert_eq!(scan.finish().terminated, Some(true));
//! ```
//!
//! Promises: facts, marks and [`Evaluated`] do not depend on how the bytes were cut. Names and lists are bounded
//! ([`NAME_BYTES_MAX`], [`LIST_MAX`]); what did not fit is counted. All bytes are counted as evaluated or as
//! skipped, and the first defect is kept.
//!
//! Left to others: choosing the [`Framing`] from the content type, undoing content codings, what to do about a
//! defect, and whether an unknown name may become a metric label (it may not).

mod anthropic_messages;
mod body;
mod gemini;
pub mod mcp;
mod names;
mod openai_chat;
mod openai_responses;
pub mod request;
pub mod response;
mod shape;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod hidden;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use thiserror::Error;

pub use body::Evaluated;
pub use names::{LIST_MAX, NAME_BYTES_MAX, Names};
pub use request::{Contracts, RequestFacts, RequestScan, SchemaAt, Span, TextContract, ToolContract};
pub use response::{
    At, CallForm, EventMark, Framing, MarkKind, Part, PartKind, ResponseFacts, ResponseScan, SoFar, Usage,
    is_cut_short,
};

/// The shape of a call's bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI Chat Completions, and the many that speak it.
    OpenAiChat,
    /// OpenAI Responses.
    OpenAiResponses,
    /// Anthropic Messages.
    AnthropicMessages,
    /// Google Gemini `generateContent` and `streamGenerateContent`.
    Gemini,
    /// Model Context Protocol over streamable HTTP: JSON-RPC 2.0.
    Mcp,
    /// JSON of no known meaning: only checked for being JSON.
    Json,
    /// Not looked at.
    Bytes,
}

impl Dialect {
    /// Every dialect, in the order of declaration.
    pub const ALL: [Self; 7] = [
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::AnthropicMessages,
        Self::Gemini,
        Self::Mcp,
        Self::Json,
        Self::Bytes,
    ];

    /// The name in configuration, receipts and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::OpenAiResponses => "openai_responses",
            Self::AnthropicMessages => "anthropic_messages",
            Self::Gemini => "gemini",
            Self::Mcp => "mcp",
            Self::Json => "json",
            Self::Bytes => "bytes",
        }
    }

    /// The dialect that a method and a request path (a query may follow) are known for.
    ///
    /// Only the end of the path counts, so that prefixes of proxies and clouds do not matter. `None` is not
    /// [`Dialect::Bytes`]: nobody knows, and the route must say.
    pub fn detect(method: &str, path: &str) -> Option<Self> {
        let path = without_query(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.ends_with("/mcp") && matches!(method, "POST" | "GET" | "DELETE") {
            return Some(Self::Mcp);
        }
        if method != "POST" {
            return None;
        }
        POST_ENDINGS.iter().find(|(ending, _)| path.ends_with(ending)).map(|(_, dialect)| *dialect)
    }
}

/// How the paths of POST requests end.
const POST_ENDINGS: [(&str, Dialect); 6] = [
    ("/chat/completions", Dialect::OpenAiChat),
    ("/v1/responses", Dialect::OpenAiResponses),
    ("/openai/responses", Dialect::OpenAiResponses), // Azure before its v1 path
    ("/v1/messages", Dialect::AnthropicMessages),
    (gemini::GENERATE, Dialect::Gemini),
    (gemini::STREAM_GENERATE, Dialect::Gemini),
];

fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No dialect has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the name of a dialect")]
pub struct UnknownDialect;

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(name: &str) -> Result<Self, UnknownDialect> {
        Self::ALL.into_iter().find(|dialect| dialect.as_str() == name).ok_or(UnknownDialect)
    }
}
