//! What an auditor is told of one event.

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{KeyId, Sha256};
use serde::Serialize;
use serde_json::Value;

use crate::ledger::{Event, Ledger};

/// Facts that are worth a word, in the order in which they are told.
const FACTS: [&str; 13] = [
    "result",
    "environment",
    "stage",
    "tag",
    "gate",
    "reason",
    "why",
    "to",
    "evolution",
    "contract",
    "policy",
    "expires",
    "promotion",
];

/// One event, as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct Row<'l> {
    /// The key id of who did it.
    pub actor: KeyId,
    /// When.
    pub at: UnixMicros,
    /// The commit that it is about; where it is about none, the one that the working tree stood at.
    pub commit: String,
    /// Its digest.
    pub event: Sha256,
    /// On which machine.
    pub host: &'l str,
    /// What happened.
    pub kind: &'l str,
    /// Whose key it is; empty where the roles no longer say.
    pub name: &'l str,
    /// The digests of the events that it follows.
    pub previous: String,
    /// What else there is to say.
    pub said: String,
    /// The version that it is about; empty where it is about none.
    pub version: String,
}

impl<'l> Row<'l> {
    pub(crate) fn of(ledger: &'l Ledger, event: &'l Event) -> Self {
        let document = event.document();
        let body = document.get("body").cloned().unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let facts = FACTS.iter().filter_map(|name| Some(format!("{name} {}", body.get(name)?.as_str()?)));
        let stood_at = event.stood_at.as_ref().map(ToString::to_string);
        let facts = facts.chain(stood_at.iter().map(|commit| format!("stood_at {commit}")));
        let commit =
            if body.get("commit").is_some() { text("commit") } else { stood_at.clone().unwrap_or_default() };
        let version = if body.get("version").is_some() { text("version") } else { text("from") };
        Self {
            actor: event.actor,
            at: event.at,
            commit,
            event: event.id,
            host: &event.host,
            kind: event.body.kind(),
            name: ledger.roles().name(event.actor).unwrap_or_default(),
            previous: super::parents(event),
            said: facts.collect::<Vec<_>>().join("; "),
            version,
        }
    }
}
