//! One JSON text that every reader takes for the same thing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Most values of one content, members and elements included. One with more is not read.
pub const VALUES_MAX: usize = 65_536;

/// A JSON text that all readers take for the same. None if it is no JSON, has a member twice, is deeper than 128, has more than [`VALUES_MAX`] values or a number that
/// a double cannot hold.
pub fn read(text: &[u8]) -> Option<Value> {
    let mut left = VALUES_MAX;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Bounded(&mut left).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

/// Counts down what may still come.
struct Bounded<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        *self.0 = self.0.checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?;
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
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

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(Bounded(&mut *self.0))? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Bounded(&mut *self.0))?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a member comes twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_take_for_two_things_is_not_read() {
        assert!(read(br#" {"a":[1,-2,3.5,true,null,"x"],"b":{}} "#).is_some());
        for text in [
            &b""[..],
            b"{",
            b"{} {}",
            br#"{"a":1,"a":2}"#,
            br#"{"a":{"b":1,"\u0062":2}}"#,
            b"1e999",
            b"\"\\ud800\"",
            b"\"\xff\"",
            b"{'a':1}",
        ] {
            assert_eq!(read(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn more_values_than_are_looked_at_and_deeper_ones_are_not_read() {
        let list = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(read(list(VALUES_MAX).as_bytes()).is_some());
        assert_eq!(read(list(VALUES_MAX + 1).as_bytes()), None);
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(100).as_bytes()).is_some());
        assert_eq!(read(nested(200).as_bytes()), None);
    }
}
