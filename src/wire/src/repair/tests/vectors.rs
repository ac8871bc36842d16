//! spec/repair-vectors.json, read and judged.

use serde_json::{Value, json};

use super::*;

const VECTORS: &str = include_str!("../../../../../spec/repair-vectors.json");

fn input(vector: &Value) -> Vec<u8> {
    match vector["hex"].as_str() {
        None => vector["input"].as_str().expect("an input").as_bytes().to_vec(),
        Some(hex) => (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits"))
            .collect(),
    }
}

fn classes(names: &Value) -> Vec<Class> {
    let names = names.as_array().into_iter().flatten();
    names.map(|name| Class::from_name(name.as_str().expect("a name")).expect("a class")).collect()
}

fn profile_of(vector: &Value) -> Profile {
    let granted = classes(&vector["classes"]).into_iter().fold(Classes::SAFE, Classes::with);
    let classes = classes(&vector["without"]).into_iter().fold(granted, Classes::without);
    let default = Profile::default();
    let edits_max = vector["edits_max"].as_u64().map_or(default.edits_max, |most| most as usize);
    Profile { classes, edits_max, ..default }
}

fn want(pair: &Value) -> Want {
    let scalar = match pair[1].as_str().expect("a type") {
        "null" => Scalar::Null,
        "boolean" => Scalar::Boolean,
        "integer" => Scalar::Integer,
        "number" => Scalar::Number,
        "string" => Scalar::String,
        other => panic!("{other} is no scalar"),
    };
    Want { pointer: pair[0].as_str().expect("a pointer").to_string(), scalar }
}

fn outcome(vector: &Value) -> Result<Outcome, Unrepairable> {
    let (profile, bytes) = (profile_of(vector), input(vector));
    let first = repair(&profile, &bytes)?;
    let Some(wants) = vector["wants"].as_array() else { return Ok(first) };
    coerce(&profile, &bytes, first, &wants.iter().map(want).collect::<Vec<_>>())
}

/// An edit as a receipt has it.
fn member(edit: &Edit) -> Value {
    let mut member = json!({"at": edit.offset, "op": edit.class.name()});
    if edit.deleted > 0 {
        member["del"] = edit.deleted.into();
    }
    if !edit.inserted.is_empty() {
        member["ins"] = edit.inserted.as_ref().into();
    }
    member
}

/// What a vector says of the outcome, in the vector's words.
fn answer(vector: &Value) -> Value {
    match outcome(vector) {
        Ok(Outcome::Intact) => json!({"intact": true}),
        Ok(Outcome::Repaired(Repaired { bytes, edits, lossy })) => {
            assert_eq!(apply(&input(vector), &edits), Ok(bytes.clone()));
            let edits: Vec<Value> = edits.iter().map(member).collect();
            json!({"output": String::from_utf8(bytes).expect("UTF-8"), "edits": edits, "lossy": lossy})
        }
        Err(code) => json!({"code": code.code()}),
    }
}

const EXPECTED: [&str; 5] = ["intact", "code", "output", "edits", "lossy"];

#[test]
fn vectors_have_their_answers() {
    let vectors = vectors();
    assert!(vectors.len() >= 60);
    let mut wrong = Vec::new();
    for vector in &vectors {
        let answer = answer(vector);
        let mut expected = vector.clone();
        expected.as_object_mut().expect("an object").retain(|name, _| EXPECTED.contains(&name.as_str()));
        if answer != expected {
            wrong.push(format!("{}\t{answer}", vector["name"]));
        }
    }
    assert!(wrong.is_empty(), "these are answered otherwise:\n{}", wrong.join("\n"));
}

#[test]
fn every_class_and_every_code_has_a_vector() {
    let vectors = vectors();
    let codes: Vec<_> = vectors.iter().filter_map(|vector| vector["code"].as_str()).collect();
    for code in Unrepairable::all().map(Unrepairable::code) {
        // The vectors use the default length.
        assert!(codes.contains(&code) || code == "BYTES_MAX", "{code}");
    }
    for class in Class::ALL {
        let edits = vectors.iter().filter_map(|vector| vector["edits"].as_array()).flatten();
        assert!(edits.clone().any(|edit| edit["op"] == class.name()), "{class:?}");
    }
}

fn vectors() -> Vec<Value> {
    let text: Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
    assert_eq!(text["profile"], PROFILE_ID);
    text["vectors"].as_array().expect("vectors").clone()
}
