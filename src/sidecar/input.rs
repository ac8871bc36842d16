//! Reading what was named on the command line.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use estoppel_evidence::Reason;

use crate::identity;
use crate::output::{Failure, plain};

/// A file's bytes.
pub fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

/// Most bytes of a bundle, and most files in it (SPEC section 15).
const BUNDLE_BYTES_MAX: u64 = u32::MAX as u64; // widening
const BUNDLE_FILES_MAX: usize = 65_534;

/// Reading anything but a file could wait or go on for ever.
pub fn regular(path: &Path) -> io::Result<u64> {
    let found = std::fs::metadata(path)?;
    match found.is_file() {
        true => Ok(found.len()),
        false => Err(io::Error::other("neither a regular file nor a folder")),
    }
}

/// The bytes of a bundle, a receipt or a checkpoint.
pub fn evidence(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut room = BUNDLE_BYTES_MAX;
    bounded(path, &mut room)
}

/// A file's bytes, if they are at most `bytes_max`.
pub fn limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    match regular(path).map_err(|error| unreadable(path, &error))? {
        size if size <= bytes_max => file(path),
        _ => {
            let message = format!("`{}` has more than {bytes_max} bytes", path.display());
            Err(Failure::input("ARGUMENT_INVALID", plain(&message)))
        }
    }
}

/// Whether a file's bytes begin so.
pub fn begins_with(path: &Path, beginning: &[u8]) -> Result<bool, Failure> {
    regular(path).map_err(|error| unreadable(path, &error))?;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(beginning.len() as u64).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(path, &error))?;
    Ok(bytes == beginning)
}

/// Refuses a path at which something is.
pub fn demand_new(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(_) => Err(exists(path)),
        Err(_) => Ok(()),
    }
}

fn exists(path: &Path) -> Failure {
    let message = format!("`{}` exists and is not overwritten", path.display());
    Failure::reason(Reason::OutputExists, plain(&message))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => exists(path),
        _ => Failure::runtime("DISK_FAILED", plain(&format!("cannot write `{}`: {error}", path.display()))),
    }
}

/// Writes a file that was not there.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_new_by(path, |out| out.write_all(bytes).map_err(|error| unwritable(path, &error)))
}

/// Writes a file that was not there, readable by its owner only. It gets its name when it is whole and durable; until then it
/// lies beside it. What has the name already stays.
pub fn write_new_by<T>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, Failure>,
) -> Result<T, Failure> {
    demand_new(path)?;
    let failed = |error: io::Error| unwritable(path, &error);
    let name = format!(".estoppel-{:032x}.tmp", u128::from_le_bytes(identity::random()?));
    let unfinished = Unfinished(path.with_file_name(name));
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&unfinished.0).map_err(failed)?;
    let mut out = BufWriter::new(file);
    let done = write(&mut out)?;
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    name_new(&unfinished.0, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(done)
}

/// A plain rename would replace what was made in between. Where there are no hard links there may be a rename that does not.
fn name_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match std::fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(|_| error)
        }
        linked => linked,
    }
}

/// Removed in any case: whole content has its own name by then.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Writes a folder that was not there, all of it or nothing: beside its place first, then under its name.
pub fn write_folder(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), Failure> {
    demand_new(path)?;
    let mut beside = path.as_os_str().to_os_string();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    std::fs::create_dir(&beside).map_err(|error| unwritable(&beside, &error))?;
    let written = files.iter().try_for_each(|(name, bytes)| write_new(&beside.join(name), bytes));
    let synced = written.and_then(|()| {
        let synced = File::open(&beside).and_then(|folder| folder.sync_all());
        synced.and_then(|()| std::fs::rename(&beside, path)).map_err(|error| unwritable(path, &error))
    });
    synced.inspect_err(|_| drop(std::fs::remove_dir_all(&beside)))
}

/// The events of a stream.
pub fn events(path: &Path) -> Result<Vec<u8>, Failure> {
    limited(path, BUNDLE_BYTES_MAX)
}

/// A regular file, to be read piece by piece.
pub fn opened(path: &Path) -> Result<File, Failure> {
    regular(path).and_then(|_| File::open(path)).map_err(|error| unreadable(path, &error))
}

/// A file's bytes, if there is room for them; takes that room.
fn bounded(path: &Path, room: &mut u64) -> Result<Vec<u8>, Failure> {
    let size = regular(path).map_err(|error| unreadable(path, &error))?;
    if size > *room {
        return Err(too_large(format!(
            "expected at most {BUNDLE_BYTES_MAX} bytes, `{}` has more",
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(*room).read_to_end(&mut bytes));
    *room -= read.map_err(|error| unreadable(path, &error))? as u64; // a length fits
    Ok(bytes)
}

fn too_large(message: String) -> Failure {
    Failure { exit: 2, ..Failure::runtime("CONTAINER_LIMIT", plain(&message)) }
}

/// A file's bytes, if there is such a file.
pub fn optional(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match regular(path).and_then(|_| std::fs::read(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(|error| unreadable(path, &error)),
    }
}

/// The first bytes of a file that may not be there.
pub fn at_most(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, Failure> {
    let read = || {
        regular(path)?;
        let mut bytes = Vec::new();
        File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(|error| unreadable(path, &error)),
    }
}

/// A file's text.
pub fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

pub fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::reason(Reason::FileUnreadable, plain(&format!("cannot read `{}`: {error}", path.display())))
}

/// Path and, for regular files, bytes.
pub type Found = (Vec<u8>, Option<Vec<u8>>);

/// Everything in a folder and the folders below it that is not a folder.
pub fn folder(root: &Path) -> Result<Vec<Found>, Failure> {
    let mut out = Vec::new();
    let mut todo = vec![PathBuf::new()];
    let mut room = BUNDLE_BYTES_MAX;
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
            if out.len() == BUNDLE_FILES_MAX {
                return Err(too_large(format!(
                    "expected at most {BUNDLE_FILES_MAX} files in `{}`",
                    root.display()
                )));
            }
            let bytes = if kind.is_file() { Some(bounded(&entry.path(), &mut room)?) } else { None };
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

    /// Where content of that digest (hex) is.
    pub fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(sha256)
    }
}

impl estoppel_verify::Externals for Beside {
    fn open(&mut self, sha256: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let path = self.folder.join(sha256);
        if path.exists() && !path.is_file() {
            return Ok(None);
        }
        match File::open(&path) {
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
        let path = self.folder.join(name);
        regular(&path)?;
        std::fs::read(path).map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_larger_than_any_bundle_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, large, small) =
            (dir.path().join("pipe"), dir.path().join("large"), dir.path().join("small"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), Path::new("/dev/zero"), dir.path()] {
            let failure = evidence(path).unwrap_err();
            assert_eq!((&*failure.code, failure.exit), ("FILE_UNREADABLE", 6), "{}", path.display());
        }
        File::create(&large).unwrap().set_len(5 << 30).unwrap();
        let failure = evidence(&large).unwrap_err();
        assert_eq!((&*failure.code, failure.exit), ("CONTAINER_LIMIT", 2));
        let found = folder(dir.path()).unwrap_err();
        assert_eq!((&*found.code, found.exit), ("CONTAINER_LIMIT", 2));
        std::fs::remove_file(large).unwrap();
        std::fs::write(&small, "x").unwrap();
        assert_eq!(evidence(&small).unwrap(), b"x");
        let mut found = folder(dir.path()).unwrap();
        found.sort();
        assert_eq!(found, [(b"pipe".to_vec(), None), (b"small".to_vec(), Some(b"x".to_vec()))]);
    }
}
