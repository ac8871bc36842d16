//! Reading a journal that another process may be writing. Nothing is judged and no lock is taken.

use std::path::Path;

use crate::beginning::found;
use crate::entries::{Entries, ReadError};
use crate::storage::FileSystem;

/// Gives the lines of the entries with a log index below `entries_max` of the journal in `dir` to `take`, in the order of the log.
///
/// # Errors
/// [`ReadError`].
pub fn read_lines(dir: &Path, entries_max: u64, mut take: impl FnMut(&[u8])) -> Result<(), ReadError> {
    let storage = FileSystem;
    let layout = found(&storage, dir)?;
    Entries { storage: &storage, layout: &layout }.walk(None, |entry| {
        if entry.note.is_none() && entry.index < entries_max {
            take(entry.line);
        }
        Ok(entry.index < entries_max)
    })
}
