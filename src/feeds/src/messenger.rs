//! Messages that do not come from the journal, as those about releases, to the receivers that feeds have.

use serde_json::Value;

use crate::document::{Document, written};
use crate::settings::HookTo;
use crate::sink::slack::SlackSink;
use crate::sink::webhook::WebhookSink;
use crate::sink::{Sink, SinkError};

impl Document {
    /// A message: `uid` is the key by which copies are known, `instance` whose it is, `severity` 1 to 5. Texts in `value` are
    /// cut to [`crate::TEXT_CHARS_MAX`].
    pub fn message(uid: String, instance: String, time_us: u64, severity: u8, value: Value) -> Self {
        Self { uid, instance, time_us, severity, json: written(value) }
    }
}

/// A receiver of messages, one at a time. Who uses it keeps what was not taken, and tries again.
pub struct Messenger(Sink);

impl Messenger {
    /// A receiver of signed requests. Reads the files that are named and opens no connection.
    ///
    /// # Errors
    /// What is named cannot be read or used.
    pub fn webhook(to: &HookTo) -> Result<Self, SinkError> {
        WebhookSink::new(to).map(|sink| Self(Sink::Webhook(Box::new(sink))))
    }

    /// A channel of Slack, or of what takes the same.
    ///
    /// # Errors
    /// As [`Messenger::webhook`].
    pub fn slack(to: &HookTo) -> Result<Self, SinkError> {
        SlackSink::new(to).map(|sink| Self(Sink::Slack(Box::new(sink))))
    }

    /// Gives one message to the receiver. It has it when this is `Ok`, and may have it where it is not: no redirect is
    /// followed, and an answer that is cut is none.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn send(&mut self, message: &Document) -> Result<(), SinkError> {
        match self.0.deliver(std::slice::from_ref(message)).await.error {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
