use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use estoppel_evidence::{Sha256, canonical, tree};
use estoppel_kit::{Seeded, seed};
use serde_json::{Map, Value, json};

/// Reads lines of `{"json": …}` or `{"leaves": […]}` and answers each with canonical text or a root.
const ASK_PYTHON: &str = r#"
import json, sys
sys.path.insert(0, sys.argv[1])
import pef_verify as v
for line in sys.stdin:
    asked = json.loads(line)
    if "json" in asked:
        print(v.canonical(v.admit(asked["json"].encode())).decode())
    else:
        print(v.tree_root([bytes.fromhex(leaf) for leaf in asked["leaves"]]).hex())
"#;

/// What the verifier that is written from the specification alone makes of each question.
fn python(questions: &[Value]) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/verifiers/python");
    let mut child = Command::new("python3")
        .args(["-I", "-S", "-c", ASK_PYTHON])
        .arg(folder)
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text: String = questions.iter().map(|question| format!("{question}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(done.status.success(), "the Python verifier failed");
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn text(random: &mut Seeded) -> String {
    const ALPHABET: [char; 14] =
        ['a', 'B', '"', '\\', '/', '\u{8}', '\n', '\u{1f}', '\u{7f}', 'é', 'Σ', '\u{2028}', '\u{fffd}', '😀'];
    let length = random.below(6);
    (0..length).filter_map(|_| ALPHABET.get(random.below(14))).collect()
}

fn value(random: &mut Seeded, depth: u32) -> Value {
    match random.below(if depth == 0 { 4 } else { 6 }) {
        0 => random.below(1 << 53).into(),
        1 => (-(random.below(1 << 53) as i64)).into(),
        2 => (random.below(2) == 0).into(),
        3 => text(random).into(),
        4 => (0..random.below(5)).map(|_| value(random, depth - 1)).collect(),
        _ => {
            let members = (0..random.below(5)).map(|_| (text(random), value(random, depth - 1)));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

#[test]
fn random_documents_have_one_canonical_form_in_both_languages() {
    let mut random = Seeded::new(seed());
    let documents: Vec<String> =
        (0..2_000).map(|_| json!({ "a": value(&mut random, 4) }).to_string()).collect();
    let questions: Vec<Value> = documents.iter().map(|document| json!({ "json": document })).collect();
    let theirs = python(&questions);
    assert_eq!(theirs.len(), documents.len());
    for (document, theirs) in documents.iter().zip(theirs) {
        let ours = canonical::foreign(document.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(ours).unwrap(), theirs, "{document}");
    }
}

#[test]
fn trees_of_every_small_size_have_one_root_in_both_languages() {
    let leaves: Vec<[u8; 32]> = (0..130u32).map(|n| Sha256::of(&n.to_be_bytes()).0).collect();
    let hex: Vec<String> = leaves.iter().map(|leaf| Sha256(*leaf).hex()).collect();
    let questions: Vec<Value> = (0..=leaves.len()).map(|size| json!({ "leaves": hex[..size] })).collect();
    for (size, theirs) in python(&questions).into_iter().enumerate() {
        assert_eq!(tree::root(&leaves[..size]).to_string(), format!("root:{theirs}"), "{size} leaves");
    }
}
