//! Text to a tree of nodes that know their place: the part of YAML that every reader of YAML agrees about.
//!
//! Built on the parser's events and not on a deserializer, because a deserializer stops at the first error
//! and has lost by then how a scalar was written. Refused here: anchors, aliases, tags, directives, several
//! documents, keys that are not text, keys written twice, and plain words such as `no` or `1_000` that YAML
//! 1.1 and 1.2 read differently. What is left means the same to this program and to anyone who checks a
//! policy with another one.

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};

use crate::error::{Errors, Place, PolicyErrorCode, shown};

/// Most bytes of a document. A longer one is refused unread, with `POLICY_LIMIT`.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Most mappings and lists inside one another. A deeper document is refused with `POLICY_LIMIT`.
pub(crate) const DEPTH_MAX: usize = 16;
/// Most nodes of a document. A larger one is refused with `POLICY_LIMIT`.
pub(crate) const NODES_MAX: usize = 100_000;

/// Most keys of one mapping. A larger one is refused with `POLICY_LIMIT`.
pub(crate) const KEYS_MAX: usize = 1024;

/// A value and where it starts.
#[derive(Debug)]
pub(crate) struct Node {
    pub place: Place,
    pub kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// A quoted scalar, or a plain one that nobody takes for anything but text.
    Text(String),
    /// A plain scalar that some reader takes for a number, a boolean, a date or nothing.
    Word(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// An error was reported in its place; whoever reads it says nothing more.
    Broken,
}

#[derive(Debug)]
pub(crate) struct Key {
    pub text: String,
    pub place: Place,
}

/// Reads one document. None only after an error was added.
pub(crate) fn parse(text: &str, errors: &mut Errors) -> Option<Node> {
    if text.len() > DOCUMENT_BYTES_MAX {
        let message = format!("the document has {} bytes, the limit is {DOCUMENT_BYTES_MAX}", text.len());
        errors.add(PolicyErrorCode::Limit, Place::START, String::new(), message);
        return None;
    }
    let mut options = granit_parser::options! {
        strict_indentation: true,
        disallow_directives: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    options.set_emit_comments(false);
    let mut builder = Builder { errors, open: Vec::new(), root: None, nodes: 0 };
    for event in Parser::new_from_str_with_options(text, options) {
        if builder.take(event).is_break() {
            return None;
        }
    }
    let root = builder.root;
    if root.is_none() {
        errors.add(PolicyErrorCode::Syntax, Place::START, String::new(), "the document is empty".into());
    }
    root
}

/// A comment, without its `#`.
pub(crate) struct Comment {
    pub line: usize,
    pub text: String,
    /// It has its line for itself.
    pub alone: bool,
}

/// The comments of a document that [`parse`] takes.
pub(crate) fn comments(text: &str) -> Vec<Comment> {
    let lines: Vec<&str> = text.lines().collect();
    let mut options =
        granit_parser::options! { flow_nesting_limit: DEPTH_MAX, block_nesting_limit: DEPTH_MAX };
    options.set_emit_comments(true);
    let events = Parser::new_from_str_with_options(text, options).map_while(Result::ok);
    let comment = |(event, span): (Event<'_>, Span)| {
        let Event::Comment(text, _) = event else { return None };
        let line = span.start.line();
        let alone = lines.get(line.checked_sub(1)?).is_some_and(|line| line.trim_start().starts_with('#'));
        Some(Comment { line, text: text.into_owned(), alone })
    };
    events.filter_map(comment).collect()
}

type Flow = std::ops::ControlFlow<()>;

struct Builder<'e> {
    errors: &'e mut Errors,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
}

/// A collection whose end has not come yet.
struct Open {
    place: Place,
    inside: Inside,
}

impl Open {
    fn is_full(&self) -> bool {
        matches!(&self.inside, Inside::Map { pairs, .. } if pairs.len() == KEYS_MAX)
    }
}

enum Inside {
    List(Vec<Node>),
    /// `key` waits for its value; the inner `None` is a key that was refused.
    Map {
        pairs: Vec<(Key, Node)>,
        key: Option<Option<Key>>,
    },
}

impl Builder<'_> {
    fn take(&mut self, event: Result<(Event<'_>, Span), ScanError>) -> Flow {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let place = place_of(error.marker().line(), error.marker().col());
                let code = match error.kind() {
                    ErrorKind::RecursionLimitExceeded => PolicyErrorCode::Limit,
                    _ => PolicyErrorCode::Syntax,
                };
                return self.stop(code, place, error.info());
            }
        };
        let place = place_of(span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(place, anchor, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let text = text.into_owned();
                let kind = if plain && is_ambiguous(&text) { Kind::Word(text) } else { Kind::Text(text) };
                self.add(Node { place, kind })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_properties(place, anchor, tag.is_some());
                self.open(place, Inside::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_properties(place, anchor, tag.is_some());
                self.open(place, Inside::Map { pairs: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse(place, "aliases are not allowed; write the value out");
                self.add(Node { place, kind: Kind::Broken })
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                self.stop(PolicyErrorCode::YamlFeature, place, "a file is one document".into())
            }
            // The rest marks the stream and the document, or comments on them.
            _ => Flow::Continue(()),
        }
    }

    fn refuse_properties(&mut self, place: Place, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.refuse(place, "anchors are not allowed");
        }
        if tagged {
            self.refuse(place, "tags are not allowed");
        }
    }

    fn refuse(&mut self, place: Place, message: &str) {
        let path = path_of(&self.open);
        self.errors.add(PolicyErrorCode::YamlFeature, place, path, message.into());
    }

    fn stop(&mut self, code: PolicyErrorCode, place: Place, message: String) -> Flow {
        let path = path_of(&self.open);
        self.errors.add(code, place, path, message);
        Flow::Break(())
    }

    fn open(&mut self, place: Place, inside: Inside) -> Flow {
        if self.open.len() == DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX}");
            return self.stop(PolicyErrorCode::Limit, place, message);
        }
        self.open.push(Open { place, inside });
        Flow::Continue(())
    }

    fn close(&mut self) -> Flow {
        let Some(Open { place, inside }) = self.open.pop() else { return Flow::Continue(()) };
        let kind = match inside {
            Inside::List(items) => Kind::List(items),
            Inside::Map { pairs, .. } => Kind::Map(pairs),
        };
        self.add(Node { place, kind })
    }

    fn add(&mut self, node: Node) -> Flow {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = format!("more than {NODES_MAX} values");
            return self.stop(PolicyErrorCode::Limit, node.place, message);
        }
        if self.open.last().is_some_and(Open::is_full) {
            let message = format!("more than {KEYS_MAX} keys in one mapping");
            return self.stop(PolicyErrorCode::Limit, node.place, message);
        }
        let Some((top, above)) = self.open.split_last_mut() else {
            self.root = Some(node);
            return Flow::Continue(());
        };
        match &mut top.inside {
            Inside::List(items) => items.push(node),
            Inside::Map { pairs, key } => match key.take() {
                None => *key = Some(read_key(node, pairs, above, self.errors)),
                Some(None) => {}
                Some(Some(key)) => pairs.push((key, node)),
            },
        }
        Flow::Continue(())
    }
}

/// Path of the value that is being built.
fn path_of(open: &[Open]) -> String {
    let mut path = String::new();
    for Open { inside, .. } in open {
        match inside {
            Inside::List(items) => path.push_str(&format!("[{}]", items.len())),
            Inside::Map { key: Some(Some(key)), .. } => push_key(&mut path, &key.text),
            Inside::Map { .. } => {}
        }
    }
    path
}

/// Adds a key to a path.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&shown(key));
}

fn read_key(node: Node, pairs: &[(Key, Node)], above: &[Open], errors: &mut Errors) -> Option<Key> {
    let place = node.place;
    let mut path = path_of(above);
    let (code, message) = match node.kind {
        Kind::Text(text) => {
            let Some((first, _)) = pairs.iter().find(|(key, _)| key.text == text) else {
                return Some(Key { text, place });
            };
            push_key(&mut path, &text);
            let message = format!("`{}` is written twice, first on line {}", shown(&text), first.place.line);
            (PolicyErrorCode::DuplicateKey, message)
        }
        Kind::Word(text) => {
            let text = shown(&text);
            let message =
                format!("some YAML readers do not take the key `{text}` for text; put it in quotes");
            (PolicyErrorCode::YamlFeature, message)
        }
        Kind::Broken => return None,
        Kind::List(_) | Kind::Map(_) => (PolicyErrorCode::YamlFeature, "a key must be text".into()),
    };
    errors.add(code, place, path, message);
    None
}

/// The parser counts columns from 0.
fn place_of(line: usize, column: usize) -> Place {
    Place { line, column: column.saturating_add(1) }
}

/// Whether YAML 1.1 (<https://yaml.org/type/>) or the core schema of 1.2 takes a plain scalar for something
/// other than text. Where the grammar is intricate (numbers, base 60, dates), more is called ambiguous than
/// is.
pub(crate) fn is_ambiguous(text: &str) -> bool {
    const WORDS: [&str; 14] =
        ["", "~", "null", "y", "n", "yes", "no", "true", "false", "on", "off", "=", "<<", ".nan"];
    if WORDS.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        return true;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.eq_ignore_ascii_case(".inf") {
        return true;
    }
    let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"_xXoO.:+-tTzZ \t".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &[&str]>) {
        let mut errors = Errors::default();
        let root = parse(text, &mut errors);
        let codes: Vec<_> = errors.into_list().iter().map(|error| error.code.as_str()).collect();
        match expected {
            Ok(kind) => {
                assert_eq!(codes, [""; 0], "{text:?}");
                assert_eq!(format!("{:?}", root.unwrap().kind).split('(').next(), Some(kind), "{text:?}");
            }
            Err(expected) => assert_eq!(codes, expected, "{:?}", shown(text)),
        }
    }

    #[test]
    fn tells_text_from_words_that_readers_disagree_about() {
        for text in ["bash", "\"yes\"", "'1'", "gpt-4o", "v1", "3.5-turbo", "|\n  no\n", "1st", "-x", "a: b"]
        {
            check(text, Ok(if text == "a: b" { "Map" } else { "Text" }));
        }
        for word in [
            "yes",
            "No",
            "ON",
            "y",
            "~",
            "null",
            "12",
            "-1",
            "+1",
            "1_000",
            "0x1f",
            "0o17",
            "017",
            "1e3",
            ".5",
            "1.",
            "1:30",
            "2026-01-01",
            "2026-01-01T00:00:00Z",
            ".inf",
            "-.INF",
            ".NaN",
            "<<",
            "=",
            "0b101",
        ] {
            check(word, Ok("Word"));
        }
        // Called ambiguous although no reader takes it for a number: quotes are the way out.
        check("7b", Ok("Word"));
    }

    #[test]
    fn refuses_what_lets_a_document_mean_more_than_it_shows() {
        check("a: &x 1\nb: *x\n", Err(&["POLICY_YAML_FEATURE", "POLICY_YAML_FEATURE"]));
        check("a: *nowhere", Err(&["POLICY_YAML_FEATURE"]));
        check("a: !!str 1", Err(&["POLICY_YAML_FEATURE"]));
        check("a: !thing {}", Err(&["POLICY_YAML_FEATURE"]));
        check("a: 1\n---\nb: 2\n", Err(&["POLICY_YAML_FEATURE"]));
        check("%YAML 1.1\n---\na: 1\n", Err(&["POLICY_SYNTAX"]));
        check("a: 1\na: 2\n", Err(&["POLICY_DUPLICATE_KEY"]));
        check("\"a\": 1\n'a': 2\n", Err(&["POLICY_DUPLICATE_KEY"]));
        check("no: 1\n", Err(&["POLICY_YAML_FEATURE"]));
        check("? [a]\n: 1\n", Err(&["POLICY_YAML_FEATURE"]));
        check("<<: {a: 1}\n", Err(&["POLICY_YAML_FEATURE"]));
        check("", Err(&["POLICY_SYNTAX"]));
        check("# only a comment\n", Err(&["POLICY_SYNTAX"]));
        check("a: [1\n", Err(&["POLICY_SYNTAX"]));
        check("a:\n\t- b\n", Err(&["POLICY_SYNTAX"]));
    }

    #[test]
    fn a_billion_laughs_costs_nothing() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..30 {
            let below = level - 1;
            text.push_str(&format!("a{level}: &a{level} [*a{below},*a{below},*a{below},*a{below}]\n"));
        }
        let mut errors = Errors::default();
        parse(&text, &mut errors);
        assert!(errors.into_list().iter().all(|error| error.code == PolicyErrorCode::YamlFeature));
    }

    #[test]
    fn stops_at_its_limits() {
        check(&"[".repeat(200_000), Err(&["POLICY_LIMIT"]));
        check(&format!("a: {}1{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX)), Err(&["POLICY_LIMIT"]));
        check(&format!("a: {}1{}", "[".repeat(DEPTH_MAX - 1), "]".repeat(DEPTH_MAX - 1)), Ok("Map"));
        check(&format!("[{}]", "a,".repeat(NODES_MAX + 1)), Err(&["POLICY_LIMIT"]));
        let keys = |count| (0..count).map(|index| format!("k{index}: 1\n")).collect::<String>();
        check(&keys(KEYS_MAX + 1), Err(&["POLICY_LIMIT"]));
        check(&keys(KEYS_MAX), Ok("Map"));
        check(&" ".repeat(DOCUMENT_BYTES_MAX + 1), Err(&["POLICY_LIMIT"]));
    }

    #[test]
    fn an_error_says_where() {
        let mut errors = Errors::default();
        parse("a: 1\nb:\n  c: 1\n  c: 2\n", &mut errors);
        let errors = errors.into_list();
        assert_eq!((errors[0].line, errors[0].column), (4, 3));
    }
}
