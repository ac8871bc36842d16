//! What follows from bundles by the diff and the judge.

use std::collections::BTreeMap;

use estoppel_bundle::Bundle;
use estoppel_evidence::Sha256;
use estoppel_incident::{Compared, Derive, Given};
use serde_json::Value;

use crate::output::Failure;
use crate::{diff, recorded, regress};

pub struct Derived;

impl Derive for Derived {
    fn difference(&self, before: &[u8], after: &[u8]) -> Result<Vec<u8>, String> {
        diff::schemas(before, after)
    }

    fn compare(&self, before: &[u8], after: &[u8]) -> Result<Compared, String> {
        diff::known_of_schemas(before, after)
    }

    fn judge_again(&self, policy: &[u8], given: &Given) -> Result<Vec<Value>, String> {
        let failed = |failure: Failure| failure.message;
        let text = String::from_utf8_lossy(policy).into_owned();
        let current = recorded::retrial(Some(text), &Sha256::of(policy).to_string()).map_err(failed)?;
        let bundle = Bundle::from_zip(given.bundle.as_slice()).map_err(|error| error.to_string())?;
        let mut entries = bundle.entries().map_err(|error| error.to_string())?;
        let (mut policies, mut rows) = (BTreeMap::new(), Vec::new());
        while let Some(entry) = entries.next().map_err(|error| error.to_string())? {
            let receipt: Value = serde_json::from_slice(entry.line).unwrap_or_default();
            let Some(hash) = receipt["policy"]["hash"].as_str().filter(|_| receipt["kind"] == "call") else {
                continue;
            };
            if !policies.contains_key(hash) {
                let own = recorded::retrial(recorded::policy_text(&bundle, hash), hash).map_err(failed)?;
                policies.insert(hash.to_owned(), own);
            }
            let row = policies.get(hash).and_then(|own| regress::again(&receipt, &bundle, (&current, own)));
            rows.extend(row.map(without_nulls));
        }
        Ok(rows)
    }
}

/// Evidence documents hold none.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}
