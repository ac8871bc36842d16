//! What a CSV body must be: spec/contracts/csv.md, version 1.
//!
//! A contract is parsed once and shared. All of its errors are reported together, each with its JSON Pointer;
//! nothing in it is ignored.

mod members;
mod parse;
mod pattern;
mod tree;

#[cfg(test)]
mod tests;

use thiserror::Error;

use super::{Form, Limits, value::DecimalBuf};
pub(super) use pattern::Pattern;

/// Most bytes of a contract's text.
pub const CONTRACT_BYTES_MAX: usize = 1024 * 1024;

/// A contract that holds.
#[derive(Debug)]
pub struct Contract {
    pub(super) form: Form,
    pub(super) limits: Limits,
    pub(super) order: Order,
    pub(super) extra_columns: ExtraColumns,
    pub(super) formulas: Formulas,
    pub(super) rows_min: u64,
    pub(super) unique_values_max: usize,
    pub(super) columns: Vec<Column>,
}

/// One thing that is wrong with a contract.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
#[error("`{pointer}`: {what}")]
pub struct ContractError {
    /// JSON Pointer (RFC 6901) of the value that is wrong; empty for the whole.
    pub pointer: String,
    pub what: String,
}

impl Contract {
    /// Parses a contract, or says everything that is wrong with it; the list is never empty.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<ContractError>> {
        parse::contract(text)
    }

    /// How bodies are written.
    pub fn form(&self) -> Form {
        self.form
    }

    /// What one body may cost.
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

/// Where the columns of the contract stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Exact,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtraColumns {
    Deny,
    Allow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Formulas {
    Block,
    Allow,
}

/// What is required of one column.
#[derive(Debug)]
pub(super) struct Column {
    pub name: Box<str>,
    pub kind: Kind,
    pub required: bool,
    pub unique: bool,
    /// Whether there is anything beyond type and presence to ask.
    pub more: bool,
    pub pattern: Option<Pattern>,
    pub allowed: Option<Allowed>,
    pub length_min: Option<u64>,
    pub length_max: Option<u64>,
}

/// The type of a column's values, with bounds on their amount.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Integer(Bounds<DecimalBuf>),
    Number(Bounds<DecimalBuf>),
    Boolean,
    /// Days, as [`super::value::day`] counts them.
    Date(Bounds<i64>),
    /// The bounds are texts that were parsed once to be sure.
    DateTime(Bounds<Box<[u8]>>),
}

/// Both inclusive.
#[derive(Debug)]
pub(super) struct Bounds<T> {
    pub min: Option<T>,
    pub max: Option<T>,
}

/// The values that a column may have.
#[derive(Debug)]
pub(super) struct Allowed {
    // INVARIANT: sorted.
    values: Vec<Box<[u8]>>,
}

impl Allowed {
    pub(super) fn new(mut values: Vec<Box<[u8]>>) -> Self {
        values.sort_unstable();
        Self { values }
    }

    pub(super) fn has(&self, value: &[u8]) -> bool {
        self.values.binary_search_by(|allowed| (**allowed).cmp(value)).is_ok()
    }
}
