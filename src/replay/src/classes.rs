//! What policies declare of the calls that run again: exact, or within a tolerance (`spec/replay.md`, Determinism).

use std::collections::BTreeMap;
use std::sync::Arc;

use estoppel_bundle::{Bundle, BundlePath, Source};
use estoppel_evidence::Sha256;
use estoppel_policy::{Determinism, PolicyDocument, Tolerance};
use serde_json::Value;

use crate::tolerance::Part;

/// Most bytes of one policy that are read.
pub(crate) const POLICY_BYTES_MAX: u64 = 64 << 20;

/// Where the class of a call is from.
#[derive(Debug, Default)]
pub struct Classes {
    /// One policy for all, in the place of those that judged.
    given: Option<PolicyDocument>,
    /// Those of the bundle that were read; none for one that cannot be.
    sealed: BTreeMap<Sha256, Option<PolicyDocument>>,
    /// Each declaration once.
    known: BTreeMap<Named, Option<Arc<Determinism>>>,
}

/// A policy by its digest, and of a call the route, the operation and the tool.
type Named = (Option<Sha256>, String, String, Option<String>);

impl Classes {
    /// What this policy says, whichever judged.
    pub fn of_policy(policy: PolicyDocument) -> Self {
        Self { given: Some(policy), ..Self::default() }
    }

    /// The digest of the policy that was given; none where those in the bundle are gone by.
    pub fn policy(&self) -> Option<Sha256> {
        self.given.as_ref().map(|policy| Sha256(*policy.hash().as_bytes()))
    }

    /// What is declared of a call. None: nothing, and also where its policy cannot be read.
    pub(crate) fn of<S: Source>(&mut self, bundle: &Bundle<S>, receipt: &Value) -> Option<Arc<Determinism>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let hash = match self.given {
            Some(_) => None,
            None => Some(serde_json::from_value(receipt["policy"]["hash"].clone()).ok()?),
        };
        let (route, operation) = (text(&receipt["request"]["route"]), text(&receipt["operation"]));
        let tool = tool_of(receipt).map(ToOwned::to_owned);
        let key = (hash, route, operation, tool);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let (_, route, operation, tool) = &key;
        let policy = match hash {
            None => self.given.as_ref(),
            Some(hash) => self.sealed.entry(hash).or_insert_with(|| read(bundle, hash)).as_ref(),
        };
        let said = policy.and_then(|policy| policy.determinism(route, operation, tool.as_deref()));
        let said = said.cloned().map(Arc::new);
        self.known.insert(key, said.clone());
        said
    }
}

fn read<S: Source>(bundle: &Bundle<S>, hash: Sha256) -> Option<PolicyDocument> {
    let text = bundle.read(&BundlePath::policy(hash), POLICY_BYTES_MAX).ok()?;
    PolicyDocument::parse(&String::from_utf8(text).ok()?).ok()
}

/// The one tool that a call of MCP calls; none where it calls several.
fn tool_of(receipt: &Value) -> Option<&str> {
    match receipt["facts"]["tools_called"].as_array()?.as_slice() {
        [tool] if receipt["dialect"] == "mcp" => tool.as_str(),
        _ => None,
    }
}

/// What may differ of a part; nothing where the class is E0.
pub(crate) fn rules(class: &Determinism, part: Part) -> &[Tolerance] {
    match (class, part) {
        (Determinism::E0, _) => &[],
        (Determinism::E1(tolerances), Part::Answer) => &tolerances.answer,
        (Determinism::E1(tolerances), Part::Request) => &tolerances.request,
        (Determinism::E1(tolerances), Part::Rows) => &tolerances.rows,
    }
}
