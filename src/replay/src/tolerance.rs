//! Two JSON values, held against each other by what an operation tolerates.

use estoppel_evidence::Sha256;
use estoppel_policy::{Reach, Tolerance, Within};
use serde::Serialize;

use crate::exact::{Decimal, Exact, Number};
use crate::tally::{POINTERS_MAX, TOLERATED_MAX};

/// Most characters of the pointer of a difference that is tolerated.
pub const TOLERATED_POINTER_CHARS_MAX: usize = 1024;

/// What of a step was compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Answer,
    Request,
    Rows,
}

/// A difference that is tolerated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tolerated {
    pub at: String,
    /// By what kind of tolerance.
    pub by: &'static str,
    /// None: there is no such value.
    pub recorded: Option<Sha256>,
    pub found: Option<Sha256>,
}

/// By how much numbers differ that a tolerance does not reach.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Beyond {
    pub at: String,
    /// In decimals; absent for numbers on which nobody computes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The kind of tolerance that reaches furthest there.
    pub of: &'static str,
    /// As it is declared.
    pub within: String,
}

/// What differs between a recorded value and another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Found {
    /// The first places that are not tolerated.
    pub at: Vec<String>,
    /// Members, kinds or lengths of lists differ there, not values alone.
    pub is_shape: bool,
    pub beyond: Vec<Beyond>,
    /// The first that are.
    pub tolerated: Vec<Tolerated>,
    /// How many.
    pub tolerated_count: u64,
}

impl Found {
    /// Where they differ; `rules` say what may.
    pub fn of(recorded: &Exact, found: &Exact, rules: &[Tolerance]) -> Self {
        let mut walk = Walk { rules, path: String::new(), found: Self::default() };
        let reach: Vec<Reach> = rules.iter().map(|rule| rule.at.root()).collect();
        walk.value(&reach, Some(recorded), Some(found));
        walk.found
    }

    pub fn is_within(&self) -> bool {
        self.at.is_empty()
    }
}

struct Walk<'r> {
    rules: &'r [Tolerance],
    path: String,
    found: Found,
}

impl<'r> Walk<'r> {
    fn value(&mut self, reach: &[Reach], recorded: Option<&Exact>, found: Option<&Exact>) {
        if recorded == found {
            return;
        }
        let met: Vec<&'r Within> = self
            .rules
            .iter()
            .zip(reach)
            .filter(|(rule, reach)| rule.at.is_met(**reach))
            .map(|(rule, _)| &rule.within)
            .collect();
        let is_named = self.path.chars().count() <= TOLERATED_POINTER_CHARS_MAX;
        if let Some(within) = met.iter().find(|within| is_named && takes(within, recorded, found)) {
            self.tolerate(within.as_str(), recorded, found);
            return;
        }
        match (recorded, found) {
            (Some(Exact::Object(old)), Some(Exact::Object(new))) => {
                let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
                for name in names {
                    self.below(reach, name, old.get(name), new.get(name));
                }
            }
            (Some(Exact::List(old)), Some(Exact::List(new))) => {
                for place in 0..old.len().max(new.len()) {
                    self.below(reach, &place.to_string(), old.get(place), new.get(place));
                }
            }
            (Some(Exact::Number(Number::Decimal(old))), Some(Exact::Number(Number::Decimal(new)))) => {
                self.note(false);
                self.beyond(&met, old, new);
            }
            (Some(old), Some(new)) => {
                self.note(std::mem::discriminant(old) != std::mem::discriminant(new));
            }
            _ => self.note(true),
        }
    }

    fn below(&mut self, reach: &[Reach], name: &str, recorded: Option<&Exact>, found: Option<&Exact>) {
        let before = self.path.len();
        self.path.push('/');
        self.path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let reach: Vec<Reach> =
            self.rules.iter().zip(reach).map(|(rule, reach)| rule.at.step(*reach, name)).collect();
        self.value(&reach, recorded, found);
        self.path.truncate(before);
    }

    fn note(&mut self, is_shape: bool) {
        self.found.is_shape |= is_shape;
        if self.found.at.len() < POINTERS_MAX {
            self.found.at.push(self.path.clone());
        }
    }

    fn tolerate(&mut self, by: &'static str, recorded: Option<&Exact>, found: Option<&Exact>) {
        self.found.tolerated_count += 1;
        if self.found.tolerated.len() < TOLERATED_MAX {
            let at = self.path.clone();
            let (recorded, found) = (recorded.map(Exact::digest), found.map(Exact::digest));
            self.found.tolerated.push(Tolerated { at, by, recorded, found });
        }
    }

    fn beyond(&mut self, met: &[&Within], recorded: &Decimal, found: &Decimal) {
        let reaching = met.iter().filter_map(|within| Some((limit(within, recorded)?, *within)));
        let Some((_, within)) = reaching.max_by(|one, other| one.0.cmp(&other.0)) else { return };
        if self.found.beyond.len() == POINTERS_MAX {
            return;
        }
        let (Within::Absolute(amount) | Within::Relative(amount)) = within else { return };
        self.found.beyond.push(Beyond {
            at: self.path.clone(),
            by: recorded.distance(found).map(|distance| distance.to_string()),
            of: within.as_str(),
            within: amount.as_str().to_owned(),
        });
    }
}

/// The distance that a tolerance allows.
fn limit(within: &Within, recorded: &Decimal) -> Option<Decimal> {
    match within {
        Within::Absolute(amount) => Decimal::parse(amount.as_str()),
        Within::Relative(amount) => Decimal::parse(amount.as_str())?.part_of(recorded),
        Within::AnyOrder | Within::Ignored => None,
    }
}

fn takes(within: &Within, recorded: Option<&Exact>, found: Option<&Exact>) -> bool {
    match (within, recorded, found) {
        (Within::Ignored, ..) => true,
        (Within::AnyOrder, Some(Exact::List(old)), Some(Exact::List(new))) => sorted(old) == sorted(new),
        (
            Within::Absolute(_) | Within::Relative(_),
            Some(Exact::Number(Number::Decimal(old))),
            Some(Exact::Number(Number::Decimal(new))),
        ) => {
            let distance = old.distance(new);
            distance.is_some_and(|distance| limit(within, old).is_some_and(|limit| distance <= limit))
        }
        _ => false,
    }
}

fn sorted(items: &[Exact]) -> Vec<&Exact> {
    let mut items: Vec<&Exact> = items.iter().collect();
    items.sort_unstable();
    items
}

/// Puts rows whose order does not count into one: by what no tolerance reaches, then by all. Rows that are within are so not held
/// against others' for a value that may differ.
pub(crate) fn align(rows: &mut [Exact], rules: &[Tolerance]) {
    let masked = |row: &Exact| {
        let mut row = row.clone();
        let reach: Vec<Reach> = rules.iter().map(|rule| rule.at.step(rule.at.root(), "*")).collect();
        mask(&mut row, rules, &reach);
        row
    };
    rows.sort_by_cached_key(|row| (masked(row), row.clone()));
}

fn mask(value: &mut Exact, rules: &[Tolerance], reach: &[Reach]) {
    if rules.iter().zip(reach).any(|(rule, reach)| rule.at.is_met(*reach)) {
        *value = Exact::Null;
        return;
    }
    let step = |name: &str| -> Vec<Reach> {
        rules.iter().zip(reach).map(|(rule, reach)| rule.at.step(*reach, name)).collect()
    };
    match value {
        Exact::Object(members) => {
            for (name, value) in members {
                mask(value, rules, &step(name));
            }
        }
        Exact::List(items) => {
            for (place, item) in items.iter_mut().enumerate() {
                mask(item, rules, &step(&place.to_string()));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use estoppel_policy::{Amount, ValuePath};

    use super::*;

    fn rule(at: &str, within: Within) -> Tolerance {
        Tolerance { at: ValuePath::parse(at).unwrap(), within }
    }

    fn absolute(at: &str, amount: &str) -> Tolerance {
        rule(at, Within::Absolute(Amount::parse(amount).unwrap()))
    }

    fn relative(at: &str, amount: &str) -> Tolerance {
        rule(at, Within::Relative(Amount::parse(amount).unwrap()))
    }

    fn found(recorded: &str, now: &str, rules: &[Tolerance]) -> Found {
        let read = |text: &str| Exact::read(text.as_bytes()).unwrap();
        Found::of(&read(recorded), &read(now), rules)
    }

    /// Places that are not tolerated, and those that are.
    fn check(recorded: &str, now: &str, rules: &[Tolerance], at: &[&str], tolerated: &[&str]) {
        let found = found(recorded, now, rules);
        let within: Vec<&str> = found.tolerated.iter().map(|row| row.at.as_str()).collect();
        assert_eq!(
            (found.at.iter().map(String::as_str).collect::<Vec<_>>(), within),
            (at.to_vec(), tolerated.to_vec())
        );
    }

    #[test]
    fn numbers_are_within_an_amount_up_to_and_with_its_bound() {
        let cent = [absolute("/price", "0.01")];
        check(r#"{"price":1.10}"#, r#"{"price":1.11}"#, &cent, &[], &["/price"]);
        check(r#"{"price":0.3}"#, r#"{"price":0.31}"#, &cent, &[], &["/price"]);
        check(r#"{"price":1.10}"#, r#"{"price":1.1100000000000000000001}"#, &cent, &["/price"], &[]);
        check(r#"{"price":1.10}"#, r#"{"price":1.1}"#, &cent, &[], &[]);
        check(r#"{"price":-0.005}"#, r#"{"price":0.005}"#, &cent, &[], &["/price"]);
        check(r#"{"price":1}"#, r#"{"price":"1"}"#, &cent, &["/price"], &[]);
        check(r#"{"price":1}"#, "{}", &cent, &["/price"], &[]);
        check(r#"{"price":1,"n":1}"#, r#"{"price":1,"n":1.001}"#, &cent, &["/n"], &[]);
        check(r#"{"price":1e999999999}"#, r#"{"price":1e999999998}"#, &cent, &["/price"], &[]);
        check(r#"{"price":1e99999999999999999999}"#, r#"{"price":0}"#, &cent, &["/price"], &[]);
    }

    #[test]
    fn a_part_is_of_the_recorded_number() {
        let tenth = [relative("/*/n", "0.1")];
        check(r#"[{"n":100}]"#, r#"[{"n":110}]"#, &tenth, &[], &["/0/n"]);
        check(r#"[{"n":-100}]"#, r#"[{"n":-90}]"#, &tenth, &[], &["/0/n"]);
        check(r#"[{"n":110}]"#, r#"[{"n":122}]"#, &tenth, &["/0/n"], &[]);
        check(r#"[{"n":0}]"#, r#"[{"n":0.0000001}]"#, &tenth, &["/0/n"], &[]);
    }

    #[test]
    fn order_and_being_there_count_unless_they_are_declared_not_to() {
        let any = [rule("/tags", Within::AnyOrder)];
        check(r#"{"tags":[1,"a",1.0]}"#, r#"{"tags":["a",1,1]}"#, &any, &[], &["/tags"]);
        check(r#"{"tags":[1,1,2]}"#, r#"{"tags":[1,2,2]}"#, &any, &["/tags/1"], &[]);
        check(r#"{"tags":[1]}"#, r#"{"tags":[1,1]}"#, &any, &["/tags/1"], &[]);
        let trace = [rule("/**/trace", Within::Ignored)];
        check(r#"{"a":{"trace":1}}"#, r#"{"a":{},"trace":[2]}"#, &trace, &[], &["/a/trace", "/trace"]);
        check(r#"{"trace":1}"#, r#"{"trace":1,"b":2}"#, &trace, &["/b"], &[]);
    }

    #[test]
    fn what_is_beyond_says_how_far_and_digests_are_of_both_values() {
        let rules = [absolute("/n", "0.1"), relative("/n", "0.2")];
        let beyond = found(r#"{"n":10}"#, r#"{"n":12.5}"#, &rules).beyond;
        assert_eq!(
            beyond,
            [Beyond { at: "/n".into(), by: Some("2.5".into()), of: "relative", within: "0.2".into() }]
        );
        let within = found(r#"{"n":10}"#, r#"{"n":12}"#, &rules).tolerated;
        let digest = |text: &str| Some(Sha256::of(text.as_bytes()));
        let expected =
            Tolerated { at: "/n".into(), by: "relative", recorded: digest("1e1"), found: digest("12e0") };
        assert_eq!(within, [expected]);
    }

    #[test]
    fn nothing_computes_with_numbers_of_more_digits_than_may_differ() {
        let (long, other) = ("1".repeat(8_000_000), "2".repeat(8_000_000));
        let rules = [absolute("/n", "0.1"), relative("/n", "0.2")];
        let beyond = found(&format!(r#"{{"n":{long}}}"#), &format!(r#"{{"n":{other}}}"#), &rules).beyond;
        let expected = Beyond { at: "/n".into(), by: None, of: "relative", within: "0.2".into() };
        assert_eq!(beyond, [expected]);
    }

    #[test]
    fn a_pointer_too_long_to_be_named_is_not_tolerated() {
        let name = "x".repeat(TOLERATED_POINTER_CHARS_MAX);
        let value = |n: u8| format!(r#"{{"{name}":{n}}}"#);
        let all = [rule("/*", Within::Ignored)];
        assert!(!found(&value(1), &value(2), &all).is_within());
    }

    #[test]
    fn rows_in_any_order_are_paired_by_what_may_not_differ() {
        let read = |text: &str| match Exact::read(text.as_bytes()) {
            Some(Exact::List(rows)) => rows,
            other => panic!("{other:?}"),
        };
        let rules = [absolute("/*/price", "0.5")];
        let (mut then, mut now) = (
            read(r#"[{"id":1,"price":2.0},{"id":2,"price":1.9}]"#),
            read(r#"[{"id":2,"price":2.1},{"id":1,"price":1.8}]"#),
        );
        align(&mut then, &rules);
        align(&mut now, &rules);
        let found = Found::of(&Exact::List(then), &Exact::List(now), &rules);
        assert!(found.is_within(), "{found:?}");
        assert_eq!(found.tolerated_count, 2);
    }
}
