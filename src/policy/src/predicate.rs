//! What a rule asks of a value in the arguments of a call or in a body.

use std::fmt;

use memchr::memmem;
use serde_json::Value;

use crate::content::is_container;
use crate::path::{Reach, ValuePath};
use crate::pattern::{Case, Patterns};
use crate::sql::{SqlCheck, SqlTerms};

/// Most predicates of one condition.
pub(crate) const PREDICATES_MAX: usize = 16;
/// Greatest magnitude of a number in a predicate: beyond it doubles round.
pub(crate) const NUMBER_MAX: i64 = (1 << 53) - 1;

/// One value, and what is asked of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Predicate {
    pub(crate) at: ValuePath,
    pub(crate) test: Test,
}

/// What is asked. Of several values that the path meets, one has to pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Test {
    Equals(Scalar),
    In(Vec<Scalar>),
    NotIn(Vec<Scalar>),
    Matches(Vec<String>),
    NotMatches(Vec<String>),
    Exists(bool),
    GreaterThan(i64),
    LessThan(i64),
    LongerThan(u64),
    Contains(String),
    Sql(SqlTerms),
    SqlNot(SqlTerms),
    Tenant(Tenancy),
}

/// Whose tenant a value names, held against the one that the caller proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tenancy {
    Own,
    Other,
}

impl Tenancy {
    pub const ALL: [Self; 2] = [Self::Own, Self::Other];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Other => "other",
        }
    }
}

/// A value of a predicate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Scalar {
    Null,
    Boolean(bool),
    Number(i64),
    Text(String),
}

impl Test {
    pub const KEYS: [&str; 13] = [
        "equals",
        "in",
        "not_in",
        "matches",
        "not_matches",
        "exists",
        "greater_than",
        "less_than",
        "longer_than",
        "contains",
        "sql",
        "sql_not",
        "tenant",
    ];

    /// Its key in the document.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Equals(_) => "equals",
            Self::In(_) => "in",
            Self::NotIn(_) => "not_in",
            Self::Matches(_) => "matches",
            Self::NotMatches(_) => "not_matches",
            Self::Exists(_) => "exists",
            Self::GreaterThan(_) => "greater_than",
            Self::LessThan(_) => "less_than",
            Self::LongerThan(_) => "longer_than",
            Self::Contains(_) => "contains",
            Self::Sql(_) => "sql",
            Self::SqlNot(_) => "sql_not",
            Self::Tenant(_) => "tenant",
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` `{}`", self.at.text(), self.test.key())
    }
}

/// Whether something is so, as far as can be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Truth {
    False,
    Unknown,
    True,
}

impl Truth {
    pub fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }

    /// True if either is.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::True, _) | (_, Self::True) => Self::True,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::False, Self::False) => Self::False,
        }
    }

    pub fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What a predicate found, without the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueClass {
    /// No value, or no call or body to look into.
    Nothing,
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// A string.
    Text,
    /// A string that is held against a tenant which nobody proved.
    TextAndNoTenant,
    /// An array.
    List,
    /// An object.
    Object,
    /// Values of several classes.
    Several,
    /// Something that could not be read.
    Unread,
}

impl ValueClass {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Object,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) => other,
            (own, other) if own == other => own,
            _ => Self::Several,
        }
    }

    /// The words in explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::TextAndNoTenant => "a text, and no proven tenant to hold it against",
            Self::List => "a list",
            Self::Object => "an object",
            Self::Several => "values of several types",
            Self::Unread => "what could not be read",
        }
    }
}

/// A predicate that is ready to be asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub predicate: Predicate,
    patterns: Option<Patterns>,
    sql: Option<SqlCheck>,
}

impl Asked {
    pub fn new(predicate: &Predicate) -> Self {
        let patterns = match &predicate.test {
            Test::Matches(patterns) | Test::NotMatches(patterns) => {
                Some(Patterns::new(patterns, Case::Exact))
            }
            _ => None,
        };
        let sql = match &predicate.test {
            Test::Sql(terms) | Test::SqlNot(terms) => Some(SqlCheck::new(terms)),
            _ => None,
        };
        Self { predicate: predicate.clone(), patterns, sql }
    }

    /// Asks it of a document that a caller of this tenant brings.
    pub fn ask(&self, document: &Value, tenant: Option<&str>) -> Truth {
        let mut truth = Truth::False;
        let mut any = false;
        let is_open = self.each(document, &mut |value| {
            any = true;
            truth = truth.or(self.test(value, tenant));
            truth != Truth::True
        });
        match &self.predicate.test {
            Test::Exists(_) if is_open && !any => Truth::Unknown,
            Test::Exists(wanted) => Truth::of(*wanted == any),
            _ if is_open => truth.or(Truth::Unknown),
            _ => truth,
        }
    }

    /// What there is at its path.
    pub fn found(&self, document: &Value, tenant: Option<&str>) -> ValueClass {
        let mut class = ValueClass::Nothing;
        let is_open = self.each(document, &mut |value| {
            class = class.and(match (&self.predicate.test, value, tenant) {
                (Test::Tenant(_), Value::String(_), None) => ValueClass::TextAndNoTenant,
                _ => ValueClass::of(value),
            });
            true
        });
        if is_open { class.and(ValueClass::Unread) } else { class }
    }

    /// Whether there may be more that is meant: in a text that is JSON itself, which some tools read on.
    fn each<'v>(&self, document: &'v Value, meet: &mut impl FnMut(&'v Value) -> bool) -> bool {
        let path = &self.predicate.at;
        let mut is_open = false;
        walk(path, path.root(), document, meet, &mut is_open);
        is_open
    }

    fn test(&self, value: &Value, tenant: Option<&str>) -> Truth {
        match (&self.predicate.test, value) {
            (Test::Exists(_), _) => Truth::True,
            (Test::Equals(wanted), value) => Truth::of(wanted.is(value)),
            (Test::In(list), value) => Truth::of(list.iter().any(|wanted| wanted.is(value))),
            (Test::NotIn(list), value) => Truth::of(!list.iter().any(|wanted| wanted.is(value))),
            // A tool may take `null` for every tenant.
            (Test::Tenant(wanted), value) => match (value, tenant) {
                (Value::String(text), Some(tenant)) => {
                    Truth::of((text == tenant) == (*wanted == Tenancy::Own))
                }
                _ => Truth::Unknown,
            },
            (_, Value::Null) => Truth::False,
            (Test::Matches(_), Value::String(text)) => Truth::of(self.takes(text)),
            (Test::NotMatches(_), Value::String(text)) => Truth::of(!self.takes(text)),
            (Test::GreaterThan(bound), Value::Number(number)) => compare(number, *bound, |n, b| n > b),
            (Test::LessThan(bound), Value::Number(number)) => compare(number, *bound, |n, b| n < b),
            (Test::LongerThan(bound), Value::String(text)) => {
                Truth::of(text.chars().count() as u64 > *bound) // a length fits
            }
            (Test::LongerThan(bound), Value::Array(list)) => Truth::of(list.len() as u64 > *bound),
            (Test::Contains(part), Value::String(text)) => {
                Truth::of(memmem::find(text.as_bytes(), part.as_bytes()).is_some())
            }
            (Test::Contains(part), Value::Array(list)) => {
                Truth::of(list.iter().any(|value| value.as_str() == Some(part)))
            }
            (Test::Sql(_), Value::String(text)) => self.keeps(text),
            (Test::SqlNot(_), Value::String(text)) => self.keeps(text).not(),
            // A tool may take a number for its text, or a list for its only element; nobody here knows.
            _ => Truth::Unknown,
        }
    }

    fn keeps(&self, text: &str) -> Truth {
        self.sql.as_ref().map_or(Truth::Unknown, |sql| sql.keeps(text))
    }

    fn takes(&self, text: &str) -> bool {
        self.patterns.as_ref().is_some_and(|patterns| patterns.take(text))
    }
}

fn compare(number: &serde_json::Number, bound: i64, holds: impl Fn(f64, f64) -> bool) -> Truth {
    let bound = bound as f64; // INVARIANT: within NUMBER_MAX, so nothing is rounded
    number.as_f64().map_or(Truth::Unknown, |number| Truth::of(holds(number, bound)))
}

impl Scalar {
    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null) => true,
            (Self::Boolean(wanted), Value::Bool(value)) => wanted == value,
            (Self::Number(wanted), Value::Number(value)) => match value.as_i64() {
                Some(value) => *wanted == value,
                None => value.as_f64() == Some(*wanted as f64), // within NUMBER_MAX
            },
            (Self::Text(wanted), Value::String(value)) => wanted == value,
            _ => false,
        }
    }
}

/// Gives what the path meets at and below `value` to `meet`, until that has enough.
fn walk<'v>(
    path: &ValuePath,
    reach: Reach,
    value: &'v Value,
    meet: &mut impl FnMut(&'v Value) -> bool,
    is_open: &mut bool,
) -> bool {
    if ValuePath::is_over(reach) {
        return true;
    }
    if path.is_met(reach) && !meet(value) {
        return false;
    }
    match value {
        Value::Object(members) => match path.only_name(reach) {
            Some(name) => members
                .get(name)
                .is_none_or(|member| walk(path, path.step(reach, name), member, meet, is_open)),
            None => {
                members.iter().all(|(name, member)| walk(path, path.step(reach, name), member, meet, is_open))
            }
        },
        Value::Array(list) => {
            let step = |(at, element)| walk(path, path.step_into(reach, at), element, meet, is_open);
            list.iter().enumerate().all(step)
        }
        Value::String(text) => {
            *is_open |= path.goes_on(reach) && is_container(text);
            true
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask_as(tenant: Option<&str>, at: &str, test: Test, document: Value) -> Truth {
        Asked::new(&Predicate { at: ValuePath::parse(at).unwrap(), test }).ask(&document, tenant)
    }

    fn ask(at: &str, test: Test, document: Value) -> Truth {
        ask_as(Some("acme"), at, test, document)
    }

    #[test]
    fn a_test_passes_fails_or_cannot_be_asked() {
        use Truth::{False, True, Unknown};
        let text = |text: &str| Scalar::Text(text.into());
        let globs = |globs: &[&str]| globs.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (test, value, expected) in [
            (Test::Equals(text("5")), json!("5"), True),
            (Test::Equals(text("5")), json!(5), False),
            (Test::Equals(Scalar::Number(5)), json!(5.0), True),
            (Test::Equals(Scalar::Null), json!(null), True),
            (Test::Equals(Scalar::Boolean(true)), json!(true), True),
            (Test::In(vec![text("a"), Scalar::Number(1)]), json!(1), True),
            (Test::NotIn(vec![text("a")]), json!("b"), True),
            (Test::NotIn(vec![text("a")]), json!("a"), False),
            (Test::Matches(globs(&["/etc/*"])), json!("/etc/passwd"), True),
            (Test::Matches(globs(&["/etc/*"])), json!("/ETC/passwd"), False),
            (Test::Matches(globs(&["rm*"])), json!(["rm"]), Unknown),
            (Test::Matches(globs(&["rm*"])), json!(null), False),
            (Test::Matches(globs(&["rm*"])), json!(format!("rm{}", "x".repeat(9999))), True),
            (Test::NotMatches(globs(&["/srv/*"])), json!("/etc"), True),
            (Test::GreaterThan(100), json!(100.5), True),
            (Test::GreaterThan(100), json!(100), False),
            (Test::GreaterThan(100), json!("150"), Unknown),
            (Test::LessThan(0), json!(-1), True),
            (Test::LongerThan(2), json!("éé"), False),
            (Test::LongerThan(2), json!("ééé"), True),
            (Test::LongerThan(2), json!([1, 2, 3]), True),
            (Test::LongerThan(2), json!({}), Unknown),
            (Test::Contains("b".into()), json!("abc"), True),
            (Test::Contains("b".into()), json!(["abc"]), False),
            (Test::Contains("b".into()), json!(["b"]), True),
            (Test::Contains("b".into()), json!(7), Unknown),
            (Test::Exists(true), json!(null), True),
            (Test::Exists(false), json!(null), False),
        ] {
            assert_eq!(ask("/a", test.clone(), json!({ "a": value })), expected, "{test:?} {value}");
        }
        assert_eq!(ask("/a", Test::Exists(false), json!({})), True);
        assert_eq!(ask("/a", Test::NotIn(vec![]), json!({})), False);
    }

    #[test]
    fn a_tenant_is_exactly_the_callers_or_nobody_knows() {
        use Truth::{False, True, Unknown};
        let acme = Some("acme");
        for (tenant, at, value, other, own) in [
            (acme, "/t", json!({ "t": "acme" }), False, True),
            (acme, "/t", json!({ "t": "globex" }), True, False),
            (acme, "/t", json!({ "t": "ACME" }), True, False),
            (acme, "/t", json!({ "t": "acme " }), True, False),
            (acme, "/t", json!({ "t": "" }), True, False),
            (acme, "/t", json!({ "t": "*" }), True, False),
            (acme, "/t", json!({ "t": null }), Unknown, Unknown),
            (acme, "/t", json!({ "t": 7 }), Unknown, Unknown),
            (acme, "/t", json!({ "t": ["acme"] }), Unknown, Unknown),
            (acme, "/t", json!({ "t": { "id": "acme" } }), Unknown, Unknown),
            (acme, "/t", json!({ "T": "globex" }), False, False),
            (acme, "/t/id", json!({ "t": "{\"id\":\"acme\"}" }), Unknown, Unknown),
            (acme, "/t/*", json!({ "t": ["acme", "globex"] }), True, True),
            (acme, "/t/*", json!({ "t": ["acme", 7] }), Unknown, True),
            (None, "/t", json!({ "t": "acme" }), Unknown, Unknown),
            (None, "/t", json!({ "t": "" }), Unknown, Unknown),
            (None, "/t", json!({}), False, False),
        ] {
            let ask = |wanted| ask_as(tenant, at, Test::Tenant(wanted), value.clone());
            let found = (ask(Tenancy::Other), ask(Tenancy::Own));
            assert_eq!(found, (other, own), "{tenant:?} {at} {value}");
        }
    }

    #[test]
    fn what_a_text_of_json_holds_is_not_known() {
        use Truth::{False, True, Unknown};
        let more = |at, document| ask(at, Test::GreaterThan(100), document);
        for text in ["{\"n\":200}", " [{\"n\":200}]\n", "\u{feff}{\"n\":1}", "{n:NaN}"] {
            assert_eq!(more("/to/n", json!({ "to": text })), Unknown, "{text}");
            assert_eq!(more("/**/n", json!({ "to": text })), Unknown, "{text}");
            assert_eq!(more("/n", json!(text)), Unknown, "{text}");
            assert_eq!(ask("/to/n", Test::Exists(false), json!({ "to": text })), Unknown, "{text}");
            assert_eq!(ask("/to", Test::Exists(true), json!({ "to": text })), True, "{text}");
        }
        assert_eq!(more("/**/n", json!({ "a": "{}", "b": { "n": 200 } })), True);
        assert_eq!(more("/to/n", json!({ "to": "{1} of [2]" })), False);
        assert_eq!(more("/to/n", json!({ "to": "200" })), False);
        assert_eq!(more("/to/n", json!({ "other": "{}", "to": { "n": 1 } })), False);
    }

    #[test]
    fn of_several_values_one_has_to_pass() {
        let document = json!({ "to": [{ "n": 1 }, { "n": "x" }, { "n": 200 }] });
        let at = |at, bound| ask(at, Test::GreaterThan(bound), document.clone());
        assert_eq!(at("/to/*/n", 100), Truth::True);
        assert_eq!(at("/to/*/n", 300), Truth::Unknown);
        assert_eq!(at("/to/2/n", 100), Truth::True);
        assert_eq!(at("/to/0/n", 100), Truth::False);
        assert_eq!(at("/**/n", 100), Truth::True);
        assert_eq!(at("/to/02/n", 100), Truth::False);
    }
}
