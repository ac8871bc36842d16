//! What can be archived: bundles, what is beside them, and segments that are not written any more.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::error::{ArchiveError, disk};
use crate::index::{Copies, INDEX_NAME, read_entries};

/// Most files of one folder.
const FILES_MAX: usize = 1_000_000;
const BUNDLE: &str = ".pef.zip";
const CUSTODY: &str = ".custody.ndjson";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    External,
    Bundle,
    Custody,
    Segment,
}

impl Kind {
    /// As the index writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Bundle => "bundle",
            Self::Custody => "custody",
            Self::Segment => "segment",
        }
    }
}

/// What is to be archived: a journal, a folder of bundles, or one bundle.
#[derive(Clone, Debug)]
pub struct Target {
    /// Folder of the bundles and of the index.
    pub(crate) folder: PathBuf,
    segments: Option<PathBuf>,
    /// One bundle, by its name.
    only: Option<String>,
}

impl Target {
    /// What `path` is.
    ///
    /// # Errors
    /// None of these.
    pub fn of(path: &Path) -> Result<Self, ArchiveError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_file() && name.ends_with(BUNDLE) {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(".")).to_path_buf();
            return Ok(Self { folder, segments: None, only: Some(name.to_owned()) });
        }
        match (path.is_dir(), path.join("segments").is_dir()) {
            (true, true) => Ok(Self::journal(path)),
            (true, false) => Ok(Self { folder: path.to_path_buf(), segments: None, only: None }),
            (false, _) => Err(ArchiveError::Target { path: path.to_path_buf() }),
        }
    }

    /// A journal's folder.
    pub fn journal(dir: &Path) -> Self {
        Self { folder: dir.join("bundles"), segments: Some(dir.join("segments")), only: None }
    }

    /// Folder of the bundles and of the index.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the file of an entry is.
    pub(crate) fn path(&self, kind: &str, name: &str) -> PathBuf {
        match kind {
            "segment" => self.folder.join("..").join("segments").join(name),
            _ => self.folder.join(name),
        }
    }

    /// Whether an entry is of what is looked at.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.starts_with(only.as_str()))
    }

    /// Bundles, each after what is beside it; custody lists, also of bundles that were deleted; segments but the last.
    ///
    /// What has no content is among them only where something was archived under its name.
    pub(crate) fn files(&self, copies: &Copies) -> Result<Vec<Found>, ArchiveError> {
        let mut found = Vec::new();
        let bundles = match &self.only {
            Some(name) => vec![name.clone()],
            None => names(&self.folder)?,
        };
        let lists = bundles.iter().filter(|name| name.ends_with(CUSTODY));
        let is_alone = |list: &&String| {
            let bundle = list.strip_suffix(CUSTODY).unwrap_or_default();
            bundle.ends_with(BUNDLE) && bundles.binary_search_by(|name| name.as_str().cmp(bundle)).is_err()
        };
        for list in lists.filter(is_alone) {
            found.extend(look(Kind::Custody, list.clone(), self.folder.join(list))?);
        }
        for name in bundles.into_iter().filter(|name| name.ends_with(BUNDLE)) {
            let beside = self.folder.join(format!("{name}.d"));
            for external in names(&beside)?.into_iter().filter(|name| is_digest(name)) {
                let path = beside.join(&external);
                found.extend(look(Kind::External, format!("{name}.d/{external}"), path)?);
            }
            found.extend(look(Kind::Bundle, name.clone(), self.folder.join(&name))?);
            let custody = custody_name(&name);
            let path = self.folder.join(&custody);
            found.extend(look(Kind::Custody, custody, path)?);
        }
        if let Some(folder) = &self.segments {
            let mut segments: Vec<String> =
                names(folder)?.into_iter().filter(|name| name.ends_with(".seg")).collect();
            segments.pop(); // the journal writes to it
            for name in segments {
                let path = folder.join(&name);
                found.extend(look(Kind::Segment, name, path)?);
            }
        }
        found.retain(|found| found.bytes > 0 || copies.of_file(found.kind, &found.name).is_some());
        Ok(found)
    }
}

/// The name of the custody list of a bundle.
pub(crate) fn custody_name(bundle: &str) -> String {
    format!("{bundle}{CUSTODY}")
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A file that can be archived, or what is there under the name of one that was.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub kind: Kind,
    pub name: String,
    pub path: PathBuf,
    /// None of a directory, a symbolic link, or whatever else is no plain file.
    pub bytes: u64,
    pub modified: SystemTime,
    pub stamp: Stamp,
}

/// What changes with a file's content, whatever is done to hide it from who is not the system's own administrator: its inode, size,
/// and the times at which it and what is said of it were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(data: &fs::Metadata) -> Self {
        Self {
            inode: (data.dev(), data.ino()),
            bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

impl Found {
    /// Whether the index can name it.
    pub fn check_name(&self) -> Result<(), ArchiveError> {
        let first = self.name.split('/').next().unwrap_or_default();
        let is_plain = (1..=128).contains(&first.len())
            && !first.starts_with('.')
            && first.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if is_plain { Ok(()) } else { Err(ArchiveError::Name { name: self.name.clone() }) }
    }
}

fn look(kind: Kind, name: String, path: PathBuf) -> Result<Option<Found>, ArchiveError> {
    let data = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        data => data.map_err(disk("look at", &path))?,
    };
    let modified = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let bytes = if data.is_file() { data.len() } else { 0 };
    Ok(Some(Found { kind, name, path, bytes, modified, stamp: Stamp::of(&data) }))
}

/// Names in a folder, sorted; none if it is not there.
fn names(folder: &Path) -> Result<Vec<String>, ArchiveError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(disk("read", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(disk("read", folder))?.file_name();
        names.push(name.to_string_lossy().into_owned());
        if names.len() > FILES_MAX {
            return Err(ArchiveError::Limit { what: "files of a folder", limit: FILES_MAX as u64 });
        }
    }
    names.sort();
    Ok(names)
}

/// A file that is not archived yet.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub kind: &'static str,
    pub name: String,
    pub bytes: u64,
    /// When it was last written.
    pub since: SystemTime,
}

/// What is not archived, by the index and the sizes of files alone.
///
/// # Errors
/// The index does not hold, or files cannot be looked at.
pub fn waiting(target: &Target) -> Result<Vec<Waiting>, ArchiveError> {
    Known::default().waiting(target)
}

/// What an index says, for who looks often.
#[derive(Default)]
pub(crate) struct Known {
    /// Of the index that was read.
    bytes: u64,
    copies: Copies,
}

impl Known {
    /// As [`waiting`]; the index is read again when it has grown.
    pub fn waiting(&mut self, target: &Target) -> Result<Vec<Waiting>, ArchiveError> {
        let path = target.folder.join(INDEX_NAME);
        let bytes = fs::metadata(&path).map_or(0, |found| found.len());
        if bytes != self.bytes {
            self.copies = Copies::of(read_entries(&target.folder)?);
            self.bytes = bytes;
        }
        missing(target, &self.copies)
    }
}

fn missing(target: &Target, copies: &Copies) -> Result<Vec<Waiting>, ArchiveError> {
    let files = target.files(copies)?.into_iter();
    let missing = files.filter(|found| !copies.has(found.kind, &found.name, found.bytes));
    Ok(missing
        .map(|found| Waiting {
            kind: found.kind.as_str(),
            name: found.name,
            bytes: found.bytes,
            since: found.modified,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_has_bundles_with_what_is_beside_them_and_all_segments_but_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let digest = "a".repeat(64);
        for file in [
            "segments/00.seg",
            "segments/01.seg",
            "bundles/a.pef.zip",
            "bundles/a.pef.zip.custody.ndjson",
            "bundles/b.pef.zip",
            "bundles/b.pef.zip.tmp",
            "bundles/gone.pef.zip.custody.ndjson",
            "bundles/notes.custody.ndjson",
            "bundles/archive.ndjson.old",
            &format!("bundles/a.pef.zip.d/{digest}"),
            &format!("bundles/a.pef.zip.d/{digest}.tmp"),
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::write(dir.path().join("bundles/empty.pef.zip"), "").unwrap();
        fs::create_dir(dir.path().join("bundles/folder.pef.zip")).unwrap();
        let named = |target: &Target| {
            let found = target.files(&Copies::default()).unwrap().into_iter();
            found.map(|found| format!("{} {}", found.kind.as_str(), found.name)).collect::<Vec<_>>()
        };
        let beside = format!("external a.pef.zip.d/{digest}");
        let one = [&beside, "bundle a.pef.zip", "custody a.pef.zip.custody.ndjson"];
        let bundle = dir.path().join("bundles/a.pef.zip");
        assert_eq!(named(&Target::of(&bundle).unwrap()), one);
        let folder = Target::of(&dir.path().join("bundles")).unwrap();
        let gone = ["custody gone.pef.zip.custody.ndjson"];
        assert_eq!(named(&folder), [&gone, &one[..], &["bundle b.pef.zip"]].concat());
        let journal = Target::of(dir.path()).unwrap();
        assert_eq!(named(&journal), [&gone, &one[..], &["bundle b.pef.zip", "segment 00.seg"]].concat());
        assert_eq!(waiting(&journal).unwrap().len(), 6);
        assert_eq!(Target::of(&dir.path().join("none")).unwrap_err().code(), "ARCHIVE_TARGET");
    }

    #[test]
    fn names_that_lead_elsewhere_are_not_taken() {
        let found = |name: &str| Found {
            kind: Kind::Bundle,
            name: name.into(),
            path: PathBuf::new(),
            bytes: 1,
            modified: SystemTime::UNIX_EPOCH,
            stamp: Stamp::default(),
        };
        for name in ["a.pef.zip", "A_b-9.pef.zip", "a.pef.zip.d/00"] {
            assert!(found(name).check_name().is_ok(), "{name}");
        }
        for name in ["", ".a", "..", "a b", "ä", &"a".repeat(129)] {
            assert!(found(name).check_name().is_err(), "{name}");
        }
    }
}
