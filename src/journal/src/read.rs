//! Reading a journal that another process may be writing. Nothing is judged and no lock is taken.

use std::path::Path;

use crate::entries::{Entries, ReadError};
use crate::layout::Layout;
use crate::segment::first_of;
use crate::storage::{FileSystem, Storage as _};

/// Gives the lines of the first `entries_max` entries of the journal in `dir` to `take`, in the order of the log.
///
/// # Errors
/// [`ReadError`].
pub fn read_lines(dir: &Path, entries_max: u64, mut take: impl FnMut(&[u8])) -> Result<(), ReadError> {
    let storage = FileSystem;
    let layout = Layout::new(dir, None);
    let folder = layout.segments_dir();
    let names = storage.list(&folder).map_err(|source| ReadError::Io { path: folder, source })?;
    let mut segments: Vec<u64> = names.iter().filter_map(|name| first_of(name)).collect();
    segments.sort_unstable();
    layout.set_segments(segments);
    Entries { storage: &storage, layout: &layout }.walk(None, |entry| {
        if entry.note.is_none() && entry.index < entries_max {
            take(entry.line);
        }
        Ok(entry.index < entries_max)
    })
}
