//! A small JSON text as a tree, with numbers as text and no member passed over.

use std::fmt::Write as _;

use super::ContractError;
use crate::json::{Capture, Container, Limits, Literal, Tokenizer, Visitor};

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Literal(Literal),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// No object of a contract has more.
const MEMBERS_MAX: usize = 64;
const DEPTH_MAX: u32 = 8;

/// Parses a JSON text. Names that come twice, and objects of too many members, are errors with their places.
pub(super) fn parse(text: &[u8]) -> Result<Node, Vec<ContractError>> {
    let limits = Limits { depth_max: DEPTH_MAX, ..Limits::default() };
    let mut tokens = Tokenizer::new(limits, Some(()));
    let mut builder = Builder::default();
    let read = tokens.feed(text, &mut builder).and_then(|()| tokens.finish(&mut builder));
    if let Err(defect) = read {
        let what = format!("{defect}, at byte {}", tokens.offset());
        return Err(vec![ContractError { pointer: String::new(), what }]);
    }
    match builder.root {
        Some(root) if builder.errors.is_empty() => Ok(root),
        _ => Err(builder.errors),
    }
}

/// The pointer of a member.
pub(super) fn pointer(of: &str, member: &str) -> String {
    format!("{of}/{}", member.replace('~', "~0").replace('/', "~1"))
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    text: Vec<u8>,
    root: Option<Node>,
    errors: Vec<ContractError>,
}

/// A container that has not ended.
enum Open {
    List(Vec<Node>),
    Object { members: Vec<(String, Node)>, name: String },
}

impl Builder {
    fn put(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Object { members, name }) => {
                if members.len() < MEMBERS_MAX {
                    members.push((std::mem::take(name), node));
                }
            }
        }
    }

    /// Where the member or element under way stands.
    fn here(&self) -> String {
        self.open.iter().fold(String::new(), |mut path, open| match open {
            Open::Object { name, .. } => pointer(&path, name),
            Open::List(items) => {
                let _ = write!(path, "/{}", items.len()); // a String takes every write
                path
            }
        })
    }
}

impl Visitor for Builder {
    type Place = ();

    fn member(&mut self, (): (), key: &[u8]) -> Option<()> {
        let key = String::from_utf8_lossy(key).into_owned();
        let Some(Open::Object { members, name }) = self.open.last_mut() else { return None };
        let twice = members.iter().any(|(earlier, _)| *earlier == key);
        let full = members.len() == MEMBERS_MAX;
        *name = key;
        if twice {
            self.errors.push(ContractError { pointer: self.here(), what: "comes twice".into() });
        } else if full {
            self.errors.push(ContractError { pointer: self.here(), what: "one member too many".into() });
        }
        (!twice && !full).then_some(())
    }

    fn element(&mut self, (): ()) -> Option<()> {
        Some(())
    }

    fn begin(&mut self, (): (), container: Container) {
        self.open.push(match container {
            Container::Array => Open::List(Vec::new()),
            Container::Object => Open::Object { members: Vec::new(), name: String::new() },
        });
    }

    fn end(&mut self, (): (), _: Container) {
        match self.open.pop() {
            Some(Open::List(items)) => self.put(Node::List(items)),
            Some(Open::Object { members, .. }) => self.put(Node::Object(members)),
            None => {}
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
        let text = String::from_utf8_lossy(&self.text).into_owned();
        self.put(Node::Text(text));
    }

    fn number(&mut self, (): (), text: &[u8]) {
        self.put(Node::Number(String::from_utf8_lossy(text).into_owned()));
    }

    fn literal(&mut self, (): (), literal: Literal) {
        self.put(Node::Literal(literal));
    }
}
