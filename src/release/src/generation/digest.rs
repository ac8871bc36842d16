//! What a generation and each of its changes are known by (spec/generation.md section 3).

use std::collections::BTreeSet;

use estoppel_evidence::{Sha256, canonical};
use serde_json::{Map, Value};

use super::{Change, Generation, Step, StepId};

impl Generation {
    /// The digest of the whole contract, as sealing fixes it.
    pub fn digest(&self) -> Sha256 {
        Sha256::of(&self.canonical)
    }

    /// The digest of a change with everything that has to be shown of it.
    pub fn change_digest(&self, change: &Change) -> Sha256 {
        let steps: BTreeSet<&StepId> = self.steps_for(change).into_iter().map(|step| &step.id).collect();
        let written = |kind: &str, id: &str| {
            let mut rows = self.document.get(kind).and_then(Value::as_array).into_iter().flatten();
            rows.find(|row| row.get("id").is_some_and(|found| found == id)).cloned().unwrap_or_default()
        };
        let steps: Vec<Value> = steps
            .into_iter()
            .map(|id| {
                let mut step = written("steps", id.as_str());
                step.as_object_mut().map(|step| step.remove("proves"));
                step
            })
            .collect();
        let mut covered = Map::new();
        covered.insert("change".into(), written("changes", change.id.as_str()));
        covered.insert("steps".into(), Value::Array(steps));
        let policies = self.document.get("change_policies");
        if let Some(policy) = policies.and_then(|policies| policies.get(change.kind.as_str())) {
            covered.insert("policy".into(), policy.clone());
        }
        let canonical = canonical::foreign(Value::Object(covered).to_string().as_bytes());
        Sha256::of(&canonical.expect("a part of what has a canonical form has one"))
    }

    /// The steps that prove a change and all that these need, in the order of the file.
    pub fn steps_for(&self, change: &Change) -> Vec<&Step> {
        let mut wanted: BTreeSet<&StepId> =
            self.steps.iter().filter(|step| step.proves.takes(&change.id)).map(|step| &step.id).collect();
        loop {
            let of_wanted = self.steps.iter().filter(|step| wanted.contains(&step.id));
            let needed: Vec<&StepId> = of_wanted.flat_map(|step| &step.needs).collect();
            let before = wanted.len();
            wanted.extend(needed);
            if wanted.len() == before {
                return self.steps.iter().filter(|step| wanted.contains(&step.id)).collect();
            }
        }
    }
}
