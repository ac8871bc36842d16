//! The segment that is being written, and the spare that takes over from it.
//!
//! The spare is laid out in advance, so that a full disk is noticed while there is still a whole segment of room for
//! the calls in flight: admission stops first, and nothing that was forwarded is left without a place.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use estoppel_evidence::{Instance, Leaf};

use crate::frame::{self, END_BYTES, HEADER_BYTES, Kind};
use crate::storage::{SegmentFile, Storage};

/// Segments of one journal, open for appending.
pub(crate) struct Segments {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    instance: Instance,
    bytes: u64,
    file: Box<dyn SegmentFile>,
    pub(crate) first_index: u64,
    pub(crate) offset: u64,
    spare: Option<Box<dyn SegmentFile>>,
}

/// Name of the segment that starts with `index`.
pub(crate) fn file_name(index: u64) -> String {
    format!("{index:020}.seg")
}

/// The spare lies beside the folder: every file inside it is a segment.
fn spare_of(folder: &Path) -> PathBuf {
    folder.with_file_name("spare")
}

impl Segments {
    /// Begins a segment at `index`, with a spare beside it.
    pub(crate) fn begin(
        storage: Arc<dyn Storage>,
        folder: &Path,
        instance: &Instance,
        bytes: u64,
        index: u64,
        last: Option<Leaf>,
    ) -> io::Result<Self> {
        // A spare of an earlier process may have another size, or a header already.
        let spare = spare_of(folder);
        if spare.exists() {
            std::fs::remove_file(&spare)?;
        }
        let mut file = storage.create(&folder.join(file_name(index)), bytes)?;
        file.write_at(&frame::header(index, last, instance), 0)?;
        file.sync()?;
        let mut segments = Self {
            storage,
            folder: folder.to_path_buf(),
            instance: instance.clone(),
            bytes,
            file,
            first_index: index,
            offset: HEADER_BYTES as u64,
            spare: None,
        };
        segments.lay_out_spare()?;
        Ok(segments)
    }

    /// Goes on in a segment that exists, from `offset` on.
    pub(crate) fn resume(
        storage: Arc<dyn Storage>,
        folder: &Path,
        instance: &Instance,
        bytes: u64,
        first_index: u64,
        offset: u64,
    ) -> io::Result<Self> {
        let spare = spare_of(folder);
        if spare.exists() {
            std::fs::remove_file(&spare)?;
        }
        let path = folder.join(file_name(first_index));
        let file = storage.open(&path)?;
        let size = std::fs::metadata(&path)?.len();
        let mut segments = Self {
            storage,
            folder: folder.to_path_buf(),
            instance: instance.clone(),
            bytes,
            file,
            first_index,
            offset,
            spare: None,
        };
        segments.bytes = size.max(offset + END_BYTES);
        segments.lay_out_spare()?;
        segments.bytes = size.max(offset + END_BYTES);
        Ok(segments)
    }

    /// Whether `bytes` more fit before the end frame.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.offset + bytes + END_BYTES <= self.bytes
    }

    /// Makes the spare if there is none. On error admission must stop.
    pub(crate) fn lay_out_spare(&mut self) -> io::Result<()> {
        if self.spare.is_none() {
            self.spare = Some(self.storage.create(&spare_of(&self.folder), self.bytes)?);
        }
        Ok(())
    }

    pub(crate) fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// Appends bytes. Not durable before [`Segments::sync`].
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    /// Closes this segment and goes on in the next, whose first entry is `index`. Must only be called with a spare.
    /// Large single batches get a segment of their own size.
    pub(crate) fn rotate(
        &mut self,
        index: u64,
        last: Option<Leaf>,
        room: u64,
        segment_bytes: u64,
    ) -> io::Result<()> {
        let mut end = Vec::new();
        frame::whole(&mut end, Kind::End, index, &[&[0]]);
        self.append(&end)?;
        self.sync()?;
        let needed = HEADER_BYTES as u64 + room + END_BYTES;
        let (mut file, bytes) = match self.spare.take() {
            Some(spare) if needed <= self.bytes.min(segment_bytes) => (spare, segment_bytes.min(self.bytes)),
            _ => {
                let path = spare_of(&self.folder);
                if path.exists() {
                    std::fs::remove_file(&path)?;
                }
                let bytes = needed.max(segment_bytes);
                (self.storage.create(&path, bytes)?, bytes)
            }
        };
        file.write_at(&frame::header(index, last, &self.instance), 0)?;
        file.sync()?;
        self.storage.rename(&spare_of(&self.folder), &self.folder.join(file_name(index)))?;
        self.file = file;
        self.bytes = bytes;
        self.first_index = index;
        self.offset = HEADER_BYTES as u64;
        Ok(())
    }
}
