//! A clean working tree of one commit, apart from the one that people work in.
//!
//! It has a git folder of its own, with the objects of the commit, each named anew by its content, which borrows the other
//! objects of the clone and nothing else: no refs, no tags, no
//! configuration; files lie byte for byte as they were committed. What the steps see is what the commit says, whoever runs them.

mod picture;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::code::{Code, Refusal};
use crate::git::{Files, Git, ObjectId};

pub use picture::Picture;

/// In the folder of a checkout: locked by whoever uses it, as long as it lives.
const HELD: &str = "held";
/// Beside the folders: locked while one is made and those that nobody uses any more are removed.
const LOCK: &str = "lock";

/// A detached working tree that is removed when this is dropped, or by the next one where the program was killed.
#[derive(Debug)]
pub struct Worktree {
    _scratch: Scratch,
    path: PathBuf,
    picture: Picture,
    files: Files,
}

/// A folder among what belongs to this clone alone, removed as a working tree is.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    _held: File,
}

impl Scratch {
    /// Makes one whose name begins with `name`.
    pub(crate) fn make(git: &Git, name: &str) -> Result<Self, Refusal> {
        let all = git.private().join("worktrees");
        let (folder, held) = make(&all, name).map_err(|error| failed(&all, &error))?;
        Ok(Self { folder, _held: held })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Worktree {
    /// Checks `commit` out in a folder whose name begins with `name`, among what belongs to this clone alone.
    pub fn add(git: &Git, name: &str, commit: &ObjectId) -> Result<Self, Refusal> {
        let scratch = Scratch::make(git, name)?;
        let path = scratch.path().join("tree");
        fs::create_dir(&path).map_err(|error| failed(&path, &error))?;
        let own = git.apart(&path, commit)?;
        own.text(&["checkout", "--quiet", "--force", "--detach", commit.as_str()])?;
        let files = Files::of(git, commit)?;
        let picture = Picture::of(&path, &files)?;
        git.lend(&own)?;
        Ok(Self { _scratch: scratch, path, picture, files })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files of the commit, from its objects and not from the folder.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// How the files of the commit lay in it before anybody came.
    pub fn picture(&self) -> &Picture {
        &self.picture
    }
}

/// Removes what programs left that were killed.
pub(crate) fn sweep(git: &Git) -> Result<(), Refusal> {
    let all = git.private().join("worktrees");
    locked(&all).map(|_lock| sweep_all(&all)).map_err(|error| failed(&all, &error))
}

fn locked(all: &Path) -> io::Result<File> {
    fs::create_dir_all(all)?;
    let lock = File::options().create(true).truncate(false).write(true).open(all.join(LOCK))?;
    lock.lock().map(|()| lock)
}

fn make(all: &Path, name: &str) -> io::Result<(TempDir, File)> {
    let _lock = locked(all)?;
    sweep_all(all);
    let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(all)?;
    let held = File::create_new(folder.path().join(HELD))?;
    held.lock()?;
    Ok((folder, held))
}

/// What cannot be removed now stays for the next time.
fn sweep_all(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else { return };
    for folder in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let held = File::open(folder.join(HELD));
        if held.map_or(true, |held| held.try_lock().is_ok()) {
            let _ = remove(&folder);
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    fs::remove_dir_all(folder).or_else(|_| {
        unlock(folder);
        fs::remove_dir_all(folder)
    })
}

/// Steps leave folders that nobody may write to, as Go does with what it downloads.
fn unlock(folder: &Path) {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let Ok(opened) = File::options().read(true).custom_flags(flags).open(folder) else { return };
    // What it is worth shows when it is removed.
    let _ = opened.set_permissions(fs::Permissions::from_mode(0o700));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .for_each(|entry| unlock(&entry.path()));
}

pub(crate) fn failed(path: &Path, error: &io::Error) -> Refusal {
    Refusal::new(Code::GitFailed, format!("could not use `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Scene;

    #[test]
    fn settings_and_attributes_of_a_clone_do_not_reach_the_tree() {
        let scene = Scene::new();
        let commit = scene.commit("file", "proven\n");
        for (name, value) in [
            ("core.autocrlf", "true"),
            ("filter.x.smudge", "sed s/proven/other/"),
            ("core.attributesFile", ".git/other"),
        ] {
            scene.git.text(&["config", name, value]).unwrap();
        }
        let git = scene.git.top().join(".git");
        fs::create_dir_all(git.join("info")).unwrap();
        fs::write(git.join("info/attributes"), "file filter=x\n").unwrap();
        fs::write(git.join("other"), "file filter=x\n").unwrap();
        let worktree = Worktree::add(&scene.git, "a", &commit).unwrap();
        assert_eq!(fs::read_to_string(worktree.path().join("file")).unwrap(), "proven\n");
    }

    #[test]
    fn objects_that_are_not_what_their_names_say_are_refused() {
        let scene = Scene::new();
        let id =
            |revision: String| ObjectId::parse(&scene.git.text(&["rev-parse", &revision]).unwrap()).unwrap();
        let first = scene.commit("file", "loose\n");
        let commit = scene.commit("file", "proven\n");
        assert!(Worktree::add(&scene.git, "a", &commit).is_ok());
        let (blob, tree) = (id(format!("{commit}:file")), id(format!("{commit}^{{tree}}")));
        let kept = |kind: &str, id: &ObjectId| scene.git.read(kind, id).unwrap();
        let of_first = id(format!("{first}^{{tree}}"));
        for (kind, id, bytes) in [
            ("blob", &blob, b"forged\n".to_vec()),
            ("tree", &tree, kept("tree", &of_first)),
            ("commit", &commit, kept("commit", &first)),
        ] {
            let own = kept(kind, id);
            scene.alter(id, kind, &bytes);
            let refused = Worktree::add(&scene.git, "a", &commit).unwrap_err();
            assert_eq!(refused.code, Code::LedgerAltered, "{kind}: {refused}");
            scene.restore(id, kind, &own);
            assert!(Worktree::add(&scene.git, "a", &commit).is_ok(), "{kind}");
        }
    }

    #[test]
    fn a_submodule_is_an_empty_folder() {
        let scene = Scene::new();
        let other = scene.head();
        scene.commit(".gitmodules", "[submodule \"sub\"]\n\tpath = sub\n\turl = ./\n\tupdate = !touch ran\n");
        scene.git.text(&["update-index", "--add", "--cacheinfo", &format!("160000,{other},sub")]).unwrap();
        let commit = scene.commit("file", "a\n");
        scene.git.text(&["config", "submodule.sub.active", "true"]).unwrap();
        scene.git.text(&["config", "submodule.recurse", "true"]).unwrap();
        let worktree = Worktree::add(&scene.git, "a", &commit).unwrap();
        assert_eq!(fs::read_dir(worktree.path().join("sub")).unwrap().count(), 0);
        assert!(!worktree.path().join("ran").exists());
        assert_eq!(worktree.picture().changed(), Vec::<String>::new());
    }

    #[test]
    fn steps_see_the_history_of_the_commit() {
        let scene = Scene::new();
        let first = scene.commit("file", "a\n");
        let commit = scene.commit("file", "b\n");
        let worktree = Worktree::add(&scene.git, "a", &commit).unwrap();
        let own = Git::open(worktree.path()).unwrap();
        assert_eq!(own.text(&["show", &format!("{first}:file")]).unwrap(), "a");
        assert!(own.is_ancestor(&first, &commit).unwrap());
    }

    #[test]
    fn what_a_killed_program_left_goes_and_what_is_used_stays() {
        let scene = Scene::new();
        let commit = scene.commit("file", "a\n");
        let all = scene.git.private().join("worktrees");
        let left = all.join("left");
        fs::create_dir_all(left.join("tree/locked")).unwrap();
        fs::write(left.join("tree/locked/file"), "").unwrap();
        fs::set_permissions(left.join("tree/locked"), fs::Permissions::from_mode(0o555)).unwrap();
        File::create(left.join(HELD)).unwrap();
        let used = Worktree::add(&scene.git, "used", &commit).unwrap();
        assert!(!left.exists());
        let next = Worktree::add(&scene.git, "next", &commit).unwrap();
        assert!(used.path().join("file").exists() && next.path().join("file").exists());
        drop((used, next));
        let folders = fs::read_dir(&all).unwrap().flatten().filter(|entry| entry.path().is_dir());
        assert_eq!(folders.count(), 0);
    }
}
