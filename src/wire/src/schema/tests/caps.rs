//! Whatever comes, memory is bounded.

use super::*;

/// Feeds `text` in chunks as a network would; gives the answer and the most memory held.
fn memory(schema: &str, limits: CheckLimits, text: &[u8]) -> (Result<(), Violation>, usize) {
    let mut check = Check::new(compiled(schema), limits, KEY);
    let mut most = 0;
    for chunk in text.chunks(1_400) {
        let fed = check.feed(chunk);
        most = most.max(check.held_bytes());
        if fed.is_err() {
            return (fed, most);
        }
    }
    (check.finish(), most)
}

/// Documents that make a tree of many times their size.
fn amplifiers() -> Vec<(String, &'static str)> {
    let many = |item: &str| format!("[{}{item}]", format!("{item},").repeat(200_000));
    vec![
        (many("0"), r#"{"items":{"type":"integer"}}"#),
        (many("[0]"), r#"{"items":{"anyOf":[{"type":"array"},{"type":"null"}]}}"#),
        (many(r#"{"":0}"#), r#"{"items":{"type":"object","maxProperties":1}}"#),
        (many(r#"{"":0}"#), r#"{"items":{"oneOf":[{"required":["a"]},{"required":[""]}]}}"#),
        (many("0"), r#"{"contains":{"const":0},"unevaluatedItems":false,"items":true}"#),
        (format!("\"{}\"", "x".repeat(4_000_000)), r#"{"minLength":1}"#),
        (format!("\"{}\"", "x".repeat(4_000_000)), r#"{"not":{"enum":["a","b"]}}"#),
    ]
}

#[test]
fn documents_that_amplify_stay_in_constant_memory() {
    for (text, schema) in amplifiers() {
        let (answer, most) = memory(schema, CheckLimits::default(), text.as_bytes());
        assert_eq!(answer, Ok(()), "{schema}");
        assert!(most < 8 << 10, "{schema}: {most} bytes");
    }
}

#[test]
fn a_deep_nest_ends_at_its_limit() {
    let text = "[".repeat(200_000);
    let (answer, most) = memory("true", CheckLimits::default(), text.as_bytes());
    assert_eq!(answer.expect_err("refused").cause, Cause::Json(crate::Defect::DepthMax));
    assert!(most < 64 << 10, "{most} bytes");
}

#[test]
fn each_cap_has_its_code() {
    let limits = CheckLimits {
        names_max: 10,
        text_bytes_max: 20,
        unique_items_max: 10,
        branches_max: 7,
        evaluated_max: 10,
        ..CheckLimits::default()
    };
    let numbers: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let names: Vec<String> = (0..20).map(|n| format!("\"n{n}\":0")).collect();
    let object = format!("{{{}}}", names.join(","));
    let array = format!("[{}]", numbers.join(","));
    let text = format!("[\"{}\"]", "x".repeat(21));
    let wide = r##"{"$defs":{"t":{"anyOf":[{"items":{"$ref":"#/$defs/a"}},{"items":{"$ref":"#/$defs/b"}}]},
        "a":{"anyOf":[{"type":"array"},{"type":"array"},{"type":"array"}]},"b":{"anyOf":[{"type":"array"},{"type":"array"},{"type":"array"}]}},"$ref":"#/$defs/t"}"##;
    for (schema, text, code) in [
        ("true", &*object, "SCHEMA_NAMES_MAX"),
        (r#"{"uniqueItems":true}"#, &array, "SCHEMA_UNIQUE_ITEMS_MAX"),
        (r#"{"anyOf":[{"uniqueItems":true},true]}"#, &array, "SCHEMA_UNIQUE_ITEMS_MAX"),
        (r#"{"items":{"pattern":"x"}}"#, &text, "SCHEMA_TEXT_BYTES_MAX"),
        (r#"{"items":{"not":{"pattern":"y"}}}"#, &text, "SCHEMA_TEXT_BYTES_MAX"),
        (r#"{"contains":{"type":"integer"},"unevaluatedItems":false}"#, &array, "SCHEMA_EVALUATED_MAX"),
        (wide, "[[]]", "SCHEMA_BRANCHES_MAX"),
    ] {
        let violation = judge_with(&compiled(schema), limits, text.as_bytes()).expect_err("refused");
        assert_eq!(violation.cause.code(), code, "{schema}");
        assert_eq!(judge(&compiled(schema), text.as_bytes()), Ok(()), "{schema}");
    }
}

#[test]
fn a_warm_check_allocates_nothing_more() {
    let schema = r#"{"items":{"oneOf":[{"required":["a"]},{"properties":{"b":{"uniqueItems":true}},"required":["b"]}]}}"#;
    let text = r#"[{"a":"x","c":[{"q":1}]},{"b":["é\n",2,{"z":[3]}]}]"#;
    let mut check = Check::new(compiled(schema), CheckLimits::default(), KEY);
    run(&mut check, &[text.as_bytes()]).expect("valid");
    let warm = check.held_bytes();
    for _ in 0..10 {
        run(&mut check, &[text.as_bytes()]).expect("valid");
        assert_eq!(check.held_bytes(), warm);
    }
}

#[test]
fn what_is_dear_to_judge_is_refused_by_its_size_and_not_by_the_clock() {
    let patterns: Vec<String> = (0..300).map(|n| format!("\"^p{n}_[a-z]+$\":{{}}")).collect();
    let plain = format!(r#"{{"patternProperties":{{{}}}}}"#, patterns.join(","));
    let branches = format!(r#"{{"allOf":[{{"unevaluatedProperties":true}},{plain}]}}"#);
    let members = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("\"member_{n:08}\":0")).collect();
        format!("{{{}}}", all.join(","))
    };
    let limits = CheckLimits { cost_max: 1 << 20, ..CheckLimits::default() };
    for schema in [plain.as_str(), &branches] {
        let judge = |text: &str, size: usize| {
            let mut check = Check::new(compiled(schema), limits, KEY);
            text.as_bytes().chunks(size).try_for_each(|chunk| check.feed(chunk)).and_then(|()| check.finish())
        };
        assert_eq!(judge(&members(200), 1_400), Ok(()));
        let refused = judge(&members(2_000), 1_400).unwrap_err();
        assert_eq!(refused.cause, Cause::Cap(Cap::Cost));
        assert_eq!(judge(&members(2_000), 1), Err(refused.clone()));
        assert_eq!(judge(&members(9_000), 1 << 20), Err(refused), "it ends where it became too dear");
    }
    // Few patterns are paid for by the names themselves.
    let few = r#"{"patternProperties":{"^a":{},"^b":{}},"unevaluatedProperties":{"type":"integer"}}"#;
    let mut check = Check::new(compiled(few), CheckLimits { cost_max: 0, ..limits }, KEY);
    assert_eq!(check.feed(members(9_000).as_bytes()).and_then(|()| check.finish()), Ok(()));
}
