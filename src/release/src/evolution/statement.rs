//! The signed result: an in-toto statement with the predicate test-result, version 0.1.

use estoppel_evidence::envelope::{self, STATEMENT_TYPE};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::{Signer, canonical};
use serde_json::{Value, json};

use crate::git::ObjectId;
use crate::ledger::{EvolutionStarted, Outcome, StepOutcome, StepResult};

/// The type of the statement.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The predicate.
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// Signs any JSON value as an in-toto statement; the envelope, as JSON.
pub(crate) fn sign(statement: &Value, signer: &dyn Signer) -> Result<Value, KeyError> {
    let failed = |what: String| KeyError::Signer { what };
    let payload =
        canonical::foreign(statement.to_string().as_bytes()).map_err(|error| failed(error.to_string()))?;
    let bytes = envelope::sign(STATEMENT_TYPE, &payload, signer)?;
    serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))
}

/// What is said of an evolution.
pub(super) fn of(start: &EvolutionStarted, tree: &ObjectId, result: Outcome, steps: &[StepResult]) -> Value {
    let named = |wanted: &dyn Fn(StepOutcome) -> bool| -> Vec<&str> {
        steps.iter().filter(|step| wanted(step.outcome)).map(|step| step.id.as_str()).collect()
    };
    json!({
        "_type": STATEMENT,
        "predicate": {
            "configuration": [{
                "annotations": {
                    "changes": start.changes, "evolution": start.evolution, "nonce": start.nonce, "version": start.version,
                },
                "digest": { "sha256": start.contract.hex() },
                "name": "contract",
            }],
            "failedTests": named(&|outcome| !matches!(outcome, StepOutcome::Passed | StepOutcome::Skipped)),
            "passedTests": named(&|outcome| outcome == StepOutcome::Passed),
            "result": result.as_str(),
        },
        "predicateType": TEST_RESULT,
        "subject": [
            { "digest": { "gitCommit": start.commit }, "name": "commit" },
            { "digest": { "gitTree": tree }, "name": "tree" },
        ],
    })
}
