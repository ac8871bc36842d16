//! Google Gemini: `POST …/models/{model}:generateContent` and `:streamGenerateContent`.
//!
//! The model and whether it streams stand in the path. A stream is a series of whole responses: as events with
//! `alt=sse`, else as one JSON array that grows. Arguments are objects, and calls are never repeated. Every
//! response may carry usage; the last counts. There is no terminator.

use super::{
    request,
    response::{self, Field},
    shape::Shape,
};

pub(super) const GENERATE: &str = ":generateContent";
pub(super) const STREAM_GENERATE: &str = ":streamGenerateContent";

/// What a path without its query says: the model and whether it streams, if it ends in a verb known here.
pub(super) fn model_and_stream(path: &str) -> Option<(&str, bool)> {
    let (resource, stream) = match path.strip_suffix(STREAM_GENERATE) {
        Some(resource) => (resource, true),
        None => (path.strip_suffix(GENERATE)?, false),
    };
    Some((resource.rsplit('/').next().unwrap_or(resource), stream))
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
