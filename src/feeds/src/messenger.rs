//! Messages that do not come from the journal, as those about releases, to the receivers that feeds have.

use serde_json::Value;

use crate::document::{Document, written};
use crate::settings::HookTo;
use crate::sink::SinkError;
use crate::sink::post::Sender;
use crate::sink::slack::SlackSink;
use crate::sink::webhook::{self, WebhookSink};

impl Document {
    /// A message: `uid` is the key by which copies are known, `instance` whose it is, `severity` 1 to 5. Texts in `value` are
    /// cut to [`crate::TEXT_CHARS_MAX`].
    pub fn message(uid: String, instance: String, time_us: u64, severity: u8, value: Value) -> Self {
        Self { uid, instance, time_us, severity, json: written(value) }
    }

    /// The `webhook-id` under which receivers get it: the same over all tries.
    pub fn webhook_id(&self) -> String {
        webhook::id(&self.uid)
    }
}

/// A receiver of messages of the command line, one at a time. Who uses it keeps what was not taken, and tries again.
pub struct Messenger(Receiver);

enum Receiver {
    Webhook(Box<WebhookSink>),
    Slack(Box<SlackSink>),
}

impl Messenger {
    /// A receiver of signed requests. Reads the files that are named and opens no connection.
    ///
    /// # Errors
    /// What is named cannot be read or used.
    pub fn webhook(to: &HookTo) -> Result<Self, SinkError> {
        WebhookSink::new(to, Sender::Cli).map(|sink| Self(Receiver::Webhook(Box::new(sink))))
    }

    /// A channel of Slack, or of what takes the same.
    ///
    /// # Errors
    /// As [`Messenger::webhook`].
    pub fn slack(to: &HookTo) -> Result<Self, SinkError> {
        SlackSink::new(to, Sender::Cli).map(|sink| Self(Receiver::Slack(Box::new(sink))))
    }

    /// Gives one message to the receiver, and says by which status it took it. It has it when this is `Ok`, and may have it where
    /// it is not: no redirect is followed, and an answer that is cut is none.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn send(&mut self, message: &Document) -> Result<u16, SinkError> {
        let status = match &mut self.0 {
            Receiver::Webhook(sink) => sink.send(message).await?,
            Receiver::Slack(sink) => sink.send(std::slice::from_ref(message)).await?,
        };
        Ok(status.as_u16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::slack;
    use crate::sink::webhook::Secrets;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../../spec/notification-vectors.json")).unwrap()
    }

    #[test]
    fn bodies_ids_and_lines_are_those_of_the_published_vectors() {
        let vectors = vectors();
        let rows = vectors["rows"].as_array().unwrap();
        let told = rows.iter().flat_map(|row| {
            let repository = row["repository"].as_str().unwrap();
            row["messages"].as_array().unwrap().iter().map(move |told| (repository, told))
        });
        let mut count = 0;
        for (repository, told) in told {
            let text = |name: &str| told[name].as_str().unwrap();
            let value: Value = serde_json::from_str(text("body")).unwrap();
            let severity = u8::try_from(value["data"]["severity"].as_u64().unwrap()).unwrap();
            let uid = text("uid").to_owned();
            let document = Document::message(uid, repository.to_owned(), 0, severity, value);
            assert_eq!(std::str::from_utf8(&document.json).unwrap(), text("body"));
            assert_eq!(document.webhook_id(), text("id"));
            let line = slack::message(std::slice::from_ref(&document));
            assert_eq!(std::str::from_utf8(&line).unwrap(), text("channel"));
            count += 1;
        }
        assert!(count >= 30, "{count}");
    }

    #[test]
    fn requests_are_signed_as_the_published_vectors_are() {
        let vectors = vectors();
        let requests = vectors["requests"].as_array().unwrap();
        for request in requests {
            let secrets = request["secrets"].as_array().unwrap().iter();
            let secrets: Vec<&str> = secrets.map(|secret| secret.as_str().unwrap()).collect();
            let secrets = Secrets::parse(&secrets.join("\n")).unwrap();
            let text = |name: &str| request[name].as_str().unwrap();
            let headers =
                secrets.headers(text("uid"), text("body").as_bytes(), request["at"].as_u64().unwrap());
            let is_same = |name: &str| headers[name].to_str().unwrap() == request["headers"][name];
            let are_same = ["webhook-id", "webhook-timestamp", "webhook-signature"].into_iter().all(is_same);
            assert_eq!(are_same, request["verifies"].as_bool().unwrap(), "{}", request["name"]);
        }
        assert!(requests.len() >= 13);
    }
}
