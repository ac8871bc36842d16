//! Gemini's `Schema`: each field by a table, and what is refused.

mod same;

use serde_json::json;

use super::{cases::shown, *};

fn gemini(schema: &str) -> Result<Arc<Schema>, Vec<String>> {
    let compiled = Schema::compile_in(Language::Gemini, schema.as_bytes(), &SchemaLimits::default());
    compiled.map(Arc::new).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// Rows are a value, and how it fails (`""`: it does not), as in the tables of JSON Schema.
fn check(schema: &str, rows: &[(&str, &str)]) {
    let compiled = gemini(schema).unwrap_or_else(|errors| panic!("{schema}: {errors:?}"));
    for (text, expected) in rows {
        let found = judge(&compiled, text.as_bytes());
        let found = found.as_ref().map_or_else(shown, |()| String::new());
        assert_eq!(found, *expected, "{text} by {schema}");
    }
}

#[test]
fn types_in_either_case() {
    for (name, good, bad) in [
        ("STRING", "\"a\"", "1"),
        ("NUMBER", "1.5", "\"1\""),
        ("INTEGER", "2", "2.5"),
        ("BOOLEAN", "true", "null"),
        ("ARRAY", "[1]", "{}"),
        ("OBJECT", "{\"a\":1}", "[]"),
        ("NULL", "null", "false"),
    ] {
        for name in [name.to_owned(), name.to_ascii_lowercase()] {
            check(&json!({ "type": name }).to_string(), &[(good, ""), (bad, "type  /type 0")]);
        }
    }
    for any in [r#"{"type":"TYPE_UNSPECIFIED"}"#, r#"{"type":null}"#, "{}"] {
        check(any, &[("1", ""), ("null", ""), ("[{}]", "")]);
    }
}

#[test]
fn nullable_admits_null_beside_whatever_else_is_said() {
    check(r#"{"type":"STRING","nullable":true}"#, &[("null", ""), ("\"a\"", ""), ("1", "type  /type 0")]);
    check(r#"{"type":"STRING","nullable":false}"#, &[("null", "type  /type 0")]);
    check(
        r#"{"type":"STRING","enum":["a"],"nullable":true}"#,
        &[("null", ""), ("\"a\"", ""), ("\"b\"", "enum  /enum 0")],
    );
    check(
        r#"{"anyOf":[{"type":"STRING"},{"type":"INTEGER"}],"nullable":true}"#,
        &[("null", ""), ("1", ""), ("true", "anyOf  /anyOf 0"), ("[]", "type  /anyOf/1/type 0")],
    );
    check(
        r##"{"ref":"#/defs/d","nullable":true,"defs":{"d":{"type":"INTEGER"}}}"##,
        &[("null", ""), ("1", ""), ("\"a\"", "anyOf  /anyOf 0")],
    );
}

#[test]
fn enum_lists_texts_of_the_type() {
    let rows = [("\"N\"", ""), ("\"n\"", "enum  /enum 0"), ("1", "type  /type 0")];
    check(r#"{"type":"STRING","format":"enum","enum":["N","S"]}"#, &rows);
    let rows = [("101", ""), ("101.0", ""), ("102", "enum  /enum 0"), ("\"101\"", "type  /type 0")];
    check(r#"{"type":"INTEGER","format":"enum","enum":["101"]}"#, &rows);
    check(r#"{"type":"BOOLEAN","enum":["true"]}"#, &[("true", ""), ("false", "enum  /enum 0")]);
    check(r#"{"enum":["1"]}"#, &[("\"1\"", ""), ("1", "enum  /enum 0")]);
    check(r#"{"enum":[]}"#, &[("1", "")]);
}

#[test]
fn the_format_enum_is_known_where_formats_are_asserted() {
    let limits = SchemaLimits { formats: Formats::Assert, ..SchemaLimits::default() };
    let compile = |schema: &str| Schema::compile_in(Language::Gemini, schema.as_bytes(), &limits);
    assert!(compile(r#"{"type":"STRING","format":"enum","enum":["a"]}"#).is_ok());
    assert!(compile(r#"{"type":"STRING","format":"enums","enum":["a"]}"#).is_err());
}

#[test]
fn counts_are_numbers_or_texts_in_either_spelling() {
    for schema in [
        r#"{"minItems":"1","maxItems":"2"}"#,
        r#"{"minItems":1,"maxItems":2}"#,
        r#"{"min_items":1,"max_items":"2"}"#,
    ] {
        check(
            schema,
            &[("[]", "minItems  /minItems 1"), ("[1,2]", ""), ("[1,2,3]", "maxItems  /maxItems 5")],
        );
    }
    check(
        r#"{"minLength":"1","max_length":2}"#,
        &[("\"\"", "minLength  /minLength 0"), ("\"é\"", ""), ("\"abc\"", "maxLength  /maxLength 0")],
    );
    check(
        r#"{"min_properties":"1","maxProperties":"1"}"#,
        &[("{}", "minProperties  /minProperties 1"), ("{\"a\":1}", "")],
    );
    check(r#"{"maxItems":"0"}"#, &[("[]", ""), ("[1]", "maxItems  /maxItems 1")]);
}

#[test]
fn bounds_patterns_and_formats() {
    check(
        r#"{"type":"NUMBER","minimum":"1.5","maximum":2}"#,
        &[("1.5", ""), ("1", "minimum  /minimum 0"), ("3", "maximum  /maximum 0")],
    );
    check(r#"{"pattern":"^a"}"#, &[("\"ab\"", ""), ("\"b\"", "pattern  /pattern 0")]);
    check(r#"{"type":"INTEGER","format":"int32"}"#, &[("3000000000", "")]);
}

#[test]
fn objects_arrays_and_references() {
    check(
        r#"{"type":"OBJECT","properties":{"a":{"type":"STRING"},"min_items":{}},"required":["a"],
            "propertyOrdering":["a"],"additionalProperties":false}"#,
        &[
            ("{\"a\":\"x\",\"min_items\":1}", ""),
            ("{}", "required  /required 1"),
            ("{\"a\":\"x\",\"minItems\":1}", " /minItems /additionalProperties 9"),
            ("{\"a\":1}", "type /a /properties/a/type 5"),
        ],
    );
    check(
        r#"{"additional_properties":{"type":"INTEGER"}}"#,
        &[("{\"a\":1}", ""), ("{\"a\":\"\"}", "type /a /additional_properties/type 5")],
    );
    check(
        r#"{"prefixItems":[{"type":"STRING"}],"items":{"type":"INTEGER"}}"#,
        &[
            ("[\"a\",1]", ""),
            ("[1]", "type /0 /prefixItems/0/type 1"),
            ("[\"a\",\"\"]", "type /1 /items/type 5"),
        ],
    );
    check(
        r##"{"type":"OBJECT","properties":{"pet":{"ref":"#/defs/Pet"}},
            "defs":{"Pet":{"type":"OBJECT","properties":{"friend":{"ref":"#/defs/Pet"}},"required":["name"]}}}"##,
        &[
            (r#"{"pet":{"name":1,"friend":{"name":2}}}"#, ""),
            (r#"{"pet":{"name":1,"friend":{}}}"#, "required /pet/friend /defs/Pet/required 27"),
        ],
    );
    check(r#"{"anyOf":[],"prefixItems":[]}"#, &[("[1]", "")]);
}

#[test]
fn annotations_say_nothing_of_values() {
    check(
        r#"{"title":"t","description":"d","default":{"type":"STRING"},"example":[1],"property_ordering":["a"]}"#,
        &[("1", "")],
    );
}

#[test]
fn what_is_not_understood_is_refused_where_it_stands() {
    for (schema, expected) in [
        ("true", "``: must be a schema, is a boolean"),
        (r#"{"type":["STRING","NULL"]}"#, "`/type`: must be a type name, is an array"),
        (r#"{"type":"FLOAT"}"#, "`/type`: `FLOAT` is not a type name"),
        (r#"{"type":3}"#, "`/type`: must be a type name, is a number"),
        (
            r#"{"properties":{"a":{"oneOf":[]}}}"#,
            "`/properties/a/oneOf`: this keyword is not supported here: Gemini's schemas do not have it",
        ),
        (
            r##"{"items":{"$ref":"#/defs/a"}}"##,
            "`/items/$ref`: this keyword is not supported here: Gemini's schemas do not have it",
        ),
        (
            r#"{"any_of":[{"const":1}]}"#,
            "`/any_of/0/const`: this keyword is not supported here: Gemini's schemas do not have it",
        ),
        (
            r#"{"MINITEMS":1}"#,
            "`/MINITEMS`: this keyword is not supported here: Gemini's schemas do not have it",
        ),
        (r#"{"minItems":1,"min_items":2}"#, "``: member `minItems` comes twice"),
        (r#"{"properties":{"a":true}}"#, "`/properties/a`: must be a schema, is a boolean"),
        (r#"{"properties":{"a":null}}"#, "`/properties/a`: must be a schema, is null"),
        (r#"{"items":[{}]}"#, "`/items`: must be a schema, is an array"),
        (r#"{"anyOf":{}}"#, "`/anyOf`: must be a list of schemas, is an object"),
        (r#"{"additionalProperties":1}"#, "`/additionalProperties`: must be a schema, is a number"),
        (r#"{"nullable":"true"}"#, "`/nullable`: must be a boolean, is a string"),
        (r#"{"enum":[1]}"#, "`/enum/0`: must be a string, is a number"),
        (r#"{"enum":"a"}"#, "`/enum`: must be a list of values, is a string"),
        (r#"{"type":"INTEGER","enum":["1","x"]}"#, "`/enum/1`: `x` is not a value of the type"),
        (r#"{"type":"OBJECT","enum":["{}"]}"#, "`/enum/0`: `{}` is not a value of the type"),
        (r#"{"minItems":"1e1"}"#, "`/minItems`: `1e1` is not a whole number that is not negative"),
        (r#"{"minItems":" 1"}"#, "`/minItems`: ` 1` is not a whole number that is not negative"),
        (r#"{"minItems":"-1"}"#, "`/minItems`: `-1` is not a whole number that is not negative"),
        (r#"{"maxLength":-1}"#, "`/maxLength`: `-1` is not a whole number that is not negative"),
        (r#"{"minimum":"NaN"}"#, "`/minimum`: `NaN` is not a number"),
        (r#"{"minimum":true}"#, "`/minimum`: must be a number, is a boolean"),
        (r#"{"required":"a"}"#, "`/required`: must be a list of member names, is a string"),
        (
            r#"{"pattern":"(?=a)"}"#,
            "`/pattern`: pattern is not regular, or not by ECMA-262: lookahead cannot be matched in linear time",
        ),
        (
            r#"{"items":{"defs":{}}}"#,
            "`/items/defs`: this keyword is not supported here: only the outermost schema has it",
        ),
        (r##"{"ref":"#/defs/a"}"##, "`/ref`: reference `#/defs/a` leads to nothing"),
        (
            r##"{"ref":"#/properties/a","properties":{"a":{}}}"##,
            "`/ref`: reference `#/properties/a` leads outside of this document",
        ),
        (
            r##"{"ref":"#/defs/a","defs":{"a":{"ref":"#/defs/a","nullable":true}}}"##,
            "`/defs/a`: this schema applies itself to the same value again",
        ),
    ] {
        let errors = gemini(schema).err().unwrap_or_else(|| panic!("{schema} is not refused"));
        assert_eq!(errors[0], expected, "{schema}");
    }
}
