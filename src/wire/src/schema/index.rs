//! Where the schemas of a document are, and what names they have: `$id`, `$anchor`, `$dynamicAnchor`.
//!
//! Only places where a schema may stand are looked at: an `$id` inside of an `enum` names nothing.

use std::collections::HashMap;

use super::{
    SchemaError,
    document::{Document, Value, ValueId},
    error::Fault,
    uri,
};

/// Which JSON Schema a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Draft7,
    Draft2020,
    /// No `$schema`: 2020-12, and what earlier drafts wrote otherwise where it cannot be mistaken.
    Undeclared,
}

/// The names in a document.
#[derive(Debug)]
pub(super) struct Index {
    pub dialect: Dialect,
    /// Base URI of each schema that was found.
    bases: HashMap<ValueId, usize>,
    /// URI and root of each schema resource.
    resources: Vec<(String, ValueId)>,
    anchors: HashMap<(usize, String), ValueId>,
    /// How many resources declare a dynamic anchor.
    dynamic: HashMap<String, usize>,
}

/// Keywords whose value is a schema, or where that is one of the forms.
const ONE: [&str; 12] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
const LIST: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];
const MAP: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];

impl Index {
    pub(super) fn new(document: &Document) -> Result<Self, Vec<SchemaError>> {
        let dialect = dialect(document).map_err(|error| vec![error])?;
        let mut index = Self {
            dialect,
            bases: HashMap::new(),
            resources: vec![(String::new(), ValueId::ROOT)],
            anchors: HashMap::new(),
            dynamic: HashMap::new(),
        };
        let mut errors = Vec::new();
        let mut open = vec![(ValueId::ROOT, 0)];
        while let Some((schema, base)) = open.pop() {
            let base = index.name(document, schema, base).unwrap_or_else(|error| {
                errors.push(error);
                base
            });
            index.bases.insert(schema, base);
            open.extend(subschemas(document, schema).into_iter().map(|child| (child, base)));
        }
        if errors.is_empty() { Ok(index) } else { Err(errors) }
    }

    /// Notes the names of one schema; gives the base for what it holds.
    fn name(&mut self, document: &Document, schema: ValueId, base: usize) -> Result<usize, SchemaError> {
        let error = |at: ValueId, fault| SchemaError { pointer: document.pointer(at), fault };
        let draft7 = self.dialect == Dialect::Draft7;
        if draft7 && document.member(schema, "$ref").is_some() {
            return Ok(base); // draft-07 section 8.3: all siblings are ignored
        }
        let mut own = base;
        if let Some((at, id)) = text_member(document, schema, "$id") {
            let (uri, fragment) = id.split_once('#').unwrap_or((id, ""));
            if !fragment.is_empty() {
                if !draft7 {
                    let expected = "a URI without fragment";
                    return Err(error(at, Fault::WrongValue { expected, found: id.into() }));
                }
                self.anchor(own, fragment, schema).map_err(|fault| error(at, fault))?;
            }
            if !uri.is_empty() {
                own = self.resource(base, uri, schema).map_err(|fault| error(at, fault))?;
            }
        }
        for keyword in ["$anchor", "$dynamicAnchor"] {
            let Some((at, name)) = text_member(document, schema, keyword) else { continue };
            if draft7 {
                return Err(error(at, Fault::KeywordUnsupported { reason: "draft-07 has no anchors" }));
            }
            self.anchor(own, name, schema).map_err(|fault| error(at, fault))?;
            if keyword == "$dynamicAnchor" {
                *self.dynamic.entry(name.to_owned()).or_default() += 1;
            }
        }
        Ok(own)
    }

    fn resource(&mut self, base: usize, id: &str, schema: ValueId) -> Result<usize, Fault> {
        let uri = uri::resolve(self.base_uri(base), id);
        if schema == ValueId::ROOT {
            self.resources.clear();
        } else if self.resources.iter().any(|(known, _)| *known == uri) {
            return Err(Fault::NameTwice { uri });
        }
        self.resources.push((uri, schema));
        Ok(self.resources.len() - 1)
    }

    fn anchor(&mut self, base: usize, name: &str, schema: ValueId) -> Result<(), Fault> {
        match self.anchors.insert((base, name.to_owned()), schema) {
            Some(_) => Err(Fault::NameTwice { uri: format!("#{name}") }),
            None => Ok(()),
        }
    }

    fn base_uri(&self, base: usize) -> &str {
        self.resources.get(base).map_or("", |(uri, _)| uri)
    }

    /// The base of any value: that of the nearest schema around it.
    fn base_of(&self, document: &Document, mut at: ValueId) -> usize {
        loop {
            if let Some(base) = self.bases.get(&at) {
                return *base;
            }
            let parent = document.parent(at);
            if parent == at {
                return 0;
            }
            at = parent;
        }
    }

    /// What the reference written in the schema `from` leads to.
    pub(super) fn target(
        &self,
        document: &Document,
        from: ValueId,
        reference: &str,
    ) -> Result<ValueId, Fault> {
        let base = self.base_of(document, from);
        let uri = uri::resolve(self.base_uri(base), reference);
        let found = self.resources.iter().position(|(known, _)| *known == uri);
        let Some(resource) = found else { return Err(Fault::ReferenceOutside { uri: reference.into() }) };
        let dangling = || Fault::ReferenceDangling { uri: reference.into() };
        let fragment = uri::split(reference).fragment.unwrap_or_default();
        let fragment = uri::decoded(fragment).ok_or_else(dangling)?;
        let root = self.resources.get(resource).map_or(ValueId::ROOT, |(_, root)| *root);
        if fragment.is_empty() {
            return Ok(root);
        }
        let Some(pointer) = fragment.strip_prefix('/') else {
            return self.anchors.get(&(resource, fragment)).copied().ok_or_else(dangling);
        };
        pointer
            .split('/')
            .try_fold(root, |at, token| document.child(at, &token.replace("~1", "/").replace("~0", "~")))
            .ok_or_else(dangling)
    }

    /// A `$dynamicRef` by this name means the same from wherever it is reached.
    pub(super) fn is_static(&self, reference: &str) -> bool {
        let name = uri::split(reference).fragment.and_then(uri::decoded).unwrap_or_default();
        self.dynamic.get(&name).is_none_or(|resources| *resources < 2)
    }
}

fn text_member<'a>(document: &'a Document, schema: ValueId, name: &str) -> Option<(ValueId, &'a str)> {
    let at = document.member(schema, name)?;
    Some((at, document.text(at)?))
}

fn subschemas(document: &Document, schema: ValueId) -> Vec<ValueId> {
    let mut found = Vec::new();
    for (key, value) in document.members(schema) {
        match document.value(*value) {
            Value::Object(members) if MAP.contains(&&**key) => {
                found.extend(members.iter().map(|(_, id)| *id))
            }
            Value::Object(_) | Value::Bool(_) if ONE.contains(&&**key) => found.push(*value),
            Value::Array(items) if LIST.contains(&&**key) => found.extend(items),
            _ => {}
        }
    }
    found
}

fn dialect(document: &Document) -> Result<Dialect, SchemaError> {
    let Some(at) = document.member(ValueId::ROOT, "$schema") else { return Ok(Dialect::Undeclared) };
    let found = document.text(at).unwrap_or_default();
    named(found).ok_or_else(|| SchemaError {
        pointer: document.pointer(at),
        fault: Fault::DialectUnsupported { uri: found.into() },
    })
}

/// The dialect with this URI.
pub(super) fn named(uri: &str) -> Option<Dialect> {
    let name = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"))?;
    match name.strip_suffix('#').unwrap_or(name) {
        "json-schema.org/draft/2020-12/schema" => Some(Dialect::Draft2020),
        "json-schema.org/draft-07/schema" => Some(Dialect::Draft7),
        _ => None,
    }
}
