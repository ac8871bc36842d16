//! The schema document as a tree with parents. Schemas are small and read once, so a tree is fine here.
//!
//! Numbers keep their text. Members that come twice are refused, because two readers would see two schemas.

use std::collections::HashSet;

use super::{SchemaError, SchemaLimits, error::Fault};
use crate::json::{Capture, Container, Limits, Literal, Tokenizer, Visitor};

/// Index of a value in its [`Document`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ValueId(u32);

impl ValueId {
    pub(super) const ROOT: Self = Self(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize // `usize` has at least 32 bits wherever this is built
    }
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As written.
    Number(Box<str>),
    Text(Box<str>),
    Array(Vec<ValueId>),
    Object(Vec<(Box<str>, ValueId)>),
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// The step from a value's parent to it.
#[derive(Debug)]
enum Step {
    Root,
    Index(usize),
    Name(Box<str>),
    /// Made to say what the parent says.
    Made,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    parent: ValueId,
    step: Step,
}

/// One JSON text.
#[derive(Debug)]
pub(super) struct Document {
    /// INVARIANT: not empty; every `ValueId` given out is an index of it.
    entries: Vec<Entry>,
}

impl Document {
    pub(super) fn parse(bytes: &[u8], limits: &SchemaLimits) -> Result<Self, SchemaError> {
        if bytes.len() > limits.bytes_max {
            return Err(SchemaError::at_root(Fault::BytesMax { limit: limits.bytes_max }));
        }
        let depth_max = limits.depth_max;
        let mut tokenizer = Tokenizer::new(Limits { depth_max, ..Limits::default() }, Some(()));
        let mut reader = Reader::new(limits.values_max);
        let read = tokenizer.feed(bytes, &mut reader).and_then(|()| tokenizer.finish(&mut reader));
        if let Some((at, fault)) = reader.fault {
            let document = Self { entries: reader.entries };
            return Err(SchemaError { pointer: document.pointer(at), fault });
        }
        match read {
            Ok(()) => Ok(Self { entries: reader.entries }),
            Err(defect) => Err(SchemaError::at_root(Fault::NotJson { defect, offset: tokenizer.offset() })),
        }
    }

    pub(super) fn value(&self, id: ValueId) -> &Value {
        &self.entries[id.index()].value
    }

    pub(super) fn set(&mut self, id: ValueId, value: Value) {
        self.entries[id.index()].value = value;
    }

    /// Another value, told of as `parent`; at most a few for each that was read.
    pub(super) fn add(&mut self, parent: ValueId, value: Value) -> ValueId {
        self.entries.push(Entry { value, parent, step: Step::Made });
        ValueId((self.entries.len() - 1) as u32) // values are limited far below
    }

    /// The value that holds this one; the root holds itself.
    pub(super) fn parent(&self, id: ValueId) -> ValueId {
        self.entries[id.index()].parent
    }

    pub(super) fn members(&self, id: ValueId) -> &[(Box<str>, ValueId)] {
        match self.value(id) {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    pub(super) fn member(&self, id: ValueId, name: &str) -> Option<ValueId> {
        self.members(id).iter().find(|(key, _)| **key == *name).map(|(_, value)| *value)
    }

    pub(super) fn text(&self, id: ValueId) -> Option<&str> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// One step down by a reference token of a JSON pointer (RFC 6901 section 4), unescaped.
    pub(super) fn child(&self, id: ValueId, token: &str) -> Option<ValueId> {
        match self.value(id) {
            Value::Object(_) => self.member(id, token),
            Value::Array(items) => {
                let plain = token.bytes().all(|byte| byte.is_ascii_digit());
                let canonical = plain && (token.len() == 1 || !token.starts_with('0'));
                if canonical {
                    token.parse().ok().and_then(|index: usize| items.get(index).copied())
                } else {
                    None
                }
            }
            _ => None,
        }
    }

    /// The JSON pointer of a value, as a URI fragment would have it but for percent escapes.
    pub(super) fn pointer(&self, id: ValueId) -> String {
        let mut steps = Vec::new();
        let mut at = id;
        while let Some(entry) = self.entries.get(at.index()) {
            match &entry.step {
                Step::Root => break,
                Step::Made => {}
                Step::Index(index) => steps.push(index.to_string()),
                Step::Name(name) => steps.push(name.replace('~', "~0").replace('/', "~1")),
            }
            at = entry.parent;
        }
        steps.iter().rev().fold(String::new(), |pointer, step| pointer + "/" + step)
    }
}

/// Builds the tree. After a fault it wants nothing more.
struct Reader {
    entries: Vec<Entry>,
    values_max: usize,
    open: Vec<(ValueId, HashSet<Box<str>>)>,
    key: Option<Box<str>>,
    text: Vec<u8>,
    fault: Option<(ValueId, Fault)>,
}

impl Reader {
    fn new(values_max: usize) -> Self {
        Self { entries: Vec::new(), values_max, open: Vec::new(), key: None, text: Vec::new(), fault: None }
    }

    fn put(&mut self, value: Value) -> Option<ValueId> {
        if self.fault.is_some() {
            return None;
        }
        let id = u32::try_from(self.entries.len()).ok().filter(|_| self.entries.len() < self.values_max);
        let Some(id) = id.map(ValueId) else {
            self.fault = Some((ValueId::ROOT, Fault::ValuesMax { limit: self.values_max }));
            return None;
        };
        let parent = self.open.last().map_or(ValueId::ROOT, |(open, _)| *open);
        let key = self.key.take();
        let step = match self.entries.get_mut(parent.index()).map(|entry| &mut entry.value) {
            Some(Value::Array(items)) => {
                items.push(id);
                Step::Index(items.len() - 1)
            }
            Some(Value::Object(members)) => {
                let name = key.unwrap_or_default();
                members.push((name.clone(), id));
                Step::Name(name)
            }
            _ => Step::Root,
        };
        self.entries.push(Entry { value, parent, step });
        Some(id)
    }
}

fn utf8(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into() // the tokenizer gives UTF-8 only
}

impl Visitor for Reader {
    type Place = ();

    fn member(&mut self, (): (), key: &[u8]) -> Option<()> {
        if self.fault.is_some() {
            return None;
        }
        let name = utf8(key);
        let (object, names) = self.open.last_mut()?;
        if !names.insert(name.clone()) {
            self.fault = Some((*object, Fault::DuplicateKey { key: name.into() }));
            return None;
        }
        self.key = Some(name);
        Some(())
    }

    fn element(&mut self, (): ()) -> Option<()> {
        self.fault.is_none().then_some(())
    }

    fn begin(&mut self, (): (), container: Container) {
        let value = match container {
            Container::Object => Value::Object(Vec::new()),
            Container::Array => Value::Array(Vec::new()),
        };
        if let Some(id) = self.put(value) {
            self.open.push((id, HashSet::new()));
        }
    }

    fn end(&mut self, (): (), _: Container) {
        if self.fault.is_none() {
            self.open.pop();
        }
    }

    fn string(&mut self, (): ()) -> Capture {
        self.text.clear();
        Capture::Take
    }

    fn text(&mut self, (): (), piece: &[u8]) {
        self.text.extend_from_slice(piece);
    }

    fn string_end(&mut self, (): ()) {
        let text = utf8(&self.text);
        self.put(Value::Text(text));
    }

    fn number(&mut self, (): (), text: &[u8]) {
        let text = utf8(text);
        self.put(Value::Number(text));
    }

    fn literal(&mut self, (): (), literal: Literal) {
        self.put(match literal {
            Literal::True => Value::Bool(true),
            Literal::False => Value::Bool(false),
            Literal::Null => Value::Null,
        });
    }
}
