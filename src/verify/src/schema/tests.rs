use super::compile::compile_pattern;
use super::*;
use crate::reference;

#[test]
fn the_schemas_of_the_specification_compile() {
    Schemas::compile().unwrap();
}

#[test]
fn every_place_is_found_in_the_receipt_schema() {
    fn slots(node: &Node, found: &mut Vec<Slot>) {
        if let Node::Object(members) = node {
            for member in members {
                found.extend(member.slot);
                slots(&member.node, found);
            }
        }
    }
    let mut found = Vec::new();
    slots(&Schemas::get().receipt.root, &mut found);
    assert_eq!(found.len(), SLOTS);
    for (at, (_, slot)) in PLACES.iter().enumerate() {
        assert_eq!(*slot as usize, at);
    }
}

#[test]
fn unknown_keywords_and_open_objects_are_refused() {
    for schema in [
        r#"{"type":"string","format":"date"}"#,
        r#"{"type":"object","properties":{}}"#,
        r#"{"type":"object","properties":{},"additionalProperties":true}"#,
        r#"{"type":"object","properties":{},"additionalProperties":false,"required":["a"]}"#,
        r#"{"type":"integer","exclusiveMinimum":1}"#,
        r##"{"$ref":"#/$defs/none"}"##,
        r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}"##,
        r#"{"type":["string","integer"]}"#,
        r#"{"oneOf":[]}"#,
    ] {
        assert!(Schema::compile(schema.as_bytes(), None, &[]).is_err(), "{schema}");
    }
}

fn check_pattern(pattern: &str, texts: &[&str]) {
    let steps = compile_pattern(pattern).unwrap();
    for text in texts {
        let found = matched(&steps, text.as_bytes()) == Some(text.len());
        assert_eq!(found, reference::matches(pattern, text), "{pattern} {text:?}");
    }
}

#[test]
fn patterns_match_as_by_backtracking() {
    check_pattern("^[a-z0-9._/-]{1,3}$", &["", "a", "a-b", "a/b", "abcd", "A", "a\n", "\u{e9}"]);
    check_pattern("^x[0-9]{2}\\.y?$", &["x12.", "x12.y", "x1.", "x123.", "x12y", "x12.yy"]);
    check_pattern("^[A-Z][A-Z0-9_]{0,3}$", &["A", "AB_9", "ABCDE", "9A", ""]);
    check_pattern("^[a-b]+=*$", &["a", "ab==", "=", ""]);
    check_pattern("^[A-Za-z0-9+/]{1,4}={0,2}$", &["abcd==", "abcd===", "=", "a="]);
}

#[test]
fn patterns_that_need_to_look_back_are_refused() {
    for pattern in
        ["^a*a$", "^[a-z]{1,4}x$", "^[a-z]+[0-9]*b$", "^a|b$", "^(a)$", "^.$", "^\\d$", "a", "^[^a]$", "^\"$"]
    {
        assert!(compile_pattern(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn items_that_must_differ_do() {
    let schema = br#"{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"},"uniqueItems":true,"minItems":1,"maxItems":3}},"additionalProperties":false}"#;
    let schema = Schema::compile(schema, None, &[]).unwrap();
    for (document, expected) in [
        (r#"{"a":[1,2]}"#, true),
        (r#"{"a":[1,2,3]}"#, true),
        (r#"{"a":[1,2,1]}"#, false),
        (r#"{"a":[]}"#, false),
        (r#"{"a":[1,2,3,4]}"#, false),
        (r#"{"a":[1,]}"#, false),
        (r#"{"a":[,1]}"#, false),
        (r#"{"b":[1]}"#, false),
        (r#"{}"#, true),
    ] {
        assert_eq!(schema.check(document.as_bytes(), &mut Slots::default()).is_ok(), expected, "{document}");
    }
}

#[test]
fn messages_name_the_member() {
    let document = br#"{"keys":[{"alg":"rsa"}],"v":"pef-trust/v0"}"#;
    let fault = Schemas::get().trust.check(document, &mut Slots::default()).unwrap_err();
    assert_eq!(
        fault.describe(document),
        "expected \"ed25519\" or \"ecdsa-p256-sha256\" in `keys.[0].alg`, at byte 16 stands \
         `\"rsa\"}],\"v\":\"pef-trust/v0\"}`"
    );
}
