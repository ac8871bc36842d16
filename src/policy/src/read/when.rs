//! Conditions: what `when` and `unless` say.

use super::{Map, Reader, is_unsafe};
use crate::document::When;
use crate::error::PolicyErrorCode;
use crate::facts::Condition;
use crate::host::HostPattern;
use crate::path::ValuePath;
use crate::pattern::{PATTERN_CHARS_MAX, PATTERNS_MAX, STARS_MAX};
use crate::predicate::{NUMBER_MAX, PREDICATES_MAX, Predicate, Scalar, Tenancy, Test};
use crate::provenance::{Provenance, STRETCH_MAX, STRETCH_MIN};
use crate::sql::{SqlStatement, SqlTerms};
use crate::yaml::{Kind, Node};

/// Most values of one list in a predicate.
const VALUES_MAX: usize = 64;
/// Most characters of a value in a predicate.
const VALUE_CHARS_MAX: usize = 1024;

const SQL_KEYS: [&str; 6] =
    ["statements", "require_selector", "rows_max", "tables", "tables_not", "functions"];

/// Conditions on what a call may have several of: where one that fits would be enough to except it all.
const NOT_EXCEPTIONS: [Condition; 4] =
    [Condition::Data, Condition::Destination, Condition::Provenance, Condition::After];

impl Reader {
    pub(super) fn when(&mut self, node: &Node) -> Option<When> {
        let map = self.map(node)?;
        self.known_keys(&map, &Condition::ALL.map(Condition::as_str));
        let mut when = When::default();
        for condition in Condition::ALL {
            let key = condition.as_str();
            match condition {
                Condition::Arguments => {
                    when.arguments = self.optional(&map, key, Self::predicates).unwrap_or_default();
                }
                Condition::Body => {
                    when.body = self.optional(&map, key, Self::predicates).unwrap_or_default();
                }
                Condition::Destination | Condition::DestinationNot => {
                    let hosts = self.optional(&map, key, |reader, node| reader.one_or_more(node, Self::host));
                    when.names.extend(hosts.map(|hosts| (condition, hosts)));
                }
                Condition::Provenance => {
                    when.provenance = self.optional(&map, key, Self::provenance);
                }
                Condition::Route
                | Condition::Operation
                | Condition::Dialect
                | Condition::Method
                | Condition::Identity
                | Condition::Tenant
                | Condition::Model
                | Condition::Tool
                | Condition::Data
                | Condition::After => {
                    let patterns = self.optional(&map, key, Self::patterns);
                    when.names.extend(patterns.map(|patterns| (condition, patterns)));
                }
            }
        }
        Some(when)
    }

    pub(super) fn unless(&mut self, node: &Node) -> Option<When> {
        let before = self.errors.count();
        let when = self.when(node)?;
        let map = self.map(node)?;
        if when.is_empty() && self.errors.count() == before {
            let message = "an `unless` without conditions excepts every call";
            self.add(PolicyErrorCode::Value, node.place, message.into());
        }
        for condition in NOT_EXCEPTIONS {
            if let Some(node) = map.get(condition.as_str()) {
                let message = format!(
                    "a call may have several, and one would except it: write `destination_not`, or a rule before this \
                     one that allows, instead of `{condition}`"
                );
                self.inside(condition.as_str(), |reader| {
                    reader.add(PolicyErrorCode::Value, node.place, message);
                });
            }
        }
        for (key, predicates) in [("arguments", &when.arguments), ("body", &when.body)] {
            let wild = predicates.iter().any(|predicate| predicate.at.is_wild());
            if let Some(node) = map.get(key).filter(|_| wild) {
                let message = "a path with `*` may meet several values, and one would except the call";
                self.inside(key, |reader| reader.add(PolicyErrorCode::Value, node.place, message.into()));
            }
        }
        Some(when)
    }

    fn provenance(&mut self, node: &Node) -> Option<Provenance> {
        let map = self.map(node)?;
        self.known_keys(&map, &["min_length", "from", "argument"]);
        let length = |reader: &mut Self, node: &Node| reader.integer(node, STRETCH_MIN..=STRETCH_MAX);
        let path = |reader: &mut Self, node: &Node| {
            let expected = "a path to values, as `/path` or `/**/url`";
            reader.parsed(node, expected, ValuePath::parse)
        };
        let paths = |reader: &mut Self, node: &Node| match &node.kind {
            Kind::List(items) => {
                reader.count(node, items.len(), PREDICATES_MAX);
                Some(reader.each(items, path))
            }
            _ => Some(vec![path(reader, node)?]),
        };
        Some(Provenance {
            min_length: self.optional(&map, "min_length", length),
            from: self.optional(&map, "from", Self::patterns),
            argument: self.optional(&map, "argument", paths),
        })
    }

    fn patterns(&mut self, node: &Node) -> Option<Vec<String>> {
        self.one_or_more(node, Self::pattern)
    }

    fn one_or_more(
        &mut self,
        node: &Node,
        read: impl Fn(&mut Self, &Node) -> Option<String>,
    ) -> Option<Vec<String>> {
        match &node.kind {
            Kind::List(items) => {
                self.count(node, items.len(), PATTERNS_MAX);
                Some(self.each(items, read))
            }
            Kind::Text(_) | Kind::Word(_) => Some(vec![read(self, node)?]),
            Kind::Map(_) | Kind::Broken => {
                self.wrong_kind(node, "a pattern or a list of patterns");
                None
            }
        }
    }

    pub(super) fn pattern(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        if !(1..=PATTERN_CHARS_MAX).contains(&text.chars().count())
            || text.matches('*').count() > STARS_MAX
            || text.contains(is_unsafe)
        {
            let message = format!(
                "a pattern has 1 to {PATTERN_CHARS_MAX} characters, at most {STARS_MAX} of them `*`, \
                 and no control characters"
            );
            self.add(PolicyErrorCode::Value, node.place, message);
            return None;
        }
        Some(text.into())
    }

    /// Addresses look like numbers to some readers of YAML, so they come as words too.
    fn host(&mut self, node: &Node) -> Option<String> {
        let text = match &node.kind {
            Kind::Word(word) => word,
            _ => self.text(node)?,
        };
        if HostPattern::parse(text).is_none() {
            let message = format!("expected {}", HostPattern::EXPECTED);
            self.add(PolicyErrorCode::Value, node.place, message);
            return None;
        }
        Some(text.to_owned())
    }

    fn predicates(&mut self, node: &Node) -> Option<Vec<Predicate>> {
        let items = self.list(node)?;
        self.count(node, items.len(), PREDICATES_MAX);
        Some(self.each(items, Self::predicate))
    }

    fn predicate(&mut self, node: &Node) -> Option<Predicate> {
        let map = self.map(node)?;
        let mut keys = vec!["at"];
        keys.extend(Test::KEYS);
        self.known_keys(&map, &keys);
        let at = self.required(&map, "at", |reader, node| {
            reader.parsed(node, "a path to values, as `/path` or `/**/url`", ValuePath::parse)
        });
        let tests: Vec<&str> = Test::KEYS.into_iter().filter(|key| map.get(key).is_some()).collect();
        let [key] = tests.as_slice() else {
            let message = format!("expected `at` and one of `{}`", Test::KEYS.join("`, `"));
            self.add(PolicyErrorCode::Value, node.place, message);
            return None;
        };
        let test = self.test(&map, key)?;
        Some(Predicate { at: at?, test })
    }

    fn test(&mut self, map: &Map<'_>, key: &str) -> Option<Test> {
        let scalars = |reader: &mut Self, node: &Node| {
            let items = reader.list(node)?;
            reader.count(node, items.len(), VALUES_MAX);
            Some(reader.each(items, Self::scalar))
        };
        Some(match key {
            "equals" => Test::Equals(self.required(map, key, Self::scalar)?),
            "in" => Test::In(self.required(map, key, scalars)?),
            "not_in" => Test::NotIn(self.required(map, key, scalars)?),
            "matches" => Test::Matches(self.required(map, key, Self::patterns)?),
            "not_matches" => Test::NotMatches(self.required(map, key, Self::patterns)?),
            "exists" => Test::Exists(self.required(map, key, Self::boolean)?),
            "greater_than" => Test::GreaterThan(self.required(map, key, Self::number)?),
            "less_than" => Test::LessThan(self.required(map, key, Self::number)?),
            "longer_than" => {
                let read =
                    |reader: &mut Self, node: &Node| reader.integer(node, 0..=NUMBER_MAX.unsigned_abs());
                Test::LongerThan(self.required(map, key, read)?)
            }
            "sql" => Test::Sql(self.required(map, key, Self::sql)?),
            "sql_not" => Test::SqlNot(self.required(map, key, Self::sql)?),
            "tenant" => Test::Tenant(
                self.required(map, key, |reader, node| reader.choice(node, Tenancy::ALL, Tenancy::as_str))?,
            ),
            "contains" => Test::Contains(self.required(map, key, Self::value_text)?),
            _ => return None,
        })
    }

    fn sql(&mut self, node: &Node) -> Option<SqlTerms> {
        let map = self.map(node)?;
        self.known_keys(&map, &SQL_KEYS);
        let statements = self.required(&map, "statements", |reader, node| {
            let items = reader.list(node)?;
            reader.count(node, items.len(), SqlStatement::ALL.len());
            let word =
                |reader: &mut Self, item: &Node| reader.choice(item, SqlStatement::ALL, SqlStatement::as_str);
            let statements = reader.each(items, word);
            if statements.iter().enumerate().any(|(at, one)| statements[..at].contains(one)) {
                reader.add(PolicyErrorCode::Value, node.place, "the same stands in it twice".into());
            }
            Some(statements)
        });
        let require_selector = self.optional(&map, "require_selector", Self::boolean);
        let rows_max = self
            .optional(&map, "rows_max", |reader, node| reader.integer(node, 1..=NUMBER_MAX.unsigned_abs()));
        let mut patterns = |key| self.optional(&map, key, Self::patterns);
        let [tables, tables_not, functions] = ["tables", "tables_not", "functions"].map(&mut patterns);
        let statements = statements?;
        Some(SqlTerms { statements, require_selector, rows_max, tables, tables_not, functions })
    }

    fn scalar(&mut self, node: &Node) -> Option<Scalar> {
        match &node.kind {
            Kind::Text(_) => self.value_text(node).map(Scalar::Text),
            Kind::Word(word) if word == "null" => Some(Scalar::Null),
            Kind::Word(word) if word == "true" => Some(Scalar::Boolean(true)),
            Kind::Word(word) if word == "false" => Some(Scalar::Boolean(false)),
            Kind::Word(word) if integer(word).is_some() => integer(word).map(Scalar::Number),
            _ => {
                self.wrong_kind(node, "text, a whole number, `true`, `false` or `null`");
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match &node.kind {
            Kind::Word(word) if word == "true" => Some(true),
            Kind::Word(word) if word == "false" => Some(false),
            _ => {
                self.wrong_kind(node, "`true` or `false`");
                None
            }
        }
    }

    fn number(&mut self, node: &Node) -> Option<i64> {
        let number = match &node.kind {
            Kind::Word(word) => integer(word),
            _ => None,
        };
        if number.is_none() {
            self.wrong_kind(node, "a whole number in plain decimal digits, at most 2^53 - 1");
        }
        number
    }

    fn value_text(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        if !(1..=VALUE_CHARS_MAX).contains(&text.chars().count()) {
            let message = format!("expected 1 to {VALUE_CHARS_MAX} characters");
            self.add(PolicyErrorCode::Value, node.place, message);
            return None;
        }
        Some(text.into())
    }
}

/// A number as every reader of YAML and JSON writes it.
fn integer(word: &str) -> Option<i64> {
    let number: i64 = word.parse().ok()?;
    (number.abs() <= NUMBER_MAX && number.to_string() == word).then_some(number)
}
