//! The published vectors, minor by minor: `spec/pef/published/<minor>.lock` names those that a minor came with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use estoppel_evidence::Sha256;
use serde_json::Value;

use crate::support::{cli, path};

pub struct Vector {
    pub name: String,
    folder: PathBuf,
    pub expect: Value,
}

fn spec() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/pef")
}

/// The rows of the table in VERSIONING.md.
pub fn minors() -> Vec<String> {
    let text = std::fs::read_to_string(spec().join("VERSIONING.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| v"));
    rows.filter_map(|row| row.split_once(" |")).map(|(minor, _)| format!("v{minor}")).collect()
}

/// For each vector the digest of its lines in `vectors.lock`, but for later readings of it (`expect-2.json`).
fn digests() -> BTreeMap<String, String> {
    let lock = std::fs::read_to_string(spec().join("vectors/vectors.lock")).unwrap();
    let mut lines: BTreeMap<&str, String> = BTreeMap::new();
    for line in lock.lines() {
        let (name, file) = line.split_once("  ").and_then(|(_, path)| path.split_once('/')).unwrap();
        let is_vector = spec().join("vectors").join(name).join("expect.json").exists();
        if is_vector && !file.starts_with("expect-") {
            writeln!(lines.entry(name).or_default(), "{line}").unwrap();
        }
    }
    lines.into_iter().map(|(name, text)| (name.into(), Sha256::of(text.as_bytes()).hex())).collect()
}

/// Writes what the newest minor adds, once.
pub fn publish() {
    let mut minors = minors();
    let file = lock(&minors.pop().unwrap());
    if file.exists() {
        return;
    }
    let mut added = digests();
    for earlier in minors {
        vectors(&earlier).iter().for_each(|vector| drop(added.remove(&vector.name)));
    }
    let lines = added.into_iter().map(|(name, digest)| format!("{digest}  {name}\n"));
    std::fs::write(file, lines.collect::<String>()).unwrap();
}

fn lock(minor: &str) -> PathBuf {
    spec().join(format!("published/{minor}.lock"))
}

/// The vectors of a minor, each proven to be what was published.
pub fn vectors(minor: &str) -> Vec<Vector> {
    let now = digests();
    let text = std::fs::read_to_string(lock(minor)).unwrap_or_else(|_| {
        panic!("{minor} is not published: UPDATE_GOLDEN=1 cargo test --test e2e published writes its lock")
    });
    let open = |line: &str| {
        let (digest, name) = line.split_once("  ").unwrap();
        assert_eq!(
            now.get(name).map(String::as_str),
            Some(digest),
            "{minor}: `{name}` is not what was published"
        );
        let folder = spec().join("vectors").join(name);
        let newest = ["expect-3.json", "expect-2.json", "expect.json"].map(|name| folder.join(name));
        let expect = newest.iter().find(|file| file.exists()).unwrap();
        let expect = serde_json::from_slice(&std::fs::read(expect).unwrap()).unwrap();
        Vector { name: name.into(), folder, expect }
    };
    text.lines().map(open).collect()
}

impl Vector {
    pub fn passes(&self) -> bool {
        self.expect["exit"] == 0
    }

    /// What `estoppel verify` answers otherwise than the vector says.
    pub fn differences(&self) -> Vec<String> {
        let inputs = ["bundle.pef.zip", "bundle", "journal", "receipt.dsse.json"];
        let file = |name: &str| Some(self.folder.join(name)).filter(|file| file.exists());
        let input = inputs.into_iter().find_map(file).unwrap_or_else(|| panic!("{}: no input", self.name));
        let mut words = vec!["verify", path(&input)];
        let beside = [("--trust", "trust.json"), ("--key", "key.pem"), ("--against", "against")]
            .map(|(flag, name)| (flag, file(name)));
        for (flag, file) in &beside {
            words.extend(file.as_deref().map(|file| [*flag, path(file)]).into_iter().flatten());
        }
        let (disclosure, events) = (file("disclosure.json"), file("events"));
        let asked: Option<Value> =
            file("ask.json").map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap());
        let place = asked.as_ref().and_then(|asked| asked.get("place")).map(Value::to_string);
        if let (Some(asked), Some(disclosure), Some(events)) = (&asked, &disclosure, &events) {
            words.extend(["--stream", asked["call"].as_str().unwrap()]);
            words.extend(["--disclosure", path(disclosure), "--events", path(events)]);
            words.extend(place.iter().flat_map(|place| ["--place", place]));
        }
        let content = file("content");
        if let (Some(asked), Some(disclosure), Some(content)) = (&asked, &disclosure, &content) {
            words.extend([
                "--body",
                asked["call"].as_str().unwrap(),
                "--part",
                asked["part"].as_str().unwrap(),
            ]);
            words.extend(["--disclosure", path(disclosure), "--content", path(content)]);
        }
        let (exit, answer) = cli(&words);
        let found = |member: &str| match member {
            "exit" => exit.into(),
            "stream" | "body" => answer["data"][member]["verdict"].clone(),
            member => answer["data"][member].clone(),
        };
        let members = ["exit", "reason", "seq", "index", "verdicts", "stream", "unit", "body"].into_iter();
        members
            .filter(|member| found(member) != self.expect[*member])
            .map(|member| {
                format!("{}: {member}: {} expected, {}", self.name, self.expect[member], found(member))
            })
            .collect()
    }
}

/// Walks the vectors of every minor that are `wanted`.
pub fn check(wanted: impl Fn(&Vector) -> bool) {
    let mut count = 0;
    for minor in minors() {
        let vectors: Vec<Vector> = vectors(&minor).into_iter().filter(&wanted).collect();
        let wrong: Vec<String> = vectors.iter().flat_map(Vector::differences).collect();
        assert!(wrong.is_empty(), "{minor}:\n{}", wrong.join("\n"));
        count += vectors.len();
    }
    assert!(count > 50, "{count} vectors");
}

#[test]
fn a_published_vector_is_never_changed() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        publish();
    }
    let published: usize = minors().iter().map(|minor| vectors(minor).len()).sum();
    assert!(published > 600, "{published} vectors");
}
