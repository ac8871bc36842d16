//! Messages to an incoming webhook of Slack, or of what takes the same (Mattermost, Rocket.Chat). Its URL is a secret.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::post::{Post, Sender, content_type};
use super::{Delivery, SinkError};
use crate::document::Document;
use crate::settings::HookTo;

/// Most notices in one message: Slack takes 40,000 characters, and one message a second.
const LINES_MAX: usize = 20;

/// A channel.
pub(crate) struct SlackSink {
    sender: Sender,
    to: HookTo,
    post: Post,
}

impl SlackSink {
    pub fn new(to: &HookTo, sender: Sender) -> Result<Self, SinkError> {
        Ok(Self { sender, to: to.clone(), post: to.post(sender)? })
    }

    /// In order; what follows a message that fails is left.
    pub async fn deliver(&mut self, documents: &[Document]) -> Delivery {
        let mut taken = 0;
        for some in documents.chunks(LINES_MAX) {
            if let Err(error) = self.send(some).await {
                return Delivery {
                    left: (taken..documents.len()).collect(),
                    error: Some(error),
                    ..Delivery::default()
                };
            }
            taken += some.len();
        }
        Delivery::default()
    }

    /// Gives documents to the channel as one message, and says how it took it.
    pub async fn send(&mut self, documents: &[Document]) -> Result<StatusCode, SinkError> {
        let body = Bytes::from(message(documents));
        let answer = self.post.send([content_type("application/json")].into_iter().collect(), body).await?;
        if answer.status.is_success() {
            return Ok(answer.status);
        }
        if matches!(answer.status.as_u16(), 401 | 403 | 404 | 410) {
            match self.to.post(self.sender) {
                Ok(post) => self.post = post,
                Err(error) => tracing::warn!(%error, "the URL of a channel was not read again"),
            }
        }
        Err(answer.error())
    }
}

/// One line for each notice.
pub(crate) fn message(documents: &[Document]) -> Vec<u8> {
    let lines: Vec<String> = documents.iter().map(line).collect();
    json!({ "text": lines.join("\n"), "mrkdwn": false }).to_string().into_bytes()
}

fn line(document: &Document) -> String {
    let notice: Value = serde_json::from_slice(&document.json).unwrap_or_default();
    let member = |name: &str| notice.pointer(name).and_then(Value::as_str).unwrap_or_default();
    let mark = match document.severity {
        5 => "CRITICAL ",
        4 => "HIGH ",
        _ => "",
    };
    escaped(&format!("{mark}{} · {}", member("/data/message"), document.instance))
}

/// What a caller wrote is text: no mention, no link, no markup, no further line.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if c.is_control() || is_format(c) => out.push(' '),
            c => out.push(c),
        }
    }
    // Slack makes mentions of what begins so in some of its settings.
    out.replace('@', "@\u{2060}")
}

/// Characters that turn or hide others.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(message: &str) -> Document {
        let json = json!({ "type": "hold", "data": { "message": message, "instance": "gw/main/1" } });
        Document {
            uid: "u".into(),
            instance: "gw/main/1".into(),
            time_us: 1,
            severity: 4,
            json: json.to_string().into_bytes(),
        }
    }

    #[test]
    fn what_a_caller_wrote_is_text_in_a_channel() {
        let hostile = "tool <!channel> @here <https://evil|ok> a&b\nsecond\u{202e}line";
        let body: Value = serde_json::from_slice(&message(&[document(hostile), document("plain")])).unwrap();
        assert_eq!(
            body["text"],
            "HIGH tool &lt;!channel&gt; @\u{2060}here &lt;https://evil|ok&gt; a&amp;b second line · gw/main/1\n\
             HIGH plain · gw/main/1"
        );
        assert_eq!(body["mrkdwn"], false);
    }
}
