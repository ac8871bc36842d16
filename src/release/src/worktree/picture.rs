//! How the files of a commit lie in a folder, kept in memory where no step reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use estoppel_evidence::Sha256;

/// What was there right after the checkout. git is not asked again: its index, its `HEAD` and its settings are the steps'.
#[derive(Debug)]
pub struct Picture {
    tree: PathBuf,
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File { bytes: u64, is_executable: bool, sha256: Sha256 },
    Link(PathBuf),
    Folder,
    Other,
}

impl Picture {
    /// Looks at the files in `tree` whose names stand in `names`, each with a NUL after it, and at the folders they are in.
    pub(super) fn take(tree: &Path, names: &[u8]) -> io::Result<Self> {
        let mut paths = BTreeSet::new();
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let inside = Path::new(OsStr::from_bytes(name)).ancestors();
            paths.extend(inside.filter(|path| !path.as_os_str().is_empty()).map(Path::to_path_buf));
        }
        let look = |path: PathBuf| look(&tree.join(&path), None).map(|entry| (path, entry));
        let entries = paths.into_iter().map(look).collect::<io::Result<_>>()?;
        Ok(Self { tree: tree.to_path_buf(), entries })
    }

    /// Files and folders of the commit that are not as they were.
    pub fn changed(&self) -> Vec<String> {
        let differs = |(path, was): &(&PathBuf, &Entry)| {
            !look(&self.tree.join(path), Some(was)).is_ok_and(|is| is == **was)
        };
        let differing = self.entries.iter().filter(differs);
        differing.map(|(path, _)| path.to_string_lossy().into_owned()).collect()
    }
}

/// What is at `path`. Content is not read where the size alone says that it is not what was there.
fn look(path: &Path, was: Option<&Entry>) -> io::Result<Entry> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return fs::read_link(path).map(Entry::Link);
    }
    if found.is_dir() {
        return Ok(Entry::Folder);
    }
    let has_size = |was: &Entry| matches!(was, Entry::File { bytes, .. } if *bytes == found.len());
    if !found.is_file() || !was.is_none_or(has_size) {
        return Ok(Entry::Other);
    }
    let content = fs::read(path)?;
    Ok(Entry::File {
        bytes: content.len() as u64, // a length fits in 64 bits
        is_executable: found.permissions().mode() & 0o100 != 0,
        sha256: Sha256::of(&content),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn pictured() -> (tempfile::TempDir, Picture) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        fs::write(dir.path().join("src/deep/a"), "a").unwrap();
        symlink("src", dir.path().join("link")).unwrap();
        let picture = Picture::take(dir.path(), b"src/deep/a\0link\0").unwrap();
        (dir, picture)
    }

    #[test]
    fn what_is_beside_the_files_of_the_commit_does_not_count() {
        let (dir, picture) = pictured();
        fs::write(dir.path().join("src/built"), "b").unwrap();
        fs::write(dir.path().join("src/deep/a"), "a").unwrap();
        assert_eq!(picture.changed(), Vec::<String>::new());
    }

    #[test]
    fn bytes_modes_links_and_folders_count() {
        type Alter = fn(&Path) -> io::Result<()>;
        let cases: [(&str, Alter); 6] = [
            ("src/deep/a", |at| fs::write(at.join("src/deep/a"), "b")),
            ("src/deep/a", |at| fs::write(at.join("src/deep/a"), "ab")),
            ("src/deep/a", |at| {
                fs::set_permissions(at.join("src/deep/a"), fs::Permissions::from_mode(0o755))
            }),
            ("src/deep/a", |at| fs::remove_file(at.join("src/deep/a"))),
            ("link", |at| {
                fs::remove_file(at.join("link")).and_then(|()| symlink("src/deep", at.join("link")))
            }),
            ("src", |at| {
                fs::rename(at.join("src"), at.join("x")).and_then(|()| symlink("x", at.join("src")))
            }),
        ];
        for (path, alter) in cases {
            let (dir, picture) = pictured();
            alter(dir.path()).unwrap();
            assert_eq!(picture.changed(), [path]);
        }
    }
}
