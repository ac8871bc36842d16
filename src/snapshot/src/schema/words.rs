//! The letters of the catalog as words.

use serde_json::Value;

type Letters = [(&'static str, &'static str)];

pub(super) const KIND: &Letters = &[
    ("r", "table"),
    ("p", "partitioned_table"),
    ("v", "view"),
    ("m", "materialized_view"),
    ("f", "foreign_table"),
    ("c", "composite_type"),
    ("S", "sequence"),
];
pub(super) const PERSISTENCE: &Letters = &[("p", "permanent"), ("u", "unlogged"), ("t", "temporary")];
pub(super) const IDENTITY: &Letters = &[("a", "always"), ("d", "by_default")];
pub(super) const GENERATED: &Letters = &[("s", "stored"), ("v", "virtual")];
pub(super) const CONSTRAINT: &Letters = &[
    ("c", "check"),
    ("f", "foreign_key"),
    ("p", "primary_key"),
    ("u", "unique"),
    ("t", "trigger"),
    ("x", "exclusion"),
];
pub(super) const ACTION: &Letters =
    &[("a", "no_action"), ("r", "restrict"), ("c", "cascade"), ("n", "set_null"), ("d", "set_default")];
pub(super) const MATCH: &Letters = &[("f", "full"), ("p", "partial"), ("s", "simple")];
pub(super) const ENABLED: &Letters = &[("O", "origin"), ("D", "disabled"), ("R", "replica"), ("A", "always")];
pub(super) const COMMAND: &Letters =
    &[("r", "select"), ("a", "insert"), ("w", "update"), ("d", "delete"), ("*", "all")];
pub(super) const ROUTINE: &Letters =
    &[("f", "function"), ("p", "procedure"), ("a", "aggregate"), ("w", "window")];
pub(super) const VOLATILE: &Letters = &[("i", "immutable"), ("s", "stable"), ("v", "volatile")];
pub(super) const PARALLEL: &Letters = &[("s", "safe"), ("r", "restricted"), ("u", "unsafe")];
pub(super) const TYPE: &Letters = &[("d", "domain"), ("e", "enum"), ("r", "range")];

/// The word for a letter; a letter that nobody knows stays what it is.
pub(super) fn word(letters: &Letters, letter: &str) -> Value {
    letters.iter().find(|(known, _)| *known == letter).map_or(letter, |(_, word)| word).into()
}
