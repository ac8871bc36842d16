//! Gemini's `Schema`, a part of OpenAPI 3.0 in the JSON of protocol buffers, rewritten as JSON Schema.
//!
//! Fields: <https://docs.cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/Schema>; names, numbers and
//! `null`: <https://protobuf.dev/programming-guides/json/>. Values are rewritten where they stand, so that pointers stay
//! those of what was written. A field that is not known is an error: an upstream would refuse it, or know better.

use super::{
    SchemaError, SchemaLimits,
    document::{Document, Value, ValueId},
    error::Fault,
};

const FIELDS: [&str; 26] = [
    "additionalProperties",
    "anyOf",
    "default",
    "defs",
    "description",
    "enum",
    "example",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "pattern",
    "prefixItems",
    "properties",
    "propertyOrdering",
    "ref",
    "required",
    "title",
    "type",
];

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
const DEFS: &str = "#/defs/";
const COUNT: &str = "a whole number that is not negative";

pub(super) fn rewrite(document: &mut Document) -> Result<(), Vec<SchemaError>> {
    let mut rewriter = Rewriter { document, open: vec![ValueId::ROOT], errors: Vec::new() };
    while let Some(schema) = rewriter.open.pop() {
        rewriter.schema(schema);
        if rewriter.errors.len() >= super::compile::ERRORS_MAX {
            break;
        }
    }
    if rewriter.errors.is_empty() { Ok(()) } else { Err(rewriter.errors) }
}

struct Rewriter<'a> {
    document: &'a mut Document,
    open: Vec<ValueId>,
    errors: Vec<SchemaError>,
}

type Members = Vec<(Box<str>, ValueId)>;

impl Rewriter<'_> {
    fn schema(&mut self, at: ValueId) {
        let Some(mut fields) = self.fields(at) else { return };
        fields.retain_mut(|(field, value)| {
            if **field == *"ref" {
                *field = "$ref".into();
            }
            self.field(at, field, *value)
        });
        self.enumeration(&fields);
        if let Some(index) = fields.iter().position(|(field, _)| **field == *"nullable") {
            let (_, value) = fields.remove(index);
            if matches!(self.document.value(value), Value::Bool(true)) {
                self.admit_null(at, &mut fields);
            }
        }
        self.document.set(at, Value::Object(fields));
    }

    /// The members of a schema under the names of [`FIELDS`]; `null` is not there.
    fn fields(&mut self, at: ValueId) -> Option<Members> {
        let Value::Object(members) = self.document.value(at) else {
            self.wrong_type(at, "a schema");
            return None;
        };
        let mut fields: Members = Vec::new();
        for (name, value) in members.clone() {
            let Some(field) = FIELDS.into_iter().find(|field| is_spelling(&name, field)) else {
                self.unsupported(value, "Gemini's schemas do not have it");
                continue;
            };
            if fields.iter().any(|(known, _)| **known == *field) {
                self.error(at, Fault::DuplicateKey { key: field.into() });
            }
            if !matches!(self.document.value(value), Value::Null) {
                fields.push((field.into(), value));
            }
        }
        Some(fields)
    }

    /// Whether the field says something, once it is rewritten.
    fn field(&mut self, schema: ValueId, field: &str, at: ValueId) -> bool {
        match field {
            "type" => return self.type_name(at),
            "nullable" if !matches!(self.document.value(at), Value::Bool(_)) => {
                self.wrong_type(at, "a boolean");
            }
            "items" => self.open.push(at),
            "additionalProperties" if matches!(self.document.value(at), Value::Bool(_)) => {}
            "additionalProperties" => self.open.push(at),
            "prefixItems" | "anyOf" => return self.list(at),
            "defs" if schema != ValueId::ROOT => self.unsupported(at, "only the outermost schema has it"),
            "properties" | "defs" => {
                let members = self.document.members(at).iter().map(|(_, value)| *value);
                self.open.extend(members);
                if !matches!(self.document.value(at), Value::Object(_)) {
                    self.wrong_type(at, "an object");
                }
            }
            "enum" => return !matches!(self.document.value(at), Value::Array(texts) if texts.is_empty()),
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                self.number(at, COUNT, |text| text.bytes().all(|byte| byte.is_ascii_digit()));
            }
            "minimum" | "maximum" => self.number(at, "a number", |_| true),
            "$ref" => {
                let found = self.document.text(at).filter(|text| !text.starts_with(DEFS)).map(str::to_owned);
                if let Some(found) = found {
                    self.error(at, Fault::ReferenceOutside { uri: found });
                }
            }
            "format" => return self.document.text(at) != Some("enum"), // `enum` says it
            "default" | "description" | "example" | "propertyOrdering" | "title" => return false,
            _ => {}
        }
        true
    }

    fn type_name(&mut self, at: ValueId) -> bool {
        let Some(found) = self.document.text(at) else {
            self.wrong_type(at, "a type name");
            return false;
        };
        if found.eq_ignore_ascii_case("TYPE_UNSPECIFIED") {
            return false;
        }
        match TYPES.into_iter().find(|name| found.eq_ignore_ascii_case(name)) {
            Some(name) => self.document.set(at, Value::Text(name.into())),
            None => {
                let found = found.to_owned();
                self.error(at, Fault::WrongValue { expected: "a type name", found });
            }
        }
        true
    }

    /// A list of schemas; an empty one is none.
    fn list(&mut self, at: ValueId) -> bool {
        let Value::Array(items) = self.document.value(at) else {
            self.wrong_type(at, "a list of schemas");
            return false;
        };
        self.open.extend(items);
        !items.is_empty()
    }

    /// A number may be written as text.
    fn number(&mut self, at: ValueId, expected: &'static str, is_right: impl Fn(&str) -> bool) {
        let Some(text) = self.document.text(at) else { return };
        match is_number(text) && is_right(text) {
            true => {
                let number = Value::Number(text.into());
                self.document.set(at, number);
            }
            false => {
                let found = text.to_owned();
                self.error(at, Fault::WrongValue { expected, found });
            }
        }
    }

    /// `enum` lists texts, also where the values are numbers or booleans.
    fn enumeration(&mut self, fields: &Members) {
        let field = |name: &str| fields.iter().find(|(field, _)| **field == *name).map(|(_, at)| *at);
        let Some(at) = field("enum") else { return };
        let kind = field("type").and_then(|at| self.document.text(at)).unwrap_or("string").to_owned();
        let Value::Array(items) = self.document.value(at) else { return };
        for item in items.clone() {
            let Some(text) = self.document.text(item) else {
                self.wrong_type(item, "a string");
                continue;
            };
            let value = match (&*kind, text) {
                ("string", _) => continue,
                ("boolean", "true" | "false") => Value::Bool(text == "true"),
                ("integer" | "number", text) if is_number(text) => Value::Number(text.into()),
                _ => {
                    let found = text.to_owned();
                    self.error(item, Fault::WrongValue { expected: "a value of the type", found });
                    continue;
                }
            };
            self.document.set(item, value);
        }
    }

    /// What the fields say is an alternative to `null`.
    fn admit_null(&mut self, at: ValueId, fields: &mut Members) {
        for (field, value) in fields.iter_mut() {
            match &**field {
                "type" => {
                    let null = self.document.add(*value, Value::Text("null".into()));
                    let kind = Value::Text(self.document.text(*value).unwrap_or_default().into());
                    let kind = self.document.add(*value, kind);
                    self.document.set(*value, Value::Array(vec![kind, null]));
                }
                "enum" => {
                    let null = self.document.add(*value, Value::Null);
                    self.prepend(*value, null);
                }
                "anyOf" => {
                    let null = self.null_schema(*value);
                    self.prepend(*value, null);
                }
                "$ref" => {
                    let target = self.document.add(at, Value::Object(vec![("$ref".into(), *value)]));
                    let null = self.null_schema(at);
                    let either = self.document.add(at, Value::Array(vec![null, target]));
                    let either = self.document.add(at, Value::Object(vec![("anyOf".into(), either)]));
                    *field = "allOf".into();
                    *value = self.document.add(at, Value::Array(vec![either]));
                }
                _ => {}
            }
        }
    }

    fn prepend(&mut self, list: ValueId, item: ValueId) {
        if let Value::Array(items) = self.document.value(list) {
            let items = [item].into_iter().chain(items.iter().copied()).collect();
            self.document.set(list, Value::Array(items));
        }
    }

    fn null_schema(&mut self, at: ValueId) -> ValueId {
        let kind = self.document.add(at, Value::Text("null".into()));
        self.document.add(at, Value::Object(vec![("type".into(), kind)]))
    }

    fn error(&mut self, at: ValueId, fault: Fault) {
        self.errors.push(SchemaError { pointer: self.document.pointer(at), fault });
    }

    fn wrong_type(&mut self, at: ValueId, expected: &'static str) {
        let found = self.document.value(at).kind();
        self.error(at, Fault::WrongType { expected, found });
    }

    fn unsupported(&mut self, at: ValueId, reason: &'static str) {
        self.error(at, Fault::KeywordUnsupported { reason });
    }
}

/// Whether `name` is `field` in lowerCamelCase or in snake_case.
fn is_spelling(name: &str, field: &str) -> bool {
    let snake = field.chars().flat_map(|letter| {
        letter.is_ascii_uppercase().then_some('_').into_iter().chain([letter.to_ascii_lowercase()])
    });
    name == field || name.chars().eq(snake)
}

/// Whether JSON has such a number.
fn is_number(text: &str) -> bool {
    let read = Document::parse(text.as_bytes(), &SchemaLimits::default());
    read.is_ok_and(|read| matches!(read.value(ValueId::ROOT), Value::Number(number) if **number == *text))
}
