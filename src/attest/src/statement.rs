//! The statement: what is said, and its signature.

use estoppel_evidence::envelope::{STATEMENT_TYPE, base64, sign};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, PublicKey, Sha256, Signer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::assess::Assessment;
use crate::error::AttestError;
use crate::evidence::Evidence;
use crate::framework::Framework;

/// Predicate type of the statement.
pub const PREDICATE: &str = "urn:estoppel:attestation:v0";

/// The program that attests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Of its file.
    pub digest: Sha256,
    pub name: String,
    pub version: String,
}

/// What the caller knows.
#[derive(Clone, Debug)]
pub struct Circumstances {
    pub id: CallId,
    pub made: UnixMicros,
    pub tool: Tool,
}

/// A signed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The envelope, canonical JSON: the file whose digest is cited.
    pub bytes: Vec<u8>,
    /// What is signed.
    pub document: Value,
}

impl Statement {
    /// Says what the evidence shows of the framework, and signs it.
    ///
    /// # Errors
    /// [`AttestError::Empty`] without evidence, [`AttestError::Shared`], [`AttestError::Key`].
    pub fn sign(
        framework: &Framework,
        evidence: &Evidence,
        circumstances: &Circumstances,
        signer: &dyn Signer,
    ) -> Result<Self, AttestError> {
        let key = signer.public();
        let document = document(framework, evidence, circumstances, key)?;
        let bytes = sign(STATEMENT_TYPE, &canonical(&document)?, signer)?;
        Ok(Self { bytes, document })
    }

    /// Of the file.
    pub fn digest(&self) -> Sha256 {
        Sha256::of(&self.bytes)
    }

    pub fn predicate(&self) -> &Value {
        &self.document["predicate"]
    }
}

pub(crate) fn canonical(document: &Value) -> Result<Vec<u8>, AttestError> {
    serde_json_canonicalizer::to_vec(document).map_err(|error| AttestError::Form(error.to_string()))
}

/// The statement, which follows from what it is given.
pub(crate) fn document(
    framework: &Framework,
    evidence: &Evidence,
    circumstances: &Circumstances,
    key: &PublicKey,
) -> Result<Value, AttestError> {
    if evidence.runs().is_empty() {
        return Err(AttestError::Empty);
    }
    if evidence.has_key(&key.id().to_string()) {
        return Err(AttestError::Shared(key.id().to_string()));
    }
    let assessment = Assessment::new(framework, evidence, circumstances.made);
    let controls: Vec<Value> = assessment.rows.iter().map(|row| row.document()).collect();
    let bundles: Vec<Value> = evidence.runs().iter().map(|run| run.document()).collect();
    let subjects: Vec<Value> = evidence
        .runs()
        .iter()
        .map(|run| json!({ "digest": { "sha256": run.archive.hex() }, "name": format!("{}.pef.zip", run.run) }))
        .collect();
    let mut predicate = json!({
        "bundles": bundles,
        "clock": "system",
        "controls": controls,
        "counts": assessment.counts(),
        "evidence": assessment.index(),
        "framework": {
            "applies": framework.applies,
            "digest": framework.digest.to_string(),
            "edition": framework.edition,
            "id": framework.id,
            "kind": framework.kind,
            "source": framework.source,
            "title": framework.title,
        },
        "id": circumstances.id,
        "key": { "alg": key.alg(), "kid": key.id().to_string(), "spki": base64(key.spki()) },
        "made": circumstances.made.to_string(),
        "tool": circumstances.tool,
        "v": "attestation/v0",
    });
    for (name, member) in evidence.cited.document() {
        predicate[name] = member;
    }
    if let Some(trust) = evidence.trust() {
        predicate["trust"] = trust.to_string().into();
    }
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": predicate,
        "predicateType": PREDICATE,
        "subject": subjects,
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use estoppel_evidence::SoftKey;

    use super::*;
    use crate::evidence::tests::published;

    pub(crate) fn key() -> SoftKey {
        SoftKey::ed25519(&[21; 32])
    }

    pub(crate) fn framework(kind: &str, rows: &str) -> Framework {
        let head = format!(
            "id = \"x\"\ntitle = \"X\"\nedition = \"1\"\nkind = \"{kind}\"\nsource = \"s\"\nlicence = \"l\"\n\
             [[applies]]\nfrom = \"2026-01-01\"\nwhat = \"all\"\n"
        );
        Framework::parse(format!("{head}{rows}").as_bytes()).unwrap()
    }

    pub(crate) fn circumstances() -> Circumstances {
        Circumstances {
            id: "01980000-0000-7000-8000-000000000001".parse().unwrap(),
            made: UnixMicros::parse("2026-11-22T03:00:00.000000Z").unwrap(),
            tool: Tool { digest: Sha256::of(b"tool"), name: "estoppel".into(), version: "0.1.0".into() },
        }
    }

    pub(crate) fn signed(framework: &Framework) -> Statement {
        Statement::sign(framework, &published(), &circumstances(), &key()).unwrap()
    }

    #[test]
    fn every_shipped_framework_gives_a_statement_of_the_schema() {
        let text = include_str!("../../../spec/attestation.schema.json");
        let schema = jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap();
        for name in Framework::names() {
            let statement = signed(&Framework::shipped(name).unwrap());
            let faults: Vec<String> =
                schema.iter_errors(&statement.document).map(|error| error.to_string()).collect();
            assert!(faults.is_empty(), "{name}: {faults:?}");
        }
    }

    #[test]
    fn a_statement_that_cites_custody_and_archive_is_of_the_schema_and_names_whom_its_signer_vouches_for() {
        let text = include_str!("../../../spec/attestation.schema.json");
        let schema = jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap();
        let evidence = crate::cited::tests::with_copy("COMPLIANCE", "2033-01-01T00:00:00.000000Z");
        for name in ["pci-dss-4.0.1", "soc2-2017"] {
            let framework = Framework::shipped(name).unwrap();
            let statement = Statement::sign(&framework, &evidence, &circumstances(), &key()).unwrap();
            let faults: Vec<String> =
                schema.iter_errors(&statement.document).map(|error| error.to_string()).collect();
            assert!(faults.is_empty(), "{name}: {faults:?}");
            let predicate = statement.predicate();
            assert_eq!(predicate["custodians"][0]["kid"], predicate["custody"][0]["signers"][0]);
            assert!(predicate["archive"]["copies"][0]["signed"].is_string(), "{predicate:#}");
        }
    }

    #[test]
    fn a_statement_over_a_failed_verification_is_of_the_schema_and_its_copies_say_so() {
        let text = include_str!("../../../spec/attestation.schema.json");
        let schema = jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap();
        let evidence = crate::cited::tests::with_failed();
        let framework = Framework::shipped("soc2-2017").unwrap();
        let statement = Statement::sign(&framework, &evidence, &circumstances(), &key()).unwrap();
        let faults: Vec<String> =
            schema.iter_errors(&statement.document).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?}");
        let list = &statement.predicate()["custody"][0];
        assert_eq!((&list["actions"]["verified"], &list["failed"]["count"]), (&json!(2), &json!(1)));
        assert_eq!(statement.predicate()["bundles"][0]["verdicts"]["integrity"], "ok");
        let page = crate::pdf(&statement);
        let page = String::from_utf8_lossy(&page);
        for told in ["VERIFICATION FAILED", "1 of 2 verifications", "ZIP_FORM"] {
            assert!(page.contains(told), "{told}");
        }
        let results: Value = serde_json::from_slice(&crate::oscal(&statement).unwrap()).unwrap();
        let observations = results["assessment-results"]["results"][0]["observations"].as_array().unwrap();
        let first = &observations[0];
        assert_eq!(first["title"], format!("Verifications of run {} failed", list["run"].as_str().unwrap()));
        let props = first["props"].as_array().unwrap();
        assert!(props.iter().any(|prop| prop["name"] == "state" && prop["value"] == "failed"), "{props:?}");
        assert!(first["description"].as_str().unwrap().contains("ZIP_FORM"), "{first}");

        let passed = crate::cited::tests::with_copy("COMPLIANCE", "2033-01-01T00:00:00.000000Z");
        let passed = Statement::sign(&framework, &passed, &circumstances(), &key()).unwrap();
        assert!(!String::from_utf8_lossy(&crate::pdf(&passed)).contains("VERIFICATION FAILED"));
    }

    #[test]
    fn without_evidence_or_with_a_key_of_the_evidence_nothing_is_signed() {
        let framework = Framework::shipped("soc2-2017").unwrap();
        let nothing = Statement::sign(&framework, &Evidence::default(), &circumstances(), &key());
        assert!(matches!(nothing, Err(AttestError::Empty)));
        let evidence = published();
        let kid = evidence.keys().next().unwrap();
        assert!(evidence.has_key(kid) && !evidence.has_key(&key().public().id().to_string()));
    }

    #[test]
    fn a_control_that_lacks_its_evidence_fails_and_names_it() {
        let rows = "[[control]]\nid = \"1\"\nabout = \"a\"\nevidence = [\"calls\"]\nchecks = [\"callers_are_known\"]\n";
        let framework = framework("assessment", rows);
        let evidence = crate::evidence::tests::with(&[json!({ "kind": "run.open" })]);
        let statement = Statement::sign(&framework, &evidence, &circumstances(), &key()).unwrap();
        let control = &statement.predicate()["controls"][0];
        assert_eq!((&control["result"], &control["state"]), (&json!("fail"), &json!("no_evidence")));
        assert_eq!(control["checks"][0]["lacks"], "calls");
    }
}
