//! JSON-RPC messages, with the values in them that are held against contracts.
//!
//! A body or the data of an event is read whole. What two readers could take for two things (a member that comes twice or in
//! other letter case, a name that is cut) makes all of it unread.

use super::super::{
    names::{Clip, ELLIPSIS, LIST_MAX},
    request::Span,
    shape::{Readings, Shape},
};
use crate::{
    Defect,
    json::{Capture, Container, Limits, Literal, Tokenizer, Visitor},
};

/// What a text says: one message, or an array of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// At most [`LIST_MAX`].
    pub list: Vec<Message>,
    /// It is an array.
    pub batch: bool,
}

/// One request, notification or answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// None for a notification, and for `null`.
    pub id: Option<Id>,
    pub method: Option<String>,
    /// `params.name`: of `tools/call` the tool's.
    pub name: Option<String>,
    pub name_at: Option<Span>,
    /// `params.arguments`.
    pub arguments: Option<Span>,
    /// `params.uri`: of `resources/read` the resource's.
    pub uri: Option<Span>,
    /// `params.taskId`.
    pub task: Option<Span>,
    /// The protocol version that `params._meta` states.
    pub version: Option<String>,
    pub result: Option<ToolResult>,
    /// It says `error`.
    pub is_error: bool,
}

/// The id of a request, which its answer repeats.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    Text(String),
    /// As a whole number where it is one, so that `1.0` is `1`.
    Number(String),
}

/// What an answer says, read as the result of `tools/call` and of `tools/list`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolResult {
    /// `isError`.
    pub failed: bool,
    /// `resultType` says that more is asked for before there is a result.
    pub is_partial: bool,
    /// `cacheScope`.
    pub cache_scope: Option<Span>,
    /// `structuredContent`.
    pub value: Option<Span>,
    /// At most [`LIST_MAX`] in one text.
    pub tools: Vec<Tool>,
}

/// The definition of a tool. `null` counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tool {
    pub name: String,
    pub name_at: Option<Span>,
    pub definition: Span,
    /// `inputSchema`.
    pub input: Option<Span>,
    /// `outputSchema`.
    pub output: Option<Span>,
    /// It is no definition, or could be read in two ways.
    pub doubt: Option<Defect>,
}

impl Messages {
    /// Reads a text.
    ///
    /// # Errors
    /// It is not JSON, or could be read in two ways.
    pub fn read(text: &[u8]) -> Result<Self, Defect> {
        let messages = Self::read_lists(text)?;
        let results = messages.list.iter().filter_map(|message| message.result.as_ref());
        match results.flat_map(|result| &result.tools).find_map(|tool| tool.doubt) {
            None => Ok(messages),
            Some(defect) => Err(defect),
        }
    }

    /// Reads a text in which single tools of a list may be in doubt.
    ///
    /// # Errors
    /// It is not JSON, or something else in it could be read in two ways.
    pub fn read_lists(text: &[u8]) -> Result<Self, Defect> {
        let mut reader = Reader::default();
        let mut tokenizer = Tokenizer::new(Limits::default(), Some(Place::Top));
        tokenizer.feed(text, &mut reader).and_then(|()| tokenizer.finish(&mut reader))?;
        match reader.readings.take_doubt() {
            None => Ok(reader.messages),
            Some(defect) => Err(defect),
        }
    }
}

impl Id {
    fn number(text: &str) -> Self {
        let whole = text.parse::<i128>().map(|number| number.to_string());
        Self::Number(
            whole.unwrap_or_else(|_| text.parse::<f64>().map_or_else(|_| text.into(), |n| n.to_string())),
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The text: a message, or an array of them.
    Top,
    Message,
    Params,
    Meta,
    Result,
    Tools,
    Tool,
    Leaf(Leaf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    Id,
    Method,
    Error,
    CalledName,
    Arguments,
    Uri,
    Task,
    Version,
    CacheScope,
    IsError,
    ResultType,
    Value,
    ToolName,
    Input,
    Output,
}

/// The `resultType` of a result that is one; others ask for something first.
const COMPLETE: &str = "complete";

/// The member of `_meta` with the protocol version, from 2026-07-28 on.
const VERSION: &[u8] = b"io.modelcontextprotocol/protocolVersion";

impl Place {
    fn of(self, key: &[u8]) -> Option<Self> {
        Some(match (self, key) {
            (Self::Top | Self::Message, b"id") => Self::Leaf(Leaf::Id),
            (Self::Top | Self::Message, b"method") => Self::Leaf(Leaf::Method),
            (Self::Top | Self::Message, b"error") => Self::Leaf(Leaf::Error),
            (Self::Top | Self::Message, b"params") => Self::Params,
            (Self::Top | Self::Message, b"result") => Self::Result,
            (Self::Params, b"name") => Self::Leaf(Leaf::CalledName),
            (Self::Params, b"arguments") => Self::Leaf(Leaf::Arguments),
            (Self::Params, b"uri") => Self::Leaf(Leaf::Uri),
            (Self::Params, b"taskId") => Self::Leaf(Leaf::Task),
            (Self::Params, b"_meta") => Self::Meta,
            (Self::Meta, VERSION) => Self::Leaf(Leaf::Version),
            (Self::Result, b"cacheScope") => Self::Leaf(Leaf::CacheScope),
            (Self::Result, b"isError") => Self::Leaf(Leaf::IsError),
            (Self::Result, b"resultType") => Self::Leaf(Leaf::ResultType),
            (Self::Result, b"structuredContent") => Self::Leaf(Leaf::Value),
            (Self::Result, b"tools") => Self::Tools,
            (Self::Tool, b"name") => Self::Leaf(Leaf::ToolName),
            (Self::Tool, b"inputSchema") => Self::Leaf(Leaf::Input),
            (Self::Tool, b"outputSchema") => Self::Leaf(Leaf::Output),
            _ => return None,
        })
    }

    fn shape(self) -> Shape {
        match self {
            Self::Top => Shape::Container,
            Self::Message | Self::Params | Self::Meta | Self::Result | Self::Tool => Shape::Object,
            Self::Tools => Shape::Array,
            Self::Leaf(
                Leaf::Method | Leaf::CalledName | Leaf::Version | Leaf::ResultType | Leaf::ToolName,
            ) => Shape::Text,
            Self::Leaf(Leaf::IsError) => Shape::Flag,
            Self::Leaf(_) => Shape::Any,
        }
    }

    fn is_name(self) -> bool {
        matches!(self, Self::Leaf(Leaf::Id)) || self.shape() == Shape::Text
    }
}

#[derive(Debug, Default)]
struct Reader {
    messages: Messages,
    message: Message,
    /// It says `error`.
    error: bool,
    tool: Tool,
    tools: usize,
    readings: Readings,
    /// What was in doubt outside of the list of tools that is open.
    around: Option<Defect>,
    text: Clip,
    /// The value whose span comes next is `null`.
    null: bool,
}

impl Reader {
    fn end_message(&mut self) {
        let mut message = std::mem::take(&mut self.message);
        message.is_error = std::mem::take(&mut self.error);
        let says = [message.method.is_some(), message.result.is_some(), message.is_error];
        let full = self.messages.list.len() == LIST_MAX;
        if full || says.iter().filter(|says| **says).count() > 1 {
            self.readings.doubt(Defect::NotEvaluated);
            return;
        }
        self.messages.list.push(message);
    }

    fn result(&mut self) -> &mut ToolResult {
        self.message.result.get_or_insert_default()
    }
}

impl Visitor for Reader {
    type Place = Place;

    fn member(&mut self, of: Place, key: &[u8]) -> Option<Place> {
        let place = of.of(key);
        match place {
            Some(_) => self.readings.member(key),
            None => self.readings.other_member(key, |name| of.of(name).is_some()),
        }
        place
    }

    fn element(&mut self, of: Place) -> Option<Place> {
        match of {
            Place::Top => Some(Place::Message),
            Place::Tools => Some(Place::Tool),
            _ => None,
        }
    }

    fn begin(&mut self, at: Place, container: Container) {
        self.readings.begin(at.shape(), container);
        match at {
            Place::Top => self.messages.batch = container == Container::Array,
            Place::Result => drop(self.result()),
            Place::Tools => self.around = self.readings.take_doubt(),
            Place::Leaf(Leaf::Error) => self.error = true,
            Place::Leaf(Leaf::Id) => self.readings.doubt(Defect::NotEvaluated),
            _ => {}
        }
    }

    fn end(&mut self, at: Place, container: Container) {
        self.readings.end();
        match at {
            Place::Message => self.end_message(),
            Place::Tools => {
                if let Some(defect) = self.around.take() {
                    self.readings.doubt(defect);
                }
            }
            Place::Top if container == Container::Object => self.end_message(),
            _ => {}
        }
    }

    fn string(&mut self, at: Place) -> Capture {
        self.readings.string(at.shape());
        self.text.clear();
        self.error |= at == Place::Leaf(Leaf::Error);
        if at.is_name() { Capture::Take } else { Capture::Pass }
    }

    fn text(&mut self, _: Place, piece: &[u8]) {
        self.text.push(piece);
    }

    fn string_end(&mut self, at: Place) {
        let Place::Leaf(leaf) = at else { return };
        if !at.is_name() {
            return;
        }
        let name = self.text.to_name();
        if leaf != Leaf::Id {
            self.readings.name(&self.text);
        }
        if name.ends_with(ELLIPSIS) {
            self.readings.doubt(Defect::NotEvaluated); // what was cut could be any
        }
        match leaf {
            Leaf::Id => self.message.id = Some(Id::Text(name)),
            Leaf::Method => self.message.method = Some(name),
            Leaf::CalledName => self.message.name = Some(name),
            Leaf::ResultType => self.result().is_partial = name != COMPLETE,
            Leaf::ToolName => self.tool.name = name,
            Leaf::Version => self.message.version = Some(name),
            Leaf::Uri | Leaf::Task | Leaf::CacheScope => {}
            Leaf::Error | Leaf::Arguments | Leaf::IsError | Leaf::Value | Leaf::Input | Leaf::Output => {}
        }
    }

    fn number(&mut self, at: Place, text: &[u8]) {
        self.readings.number(at.shape());
        self.error |= at == Place::Leaf(Leaf::Error);
        if at == Place::Leaf(Leaf::Id) {
            self.message.id = std::str::from_utf8(text).ok().map(Id::number);
        }
    }

    fn literal(&mut self, at: Place, literal: Literal) {
        self.readings.literal(at.shape(), literal);
        self.null = literal == Literal::Null;
        match at {
            Place::Leaf(Leaf::IsError) => self.result().failed = literal == Literal::True,
            Place::Leaf(Leaf::Error) => self.error |= !self.null,
            Place::Leaf(Leaf::Id) if !self.null => self.readings.doubt(Defect::NotEvaluated),
            _ => {}
        }
    }

    fn span(&mut self, at: Place, from: u64, to: u64) {
        let span = Some(from..to);
        let is_null = std::mem::take(&mut self.null);
        match at {
            Place::Leaf(Leaf::CalledName) => self.message.name_at = span,
            Place::Leaf(Leaf::ToolName) => self.tool.name_at = span,
            Place::Leaf(Leaf::Arguments) => self.message.arguments = span,
            Place::Leaf(Leaf::Uri) => self.message.uri = span,
            Place::Leaf(Leaf::Task) => self.message.task = span,
            Place::Leaf(Leaf::CacheScope) => self.result().cache_scope = span,
            Place::Leaf(Leaf::Value) => self.result().value = span,
            Place::Leaf(Leaf::Input) if !is_null => self.tool.input = span,
            Place::Leaf(Leaf::Output) if !is_null => self.tool.output = span,
            Place::Tool if self.tools == LIST_MAX => {
                self.around.get_or_insert(Defect::NotEvaluated);
            }
            Place::Tool => {
                self.tools += 1;
                let doubt = self.readings.take_doubt().or(is_null.then_some(Defect::NotEvaluated));
                let tool = Tool { definition: from..to, doubt, ..std::mem::take(&mut self.tool) };
                self.result().tools.push(tool);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
