//! Of which generation the calls of a run were: what they claim, held against the ledger of releases.

use std::collections::BTreeSet;
use std::path::Path;

use estoppel_release::Version;
use estoppel_release::ledger::{Body, Ledger};
use serde_json::{Value, json};

use crate::output::{Failure, plain};

/// What is said of a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Scope {
    /// No call names an evolution: it was of no generation.
    Unscoped,
    /// Calls name evolutions, and nobody has said whose they are.
    Claimed(BTreeSet<String>),
    /// Every call names this one, which the ledger knows.
    Of { generation: Version, evolution: String },
    /// Some calls name an evolution and others none, or they name several, or one that the ledger does not know.
    Mixed(BTreeSet<String>),
}

impl Scope {
    /// By the entries of a run; without a ledger it is what they claim.
    pub fn of<'e>(entries: impl Iterator<Item = &'e Value>, ledger: Option<&Ledger>) -> Self {
        let (mut named, mut is_silent) = (BTreeSet::new(), false);
        for call in entries.filter(|entry| entry["kind"] == "call") {
            match call["claims"]["evolution_id"].as_str() {
                Some(nonce) => {
                    named.insert(nonce.to_owned());
                }
                None => is_silent = true,
            }
        }
        let Some(first) = named.first() else { return Self::Unscoped };
        if is_silent || named.len() > 1 {
            return Self::Mixed(named);
        }
        let Some(ledger) = ledger else { return Self::Claimed(named) };
        let started = ledger.events().iter().find_map(|event| match &event.body {
            Body::EvolutionStarted(run) if run.nonce == *first => Some(run),
            _ => None,
        });
        match started {
            Some(run) => Self::Of { generation: run.version.clone(), evolution: run.evolution.clone() },
            None => Self::Mixed(named),
        }
    }

    pub fn line(&self) -> String {
        let list = |named: &BTreeSet<String>| plain(&named.iter().cloned().collect::<Vec<_>>().join(", "));
        match self {
            Self::Unscoped => "unscoped: no call names an evolution".into(),
            Self::Claimed(named) => {
                format!("claimed: {}; --repo holds it against a ledger", list(named))
            }
            Self::Of { generation, evolution } => format!("{generation}, evolution {evolution}"),
            Self::Mixed(named) => format!("mixed or unknown: {}", list(named)),
        }
    }

    pub fn data(&self) -> Value {
        let (state, generation, evolution, named) = match self {
            Self::Unscoped => ("unscoped", None, None, None),
            Self::Claimed(named) => ("claimed", None, None, Some(named)),
            Self::Of { generation, evolution } => ("known", Some(generation), Some(evolution), None),
            Self::Mixed(named) => ("mixed", None, None, Some(named)),
        };
        json!({ "scope": state, "generation": generation, "evolution": evolution, "named": named })
    }
}

/// The verified ledger of a repository.
pub fn ledger(repository: &Path) -> Result<Ledger, Failure> {
    Ok(crate::ledger::alone(repository)?.read()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(claims: &[Option<&str>]) -> Scope {
        let calls: Vec<Value> = claims
            .iter()
            .map(|nonce| json!({ "kind": "call", "claims": { "evolution_id": nonce } }))
            .chain([json!({ "kind": "run.seal" })])
            .collect();
        Scope::of(calls.iter(), None)
    }

    #[test]
    fn a_run_is_of_a_generation_only_where_every_call_says_so() {
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(scope(&[]), Scope::Unscoped);
        assert_eq!(scope(&[None, None]), Scope::Unscoped);
        assert_eq!(scope(&[Some("a"), Some("a")]), Scope::Claimed(named(&["a"])));
        assert_eq!(scope(&[Some("a"), None]), Scope::Mixed(named(&["a"])));
        assert_eq!(scope(&[Some("a"), Some("b")]), Scope::Mixed(named(&["a", "b"])));
        assert_eq!(Scope::Unscoped.data()["generation"], Value::Null);
        assert!(!scope(&[Some("\u{1b}[2J")]).line().contains('\u{1b}'));
    }
}
