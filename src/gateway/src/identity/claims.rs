//! JSON objects of which every reader makes the same: no member comes twice, at any depth (RFC 8259 section 4, RFC 7519
//! section 4).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The members of an object.
pub(super) type Object = Map<String, Value>;

/// Reads an object. None if it is none, or a member comes twice.
pub(super) fn object(bytes: &[u8]) -> Option<Object> {
    match serde_json::from_slice(bytes).ok()? {
        Single(Value::Object(members)) => Some(members),
        Single(_) => None,
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

/// A value in which no member comes twice.
struct Single(Value);

impl<'de> Deserialize<'de> for Single {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Single(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Single(value))) = members.next_entry::<String, _>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member comes twice"));
            }
        }
        Ok(object.into())
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
