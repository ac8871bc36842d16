//! What an auditor is told of one event.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{KeyId, Sha256};
use serde::Serialize;
use serde_json::Value;

use crate::ledger::{Body, Event, Ledger, Roles};

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

/// What `said` has in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wording {
    /// Texts of the event alone, as exports had it first.
    Texts,
    /// What follows from its kind as well.
    Whole,
}

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
    /// With what its texts say.
    pub(crate) fn of(ledger: &'l Ledger, event: &'l Event) -> Self {
        Self::told(ledger, event, None, Wording::Texts)
    }

    /// `before` are the roles that a change of roles changes.
    pub(super) fn told(
        ledger: &'l Ledger,
        event: &'l Event,
        before: Option<&Roles>,
        wording: Wording,
    ) -> Self {
        let document = event.document();
        let body = document.get("body").cloned().unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let facts = FACTS.iter().filter_map(|name| Some(format!("{name} {}", body.get(name)?.as_str()?)));
        let stood_at = event.stood_at.as_ref().map(ToString::to_string);
        let further = match (wording, &event.body) {
            (Wording::Texts, _) => Vec::new(),
            (Wording::Whole, Body::RolesSet(roles)) => changed(before, roles),
            (Wording::Whole, Body::PromotionRefused(body)) => refusing(&body.gates).into_iter().collect(),
            (Wording::Whole, _) => Vec::new(),
        };
        let facts = facts.chain(further);
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

/// What a change of roles changes.
fn changed(before: Option<&Roles>, now: &Roles) -> Vec<String> {
    let rows = |roles: Option<&Roles>| {
        let rows = roles.into_iter().flat_map(Roles::rows);
        rows.map(|(key, name, roles)| (key, (name.to_owned(), roles.clone()))).collect::<BTreeMap<_, _>>()
    };
    let (was, is) = (rows(before), rows(Some(now)));
    let keys: BTreeSet<_> = was.keys().chain(is.keys()).collect();
    let mut said = Vec::new();
    for key in keys.into_iter().filter(|key| was.get(key) != is.get(key)) {
        match (is.get(key), was.get(key)) {
            (Some((name, roles)), _) => {
                let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
                said.push(format!("{name} {key} is {}", roles.join(", ")));
            }
            (None, Some((name, _))) => said.push(format!("{name} {key} has no role any more")),
            (None, None) => {}
        }
    }
    let none = BTreeMap::new();
    let was = before.map_or(&none, Roles::environments);
    let environments: BTreeSet<&String> = was.keys().chain(now.environments().keys()).collect();
    let other = environments.into_iter().filter(|name| was.get(*name) != now.environments().get(*name));
    said.extend(other.map(|name| format!("{name} takes {}", now.stage_of(name))));
    said
}

/// The gates that refused.
fn refusing(gates: &[Value]) -> Option<String> {
    let word = |gate: &Value, name: &str| gate.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    let refused = gates
        .iter()
        .filter(|gate| word(gate, "state").is_some_and(|state| matches!(state.as_str(), "fail" | "missing")));
    let names: Vec<String> = refused.filter_map(|gate| word(gate, "gate")).collect();
    (!names.is_empty()).then(|| format!("refused by {}", names.join(", ")))
}
