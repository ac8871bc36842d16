//! A script, checked and made ready: which rule answers a request, and with what.

mod check;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memmem;

pub use self::check::ScriptError;
use crate::answer::{Answer, Cuts, Made, Source};
use crate::model;
use crate::path_body;
use crate::request::Head;
use crate::respond::{Asked, Respond};
use crate::script::{Body, HeaderMatch, ModelReply, PathBody, Remember, Reply, Rule, Script};
use crate::sse;

/// What a running stub goes by.
#[derive(Debug)]
pub(crate) struct Plan {
    rules: Vec<Planned>,
    otherwise: Planned,
    pub remember: Remember,
    respond: Option<Arc<dyn Respond>>,
}

#[derive(Debug)]
struct Planned {
    when: When,
    /// How many requests this rule still answers.
    left: Option<AtomicU64>,
    then: Then,
}

/// The conditions of a rule.
#[derive(Debug, Default)]
struct When {
    method: Option<String>,
    path: Glob,
    header: Option<HeaderMatch>,
    body_contains: Option<String>,
    before_body: bool,
}

/// A path in which at most one `*` stands for anything.
#[derive(Debug, Default)]
enum Glob {
    #[default]
    Everything,
    Exactly(String),
    Between(String, String),
}

/// How a rule comes to its answer.
#[derive(Debug)]
enum Then {
    /// The same for every request, made once.
    Same(Arc<Answer>),
    /// Depends on the request.
    Made { reply: Box<Reply>, body: Recipe },
}

#[derive(Debug)]
enum Recipe {
    Echo,
    Model(ModelReply),
    FromPath(PathBody),
}

/// The answer to a path, kept by a connection because the next request often asks for the same.
pub(crate) type Memo = Option<(String, Arc<Answer>)>;

impl Plan {
    /// Refuses a script that contradicts itself, naming every contradiction.
    pub fn new(script: &Script) -> Result<Self, ScriptError> {
        check::check(script)?;
        let rules = script.rules.iter().map(|rule| Planned::new(When::new(rule), rule.times, &rule.reply));
        Ok(Self {
            rules: rules.collect(),
            otherwise: Planned::new(When::default(), None, &script.otherwise),
            remember: script.remember,
            respond: None,
        })
    }

    /// Everything is answered by `respond`; no request is remembered.
    pub fn responding(respond: Arc<dyn Respond>) -> Self {
        Self {
            rules: Vec::new(),
            otherwise: Planned::new(When::default(), None, &Reply::default()),
            remember: Remember { requests: 0, body_bytes: 0 },
            respond: Some(respond),
        }
    }

    /// The answer of a rule that does not wait for the request body.
    pub fn before_body(&self, head: &Head) -> Option<Arc<Answer>> {
        let rule = self.rules.iter().find(|rule| rule.when.before_body && rule.takes(head, b""))?;
        Some(rule.then.answer(head, &Bytes::new(), &mut None))
    }

    pub fn answer(&self, head: &Head, body: &Bytes, memo: &mut Memo) -> Arc<Answer> {
        if let Some(respond) = &self.respond {
            let reply = respond.respond(&Asked { method: head.method(), target: head.target(), body });
            return Then::new(&sound(reply)).answer(head, body, &mut None);
        }
        let matching = self.rules.iter().find(|rule| !rule.when.before_body && rule.takes(head, body));
        matching.unwrap_or(&self.otherwise).then.answer(head, body, memo)
    }
}

impl Planned {
    fn new(when: When, times: Option<u64>, reply: &Reply) -> Self {
        Self { when, left: times.map(AtomicU64::new), then: Then::new(reply) }
    }

    /// Whether this rule answers the request; if so, one of its `times` is used up.
    fn takes(&self, head: &Head, body: &[u8]) -> bool {
        self.when.matches(head, body)
            && self.left.as_ref().is_none_or(|left| {
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            })
    }
}

impl When {
    fn new(rule: &Rule) -> Self {
        Self {
            method: rule.method.clone(),
            path: Glob::new(&rule.path),
            header: rule.header.clone(),
            body_contains: rule.body_contains.clone(),
            before_body: rule.before_body,
        }
    }

    fn matches(&self, head: &Head, body: &[u8]) -> bool {
        self.method.as_deref().is_none_or(|method| method == head.method())
            && self.path.matches(head.path())
            && self.header.as_ref().is_none_or(|wanted| has_header(head, wanted))
            && self.body_contains.as_deref().is_none_or(|text| memmem::find(body, text.as_bytes()).is_some())
    }
}

fn has_header(head: &Head, wanted: &HeaderMatch) -> bool {
    let value = wanted.value.as_ref().map(String::as_bytes);
    head.all(&wanted.name).any(|found| value.is_none_or(|value| value == &found[..]))
}

impl Glob {
    fn new(pattern: &str) -> Self {
        match pattern.split_once('*') {
            _ if pattern.is_empty() => Self::Everything,
            Some((start, end)) => Self::Between(start.to_owned(), end.to_owned()),
            None => Self::Exactly(pattern.to_owned()),
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Exactly(wanted) => path == wanted,
            Self::Between(start, end) => {
                path.strip_prefix(&start[..]).is_some_and(|rest| rest.ends_with(&end[..]))
            }
        }
    }
}

impl Then {
    fn new(reply: &Reply) -> Self {
        let made_from = |body| Self::Made { reply: Box::new(reply.clone()), body };
        match fixed(&reply.body) {
            Some(made) => Self::Same(Arc::new(Answer::new(reply, made))),
            None => match &reply.body {
                Body::Model(model) => made_from(Recipe::Model(model.clone())),
                Body::FromPath(body) => made_from(Recipe::FromPath(*body)),
                _ => made_from(Recipe::Echo),
            },
        }
    }

    fn answer(&self, head: &Head, body: &Bytes, memo: &mut Memo) -> Arc<Answer> {
        let (reply, recipe) = match self {
            Self::Same(answer) => return Arc::clone(answer),
            Self::Made { reply, body } => (reply, body),
        };
        let made = match recipe {
            Recipe::Echo => Made::plain(&content_type_of(head), body.clone()),
            Recipe::Model(model) => model::answer(model, head.target(), body),
            Recipe::FromPath(kind) => return from_path(reply, *kind, head.path(), memo),
        };
        Arc::new(Answer::new(reply, made))
    }
}

fn from_path(reply: &Reply, kind: PathBody, path: &str, memo: &mut Memo) -> Arc<Answer> {
    if let Some((_, answer)) = memo.as_ref().filter(|(known, _)| known == path) {
        return Arc::clone(answer);
    }
    let answer = Arc::new(Answer::new(reply, path_body::make(kind, path)));
    if answer.ready.is_some() {
        *memo = Some((path.to_owned(), Arc::clone(&answer)));
    }
    answer
}

fn content_type_of(head: &Head) -> String {
    head.all("content-type")
        .next()
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default()
}

/// The reply, or one that says why it is none.
fn sound(reply: Reply) -> Reply {
    match check::problems(&reply) {
        problems if problems.is_empty() => reply,
        problems => Reply::text(&problems.join("; ")).status(500),
    }
}

/// The body, if it is the same for every request. What `check` has refused cannot come here.
fn fixed(body: &Body) -> Option<Made> {
    const BINARY: &str = "application/octet-stream";
    Some(match body {
        Body::Text(text) if text.is_empty() => Made::plain("", Bytes::new()),
        Body::Text(text) => Made::plain("text/plain; charset=utf-8", text.clone()),
        Body::Base64(text) => Made::plain(BINARY, STANDARD.decode(text).unwrap_or_default()),
        Body::Repeat { text, times } => {
            let source = Source::repeat(text.as_bytes(), *times, Bytes::new()).unwrap_or_else(Source::empty);
            let ends = if text.is_empty() { Cuts::none() } else { Cuts::Each(text.len() as u64) };
            Made::of(BINARY, source, ends)
        }
        Body::Size { bytes } => Made::of(BINARY, Source::filler(*bytes), Cuts::none()),
        Body::Sse { events, line_end } => Made::pieces("text/event-stream", &sse::render(events, *line_end)),
        Body::ModelList => Made::plain("application/json", model::LIST),
        Body::Echo | Body::Model(_) | Body::FromPath(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(plan: &Plan, request: &str) -> String {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let head = Head::parse(Bytes::from(format!("{head}\r\n\r\n"))).unwrap();
        let answer = plan.answer(&head, &Bytes::from(body.to_owned()), &mut None);
        String::from_utf8(answer.source.slice(0, u64::MAX).to_vec()).unwrap()
    }

    fn check(rule: Rule, taken: &[&str], passed: &[&str]) {
        let plan =
            Plan::new(&Script::always(Reply::text("no")).on(Rule { reply: Reply::text("yes"), ..rule }));
        let plan = plan.unwrap();
        for (requests, expected) in [(taken, "yes"), (passed, "no")] {
            for request in requests {
                assert_eq!(answered(&plan, request), expected, "{request:?}");
            }
        }
    }

    #[test]
    fn paths_match_exactly_or_around_one_star() {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\n\r\n");
        let check = |pattern: &str, taken: &[&str], passed: &[&str]| {
            let taken: Vec<String> = taken.iter().map(|path| get(path)).collect();
            let passed: Vec<String> = passed.iter().map(|path| get(path)).collect();
            let strs =
                |texts: &[String]| texts.iter().map(|text| &*text.clone().leak()).collect::<Vec<&str>>();
            super::tests::check(Rule::any(pattern, Reply::default()), &strs(&taken), &strs(&passed));
        };
        check("/a", &["/a", "/a?b=/c"], &["/a/", "/ab", "/"]);
        check("/a/*", &["/a/", "/a/b/c?x"], &["/a", "/b/a/"]);
        check("*/a", &["/a", "/b/a", "/b/a?q"], &["/a/b", "/ba"]);
        check("/a*a", &["/aa", "/axa"], &["/a", "/ab"]);
        check("", &["/", "/x"], &[]);
    }

    #[test]
    fn method_header_and_body_must_all_match() {
        let header = Some(HeaderMatch { name: "X-Mode".into(), value: Some("b".into()) });
        let rule =
            Rule { header, body_contains: Some("needle".into()), ..Rule::new("POST", "", Reply::default()) };
        check(
            rule,
            &["POST / HTTP/1.1\r\nx-mode: a\r\nx-mode: b\r\n\r\nhay needle hay"],
            &[
                "GET / HTTP/1.1\r\nx-mode: b\r\n\r\nneedle",
                "POST / HTTP/1.1\r\nx-mode: a\r\n\r\nneedle",
                "POST / HTTP/1.1\r\n\r\nneedle",
                "POST / HTTP/1.1\r\nx-mode: b\r\n\r\nneed",
            ],
        );
        let present = Some(HeaderMatch { name: "x".into(), value: None });
        let rule = Rule { header: present, ..Rule::default() };
        check(rule, &["GET / HTTP/1.1\r\nX: 1\r\n\r\n"], &["GET / HTTP/1.1\r\n\r\n"]);
    }

    #[test]
    fn a_rule_with_times_is_passed_over_when_they_are_used_up() {
        let script = Script::always(Reply::text("then"))
            .on(Rule::any("/a", Reply::text("first")).times(2))
            .on(Rule::any("/a", Reply::text("second")).times(1));
        let plan = Plan::new(&script).unwrap();
        let bodies: Vec<String> = (0..4).map(|_| answered(&plan, "GET /a HTTP/1.1\r\n\r\n")).collect();
        assert_eq!(bodies, ["first", "first", "second", "then"]);
    }

    #[test]
    fn the_answer_to_a_path_is_made_once_a_connection() {
        let plan = Plan::new(&Script::model()).unwrap();
        let head = Head::parse("GET /json/100 HTTP/1.1\r\n\r\n".into()).unwrap();
        let mut memo = None;
        let first = plan.answer(&head, &Bytes::new(), &mut memo);
        assert!(Arc::ptr_eq(&first, &plan.answer(&head, &Bytes::new(), &mut memo)));
        let other = Head::parse("GET /json/101 HTTP/1.1\r\n\r\n".into()).unwrap();
        assert!(!Arc::ptr_eq(&first, &plan.answer(&other, &Bytes::new(), &mut memo)));
    }
}
