//! CSV by RFC 4180, pushed in chunks and judged strictly.
//!
//! | part | takes | gives |
//! |---|---|---|
//! | [`Reader`] | bytes | fields to a [`Visitor`], or the first [`Violation`] of the grammar |
//! | [`Contract`] | a JSON text by spec/contracts/csv.md | what a body must be |
//! | [`Check`] | a contract and bytes | a [`Summary`], or the first [`Violation`] of grammar or contract |
//! | [`Repair`] | bytes | the bytes after the three edits that may be made to CSV, and a list of them |
//!
//! Where RFC 4180 leaves room and readers disagree, this one refuses: see spec/contracts/csv.md, which has
//! the list, every finding and what they mean.
//!
//! Words: a *row* is what the RFC calls a record; a line end inside quotes does not end it. A *field* is one
//! cell of a row as written, its *value* what is left without quotes.
//!
//! Promises:
//! - Which finding comes first, and its row, column and offset, do not depend on how the bytes were cut.
//! - State is bounded by [`Limits`], and by the contract for unique values. Once warm, nothing is allocated but
//!   by the set of unique values; a field is copied only when a chunk ends inside it or it has doubled quotes.
//! - A violation stays: nothing after it is read.
//!
//! Left to others: content codings and charset parameters, whether a repair is granted, and what a finding
//! means for the call.

mod check;
mod contract;
mod finding;
mod header;
mod reader;
mod repair;
mod scan;
mod value;

#[cfg(test)]
mod tests;

pub use check::Check;
pub use contract::{CONTRACT_BYTES_MAX, Contract, ContractError};
pub use finding::{Finding, Violation};
pub use header::Header;
pub use reader::{Field, Misfit, Reader, Visitor};
pub use repair::{EDITS_MAX, Edit, EditClass, Repair};

/// What stands between two fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delimiter {
    #[default]
    Comma,
    Semicolon,
    Tab,
    Bar,
}

impl Delimiter {
    /// The one byte that it is.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Bar => b'|',
        }
    }
}

/// What row 1 is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstRow {
    /// The names of the columns.
    #[default]
    Names,
    /// Data like every other row.
    Data,
}

/// Whether the last row must have a line end. RFC 4180 leaves it open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FinalNewline {
    #[default]
    Optional,
    /// Finds bodies that were cut inside their last row.
    Required,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub delimiter: Delimiter,
    pub first_row: FirstRow,
    pub final_newline: FinalNewline,
}

/// Bounds on one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a field as written, its quotes included. Default 64 KiB. This is what a [`Reader`] may keep.
    pub field_bytes_max: u32,
    /// Bytes of a row as written, without its line end. Default 1 MiB.
    pub record_bytes_max: u32,
    /// Fields of the first row. Default 1,024.
    pub columns_max: u32,
    /// Rows, without the header. Default 100 million.
    pub rows_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            field_bytes_max: 64 * 1024,
            record_bytes_max: 1024 * 1024,
            columns_max: 1024,
            rows_max: 100_000_000,
        }
    }
}

/// What a whole body was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Without the header.
    pub rows: u64,
    pub columns: u32,
    pub bytes: u64,
}
