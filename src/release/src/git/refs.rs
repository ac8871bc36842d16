//! References: read, and moved together or not at all.

use super::{Git, ObjectId, failed};
use crate::code::Refusal;

/// One reference as it shall become.
#[derive(Clone, Debug)]
pub struct Move {
    pub name: String,
    pub new: ObjectId,
    /// What it is now; none where it must not exist.
    pub old: Option<ObjectId>,
}

impl Move {
    pub fn create(name: &str, new: &ObjectId) -> Self {
        Self { name: name.to_owned(), new: new.clone(), old: None }
    }
}

/// What came of moving references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Done,
    /// One of them is not what it was held to be; none was moved.
    Conflict,
}

impl Git {
    /// What a reference points at, without following tags.
    pub fn target(&self, name: &str) -> Result<Option<ObjectId>, Refusal> {
        Ok(self.refs(name)?.into_iter().find(|(found, _)| found == name).map(|(_, id)| id))
    }

    /// References that are `prefix` or are in it.
    pub fn refs(&self, prefix: &str) -> Result<Vec<(String, ObjectId)>, Refusal> {
        let out =
            self.text(&["for-each-ref", "--format=%(refname) %(objectname)", "--end-of-options", prefix])?;
        Ok(out.lines().filter_map(row).collect())
    }

    /// Moves all of them in one transaction.
    pub fn move_refs(&self, moves: &[Move]) -> Result<Moved, Refusal> {
        let mut script = String::from("start\n");
        for Move { name, new, old } in moves {
            script.push_str(&match old {
                Some(old) => format!("update {name} {new} {old}\n"),
                None => format!("create {name} {new}\n"),
            });
        }
        script.push_str("prepare\ncommit\n");
        let done = self.run(&["update-ref", "--no-deref", "--stdin"], script.as_bytes())?;
        if done.exit == Some(0) {
            return Ok(Moved::Done);
        }
        for Move { name, old, .. } in moves {
            if self.target(name)? != *old {
                return Ok(Moved::Conflict);
            }
        }
        // Another transaction that holds the lock, and has not moved anything yet.
        if done.stderr.contains("Unable to create") && done.stderr.contains(".lock") {
            return Ok(Moved::Conflict);
        }
        Err(failed("update-ref", &done))
    }
}

pub(super) fn row(line: &str) -> Option<(String, ObjectId)> {
    let (name, id) = line.split_once(' ')?;
    Some((name.to_owned(), ObjectId::parse(id)?))
}

#[cfg(test)]
mod tests {
    use super::super::tests::repository;
    use super::*;

    #[test]
    fn all_references_move_or_none() {
        let (_dir, git) = repository();
        let head = git.commit("HEAD").unwrap().unwrap();
        let blob = git.write("blob", b"x").unwrap();
        let (a, b) = (Move::create("refs/estoppel/a", &head), Move::create("refs/estoppel/b", &head));
        assert_eq!(git.move_refs(std::slice::from_ref(&a)).unwrap(), Moved::Done);
        assert_eq!(git.move_refs(&[b.clone(), a]).unwrap(), Moved::Conflict);
        assert_eq!(git.target("refs/estoppel/b").unwrap(), None);
        let stale = Move { name: "refs/estoppel/a".into(), new: blob.clone(), old: Some(blob) };
        assert_eq!(git.move_refs(&[stale]).unwrap(), Moved::Conflict);
        assert_eq!(git.target("refs/estoppel/a").unwrap(), Some(head));
    }
}
