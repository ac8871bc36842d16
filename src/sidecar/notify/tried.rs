//! One destination, tried: what it answers to a message of which nothing follows.

use std::time::{Duration, Instant};

use estoppel_release::notify;
use serde_json::{Value, json};

use super::deliver::{Problem, Receiver, document};
use super::settings::{Destination, Settings};
use crate::ledger::now;
use crate::output::{Colour, Output};
use crate::sync::chance;

/// What became of it.
pub struct Tried {
    name: String,
    kind: &'static str,
    /// The `webhook-id`, of what was sent to a webhook.
    id: Option<String>,
    /// The status of the answer; none of a bucket, which is asked and gets nothing.
    answered: Result<Option<u16>, Problem>,
    took: Duration,
}

/// Sends one message of its own type, or asks a bucket whether it keeps what is put there. No cursor is looked at or moved, so
/// that it works beside a process that tells the destination.
pub async fn ask(settings: &Settings, destination: &Destination) -> Tried {
    let random = u128::from(chance()) << 64 | u128::from(chance());
    let message = notify::test(&destination.name, &settings.repository, now(), random);
    let document = document(message, &settings.repository);
    let started = Instant::now();
    let answered = match Receiver::open(destination).await {
        Ok(Receiver::Messenger(mut messenger)) => {
            messenger.send(&document).await.map(Some).map_err(Problem::Hook)
        }
        Ok(Receiver::Bucket(_)) => Ok(None),
        Err(problem) => Err(problem),
    };
    Tried {
        name: destination.name.clone(),
        kind: destination.to.kind(),
        id: destination.to.webhook.is_some().then(|| document.webhook_id()),
        answered,
        took: started.elapsed(),
    }
}

/// 1 where one said no or cannot be used, otherwise 7 where one could not be reached.
pub fn exit(tried: &[Tried]) -> u8 {
    let failed = || tried.iter().filter_map(|tried| tried.answered.as_ref().err());
    match failed().all(Problem::is_of_connection) {
        true => 7 * u8::from(failed().next().is_some()),
        false => 1,
    }
}

impl Tried {
    pub fn row(&self) -> Value {
        let problem = self.answered.as_ref().err();
        json!({
            "destination": self.name, "to": self.kind, "ok": problem.is_none(), "id": self.id,
            "status": self.answered.as_ref().ok().copied().flatten(), "why": problem.map(Problem::words),
            "duration_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }

    pub fn line(&self, output: Output) -> String {
        let (name, took) = (&self.name, self.took.as_millis());
        let of = self.id.as_ref().map_or_else(String::new, |id| format!(", {id}"));
        match &self.answered {
            Ok(Some(status)) => format!("{name:<12} answered {status} in {took} ms{of}"),
            Ok(None) => {
                format!("{name:<12} keeps what is put there, asked in {took} ms; nothing was put there")
            }
            Err(problem) => {
                output.paint(Colour::Red, &format!("{name:<12} {}, in {took} ms{of}", problem.words()))
            }
        }
    }
}
