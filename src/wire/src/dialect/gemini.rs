//! Google Gemini: `POST …/models/{model}:generateContent` and `:streamGenerateContent`.
//!
//! The model and whether it streams stand in the path. A stream is a series of whole responses: as events with
//! `alt=sse`, else as one JSON array that grows. Arguments are objects, and calls are never repeated. Every
//! response may carry usage; the last counts. There is no terminator.
//!
//! Members have two names, since it is the JSON of protocol buffers: lowerCamelCase, and the field's own in snake_case.

use super::{
    names::Clip,
    request,
    response::{self, Field},
    shape::Shape,
};
use crate::schema::Language;

pub(super) const GENERATE: &str = ":generateContent";
pub(super) const STREAM_GENERATE: &str = ":streamGenerateContent";

/// What a path says.
#[derive(Debug, Default)]
pub(super) struct FromPath {
    /// The model and whether it streams, if the path ends in a verb known here.
    pub model: Option<(String, bool)>,
    /// Whether another reader may take another model from it.
    pub is_in_doubt: bool,
}

impl FromPath {
    /// Of a path without its query. The model is told as an upstream sees it: without percent encoding, once.
    pub(super) fn new(path: &str) -> Self {
        let segment = path.rsplit('/').next().unwrap_or(path);
        let decoded = decode(segment);
        let is_broken = decoded.is_none();
        let segment = decoded.unwrap_or_else(|| segment.to_owned());
        let (model, stream) = match segment.strip_suffix(STREAM_GENERATE) {
            Some(model) => (Some(model), true),
            None => (segment.strip_suffix(GENERATE), false),
        };
        let mut name = Clip::default();
        name.push(model.unwrap_or_default().as_bytes());
        Self {
            model: model.map(|_| (name.to_name(), stream)),
            is_in_doubt: is_broken
                || !name.is_plain()
                || name.as_bytes().iter().any(|byte| b"%/".contains(byte)),
        }
    }
}

/// `segment` with its percent encoding undone (RFC 3986 section 2.1), if that is text.
fn decode(segment: &str) -> Option<String> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

/// What [`Request::Generation`] asks the answer's text to be: JSON, or one of the texts that a schema lists.
pub(super) const JSON: &[u8] = b"application/json";
pub(super) const ENUM: &[u8] = b"text/x.enum";

/// The tool that [`Response::Part`] calls with code, by both names that requests offer it by.
pub(super) const CODE_EXECUTION: [&str; 2] = ["code_execution", "codeExecution"];

/// The other of a name's spellings, lowerCamelCase and snake_case; empty if there is only one.
pub(super) fn other_spelling(name: &str) -> String {
    let mut other = String::new();
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '_' => other.extend(letters.next().map(|next| next.to_ascii_uppercase())),
            'A'..='Z' => other.extend(['_', letter.to_ascii_lowercase()]),
            _ => other.push(letter),
        }
    }
    if other == name { String::new() } else { other }
}

/// Whether this kind of tool is whatever a server has: no names stand in the request.
pub(super) fn is_server(kind: &[u8]) -> bool {
    kind.eq_ignore_ascii_case(b"mcpServers") || kind.eq_ignore_ascii_case(b"mcp_servers")
}

/// Places in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Root,
    Tools,
    /// One entry of `tools`: a member for each kind of tool.
    Kinds,
    Functions,
    Function,
    /// `generationConfig`
    Generation,
}

impl Request {
    pub(super) fn member(self, key: &[u8]) -> Option<request::Place> {
        use request::{Leaf, Place};
        Some(match (self, key) {
            (Self::Root, b"tools") => Place::Gemini(Self::Tools),
            (Self::Kinds, b"functionDeclarations" | b"function_declarations") => {
                Place::Gemini(Self::Functions)
            }
            (Self::Function, b"name") => Place::Leaf(Leaf::ToolName),
            (Self::Function, b"parameters") => Place::Leaf(Leaf::Contract(Language::Gemini)),
            (Self::Function, b"parametersJsonSchema" | b"parameters_json_schema") => {
                Place::Leaf(Leaf::Contract(Language::JsonSchema))
            }
            (Self::Root, b"generationConfig" | b"generation_config") => Place::Gemini(Self::Generation),
            (Self::Generation, b"responseMimeType" | b"response_mime_type") => Place::Leaf(Leaf::FormatKind),
            (Self::Generation, b"maxOutputTokens" | b"max_output_tokens") => Place::Leaf(Leaf::OutputMax),
            (Self::Generation, b"responseSchema" | b"response_schema") => {
                Place::Leaf(Leaf::TextContract(Language::Gemini))
            }
            // Two fields, each with two names: `_responseJsonSchema` is the field `response_json_schema`.
            (
                Self::Generation,
                b"_responseJsonSchema"
                | b"response_json_schema"
                | b"responseJsonSchema"
                | b"response_json_schema_ordered",
            ) => Place::Leaf(Leaf::TextContract(Language::JsonSchema)),
            _ => return None,
        })
    }

    pub(super) fn element(self) -> Option<request::Place> {
        match self {
            Self::Tools => Some(request::Place::Gemini(Self::Kinds)),
            Self::Functions => Some(request::Place::Gemini(Self::Function)),
            _ => None,
        }
    }
}

/// Whether a part of a candidate may have a member of this name: what is read, and what calls nothing.
pub(super) fn is_part_member(key: &[u8]) -> bool {
    const KNOWN: [&[u8]; 18] = [
        b"thoughtSignature",
        b"thought_signature",
        b"inlineData",
        b"inline_data",
        b"fileData",
        b"file_data",
        b"functionResponse",
        b"function_response",
        b"codeExecutionResult",
        b"code_execution_result",
        b"toolResponse",
        b"tool_response",
        b"videoMetadata",
        b"video_metadata",
        b"mediaResolution",
        b"media_resolution",
        b"partMetadata",
        b"part_metadata",
    ];
    Response::Part.member(key).is_some() || KNOWN.contains(&key)
}

/// Places in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// A response, or the array of them.
    Root,
    Candidates,
    Candidate,
    Content,
    Parts,
    Part,
    Call,
    Usage,
    Feedback,
    Error,
}

impl Response {
    pub(super) fn member(self, key: &[u8]) -> Option<response::Place> {
        use response::{Leaf, Place};
        Some(match (self, key) {
            (Self::Root, b"candidates") => Place::Gemini(Self::Candidates),
            (Self::Root, b"usageMetadata" | b"usage_metadata") => Place::Gemini(Self::Usage),
            (Self::Root, b"modelVersion" | b"model_version") => Place::Leaf(Leaf::Model),
            (Self::Root, b"promptFeedback" | b"prompt_feedback") => Place::Gemini(Self::Feedback),
            (Self::Root, b"error") => Place::Gemini(Self::Error),
            (Self::Candidate, b"index") => Place::Leaf(Leaf::CandidateIndex),
            (Self::Candidate, b"content") => Place::Gemini(Self::Content),
            (Self::Candidate, b"finishReason" | b"finish_reason") => Place::Leaf(Leaf::Finish),
            (Self::Content, b"parts") => Place::Gemini(Self::Parts),
            (Self::Part, b"functionCall" | b"function_call") => Place::Gemini(Self::Call),
            (Self::Part, b"executableCode" | b"executable_code") => Place::Leaf(Leaf::ExecutableCode),
            (Self::Part, b"text") => Place::Leaf(Leaf::Text),
            (Self::Part, b"thought") => Place::Leaf(Leaf::Thought),
            (Self::Call, b"args") => Place::Leaf(Leaf::Value),
            // Pieces by path, which are not put together here: no text, so no judge takes them for a call's arguments.
            (Self::Call, b"partialArgs" | b"partial_args") => Place::Leaf(Leaf::Arguments),
            (Self::Call, b"name") => Place::Leaf(Leaf::CallName),
            (Self::Usage, b"promptTokenCount" | b"prompt_token_count") => {
                Place::Leaf(Leaf::Usage(Field::Input))
            }
            (Self::Usage, b"candidatesTokenCount" | b"candidates_token_count") => {
                Place::Leaf(Leaf::Usage(Field::Output))
            }
            (Self::Usage, b"totalTokenCount" | b"total_token_count") => {
                Place::Leaf(Leaf::Usage(Field::Total))
            }
            (Self::Usage, b"cachedContentTokenCount" | b"cached_content_token_count") => {
                Place::Leaf(Leaf::Usage(Field::CachedInput))
            }
            (Self::Usage, b"thoughtsTokenCount" | b"thoughts_token_count") => {
                Place::Leaf(Leaf::Usage(Field::Reasoning))
            }
            (Self::Feedback, b"blockReason" | b"block_reason") => Place::Leaf(Leaf::Finish),
            (Self::Error, b"status") => Place::Leaf(Leaf::ErrorCode),
            (Self::Error, b"code") => Place::Leaf(Leaf::ErrorKind),
            _ => return None,
        })
    }

    pub(super) fn element(self) -> Option<response::Place> {
        let place = match self {
            Self::Root => Self::Root,
            Self::Candidates => Self::Candidate,
            Self::Parts => Self::Part,
            _ => return None,
        };
        Some(response::Place::Gemini(place))
    }

    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Candidates | Self::Parts => Shape::Array,
            Self::Candidate | Self::Content | Self::Part | Self::Call => Shape::Object,
            Self::Root | Self::Usage | Self::Feedback | Self::Error => Shape::Free,
        }
    }
}
