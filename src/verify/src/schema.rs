//! The JSON Schemas of `spec/pef/schemas`, compiled to what one pass over a canonical document can check
//! (SPEC section 1, last paragraph).
//!
//! In a canonical document the member names arrive sorted, so an object is checked by walking down the sorted
//! list of its schema's members once: no name is parsed, nothing is looked up, no tree is built. The same pass
//! notes where the members stand that the later steps need ([`Slots`]).
//!
//! The compiler knows the keywords that SPEC allows and refuses a schema with any other, because a keyword that
//! is passed over is a check that is not made.

mod compile;

use std::sync::OnceLock;

use crate::json::{Checked, Fault, Strict};
use crate::view::View;

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
    Approval,
    PostCode,
}

const SLOTS: usize = 18;

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
    ("approval", Slot::Approval),
    ("snapshot.post.code", Slot::PostCode),
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
    Hold,
    Approval,
    Bypass,
    Act,
    Snapshot,
    RunSeal,
}

impl Kind {
    const ALL: [Kind; 14] = [
        Kind::RunOpen,
        Kind::Call,
        Kind::Intent,
        Kind::Interrupted,
        Kind::KeyRotate,
        Kind::JournalRecover,
        Kind::PolicyLoad,
        Kind::Gap,
        Kind::Hold,
        Kind::Approval,
        Kind::Bypass,
        Kind::Act,
        Kind::Snapshot,
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
            Kind::Hold => "hold",
            Kind::Approval => "approval",
            Kind::Bypass => "bypass",
            Kind::Act => "act",
            Kind::Snapshot => "snapshot",
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
    pub disclosure: Schema,
    pub replay: Schema,
    pub archive: Schema,
    pub custody: Schema,
    pub retention: Schema,
    pub beginning: Schema,
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
            disclosure: Schema::compile(
                include_bytes!("../../../spec/pef/schemas/disclosure.schema.json"),
                None,
                &[],
            )?,
            replay: Schema::compile(include_bytes!("../../../spec/replay.schema.json"), None, &[])?,
            archive: Schema::compile(include_bytes!("../../../spec/archive.schema.json"), None, &[])?,
            custody: Schema::compile(include_bytes!("../../../spec/custody.schema.json"), None, &[])?,
            retention: Schema::compile(include_bytes!("../../../spec/retention.schema.json"), None, &[])?,
            beginning: Schema::compile(
                include_bytes!("../../../spec/pef/schemas/beginning.schema.json"),
                None,
                &[],
            )?,
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
        let compiler = compile::Compiler { definitions: root.member("$defs"), places };
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

#[cfg(test)]
mod tests;
