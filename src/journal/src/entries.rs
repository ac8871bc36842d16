//! Reading entries back from the segments, for bundles and proofs.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use estoppel_evidence::hash::Leaf;
use estoppel_evidence::tree::Frontier;
use estoppel_evidence::{Reason, RunId, Sha256};

use crate::beginning::{Beginning, size_of};
use crate::chain::Place;
use crate::error::io_reason;
use crate::layout::Layout;
use crate::segment::{FrameKind, FrameReader, HEADER_BYTES, SIGNATURE_BYTES};
use crate::storage::{Storage, StorageFile};

/// Why entries could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("could not read `{path}`")]
    Io { path: PathBuf, source: io::Error },
    #[error("`{path}` is damaged at offset {offset}")]
    Damaged { path: PathBuf, offset: u64 },
    #[error("the journal has no such segment")]
    Segment,
}

impl ReadError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Io { source, .. } => io_reason(source),
            Self::Damaged { .. } | Self::Segment => Reason::JournalCorrupt,
        }
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { source, .. } => source,
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// One entry, or a checkpoint that stands between entries.
#[derive(Clone, Copy)]
pub(crate) struct ReadEntry<'a> {
    /// Where its frame starts, or the frame of the blob before it.
    pub place: Place,
    /// Its log index; of a checkpoint its size.
    pub index: u64,
    pub signature: Option<&'a [u8; SIGNATURE_BYTES]>,
    pub line: &'a [u8],
    /// A checkpoint; then the line is empty.
    pub note: Option<&'a str>,
}

/// The entries of a journal.
#[derive(Clone, Copy)]
pub(crate) struct Entries<'a> {
    pub storage: &'a dyn Storage,
    pub layout: &'a Layout,
}

impl Entries<'_> {
    fn open(&self, ordinal: usize) -> Result<(Box<dyn StorageFile>, PathBuf), ReadError> {
        let path = self.layout.segment(ordinal).ok_or(ReadError::Segment)?;
        let file = self.storage.open(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
        Ok((file, path))
    }

    /// Whether a segment is not there because the journal begins after it by now.
    fn was_deleted(&self, ordinal: usize, error: &ReadError) -> Result<bool, ReadError> {
        match (error, self.layout.first(ordinal)) {
            (ReadError::Io { source, .. }, Some(first)) if source.kind() == io::ErrorKind::NotFound => {
                Ok(first < size_of(self.storage, self.layout)?)
            }
            _ => Ok(false),
        }
    }

    /// Gives the entries at `places` to `take` until it says to stop.
    pub fn at<E: From<ReadError>>(
        &self,
        places: &[Place],
        take: &mut impl FnMut(ReadEntry<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        for group in places.chunk_by(|a, b| a.segment() == b.segment()) {
            let Some(ordinal) = group.first().map(|place| place.segment()) else { break };
            let (file, path) = self.open(ordinal)?;
            let mut reader = reader(&*file, &path)?;
            for place in group {
                let mut offset = place.offset();
                let (kind, bytes) = kind(&mut reader, &path, offset)?;
                if kind == FrameKind::Blob {
                    offset += bytes;
                }
                let frame =
                    reader.frame(offset).map_err(|source| ReadError::Io { path: path.clone(), source })?;
                let damaged = || ReadError::Damaged { path: path.clone(), offset };
                let frame = frame.filter(|frame| frame.kind == FrameKind::Entry).ok_or_else(damaged)?;
                let (signature, line) = frame.entry().ok_or_else(damaged)?;
                if !take(ReadEntry { place: *place, index: frame.index, signature, line, note: None })? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Gives every entry and checkpoint to `take` until it says to stop; only those from one place to another if asked
    /// so. Ends at the tail that is still being written. Segments that were deleted since are passed over.
    pub fn walk<E: From<ReadError>>(
        &self,
        range: Option<(Place, Place)>,
        mut take: impl FnMut(ReadEntry<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let count = self.layout.segments();
        let (first, last) = range.map_or((0, count), |(from, to)| (from.segment(), to.segment() + 1));
        for ordinal in first..last.min(count) {
            let (file, path) = match self.open(ordinal) {
                Err(error) if range.is_none() && self.was_deleted(ordinal, &error)? => continue,
                opened => opened?,
            };
            let mut reader = reader(&*file, &path)?;
            let mut offset = match range {
                Some((from, _)) if ordinal == from.segment() => from.offset(),
                _ => HEADER_BYTES as u64,
            };
            let mut start = offset;
            let mut closed = false;
            while let Some(frame) =
                reader.frame(offset).map_err(|source| ReadError::Io { path: path.clone(), source })?
            {
                let next = offset + frame.bytes();
                let damaged = || ReadError::Damaged { path: path.clone(), offset };
                let place = Place::new(ordinal, start);
                let index = frame.index;
                let go_on = match frame.kind {
                    FrameKind::Blob => {
                        offset = next;
                        continue;
                    }
                    FrameKind::Entry => {
                        let (signature, line) = frame.entry().ok_or_else(damaged)?;
                        let more = take(ReadEntry { place, index, signature, line, note: None })?;
                        more && range.is_none_or(|(_, to)| place < to)
                    }
                    FrameKind::Checkpoint => {
                        let note = std::str::from_utf8(frame.payload).map_err(|_| damaged())?;
                        take(ReadEntry { place, index, signature: None, line: &[], note: Some(note) })?
                    }
                    FrameKind::End => {
                        closed = true;
                        break;
                    }
                };
                if !go_on {
                    return Ok(());
                }
                offset = next;
                start = next;
            }
            if !closed && ordinal + 1 < count {
                return Err(ReadError::Damaged { path, offset }.into());
            }
        }
        Ok(())
    }

    /// The blob that stands at `place`, before its entry.
    pub fn blob(&self, place: Place) -> Result<Vec<u8>, ReadError> {
        let (file, path) = self.open(place.segment())?;
        let failed = |source| ReadError::Io { path: path.clone(), source };
        let mut reader = FrameReader::for_one(&*file).map_err(failed)?;
        let offset = place.offset();
        let frame = reader.frame(offset).map_err(failed)?;
        let blob = frame.filter(|frame| frame.kind == FrameKind::Blob).and_then(|frame| frame.blob());
        match blob {
            Some((digest, content)) if Sha256::of(content).0 == *digest => Ok(content.to_vec()),
            _ => Err(ReadError::Damaged { path, offset }),
        }
    }
}

fn reader<'f>(file: &'f dyn StorageFile, path: &Path) -> Result<FrameReader<'f>, ReadError> {
    FrameReader::new(file).map_err(|source| ReadError::Io { path: path.into(), source })
}

fn kind(reader: &mut FrameReader<'_>, path: &Path, offset: u64) -> Result<(FrameKind, u64), ReadError> {
    let frame = reader.frame(offset).map_err(|source| ReadError::Io { path: path.into(), source })?;
    frame
        .map(|frame| (frame.kind, frame.bytes()))
        .ok_or_else(|| ReadError::Damaged { path: path.into(), offset })
}

/// The run of an entry.
pub(crate) fn run_of(line: &[u8]) -> Option<RunId> {
    #[derive(Deserialize)]
    struct Line {
        run: RunId,
    }
    serde_json::from_slice::<Line>(line).ok().map(|line| line.run)
}

/// Root over the leaves `from..to` of the instance log, recomputed from the segments. It is a subtree beside the path of an entry that
/// is there, so what it has of entries that are not is made of full subtrees whose roots are known.
pub(crate) fn leaf_root(entries: &Entries<'_>, (from, to): (u64, u64)) -> Result<[u8; 32], ReadError> {
    let before = Beginning::read(entries.storage, entries.layout)?;
    let (begin, mut frontier) = match before.as_ref().and_then(|before| before.frontier()?.part(from, to)) {
        Some(frontier) => (from.saturating_add(frontier.size()), frontier),
        None => (from, Frontier::default()),
    };
    entries.walk(None, |entry| {
        if entry.note.is_none() && (begin..to).contains(&entry.index) {
            frontier.push(Leaf::of(entry.line));
        }
        Ok::<_, ReadError>(entry.index < to)
    })?;
    Ok(frontier.root().0)
}
