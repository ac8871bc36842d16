//! How a violation is told: pointers that are short and hold no tricks.

use super::{
    super::super::{
        Cause, Keyword, Violation,
        node::{NodeId, Program},
    },
    Found, Machine, State, UNKNOWN,
};
use crate::json::Container;

/// Bytes of a name that a violation shows.
pub(super) const NAME_SHOWN: usize = 64;
/// Bytes of an instance pointer.
const POINTER_SHOWN: usize = 512;

impl Machine {
    /// The violation found, if any.
    pub(in super::super) fn violation(&self, offset: u64) -> Option<Violation> {
        let found = self.state.found?;
        let schema = match (found.cause, found.node) {
            (Cause::Keyword(keyword), Some(node)) => self.schema.program.keyword_pointer(node, keyword),
            _ => String::new(),
        };
        let cause = match (found.cause, found.node) {
            (Cause::Keyword(own), Some(node)) => {
                Cause::Keyword(self.schema.program.node(node).stands_for.unwrap_or(own))
            }
            (cause, _) => cause,
        };
        let missing = self.missing(found).filter(|_| is_of_names(cause));
        Some(Violation {
            cause,
            instance: self.instance(found.depth),
            schema: schema.into(),
            missing,
            offset,
        })
    }

    /// The name that should have been there.
    fn missing(&self, found: Found) -> Option<Box<str>> {
        let name = self.schema.program.object(found.node?).names.get(found.missing?)?;
        let mut shown = String::new();
        clip(&name.text.bytes, |char| shown.extend(char.escape_debug()));
        Some(shown.into())
    }

    /// JSON pointer of the value `depth` steps down the current path.
    pub(in super::super) fn instance(&self, depth: usize) -> Box<str> {
        let mut pointer = String::new();
        for (index, frame) in self.state.frames.iter().take(depth).enumerate() {
            if frame.count == 0 {
                break; // nothing in it yet
            }
            pointer.push('/');
            match frame.container {
                Container::Array => pointer.push_str(&(frame.count - 1).to_string()),
                Container::Object => show(&mut pointer, self.state.name(&self.schema.program, index)),
            }
            if pointer.len() > POINTER_SHOWN {
                pointer.push('…');
                break;
            }
        }
        pointer.into()
    }
}

/// Whether such a violation is of a name that is not there.
fn is_of_names(cause: Cause) -> bool {
    matches!(cause, Cause::Keyword(Keyword::Required | Keyword::DependentRequired))
}

/// A name as a reference token (RFC 6901 section 3), shortened, and with what would confuse a terminal escaped.
fn show(pointer: &mut String, name: &[u8]) {
    clip(name, |char| match char {
        '~' => pointer.push_str("~0"),
        '/' => pointer.push_str("~1"),
        '"' | '\'' | '\\' => pointer.push(char),
        _ => pointer.extend(char.escape_debug()),
    });
}

/// What is shown of a name.
fn clip(name: &[u8], mut push: impl FnMut(char)) {
    let shown = name.get(..NAME_SHOWN).unwrap_or(name);
    for char in String::from_utf8_lossy(shown).chars() {
        if char != char::REPLACEMENT_CHARACTER || name.len() <= NAME_SHOWN {
            push(char);
        }
    }
    if name.len() > NAME_SHOWN {
        push('…');
    }
}

impl Program {
    fn keyword_pointer(&self, node: NodeId, keyword: Keyword) -> String {
        let node = self.node(node);
        match node.stands_for.unwrap_or(keyword).as_str() {
            "" => node.pointer.to_string(),
            keyword => format!("{}/{keyword}", node.pointer),
        }
    }
}

impl State {
    /// The name of the current member of a frame.
    fn name<'a>(&'a self, program: &'a Program, index: usize) -> &'a [u8] {
        let Some(frame) = self.frames.get(index) else { return b"" };
        if frame.current != UNKNOWN {
            let name = program.object(frame.node).names.get(frame.current);
            return name.map_or(b"", |name| &name.text.bytes);
        }
        let end = self.frames.get(index + 1).map_or(self.path.len(), |next| next.path as usize);
        self.path.get(frame.path as usize..end).unwrap_or_default()
    }
}
