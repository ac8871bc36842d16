//! Any document in the part of YAML that every reader agrees about, as the JSON value that it is.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use crate::error::{Errors, Place, PolicyError, PolicyErrorCode, shown};
use crate::yaml::{self, Kind, Node};

/// A YAML document, read as policies are: no anchors, aliases, tags, second documents or keys that come twice, and no plain
/// word that YAML 1.1 and 1.2 read differently, but whole numbers, `true` and `false`.
#[derive(Debug)]
pub struct YamlValue {
    /// The document.
    pub value: Value,
    places: BTreeMap<String, Place>,
}

impl YamlValue {
    /// Reads a document. Errors come in the order of the text; their paths are JSON pointers.
    pub fn parse(text: &str) -> Result<Self, Vec<PolicyError>> {
        let mut errors = Errors::default();
        let mut reader = Reader { errors: Errors::default(), places: BTreeMap::new() };
        let value = yaml::parse(text, &mut errors).map(|root| reader.value(&root, String::new()));
        match value {
            Some(value) if errors.is_empty() && reader.errors.is_empty() => {
                Ok(Self { value, places: reader.places })
            }
            _ if errors.is_empty() => Err(reader.errors.into_list()),
            _ => Err(errors.into_list().into_iter().map(pointed).collect()),
        }
    }

    /// Line and column, from 1, of the value at a JSON pointer.
    pub fn place(&self, pointer: &str) -> Option<(usize, usize)> {
        self.places.get(pointer).map(|place| (place.line, place.column))
    }
}

/// An error of the reader, whose path is written as policies write it.
fn pointed(error: PolicyError) -> PolicyError {
    let pointer: String =
        error.path.replace('[', ".").replace(']', "").split('.').fold(String::new(), |pointer, part| {
            match part {
                "" => pointer,
                part => pointer + "/" + part,
            }
        });
    PolicyError { path: pointer, ..error }
}

struct Reader {
    errors: Errors,
    places: BTreeMap<String, Place>,
}

impl Reader {
    /// What is refused is null, and in the errors.
    fn value(&mut self, node: &Node, pointer: String) -> Value {
        let value = match &node.kind {
            Kind::Text(text) => Value::String(text.clone()),
            Kind::Word(word) => self.word(word, node.place, &pointer),
            Kind::List(items) => {
                let items = items.iter().enumerate();
                items.map(|(index, item)| self.value(item, format!("{pointer}/{index}"))).collect()
            }
            Kind::Map(pairs) => {
                let mut map = Map::new();
                for (key, node) in pairs {
                    let below = format!("{pointer}/{}", key.text.replace('~', "~0").replace('/', "~1"));
                    let value = self.value(node, below);
                    map.insert(key.text.clone(), value);
                }
                Value::Object(map)
            }
            Kind::Broken => Value::Null,
        };
        self.places.insert(pointer, node.place);
        value
    }

    fn word(&mut self, word: &str, place: Place, pointer: &str) -> Value {
        match word {
            "true" => return Value::Bool(true),
            "false" => return Value::Bool(false),
            _ => {}
        }
        let digits = word.strip_prefix('-').unwrap_or(word);
        let is_plain = digits == "0" || !digits.starts_with('0');
        let is_number = is_plain && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(number) = word.parse::<i64>().ok().filter(|_| is_number && word != "-0") {
            return Value::Number(Number::from(number));
        }
        let message = match word {
            "" => "nothing is written here".to_owned(),
            word => format!("some YAML readers do not take `{}` for text; put it in quotes", shown(word)),
        };
        self.errors.add(PolicyErrorCode::Type, place, pointer.to_owned(), message);
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_the_value_that_every_reader_sees() {
        let read = YamlValue::parse("a: [1, -2, true, x, '1']\nb/c: { d: \"no\" }\n").unwrap();
        assert_eq!(read.value, json!({ "a": [1, -2, true, "x", "1"], "b/c": { "d": "no" } }));
        assert_eq!(read.place("/b~1c/d"), Some((2, 11)));
        assert_eq!(read.place("/nowhere"), None);
    }

    #[test]
    fn what_readers_disagree_about_is_refused_with_its_place() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let errors = YamlValue::parse(text).unwrap_err();
            let got: Vec<_> = errors.iter().map(|error| (error.code.as_str(), error.path.as_str())).collect();
            assert_eq!(got, expected, "{text}");
        };
        for word in
            ["1.2.0", "0x1f", "017", "1e3", "yes", "~", "null", "2026-01-01", "-0", "9223372036854775808"]
        {
            check(&format!("a: {{ b: [x, {word}] }}"), &[("POLICY_TYPE", "/a/b/1")]);
        }
        check("a:\n", &[("POLICY_TYPE", "/a")]);
        check("a: &x 1\nb: *x\n", &[("POLICY_YAML_FEATURE", "/a"), ("POLICY_YAML_FEATURE", "/b")]);
        check("a: [{ b: 1, b: 2 }]", &[("POLICY_DUPLICATE_KEY", "/a/0/b")]);
        check("a: 1\n---\nb: 2\n", &[("POLICY_YAML_FEATURE", "")]);
    }
}
