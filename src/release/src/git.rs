//! The `git` program, called so that nothing but its arguments and the repository decides what it does.
//!
//! No shell, no hooks, no prompts, no `GIT_*` of the caller, one locale, no replaced objects, no grafts, no commit graph, a
//! time limit and a limit on what is read. Names that come from outside stand behind `--end-of-options` or are built from checked types.

mod borrowed;
mod files;
mod history;
mod named;
mod object;
mod ported;
mod refs;
mod remote;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use files::Files;
pub(crate) use files::Kind;
pub use history::History;
pub use object::ObjectId;
pub(crate) use ported::LeftOut;
pub use ported::Ported;
pub use refs::{Move, Moved};
pub use remote::{Pushed, RemoteRefs};

use crate::code::{Code, Refusal};
use crate::process::{self, Finished, Limits, ProcessError};

/// Oldest version that is used: the first that verifies signatures of SSH keys as we need it.
const OLDEST: (u32, u32) = (2, 34);
/// How long one call may take; a push or a fetch over a network is one.
const TIME_MAX: Duration = Duration::from_secs(120);
/// Most bytes that one call may answer.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// What every call begins with, whatever the repository's own configuration says.
const ALWAYS: &[&str] = &[
    "--no-pager",
    "--no-replace-objects",
    "--literal-pathspecs",
    // What these files say of objects, nothing holds against the objects.
    "-c",
    "core.commitGraph=false",
    "-c",
    "core.multiPackIndex=false",
    // It would leave a file for each index that is made for a moment.
    "-c",
    "core.splitIndex=false",
    "-c",
    "advice.graftFileDeprecated=false",
    "-c",
    "pack.packSizeLimit=0",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "color.ui=false",
    "-c",
    "advice.detachedHead=false",
    "-c",
    "submodule.recurse=false",
    "-c",
    "push.gpgSign=false",
    "-c",
    "push.followTags=false",
];

/// A repository.
#[derive(Clone, Debug)]
pub struct Git {
    top: PathBuf,
    private: PathBuf,
    /// Whether what the machine and its user have set for git is passed over.
    is_alone: bool,
}

impl Git {
    /// Finds the repository that `dir` is in.
    ///
    /// # Errors
    /// `GIT_MISSING`, `GIT_OLD`, `NOT_A_REPOSITORY`.
    pub fn open(dir: &Path) -> Result<Self, Refusal> {
        if !dir.is_dir() {
            let said = format!("`{}` is no folder", dir.display());
            return Err(Refusal::new(Code::NotARepository, said));
        }
        let at = Self { top: dir.to_path_buf(), private: PathBuf::new(), is_alone: false };
        let version = at.text(&["version"])?;
        if !is_new_enough(&version) {
            let (major, minor) = OLDEST;
            let said = format!("`{version}` is older than {major}.{minor}");
            return Err(Refusal::new(Code::GitOld, said));
        }
        let none = |refusal: Refusal| {
            let said = format!(
                "`{}` is not in the working tree of a git repository: {}",
                dir.display(),
                refusal.detail
            );
            Refusal::new(Code::NotARepository, said)
        };
        let ask = |git: &Self| {
            let folder = ["rev-parse", "--path-format=absolute", "--git-common-dir"];
            git.text(&folder).map_err(none)
        };
        let (top, common) = (at.text(&["rev-parse", "--show-toplevel"]).map_err(none)?, ask(&at)?);
        let private = Path::new(&common).join("estoppel");
        let git = Self { top: PathBuf::from(top), private, is_alone: false };
        // `core.worktree` may name a folder that is another repository's.
        if ask(&git)? != common {
            let said = format!(
                "the working tree of `{common}`, `{}`, is that of another repository",
                git.top.display()
            );
            return Err(Refusal::new(Code::NotARepository, said));
        }
        Ok(git)
    }

    /// The working tree.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Where what belongs to this clone alone is kept: logs, locks, worktrees.
    pub fn private(&self) -> &Path {
        &self.private
    }

    /// One value of the configuration.
    pub fn config(&self, name: &str) -> Result<Option<String>, Refusal> {
        let done = self.run(&["config", "--get", "--", name], &[])?;
        match done.exit {
            Some(0) => Ok(Some(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())),
            Some(1) => Ok(None),
            _ => Err(failed("config", &done)),
        }
    }

    /// Sets a value in the configuration of this repository.
    pub fn set_config(&self, name: &str, value: &str) -> Result<(), Refusal> {
        self.text(&["config", "--local", "--", name, value]).map(drop)
    }

    /// Runs git and answers with what it wrote, without the end of line.
    pub(crate) fn text(&self, args: &[&str]) -> Result<String, Refusal> {
        let out = self.bytes(args, &[])?;
        Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
    }

    pub(crate) fn bytes(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, Refusal> {
        let done = self.run(args, input)?;
        if done.exit == Some(0) {
            Ok(done.stdout)
        } else {
            Err(failed(args.first().copied().unwrap_or_default(), &done))
        }
    }

    /// Runs git, whatever it ends with.
    pub(crate) fn run(&self, args: &[&str], input: &[u8]) -> Result<Finished, Refusal> {
        self.run_with_index(args, input, None)
    }

    pub(crate) fn run_with_index(
        &self,
        args: &[&str],
        input: &[u8],
        index: Option<&Path>,
    ) -> Result<Finished, Refusal> {
        let mut command = Command::new("git");
        command.args(ALWAYS).args(self.settings()).args(args).current_dir(&self.top);
        let foreign = std::env::vars_os().map(|(name, _)| name);
        foreign.filter(|name| name.as_encoded_bytes().starts_with(b"GIT_")).for_each(|name| {
            command.env_remove(name);
        });
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_GRAFT_FILE", "/dev/null");
        if self.is_alone {
            command.envs(borrowed::ALONE);
        }
        if let Some(index) = index {
            command.env("GIT_INDEX_FILE", index);
        }
        let limits = Limits { time: TIME_MAX, output_bytes_max: ANSWER_BYTES_MAX };
        process::run(command, input, limits).map_err(|error| {
            let code = match &error {
                ProcessError::Start(_) => Code::GitMissing,
                ProcessError::Time { .. } => Code::GitTime,
                ProcessError::Output { .. } | ProcessError::Wait(_) => Code::GitFailed,
            };
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            let verb = args.first().copied().unwrap_or_default();
            Refusal::new(code, format!("`git {verb}`: {error}{}", source.unwrap_or_default()))
        })
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches("git version ").split('.').map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST)
}

/// Longest text of git's own that a refusal repeats.
const SAID_CHARS_MAX: usize = 400;

pub(crate) fn failed(verb: &str, done: &Finished) -> Refusal {
    let exit = done.exit.map_or_else(|| "a signal".to_owned(), |exit| exit.to_string());
    let said: String = done.stderr.chars().take(SAID_CHARS_MAX).collect();
    // Of some objects git sees itself that they are not what their names say.
    let code = if said.contains("hash mismatch") { Code::LedgerAltered } else { Code::GitFailed };
    Refusal::new(code, format!("`git {verb}` ended with {exit}: {said}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A repository with one commit.
    pub(crate) fn repository() -> (tempfile::TempDir, Git) {
        let dir = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| {
            let mut command = Command::new("git");
            command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args);
            command.current_dir(dir.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
            assert!(command.output().unwrap().status.success(), "{args:?}");
        };
        run(&["init", "-q", "-b", "main"]);
        run(&["commit", "-q", "--allow-empty", "-m", "first"]);
        let git = Git::open(dir.path()).unwrap();
        (dir, git)
    }

    #[test]
    fn versions_of_git_are_compared_as_numbers() {
        for (version, is_enough) in [
            ("git version 2.47.3", true),
            ("git version 2.34.0", true),
            ("git version 2.9.5", false),
            ("git version 2.39.5 (Apple Git-154)", true),
            ("git version 10.0", true),
            ("something else", false),
        ] {
            assert_eq!(is_new_enough(version), is_enough, "{version}");
        }
    }

    #[test]
    fn a_folder_outside_of_every_repository_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Git::open(dir.path()).unwrap_err().code, Code::NotARepository);
        assert_eq!(Git::open(&dir.path().join("absent")).unwrap_err().code, Code::NotARepository);
    }

    #[test]
    fn a_working_tree_that_is_another_repositorys_is_refused() {
        let ((dir, git), (other, _)) = (repository(), repository());
        git.text(&["config", "core.worktree", &other.path().to_string_lossy()]).unwrap();
        let refused = Git::open(dir.path()).unwrap_err();
        assert_eq!(refused.code, Code::NotARepository, "{refused}");
        assert!(refused.detail.contains("another repository"), "{refused}");
    }

    #[test]
    fn parents_are_those_that_a_commit_names() {
        let (dir, git) = repository();
        let first = git.commit("HEAD").unwrap().unwrap();
        let tree = git.tree(&first).unwrap();
        let made = |parent: &str| {
            let people = "author a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000";
            git.write("commit", format!("tree {tree}\n{parent}{people}\n\nx\n").as_bytes()).unwrap()
        };
        let (other, head) = (made(""), made(&format!("parent {first}\n")));
        assert!(!git.is_ancestor(&other, &head).unwrap());
        let info = dir.path().join(".git/info/grafts");
        std::fs::create_dir_all(info.parent().unwrap()).unwrap();
        std::fs::write(&info, format!("{first} {other}\n")).unwrap();
        assert!(!git.is_ancestor(&other, &head).unwrap(), "a graft");
        std::fs::remove_file(info).unwrap();

        for (name, id) in [("other", &other), ("head", &head)] {
            git.text(&["branch", name, id.as_str()]).unwrap();
        }
        git.text(&["-c", "core.commitGraph=true", "commit-graph", "write", "--reachable"]).unwrap();
        let graph = dir.path().join(".git/objects/info/commit-graph");
        let mut bytes = std::fs::read(&graph).unwrap();
        let chunk = |id: &[u8]| {
            let row = bytes.windows(4).position(|window| window == id).unwrap();
            usize::try_from(u64::from_be_bytes(bytes[row + 4..row + 12].try_into().unwrap())).unwrap()
        };
        let (ids, rows) = (chunk(b"OIDL"), chunk(b"CDAT"));
        let place = |id: &ObjectId| {
            let hex = |row: &usize| -> String {
                bytes[ids + row * 20..][..20].iter().map(|byte| format!("{byte:02x}")).collect()
            };
            (0..3).find(|row| hex(row) == id.as_str()).unwrap()
        };
        let (parent, row) = (u32::try_from(place(&other)).unwrap(), rows + place(&first) * 36);
        bytes[row + 20..row + 24].copy_from_slice(&parent.to_be_bytes());
        std::fs::remove_file(&graph).unwrap();
        std::fs::write(&graph, bytes).unwrap();
        let mut believing = Command::new("git");
        believing
            .args(["merge-base", "--is-ancestor", other.as_str(), head.as_str()])
            .current_dir(dir.path());
        assert!(believing.status().unwrap().success(), "git itself believes the forged graph");
        assert!(!git.is_ancestor(&other, &head).unwrap(), "a commit graph");
    }

    #[test]
    fn hooks_of_the_repository_are_not_run() {
        let (dir, git) = repository();
        let hook = dir.path().join(".git/hooks/reference-transaction");
        std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        let head = git.commit("HEAD").unwrap().unwrap();
        let moved = git.move_refs(&[Move::create("refs/estoppel/x", &head)]).unwrap();
        assert_eq!(moved, Moved::Done);
    }
}
