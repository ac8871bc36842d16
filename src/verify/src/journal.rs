//! Judges a journal: segments and frames (SPEC section 12), the steps of section 13.
//!
//! One segment is in memory at a time. What is kept between segments is the frontier of the instance tree and a
//! few hundred bytes for each open run, about 200 for each sealed one.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::bundle::{Options, Signatures, check_tree};
use crate::check::{Check, Pending};
use crate::crc::crc32;
use crate::entry::Entry;
use crate::hash::Hash;
use crate::json::View;
use crate::keys::{Keys, Usage};
use crate::note::Checkpoint;
use crate::reason::Reason;
use crate::report::{
    Anchoring, Authenticity, Completeness, Counters, Finding, Integrity, Report, SigningKey, Standing, Step,
    Stop, Subject, Unreadable,
};
use crate::run::{Owner, Run, Signing};
use crate::schema::{Kind, Slot};
use crate::tree::Tree;
use crate::trust::{check_revocation, read_trust, unusable};

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
    report.iss = Some(iss.clone());

    let mut log = Log::new(&iss, &keys, [files.checkpoint, files.against]);
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
    if log.blobs.is_empty() {
        if let Some(note) = files.checkpoint {
            report.checkpoint_size = Some(log.check_note(note)?).max(report.checkpoint_size); // J8, J9
        }
        if let Some(note) = files.against {
            log.check_note(note)?;
        }
    } else {
        let detail = "no entry follows that names the blob";
        return Err(Finding::new(Reason::BlobMismatch, detail).at_index(log.tree.size()).into());
    }
    report.verdicts.integrity = Integrity::Ok;
    report.verdicts.authenticity =
        if options.trust.is_some() { Authenticity::Trusted } else { Authenticity::SelfAsserted };
    report.verdicts.completeness =
        if report.runs_sealed == report.runs { Completeness::Complete } else { Completeness::Open };
    report.verdicts.anchoring = if files.against.is_some() { Anchoring::Anchored } else { Anchoring::Absent };
    Ok(())
}

fn unreadable(name: &str, source: std::io::Error) -> Unreadable {
    Unreadable { what: format!("segment `{name}`"), source }
}

const HEADER_BYTES: usize = 256;
const MAGIC: [u8; 8] = *b"PEFSEG0\n";
/// Bytes that an instance name has room for.
const NAME_BYTES_MAX: usize = 202;

/// The header of a segment.
struct Header {
    name: String,
    first: u64,
    before: Hash,
    iss: String,
}

/// J1, for all segments.
fn read_headers(segments: &mut dyn Segments) -> Result<Vec<Header>, Stop> {
    let mut names = segments.names();
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

fn read_header(name: &str, bytes: &[u8]) -> Result<Header, String> {
    let bytes: &[u8; HEADER_BYTES] = bytes
        .first_chunk()
        .ok_or_else(|| format!("expected a header of 256 bytes, found {}", bytes.len()))?;
    let (covered, crc) = bytes.split_last_chunk::<4>().ok_or("no CRC")?;
    if crc32(&[covered]) != u32::from_le_bytes(*crc) {
        return Err("the header's CRC-32 is wrong".to_owned());
    }
    let (magic, rest) = covered.split_first_chunk::<8>().ok_or("no magic")?;
    let (first, rest) = rest.split_first_chunk::<8>().ok_or("no first index")?;
    let (before, rest) = rest.split_first_chunk::<32>().ok_or("no hash")?;
    let (length, field) = rest.split_first_chunk::<2>().ok_or("no name")?;
    let length = usize::from(u16::from_le_bytes(*length));
    if *magic != MAGIC || length == 0 || length > NAME_BYTES_MAX {
        return Err("the header is not that of a segment".to_owned());
    }
    let (iss, fill) = field.split_at_checked(length).ok_or("the instance name is too long")?;
    let iss = std::str::from_utf8(iss).map_err(|_| "the instance name is not UTF-8")?;
    if fill.iter().any(|byte| *byte != 0) {
        return Err("expected zeros after the instance name".to_owned());
    }
    let first = u64::from_le_bytes(*first);
    if name != format!("{first:020}.seg") {
        return Err(format!("its first index is {first}, so expected the name `{first:020}.seg`"));
    }
    Ok(Header { name: name.to_owned(), first, before: Hash(*before), iss: iss.to_owned() })
}

const FRAME_HEADER_BYTES: usize = 17;
const ENTRY: u8 = 1;
const BLOB: u8 = 2;
const CHECKPOINT: u8 = 3;
const END: u8 = 4;

/// A frame that is whole, of a known type, and has the right CRC.
struct Frame<'a> {
    kind: u8,
    index: u64,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The length that the frame at the start of `bytes` states, if a frame of a known type could start there.
    fn length(bytes: &[u8]) -> Option<usize> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let whole = length > 0 && bytes.len().checked_sub(FRAME_HEADER_BYTES)? >= length;
        (whole && matches!(rest.first(), Some(ENTRY..=END))).then_some(length)
    }

    /// Reads the frame at the start of `bytes`; gives what follows it.
    fn read(bytes: &'a [u8]) -> Option<(Frame<'a>, &'a [u8])> {
        let length = Self::length(bytes)?;
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>()?;
        let (payload, rest) = rest.split_at_checked(length)?;
        let (covered, crc) = header.split_last_chunk::<4>()?;
        if crc32(&[covered, payload]) != u32::from_le_bytes(*crc) {
            return None;
        }
        let [_, _, _, _, kind, index @ ..] = covered else { return None };
        Some((Frame { kind: *kind, index: u64::from_le_bytes(index.try_into().ok()?), payload }, rest))
    }
}

/// CRC bytes that the search for a later frame may cost. When they are used up, the journal is called damaged and
/// not torn: the answer that claims less.
const SEARCH_BYTES_MAX: usize = 1 << 30;

/// Whether a frame that is whole, of a known type and with the right CRC starts anywhere after the start of `bytes`.
fn frame_follows(bytes: &[u8], search_bytes_max: usize) -> bool {
    let mut left = search_bytes_max;
    let mut rest = bytes;
    while let Some((_, after)) = rest.split_first() {
        rest = after;
        let Some(length) = Frame::length(rest) else { continue };
        if left < length || Frame::read(rest).is_some() {
            return true;
        }
        left -= length;
    }
    false
}

fn is_zero(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<16>();
    blocks.iter().all(|block| u128::from_le_bytes(*block) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// The log as far as it has been read.
struct Log<'k> {
    iss: &'k str,
    keys: &'k Keys,
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
    checkpoint_size: Option<u64>,
}

impl<'k> Log<'k> {
    fn new(iss: &'k str, keys: &'k Keys, notes: [Option<&[u8]>; 2]) -> Self {
        let tree = Tree::default();
        let sizes =
            notes.into_iter().flatten().filter_map(|note| Checkpoint::read(note).ok()).map(|note| note.size);
        Log {
            iss,
            keys,
            last: Hash([0; 32]),
            runs: HashMap::new(),
            runs_sealed: 0,
            counters: Counters::default(),
            blobs: Vec::new(),
            wanted: sizes.map(|size| (size, tree.root())).collect(),
            signed: Vec::new(),
            skipped: 0,
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
        while !closed && !rest.first_chunk().map_or(is_zero(rest), |length: &[u8; 4]| *length == [0; 4]) {
            let index = self.tree.size();
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
        let refuse = |detail: &str| {
            let detail = format!("segment `{}`: {detail}", header.name);
            Err(Finding::new(Reason::IndexMismatch, detail).at_index(self.tree.size()))
        };
        if !is_zero(rest) {
            return refuse("expected only zeros after the last frame, found other bytes");
        }
        if !closed && !last {
            return refuse("expected an end frame, because another segment follows, found none");
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
        self.check_blobs(&entry).map_err(|finding| finding.at(seq))?;
        let owner = Owner { run: entry.raw(Slot::Run), iss: self.iss.as_bytes() };
        let run = self.runs.entry(run_number(owner.run)).or_default();
        let judged = judge_entry(run, &entry, owner, self.keys, index, signature.is_some());
        let (key, check) = judged.map_err(|finding| finding.at(seq))?;
        match signature {
            Some(signature) if check && options.signatures == Signatures::Each => {
                pending.push(Check::new(&key.public, line, *signature, seq, Some(index))); // L10
            }
            Some(_) => self.skipped += 1,
            None => {}
        }
        let id = key.id;
        if let Some(seal) = run.take(&entry, self.keys).map_err(|finding| finding.at(seq))? {
            seal.map_err(|detail| Finding::new(Reason::SealMismatch, detail).at(seq))?; // J7
            self.runs_sealed += 1;
            if let Some(open) = run.close() {
                add(&mut self.counters, &open.counters);
            }
        }
        self.note_signer(Usage::Receipt, id);
        self.tree.push(entry.hash);
        self.last = entry.hash;
        let size = self.tree.size();
        if self.wanted.iter().any(|(wanted, _)| *wanted == size) {
            let root = self.tree.root();
            self.wanted.iter_mut().filter(|(wanted, _)| *wanted == size).for_each(|(_, found)| *found = root);
        }
        Ok(())
    }

    /// J5: the entry names each blob that stands before it.
    fn check_blobs(&mut self, entry: &Entry<'_>) -> Step {
        if self.blobs.is_empty() {
            return Ok(());
        }
        let named = match entry.kind {
            Kind::Call => {
                entry.optional(Slot::Sse).map(View::of).map(|sse| sse.text_of("nodes").into_owned())
            }
            _ => None,
        };
        let named = named.and_then(|named| Hash::of_text("sha256:", named.as_bytes()));
        match self.blobs.iter().find(|blob| Some(**blob) != named) {
            Some(blob) => {
                let detail = format!(
                    "a blob with SHA-256 {} stands before an entry that does not name it",
                    blob.hex()
                );
                Err(Finding::new(Reason::BlobMismatch, detail))
            }
            None => {
                self.blobs.clear();
                Ok(())
            }
        }
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
        check_revocation(key, Some(checkpoint.size.saturating_sub(1)))?;
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
        let root = self.wanted.iter().find(|(wanted, _)| *wanted == size).map(|(_, root)| *root);
        check_tree(&checkpoint, size, root.unwrap_or(self.last))?;
        Ok(size)
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
    index: u64,
    signed: bool,
) -> Step<(&'k crate::keys::Key, bool)> {
    let key = run.admit(entry, owner, keys)?; // L5 to L9
    let iss = std::str::from_utf8(owner.iss).ok();
    if key.iss.as_deref() != iss {
        let detail =
            format!("key `{}` is not listed for instance `{}`", key.id.hex(), iss.unwrap_or_default());
        return Err(Finding::new(Reason::KeyMismatch, detail));
    }
    check_revocation(key, Some(index))?;
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
