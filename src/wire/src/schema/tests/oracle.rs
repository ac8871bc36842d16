//! Schemas and values made at random: the answer is the oracle's, whatever the chunks.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::splits::cut;

const NAMES: [&str; 6] = ["a", "b", "c", "ab", "x/y", "é"];

pub(super) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3_i64..6).prop_map(Value::from),
        prop::sample::select(vec![0.5, 1.0, 2.0, -1.5, 1e2]).prop_map(Value::from),
        prop::sample::select(vec!["", "a", "b", "ab", "abc", "é😀", "1", "a\n"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(NAMES.to_vec()), inner), 0..4).prop_map(|members| {
                Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

fn names() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(NAMES.to_vec(), 0..3)
}

fn pattern() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["^a", "b$", "^[a-c]+$", "", "é", "^.$", r"^\w+$", r"\s"])
}

/// One keyword with its value, given what makes subschemas.
fn keyword(inner: BoxedStrategy<Value>) -> BoxedStrategy<Vec<(&'static str, Value)>> {
    let one = |name: &'static str, of: BoxedStrategy<Value>| of.prop_map(move |v| vec![(name, v)]).boxed();
    let count = |name: &'static str| (0_u64..4).prop_map(move |n| vec![(name, json!(n))]).boxed();
    let number = |name: &'static str| {
        prop::sample::select(vec![json!(-1), json!(0), json!(1.5), json!(2), json!(3)])
            .prop_map(move |n| vec![(name, n)])
            .boxed()
    };
    let list = |name: &'static str| {
        prop::collection::vec(inner.clone(), 1..4).prop_map(move |l| vec![(name, Value::from(l))]).boxed()
    };
    let map = |name: &'static str| {
        prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), inner.clone(), 1..4)
            .prop_map(move |m| vec![(name, json!(m))])
            .boxed()
    };
    let types = prop::sample::subsequence(
        vec!["null", "boolean", "integer", "number", "string", "array", "object"],
        1..4,
    );
    prop::strategy::Union::new(vec![
        types.prop_map(|types| vec![("type", json!(types))]).boxed(),
        one("const", value().boxed()),
        prop::collection::vec(value(), 1..4).prop_map(|values| vec![("enum", json!(values))]).boxed(),
        number("minimum"),
        number("maximum"),
        number("exclusiveMinimum"),
        number("exclusiveMaximum"),
        prop::sample::select(vec![json!(0.5), json!(2), json!(3)])
            .prop_map(|n| vec![("multipleOf", n)])
            .boxed(),
        count("minLength"),
        count("maxLength"),
        pattern().prop_map(|p| vec![("pattern", json!(p))]).boxed(),
        count("minItems"),
        count("maxItems"),
        Just(vec![("uniqueItems", json!(true))]).boxed(),
        count("minProperties"),
        count("maxProperties"),
        names().prop_map(|names| vec![("required", json!(names))]).boxed(),
        (prop::sample::select(NAMES.to_vec()), names())
            .prop_map(|(name, needed)| vec![("dependentRequired", json!({ name: needed }))])
            .boxed(),
        map("properties"),
        map("properties"),
        (pattern(), inner.clone()).prop_map(|(p, v)| vec![("patternProperties", json!({ p: v }))]).boxed(),
        one("additionalProperties", inner.clone()),
        one("propertyNames", inner.clone()),
        one("items", inner.clone()),
        list("prefixItems"),
        one("not", inner.clone()),
        list("allOf"),
        list("anyOf"),
        list("oneOf"),
        (inner.clone(), inner.clone(), inner.clone())
            .prop_map(|(a, b, c)| vec![("if", a), ("then", b), ("else", c)])
            .boxed(),
        map("dependentSchemas"),
        (inner.clone(), 0_u64..3, 1_u64..3)
            .prop_map(|(v, min, max)| {
                vec![("contains", v), ("minContains", json!(min)), ("maxContains", json!(max))]
            })
            .boxed(),
        one("contains", inner.clone()),
        one("unevaluatedProperties", prop_oneof![Just(json!(false)), inner.clone()].boxed()),
        one("unevaluatedItems", prop_oneof![Just(json!(false)), inner.clone()].boxed()),
        Just(vec![("$ref", json!("#/$defs/d"))]).boxed(),
    ])
    .boxed()
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => Just(json!({})),
        1 => Just(json!(true)),
        1 => Just(json!(false)),
        4 => prop::sample::select(vec!["integer", "string", "object", "array", "null"]).prop_map(|t| json!({ "type": t })),
    ];
    let inner = leaf.prop_recursive(3, 20, 3, |inner| {
        prop::collection::vec(keyword(inner.boxed()), 1..4).prop_map(|keywords| {
            Value::Object(
                keywords.into_iter().flatten().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>(),
            )
        })
    });
    let def = prop::collection::vec(keyword(Just(json!({"type": "integer"})).boxed()), 1..3)
        .prop_filter("no loop", |keywords| keywords.iter().flatten().all(|(name, _)| *name != "$ref"));
    (prop::collection::vec(keyword(inner.boxed()), 1..5), def).prop_map(|(keywords, def)| {
        let object = |keywords: Vec<Vec<(&'static str, Value)>>| {
            keywords.into_iter().flatten().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>()
        };
        let mut root = object(keywords);
        root.insert("$defs".into(), json!({ "d": object(def) }));
        Value::Object(root)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_the_oracles(schema in schema(), values in prop::collection::vec(value(), 1..12), places in prop::collection::vec(any::<usize>(), 0..6)) {
        let compiled = match Schema::compile(schema.to_string().as_bytes(), &SchemaLimits::default()) {
            Ok(compiled) => Arc::new(compiled),
            Err(errors) => {
                let over = errors.iter().all(|error| matches!(error.fault, Fault::BranchesMax { .. }));
                prop_assert!(over, "{schema}: {errors:?}");
                return Ok(());
            }
        };
        let oracle = oracle(&schema);
        let mut check = Check::new(compiled, CheckLimits::default(), KEY);
        for value in values {
            let text = value.to_string();
            let whole = run(&mut check, &[text.as_bytes()]);
            prop_assert_eq!(whole.is_ok(), oracle.is_valid(&value), "{} by {}: {:?}", text, schema, whole);
            let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            prop_assert_eq!(&run(&mut check, &single), &whole);
            prop_assert_eq!(&run(&mut check, &cut(text.as_bytes(), &places)), &whole);
        }
    }
}
