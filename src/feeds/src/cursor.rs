//! Where a feed stands, and what its alerts have counted up to there, on disk. The file is replaced as a whole, never ahead of what was delivered.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use estoppel_evidence::hash::{Leaf, from_hex};
use estoppel_journal::Position;
use serde::{Deserialize, Serialize};

use crate::alert::Window;

const VERSION: &str = "estoppel-cursor/v0";
pub(crate) const BYTES_MAX: u64 = 256 << 10;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    v: String,
    index: u64,
    leaf: Option<String>,
    segment: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alerts: Vec<Window>,
}

/// Why a cursor cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    #[error("could not {what} the cursor `{path}`", path = path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{path}` is no cursor; without it the feed begins anew", path = path.display())]
    Malformed { path: PathBuf },
}

/// The cursor of one feed.
pub(crate) struct Cursor {
    path: PathBuf,
}

impl Cursor {
    /// In that folder, under the feed's name.
    pub fn new(dir: &Path, name: &str) -> Self {
        Self { path: dir.join(format!("{name}.cursor")) }
    }

    fn io(&self, what: &'static str) -> impl FnOnce(io::Error) -> CursorError + use<> {
        let path = self.path.clone();
        move |source| CursorError::Io { what, path, source }
    }

    /// The stored position, if there is one, and the counts of alerts.
    pub fn read(&self) -> Result<Option<(Position, Vec<Window>)>, CursorError> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(file) => file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(self.io("read"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io("open")(error)),
        };
        let malformed = || CursorError::Malformed { path: self.path.clone() };
        let document: Document = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
        let leaf = match document.leaf.as_deref() {
            None => None,
            Some(text) => {
                Some(text.strip_prefix("leaf:").and_then(from_hex).map(Leaf).ok_or_else(malformed)?)
            }
        };
        let sound = document.v == VERSION && document.segment <= document.index;
        let position = Position { index: document.index, leaf, segment: document.segment };
        sound.then_some(Some((position, document.alerts))).ok_or_else(malformed)
    }

    /// Stores a position and the counts of alerts durably.
    pub fn write(&self, position: &Position, alerts: &[Window]) -> Result<(), CursorError> {
        let document = Document {
            v: VERSION.into(),
            index: position.index,
            leaf: position.leaf.map(|leaf| leaf.to_string()),
            segment: position.segment,
            alerts: alerts.to_vec(),
        };
        let mut line = serde_json::to_vec(&document).map_err(|error| self.io("write")(error.into()))?;
        line.push(b'\n');
        let temporary = self.path.with_extension("cursor.tmp");
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(self.io("make"))?;
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(self.io("write"))?;
        std::fs::rename(&temporary, &self.path).map_err(self.io("replace"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_what_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cursor = Cursor::new(dir.path(), "siem");
        assert_eq!(cursor.read().unwrap(), None);
        for leaf in [None, Some(Leaf([7; 32]))] {
            let position = Position { index: 9, leaf, segment: 4 };
            cursor.write(&position, &[]).unwrap();
            assert_eq!(cursor.read().unwrap(), Some((position, Vec::new())));
        }
        let path = dir.path().join("siem.cursor");
        let whole = std::fs::read_to_string(&path).unwrap();
        for broken in [
            "",
            "{}",
            &whole[..20],
            &whole.replace("v0", "v1"),
            &whole.replace("leaf:07", "leaf:x7"),
            &whole.replace("9", "3"),
        ] {
            std::fs::write(&path, broken).unwrap();
            assert!(matches!(cursor.read(), Err(CursorError::Malformed { .. })), "{broken}");
        }
    }
}
