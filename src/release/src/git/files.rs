//! The files of a commit, from its objects: each is read once, and its name computed here from the bytes that were read and
//! that are given away. No folder is looked into, so that nobody can put another file in the place of one.

use std::collections::{BTreeMap, BTreeSet};

use super::object::{name_of, next_object};
use super::{Git, ObjectId};
use crate::code::{Code, Refusal};

/// Most files of a commit.
const FILES_MAX: usize = 1 << 20;
/// Most symbolic links that one path leads through.
const LINKS_MAX: usize = 8;
/// Most bytes of a file that is passed over when a folder is read: whoever reads folders reads no larger one.
const FOLDER_FILE_BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File {
        is_executable: bool,
    },
    Link,
    /// A commit of another repository.
    Submodule,
}

#[derive(Clone, Debug)]
struct Listed {
    kind: Kind,
    id: ObjectId,
}

/// What a commit lists.
#[derive(Clone, Debug)]
pub struct Files {
    git: Git,
    /// By path.
    listed: BTreeMap<Vec<u8>, Listed>,
}

impl Files {
    /// Those of `commit`.
    ///
    /// # Errors
    /// `LEDGER_ALTERED`: the commit or a folder of it is not what its name says.
    pub fn of(git: &Git, commit: &ObjectId) -> Result<Self, Refusal> {
        let unreadable = |id: &ObjectId| Refusal::new(Code::GitFailed, format!("`{id}` cannot be read"));
        let bytes = named(git, "commit", std::slice::from_ref(commit))?.remove(commit).unwrap_or_default();
        let first = bytes.split(|byte| *byte == b'\n').next().and_then(|line| line.strip_prefix(b"tree "));
        let tree = first.and_then(|id| ObjectId::parse(std::str::from_utf8(id).ok()?));
        let mut folders = vec![(Vec::new(), tree.ok_or_else(|| unreadable(commit))?)];
        let mut listed = BTreeMap::new();
        while !folders.is_empty() {
            let ids: BTreeSet<ObjectId> = folders.iter().map(|(_, id)| id.clone()).collect();
            let trees = named(git, "tree", &ids.into_iter().collect::<Vec<_>>())?;
            let mut below = Vec::new();
            for (folder, id) in &folders {
                let rows = trees.get(id).and_then(|bytes| rows(bytes, id.as_str().len() / 2));
                for (mode, name, id) in rows.ok_or_else(|| unreadable(id))? {
                    let path = [folder.as_slice(), name].concat();
                    let kind = match mode {
                        b"40000" => {
                            below.push(([path.as_slice(), b"/"].concat(), id));
                            continue;
                        }
                        b"120000" => Kind::Link,
                        b"160000" => Kind::Submodule,
                        mode => Kind::File { is_executable: mode == b"100755" },
                    };
                    listed.insert(path, Listed { kind, id });
                }
                if listed.len() + below.len() > FILES_MAX {
                    let said = format!("{commit} has more than {FILES_MAX} files");
                    return Err(Refusal::new(Code::LedgerMax, said));
                }
            }
            folders = below;
        }
        Ok(Self { git: git.clone(), listed })
    }

    /// The content of a file, as the commit has it. Links are followed inside of the commit.
    ///
    /// # Errors
    /// Why there is none.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let place = self.place(path)?;
        match self.listed.get(place.as_bytes()) {
            Some(Listed { kind: Kind::File { .. }, id }) => self.blob(id).map_err(|refusal| refusal.detail),
            _ => Err(format!("the commit has no file `{path}`")),
        }
    }

    /// What is in a folder: names, and whether each is a folder.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn names(&self, folder: &str) -> Result<BTreeMap<String, bool>, String> {
        let place = self.place(folder)?;
        let mut names = BTreeMap::new();
        for (rest, _) in self.inside(&place) {
            let (name, is_folder) = match rest.split_once('/') {
                Some((name, _)) => (name.to_owned(), true),
                None => (rest, false),
            };
            names.insert(name, is_folder);
        }
        if names.is_empty() { Err(format!("the commit has no folder `{folder}`")) } else { Ok(names) }
    }

    /// The files in a folder and those below it, by their paths from there. Links and what has more than 4 MiB are left out.
    ///
    /// # Errors
    /// There is no such folder, or an object is not what its name says.
    pub fn below(&self, folder: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let place = self.place(folder)?;
        let inside = self.inside(&place).filter(|(_, listed)| matches!(listed.kind, Kind::File { .. }));
        let inside: Vec<(String, &ObjectId)> = inside.map(|(path, listed)| (path, &listed.id)).collect();
        if inside.is_empty() {
            return Err(format!("the commit has no folder `{folder}`"));
        }
        let mut files = BTreeMap::new();
        for (path, id) in inside {
            let bytes = self.blob(id).map_err(|refusal| refusal.detail)?;
            if bytes.len() <= FOLDER_FILE_BYTES_MAX {
                files.insert(path, bytes);
            }
        }
        Ok(files)
    }

    /// What lies below a folder; names that are no UTF-8 are passed over.
    fn inside<'f>(&'f self, place: &str) -> impl Iterator<Item = (String, &'f Listed)> + use<'f> {
        let prefix = if place.is_empty() { String::new() } else { format!("{place}/") }.into_bytes();
        let from = self.listed.range(prefix.clone()..);
        let inside =
            from.map_while(move |(path, listed)| Some((path.strip_prefix(prefix.as_slice())?, listed)));
        inside.filter_map(|(rest, listed)| Some((std::str::from_utf8(rest).ok()?.to_owned(), listed)))
    }

    /// Where a path leads, from the top of the commit.
    fn place(&self, path: &str) -> Result<String, String> {
        let outside = || format!("`{path}` leads out of the commit");
        let parts = |path: &str| path.split('/').rev().map(ToOwned::to_owned).collect::<Vec<_>>();
        if path.starts_with('/') {
            return Err(outside());
        }
        let (mut todo, mut here, mut links) = (parts(path), Vec::new(), 0);
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    here.pop().ok_or_else(outside)?;
                    continue;
                }
                _ => here.push(part),
            }
            let Some(Listed { kind: Kind::Link, id }) = self.listed.get(here.join("/").as_bytes()) else {
                continue;
            };
            links += 1;
            let target = self.blob(id).map_err(|refusal| refusal.detail)?;
            let target =
                String::from_utf8(target).ok().filter(|to| !to.starts_with('/') && links <= LINKS_MAX);
            todo.extend(parts(&target.ok_or_else(outside)?));
            here.pop();
        }
        Ok(here.join("/"))
    }

    fn blob(&self, id: &ObjectId) -> Result<Vec<u8>, Refusal> {
        Ok(named(&self.git, "blob", std::slice::from_ref(id))?.remove(id).unwrap_or_default())
    }

    /// Paths of what a checkout makes.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&[u8], Kind)> {
        self.listed.iter().map(|(path, listed)| (path.as_slice(), listed.kind))
    }

    /// Whether these are the bytes of the file, or what a link points at.
    pub(crate) fn is(&self, path: &[u8], bytes: &[u8]) -> bool {
        self.listed.get(path).is_some_and(|Listed { id, .. }| name_of("blob", bytes, id) == *id)
    }
}

/// The contents of objects, each of which has the name that it was asked for by.
fn named(git: &Git, kind: &str, ids: &[ObjectId]) -> Result<BTreeMap<ObjectId, Vec<u8>>, Refusal> {
    let asked: String = ids.iter().map(|id| format!("{id}\n")).collect();
    let out =
        if ids.is_empty() { Vec::new() } else { git.bytes(&["cat-file", "--batch"], asked.as_bytes())? };
    let mut rest = out.as_slice();
    let mut found = BTreeMap::new();
    for id in ids {
        let bytes = next_object(&mut rest, kind).filter(|bytes| name_of(kind, bytes, id) == *id);
        let altered = || Refusal::new(Code::LedgerAltered, format!("object {id} is not what its name says"));
        found.insert(id.clone(), bytes.ok_or_else(altered)?);
    }
    Ok(found)
}

type TreeRow<'b> = (&'b [u8], &'b [u8], ObjectId);

/// Mode, name and object of each entry of a tree; none where it is no tree.
fn rows(mut rest: &[u8], id_bytes: usize) -> Option<Vec<TreeRow<'_>>> {
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (mode, name) = (rest.get(..space)?, rest.get(space + 1..end)?);
        let id = rest.get(end + 1..)?.get(..id_bytes)?;
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
            return None;
        }
        rows.push((mode, name, ObjectId::parse(&estoppel_evidence::hash::hex(id))?));
        rest = rest.get(end + 1 + id_bytes..)?;
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::scene::Scene;

    #[test]
    fn files_are_those_of_the_commit_whatever_lies_in_the_folder() {
        let scene = Scene::new();
        scene.commit("deep/er/a", "proven\n");
        symlink("deep/er", scene.git.top().join("linked")).unwrap();
        symlink("/etc", scene.git.top().join("out")).unwrap();
        symlink("round", scene.git.top().join("round")).unwrap();
        scene.git.text(&["add", "linked", "out", "round"]).unwrap();
        let commit = scene.commit("deep/b", "b\n");
        let files = Files::of(&scene.git, &commit).unwrap();
        std::fs::write(scene.git.top().join("deep/er/a"), "forged\n").unwrap();
        for path in ["deep/er/a", "./deep//er/../er/a", "linked/a", "linked/../er/a"] {
            assert_eq!(files.read(path).unwrap(), b"proven\n", "{path}");
        }
        for path in ["out/passwd", "/etc/passwd", "../x", "round", "deep", "absent", ""] {
            assert!(files.read(path).is_err(), "{path}");
        }
        let names = [("b".to_owned(), false), ("er".to_owned(), true)];
        assert_eq!(files.names("deep").unwrap(), names.into());
        assert!(files.names("absent").is_err() && files.below("deep/b").is_err());
        let below: Vec<(String, Vec<u8>)> = files.below("deep").unwrap().into_iter().collect();
        assert_eq!(below, [("b".into(), b"b\n".to_vec()), ("er/a".into(), b"proven\n".to_vec())]);
    }

    #[test]
    fn an_object_that_is_exchanged_after_the_commit_was_listed_is_not_read() {
        let scene = Scene::new();
        let commit = scene.commit("a", "proven\n");
        let files = Files::of(&scene.git, &commit).unwrap();
        let id = scene.git.text(&["rev-parse", &format!("{commit}:a")]).unwrap();
        let place = |id: &str| scene.git.top().join(".git/objects").join(&id[..2]).join(&id[2..]);
        let other = scene.git.write("blob", b"forged\n").unwrap();
        std::fs::remove_file(place(&id)).unwrap();
        std::fs::copy(place(other.as_str()), place(&id)).unwrap();
        let refused = files.read("a").unwrap_err();
        assert!(
            refused.contains("is not what its name says") || refused.contains("hash mismatch"),
            "{refused}"
        );
    }

    #[test]
    fn names_are_those_that_git_computes() {
        for format in ["sha1", "sha256"] {
            let dir = tempfile::tempdir().unwrap();
            let mut command = std::process::Command::new("git");
            command.args(["init", "-q", "--object-format", format]).current_dir(dir.path());
            assert!(command.status().unwrap().success());
            let git = Git::open(dir.path()).unwrap();
            let id = git.write("blob", b"x\n").unwrap();
            assert_eq!(name_of("blob", b"x\n", &id), id, "{format}");
            assert_ne!(name_of("blob", b"y\n", &id), id, "{format}");
        }
    }
}
