//! A schema as a document that two servers with the same schema share (`spec/snapshot.md`).

mod read;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use estoppel_evidence::canonical;
use estoppel_evidence::hash::Sha256;
use serde_json::{Value, json};

use crate::rows::Rows;

pub(crate) use read::read;

/// The parts of a schema in byte order, and how many names lead to an object in each: those of its schema, of the
/// relation or type that it belongs to, and its own.
pub(crate) const PARTS: &[(&str, usize)] = &[
    ("columns", 3),
    ("constraints", 3),
    ("extensions", 1),
    ("functions", 2),
    ("indexes", 3),
    ("namespaces", 1),
    ("policies", 3),
    ("relations", 2),
    ("rules", 3),
    ("sequences", 2),
    ("triggers", 3),
    ("types", 2),
    ("views", 2),
];

/// SHA-256 of a schema's canonical bytes. Written `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SchemaDigest(pub Sha256);

impl fmt::Display for SchemaDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The parts of a schema as maps by name, what of the database they do not cover, and digests of rows where some were asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Schema {
    bytes: Vec<u8>,
    digest: SchemaDigest,
    /// Without the rows.
    schema_digest: SchemaDigest,
    document: Arc<Value>,
    rows: Option<Arc<Rows>>,
}

/// What is wrong with bytes that should be a schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("a schema is canonical JSON")]
    NotCanonical,
    #[error("this is no `{}` document", Schema::FORMAT)]
    Format,
    #[error("what it says of rows does not fit itself")]
    Rows,
}

impl Schema {
    /// The name of the format.
    pub const FORMAT: &'static str = "estoppel-schema/1";

    pub(crate) fn new(
        parts: BTreeMap<&'static str, Value>,
        uncovered: BTreeMap<String, u64>,
    ) -> Option<Self> {
        let mut document = json!({ "format": Self::FORMAT, "uncovered": uncovered });
        document["parts"] = parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
        let bytes = canonical::own(&document).ok()?;
        let digest = SchemaDigest(Sha256::of(&bytes));
        Some(Self { digest, schema_digest: digest, bytes, document: Arc::new(document), rows: None })
    }

    /// The same schema, and these rows.
    pub(crate) fn with_rows(&self, rows: Arc<Rows>) -> Option<Self> {
        let mut document = self.document.as_object()?.clone();
        document.insert("rows".to_owned(), rows.document());
        let bytes = canonical::own(&Value::Object(document)).ok()?;
        let digest = SchemaDigest(Sha256::of(&bytes));
        Some(Self { digest, bytes, rows: Some(rows), ..self.clone() })
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When the bytes are not exactly the canonical form of one.
    pub fn parse(bytes: &[u8]) -> Result<Self, SchemaError> {
        if !canonical::foreign(bytes).is_ok_and(|canonical| canonical == bytes) {
            return Err(SchemaError::NotCanonical);
        }
        let mut document: Value = serde_json::from_slice(bytes).map_err(|_| SchemaError::NotCanonical)?;
        let has_parts = PARTS.iter().all(|(part, _)| document["parts"][*part].is_object());
        if document["format"] != Self::FORMAT || !has_parts || !document["uncovered"].is_object() {
            return Err(SchemaError::Format);
        }
        let digest = SchemaDigest(Sha256::of(bytes));
        let rows = document.as_object_mut().and_then(|members| members.remove("rows"));
        let (rows, schema_digest) = match rows {
            None => (None, digest),
            Some(rows) => {
                let rows = Rows::read(&rows).ok_or(SchemaError::Rows)?;
                let schema = canonical::own(&document).map_err(|_| SchemaError::NotCanonical)?;
                (Some(Arc::new(rows)), SchemaDigest(Sha256::of(&schema)))
            }
        };
        Ok(Self { bytes: bytes.to_vec(), digest, schema_digest, document: Arc::new(document), rows })
    }

    /// The canonical bytes, as they are stored and digested.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of [`Schema::bytes`].
    pub fn digest(&self) -> SchemaDigest {
        self.digest
    }

    /// The digest of the document without its rows.
    pub fn schema_digest(&self) -> SchemaDigest {
        self.schema_digest
    }

    /// Digests of rows, where some were asked for.
    pub fn rows(&self) -> Option<&Rows> {
        self.rows.as_deref()
    }

    /// The parts by name.
    pub fn parts(&self) -> &Value {
        &self.document["parts"]
    }

    /// Every object with the names that lead to it, its part first.
    pub fn objects(&self) -> Vec<(Vec<&str>, &Value)> {
        let mut objects = Vec::new();
        for (part, names) in PARTS {
            below(vec![part], *names, &self.parts()[*part], &mut objects);
        }
        objects
    }

    /// The names of its namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let namespaces = self.parts()["namespaces"].as_object();
        namespaces.into_iter().flat_map(|names| names.keys().map(String::as_str))
    }

    /// How many objects of each kind the database has that the schema does not describe.
    pub fn uncovered_counts(&self) -> &Value {
        &self.document["uncovered"]
    }

    /// The kinds of things that the database has and the schema does not describe.
    pub fn uncovered(&self) -> impl Iterator<Item = &str> {
        self.document["uncovered"].as_object().into_iter().flat_map(|kinds| kinds.keys().map(String::as_str))
    }
}

/// Objects that `names` more names lead to.
fn below<'s>(
    path: Vec<&'s str>,
    names: usize,
    value: &'s Value,
    objects: &mut Vec<(Vec<&'s str>, &'s Value)>,
) {
    match value.as_object().filter(|_| names > 0) {
        None => objects.push((path, value)),
        Some(members) => members.iter().for_each(|(name, value)| {
            below([&path[..], &[name]].concat(), names - 1, value, objects);
        }),
    }
}
