use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

/// The errors of a contract, each as `pointer: what`.
fn errors(contract: &Value) -> Vec<String> {
    let errors = Contract::parse(contract.to_string().as_bytes()).map(|_| ()).unwrap_err();
    errors.iter().map(|error| format!("{}: {}", error.pointer, error.what)).collect()
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../../../spec/contracts/csv.schema.json")).unwrap()
}

/// Every member that the schema knows, with a value that holds.
fn full() -> Value {
    json!({
        "version": 1, "description": "all of it", "delimiter": ";", "header": "any-order", "extra_columns": "allow",
        "formulas": "allow", "final_newline": "required", "rows": { "min": 1, "max": 2 },
        "limits": { "field_bytes_max": 10, "record_bytes_max": 100, "columns_max": 5, "unique_values_max": 7 },
        "columns": [
            {
                "name": "a", "type": "number", "required": true, "unique": true, "pattern": "[0-9.]+",
                "enum": ["1", "2.5"], "min": 0.5, "max": 2.5, "min_length": 1, "max_length": 3
            },
            { "name": "b", "type": "date", "min": "2026-01-01", "max": "2026-12-31" }
        ]
    })
}

#[test]
fn a_contract_says_what_it_says() {
    let contract = Contract::parse(full().to_string().as_bytes()).unwrap();
    let form = contract.form();
    assert_eq!(form.delimiter.byte(), b';');
    assert_eq!(form.final_newline, super::super::FinalNewline::Required);
    let limits = contract.limits();
    assert_eq!((limits.field_bytes_max, limits.record_bytes_max), (10, 100));
    assert_eq!((limits.columns_max, limits.rows_max), (5, 2));
    assert_eq!((contract.rows_min, contract.unique_values_max), (1, 7));
    assert_eq!((contract.order, contract.extra_columns), (Order::Any, ExtraColumns::Allow));
    assert_eq!((contract.formulas, contract.columns.len()), (Formulas::Allow, 2));
}

#[test]
fn the_schema_and_the_parser_know_the_same_members() {
    let (schema, full) = (schema(), full());
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&schema["properties"]), names(&full));
    assert_eq!(names(&schema["properties"]["rows"]["properties"]), names(&full["rows"]));
    assert_eq!(names(&schema["properties"]["limits"]["properties"]), names(&full["limits"]));
    assert_eq!(names(&schema["$defs"]["column"]["properties"]), names(&full["columns"][0]));
}

#[test]
fn the_schema_and_the_parser_have_the_same_words_bounds_and_defaults() {
    let schema = schema();
    for name in ["delimiter", "header", "extra_columns", "formulas", "final_newline"] {
        for word in schema["properties"][name]["enum"].as_array().unwrap() {
            let mut contract = json!({ "version": 1, "columns": [{ "name": "a" }] });
            contract[name] = word.clone();
            Contract::parse(contract.to_string().as_bytes()).unwrap();
        }
        assert_eq!(schema["properties"][name]["default"], schema["properties"][name]["enum"][0]);
    }
    for word in schema["$defs"]["column"]["properties"]["type"]["enum"].as_array().unwrap() {
        let contract = json!({ "version": 1, "columns": [{ "name": "a", "type": word }] });
        Contract::parse(contract.to_string().as_bytes()).unwrap();
    }
    let limits = schema["properties"]["limits"]["properties"].as_object().unwrap();
    for (name, limit) in limits {
        let contract = |n: u64| json!({ "version": 1, "columns": [{ "name": "a" }], "limits": { name: n } });
        let most = limit["maximum"].as_u64().unwrap();
        Contract::parse(contract(most).to_string().as_bytes()).unwrap();
        assert_eq!(errors(&contract(most + 1)).len(), 1);
        assert_eq!(errors(&contract(0)).len(), 1);
    }
    let plain = Contract::parse(br#"{"version":1,"columns":[{"name":"a"}]}"#).unwrap();
    assert_eq!((plain.form(), plain.limits()), (Form::default(), Limits::default()));
    let default = |name: &str| limits[name]["default"].as_u64().unwrap();
    assert_eq!(default("field_bytes_max"), u64::from(plain.limits.field_bytes_max));
    assert_eq!(default("record_bytes_max"), u64::from(plain.limits.record_bytes_max));
    assert_eq!(default("columns_max"), u64::from(plain.limits.columns_max));
    assert_eq!(default("unique_values_max"), plain.unique_values_max as u64);
    assert_eq!(schema["properties"]["rows"]["properties"]["max"]["default"], plain.limits.rows_max);
}

#[test]
fn all_errors_are_reported_at_once_with_their_places() {
    let contract = json!({
        "version": 2, "delimeter": ";", "header": "yes", "rows": { "min": 5, "max": 4 }, "limits": { "depth": 1 },
        "columns": [
            { "name": "a", "pattern": "(?=x)", "type": "text" },
            { "name": "a", "min": 1, "enum": ["x", ""] },
            { "name": "", "type": "number", "min": 2, "max": 1.9, "unique": "yes" },
            { "name": "d", "type": "date", "min": "2026-02-30", "min_length": 2, "max_length": 1 },
            { "name": "e", "type": "integer", "max": 1.5 },
            { "name": "f", "type": "date-time", "min": "2026-01-01T00:00:00Z", "max": "2026-01-01T00:00:00+01:00" },
            7
        ]
    });
    let pointers: Vec<String> =
        errors(&contract).iter().map(|error| error.split(": ").next().unwrap().to_string()).collect();
    let expected = [
        "/columns/0/pattern",
        "/columns/0/type",
        "/columns/1/enum/1",
        "/columns/1/min",
        "/columns/1/name",
        "/columns/2/min",
        "/columns/2/name",
        "/columns/2/unique",
        "/columns/3/min",
        "/columns/3/min_length",
        "/columns/4/max",
        "/columns/5/min",
        "/columns/6",
        "/columns/6/name",
        "/delimeter",
        "/header",
        "/limits/depth",
        "/rows/min",
        "/version",
    ];
    assert_eq!(pointers, expected);
}

#[test]
fn what_is_no_contract_is_refused() {
    for (text, pointer, what) in [
        ("", "", "the body ended early, at byte 0"),
        ("[]", "", "must be an object"),
        ("{\"version\":1,\"version\":1,\"columns\":[{\"name\":\"a\"}]}", "/version", "comes twice"),
        (
            "{\"version\":1,\"columns\":[{\"name\":\"a\",\"a/b\":1,\"a/b\":2}]}",
            "/columns/0/a~1b",
            "comes twice",
        ),
        ("{\"version\":1}", "/columns", "must be a list of 1 to 1024 columns"),
        ("{\"version\":1,\"columns\":[]}", "/columns", "must be a list of 1 to 1024 columns"),
        ("{\"version\":1,}", "", "not well-formed JSON, at byte 13"),
        ("[[[[[[[[[[]]]]]]]]]]", "", "nested too deep, at byte 8"),
    ] {
        let errors = Contract::parse(text.as_bytes()).map(|_| ()).unwrap_err();
        assert!(
            errors.iter().any(|error| error.pointer == pointer && error.what == what),
            "{text}: {errors:?}"
        );
    }
    let long = format!("{{\"version\":1,\"description\":\"{}\"}}", "x".repeat(CONTRACT_BYTES_MAX));
    assert_eq!(Contract::parse(long.as_bytes()).unwrap_err()[0].what, "is longer than 1048576 bytes");
    let many: String = (0..100).map(|n| format!("\"m{n}\":0,")).collect();
    let errors = Contract::parse(format!("{{{many}\"z\":0}}").as_bytes()).unwrap_err();
    assert_eq!((errors[0].pointer.as_str(), errors[0].what.as_str()), ("/m64", "one member too many"));
}

#[test]
fn patterns_share_one_bound() {
    let pattern = r"[\w ]{1,8}";
    let columns: Vec<Value> =
        (0..16).map(|n| json!({ "name": format!("c{n}"), "pattern": pattern })).collect();
    let one = Pattern::new(pattern).unwrap().held_bytes();
    let fit = pattern::PATTERNS_BYTES_MAX / one;
    assert!((2..15).contains(&fit), "{one} bytes");
    let contract = |n: usize| json!({ "version": 1, "columns": columns[..n] });
    let expected = format!("/columns/{fit}/pattern: is too large together with those before it");
    assert_eq!(errors(&contract(fit + 1)), [expected]);
}
