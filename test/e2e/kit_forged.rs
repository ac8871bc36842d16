//! Kits whose signer put parts in that contradict themselves: `estoppel kit verify` and `verify.py` say the same of each.

use estoppel_evidence::envelope::{STATEMENT_TYPE, from_base64, sign};
use estoppel_evidence::{Sha256, SoftKey};
use serde_json::{Value, json};

use crate::cited::Whole;

fn both(code: &str) -> [(i32, String); 2] {
    [(2, code.to_owned()), (2, code.to_owned())]
}

/// A signed statement, changed and signed again by whoever signs everything in these kits.
fn signed_again(envelope: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let envelope: Value = serde_json::from_slice(envelope).unwrap();
    let payload = from_base64(envelope["payload"].as_str().unwrap()).unwrap();
    let mut statement: Value = serde_json::from_slice(&payload).unwrap();
    change(&mut statement["predicate"]);
    let payload = estoppel_evidence::canonical::foreign(statement.to_string().as_bytes()).unwrap();
    sign(STATEMENT_TYPE, &payload, &SoftKey::ed25519(&[11; 32])).unwrap()
}

#[test]
fn a_certificate_that_contradicts_itself_is_refused_by_both_programs() {
    let whole = Whole::new();
    whole.unpack();
    let certified = |change: &dyn Fn(&mut Value)| {
        let kit = whole.resigned(|files, _| {
            let path = files.keys().find(|path| path.starts_with("certificates/")).unwrap().clone();
            let content = signed_again(&files.remove(&path).unwrap(), change);
            files.insert(format!("certificates/{}.json", Sha256::of(&content).hex()), content);
        });
        whole.answers(&kit)
    };
    let add = |value: &mut Value, more: u64| *value = json!(value.as_u64().unwrap() + more);
    let contradictions: [&dyn Fn(&mut Value); 8] = [
        &|said| said["status"] = json!(if said["status"] == "success" { "failed" } else { "success" }),
        &|said| add(&mut said["upstream_connections"], 1),
        &|said| said["reasons"] = json!(["MISSING", "TAGS_ONLY"]),
        &|said| add(&mut said["counts"]["recorded"], 1),
        &|said| add(&mut said["counts"]["tolerated"], 1),
        &|said| add(&mut said["divergences_more"], 1),
        &|said| said["finished"] = json!("2020-01-01T00:00:00.000000Z"),
        &|said| {
            said["counts"]["drift"] = json!([]);
            said["first_divergent_seq"] = json!(1_000_000);
        },
    ];
    for (index, change) in contradictions.iter().enumerate() {
        assert_eq!(certified(*change), both("CERTIFICATE_STATUS"), "{index}");
    }
    let of_another: [&dyn Fn(&mut Value); 2] = [
        &|said| {
            add(&mut said["counts"]["recorded"], 1);
            add(&mut said["counts"]["matched"], 1);
        },
        &|said| said["policies"] = json!([]),
    ];
    for (index, change) in of_another.iter().enumerate() {
        assert_eq!(certified(*change), both("CERTIFICATE_MISMATCH"), "{index}");
    }
}

/// Events of a vector as an export has them, each after those that it follows.
fn export(vector: &Value) -> Vec<u8> {
    let payload = |event: &Value| -> Value {
        serde_json::from_slice(&from_base64(event["payload"].as_str().unwrap()).unwrap()).unwrap()
    };
    let parents =
        |event: &Value| -> Vec<String> { serde_json::from_value(payload(event)["parents"].clone()).unwrap() };
    let files = vector["files"].as_array().unwrap();
    let mut left: Vec<(String, Value)> = files
        .iter()
        .map(|file| {
            let text = file["text"].as_str().unwrap();
            (Sha256::of(text.as_bytes()).to_string(), serde_json::from_str(text).unwrap())
        })
        .collect();
    let followed: Vec<String> = left.iter().flat_map(|(_, event)| parents(event)).collect();
    let mut heads: Vec<String> =
        left.iter().map(|(id, _)| id.clone()).filter(|id| !followed.contains(id)).collect();
    heads.sort();
    let mut events: Vec<(String, Value)> = Vec::new();
    while !left.is_empty() {
        let is_ready = |(_, event): &(String, Value)| {
            parents(event).iter().all(|parent| events.iter().any(|(id, _)| id == parent))
        };
        let at = left.iter().position(is_ready).unwrap();
        events.push(left.remove(at));
    }
    let text: String = heads.iter().map(|head| format!("{head}\n")).collect();
    let document = json!({
        "events": events.iter().map(|(_, event)| event).collect::<Vec<_>>(), "format": "estoppel-audit/1", "from": null,
        "genesis": events[0].0, "head": Sha256::of(text.as_bytes()), "heads": heads, "rows": [], "to": null,
    });
    let mut bytes = estoppel_evidence::canonical::foreign(document.to_string().as_bytes()).unwrap();
    bytes.push(b'\n');
    bytes
}

#[test]
fn a_ledger_whose_events_contradict_each_other_is_refused_by_both_programs() {
    let whole = Whole::new();
    whole.unpack();
    let mut codes = std::collections::BTreeMap::new();
    for (text, every) in [
        (include_str!("../../spec/ledger-vectors.json"), 1),
        (include_str!("../../spec/ledger-release-vectors.json"), 4),
        (include_str!("../../spec/ledger-ladder-vectors.json"), 6),
        (include_str!("../../spec/ledger-count-vectors.json"), 4),
        (include_str!("../../spec/ledger-lapse-vectors.json"), 2),
    ] {
        let vectors: Value = serde_json::from_str(text).unwrap();
        // E7 to E9. What is no JSON is in no export.
        let refused = vectors["vectors"].as_array().unwrap().iter();
        let refused = refused.filter(|vector| {
            let code = vector["expect"]["code"].as_str().unwrap_or_default();
            let is_json =
                |file: &Value| serde_json::from_str::<Value>(file["text"].as_str().unwrap()).is_ok();
            ["LEDGER_CONFLICT", "LEDGER_EVENT_INVALID"].contains(&code)
                && vector["files"].as_array().unwrap().iter().all(is_json)
        });
        for vector in refused.step_by(every) {
            let code = vector["expect"]["code"].as_str().unwrap();
            let kit = whole.resigned(|files, _| drop(files.insert("ledger.json".into(), export(vector))));
            assert_eq!(whole.answers(&kit), both(code), "{}", vector["name"]);
            *codes.entry(code.to_owned()).or_insert(0) += 1;
        }
    }
    assert!(codes["LEDGER_CONFLICT"] >= 10 && codes["LEDGER_EVENT_INVALID"] >= 3, "{codes:?}");
}
