//! What is not enforced is not loaded.

use super::*;

fn refusal(schema: &str, limits: &SchemaLimits) -> String {
    match Schema::compile(schema.as_bytes(), limits) {
        Ok(_) => panic!("{schema} is not refused"),
        Err(errors) => errors[0].to_string(),
    }
}

#[test]
fn errors_have_the_place_and_the_cause() {
    for (schema, expected) in [
        (r#"{"minLength":-1}"#, "`/minLength`: `-1` is not a whole number that is not negative"),
        (
            r#"{"properties":{"a/b":{"type":"strng"}}}"#,
            "`/properties/a~1b/type`: `strng` is not a type name or a list of them",
        ),
        (r#"{"type":[]}"#, "`/type`: `[]` is not a type name or a list of them"),
        (r#"{"required":"a"}"#, "`/required`: must be a list of member names, is a string"),
        (r#"{"required":[1]}"#, "`/required/0`: must be a string, is a number"),
        (r#"{"anyOf":[]}"#, "`/anyOf`: must be a list of schemas that is not empty, is an array"),
        (r#"{"items":3}"#, "`/items`: must be a schema, is a number"),
        (r#"{"exclusiveMinimum":true}"#, "`/exclusiveMinimum`: must be a number, is a boolean"),
        (r#"{"multipleOf":0}"#, "`/multipleOf`: `0` is not a number above zero of at most 18 digits"),
        (r#"{"a":1,"type":"object","type":"array"}"#, "``: member `type` comes twice"),
        (r#"{"a":{"x":1,"x":2}}"#, "`/a`: member `x` comes twice"),
        ("{", "``: not a JSON text: the body ended early at byte 1"),
        ("[]", "``: must be a schema, is an array"),
        (
            r#"{"pattern":"(?=a)"}"#,
            "`/pattern`: pattern is not regular, or not by ECMA-262: lookahead cannot be matched in linear time",
        ),
        (
            r#"{"patternProperties":{"(a)\\1":true}}"#,
            "`/patternProperties/(a)\\1`: pattern is not regular, or not by ECMA-262: a backreference cannot be matched in linear time",
        ),
        (
            r#"{"$ref":"https://example.com/other.json"}"#,
            "`/$ref`: reference `https://example.com/other.json` leads outside of this document",
        ),
        (
            r#"{"$ref":"file:///etc/passwd"}"#,
            "`/$ref`: reference `file:///etc/passwd` leads outside of this document",
        ),
        (r##"{"$ref":"#/$defs/none"}"##, "`/$ref`: reference `#/$defs/none` leads to nothing"),
        (r##"{"$ref":"#none"}"##, "`/$ref`: reference `#none` leads to nothing"),
        (r##"{"$ref":"#"}"##, "``: this schema applies itself to the same value again"),
        (
            r##"{"$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}}, "items":{"$ref":"#/$defs/b"}}"##,
            "`/$defs/a/allOf/0`: this schema applies itself to the same value again",
        ),
        (
            r#"{"$schema":"http://json-schema.org/draft-04/schema#"}"#,
            "`/$schema`: `http://json-schema.org/draft-04/schema#` is not a dialect that can be enforced (2020-12 and draft-07 are)",
        ),
        (
            r#"{"$vocabulary":{"https://example.com/v":true}}"#,
            "`/$vocabulary/https:~1~1example.com~1v`: vocabulary `https://example.com/v` is required and not supported",
        ),
        (
            r##"{"$recursiveRef":"#"}"##,
            "`/$recursiveRef`: this keyword is not supported here: it belongs to another draft",
        ),
        (
            r#"{"$schema":"http://json-schema.org/draft-07/schema#","unevaluatedProperties":false}"#,
            "`/unevaluatedProperties`: this keyword is not supported here: draft-07 does not know it",
        ),
        (
            r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","items":[true]}"#,
            "`/items`: this keyword is not supported here: a list here is the form of earlier drafts; 2020-12 has `prefixItems`",
        ),
        (
            r#"{"$defs":{"a":{"$anchor":"x"},"b":{"$anchor":"x"}}}"#,
            "`/$defs/b/$anchor`: two schemas have the name `#x`",
        ),
    ] {
        let found = refusal(schema, &SchemaLimits::default());
        let either = expected.replace("/$defs/b/$anchor", "/$defs/a/$anchor");
        assert!(found == expected || found == either, "{schema}\n {found}\n {expected}");
    }
}

#[test]
fn each_limit_refuses() {
    let small = SchemaLimits {
        bytes_max: 100,
        values_max: 10,
        nodes_max: 4,
        branches_max: 8,
        enum_max: 3,
        ..SchemaLimits::default()
    };
    for (schema, expected) in [
        (format!(r#"{{"title":"{}"}}"#, "x".repeat(100)), "``: schema has more than 100 bytes"),
        (r#"{"examples":[1,2,3,4,5,6,7,8,9]}"#.into(), "``: schema has more than 10 values"),
        (
            r#"{"allOf":[{"minimum":1},{"minimum":2},{"minimum":3}]}"#.into(),
            "``: schema compiles to more than 4 nodes",
        ),
        (r#"{"enum":[1,2,3,4]}"#.into(), "`/enum`: enum has more than 3 values"),
    ] {
        assert_eq!(refusal(&schema, &small), expected);
    }
    let deep = format!("{}true{}", r#"{"not":"#.repeat(200), "}".repeat(200));
    assert!(refusal(&deep, &SchemaLimits::default()).contains("nested too deep"));
}

#[test]
fn references_that_double_are_refused() {
    let mut defs: Vec<String> = (0..30)
        .map(|n| {
            format!(
                r##""d{n}":{{"allOf":[{{"$ref":"#/$defs/d{m}"}},{{"$ref":"#/$defs/d{m}"}}]}}"##,
                m = n + 1
            )
        })
        .collect();
    defs.push(r#""d30":{"type":"object"}"#.into());
    let schema = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{}}}}}"##, defs.join(","));
    assert!(refusal(&schema, &SchemaLimits::default()).contains("more than 64 branches"));
}

#[test]
fn long_chains_of_references_do_not_use_the_stack() {
    let mut defs: Vec<String> =
        (0..20_000).map(|n| format!(r##""d{n}":{{"$ref":"#/$defs/d{}"}}"##, n + 1)).collect();
    defs.push(r#""d20000":{"type":"integer"}"#.into());
    let schema = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{}}}}}"##, defs.join(","));
    let compiled = compiled(&schema);
    assert!(judge(&compiled, b"1").is_ok() && judge(&compiled, b"[]").is_err());
}

#[test]
fn formats_are_annotations_unless_asserted() {
    let limits = SchemaLimits { formats: Formats::Assert, ..SchemaLimits::default() };
    assert!(judge(&compiled(r#"{"format":"ipv4"}"#), b"\"x\"").is_ok());
    assert!(judge(&compiled(r#"{"format":"no-such"}"#), b"\"x\"").is_ok());
    assert!(judge(&compiled_with(r#"{"format":"ipv4"}"#, &limits), b"\"x\"").is_err());
    assert!(judge(&compiled_with(r#"{"format":"ipv4"}"#, &limits), b"\"127.0.0.1\"").is_ok());
    assert!(judge(&compiled_with(r#"{"format":"ipv4"}"#, &limits), b"7").is_ok());
    assert_eq!(
        refusal(r#"{"format":"no-such"}"#, &limits),
        "`/format`: format `no-such` is not known, so it cannot be asserted"
    );
}

#[test]
fn all_errors_are_told_at_once() {
    let schema = r#"{"minLength":-1,"properties":{"a":{"type":"x"},"b":{"pattern":"("}}}"#;
    let errors = Schema::compile(schema.as_bytes(), &SchemaLimits::default()).expect_err("refused");
    let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/minLength", "/properties/a/type", "/properties/b/pattern"]);
}
