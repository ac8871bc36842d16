//! Files to a ledger: every signature, every link, and that no two events contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::Sha256;

use super::body::Body;
use super::environments::check_environments;
use super::event::{Event, path};
use super::facts::check_facts;
use super::promotions::check_promotions;
use super::roles::Roles;
use super::settled::check_settled;
use super::{EVENTS_MAX, Ledger};
use crate::code::{Code, Refusal};

/// Checks the files of a ledger, each with its path. `genesis` is the first event that the reader trusts; without it the
/// ledger vouches for itself.
///
/// # Errors
/// The first fault, by the codes of spec/ledger.md section 5.
pub fn check(files: &[(String, Vec<u8>)], genesis: Option<Sha256>) -> Result<Ledger, Refusal> {
    if files.len() > EVENTS_MAX {
        return Err(Refusal::new(Code::LedgerMax, format!("it has more than {EVENTS_MAX} events")));
    }
    let mut events = BTreeMap::new();
    for (name, bytes) in files {
        let id = Sha256::of(bytes);
        if path(id) != *name {
            let said = format!("`{name}` has another content than its name says: {id}");
            return Err(Refusal::new(Code::LedgerAltered, said));
        }
        let event = Event::read(bytes)?;
        events.insert(event.id, event);
    }
    let events = in_order(events)?;
    check_genesis(&events, genesis)?;
    let roles = check_actors(&events)?;
    check_facts(&events)?;
    check_promotions(&events)?;
    check_settled(&events)?;
    check_environments(&events)?;
    let followed: BTreeSet<Sha256> = events.iter().flat_map(|event| event.parents.iter().copied()).collect();
    let heads = events.iter().map(|event| event.id).filter(|id| !followed.contains(id)).collect();
    Ok(Ledger { events, heads, roles })
}

/// Each event after its parents; of those that could come next, the earlier one, then the smaller id.
fn in_order(mut waiting: BTreeMap<Sha256, Event>) -> Result<Vec<Event>, Refusal> {
    let mut children: BTreeMap<Sha256, Vec<Sha256>> = BTreeMap::new();
    let mut missing: BTreeMap<Sha256, usize> = BTreeMap::new();
    let mut ready = BTreeSet::new();
    for event in waiting.values() {
        for parent in &event.parents {
            let Some(known) = waiting.get(parent) else {
                let said = format!("event {parent} is gone, which event {} follows", event.id);
                return Err(Refusal::new(Code::LedgerParentMissing, said));
            };
            if known.at > event.at {
                let said = format!("event {} is older than event {parent}, which it follows", event.id);
                return Err(Refusal::new(Code::LedgerTime, said));
            }
            children.entry(*parent).or_default().push(event.id);
        }
        missing.insert(event.id, event.parents.len());
        if event.parents.is_empty() {
            ready.insert((event.at, event.id));
        }
    }
    let mut ordered = Vec::with_capacity(waiting.len());
    while let Some((_, id)) = ready.pop_first() {
        ordered.extend(waiting.remove(&id));
        for child in children.remove(&id).unwrap_or_default() {
            let left = missing.entry(child).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                ready.extend(waiting.get(&child).map(|event| (event.at, event.id)));
            }
        }
    }
    Ok(ordered)
}

fn check_genesis(events: &[Event], trusted: Option<Sha256>) -> Result<(), Refusal> {
    let wrong = |why: String| Err(Refusal::new(Code::LedgerGenesis, why));
    let Some(first) = events.first() else { return wrong("it has no event".into()) };
    if !matches!(first.body, Body::RolesSet(_)) {
        return wrong("its first event does not say who may do what".into());
    }
    if let Some(other) = events.iter().skip(1).find(|event| event.parents.is_empty()) {
        return wrong(format!("it has two beginnings, {} and {}", first.id, other.id));
    }
    match trusted {
        Some(trusted) if trusted != first.id => {
            wrong(format!("it begins with {}, and {trusted} is trusted", first.id))
        }
        _ => Ok(()),
    }
}

/// Every event is signed by a key that had the role at that point. Gives the roles in force at the end.
fn check_actors(events: &[Event]) -> Result<Roles, Refusal> {
    // The roles form one line, so that of two the later one is known.
    let mut line: Vec<&Roles> = Vec::new();
    let mut at: BTreeMap<Sha256, usize> = BTreeMap::new();
    for event in events {
        let before = event.parents.iter().filter_map(|parent| at.get(parent)).max().copied();
        let own = match &event.body {
            Body::RolesSet(roles) => {
                roles.check().map_err(|refusal| Refusal { code: Code::LedgerEventInvalid, ..refusal })?;
                Some(roles)
            }
            _ => None,
        };
        let Some(judge) = before.and_then(|before| line.get(before).copied()).or(own) else { continue };
        let role = event.body.role();
        if !judge.has(event.actor, role) {
            let said = format!(
                "event {} of kind {} is by key {}, which is not `{}`",
                event.id,
                event.body.kind(),
                event.actor,
                role.as_str()
            );
            return Err(Refusal::new(Code::LedgerSignature, said));
        }
        let key = judge.key(event.actor);
        if !key.is_some_and(|key| event.is_signed_by(&key)) {
            let said = format!("the signature of event {} does not verify", event.id);
            return Err(Refusal::new(Code::LedgerSignature, said));
        }
        let now = match own {
            None => before.unwrap_or_default(),
            Some(roles) => {
                if before.map_or(0, |before| before + 1) != line.len() {
                    let said = format!("event {} changes roles that were changed beside it", event.id);
                    return Err(Refusal::new(Code::LedgerConflict, said));
                }
                line.push(roles);
                line.len() - 1
            }
        };
        at.insert(event.id, now);
    }
    line.last()
        .map(|roles| (*roles).clone())
        .ok_or_else(|| Refusal::new(Code::LedgerGenesis, "it does not say who may do what"))
}
