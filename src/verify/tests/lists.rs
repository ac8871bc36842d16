//! Every vector of `spec/archive-vectors.json` and `spec/custody-vectors.json`.

#![allow(clippy::unwrap_used, reason = "vectors that cannot be read must stop the test")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use estoppel_verify::{CustodyOf, Hash, PublicKey, read_index, verify_custody};
use serde_json::{Value, json};

fn vectors(text: &str, least: usize) -> Value {
    let vectors: Value = serde_json::from_str(text).unwrap();
    assert!(vectors["cases"].as_array().unwrap().len() >= least);
    vectors
}

fn result(fault: Option<(&str, Option<u64>)>) -> Value {
    match fault {
        None => json!({ "ok": true }),
        Some((code, None)) => json!({ "ok": false, "code": code }),
        Some((code, Some(entry))) => json!({ "ok": false, "code": code, "entry": entry }),
    }
}

#[test]
fn indexes_are_judged_as_the_specification_says() {
    for case in vectors(include_str!("../../../spec/archive-vectors.json"), 18)["cases"].as_array().unwrap() {
        let read = read_index(case["list"].as_str().unwrap().as_bytes());
        let fault = read.as_ref().err().map(|fault| (fault.reason.code(), fault.line));
        assert_eq!(result(fault), case["result"], "{}: {read:?}", case["name"]);
    }
}

fn hash(text: &Value, prefix: &str) -> Hash {
    let hex = text.as_str().unwrap().strip_prefix(prefix).unwrap();
    let byte = |at: usize| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap();
    Hash(std::array::from_fn(byte))
}

#[test]
fn chains_of_custody_are_judged_as_the_specification_says() {
    let vectors = vectors(include_str!("../../../spec/custody-vectors.json"), 25);
    let manifest = vectors["of"]["manifest"].as_str().unwrap().as_bytes();
    let bundle = Some((hash(&vectors["of"]["bundle"], "sha256:"), manifest));
    for case in vectors["cases"].as_array().unwrap() {
        let given = |name: &str| case["given"][name].as_array().cloned().unwrap_or_default();
        let signers: Vec<PublicKey> = given("signers")
            .iter()
            .map(|spki| PublicKey::of_spki(&STANDARD.decode(spki.as_str().unwrap()).unwrap()).unwrap())
            .collect();
        let heads: Vec<Hash> = given("heads").iter().map(|head| hash(head, "leaf:")).collect();
        let archived: Vec<(u64, Hash)> = given("archived")
            .iter()
            .map(|at| (at["bytes"].as_u64().unwrap(), hash(&at["sha256"], "sha256:")))
            .collect();
        let of = CustodyOf { signers: &signers, bundle, heads: &heads, archived: &archived };
        let judged = verify_custody(case["list"].as_str().unwrap().as_bytes(), &of);
        let fault = judged.as_ref().err().map(|fault| (fault.reason.code(), fault.entry));
        assert_eq!(result(fault), case["result"], "{}: {judged:?}", case["name"]);
    }
}
