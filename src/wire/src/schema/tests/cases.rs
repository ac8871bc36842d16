//! One table of values for each keyword. Every row is also put to the oracle.

use serde_json::Value;

use super::*;

/// How a value fails: `keyword @ instance # schema pointer + offset`.
pub(super) fn shown(violation: &Violation) -> String {
    let Violation { cause, instance, schema, offset, .. } = violation;
    match cause {
        Cause::Keyword(keyword) => format!("{} {instance} {schema} {offset}", keyword.as_str()),
        cause => format!("{} {instance} {schema} {offset}", cause.code()),
    }
}

/// Rows are a value, and how it fails (`""`: it does not).
fn check(schema: &str, rows: &[(&str, &str)]) {
    let compiled = compiled(schema);
    let document: Value = serde_json::from_str(schema).expect("the schema is JSON");
    let oracle = oracle(&document);
    for (text, expected) in rows {
        let found = judge(&compiled, text.as_bytes());
        let found = found.as_ref().map_or_else(shown, |()| String::new());
        assert_eq!(found, *expected, "{text} by {schema}");
        let value: Value = serde_json::from_str(text).expect("the value is JSON");
        assert_eq!(oracle.is_valid(&value), expected.is_empty(), "the oracle on {text} by {schema}");
    }
}

#[test]
fn types() {
    check(
        r#"{"type":["integer","null"]}"#,
        &[
            ("1", ""),
            ("1.0", ""),
            ("1.5e1", ""),
            ("-0.0", ""),
            (" null ", ""),
            ("1.5", "type  /type 0"),
            (" \"1\"", "type  /type 1"),
            ("true", "type  /type 0"),
            ("[1]", "type  /type 0"),
            ("{}", "type  /type 0"),
        ],
    );
    check(r#"{"type":"number"}"#, &[("1", ""), ("1.5", ""), ("null", "type  /type 0")]);
    check("false", &[("1", "  "), ("{}", "  ")].map(|(text, _)| (text, "   0")));
    check("true", &[("1", ""), (r#"{"a":[{}]}"#, "")]);
}

#[test]
fn numbers() {
    check(
        r#"{"minimum":1.5,"exclusiveMaximum":10}"#,
        &[
            ("1.5", ""),
            ("15e-1", ""),
            ("9.999", ""),
            ("1.49", "minimum  /minimum 0"),
            ("-3", "minimum  /minimum 0"),
            ("10", "exclusiveMaximum  /exclusiveMaximum 0"),
            ("1e1", "exclusiveMaximum  /exclusiveMaximum 0"),
            ("\"x\"", ""),
        ],
    );
    check(
        r#"{"maximum":9007199254740992,"exclusiveMinimum":-1}"#,
        &[
            ("9007199254740992", ""),
            ("-1", "exclusiveMinimum  /exclusiveMinimum 0"),
            ("1e300", "maximum  /maximum 0"),
        ],
    );
    check(
        r#"{"multipleOf":0.01}"#,
        &[("4.02", ""), ("0", ""), ("1e2", ""), ("4.025", "multipleOf  /multipleOf 0")],
    );
}

#[test]
fn numbers_beyond_what_a_double_holds() {
    let compiled = compiled(r#"{"maximum":9007199254740992}"#);
    assert!(judge(&compiled, b"9007199254740993").is_err());
    let compiled = super::compiled(r#"{"const":0.1}"#);
    assert!(judge(&compiled, b"0.10000000000000000001").is_err());
    assert!(judge(&compiled, b"1e-1").is_ok());
}

#[test]
fn strings() {
    check(
        r#"{"type":"string","minLength":2,"maxLength":3}"#,
        &[
            (r#""ab""#, ""),
            (r#""\u00e9\n😀""#, ""),
            (r#""\ud83d\ude00x""#, ""),
            (r#""a""#, "minLength  /minLength 0"),
            (r#""😀""#, "minLength  /minLength 0"),
            (r#""abcd""#, "maxLength  /maxLength 0"),
        ],
    );
    check(
        r#"{"items":{"pattern":"^a\\d+$"}}"#,
        &[
            (r#"["a1",7,"a22"]"#, ""),
            (r#"["a1", "b"]"#, "pattern /1 /items/pattern 7"),
            (r#"["\u0061\u0031"]"#, ""),
        ],
    );
}

#[test]
fn const_and_enum() {
    check(
        r#"{"enum":["a",1,null,true,"long é"]}"#,
        &[
            (r#""a""#, ""),
            (r#""\u0061""#, ""),
            ("1.0", ""),
            ("null", ""),
            ("true", ""),
            (r#""long \u00e9""#, ""),
            ("false", "enum  /enum 0"),
            (r#""aa""#, "enum  /enum 0"),
            (r#""a much longer text than any of these""#, "enum  /enum 0"),
            ("2", "enum  /enum 0"),
            ("[]", "enum  /enum 0"),
        ],
    );
    check(
        r#"{"const":{"a":[1,{"b":null}],"c":""}}"#,
        &[
            (r#"{"c":"","a":[1.0,{"b":null}]}"#, ""),
            (r#"{"c":"","a":[1,{"b":0}]}"#, "const /a/1/b /const 20"),
            (r#"{"c":"","a":[1]}"#, "const /a /const 14"),
            (r#"{"c":""}"#, "const  /const 7"),
            (r#"{"c":"","d":1}"#, "const /d /const 8"),
            ("[]", "const  /const 0"),
            ("3", "const  /const 0"),
        ],
    );
    check(
        r#"{"enum":[[1],{"a":2},"x"]}"#,
        &[
            ("[1]", ""),
            (r#"{"a":2}"#, ""),
            (r#""x""#, ""),
            ("[2]", "enum /0 /enum 1"),
            ("[1,1]", "enum /1 /enum 3"),
            ("{}", "enum  /enum 1"),
            ("1", "enum  /enum 0"),
        ],
    );
    check(r#"{"const":1,"enum":[1,2]}"#, &[("1", ""), ("2", "const  /const 0"), ("3", "const  /const 0")]);
}

#[test]
fn objects() {
    check(
        r#"{"type":"object","properties":{"id":{"type":"integer"},"a/b":{"type":"string"}},
            "required":["id","z"],"additionalProperties":false,"patternProperties":{"^x":{"type":"null"},"^z":true}}"#,
        &[
            (r#"{"id":1,"z":0}"#, ""),
            (r#"{"z":0,"x1":null,"id":1}"#, ""),
            (r#"{"id":1}"#, "required  /required 7"),
            (r#"{"id":"1"}"#, "type /id /properties/id/type 6"),
            (r#"{"id":1,"a\/b":1}"#, "type /a~1b /properties/a~1b/type 15"),
            (r#"{"id":1,"q":1}"#, " /q /additionalProperties 8"),
            (r#"{"x":{}}"#, "type /x /patternProperties/^x/type 5"),
        ],
    );
    check(
        r#"{"minProperties":1,"maxProperties":2,"propertyNames":{"maxLength":2}}"#,
        &[
            (r#"{"a":1,"b":{"long name":2}}"#, ""),
            ("{}", "minProperties  /minProperties 1"),
            (r#"{"a":1,"b":2,"c":3}"#, "maxProperties  /maxProperties 13"),
            (r#"{"abc":1}"#, "maxLength /abc /propertyNames/maxLength 1"),
        ],
    );
    check(
        r#"{"dependentRequired":{"a":["b"]}}"#,
        &[
            ("{}", ""),
            (r#"{"b":1}"#, ""),
            (r#"{"b":1,"a":1}"#, ""),
            (r#"{"a":1}"#, "dependentRequired  /dependentRequired 6"),
        ],
    );
    check(
        r#"{"patternProperties":{"a":{"minimum":1},"b":{"maximum":2}}}"#,
        &[
            (r#"{"ab":1}"#, ""),
            (r#"{"ab":3}"#, "maximum /ab /patternProperties/b/maximum 6"),
            (r#"{"c":9}"#, ""),
        ],
    );
}

#[test]
fn many_names() {
    let names: Vec<String> = (0..200).map(|n| format!("name{n}")).collect();
    let schema = serde_json::json!({
        "properties": names.iter().map(|name| (name.clone(), serde_json::json!({"type": "integer"}))).collect::<serde_json::Map<_, _>>(),
        "required": names,
    });
    let mut members: Vec<String> = names.iter().rev().map(|name| format!("\"{name}\":1")).collect();
    let schema = schema.to_string();
    check(&schema, &[(&format!("{{{}}}", members.join(",")), "")]);
    members.swap_remove(100);
    let text = format!("{{{}}}", members.join(","));
    check(&schema, &[(&text, &format!("required  /required {}", text.len() - 1))]);
}

#[test]
fn arrays() {
    check(
        r#"{"prefixItems":[{"type":"string"}],"items":{"type":"integer"},"minItems":2,"maxItems":3}"#,
        &[
            (r#"["a",1]"#, ""),
            (r#"["a",1,2]"#, ""),
            (r#"["a"]"#, "minItems  /minItems 4"),
            (r#"["a",1,2,3]"#, "maxItems  /maxItems 9"),
            ("[1,2]", "type /0 /prefixItems/0/type 1"),
            (r#"["a","b"]"#, "type /1 /items/type 5"),
        ],
    );
    check(r#"{"items":false}"#, &[("[]", ""), ("[[]]", " /0 /items 1")]);
    check(
        r#"{"uniqueItems":true}"#,
        &[
            (r#"[1,"1",true,null,{},[],{"a":1},{"a":2},[1],[[1]]]"#, ""),
            ("[1,2,1.0]", "uniqueItems  /uniqueItems 5"),
            (r#"[{"a":1,"b":[2]},{"b":[2e0],"a":1.0}]"#, "uniqueItems  /uniqueItems 35"),
            (r#"["\u0061b","ab"]"#, "uniqueItems  /uniqueItems 11"),
            ("[0,-0.0]", "uniqueItems  /uniqueItems 3"),
            ("[false,0]", ""),
        ],
    );
    check(
        r#"{"contains":{"type":"integer"},"minContains":2,"maxContains":3}"#,
        &[
            ("[1,2]", ""),
            ("[1,\"x\",2,3]", ""),
            ("[1]", "minContains  /minContains 2"),
            ("[1,2,3,4]", "maxContains  /maxContains 7"),
        ],
    );
    check(
        r#"{"contains":{"required":["a"]}}"#,
        &[(r#"[{},{"a":1}]"#, ""), ("[{}]", "contains  /contains 3"), ("3", "")],
    );
}

#[test]
fn branches() {
    check(
        r#"{"anyOf":[{"type":"string"},{"properties":{"a":{"type":"integer"}},"required":["a"]}]}"#,
        &[
            (r#""x""#, ""),
            (r#"{"a":1}"#, ""),
            (r#"{"a":"x"}"#, "type /a /anyOf/1/properties/a/type 5"),
            ("{}", "required  /anyOf/1/required 1"),
        ],
    );
    check(
        r#"{"oneOf":[{"required":["a"]},{"required":["b"]}]}"#,
        &[
            (r#"{"a":1}"#, ""),
            (r#"{"a":1,"b":2}"#, "oneOf  /oneOf 12"),
            ("{}", "required  /oneOf/0/required 1"),
            ("3", "oneOf  /oneOf 0"),
        ],
    );
    check(
        r#"{"not":{"required":["a"]}}"#,
        &[("{}", ""), (r#"{"a":{}}"#, "not  /not 7"), (r#"{"b":[]}"#, "")],
    );
    check(
        r#"{"if":{"properties":{"k":{"const":1}}},"then":{"required":["x"]},"else":{"required":["y"]}}"#,
        &[
            (r#"{"k":1,"x":0}"#, ""),
            (r#"{"k":1}"#, "required  /then/required 6"),
            (r#"{"k":2,"y":0}"#, ""),
            (r#"{"k":2}"#, "required  /else/required 6"),
            (r#"{"x":0,"k":2}"#, "required  /else/required 12"),
        ],
    );
    check(
        r#"{"dependentSchemas":{"a":{"properties":{"b":{"type":"integer"}}}}}"#,
        &[
            (r#"{"b":"x"}"#, ""),
            (r#"{"b":1,"a":0}"#, ""),
            (r#"{"b":"x","a":0}"#, "type  /dependentSchemas/a/properties/b/type 14"),
        ],
    );
    check(
        r##"{"$defs":{"tree":{"type":"object","properties":{"left":{"$ref":"#/$defs/tree"},"v":{"type":"integer"}},
            "required":["v"]}},"$ref":"#/$defs/tree","minProperties":1}"##,
        &[
            (r#"{"left":{"left":{"v":3},"v":2},"v":1}"#, ""),
            (r#"{"left":{"left":{"v":"3"}}}"#, "type /left/left/v /$defs/tree/properties/v/type 21"),
            (r#"{"left":{"left":{}}}"#, "required /left/left /$defs/tree/required 17"),
        ],
    );
}

#[test]
fn unevaluated() {
    check(
        r#"{"properties":{"a":true},"anyOf":[{"properties":{"b":{"type":"integer"}}},{"required":["c"]}],
            "unevaluatedProperties":false}"#,
        &[
            (r#"{"a":1,"b":2}"#, ""),
            (r#"{"a":1,"b":"x"}"#, "required  /anyOf/1/required 14"),
            (r#"{"a":1,"z":2}"#, "unevaluatedProperties  /unevaluatedProperties 12"),
        ],
    );
    check(
        r#"{"allOf":[{"prefixItems":[true]},{"contains":{"const":7}}],"unevaluatedItems":{"type":"string"}}"#,
        &[
            (r#"[1,7,"x"]"#, ""),
            ("[1,7,2]", "unevaluatedItems  /unevaluatedItems 6"),
            (r#"[1,"x"]"#, "contains  /allOf/1/contains 6"),
        ],
    );
}

#[test]
fn const_evaluates_nothing() {
    check(
        r#"{"const":{"a":[]},"unevaluatedProperties":false}"#,
        &[(r#"{"a":[]}"#, "unevaluatedProperties  /unevaluatedProperties 7")],
    );
}

#[test]
fn what_is_unevaluated_is_judged_to_its_depth() {
    check(
        r#"{"anyOf":[{"unevaluatedProperties":{"patternProperties":{"":false}}}]}"#,
        &[
            (r#"{"a":{}}"#, ""),
            (r#"{"a":{"a":null}}"#, "unevaluatedProperties  /anyOf/0/unevaluatedProperties 15"),
        ],
    );
}

#[test]
fn a_member_that_comes_twice_is_refused_wherever_it_is() {
    for schema in ["true", r#"{"properties":{"a":true}}"#, r#"{"anyOf":[{"required":["a"]},true]}"#] {
        let compiled = compiled(schema);
        for (text, expected) in [
            (r#"{"a":1,"a":1}"#, "DUPLICATE_KEY /a  7"),
            (r#"{"a":1,"\u0061":2}"#, "DUPLICATE_KEY /a  7"),
            (r#"{"b":{"q":1,"r":2,"q":3}}"#, "DUPLICATE_KEY /b/q  18"),
            (r#"[{"b":1},{"b":1,"c":1,"b":2}]"#, "DUPLICATE_KEY /1/b  22"),
        ] {
            let violation = judge(&compiled, text.as_bytes()).expect_err("refused");
            assert_eq!(shown(&violation), expected);
        }
        let nested = r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}"#;
        assert_eq!(judge(&compiled, nested.as_bytes()), Ok(()));
    }
}

#[test]
fn what_is_not_json_is_told_as_such() {
    let compiled = compiled(r#"{"properties":{"a":{"type":"string"}}}"#);
    for (text, expected) in [
        (r#"{"a":"x""#, "TRUNCATED /a  8"),
        (r#"{"a":"x"]"#, "JSON_MALFORMED /a  8"),
        (r#"{"a":"\ud800"}"#, "LONE_SURROGATE /a  12"),
        ("", "TRUNCATED   0"),
        ("{} {}", "JSON_MALFORMED   3"),
        (r#"{"a":1 x"#, "type /a /properties/a/type 5"),
    ] {
        let violation = judge(&compiled, text.as_bytes()).expect_err("refused");
        assert_eq!(shown(&violation), expected, "{text}");
    }
}

#[test]
fn names_in_violations_are_short_and_without_tricks() {
    let compiled = compiled(r#"{"additionalProperties":{"type":"integer"}}"#);
    for (name, expected) in [
        ("~/", "/~0~1".to_owned()),
        (r"\u0007\u202e", r"/\u{7}\u{202e}".to_owned()),
        (&"é".repeat(100), format!("/{}…", "é".repeat(32))),
    ] {
        let violation = judge(&compiled, format!(r#"{{"{name}":"x"}}"#).as_bytes()).expect_err("refused");
        assert_eq!(*violation.instance, *expected);
    }
    let deep = format!("{}1{}", r#"{"abcdefghij":"#.repeat(120), "}".repeat(120));
    let compiled = super::compiled(r##"{"additionalProperties":{"$ref":"#"},"type":"object"}"##);
    let violation = judge_with(&compiled, CheckLimits::default(), deep.as_bytes()).expect_err("refused");
    assert!(violation.instance.len() < 600 && violation.instance.ends_with('…'));
}

#[test]
fn the_member_that_is_missing_is_named() {
    let many: Vec<String> = (0..70).map(|n| format!("n{n}")).collect();
    let many = serde_json::json!({ "required": many }).to_string();
    let all: String = (0..70).filter(|n| *n != 66).map(|n| format!("\"n{n}\":0,")).collect();
    for (schema, text, expected) in [
        (r#"{"required":["a","b"]}"#, r#"{"a":1}"#.to_owned(), "at the top, byte 6: `b` is missing"),
        (r#"{"items":{"required":["a\nb"]}}"#, "[{}]".into(), r"at `/0`, byte 2: `a\nb` is missing"),
        (r#"{"dependentRequired":{"a":["b"]}}"#, r#"{"a":1}"#.into(), "byte 6: `b` is missing"),
        (r#"{"allOf":[{"required":["a"]},{"required":["b"]}]}"#, r#"{"a":1}"#.into(), "`b` is missing"),
        (&many, format!("{{{}\"x\":0}}", all), "`n66` is missing"),
    ] {
        let violation = judge(&compiled(schema), text.as_bytes()).unwrap_err().to_string();
        assert!(violation.ends_with(expected), "{violation}");
    }
    for schema in [r#"{"not":{"required":[]}}"#, r#"{"minProperties":1}"#] {
        assert_eq!(judge(&compiled(schema), b"{}").unwrap_err().missing, None, "{schema}");
    }
}
