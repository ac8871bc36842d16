//! What environments are told to have is held against the events that it follows, as promotions are.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::Sha256;

use super::body::{Body, EnvironmentSet, RolledBack};
use super::event::Event;
use super::promotions::past;
use crate::code::{Code, Refusal};
use crate::environment::standing;
use crate::generation::StageName;

/// Checks every move of a pointer. `events` are in an order in which each follows its parents.
pub(super) fn check_environments(events: &[Event]) -> Result<(), Refusal> {
    let is_asked = |event: &Event| matches!(event.body, Body::EnvironmentSet(_) | Body::PromotionFinished(_));
    if !events.iter().any(is_asked) {
        return Ok(());
    }
    let places: BTreeMap<Sha256, usize> =
        events.iter().enumerate().map(|(place, event)| (event.id, place)).collect();
    for (place, event) in events.iter().enumerate() {
        let held = match &event.body {
            Body::EnvironmentSet(body) => check_set(body, &past(events, &places, place)),
            Body::RolledBack(body) => check_rollback(body, &past(events, &places, place)),
            _ => Ok(()),
        };
        held.map_err(|why| Refusal::new(Code::LedgerConflict, format!("event {}: {why}", event.id)))?;
    }
    Ok(())
}

/// It was promoted, far enough for the environment, and not taken back.
fn check_set(body: &EnvironmentSet, past: &[&Event]) -> Result<(), String> {
    let EnvironmentSet { commit, environment, promoted, tag, version, .. } = body;
    let is_this = |of: (_, _, _)| of == (version, commit, tag);
    let stage = past.iter().find(|event| event.id == *promoted).and_then(|event| match &event.body {
        Body::PromotionFinished(of) if is_this((&of.version, &of.commit, &of.tag)) => Some(StageName::Final),
        Body::StagePromoted(of) if is_this((&of.version, &of.commit, &of.tag)) => Some(of.stage),
        _ => None,
    });
    let stage = stage.ok_or_else(|| format!("`{tag}` was not promoted so"))?;
    let asked = past.iter().rev().find_map(|event| match &event.body {
        Body::RolesSet(roles) => Some(roles.stage_of(environment)),
        _ => None,
    });
    let asked = asked.unwrap_or(StageName::Final);
    if stage < asked {
        return Err(format!("`{environment}` takes what came to {asked}, and `{tag}` is at {stage}"));
    }
    let (mut is_released, mut is_abandoned, mut is_back) = (false, false, false);
    for event in past {
        match &event.body {
            Body::PromotionFinished(of) if of.version == *version => is_released = true,
            // Beside a release only one that did not know it can say so.
            Body::GenerationAbandoned(of) if of.version == *version => is_abandoned = true,
            Body::RolledBack(of) if of.from == *version => is_back = true,
            _ => {}
        }
    }
    match is_back || (is_abandoned && !is_released) {
        true => Err(format!("{version} was taken back or abandoned")),
        false => Ok(()),
    }
}

/// It takes back what was released to what was, neither of them taken back before, and moves every pointer that stands on it.
fn check_rollback(body: &RolledBack, past: &[&Event]) -> Result<(), String> {
    let pointers = standing(past.iter().copied());
    let stand = pointers.iter().filter(|(_, pointer)| pointer.version == body.from);
    let stand: BTreeMap<String, Sha256> =
        stand.map(|(name, pointer)| (name.clone(), pointer.event)).collect();
    if stand != body.environments {
        return Err(format!("it does not move the environments that have {}", body.from));
    }
    let mut released = BTreeSet::new();
    for event in past {
        match &event.body {
            Body::PromotionFinished(of) => released.insert(&of.version),
            Body::RolledBack(of) => released.remove(&of.from),
            _ => continue,
        };
    }
    match [&body.from, &body.to].into_iter().find(|version| !released.contains(version)) {
        Some(version) => Err(format!("{version} was not released, or was taken back before")),
        None if body.from == body.to => Err(format!("{} is taken back to itself", body.from)),
        None => Ok(()),
    }
}
