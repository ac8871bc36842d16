//! How the files of a commit lie in a folder, kept in memory where no step reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use estoppel_evidence::Sha256;

use crate::code::{Code, Refusal};
use crate::git::{Files, Kind};

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
    /// Looks at the files in `tree` and at the folders they are in, which are to be those of a commit.
    ///
    /// # Errors
    /// `LEDGER_ALTERED`: one of them is not what the commit has.
    pub(super) fn of(tree: &Path, files: &Files) -> Result<Self, Refusal> {
        let listed: Vec<(&[u8], Kind)> = files.paths().collect();
        let (picture, contents) = Self::take(tree, listed.iter().map(|(path, _)| *path), |path, bytes| {
            files.is(path.as_os_str().as_bytes(), bytes)
        })
        .map_err(|error| super::failed(tree, &error))?;
        for (name, kind) in listed {
            let path = Path::new(OsStr::from_bytes(name));
            let is_kind = match (picture.entries.get(path), kind) {
                (Some(Entry::File { is_executable: is, .. }), Kind::File { is_executable }) => {
                    *is == is_executable
                }
                (Some(Entry::Link(_)), Kind::Link) | (Some(Entry::Folder), Kind::Submodule) => true,
                _ => false,
            };
            let is_it = contents.get(path).map_or(kind == Kind::Submodule, |is_it| *is_it);
            if !is_kind || !is_it {
                let said = format!("`{}` was exchanged while the commit was checked out", path.display());
                return Err(Refusal::new(Code::LedgerAltered, said));
            }
        }
        Ok(picture)
    }

    /// Looks at what has these names in `tree`, and says what `judge` says of the content of each file and link.
    fn take<'n, T>(
        tree: &Path,
        names: impl Iterator<Item = &'n [u8]>,
        judge: impl Fn(&Path, &[u8]) -> T,
    ) -> io::Result<(Self, BTreeMap<PathBuf, T>)> {
        let mut paths = BTreeSet::new();
        for name in names {
            let inside = Path::new(OsStr::from_bytes(name)).ancestors();
            paths.extend(inside.filter(|path| !path.as_os_str().is_empty()).map(Path::to_path_buf));
        }
        let (mut entries, mut judged) = (BTreeMap::new(), BTreeMap::new());
        for path in paths {
            let (entry, content) = look(&tree.join(&path), None)?;
            if let Some(content) = content {
                judged.insert(path.clone(), judge(&path, &content));
            }
            entries.insert(path, entry);
        }
        Ok((Self { tree: tree.to_path_buf(), entries }, judged))
    }

    /// Files and folders of the commit that are not as they were.
    pub fn changed(&self) -> Vec<String> {
        let differs = |(path, was): &(&PathBuf, &Entry)| {
            !look(&self.tree.join(path), Some(was)).is_ok_and(|(is, _)| is == **was)
        };
        let differing = self.entries.iter().filter(differs);
        differing.map(|(path, _)| path.to_string_lossy().into_owned()).collect()
    }
}

/// What is at `path`, and the content of a file or link. It is not read where the size alone says that it is not what was there.
fn look(path: &Path, was: Option<&Entry>) -> io::Result<(Entry, Option<Vec<u8>>)> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        let to = fs::read_link(path)?;
        let content = to.as_os_str().as_bytes().to_vec();
        return Ok((Entry::Link(to), Some(content)));
    }
    if found.is_dir() {
        return Ok((Entry::Folder, None));
    }
    let has_size = |was: &Entry| matches!(was, Entry::File { bytes, .. } if *bytes == found.len());
    if !found.is_file() || !was.is_none_or(has_size) {
        return Ok((Entry::Other, None));
    }
    let content = fs::read(path)?;
    let entry = Entry::File {
        bytes: content.len() as u64, // a length fits in 64 bits
        is_executable: found.permissions().mode() & 0o100 != 0,
        sha256: Sha256::of(&content),
    };
    Ok((entry, Some(content)))
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
        let names: [&[u8]; 2] = [b"src/deep/a", b"link"];
        let (picture, _) = Picture::take(dir.path(), names.into_iter(), |_, _| ()).unwrap();
        (dir, picture)
    }

    #[test]
    fn files_lie_as_they_were_committed_whatever_attributes_ask_for() {
        use crate::scene::Scene;
        use crate::worktree::Worktree;
        let scene = Scene::new();
        let asked = "* text eol=crlf\nid ident\nwide working-tree-encoding=UTF-16LE\nlarge filter=lfs\n";
        let texts = [
            ("plain", "x\ny\n"),
            ("id", "$Id$\n"),
            ("wide", "caf\u{e9}\n"),
            ("large", "l\n"),
            ("cr", "x\r\ny\n"),
        ];
        let objects: Vec<_> =
            texts.map(|(name, text)| (name, scene.git.write("blob", text.as_bytes()).unwrap())).into();
        scene.commit(".gitattributes", asked);
        // As they are in the commit: nothing is converted on the way in.
        for (name, id) in &objects {
            scene
                .git
                .text(&["update-index", "--add", "--cacheinfo", &format!("100644,{id},{name}")])
                .unwrap();
        }
        let tree = scene.git.text(&["write-tree"]).unwrap();
        let who = ["-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-m", "x", &tree];
        let commit = crate::git::ObjectId::parse(&scene.git.text(&who).unwrap()).unwrap();
        let worktree = Worktree::add(&scene.git, "t", &commit).unwrap();
        for (name, text) in texts {
            assert_eq!(fs::read(worktree.path().join(name)).unwrap(), text.as_bytes(), "{name}");
        }
        assert_eq!(worktree.picture().changed(), Vec::<String>::new());
    }

    #[test]
    fn what_was_exchanged_while_it_was_checked_out_is_refused() {
        use crate::scene::Scene;
        let scene = Scene::new();
        fs::create_dir(scene.git.top().join("sub")).unwrap();
        symlink("a", scene.git.top().join("sub/link")).unwrap();
        scene.git.text(&["add", "sub"]).unwrap();
        let files = Files::of(&scene.git, &scene.commit("a", "a")).unwrap();
        type Alter = fn(&Path) -> io::Result<()>;
        let alters: [Alter; 4] = [
            |at| fs::write(at.join("a"), "b"),
            |at| fs::set_permissions(at.join("a"), fs::Permissions::from_mode(0o755)),
            |at| fs::remove_file(at.join("a")).and_then(|()| symlink("b", at.join("a"))),
            |at| fs::remove_file(at.join("sub/link")).and_then(|()| symlink("b", at.join("sub/link"))),
        ];
        for alter in alters {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("a"), "a").unwrap();
            fs::create_dir(dir.path().join("sub")).unwrap();
            symlink("a", dir.path().join("sub/link")).unwrap();
            Picture::of(dir.path(), &files).unwrap();
            alter(dir.path()).unwrap();
            assert_eq!(Picture::of(dir.path(), &files).unwrap_err().code, Code::LedgerAltered);
        }
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
