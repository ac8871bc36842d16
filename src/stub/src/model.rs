//! A small deterministic model: what it says follows from the request, in the wire form of each provider.
//!
//! Good enough for the official clients: every member that they insist on is there, in the order in which
//! the providers send them. Ids and times are fixed. What the script says is put on the wire as it is, so
//! that a test can have it say something broken.

mod anthropic;
mod ask;
mod compose;
mod gemini;
mod openai_chat;
mod openai_responses;

use crate::answer::Made;
use crate::script::{Dialect, ModelReply, ToolCall};

use self::ask::Ask;

/// `GET */models`: one list that has the members of the OpenAI, the Anthropic and the Gemini form.
pub(crate) const LIST: &str = concat!(
    r#"{"object":"list","data":[{"id":"scripted-1","object":"model","created":1700000000,"owned_by":"stub","#,
    r#""type":"model","display_name":"Scripted 1","created_at":"2023-11-14T22:13:20Z"}],"#,
    r#""has_more":false,"first_id":"scripted-1","last_id":"scripted-1","#,
    r#""models":[{"name":"models/scripted-1","displayName":"Scripted 1","#,
    r#""supportedGenerationMethods":["generateContent","streamGenerateContent"]}]}"#,
    "\n"
);

/// The moment that answers state.
const CREATED: &str = "1700000000";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
/// What it calls a tool with when the script does not say.
const ARGUMENTS: &str = r#"{"query":"evidence","limit":3}"#;
/// Bytes of arguments in one fragment when the script does not say.
const FRAGMENT_BYTES: usize = 9;
/// Most bytes of the asked text that are said again.
const SAID_BYTES_MAX: usize = 64 * 1024;

/// The answer to a request at `target` with `body`.
pub(crate) fn answer(reply: &ModelReply, target: &str, body: &[u8]) -> Made {
    let ask = match Ask::read(reply.dialect, target, body) {
        Ok(ask) => ask,
        Err(why) => return Made::refusal(400, JSON, refusal(reply.dialect, why)),
    };
    let turn = Turn::new(reply, ask);
    match reply.dialect {
        Dialect::ChatCompletions => openai_chat::answer(&turn),
        Dialect::Responses => openai_responses::answer(&turn),
        Dialect::Messages => anthropic::answer(&turn),
        Dialect::Gemini => gemini::answer(&turn, target),
    }
}

fn refusal(dialect: Dialect, why: &str) -> String {
    match dialect {
        Dialect::ChatCompletions | Dialect::Responses => openai_chat::refusal(why),
        Dialect::Messages => anthropic::refusal(why),
        Dialect::Gemini => gemini::refusal(why),
    }
}

/// What the model will say, whatever the wire form.
#[derive(Debug)]
struct Turn {
    ask: Ask,
    text: String,
    calls: Vec<ToolCall>,
    finish: Option<String>,
    fragment_bytes: Option<usize>,
}

impl Turn {
    fn new(reply: &ModelReply, ask: Ask) -> Self {
        let calls = match (&reply.calls, &ask.tool) {
            (Some(calls), _) => calls.clone(),
            (None, Some(name)) if ask.wants_tool && reply.text.is_none() => {
                vec![ToolCall { name: name.clone(), arguments: ARGUMENTS.to_owned() }]
            }
            (None, _) => Vec::new(),
        };
        let text = match &reply.text {
            Some(text) => text.clone(),
            None if calls.is_empty() => cut(&ask.text, SAID_BYTES_MAX).0.to_uppercase(),
            None => String::new(),
        };
        let fragment_bytes = reply.fragment_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        Self { ask, text, calls, finish: reply.finish.clone(), fragment_bytes }
    }

    /// Whether there is text to say; an answer without calls has text, even if it is empty.
    fn speaks(&self) -> bool {
        !self.text.is_empty() || self.calls.is_empty()
    }

    /// Why the answer ended: what the script says, or the dialect's word for it.
    fn finish<'a>(&'a self, text: &'a str, calls: &'a str) -> &'a str {
        let usual = if self.calls.is_empty() { text } else { calls };
        self.finish.as_deref().unwrap_or(usual)
    }

    fn input_tokens(&self) -> usize {
        tokens(self.ask.bytes)
    }

    fn output_tokens(&self) -> usize {
        tokens(self.text.len() + self.calls.iter().map(|call| call.arguments.len()).sum::<usize>())
    }

    fn all_tokens(&self) -> usize {
        self.input_tokens() + self.output_tokens()
    }

    /// The text in the pieces that it is streamed in.
    fn text_fragments(&self) -> Vec<&str> {
        match self.fragment_bytes {
            Some(bytes) => fragments(&self.text, bytes),
            None => self.text.split_inclusive(' ').collect(),
        }
    }

    fn argument_fragments<'a>(&self, call: &'a ToolCall) -> Vec<&'a str> {
        fragments(&call.arguments, self.fragment_bytes.unwrap_or(FRAGMENT_BYTES))
    }
}

/// About four bytes a token.
fn tokens(bytes: usize) -> usize {
    bytes.div_ceil(4)
}

/// Pieces of about `bytes` bytes, never cut inside a character.
fn fragments(text: &str, bytes: usize) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (piece, left) = cut(rest, bytes);
        pieces.push(piece);
        rest = left;
    }
    pieces
}

/// The first `bytes` bytes (at least one, and up to the end of a character) and the rest.
fn cut(text: &str, bytes: usize) -> (&str, &str) {
    let mut end = bytes.max(1).min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    text.split_at(end)
}

#[cfg(test)]
mod tests;
