//! Reads a value into its type and says of everything that is wrong by its key path, `route[1].upstream`. Unknown keys are
//! collected, all of them, where `deny_unknown_fields` would stop at the first.

use std::cell::RefCell;

use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde_json::{Error, Value};

/// The value, or what kept it from being read; and the unknown keys, which were passed over.
pub fn read<'de, T: Deserialize<'de>>(value: Value) -> (Result<T, Error>, Vec<String>) {
    let unknown = RefCell::default();
    let read = T::deserialize(Keyed { value, path: String::new(), unknown: &unknown });
    (read, unknown.into_inner())
}

struct Keyed<'u> {
    value: Value,
    path: String,
    unknown: &'u RefCell<Vec<String>>,
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

impl<'de, 'u> Deserializer<'de> for Keyed<'u> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let members = self.value.as_object_mut().map(std::mem::take).unwrap_or_default();
        if members.is_empty() {
            return self.deserialize_any(visitor);
        }
        let (known, unknown) = members
            .into_iter()
            .partition::<serde_json::Map<_, _>, _>(|(key, _)| fields.contains(&key.as_str()));
        let known_keys = fields.join("`, `");
        let lines = unknown.keys().map(|key| {
            format!("{}: there is no such key, but there are `{known_keys}`", joined(&self.path, key))
        });
        self.unknown.borrow_mut().extend(lines);
        self.value = Value::Object(known);
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self { value, path, unknown } = self;
        match value {
            Value::Object(members) => {
                let members = members.into_iter().map(|(key, value)| {
                    let path = joined(&path, &key);
                    (key, Keyed { value, path, unknown })
                });
                visitor.visit_map(MapDeserializer::new(members))
            }
            Value::Array(elements) => {
                let elements = elements.into_iter().enumerate();
                visitor.visit_seq(SeqDeserializer::new(elements.map(|(at, value)| Keyed {
                    value,
                    path: format!("{path}[{at}]"),
                    unknown,
                })))
            }
            scalar => {
                scalar.deserialize_any(visitor).map_err(|error| Error::custom(format!("{path}: {error}")))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let path = self.path;
        let read = self.value.deserialize_enum(name, variants, visitor);
        read.map_err(|error| Error::custom(format!("{path}: {error}")))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Keyed<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::num::NonZeroU64;
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Form {
        Text,
        Json,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        form: Option<Form>,
        listen: Option<SocketAddr>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        named: BTreeMap<String, Inner>,
        file: Option<PathBuf>,
        count: Option<NonZeroU64>,
    }

    #[test]
    fn what_is_right_is_read_as_ever() {
        let value = json!({
            "list": [{}, { "form": "json", "listen": "127.0.0.1:1" }], "named": { "any": { "form": null } },
            "file": "a", "count": 7,
        });
        let (read, unknown) = read::<Outer>(value.clone());
        assert_eq!((read.unwrap(), unknown.len()), (serde_json::from_value(value).unwrap(), 0));
        assert_eq!(super::read::<Inner>(json!({})).0.unwrap(), Inner { form: None, listen: None });
    }

    #[test]
    fn every_unknown_key_is_named_with_its_path() {
        let value = json!({
            "lisst": 1, "list": [{}, { "from": "json" }], "named": { "a": { "x": {}, "y": [] } }, "file": "a",
        });
        let (read, unknown) = read::<Outer>(value);
        assert!(read.is_ok());
        let keys: Vec<&str> = unknown.iter().filter_map(|line| line.split(": ").next()).collect();
        assert_eq!(keys, ["lisst", "list[1].from", "named.a.x", "named.a.y"]);
        assert!(unknown[1].ends_with("there are `form`, `listen`"), "{unknown:?}");
    }

    #[test]
    fn a_value_of_another_type_is_named_with_its_path() {
        for (value, path) in [
            (json!({ "count": "7" }), "count: "),
            (json!({ "count": 0 }), "count: "),
            (json!({ "file": false }), "file: "),
            (json!({ "list": [{ "form": "xml" }] }), "list[0].form: "),
            (json!({ "list": [{ "form": 1 }] }), "list[0].form: "),
            (json!({ "named": { "a": { "listen": "x" } } }), "named.a.listen: "),
            (json!({ "named": { "a": 1 } }), "named.a: "),
            (json!({ "list": 1 }), "list: "),
        ] {
            let error = read::<Outer>(value.clone()).0.unwrap_err().to_string();
            assert!(error.starts_with(path), "{value}: {error}");
        }
        assert!(read::<Outer>(json!({ "list": {} })).0.is_err());
        assert!(read::<Outer>(json!([])).0.is_err());
    }
}
