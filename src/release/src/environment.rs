//! Where releases run, as the ledger was told: a pointer of each environment, moved by signed events.
//!
//! Nothing is deployed here. Whoever does that says so, and whoever reads the ledger knows what should run where.

use std::collections::BTreeMap;

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{KeyId, Sha256};

use crate::code::{Code, Refusal};
use crate::generation::StageName;
use crate::git::ObjectId;
use crate::ledger::{Body, EnvironmentSet, Event, Hand, Ledger, Role, Roles, State, Store};
use crate::promotion::verify_tag;
use crate::version::Version;

/// Longest name of an environment, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Whether a text names an environment: letters in lower case, digits, `-`, `_` and `.`, a letter or digit first.
pub fn is_name(text: &str) -> bool {
    let is_in = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_in)
        && text.len() <= NAME_BYTES_MAX
        && text.chars().all(|c| is_in(c) || matches!(c, '-' | '_' | '.'))
}

/// What an environment has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The event that put it there.
    pub event: Sha256,
    pub version: Version,
    pub tag: String,
    pub commit: ObjectId,
    pub since: UnixMicros,
    /// The key of who did it.
    pub actor: KeyId,
}

/// Every environment with what it has.
pub fn pointers(ledger: &Ledger) -> BTreeMap<String, Pointer> {
    standing(ledger.events())
}

/// The same of some events, each after those that it follows.
pub(crate) fn standing<'e>(events: impl IntoIterator<Item = &'e Event>) -> BTreeMap<String, Pointer> {
    let mut found: BTreeMap<String, Pointer> = BTreeMap::new();
    let mut released: BTreeMap<&Version, &ObjectId> = BTreeMap::new();
    for event in events {
        let (event_id, since, actor) = (event.id, event.at, event.actor);
        let pointer = |version: &Version, tag: String, commit: &ObjectId| Pointer {
            event: event_id,
            version: version.clone(),
            tag,
            commit: commit.clone(),
            since,
            actor,
        };
        match &event.body {
            Body::PromotionFinished(body) => {
                released.insert(&body.version, &body.commit);
            }
            Body::EnvironmentSet(body) => {
                let now = pointer(&body.version, body.tag.clone(), &body.commit);
                found.insert(body.environment.clone(), now);
            }
            Body::RolledBack(body) => {
                for environment in body.environments.keys() {
                    let Some(commit) = released.get(&body.to) else { continue };
                    found.insert(environment.clone(), pointer(&body.to, body.to.tag(), commit));
                }
            }
            _ => {}
        }
    }
    found
}

/// Says that an environment has a release, or what came to a stage: by its version, as the tag has it.
///
/// # Errors
/// `ENVIRONMENT_INVALID`, `STATE_INVALID`: it was not promoted, not far enough for this environment, was taken back or is
/// there already. `TAG_FORGED`.
pub fn set(
    store: &Store,
    hand: &Hand<'_>,
    environment: &str,
    release: &Version,
) -> Result<(EnvironmentSet, Sha256), Refusal> {
    let invalid = |why: String| Refusal::new(Code::StateInvalid, why);
    demand_name(environment)?;
    let mut done = None;
    let appended = store.append(hand, &mut |known| {
        let ledger = known.ledger;
        let tag = release.tag();
        let (event, version, stage) =
            promoted_as(ledger, &tag).ok_or_else(|| invalid(unpromoted(ledger, &tag)))?;
        let state = ledger.state(version);
        if let Some(state @ (State::RolledBack | State::Abandoned)) = state {
            let to = ledger.rolled_back(version).map(|(_, back)| format!(" to {}", back.to));
            let said = format!(
                "{version} is {}{}, and does not go out any more; give `{environment}` another version",
                state.as_str(),
                to.unwrap_or_default()
            );
            return Err(invalid(said));
        }
        let asked = ledger.roles().stage_of(environment);
        if stage < asked {
            let stage_named = if asked == StageName::Final { String::new() } else { format!(" --stage {asked}") };
            let said = format!(
                "`{environment}` takes what came to {asked}, and `{tag}` is at {stage}; promote it further (`estoppel promote \
                 {version}{stage_named}`), or let an owner bind the environment lower (`estoppel environment bind {environment} --stage {stage}`)"
            );
            return Err(invalid(said));
        }
        let (_, _, commit) = verify_tag(store.git(), ledger, &tag)?;
        let previous = pointers(ledger).remove(environment);
        if previous.as_ref().is_some_and(|pointer| pointer.tag == tag && pointer.commit == commit) {
            return Err(invalid(format!("`{environment}` has `{tag}` already; there is nothing to do")));
        }
        let body = EnvironmentSet {
            commit,
            environment: environment.to_owned(),
            previous: previous.map(|pointer| pointer.event),
            promoted: event.id,
            tag,
            version: version.clone(),
        };
        done = Some(body.clone());
        Ok(Body::EnvironmentSet(body).into())
    })?;
    done.map(|body| (body, appended.event))
        .ok_or_else(|| Refusal::new(Code::LedgerBusy, "nothing was recorded"))
}

/// Changes from which stage on an environment takes what was promoted.
///
/// # Errors
/// `ENVIRONMENT_INVALID`.
pub fn bind(roles: &mut Roles, environment: &str, stage: StageName) -> Result<(), Refusal> {
    demand_name(environment)?;
    roles.bind(environment, stage)
}

fn demand_name(environment: &str) -> Result<(), Refusal> {
    let wrong = || {
        let said = format!(
            "an environment is named by 1 to {NAME_BYTES_MAX} of a-z, 0-9, `-`, `_` and `.`, a letter or digit first"
        );
        Refusal::new(Code::EnvironmentInvalid, said)
    };
    is_name(environment).then_some(()).ok_or_else(wrong)
}

/// Why nothing has this tag that an environment could have, and what to do.
fn unpromoted(ledger: &Ledger, tag: &str) -> String {
    let listed = "`estoppel status` lists what there is";
    match ledger.tags().get(tag).map(|event| &event.body) {
        Some(Body::EvolutionFinished(run)) => format!(
            "`{tag}` is a candidate of {version}, which no promotion has brought to a stage yet; `estoppel promote {version} --explain` says what \
             it lacks",
            version = run.version
        ),
        Some(Body::PromotionFinished(_) | Body::StagePromoted(_)) => {
            format!(
                "`{tag}` was promoted by a key that is no `releaser` any more; promote another version or commit"
            )
        }
        _ => format!("`{tag}` was promoted neither to a stage nor as a release; {listed}"),
    }
}

/// The event that promoted what has this tag, to the highest stage.
fn promoted_as<'l>(ledger: &'l Ledger, tag: &str) -> Option<(&'l Event, &'l Version, StageName)> {
    let events = ledger.events().iter().filter_map(|event| match &event.body {
        Body::PromotionFinished(body) if body.tag == tag => Some((event, &body.version, StageName::Final)),
        Body::StagePromoted(body) if body.tag == tag => Some((event, &body.version, body.stage)),
        _ => None,
    });
    let known = |event: &Event| ledger.roles().has(event.actor, Role::Releaser);
    events.filter(|(event, _, _)| known(event)).max_by_key(|(_, _, stage)| *stage)
}

#[cfg(test)]
mod tests;
