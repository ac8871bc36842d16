//! What was released stays as it was promoted: nobody amends or abandons it afterwards.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::Sha256;

use super::body::Body;
use super::event::Event;
use super::promotions::past;
use crate::code::{Code, Refusal};
use crate::version::Version;

/// Checks what follows releases. `events` are in an order in which each follows its parents.
pub(super) fn check_settled(events: &[Event]) -> Result<(), Refusal> {
    let released: BTreeSet<&Version> = events.iter().filter_map(released_by).collect();
    if released.is_empty() {
        return Ok(());
    }
    let places: BTreeMap<Sha256, usize> =
        events.iter().enumerate().map(|(place, event)| (event.id, place)).collect();
    for (place, event) in events.iter().enumerate() {
        let version = match &event.body {
            Body::GenerationAmended(body) => &body.version,
            Body::GenerationAbandoned(body) => &body.version,
            _ => continue,
        };
        let is_settled = released.contains(version)
            && past(events, &places, place).into_iter().any(|before| released_by(before) == Some(version));
        if is_settled {
            let said =
                format!("event {} is a {} of {version}, which was promoted", event.id, event.body.kind());
            return Err(Refusal::new(Code::LedgerConflict, said));
        }
    }
    Ok(())
}

/// The version that an event releases.
fn released_by(event: &Event) -> Option<&Version> {
    match &event.body {
        Body::PromotionFinished(body) => Some(&body.version),
        _ => None,
    }
}
