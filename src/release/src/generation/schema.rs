//! `spec/generation.schema.json`, held against every document: there is no way to read one without it.

use std::sync::OnceLock;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::error::{ERRORS_MAX, GenerationError, GenerationErrorCode as Code, shown};

const SCHEMA: &str = include_str!("../../../../spec/generation.schema.json");

struct Schema {
    document: Value,
    validator: Validator,
}

fn schema() -> &'static Schema {
    static SCHEMA_OF_GENERATIONS: OnceLock<Schema> = OnceLock::new();
    SCHEMA_OF_GENERATIONS.get_or_init(|| {
        let document = serde_json::from_str(SCHEMA).expect("the schema is part of the program and JSON");
        let validator = jsonschema::draft202012::new(&document).expect("a test compiles the same schema");
        Schema { document, validator }
    })
}

/// Everything that the schema does not allow, in the order of the document.
pub(super) fn errors(value: &Value) -> Vec<GenerationError> {
    let Schema { document, validator } = schema();
    validator.iter_errors(value).take(ERRORS_MAX).flat_map(|error| told(document, &error)).collect()
}

fn told(document: &Value, error: &ValidationError<'_>) -> Vec<GenerationError> {
    let pointer = error.instance_path().as_str();
    let one = |message: String| vec![GenerationError::new(Code::Schema, pointer, message)];
    match error.kind() {
        Kind::Enum { options } => {
            let options: Vec<String> = options.as_array().into_iter().flatten().map(word).collect();
            one(format!("{} is not allowed; allowed: {}", word(error.instance()), options.join(", ")))
        }
        Kind::Constant { expected_value } => {
            one(format!("{} is not allowed; allowed: {}", word(error.instance()), word(expected_value)))
        }
        Kind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|key| {
                let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                let known = beside(document, error).and_then(|schema| schema.get("properties")?.as_object());
                let known: Vec<_> = known.into_iter().flatten().map(|(key, _)| format!("`{key}`")).collect();
                let message = format!("unknown member `{}`; allowed: {}", shown(key), known.join(", "));
                GenerationError::new(Code::Schema, below, message)
            })
            .collect(),
        Kind::Required { property } => one(format!("{} is missing", word(property))),
        Kind::Pattern { .. } | Kind::OneOfNotValid { .. } => {
            let expected = beside(document, error).and_then(|schema| schema.get("description")?.as_str());
            one(format!("expected {}, found {}", expected.unwrap_or("another text"), word(error.instance())))
        }
        _ => one(error.masked_with("the value").to_string()),
    }
}

/// The schema that the keyword of an error stands in.
fn beside<'s>(document: &'s Value, error: &ValidationError<'_>) -> Option<&'s Value> {
    let at = error.schema_path().as_str();
    document.pointer(at.rsplit_once('/')?.0)
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{}`", shown(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping".into(),
        other => format!("`{other}`"),
    }
}
