//! What a response body says, whole or as a stream of events.

mod finder;
pub(super) mod parts;

pub(super) use finder::{Field, Leaf, Place};

use finder::Finder;

pub use parts::{At, CallForm, Part, PartKind};

use super::{
    Dialect,
    body::{Evaluated, JsonBody},
    names::Names,
    openai_chat,
};
use crate::{
    Defect, as_u64,
    json::{self, Tokenizer},
    sse::{Content, Event, Framer, Limits, Step},
};

/// How a response body is cut into documents. The caller knows from its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One JSON text: `application/json` and the types that end in `+json`.
    Json,
    /// Events with JSON as data: `text/event-stream`.
    Sse,
    /// Anything else. Only counted, [`Defect::NotEvaluated`].
    Opaque,
}

/// What was read from one response. Texts are as the upstream wrote them, bounded, and not trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseFacts {
    /// The model that answered, by the first place that names one.
    pub model: Option<String>,
    /// Names of the tools that the model calls, in the order in which the calls appear; one entry for each
    /// call, however often the dialect repeats it. Repetitions beyond the list's end are counted as calls.
    pub tools_called: Names,
    /// Those of them whose arguments no judge sees: the client does not make the call, or they are no JSON text.
    pub foreign_called: Vec<String>,
    /// Token counts, if any were given.
    pub usage: Option<Usage>,
    /// A token count was a number that is none, or more than [`Usage::MAX`], and is left out.
    pub usage_unread: bool,
    /// Why it ended, each reason once, in order: `finish_reason`, `stop_reason`, `finishReason` and
    /// `blockReason`; for Responses `incomplete_details.reason`, else the final status.
    pub finish: Names,
    /// The first error inside the body: its code, or its type, or `error`. For Gemini the status, for MCP the
    /// JSON-RPC code, or `isError` for a tool that reports its own failure.
    pub error: Option<String>,
    /// Whether the dialect's own end of stream was seen. Absent if there is none, or no stream.
    pub terminated: Option<bool>,
    /// Blocks with data; of a model's stream also those with a line that the standard does not know.
    pub events: u64,
    /// Comment lines.
    pub comments: u64,
    /// How much of the body was read.
    pub evaluated: Evaluated,
}

/// Token counts as the upstream states them; the last value of each counts. Nothing is added up: whether
/// `input` includes `cached_input`, or `output` includes `reasoning`, differs from API to API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub total: Option<u64>,
    pub cached_input: Option<u64>,
    pub reasoning: Option<u64>,
}

impl Usage {
    /// The largest count: JSON readers disagree about larger numbers, and receipts hold none.
    pub const MAX: u64 = (1 << 53) - 1;
}

/// What a stream has said so far.
#[derive(Clone, Debug)]
pub struct SoFar<'a, T> {
    pub model: Option<&'a str>,
    /// Each with whether it is one of [`ResponseFacts::foreign_called`].
    pub tools_called: T,
    /// Whether every event so far could be read.
    pub read: bool,
}

/// Whether a reason for the end of an answer says that more would have come, or should not have: a limit, a filter, a refusal.
pub fn is_cut_short(reason: &str) -> bool {
    const REASONS: [&str; 16] = [
        "length",
        "content_filter",
        "refusal",
        "max_tokens",
        "max_output_tokens",
        "model_context_window_exceeded",
        "incomplete",
        "failed",
        "cancelled",
        "MAX_TOKENS",
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MALFORMED_FUNCTION_CALL",
    ];
    REASONS.contains(&reason)
}

/// The end of a block of an event stream: just after the line end of its empty line.
///
/// An LF that follows a CR there is the first byte of the next block (see [`crate::sse`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMark {
    /// Offset in the chunk just after the last byte.
    pub end: usize,
    pub kind: MarkKind,
    /// How many of [`ResponseScan::parts`] belong to this event and those before it in the chunk.
    pub parts: usize,
    /// The stream has said that it was cut short ([`is_cut_short`]).
    pub cut_short: bool,
}

/// What a block of an event stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// An event, also if its data has a defect or a line is none that the standard knows.
    Data,
    /// No event: comments, an empty line, `id` or `retry` alone.
    Comment,
    /// The event that ends the stream, well or not: `[DONE]`, `message_stop`, `response.completed`,
    /// `response.failed`, `response.incomplete`.
    Terminator,
    /// An event that reports an error, other than the terminator.
    Error,
}

/// Reads one response body as it passes.
#[derive(Debug)]
pub struct ResponseScan {
    reader: Reader,
    finder: Finder,
}

#[derive(Debug)]
enum Reader {
    Whole(JsonBody<Place>),
    Stream(Box<Stream>),
}

impl ResponseScan {
    pub fn new(dialect: Dialect, framing: Framing) -> Self {
        let reader = match (framing, dialect) {
            (Framing::Sse, _) => Reader::Stream(Box::new(Stream::new(dialect))),
            (Framing::Opaque, _) | (Framing::Json, Dialect::Bytes) => {
                Reader::Whole(JsonBody::unread(Defect::NotEvaluated))
            }
            (Framing::Json, _) => Reader::Whole(JsonBody::new(finder::root(dialect))),
        };
        let finder = Finder::new(dialect);
        let finder = if framing == Framing::Sse { finder.streamed() } else { finder };
        Self { reader, finder }
    }

    /// Events of a stream that are longer than this are passed over, [`Defect::EventBytesMax`]. Bytes; default 256 KiB.
    pub fn event_bytes_max(mut self, event_bytes_max: usize) -> Self {
        if let Reader::Stream(stream) = &mut self.reader {
            stream.framer = Framer::new(Limits { event_bytes_max, ..Limits::default() });
        }
        self
    }

    /// The first event of a stream may be `endpoint`, whose data is the URL that its client posts to (MCP's HTTP+SSE transport
    /// of 2024-11-05), and not read here.
    pub fn opened_by_endpoint(mut self) -> Self {
        if let Reader::Stream(stream) = &mut self.reader {
            stream.awaits_endpoint = true;
        }
        self
    }

    /// For a body that is only counted, for instance because of its content coding.
    pub fn unread(dialect: Dialect, why: Defect) -> Self {
        Self { reader: Reader::Whole(JsonBody::unread(why)), finder: Finder::new(dialect) }
    }

    /// Takes the next bytes of the body. `on_event` is called for each block that ends in them, in order.
    pub fn push(&mut self, chunk: &[u8], on_event: &mut impl FnMut(EventMark)) {
        match &mut self.reader {
            Reader::Whole(body) => body.push(chunk, &mut self.finder),
            Reader::Stream(stream) => {
                self.finder.parts().clear();
                stream.push(chunk, &mut self.finder, on_event);
            }
        }
    }

    /// Looks for the parts that a judge holds against contracts, too.
    pub fn with_parts(mut self) -> Self {
        self.finder.parts().switch_on();
        self
    }

    /// The parts of the events that ended in the last chunk, in order; of a whole body all, once it was ended by
    /// [`Self::finish`].
    pub fn parts(&self) -> &[Part] {
        self.finder.parts_found()
    }

    /// What the events of a stream have said so far, for those who judge it before they let it go on.
    pub fn so_far(&self) -> SoFar<'_, impl ExactSizeIterator<Item = (&str, bool)>> {
        let (model, tools_called) = self.finder.so_far();
        let read = match &self.reader {
            Reader::Whole(_) => true,
            Reader::Stream(stream) => {
                stream.evaluated.defect.is_none() && stream.evaluated.skipped == 0 && !stream.rest_unread
            }
        };
        SoFar { model, tools_called, read: read && self.finder.more_calls() == 0 }
    }

    /// Whether the event under way is longer than may be read, so that nobody will know what it says.
    pub fn passes_over(&self) -> bool {
        matches!(&self.reader, Reader::Stream(stream) if stream.framer.passes_over())
    }

    /// The stream is over: reads what it ended in without the empty line that ends an event, as clients do that do not wait for
    /// that. None if nothing is left; else what [`Self::push`] would have said, with no bytes of its own.
    pub fn end_event(&mut self) -> Option<EventMark> {
        let Reader::Stream(stream) = &mut self.reader else { return None };
        self.finder.parts().clear();
        stream.end(&mut self.finder)
    }

    /// The body is over, or cut off. Facts are given once; calling again gives what is left.
    pub fn finish(&mut self) -> ResponseFacts {
        match &mut self.reader {
            Reader::Whole(body) => {
                let mut evaluated = body.finish(&mut self.finder);
                self.finder.end_document(b"");
                evaluated.defect = self.finder.take_doubt().or(evaluated.defect);
                ResponseFacts { evaluated, ..self.finder.take_facts() }
            }
            Reader::Stream(stream) => stream.finish(&mut self.finder),
        }
    }
}

/// The event that says where a client posts.
const ENDPOINT: &[u8] = b"endpoint";

/// The state of an event stream.
#[derive(Debug)]
struct Stream {
    dialect: Dialect,
    framer: Framer,
    tokenizer: Tokenizer<Place>,
    /// Bytes of the block under way.
    block_len: u64,
    events: u64,
    comments: u64,
    terminated: bool,
    /// No event has come, and the first may be `endpoint`.
    awaits_endpoint: bool,
    evaluated: Evaluated,
    /// Bytes of what the stream ended in, once that was read.
    rest: u64,
    /// It could not be.
    rest_unread: bool,
}

impl Stream {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            framer: Framer::new(Limits::default()),
            tokenizer: Tokenizer::new(json::Limits::default(), None),
            block_len: 0,
            events: 0,
            comments: 0,
            terminated: false,
            awaits_endpoint: false,
            evaluated: Evaluated::default(),
            rest: 0,
            rest_unread: false,
        }
    }

    fn push(&mut self, chunk: &[u8], finder: &mut Finder, on_event: &mut impl FnMut(EventMark)) {
        let mut end = 0;
        loop {
            let (step, taken) = self.framer.feed(chunk.get(end..).unwrap_or_default());
            end += taken;
            self.block_len += as_u64(taken);
            match step {
                Step::NeedMore => return,
                Step::Comment { has_hidden_line } => {
                    self.comments += 1;
                    if has_hidden_line && is_read(self.dialect) {
                        self.evaluated.skip(std::mem::take(&mut self.block_len), Defect::NotEvaluated);
                    }
                }
                Step::LineFeed => {}
                Step::Event(event) => {
                    self.comments += as_u64(event.comments);
                    let is_endpoint = matches!(event.content, Content::Data(_))
                        && std::mem::take(&mut self.awaits_endpoint)
                        && event.name == ENDPOINT;
                    let reading = if is_endpoint {
                        Reading::Good(MarkKind::Data)
                    } else {
                        read(self.dialect, event, &mut self.tokenizer, finder)
                    };
                    self.evaluated.defect = self.evaluated.defect.or_else(|| finder.take_doubt());
                    let kind = self.note(reading);
                    on_event(EventMark {
                        end,
                        kind,
                        parts: finder.parts_found().len(),
                        cut_short: finder.is_cut_short(),
                    });
                }
                // Unreachable with `Overflow::PassOver`; `finish` counts what was not taken.
                Step::Broken(defect) => {
                    self.evaluated.defect.get_or_insert(defect);
                    return;
                }
            }
        }
    }

    /// Counts a block with all its bytes.
    fn note(&mut self, reading: Reading) -> MarkKind {
        let bytes = std::mem::take(&mut self.block_len);
        match reading {
            Reading::Nothing => {
                self.evaluated.bytes += bytes;
                MarkKind::Comment
            }
            Reading::Good(kind) => {
                self.events += 1;
                self.evaluated.events += 1;
                self.evaluated.bytes += bytes;
                self.terminated |= kind == MarkKind::Terminator;
                kind
            }
            Reading::Doubtful(kind) => {
                self.terminated |= kind == MarkKind::Terminator;
                self.skip(bytes, Defect::NotEvaluated);
                kind
            }
            Reading::Bad(defect) => {
                self.skip(bytes, defect);
                MarkKind::Data
            }
        }
    }

    fn skip(&mut self, bytes: u64, defect: Defect) {
        self.events += 1;
        self.evaluated.skipped_events += 1;
        self.evaluated.skip(bytes, defect);
    }

    /// Reads what the stream ended in as an event. By the standard it is none, so it is not counted as one, and does not end
    /// the stream.
    fn end(&mut self, finder: &mut Finder) -> Option<EventMark> {
        let rest = as_u64(self.framer.pending());
        let before = finder.ended();
        let reading = match self.framer.end()? {
            Step::Event(event) => read(self.dialect, event, &mut self.tokenizer, finder),
            Step::Comment { has_hidden_line: true } if is_read(self.dialect) => {
                Reading::Bad(Defect::NotEvaluated)
            }
            Step::Comment { .. } | Step::NeedMore | Step::LineFeed => Reading::Nothing,
            Step::Broken(defect) => Reading::Bad(defect),
        };
        self.rest = rest;
        let in_doubt = finder.take_doubt().is_some();
        let kind = match reading {
            Reading::Nothing => MarkKind::Comment,
            Reading::Good(kind) | Reading::Doubtful(kind) => kind,
            Reading::Bad(_) => MarkKind::Data,
        };
        self.rest_unread = in_doubt || matches!(reading, Reading::Bad(_) | Reading::Doubtful(_));
        if matches!(reading, Reading::Bad(_)) {
            finder.restore_end(before); // of half an event nobody knows how it would have ended
        }
        let parts = finder.parts_found().len();
        Some(EventMark { end: 0, kind, parts, cut_short: finder.is_cut_short() })
    }

    fn finish(&mut self, finder: &mut Finder) -> ResponseFacts {
        finder.parts().clear();
        self.end(finder);
        let mut evaluated = std::mem::take(&mut self.evaluated);
        let tail = std::mem::take(&mut self.rest);
        if tail > 0 {
            evaluated.skip(tail, Defect::Truncated);
        }
        evaluated.bytes += std::mem::take(&mut self.block_len).saturating_sub(tail); // comments and line feeds
        ResponseFacts {
            terminated: has_terminator(self.dialect).then_some(self.terminated),
            events: self.events,
            comments: self.comments,
            evaluated,
            ..finder.take_facts()
        }
    }
}

/// Whether what its events say is read.
fn is_read(dialect: Dialect) -> bool {
    !matches!(dialect, Dialect::Json | Dialect::Bytes)
}

fn has_terminator(dialect: Dialect) -> bool {
    match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::AnthropicMessages => true,
        Dialect::Gemini | Dialect::Mcp | Dialect::Json | Dialect::Bytes => false,
    }
}

/// Whether clients take a line for data that the standard has them ignore: google-genai reads JSON without `data:`,
/// @google/genai looks for `data:` after white space. Other models' clients go by the standard.
fn reads_unknown_lines(dialect: Dialect) -> bool {
    dialect == Dialect::Gemini
}

/// What became of one block.
enum Reading {
    Nothing,
    Good(MarkKind),
    /// Its data was read, and a client may read more in it.
    Doubtful(MarkKind),
    Bad(Defect),
}

fn read(
    dialect: Dialect,
    event: Event<'_>,
    tokenizer: &mut Tokenizer<Place>,
    finder: &mut Finder,
) -> Reading {
    let is_doubtful =
        event.has_unknown_line && reads_unknown_lines(dialect) || event.has_hidden_line && is_read(dialect);
    match read_data(dialect, event, tokenizer, finder) {
        Reading::Nothing if is_doubtful => Reading::Bad(Defect::NotEvaluated),
        Reading::Good(kind) if is_doubtful => Reading::Doubtful(kind),
        reading => reading,
    }
}

fn read_data(
    dialect: Dialect,
    event: Event<'_>,
    tokenizer: &mut Tokenizer<Place>,
    finder: &mut Finder,
) -> Reading {
    let data = match event.content {
        Content::Nothing => return Reading::Nothing,
        Content::PassedOver(defect) => return Reading::Bad(defect),
        Content::Data(_) if dialect == Dialect::Bytes => return Reading::Bad(Defect::NotEvaluated),
        // Sent by many that imitate OpenAI, in other dialects too.
        Content::Data(openai_chat::DONE) => return Reading::Good(MarkKind::Terminator),
        // Where a client may resume a stream (MCP 2025-11-25): an id, and nothing said.
        Content::Data(b"") if dialect == Dialect::Mcp => return Reading::Good(MarkKind::Data),
        Content::Data(data) => data,
    };
    tokenizer.reset(finder::root(dialect));
    let read = tokenizer.feed(data, finder).and_then(|()| tokenizer.finish(finder));
    let kind = finder.end_document(event.name);
    match read {
        Ok(()) => Reading::Good(kind),
        // The event is whole, so its data is not cut off but wrong.
        Err(Defect::Truncated) => Reading::Bad(Defect::JsonMalformed),
        Err(defect) => Reading::Bad(defect),
    }
}
