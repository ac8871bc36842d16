//! A repository in a folder of its own that has the objects of one commit and borrows the others of another repository, and
//! nothing else of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Git, ObjectId};
use crate::code::{Code, Refusal};

/// What is said to git so that it reads no file of the machine's or the user's.
pub(super) const ALONE: [(&str, &str); 4] = [
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_SYSTEM", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_ATTR_NOSYSTEM", "1"),
];
/// Without it the attributes in the user's home count, whatever the configuration.
const NO_ATTRIBUTES: [&str; 2] = ["-c", "core.attributesFile=/dev/null"];
/// What counts before the attributes of a commit: files are checked out byte for byte, whatever line ends, encodings and
/// keywords those ask for.
const AS_COMMITTED: &str = "* -text !crlf !eol !ident !filter !working-tree-encoding\n";

impl Git {
    /// Makes a repository in `top`, without a ref, that has the objects of `commit`, each named by its content, and checks files out as
    /// they are.
    ///
    /// # Errors
    /// `LEDGER_ALTERED`: one of them is not what its name says.
    pub(crate) fn apart(&self, top: &Path, commit: &ObjectId) -> Result<Self, Refusal> {
        let own = self.empty(top, commit)?;
        let info = top.join(".git/info");
        fs::create_dir_all(&info)
            .and_then(|()| fs::write(info.join("attributes"), AS_COMMITTED))
            .map_err(|error| unusable(top, &error))?;
        self.give(&own, commit)?;
        Ok(own)
    }

    /// Makes a repository in `top` that has nothing, for objects named as this one is.
    pub(super) fn empty(&self, top: &Path, like: &ObjectId) -> Result<Self, Refusal> {
        let own = Self { top: top.to_path_buf(), private: self.private.clone(), is_alone: true };
        let format = if like.as_str().len() == 64 { "sha256" } else { "sha1" };
        let format = format!("--object-format={format}");
        own.text(&["init", "--quiet", "--template=", "--initial-branch=none", &format])?;
        Ok(own)
    }

    /// Lets `own` read everything else of this one, the history of its commit among it.
    pub(crate) fn lend(&self, own: &Self) -> Result<(), Refusal> {
        let top = own.top();
        let failed = |error: io::Error| unusable(top, &error);
        let info = top.join(".git/objects/info");
        fs::create_dir_all(&info).map_err(failed)?;
        let objects = self.path_of("objects")?;
        fs::write(info.join("alternates"), format!("{}\n", objects.display())).map_err(failed)?;
        let shallow = self.path_of("shallow")?;
        if shallow.is_file() {
            fs::copy(shallow, top.join(".git/shallow")).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn path_of(&self, name: &str) -> Result<PathBuf, Refusal> {
        self.text(&["rev-parse", "--path-format=absolute", "--git-path", name]).map(PathBuf::from)
    }

    pub(super) fn settings(&self) -> &'static [&'static str] {
        if self.is_alone { &NO_ATTRIBUTES } else { &[] }
    }
}

fn unusable(top: &Path, error: &io::Error) -> Refusal {
    Refusal::new(Code::GitFailed, format!("could not use `{}`: {error}", top.display()))
}
