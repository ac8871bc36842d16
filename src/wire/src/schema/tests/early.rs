//! What is told early is what would be told in full.

use proptest::prelude::*;
use serde_json::json;

use super::{
    super::scalar::{Scalar, Text},
    *,
};
use crate::{
    json::{Container, Literal, Short},
    splits::cut,
};

/// The same schema with a duty that says nothing, which is enough for a choice to be judged by tasks.
fn by_tasks(schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema["minProperties"] = json!(0);
    schema["minItems"] = json!(0);
    schema
}

fn text() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["a", "b", "c", "ä", "", "quite a long text, of more than sixteen bytes"])
        .prop_map(|text| json!(text))
}

fn member() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({}),
        json!(false),
        json!({"type": "integer"}),
        json!({"const": 1}),
        json!({"type": "object", "required": ["b"]}),
        json!({"type": "array", "items": {"type": "integer"}, "uniqueItems": true}),
    ])
}

fn branch() -> impl Strategy<Value = Value> {
    let tag = prop_oneof![
        6 => text().prop_map(|text| json!({ "const": text })),
        2 => prop::collection::vec(text(), 2..4).prop_map(|texts| json!({ "type": "string", "enum": texts })),
        1 => Just(json!({ "enum": [1, "a", null] })),
        1 => Just(json!({ "type": "string" })),
        1 => Just(json!({ "const": "a", "maxLength": 3 })),
    ];
    let more = prop::sample::subsequence(
        vec![
            ("type", json!("object")),
            ("type", json!(["object", "array"])),
            ("type", json!("null")),
            ("required", json!(["a"])),
            ("additionalProperties", json!(false)),
            ("maxProperties", json!(2)),
            ("uniqueItems", json!(true)),
        ],
        0..3,
    );
    (tag, member(), more).prop_map(|(tag, member, more)| {
        let mut branch = json!({ "properties": { "t": tag, "a": member } });
        more.into_iter().for_each(|(keyword, value)| branch[keyword] = value);
        branch
    })
}

/// A choice, as such or for each member of something else.
fn choice() -> impl Strategy<Value = (Value, Value)> {
    let branches = (prop::sample::select(vec!["oneOf", "anyOf"]), prop::collection::vec(branch(), 1..5));
    (branches, 0..4).prop_map(|((keyword, branches), around)| {
        let early = json!({ keyword: branches });
        let late = by_tasks(&early);
        let wrap = |choice: Value| match around {
            0 => json!({ "items": choice }),
            1 => json!({ "items": choice, "uniqueItems": true }),
            2 => json!({ "additionalProperties": choice, "properties": { "a": { "items": choice } } }),
            _ => choice,
        };
        (wrap(early), wrap(late))
    })
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => text().prop_map(|text| text.to_string()),
        1 => Just(String::from(r#""\u0061""#)),
        2 => prop::sample::select(vec!["1", "1.0", "2", "null", "[]", "[1,1]", "{}"]).prop_map(String::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let name = prop::sample::select(vec!["t", "t", "a", "b", "\\u0074"]);
        let tagged = (text(), prop::collection::vec((name.clone(), inner.clone()), 0..3))
            .prop_map(|(tag, members)| object([("t", tag.to_string())].into_iter().chain(members)));
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((name, inner), 0..3).prop_map(object),
            tagged,
        ]
    })
}

fn object(members: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let members: Vec<String> =
        members.into_iter().map(|(name, value)| format!(r#""{name}": {value}"#)).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn a_choice_of_tagged_objects_sets_no_tasks_to_work() {
    let schema = compiled(
        r#"{"items":{"oneOf":[{"type":"null"},
            {"properties":{"t":{"const":"a"}},"type":"object"},{"properties":{"t":{"const":"b"}},"type":"object"}]}}"#,
    );
    let mut check = Check::new(schema, CheckLimits::default(), KEY);
    run(&mut check, &[br#"[{"t":"a"},{"t":"b","x":{"t":1}},null]"#]).expect("valid");
    assert_eq!(check.task_bytes(), 0);
    run(&mut check, &[br#"[{"x":1,"t":"a"}]"#]).expect("valid, told later");
    assert!(check.task_bytes() > 0);
}

#[test]
fn what_has_one_type_among_others_stands_alone() {
    let schema =
        compiled(r#"{"anyOf":[{"type":"null"},{"type":"object","required":["a"]},{"type":"array"}]}"#);
    let choice = schema.program.node(schema.program.root).choice.as_ref().expect("a choice");
    assert!(
        [Container::Object, Container::Array].into_iter().all(|container| choice.sole(container).is_some())
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_choice_told_early_fails_like_one_told_late((early, late) in choice(), texts in prop::collection::vec(value(), 1..8), places in prop::collection::vec(any::<usize>(), 0..6)) {
        let checks = [&early, &late].map(|schema| Check::new(compiled(&schema.to_string()), CheckLimits::default(), KEY));
        let [mut early_check, mut late_check] = checks;
        for text in texts {
            let told = run(&mut late_check, &[text.as_bytes()]);
            prop_assert_eq!(&run(&mut early_check, &[text.as_bytes()]), &told, "{} by {}", text, early);
            prop_assert_eq!(&run(&mut early_check, &cut(text.as_bytes(), &places)), &told, "{} by {}", text, early);
        }
    }

    #[test]
    fn what_is_admitted_at_once_passes_in_full(
        types in prop::sample::select(vec![json!("integer"), json!("number"), json!("string"), json!(["integer", "string", "null"]), json!("boolean")]),
        bounds in prop::sample::subsequence(vec!["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"], 0..3),
        limits in prop::collection::vec(prop_oneof![(-3..4_i64).prop_map(|n| json!(n)), Just(json!(0.5))], 5),
        lengths in (0..3_u64, 0..4_u64),
        number in "-?[0-4]([.][05]{1,2})?",
        text in "[a-c]{0,4}",
    ) {
        let mut schema = json!({ "type": types, "minLength": lengths.0, "maxLength": lengths.1 });
        for (keyword, limit) in bounds.into_iter().zip(limits) {
            let limit = if keyword == "multipleOf" { json!(2) } else { limit };
            schema[keyword] = limit;
        }
        let schema = compiled(&schema.to_string());
        let program = &schema.program;
        let at_once = program.node(program.root).at_once;
        let in_full = |value| program.scalar(program.root, value).is_ok();
        let short = Short::parse(number.as_bytes()).expect("few digits");
        prop_assert!(!at_once.admits_number(short) || in_full(Scalar::Number(number.as_bytes())));
        let text = text.as_bytes();
        for literal in [Literal::True, Literal::False, Literal::Null] {
            prop_assert_eq!(at_once.admits_literal(literal), in_full(Scalar::Literal(literal)));
        }
        prop_assert_eq!(at_once.admits_text(text.len() as u64), in_full(Scalar::Text(Text::whole(text))));
    }
}
