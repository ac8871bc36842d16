//! The published vectors.

use estoppel_snapshot::Schema;
use serde_json::{Value, json};

use super::Kept;
use crate::*;

const VECTORS: &str = include_str!("../../../../spec/diff-vectors.json");

fn side(kind: Kind, normalizers: &Normalizers, items: &Value) -> Side {
    let mut reader = Reader::new(kind, normalizers);
    for item in items.as_array().unwrap() {
        let bytes = serde_json_canonicalizer::to_vec(item).unwrap();
        if kind != Kind::Schema {
            reader.line(&bytes).unwrap();
            continue;
        }
        let schema = Schema::parse(&bytes).unwrap();
        for (names, value) in schema.objects() {
            reader.object(&names, value.clone()).unwrap();
        }
        for (kind, count) in schema.uncovered_counts().as_object().unwrap() {
            reader.object(&["uncovered", kind], count.clone()).unwrap();
        }
    }
    reader.finish().unwrap()
}

fn document(vector: &Value) -> Value {
    let file = json!({ "format": "estoppel-normalizers/1", "paths": vector["normalizers"] }).to_string();
    let normalizers = Normalizers::new(Some(file.as_bytes())).unwrap();
    let kind =
        [Kind::Run, Kind::Journal, Kind::Schema].into_iter().find(|kind| vector["kind"] == kind.as_str());
    let bodies = vector["bodies"].as_object().unwrap().iter();
    let kept = Kept(bodies.map(|(digest, body)| (digest.clone(), body.as_str().unwrap().into())).collect());
    let of = |name: &str| side(kind.unwrap(), &normalizers, &vector[name]);
    let found = diff(&of("from"), &of("to"), &normalizers, (&kept, &kept)).unwrap();
    serde_json::from_slice(&found.bytes()).unwrap()
}

#[test]
fn the_published_vectors_hold_and_follow_their_schema() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let published = include_str!("../../../../spec/diff-vectors.lock");
    let digest = estoppel_evidence::Sha256::of(VECTORS.as_bytes()).hex();
    assert_eq!(published, format!("{digest}  diff-vectors.json\n"), "published vectors never change");
    let schema: Value = serde_json::from_str(include_str!("../../../../spec/diff.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 15, "{}", vectors.len());
    for vector in vectors {
        let made = document(vector);
        assert_eq!(made, vector["document"], "{}", vector["name"]);
        assert!(schema.is_valid(&made), "{}: {:?}", vector["name"], schema.validate(&made).err());
    }
}
