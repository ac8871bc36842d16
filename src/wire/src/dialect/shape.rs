//! Whether what a body says of models, tools and operations could be read in another way.
//!
//! Readers differ: the first or the last of two members, names with or without regard to case (Go), one value
//! where a list belongs, names trimmed. Where they would differ over a fact, the body gets a [`Defect`].

use super::names::Clip;
use crate::{
    Defect,
    json::{Container, Literal},
};

/// What the value at a place must be. `null` is always allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    /// An object, or a value that holds no others.
    NotArray,
    Array,
    Container,
    /// A name.
    Text,
    /// True or false.
    Flag,
    /// A name does not belong here, and some readers look for one.
    Absent,
    /// Whatever it is, a reader acts on it: it must not come twice.
    Any,
    /// No name is near.
    Free,
}

impl Shape {
    fn allows(self, container: Container) -> bool {
        match self {
            Self::Container | Self::Any | Self::Free => true,
            Self::Object | Self::NotArray => container == Container::Object,
            Self::Array => container == Container::Array,
            Self::Text | Self::Flag | Self::Absent => false,
        }
    }
}

/// Member names on the way to a name, in all dialects.
const WATCHED: [&str; 98] = [
    "allowed_tools",
    "candidates",
    "choices",
    "configs",
    "content",
    "content_block",
    "custom",
    "default_config",
    "delta",
    "enabled",
    "function",
    "functionCall",
    "functionDeclarations",
    "function_call",
    "function_declarations",
    "functions",
    "id",
    "item",
    "mcp_server_name",
    "mcp_servers",
    "message",
    "method",
    "model",
    "modelVersion",
    "model_version",
    "name",
    "output",
    "params",
    "parts",
    "prompt",
    "response",
    "stream",
    "tool_calls",
    "tool_configuration",
    "tool_names",
    "tools",
    "type",
    "result",
    "error",
    "arguments",
    "args",
    "content_index",
    "finish_reason",
    "finishReason",
    "stop_reason",
    "blockReason",
    "index",
    "input",
    "output_index",
    "part",
    "partial_json",
    "structuredContent",
    "text",
    "format",
    "generationConfig",
    "input_schema",
    "json_schema",
    "output_config",
    "output_format",
    "parameters",
    "parametersJsonSchema",
    "responseJsonSchema",
    "responseMimeType",
    "response_format",
    "schema",
    "_responseJsonSchema",
    "block_reason",
    "generation_config",
    "parameters_json_schema",
    "partialArgs",
    "partial_args",
    "responseSchema",
    "response_json_schema",
    "response_json_schema_ordered",
    "response_mime_type",
    "response_schema",
    "thought",
    "inputSchema",
    "isError",
    "outputSchema",
    "resultType",
    "action",
    "actions",
    "code",
    "executableCode",
    "executable_code",
    "operation",
    "queries",
    "maxOutputTokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "_meta",
    "cacheScope",
    "io.modelcontextprotocol/protocolVersion",
    "taskId",
    "uri",
    "output_text",
];

/// What has come of the objects that are open, and the first thing that can be read in two ways.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// For each open container a bit for each of [`WATCHED`].
    seen: Vec<u128>,
    doubt: Option<Defect>,
}

impl Readings {
    pub(super) fn doubt(&mut self, defect: Defect) {
        self.doubt.get_or_insert(defect);
    }

    pub(super) fn take_doubt(&mut self) -> Option<Defect> {
        self.doubt.take()
    }

    /// The document is over, whole or not.
    pub(super) fn clear(&mut self) {
        self.seen.clear();
    }

    /// A member that leads to a name.
    pub(super) fn member(&mut self, key: &[u8]) {
        let found = candidates(key).find(|(_, name)| name.as_bytes() == key);
        debug_assert!(found.is_some(), "{key:?} is not in the list");
        let bit = found.map_or(0, |(index, _)| 1 << SAME[index]);
        if let Some(seen) = self.seen.last_mut() {
            let twice = *seen & bit != 0;
            *seen |= bit;
            if twice {
                self.doubt(Defect::DuplicateKey);
            }
        }
    }

    /// A member that leads nowhere; `leads` says which names do in its object.
    pub(super) fn other_member(&mut self, key: &[u8], leads: impl Fn(&[u8]) -> bool) {
        let alike = match key.is_ascii() {
            true => candidates(key)
                .any(|(_, name)| key.eq_ignore_ascii_case(name.as_bytes()) && leads(name.as_bytes())),
            false => WATCHED.iter().any(|name| is_folded(key, name) && leads(name.as_bytes())),
        };
        if alike {
            self.doubt(Defect::DuplicateKey);
        }
    }

    pub(super) fn begin(&mut self, shape: Shape, container: Container) {
        self.seen.push(0);
        if !shape.allows(container) {
            self.doubt(Defect::NotEvaluated);
        }
    }

    pub(super) fn end(&mut self) {
        self.seen.pop();
    }

    pub(super) fn string(&mut self, shape: Shape) {
        if !matches!(shape, Shape::Text | Shape::NotArray | Shape::Any | Shape::Free) {
            self.doubt(Defect::NotEvaluated);
        }
    }

    pub(super) fn number(&mut self, shape: Shape) {
        if !matches!(shape, Shape::NotArray | Shape::Any | Shape::Free) {
            self.doubt(Defect::NotEvaluated);
        }
    }

    pub(super) fn literal(&mut self, shape: Shape, literal: Literal) {
        if literal != Literal::Null && shape != Shape::Flag {
            self.number(shape);
        }
    }

    /// A name is whole.
    pub(super) fn name(&mut self, name: &Clip) {
        if !name.is_plain() {
            self.doubt(Defect::NotEvaluated);
        }
    }
}

/// As many as the longest of [`WATCHED`] needs, and no fewer than there are letters.
const ROWS: usize = 40;

/// For each length, and for each letter, a bit for each of [`WATCHED`] that has that length, or begins with that letter.
const BY_LENGTH: [u128; ROWS] = table(true);
const BY_LETTER: [u128; ROWS] = table(false);

/// For each of [`WATCHED`] the first that is the same name, in lowerCamelCase or in snake_case.
const SAME: [usize; WATCHED.len()] = {
    let mut same = [0; WATCHED.len()];
    let mut at = 0;
    while at < WATCHED.len() {
        while !is_same(WATCHED[same[at]].as_bytes(), WATCHED[at].as_bytes()) {
            same[at] += 1;
        }
        at += 1;
    }
    same
};

/// Whether the letters are the same, but for case and low lines.
const fn is_same(left: &[u8], right: &[u8]) -> bool {
    let (mut l, mut r) = (0, 0);
    loop {
        while l < left.len() && left[l] == b'_' {
            l += 1;
        }
        while r < right.len() && right[r] == b'_' {
            r += 1;
        }
        if l == left.len() || r == right.len() {
            return l == left.len() && r == right.len();
        }
        if !left[l].eq_ignore_ascii_case(&right[r]) {
            return false;
        }
        (l, r) = (l + 1, r + 1);
    }
}

const fn table(by_length: bool) -> [u128; ROWS] {
    let mut table = [0; ROWS];
    let mut at = 0;
    while at < WATCHED.len() {
        let name = WATCHED[at].as_bytes();
        let row = if by_length { name.len() } else { (name[0] & 31) as usize };
        table[row] |= 1 << at;
        at += 1;
    }
    table
}

/// The watched names that an ASCII `key` could be, in whatever case, with their places in the list. Mostly none.
fn candidates(key: &[u8]) -> impl Iterator<Item = (usize, &'static str)> {
    let by_length = BY_LENGTH.get(key.len()).copied().unwrap_or_default();
    let by_letter = key.first().map_or(0, |first| BY_LETTER[usize::from(first & 31)]);
    let mut left = by_length & by_letter;
    std::iter::from_fn(move || {
        let index = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        WATCHED.get(index).map(|name| (index, *name))
    })
}

/// Whether a reader without regard to case takes `key` for `name`.
fn is_folded(key: &[u8], name: &str) -> bool {
    std::str::from_utf8(key).is_ok_and(|key| key.chars().map(fold).eq(name.chars().map(fold)))
}

/// Simple case folding (Unicode CaseFolding.txt) onto ASCII.
fn fold(letter: char) -> char {
    match letter {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_name_are_one() {
        let same = |name: &str| SAME[WATCHED.iter().position(|watched| *watched == name).unwrap()];
        assert_eq!(same("functionCall"), same("function_call"));
        assert_eq!(same("responseJsonSchema"), same("_responseJsonSchema"));
        assert_ne!(same("responseJsonSchema"), same("responseSchema"));
        assert_ne!(same("tool_names"), same("tools"));
    }

    #[test]
    fn every_watched_name_is_a_candidate_in_any_case() {
        for (at, name) in WATCHED.iter().enumerate() {
            for key in [name.to_string(), name.to_ascii_uppercase(), name.to_ascii_lowercase()] {
                assert!(candidates(key.as_bytes()).any(|found| found == (at, *name)), "{key}");
            }
        }
        assert_eq!(candidates(b"").count() + candidates(&[b'a'; 40]).count(), 0);
    }
}
