//! Whether the changes of some commits are in the history of another one, as the same commits or as the same patches.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::Sha256;

use super::{Git, ObjectId, failed};
use crate::code::Refusal;

/// How a patch is written down, whatever the clone and its user have set.
const PATCH: &[&str] = &[
    "diff-tree",
    "--stdin",
    "-r",
    "--root",
    "-p",
    "-U3",
    "--full-index",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--diff-algorithm=myers",
    "--src-prefix=a/",
    "--dst-prefix=b/",
];

/// Most paths that are given to one call of git.
const PATHS_MAX: usize = 256;

/// What became of commits in another history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ported {
    /// All of them are in it, or a commit with the same patch of each.
    All,
    /// The patch of this one is in no commit.
    Lacks(ObjectId),
    /// This one joins others, and has no patch of its own that could be compared.
    Merge(ObjectId),
}

impl Git {
    /// Looks for the commits after `base` up to `tip` in the history of `into` after `base`. Two patches are the same where
    /// they take out and put in the same lines between the same three lines before and after, in the same files, wherever in
    /// these; of files that are no text, where the result is the same.
    pub fn ported(&self, base: &ObjectId, tip: &ObjectId, into: &ObjectId) -> Result<Ported, Refusal> {
        self.demand_history(tip)?;
        if self.is_ancestor(tip, into)? {
            return Ok(Ported::All);
        }
        if let Some(merge) = self.listed(base, tip, &["--merges"], &[])?.into_iter().next() {
            return Ok(Ported::Merge(merge));
        }
        let wanted = self.listed(base, tip, &["--reverse"], &[])?;
        let paths = self.paths(&wanted)?;
        let there = self.listed(base, into, &["--no-merges"], &paths)?;
        let there: BTreeSet<Sha256> = self.patches(&there)?.into_values().collect();
        let patches = self.patches(&wanted)?;
        let is_lacking = |id: &ObjectId| patches.get(id).is_some_and(|patch| !there.contains(patch));
        Ok(wanted.into_iter().find(is_lacking).map_or(Ported::All, Ported::Lacks))
    }

    fn listed(
        &self,
        base: &ObjectId,
        tip: &ObjectId,
        options: &[&str],
        paths: &[String],
    ) -> Result<Vec<ObjectId>, Refusal> {
        let not = format!("^{base}");
        let mut words = vec!["rev-list"];
        words.extend(options);
        words.extend(["--end-of-options", tip.as_str(), &not, "--"]);
        words.extend(paths.iter().map(String::as_str));
        Ok(self.text(&words)?.lines().filter_map(ObjectId::parse).collect())
    }

    /// The files that commits change; none where they are too many, or not all can be named, to look among their commits alone.
    fn paths(&self, commits: &[ObjectId]) -> Result<Vec<String>, Refusal> {
        let words =
            ["diff-tree", "--stdin", "-r", "--root", "--no-renames", "--name-only", "--no-commit-id", "-z"];
        let said = self.bytes(&words, lines(commits).as_bytes())?;
        let names = said.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let names: Option<BTreeSet<String>> =
            names.map(|name| String::from_utf8(name.to_vec()).ok()).collect();
        let names = names.filter(|names| names.len() <= PATHS_MAX).unwrap_or_default();
        Ok(names.into_iter().collect())
    }

    /// The digest of the patch of each commit; of one that changes nothing there is none.
    fn patches(&self, commits: &[ObjectId]) -> Result<BTreeMap<ObjectId, Sha256>, Refusal> {
        let done = self.run(PATCH, lines(commits).as_bytes())?;
        if done.exit != Some(0) {
            return Err(failed("diff-tree", &done));
        }
        let mut texts: BTreeMap<ObjectId, Vec<u8>> = BTreeMap::new();
        let (mut own, mut index) = (None, Vec::new());
        for line in done.stdout.split_inclusive(|byte| *byte == b'\n') {
            let commit = std::str::from_utf8(line).ok().and_then(|line| ObjectId::parse(line.trim_end()));
            if let Some(commit) = commit {
                own = Some(commit);
                continue;
            }
            let Some(own) = &own else { continue };
            if let Some(ids) = line.strip_prefix(b"index ") {
                index = ids.to_vec();
                continue;
            }
            let text = texts.entry(own.clone()).or_default();
            // Where in the file it stands is another matter.
            if !line.starts_with(b"@@ ") {
                text.extend_from_slice(line);
            }
            if line.starts_with(b"Binary files ") {
                let result =
                    index.windows(2).position(|pair| pair == b"..").and_then(|at| index.get(at + 2..));
                text.extend_from_slice(result.unwrap_or(&index));
            }
        }
        Ok(texts.into_iter().map(|(id, text)| (id, Sha256::of(&text))).collect())
    }
}

fn lines(commits: &[ObjectId]) -> String {
    commits.iter().map(|commit| format!("{commit}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Scene;

    #[test]
    fn a_patch_is_found_wherever_it_was_put_and_no_other_is_taken_for_it() {
        let scene = Scene::new();
        let text = |first: &str, last: &str| format!("{first}\n1\n2\n3\n4\n5\n6\n7\n{last}\n");
        let base = scene.commit("f", &text("a", "z"));
        scene.git.text(&["branch", "-q", "fix"]).unwrap();
        scene.commit("f", &text("b\nc", "z"));
        let elsewhere = scene.commit("g", "unlike");
        scene.git.text(&["checkout", "-q", "fix"]).unwrap();
        let first = scene.commit("f", &text("a", "mended"));
        let tip = scene.commit("raw", "\0one");
        assert_eq!(scene.git.ported(&base, &tip, &tip).unwrap(), Ported::All);
        assert_eq!(scene.git.ported(&base, &tip, &elsewhere).unwrap(), Ported::Lacks(first));
        scene.git.text(&["checkout", "-q", "main"]).unwrap();
        let half = scene.commit("f", &text("b\nc", "mended"));
        assert_eq!(scene.git.ported(&base, &tip, &half).unwrap(), Ported::Lacks(tip.clone()));
        let other = scene.commit("raw", "\0two");
        assert_eq!(scene.git.ported(&base, &tip, &other).unwrap(), Ported::Lacks(tip.clone()));
        scene.git.text(&["reset", "-q", "--hard", half.as_str()]).unwrap();
        let whole = scene.commit("raw", "\0one");
        assert_eq!(scene.git.ported(&base, &tip, &whole).unwrap(), Ported::All);
        scene.git.text(&["checkout", "-q", "fix"]).unwrap();
        let merge = ["-c", "user.name=a", "-c", "user.email=a@b", "merge", "-q", "-s", "ours", "-m", "m"];
        scene.git.text(&[merge.as_slice(), &[elsewhere.as_str()]].concat()).unwrap();
        let joined = scene.head();
        assert_eq!(scene.git.ported(&base, &joined, &whole).unwrap(), Ported::Merge(joined.clone()));
    }
}
