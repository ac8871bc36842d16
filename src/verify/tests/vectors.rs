//! Every published vector, judged and compared with what its `expect.json` says (`spec/pef/vectors/`).

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "this test plays the caller, who reads the files"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use estoppel_verify::{
    DirectoryFile, Externals, Given, Input, JournalFiles, Options, Report, verify_bundle, verify_journal,
    verify_receipt,
};
use serde_json::Value;

fn vectors() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/pef/vectors");
    let mut found: Vec<PathBuf> = fs::read_dir(root)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    found.retain(|path| path.join("expect.json").is_file());
    found.sort();
    found
}

fn read(path: &Path) -> Option<Vec<u8>> {
    path.is_file().then(|| fs::read(path).unwrap())
}

/// The folder beside a bundle.
struct Beside(PathBuf);

impl Externals for Beside {
    fn open(&mut self, sha256: &str) -> std::io::Result<Option<Box<dyn Read + '_>>> {
        Ok(read(&self.0.join(sha256))
            .map(|bytes| Box::new(std::io::Cursor::new(bytes)) as Box<dyn Read + '_>))
    }
}

/// Paths below `folder` that are no directories, and what is in those that are regular files.
fn walk(folder: &Path, prefix: &str, found: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            walk(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name.into_bytes(), kind.is_file().then(|| fs::read(entry.path()).unwrap()));
        }
    }
}

/// The base64 between the lines of a PEM file.
fn spki_of_pem(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    base64::engine::general_purpose::STANDARD.decode(lines.collect::<String>()).unwrap()
}

fn judge(folder: &Path) -> Report {
    let trust = read(&folder.join("trust.json"));
    let options = Options { trust: trust.as_deref(), ..Options::default() };
    if let Some(zip) = read(&folder.join("bundle.pef.zip")) {
        let mut beside = Beside(folder.join("bundle.pef.zip.d"));
        return verify_bundle(Input::Zip(&zip), &mut beside, &options).unwrap();
    }
    if folder.join("bundle").is_dir() {
        let mut files = BTreeMap::new();
        walk(&folder.join("bundle"), "", &mut files);
        let files: Vec<_> =
            files.iter().map(|(path, bytes)| DirectoryFile { path, bytes: bytes.as_deref() }).collect();
        let mut beside = Beside(folder.join("bundle.d"));
        return verify_bundle(Input::Directory(&files), &mut beside, &options).unwrap();
    }
    if folder.join("journal").is_dir() {
        let journal = folder.join("journal");
        let mut segments: Vec<(String, Vec<u8>)> = Vec::new();
        if let Ok(entries) = fs::read_dir(journal.join("segments")) {
            for entry in entries {
                let entry = entry.unwrap();
                segments.push((
                    entry.file_name().to_string_lossy().into_owned(),
                    fs::read(entry.path()).unwrap(),
                ));
            }
        }
        let (checkpoint, own) = (read(&journal.join("checkpoint")), read(&journal.join("trust.json")));
        let against = read(&folder.join("against"));
        let files = JournalFiles {
            checkpoint: checkpoint.as_deref(),
            trust: own.as_deref(),
            against: against.as_deref(),
        };
        return verify_journal(&mut segments, files, &options).unwrap();
    }
    let envelope =
        read(&folder.join("receipt.dsse.json")).unwrap_or_else(|| panic!("no input in {}", folder.display()));
    match read(&folder.join("key.pem")) {
        Some(pem) => verify_receipt(&envelope, Given::Spki(&spki_of_pem(&String::from_utf8(pem).unwrap()))),
        None => verify_receipt(&envelope, Given::Trust(trust.as_deref().unwrap_or_default())),
    }
}

/// What differs, one line for each.
fn differences(expect: &Value, report: &Report) -> Vec<String> {
    let finding = report.finding.as_ref();
    let verdicts = report.verdicts;
    let number = |number: Option<u64>| number.map_or(Value::Null, Value::from);
    let mut rows = vec![
        ("exit", Value::from(report.exit_code()), &expect["exit"]),
        ("reason", finding.map_or(Value::Null, |finding| finding.reason.code().into()), &expect["reason"]),
        ("seq", number(finding.and_then(|finding| finding.seq)), &expect["seq"]),
        ("index", number(finding.and_then(|finding| finding.index)), &expect["index"]),
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
        let expect: Value = serde_json::from_slice(&fs::read(folder.join("expect.json")).unwrap()).unwrap();
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
