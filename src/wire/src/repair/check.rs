//! The strict reading that decides: the crate's tokenizer, and no name twice in one object.

use std::ops::Range;

use super::Unrepairable;
use crate::json::{Capture, Container, Limits, Tokenizer, Visitor};

/// `bytes` are one JSON text in which no object has a name twice.
pub(super) fn strict(bytes: &[u8]) -> Result<(), Unrepairable> {
    let mut names = Names::default();
    let mut tokenizer = Tokenizer::new(Limits::default(), Some(()));
    tokenizer.feed(bytes, &mut names)?;
    tokenizer.finish(&mut names)?;
    if names.twice { Err(Unrepairable::DuplicateKey) } else { Ok(()) }
}

/// The content of a JSON string with its quotes.
pub(super) fn unescape(string: &[u8]) -> Option<Vec<u8>> {
    let mut content = Content::default();
    let mut tokenizer = Tokenizer::new(Limits::default(), Some(()));
    tokenizer.feed(string, &mut content).ok()?;
    tokenizer.finish(&mut content).ok()?;
    Some(content.0)
}

/// The names of all open objects.
#[derive(Default)]
struct Names {
    /// The names, unescaped, one after the other.
    text: Vec<u8>,
    names: Vec<Range<usize>>,
    /// For each open object, how many names and how much text there was before it.
    objects: Vec<(usize, usize)>,
    twice: bool,
}

impl Visitor for Names {
    type Place = ();

    fn member(&mut self, (): (), key: &[u8]) -> Option<()> {
        let start = self.text.len();
        self.text.extend_from_slice(key);
        self.names.push(start..self.text.len());
        Some(())
    }

    fn element(&mut self, (): ()) -> Option<()> {
        Some(())
    }

    fn begin(&mut self, (): (), container: Container) {
        if container == Container::Object {
            self.objects.push((self.names.len(), self.text.len()));
        }
    }

    fn end(&mut self, (): (), container: Container) {
        if container == Container::Array {
            return;
        }
        let (names, text) = self.objects.pop().unwrap_or_default();
        let name = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        let own = self.names.get_mut(names..).unwrap_or_default();
        own.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        self.twice |= own.windows(2).any(|pair| matches!(pair, [a, b] if name(a) == name(b)));
        self.names.truncate(names);
        self.text.truncate(text);
    }
}

#[derive(Default)]
struct Content(Vec<u8>);

impl Visitor for Content {
    type Place = ();

    fn member(&mut self, (): (), _: &[u8]) -> Option<()> {
        None
    }

    fn element(&mut self, (): ()) -> Option<()> {
        None
    }

    fn string(&mut self, (): ()) -> Capture {
        Capture::Take
    }

    fn text(&mut self, (): (), piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_unescaped_and_for_each_object() {
        assert_eq!(strict(br#"{"a":{"a":[{"a":1},{"a":1}]},"b":{"a":1}}"#), Ok(()));
        for text in [r#"{"a":1,"b":{},"\u0061":2}"#, r#"[{"x":{"a":1,"b":2,"a":3}}]"#, r#"{"":1,"":1}"#] {
            assert_eq!(strict(text.as_bytes()), Err(Unrepairable::DuplicateKey), "{text}");
        }
    }

    #[test]
    fn content_is_unescaped() {
        assert_eq!(unescape(br#""a\n\u00e9""#), Some("a\n\u{e9}".into()));
        assert_eq!(unescape(b"\"a"), None);
    }
}
