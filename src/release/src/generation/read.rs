//! Text to one JSON value that knows its lines; YAML and TOML are two ways to write the same.

use std::collections::BTreeMap;

use estoppel_policy::{PolicyErrorCode, YamlValue};
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{GenerationError, GenerationErrorCode as Code, shown};

/// Most bytes of a file, in both formats. A longer one is refused unread, with `GENERATION_LIMIT`.
pub const BYTES_MAX: usize = 1024 * 1024;

/// How a generation is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `*.yaml`, in the part of YAML that every reader agrees about.
    Yaml,
    /// `*.toml`.
    Toml,
}

impl Format {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Yaml, Self::Toml];

    /// How file names end, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Toml => "toml",
        }
    }
}

/// A document and where its values are written.
pub(super) struct Written {
    pub value: Value,
    places: Places,
}

enum Places {
    Yaml(YamlValue),
    Toml(BTreeMap<String, usize>),
}

impl Written {
    /// Line of the value at `pointer`, or of what it is in.
    pub fn line(&self, pointer: &str) -> Option<usize> {
        let mut at = pointer;
        loop {
            let line = match &self.places {
                Places::Yaml(yaml) => yaml.place(at).map(|(line, _)| line),
                Places::Toml(lines) => lines.get(at).copied(),
            };
            if line.is_some() {
                return line;
            }
            at = at.rsplit_once('/')?.0;
        }
    }
}

pub(super) fn text(text: &str, format: Format) -> Result<Written, Vec<GenerationError>> {
    if text.len() > BYTES_MAX {
        let message = format!("the file has {} bytes, the limit is {BYTES_MAX}", text.len());
        return Err(vec![GenerationError::new(Code::Limit, "", message)]);
    }
    match format {
        Format::Yaml => yaml(text),
        Format::Toml => toml(text).map_err(|error| vec![error]),
    }
}

fn yaml(text: &str) -> Result<Written, Vec<GenerationError>> {
    let mut yaml = YamlValue::parse(text).map_err(|errors| {
        let error = |error: estoppel_policy::PolicyError| {
            let code = match error.code {
                PolicyErrorCode::YamlFeature | PolicyErrorCode::Type => Code::YamlFeature,
                PolicyErrorCode::Limit => Code::Limit,
                PolicyErrorCode::DuplicateKey => Code::DuplicateKey,
                _ => Code::Syntax,
            };
            GenerationError {
                line: Some(error.line),
                ..GenerationError::new(code, error.path, error.message)
            }
        };
        errors.into_iter().map(error).collect::<Vec<_>>()
    })?;
    Ok(Written { value: yaml.value.take(), places: Places::Yaml(yaml) })
}

fn toml(text: &str) -> Result<Written, GenerationError> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        GenerationError { line, ..GenerationError::new(Code::Syntax, "", error.message()) }
    })?;
    let mut lines = BTreeMap::new();
    let mut reader = Toml { text, lines: &mut lines };
    let value = reader.table(table.get_ref(), "")?;
    Ok(Written { value, places: Places::Toml(lines) })
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

struct Toml<'t> {
    text: &'t str,
    lines: &'t mut BTreeMap<String, usize>,
}

impl Toml<'_> {
    fn table(&mut self, table: &DeTable<'_>, pointer: &str) -> Result<Value, GenerationError> {
        let mut map = Map::new();
        for (key, value) in table {
            let key = key.get_ref();
            let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
            map.insert(key.to_string(), self.value(value, below)?);
        }
        Ok(Value::Object(map))
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, pointer: String) -> Result<Value, GenerationError> {
        let line = line_of(self.text, value.span().start);
        self.lines.insert(pointer.clone(), line);
        let refuse = |found: &str| {
            let message = format!("{found} is not used in a generation; write a text or a whole number");
            GenerationError { line: Some(line), ..GenerationError::new(Code::Schema, &pointer, message) }
        };
        match value.get_ref() {
            DeValue::String(text) => Ok(Value::String(text.to_string())),
            DeValue::Boolean(truth) => Ok(Value::Bool(*truth)),
            DeValue::Integer(number) => {
                let whole = i64::from_str_radix(number.as_str(), number.radix());
                whole
                    .map(Value::from)
                    .map_err(|_| refuse(&format!("the number `{}`", shown(number.as_str()))))
            }
            DeValue::Float(_) => Err(refuse("a fraction")),
            DeValue::Datetime(_) => Err(refuse("a date")),
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                items.map(|(index, item)| self.value(item, format!("{pointer}/{index}"))).collect()
            }
            DeValue::Table(table) => self.table(table, &pointer),
        }
    }
}
