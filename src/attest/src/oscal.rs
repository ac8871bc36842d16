//! The statement as OSCAL assessment results, for programs that read these. It follows from the statement and is not signed.

use estoppel_evidence::Sha256;
use serde_json::{Value, json};

use crate::error::AttestError;
use crate::statement::{Statement, canonical};

/// The version of OSCAL whose model this is of.
const OSCAL_VERSION: &str = "1.1.2";
/// Name space of our properties.
const SPACE: &str = "urn:estoppel:attestation:v0";

/// Ids that follow from the statement.
struct Ids(String);

impl Ids {
    /// A UUID of version 5 form, from the SHA-256 of the statement and the name.
    fn of(&self, name: &str) -> String {
        let Sha256(digest) = Sha256::of(format!("{}\n{name}", self.0).as_bytes());
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        let [.., seventh, _, ninth, _, _, _, _, _, _, _] = &mut bytes;
        *seventh = *seventh & 0x0f | 0x50;
        *ninth = *ninth & 0x3f | 0x80;
        let hex = estoppel_evidence::hash::hex(&bytes);
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
    }
}

/// An id as OSCAL writes them; the control's own stands beside it as a label.
fn token(framework: &str, control: &str) -> String {
    let plain = |text: &str| -> String {
        text.chars()
            .map(|char| if char.is_ascii_alphanumeric() || ".-_".contains(char) { char } else { '-' })
            .collect()
    };
    format!("_{}_{}", plain(framework), plain(control))
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": name, "ns": SPACE, "value": value })
}

/// Assessment results, canonical JSON.
///
/// # Errors
/// [`AttestError::Form`] if the statement cannot be written so.
pub fn oscal(statement: &Statement) -> Result<Vec<u8>, AttestError> {
    let predicate = statement.predicate();
    let framework = &predicate["framework"];
    let ids = Ids(statement.digest().to_string());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (made, framework_id) = (text(&predicate["made"]), text(&framework["id"]));
    let title = format!("{} {}", text(&framework["title"]), text(&framework["edition"]));
    let mut selected = Vec::new();
    let mut observations = failed_verifications(predicate, &made, &ids);
    let mut findings = Vec::new();
    for control in predicate["controls"].as_array().into_iter().flatten() {
        let id = text(&control["id"]);
        let token = token(&framework_id, &id);
        selected.push(json!({ "control-id": token }));
        let observation = ids.of(&format!("observation {id}"));
        observations.push(observe(control, &observation, &token, &made, &ids));
        let state = match control["result"].as_str() {
            Some("pass") => "satisfied",
            Some("fail") => "not-satisfied",
            _ => continue,
        };
        findings.push(json!({
            "description": text(&control["about"]),
            "props": [property("label", &id)],
            "related-observations": [{ "observation-uuid": observation }],
            "target": { "status": { "state": state }, "target-id": token, "type": "objective-id" },
            "title": id,
            "uuid": ids.of(&format!("finding {id}")),
        }));
    }
    let mut result = json!({
        "description": "What sealed bundles show, by the statement that this is a copy of.",
        "observations": observations,
        "reviewed-controls": { "control-selections": [{ "include-controls": selected }] },
        "start": made,
        "title": title,
        "uuid": ids.of("result"),
    });
    if !findings.is_empty() {
        result["findings"] = findings.into();
    }
    canonical(&json!({ "assessment-results": {
        "back-matter": { "resources": resources(statement, &ids) },
        "import-ap": { "href": format!("#{}", ids.of("statement")) },
        "metadata": {
            "last-modified": made,
            "oscal-version": OSCAL_VERSION,
            "title": format!("Attestation of evidence: {title}"),
            "version": text(&predicate["id"]),
        },
        "results": [result],
        "uuid": ids.of("assessment-results"),
    } }))
}

fn observe(control: &Value, uuid: &str, token: &str, made: &str, ids: &Ids) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let word = control["result"].as_str().or(control["state"].as_str()).unwrap_or_default();
    let mut props =
        vec![property("label", &text(&control["id"])), property("control", token), property("state", word)];
    let checks = control["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    props.extend(
        checks.iter().map(|check| {
            property("check", &format!("{}: {}", text(&check["check"]), text(&check["result"])))
        }),
    );
    let evidence: Vec<Value> = control["evidence"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            json!({
                "description": format!("{} {}", row["count"], text(&row["kind"])),
                "href": format!("#{}", ids.of("statement")),
                "props": [property("root", &text(&row["root"]))],
            })
        })
        .collect();
    let mut observation = json!({
        "collected": made,
        "description": text(&control["about"]),
        "methods": [if checks.is_empty() { "EXAMINE" } else { "TEST" }],
        "props": props,
        "uuid": uuid,
    });
    if !evidence.is_empty() {
        observation["relevant-evidence"] = evidence.into();
    }
    observation
}

/// Chains of custody that say that a bundle did not verify where a custodian had it.
fn failed_verifications(predicate: &Value, made: &str, ids: &Ids) -> Vec<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lists = predicate["custody"].as_array().into_iter().flatten();
    let observations = lists.filter(|list| list["failed"].is_object()).map(|list| {
        let (run, failed) = (text(&list["run"]), &list["failed"]);
        let listed: Vec<&Value> = failed["listed"].as_array().into_iter().flatten().collect();
        let evidence: Vec<Value> = listed
            .iter()
            .map(|one| {
                let names =
                    ["anchoring", "authenticity", "completeness", "entry", "found", "integrity", "reason"];
                let stated = names.iter().filter_map(|name| Some(property(name, one[*name].as_str()?)));
                json!({
                    "description": format!("Entry of the chain of custody, {}", text(&one["ts"])),
                    "href": format!("#{}", ids.of("statement")),
                    "props": stated.collect::<Vec<_>>(),
                })
            })
            .collect();
        let last = listed.last().map(|one| {
            let what =
                one["reason"].as_str().or(one["found"].as_str()).unwrap_or("a verdict is none that passes");
            format!("; the last of them {}: {what}", text(&one["ts"]))
        });
        let description = format!(
            "{} of {} verifications by custodians failed{}. The bundle verified when this was made.",
            failed["count"],
            list["actions"]["verified"],
            last.unwrap_or_default()
        );
        json!({
            "collected": made,
            "description": description,
            "methods": ["EXAMINE"],
            "props": [
                property("run", &run),
                property("state", "failed"),
                property("last-verification", &text(&failed["last"])),
            ],
            "relevant-evidence": evidence,
            "title": format!("Verifications of run {run} failed"),
            "uuid": ids.of(&format!("failed verifications {run}")),
        })
    });
    observations.collect()
}

fn resources(statement: &Statement, ids: &Ids) -> Vec<Value> {
    let link = |href: &str, sha256: &str| json!([{ "hashes": [{ "algorithm": "SHA-256", "value": sha256 }], "href": href }]);
    let mut resources = vec![json!({
        "rlinks": link("attestation.json", &statement.digest().hex()),
        "title": "The signed statement",
        "uuid": ids.of("statement"),
    })];
    for subject in statement.document["subject"].as_array().into_iter().flatten() {
        let name = subject["name"].as_str().unwrap_or_default();
        resources.push(json!({
            "rlinks": link(name, subject["digest"]["sha256"].as_str().unwrap_or_default()),
            "title": format!("Sealed bundle {name}"),
            "uuid": ids.of(name),
        }));
    }
    let predicate = statement.predicate();
    let hex = |value: &Value| {
        value.as_str().and_then(|digest| digest.strip_prefix("sha256:")).unwrap_or_default().to_owned()
    };
    let lists = predicate["custody"].as_array().into_iter().flatten().map(|list| {
        let name = format!("{}.pef.zip.custody.ndjson", list["run"].as_str().unwrap_or_default());
        (format!("Chain of custody {name}"), name, hex(&list["digest"]))
    });
    let index = predicate["archive"].is_object().then(|| {
        let digest = hex(&predicate["archive"]["digest"]);
        ("Index of the archive".to_owned(), "archive.ndjson".to_owned(), digest)
    });
    resources.extend(lists.chain(index).map(|(title, name, digest)| {
        json!({ "rlinks": link(&name, &digest), "title": title, "uuid": ids.of(&name) })
    }));
    if let Some(head) = predicate["ledger"]["head"].as_str() {
        let title = "Ledger of releases, by the digest of its heads";
        let props = [property("head", head)];
        resources.push(json!({ "props": props, "title": title, "uuid": ids.of("ledger") }));
    }
    resources
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Framework;
    use crate::statement::tests::signed;

    #[test]
    fn ids_are_of_their_form_each_once_and_follow_from_the_statement() {
        for name in Framework::names() {
            let framework = Framework::shipped(name).unwrap();
            let statement = signed(&framework);
            let bytes = oscal(&statement).unwrap();
            assert_eq!(bytes, oscal(&statement).unwrap(), "{name}");
            let document: Value = serde_json::from_slice(&bytes).unwrap();
            let result = &document["assessment-results"]["results"][0];
            let rows = [&result["observations"], &result["findings"]].map(|rows| rows.as_array().cloned());
            let rows: Vec<Value> = rows.into_iter().flatten().flatten().collect();
            let ids: BTreeSet<&str> = rows.iter().map(|row| row["uuid"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), rows.len(), "{name}");
            assert!(
                ids.iter().all(|id| id.len() == 36 && &id[14..15] == "5" && "89ab".contains(&id[19..20]))
            );
            let tokens: BTreeSet<String> =
                framework.controls.iter().map(|control| token(&framework.id, &control.id)).collect();
            assert_eq!(tokens.len(), framework.controls.len(), "{name}: two controls have one token");
        }
    }
}
