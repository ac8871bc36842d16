//! The JSON Schemas of `spec/pef/schemas`, compiled to what one pass over a canonical document can check
//! (SPEC section 1, last paragraph).
//!
//! In a canonical document the member names arrive sorted, so an object is checked by walking down the sorted
//! list of its schema's members once: no name is parsed, nothing is looked up, no tree is built. The same pass
//! notes where the members stand that the later steps need ([`Slots`]).
//!
//! The compiler knows the keywords that SPEC allows and refuses a schema with any other, because a keyword that
//! is passed over is a check that is not made.

use std::sync::OnceLock;

use crate::json::{Checked, Fault, INTEGER_MAX, Strict, View};

/// The members of entries that are read for every line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Iss,
    Kid,
    MonoUs,
    Prev,
    Run,
    Seq,
    Call,
    Claims,
    Complete,
    Policy,
    RequestBody,
    ClientBody,
    UpstreamBody,
    Sse,
    TotalUs,
    Action,
}

const SLOTS: usize = 16;

/// Where each [`Slot`] is in an entry: names joined by dots.
const PLACES: [(&str, Slot); SLOTS] = [
    ("iss", Slot::Iss),
    ("kid", Slot::Kid),
    ("mono_us", Slot::MonoUs),
    ("prev", Slot::Prev),
    ("run", Slot::Run),
    ("seq", Slot::Seq),
    ("call", Slot::Call),
    ("claims", Slot::Claims),
    ("outcome.complete", Slot::Complete),
    ("policy.hash", Slot::Policy),
    ("request.sha256", Slot::RequestBody),
    ("response.client.sha256", Slot::ClientBody),
    ("response.upstream.sha256", Slot::UpstreamBody),
    ("sse", Slot::Sse),
    ("time.total_us", Slot::TotalUs),
    ("verdict.action", Slot::Action),
];

/// Where the noted members stand: inside the quotes of strings, whole for other values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots([(u32, u32); SLOTS]);

impl Slots {
    /// What stands there, if the member is there.
    #[inline]
    pub(crate) fn get<'a>(&self, slot: Slot, line: &'a [u8]) -> Option<&'a [u8]> {
        let (from, to) = *self.0.get(slot as usize)?; // The number of the variant: `Slot` carries no data.
        if from == 0 { None } else { line.get(from as usize..to as usize) } // u32 to usize always fits here.
    }

    #[inline]
    fn note(&mut self, slot: Slot, text: &[u8], from: usize, to: usize) {
        let quote = usize::from(text.get(from) == Some(&b'"'));
        if let (Some(place), Ok(from), Ok(to)) =
            (self.0.get_mut(slot as usize), u32::try_from(from + quote), u32::try_from(to - quote))
        {
            *place = (from, to);
        }
    }
}

/// The kinds of SPEC section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    RunOpen,
    Call,
    Intent,
    Interrupted,
    KeyRotate,
    JournalRecover,
    PolicyLoad,
    Gap,
    RunSeal,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::RunOpen,
        Kind::Call,
        Kind::Intent,
        Kind::Interrupted,
        Kind::KeyRotate,
        Kind::JournalRecover,
        Kind::PolicyLoad,
        Kind::Gap,
        Kind::RunSeal,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::RunOpen => "run.open",
            Kind::Call => "call",
            Kind::Intent => "intent",
            Kind::Interrupted => "interrupted",
            Kind::KeyRotate => "key.rotate",
            Kind::JournalRecover => "journal.recover",
            Kind::PolicyLoad => "policy.load",
            Kind::Gap => "gap",
            Kind::RunSeal => "run.seal",
        }
    }

    pub(crate) fn of(name: &[u8]) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }
}

/// All compiled schemas.
pub(crate) struct Schemas {
    pub manifest: Schema,
    pub envelope: Schema,
    pub trust: Schema,
    receipt: Schema,
    events: Vec<(Kind, Schema)>,
}

impl Schemas {
    /// The schemas, compiled at first use.
    pub(crate) fn get() -> &'static Schemas {
        static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
        SCHEMAS.get_or_init(|| {
            Schemas::compile().expect("the embedded schemas do not depend on input, and a test compiles them")
        })
    }

    pub(crate) fn entry(&self, kind: Kind) -> &Schema {
        self.events.iter().find(|(of, _)| *of == kind).map_or(&self.receipt, |(_, schema)| schema)
    }

    fn compile() -> Result<Schemas, String> {
        let event = include_bytes!("../../../spec/pef/schemas/journal_event.schema.json");
        let mut events = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Call) {
            events.push((kind, Schema::compile(event, Some(kind.name()), &PLACES)?));
        }
        Ok(Schemas {
            manifest: Schema::compile(
                include_bytes!("../../../spec/pef/schemas/manifest.schema.json"),
                None,
                &[],
            )?,
            envelope: Schema::compile(
                include_bytes!("../../../spec/pef/schemas/signature.schema.json"),
                None,
                &[],
            )?,
            trust: Schema::compile(include_bytes!("../../../spec/pef/schemas/trust.schema.json"), None, &[])?,
            receipt: Schema::compile(
                include_bytes!("../../../spec/pef/schemas/receipt.schema.json"),
                None,
                &PLACES,
            )?,
            events,
        })
    }
}

/// One compiled schema.
pub(crate) struct Schema {
    root: Node,
}

impl Schema {
    /// Compiles a schema document, or the definition of that name in it.
    fn compile(document: &[u8], definition: Option<&str>, places: &[(&str, Slot)]) -> Result<Schema, String> {
        let root = View::of(document);
        let compiler = Compiler { definitions: root.member("$defs"), places };
        let node = match definition {
            None => Some(root),
            Some(name) => compiler.definitions.and_then(|definitions| definitions.member(name)),
        };
        let node = node.ok_or_else(|| format!("no definition {definition:?}"))?;
        Ok(Schema { root: compiler.node(node, "", 0)? })
    }

    /// Checks in one pass that `document` is admitted, canonical and valid.
    pub(crate) fn check(&self, document: &[u8], slots: &mut Slots) -> Checked {
        let mut strict = Strict::new(document)?;
        self.root.check(&mut strict, slots, 1)?;
        strict.end()
    }
}

enum Node {
    /// Exactly these members, sorted.
    Object(Vec<Member>),
    /// An object of anything.
    Open,
    Array {
        items: Box<Node>,
        least: usize,
        most: usize,
        unique: bool,
    },
    Text {
        least: usize,
        most: usize,
    },
    Pattern {
        source: String,
        steps: Vec<Step>,
    },
    /// One of these values, as they stand in a canonical document.
    Words(Vec<Vec<u8>>),
    Integer {
        least: i64,
        most: i64,
    },
    Boolean,
}

struct Member {
    name: String,
    /// `"name":`, as it stands after `{`.
    first: Vec<u8>,
    /// `,"name":`, as it stands after another member.
    further: Vec<u8>,
    required: bool,
    node: Node,
    slot: Option<Slot>,
}

impl Node {
    fn check(&self, strict: &mut Strict<'_>, slots: &mut Slots, depth: usize) -> Checked {
        let from = strict.at;
        match self {
            Node::Object(members) => check_members(members, strict, slots, depth),
            Node::Pattern { source, steps } => {
                strict.expect(b'"', "expected a string")?;
                let end = matched(steps, strict.rest());
                strict.at += end.unwrap_or_default();
                if end.is_none() || !strict.eat(b'"') {
                    return Err(Fault::new(from, format!("expected a string that matches `{source}`")));
                }
                Ok(())
            }
            Node::Text { least, most } => {
                let length = strict.string()?.length;
                if length < *least || length > *most {
                    return Err(Fault::new(
                        from,
                        format!("expected {least} to {most} characters, found {length}"),
                    ));
                }
                Ok(())
            }
            Node::Integer { least, most } => {
                let value = strict.integer()?;
                if value < *least || value > *most {
                    return Err(Fault::new(
                        from,
                        format!("expected an integer from {least} to {most}, found {value}"),
                    ));
                }
                Ok(())
            }
            Node::Words(words) => {
                let rest = strict.rest();
                match words.iter().find(|word| rest.starts_with(word)) {
                    Some(word) => strict.at += word.len(),
                    None => return Err(Fault::new(from, format!("expected {}", listed(words)))),
                }
                // A number may go on where the word ends; whatever follows is refused by the caller then.
                Ok(())
            }
            Node::Boolean => strict.boolean(),
            Node::Array { items, least, most, unique } => {
                check_items(items, (*least, *most), *unique, strict, slots, depth)
            }
            Node::Open => {
                strict.expect(b'{', "expected an object")?;
                strict.object_rest(depth)
            }
        }
    }
}

fn check_members(members: &[Member], strict: &mut Strict<'_>, slots: &mut Slots, depth: usize) -> Checked {
    strict.expect(b'{', "expected an object")?;
    let mut first = true;
    for member in members {
        let key = if first { &member.first } else { &member.further };
        if strict.rest().starts_with(key) {
            strict.at += key.len();
            let from = strict.at;
            if let Err(mut fault) = member.node.check(strict, slots, depth + 1) {
                fault.path.push(member.name.clone());
                return Err(fault);
            }
            if let Some(slot) = member.slot {
                slots.note(slot, strict.text, from, strict.at);
            }
            first = false;
        } else if member.required {
            return Err(Fault::new(strict.at, format!("expected member `{}`", member.name)));
        }
    }
    strict.expect(b'}', "expected no further member")
}

fn check_items(
    items: &Node,
    (least, most): (usize, usize),
    unique: bool,
    strict: &mut Strict<'_>,
    slots: &mut Slots,
    depth: usize,
) -> Checked {
    let start = strict.at;
    strict.expect(b'[', "expected an array")?;
    let mut count = 0;
    let mut seen = Vec::new();
    while !strict.eat(b']') {
        if count == most {
            return Err(Fault::new(strict.at, format!("expected at most {most} items")));
        }
        if count > 0 {
            strict.expect(b',', "expected `,` or `]`")?;
        }
        let from = strict.at;
        if let Err(mut fault) = items.check(strict, slots, depth + 1) {
            fault.path.push(format!("[{count}]"));
            return Err(fault);
        }
        if unique {
            seen.push(strict.text.get(from..strict.at));
        }
        count += 1;
    }
    if count < least {
        return Err(Fault::new(start, format!("expected at least {least} items, found {count}")));
    }
    seen.sort_unstable();
    if seen.iter().zip(seen.iter().skip(1)).any(|(one, next)| one == next) {
        return Err(Fault::new(start, "expected items that differ from each other"));
    }
    Ok(())
}

fn listed(words: &[Vec<u8>]) -> String {
    let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
    words.join(" or ")
}

/// A part of a pattern.
enum Step {
    Literal(Vec<u8>),
    /// From `least` to `most` bytes that are allowed.
    Class {
        allowed: Box<[bool; 256]>,
        least: usize,
        most: usize,
    },
}

impl Step {
    /// Whether a match of this step can start with `byte`.
    fn starts_with(&self, byte: u8) -> bool {
        match self {
            Step::Literal(literal) => literal.first() == Some(&byte),
            Step::Class { allowed, .. } => is_allowed(allowed, byte),
        }
    }

    fn may_be_empty(&self) -> bool {
        matches!(self, Step::Class { least: 0, .. })
    }
}

#[inline]
fn is_allowed(allowed: &[bool; 256], byte: u8) -> bool {
    allowed.get(usize::from(byte)).copied().unwrap_or_default()
}

/// How many bytes at the start of `text` the steps match. Steps never need to give bytes back: the compiler has
/// seen to it that what may follow a repeat is not in its class.
#[inline]
fn matched(steps: &[Step], text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for step in steps {
        let rest = text.get(at..)?;
        match step {
            Step::Literal(literal) => {
                if !rest.starts_with(literal) {
                    return None;
                }
                at += literal.len();
            }
            Step::Class { allowed, least, most } => {
                let window = rest.get(..*most).unwrap_or(rest);
                let count =
                    window.iter().position(|byte| !is_allowed(allowed, *byte)).unwrap_or(window.len());
                if count < *least {
                    return None;
                }
                at += count;
            }
        }
    }
    Some(at)
}

struct Compiler<'a> {
    definitions: Option<View<'a>>,
    places: &'a [(&'a str, Slot)],
}

/// More than any schema of the format nests; stops a `$ref` that leads to itself.
const SCHEMA_DEPTH_MAX: usize = 16;

impl<'a> Compiler<'a> {
    fn node(&self, schema: View<'a>, path: &str, depth: usize) -> Result<Node, String> {
        if depth > SCHEMA_DEPTH_MAX {
            return Err(format!("{path}: nested too deep"));
        }
        if let Some(target) = schema.member("$ref").and_then(View::text) {
            let node = target
                .strip_prefix("#/$defs/")
                .and_then(|name| self.definitions.and_then(|definitions| definitions.member(name)))
                .ok_or_else(|| format!("{path}: {target} leads nowhere"))?;
            known(schema, &["$ref"], path)?;
            return self.node(node, path, depth + 1);
        }
        if let Some(value) = schema.member("const") {
            known(schema, &["const", "type"], path)?;
            return Ok(Node::Words(vec![value.raw().to_vec()]));
        }
        let kind = schema.text_of("type");
        let size = |name: &str, default: usize| match schema.member(name) {
            None => Ok(default),
            Some(size) => size
                .count()
                .and_then(|size| usize::try_from(size).ok())
                .ok_or_else(|| format!("{path}: {name} is not a size")),
        };
        match &*kind {
            "object" => self.object(schema, path, depth),
            "array" => {
                known(schema, &["type", "items", "minItems", "maxItems", "uniqueItems"], path)?;
                let items = schema.member("items").ok_or_else(|| format!("{path}: no items"))?;
                Ok(Node::Array {
                    items: Box::new(self.node(items, &format!("{path}[]"), depth + 1)?),
                    least: size("minItems", 0)?,
                    most: size("maxItems", usize::MAX)?,
                    unique: schema.member("uniqueItems").and_then(View::boolean).unwrap_or(false),
                })
            }
            "string" => {
                if let Some(words) = schema.member("enum") {
                    known(schema, &["type", "enum"], path)?;
                    return Ok(Node::Words(words.items().map(|word| word.raw().to_vec()).collect()));
                }
                if let Some(pattern) = schema.member("pattern").and_then(View::text) {
                    known(schema, &["type", "pattern"], path)?;
                    let steps =
                        compile_pattern(&pattern).map_err(|why| format!("{path}: {pattern}: {why}"))?;
                    return Ok(Node::Pattern { source: pattern.into_owned(), steps });
                }
                known(schema, &["type", "minLength", "maxLength"], path)?;
                Ok(Node::Text { least: size("minLength", 0)?, most: size("maxLength", usize::MAX)? })
            }
            "integer" => {
                known(schema, &["type", "minimum", "maximum"], path)?;
                let bound = |name, default| schema.member(name).map_or(Some(default), View::integer);
                match (bound("minimum", -INTEGER_MAX), bound("maximum", INTEGER_MAX)) {
                    (Some(least), Some(most)) => Ok(Node::Integer { least, most }),
                    _ => Err(format!("{path}: bounds are not integers")),
                }
            }
            "boolean" => known(schema, &["type"], path).map(|()| Node::Boolean),
            other => Err(format!("{path}: type {other:?}")),
        }
    }

    fn object(&self, schema: View<'a>, path: &str, depth: usize) -> Result<Node, String> {
        let Some(properties) = schema.member("properties") else {
            return known(schema, &["type"], path).map(|()| Node::Open);
        };
        let mut keywords = vec!["type", "properties", "required", "additionalProperties"];
        if depth == 0 {
            keywords.extend(["$schema", "$id", "$defs", "title"]);
        }
        known(schema, &keywords, path)?;
        if schema.member("additionalProperties").and_then(View::boolean) != Some(false) {
            return Err(format!("{path}: not closed"));
        }
        let mut required: Vec<_> = schema
            .member("required")
            .map(|names| names.items().filter_map(View::text).collect())
            .unwrap_or_default();
        let mut members = Vec::new();
        for (name, schema) in properties.members() {
            if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
                return Err(format!("{path}: member name {name:?}"));
            }
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            let count = required.len();
            required.retain(|required| *required != name);
            members.push(Member {
                first: format!("\"{name}\":").into_bytes(),
                further: format!(",\"{name}\":").into_bytes(),
                required: required.len() < count,
                node: self.node(schema, &path, depth + 1)?,
                slot: self.places.iter().find(|(place, _)| *place == path).map(|(_, slot)| *slot),
                name: name.into_owned(),
            });
        }
        if !required.is_empty() {
            return Err(format!("{path}: required but not described: {required:?}"));
        }
        // Names are ASCII here, so this is the order of UTF-16 code units too.
        members.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Node::Object(members))
    }
}

/// Refuses a schema that has a keyword outside of `keywords`. A description is allowed everywhere.
fn known(schema: View<'_>, keywords: &[&str], path: &str) -> Result<(), String> {
    match schema.members().find(|(name, _)| name != "description" && !keywords.contains(&&**name)) {
        Some((name, _)) => Err(format!("{path}: unknown keyword {name}")),
        None => Ok(()),
    }
}

/// Compiles `^`, literals, classes and repeats, `$`.
fn compile_pattern(pattern: &str) -> Result<Vec<Step>, String> {
    let body = pattern
        .strip_prefix('^')
        .and_then(|rest| rest.strip_suffix('$'))
        .ok_or("a pattern starts with ^ and ends with $")?;
    let mut rest = body.as_bytes();
    let mut steps: Vec<Step> = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        let (allowed, after) = match first {
            b'[' => class_of(after)?,
            b'\\' if after.first().is_some_and(u8::is_ascii_alphanumeric) => {
                return Err("an escape that names a class".to_owned());
            }
            b'\\' => single(after)?,
            b'.' | b'(' | b')' | b'|' | b'^' | b'$' | b'{' | b'}' | b'?' | b'*' | b'+' | b']' => {
                return Err(format!("{} is not supported here", char::from(*first)));
            }
            _ => single(rest)?,
        };
        let ((least, most), after) = repeat_of(after)?;
        let byte = single_byte(&allowed);
        match (byte, steps.last_mut()) {
            (Some(byte), Some(Step::Literal(literal))) if (least, most) == (1, 1) => literal.push(byte),
            (Some(byte), _) if (least, most) == (1, 1) => steps.push(Step::Literal(vec![byte])),
            _ => steps.push(Step::Class { allowed, least, most }),
        }
        rest = after;
    }
    check_steps(&steps)?;
    Ok(steps)
}

/// A step that takes as much as it can must not take what a later step needs.
fn check_steps(steps: &[Step]) -> Result<(), String> {
    for (at, step) in steps.iter().enumerate() {
        let Step::Class { allowed, least, most } = step else { continue };
        if allowed.iter().enumerate().any(|(byte, on)| *on && !(0x20..0x7f).contains(&byte))
            || is_allowed(allowed, b'"')
            || is_allowed(allowed, b'\\')
        {
            return Err("only printable characters without quote and backslash".to_owned());
        }
        if least == most {
            continue;
        }
        for next in steps.iter().skip(at + 1) {
            if (0..=255).any(|byte| is_allowed(allowed, byte) && next.starts_with(byte)) {
                return Err("a repeat runs into what follows it".to_owned());
            }
            if !next.may_be_empty() {
                break;
            }
        }
    }
    Ok(())
}

type Class = Box<[bool; 256]>;

/// The class of the one character at the start of `text`.
fn single(text: &[u8]) -> Result<(Class, &[u8]), String> {
    let (byte, rest) = text.split_first().ok_or("the pattern ends too early")?;
    if !(0x20..0x7f).contains(byte) || *byte == b'"' || *byte == b'\\' {
        return Err("only printable characters without quote and backslash".to_owned());
    }
    let mut allowed = Box::new([false; 256]);
    allow(&mut allowed, *byte, *byte);
    Ok((allowed, rest))
}

/// The class whose `[` stands just before `text`.
fn class_of(text: &[u8]) -> Result<(Class, &[u8]), String> {
    let end = text.iter().position(|byte| *byte == b']').ok_or("a class does not end")?;
    let (mut inner, rest) = (text.get(..end).unwrap_or_default(), text.get(end + 1..).unwrap_or_default());
    let mut allowed = Box::new([false; 256]);
    if inner.is_empty() || inner.contains(&b'^') || inner.contains(&b'\\') || inner.contains(&b'[') {
        return Err("an unsupported class".to_owned());
    }
    loop {
        inner = match inner {
            [] => return Ok((allowed, rest)),
            [from, b'-', to, rest @ ..] => {
                if from > to {
                    return Err("a range runs backwards".to_owned());
                }
                allow(&mut allowed, *from, *to);
                rest
            }
            [one, rest @ ..] => {
                allow(&mut allowed, *one, *one);
                rest
            }
        };
    }
}

fn allow(allowed: &mut [bool; 256], from: u8, to: u8) {
    for byte in from..=to {
        if let Some(place) = allowed.get_mut(usize::from(byte)) {
            *place = true;
        }
    }
}

fn single_byte(allowed: &[bool; 256]) -> Option<u8> {
    let mut bytes = (0..=255).filter(|byte| is_allowed(allowed, *byte));
    let byte = bytes.next();
    if bytes.next().is_some() { None } else { byte }
}

/// The repeat at the start of `text`, once if there is none.
fn repeat_of(text: &[u8]) -> Result<((usize, usize), &[u8]), String> {
    match text.split_first() {
        Some((b'?', rest)) => Ok(((0, 1), rest)),
        Some((b'*', rest)) => Ok(((0, usize::MAX), rest)),
        Some((b'+', rest)) => Ok(((1, usize::MAX), rest)),
        Some((b'{', after)) => {
            let end = after.iter().position(|byte| *byte == b'}').ok_or("a repeat does not end")?;
            let counts = std::str::from_utf8(after.get(..end).unwrap_or_default()).unwrap_or_default();
            let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
            match (least.parse(), most.parse()) {
                (Ok(least), Ok(most)) if least <= most => {
                    Ok(((least, most), after.get(end + 1..).unwrap_or_default()))
                }
                _ => Err(format!("{{{counts}}} is not a repeat")),
            }
        }
        _ => Ok(((1, 1), text)),
    }
}

#[cfg(test)]
mod tests;
