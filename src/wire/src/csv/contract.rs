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
    Integer(IntegerBounds),
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

/// Bounds of integers, also in a form for values that [`super::value::small_integer`] takes.
#[derive(Debug)]
pub(super) struct IntegerBounds {
    pub exact: Bounds<DecimalBuf>,
    /// What is beyond an `i64` is beyond every small integer, so it may as well stand at the end.
    pub small_min: i64,
    pub small_max: i64,
}

/// The values that a column may have.
#[derive(Debug)]
pub(super) struct Allowed {
    // INVARIANT: sorted.
    values: Vec<Box<[u8]>>,
    /// Fingerprints of all values, if they are few and short.
    short: Option<Vec<Fingerprint>>,
}

/// Few enough to be compared one by one.
const SHORT_VALUES_MAX: usize = 8;

impl Allowed {
    pub(super) fn new(mut values: Vec<Box<[u8]>>) -> Self {
        values.sort_unstable();
        let few = values.len() <= SHORT_VALUES_MAX;
        let short = values.iter().map(|value| fingerprint(value)).collect::<Option<_>>().filter(|_| few);
        Self { values, short }
    }

    #[inline]
    pub(super) fn has(&self, value: &[u8]) -> bool {
        match &self.short {
            Some(short) => fingerprint(value).is_some_and(|value| short.contains(&value)),
            None => self.values.binary_search_by(|allowed| (**allowed).cmp(value)).is_ok(),
        }
    }
}

/// All bytes of a value of 1 to 8, and how many they are: two values never share one.
type Fingerprint = (u64, usize);

#[inline(always)]
fn fingerprint(value: &[u8]) -> Option<Fingerprint> {
    let word = match value {
        [first, .., last] if value.len() <= 3 => {
            let middle = value.get(1).copied().unwrap_or_default();
            u64::from_le_bytes([*first, middle, *last, 0, 0, 0, 0, 0])
        }
        [only] => u64::from(*only),
        _ if value.len() <= 8 => {
            let (head, tail) = (value.first_chunk()?, value.last_chunk()?);
            u64::from(u32::from_le_bytes(*head)) << 32 | u64::from(u32::from_le_bytes(*tail))
        }
        _ => return None,
    };
    Some((word, value.len()))
}
