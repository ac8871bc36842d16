//! Sealing: a run's entries are read back from the segments and gathered into its bundle.
//!
//! The writer has written the seal and a checkpoint that covers it; everything here happens on a thread of its own and
//! can be done again at any time with the same result: every line is read from the segments, its place in the chain is
//! checked, and the whole must have the root that the seal states. Entries and signatures are staged in two temporary
//! files; stream nodes, policies and bodies are taken from where they are. The bundle gets its name when it is durable.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde::Serialize;

use estoppel_bundle::layout::{ANCHOR, CHECKPOINT, ENTRIES, SIGNATURES};
use estoppel_bundle::{
    Bundle, BundlePath, EXTERNAL_BYTES_MIN, FactsError, KeyRow, Parts, ReadAt, RunFacts, Staging, WriteError,
};
use estoppel_evidence::entry::SealReason;
use estoppel_evidence::key::KeyError;
use estoppel_evidence::note::{Checkpoint, tlog_proof, vkey};
use estoppel_evidence::tree::includes;
use estoppel_evidence::{CallId, Instance, Leaf, PublicKey, Reason, Root, RunId, Sha256, Use, envelope};

use crate::admit::{AckError, Shared, locked};
use crate::beginning::{Beginning, Copy};
use crate::bodies::{self, BodyError, FileReader, Stored};
use crate::bundled::Bundled;
use crate::chain::{Chain, Place};
use crate::control::Answer;
use crate::documents::document_path;
use crate::encryption::{BodyKeys, EncryptionError};
use crate::entries::{Entries, ReadEntry, ReadError, leaf_root, run_of};
use crate::error::{chain, io_reason};
use crate::index;
use crate::layout::{Layout, told};
use crate::retention::{Completed, Deletion};
use crate::settings::Keys;
use crate::stats::add;
use crate::storage::{Storage, StorageFile, temporary, without_rest};
use crate::trust::TrustRow;

/// Most bundles that wait to be written.
pub const BUNDLES_MAX: usize = 64;
/// Bytes that pass through memory at a time.
const CHUNK_BYTES: usize = 1 << 18;

/// A sealed run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SealedRun {
    /// The bundle file.
    pub path: PathBuf,
    pub run: RunId,
    /// The name that callers gave it.
    pub name: Option<String>,
    /// Root of the run tree with the seal.
    pub root: Root,
    /// Entries with the seal.
    pub entries: u64,
    /// Log index of the seal.
    pub index: u64,
    pub reason: SealReason,
    /// SHA-256 of the bundle's manifest, which names its content.
    pub manifest: Sha256,
    /// Bytes of the bundle file.
    pub bytes: u64,
}

/// Why a run was not sealed or its bundle not written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("no run has that name or id")]
    Unknown,
    #[error("evidence is off: there are no runs")]
    Off,
    #[error("the run is sealed already{}", .bundle.as_ref().map_or_else(String::new, |path| format!(": {}", path.display())))]
    Done { bundle: Option<PathBuf> },
    #[error("the run is not sealed")]
    Open,
    #[error(
        "entries of run {run} were deleted with the journal's oldest segments; `beginning.json` says where copies of these are{}",
        told_copy(.copy.as_deref())
    )]
    Deleted { run: RunId, copy: Option<Box<Copy>> },
    #[error("the bundle of run {run} is not here and not written again: {deletion}{}", told_copy(.copy.as_deref()))]
    BundleDeleted { run: RunId, deletion: Deletion, copy: Option<Box<Copy>> },
    #[error("calls of the run are still in flight; try again when they have ended")]
    Busy,
    #[error("this is the daemon's own run; it is sealed when the daemon stops")]
    Own,
    #[error("too many seals wait; try again")]
    Queue,
    #[error("the seal was not recorded")]
    Journal(#[source] AckError),
    #[error("stored body {hash} of the run cannot be read; nothing was sealed")]
    Unread { hash: Sha256, source: BodyError },
    #[error("the run is sealed, but its bundle could not be written; seal it again")]
    Facts(#[from] FactsError),
    #[error("the run is sealed, but its bundle could not be written; seal it again")]
    Write(#[from] WriteError),
    #[error("the run is sealed, but its entries could not be read back")]
    Read(#[from] ReadError),
    #[error("the run is sealed, but what was read back is not what was written: {what}")]
    Changed { what: &'static str },
    #[error("the run is sealed, but policy {hash} was never stored; store it and seal the run again")]
    PolicyMissing { hash: Sha256 },
    #[error("the run is sealed, but the stored body {hash} is missing")]
    BodyMissing { hash: Sha256 },
    #[error("the run is sealed, but the stored body {hash} was deleted: `{}` says by which rule", .report.display())]
    BodyDeleted { hash: Sha256, report: PathBuf },
    #[error("the run is sealed, but the stored body {hash} could not be read; seal it again")]
    Body { hash: Sha256, source: BodyError },
    #[error("the run is sealed, but the contract {hash} is missing")]
    ContractMissing { hash: Sha256 },
    #[error("the run is sealed, but the snapshot {hash} is missing")]
    SnapshotMissing { hash: Sha256 },
    #[error("the run is sealed, but {what} could not be signed; seal it again")]
    Sign { what: &'static str, source: KeyError },
    #[error("the run is sealed, but no checkpoint covers its seal yet")]
    NoAnchor,
    #[error("`{path}` is a bundle of other content; nothing was written over it")]
    Replaced { path: PathBuf },
    #[error("the run is sealed, but could not {what} `{path}`; seal it again")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

impl SealError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unknown => Reason::RunUnknown,
            Self::Off => Reason::EvidenceOff,
            Self::Done { .. } => Reason::RunSealed,
            Self::Deleted { .. } => Reason::SegmentDeleted,
            Self::BundleDeleted { deletion: Deletion::Unknown { .. }, .. } => Reason::JournalCorrupt,
            Self::BundleDeleted { .. } => Reason::BundleDeleted,
            Self::Open | Self::Busy | Self::Own | Self::Queue | Self::NoAnchor => Reason::RunBusy,
            Self::Journal(error) => error.reason(),
            Self::Facts(error) => error.reason(),
            // What is stored is named by its digest.
            Self::Write(WriteError::Name { .. } | WriteError::Length { .. }) => Reason::JournalCorrupt,
            Self::Write(error) => decrypting(error).map_or_else(|| error.reason(), EncryptionError::reason),
            Self::Unread { source, .. } | Self::Body { source, .. } => source.reason(),
            Self::BodyDeleted { .. } => Reason::BodyDeleted,
            Self::Read(error) => error.reason(),
            Self::Changed { .. }
            | Self::Replaced { .. }
            | Self::BodyMissing { .. }
            | Self::ContractMissing { .. }
            | Self::SnapshotMissing { .. } => Reason::JournalCorrupt,
            Self::PolicyMissing { .. } => Reason::PolicyInvalid,
            Self::Sign { .. } => Reason::KeyInvalid,
            Self::Io { source, .. } => io_reason(source),
        }
    }

    /// Whether a bundle is missing for it that was asked for and should be there.
    fn misses_bundle(&self) -> bool {
        !matches!(
            self,
            Self::Unknown
                | Self::Done { .. }
                | Self::Open
                | Self::NoAnchor
                | Self::Deleted { .. }
                | Self::BundleDeleted { .. }
        )
    }
}

/// Where a copy is, as the end of a sentence.
fn told_copy(copy: Option<&Copy>) -> String {
    let Some(Copy { bucket, endpoint, key, retain_until, version }) = copy else { return String::new() };
    format!(
        "; a copy of the bundle is archived at `{endpoint}`, bucket `{bucket}`, key `{key}`, version `{version}`, kept until {retain_until}"
    )
}

/// The error of a stored body that came in the place of its content.
fn decrypting<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e EncryptionError> {
    // An error of reading does not have the one that it wraps as its source, but in it.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let found = wrapped.and_then(|inner| inner.downcast_ref::<EncryptionError>());
    found.or_else(|| error.downcast_ref()).or_else(|| decrypting(error.source()?))
}

type SealAnswer = Answer<Result<SealedRun, SealError>>;

/// A sealed run whose bundle is to be written.
pub(crate) struct SealJob {
    run: RunId,
    seal: Seal,
    reason: SealReason,
    /// Where its entries are; read through from the first segment on when nothing is known.
    places: Places,
    anchor: Option<Anchor>,
    answer: Option<SealAnswer>,
}

/// What the seal entry is.
#[derive(Clone, std::marker::Copy)]
struct Seal {
    index: u64,
    leaf: Leaf,
    root: Root,
    entries: u64,
}

/// Where a run's entries are.
enum Places {
    All(Vec<Place>),
    /// Somewhere between these two.
    Between(Place, Place),
}

/// The first checkpoint that covers the seal.
struct Anchor {
    size: u64,
    note: String,
    keys: Keys,
    trust: Vec<TrustRow>,
}

impl SealJob {
    /// The job of a run whose chain has just got its seal, as log entry `index`.
    pub fn new(chain: Chain, index: u64, reason: SealReason, answer: Option<SealAnswer>) -> Self {
        let head = chain.head.unwrap_or(Leaf([0; 32])); // a sealed chain has entries
        let seal = Seal { index, leaf: head, root: chain.frontier.root(), entries: chain.seq() };
        let first = chain.first.unwrap_or(Place::new(0, 0));
        let places = chain.places.map_or(Places::Between(first, chain.last_place), Places::All);
        Self { run: chain.run, seal, reason, places, anchor: None, answer }
    }

    /// The job can be done: `note` covers the seal.
    pub fn anchored(mut self, size: u64, note: String, keys: Keys, trust: Vec<TrustRow>) -> Self {
        self.anchor = Some(Anchor { size, note, keys, trust });
        self
    }

    pub fn refuse(self, error: AckError) {
        if let Some(answer) = self.answer {
            answer.give(Err(SealError::Journal(error)));
        }
    }
}

enum Job {
    Seal(Box<SealJob>),
    Again { run: RunId, keys: Keys, trust: Vec<TrustRow>, why: Again },
}

/// Why the bundle of a run is written that was sealed some time ago.
pub(crate) enum Again {
    /// The journal was opened, and it is not there.
    Started,
    /// Somebody asked for it, in case it is not there.
    Missing(SealAnswer),
    /// Somebody asked for it, there or not.
    Asked(SealAnswer),
}

impl Again {
    fn answer(self) -> Option<SealAnswer> {
        match self {
            Self::Started => None,
            Self::Missing(answer) | Self::Asked(answer) => Some(answer),
        }
    }
}

/// Hands jobs to the thread "sealer".
#[derive(Clone)]
pub(crate) struct Sealer {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
    bundled: Arc<Mutex<Bundled>>,
}

impl Sealer {
    /// Starts the thread; it ends when all senders are gone. Runs whose seal has a smaller log index than `bundled` have their bundles.
    pub fn start(
        shared: Arc<Shared>,
        storage: Arc<dyn Storage>,
        layout: Arc<Layout>,
        bundled: u64,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, receiver) = sync_channel(BUNDLES_MAX);
        let bundled = Arc::new(Mutex::new(Bundled::new(bundled)));
        let bundler = Bundler { bundled: bundled.clone(), shared: shared.clone(), storage, layout };
        let thread =
            std::thread::Builder::new().name("sealer".into()).spawn(move || bundler.serve(&receiver))?;
        Ok((Self { jobs, shared, bundled }, thread))
    }

    /// Writes the bundle of a run that was just sealed.
    pub fn send(&self, job: SealJob) {
        let run = job.run;
        if let Some(job) = self.put(Job::Seal(Box::new(job))) {
            add(&self.shared.gauges.bundles_failed, 1);
            locked(&self.bundled).miss(run);
            tracing::error!(%run, "too many bundles wait; seal this run again later");
            if let Job::Seal(job) = job
                && let Some(answer) = job.answer
            {
                answer.give(Err(SealError::Queue));
            }
        }
    }

    /// Writes the bundle of a run that was sealed some time ago.
    pub fn again(&self, run: RunId, keys: Keys, trust: Vec<TrustRow>, why: Again) {
        if let Some(Job::Again { why, .. }) = self.put(Job::Again { run, keys, trust, why }) {
            match why.answer() {
                Some(answer) => answer.give(Err(SealError::Queue)),
                None => locked(&self.bundled).miss(run),
            }
        }
    }

    /// Some bundle of this journal is missing, or may be.
    pub fn incomplete(&self) {
        locked(&self.bundled).miss_some();
    }

    fn put(&self, job: Job) -> Option<Job> {
        match self.jobs.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Some(job),
        }
    }
}

/// Writes bundles.
struct Bundler {
    bundled: Arc<Mutex<Bundled>>,
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    layout: Arc<Layout>,
}

impl Bundler {
    fn serve(&self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let (result, answer) = match job {
                Job::Seal(mut job) => {
                    let (run, index, answer) = (job.run, job.seal.index, job.answer.take());
                    let result = self.bundle(*job);
                    self.count(run, &result, true);
                    locked(&self.bundled).pass(index);
                    (result, answer)
                }
                Job::Again { run, keys, trust, why } => {
                    let result = self.again(run, keys, trust, matches!(why, Again::Missing(_)));
                    let is_start = matches!(why, Again::Started);
                    self.count(run, &result, is_start);
                    if let (Ok(sealed), true) = (&result, is_start) {
                        locked(&self.bundled).pass(sealed.index);
                    }
                    (result, why.answer())
                }
            };
            locked(&self.bundled).write(&*self.storage, &self.layout);
            if let Some(answer) = answer {
                answer.give(result);
            }
        }
    }

    /// Takes note of what became of a bundle. `is_due`: the journal itself wants it, so that it is missing whatever the error.
    fn count(&self, run: RunId, result: &Result<SealedRun, SealError>, is_due: bool) {
        let (gauges, mut bundled) = (&self.shared.gauges, locked(&self.bundled));
        match result {
            Ok(sealed) => {
                add(&gauges.bundles, 1);
                bundled.find(run);
                tracing::info!(run = %sealed.run, entries = sealed.entries, reason = ?sealed.reason, "sealed");
            }
            Err(SealError::Done { .. }) => bundled.find(run),
            Err(error @ SealError::BundleDeleted { .. }) => {
                tracing::info!(%run, code = %error.reason(), %error, "a bundle that is gone is not written again");
            }
            Err(error) if is_due || error.misses_bundle() => {
                add(&gauges.bundles_failed, 1);
                bundled.miss(run);
                tracing::error!(%run, code = %error.reason(), error = %chain(error), "no bundle was written");
            }
            Err(error) => {
                tracing::info!(%run, code = %error.reason(), %error, "a bundle was asked for that cannot be");
            }
        }
    }

    /// Writes the bundle of a run that was sealed some time ago.
    fn again(
        &self,
        run: RunId,
        keys: Keys,
        trust: Vec<TrustRow>,
        only_missing: bool,
    ) -> Result<SealedRun, SealError> {
        let path = self.layout.bundle_told(run);
        let found = self.storage.open(&path).ok().and_then(|file| Bundle::from_zip(Archive(file)).ok());
        let is_there = found.is_some_and(|bundle| bundle.manifest().run == run);
        if is_there && only_missing {
            return Err(SealError::Done { bundle: Some(path) });
        }
        let job = self.find(run, keys, trust)?;
        let deletion = match is_there {
            true => None,
            false => Deletion::of_bundle(
                &self.entries(),
                &told(&self.layout.retention_dir()),
                run,
                job.seal.index,
            )?,
        };
        match deletion {
            Some(deletion) => Err(SealError::BundleDeleted { run, deletion, copy: self.copy_of(run) }),
            None => self.bundle(job),
        }
    }

    /// Where a copy of the bundle is.
    fn copy_of(&self, run: RunId) -> Option<Box<Copy>> {
        self.shared
            .settings
            .copy_of
            .and_then(|copy_of| copy_of(&self.layout.bundles_dir(), run))
            .map(Box::new)
    }

    fn entries(&self) -> Entries<'_> {
        Entries { storage: &*self.storage, layout: &self.layout }
    }

    /// Looks a sealed run up in the segments.
    fn find(&self, run: RunId, keys: Keys, trust: Vec<TrustRow>) -> Result<SealJob, SealError> {
        let before = Beginning::read(&*self.storage, &self.layout)?;
        if before.is_some_and(|before| before.runs.iter().any(|carried| carried.run == run)) {
            return Err(SealError::Deleted { run, copy: self.copy_of(run) });
        }
        let mut found: Option<Found> = None;
        let mut anchor = None;
        self.entries().walk(None, |entry| {
            match (&mut found, entry.note) {
                (Some(Found { seal: Some((_, index, _)), .. }), Some(note)) => {
                    if let Some(size) = Checkpoint::parse(note).map(|c| c.size).filter(|size| size > index) {
                        anchor = Some((size, note.to_owned()));
                        return Ok(false);
                    }
                }
                (_, None) if run_of(entry.line) == Some(run) => {
                    let found =
                        found.get_or_insert(Found { first: entry.place, facts: RunFacts::new(), seal: None });
                    found.facts.push(entry.line)?;
                    if let Some(reason) = seal_reason(entry.line) {
                        found.seal = Some((entry.place, entry.index, reason));
                    }
                }
                _ => {}
            }
            Ok::<_, SealError>(true)
        })?;
        let Found { first, facts, seal } = found.ok_or_else(|| match self.copy_of(run) {
            Some(copy) => SealError::Deleted { run, copy: Some(copy) },
            None => SealError::Unknown,
        })?;
        let (last, index, reason) = seal.ok_or(SealError::Open)?;
        let leaf = facts.head().ok_or(SealError::Open)?;
        let seal = Seal { index, leaf, root: facts.frontier().root(), entries: facts.entries() };
        let (size, note) = anchor.ok_or(SealError::NoAnchor)?;
        let places = Places::Between(first, last);
        Ok(SealJob {
            run,
            seal,
            reason,
            places,
            anchor: Some(Anchor { size, note, keys, trust }),
            answer: None,
        })
    }

    /// Writes the bundle.
    fn bundle(&self, job: SealJob) -> Result<SealedRun, SealError> {
        let SealJob { run, seal, reason, places, anchor, .. } = job;
        let anchor = anchor.ok_or(SealError::NoAnchor)?;
        let path = self.layout.bundle_told(run);
        self.may_replace(&path, &seal)?;
        self.make_folder()?;
        let sources = Sources::default();
        let mut parts = Parts::new(JournalStaging::new(self, run, sources.clone()));
        let facts = self.gather(run, &places, &sources, &mut parts)?;
        if facts.head() != Some(seal.leaf) || facts.frontier().root() != seal.root {
            return Err(SealError::Changed { what: "the root of the run" });
        }
        self.add_documents(&facts, &sources, &mut parts)?;
        let signed = facts.references().keys.iter().copied();
        let rows = anchor.rows(&self.shared.settings.instance, signed)?;
        let instance = &self.shared.settings.instance;
        let origin = format!("{instance}/run/{run}");
        let checkpoint = Checkpoint { origin, size: seal.entries, root: seal.root };
        let note = checkpoint
            .sign(instance.as_str(), &*anchor.keys.checkpoint)
            .map_err(|source| SealError::Sign { what: "the run's checkpoint", source })?;
        parts.add(path_of(CHECKPOINT), note.as_bytes())?;
        parts.add(path_of(ANCHOR), self.proof(&seal, &anchor)?.as_bytes())?;
        let manifest_facts = facts.finish(rows)?;
        let sealed = parts.seal(manifest_facts, &*anchor.keys.manifest)?;
        let (manifest, name, bytes) =
            (sealed.manifest_digest(), sealed.manifest().name.clone(), sealed.zip_bytes()?);
        let bodies: Vec<Sha256> = sealed.manifest().externals.iter().map(|row| row.sha256).collect();
        bodies.iter().try_for_each(|hash| self.put_beside(&path, *hash))?;
        self.put_archive(&path, |out| sealed.write_zip(out))?;
        let Seal { root, entries, index, .. } = seal;
        Ok(SealedRun { path, run, name, root, entries, index, reason, manifest, bytes })
    }

    /// Makes the folder of the bundles if somebody took it away; not in the place of a whole journal that is gone.
    fn make_folder(&self) -> Result<(), SealError> {
        let folder = self.layout.bundles_dir();
        let journal = self.storage.open_dir(&self.layout.segments_dir());
        let made = journal.and_then(|_| self.storage.create_dir(&folder));
        made.map_err(|source| SealError::Io { what: "make", path: told(&folder), source })
    }

    /// A bundle that is there may be written again, with other signatures at most.
    fn may_replace(&self, path: &Path, seal: &Seal) -> Result<(), SealError> {
        let file = match self.storage.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(SealError::Io { what: "open", path: path.into(), source }),
        };
        // One that cannot be opened says nothing that could be lost.
        let Ok(found) = Bundle::from_zip(Archive(file)) else { return Ok(()) };
        let tree = &found.manifest().tree;
        match (tree.root, tree.size) == (seal.root, seal.entries) {
            true => Ok(()),
            false => Err(SealError::Replaced { path: path.into() }),
        }
    }

    /// Stages lines and signatures, and takes note of the stream nodes.
    fn gather(
        &self,
        run: RunId,
        places: &Places,
        sources: &Sources,
        parts: &mut Parts<JournalStaging<'_>>,
    ) -> Result<RunFacts, SealError> {
        let mut facts = RunFacts::new();
        let mut lines = parts.create(path_of(ENTRIES))?;
        let mut signatures = parts.create(path_of(SIGNATURES))?;
        let staged = |source| SealError::Io { what: "stage", path: told(&self.layout.bundles_dir()), source };
        let mut blobs: Vec<(CallId, Place)> = Vec::new();
        let mut signed = false;
        let mut take = |entry: ReadEntry<'_>| {
            let known = facts.push(entry.line)?;
            lines.write_all(entry.line).and_then(|()| lines.write_all(b"\n")).map_err(staged)?;
            if let Some(signature) = entry.signature {
                signatures.write_all(signature).map_err(staged)?;
                signed = true;
            }
            if let Some(call) = known.call.filter(|call| call.nodes.is_some()) {
                blobs.push((call.call, entry.place));
            }
            Ok::<_, SealError>(true)
        };
        match places {
            Places::All(places) => self.entries().at(places, &mut take)?,
            Places::Between(first, last) => self.entries().walk(Some((*first, *last)), |entry| {
                if entry.note.is_none() && run_of(entry.line) == Some(run) { take(entry) } else { Ok(true) }
            })?,
        }
        parts.close(lines)?;
        match signed {
            true => drop(parts.close(signatures)?),
            false => drop(signatures),
        }
        for (call, place) in blobs {
            sources.add(BundlePath::stream(call), Origin::Blob(place));
            parts.adopt(BundlePath::stream(call))?;
        }
        Ok(facts)
    }

    /// Policies, contracts, snapshots and bodies.
    fn add_documents(
        &self,
        facts: &RunFacts,
        sources: &Sources,
        parts: &mut Parts<JournalStaging<'_>>,
    ) -> Result<(), SealError> {
        for hash in &facts.references().policies {
            if self.storage.open(&self.layout.policy(*hash)).is_err() {
                return Err(SealError::PolicyMissing { hash: *hash });
            }
            sources.add(BundlePath::policy(*hash), Origin::File(self.layout.policy(*hash)));
            parts.adopt(BundlePath::policy(*hash))?;
        }
        let references = facts.references();
        for hash in references.shadows.difference(&references.policies) {
            // No verifier asks for them, so a run is sealed without one that somebody took away.
            if self.storage.open(&self.layout.policy(*hash)).is_ok() {
                sources.add(BundlePath::policy(*hash), Origin::File(self.layout.policy(*hash)));
                parts.adopt(BundlePath::policy(*hash))?;
            }
        }
        for hash in &facts.references().contracts {
            let path = document_path(&self.layout.contracts_dir(), *hash);
            if self.storage.open(&path).is_err() {
                return Err(SealError::ContractMissing { hash: *hash });
            }
            sources.add(BundlePath::contract(*hash), Origin::File(path));
            parts.adopt(BundlePath::contract(*hash))?;
        }
        for hash in &facts.references().snapshots {
            let path = document_path(&self.layout.snapshots_dir(), *hash);
            if self.storage.open(&path).is_err() {
                return Err(SealError::SnapshotMissing { hash: *hash });
            }
            sources.add(BundlePath::snapshot(*hash), Origin::File(path));
            parts.adopt(BundlePath::snapshot(*hash))?;
        }
        for hash in &facts.references().bodies {
            let bytes = self.body(*hash)?.bytes;
            if bytes >= EXTERNAL_BYTES_MIN {
                parts.external(*hash, bytes)?;
            } else {
                sources.add(BundlePath::body(*hash), Origin::Body(*hash));
                parts.adopt(BundlePath::body(*hash))?;
            }
        }
        Ok(())
    }

    /// A stored body, from its start.
    fn body(&self, hash: Sha256) -> Result<Stored, SealError> {
        let keys = self.shared.settings.body_keys.as_deref();
        let opened = bodies::open(&*self.storage, &self.layout.bodies_dir(), keys, hash);
        let opened = opened.map_err(|source| SealError::Body { hash, source })?;
        match opened {
            Some(stored) => Ok(stored),
            None => match self.report_of(hash)? {
                Some(report) => Err(SealError::BodyDeleted { hash, report }),
                None => Err(SealError::BodyMissing { hash }),
            },
        }
    }

    /// The report that says that a body was deleted, if the log names one: a file that nobody vouches for says nothing.
    fn report_of(&self, hash: Sha256) -> Result<Option<PathBuf>, SealError> {
        let mut found = None;
        self.entries().walk(None, |entry| {
            if entry.note.is_none()
                && let Some(completed) = Completed::of(entry.line)
                && let Some(report) = completed.report(&self.layout.retention_dir(), hash)
            {
                found = Some(report);
            }
            Ok::<_, SealError>(found.is_none())
        })?;
        Ok(found)
    }

    /// The tlog-proof that the seal is in the tree that the anchor's note signs.
    fn proof(&self, seal: &Seal, anchor: &Anchor) -> Result<String, SealError> {
        let signed = Checkpoint::parse(&anchor.note).ok_or(SealError::Changed { what: "a checkpoint" })?;
        let holds = |path: &[[u8; 32]]| includes(seal.leaf, seal.index, anchor.size, path, signed.root);
        let quick = self
            .storage
            .open(&self.layout.hashes())
            .and_then(|file| index::path(&*file, seal.index, anchor.size));
        let path = match quick {
            Ok(path) if holds(&path) => path,
            _ => {
                tracing::warn!("the hash index is damaged; the proof is made from the segments");
                let ranges = index::siblings(seal.index, anchor.size);
                ranges
                    .iter()
                    .map(|range| leaf_root(&self.entries(), *range))
                    .collect::<Result<Vec<_>, _>>()?
            }
        };
        match holds(&path) {
            true => Ok(tlog_proof(seal.index, &path, &anchor.note)),
            false => Err(SealError::Changed { what: "the instance log" }),
        }
    }

    /// Copies a large body into the folder beside the bundle and checks it on the way.
    fn put_beside(&self, bundle: &Path, hash: Sha256) -> Result<(), SealError> {
        let mut folder = bundle.as_os_str().to_os_string();
        folder.push(".d");
        let folder = PathBuf::from(folder);
        let to = folder.join(hash.hex());
        let io = |what: &'static str, path: &Path| {
            let path = path.to_path_buf();
            move |source| SealError::Io { what, path, source }
        };
        self.storage.create_dir(&folder).map_err(io("make", &folder))?;
        let temporary = temporary(&to);
        remove_if_there(&*self.storage, &temporary).map_err(io("remove", &temporary))?;
        let copied = self.copy_body(hash, &temporary).and_then(|()| {
            let named = self.storage.rename(&temporary, &to);
            named.map_err(io("rename", &to))
        });
        without_rest(&*self.storage, &temporary, copied)?;
        self.storage.open_dir(&folder).and_then(|dir| dir.sync()).map_err(io("sync", &folder))
    }

    /// Copies a stored body into a file and makes it durable.
    fn copy_body(&self, hash: Sha256, to: &Path) -> Result<(), SealError> {
        use sha2::Digest as _;
        let io = |what: &'static str| move |source| SealError::Io { what, path: to.into(), source };
        let mut source = self.body(hash)?.content;
        let target = self.storage.create(to).map_err(io("make"))?;
        let (mut digest, mut chunk, mut at) = (sha2::Sha256::new(), vec![0; CHUNK_BYTES], 0u64);
        loop {
            let n = source.read(&mut chunk);
            let n = n.map_err(|error| SealError::Body { hash, source: bodies::read_failed(error) })?;
            let part = chunk.get(..n).unwrap_or_default();
            if part.is_empty() {
                break;
            }
            digest.update(part);
            target.write_at(part, at).map_err(io("write"))?;
            at += n as u64;
        }
        if Sha256(digest.finalize().into()) != hash {
            return Err(SealError::Changed { what: "a stored body" });
        }
        target.sync_all().map_err(io("sync"))
    }

    /// Writes the archive under a temporary name and puts it in place when it is durable.
    fn put_archive(
        &self,
        path: &Path,
        write: impl FnOnce(FileWriter) -> Result<FileWriter, WriteError>,
    ) -> Result<(), SealError> {
        let io = |what: &'static str, path: &Path| {
            let path = path.to_path_buf();
            move |source| SealError::Io { what, path, source }
        };
        let temporary = temporary(path);
        remove_if_there(&*self.storage, &temporary).map_err(io("remove", &temporary))?;
        let written = || {
            let file = self.storage.create(&temporary).map_err(io("make", &temporary))?;
            let file: Arc<dyn StorageFile> = file.into();
            write(FileWriter::new(file.clone()))?.flush().map_err(io("write", &temporary))?;
            file.sync_all().map_err(io("sync", &temporary))?;
            self.storage.rename(&temporary, path).map_err(io("rename", path))
        };
        without_rest(&*self.storage, &temporary, written())?;
        let dir = self.layout.bundles_dir();
        self.storage.open_dir(&dir).and_then(|dir| dir.sync()).map_err(io("sync", &dir))
    }
}

/// A bundle's file.
struct Archive(Box<dyn StorageFile>);

impl ReadAt for Archive {
    fn size(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
}

/// A run while it is looked for.
struct Found {
    first: Place,
    facts: RunFacts,
    seal: Option<(Place, u64, SealReason)>,
}

/// The reason of a seal's line; `None` for other lines.
fn seal_reason(line: &[u8]) -> Option<SealReason> {
    #[derive(serde::Deserialize)]
    struct SealLine<'a> {
        kind: &'a str,
        reason: Option<SealReason>,
    }
    let line: SealLine<'_> = serde_json::from_slice(line).ok()?;
    line.reason.filter(|_| line.kind == "run.seal")
}

impl Anchor {
    /// The manifest's rows: keys that sign entries, the manifest, the run's checkpoint and the anchor's note.
    fn rows(
        &self,
        instance: &Instance,
        signed: impl Iterator<Item = (estoppel_evidence::KeyId, Use)>,
    ) -> Result<Vec<KeyRow>, SealError> {
        let mut rows: Vec<KeyRow> = Vec::new();
        let mut ids: Vec<_> = signed.map(|(id, _)| id).collect();
        ids.extend([&self.keys.manifest, &self.keys.checkpoint].map(|key| key.public().id()));
        let by_note = self.trust.iter().find(|row| signs(row, instance, &self.note));
        ids.extend(by_note.map(|row| row.kid));
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let row = self.trust.iter().find(|row| row.kid == id);
            let row =
                row.ok_or(SealError::Changed { what: "a key that the trust document does not hold" })?;
            rows.push(KeyRow { alg: row.alg, kid: row.kid, spki: row.spki.clone(), r#use: row.r#use });
        }
        Ok(rows)
    }
}

/// Whether `keys` open the stored bodies of a run. What else may be wrong with it is said when its bundle is written.
pub(crate) fn check_keys(
    storage: &dyn Storage,
    layout: &Layout,
    keys: Option<&BodyKeys>,
    run: RunId,
) -> Result<(), SealError> {
    let mut facts = RunFacts::new();
    let read = Entries { storage, layout }.walk(None, |entry| {
        let is_of_run = entry.note.is_none() && run_of(entry.line) == Some(run);
        Ok::<_, ReadError>(!is_of_run || facts.push(entry.line).is_ok())
    });
    if let Err(error) = read {
        tracing::warn!(code = %error.reason(), %error, "bodies were not looked for");
    }
    for hash in &facts.references().bodies {
        match bodies::open(storage, &layout.bodies_dir(), keys, *hash) {
            Err(source) if matches!(source.reason(), Reason::EncryptionKey | Reason::KeyHookFailed) => {
                return Err(SealError::Unread { hash: *hash, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a note's signature line names that key.
fn signs(row: &TrustRow, instance: &Instance, note: &str) -> bool {
    let named = || {
        let key = PublicKey::from_spki(&envelope::from_base64(&row.spki)?).ok()?;
        let vkey = vkey(instance.as_str(), &key).ok()?;
        let id: [u8; 4] = estoppel_evidence::hash::from_hex(vkey.split('+').nth(1)?)?;
        let signature = note.trim_end().rsplit(' ').next()?;
        Some(envelope::from_base64(signature)?.starts_with(&id))
    };
    row.r#use == Use::Checkpoint && named().unwrap_or(false)
}

fn path_of(name: &str) -> BundlePath {
    name.parse().expect("the bundle's own constants are paths")
}

fn remove_if_there(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where the parts of a bundle are: two temporary files, a little memory, and the journal itself.
struct JournalStaging<'a> {
    bundler: &'a Bundler,
    run: RunId,
    sources: Sources,
    small: HashMap<BundlePath, Vec<u8>>,
}

/// Content that is in the journal already, by the path that it gets in the bundle.
#[derive(Clone, Default)]
struct Sources(Arc<Mutex<HashMap<BundlePath, Origin>>>);

#[derive(Clone)]
enum Origin {
    /// The blob before the entry at that place.
    Blob(Place),
    File(PathBuf),
    Body(Sha256),
}

impl Sources {
    fn add(&self, path: BundlePath, origin: Origin) {
        locked(&self.0).insert(path, origin);
    }

    fn get(&self, path: &BundlePath) -> Option<Origin> {
        locked(&self.0).get(path).cloned()
    }
}

/// What takes the content of a staged file.
enum StagedWriter {
    File(FileWriter),
    Memory(Vec<u8>),
}

impl Write for StagedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Memory(memory) => memory.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Memory(_) => Ok(()),
        }
    }
}

impl<'a> JournalStaging<'a> {
    fn new(bundler: &'a Bundler, run: RunId, sources: Sources) -> Self {
        Self { bundler, run, sources, small: HashMap::new() }
    }

    /// The temporary file of a part that may be large.
    fn part(&self, path: &BundlePath) -> Option<PathBuf> {
        matches!(path.as_str(), ENTRIES | SIGNATURES)
            .then(|| self.bundler.layout.bundles_dir().join(format!("{}.{path}.part", self.run)))
    }

    /// Removes what was staged. What cannot be removed is replaced next time.
    fn clear(&self) {
        for name in [ENTRIES, SIGNATURES] {
            if let Some(part) = self.part(&path_of(name))
                && let Err(error) = remove_if_there(&*self.bundler.storage, &part)
            {
                tracing::warn!(%error, part = %part.display(), "a temporary file could not be removed");
            }
        }
    }
}

impl Drop for JournalStaging<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Staging for JournalStaging<'_> {
    type Writer = StagedWriter;

    fn create(&mut self, path: &BundlePath) -> io::Result<StagedWriter> {
        let Some(part) = self.part(path) else { return Ok(StagedWriter::Memory(Vec::new())) };
        remove_if_there(&*self.bundler.storage, &part)?;
        Ok(StagedWriter::File(FileWriter::new(self.bundler.storage.create(&part)?.into())))
    }

    fn close(&mut self, path: &BundlePath, writer: StagedWriter) -> io::Result<()> {
        match writer {
            StagedWriter::File(mut file) => file.flush(),
            StagedWriter::Memory(content) => {
                self.small.insert(path.clone(), content);
                Ok(())
            }
        }
    }

    fn open(&self, path: &BundlePath) -> io::Result<Box<dyn Read + '_>> {
        if let Some(content) = self.small.get(path) {
            return Ok(Box::new(content.as_slice()));
        }
        let storage = &*self.bundler.storage;
        if let Some(part) = self.part(path) {
            return Ok(Box::new(FileReader::new(storage.open(&part)?)));
        }
        match self.sources.get(path) {
            Some(Origin::Blob(place)) => Ok(Box::new(io::Cursor::new(self.bundler.entries().blob(place)?))),
            Some(Origin::File(file)) => Ok(Box::new(FileReader::new(storage.open(&file)?))),
            Some(Origin::Body(hash)) => Ok(self.bundler.body(hash).map_err(io::Error::other)?.content),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Appends to a file through a buffer.
struct FileWriter {
    file: Arc<dyn StorageFile>,
    buffer: Vec<u8>,
    offset: u64,
}

impl FileWriter {
    fn new(file: Arc<dyn StorageFile>) -> Self {
        Self { file, buffer: Vec::with_capacity(CHUNK_BYTES), offset: 0 }
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > CHUNK_BYTES {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64; // a length fits
        self.buffer.clear();
        Ok(())
    }
}
