//! Objects: commits, trees, blobs and tags by their ids.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Git, failed};
use crate::code::{Code, Refusal};

/// The id of an object, in SHA-1 or SHA-256 repositories.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(String);

impl ObjectId {
    /// 40 or 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (matches!(text.len(), 40 | 64) && is_hex).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an object id"))
    }
}

impl Git {
    /// The commit that a name of any kind stands for.
    pub fn commit(&self, revision: &str) -> Result<Option<ObjectId>, Refusal> {
        self.peel(revision, "commit")
    }

    /// The tree that a commit names, whose own name is that of its content.
    ///
    /// # Errors
    /// `REVISION_UNKNOWN`. `LEDGER_ALTERED`: it is not what its name says.
    pub fn tree(&self, commit: &ObjectId) -> Result<ObjectId, Refusal> {
        let unknown = || Refusal::new(Code::RevisionUnknown, format!("there is no commit {commit}"));
        let bytes = self.read("commit", commit).map_err(|_| unknown())?;
        if self.id(&["hash-object", "-t", "commit", "--literally", "--stdin"], &bytes)? != *commit {
            let said = format!("object {commit} is not what its name says");
            return Err(Refusal::new(Code::LedgerAltered, said));
        }
        let first = bytes.split(|byte| *byte == b'\n').next().and_then(|line| line.strip_prefix(b"tree "));
        first.and_then(|id| ObjectId::parse(std::str::from_utf8(id).ok()?)).ok_or_else(unknown)
    }

    fn peel(&self, revision: &str, kind: &str) -> Result<Option<ObjectId>, Refusal> {
        let wanted = format!("{revision}^{{{kind}}}");
        let done = self.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted], &[])?;
        let said = String::from_utf8_lossy(&done.stdout);
        // `--end-of-options` is echoed by some versions.
        Ok(said.lines().filter(|_| done.exit == Some(0)).find_map(ObjectId::parse))
    }

    /// Whether `old` is `new` or one of its ancestors.
    pub fn is_ancestor(&self, old: &ObjectId, new: &ObjectId) -> Result<bool, Refusal> {
        let done = self.run(&["merge-base", "--is-ancestor", old.as_str(), new.as_str()], &[])?;
        match done.exit {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(failed("merge-base", &done)),
        }
    }

    pub(crate) fn write(&self, kind: &str, bytes: &[u8]) -> Result<ObjectId, Refusal> {
        self.id(&["hash-object", "-t", kind, "-w", "--stdin"], bytes)
    }

    pub(crate) fn read(&self, kind: &str, id: &ObjectId) -> Result<Vec<u8>, Refusal> {
        self.bytes(&["cat-file", kind, id.as_str()], &[])
    }

    /// The contents of blobs, in the order that they were asked for.
    pub(crate) fn blobs(&self, ids: &[ObjectId]) -> Result<Vec<Vec<u8>>, Refusal> {
        let asked: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let out = self.bytes(&["cat-file", "--batch"], asked.as_bytes())?;
        let mut rest = out.as_slice();
        let mut blobs = Vec::with_capacity(ids.len());
        for id in ids {
            let blob = next_object(&mut rest, "blob");
            blobs.push(blob.ok_or_else(|| Refusal::new(Code::GitFailed, format!("there is no blob {id}")))?);
        }
        Ok(blobs)
    }

    pub(crate) fn id(&self, args: &[&str], input: &[u8]) -> Result<ObjectId, Refusal> {
        let out = self.bytes(args, input)?;
        let said = String::from_utf8_lossy(&out);
        ObjectId::parse(said.trim_end()).ok_or_else(|| {
            let verb = args.first().copied().unwrap_or_default();
            Refusal::new(Code::GitFailed, format!("`git {verb}` did not answer with an id"))
        })
    }
}

/// The name that an object has by its content, in a repository that names objects like this one.
pub(super) fn name_of(kind: &str, bytes: &[u8], like: &ObjectId) -> ObjectId {
    use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
    let mut context =
        Context::new(if like.as_str().len() == 64 { &SHA256 } else { &SHA1_FOR_LEGACY_USE_ONLY });
    context.update(format!("{kind} {}\0", bytes.len()).as_bytes());
    context.update(bytes);
    ObjectId(estoppel_evidence::hash::hex(context.finish().as_ref()))
}

/// Takes one `<id> <kind> <bytes>` with its content from the answer of `cat-file --batch`.
pub(super) fn next_object(rest: &mut &[u8], kind: &str) -> Option<Vec<u8>> {
    let line_end = rest.iter().position(|byte| *byte == b'\n')?;
    let header = std::str::from_utf8(rest.get(..line_end)?).ok()?;
    let length: usize = header.split_once(&format!(" {kind} "))?.1.parse().ok()?;
    let start = line_end + 1;
    let end = start.checked_add(length)?;
    let content = rest.get(start..end)?.to_vec();
    *rest = rest.get(end.checked_add(1)?..)?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::super::tests::repository;
    use super::*;

    #[test]
    fn blobs_come_back_as_they_were_written() {
        let (_dir, git) = repository();
        let contents: [&[u8]; 3] = [b"", b"a\nb", b"\0\n\n"];
        let ids: Vec<ObjectId> = contents.iter().map(|bytes| git.write("blob", bytes).unwrap()).collect();
        assert_eq!(git.blobs(&ids).unwrap(), contents);
        let absent = ObjectId::parse(&"0".repeat(40)).unwrap();
        assert!(git.blobs(&[absent]).is_err());
    }

    #[test]
    fn names_that_look_like_options_are_names() {
        let (_dir, git) = repository();
        for name in ["--all", "-h", "--git-dir", "", "HEAD:x", "$(touch x)"] {
            assert_eq!(git.commit(name).unwrap(), None, "{name}");
        }
        assert!(git.commit("HEAD").unwrap().is_some());
    }
}
