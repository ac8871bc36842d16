//! Arguments of tools that are mirrored in `mcp-param-…` headers, from 2026-07-28 on (streamable HTTP, "Custom Headers from Tool
//! Parameters"): which they are, a server says in its lists with `x-mcp-header`. Others on the way may go by the headers and the
//! server by the arguments, so they have to agree.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderName;
use serde_json::{Map, Value};

use crate::pins::{NAMED_MAX, TOOLS_MAX};

/// What of a tool's arguments is mirrored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Mirrored(Vec<Argument>);

/// One argument.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) header: HeaderName,
    /// The names that lead to it.
    path: Vec<String>,
}

/// What is known of one route's tools, by the path of their server and their name. Of at most as many as have pins.
#[derive(Debug, Default)]
pub(crate) struct MirroredTools(Mutex<HashMap<Key, Arc<Mirrored>>>);

/// As many as may have pins.
const MIRRORED_MAX: usize = (NAMED_MAX + 1) * TOOLS_MAX;

type Key = (Box<str>, Box<str>);

impl MirroredTools {
    /// A server has listed a tool.
    pub(crate) fn listed(&self, server: &str, tool: &str, input: Option<&[u8]>) -> Arc<Mirrored> {
        let said = input.filter(|input| may_say(input));
        let mirrored = Arc::new(said.and_then(Mirrored::read).unwrap_or_default());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (server.into(), tool.into());
        if known.len() < MIRRORED_MAX || known.contains_key(&key) {
            known.insert(key, mirrored.clone());
        } else {
            tracing::warn!(
                max = MIRRORED_MAX,
                "headers of further MCP tools are not held against their calls"
            );
        }
        mirrored
    }

    /// What is mirrored of a tool that was listed.
    pub(crate) fn of(&self, server: &str, tool: &str) -> Option<Arc<Mirrored>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(server.into(), tool.into())).cloned()
    }
}

const ANNOTATION: &str = "x-mcp-header";

/// Whether a schema is worth reading.
fn may_say(schema: &[u8]) -> bool {
    std::str::from_utf8(schema).is_ok_and(|text| text.contains(ANNOTATION) || text.contains("\\u"))
}

impl Mirrored {
    /// What a schema says; nothing where one of its annotations is not valid, because then the tool is not, and clients leave it
    /// out.
    fn read(schema: &[u8]) -> Option<Self> {
        let schema: Value = serde_json::from_slice(schema).ok()?;
        let mut found = Self::default();
        found.look(schema.as_object()?, Some(&mut Vec::new()))?;
        Some(found)
    }

    pub(crate) fn arguments(&self) -> &[Argument] {
        &self.0
    }

    /// `path`: how properties alone lead here, if they do. The depth is the reader's of JSON.
    fn look(&mut self, schema: &Map<String, Value>, mut path: Option<&mut Vec<String>>) -> Option<()> {
        for (key, value) in schema {
            match key.as_str() {
                ANNOTATION => {
                    let path = path.as_deref().filter(|path| !path.is_empty())?;
                    self.take(value.as_str()?, schema, path)?;
                }
                "properties" => {
                    for (name, value) in value.as_object().into_iter().flatten() {
                        let Some(schema) = value.as_object() else { continue };
                        if let Some(path) = &mut path {
                            path.push(name.clone());
                        }
                        self.look(schema, path.as_deref_mut())?;
                        path.as_deref_mut().map(Vec::pop);
                    }
                }
                "const" | "default" | "enum" | "examples" => {}
                "$defs" | "definitions" | "dependentSchemas" | "patternProperties" => {
                    for schema in value.as_object().into_iter().flat_map(Map::values) {
                        schema.as_object().map_or(Some(()), |schema| self.look(schema, None))?;
                    }
                }
                _ => {
                    let several = value.as_array().into_iter().flatten().chain([value]);
                    for schema in several.filter_map(Value::as_object) {
                        self.look(schema, None)?;
                    }
                }
            }
        }
        Some(())
    }

    fn take(&mut self, name: &str, schema: &Map<String, Value>, path: &[String]) -> Option<()> {
        let is_primitive = matches!(schema.get("type")?.as_str()?, "string" | "integer" | "boolean");
        let header = format!("mcp-param-{name}").parse().ok().filter(|_| is_primitive && !name.is_empty())?;
        let is_taken = self.0.iter().any(|other| other.header == header);
        (!is_taken).then(|| self.0.push(Argument { header, path: path.to_vec() }))
    }
}

impl Argument {
    /// Whether `said`, the header's value, is what `arguments` say; none where there is no header, or no such argument.
    pub(crate) fn agrees(&self, said: Option<&str>, arguments: &Value) -> bool {
        let value = self.path.iter().try_fold(arguments, |value, name| value.as_object()?.get(name));
        match (said, value.filter(|value| !value.is_null())) {
            (None, None | Some(Value::Array(_) | Value::Object(_))) => true,
            (Some(said), Some(Value::String(text))) => said == text,
            (Some(said), Some(Value::Bool(is))) => said == if *is { "true" } else { "false" },
            (Some(said), Some(Value::Number(number))) => is_number(said, number),
            _ => false,
        }
    }
}

/// Whether a header says this number: `42.0` is 42, and where the exact value is not known nothing is.
fn is_number(said: &str, number: &serde_json::Number) -> bool {
    let (whole, fraction) = said.split_once('.').unwrap_or((said, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole.strip_prefix('-').unwrap_or(whole)) || !digits(fraction) {
        return false;
    }
    let is_whole = fraction.bytes().all(|byte| byte == b'0');
    if let (true, Some(known)) = (is_whole, number.as_i64()) {
        return whole.parse() == Ok(known);
    }
    let known = number.as_f64().filter(|known| known.abs() < EXACT);
    known.is_some() && said.parse().ok() == known
}

/// Below it, every whole number is told from its neighbours.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mirrored(schema: &Value) -> Vec<(String, String)> {
        let found = Mirrored::read(schema.to_string().as_bytes()).unwrap_or_default();
        found.0.iter().map(|one| (one.header.to_string(), one.path.join("/"))).collect()
    }

    #[test]
    fn annotations_are_found_where_properties_alone_lead() {
        let schema = json!({ "type": "object", "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "x-mcp-header": { "type": "string" },
            "in": { "type": "object", "properties": { "n": { "type": "integer", "x-mcp-header": "N" } } },
            "data": { "type": "object", "default": { "x-mcp-header": 1 } },
        } });
        let mut found = mirrored(&schema);
        found.sort();
        let expected = [("mcp-param-n", "in/n"), ("mcp-param-region", "region")];
        assert_eq!(found, expected.map(|(header, path)| (header.to_owned(), path.to_owned())));
    }

    #[test]
    fn one_that_is_not_valid_makes_all_of_them_so() {
        let good = json!({ "type": "string", "x-mcp-header": "A" });
        for bad in [
            json!({ "type": "number", "x-mcp-header": "B" }),
            json!({ "x-mcp-header": "B" }),
            json!({ "type": "string", "x-mcp-header": "" }),
            json!({ "type": "string", "x-mcp-header": "B C" }),
            json!({ "type": "string", "x-mcp-header": "B\r\nC" }),
            json!({ "type": "string", "x-mcp-header": 1 }),
            json!({ "type": "string", "x-mcp-header": "a" }),
            json!({ "type": "array", "items": { "type": "string", "x-mcp-header": "B" } }),
            json!({ "anyOf": [{ "type": "string", "x-mcp-header": "B" }] }),
            json!({ "type": "object", "additionalProperties": { "properties": { "x": { "type": "string", "x-mcp-header": "B" } } } }),
        ] {
            assert!(mirrored(&json!({ "properties": { "good": good, "bad": bad } })).is_empty(), "{bad}");
        }
        let elsewhere = json!({ "$defs": { "d": good }, "properties": {} });
        assert!(mirrored(&elsewhere).is_empty() && mirrored(&good).is_empty());
    }

    #[test]
    fn a_header_says_what_its_argument_says() {
        let argument =
            Argument { header: HeaderName::from_static("mcp-param-a"), path: vec!["in".into(), "a".into()] };
        let agrees = |said, value: Value| argument.agrees(said, &json!({ "in": { "a": value } }));
        assert!(agrees(Some("us"), json!("us")) && agrees(Some("true"), json!(true)));
        assert!(agrees(Some("42"), json!(42)) && agrees(Some("42.0"), json!(42)));
        assert!(agrees(Some("-7"), json!(-7.0)) && agrees(Some("1.5"), json!(1.5)));
        assert!(agrees(None, Value::Null) && agrees(None, json!({})) && argument.agrees(None, &json!({})));
        for (said, value) in [
            (None, json!("us")),
            (Some("us"), Value::Null),
            (Some("US"), json!("us")),
            (Some("42"), json!("42 ")),
            (Some("43"), json!(42)),
            (Some("42.5"), json!(42)),
            (Some("4e1"), json!(40)),
            (Some("+42"), json!(42)),
            (Some("1"), json!(true)),
            (Some("{}"), json!({})),
            (Some("9007199254740993"), json!(9_007_199_254_740_992_i64)),
            (Some("9223372036854775808"), json!(9_223_372_036_854_775_807_i64)),
            (Some("18446744073709551615"), json!(18_446_744_073_709_551_615_u64)),
        ] {
            assert!(!agrees(said, value.clone()), "{said:?} {value}");
        }
        assert!(!argument.agrees(Some("us"), &json!({ "in": 1 })));
    }

    #[test]
    fn what_was_listed_last_counts() {
        let tools = MirroredTools::default();
        let schema = br#"{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}"#;
        assert_eq!(tools.listed("/mcp", "t", Some(schema)).arguments().len(), 1);
        assert_eq!(tools.of("/mcp", "t").unwrap().arguments().len(), 1);
        assert!(tools.of("/other", "t").is_none());
        assert!(tools.listed("/mcp", "t", None).arguments().is_empty());
        assert!(tools.of("/mcp", "t").unwrap().arguments().is_empty());
    }
}
