//! Judging an attestation: it is made again from the bundles, and compared.

use estoppel_evidence::envelope::from_base64;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{PublicKey, Sha256};
use estoppel_verify::read_statement;
use serde_json::Value;

use crate::cited::Further;
use crate::error::AttestError;
use crate::evidence::Evidence;
use crate::framework::Framework;
use crate::statement::{Circumstances, Statement, canonical, document};

/// An attestation that holds.
#[derive(Debug)]
pub struct Verified {
    pub statement: Statement,
    /// The key that signed it.
    pub kid: String,
}

/// The framework that an attestation says it is about, by its id. Nothing of it is verified yet.
///
/// # Errors
/// [`AttestError::Form`].
pub fn framework_of(bytes: &[u8]) -> Result<String, AttestError> {
    let stated = read(bytes)?.0;
    Ok(stated["predicate"]["framework"]["id"].as_str().unwrap_or_default().to_owned())
}

fn read(bytes: &[u8]) -> Result<(Value, String), AttestError> {
    let signed = read_statement(bytes).map_err(AttestError::Form)?;
    let stated: Value =
        serde_json::from_slice(&signed.payload).map_err(|error| AttestError::Form(error.to_string()))?;
    Ok((stated, signed.key.hex()))
}

/// Judges an attestation by bundles that were verified now, and by what was given beside them, as far as the attestation is
/// about it. `signer` is the key that the reader knows its signer by.
///
/// # Errors
/// [`AttestError`], the first that is wrong.
pub fn verify(
    bytes: &[u8],
    framework: &Framework,
    evidence: &mut Evidence,
    further: &Further,
    signer: Option<&PublicKey>,
) -> Result<Verified, AttestError> {
    let (stated, kid) = read(bytes)?;
    let circumstances = circumstances(&stated["predicate"])?;
    if signer.is_some_and(|signer| signer.id().to_string() != kid) {
        return Err(AttestError::Untrusted { found: kid });
    }
    let predicate = &stated["predicate"];
    evidence.cite_as(further, predicate)?;
    evidence.cited.check_whole(predicate)?;
    let key = key(predicate).ok_or_else(|| AttestError::Form("it does not state its key".into()))?;
    let again = document(framework, evidence, &circumstances, &key)?;
    if canonical(&again)? != canonical(&stated)? {
        return Err(AttestError::Mismatch { at: first_difference(&stated, &again, String::new()) });
    }
    Ok(Verified { statement: Statement { bytes: bytes.to_vec(), document: stated }, kid })
}

fn circumstances(predicate: &Value) -> Result<Circumstances, AttestError> {
    let wrong = |name: &str, why: &str| AttestError::Form(format!("`/predicate/{name}` {why}"));
    let text = |name: &str| predicate[name].as_str();
    let tool = &predicate["tool"];
    if tool["digest"].as_str().and_then(Sha256::parse).is_none() {
        return Err(wrong("tool/digest", "is no `sha256:` and 64 hex digits"));
    }
    Ok(Circumstances {
        id: text("id").and_then(|id| id.parse().ok()).ok_or_else(|| wrong("id", "is no UUID"))?,
        made: text("made").and_then(UnixMicros::parse).ok_or_else(|| wrong("made", "is no time"))?,
        tool: serde_json::from_value(tool.clone()).map_err(|error| wrong("tool", &error.to_string()))?,
    })
}

fn key(predicate: &Value) -> Option<PublicKey> {
    PublicKey::from_spki(&from_base64(predicate["key"]["spki"].as_str()?)?).ok()
}

/// JSON pointer to the first place at which two documents differ.
fn first_difference(one: &Value, other: &Value, at: String) -> String {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let names = one.keys().chain(other.keys());
            let mut differ = names.filter(|name| one.get(*name) != other.get(*name));
            match differ.next() {
                Some(name) => match (one.get(name), other.get(name)) {
                    (Some(one), Some(other)) => first_difference(one, other, format!("{at}/{name}")),
                    _ => format!("{at}/{name}"),
                },
                None => at,
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let differ = one.iter().zip(other).enumerate().find(|(_, (one, other))| one != other);
            match differ {
                Some((index, (one, other))) => first_difference(one, other, format!("{at}/{index}")),
                None => at,
            }
        }
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/attestation-vectors");

    /// Each vector: a folder with `attestation.json`, and `expect.json` with the bundle, the framework and the code.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "vectors are files; the crate itself reads none")]
    fn every_vector_is_answered_as_it_says() {
        let mut seen = 0;
        for folder in std::fs::read_dir(VECTORS).unwrap() {
            let folder = folder.unwrap().path();
            if !folder.is_dir() {
                continue;
            }
            let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
            let expect: Value = serde_json::from_slice(&read("expect.json")).unwrap();
            let beside = |name: &str| std::fs::read(folder.join(expect[name].as_str().unwrap())).unwrap();
            let framework = Framework::parse(&beside("framework")).unwrap();
            let (bundle, trust) = (beside("bundle"), beside("trust"));
            let options =
                estoppel_verify::Options { trust: Some(&trust), ..estoppel_verify::Options::default() };
            let mut evidence = Evidence::default();
            let given =
                crate::Given { name: "b".into(), bytes: &bundle, beside: &mut estoppel_verify::NoExternals };
            evidence.add(given, &options).unwrap();
            let signer = expect["signer"]
                .as_str()
                .map(|text| PublicKey::from_spki(&from_base64(text).unwrap()).unwrap());
            let answer = verify(
                &read("attestation.json"),
                &framework,
                &mut evidence,
                &Further::default(),
                signer.as_ref(),
            );
            let code = answer.as_ref().err().map(AttestError::code);
            assert_eq!(json!(code), expect["reason"], "{}: {:?}", folder.display(), answer.err());
            seen += 1;
        }
        assert!(seen >= 8, "{seen} vectors");
    }

    /// JSON pointers to every value; of lists only to the first and last item.
    fn places(value: &Value, at: String, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| places(value, format!("{at}/{name}"), found));
            }
            Value::Array(items) => {
                let ends = BTreeSet::from([0, items.len().saturating_sub(1)]);
                let ends = ends.into_iter().filter_map(|index| Some((index, items.get(index)?)));
                ends.for_each(|(index, value)| places(value, format!("{at}/{index}"), found));
            }
            _ => {}
        }
        found.push(at);
    }

    #[test]
    fn what_the_schema_refuses_is_refused_however_it_was_signed() {
        use crate::statement::tests::{circumstances, key};
        let text = include_str!("../../../spec/attestation.schema.json");
        let schema = jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap();
        let further = crate::cited::tests::further("COMPLIANCE", "2033-01-01T00:00:00.000000Z");
        let mut refused = 0;
        let row = "[[control]]\nid = \"1\"\nabout = \"a\"\nevidence = [\"calls\"]\n";
        for (name, more) in [("assessment", "checks = [\"evidence_of_6_years\"]\n"), ("mapping", "")] {
            let framework = crate::statement::tests::framework(name, &format!("{row}{more}"));
            let mut evidence = crate::evidence::tests::published();
            evidence.cite(&further).unwrap();
            let statement = Statement::sign(&framework, &evidence, &circumstances(), &key()).unwrap();
            let mut judge = |document: &Value| {
                let bytes = estoppel_evidence::envelope::sign(
                    estoppel_evidence::envelope::STATEMENT_TYPE,
                    &canonical(document).unwrap(),
                    &key(),
                );
                verify(&bytes.unwrap(), &framework, &mut evidence, &further, None)
            };
            assert!(judge(&statement.document).is_ok(), "{name}");
            let mut found = Vec::new();
            places(&statement.document, String::new(), &mut found);
            assert!(found.len() > 90, "{found:?}");
            for at in found {
                let mut forged = Vec::new();
                for other in [json!("x"), json!(-1), json!(null)] {
                    let mut changed = statement.document.clone();
                    *changed.pointer_mut(&at).unwrap() = other;
                    forged.push(changed);
                }
                let mut more = statement.document.clone();
                if let Some(table) = more.pointer_mut(&at).unwrap().as_object_mut() {
                    table.insert("certified".into(), "yes".into());
                    forged.push(more);
                }
                if let Some((above, last)) = at.rsplit_once('/') {
                    let mut less = statement.document.clone();
                    if let Some(table) = less.pointer_mut(above).unwrap().as_object_mut() {
                        table.remove(last);
                        forged.push(less);
                    }
                }
                for forged in forged.iter().filter(|forged| !schema.is_valid(forged)) {
                    assert!(
                        judge(forged).is_err(),
                        "{name}{at}: {:#}",
                        forged.pointer(&at).unwrap_or(&Value::Null)
                    );
                    refused += 1;
                }
            }
            let mut any = statement.document.clone();
            any["predicate"]["tool"]["digest"] = json!("sha256:any");
            let error = judge(&any).unwrap_err();
            assert_eq!(error.code(), "ATTESTATION_FORM");
            assert!(error.to_string().contains("`/predicate/tool/digest`"), "{error}");
        }
        assert!(refused > 500, "{refused}");
    }

    #[test]
    fn the_first_difference_is_named() {
        let one = json!({ "a": [1, { "b": 2 }], "c": 3 });
        for (other, at) in [
            (json!({ "a": [1, { "b": 9 }], "c": 3 }), "/a/1/b"),
            (json!({ "a": [1, { "b": 2 }] }), "/c"),
            (json!({ "a": [1], "c": 3 }), "/a"),
        ] {
            assert_eq!(first_difference(&one, &other, String::new()), at);
        }
    }

    #[test]
    fn codes_are_those_of_the_specification() {
        let spec = include_str!("../../../spec/attestation.md");
        for code in [
            "FRAMEWORK_INVALID",
            "FRAMEWORK_UNKNOWN",
            "ATTESTATION_BUNDLE",
            "ATTESTATION_TWICE",
            "ATTESTATION_EMPTY",
            "TRUST_INVALID",
            "ATTESTATION_FORM",
            "ATTESTATION_UNTRUSTED",
            "ATTESTATION_MISMATCH",
            "ATTESTATION_COPY",
            "ATTESTATION_LIMIT",
        ] {
            assert!(spec.contains(&format!("`{code}`")), "{code}");
        }
    }
}
