use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_kit::{Scratch, require_real};
use estoppel_stub::Script;
use serde_json::{Value, json};

use crate::support::{World, chat, cli, path};

const HELLO: &str = r#"{"model":"scripted-1","messages":[{"role":"user","content":"hello"}]}"#;
const SCHEMAS: [&str; 6] = ["checkpoint", "journal_event", "manifest", "receipt", "signature", "trust"];

/// Asks a validator that is not ours: `[[document, schema], …]` in, a list of truths out.
const ASK_PYTHON: &str = r#"
import json, pathlib, sys
from jsonschema import Draft202012Validator as Validator
folder, questions = pathlib.Path(sys.argv[1]), json.load(open(sys.argv[2]))
schemas = {name: Validator(json.loads((folder / f"{name}.schema.json").read_text())) for name in sys.argv[3:]}
print(json.dumps([[schemas[name].is_valid(document) for name in sys.argv[3:]] for document in questions]))
"#;

fn python() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = if own.is_file() { own } else { require_real("python3")? };
    let found =
        Command::new(&python).args(["-c", "import jsonschema"]).status().is_ok_and(|status| status.success());
    if found { Some(python) } else { require_real("python3 with jsonschema") }
}

fn valid_by(python: &Path, documents: &[Value]) -> Vec<Vec<bool>> {
    let scratch = Scratch::new("matrix");
    let questions = scratch.write("questions.json", json!(documents).to_string());
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/pef/schemas");
    let done = Command::new(python)
        .args(["-c", ASK_PYTHON, path(&schemas), path(&questions)])
        .args(SCHEMAS)
        .output()
        .unwrap();
    serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr)))
}

/// Each document that one run leaves, and its schema.
fn documents() -> Vec<(&'static str, Value)> {
    let world = World::new(Script::model());
    for _ in 0..2 {
        assert_eq!(world.send(&chat("matrix", HELLO)).status(), 200);
    }
    let bundle = world.seal("matrix");
    let shown = cli(&["show", path(&bundle)]).1["data"].clone();
    let mut documents: Vec<(&str, Value)> = shown["entries"]
        .as_array()
        .unwrap()
        .iter()
        .cloned()
        .map(|entry| (if entry["kind"] == "call" { "receipt" } else { "journal_event" }, entry))
        .collect();
    documents.push(("manifest", shown["manifest"].clone()));
    let trust = std::fs::read(world.journal().join("trust.json")).unwrap();
    documents.push(("trust", serde_json::from_slice(&trust).unwrap()));
    let export = world.scratch.join("receipt.json");
    assert_eq!(cli(&["show", path(&bundle), "--call", "1", "--export", path(&export)]).0, 0);
    documents.push(("signature", serde_json::from_slice(&std::fs::read(&export).unwrap()).unwrap()));
    documents
}

#[test]
fn each_document_is_valid_by_its_own_schema_and_by_no_other() {
    let Some(python) = python() else { return };
    let (names, documents): (Vec<&str>, Vec<Value>) = documents().into_iter().unzip();
    for name in ["journal_event", "manifest", "receipt", "signature", "trust"] {
        assert!(names.contains(&name), "no {name}");
    }
    for ((name, document), row) in names.iter().zip(&documents).zip(valid_by(&python, &documents)) {
        let valid: Vec<&str> =
            SCHEMAS.iter().zip(row).filter(|(_, valid)| *valid).map(|(name, _)| *name).collect();
        assert_eq!(valid, [*name], "{document}");
    }
}

#[test]
fn a_document_without_a_required_member_is_valid_by_none() {
    let Some(python) = python() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/pef/schemas");
    let mut poorer = Vec::new();
    for (name, document) in documents() {
        let schema: Value =
            serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.schema.json"))).unwrap())
                .unwrap();
        for member in schema["required"].as_array().into_iter().flatten() {
            let mut without = document.clone();
            without.as_object_mut().unwrap().remove(member.as_str().unwrap());
            poorer.push(without);
        }
    }
    assert!(poorer.len() > 40, "{} documents", poorer.len());
    for (document, row) in poorer.iter().zip(valid_by(&python, &poorer)) {
        assert!(!row.contains(&true), "{document}");
    }
}
