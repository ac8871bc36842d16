//! Values that may differ between a recording and a run again: which, the reader says in a file (`spec/replay.md`).

use estoppel_evidence::Sha256;
use estoppel_evidence::hash::hex;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Most rules of a file, and most characters of a pointer.
const RULES_MAX: usize = 256;
const POINTER_CHARS_MAX: usize = 512;

#[derive(Debug, thiserror::Error)]
pub enum NormalizersError {
    #[error("it is not the JSON of `spec/replay-normalizers.schema.json`")]
    Form(#[source] serde_json::Error),
    #[error("it has more than {RULES_MAX} rules")]
    Rules,
    #[error("`{0}` is not a JSON pointer of at most {POINTER_CHARS_MAX} characters")]
    Pointer(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    normalize: Vec<RawRule>,
    #[serde(rename = "v")]
    _version: Version,
}

#[derive(Deserialize)]
enum Version {
    #[serde(rename = "replay-normalizers/v0")]
    V0,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    at: String,
    r#as: Form,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    Any,
    Number,
    Time,
    Uuid,
}

/// What counts as equal.
#[derive(Clone, Debug)]
pub struct Normalizers {
    rules: Vec<(Vec<String>, Form)>,
    digest: Sha256,
}

impl Normalizers {
    /// # Errors
    /// What is wrong with the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, NormalizersError> {
        let document: Document = serde_json::from_slice(bytes).map_err(NormalizersError::Form)?;
        if document.normalize.len() > RULES_MAX {
            return Err(NormalizersError::Rules);
        }
        let rule = |rule: RawRule| {
            let segments = segments(&rule.at);
            segments.map(|segments| (segments, rule.r#as)).ok_or(NormalizersError::Pointer(rule.at))
        };
        let rules = document.normalize.into_iter().map(rule).collect::<Result<_, _>>()?;
        Ok(Self { rules, digest: Sha256::of(bytes) })
    }

    /// Of the file's bytes.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Takes out what may differ.
    pub(crate) fn apply(&self, value: &mut Value) {
        for (segments, form) in &self.rules {
            apply(value, segments, *form);
        }
    }

    /// What bodies that count as equal have in common.
    pub(crate) fn key(&self, body: &[u8]) -> String {
        let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
            return hex(&Sha256::of(body).0);
        };
        self.apply(&mut value);
        hex(&Sha256::of(value.to_string().as_bytes()).0)
    }
}

fn segments(pointer: &str) -> Option<Vec<String>> {
    if pointer.chars().count() > POINTER_CHARS_MAX {
        return None;
    }
    let rest = if pointer.is_empty() { return Some(Vec::new()) } else { pointer.strip_prefix('/')? };
    Some(rest.split('/').map(|segment| segment.replace("~1", "/").replace("~0", "~")).collect())
}

fn apply(value: &mut Value, segments: &[String], form: Form) {
    let Some((first, rest)) = segments.split_first() else {
        if fits(value, form) {
            *value = Value::Null;
        }
        return;
    };
    match value {
        Value::Object(members) if first == "*" => {
            members.values_mut().for_each(|value| apply(value, rest, form));
        }
        Value::Array(items) if first == "*" => {
            items.iter_mut().for_each(|value| apply(value, rest, form));
        }
        Value::Object(members) => {
            if let Some(value) = members.get_mut(first) {
                apply(value, rest, form);
            }
        }
        Value::Array(items) => {
            if let Some(value) = first.parse::<usize>().ok().and_then(|place| items.get_mut(place)) {
                apply(value, rest, form);
            }
        }
        _ => {}
    }
}

fn fits(value: &Value, form: Form) -> bool {
    let text = value.as_str();
    match form {
        Form::Any => true,
        Form::Number => value.is_number(),
        Form::Time => text.is_some_and(|text| OffsetDateTime::parse(text, &Rfc3339).is_ok()),
        Form::Uuid => text.is_some_and(is_uuid),
    }
}

/// RFC 9562 text, in any letter case.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"normalize":[{"as":"time","at":"/at"},{"as":"uuid","at":"/items/*/id"},{"as":"any","at":"/trace"}],"v":"replay-normalizers/v0"}"#;

    fn equal(one: &str, two: &str) -> bool {
        let normalizers = Normalizers::parse(FILE.as_bytes()).unwrap();
        normalizers.key(one.as_bytes()) == normalizers.key(two.as_bytes())
    }

    #[test]
    fn only_declared_values_of_the_declared_form_may_differ() {
        let body = |at: &str, id: &str, trace: &str, name: &str| {
            format!(r#"{{"at":"{at}","items":[{{"id":"{id}"}}],"trace":{trace},"name":"{name}"}}"#)
        };
        let (id, other) = ("8c48415d-e3d2-4d08-a91c-03dd5ade6f06", "8C48415D-0000-4d08-a91c-03dd5ade6f06");
        let recorded = body("2026-11-21T04:00:00Z", id, "1", "x");
        assert!(equal(&recorded, &body("2027-01-01T00:00:00.5+01:00", other, r#""t""#, "x")));
        assert!(!equal(&recorded, &body("tomorrow", id, "1", "x")), "no date-time");
        assert!(!equal(&recorded, &body("2026-11-21T04:00:00Z", "8c48", "1", "x")), "no UUID");
        assert!(!equal(&recorded, &body("2026-11-21T04:00:00Z", id, "1", "y")), "not declared");
        assert!(equal("not json", "not json") && !equal("not json", "nor this"));
    }

    #[test]
    fn files_follow_their_schema_and_others_are_refused() {
        let schema = include_str!("../../../spec/replay-normalizers.schema.json");
        let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
        assert!(schema.is_valid(&serde_json::from_str(FILE).unwrap()));
        for text in [
            "{}",
            r#"{"normalize":[],"v":"replay-normalizers/v1"}"#,
            r#"{"normalize":[{"at":"/a","as":"date"}],"v":"replay-normalizers/v0"}"#,
            r#"{"normalize":[{"at":"/a","as":"any","more":1}],"v":"replay-normalizers/v0"}"#,
        ] {
            assert!(Normalizers::parse(text.as_bytes()).is_err(), "{text}");
            assert!(!schema.is_valid(&serde_json::from_str(text).unwrap()), "{text}");
        }
        let no_pointer = r#"{"normalize":[{"at":"a","as":"any"}],"v":"replay-normalizers/v0"}"#;
        assert!(matches!(Normalizers::parse(no_pointer.as_bytes()), Err(NormalizersError::Pointer(_))));
    }
}
