//! What the stub answers, as data.
//!
//! The first rule that matches a request answers it; `otherwise` answers the rest. As a file:
//!
//! ```json
//! {
//!   "rules": [
//!     {"method": "POST", "path": "/v1/*", "times": 1,
//!      "reply": {"status": 503, "headers": [["retry-after", "1"]], "body": {"text": "busy"}}},
//!     {"path": "*/chat/completions", "body_contains": "weather",
//!      "reply": {"body": {"model": {"dialect": "chat_completions",
//!                                   "calls": [{"name": "get_weather", "arguments": "{\"city\": \"Paris\""}]}}}},
//!     {"path": "/feed",
//!      "reply": {"body": {"sse": {"events": [{"event": "tick", "data": "1"}, {"raw": ": ping\n\n"}]}},
//!                "split": {"each": {"bytes": 1}},
//!                "delay_ms": {"between_writes": 5},
//!                "faults": [{"reset": {"after_bytes": 12}}]}},
//!     {"path": "/mirror", "header": {"name": "x-mode", "value": "echo"}, "reply": {"body": "echo"}}
//!   ],
//!   "otherwise": {"status": 404}
//! }
//! ```
//!
//! Unknown keys are refused. What contradicts itself is refused when the stub starts, all at once
//! ([`crate::ScriptError`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

mod build;

/// Everything one stub answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Tried in order; the first that matches answers.
    pub rules: Vec<Rule>,
    /// Answers what no rule matches. Default: 404 with a short text.
    pub otherwise: Reply,
    /// How much of the requests is kept for [`crate::Hits`].
    pub remember: Remember,
    /// SO_SNDBUF of accepted sockets. Default: the system's choice, which may soak up megabytes before a
    /// slow reader is felt; set it small in back-pressure tests. (The kernel doubles the number.)
    pub send_buffer_bytes: Option<u32>,
}

/// Which requests, and what they get. An absent condition matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Exact, in upper case as on the wire.
    pub method: Option<String>,
    /// The path without its query. One `*` stands for anything: `/v1/*`, `*/messages`, `/a/*/b`. Empty
    /// matches every path.
    pub path: String,
    pub header: Option<HeaderMatch>,
    /// The request body (without transfer coding) contains this text.
    pub body_contains: Option<String>,
    /// The rule answers so many requests and is then passed over. Default: no limit. Two rules of one path,
    /// the first with `times`, make "first 503, then 200".
    pub times: Option<u64>,
    /// Answer as soon as the head is here; the request body is not read, `100 Continue` is not sent, and
    /// the connection closes after the answer. Default: false.
    pub before_body: bool,
    pub reply: Reply,
}

/// A header that must be present, in any case; with `value`, with exactly this value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    pub name: String,
    #[serde(default)]
    pub value: Option<String>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// Default 200.
    pub status: u16,
    /// The words after the status. Default: the registered ones.
    pub reason: Option<String>,
    /// Heads with a 1xx status, sent before everything else. HTTP/1.1 only.
    pub interim: Vec<Interim>,
    /// Sent in this order, repetitions kept. A `content-type` that fits the body is added if none is here;
    /// the framing header and `connection: close` come last.
    pub headers: Vec<(String, String)>,
    pub body: Body,
    /// Default: `chunked` for `sse` and streamed model answers and when there are trailers, else
    /// `content_length`. Without a stated framing, 204 and 304 have no body and no framing header.
    pub framing: Option<Framing>,
    /// Where the body is cut into pieces: HTTP chunks, or HTTP/2 DATA frames.
    pub split: Split,
    /// Where the bytes are cut into socket writes. HTTP/1.1 only.
    pub writes: Writes,
    pub delay_ms: Delays,
    /// At most one that ends the answer, and at most one `slow`.
    pub faults: Vec<Fault>,
    /// After a chunked body, or an HTTP/2 body. No `trailer` header is added.
    pub trailers: Vec<(String, String)>,
    /// Close the connection after the answer and say so; on HTTP/2 with GOAWAY before it. Default: keep it open
    /// if the request allows.
    pub close: bool,
}

/// An interim head, such as `103 Early Hints`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interim {
    /// 100 to 199, not 101.
    pub status: u16,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// The bytes of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Body {
    /// These characters, as UTF-8.
    Text(String),
    /// These bytes, in standard base64 with padding.
    Base64(String),
    /// `text` so many times; never held in memory as a whole.
    Repeat { text: String, times: u64 },
    /// So many bytes of [`crate::filler`]; never held in memory as a whole.
    Size { bytes: u64 },
    /// Server-sent events.
    Sse {
        events: Vec<SseEvent>,
        #[serde(default)]
        line_end: LineEnd,
    },
    /// The request body (without transfer coding), with the request's content type.
    Echo,
    /// What a small deterministic model says to this request, streamed if the request asks for it.
    Model(ModelReply),
    /// A list of one model that the OpenAI, Anthropic and Gemini clients all accept.
    ModelList,
    /// Size and speed come from the last segments of the path.
    FromPath(PathBody),
}

/// Bodies for benches, asked for by path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathBody {
    /// `…/{n}`: a JSON object of exactly n bytes, from 40 bytes to 16 MiB.
    Json,
    /// `…/{events}/{gap_us}`: so many chat completion chunks, then `[DONE]`, one each `gap_us`
    /// microseconds on average (the timer's grain is 1 ms: below that they come in small groups).
    Sse,
    /// `…/{n}`: n bytes of [`crate::filler`].
    Bytes,
}

/// One server-sent event. With `raw`, exactly these characters and nothing else; otherwise a block of the
/// given fields, in the order comment, event, id, retry, data, and its blank line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SseEvent {
    pub comment: Option<String>,
    pub event: Option<String>,
    pub id: Option<String>,
    pub retry: Option<u64>,
    /// A line feed in it makes a further `data:` line.
    pub data: Option<String>,
    pub raw: Option<String>,
}

/// How lines of server-sent events end. The grammar allows all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineEnd {
    #[default]
    Lf,
    Crlf,
    Cr,
}

/// A model's answer. What is not fixed here follows from the request: the text of the last user message in
/// upper case; or a call of the first offered tool when that text contains the word "tool".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelReply {
    pub dialect: Dialect,
    /// Say this instead.
    #[serde(default)]
    pub text: Option<String>,
    /// Call these tools instead, whether or not the request offers them.
    #[serde(default)]
    pub calls: Option<Vec<ToolCall>>,
    /// The dialect's word for why the answer ended, verbatim (`length`, `max_tokens`, `MAX_TOKENS`; for
    /// `responses` the response's status). Default: the dialect's word for a normal end.
    #[serde(default)]
    pub finish: Option<String>,
    /// Cut streamed text and arguments after so many bytes, never inside a character. Default: text by
    /// words, arguments each 9 bytes.
    #[serde(default)]
    pub fragment_bytes: Option<u32>,
}

/// A call that the model makes. `arguments` is put on the wire as it is, valid JSON or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    pub name: String,
    pub arguments: String,
}

/// The wire forms of a model answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI `POST /v1/chat/completions`.
    ChatCompletions,
    /// OpenAI `POST /v1/responses`.
    Responses,
    /// Anthropic `POST /v1/messages`.
    Messages,
    /// Gemini `POST …:generateContent` and `…:streamGenerateContent` (events with `alt=sse`, else an array).
    Gemini,
}

/// How the end of the body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Framing {
    ContentLength,
    Chunked,
    /// No length; the connection ends the body.
    Close,
    /// A `content-length` that is off by so much. Too long: the connection closes after the body. Too short:
    /// the rest of the body follows on a connection that stays open.
    WrongLength {
        by: i64,
    },
    /// The body is the whole answer, head included; the stub adds nothing. For answers that are not HTTP.
    Raw,
}

/// Where the body is cut into pieces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Split {
    /// After each event, repetition or model fragment. A plain body is one piece.
    #[default]
    PerEvent,
    Whole,
    Each {
        bytes: u64,
    },
    /// At these offsets of the body, ascending.
    At {
        offsets: Vec<u64>,
    },
}

/// Where the bytes of an HTTP/1.1 answer are cut into socket writes. No write is above 64 KiB: what is
/// larger is written in several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Writes {
    /// One write a piece. The head goes with the first piece, the end of a chunked body with the last.
    #[default]
    PerPiece,
    /// As `per_piece`, but the head is a write of its own.
    HeadFirst,
    /// As few writes as possible.
    Joined,
    /// So many bytes a write, counted from the first byte of the answer, head and chunk sizes included.
    Each { bytes: u64 },
    /// At these offsets of the answer, ascending, head and chunk sizes included.
    At { offsets: Vec<u64> },
}

/// Pauses, in milliseconds. While it pauses the stub notices a peer that goes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delays {
    /// After the request (and interim heads), before the head.
    pub before_head: u64,
    /// Between the head and the first byte of the body.
    pub before_body: u64,
    /// Between one write and the next; on HTTP/2 between frames.
    pub between_writes: u64,
}

/// What goes wrong. `after_bytes` counts bytes of the body, without its framing; beyond the end it means
/// after the last byte and before what ends the body. A chunk that is cut states its full size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Sends no more and keeps the connection open until the peer goes.
    Stall { after_bytes: u64 },
    /// RST. On HTTP/2: RST_STREAM.
    Reset { after_bytes: u64 },
    /// FIN, without the end of the body (and with TLS, without close_notify). On HTTP/2: the connection
    /// closes in the middle of the stream.
    Truncate { after_bytes: u64 },
    /// So few bytes a write (on HTTP/2: a frame), with a pause between.
    Slow { bytes_per_write: u64, every_ms: u64 },
    /// The request is read and never answered.
    NoAnswer,
    /// FIN instead of an answer.
    CloseBeforeHead,
    /// RST instead of an answer. On HTTP/2: RST_STREAM.
    ResetBeforeHead,
}

/// How much is kept of what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remember {
    /// The last so many requests. Default 64; 0 keeps none and only counts.
    pub requests: usize,
    /// At most so many bytes of each body. Default 1 MiB.
    pub body_bytes: usize,
}

impl Default for Script {
    fn default() -> Self {
        let otherwise = Reply::text("no rule of the script matches\n").status(404);
        Self { rules: Vec::new(), otherwise, remember: Remember::default(), send_buffer_bytes: None }
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self {
            status: 200,
            reason: None,
            interim: Vec::new(),
            headers: Vec::new(),
            body: Body::default(),
            framing: None,
            split: Split::default(),
            writes: Writes::default(),
            delay_ms: Delays::default(),
            faults: Vec::new(),
            trailers: Vec::new(),
            close: false,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Body {
    /// Any bytes.
    #[must_use]
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Base64(STANDARD.encode(bytes))
    }
}

impl Default for Remember {
    fn default() -> Self {
        Self { requests: 64, body_bytes: 1 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the module's documentation, so that it cannot rot.
    fn documented() -> String {
        let source = include_str!("script.rs");
        let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
        let inside = lines.skip_while(|line| line.trim() != "```json").skip(1);
        inside.take_while(|line| line.trim() != "```").collect()
    }

    #[test]
    fn the_documented_example_parses_and_starts() {
        let script: Script = serde_json::from_str(&documented()).unwrap();
        assert_eq!(script.rules.len(), 4);
        assert_eq!(script.rules[2].reply.faults, [Fault::Reset { after_bytes: 12 }]);
        assert_eq!(script.rules[3].reply.body, Body::Echo);
        crate::plan::Plan::new(&script).unwrap();
    }

    #[test]
    fn a_script_survives_a_round_trip_through_json() {
        for script in [Script::model(), serde_json::from_str(&documented()).unwrap()] {
            let text = serde_json::to_string(&script).unwrap();
            assert_eq!(serde_json::from_str::<Script>(&text).unwrap(), script);
        }
    }

    #[test]
    fn unknown_keys_are_refused_at_every_level() {
        for text in [
            r#"{"rule": []}"#,
            r#"{"rules": [{"path": "/", "reply": {"stauts": 200}}]}"#,
            r#"{"rules": [{"paths": "/"}]}"#,
            r#"{"otherwise": {"body": {"size": {"byte": 3}}}}"#,
            r#"{"otherwise": {"body": {"sse": {"events": [{"dta": "x"}]}}}}"#,
            r#"{"otherwise": {"faults": [{"stall": {"after": 3}}]}}"#,
            r#"{"otherwise": {"faults": [{"explode": {}}]}}"#,
            r#"{"otherwise": {"delay_ms": {"before": 3}}}"#,
        ] {
            assert!(serde_json::from_str::<Script>(text).is_err(), "{text}");
        }
    }
}
