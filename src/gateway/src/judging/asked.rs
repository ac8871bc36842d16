//! What one request asks of its answer: the schemas of its tools, and of the answer's text.

use std::collections::HashMap;

use bytes::Bytes;
use estoppel_wire::dialect::{Contracts, SchemaAt, Span, TextContract, ToolContract};
use estoppel_wire::schema::Language;

#[derive(Default)]
pub(crate) struct Asked {
    pub(super) tools: HashMap<String, AskedTool>,
    pub(super) text: Option<AskedText>,
}

#[derive(Clone)]
pub(super) enum AskedTool {
    Schema(Written),
    /// A custom tool that takes any text.
    AnyText,
    /// A custom tool that does not say which texts it takes.
    Custom,
    /// A custom tool whose texts have a grammar.
    Grammar,
    /// It is defined twice: clients and models may take either.
    Twice,
}

pub(super) enum AskedText {
    Json,
    AnyJson,
    Schema(Written),
    /// The text is no JSON, but one of the strings of the schema.
    Bare(Option<Written>),
}

/// A schema as the request has it.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) language: Language,
    pub(super) text: Bytes,
    bare: bool,
}

impl Written {
    /// As the contract has it. What is not plainly JSON Schema has a `$schema` that readers of JSON Schema refuse.
    pub(super) fn recorded(&self) -> Bytes {
        let name = match self.language {
            Language::JsonSchema if !self.bare => return self.text.clone(),
            Language::JsonSchema => "json-schema",
            Language::Gemini => "gemini",
        };
        let bare = if self.bare { r#""mime":"text/x.enum","# } else { "" };
        let head = format!(r#"{{"$schema":"urn:estoppel:schema:{name}",{bare}"schema":"#);
        [head.as_bytes(), &self.text, b"}"].concat().into()
    }
}

impl Asked {
    /// Copies the schemas out of the request's body.
    pub(crate) fn new(contracts: &Contracts, body: &[Bytes]) -> Self {
        let body = Pieces(body);
        let text = contracts.text.as_ref().map(|text| match text {
            TextContract::Json => AskedText::Json,
            TextContract::AnyJson => AskedText::AnyJson,
            TextContract::Schema(schema) => AskedText::Schema(body.schema(schema, false)),
            TextContract::Bare(schema) => {
                AskedText::Bare(schema.as_ref().map(|schema| body.schema(schema, true)))
            }
        });
        let mut tools = HashMap::new();
        for (name, contract) in &contracts.tools {
            let tool = match contract {
                _ if tools.contains_key(name) => AskedTool::Twice,
                ToolContract::Schema(schema) => AskedTool::Schema(body.schema(schema, false)),
                ToolContract::AnyText => AskedTool::AnyText,
                ToolContract::Custom => AskedTool::Custom,
                ToolContract::Grammar => AskedTool::Grammar,
            };
            tools.insert(name.clone(), tool);
        }
        Self { tools, text }
    }
}

struct Pieces<'a>(&'a [Bytes]);

impl Pieces<'_> {
    fn schema(&self, schema: &SchemaAt, bare: bool) -> Written {
        Written { language: schema.language, text: self.get(&schema.span), bare }
    }

    fn get(&self, span: &Span) -> Bytes {
        let mut out = Vec::new();
        let mut before = 0;
        for piece in self.0 {
            let within = |at: u64| usize::try_from(at.saturating_sub(before)).unwrap_or(usize::MAX);
            let (from, to) = (within(span.start).min(piece.len()), within(span.end).min(piece.len()));
            out.extend_from_slice(piece.get(from..to).unwrap_or_default());
            before += piece.len() as u64;
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plainly_json_schema_is_recorded_as_what_it_is() {
        let recorded = |language, bare| {
            let written = Written { language, text: Bytes::from_static(b"{ }"), bare };
            String::from_utf8(written.recorded().to_vec()).unwrap()
        };
        assert_eq!(recorded(Language::JsonSchema, false), "{ }");
        assert_eq!(
            recorded(Language::Gemini, false),
            r#"{"$schema":"urn:estoppel:schema:gemini","schema":{ }}"#
        );
        assert_eq!(
            recorded(Language::JsonSchema, true),
            r#"{"$schema":"urn:estoppel:schema:json-schema","mime":"text/x.enum","schema":{ }}"#
        );
        let schema = estoppel_wire::schema::Schema::compile(
            recorded(Language::Gemini, false).as_bytes(),
            &estoppel_wire::schema::SchemaLimits::default(),
        );
        assert!(schema.is_err(), "a reader of JSON Schema refuses it");
    }
}
