//! Anthropic Messages: `POST /v1/messages`.
//!
//! Streams are named events whose data repeats the name as `type`. Usage comes twice: input with
//! `message_start`, output, cumulative, with `message_delta`; the last value of each field counts.

use super::{
    request,
    response::{
        self, Field,
        parts::{CallForm, PartKind, Parts},
    },
    shape::Shape,
};
use crate::schema::Language;

/// The type of the event that ends a stream.
pub(super) fn ends_stream(kind: &[u8]) -> bool {
    kind == b"message_stop"
}

/// Whether a content block of this type calls a tool: `tool_use`, `server_tool_use`, `mcp_tool_use`.
pub(super) fn is_call(kind: &[u8]) -> bool {
    kind.ends_with(b"tool_use")
}

/// What a content block of this type calls; none if it calls nothing.
pub(super) fn form(kind: &[u8]) -> Option<CallForm> {
    match kind {
        b"tool_use" => Some(CallForm::Function),
        _ => is_call(kind).then_some(CallForm::Hosted),
    }
}

/// The type of the event after which nothing more comes of a block.
pub(super) const BLOCK_STOP: &[u8] = b"content_block_stop";

/// Whether clients take a delta of this type for pieces of this kind.
pub(super) fn is_delta_of(kind: &[u8], part: PartKind) -> bool {
    match part {
        PartKind::Arguments => kind == b"input_json_delta",
        PartKind::Text => kind == b"text_delta",
        _ => true,
    }
}

/// What the parts of an event are, by its type.
pub(super) fn settle(kind: &[u8], parts: &mut Parts) {
    if kind == b"content_block_start" {
        for part in parts.unplaced().iter_mut().filter(|part| part.kind == PartKind::Value && part.len() == 2)
        {
            (part.kind, part.from, part.to) = (PartKind::Call, 0, 0); // `{}`: the input comes in pieces
        }
    }
}

/// Places in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Root,
    Tools,
    Tool,
    /// `mcp_servers`
    Servers,
    Server,
    /// `tool_configuration` of a server.
    Configuration,
    Allowed,
    /// `default_config` of an `mcp_toolset`.
    DefaultConfig,
    /// `configs` of an `mcp_toolset`: the names of its members are those of tools.
    Configs,
    Config,
    /// `output_config`
    Output,
    /// `output_format`, or `format` of the above.
    Format,
}

impl Request {
    pub(super) fn member(self, key: &[u8]) -> Option<request::Place> {
        use request::{Leaf, Place};
        Some(match (self, key) {
            (Self::Root, b"model") => Place::Leaf(Leaf::Model),
            (Self::Root, b"stream") => Place::Leaf(Leaf::Stream),
            (Self::Root, b"max_tokens") => Place::Leaf(Leaf::OutputMax),
            (Self::Root, b"tools") => Place::Messages(Self::Tools),
            (Self::Tool, b"name") => Place::Leaf(Leaf::ToolName),
            (Self::Tool, b"type") => Place::Leaf(Leaf::ToolKind),
            (Self::Tool, b"function" | b"custom") => Place::Leaf(Leaf::Misplaced),
            (Self::Tool, b"input_schema") => Place::Leaf(Leaf::Contract(Language::JsonSchema)),
            (Self::Root, b"output_config") => Place::Messages(Self::Output),
            (Self::Root, b"output_format") | (Self::Output, b"format") => Place::Messages(Self::Format),
            (Self::Format, b"type") => Place::Leaf(Leaf::FormatKind),
            (Self::Format, b"schema") => Place::Leaf(Leaf::TextContract(Language::JsonSchema)),
            (Self::Tool, b"mcp_server_name") => Place::Leaf(Leaf::ToolsetServer),
            (Self::Tool, b"default_config") => Place::Messages(Self::DefaultConfig),
            (Self::Tool, b"configs") => Place::Messages(Self::Configs),
            (Self::Configs, _) => Place::Messages(Self::Config),
            (Self::DefaultConfig, b"enabled") => Place::Leaf(Leaf::DefaultEnabled),
            (Self::Config, b"enabled") => Place::Leaf(Leaf::ConfigEnabled),
            (Self::Root, b"mcp_servers") => Place::Messages(Self::Servers),
            (Self::Server, b"name") => Place::Leaf(Leaf::ServerName),
            (Self::Configuration, b"enabled") => Place::Leaf(Leaf::ServerEnabled),
            (Self::Server, b"tool_configuration") => Place::Messages(Self::Configuration),
            (Self::Server | Self::Configuration, b"allowed_tools") => Place::Messages(Self::Allowed),
            _ => return None,
        })
    }

    pub(super) fn element(self) -> Option<request::Place> {
        use request::{Leaf, Place};
        Some(match self {
            Self::Tools => Place::Messages(Self::Tool),
            Self::Servers => Place::Messages(Self::Server),
            Self::Allowed => Place::Leaf(Leaf::AllowedTool),
            Self::Root
            | Self::Tool
            | Self::Server
            | Self::Configuration
            | Self::DefaultConfig
            | Self::Configs
            | Self::Config
            | Self::Output
            | Self::Format => return None,
        })
    }
}

/// Places in a response, whole or in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// An event, or the message itself when it is no stream.
    Root,
    /// `message` of `message_start`.
    Message,
    /// `delta` of `message_delta` and of `content_block_delta`.
    Delta,
    Content,
    Block,
    Usage,
    Error,
}

impl Response {
    pub(super) fn member(self, key: &[u8]) -> Option<response::Place> {
        use response::{Leaf, Place};
        Some(match (self, key) {
            (Self::Root, b"type") => Place::Leaf(Leaf::Kind),
            (Self::Root, b"message") => Place::Messages(Self::Message),
            (Self::Root, b"content_block") => Place::Messages(Self::Block),
            (Self::Root, b"delta") => Place::Messages(Self::Delta),
            (Self::Root, b"index") => Place::Leaf(Leaf::OuterIndex),
            (Self::Delta, b"type") => Place::Leaf(Leaf::DeltaKind),
            (Self::Delta, b"partial_json") => Place::Leaf(Leaf::Arguments),
            (Self::Delta | Self::Block, b"text") => Place::Leaf(Leaf::Text),
            (Self::Block, b"input") => Place::Leaf(Leaf::Value),
            (Self::Root, b"error") => Place::Messages(Self::Error),
            (Self::Root | Self::Message, b"model") => Place::Leaf(Leaf::Model),
            (Self::Root | Self::Message, b"content") => Place::Messages(Self::Content),
            (Self::Root | Self::Message, b"usage") => Place::Messages(Self::Usage),
            (Self::Root | Self::Message | Self::Delta, b"stop_reason") => Place::Leaf(Leaf::Finish),
            (Self::Block, b"type") => Place::Leaf(Leaf::CallKind),
            (Self::Block, b"name") => Place::Leaf(Leaf::CallName),
            (Self::Usage, b"input_tokens") => Place::Leaf(Leaf::Usage(Field::Input)),
            (Self::Usage, b"output_tokens") => Place::Leaf(Leaf::Usage(Field::Output)),
            (Self::Usage, b"cache_read_input_tokens") => Place::Leaf(Leaf::Usage(Field::CachedInput)),
            (Self::Error, b"type") => Place::Leaf(Leaf::ErrorCode),
            _ => return None,
        })
    }

    pub(super) fn element(self) -> Option<response::Place> {
        matches!(self, Self::Content).then_some(response::Place::Messages(Self::Block))
    }

    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Root | Self::Message => Shape::NotArray, // `"message":"text"` is an error of some proxies
            Self::Content => Shape::Array,
            Self::Block | Self::Delta => Shape::Object,
            Self::Usage | Self::Error => Shape::Free,
        }
    }
}
