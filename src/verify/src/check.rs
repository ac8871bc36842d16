//! Signatures of entries, gathered so that the caller may verify them in parallel (step L10 of SPEC section 11).
//!
//! This crate starts no threads. Lines are read in order; the check of each signature is put aside and handed to
//! the caller's [`Executor`] in batches. The outcome is that of checking line by line: a batch is always settled
//! before anything that comes after it in the order of steps is reported, and its first failure decides.

use crate::keys::{ENTRY_TYPE, PublicKey, pae};
use crate::reason::Reason;
use crate::report::{Finding, Step};

/// Signatures that are put aside at most.
const BATCH: usize = 4096;

/// One signature over one line.
pub struct Check<'a> {
    key: &'a PublicKey,
    line: &'a [u8],
    signature: [u8; 64],
    seq: u64,
    index: Option<u64>,
    verifies: Option<bool>,
}

impl<'a> Check<'a> {
    pub(crate) fn new(
        key: &'a PublicKey,
        line: &'a [u8],
        signature: [u8; 64],
        seq: u64,
        index: Option<u64>,
    ) -> Self {
        Check { key, line, signature, seq, index, verifies: None }
    }

    /// Verifies; once is enough.
    pub fn run(&mut self) {
        if self.verifies.is_none() {
            self.verifies = Some(self.key.verifies(&pae(ENTRY_TYPE, self.line), &self.signature));
        }
    }
}

/// Runs checks, in any order and on any thread. What it leaves out is run afterwards, so a faulty executor can make
/// a verification slow but not wrong.
pub trait Executor {
    fn run(&self, checks: &mut [Check<'_>]);
}

/// One check after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequential;

impl Executor for Sequential {
    fn run(&self, checks: &mut [Check<'_>]) {
        checks.iter_mut().for_each(Check::run);
    }
}

/// The checks that are put aside.
pub(crate) struct Pending<'a> {
    checks: Vec<Check<'a>>,
    executor: &'a dyn Executor,
    pub verified: u64,
}

impl<'a> Pending<'a> {
    pub(crate) fn new(executor: &'a dyn Executor) -> Self {
        Pending { checks: Vec::new(), executor, verified: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.checks.len() >= BATCH
    }

    pub(crate) fn push(&mut self, check: Check<'a>) {
        self.checks.push(check);
    }

    /// Runs what is put aside.
    pub(crate) fn settle(&mut self) -> Step {
        if self.checks.is_empty() {
            return Ok(());
        }
        self.executor.run(&mut self.checks);
        for mut check in self.checks.drain(..) {
            check.run();
            if check.verifies != Some(true) {
                let detail = format!(
                    "the signature of this entry does not verify with key `{}`, which the entry names",
                    check.key.id().hex()
                );
                let finding = Finding::new(Reason::SignatureInvalid, detail).at(check.seq);
                return Err(match check.index {
                    Some(index) => finding.at_index(index),
                    None => finding,
                });
            }
            self.verified += 1;
        }
        Ok(())
    }
}
