//! From the schema document to nodes. What is not understood is an error, never a gap.
//!
//! Nodes are reserved when they are first asked for and filled one after the other, so that neither nesting nor
//! chains of references use the stack.

mod array;
mod equal;
mod object;
mod settle;

use std::collections::{HashMap, VecDeque};

use super::{
    Formats, Language, SchemaError, SchemaLimits, Unknown,
    document::{Document, Value, ValueId},
    error::Fault,
    format::Format,
    gemini,
    index::{self, Dialect, Index},
    keyword::Keyword,
    node::{ArrayRules, Branch, Node, NodeId, NumberRules, ObjectRules, Program, TextRules, Types},
    number::{Divisor, Owned},
    pattern::Pattern,
};

/// Keywords that are read with another one or elsewhere, and annotations.
const KNOWN: [&str; 60] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$ref",
    "$schema",
    "$vocabulary",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "deprecated",
    "description",
    "else",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "readOnly",
    "required",
    "then",
    "title",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "writeOnly",
];

/// Errors reported of one schema.
pub(super) const ERRORS_MAX: usize = 64;

/// Validation keywords of other drafts.
const FOREIGN: [&str; 5] = ["$recursiveAnchor", "$recursiveRef", "disallow", "divisibleBy", "extends"];

/// Keywords that came after draft-07.
const LATER: [&str; 8] = [
    "$dynamicRef",
    "dependentRequired",
    "dependentSchemas",
    "maxContains",
    "minContains",
    "prefixItems",
    "unevaluatedItems",
    "unevaluatedProperties",
];

pub(super) fn compile(
    language: Language,
    bytes: &[u8],
    limits: &SchemaLimits,
) -> Result<Program, Vec<SchemaError>> {
    let mut document = Document::parse(bytes, limits).map_err(|error| vec![error])?;
    if language == Language::Gemini {
        gemini::rewrite(&mut document)?;
    }
    let index = Index::new(&document)?;
    let mut compiler = Compiler::new(&document, &index, limits);
    compiler.vocabularies();
    let root = compiler.node_of(ValueId::ROOT);
    while let Some((id, value)) = compiler.open.pop_front() {
        compiler.fill(id, value);
        if compiler.errors.len() >= ERRORS_MAX {
            break;
        }
    }
    if !compiler.errors.is_empty() {
        return Err(compiler.errors);
    }
    let Compiler { nodes, objects, arrays, .. } = compiler;
    settle::settle(Program { nodes, objects, arrays, root }, limits).map_err(|error| vec![error])
}

struct Compiler<'a> {
    document: &'a Document,
    index: &'a Index,
    limits: &'a SchemaLimits,
    nodes: Vec<Node>,
    objects: Vec<ObjectRules>,
    arrays: Vec<ArrayRules>,
    reserved: HashMap<ValueId, NodeId>,
    open: VecDeque<(NodeId, ValueId)>,
    pattern_bytes: usize,
    errors: Vec<SchemaError>,
}

impl<'a> Compiler<'a> {
    fn new(document: &'a Document, index: &'a Index, limits: &'a SchemaLimits) -> Self {
        Self {
            document,
            index,
            limits,
            nodes: vec![Node::new(Types::ALL, "")],
            objects: vec![ObjectRules::default()],
            arrays: vec![ArrayRules::default()],
            reserved: HashMap::new(),
            open: VecDeque::new(),
            pattern_bytes: 0,
            errors: Vec::new(),
        }
    }

    fn error(&mut self, at: ValueId, fault: Fault) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(SchemaError { pointer: self.document.pointer(at), fault });
        }
    }

    fn wrong_type(&mut self, at: ValueId, expected: &'static str) {
        let found = self.document.value(at).kind();
        self.error(at, Fault::WrongType { expected, found });
    }

    fn vocabularies(&mut self) {
        let Some(at) = self.document.member(ValueId::ROOT, "$vocabulary") else { return };
        for (uri, required) in self.document.members(at) {
            let own = uri.starts_with("https://json-schema.org/draft/2020-12/vocab/");
            if matches!(self.document.value(*required), Value::Bool(true)) && !own {
                self.error(*required, Fault::VocabularyUnsupported { uri: uri.to_string() });
            }
        }
    }

    /// The node of the schema at `value`, filled now or later.
    fn node_of(&mut self, value: ValueId) -> NodeId {
        if let Some(node) = self.reserved.get(&value) {
            return *node;
        }
        let node = self.add(value, Types::ALL);
        self.reserved.insert(value, node);
        self.open.push_back((node, value));
        node
    }

    /// A node of its own, with the pointer of `value`.
    fn add(&mut self, value: ValueId, types: Types) -> NodeId {
        let id = NodeId::new(self.nodes.len());
        if self.nodes.len() >= self.limits.nodes_max {
            self.error(ValueId::ROOT, Fault::NodesMax { limit: self.limits.nodes_max });
            self.open.clear();
            return NodeId::TRUE;
        }
        self.nodes.push(Node::new(types, &self.document.pointer(value)));
        id
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    fn fill(&mut self, id: NodeId, value: ValueId) {
        match self.document.value(value) {
            Value::Bool(true) => {}
            Value::Bool(false) => self.node_mut(id).types = Types::NONE,
            Value::Object(_) => self.keywords(id, value),
            _ => self.wrong_type(value, "a schema"),
        }
    }

    fn keywords(&mut self, id: NodeId, schema: ValueId) {
        let mut branches = Vec::new();
        if self.index.dialect == Dialect::Draft7
            && let Some(reference) = self.document.member(schema, "$ref")
        {
            self.reference(schema, reference, &mut branches); // draft-07 section 8.3: all siblings are ignored
            self.node_mut(id).branches = branches.into();
            return;
        }
        let mut parts = Parts::default();
        for (key, at) in self.document.members(schema) {
            self.keyword(id, schema, key, *at, &mut parts, &mut branches);
        }
        let Parts { number, text } = parts;
        let object = self.object(schema, &mut branches);
        let array = self.array(schema);
        self.conditional(schema, &mut branches);
        let object = push(&mut self.objects, object);
        let array = push(&mut self.arrays, array);
        let node = self.node_mut(id);
        (node.object, node.array) = (object, array);
        node.number = number.map(Box::new);
        node.text = text.map(Box::new);
        node.branches = branches.into();
    }

    fn keyword(
        &mut self,
        id: NodeId,
        schema: ValueId,
        key: &str,
        at: ValueId,
        parts: &mut Parts,
        branches: &mut Vec<Branch>,
    ) {
        if self.index.dialect == Dialect::Draft7 && LATER.contains(&key) {
            return self.error(at, Fault::KeywordUnsupported { reason: "draft-07 does not know it" });
        }
        match key {
            "type" => self.node_mut(id).types = self.types(at),
            "const" => self.constant(id, schema, at, branches),
            "enum" => self.enumeration(id, schema, at, branches),
            "minimum" => self.bound(Keyword::Minimum, at, parts),
            "maximum" => self.bound(Keyword::Maximum, at, parts),
            "exclusiveMinimum" => self.bound(Keyword::ExclusiveMinimum, at, parts),
            "exclusiveMaximum" => self.bound(Keyword::ExclusiveMaximum, at, parts),
            "multipleOf" => self.multiple_of(at, parts),
            "minLength" => parts.text().min = self.count(at).unwrap_or_default(),
            "maxLength" => parts.text().max = self.count(at),
            "pattern" => parts.text().pattern = self.pattern(at),
            "format" => self.format(at, parts),
            "allOf" => branches.extend(self.schemas(at).into_iter().map(Branch::All)),
            "anyOf" => branches.push(Branch::Any(self.schemas(at).into())),
            "oneOf" => branches.push(Branch::One(self.schemas(at).into())),
            "not" => branches.push(Branch::Not(self.node_of(at))),
            "$ref" => self.reference(schema, at, branches),
            "$dynamicRef" => self.dynamic_reference(schema, at, branches),
            "$schema" => self.embedded_dialect(at),
            _ if FOREIGN.contains(&key) => {
                self.error(at, Fault::KeywordUnsupported { reason: "it belongs to another draft" });
            }
            _ if self.limits.unknown == Unknown::Refuse
                && !KNOWN.contains(&key)
                && !key.starts_with("x-") =>
            {
                let reason = "it is not known, so nothing would be held against it";
                self.error(at, Fault::KeywordUnsupported { reason });
            }
            // Read with another keyword, or an annotation: which is what the standard has unknown ones be (Core 6.5).
            _ => {}
        }
    }

    /// Schemas inside of this one speak the same dialect.
    fn embedded_dialect(&mut self, at: ValueId) {
        let found = self.document.text(at).unwrap_or_default();
        if index::named(found) != Some(self.index.dialect) {
            self.error(at, Fault::DialectUnsupported { uri: found.into() });
        }
    }

    fn types(&mut self, at: ValueId) -> Types {
        const EXPECTED: &str = "a type name or a list of them";
        let names = match self.document.value(at) {
            Value::Text(_) => vec![at],
            Value::Array(items) => items.clone(),
            _ => {
                self.wrong_type(at, EXPECTED);
                return Types::ALL;
            }
        };
        let mut types = Types::NONE;
        for at in &names {
            types = types.with(match self.document.text(*at).unwrap_or_default() {
                "null" => Types::NULL,
                "boolean" => Types::BOOLEAN,
                "integer" => Types::INTEGER,
                "number" => Types::NUMBER,
                "string" => Types::STRING,
                "array" => Types::ARRAY,
                "object" => Types::OBJECT,
                found => {
                    let found = found.to_owned();
                    self.error(*at, Fault::WrongValue { expected: EXPECTED, found });
                    continue;
                }
            });
        }
        if names.is_empty() {
            self.error(at, Fault::WrongValue { expected: EXPECTED, found: "[]".into() });
        }
        types
    }

    fn number(&mut self, at: ValueId) -> Option<&'a str> {
        match self.document.value(at) {
            Value::Number(text) => Some(text),
            _ => {
                self.wrong_type(at, "a number");
                None
            }
        }
    }

    fn bound(&mut self, keyword: Keyword, at: ValueId, parts: &mut Parts) {
        let Some(text) = self.number(at) else { return };
        match Owned::parse(text) {
            Some(bound) => parts.number().bounds.push((keyword, bound)),
            None => self.wrong_value(at, "a number of moderate size", text),
        }
    }

    fn multiple_of(&mut self, at: ValueId, parts: &mut Parts) {
        let Some(text) = self.number(at) else { return };
        match Divisor::parse(text) {
            Some(divisor) => parts.number().multiple_of = Some(divisor),
            None => self.wrong_value(at, "a number above zero of at most 18 digits", text),
        }
    }

    fn wrong_value(&mut self, at: ValueId, expected: &'static str, found: &str) {
        self.error(at, Fault::WrongValue { expected, found: found.into() });
    }

    /// A whole number that is not negative; `2.0` is one.
    fn count(&mut self, at: ValueId) -> Option<u64> {
        const EXPECTED: &str = "a whole number that is not negative";
        let text = self.number(at)?;
        let digits = text
            .split_once('.')
            .map_or(text, |(whole, zeros)| if zeros.bytes().all(|byte| byte == b'0') { whole } else { text });
        let count = digits.parse().ok();
        if count.is_none() {
            self.wrong_value(at, EXPECTED, text);
        }
        count
    }

    fn boolean(&mut self, at: ValueId) -> bool {
        match self.document.value(at) {
            Value::Bool(value) => *value,
            _ => {
                self.wrong_type(at, "a boolean");
                false
            }
        }
    }

    fn text(&mut self, at: ValueId) -> Option<&'a str> {
        let text = self.document.text(at);
        if text.is_none() {
            self.wrong_type(at, "a string");
        }
        text
    }

    fn pattern(&mut self, at: ValueId) -> Option<Pattern> {
        let source = self.text(at)?;
        self.pattern_from(at, source)
    }

    fn pattern_from(&mut self, at: ValueId, source: &str) -> Option<Pattern> {
        let left = self.limits.patterns_bytes_max.saturating_sub(self.pattern_bytes);
        if left == 0 {
            self.error(at, Fault::PatternBytesMax { limit: self.limits.patterns_bytes_max });
            return None;
        }
        match Pattern::compile(source, self.limits.pattern_bytes_max.min(left)) {
            Ok(pattern) => {
                self.pattern_bytes = self.pattern_bytes.saturating_add(pattern.bytes());
                Some(pattern)
            }
            Err(fault) => {
                if matches!(fault, Fault::PatternBytesMax { .. }) {
                    self.pattern_bytes = usize::MAX; // the schema is refused: no more time for further ones
                }
                self.error(at, fault);
                None
            }
        }
    }

    fn format(&mut self, at: ValueId, parts: &mut Parts) {
        let Some(name) = self.text(at) else { return };
        if self.limits.formats == Formats::Annotate {
            return;
        }
        match Format::named(name) {
            Some(format) => parts.text().format = Some(format),
            None => self.error(at, Fault::FormatUnknown { name: name.into() }),
        }
    }

    /// The schemas of a list that must not be empty.
    fn schemas(&mut self, at: ValueId) -> Vec<NodeId> {
        let document = self.document;
        match document.value(at) {
            Value::Array(items) if !items.is_empty() => {
                items.iter().map(|item| self.node_of(*item)).collect()
            }
            _ => {
                self.wrong_type(at, "a list of schemas that is not empty");
                Vec::new()
            }
        }
    }

    fn reference(&mut self, schema: ValueId, at: ValueId, branches: &mut Vec<Branch>) {
        let Some(reference) = self.text(at) else { return };
        match self.index.target(self.document, schema, reference) {
            Ok(target) => branches.push(Branch::All(self.node_of(target))),
            Err(fault) => self.error(at, fault),
        }
    }

    fn dynamic_reference(&mut self, schema: ValueId, at: ValueId, branches: &mut Vec<Branch>) {
        let Some(reference) = self.text(at) else { return };
        if self.index.is_static(reference) {
            return self.reference(schema, at, branches);
        }
        let reason = "what it means depends on how it is reached, through more than one `$id`";
        self.error(at, Fault::KeywordUnsupported { reason });
    }

    fn conditional(&mut self, schema: ValueId, branches: &mut Vec<Branch>) {
        let mut part = |name| self.document.member(schema, name).map(|at| self.node_of(at));
        let (when, then, otherwise) = (part("if"), part("then"), part("else"));
        if let Some(when) = when {
            let (then, otherwise) = (then.unwrap_or(NodeId::TRUE), otherwise.unwrap_or(NodeId::TRUE));
            branches.push(Branch::If { when, then, otherwise });
        }
    }
}

/// Duties of one schema that several keywords make together.
#[derive(Default)]
struct Parts {
    number: Option<NumberRules>,
    text: Option<TextRules>,
}

impl Parts {
    fn number(&mut self) -> &mut NumberRules {
        self.number.get_or_insert_default()
    }

    fn text(&mut self) -> &mut TextRules {
        self.text.get_or_insert_default()
    }
}

/// The index of `rules` in `list`; 0 for none.
fn push<T>(list: &mut Vec<T>, rules: Option<T>) -> u32 {
    let Some(rules) = rules else { return 0 };
    list.push(rules);
    (list.len() - 1) as u32 // at most one for each node
}
