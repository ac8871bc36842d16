//! Where a journal begins whose oldest segments were deleted (SPEC section 12, `beginning.json`).
//!
//! The file takes the place of the segments before: it says what they add up to, by which plan they were deleted and where copies of
//! them are. It is signed, and a start goes on from it only when its signature is that of a manifest key of the instance and the log
//! says that the deletion was begun. It is there before the first file goes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use estoppel_evidence::entry::{Counters, RunClass, Sign};
use estoppel_evidence::envelope::{self, BEGINNING_PREDICATE, STATEMENT_TYPE, Subject, statement};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::tree::Frontier;
use estoppel_evidence::{Instance, KeyId, Leaf, PublicKey, Root, RunId, Sha256, Use};

use crate::chain::Chain;
use crate::entries::ReadError;
use crate::error::JournalError;
use crate::layout::Layout;
use crate::recover::{Folded, fold};
use crate::segment::file_name;
use crate::storage::{Storage, read_small, write_whole};
use crate::trust::TrustDocument;

/// Most bytes of the file. Default and fixed: 64 MiB.
const BYTES_MAX: u64 = 64 << 20;
/// Most segments that it lists.
const SEGMENTS_MAX: usize = 65_536;
const VERSION: &str = "pef-beginning/v0";

/// Where the content of a deleted segment was archived. Members are in the order of canonical JSON, here and below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    pub bucket: String,
    pub endpoint: String,
    pub key: String,
    pub retain_until: UnixMicros,
    pub version: String,
}

/// A segment that was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeletedSegment {
    pub bytes: u64,
    pub copy: Copy,
    pub entries: u64,
    pub first: u64,
    pub head: Leaf,
    pub plan: Sha256,
    pub sha256: Sha256,
}

/// A run with entries on both sides: what those before add up to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CarriedRun {
    pub class: RunClass,
    pub counters: Counters,
    pub head: Leaf,
    pub kid: KeyId,
    pub mono_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub opened: UnixMicros,
    pub peaks: Vec<Root>,
    pub run: RunId,
    pub sign: Sign,
    pub size: u64,
}

impl CarriedRun {
    fn of(chain: &Chain) -> Option<Self> {
        Some(Self {
            class: chain.class,
            counters: chain.counters,
            head: chain.head?,
            kid: chain.kid,
            mono_us: chain.mono_last(),
            name: chain.name.as_deref().map(Into::into),
            opened: chain.opened,
            peaks: chain.frontier.peaks().collect(),
            run: chain.run,
            sign: chain.sign,
            size: chain.seq(),
        })
    }

    /// The tree over its entries before; none if there are not as many peaks as its size asks for.
    pub fn frontier(&self) -> Option<Frontier> {
        Frontier::resumed(self.size, &self.peaks)
    }
}

/// What is in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Beginning {
    pub config: Sha256,
    /// Hash of the last entry before.
    pub head: Leaf,
    pub iss: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seal: Option<Leaf>,
    pub peaks: Vec<Root>,
    /// Of the last deletion.
    pub plan: Sha256,
    pub policy: Sha256,
    pub runs: Vec<CarriedRun>,
    pub segments: Vec<DeletedSegment>,
    /// Entries before.
    pub size: u64,
    v: String,
}

impl Beginning {
    /// Reads the file of a journal without looking at its signature; none if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not what this writes.
    pub fn read(storage: &dyn Storage, layout: &Layout) -> Result<Option<Self>, ReadError> {
        let path = layout.beginning();
        let failed = |source| ReadError::Io { path: path.clone(), source };
        let Some(bytes) = read_small(storage, &path, BYTES_MAX).map_err(failed)? else { return Ok(None) };
        let read = envelope::payload(&bytes).and_then(|payload| Self::parse(&payload));
        read.map(Some).ok_or(ReadError::Damaged { path, offset: 0 })
    }

    /// As [`Beginning::read`], once the signature is found to be by a manifest key of the instance.
    ///
    /// # Errors
    /// [`JournalError::Io`], and [`JournalError::Beginning`] for anything that may not be gone on from.
    pub fn verified(
        storage: &dyn Storage,
        layout: &Layout,
        trust: &TrustDocument,
        instance: &Instance,
    ) -> Result<Option<Self>, JournalError> {
        let path = layout.beginning();
        let read = read_small(storage, &path, BYTES_MAX);
        let Some(bytes) = read.map_err(|source| JournalError::io("read", &path, source))? else {
            return Ok(None);
        };
        let refused = |what: &'static str| JournalError::Beginning { path: path.clone(), what };
        let listed = |id: KeyId| {
            let is_it = |row: &&crate::trust::TrustRow| {
                row.kid == id && row.r#use == Use::Manifest && row.iss == *instance
            };
            let row = trust.keys.iter().find(is_it)?;
            PublicKey::from_spki(&envelope::from_base64(&row.spki)?).ok()
        };
        let payload = envelope::open(STATEMENT_TYPE, &bytes, listed)
            .ok_or_else(|| refused("it is not signed by a manifest key of this journal"))?;
        let read = Self::parse(&payload).ok_or_else(|| refused("it is not well-formed"))?;
        if read.iss != instance.as_str() {
            return Err(refused("it is of another instance"));
        }
        Ok(Some(read))
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Signed {
            predicate: Beginning,
        }
        let Signed { predicate } = serde_json::from_slice(payload).ok()?;
        (predicate.is_whole() && predicate.statement() == payload).then_some(predicate)
    }

    fn is_whole(&self) -> bool {
        let mut next = 0_u64;
        let follow = self.segments.iter().all(|segment| {
            let fits = segment.first == next && segment.entries > 0;
            next = segment.first.saturating_add(segment.entries);
            fits
        });
        let head = self.segments.last().map(|segment| segment.head);
        follow
            && next == self.size
            && self.size < 1 << 53
            && head == Some(self.head)
            && self.v == VERSION
            && self.frontier().is_some()
            && self.runs.iter().all(|run| run.size > 0 && run.frontier().is_some())
            && self.runs.is_sorted_by(|a, b| a.run < b.run)
    }

    /// The instance tree over the entries before.
    pub fn frontier(&self) -> Option<Frontier> {
        Frontier::resumed(self.size, &self.peaks)
    }

    /// What is signed: an in-toto statement about the deleted segments.
    pub fn statement(&self) -> Vec<u8> {
        let subject = |segment: &DeletedSegment| Subject {
            name: format!("segments/{}", file_name(segment.first)),
            digest: segment.sha256,
        };
        let subjects: Vec<Subject> = self.segments.iter().map(subject).collect();
        statement(BEGINNING_PREDICATE, self, &subjects)
    }

    /// Where the journal begins once `deleted` are gone as well, which follow each other from where it begins now.
    ///
    /// # Errors
    /// [`JournalError`]: a segment is damaged, or more were deleted than one file lists.
    pub fn after(
        storage: &dyn Storage,
        layout: &Layout,
        instance: &Instance,
        plan: Sha256,
        deleted: Vec<DeletedSegment>,
    ) -> Result<Option<Self>, JournalError> {
        let before = Self::read(storage, layout)
            .map_err(|error| JournalError::Failed { what: crate::error::chain(&error) })?;
        let Some(last) = deleted.last() else { return Ok(None) };
        let to = last.first.saturating_add(last.entries);
        let Folded { frontier, chains, head, last_seal, opening } =
            fold(storage, layout, instance, before.as_ref(), to)?;
        let path = layout.beginning();
        let refused = |what: &'static str| JournalError::Beginning { path: path.clone(), what };
        let opening = opening.ok_or_else(|| refused("no run was opened before it"))?;
        let mut runs: Vec<CarriedRun> = chains.values().filter_map(CarriedRun::of).collect();
        runs.sort_by_key(|run| run.run);
        let mut segments = before.map(|before| before.segments).unwrap_or_default();
        segments.extend(deleted);
        if segments.len() > SEGMENTS_MAX || runs.len() > SEGMENTS_MAX {
            return Err(refused("it would list more than 65,536 segments or runs"));
        }
        let made = Self {
            config: opening.config,
            head: head.ok_or_else(|| refused("there are no entries before it"))?,
            iss: instance.as_str().into(),
            last_seal,
            peaks: frontier,
            plan,
            policy: opening.policy,
            runs,
            segments,
            size: to,
            v: VERSION.into(),
        };
        if made.is_whole() { Ok(Some(made)) } else { Err(refused("the segments do not add up to it")) }
    }
}

/// Puts what was signed in place. From now on the journal begins there.
pub(crate) fn put(
    storage: &dyn Storage,
    layout: &Layout,
    signed: &[u8],
) -> Result<(), (PathBuf, std::io::Error)> {
    let path = layout.beginning();
    write_whole(storage, &path, signed).map_err(|source| (path, source))
}

/// How many entries are before the first one of the journal in that folder.
pub(crate) fn size_of(storage: &dyn Storage, layout: &Layout) -> Result<u64, ReadError> {
    Ok(Beginning::read(storage, layout)?.map_or(0, |beginning| beginning.size))
}

/// The segments of the journal in `dir`, from where it begins.
pub(crate) fn found(storage: &dyn Storage, dir: &Path) -> Result<Layout, ReadError> {
    let layout = Layout::new(dir, None);
    let folder = layout.segments_dir();
    let from = size_of(storage, &layout)?;
    let names = storage.list(&folder).map_err(|source| ReadError::Io { path: folder, source })?;
    let firsts = names.iter().filter_map(|name| crate::segment::first_of(name));
    let mut segments: Vec<u64> = firsts.filter(|first| *first >= from).collect();
    segments.sort_unstable();
    layout.set_segments(segments);
    Ok(layout)
}
