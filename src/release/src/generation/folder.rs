//! The folder that generations are kept in, one file per version.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use estoppel_evidence::Sha256;

use super::{BYTES_MAX, Format, Generation, GenerationError, GenerationErrorCode as Code};
use crate::Version;

/// Below the root of a repository.
pub const FOLDER: &str = ".estoppel/generations";
/// Most files of the folder. One with more is refused.
pub const FILES_MAX: usize = 4096;

/// Where generations are kept.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What is in the folder.
#[derive(Debug, Default)]
pub struct Files {
    /// Files that are named like a generation, the earliest version first.
    pub named: Vec<(Version, PathBuf)>,
    /// All else.
    pub others: Vec<PathBuf>,
}

/// Why a file gave no generation.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is none of this version.
    #[error("`{folder}` has no generation {version}")]
    Unknown { folder: String, version: Version },
    /// There are two of this version, in both formats.
    #[error("`{folder}` has generation {version} twice")]
    Twice { folder: String, version: Version },
    /// There are too many files.
    #[error("`{folder}` has more than {FILES_MAX} files")]
    Many { folder: String },
    /// A file could not be read.
    #[error("cannot read `{path}`")]
    Read { path: String, source: io::Error },
    /// A file could not be written.
    #[error("cannot write `{path}`")]
    Write { path: String, source: io::Error },
    /// A file is there already.
    #[error("`{path}` exists and is not overwritten")]
    Exists { path: String },
    /// Something is wrong in it.
    #[error("`{path}` has {} errors", errors.len())]
    Invalid { path: String, errors: Vec<GenerationError> },
}

impl Folder {
    /// The folder of the repository, or of the nearest folder above `dir` that has generations; `dir` itself otherwise.
    pub fn near(dir: &Path) -> io::Result<Self> {
        let dir = dir.canonicalize()?;
        let top =
            dir.ancestors().find(|above| above.join(".estoppel").is_dir() || above.join(".git").exists());
        Ok(Self::of(top.unwrap_or(&dir)))
    }

    /// The folder below a root.
    pub fn of(root: &Path) -> Self {
        Self { path: root.join(FOLDER) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every file.
    ///
    /// # Errors
    /// [`FolderError::Many`], [`FolderError::Read`]. A folder that is not there has no files.
    pub fn files(&self) -> Result<Files, FolderError> {
        let unread = |source| FolderError::Read { path: self.shown(), source };
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Files::default()),
            entries => entries.map_err(unread)?,
        };
        let Files { mut named, mut others } = Files::default();
        for entry in entries {
            let path = entry.map_err(unread)?.path();
            if named.len() + others.len() == FILES_MAX {
                return Err(FolderError::Many { folder: self.shown() });
            }
            match named_version(&path) {
                Some(version) => named.push((version, path)),
                None => others.push(path),
            }
        }
        named.sort();
        others.sort();
        Ok(Files { named, others })
    }

    /// The file of a version.
    ///
    /// # Errors
    /// [`FolderError::Unknown`], [`FolderError::Twice`].
    pub fn file(&self, version: &Version) -> Result<PathBuf, FolderError> {
        let paths = Format::ALL.map(|format| self.path.join(file_name(version, format)));
        let mut found = paths.into_iter().filter(|path| path.exists());
        match (found.next(), found.next()) {
            (None, _) => Err(FolderError::Unknown { folder: self.shown(), version: version.clone() }),
            (Some(_), Some(_)) => Err(FolderError::Twice { folder: self.shown(), version: version.clone() }),
            (Some(path), None) => Ok(path),
        }
    }

    /// Writes the file of a new generation, whole or not at all.
    ///
    /// # Errors
    /// [`FolderError::Exists`], also where it exists in the other format; [`FolderError::Write`].
    pub fn write_new(&self, version: &Version, format: Format, text: &str) -> Result<PathBuf, FolderError> {
        let path = self.path.join(file_name(version, format));
        match self.file(version) {
            Err(FolderError::Unknown { .. }) => {}
            Ok(path) => return Err(FolderError::Exists { path: path.display().to_string() }),
            Err(error) => return Err(error),
        }
        let failed = |source| FolderError::Write { path: path.display().to_string(), source };
        std::fs::create_dir_all(&self.path).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.path).map_err(failed)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all());
        written.map_err(failed)?;
        let kept = file.persist_noclobber(&path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => FolderError::Exists { path: path.display().to_string() },
            _ => failed(error.error),
        })?;
        use std::os::unix::fs::PermissionsExt as _;
        kept.set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(failed)?;
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(path)
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

impl Generation {
    /// Reads a file, whose name has to be that of its version and its format.
    ///
    /// # Errors
    /// [`FolderError::Read`], [`FolderError::Invalid`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let shown = || path.display().to_string();
        let invalid = |errors| FolderError::Invalid { path: shown(), errors };
        let text = text(path).map_err(|source| FolderError::Read { path: shown(), source })?;
        let format = format_of(path).ok_or_else(|| {
            let message = "the name of the file ends neither in `.yaml` nor in `.toml`";
            invalid(vec![GenerationError::new(Code::FileName, "", message)])
        })?;
        let generation = Self::parse(&text, format).map_err(invalid)?;
        let is_kept = path.parent().is_some_and(|folder| folder.ends_with(FOLDER));
        let name = file_name(&generation.version, format);
        if is_kept && path.file_name().is_none_or(|found| found != name.as_str()) {
            let message = format!("the file of version {} is called `{name}`", generation.version);
            return Err(invalid(vec![GenerationError::new(Code::FileName, "/version", message)]));
        }
        Ok(generation)
    }
}

/// At most one byte more than is read of a generation.
fn text(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let (mut bytes, most) = (Vec::new(), BYTES_MAX as u64 + 1); // widening
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

fn format_of(path: &Path) -> Option<Format> {
    let extension = path.extension()?;
    Format::ALL.into_iter().find(|format| extension == format.extension())
}

fn named_version(path: &Path) -> Option<Version> {
    format_of(path)?;
    Version::of_tag(path.file_stem()?.to_str()?)
}

/// Whether a path, from the top of the repository, is that of the file of a version.
pub(crate) fn is_file_of(path: &Path, version: &Version) -> bool {
    path.parent() == Some(Path::new(FOLDER)) && named_version(path).as_ref() == Some(version)
}

/// Whether a file of this name and content is the contract with that digest.
pub(crate) fn is_contract(path: &Path, bytes: &[u8], contract: Sha256) -> bool {
    let (Some(format), Ok(text)) = (format_of(path), std::str::from_utf8(bytes)) else { return false };
    Generation::parse(text, format).is_ok_and(|generation| generation.digest() == contract)
}

fn file_name(version: &Version, format: Format) -> String {
    format!("{}.{}", version.tag(), format.extension())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "generation: 1\nversion: \"1.2.10\"\ndescription: x\nauthor: { name: a }\n\
                        changes: [{ id: A, type: add, title: a }]\n\
                        steps: [{ id: s, kind: unit, run: [make], proves: all }]\n";

    #[test]
    fn files_are_known_by_the_versions_in_them_and_ordered_by_number() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::of(scratch.path());
        assert_eq!(folder.files().unwrap().named, []);
        let version = |text: &str| text.parse::<Version>().unwrap();
        let path = folder.write_new(&version("1.2.10"), Format::Yaml, TEXT).unwrap();
        folder.write_new(&version("1.2.9"), Format::Yaml, TEXT).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let Files { named, others } = folder.files().unwrap();
        assert_eq!(
            named.iter().map(|(version, _)| version.to_string()).collect::<Vec<_>>(),
            ["1.2.9", "1.2.10"]
        );
        assert_eq!(others.len(), 1);
        assert_eq!(Generation::open(&path).unwrap().version, version("1.2.10"));
        let other = Generation::open(&folder.file(&version("1.2.9")).unwrap()).unwrap_err();
        assert!(matches!(other, FolderError::Invalid { errors, .. } if errors[0].code == Code::FileName));
        let again = folder.write_new(&version("1.2.10"), Format::Toml, "").unwrap_err();
        assert!(matches!(again, FolderError::Exists { .. }));
        std::fs::write(folder.path().join("v1.2.10.toml"), "").unwrap();
        assert!(matches!(folder.file(&version("1.2.10")), Err(FolderError::Twice { .. })));
        assert!(matches!(folder.file(&version("1.2.11")), Err(FolderError::Unknown { .. })));
    }

    #[test]
    fn what_is_no_small_text_is_not_read() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("v1.0.0.yaml");
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(Generation::open(&path), Err(FolderError::Read { .. })));
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "#".repeat(BYTES_MAX + 1)).unwrap();
        let large = Generation::open(&path).unwrap_err();
        assert!(matches!(large, FolderError::Invalid { errors, .. } if errors[0].code == Code::Limit));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(matches!(Generation::open(&path), Err(FolderError::Read { .. })));
    }
}
