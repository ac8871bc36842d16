//! Reading along: what is durable, in the order of the log, for whoever passes it on.
//!
//! A [`Follower`] reads the segments and nothing else; it holds no lock of the writer, and the writer knows of it only a
//! number that it raises after each batch. So a reader that is slow, stuck or gone costs the data path nothing.
//!
//! Promises: entries come in the order of their log index, each once, and only when they are as durable as the settings
//! say. What cannot come is said: entries whose segment was removed are a [`Followed::Gap`], and a journal that no longer
//! holds what the position names is a [`Followed::Rewound`]. A damaged segment is an error, and is tried again as often as
//! it is asked for; nothing is passed over in silence.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use estoppel_evidence::hash::Leaf;
use tokio::sync::watch;

use crate::entries::ReadError;
use crate::layout::Layout;
use crate::segment::{FrameKind, FrameReader, HEADER_BYTES, SIGNATURE_BYTES};
use crate::storage::{Storage, StorageFile};

/// Bytes that are read from a segment at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// How far a reader has come. It can be stored, and a later process goes on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Log index of the next entry.
    pub index: u64,
    /// Hash of the entry before it, by which a journal that was cut or replaced is noticed.
    pub leaf: Option<Leaf>,
    /// First index of the segment which that entry is in. No cut of a recovery reaches below it.
    pub segment: u64,
}

/// One durable entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Log index.
    pub index: u64,
    /// Its hash: the receipt's id.
    pub leaf: Leaf,
    /// The bytes that are hashed and signed, without the line feed.
    pub line: Vec<u8>,
    /// The signature of an entry in a run with `sign: each`.
    pub signature: Option<[u8; SIGNATURE_BYTES]>,
    /// Where a reader stands that has taken this entry.
    pub after: Position,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// At least one entry.
    Entries(Vec<Entry>),
    /// Nothing more is durable yet.
    UpToDate,
    /// The entries `from..to` are in no segment any more; reading goes on at `after`.
    Gap { from: u64, to: u64, after: Position },
    /// The entry before `index` is not the one that the position names: the journal lost its end, or was replaced. Reading
    /// goes on at `after`, at the latest place below which nothing can have been lost.
    Rewound { index: u64, after: Position },
}

/// Reads the journal as it grows.
pub struct Follower {
    storage: Arc<dyn Storage>,
    layout: Arc<Layout>,
    durable: watch::Receiver<u64>,
    position: Position,
    /// The position comes from elsewhere and was not compared with the journal yet.
    unchecked: bool,
    open: Option<Open>,
}

/// The segment that is being read.
struct Open {
    first: u64,
    path: PathBuf,
    file: Box<dyn StorageFile>,
    offset: u64,
}

impl Open {
    fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io { path: self.path.clone(), source }
    }
}

impl Follower {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        layout: Arc<Layout>,
        durable: watch::Receiver<u64>,
        position: Position,
    ) -> Self {
        Self { storage, layout, durable, position, unchecked: true, open: None }
    }

    /// Entries that are durable.
    pub fn durable(&self) -> u64 {
        *self.durable.borrow()
    }

    /// [`Follower::durable`], for whoever measures.
    pub fn gauge(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let durable = self.durable.clone();
        move || *durable.borrow()
    }

    /// What was read up to.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Goes back, or on, to a position.
    pub fn seek(&mut self, position: Position) {
        self.position = position;
        self.open = None;
    }

    /// Resolves when more is durable than was read; never when the journal is closed.
    pub async fn more(&mut self) {
        let next = self.position.index;
        if self.durable.wait_for(|durable| *durable > next).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The next entries: at most `entries_max` and, but for the first, at most `bytes_max` of lines.
    ///
    /// # Errors
    /// [`ReadError`]; the position stays, so that the same entries can be asked for again.
    pub fn read(&mut self, entries_max: usize, bytes_max: usize) -> Result<Followed, ReadError> {
        if self.unchecked {
            let rewound = self.check()?;
            self.unchecked = false;
            if let Some(rewound) = rewound {
                return Ok(rewound);
            }
        }
        let durable = self.durable();
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        while self.position.index < durable {
            let Some(mut open) =
                self.open.take().map_or_else(|| self.find(self.position.index), |o| Ok(Some(o)))?
            else {
                return if entries.is_empty() {
                    Ok(self.gap(durable))
                } else {
                    Ok(Followed::Entries(entries))
                };
            };
            let ended = read_segment(&mut open, durable, &mut self.position, |entry| {
                bytes += entry.line.len();
                entries.push(entry);
                entries.len() < entries_max && bytes < bytes_max
            })?;
            if !ended {
                self.open = Some(open);
                break;
            }
            if self.layout.segment_with(self.position.index) == Some(open.first)
                && self.position.index < durable
            {
                return Err(ReadError::Damaged { path: open.path, offset: open.offset });
            }
        }
        Ok(if entries.is_empty() { Followed::UpToDate } else { Followed::Entries(entries) })
    }

    /// Whether the entry before the position is the one that it names.
    fn check(&mut self) -> Result<Option<Followed>, ReadError> {
        let Some(leaf) = self.position.leaf else { return Ok(None) };
        let index = self.position.index;
        let start = Position { index: self.position.segment, leaf: None, segment: self.position.segment };
        if index <= self.durable() {
            let Some(mut open) = self.find(index.saturating_sub(1))? else { return Ok(None) };
            let mut position = Position { index: index.saturating_sub(1), ..start.clone() };
            let mut found = None;
            read_segment(&mut open, index, &mut position, |entry| {
                found = Some(entry.leaf);
                false
            })?;
            if found == Some(leaf) {
                return Ok(None);
            }
        }
        // Whatever a recovery cut off, it was of this segment.
        let first = self.layout.segment_with(start.index.min(self.durable())).unwrap_or(0);
        let after = Position { index: first, leaf: None, segment: first };
        self.seek(after.clone());
        Ok(Some(Followed::Rewound { index, after }))
    }

    /// The segment that has entry `index`, opened before its first frame; `None` when it was removed.
    fn find(&self, index: u64) -> Result<Option<Open>, ReadError> {
        let first = self.layout.segment_with(index).ok_or(ReadError::Segment)?;
        if index < first {
            return Ok(None); // a start found that the journal begins later
        }
        let path = self.layout.segment_at(first);
        match self.storage.open(&path) {
            Ok(file) => Ok(Some(Open { first, path, file, offset: HEADER_BYTES as u64 })),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_folder_gone(&path) => Ok(None),
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }

    /// Without the folder nothing was removed on purpose; the disk is not there.
    fn is_folder_gone(&self, path: &Path) -> bool {
        path.parent().is_some_and(|folder| self.storage.open_dir(folder).is_err())
    }

    /// Passes over a segment that is not there.
    fn gap(&mut self, durable: u64) -> Followed {
        let from = self.position.index;
        let to = self.layout.segment_after(from).unwrap_or(durable).max(from + 1);
        let after = Position { index: to, leaf: None, segment: to };
        self.seek(after.clone());
        Followed::Gap { from, to, after }
    }
}

/// Gives the entries from `position` on that are below `durable` to `take`, until it says to stop. Whether the segment came
/// to its end.
fn read_segment(
    open: &mut Open,
    durable: u64,
    position: &mut Position,
    mut take: impl FnMut(Entry) -> bool,
) -> Result<bool, ReadError> {
    // A reader of its own for each pass: what stood behind the tail the last time is no longer so.
    let mut reader = FrameReader::in_chunks(&*open.file, CHUNK_BYTES).map_err(|source| open.io(source))?;
    let mut offset = open.offset;
    let mut go_on = true;
    let mut ended = false;
    while go_on && position.index < durable {
        let damaged = || ReadError::Damaged { path: open.path.clone(), offset };
        let frame = reader.frame(offset).map_err(|source| open.io(source))?.ok_or_else(damaged)?;
        match frame.kind {
            FrameKind::Blob | FrameKind::Checkpoint => {}
            FrameKind::End => {
                ended = true;
                break;
            }
            FrameKind::Entry if frame.index < position.index => {}
            FrameKind::Entry => {
                let (signature, line) =
                    frame.entry().filter(|_| frame.index == position.index).ok_or_else(damaged)?;
                let leaf = Leaf::of(line);
                *position =
                    Position { index: frame.index.saturating_add(1), leaf: Some(leaf), segment: open.first };
                let (line, signature) = (line.to_vec(), signature.copied());
                go_on = take(Entry { index: frame.index, leaf, line, signature, after: position.clone() });
            }
        }
        offset += frame.bytes();
    }
    open.offset = offset;
    Ok(ended)
}
