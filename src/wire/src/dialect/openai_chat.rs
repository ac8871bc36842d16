//! OpenAI Chat Completions: `POST /v1/chat/completions`.
//!
//! Streams are unnamed events of `chat.completion.chunk` objects, ended by `data: [DONE]`. Calls arrive in
//! parts, by choice and index, with the name in the first part only. The chunk with the usage has no choices.

use super::{
    request,
    response::{self, CallForm, Field},
    shape::Shape,
};
use crate::schema::Language;

/// The data of the event that ends a stream. Not JSON.
pub(super) const DONE: &[u8] = b"[DONE]";

/// Places in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Root,
    Tools,
    Tool,
    /// `tools[].function` and `tools[].custom`.
    Detail,
    /// `format` of a custom tool.
    CustomFormat,
    /// The list that `tools` replaced.
    Functions,
    Function,
    /// `response_format`
    Format,
    /// `json_schema` of it.
    JsonSchema,
}

impl Request {
    pub(super) fn member(self, key: &[u8]) -> Option<request::Place> {
        use request::{Leaf, Place};
        Some(match (self, key) {
            (Self::Root, b"model") => Place::Leaf(Leaf::Model),
            (Self::Root, b"stream") => Place::Leaf(Leaf::Stream),
            (Self::Root, b"max_tokens" | b"max_completion_tokens") => Place::Leaf(Leaf::OutputMax),
            (Self::Root, b"tools") => Place::Chat(Self::Tools),
            (Self::Root, b"functions") => Place::Chat(Self::Functions),
            (Self::Tool, b"type") => Place::Leaf(Leaf::ToolKind),
            (Self::Tool, b"name") => Place::Leaf(Leaf::Misplaced),
            (Self::Tool, b"function" | b"custom") => Place::Chat(Self::Detail),
            (Self::Detail | Self::Function, b"name") => Place::Leaf(Leaf::ToolName),
            (Self::Detail | Self::Function, b"parameters") => {
                Place::Leaf(Leaf::Contract(Language::JsonSchema))
            }
            (Self::Detail, b"format") => Place::Chat(Self::CustomFormat),
            (Self::CustomFormat, b"type") => Place::Leaf(Leaf::CustomFormat),
            (Self::Root, b"response_format") => Place::Chat(Self::Format),
            (Self::Format, b"type") => Place::Leaf(Leaf::FormatKind),
            (Self::Format, b"json_schema") => Place::Chat(Self::JsonSchema),
            (Self::JsonSchema, b"schema") => Place::Leaf(Leaf::TextContract(Language::JsonSchema)),
            _ => return None,
        })
    }

    pub(super) fn element(self) -> Option<request::Place> {
        match self {
            Self::Tools => Some(request::Place::Chat(Self::Tool)),
            Self::Functions => Some(request::Place::Chat(Self::Function)),
            _ => None,
        }
    }
}

/// Whether a call of this type, empty where none is said, says what it calls in the way of `form`.
pub(super) fn fits(kind: &[u8], form: Option<CallForm>) -> bool {
    match kind {
        b"" => form.is_some(),
        b"function" => form == Some(CallForm::Function),
        b"custom" => form == Some(CallForm::Custom),
        _ => false,
    }
}

/// What a call of this type calls, when it is neither a function nor a custom tool: `shell` of `shell`.
pub(super) fn built_in(kind: &[u8]) -> Option<&[u8]> {
    Some(kind).filter(|kind| !matches!(*kind, b"" | b"function" | b"custom"))
}

/// Places in a response, whole or in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    Root,
    Choices,
    Choice,
    /// `message`, or `delta` in a chunk.
    Message,
    ToolCalls,
    ToolCall,
    /// `tool_calls[].function`
    Detail,
    /// `tool_calls[].custom`
    Custom,
    /// The single call that `tool_calls` replaced.
    FunctionCall,
    Usage,
    InputDetails,
    OutputDetails,
    Error,
}

impl Response {
    pub(super) fn member(self, key: &[u8]) -> Option<response::Place> {
        use response::{Leaf, Place};
        Some(match (self, key) {
            (Self::Root, b"model") => Place::Leaf(Leaf::Model),
            (Self::Root, b"choices") => Place::Chat(Self::Choices),
            (Self::Root, b"usage") => Place::Chat(Self::Usage),
            (Self::Root, b"error") => Place::Chat(Self::Error),
            (Self::Choice, b"index") => Place::Leaf(Leaf::OuterIndex),
            (Self::Choice, b"message" | b"delta") => Place::Chat(Self::Message),
            (Self::Choice, b"finish_reason") => Place::Leaf(Leaf::Finish),
            (Self::Choice, b"text") => Place::Leaf(Leaf::LegacyText),
            (Self::Message, b"tool_calls") => Place::Chat(Self::ToolCalls),
            (Self::Message, b"content") => Place::Leaf(Leaf::Text),
            (Self::Message, b"refusal") => Place::Leaf(Leaf::Refusal),
            (Self::Message, b"function_call") => Place::Chat(Self::FunctionCall),
            (Self::ToolCall, b"type") => Place::Leaf(Leaf::CallKind),
            (Self::ToolCall, b"name") => Place::Leaf(Leaf::Misplaced),
            (Self::ToolCall, b"index") => Place::Leaf(Leaf::CallIndex),
            (Self::ToolCall, b"function") => Place::Chat(Self::Detail),
            (Self::ToolCall, b"custom") => Place::Chat(Self::Custom),
            (Self::Detail | Self::Custom | Self::FunctionCall, b"name") => Place::Leaf(Leaf::CallName),
            (Self::Detail | Self::FunctionCall, b"arguments") => Place::Leaf(Leaf::Arguments),
            (Self::Custom, b"input") => Place::Leaf(Leaf::Input),
            (Self::Usage, b"prompt_tokens") => Place::Leaf(Leaf::Usage(Field::Input)),
            (Self::Usage, b"completion_tokens") => Place::Leaf(Leaf::Usage(Field::Output)),
            (Self::Usage, b"total_tokens") => Place::Leaf(Leaf::Usage(Field::Total)),
            (Self::Usage, b"prompt_tokens_details") => Place::Chat(Self::InputDetails),
            (Self::Usage, b"completion_tokens_details") => Place::Chat(Self::OutputDetails),
            (Self::InputDetails, b"cached_tokens") => Place::Leaf(Leaf::Usage(Field::CachedInput)),
            (Self::OutputDetails, b"reasoning_tokens") => Place::Leaf(Leaf::Usage(Field::Reasoning)),
            (Self::Error, b"code") => Place::Leaf(Leaf::ErrorCode),
            (Self::Error, b"type") => Place::Leaf(Leaf::ErrorKind),
            _ => return None,
        })
    }

    pub(super) fn element(self) -> Option<response::Place> {
        match self {
            Self::Choices => Some(response::Place::Chat(Self::Choice)),
            Self::ToolCalls => Some(response::Place::Chat(Self::ToolCall)),
            _ => None,
        }
    }

    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Root => Shape::NotArray,
            Self::Choices | Self::ToolCalls => Shape::Array,
            Self::Choice
            | Self::Message
            | Self::ToolCall
            | Self::Detail
            | Self::Custom
            | Self::FunctionCall => Shape::Object,
            Self::Usage | Self::InputDetails | Self::OutputDetails | Self::Error => Shape::Free,
        }
    }
}
