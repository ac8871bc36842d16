//! JSON objects of which every reader makes the same: no member comes twice, at any depth (RFC 8259 section 4, RFC 7519
//! section 4).

use estoppel_policy::read_json;
use serde_json::{Map, Value};

/// The members of an object.
pub(super) type Object = Map<String, Value>;

/// Reads an object. None if it is none, or [`read_json`] does not read it.
pub(super) fn object(bytes: &[u8]) -> Option<Object> {
    match read_json(bytes)? {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// The words of a claim: separated by spaces in one text (RFC 8693 section 4.2), or a list.
pub(super) fn words(claim: Option<&Value>) -> Option<Vec<&str>> {
    match claim {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) => Some(text.split(' ').filter(|word| !word.is_empty()).collect()),
        Some(Value::Array(list)) => list.iter().map(Value::as_str).collect(),
        Some(_) => None,
    }
}

/// Whether a claim is `text`, or a list that holds it.
pub(super) fn says(claim: Option<&Value>, text: &str) -> bool {
    match claim {
        Some(Value::String(claim)) => claim == text,
        Some(Value::Array(list)) => list.iter().any(|item| item.as_str() == Some(text)),
        Some(Value::Bool(claim)) => text == if *claim { "true" } else { "false" },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_comes_twice_is_in_no_object() {
        let good = br#"{"a":[1,-1,1.5,true,null,{"b":"c"}],"b":{}}"#;
        let plain: Value = serde_json::from_slice(good).unwrap();
        assert_eq!(Value::Object(object(good).unwrap()), plain);
        for bad in [
            &br#"{"a":1,"a":1}"#[..],
            br#"{"a":1,"\u0061":2}"#,
            br#"{"a":{"b":1,"b":2}}"#,
            br#"{"a":[{"b":1,"b":2}]}"#,
            br#"{"a":1} "#.strip_suffix(b"} ").unwrap(),
            b"[]",
            b"1",
            b"",
            b"{}{}",
        ] {
            assert!(object(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn words_come_in_a_text_or_in_a_list() {
        let of = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        assert_eq!(words(Some(&of(r#""a  b""#))), Some(vec!["a", "b"]));
        assert_eq!(words(Some(&of(r#"["a","b c"]"#))), Some(vec!["a", "b c"]));
        assert_eq!(words(None), Some(vec![]));
        assert_eq!(words(Some(&of(r#"["a",1]"#))), None);
        assert_eq!(words(Some(&of("1"))), None);
    }
}
