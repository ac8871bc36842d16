//! OpenAI Responses: `POST /v1/responses`.
//!
//! Streams are named events whose data repeats the name as `type`; the last one carries the whole response,
//! so a call is seen up to three times (`output_item.added`, `output_item.done`, `response.completed`) and is
//! told apart by its place in the output.

mod events;

use super::{
    request,
    response::{
        self, Field,
        parts::{CallForm, PartKind, Parts},
    },
    shape::Shape,
};
use crate::schema::Language;

/// The types of the events that end a stream.
pub(super) fn ends_stream(kind: &[u8]) -> bool {
    matches!(kind, b"response.completed" | b"response.failed" | b"response.incomplete")
}

/// Whether an output item of this type calls something: `function_call`, `custom_tool_call`, `mcp_call` and
/// their kind, but not the requests for approval and the results.
pub(super) fn is_call(kind: &[u8]) -> bool {
    kind.ends_with(b"_call")
}

/// What an output item of this type calls, or asks leave to call; none if it does neither.
pub(super) fn form(kind: &[u8]) -> Option<CallForm> {
    Some(match kind {
        b"function_call" => CallForm::Function,
        b"custom_tool_call" => CallForm::Custom,
        b"mcp_call" | b"mcp_approval_request" => CallForm::Hosted,
        b"code_interpreter_call" => CallForm::Code,
        _ if is_call(kind) => CallForm::BuiltIn,
        _ => return None,
    })
}

/// Of the item that is being read, only what says with what this form calls counts; each member has the form that it is for,
/// `arguments` none.
pub(super) fn fit(form: Option<CallForm>, parts: &mut Parts) {
    parts.keep_of_call(|part| match form {
        None | Some(CallForm::Function | CallForm::Hosted) => part.form.is_none(),
        Some(CallForm::BuiltIn) => matches!(part.form, None | Some(CallForm::BuiltIn)),
        Some(CallForm::Custom | CallForm::Code) => part.form == form,
    });
    if form == Some(CallForm::BuiltIn) {
        for part in parts.of_call().filter(|part| !part.kind.is_text()) {
            part.kind = PartKind::ValueAgain;
        }
    }
}

/// What a call of this type calls, when the type says so and not a name: `local_shell` of `local_shell_call`.
pub(super) fn built_in(kind: &[u8]) -> Option<&[u8]> {
    let is_named = matches!(kind, b"function_call" | b"custom_tool_call" | b"mcp_call");
    kind.strip_suffix(b"_call").filter(|built_in| !is_named && !built_in.is_empty())
}

/// The type of the event after which nothing more comes of an output item.
pub(super) const ITEM_DONE: &[u8] = b"response.output_item.done";

/// What an event calls by its type, when its type says so: `shell` of `response.shell_call_command.delta`.
pub(super) fn called_by_event(kind: &[u8]) -> Option<&[u8]> {
    events::item_of(kind).filter(|_| !events::flows(kind)).and_then(built_in)
}

/// Whether an event of this type is known, or told to be of a call.
pub(super) fn is_known_event(kind: &[u8]) -> bool {
    let is_text = matches!(
        kind,
        b"response.output_text.delta"
            | b"response.output_text.done"
            | b"response.content_part.added"
            | b"response.content_part.done"
            | b"response.refusal.delta"
            | b"response.output_item.added"
            | ITEM_DONE
    );
    is_text || events::flows(kind) || events::item_of(kind).is_some()
}

/// What the parts of an event are, by its type.
pub(super) fn settle(kind: &[u8], inner: u64, parts: &mut Parts) {
    let (pieces, form) = match kind {
        b"response.function_call_arguments.delta" => (PartKind::Arguments, Some(CallForm::Function)),
        b"response.function_call_arguments.done" => (PartKind::ArgumentsAgain, Some(CallForm::Function)),
        b"response.custom_tool_call_input.delta" => (PartKind::Arguments, Some(CallForm::Custom)),
        b"response.custom_tool_call_input.done" => (PartKind::ArgumentsAgain, Some(CallForm::Custom)),
        b"response.mcp_call_arguments.delta" => (PartKind::Arguments, Some(CallForm::Hosted)),
        b"response.mcp_call_arguments.done" => (PartKind::ArgumentsAgain, Some(CallForm::Hosted)),
        b"response.code_interpreter_call_code.delta" => (PartKind::Arguments, Some(CallForm::Code)),
        b"response.code_interpreter_call_code.done" => (PartKind::ArgumentsAgain, Some(CallForm::Code)),
        b"response.output_text.delta" | b"response.content_part.added" => (PartKind::Text, None),
        b"response.output_text.done" | b"response.content_part.done" => (PartKind::TextAgain, None),
        b"response.refusal.delta" => (PartKind::Refusal, None),
        b"response.output_item.added" => {
            // It comes before the first piece, so what it has is one.
            for part in parts.unplaced() {
                part.kind = match part.kind {
                    PartKind::ArgumentsAgain => PartKind::Arguments,
                    PartKind::TextAgain => PartKind::Text,
                    kind => kind,
                };
                if part.kind == PartKind::ValueAgain {
                    (part.kind, part.from, part.to) = (PartKind::Call, 0, 0); // not yet what it will be
                }
            }
            return;
        }
        ITEM_DONE => return,
        _ => {
            parts.drop_unplaced();
            if !events::flows(kind) && events::item_of(kind).is_some() {
                // Of an action in pieces no value is put together: its item has it whole, and must come.
                parts.add(PartKind::Arguments, Some(CallForm::BuiltIn), 0, 0, 0);
            }
            return;
        }
    };
    for part in parts.unplaced().iter_mut().filter(|part| part.kind != PartKind::Refusal) {
        part.kind = pieces;
        part.form = form;
        part.at.inner = if pieces.is_text() { inner } else { 0 };
    }
}

/// A status that is not an end.
pub(super) fn is_under_way(status: &[u8]) -> bool {
    matches!(status, b"in_progress" | b"queued")
}

/// Places in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Root,
    Tools,
    Tool,
    /// `format` of a custom tool.
    CustomFormat,
    /// `tools` of a namespace.
    Nested,
    NestedTool,
    /// `allowed_tools` of an MCP server: a list of names, or an object that has one.
    Allowed,
    ToolNames,
    /// `text`
    Text,
    /// `format` of it.
    Format,
}

impl Request {
    pub(super) fn member(self, key: &[u8]) -> Option<request::Place> {
        use request::{Leaf, Place};
        Some(match (self, key) {
            (Self::Root, b"model") => Place::Leaf(Leaf::Model),
            (Self::Root, b"stream") => Place::Leaf(Leaf::Stream),
            (Self::Root, b"max_output_tokens") => Place::Leaf(Leaf::OutputMax),
            (Self::Root, b"tools") => Place::Responses(Self::Tools),
            (Self::Root, b"prompt") => Place::Leaf(Leaf::Misplaced), // stored elsewhere, with tools and model
            (Self::Tool | Self::NestedTool, b"name") => Place::Leaf(Leaf::ToolName),
            (Self::Tool | Self::NestedTool, b"type") => Place::Leaf(Leaf::ToolKind),
            (Self::Tool | Self::NestedTool, b"allowed_tools") => Place::Responses(Self::Allowed),
            (Self::Tool | Self::NestedTool, b"function" | b"custom") => Place::Leaf(Leaf::Misplaced),
            (Self::Tool, b"tools") => Place::Responses(Self::Nested),
            (Self::NestedTool, b"tools") => Place::Leaf(Leaf::Misplaced),
            (Self::Allowed, b"tool_names") => Place::Responses(Self::ToolNames),
            (Self::Tool | Self::NestedTool, b"parameters") => {
                Place::Leaf(Leaf::Contract(Language::JsonSchema))
            }
            (Self::Tool | Self::NestedTool, b"format") => Place::Responses(Self::CustomFormat),
            (Self::CustomFormat, b"type") => Place::Leaf(Leaf::CustomFormat),
            (Self::Root, b"text") => Place::Responses(Self::Text),
            (Self::Text, b"format") => Place::Responses(Self::Format),
            (Self::Format, b"type") => Place::Leaf(Leaf::FormatKind),
            (Self::Format, b"schema") => Place::Leaf(Leaf::TextContract(Language::JsonSchema)),
            _ => return None,
        })
    }

    pub(super) fn element(self) -> Option<request::Place> {
        use request::{Leaf, Place};
        Some(match self {
            Self::Tools => Place::Responses(Self::Tool),
            Self::Nested => Place::Responses(Self::NestedTool),
            Self::Allowed | Self::ToolNames => Place::Leaf(Leaf::AllowedTool),
            Self::Root | Self::Tool | Self::CustomFormat | Self::NestedTool | Self::Text | Self::Format => {
                return None;
            }
        })
    }
}

/// Places in a response, whole or in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// An event, or the response itself when it is no stream.
    Root,
    /// `response` of an event.
    Inner,
    /// `item` of an event; `output_index` stands beside it.
    Item,
    Output,
    OutputItem,
    /// `content` of an item.
    Contents,
    /// An element of it, or `part` of an event.
    Content,
    Incomplete,
    Usage,
    InputDetails,
    OutputDetails,
    Error,
}

impl Response {
    pub(super) fn member(self, key: &[u8]) -> Option<response::Place> {
        use response::{Leaf, Place};
        Some(match (self, key) {
            (Self::Root, b"type") => Place::Leaf(Leaf::Kind),
            (Self::Root, b"response") => Place::Responses(Self::Inner),
            (Self::Root, b"item") => Place::Responses(Self::Item),
            (Self::Root, b"output_index") => Place::Leaf(Leaf::OuterIndex),
            (Self::Root, b"content_index") => Place::Leaf(Leaf::InnerIndex),
            (Self::Root, b"delta") => Place::Leaf(Leaf::Delta),
            (Self::Root, b"part") => Place::Responses(Self::Content),
            (Self::Root | Self::Item | Self::OutputItem, b"arguments") => Place::Leaf(Leaf::ArgumentsAgain),
            (Self::Root | Self::Item | Self::OutputItem, b"input") => Place::Leaf(Leaf::InputAgain),
            (Self::Item | Self::OutputItem, b"code") => Place::Leaf(Leaf::CodeAgain),
            (Self::Item | Self::OutputItem, b"action" | b"actions" | b"operation" | b"queries") => {
                Place::Leaf(Leaf::Action)
            }
            (Self::Root | Self::Content, b"text") => Place::Leaf(Leaf::TextAgain),
            (Self::Content, b"refusal") => Place::Leaf(Leaf::Refusal),
            (Self::Item | Self::OutputItem, b"content") => Place::Responses(Self::Contents),
            (Self::Root, b"code") => Place::Leaf(Leaf::EventCode), // the `error` event is flat
            (Self::Root | Self::Inner, b"output_text") => Place::Leaf(Leaf::OutputText),
            (Self::Root | Self::Inner, b"model") => Place::Leaf(Leaf::Model),
            (Self::Root | Self::Inner, b"status") => Place::Leaf(Leaf::Status),
            (Self::Root | Self::Inner, b"output") => Place::Responses(Self::Output),
            (Self::Root | Self::Inner, b"incomplete_details") => Place::Responses(Self::Incomplete),
            (Self::Root | Self::Inner, b"usage") => Place::Responses(Self::Usage),
            (Self::Root | Self::Inner, b"error") => Place::Responses(Self::Error),
            (Self::Item | Self::OutputItem, b"type") => Place::Leaf(Leaf::CallKind),
            (Self::Item | Self::OutputItem, b"name") => Place::Leaf(Leaf::CallName),
            (Self::Incomplete, b"reason") => Place::Leaf(Leaf::Reason),
            (Self::Usage, b"input_tokens") => Place::Leaf(Leaf::Usage(Field::Input)),
            (Self::Usage, b"output_tokens") => Place::Leaf(Leaf::Usage(Field::Output)),
            (Self::Usage, b"total_tokens") => Place::Leaf(Leaf::Usage(Field::Total)),
            (Self::Usage, b"input_tokens_details") => Place::Responses(Self::InputDetails),
            (Self::Usage, b"output_tokens_details") => Place::Responses(Self::OutputDetails),
            (Self::InputDetails, b"cached_tokens") => Place::Leaf(Leaf::Usage(Field::CachedInput)),
            (Self::OutputDetails, b"reasoning_tokens") => Place::Leaf(Leaf::Usage(Field::Reasoning)),
            (Self::Error, b"code") => Place::Leaf(Leaf::ErrorCode),
            (Self::Error, b"type") => Place::Leaf(Leaf::ErrorKind),
            _ => return None,
        })
    }

    pub(super) fn element(self) -> Option<response::Place> {
        let place = match self {
            Self::Output => Self::OutputItem,
            Self::Contents => Self::Content,
            _ => return None,
        };
        Some(response::Place::Responses(place))
    }

    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Root => Shape::NotArray,
            Self::Output | Self::Contents => Shape::Array,
            Self::Inner | Self::Item | Self::OutputItem | Self::Content => Shape::Object,
            Self::Incomplete | Self::Usage | Self::InputDetails | Self::OutputDetails | Self::Error => {
                Shape::Free
            }
        }
    }
}
