//! Model Context Protocol, streamable HTTP transport: JSON-RPC 2.0 messages as bodies and as event data.
//!
//! The operation is the method. A batch (an array of messages, removed from the protocol in 2025-06-18) is
//! recognized as such and its messages are not told apart, which is a defect of a request. An answer may come as JSON or
//! as events, and a stream ends when it ends. A server may put requests of its own before its answer; what they ask for is
//! not read, which is a defect. [`Messages`] is the other reading, of whole messages, for those who judge them.

mod message;

pub use message::{Id, Message, Messages, Tool, ToolResult};

use super::{request, response};

/// The operation of a message with this method: `mcp.` and the method if that is one, else `mcp.unknown`.
pub fn operation(method: &str) -> String {
    let known = method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-$".contains(&byte));
    if known && !method.is_empty() && method.len() <= METHOD_BYTES_MAX {
        format!("mcp.{method}")
    } else {
        "mcp.unknown".to_owned()
    }
}

/// Longest method that becomes an operation. The protocol's own are at most 40 bytes.
const METHOD_BYTES_MAX: usize = 96;

/// The method whose `params.name` is a tool.
pub const TOOLS_CALL: &str = "tools/call";

/// The method whose result lists tools.
pub const TOOLS_LIST: &str = "tools/list";

/// Places in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Root,
    Params,
}

impl Request {
    pub(super) fn member(self, key: &[u8]) -> Option<request::Place> {
        use request::{Leaf, Place};
        Some(match (self, key) {
            (Self::Root, b"method") => Place::Leaf(Leaf::RpcMethod),
            (Self::Root, b"id") => Place::Leaf(Leaf::RpcId),
            (Self::Root, b"params") => Place::Mcp(Self::Params),
            (Self::Root, b"result" | b"error") => Place::Leaf(Leaf::RpcOutcome),
            (Self::Params, b"name") => Place::Leaf(Leaf::CalledName),
            _ => return None,
        })
    }
}

/// Whether a message of the server with this method asks the client for something: to run a model with tools, to ask its
/// user, to list its folders. `ping` asks for nothing.
pub(super) fn asks_client(method: &[u8]) -> bool {
    !method.starts_with(b"notifications/") && method != b"ping"
}

/// Places in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// A message, or the array of them.
    Root,
    Result,
    Error,
}

impl Response {
    pub(super) fn member(self, key: &[u8]) -> Option<response::Place> {
        use response::{Leaf, Place};
        Some(match (self, key) {
            (Self::Root, b"method") => Place::Leaf(Leaf::RpcMethod),
            (Self::Root, b"result") => Place::Mcp(Self::Result),
            (Self::Root, b"error") => Place::Mcp(Self::Error),
            (Self::Result, b"isError") => Place::Leaf(Leaf::ToolFailed),
            (Self::Result, b"structuredContent") => Place::Leaf(Leaf::Value),
            (Self::Error, b"code") => Place::Leaf(Leaf::ErrorCode),
            _ => return None,
        })
    }

    pub(super) fn element(self) -> Option<response::Place> {
        matches!(self, Self::Root).then_some(response::Place::Mcp(Self::Root))
    }
}
