//! Messages of MCP in a body: one, or a stream of them.

use estoppel_wire::sse::{Content, Framer, Limits, Step};
use serde_json::Value;

/// The answer to a request with this id: a result or an error.
pub fn answer_to(id: &Value, body: &[u8]) -> Option<Value> {
    message_to(id, body).map(|(message, _)| message)
}

/// As [`answer_to`], with the bytes of the message.
pub(crate) fn message_to(id: &Value, body: &[u8]) -> Option<(Value, Vec<u8>)> {
    let messages = match serde_json::from_slice::<Value>(body) {
        Ok(message) => vec![(message, body.to_vec())],
        Err(_) => of_stream(body),
    };
    let is_answer = |(message, _): &(Value, Vec<u8>)| {
        message["id"] == *id && (message.get("result").is_some() || message.get("error").is_some())
    };
    messages.into_iter().find(is_answer)
}

fn of_stream(stream: &[u8]) -> Vec<(Value, Vec<u8>)> {
    let mut framer = Framer::new(Limits { event_bytes_max: stream.len().max(1), ..Limits::default() });
    let (mut rest, mut messages) = (stream, Vec::new());
    while !rest.is_empty() {
        let (step, taken) = framer.feed(rest);
        match step {
            Step::Event(event) => {
                if let Content::Data(data) = event.content
                    && let Ok(message) = serde_json::from_slice(data)
                {
                    messages.push((message, data.to_vec()));
                }
            }
            Step::NeedMore | Step::Broken(_) => return messages,
            Step::Comment { .. } | Step::LineFeed => {}
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    messages
}
