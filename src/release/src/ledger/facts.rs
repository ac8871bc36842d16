//! What the events say together: no two contradict each other, and none gives away what is not its own.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::{Sha256, canonical};

use super::body::{Body, Contracted, Outcome};
use super::event::Event;
use crate::code::{Code, Refusal};
use crate::environment;
use crate::generation::StageName;
use crate::rollback;

/// No two events say what cannot both be true, and none speaks of what there is not.
pub(super) fn check_facts(events: &[Event]) -> Result<(), Refusal> {
    let conflict =
        |id: Sha256, why: String| Err(Refusal::new(Code::LedgerConflict, format!("event {id}: {why}")));
    let mut contracts = BTreeMap::new();
    let mut promoted = BTreeSet::new();
    let mut staged = BTreeSet::new();
    let mut environments = BTreeMap::new();
    let mut tags = BTreeSet::new();
    let mut started = BTreeMap::new();
    let mut finished = BTreeSet::new();
    for event in events {
        let tag = match &event.body {
            Body::GenerationSealed(body) => {
                if contracts.insert(&body.version, body.contract).is_some() {
                    return conflict(event.id, format!("{} was sealed before", body.version));
                }
                check_contract(event, body)?;
                None
            }
            Body::GenerationAmended(body) => {
                if contracts.insert(&body.version, body.contract) != body.from {
                    let said = format!("{} had another contract than the one that is amended", body.version);
                    return conflict(event.id, said);
                }
                // A commit climbs again under an amended contract, whatever its text.
                staged.retain(|(version, _)| *version != &body.version);
                check_contract(event, body)?;
                None
            }
            Body::EvolutionStarted(body) => {
                if started.insert(&body.evolution, body).is_some() {
                    return conflict(event.id, format!("evolution {} was started before", body.evolution));
                }
                None
            }
            Body::EvolutionFinished(body) => {
                let is_of_start = started.get(&body.evolution).is_some_and(|start| {
                    (&start.version, &start.contract, &start.commit)
                        == (&body.version, &body.contract, &body.commit)
                });
                if !is_of_start || !finished.insert(&body.evolution) {
                    let said = format!("evolution {} did not begin so, or ended before", body.evolution);
                    return conflict(event.id, said);
                }
                check_tag(event, body.tag.as_ref(), |tag| {
                    body.result == Outcome::Passed && body.version.candidate_number(tag).is_some()
                })?
            }
            Body::PromotionFinished(body) => {
                if !promoted.insert(&body.version) {
                    return conflict(event.id, format!("{} was promoted before", body.version));
                }
                check_tag(event, Some(&body.tag), |tag| tag == body.version.tag())?
            }
            Body::EnvironmentSet(body) => {
                if !environment::is_name(&body.environment) {
                    let said = format!("event {} names no environment", event.id);
                    return Err(Refusal::new(Code::LedgerEventInvalid, said));
                }
                if environments.insert(&body.environment, event.id) != body.previous {
                    let said = format!("`{}` had something else than is replaced", body.environment);
                    return conflict(event.id, said);
                }
                None
            }
            Body::RolledBack(body) => {
                for (name, previous) in &body.environments {
                    if environments.insert(name, event.id) != Some(*previous) {
                        return conflict(event.id, format!("`{name}` had something else than is taken back"));
                    }
                }
                check_tag(event, Some(&body.tag), |tag| tag == rollback::branch(&body.from))?
            }
            Body::StagePromoted(body) => {
                if !staged.insert((&body.version, body.promotion)) {
                    let said =
                        format!("{} was promoted to {} on {} before", body.version, body.stage, body.commit);
                    return conflict(event.id, said);
                }
                let is_own = |tag: &str| match body.stage {
                    StageName::Final => false,
                    stage => body.version.tag_number(stage.as_str(), tag).is_some(),
                };
                check_tag(event, Some(&body.tag), is_own)?.filter(|_| body.own_tag().is_some())
            }
            Body::Approved(_)
            | Body::Waived(_)
            | Body::GenerationAbandoned(_)
            | Body::PromotionRefused(_)
            | Body::PromotionStarted(_)
            | Body::RolesSet(_) => None,
        };
        if let Some(tag) = tag.filter(|tag| !tags.insert(*tag)) {
            return conflict(event.id, format!("the tag `{tag}` was given away before"));
        }
    }
    Ok(())
}

fn check_contract(event: &Event, body: &Contracted) -> Result<(), Refusal> {
    let canonical = canonical::foreign(body.document.to_string().as_bytes());
    if canonical.is_ok_and(|bytes| Sha256::of(&bytes) == body.contract) {
        return Ok(());
    }
    let said = format!("event {}: the contract does not have the digest that is stated", event.id);
    Err(Refusal::new(Code::LedgerEventInvalid, said))
}

/// The name that an event gives away follows from what it is about: nobody gets another by another role.
fn check_tag<'e>(
    event: &Event,
    tag: Option<&'e String>,
    is_own: impl FnOnce(&str) -> bool,
) -> Result<Option<&'e String>, Refusal> {
    match tag {
        Some(tag) if !is_own(tag) => {
            let said =
                format!("event {} of kind {} may not give away the tag `{tag}`", event.id, event.body.kind());
            Err(Refusal::new(Code::LedgerEventInvalid, said))
        }
        tag => Ok(tag),
    }
}
