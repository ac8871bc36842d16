//! The lines of a bundle: steps L1 to L12 of SPEC section 11.

use super::{Options, SIGNATURES, Signatures};
use crate::check::{Check, Pending};
use crate::container::Files;
use crate::entry::{Entry, LINE_BYTES_MAX};
use crate::hash::Hash;
use crate::keys::Keys;
use crate::manifest::Manifest;
use crate::reason::Reason;
use crate::report::{Finding, Report, Step};
use crate::run::{Owner, Run, Signing};
use crate::tally::Tally;

/// L1 to L12, line after line.
pub(super) struct Lines<'a> {
    keys: &'a Keys,
    owner: Owner<'a>,
    signatures: Option<&'a [u8]>,
    options: &'a Options<'a>,
    pending: Pending<'a>,
    pub run: Run,
    pub tally: Tally,
    /// What S3 has against the seal.
    pub seal: Result<(), String>,
    pub first_key: Option<Hash>,
    skipped: u64,
}

impl<'a> Lines<'a> {
    pub(super) fn new(files: &Files<'a>, manifest: &'a Manifest<'_>, options: &'a Options<'a>) -> Self {
        Lines {
            keys: &manifest.keys,
            owner: Owner { run: manifest.run.as_bytes(), iss: manifest.iss.as_bytes() },
            signatures: files.get(SIGNATURES).map(|file| file.bytes),
            options,
            pending: Pending::new(options.executor),
            run: Run::default(),
            tally: Tally::default(),
            seal: Ok(()),
            first_key: None,
            skipped: 0,
        }
    }

    pub(super) fn read(&mut self, text: &'a [u8]) -> Step {
        let outcome = self.read_lines(text);
        // What is put aside belongs to lines before the one that stopped the reading, or to that line's L10.
        self.pending.settle()?;
        outcome
    }

    fn read_lines(&mut self, mut rest: &'a [u8]) -> Step {
        loop {
            let (line, after) = split_line(rest).map_err(|finding| finding.at(self.run.size))?;
            self.read_line(line)?;
            if self.pending.is_full() || self.run.size.is_multiple_of(8192) {
                self.pending.settle()?;
                (self.options.progress)(self.run.size);
            }
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
        }
    }

    fn read_line(&mut self, line: &'a [u8]) -> Step {
        let seq = self.run.size;
        let entry = Entry::read(line).map_err(|finding| finding.at(seq))?; // L1 to L4
        let key = self.run.admit(&entry, self.owner, self.keys)?; // L5 to L9
        self.first_key.get_or_insert(key.id);
        if self.run.signing == Signing::Each {
            let signature = signature_at(self.signatures.unwrap_or_default(), seq).ok_or_else(|| {
                let detail = format!("expected 64 bytes at {} of `{SIGNATURES}`, found its end", seq * 64);
                Finding::new(Reason::SignatureMissing, detail).at(seq)
            })?;
            match self.options.signatures {
                Signatures::Each => {
                    self.pending.push(Check::new(&key.public, line, *signature, seq, None)); // L10
                }
                Signatures::CheckpointOnly => self.skipped += 1,
            }
        }
        if let Some(seal) = self.run.take(&entry, self.keys)? {
            self.seal = seal; // L11, L12
        }
        self.tally.add(&entry, seq);
        Ok(())
    }

    /// Puts what was read into the report, then goes on or stops.
    pub(super) fn report_to(self, report: &mut Report, outcome: Step) -> Step<Self> {
        report.entries = outcome.as_ref().err().and_then(|finding| finding.seq).unwrap_or(self.run.size);
        report.signatures_verified = self.pending.verified;
        report.signatures_skipped = self.skipped;
        outcome.map(|()| self)
    }
}

/// L1, as far as it is about where the line ends.
fn split_line(text: &[u8]) -> Step<(&[u8], &[u8])> {
    let refuse = |detail: &str| Err(Finding::new(Reason::LineLength, detail));
    if text.is_empty() {
        return refuse("expected at least one line, found an empty file");
    }
    let window = text.get(..=LINE_BYTES_MAX).unwrap_or(text);
    match window.iter().position(|byte| *byte == b'\n').and_then(|at| text.split_at_checked(at)) {
        Some((line, [_, after @ ..])) => Ok((line, after)),
        _ if window.len() > LINE_BYTES_MAX => {
            refuse(&format!("expected a line of at most {LINE_BYTES_MAX} bytes, found a longer one"))
        }
        _ => refuse("expected a line feed after the last line, found the end"),
    }
}

fn signature_at(signatures: &[u8], seq: u64) -> Option<&[u8; 64]> {
    let from = usize::try_from(seq).ok()?.checked_mul(64)?;
    signatures.get(from..)?.first_chunk()
}
