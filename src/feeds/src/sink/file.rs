//! A file that is rotated. A crash leaves at most one torn line at its end, which is cut off before the next is written;
//! its entry comes again.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::SinkError;
use crate::document::{DOCUMENT_BYTES_MAX, Document};
use crate::settings::FileTo;

/// The file, and those that it once was.
pub(crate) struct FileSink {
    path: PathBuf,
    rotate_bytes: u64,
    keep: u32,
    open: Option<(File, u64)>,
}

impl FileSink {
    pub fn new(to: &FileTo) -> Self {
        Self { path: to.path.clone(), rotate_bytes: to.rotate_bytes, keep: to.keep, open: None }
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> SinkError + use<> {
        let path = self.path.clone();
        move |source| SinkError::File { what, path, source }
    }

    pub fn deliver(&mut self, documents: &[Document]) -> Result<(), SinkError> {
        let mut lines = Vec::new();
        let mut size = self.size()?;
        for document in documents {
            let more = document.json.len() as u64 + 1; // a length fits
            if size > 0 && size + more > self.rotate_bytes {
                self.append(&lines)?;
                lines.clear();
                self.rotate()?;
                size = self.size()?;
            }
            lines.extend_from_slice(&document.json);
            lines.push(b'\n');
            size += more;
        }
        self.append(&lines)
    }

    pub fn flush(&mut self) -> Result<(), SinkError> {
        match &self.open {
            Some((file, _)) => file.sync_data().map_err(self.failed("sync")),
            None => Ok(()),
        }
    }

    /// Bytes of the file, which is open then. One that somebody moved or removed is made again.
    fn size(&mut self) -> Result<u64, SinkError> {
        if self.open.as_ref().is_some_and(|(file, _)| !is_at(file, &self.path)) {
            self.flush()?;
            self.open = None;
        }
        if let Some((_, size)) = &self.open {
            return Ok(*size);
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o640);
        let file = options.open(&self.path).map_err(self.failed("open"))?;
        let size = whole_lines(&file).map_err(self.failed("read"))?;
        file.set_len(size).map_err(self.failed("cut"))?;
        self.open = Some((file, size));
        Ok(size)
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), SinkError> {
        let failed = self.failed("write");
        let Some((file, size)) = &mut self.open else { return Ok(()) };
        if let Err(error) = file.write_all(lines) {
            self.open = None; // how much of it is there is found out when it is opened again
            return Err(failed(error));
        }
        *size += lines.len() as u64; // a length fits
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), SinkError> {
        self.flush()?;
        self.open = None;
        for older in (1..self.keep).rev() {
            let from = numbered(&self.path, older);
            match std::fs::rename(&from, numbered(&self.path, older + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("rotate")(error));
                }
                _ => {}
            }
        }
        let moved = match self.keep {
            0 => std::fs::remove_file(&self.path),
            _ => std::fs::rename(&self.path, numbered(&self.path, 1)),
        };
        moved.map_err(self.failed("rotate"))
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let here = file.metadata().map(|meta| (meta.dev(), meta.ino()));
    let there = std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((here, there), (Ok(here), Ok(there)) if here == there)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

/// Bytes up to and with the last line feed.
fn whole_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = vec![0; DOCUMENT_BYTES_MAX];
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        let part = chunk.get_mut(..usize::try_from(end - start).unwrap_or(0)).unwrap_or_default();
        file.read_exact_at(part, start)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        let json = text.as_bytes().to_vec();
        Document { uid: text.into(), instance: String::new(), time_us: 0, severity: 1, json }
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[test]
    fn files_are_rotated_between_lines_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.ndjson");
        let mut sink = FileSink::new(&FileTo { path: path.clone(), rotate_bytes: 8, keep: 2 });
        for batch in [["aaa", "bbb"], ["ccc", "ddd"], ["eee", "fff"], ["ggg", "hhh"]] {
            sink.deliver(&batch.map(document)).unwrap();
        }
        assert_eq!(lines(&path), ["ggg", "hhh"]);
        assert_eq!(lines(&numbered(&path, 1)), ["eee", "fff"]);
        assert_eq!(lines(&numbered(&path, 2)), ["ccc", "ddd"]);
        assert!(!numbered(&path, 3).exists());
    }

    #[test]
    fn a_torn_line_is_cut_off_and_a_file_that_was_moved_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.ndjson");
        for (left, kept) in [("", 0), ("{\"tor", 0), ("one\n", 1), ("one\n{\"tor", 1)] {
            std::fs::write(&path, left).unwrap();
            let mut sink = FileSink::new(&FileTo { path: path.clone(), rotate_bytes: 1 << 20, keep: 1 });
            sink.deliver(&[document("two")]).unwrap();
            assert_eq!(lines(&path).len(), kept + 1, "{left:?}");
            assert_eq!(lines(&path).pop().unwrap(), "two");
            std::fs::rename(&path, dir.path().join("moved")).unwrap();
            sink.deliver(&[document("three")]).unwrap();
            assert_eq!(lines(&path), ["three"]);
        }
    }
}
