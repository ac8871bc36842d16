//! One body, judged against a contract while it streams.

mod judge;
mod unique;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{Contract, Finding, FirstRow, Reader, Summary, Violation};
use crate::as_u64;
use judge::Judge;

/// Judges one body.
#[derive(Debug)]
pub struct Check {
    reader: Reader,
    judge: Judge,
}

impl Check {
    pub fn new(contract: Arc<Contract>) -> Self {
        let reader = Reader::new(contract.form, contract.limits);
        Self { reader, judge: Judge::new(contract) }
    }

    /// Takes all of `chunk`, or stops at the first violation, which is the answer from then on.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Violation> {
        self.reader.feed(chunk, &mut self.judge).map_err(|violation| self.named(violation))
    }

    /// The body is over: whether all of it was what the contract wants.
    pub fn finish(mut self) -> Result<Summary, Violation> {
        let summary = self.reader.finish(&mut self.judge).map_err(|violation| self.named(violation))?;
        if summary.rows < self.judge.contract.rows_min {
            let row = summary.rows + 1 + u64::from(self.judge.contract.form.first_row == FirstRow::Names);
            let offset = summary.bytes;
            return Err(Violation { finding: Finding::RowsMin, row, column: None, name: None, offset });
        }
        Ok(summary)
    }

    /// Offset behind the last row that was accepted.
    pub fn settled(&self) -> u64 {
        self.reader.settled()
    }

    /// Bytes kept on the heap for this body alone.
    pub fn held_bytes(&self) -> u64 {
        as_u64(size_of::<Self>()) + self.reader.held_bytes() + self.judge.held_bytes()
    }

    /// Without a header, columns have the contract's names.
    fn named(&self, mut violation: Violation) -> Violation {
        if self.judge.contract.form.first_row == FirstRow::Data && violation.name.is_none() {
            let column = violation.column.and_then(|column| usize::try_from(column).ok()?.checked_sub(1));
            let listed = column.and_then(|column| self.judge.contract.columns.get(column));
            violation.name = listed.map(|column| column.name.clone());
        }
        violation
    }
}
