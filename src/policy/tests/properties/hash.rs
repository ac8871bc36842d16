//! What changes the hash, and what does not.

use estoppel_policy::{PolicyDocument, PolicyHash};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::generate;

fn hash(text: &str) -> PolicyHash {
    PolicyDocument::parse(text).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}")).hash()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spelling_key_order_and_comments_keep_the_hash(policy in generate::policy(), seed: u64) {
        let spelled = generate::spell(&policy, seed);
        prop_assert_eq!(hash(&spelled), hash(&policy.to_string()), "{}", spelled);
        let laid_out = PolicyDocument::laid_out(&spelled).unwrap();
        prop_assert_eq!(hash(&laid_out), hash(&spelled), "{}", laid_out);
        prop_assert_eq!(&PolicyDocument::laid_out(&laid_out).unwrap(), &laid_out);
        let comments = |text: &str| text.lines().filter(|line| line.contains("# a line") || line.contains("# why: {not}")).count();
        prop_assert_eq!(comments(&laid_out), comments(&spelled), "{}\n{}", spelled, laid_out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changing_any_scalar_of_a_random_policy_changes_the_hash(policy in generate::policy()) {
        every_scalar_counts(&policy);
    }
}

#[test]
fn changing_any_scalar_changes_the_hash() {
    let text = include_str!("../../fixtures/good/everything.canonical.json");
    every_scalar_counts(&serde_json::from_str(text).unwrap());
}

fn every_scalar_counts(policy: &Value) {
    let before = hash(&policy.to_string());
    for pointer in scalars(policy) {
        let accepted = others(policy.pointer(&pointer).unwrap()).into_iter().filter_map(|other| {
            let mut changed = policy.clone();
            *changed.pointer_mut(&pointer).unwrap() = other;
            PolicyDocument::parse(&changed.to_string()).ok()
        });
        let hashes: Vec<_> = accepted.map(|document| document.hash()).collect();
        // Other kinds than these have other keys, as have other classes, and the word beside a database is `none` alone.
        let only = pointer == "/version"
            || pointer.ends_with("/snapshot")
            || pointer.ends_with("/class")
            || ["cap", "distinct", "freeze", "hold", "idempotency"]
                .map(Value::from)
                .contains(policy.pointer(&pointer).unwrap());
        assert_eq!(hashes.is_empty(), only, "no other value fits at {pointer}");
        assert!(hashes.iter().all(|hash| *hash != before), "a change at {pointer} went unseen");
    }
}

#[test]
fn leaving_anything_out_changes_the_hash() {
    let text = include_str!("../../fixtures/good/everything.canonical.json");
    let policy: Value = serde_json::from_str(text).unwrap();
    let mut accepted = 0;
    for pointer in nodes(&policy) {
        let mut changed = policy.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match changed.pointer_mut(parent).unwrap() {
            Value::Object(map) => drop(map.remove(key)),
            Value::Array(items) => drop(items.remove(key.parse().unwrap())),
            _ => unreachable!("a scalar has no members"),
        }
        if let Ok(document) = PolicyDocument::parse(&changed.to_string()) {
            assert_ne!(document.hash(), hash(text), "{pointer}");
            accepted += 1;
        }
    }
    assert!(accepted > 40);
}

#[test]
fn the_order_of_rules_and_of_patterns_is_part_of_the_policy() {
    let rules = |a, b| json!({ "version": 1, "name": "order", "rules": [a, b] }).to_string();
    let rule = |id, tools| json!({ "id": id, "when": { "tool": tools }, "verdict": "allow" });
    let (a, b) = (rule("a", json!(["x1", "x2"])), rule("b", json!(["x3"])));
    assert_ne!(hash(&rules(&a, &b)), hash(&rules(&b, &a)));
    assert_ne!(hash(&rules(&a, &b)), hash(&rules(&rule("a", json!(["x2", "x1"])), &b)));
}

#[test]
fn sections_without_content_are_as_good_as_absent() {
    let empty = include_str!("../../fixtures/good/empty_sections.yaml");
    assert_eq!(hash(empty), hash("version: 1\nname: empty-sections\n"));
}

#[test]
fn a_default_that_is_written_out_is_another_document() {
    assert_ne!(hash("version: 1\nname: a\n"), hash("version: 1\nname: a\nlimits: { connect_ms: 5000 }\n"));
}

/// Pinned, so that a hash in an old receipt is found again by whoever has the file.
#[test]
fn the_hash_of_a_known_document_never_changes() {
    let text = include_str!("../../fixtures/good/known.yaml");
    let expected = "sha256:6b20cf949ac7cdd6a1be3e80745a8cfb9db73a8e9874044307396c37a34fa85b";
    assert_eq!(hash(text).to_string(), expected);
}

fn nodes(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (format!("/{key}"), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, value)| (format!("/{i}"), value)).collect(),
        _ => Vec::new(),
    };
    let below = |(key, value): &(String, &Value)| {
        let deeper = nodes(value).into_iter().map(|deeper| format!("{key}{deeper}"));
        std::iter::once(key.clone()).chain(deeper).collect::<Vec<_>>()
    };
    children.iter().flat_map(below).collect()
}

fn scalars(value: &Value) -> Vec<String> {
    let is_scalar =
        |pointer: &String| !matches!(value.pointer(pointer), Some(Value::Object(_) | Value::Array(_)));
    nodes(value).into_iter().filter(is_scalar).collect()
}

/// Values that may fit where this one does.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(number) => {
            let number = number.as_i64().unwrap();
            vec![json!(number + 1), json!(number - 1)]
        }
        Value::Bool(value) => vec![json!(!value)],
        Value::Null => vec![json!("other")],
        Value::String(text) => {
            let words = [
                "0",
                "any_order",
                "ignored",
                "enforce",
                "allow",
                "block",
                "none",
                "hmac",
                "low",
                "OTHER",
                "other",
                "own",
                "a:1/b",
                "json",
                "r1",
                "observe",
                "once",
                "place",
                "annotate",
                "filter",
                "as_is",
                "stream_and_cut",
                "single_quote",
                "value",
                "forecast",
                "weather",
                "weather",
                "tools",
                "request",
                "answer",
                "shadow",
                "medium",
                "https://a.example",
                "/v3/{other}",
                "accepted",
                "wait",
                "ada",
                "bob",
                "dan",
                "MCowBQYDK2VwAyEAuCCQD5w+GpmG7JbAhJadV0h+mdCr0LeGRbFK+hpoh6c=",
                "0000000000000000000000000000000000000000000000000000000000000000",
                "identity",
                "route",
                "model",
                "tool",
                "rate",
                "velocity",
                "tokens",
                "cost",
                "day",
                "month",
                "2026-02-01",
                "2026-12-25T00:00:00Z",
                "12:00",
                "mon",
                "merge",
            ];
            let drain = json!({ "drain": { "bytes": 0, "seconds": 1 } });
            let full = json!({ "full": { "reason": "other" } });
            let budget = json!({ "local_budget": 7 });
            let strings = words.into_iter().map(String::from).chain([format!("{text}x"), format!("{text} ")]);
            strings
                .filter(|other| other != text)
                .map(Value::from)
                .chain([drain, full, budget, json!({})])
                .collect()
        }
        other => panic!("{other} is no scalar of a policy"),
    }
}
