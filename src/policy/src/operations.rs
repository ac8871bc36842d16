//! What a plain API behind a route does, as a policy lists it: operations by method and path.
//!
//! A path template is matched segment by segment, and of several templates that take a path the most specific one counts.
//! Upstreams differ in what they take for the same path: capital letters, needless percent-encoding, a slash at the end. So
//! the template is looked for in every reading of the path, and the path must then be written as the template is; one that only
//! some readers take for an operation is a look-alike.

mod reading;

use std::collections::BTreeSet;

use self::reading::{Reading, Wanted, folded};
use crate::determinism::Determinism;
use crate::document::Verdict;
use crate::judging::Judging;
use crate::snapshot::{SnapshotSource, Snapshotting};

/// Most operations of a route.
pub(crate) const OPERATIONS_MAX: usize = 256;
/// Most characters of a path template.
pub(crate) const PATH_CHARS_MAX: usize = 512;
/// Most segments of a path template.
pub(crate) const SEGMENTS_MAX: usize = 32;
const METHOD_CHARS_MAX: usize = 32;
const PARAMETER_CHARS_MAX: usize = 64;

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// What rules and receipts call it.
    pub id: String,
    pub(crate) method: String,
    pub(crate) path: PathTemplate,
    /// What is held against contracts. Of a document, as written; of a policy, laid over what its route says.
    pub judge: Option<Judging>,
    pub(crate) snapshot: Option<Snapshotting>,
    /// Whether it gives the same when it is run again. Nothing said: exactly the same.
    pub determinism: Option<Determinism>,
    /// The database that is looked at around it. Of a policy; of a document, nothing.
    pub look: Option<SnapshotSource>,
}

/// The operations of a route. Empty: none are listed, and a call is none of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Operations {
    pub(crate) list: Vec<Operation>,
    pub(crate) others: Option<Verdict>,
}

/// What a request is on a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed<'o> {
    /// The route lists no operations.
    Nothing,
    /// This one; its index is that of [`Operations::iter`].
    Operation(usize, &'o Operation),
    /// It is not written as an operation, but some upstream may take it for one. It is refused.
    LookAlike,
    /// None of those that are listed. The verdict is what the policy says of such.
    Other(Verdict),
}

impl Operations {
    /// In the order of the document.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Operation> {
        self.list.iter()
    }

    /// By its id.
    pub fn get(&self, id: &str) -> Option<&Operation> {
        self.list.iter().find(|operation| operation.id == id)
    }

    /// What becomes of calls that are none of those listed. Default block.
    pub fn others(&self) -> Verdict {
        self.others.unwrap_or(Verdict::Block)
    }

    /// Whether a request that is an operation of another list is none of these, nor may be taken for one, whatever its path is.
    pub fn leave_out(&self, other: &Operation) -> bool {
        let may_be = |operation: &Operation| {
            operation.method.eq_ignore_ascii_case(&other.method) && operation.path.meet(&other.path).is_some()
        };
        !self.list.iter().any(may_be)
    }

    /// `path` is a request's, without its query.
    pub fn find(&self, method: &str, path: &str) -> Listed<'_> {
        if self.list.is_empty() {
            return Listed::Nothing;
        }
        let reading = Reading::of(path);
        let is_alike = |operation: &Operation| {
            operation.method.eq_ignore_ascii_case(method)
                && reading.as_ref().is_some_and(|reading| operation.path.is_like(reading))
        };
        let written =
            |operation: &Operation| operation.method == method && operation.path.is_written_as(path);
        let alike = self.list.iter().enumerate().filter(|(_, operation)| is_alike(operation));
        match alike.max_by_key(|(_, operation)| (operation.path.literals(), !written(operation))) {
            Some((index, operation)) if written(operation) => Listed::Operation(index, operation),
            Some(_) => Listed::LookAlike,
            None => Listed::Other(self.others()),
        }
    }
}

/// Two operations that take the same requests, by index, with neither more specific.
pub(crate) fn ambiguous(operations: &[(usize, &Operation)]) -> Vec<(usize, usize)> {
    let shapes: BTreeSet<_> =
        operations.iter().map(|(_, operation)| (operation.method.as_str(), operation.path.shape())).collect();
    let mut found = Vec::new();
    for (at, (second, b)) in operations.iter().enumerate() {
        let clash = operations[..at].iter().find(|(_, a)| {
            a.method == b.method
                && a.path.meet(&b.path).is_some_and(|both| {
                    let of = [a.path.shape(), b.path.shape()].map(|shape| shape == both);
                    of == [true, true] || !shapes.contains(&(b.method.as_str(), both))
                })
        });
        found.extend(clash.map(|(first, _)| (*first, *second)));
    }
    found
}

pub(crate) fn is_method(text: &str) -> bool {
    (1..=METHOD_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// `/v1/orders/{id}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PathTemplate {
    text: String,
    /// Without the empty one after a slash at the end.
    segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Segment {
    Literal(String),
    Parameter,
}

impl PathTemplate {
    pub(crate) const EXPECTED: &str = "a path with parameters as `/v1/orders/{id}`: at most 32 segments, each a name in braces or unescaped characters of a path";

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = segments(text)?.collect();
        let mut names = BTreeSet::new();
        let segments =
            parts.iter().map(|part| match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) => (is_parameter(name) && names.insert(name)).then_some(Segment::Parameter),
                None => {
                    let fits =
                        !part.is_empty() && part.bytes().all(is_plain) && *part != "." && *part != "..";
                    fits.then(|| Segment::Literal((*part).into()))
                }
            });
        let segments = segments.collect::<Option<Vec<_>>>()?;
        let fits = text.len() <= PATH_CHARS_MAX && segments.len() <= SEGMENTS_MAX;
        fits.then(|| Self { text: text.into(), segments })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    fn literals(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment, Segment::Literal(_))).count()
    }

    /// Whether some upstream takes the path for one of these.
    fn is_like(&self, reading: &Reading) -> bool {
        let wanted = self.segments.iter().map(|segment| match segment {
            Segment::Literal(literal) => Wanted::Literal(literal),
            Segment::Parameter => Wanted::Anything,
        });
        reading.may_be(&wanted.collect::<Vec<_>>())
    }

    /// Whether every reader takes the path for one of these.
    fn is_written_as(&self, path: &str) -> bool {
        let Some(mut parts) = segments(path) else { return false };
        let fit = self.segments.iter().all(|segment| {
            parts.next().is_some_and(|part| match segment {
                Segment::Literal(literal) => literal == part,
                Segment::Parameter => is_value(part),
            })
        });
        fit && parts.next().is_none() && path.ends_with('/') == self.text.ends_with('/')
    }

    /// Equal for templates that take the same paths. A parameter is none.
    fn shape(&self) -> Vec<Option<String>> {
        let part = |segment: &Segment| match segment {
            Segment::Literal(literal) => Some(literal.trim_end_matches('.').to_ascii_lowercase()),
            Segment::Parameter => None,
        };
        self.segments.iter().map(part).collect()
    }

    /// What both take, if anything.
    fn meet(&self, other: &Self) -> Option<Vec<Option<String>>> {
        let (a, b) = (self.shape(), other.shape());
        let both = a.iter().zip(&b).map(|(a, b)| match (a, b) {
            (Some(a), Some(b)) if a != b => None,
            (a, b) => Some(a.clone().or_else(|| b.clone())),
        });
        if a.len() == b.len() { both.collect() } else { None }
    }
}

/// Those of a path, without the empty one after a slash at the end.
fn segments(path: &str) -> Option<impl Iterator<Item = &str>> {
    let rest = path.strip_prefix('/')?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let none = rest.is_empty() && path.len() == 1;
    Some(rest.split('/').skip(usize::from(none)))
}

fn is_parameter(name: &str) -> bool {
    name.len() <= PARAMETER_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `pchar` of RFC 3986 section 3.3 without percent-encoding, and without `;`, which some upstreams end a segment at.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

/// Whether a parameter may have this value: text without anything that an upstream could take for an end of the segment, or
/// decode twice.
fn is_value(part: &str) -> bool {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((decoded, length)) = next(rest) {
        if length == 1 && !is_plain(decoded) {
            return false;
        }
        bytes.push(decoded);
        rest = &rest[length..];
    }
    let hidden = |c: char| c < ' ' || c == '\x7f' || "/\\;?#%".contains(c);
    let text = folded(&bytes);
    std::str::from_utf8(&bytes).is_ok() && !matches!(&*text, "" | "." | "..") && !text.contains(hidden)
}

/// The first byte, decoded, and how long it is written.
fn next(bytes: &[u8]) -> Option<(u8, usize)> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    match (bytes.first()?, digit(1), digit(2)) {
        (b'%', Some(high), Some(low)) => Some(((high * 16 + low) as u8, 3)), // two digits fit
        (byte, ..) => Some((*byte, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_leaves_out_what_none_of_its_paths_can_be() {
        let list = operations(&["/orders/{id}", "/Reports/daily"]);
        let other = |path: &str| operations(&[path]).list.remove(0);
        for (path, is_left_out) in [
            ("/orders/{name}", false),
            ("/orders/open", false),
            ("/{kind}/daily", false),
            ("/reports/DAILY/", false),
            ("/orders", true),
            ("/orders/{id}/lines", true),
            ("/reports/weekly", true),
        ] {
            assert_eq!(list.leave_out(&other(path)), is_left_out, "{path}");
        }
        let deletes = Operation { method: "DELETE".into(), ..other("/orders/{id}") };
        assert!(list.leave_out(&deletes));
        assert!(Operations::default().leave_out(&deletes));
    }

    fn operations(templates: &[&str]) -> Operations {
        let operation = |template: &&str| Operation {
            id: (*template).into(),
            method: "POST".into(),
            path: PathTemplate::parse(template).unwrap_or_else(|| panic!("{template}")),
            judge: None,
            snapshot: None,
            determinism: None,
            look: None,
        };
        Operations { list: templates.iter().map(operation).collect(), others: None }
    }

    fn found<'o>(operations: &'o Operations, path: &str) -> Option<&'o str> {
        match operations.find("POST", path) {
            Listed::Operation(index, operation) => {
                assert_eq!(operations.iter().nth(index), Some(operation));
                Some(&operation.id)
            }
            Listed::LookAlike | Listed::Other(Verdict::Block | Verdict::Hold) => None,
            other => panic!("{other:?}"),
        }
    }

    const API: [&str; 6] =
        ["/", "/v1/orders", "/v1/orders/{id}", "/v1/orders/search", "/v1/{kind}/{id}/notes", "/v2/orders/"];

    #[test]
    fn the_most_specific_template_takes_a_path() {
        let api = operations(&API);
        for (path, expected) in [
            ("/", "/"),
            ("/v1/orders", "/v1/orders"),
            ("/v1/orders/7", "/v1/orders/{id}"),
            ("/v1/orders/urn:a@b", "/v1/orders/{id}"),
            ("/v1/orders/a%20b", "/v1/orders/{id}"),
            ("/v1/orders/caf%C3%A9", "/v1/orders/{id}"),
            ("/v1/orders/search", "/v1/orders/search"),
            ("/v1/orders/7/notes", "/v1/{kind}/{id}/notes"),
            ("/v2/orders/", "/v2/orders/"),
        ] {
            assert_eq!(found(&api, path), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_path_that_only_some_readers_take_for_an_operation_is_none() {
        let api = operations(&API);
        for path in [
            "",
            "*",
            "//",
            "/v1",
            "/v1/orders/",
            "/v1//orders",
            "/v1/orders//",
            "/v2/orders",
            "/V1/orders",
            "/v1/orders/Search",
            "/v1/orders/%73earch",
            "/v1/orders/search/",
            "/v1/orders/search;a=b",
            "/v1/orders/search%3Ba=b",
            "/v1/orders/7;a",
            "/v1/orders/..%2Fsearch",
            "/v1/orders/7%2f8",
            "/v1/orders/7%5c8",
            "/v1/orders/7\\8",
            "/v1/orders/%00",
            "/v1/orders/7%0A",
            "/v1/orders/%2573earch",
            "/v1/orders/7%3Fa",
            "/v1/orders/%",
            "/v1/orders/%4",
            "/v1/orders/7/8",
            "/v1/orders/7/notes/8",
            "/v1/orders/%c0%ae",
            "/v1/orders/a%c0%afb",
            "/v1/orders/a%ef%bc%8fb",
            "/v1/orders/a%e2%88%95b",
            "/v1/orders/%ef%bc%8e%ef%bc%8e",
            "/v1/orders/%ef%bd%93earch",
            "/v1/orders/%e9",
        ] {
            assert_eq!(found(&api, path), None, "{path}");
        }
        assert_eq!(api.find("post", "/v1/orders"), Listed::LookAlike);
        assert_eq!(api.find("GET", "/v1/orders"), Listed::Other(Verdict::Block));
        assert_eq!(Operations::default().find("GET", "/"), Listed::Nothing);
    }

    #[test]
    fn what_some_upstream_takes_for_an_operation_is_a_look_alike() {
        let mut api = operations(&["/ops/orders", "/ops/orders/{id}/notes", "/ops/items/{id}"]);
        api.others = Some(Verdict::Allow);
        for path in [
            "/ops/orders/",
            "/ops/Orders",
            "/OPS/orders",
            "/ops/orders;a",
            "/ops/orders;a%2fb",
            "/ops;a/orders",
            "/ops/;a/orders",
            "/ops//orders",
            "//ops/orders",
            "/ops/orders//",
            "/ops/%6frders",
            "/ops%2forders",
            "/ops/orders%2f",
            "/ops/orders%252f",
            "/ops%5corders",
            "/ops/orders%3Ba",
            "/ops/orders%3fa",
            "/ops/orders%3fa/b/c",
            "/ops/orders%23",
            "/ops/orders%00.png",
            "/ops/orders%20",
            "/ops/orders%0a",
            "/ops/orders.",
            "/ops/%2e/orders",
            "/ops/x%2f..%2forders",
            "/admin/..%2fops/orders",
            "/ops%c0%aforders",
            "/ops%ef%bc%8forders",
            "/ops/%ef%bd%8frders",
            "/ops/order%c5%bf",
            "/ops/orders/7/notes/",
            "/ops/orders/7%2f8/notes",
            "/ops/orders%2f7%252f8/notes",
            "/ops/orders/7/Notes;a",
            "/ops/items/%c0%af",
            "/ops/items/a;b",
            "/ops/items/%ef%bc%8e",
            "/ops/items/%ef%bc%8e%ef%bc%8e",
            "/ops%2fitems/;a",
        ] {
            assert_eq!(api.find("POST", path), Listed::LookAlike, "{path}");
            assert_eq!(api.find("Post", path), Listed::LookAlike, "{path}");
            assert_eq!(api.find("GET", path), Listed::Other(Verdict::Allow), "{path}");
        }
        for path in [
            "*",
            "/",
            "/ops",
            "/ops/order",
            "/ops/orderss",
            "/ops/orders/7",
            "/ops/orders/a%2fb",
            "/ops/items/",
            "/ops/items",
            "/ops/orders/7/8/notes",
            "/ops/orders/7/notes%2fx",
            "/files/a;b//c%2fd",
        ] {
            assert_eq!(api.find("POST", path), Listed::Other(Verdict::Allow), "{path}");
        }
        let api = operations(&["/ops/orders", "/ops/orders/{id}", "/ops/items/{id}"]);
        for path in ["/ops/orders/%20", "/ops/orders/..."] {
            assert_eq!(api.find("POST", path), Listed::LookAlike, "{path}");
        }
        assert!(matches!(api.find("POST", "/ops/orders"), Listed::Operation(0, _)));
        assert!(matches!(api.find("POST", "/ops/items/%E3%82%AB."), Listed::Operation(2, _)));
    }

    #[test]
    fn templates_that_take_the_same_paths_are_ambiguous_until_one_decides() {
        let check = |templates: &[&str], expected: &[(usize, usize)]| {
            let operations = operations(templates);
            let indexed: Vec<_> = operations.iter().enumerate().collect();
            assert_eq!(ambiguous(&indexed), expected, "{templates:?}");
        };
        check(&API, &[]);
        check(&["/a/{x}", "/a/{y}"], &[(0, 1)]);
        check(&["/a/b", "/a/B"], &[(0, 1)]);
        check(&["/a/b", "/a/b/"], &[(0, 1)]);
        check(&["/a/b", "/a/b."], &[(0, 1)]);
        check(&["/a/{x}/c", "/a/b/{y}"], &[(0, 1)]);
        check(&["/a/{x}/c", "/a/b/{y}", "/a/b/c"], &[]);
        check(&["/a/{x}", "/b/{x}", "/{x}/a"], &[(0, 2)]);
        check(&["/{x}", "/a", "/a/{x}"], &[]);
    }

    #[test]
    fn a_template_is_a_plain_path_with_names_in_braces() {
        for text in [
            "",
            "a",
            "//",
            "/a//b",
            "/a/./b",
            "/..",
            "/{}",
            "/{1}",
            "/{a}/{a}",
            "/{a}.json",
            "/a{b}",
            "/a%20b",
            "/a;b",
            "/a?b",
            "/a b",
            "/é",
        ] {
            assert_eq!(PathTemplate::parse(text), None, "{text}");
        }
        let long = "/a".repeat(SEGMENTS_MAX + 1);
        assert!(PathTemplate::parse(&long).is_none() && PathTemplate::parse(&long[2..]).is_some());
        assert!(PathTemplate::parse(&format!("/{}", "a".repeat(PATH_CHARS_MAX))).is_none());
    }
}
