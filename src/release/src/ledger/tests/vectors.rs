//! The published vectors.

use serde_json::Value;

use super::*;

const VECTORS: &str = include_str!("../../../../../spec/ledger-vectors.json");
const COMMITS: &str = include_str!("../../../../../spec/ledger-commit-vectors.json");
const RELEASES: &str = include_str!("../../../../../spec/ledger-release-vectors.json");
const LADDER: &str = include_str!("../../../../../spec/ledger-ladder-vectors.json");
const COUNTS: &str = include_str!("../../../../../spec/ledger-count-vectors.json");
const LAPSES: &str = include_str!("../../../../../spec/ledger-lapse-vectors.json");
/// Vectors that turned out to be wrong: those of the same name in the last file count in their place.
const REPLACED: &[&str] = &["a hotfix that leaves out the wait"];

/// Name, files, the event that is trusted; what is to be said follows from the files.
fn ledgers() -> Vec<(String, Files, Option<Sha256>)> {
    let (begun, genesis) = begun();
    let mut rows = vec![("who may do what", begun.clone(), Some(genesis))];
    let mut sealed = begun.clone();
    let a = sealed.add(Body::GenerationSealed(contracted("1.0.0", "a", None)), &[genesis], 11, 2);
    sealed.add(Body::GenerationSealed(contracted("2.0.0", "b", None)), &[genesis], 12, 1);
    rows.push(("two that were written beside each other", sealed.clone(), Some(genesis)));
    rows.push(("another beginning than is trusted", sealed.clone(), Some(a)));
    let mut renamed = sealed.clone();
    renamed.0[1].0 = renamed.0[2].0.clone();
    rows.push(("a file under another name", renamed, None));
    let mut cut = sealed.clone();
    cut.0[1].1.pop();
    let name = Sha256::of(&cut.0[1].1).hex();
    cut.0[1].0 = format!("events/{}/{}.json", &name[..2], &name[2..]);
    rows.push(("half a file under its name", cut, None));
    let mut followed = sealed.clone();
    let version = "1.0.0".parse().unwrap();
    let body = GenerationAbandoned { reason: "x".into(), version };
    followed.add(Body::GenerationAbandoned(body), &[a], 13, 2);
    let mut removed = followed.clone();
    removed.0.remove(1);
    rows.push(("one that another follows is gone", removed, None));
    let mut older = begun.clone();
    older.add(Body::GenerationSealed(contracted("1.0.0", "a", None)), &[genesis], 9, 2);
    rows.push(("older than what it follows", older, None));
    let mut stranger = begun.clone();
    stranger.add(Body::GenerationSealed(contracted("1.0.0", "a", None)), &[genesis], 11, 3);
    rows.push(("by a key without a role", stranger, None));
    let mut twice = sealed.clone();
    twice.add(Body::GenerationSealed(contracted("1.0.0", "c", None)), &[genesis], 13, 2);
    rows.push(("one version sealed twice", twice, None));
    let mut fork = begun.clone();
    fork.add(Body::RolesSet(roles(&[(1, ALL)])), &[genesis], 11, 1);
    fork.add(Body::RolesSet(roles(&[(1, &[Role::Owner])])), &[genesis], 12, 1);
    rows.push(("roles that were changed twice beside each other", fork, None));
    let mut digest = begun;
    let mut body = contracted("1.0.0", "a", None);
    body.document = json!({ "title": "b" });
    digest.add(Body::GenerationSealed(body), &[genesis], 11, 2);
    rows.push(("a contract with another digest", digest, None));
    rows.into_iter().map(|(name, files, genesis)| (name.to_owned(), files, genesis)).collect()
}

/// Where the working tree stood.
fn commits() -> Vec<(String, Files, Option<Sha256>)> {
    let (begun, genesis) = begun();
    let stood = [
        ("where the working tree stood", json!("0123456789".repeat(4))),
        ("the same in a repository of SHA-256", json!("01234567".repeat(8))),
        ("half a commit", json!("0123456789".repeat(2))),
        ("the name of a commit", json!("HEAD")),
        ("a member without a value", json!(null)),
    ];
    let row = |(name, stood_at): (&str, Value)| {
        let mut files = begun.clone();
        files.add_at(stood_at, &[genesis], 11);
        (name.to_owned(), files, Some(genesis))
    };
    stood.into_iter().map(row).collect()
}

type Story = (String, (Files, Sha256), Option<Code>);

fn told(stories: Vec<Story>) -> Vec<(String, Files, Option<Sha256>)> {
    let rows = stories.into_iter();
    rows.map(|(name, (files, genesis), _)| (name, files, Some(genesis))).collect()
}

fn document(ledgers: Vec<(String, Files, Option<Sha256>)>) -> Value {
    let vectors = ledgers.into_iter().map(|(name, files, genesis)| {
        let said = match check(&files.0, genesis) {
            Ok(ledger) => json!({ "events": ledger.events().len(), "head": ledger.head() }),
            Err(refusal) => json!({ "code": refusal.code }),
        };
        let rows = files
            .0
            .iter()
            .map(|(path, bytes)| json!({ "path": path, "text": String::from_utf8(bytes.clone()).unwrap() }));
        let rows: Vec<Value> = rows.collect();
        json!({ "name": name, "genesis": genesis, "files": rows, "expect": said })
    });
    let vectors: Vec<Value> = vectors.collect();
    json!({ "format": "estoppel-ledger-vectors/1", "vectors": vectors })
}

/// What is written now is what was published, and follows the schema. It is made where it was never published.
fn hold(name: &str, vectors: &str, mut made: Value, replaced: &[&str]) {
    let spec = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/");
    let lock = format!("{spec}{name}.lock");
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !std::path::Path::new(&lock).exists() {
        let made = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(format!("{spec}{name}.json"), &made).unwrap();
        std::fs::write(&lock, format!("{}  {name}.json\n", Sha256::of(made.as_bytes()).hex())).unwrap();
    }
    let digest = Sha256::of(vectors.as_bytes()).hex();
    assert_eq!(
        std::fs::read_to_string(lock).unwrap(),
        format!("{digest}  {name}.json\n"),
        "published vectors never change"
    );
    let file: Value = serde_json::from_str(vectors).unwrap();
    let is_replaced = |vector: &Value| vector["name"].as_str().is_some_and(|name| replaced.contains(&name));
    let published = file["vectors"].as_array().unwrap();
    for (vector, published) in made["vectors"].as_array_mut().unwrap().iter_mut().zip(published) {
        if is_replaced(vector) {
            assert_ne!(vector["expect"], published["expect"], "{}", vector["name"]);
            vector["expect"] = published["expect"].clone();
        }
    }
    assert!(made == file, "what is written now is what was published");
    let schema = serde_json::from_str(include_str!("../../../../../spec/ledger.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for vector in published.iter().filter(|vector| !is_replaced(vector)) {
        let row = |row: &Value| {
            (row["path"].as_str().unwrap().to_owned(), row["text"].as_str().unwrap().as_bytes().to_vec())
        };
        let files: Vec<_> = vector["files"].as_array().unwrap().iter().map(row).collect();
        let genesis = vector["genesis"].as_str().map(|text| Sha256::parse(text).unwrap());
        match check(&files, genesis) {
            Ok(ledger) => {
                assert_eq!(vector["expect"]["head"], ledger.head().to_string(), "{}", vector["name"]);
                for event in ledger.events() {
                    let said = schema.validate(&event.document()).err().map(|error| error.to_string());
                    assert_eq!(said, None, "{}", vector["name"]);
                }
            }
            Err(refusal) => assert_eq!(vector["expect"]["code"], refusal.code.as_str(), "{}", vector["name"]),
        }
    }
}

#[test]
fn the_published_vectors_hold_and_follow_their_schema() {
    hold("ledger-vectors", VECTORS, document(ledgers()), &[]);
}

#[test]
fn the_published_vectors_of_releases_hold_and_follow_their_schema() {
    hold("ledger-release-vectors", RELEASES, document(told(super::releases::stories())), &[]);
}

#[test]
fn the_published_vectors_of_stages_hold_and_follow_their_schema() {
    hold("ledger-ladder-vectors", LADDER, document(told(super::ladder::stories())), REPLACED);
}

#[test]
fn the_published_vectors_of_counts_hold_and_follow_their_schema() {
    hold("ledger-count-vectors", COUNTS, document(told(super::counts::stories())), &[]);
    let names: Vec<String> = super::counts::stories().into_iter().map(|(name, _, _)| name).collect();
    assert!(REPLACED.iter().all(|name| names.iter().any(|known| known == name)));
}

#[test]
fn the_published_vectors_of_amendments_hold_and_follow_their_schema() {
    hold("ledger-lapse-vectors", LAPSES, document(told(super::lapses::stories())), &[]);
}

#[test]
fn the_published_vectors_of_commits_hold_and_follow_their_schema() {
    hold("ledger-commit-vectors", COMMITS, document(commits()), &[]);
}

#[test]
fn every_kind_is_in_the_specification_and_in_the_schema() {
    let spec = include_str!("../../../../../spec/ledger.md");
    let schema: Value = serde_json::from_str(include_str!("../../../../../spec/ledger.schema.json")).unwrap();
    let listed = schema["properties"]["kind"]["enum"].as_array().unwrap();
    assert_eq!(listed.len(), Body::KINDS.len());
    for kind in Body::KINDS {
        assert!(
            spec.contains(&format!("| `{kind}` |")) && listed.iter().any(|listed| listed == kind),
            "{kind}"
        );
    }
}
