//! What an operator does to what the journal keeps, as the sidecar says it does: legal holds, and deletions before and after.

use std::sync::Arc;

use estoppel_evidence::entry::{Act, Event};
use estoppel_evidence::{Leaf, Reason, text};
use serde::Deserialize;

use crate::layer::forward::durable;
use crate::serve::Shared;

const ACTS: [&str; 4] = ["legal_hold", "legal_release", "retention_completed", "retention_planned"];

/// What is to be recorded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    act: String,
    by: String,
    comment: String,
    on: String,
}

impl Told {
    /// The act, if it is one of those and its texts are within what an entry holds.
    pub(crate) fn checked(self) -> Option<Act> {
        let fits =
            |word: &str, most: usize| (1..=most).contains(&word.chars().count()) && text::text(word) == word;
        let act = ACTS.into_iter().find(|act| *act == self.act)?;
        let is_good = fits(&self.by, 128) && fits(&self.on, 128) && fits(&self.comment, 256);
        is_good.then_some(Act {
            act,
            by: self.by,
            comment: Some(self.comment),
            on: Some(self.on),
            reason: None,
        })
    }
}

/// Records it, and says so when it is durable.
pub(crate) async fn record(shared: &Arc<Shared>, act: Act) -> Result<Option<Leaf>, Reason> {
    if shared.journal.is_off() {
        return Err(Reason::EvidenceOff);
    }
    let ack = shared.journal.note(None, Event::Act(act));
    durable(ack, std::time::Duration::from_millis(shared.server.evidence_ms)).await
}
