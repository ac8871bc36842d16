//! Every published vector, judged and compared with what its `expect.json` says (`spec/pef/vectors/`).

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "this test plays the caller, who reads the files"
)]

mod folder;

use std::fs;
use std::path::{Path, PathBuf};

use estoppel_verify::Report;
use serde_json::Value;

use folder::judge;

fn vectors() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/pef/vectors");
    let mut found: Vec<PathBuf> = fs::read_dir(root)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    found.retain(|path| path.join("expect.json").is_file());
    found.sort();
    found
}

/// What differs, one line for each.
fn differences(expect: &Value, report: &Report) -> Vec<String> {
    let finding = report.finding.as_ref();
    let verdicts = report.verdicts;
    let stream = report.stream.as_ref().map(|stream| stream.verdict.name());
    let number = |number: Option<u64>| number.map_or(Value::Null, Value::from);
    let mut rows = vec![
        ("exit", Value::from(report.exit_code()), &expect["exit"]),
        ("reason", finding.map_or(Value::Null, |finding| finding.reason.code().into()), &expect["reason"]),
        ("seq", number(finding.and_then(|finding| finding.seq)), &expect["seq"]),
        ("index", number(finding.and_then(|finding| finding.index)), &expect["index"]),
        ("unit", number(finding.and_then(|finding| finding.unit)), &expect["unit"]),
        ("stream", stream.into(), &expect["stream"]),
        ("body", report.body.as_ref().map(|body| body.verdict.name()).into(), &expect["body"]),
    ];
    let stated = &expect["verdicts"];
    for (name, found) in [
        ("integrity", verdicts.integrity.name()),
        ("authenticity", verdicts.authenticity.name()),
        ("completeness", verdicts.completeness.name()),
        ("anchoring", verdicts.anchoring.name()),
    ] {
        if !stated[name].is_null() {
            rows.push((name, found.into(), &stated[name]));
        }
    }
    rows.into_iter()
        .filter(|(_, found, expected)| found != *expected)
        .map(|(name, found, expected)| format!("  {name}: expected {expected}, found {found}"))
        .collect()
}

#[test]
fn every_vector_is_answered_as_it_says() {
    let vectors = vectors();
    if vectors.is_empty() {
        println!("SKIPPED: there are no vectors in spec/pef/vectors yet");
        return;
    }
    let mut wrong = Vec::new();
    for folder in &vectors {
        let corrected = folder.join("expect-2.json");
        let stated = if corrected.is_file() { corrected } else { folder.join("expect.json") };
        let expect: Value = serde_json::from_slice(&fs::read(stated).unwrap()).unwrap();
        let report = judge(folder);
        let differences = differences(&expect, &report);
        if !differences.is_empty() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let detail = report.finding.map(|finding| finding.detail).unwrap_or_default();
            wrong.push(format!("{name} ({}): {detail}\n{}", expect["about"], differences.join("\n")));
        }
    }
    println!("{} vectors, {} answered otherwise", vectors.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
