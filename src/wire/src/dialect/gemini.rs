//! Google Gemini: `POST …/models/{model}:generateContent` and `:streamGenerateContent`.
//!
//! The model and whether it streams stand in the path. A stream is a series of whole responses: as events with
//! `alt=sse`, else as one JSON array that grows. Arguments are objects, and calls are never repeated. Every
//! response may carry usage; the last counts. There is no terminator.

use super::{
    names::Clip,
    request,
    response::{self, Field},
    shape::Shape,
};

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

/// Whether this kind of tool is whatever a server has: no names stand in the request.
pub(super) fn is_server(kind: &[u8]) -> bool {
    kind.eq_ignore_ascii_case(b"mcpServers") || kind.eq_ignore_ascii_case(b"mcp_servers")
}

/// Places in a request. Protocol buffers accept names in both spellings.
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
            // `parameters` and `responseSchema` are in a language of their own, which is not read.
            (Self::Function, b"parametersJsonSchema") => Place::Leaf(Leaf::Contract),
            (Self::Root, b"generationConfig") => Place::Gemini(Self::Generation),
            (Self::Generation, b"responseMimeType") => Place::Leaf(Leaf::FormatKind),
            (Self::Generation, b"responseJsonSchema") => Place::Leaf(Leaf::TextContract),
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
            (Self::Root, b"usageMetadata") => Place::Gemini(Self::Usage),
            (Self::Root, b"modelVersion" | b"model_version") => Place::Leaf(Leaf::Model),
            (Self::Root, b"promptFeedback") => Place::Gemini(Self::Feedback),
            (Self::Root, b"error") => Place::Gemini(Self::Error),
            (Self::Candidate, b"content") => Place::Gemini(Self::Content),
            (Self::Candidate, b"finishReason") => Place::Leaf(Leaf::Finish),
            (Self::Content, b"parts") => Place::Gemini(Self::Parts),
            (Self::Part, b"functionCall" | b"function_call") => Place::Gemini(Self::Call),
            (Self::Part, b"text") => Place::Leaf(Leaf::Text),
            (Self::Call, b"args") => Place::Leaf(Leaf::Value),
            (Self::Call, b"name") => Place::Leaf(Leaf::CallName),
            (Self::Usage, b"promptTokenCount") => Place::Leaf(Leaf::Usage(Field::Input)),
            (Self::Usage, b"candidatesTokenCount") => Place::Leaf(Leaf::Usage(Field::Output)),
            (Self::Usage, b"totalTokenCount") => Place::Leaf(Leaf::Usage(Field::Total)),
            (Self::Usage, b"cachedContentTokenCount") => Place::Leaf(Leaf::Usage(Field::CachedInput)),
            (Self::Usage, b"thoughtsTokenCount") => Place::Leaf(Leaf::Usage(Field::Reasoning)),
            (Self::Feedback, b"blockReason") => Place::Leaf(Leaf::Finish),
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
