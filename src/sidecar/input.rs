//! Reading what was named on the command line.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use estoppel_evidence::Reason;

use crate::output::Failure;

/// A file's bytes.
pub fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

/// A file's bytes, if there is such a file.
pub fn optional(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(|error| unreadable(path, &error)),
    }
}

/// A file's text.
pub fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

pub fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::reason(Reason::FileUnreadable, format!("cannot read `{}`: {error}", path.display()))
}

/// Path and, for regular files, bytes.
pub type Found = (Vec<u8>, Option<Vec<u8>>);

/// Everything in a folder and the folders below it that is not a folder.
pub fn folder(root: &Path) -> Result<Vec<Found>, Failure> {
    let mut out = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let here = root.join(&below);
        for entry in std::fs::read_dir(&here).map_err(|error| unreadable(&here, &error))? {
            let entry = entry.map_err(|error| unreadable(&here, &error))?;
            let kind = entry.file_type().map_err(|error| unreadable(&here, &error))?;
            let path = below.join(entry.file_name());
            if kind.is_dir() {
                todo.push(path);
                continue;
            }
            let bytes = if kind.is_file() { Some(file(&entry.path())?) } else { None };
            out.push((path.into_os_string().into_encoded_bytes(), bytes));
        }
    }
    Ok(out)
}

/// Content kept beside a bundle, in `<bundle>.d/<sha256>`.
pub struct Beside {
    folder: PathBuf,
}

impl Beside {
    pub fn of(bundle: &Path) -> Self {
        let mut folder = bundle.as_os_str().to_os_string();
        folder.push(".d");
        Self { folder: folder.into() }
    }
}

impl estoppel_verify::Externals for Beside {
    fn open(&mut self, sha256: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let path = self.folder.join(sha256);
        match File::open(&path) {
            Ok(_) if !path.is_file() => Ok(None),
            Ok(file) => Ok(Some(Box::new(io::BufReader::with_capacity(1 << 20, file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A journal's segments, read one at a time.
pub struct SegmentFiles {
    folder: PathBuf,
    names: Vec<String>,
}

impl SegmentFiles {
    pub fn of(journal: &Path) -> Result<Self, Failure> {
        let folder = journal.join("segments");
        let mut names = Vec::new();
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self { folder, names }),
            entries => entries.map_err(|error| unreadable(&folder, &error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&folder, &error))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(Self { folder, names })
    }
}

impl estoppel_verify::Segments for SegmentFiles {
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn header(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let mut header = Vec::new();
        let path = self.folder.join(name);
        if !path.symlink_metadata()?.is_file() {
            return Ok(header);
        }
        File::open(path)?.take(256).read_to_end(&mut header)?;
        Ok(header)
    }

    fn bytes(&mut self, name: &str) -> io::Result<std::borrow::Cow<'_, [u8]>> {
        std::fs::read(self.folder.join(name)).map(Into::into)
    }
}
