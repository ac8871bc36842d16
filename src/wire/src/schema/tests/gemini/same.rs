//! Gemini schemas and values made at random: the answer is that of the same in JSON Schema, and the oracle's.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{super::oracle::value, *};

const NAMES: [&str; 4] = ["a", "b", "ab", "min_items"];

/// A Gemini schema, and the same said in JSON Schema.
type Pair = (Value, Value);

/// Members of the two.
type Members = (Vec<(&'static str, Value)>, Vec<(&'static str, Value)>);

fn keyword(inner: BoxedStrategy<Pair>) -> BoxedStrategy<Members> {
    let count = |camel: &'static str, snake: &'static str| {
        (0_u64..4, any::<bool>(), any::<bool>())
            .prop_map(move |(n, as_text, as_snake)| {
                let written = if as_text { json!(n.to_string()) } else { json!(n) };
                (vec![(if as_snake { snake } else { camel }, written)], vec![(camel, json!(n))])
            })
            .boxed()
    };
    let bound = |name: &'static str| {
        (prop::sample::select(vec![json!(-1), json!(0), json!(1.5), json!(2)]), any::<bool>())
            .prop_map(move |(n, as_text)| {
                let written = if as_text { json!(n.to_string()) } else { n.clone() };
                (vec![(name, written)], vec![(name, n)])
            })
            .boxed()
    };
    let list = |camel: &'static str, snake: &'static str| {
        (prop::collection::vec(inner.clone(), 1..4), any::<bool>())
            .prop_map(move |(pairs, as_snake)| {
                let (own, other): (Vec<Value>, Vec<Value>) = pairs.into_iter().unzip();
                (vec![(if as_snake { snake } else { camel }, json!(own))], vec![(camel, json!(other))])
            })
            .boxed()
    };
    let texts = || prop::sample::subsequence(vec!["a", "b", "ab", "1", "2"], 1..4);
    prop::strategy::Union::new(vec![
        count("minItems", "min_items"),
        count("maxItems", "max_items"),
        count("minLength", "min_length"),
        count("maxLength", "max_length"),
        count("minProperties", "min_properties"),
        count("maxProperties", "max_properties"),
        bound("minimum"),
        bound("maximum"),
        list("anyOf", "any_of"),
        list("prefixItems", "prefix_items"),
        prop::sample::select(vec!["^a", "b$", "^.$"])
            .prop_map(|p| (vec![("pattern", json!(p))], vec![("pattern", json!(p))]))
            .boxed(),
        prop::sample::subsequence(NAMES.to_vec(), 0..3)
            .prop_map(|names| (vec![("required", json!(names))], vec![("required", json!(names))]))
            .boxed(),
        inner.clone().prop_map(|(own, other)| (vec![("items", own)], vec![("items", other)])).boxed(),
        inner
            .clone()
            .prop_map(|(own, other)| {
                (vec![("additionalProperties", own)], vec![("additionalProperties", other)])
            })
            .boxed(),
        prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), inner, 1..4)
            .prop_map(|map| {
                let own: Map<_, _> = map.iter().map(|(k, (own, _))| (k.to_string(), own.clone())).collect();
                let other: Map<_, _> = map.iter().map(|(k, (_, it))| (k.to_string(), it.clone())).collect();
                (vec![("properties", json!(own))], vec![("properties", json!(other))])
            })
            .boxed(),
        texts()
            .prop_map(|texts| {
                let enumeration = json!(texts);
                (
                    vec![("type", json!("STRING")), ("enum", enumeration.clone())],
                    vec![("type", json!("string")), ("enum", enumeration)],
                )
            })
            .boxed(),
        Just((
            vec![("type", json!("INTEGER")), ("enum", json!(["1", "2"]))],
            vec![("type", json!("integer")), ("enum", json!([1, 2]))],
        ))
        .boxed(),
        prop::sample::select(vec!["null", "boolean", "integer", "number", "string", "array", "object"])
            .prop_map(|name| (vec![("type", json!(name.to_ascii_uppercase()))], vec![("type", json!(name))]))
            .boxed(),
        Just((vec![("ref", json!("#/defs/d"))], vec![("$ref", json!("#/$defs/d"))])).boxed(),
    ])
    .boxed()
}

/// In JSON Schema `nullable` is an alternative; where there is no type, everything admits null but what says otherwise.
fn object((pairs, nullable): (Vec<Members>, bool)) -> Pair {
    let (mut own, mut other) = (Map::new(), Map::new());
    for (left, right) in pairs {
        let taken = |map: &Map<String, Value>| right.iter().any(|(name, _)| map.contains_key(*name));
        if taken(&other) {
            continue;
        }
        own.extend(left.into_iter().map(|(k, v)| (k.to_owned(), v)));
        other.extend(right.into_iter().map(|(k, v)| (k.to_owned(), v)));
    }
    if !nullable {
        return (Value::Object(own), Value::Object(other));
    }
    own.insert("nullable".into(), json!(true));
    (Value::Object(own), json!({ "anyOf": [{ "type": "null" }, other] }))
}

fn schema() -> impl Strategy<Value = Pair> {
    let leaf = prop_oneof![
        Just((json!({}), json!({}))),
        prop::sample::select(vec!["integer", "string", "object", "array"])
            .prop_map(|name| (json!({ "type": name.to_ascii_uppercase() }), json!({ "type": name }))),
    ];
    let inner = leaf.prop_recursive(3, 16, 3, |inner| {
        (prop::collection::vec(keyword(inner.boxed()), 1..4), any::<bool>()).prop_map(object)
    });
    (prop::collection::vec(keyword(inner.boxed()), 1..5), any::<bool>()).prop_map(object).prop_map(
        |(mut own, other)| {
            own["defs"] = json!({ "d": { "type": "INTEGER", "minimum": "1" } });
            (own, json!({ "allOf": [other], "$defs": { "d": { "type": "integer", "minimum": 1 } } }))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_those_of_the_same_in_json_schema((own, other) in schema(), values in prop::collection::vec(value(), 1..12)) {
        let Ok(compiled) = Schema::compile(other.to_string().as_bytes(), &SchemaLimits::default()) else {
            return Ok(()); // over the branches that a schema may have
        };
        let json_schema = Arc::new(compiled);
        let compiled = gemini(&own.to_string());
        prop_assert!(compiled.is_ok(), "{own}: {compiled:?}");
        let (Ok(compiled), oracle) = (compiled, oracle(&other)) else { return Ok(()) };
        let mut check = Check::new(compiled, CheckLimits::default(), KEY);
        let mut same = Check::new(json_schema, CheckLimits::default(), KEY);
        for value in values {
            let text = value.to_string();
            let found = run(&mut check, &[text.as_bytes()]);
            prop_assert_eq!(found.is_ok(), run(&mut same, &[text.as_bytes()]).is_ok(), "{} by {}", text, own);
            prop_assert_eq!(found.is_ok(), oracle.is_valid(&value), "{} by {}: {:?}", text, own, found);
        }
    }
}
