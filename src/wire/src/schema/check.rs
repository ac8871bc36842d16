//! One check: the tokenizer, and the machine that it drives.

pub(super) mod machine;

use std::sync::Arc;

use machine::Machine;

use super::{Cause, HashKey, Schema, Violation};
use crate::json::{Limits, Tokenizer};

/// Bounds on judging one text. Each has a violation of its own, see [`super::Cap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckLimits {
    /// Bounds of the tokenizer.
    pub json: Limits,
    /// Member names that no schema knows, in all open objects together. Default 65,536; takes up to 128 bytes each.
    pub names_max: usize,
    /// Bytes of a string that must be there whole, for `pattern` or `format`. Default 1 MiB.
    pub text_bytes_max: usize,
    /// Elements of open arrays with `uniqueItems` together. Default 65,536; takes up to 128 bytes each.
    pub unique_items_max: usize,
    /// Tasks on one open value. Default 256.
    pub branches_max: usize,
    /// Notes of what was evaluated, for `unevaluatedProperties` and `unevaluatedItems`. Default 65,536.
    pub evaluated_max: usize,
    /// Steps of one text beyond [`STEPS_PER_BYTE`] for each byte of its member names, where a step is one byte of a name put to
    /// one pattern or one task. Default 134,217,728, which takes a few tenths of a second.
    pub cost_max: u64,
}

/// Steps that each byte of a member name pays for. What one value costs beside its names is bounded by the schema's branches.
pub const STEPS_PER_BYTE: u64 = 64;

impl Default for CheckLimits {
    fn default() -> Self {
        Self {
            json: Limits::default(),
            names_max: 65_536,
            text_bytes_max: 1 << 20,
            unique_items_max: 65_536,
            branches_max: 256,
            evaluated_max: 65_536,
            cost_max: 1 << 27,
        }
    }
}

/// Judges one JSON text after another by one schema.
#[derive(Debug)]
pub struct Check {
    tokenizer: Tokenizer<machine::Place>,
    machine: Machine,
    violation: Option<Violation>,
}

impl Check {
    /// A check that is ready for its first text. `key` is drawn at random by the caller.
    pub fn new(schema: Arc<Schema>, limits: CheckLimits, key: HashKey) -> Self {
        let machine = Machine::new(schema, limits, key);
        Self { tokenizer: Tokenizer::new(limits.json, Some(machine.root())), machine, violation: None }
    }

    /// Takes the next chunk. A violation stays until [`Self::reset`].
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Violation> {
        if let Some(violation) = &self.violation {
            return Err(violation.clone());
        }
        match self.tokenizer.feed(chunk, &mut self.machine) {
            Ok(()) if self.machine.is_content() => Ok(()),
            fed => Err(self.violate(fed)),
        }
    }

    /// The text is over. `Ok`: it is a whole JSON text and valid.
    pub fn finish(&mut self) -> Result<(), Violation> {
        if let Some(violation) = &self.violation {
            return Err(violation.clone());
        }
        match self.tokenizer.finish(&mut self.machine) {
            Ok(()) if self.machine.is_content() => Ok(()),
            finished => Err(self.violate(finished)),
        }
    }

    /// Begins a new text and keeps the buffers.
    pub fn reset(&mut self) {
        self.machine.reset();
        self.tokenizer.reset(Some(self.machine.root()));
        self.violation = None;
    }

    #[cold]
    fn violate(&mut self, result: Result<(), crate::Defect>) -> Violation {
        let violation = self.machine.violation(self.tokenizer.token_offset()).unwrap_or_else(|| {
            let defect = result.err().unwrap_or(crate::Defect::NotEvaluated); // one of the two is why we are here
            let offset = self.tokenizer.offset();
            let instance = self.machine.instance(usize::MAX);
            Violation { cause: Cause::Json(defect), instance, schema: Box::default(), missing: None, offset }
        });
        self.violation = Some(violation.clone());
        violation
    }

    /// Memory held in buffers, for tests of the promise that it is bounded.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.machine.held_bytes()
    }

    /// Of these, what tasks take.
    #[cfg(test)]
    pub(super) fn task_bytes(&self) -> usize {
        self.machine.task_bytes()
    }
}
