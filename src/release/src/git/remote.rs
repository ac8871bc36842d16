//! The remote: what it has, fetching it, and one push that it takes whole or not at all.

use std::collections::BTreeMap;

use super::{Git, Move, ObjectId, failed};
use crate::code::{Code, Refusal};

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
        match said.lines().find(|line| line.starts_with('!')) {
            Some(line) if line.contains("[remote failure]") => Ok(Pushed::Unknown(line.replace('\t', " "))),
            Some(line) => Ok(Pushed::Rejected(line.replace('\t', " "))),
            None => Ok(Pushed::Unknown(failed("push", &done).detail)),
        }
    }
}
