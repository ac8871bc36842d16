//! The index of what is archived, as it is written (`spec/archive.md`).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use estoppel_evidence::hash::Leaf;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{RunId, Sha256};
use estoppel_journal::retention::Copy;
use estoppel_verify::{Archived, INDEX_BYTES_MAX, Pointer, read_index};
use serde::Serialize;

use crate::error::{ArchiveError, disk};
use crate::find::Kind;
use crate::list::{List, ListError};

/// Its name in the folder of the bundles.
pub const INDEX_NAME: &str = "archive.ndjson";

/// Where a copy is; members in canonical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct At {
    pub bucket: String,
    pub bytes: u64,
    pub endpoint: String,
    pub key: String,
    pub legal_hold: bool,
    pub mode: &'static str,
    pub retain_until: UnixMicros,
    pub sha256: Sha256,
    pub version: String,
}

#[derive(Serialize)]
struct Entry<'a> {
    bucket: &'a str,
    bytes: u64,
    endpoint: &'a str,
    key: &'a str,
    kind: Kind,
    legal_hold: bool,
    mode: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<Leaf>,
    retain_until: UnixMicros,
    seq: u64,
    sha256: Sha256,
    ts: UnixMicros,
    v: &'static str,
    version: &'a str,
}

/// An index that is held and can be added to.
pub(crate) struct Index {
    path: PathBuf,
    list: List,
    copies: Copies,
    next: u64,
    prev: Option<Leaf>,
}

impl Index {
    pub fn open(folder: &Path) -> Result<Self, ArchiveError> {
        let path = folder.join(INDEX_NAME);
        let (list, text) = List::open(&path, INDEX_BYTES_MAX).map_err(|error| match error {
            ListError::Busy => ArchiveError::Busy { path: path.clone() },
            ListError::Limit(limit) => ArchiveError::Limit { what: "bytes of the index", limit },
            ListError::Io(source) => ArchiveError::Disk { what: "open", path: path.clone(), source },
        })?;
        let entries = read(&path, &text)?;
        let prev = entries.last().map(|last| Leaf(last.leaf.0));
        let next = entries.len() as u64;
        Ok(Self { path, list, copies: Copies::of(entries), next, prev })
    }

    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    /// Adds an entry and makes it durable; gives its number.
    pub fn add(&mut self, kind: Kind, name: &str, at: &At, ts: UnixMicros) -> Result<u64, ArchiveError> {
        let entry = Entry {
            bucket: &at.bucket,
            bytes: at.bytes,
            endpoint: &at.endpoint,
            key: &at.key,
            kind,
            legal_hold: at.legal_hold,
            mode: at.mode,
            name: name.split_once(".d/").map_or(name, |(bundle, _)| bundle),
            prev: self.prev,
            retain_until: at.retain_until,
            seq: self.next,
            sha256: at.sha256,
            ts,
            v: "archive/v0",
            version: &at.version,
        };
        let line = serde_json::to_vec(&entry).map_err(io::Error::from);
        let line = line.map_err(disk("write", &self.path))?;
        if self.list.bytes() + line.len() as u64 >= INDEX_BYTES_MAX {
            return Err(ArchiveError::Limit { what: "bytes of the index", limit: INDEX_BYTES_MAX });
        }
        self.prev = Some(self.list.add(&line).map_err(disk("write", &self.path))?);
        let content = Content { bytes: at.bytes, sha256: at.sha256.to_string() };
        self.copies.0.insert((kind.as_str().to_owned(), name.to_owned()), content);
        self.next += 1;
        Ok(self.next - 1)
    }
}

fn read(path: &Path, text: &[u8]) -> Result<Vec<Archived>, ArchiveError> {
    read_index(text).map_err(|fault| ArchiveError::Index { path: path.to_path_buf(), fault })
}

/// The entries of the index in `folder`, judged; none if there is no index.
pub fn read_entries(folder: &Path) -> Result<Vec<Archived>, ArchiveError> {
    let path = folder.join(INDEX_NAME);
    let bytes = match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.map_err(disk("look at", &path))?.len(),
    };
    if bytes > INDEX_BYTES_MAX {
        return Err(ArchiveError::Limit { what: "bytes of the index", limit: INDEX_BYTES_MAX });
    }
    let text = std::fs::read(&path).map_err(disk("read", &path))?;
    read(&path, &text)
}

/// Where the newest copy of the bundle of a run is, by the index in the folder of the bundles; none where that does not say it.
pub fn copy_of(folder: &Path, run: RunId) -> Option<Copy> {
    let name = format!("{run}.pef.zip");
    let entries =
        read_entries(folder).inspect_err(|error| tracing::warn!(%error, "copies were not looked for"));
    let is_it = |entry: &Archived| entry.kind == Kind::Bundle.as_str() && entry.name == name;
    let Pointer { endpoint, bucket, key, version, retain_until, .. } =
        entries.ok()?.into_iter().rfind(is_it)?.at;
    Some(Copy { bucket, endpoint, key, retain_until: UnixMicros::parse(&retain_until)?, version })
}

/// What was archived of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub bytes: u64,
    /// As the index writes it.
    pub sha256: String,
}

/// The newest copies, by kind and name.
#[derive(Default)]
pub(crate) struct Copies(HashMap<(String, String), Content>);

impl Copies {
    pub fn of(entries: Vec<Archived>) -> Self {
        let content = |at: Pointer| Content { bytes: at.bytes, sha256: at.sha256 };
        Self(entries.into_iter().map(|entry| ((entry.kind, entry.name), content(entry.at))).collect())
    }

    pub fn of_file(&self, kind: Kind, name: &str) -> Option<&Content> {
        self.0.get(&(kind.as_str().to_owned(), name.to_owned()))
    }

    /// Whether the newest copy of the file has that size.
    pub fn has(&self, kind: Kind, name: &str, bytes: u64) -> bool {
        self.of_file(kind, name).is_some_and(|content| content.bytes == bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(content: &[u8]) -> At {
        let sha256 = Sha256::of(content);
        At {
            bucket: "b".into(),
            bytes: content.len() as u64,
            endpoint: "https://s3.example \u{1f512}".into(),
            key: format!("p/sha256/{}", sha256.hex()),
            legal_hold: false,
            mode: "GOVERNANCE",
            retain_until: UnixMicros(1_000_000),
            sha256,
            version: "v\"1".into(),
        }
    }

    #[test]
    fn the_newest_copy_of_a_bundle_is_the_one_that_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunId::new(1, [1; 10]);
        let name = format!("{run}.pef.zip");
        assert_eq!(copy_of(dir.path(), run), None);
        let mut index = Index::open(dir.path()).unwrap();
        for version in ["old", "new"] {
            let at = At { version: version.into(), ..at(b"x") };
            index.add(Kind::Bundle, &name, &at, UnixMicros(1)).unwrap();
        }
        index.add(Kind::Custody, &format!("{name}.custody.ndjson"), &at(b"y"), UnixMicros(2)).unwrap();
        drop(index);
        let copy = copy_of(dir.path(), run).unwrap();
        assert_eq!((copy.version.as_str(), copy.bucket.as_str()), ("new", "b"));
        assert_eq!(copy_of(dir.path(), RunId::new(2, [1; 10])), None);
        std::fs::write(dir.path().join(INDEX_NAME), "no list\n").unwrap();
        assert_eq!(copy_of(dir.path(), run), None);
    }

    #[test]
    fn what_is_added_is_read_back_also_after_a_crash_in_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(INDEX_NAME);
        for number in 0..3_u64 {
            let mut index = Index::open(dir.path()).unwrap();
            let name = format!("{number}.pef.zip");
            assert!(!index.copies().has(Kind::Bundle, &name, 1));
            assert_eq!(index.add(Kind::Bundle, &name, &at(b"x"), UnixMicros(number)).unwrap(), number);
            assert!(
                index.copies().has(Kind::Bundle, &name, 1) && !index.copies().has(Kind::Bundle, &name, 2)
            );
            assert!(matches!(Index::open(dir.path()), Err(ArchiveError::Busy { .. })));
            drop(index);
            let mut text = std::fs::read(&path).unwrap();
            text.extend(b"{\"bucket\":");
            std::fs::write(&path, text).unwrap();
        }
        drop(Index::open(dir.path()).unwrap());
        let entries = read_entries(dir.path()).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((entries[2].name.as_str(), entries[2].at.version.as_str()), ("2.pef.zip", "v\"1"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("1.pef.zip", "3.pef.zip")).unwrap();
        assert_eq!(read_entries(dir.path()).unwrap_err().code(), "ARCHIVE_CHAIN");
        assert_eq!(Index::open(dir.path()).err().unwrap().code(), "ARCHIVE_CHAIN");
    }
}
