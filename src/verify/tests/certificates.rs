//! Every vector of `spec/replay-vectors.json`.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "this test plays the caller, who reads the files"
)]

use std::path::Path;

use estoppel_verify::{Input, NoExternals, Options, verify_certificate};
use serde_json::{Value, json};

#[test]
fn certificates_are_judged_as_the_specification_says() {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec");
    let vectors = std::fs::read(spec.join("replay-vectors.json")).unwrap();
    let vectors: Value = serde_json::from_slice(&vectors).unwrap();
    let bundle = std::fs::read(spec.join(vectors["bundle"].as_str().unwrap())).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() > 80);
    for case in cases {
        let certificate = case["certificate"].as_str().unwrap().as_bytes();
        let (input, options) = (Input::Zip(&bundle), Options::default());
        let report = verify_certificate(certificate, None, input, &mut NoExternals, &options).unwrap();
        let found = match &report.fault {
            None => json!({ "ok": report.exit_code() == 0 }),
            Some(fault) => json!({ "ok": false, "code": fault.reason.code() }),
        };
        assert_eq!(found, case["result"], "{}: {:?}", case["name"], report.fault);
    }
}
