//! Judges a journal: the steps of SPEC section 13, in their order.
//!
//! One segment is in memory at a time. What is kept between segments is the frontier of the instance tree and a
//! few hundred bytes for each open run, about 200 for each sealed one.

mod beginning;

use std::borrow::Cow;
use std::collections::HashMap;

use crate::bundle::{Options, Signatures, check_tree};
use crate::check::{Check, Pending};
use crate::entry::Entry;
use crate::hash::Hash;
use crate::keys::{Keys, Usage};
use crate::note::Checkpoint;
use crate::reason::Reason;
use crate::report::{
    Anchoring, Authenticity, Begins, Completeness, Counters, Finding, Integrity, Report, SigningKey,
    Standing, Step, Stop, Subject, Unreadable,
};
use crate::run::{Owner, Run, Signing};
use crate::schema::{Kind, Slot};
use crate::segment::{
    BLOB, CHECKPOINT, END, ENTRY, Frame, HEADER_BYTES, Header, SEARCH_BYTES_MAX, frame_follows, is_fill,
    is_unfinished, read_header,
};
use crate::tree::Tree;
use crate::trust::{check_revocation, read_trust, unusable};
use crate::view::View;
use beginning::Beginning;

/// The segments of a journal, one at a time.
pub trait Segments {
    /// File names, in any order.
    fn names(&self) -> Vec<String>;

    /// The first 256 bytes, or all when there are fewer.
    ///
    /// # Errors
    /// The segment cannot be read.
    fn header(&mut self, name: &str) -> std::io::Result<Vec<u8>>;

    /// All bytes.
    ///
    /// # Errors
    /// The segment cannot be read.
    fn bytes(&mut self, name: &str) -> std::io::Result<Cow<'_, [u8]>>;
}

/// Segments that are in memory: names and bytes.
impl Segments for Vec<(String, Vec<u8>)> {
    fn names(&self) -> Vec<String> {
        self.iter().map(|(name, _)| name.clone()).collect()
    }

    fn header(&mut self, name: &str) -> std::io::Result<Vec<u8>> {
        let bytes = self.bytes(name)?;
        Ok(bytes.get(..HEADER_BYTES).unwrap_or(&bytes).to_vec())
    }

    fn bytes(&mut self, name: &str) -> std::io::Result<Cow<'_, [u8]>> {
        match self.iter().find(|(found, _)| found == name) {
            Some((_, bytes)) => Ok(Cow::Borrowed(bytes)),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// What lies beside the segments, and what the reader has from elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct JournalFiles<'a> {
    /// The file `checkpoint`.
    pub checkpoint: Option<&'a [u8]>,
    /// The file `trust.json`; `Options::trust` takes its place.
    pub trust: Option<&'a [u8]>,
    /// The file `beginning.json`, where the oldest segments were deleted.
    pub beginning: Option<&'a [u8]>,
    /// An instance checkpoint that the reader has kept elsewhere: the journal must still contain what it signs.
    pub against: Option<&'a [u8]>,
}

/// Judges a journal.
///
/// # Errors
/// Only when a segment could not be read; everything that is wrong with the journal is in the report.
pub fn verify_journal(
    segments: &mut dyn Segments,
    files: JournalFiles<'_>,
    options: &Options<'_>,
) -> Result<Report, Unreadable> {
    let mut report = Report::new(Subject::Journal);
    report.trust_given = options.trust.is_some();
    let outcome = judge(segments, files, options, &mut report);
    report.conclude(outcome)
}

fn judge(
    segments: &mut dyn Segments,
    files: JournalFiles<'_>,
    options: &Options<'_>,
    report: &mut Report,
) -> Result<(), Stop> {
    let trust = options.trust.or(files.trust).ok_or_else(|| {
        unusable("the journal has no `trust.json` and no trust document was given".to_owned())
    })?;
    let keys = read_trust(trust).map_err(unusable)?;
    let headers = read_headers(segments)?; // J1
    let iss = headers.first().map(|header| header.iss.clone()).unwrap_or_default();
    let keys = keys.of_instance(&iss);
    report.iss = Some(iss.clone());

    let beginning = files.beginning.map(|bytes| Beginning::read(bytes, &iss, &keys)).transpose()?; // G1 to G5
    let headers = pass_over(headers, beginning.as_ref(), report)?;
    let mut log = Log::new(&iss, &keys, beginning, [files.checkpoint, files.against]);
    let mut outcome = Ok(());
    for (at, header) in headers.iter().enumerate() {
        let last = at + 1 == headers.len();
        let bytes = segments.bytes(&header.name).map_err(|source| unreadable(&header.name, source))?;
        let mut pending = Pending::new(options.executor);
        outcome = log.read_segment(header, &bytes, last, options, &mut pending); // J2 to J7
        // What is put aside belongs to bytes before those that stopped the reading.
        outcome = pending.settle().and(outcome);
        report.signatures_verified += pending.verified;
        if outcome.is_err() {
            break;
        }
        (options.progress)(log.tree.size());
    }
    log.report_to(report, options.trust.is_some());
    outcome?;
    log.check_end(files, report)?;
    report.verdicts.integrity = Integrity::Ok;
    if log.unsigned <= report.checkpoint_size.unwrap_or_default() {
        report.verdicts.authenticity =
            if options.trust.is_some() { Authenticity::Trusted } else { Authenticity::SelfAsserted };
    }
    // The file `checkpoint` can be set back together with the segments; only one from elsewhere says more.
    report.verdicts.anchoring = Anchoring::Absent;
    if files.against.is_some() {
        report.verdicts.anchoring = Anchoring::Anchored;
        report.verdicts.completeness = Completeness::Complete;
    }
    Ok(())
}

/// Leaves out the segments that the beginning says were deleted: where they are still there, a deletion was cut off.
fn pass_over(
    mut headers: Vec<Header>,
    beginning: Option<&Beginning>,
    report: &mut Report,
) -> Step<Vec<Header>> {
    let Some(beginning) = beginning else { return Ok(headers) };
    let before = headers.len();
    headers.retain(|header| header.first >= beginning.size);
    let passed_over = (before - headers.len()) as u64; // usize fits.
    report.begins = Some(Begins { passed_over, ..beginning.facts() });
    if headers.is_empty() {
        let detail = format!("expected a segment that starts at {}, found none", beginning.size);
        return Err(Finding::new(Reason::IndexMismatch, detail).at_index(beginning.size));
    }
    Ok(headers)
}

fn unreadable(name: &str, source: std::io::Error) -> Unreadable {
    Unreadable { what: format!("segment `{name}`"), source }
}

/// J1, for all segments.
fn read_headers(segments: &mut dyn Segments) -> Result<Vec<Header>, Stop> {
    let mut names = segments.names();
    names.retain(|name| !is_unfinished(name));
    names.sort_unstable();
    let mut headers: Vec<Header> = Vec::new();
    for name in names {
        let bytes = segments.header(&name).map_err(|source| unreadable(&name, source))?;
        let refuse =
            |detail: String| Finding::new(Reason::SegmentHeader, format!("segment `{name}`: {detail}"));
        let header = read_header(&name, &bytes).map_err(refuse)?;
        if let Some(first) = headers.first()
            && first.iss != header.iss
        {
            return Err(refuse(format!("expected instance `{}`, found `{}`", first.iss, header.iss)).into());
        }
        headers.push(header);
    }
    if headers.is_empty() {
        return Err(Finding::new(Reason::SegmentHeader, "expected at least one segment, found none").into());
    }
    Ok(headers)
}

/// The log as far as it has been read.
struct Log<'k> {
    iss: &'k str,
    keys: &'k Keys,
    beginning: Option<Beginning>,
    tree: Tree,
    last: Hash,
    runs: HashMap<u128, Run>,
    runs_sealed: u64,
    counters: Counters,
    /// Content of blob frames that the next entry must name.
    blobs: Vec<Hash>,
    /// Sizes at which the root is wanted later, and the roots.
    wanted: Vec<(u64, Hash)>,
    signed: Vec<(Usage, Hash)>,
    skipped: u64,
    /// Entries up to the last one whose own signature was not verified. Only a checkpoint vouches for them.
    unsigned: u64,
    checkpoint_size: Option<u64>,
}

impl<'k> Log<'k> {
    fn new(iss: &'k str, keys: &'k Keys, beginning: Option<Beginning>, notes: [Option<&[u8]>; 2]) -> Self {
        let before = beginning.as_ref().map(Beginning::log);
        let (tree, last) = before.unwrap_or((Tree::default(), Hash([0; 32])));
        let runs = beginning.iter().flat_map(Beginning::runs);
        let runs = runs.map(|(id, run)| (run_number(id.as_bytes()), run)).collect();
        let sizes =
            notes.into_iter().flatten().filter_map(|note| Checkpoint::read(note).ok()).map(|note| note.size);
        Log {
            iss,
            keys,
            beginning,
            last,
            runs,
            runs_sealed: 0,
            counters: Counters::default(),
            blobs: Vec::new(),
            wanted: sizes.map(|size| (size, tree.root())).collect(),
            signed: Vec::new(),
            skipped: 0,
            unsigned: 0,
            checkpoint_size: None,
            tree,
        }
    }

    /// J2 to J7 for one segment.
    fn read_segment<'s>(
        &mut self,
        header: &Header,
        bytes: &'s [u8],
        last: bool,
        options: &Options<'_>,
        pending: &mut Pending<'s>,
    ) -> Step
    where
        'k: 's,
    {
        let index = self.tree.size();
        if header.first != index || header.before != self.last {
            let detail = format!(
                "segment `{}` starts at {} after entry {}, expected {index} after {}",
                header.name,
                header.first,
                header.before.hex(),
                self.last.hex()
            );
            return Err(Finding::new(Reason::IndexMismatch, detail).at_index(index));
        }
        let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let mut closed = false;
        while !is_fill(rest) {
            let index = self.tree.size();
            if closed {
                let detail = "expected only zeros after the end frame, found other bytes";
                return Err(Finding::new(Reason::IndexMismatch, detail).at_index(index));
            }
            let Some((frame, after)) = Frame::read(rest) else {
                return Err(bad_frame(rest, last).at_index(index));
            };
            rest = after;
            self.read_frame(&frame, options, pending).map_err(|finding| finding.at_index(index))?;
            closed = frame.kind == END;
            if pending.is_full() {
                pending.settle()?;
                (options.progress)(index);
            }
        }
        if !closed && !last {
            let detail = format!(
                "expected an end frame in segment `{}`, because another segment follows, found none",
                header.name
            );
            return Err(Finding::new(Reason::IndexMismatch, detail).at_index(self.tree.size()));
        }
        Ok(())
    }

    fn read_frame<'s>(&mut self, frame: &Frame<'s>, options: &Options<'_>, pending: &mut Pending<'s>) -> Step
    where
        'k: 's,
    {
        let index = self.tree.size();
        let shape =
            |what: &str| Finding::new(Reason::FrameInvalid, format!("the frame is not that of {what}"));
        if frame.index != index {
            let detail = format!("expected a frame with index {index}, found {}", frame.index);
            return Err(Finding::new(Reason::IndexMismatch, detail));
        }
        match frame.kind {
            ENTRY => {
                let (signature, line) = match frame.payload {
                    [0, line @ ..] => (None, line),
                    [64, rest @ ..] => {
                        let (signature, line) =
                            rest.split_first_chunk::<64>().ok_or_else(|| shape("an entry"))?;
                        (Some(signature), line)
                    }
                    _ => return Err(shape("an entry")),
                };
                self.read_entry(line, signature, options, pending)
            }
            BLOB => {
                let (stated, content) =
                    frame.payload.split_first_chunk::<32>().ok_or_else(|| shape("a blob"))?;
                let found = Hash::of(content);
                if found != Hash(*stated) {
                    let detail = format!(
                        "expected a blob with SHA-256 {}, found {}",
                        Hash(*stated).hex(),
                        found.hex()
                    );
                    return Err(Finding::new(Reason::BlobMismatch, detail)); // J5
                }
                self.blobs.push(found);
                Ok(())
            }
            CHECKPOINT => self.read_checkpoint(frame.payload),
            _ if frame.payload == [0] => Ok(()),
            _ => Err(shape("an end")),
        }
    }

    /// J4, J5 and J7.
    fn read_entry<'s>(
        &mut self,
        line: &'s [u8],
        signature: Option<&[u8; 64]>,
        options: &Options<'_>,
        pending: &mut Pending<'s>,
    ) -> Step
    where
        'k: 's,
    {
        let index = self.tree.size();
        let entry = Entry::read(line)?; // L1 to L4
        let seq = entry.seq();
        let owner = Owner { run: entry.raw(Slot::Run), iss: self.iss.as_bytes() };
        let run = self.runs.entry(run_number(owner.run)).or_default();
        let judged = judge_entry(run, &entry, owner, self.keys, signature.is_some());
        let (key, check) = judged.map_err(|finding| finding.at(seq))?;
        match signature {
            Some(signature) if check && options.signatures == Signatures::Each => {
                pending.push(Check::new(&key.public, line, *signature, seq, Some(index))); // L10
            }
            Some(_) => {
                self.skipped += 1;
                self.unsigned = index + 1;
            }
            None => self.unsigned = index + 1,
        }
        check_revocation(key, Some(index)).map_err(|finding| finding.at(seq))?;
        let id = key.id;
        let seal = run.take(&entry, self.keys).map_err(|finding| finding.at(seq))?; // L11, L12
        check_blobs(&mut self.blobs, &entry).map_err(|finding| finding.at(seq))?;
        if let Some(seal) = seal {
            seal.map_err(|detail| Finding::new(Reason::SealMismatch, detail).at(seq))?; // J7
            self.runs_sealed += 1;
            if let Some(open) = run.close() {
                add(&mut self.counters, &open.counters);
            }
        }
        self.note_signer(Usage::Receipt, id);
        if let Some(beginning) = &mut self.beginning {
            beginning.see(&entry, index);
        }
        self.tree.push(entry.hash);
        self.last = entry.hash;
        let size = self.tree.size();
        if self.wanted.iter().any(|(wanted, _)| *wanted == size) {
            let root = self.tree.root();
            self.wanted.iter_mut().filter(|(wanted, _)| *wanted == size).for_each(|(_, found)| *found = root);
        }
        Ok(())
    }

    /// J6.
    fn read_checkpoint(&mut self, note: &[u8]) -> Step {
        let checkpoint = Checkpoint::read_of(note, self.iss)
            .map_err(|detail| Finding::new(Reason::CheckpointMalformed, detail))?;
        check_tree(&checkpoint, self.tree.size(), self.tree.root())?;
        self.check_signer(&checkpoint)?;
        self.checkpoint_size = Some(checkpoint.size);
        Ok(())
    }

    /// T3, and that the key was not revoked by then.
    fn check_signer(&mut self, checkpoint: &Checkpoint<'_>) -> Step {
        let key = checkpoint
            .signer(self.keys, self.iss)
            .map_err(|detail| Finding::new(Reason::CheckpointSignature, detail))?;
        if let Some(newest) = checkpoint.size.checked_sub(1) {
            check_revocation(key, Some(newest))?;
        }
        self.note_signer(Usage::Checkpoint, key.id);
        Ok(())
    }

    /// J8 and J9: a checkpoint from outside of the segments. Gives its size.
    fn check_note(&mut self, note: &[u8]) -> Step<u64> {
        let checkpoint = Checkpoint::read_of(note, self.iss)
            .map_err(|detail| Finding::new(Reason::CheckpointMalformed, detail))?;
        self.check_signer(&checkpoint)?;
        let size = checkpoint.size;
        if size > self.tree.size() {
            let detail = format!("a checkpoint signs {size} entries, the journal has {}", self.tree.size());
            return Err(Finding::new(Reason::JournalTruncated, detail));
        }
        if let Some(beginning) = self.beginning.as_ref().filter(|beginning| size < beginning.size) {
            let detail = format!(
                "a checkpoint signs {size} entries, and the journal begins after {}: the segments before were deleted",
                beginning.size
            );
            return Err(Finding::new(Reason::JournalBeginsLater, detail));
        }
        let root = self.wanted.iter().find(|(wanted, _)| *wanted == size).map(|(_, root)| *root);
        check_tree(&checkpoint, size, root.unwrap_or(self.last))?;
        Ok(size)
    }

    /// J8 and J9 for the file `checkpoint` and the checkpoint that the reader has kept; and that no blob is left over.
    fn check_end(&mut self, files: JournalFiles<'_>, report: &mut Report) -> Step {
        let end = self.tree.size();
        if !self.blobs.is_empty() {
            let detail = "no entry follows that names the blob";
            return Err(Finding::new(Reason::BlobMismatch, detail).at_index(end));
        }
        for (what, note) in
            [("the file `checkpoint`", files.checkpoint), ("the checkpoint from elsewhere", files.against)]
        {
            let Some(note) = note else { continue };
            let size = self.check_note(note).map_err(|finding| {
                let detail = format!("{what}: {}", finding.detail);
                Finding { detail, ..finding }.at_index(end)
            })?;
            report.checkpoint_size = Some(size).max(report.checkpoint_size);
        }
        // G6
        let key = self.beginning.as_ref().map(|beginning| beginning.check_recorded(self.keys, end));
        if let Some(key) = key.transpose()?.flatten() {
            let algorithm = key.public.algorithm();
            let standing = if report.trust_given { Standing::Trusted } else { Standing::SelfAsserted };
            report.note_key(SigningKey { id: key.id, algorithm, usage: Usage::Manifest, standing });
        }
        Ok(())
    }

    fn note_signer(&mut self, usage: Usage, id: Hash) {
        if !self.signed.contains(&(usage, id)) {
            self.signed.push((usage, id));
        }
    }

    /// Puts what was read into the report.
    fn report_to(&self, report: &mut Report, trusted: bool) {
        report.entries = self.tree.size();
        report.root = Some(self.tree.root());
        report.runs = self.runs.values().filter(|run| run.size > 0).count() as u64; // usize fits.
        report.runs_sealed = self.runs_sealed;
        report.counters = self.counters;
        for open in self.runs.values().filter_map(|run| run.open.as_ref()) {
            add(&mut report.counters, &open.counters);
        }
        report.signatures_skipped = self.skipped;
        report.checkpoint_size = self.checkpoint_size;
        let standing = if trusted { Standing::Trusted } else { Standing::SelfAsserted };
        for (usage, id) in &self.signed {
            if let Some(key) = self.keys.find(*id, *usage) {
                let algorithm = key.public.algorithm();
                report.note_key(SigningKey { id: *id, algorithm, usage: *usage, standing });
            }
        }
    }
}

/// J2 for bytes that are not a frame.
fn bad_frame(bytes: &[u8], last: bool) -> Finding {
    if last && !frame_follows(bytes, SEARCH_BYTES_MAX) {
        let detail =
            "the last write was cut short: what follows is no whole frame, and no frame comes after it";
        return Finding::new(Reason::JournalTorn, detail);
    }
    let detail =
        "expected a frame that is whole, of a known type and with the right CRC-32, found other bytes";
    Finding::new(Reason::FrameInvalid, detail)
}

/// L5 to L10 as far as they need no curve. Gives the key, and whether there is a signature to check.
fn judge_entry<'k>(
    run: &mut Run,
    entry: &Entry<'_>,
    owner: Owner<'_>,
    keys: &'k Keys,
    signed: bool,
) -> Step<(&'k crate::keys::Key, bool)> {
    let key = run.admit(entry, owner, keys)?; // L5 to L9
    match (run.signing, signed) {
        (Signing::Each, false) => {
            let detail = "expected a signature, because the run says `sign` is `each`, found none";
            Err(Finding::new(Reason::SignatureMissing, detail))
        }
        (Signing::Checkpoint, true) => {
            let detail = "expected no signature, because the run says `sign` is `checkpoint`, found one";
            Err(Finding::new(Reason::SignatureSurplus, detail))
        }
        (_, signed) => Ok((key, signed)),
    }
}

/// J5: the entry names each blob that stands before it.
fn check_blobs(blobs: &mut Vec<Hash>, entry: &Entry<'_>) -> Step {
    if blobs.is_empty() {
        return Ok(());
    }
    let sse = entry.optional(Slot::Sse).filter(|_| entry.kind == Kind::Call).map(View::of);
    let named = sse.and_then(|sse| Hash::of_text("sha256:", sse.text_of("nodes").as_bytes()));
    match blobs.iter().find(|blob| Some(**blob) != named) {
        Some(blob) => {
            let detail =
                format!("a blob with SHA-256 {} stands before an entry that does not name it", blob.hex());
            Err(Finding::new(Reason::BlobMismatch, detail))
        }
        None => {
            blobs.clear();
            Ok(())
        }
    }
}

/// The 128 bits of a run id in its text form.
fn run_number(text: &[u8]) -> u128 {
    text.iter()
        .filter_map(|digit| char::from(*digit).to_digit(16))
        .fold(0, |number, digit| number << 4 | u128::from(digit))
}

fn add(sum: &mut Counters, more: &Counters) {
    sum.calls += more.calls;
    sum.allow += more.allow;
    sum.repair += more.repair;
    sum.hold += more.hold;
    sum.block += more.block;
    sum.interrupted += more.interrupted;
    sum.incomplete += more.incomplete;
}

#[cfg(test)]
mod tests;
