//! The official JSON Schema test suite.
//!
//! It is not in this repository: `make setup` puts it where [`FOLDER`] says. Without it, nothing runs, and that is said;
//! with `REQUIRE_REAL=1` it fails.

#![allow(clippy::disallowed_methods, reason = "a test reads files and its environment")]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use estoppel_wire::schema::{Check, CheckLimits, Formats, HashKey, Schema, SchemaLimits};
use serde_json::Value;

/// The folder with `tests/`.
const FOLDER: &str = "../../.venv/json-schema-test-suite";

/// Groups of the suite that are refused on purpose: file, how many, and why. All others must be taken.
const REFUSED: &[(&str, usize, &str)] = &[
    ("draft2020-12/defs", 1, META),
    ("draft2020-12/dynamicRef", 11, DYNAMIC),
    ("draft2020-12/optional/cross-draft", 1, OUTSIDE),
    ("draft2020-12/optional/dynamicRef", 1, DYNAMIC),
    ("draft2020-12/optional/format-assertion", 2, OUTSIDE),
    ("draft2020-12/optional/format/idn-hostname", 2, FORMAT),
    ("draft2020-12/optional/format/iri", 1, FORMAT),
    ("draft2020-12/optional/format/iri-reference", 1, FORMAT),
    ("draft2020-12/optional/format/unknown", 1, FORMAT),
    ("draft2020-12/optional/format/uri-template", 1, FORMAT),
    ("draft2020-12/ref", 1, META),
    ("draft2020-12/refRemote", 15, OUTSIDE),
    ("draft2020-12/unevaluatedItems", 1, DYNAMIC),
    ("draft2020-12/unevaluatedProperties", 1, DYNAMIC),
    ("draft2020-12/vocabulary", 2, OUTSIDE),
    ("draft7/definitions", 1, META),
    ("draft7/optional/cross-draft", 1, OUTSIDE),
    ("draft7/optional/format/idn-hostname", 2, FORMAT),
    ("draft7/optional/format/iri", 1, FORMAT),
    ("draft7/optional/format/iri-reference", 1, FORMAT),
    ("draft7/optional/format/unknown", 1, FORMAT),
    ("draft7/optional/format/uri-template", 1, FORMAT),
    ("draft7/ref", 1, META),
    ("draft7/refRemote", 11, OUTSIDE),
];
const META: &str = "the metaschema is another document";
const OUTSIDE: &str = "refers to another document, or is written in a dialect of its own";
const DYNAMIC: &str = "the dynamic scope goes through several `$id`, or another document";
const FORMAT: &str = "a format that is not known cannot be asserted";

/// Files that ask for what the standard leaves open and this project does not do.
const LEFT_OUT: &[&str] = &["draft7/optional/content"];

fn judge(check: &mut Check, text: &[u8], size: usize) -> Result<(), String> {
    check.reset();
    let fed = text.chunks(size).try_for_each(|chunk| check.feed(chunk));
    fed.and_then(|()| check.finish()).map_err(|violation| format!("{violation:?}"))
}

#[test]
fn agrees_with_the_official_suite() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    if !folder.join("tests").is_dir() {
        let required = std::env::var("REQUIRE_REAL").is_ok_and(|value| value == "1");
        assert!(!required, "REQUIRE_REAL=1 and the official suite is missing: make setup");
        println!("skipped: `make setup` gets the official suite");
        return;
    }
    let mut wrong = Vec::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut ran = 0;
    for (draft, formats) in [
        ("draft2020-12", Formats::Annotate),
        ("draft7", Formats::Annotate),
        ("draft2020-12/optional", Formats::Annotate),
        ("draft7/optional", Formats::Annotate),
        ("draft2020-12/optional/format", Formats::Assert),
        ("draft7/optional/format", Formats::Assert),
    ] {
        let mut files: Vec<_> = std::fs::read_dir(folder.join("tests").join(draft))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        for path in files {
            let name = format!("{draft}/{}", path.file_stem().unwrap().to_string_lossy());
            if LEFT_OUT.contains(&name.as_str()) {
                continue;
            }
            let groups: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for group in groups {
                let mut schema = group["schema"].clone();
                if draft.starts_with("draft7") && schema.is_object() && schema.get("$schema").is_none() {
                    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
                }
                let limits = SchemaLimits { formats, ..SchemaLimits::default() };
                let schema = match Schema::compile(schema.to_string().as_bytes(), &limits) {
                    Ok(schema) => Arc::new(schema),
                    Err(_) => {
                        *refused.entry(name.clone()).or_default() += 1;
                        continue;
                    }
                };
                let mut check = Check::new(schema, CheckLimits::default(), HashKey([1, 2]));
                for test in group["tests"].as_array().unwrap() {
                    let text = test["data"].to_string();
                    let whole = judge(&mut check, text.as_bytes(), usize::MAX);
                    assert_eq!(whole, judge(&mut check, text.as_bytes(), 1), "{name}: {text}");
                    ran += 1;
                    if whole.is_ok() != test["valid"].as_bool().unwrap() {
                        wrong.push(format!(
                            "{name}: {} / {}: {text}: {whole:?}",
                            group["description"], test["description"]
                        ));
                    }
                }
            }
        }
    }
    println!("{ran} tests ran, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let refused: Vec<(&str, usize)> = refused.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    let expected: Vec<(&str, usize)> = REFUSED.iter().map(|(name, count, _)| (*name, *count)).collect();
    assert_eq!(refused, expected, "refused");
}
