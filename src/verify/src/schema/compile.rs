//! From a schema document to what [`super::Schema`] checks.

use super::{Member, Node, Slot, Step, is_allowed};
use crate::json::INTEGER_MAX;
use crate::view::View;

pub(super) struct Compiler<'a> {
    pub definitions: Option<View<'a>>,
    pub places: &'a [(&'a str, Slot)],
}

/// More than any schema of the format nests; stops a `$ref` that leads to itself.
const SCHEMA_DEPTH_MAX: usize = 16;

impl<'a> Compiler<'a> {
    pub(super) fn node(&self, schema: View<'a>, path: &str, depth: usize) -> Result<Node, String> {
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
pub(super) fn compile_pattern(pattern: &str) -> Result<Vec<Step>, String> {
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
