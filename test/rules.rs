//! Rules about the repository itself: layering, reasons, traceability, tidiness.

#![expect(clippy::unwrap_used, reason = "a rule that cannot be looked at fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

#[path = "rules/traceability.rs"]
mod traceability;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file that git knows or would add.
fn files() -> Vec<String> {
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    let mut files: Vec<String> = String::from_utf8(out.stdout).unwrap().lines().map(str::to_string).collect();
    files.retain(|file| root().join(file).is_file());
    files
}

/// Which of our crates each crate may use: design section 3.
const MAY_USE: &[(&str, &[&str])] = &[
    ("evidence", &[]),
    ("wire", &[]),
    ("detect", &[]),
    ("policy", &["evidence"]),
    ("bundle", &["evidence"]),
    ("verify", &[]),
    ("journal", &["evidence", "bundle"]),
    ("feeds", &["evidence", "journal"]),
    ("reconcile", &["evidence"]),
    ("archive", &["evidence", "bundle", "journal", "verify"]),
    ("snapshot", &["evidence"]),
    ("diff", &["evidence"]),
    ("incident", &["evidence", "bundle", "verify", "diff"]),
    ("state", &[]),
    ("gateway", &["evidence", "wire", "detect", "policy", "journal", "snapshot", "state"]),
    ("stub", &[]),
    ("replay", &["evidence", "wire", "policy", "bundle", "snapshot", "gateway", "stub"]),
    ("release", &["evidence", "bundle", "verify", "replay", "policy"]),
    ("attest", &["evidence", "bundle", "verify", "release"]),
];

/// Which crates may use a crate from outside directly.
const OWNERS: &[(&str, &[&str])] = &[
    ("hyper", &["gateway", "feeds", "archive", "stub"]),
    ("tower", &["gateway"]),
    ("rustls", &["gateway", "feeds", "archive", "snapshot", "stub"]),
    ("tokio-postgres", &["snapshot"]),
    ("tokio", &["gateway", "feeds", "archive", "stub", "journal", "snapshot", "state", ""]),
    ("redis", &["state"]),
    ("rusty-s3", &["archive"]),
    ("rusqlite", &["state", "release"]),
];

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON")
}

/// Package folder name, its normal dependencies' names.
fn dependencies() -> Vec<(String, Vec<String>)> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let name = package["name"].as_str().unwrap().trim_start_matches("estoppel-").to_string();
            let name = if name == "estoppel" { String::new() } else { name };
            let list = package["dependencies"].as_array().unwrap().iter();
            let normal = list
                .filter(|d| d["kind"].is_null())
                .map(|d| d["name"].as_str().unwrap().to_string())
                .collect();
            (name, normal)
        })
        .collect()
}

#[test]
fn crates_use_only_what_the_design_allows() {
    for (package, uses) in dependencies() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == package) else { continue };
        for used in uses.iter().filter_map(|name| name.strip_prefix("estoppel-")) {
            assert!(
                allowed.contains(&used),
                "src/{package} must not use src/{used}: see design section 3 and docs/adr/"
            );
        }
    }
}

#[test]
fn the_architecture_has_the_same_table() {
    let page = read("docs/architecture.md");
    let crates: Vec<String> = dependencies().into_iter().map(|(package, _)| package).collect();
    for (name, allowed) in MAY_USE.iter().filter(|(name, _)| crates.iter().any(|package| package == name)) {
        let row = page.lines().find(|line| line.starts_with(&format!("| `src/{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/architecture.md has no row `src/{name}`"));
        let stated = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let stated: BTreeSet<&str> = stated.split(", ").filter(|used| *used != "-").collect();
        let built: BTreeSet<&str> =
            allowed.iter().copied().filter(|used| crates.iter().any(|package| package == used)).collect();
        assert_eq!(stated, built, "docs/architecture.md, row `src/{name}`");
    }
}

#[test]
fn outside_crates_have_owners() {
    for (package, uses) in dependencies() {
        if package == "kit" {
            continue;
        }
        for (outside, owners) in OWNERS {
            let used = uses.iter().any(|name| name == outside);
            assert!(
                !used || owners.contains(&package.as_str()),
                "`{package}` must not use `{outside}` directly"
            );
        }
    }
}

#[test]
fn reasons_in_code_and_spec_are_the_same() {
    let mut rows: Vec<Value> = estoppel_evidence::Reason::ALL
        .iter()
        .map(|reason| {
            json!({
                "area": "call", "code": reason.code(), "fault": reason.fault().as_str(), "retryable": reason.retryable(),
                "status": reason.status(), "text": reason.text(),
            })
        })
        .collect();
    rows.extend(estoppel_verify::Reason::ALL.iter().map(|reason| {
        json!({ "area": "verify", "code": reason.code(), "exit": reason.exit_code(), "text": reason.meaning() })
    }));
    rows.extend(estoppel_verify::CertificateReason::ALL.iter().map(
        |reason| json!({ "area": "certificate", "code": reason.code(), "exit": 2, "text": reason.meaning() }),
    ));
    rows.extend(estoppel_release::Code::ALL.iter().map(
        |code| json!({ "area": "release", "code": code.as_str(), "exit": code.exit(), "text": code.text() }),
    ));
    rows.extend(
        estoppel_replay::Code::ALL
            .iter()
            .map(|code| json!({ "area": "replay", "code": code.as_str(), "text": code.text() })),
    );
    let text = format!("{}\n", serde_json::to_string_pretty(&json!({ "reasons": rows, "v": 0 })).unwrap());
    let path = root().join("spec/reasons.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        read("spec/reasons.json"),
        text,
        "UPDATE_GOLDEN=1 cargo test --test rules writes spec/reasons.json"
    );
}

/// What a reason leaves open: what was found in a value that is judged, and what a repair did to it.
#[test]
fn findings_in_code_and_spec_are_the_same() {
    use estoppel_wire::csv::{EditClass, Finding};
    use estoppel_wire::schema::{Cap, Cause, Keyword};
    let row = |area: &str, code: &str, text: String| json!({ "area": area, "code": code, "text": text });
    let keyword = Cause::Keyword(Keyword::Type).code();
    let mut rows = vec![row("schema", keyword, "a value fails a keyword of its schema".into())];
    rows.extend(Cap::ALL.map(|cap| row("schema", Cause::Cap(cap).code(), cap.to_string())));
    rows.extend(Finding::ALL.iter().map(|finding| row("csv", finding.code(), finding.to_string())));
    rows.extend(EditClass::ALL.map(|class| row("csv-edit", class.code(), class.text().into())));
    let text = format!("{}\n", serde_json::to_string_pretty(&json!({ "findings": rows, "v": 0 })).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(root().join("spec/findings.json"), &text).unwrap();
    }
    let codes: BTreeSet<&str> = rows.iter().map(|row| row["code"].as_str().unwrap()).collect();
    assert_eq!(codes.len(), rows.len(), "a code comes twice");
    let reasons: Value = serde_json::from_str(&read("spec/reasons.json")).unwrap();
    for reason in reasons["reasons"].as_array().unwrap() {
        let code = reason["code"].as_str().unwrap();
        assert!(!codes.contains(code), "`{code}` is a reason and a finding");
    }
    assert_eq!(
        read("spec/findings.json"),
        text,
        "UPDATE_GOLDEN=1 cargo test --test rules writes spec/findings.json"
    );
}

/// A code that stands in the sources of a crate, and is neither a reason nor a finding, has no documented home.
#[test]
fn every_code_of_schemas_and_csv_is_a_finding() {
    let home = read("spec/findings.json") + &read("spec/reasons.json");
    let mut seen = 0;
    for file in files().iter().filter(|file| file.starts_with("src/") && file.ends_with(".rs")) {
        let text = read(file);
        for word in text.split('"').filter(|word| word.starts_with("SCHEMA_") || word.starts_with("CSV_")) {
            if !word.ends_with('_')
                && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            {
                assert!(
                    home.contains(&format!("\"{word}\"")),
                    "{file}: `{word}` is neither in spec/findings.json nor in spec/reasons.json"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 40, "{seen} codes");
}

#[test]
fn every_reason_of_the_specification_is_in_the_verifier() {
    let spec = read("spec/pef/SPEC.md");
    let steps = &spec[spec.find("## 11.").unwrap()..];
    let known: BTreeSet<&str> = estoppel_verify::Reason::ALL.iter().map(|reason| reason.code()).collect();
    let mut named = BTreeSet::new();
    for word in steps.split('`').skip(1).step_by(2) {
        let is_code =
            word.len() > 4 && word.contains('_') && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        if is_code && !word.ends_with('_') {
            named.insert(word);
        }
    }
    let missing: Vec<_> = named.difference(&known).collect();
    assert!(missing.is_empty(), "SPEC names codes that src/verify lacks: {missing:?}");
}

#[test]
fn published_vectors_do_not_change() {
    for (folder, at_least) in [("spec/pef/vectors", 100), ("spec/attestation-vectors", 30)] {
        unchanged(folder, at_least);
    }
}

fn unchanged(name: &str, at_least: usize) {
    use std::fmt::Write as _;
    let folder = root().join(name);
    let lock = read(&format!("{name}/vectors.lock"));
    let mut seen = BTreeMap::new();
    walk(&folder, &mut |path| {
        let name = path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
        if name != "vectors.lock" {
            seen.insert(name, estoppel_evidence::Sha256::of(&std::fs::read(path).unwrap()).hex());
        }
    });
    let mut text = String::new();
    for (name, digest) in &seen {
        writeln!(text, "{digest}  {name}").unwrap();
    }
    assert_eq!(
        lock, text,
        "a vector was changed, added or removed without vectors.lock; published vectors never change"
    );
    assert!(seen.len() > at_least, "the vectors are there");
}

fn walk(folder: &Path, each: &mut impl FnMut(&Path)) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { walk(&path, each) } else { each(&path) }
    }
}

#[test]
fn every_metric_is_explained() {
    let mut names = BTreeSet::new();
    walk(&root().join("src"), &mut |file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let quoted = text.split("\"estoppel_").skip(1).filter_map(|rest| rest.split_once('"'));
        let is_name = |name: &&str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        names.extend(quoted.map(|(name, _)| name).filter(is_name).map(|name| format!("estoppel_{name}")));
    });
    let mut pages = String::new();
    walk(&root().join("docs"), &mut |file| {
        if file.extension().is_some_and(|extension| extension == "md") {
            pages.push_str(&std::fs::read_to_string(file).unwrap());
        }
    });
    let words: BTreeSet<&str> = pages.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let unsaid: Vec<&String> = names.iter().filter(|name| !words.contains(name.as_str())).collect();
    assert!(names.len() > 40 && unsaid.is_empty(), "docs say nothing of {unsaid:?}");
}

#[test]
fn the_top_level_is_what_the_owner_fixed() {
    let fixed =
        ["src", "policies", "spec", "deploy", "examples", "test", "benches", "k6", "docs", ".github", ".ci"];
    let folders: BTreeSet<String> =
        files().iter().filter_map(|file| file.split_once('/').map(|(top, _)| top.to_string())).collect();
    for folder in folders {
        assert!(fixed.contains(&folder.as_str()), "`{folder}/` is not a top-level folder of this project");
    }
}

#[test]
fn sources_are_tidy() {
    let banned = [
        ("todo!(", "an honest gap belongs in the docs"),
        ("unimplemented!(", "an honest gap belongs in the docs"),
        ("dbg!(", "left from debugging"),
        ("unbounded_channel", "every queue has a limit"),
        ("mpsc::unbounded", "every queue has a limit"),
        ("#[ignore", "an ignored test proves nothing"),
    ];
    let mut found = Vec::new();
    for file in files().iter().filter(|file| {
        file.ends_with(".rs") && !file.starts_with("test/rules") && !file.starts_with("benches/peers/")
    }) {
        let text = read(file);
        for (number, line) in text.lines().enumerate() {
            for (word, why) in banned {
                if line.contains(word) && !line.trim_start().starts_with("//") {
                    found.push(format!("{file}:{}: `{word}`: {why}", number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_file_names_a_package_registry_host_or_the_shared_folder() {
    let words = [
        ["crates", ".io/"].concat(),
        ["registry.npm", "js"].concat(),
        ["pypi", ".org"].concat(),
        ["../sha", "red"].concat(),
    ];
    let mut found = Vec::new();
    for file in files() {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        if file == "Cargo.lock" || file == "test/fuzz/Cargo.lock" {
            continue; // written by cargo
        }
        for word in &words {
            if text.contains(word) {
                found.push(format!("{file}: {word}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
