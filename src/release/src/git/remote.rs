//! The remote: what it has, fetching it, and one push that it takes whole or not at all.

use std::collections::BTreeMap;

use super::{Git, Move, ObjectId, failed};
use crate::code::{Code, Refusal};

/// Most lines of what a remote prints that are told, and most characters of them.
const TOLD_LINES_MAX: usize = 20;
const TOLD_CHARS_MAX: usize = 1_000;

/// Names and targets of a remote's references.
pub type RemoteRefs = BTreeMap<String, ObjectId>;

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    Done,
    /// The remote took nothing, because something was not what it was held to be.
    Rejected(String),
    /// Nobody knows: the answer did not come.
    Unknown(String),
}

impl Git {
    /// The remote that releases go to: `estoppel.remote` of the configuration, else the only one, else `origin`.
    /// `none` in the configuration says that there is none.
    pub fn remote(&self) -> Result<Option<String>, Refusal> {
        let listed = self.text(&["remote"])?;
        let names: Vec<&str> = listed.lines().collect();
        match self.config("estoppel.remote")?.as_deref() {
            Some("none") => Ok(None),
            Some(named) if names.contains(&named) => Ok(Some(named.to_owned())),
            Some(named) => {
                let said = format!("there is no remote `{named}`, which `estoppel.remote` names");
                Err(Refusal::new(Code::GitFailed, said))
            }
            None => match names.as_slice() {
                [only] => Ok(Some((*only).to_owned())),
                _ => Ok(names.iter().find(|name| **name == "origin").map(|name| (*name).to_owned())),
            },
        }
    }

    /// What a remote has under `patterns`.
    pub fn remote_refs(&self, remote: &str, patterns: &[&str]) -> Result<RemoteRefs, Refusal> {
        let mut args = vec!["ls-remote", "--refs", "--end-of-options", remote];
        args.extend(patterns);
        let done = self.run(&args, &[])?;
        if done.exit != Some(0) {
            return Err(Refusal { code: Code::RemoteFailed, ..failed("ls-remote", &done) });
        }
        let said = String::from_utf8_lossy(&done.stdout);
        let row = |line: &str| {
            let (id, name) = line.split_once('\t')?;
            Some((name.to_owned(), ObjectId::parse(id)?))
        };
        Ok(said.lines().filter_map(row).collect())
    }

    /// Fetches by refspecs alone: nothing else is written.
    pub fn fetch(&self, remote: &str, refspecs: &[String]) -> Result<(), Refusal> {
        let mut args = vec![
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--refmap=",
            "--end-of-options",
            remote,
        ];
        args.extend(refspecs.iter().map(String::as_str));
        let done = self.run(&args, &[])?;
        match done.exit {
            Some(0) => Ok(()),
            _ if done.stderr.contains("would clobber existing tag") => {
                let said = "a tag of this clone is another one at the remote; tags are not moved";
                Err(Refusal::new(Code::TagForged, said))
            }
            _ => Err(Refusal { code: Code::RemoteFailed, ..failed("fetch", &done) }),
        }
    }

    /// Whether a remote is written to at another place than it is read from, which is one.
    ///
    /// # Errors
    /// `REMOTE_FAILED`: it is written to at several places, which do not take one transaction.
    pub(crate) fn is_written_elsewhere(&self, remote: &str) -> Result<bool, Refusal> {
        let written = self.text(&["remote", "get-url", "--push", "--all", "--", remote])?;
        let count = written.lines().count();
        if count != 1 {
            let said = format!(
                "`{remote}` is written to at {count} places, which do not take all or nothing; name one (`remote.{remote}.pushurl`)"
            );
            return Err(Refusal::new(Code::RemoteFailed, said));
        }
        Ok(self.text(&["remote", "get-url", "--", remote])? != written)
    }

    /// Pushes all of them in one transaction, each only if the remote has what `old` says.
    pub fn push(&self, remote: &str, moves: &[Move]) -> Result<Pushed, Refusal> {
        let leases: Vec<String> = moves
            .iter()
            .map(|Move { name, old, .. }| {
                let expected = old.as_ref().map_or("", ObjectId::as_str);
                format!("--force-with-lease={name}:{expected}")
            })
            .collect();
        let specs: Vec<String> = moves.iter().map(|Move { name, new, .. }| format!("{new}:{name}")).collect();
        let mut args = vec!["push", "--porcelain", "--atomic", "--no-verify", "--no-recurse-submodules"];
        args.extend(leases.iter().map(String::as_str));
        args.extend(["--end-of-options", remote]);
        args.extend(specs.iter().map(String::as_str));
        let done = self.run(&args, &[])?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        if done.exit == Some(0) {
            return Ok(Pushed::Done);
        }
        let refused: Vec<(&str, &str)> = said.lines().filter_map(refusal).collect();
        // Of one transaction git names every reference; the cause is at the one that is not refused for the others' sake.
        let cause = refused.iter().find(|(_, why)| !why.contains("atomic"));
        Ok(match cause.or(refused.first()) {
            Some((name, why)) if why.contains("[remote failure]") => {
                Pushed::Unknown(format!("`{name}`: {why}{}", told(&done.stderr)))
            }
            Some((name, why)) => Pushed::Rejected(format!("`{name}`: {why}{}", told(&done.stderr))),
            None => Pushed::Unknown(failed("push", &done).detail),
        })
    }
}

/// The reference that a line of `git push --porcelain` says was refused, and why.
fn refusal(line: &str) -> Option<(&str, &str)> {
    let mut words = line.strip_prefix("!\t")?.splitn(2, '\t');
    let (_, name) = words.next()?.split_once(':')?;
    Some((name, words.next().unwrap_or_default().trim()))
}

/// What the remote itself printed, as a hook of it that refuses.
fn told(stderr: &str) -> String {
    let lines = stderr.lines().filter_map(|line| line.strip_prefix("remote:"));
    let lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let all = lines.iter().take(TOLD_LINES_MAX).copied().collect::<Vec<_>>().join(" / ");
    let mut text: String = all.chars().take(TOLD_CHARS_MAX).collect();
    if lines.len() > TOLD_LINES_MAX || text.len() < all.len() {
        text.push_str(" (cut)");
    }
    format!("; it says: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_remote_prints_is_told_up_to_a_limit() {
        assert_eq!(
            told("To /x\nremote: tags are closed        \nremote: \nerror: failed\n"),
            "; it says: tags are closed"
        );
        assert_eq!(told("error: failed\n"), "");
        let many = "remote: line\n".repeat(TOLD_LINES_MAX + 1);
        assert!(told(&many).ends_with("line (cut)"));
        let long = format!("remote: {}\n", "x".repeat(TOLD_CHARS_MAX + 1));
        assert_eq!(told(&long).len(), "; it says:  (cut)".len() + TOLD_CHARS_MAX);
    }

    #[test]
    fn a_refused_reference_is_read_from_the_answer_of_git() {
        let line = "!\tabc:refs/tags/v1.0.0\t[remote rejected] (hook declined)";
        assert_eq!(refusal(line), Some(("refs/tags/v1.0.0", "[remote rejected] (hook declined)")));
        assert_eq!(refusal("*\tabc:refs/tags/v1.0.0\t[new tag]"), None);
        assert_eq!(refusal("To /x"), None);
    }
}
