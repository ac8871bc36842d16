//! Where the scalars are that JSON pointers (RFC 6901) name, in a text that is known to be well formed.

use std::{borrow::Cow, ops::Range};

use super::check;

/// What a pointer leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A string with its quotes, a number or a literal.
    Scalar(Range<usize>),
}

/// One answer for each pointer. Time grows with the text times the pointers.
pub(super) fn find<'a>(text: &[u8], pointers: impl Iterator<Item = &'a str>) -> Vec<Found> {
    let mut walk = Walk { text, pos: 0, open: Vec::new(), paths: pointers.map(Path::new).collect() };
    walk.run();
    walk.paths.into_iter().map(|path| path.found).collect()
}

struct Path {
    /// `None` if the pointer is none.
    steps: Option<Vec<Step>>,
    /// How many steps lead to the value being read or to what encloses it.
    matched: usize,
    found: Found,
}

struct Step {
    name: Vec<u8>,
    index: Option<usize>,
}

impl Path {
    fn new(pointer: &str) -> Self {
        let steps = match pointer.split_at_checked(1) {
            None => Some(Vec::new()),
            Some(("/", steps)) => steps.split('/').map(Step::new).collect(),
            Some(_) => None,
        };
        Self { steps, matched: 0, found: Found::Nothing }
    }

    /// A child begins in the container at `depth`, which is 1 for the outermost one.
    fn step(&mut self, depth: usize, is_it: impl Fn(&Step) -> bool) {
        self.matched = self.matched.min(depth - 1);
        let next = self.steps.as_ref().and_then(|steps| steps.get(depth - 1));
        if self.matched == depth - 1 && next.is_some_and(is_it) {
            self.matched = depth;
        }
    }
}

impl Step {
    /// `None` for a `~` that escapes nothing.
    fn new(text: &str) -> Option<Self> {
        let mut name = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            name.push(match byte {
                b'~' => match bytes.next()? {
                    b'0' => b'~',
                    b'1' => b'/',
                    _ => return None,
                },
                _ => byte,
            });
        }
        let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
        Some(Self { index: text.parse().ok().filter(|_| canonical), name })
    }
}

struct Walk<'a> {
    text: &'a [u8],
    pos: usize,
    open: Vec<Open>,
    paths: Vec<Path>,
}

#[derive(Clone, Copy)]
enum Open {
    /// Whether a name comes next.
    Object(bool),
    /// Which element comes next.
    Array(usize),
}

impl Walk<'_> {
    fn run(&mut self) {
        while let Some(&byte) = self.text.get(self.pos) {
            match byte {
                b'{' => self.begin(Open::Object(true)),
                b'[' => self.begin(Open::Array(0)),
                b'}' | b']' => {
                    self.open.pop();
                    self.pos += 1;
                }
                b',' => {
                    if let Some(Open::Object(name)) = self.open.last_mut() {
                        *name = true;
                    }
                    self.pos += 1;
                }
                b':' | b' ' | b'\t' | b'\n' | b'\r' => self.pos += 1,
                _ => self.token(byte),
            }
        }
    }

    fn begin(&mut self, open: Open) {
        self.element();
        self.open.push(open);
        self.pos += 1;
    }

    /// A value begins; in an array that is a step.
    fn element(&mut self) {
        let depth = self.open.len();
        if let Some(Open::Array(next)) = self.open.last_mut() {
            let index = *next;
            *next += 1;
            self.paths.iter_mut().for_each(|path| path.step(depth, |step| step.index == Some(index)));
        }
    }

    /// A name or a scalar.
    fn token(&mut self, byte: u8) {
        let start = self.pos;
        self.pos = if byte == b'"' { self.string_end() } else { self.word_end() };
        let depth = self.open.len();
        if let Some(Open::Object(name @ true)) = self.open.last_mut() {
            *name = false;
            let key = key(self.text.get(start..self.pos).unwrap_or_default());
            self.paths.iter_mut().for_each(|path| path.step(depth, |step| step.name == *key));
            return;
        }
        self.element();
        for path in &mut self.paths {
            if path.matched == depth && path.steps.as_ref().is_some_and(|steps| steps.len() == depth) {
                path.found = Found::Scalar(start..self.pos);
            }
        }
    }

    fn string_end(&self) -> usize {
        let mut at = self.pos + 1;
        loop {
            match self.text.get(at) {
                None => return self.text.len(),
                Some(b'"') => return at + 1,
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
            }
        }
    }

    fn word_end(&self) -> usize {
        let rest = self.text.get(self.pos..).unwrap_or_default();
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        self.pos + rest.iter().position(ends).unwrap_or(rest.len()).max(1)
    }
}

/// A name as it is meant.
fn key(quoted: &[u8]) -> Cow<'_, [u8]> {
    if quoted.contains(&b'\\') {
        return Cow::Owned(check::unescape(quoted).unwrap_or_default());
    }
    let inner = quoted.get(1..quoted.len().saturating_sub(1));
    Cow::Borrowed(inner.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pointer: &str) -> Option<&'static str> {
        const TEXT: &str = r#" {"a": {"b": [1, {"c": "x"}, [], -2.5e1], "": true}, "b": null, "~/": "t", "\u00e9\n": 7, "c": {}} "#;
        match find(TEXT.as_bytes(), [pointer].into_iter()).remove(0) {
            Found::Scalar(span) => Some(&TEXT[span]),
            Found::Nothing => None,
        }
    }

    #[test]
    fn pointers_lead_to_scalars() {
        assert_eq!(at("/a/b/0"), Some("1"));
        assert_eq!(at("/a/b/1/c"), Some("\"x\""));
        assert_eq!(at("/a/b/3"), Some("-2.5e1"));
        assert_eq!(at("/a/"), Some("true"));
        assert_eq!(at("/b"), Some("null"));
        assert_eq!(at("/~0~1"), Some("\"t\""));
        assert_eq!(at("/é\n"), Some("7"));
        assert_eq!(find(b"5", [""].into_iter()), [Found::Scalar(0..1)]);
    }

    #[test]
    fn pointers_to_nothing_or_to_containers_lead_nowhere() {
        for pointer in
            ["", "/a", "/a/b", "/a/b/00", "/a/b/4", "/a/b/-", "/a/b/+1", "/x", "b", "/~2", "/b/", "/c"]
        {
            assert_eq!(at(pointer), None, "{pointer}");
        }
    }
}
