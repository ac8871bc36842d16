//! Reading a journal back: what is there, what was torn, what goes on.
//!
//! Every frame's checksum, every entry's hash and chain link, every blob's digest and every checkpoint's root is
//! recomputed; signatures are left to verifiers. Three endings are told apart. *Clean*: only zeros follow the last
//! frame. *Torn*: what follows is no frame and no frame stands behind it, so it is the rest of a write that was cut
//! off and never acknowledged; it is cut away, and an entry says so. *Corrupt*: anything else; nothing is touched.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use estoppel_evidence::entry::{Durability, JournalRecover, RunClass, Sign, VerdictAction};
use estoppel_evidence::hash::{Commit, Leaf};
use estoppel_evidence::note::Checkpoint;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, Instance, KeyId, Root, RunId, Sha256, Use};

use crate::beginning::Beginning;
use crate::chain::{Chain, Place};
use crate::error::JournalError;
use crate::held::{Found, Holds};
use crate::index::HashIndex;
use crate::killed::{KilledTarget, KilledTargets};
use crate::layout::{Layout, told};
use crate::run::{RunState, RunSummary, SEALED_MAX};
use crate::seal::BUNDLES_MAX;
use crate::segment::{Frame, FrameKind, FrameReader, HEADER_BYTES, Header, file_name, first_of};
use crate::spill::SpillKey;
use crate::storage::{Storage, StorageFile, read_full};

/// Zeros are written in pieces of this size.
const ZEROS: usize = 1 << 16;

/// A checkpoint that was published, and where.
pub(crate) struct Published<'a> {
    pub checkpoint: &'a Checkpoint,
    pub path: &'a Path,
}

/// What the journal is held against while it is read.
pub(crate) struct Expected<'a> {
    pub instance: &'a Instance,
    pub published: Vec<Published<'a>>,
    /// Records of a left-over spill file that may have become entries already.
    pub spilled: HashSet<SpillKey>,
    /// Runs whose seal has a smaller log index have their bundles.
    pub bundled: u64,
    /// What was before the first segment.
    pub beginning: Option<Beginning>,
}

/// What `run.open` of the newest run named.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub policy: Sha256,
    pub config: Sha256,
}

/// The last segment, if it can take more.
pub(crate) struct Tail {
    pub file: Box<dyn StorageFile>,
    pub offset: u64,
    pub bytes: u64,
}

/// What was read back.
pub(crate) struct Recovered {
    pub segments: Vec<u64>,
    pub tail: Option<Tail>,
    pub index: HashIndex,
    pub chains: HashMap<RunId, Chain>,
    pub sealed: VecDeque<RunSummary>,
    pub last_leaf: Option<Leaf>,
    pub last_seal: Option<Leaf>,
    /// What was cut off.
    pub cut: Option<JournalRecover>,
    /// Size that the newest checkpoint frame signs.
    pub checkpoint_size: u64,
    pub opening: Option<Opening>,
    /// Records of the spill file that are entries.
    pub seen: HashSet<SpillKey>,
    /// Runs that get no more entries.
    pub sealed_ids: HashSet<RunId>,
    /// Sealed runs whose bundle may not have been written.
    pub unbundled: Vec<RunId>,
    /// Calls that still wait for people.
    pub held: Vec<Found>,
    /// What operators have stopped and not let go on.
    pub killed: Vec<KilledTarget>,
}

/// Reads the journal. Cuts a torn tail; changes nothing else and nothing at all after an error.
pub(crate) fn recover(
    storage: &dyn Storage,
    layout: &Layout,
    expected: Expected<'_>,
    index: HashIndex,
) -> Result<Recovered, JournalError> {
    let from = expected.beginning.as_ref().map_or(0, |beginning| beginning.size);
    let firsts = segments(storage, layout, from)?;
    let mut scan = Scan::new(expected, index, layout)?;
    let mut tail = None;
    let mut cut = None;
    for (ordinal, first) in firsts.iter().enumerate() {
        let last = ordinal + 1 == firsts.len();
        let path = layout.segments_dir().join(file_name(*first));
        let io = |what: &'static str| {
            let path = path.clone();
            move |source| JournalError::Io { what, path, source }
        };
        let file = if last { storage.open_write(&path) } else { storage.open(&path) }.map_err(io("open"))?;
        let mut reader = FrameReader::new(&*file).map_err(io("read"))?;
        let ending = scan.segment(&mut reader, &path, ordinal, *first)?;
        let bytes = reader.bytes;
        match ending {
            Ending::Closed => {}
            Ending::Open { .. } if !last => {
                return Err(scan.corrupt(&path, 0, "the segment is not closed, and another follows it"));
            }
            Ending::Open { offset } => tail = Some(Tail { file, offset, bytes }),
            Ending::Torn { offset, end } => {
                if !last {
                    return Err(scan.corrupt(&path, offset, "no frame, and another segment follows"));
                }
                scan.may_cut()?;
                cut = Some(cut_tail(&*file, &path, offset, end, scan.index.size())?);
                tail = Some(Tail { file, offset, bytes });
            }
        }
    }
    scan.finish(firsts, tail, cut)
}

/// What the entries before some segment add up to.
pub(crate) struct Folded {
    /// Roots of the full subtrees of the instance tree.
    pub frontier: Vec<Root>,
    /// Runs that have more entries from there on.
    pub chains: HashMap<RunId, Chain>,
    pub head: Option<Leaf>,
    pub last_seal: Option<Leaf>,
    pub opening: Option<Opening>,
}

/// Reads the segments before the one that starts with entry `to`, or those that are left of them. Changes nothing.
pub(crate) fn fold(
    storage: &dyn Storage,
    layout: &Layout,
    instance: &Instance,
    beginning: Option<&Beginning>,
    to: u64,
) -> Result<Folded, JournalError> {
    let from = beginning.map_or(0, |beginning| beginning.size);
    let expected = Expected {
        instance,
        published: Vec::new(),
        spilled: HashSet::new(),
        bundled: 0,
        beginning: beginning.cloned(),
    };
    let mut scan = Scan::new(expected, HashIndex::in_memory(), layout)?;
    let mut firsts = listed(storage, layout)?;
    firsts.retain(|first| (from..to).contains(first));
    firsts.sort_unstable();
    for (ordinal, first) in firsts.into_iter().enumerate() {
        let path = layout.segments_dir().join(file_name(first));
        let io = |source| JournalError::io("read", &path, source);
        let file = storage.open(&path).map_err(io)?;
        let mut reader = FrameReader::new(&*file).map_err(io)?;
        if !matches!(scan.segment(&mut reader, &path, ordinal, first)?, Ending::Closed) {
            return Err(scan.corrupt(&path, 0, "the segment is not closed"));
        }
    }
    if scan.index.size() != to {
        return Err(scan.corrupt(&layout.segments_dir(), 0, "a segment is missing"));
    }
    Ok(Folded {
        frontier: scan.index.peaks().collect(),
        chains: scan.chains,
        head: scan.last_leaf,
        last_seal: scan.last_seal,
        opening: scan.opening,
    })
}

fn listed(storage: &dyn Storage, layout: &Layout) -> Result<Vec<u64>, JournalError> {
    let dir = layout.segments_dir();
    let names = storage.list(&dir).map_err(|source| JournalError::io("list", &dir, source))?;
    Ok(names.iter().filter_map(|name| first_of(name)).collect())
}

/// First indexes of the segments in order, from where the journal begins. Segments that never got their name are removed.
fn segments(storage: &dyn Storage, layout: &Layout, from: u64) -> Result<Vec<u64>, JournalError> {
    let dir = layout.segments_dir();
    let names = storage.list(&dir).map_err(|source| JournalError::io("list", &dir, source))?;
    let mut firsts = Vec::new();
    for name in names {
        match first_of(&name) {
            Some(first) if first < from => {
                tracing::warn!(
                    name,
                    "a segment from before the journal's beginning is still here; apply its plan again"
                );
            }
            Some(first) => firsts.push(first),
            None if name.strip_suffix(".tmp").and_then(first_of).is_some() => {
                let path = dir.join(&name);
                storage.remove(&path).map_err(|source| JournalError::io("remove", &path, source))?;
            }
            None => tracing::warn!(name, "a file in the segments folder is not a segment"),
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Overwrites what was torn with zeros, makes that durable, and says what it was.
fn cut_tail(
    file: &dyn StorageFile,
    path: &Path,
    offset: u64,
    end: u64,
    entries: u64,
) -> Result<JournalRecover, JournalError> {
    use sha2::Digest as _;
    let io = |what: &'static str| move |source| JournalError::io(what, path, source);
    let mut digest = sha2::Sha256::new();
    let mut chunk = vec![0; ZEROS];
    let mut at = offset;
    while at < end {
        let n = read_full(file, &mut chunk, at)
            .map_err(io("read"))?
            .min(usize::try_from(end - at).unwrap_or(ZEROS));
        if n == 0 {
            break;
        }
        digest.update(chunk.get(..n).unwrap_or_default());
        at += n as u64;
    }
    chunk.fill(0);
    let mut at = offset;
    while at < end {
        let n = usize::try_from(end - at).unwrap_or(ZEROS).min(ZEROS);
        file.write_at(chunk.get(..n).unwrap_or_default(), at).map_err(io("write"))?;
        at += n as u64;
    }
    file.sync_data().map_err(io("sync"))?;
    tracing::warn!(path = %path.display(), offset, bytes = end - offset, "a torn tail was cut off");
    Ok(JournalRecover {
        dropped_bytes: end - offset,
        dropped_sha256: Some(Sha256(digest.finalize().into())),
        last_index: entries.checked_sub(1),
        segment: path.file_name().map(|name| name.to_string_lossy().into_owned()),
    })
}

/// How a segment ends.
enum Ending {
    /// With an end frame.
    Closed,
    /// With zeros; frames go on at `offset`.
    Open { offset: u64 },
    /// With what is no frame, from `offset` to `end`.
    Torn { offset: u64, end: u64 },
}

/// What is known so far while frames pass by.
struct Scan<'a> {
    expected: Expected<'a>,
    index: HashIndex,
    chains: HashMap<RunId, Chain>,
    sealed: VecDeque<RunSummary>,
    sealed_ids: HashSet<RunId>,
    last_leaf: Option<Leaf>,
    last_seal: Option<Leaf>,
    checkpoint_size: u64,
    opening: Option<Opening>,
    seen: HashSet<SpillKey>,
    unbundled: Vec<RunId>,
    held: Holds,
    killed: KilledTargets,
    /// An entry says that the segments before the beginning were to be deleted.
    recorded: bool,
    /// Folder of the bundles.
    bundles: PathBuf,
    beginning_path: PathBuf,
}

impl<'a> Scan<'a> {
    fn new(expected: Expected<'a>, index: HashIndex, layout: &Layout) -> Result<Self, JournalError> {
        let mut scan = Self {
            expected,
            index,
            chains: HashMap::new(),
            sealed: VecDeque::new(),
            sealed_ids: HashSet::new(),
            last_leaf: None,
            last_seal: None,
            checkpoint_size: 0,
            opening: None,
            seen: HashSet::new(),
            unbundled: Vec::new(),
            held: Holds::default(),
            killed: KilledTargets::default(),
            recorded: false,
            bundles: told(&layout.bundles_dir()),
            beginning_path: layout.beginning(),
        };
        scan.begin()?;
        Ok(scan)
    }

    /// Goes on from what was before the first segment.
    fn begin(&mut self) -> Result<(), JournalError> {
        let Some(beginning) = &self.expected.beginning else { return Ok(()) };
        let path = &self.beginning_path;
        let refused = || JournalError::Beginning { path: path.clone(), what: "it does not add up" };
        self.index.begin(&beginning.frontier().ok_or_else(refused)?);
        self.last_leaf = Some(beginning.head);
        self.last_seal = beginning.last_seal;
        self.opening = Some(Opening { policy: beginning.policy, config: beginning.config });
        for run in &beginning.runs {
            self.chains.insert(run.run, Chain::carried(run).ok_or_else(refused)?);
        }
        Ok(())
    }

    /// Whether the log bears out what is said of its beginning.
    fn check_beginning(&self) -> Result<(), JournalError> {
        let Some(beginning) = &self.expected.beginning else { return Ok(()) };
        let what = match () {
            () if !self.recorded => "no entry says that the segments before were to be deleted",
            () if beginning.runs.iter().any(|run| self.chains.contains_key(&run.run)) => {
                "a run with entries before it has no seal"
            }
            () => return Ok(()),
        };
        Err(JournalError::Beginning { path: self.beginning_path.clone(), what })
    }

    fn see_planned(&mut self, kind: &str, line: &[u8]) {
        #[derive(Deserialize)]
        struct Act<'a> {
            act: &'a str,
            on: Option<Sha256>,
        }
        let Some(beginning) = self.expected.beginning.as_ref().filter(|_| kind == "act" && !self.recorded)
        else {
            return;
        };
        let act: Option<Act<'_>> = serde_json::from_slice(line).ok();
        self.recorded =
            act.is_some_and(|act| act.act == "retention_planned" && act.on == Some(beginning.plan));
    }

    fn corrupt(&self, path: &Path, offset: u64, what: impl Into<String>) -> JournalError {
        JournalError::Corrupt { path: path.into(), offset, index: self.index.size(), what: what.into() }
    }

    /// A tail may be cut only above everything that was published.
    fn may_cut(&self) -> Result<(), JournalError> {
        let signed = self.expected.published.iter().map(|p| p.checkpoint.size).max().unwrap_or(0);
        let entries = self.index.size();
        if entries < signed { Err(JournalError::TornBelow { entries, signed }) } else { Ok(()) }
    }

    fn segment(
        &mut self,
        reader: &mut FrameReader<'_>,
        path: &Path,
        ordinal: usize,
        first: u64,
    ) -> Result<Ending, JournalError> {
        let io = |what: &'static str| move |source| JournalError::io(what, path, source);
        let header = Header::decode(reader.at(0, HEADER_BYTES).map_err(io("read"))?);
        let header = header.ok_or_else(|| self.corrupt(path, 0, "no segment header"))?;
        if header.instance != *self.expected.instance {
            let (found, wanted) = (header.instance.to_string(), self.expected.instance.to_string());
            return Err(JournalError::Instance { found, wanted });
        }
        if header.first != first || first != self.index.size() || header.previous != self.last_leaf {
            return Err(self.corrupt(path, 0, "the segment does not follow the one before it"));
        }
        let mut offset = HEADER_BYTES as u64;
        // A blob belongs to the entry after it: where it starts, and its digest.
        let mut blob: Option<(u64, [u8; 32])> = None;
        while let Some(frame) = reader.frame(offset).map_err(io("read"))? {
            let next = offset + frame.bytes();
            if frame.index != self.index.size() {
                return Err(self.corrupt(path, offset, "a frame out of order"));
            }
            match frame.kind {
                FrameKind::Blob if blob.is_none() => {
                    blob = Some((
                        offset,
                        self.blob(frame).ok_or_else(|| self.corrupt(path, offset, "a changed blob"))?,
                    ));
                }
                FrameKind::Entry => {
                    let (from, digest) =
                        blob.take().map_or((offset, None), |(from, digest)| (from, Some(digest)));
                    self.entry(frame, offset - from, Place::new(ordinal, from), digest)
                        .map_err(|what| self.corrupt(path, offset, what))?;
                    self.agrees_with_published()?;
                }
                FrameKind::Checkpoint if blob.is_none() => {
                    self.checkpoint(frame)
                        .ok_or_else(|| self.corrupt(path, offset, "a checkpoint of another log"))?;
                }
                FrameKind::End if blob.is_none() => {
                    let end = reader.content_end(next).map_err(io("read"))?;
                    return match end == next {
                        true => Ok(Ending::Closed),
                        false => Err(self.corrupt(path, next, "bytes after the end")),
                    };
                }
                FrameKind::Blob | FrameKind::Checkpoint | FrameKind::End => {
                    return Err(self.corrupt(path, offset, "a blob without its entry"));
                }
            }
            offset = next;
        }
        let end = reader.content_end(offset).map_err(io("read"))?;
        let cut = blob.map_or(offset, |(from, _)| from);
        if end == offset && cut == offset {
            return Ok(Ending::Open { offset });
        }
        // A frame that starts inside the content may reach into the zeros behind it.
        if reader.any_frame(offset + 1, end.max(offset + 1)).map_err(io("read"))? {
            return Err(self.corrupt(path, offset, "no frame, but frames follow"));
        }
        Ok(Ending::Torn { offset: cut, end: end.max(offset) })
    }

    fn blob(&self, frame: Frame<'_>) -> Option<[u8; 32]> {
        let (digest, content) = frame.blob()?;
        (Sha256::of(content).0 == *digest).then_some(*digest)
    }

    fn checkpoint(&mut self, frame: Frame<'_>) -> Option<()> {
        let note = std::str::from_utf8(frame.payload).ok()?;
        let checkpoint = Checkpoint::parse(note)?;
        let fits = checkpoint.origin == self.expected.instance.as_str()
            && checkpoint.size == self.index.size()
            && checkpoint.root == self.index.root();
        self.checkpoint_size = checkpoint.size;
        fits.then_some(())
    }

    fn entry(
        &mut self,
        frame: Frame<'_>,
        bytes_before: u64,
        place: Place,
        blob: Option<[u8; 32]>,
    ) -> Result<(), String> {
        let (_, bytes) = frame.entry().ok_or("no entry in an entry frame")?;
        let line: Line<'_> = serde_json::from_slice(bytes)
            .map_err(|error| format!("an entry that cannot be read: {error}"))?;
        if line.iss != self.expected.instance.as_str() {
            return Err("an entry of another instance".into());
        }
        let nodes = line.sse.as_ref().and_then(|sse| sse.nodes).map(|nodes| nodes.0);
        if blob != nodes {
            return Err("an entry whose stream nodes are not before it".into());
        }
        let leaf = Leaf::of(bytes);
        if &*line.kind == "run.open" {
            self.open(&line)?;
        }
        let Some(chain) = self.chains.get_mut(&line.run) else {
            return Err(match self.sealed_ids.contains(&line.run) {
                true => "an entry of a sealed run".into(),
                false => "an entry of a run that was not opened".into(),
            });
        };
        if line.seq != chain.seq() || line.prev != chain.head {
            return Err("an entry that does not follow the one before it in its run".into());
        }
        if line.kid != chain.kid {
            return Err("an entry by another key than the run's".into());
        }
        if line.mono_us < chain.mono_last() {
            return Err("an entry before its predecessor in time".into());
        }
        chain.advance(leaf, line.ts, line.mono_us, place);
        chain.weigh(bytes_before + frame.bytes(), blob.is_some(), line.stored());
        let sealed = follow(chain, &line, leaf)?;
        let of = (line.run, line.call, line.verdict.as_ref().map(|verdict| verdict.action));
        self.held
            .follow(&line.kind, of, bytes, line.ts)
            .map_err(|error| format!("a hold that cannot be read: {error}"))?;
        self.killed
            .follow(&line.kind, bytes, line.ts)
            .map_err(|error| format!("an act that cannot be read: {error}"))?;
        chain.policies.extend(line.policy_hash());
        chain.policies.extend(line.shadow.iter().map(|shadow| shadow.policy));
        self.remember_spilled(&line);
        self.see_planned(&line.kind, bytes);
        self.index.restore(leaf);
        self.last_leaf = Some(leaf);
        if sealed {
            self.seal(line.run, leaf);
        }
        Ok(())
    }

    fn open(&mut self, line: &Line<'_>) -> Result<(), String> {
        if self.chains.contains_key(&line.run) || self.sealed_ids.contains(&line.run) {
            return Err("a run that is opened twice".into());
        }
        let missing = "a run.open that lacks a member";
        let policy = line.policy.ok_or(missing)?;
        let policy = serde_json::from_str(policy.get()).map_err(|_| missing)?;
        self.opening = Some(Opening { policy, config: line.config.ok_or(missing)? });
        let name = line.name.as_deref().map(Into::into);
        let mut chain = Chain::new(line.run, line.class.ok_or(missing)?, name, line.kid);
        chain.sign = line.sign.ok_or(missing)?;
        chain.durability = line.durability.ok_or(missing)?;
        chain.commitment = line.capture.as_ref().ok_or(missing)?.commitment;
        chain.opened = line.ts;
        self.chains.insert(line.run, chain);
        Ok(())
    }

    fn seal(&mut self, run: RunId, leaf: Leaf) {
        self.last_seal = Some(leaf);
        self.sealed_ids.insert(run);
        self.held.seal(run);
        // The bundle of a run whose first entries were deleted was there by then, and cannot be made again.
        let mut carried = self.expected.beginning.iter().flat_map(|beginning| &beginning.runs);
        let is_whole = carried.all(|before| before.run != run);
        if is_whole && self.index.size() > self.expected.bundled && self.unbundled.len() < BUNDLES_MAX {
            self.unbundled.push(run);
        }
        let Some(chain) = self.chains.remove(&run) else { return };
        if self.sealed.len() == SEALED_MAX {
            self.sealed.pop_front();
        }
        self.sealed.push_back(RunSummary {
            id: run,
            name: chain.name.map(Into::into),
            class: chain.class,
            state: RunState::Sealed,
            opened_us: chain.opened.0,
            entries: chain.frontier.size(),
            calls: chain.counters.calls,
            bundle: Some(self.bundles.join(format!("{run}.pef.zip"))),
        });
    }

    fn remember_spilled(&mut self, line: &Line<'_>) {
        if self.expected.spilled.is_empty() {
            return;
        }
        if let Some(key) = SpillKey::of_line(&line.kind, line.call, line.attempt)
            && self.expected.spilled.contains(&key)
        {
            self.seen.insert(key);
        }
    }

    /// Holds the tree against what was published at this size.
    fn agrees_with_published(&self) -> Result<(), JournalError> {
        let size = self.index.size();
        for published in self.expected.published.iter().filter(|p| p.checkpoint.size == size) {
            if published.checkpoint.root != self.index.root() {
                return Err(JournalError::Fork { signed: size, path: published.path.into() });
            }
        }
        Ok(())
    }

    fn finish(
        mut self,
        segments: Vec<u64>,
        tail: Option<Tail>,
        cut: Option<JournalRecover>,
    ) -> Result<Recovered, JournalError> {
        let entries = self.index.size();
        if let Some(newer) = self.expected.published.iter().find(|p| p.checkpoint.size > entries) {
            let (signed, path) = (newer.checkpoint.size, newer.path.into());
            return Err(JournalError::Rollback { entries, signed, path });
        }
        self.check_beginning()?;
        self.index.settle();
        Ok(Recovered {
            segments,
            tail,
            index: self.index,
            chains: self.chains,
            sealed: self.sealed,
            last_leaf: self.last_leaf,
            last_seal: self.last_seal,
            cut,
            checkpoint_size: self.checkpoint_size,
            opening: self.opening,
            seen: self.seen,
            sealed_ids: self.sealed_ids,
            unbundled: self.unbundled,
            held: self.held.finish(),
            killed: self.killed.finish(),
        })
    }
}

/// Counts an entry and takes over what it changes. Whether it was the seal.
fn follow(chain: &mut Chain, line: &Line<'_>, leaf: Leaf) -> Result<bool, String> {
    let missing = "an entry that lacks a member";
    match &*line.kind {
        "call" => {
            let verdict = line.verdict.as_ref().ok_or(missing)?;
            let outcome = line.outcome.as_ref().ok_or(missing)?;
            chain.count_call(verdict.action, outcome.complete);
            chain.intents.remove(&line.call.ok_or(missing)?);
        }
        "intent" => drop(chain.intents.insert(line.call.ok_or(missing)?, leaf)),
        "interrupted" => {
            chain.counters.interrupted += 1;
            chain.intents.remove(&line.call.ok_or(missing)?);
        }
        "key.rotate" => {
            let new = line.new.ok_or(missing)?;
            chain.keys.extend([line.old.ok_or(missing)?, new]);
            if line.r#use == Some(Use::Receipt) {
                chain.kid = new;
            }
        }
        _ => {}
    }
    Ok(line.kind == "run.seal")
}

/// Every member that start-up needs, of any kind of entry.
#[derive(Deserialize)]
struct Line<'a> {
    attempt: Option<u32>,
    call: Option<CallId>,
    capture: Option<CaptureLine>,
    class: Option<RunClass>,
    config: Option<Sha256>,
    durability: Option<Durability>,
    #[serde(borrow)]
    iss: Cow<'a, str>,
    kid: KeyId,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    mono_us: u64,
    #[serde(default, borrow)]
    name: Option<Cow<'a, str>>,
    new: Option<KeyId>,
    old: Option<KeyId>,
    outcome: Option<OutcomeLine>,
    #[serde(default, borrow)]
    policy: Option<&'a RawValue>,
    prev: Option<Leaf>,
    request: Option<BodyLine>,
    response: Option<ResponseLine>,
    run: RunId,
    seq: u64,
    #[serde(default)]
    shadow: Vec<ShadowLine>,
    sign: Option<Sign>,
    sse: Option<StreamLine>,
    ts: UnixMicros,
    r#use: Option<Use>,
    verdict: Option<VerdictLine>,
}

impl Line<'_> {
    /// The policy of a `run.open`, a `policy.load` or a receipt.
    fn policy_hash(&self) -> Option<Sha256> {
        let policy = self.policy?.get();
        let of_receipt = || serde_json::from_str::<PolicyLine>(policy).ok().map(|policy| policy.hash);
        serde_json::from_str::<Sha256>(policy).ok().or_else(of_receipt)
    }

    /// Sizes of the bodies that a receipt names as stored.
    fn stored(&self) -> impl Iterator<Item = u64> {
        let response = self.response.as_ref();
        let bodies = [
            self.request.as_ref(),
            response.map(|response| &response.client),
            response.and_then(|response| response.upstream.as_ref()),
        ];
        bodies.into_iter().flatten().filter(|body| body.sha256.is_some()).map(|body| body.bytes)
    }
}

#[derive(Deserialize)]
struct ShadowLine {
    policy: Sha256,
}

#[derive(Deserialize)]
struct PolicyLine {
    hash: Sha256,
}

#[derive(Deserialize)]
struct BodyLine {
    bytes: u64,
    sha256: Option<Sha256>,
}

#[derive(Deserialize)]
struct ResponseLine {
    client: BodyLine,
    upstream: Option<BodyLine>,
}

#[derive(Deserialize)]
struct CaptureLine {
    commitment: Commit,
}

#[derive(Deserialize)]
struct OutcomeLine {
    complete: bool,
}

#[derive(Deserialize)]
struct StreamLine {
    nodes: Option<Sha256>,
}

#[derive(Deserialize)]
struct VerdictLine {
    action: VerdictAction,
}
