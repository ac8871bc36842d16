//! Whether what some commits change is in the files of another one, whatever its history says: a merge can take nothing of what
//! it merges, and what was picked can be taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use super::{History, ObjectId, failed};
use crate::code::{Code, Refusal};
use crate::worktree::Scratch;

/// Most files of which texts are merged. What became of those above is not told.
const TEXTS_MAX: usize = 1_000;
/// Most merges that are looked at between two commits. Above, what became of a file is not told.
const MERGES_MAX: usize = 256;

/// The mode of a commit of another repository, which has no object here.
const SUBMODULE: &str = "160000";

/// What became of a change in the files of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ported {
    /// All of it is there: merging it would change nothing.
    All,
    /// What it does to this file is not there: merging it would do it.
    Lacks(String),
    /// What became of this file cannot be told: the same place is otherwise now, or the file is gone.
    Unclear(String),
}

/// A file of a tree.
#[derive(Clone, PartialEq, Eq)]
struct Entry {
    mode: String,
    id: ObjectId,
}

impl Entry {
    fn is_text(&self) -> bool {
        self.mode.starts_with("100")
    }
}

/// A file that is not asked for.
pub(crate) struct LeftOut<'a> {
    /// Whether it may be one of this name.
    pub is_named: &'a dyn Fn(&str) -> bool,
    /// Whether it is, by its name and its content.
    pub is_it: &'a dyn Fn(&str, &[u8]) -> bool,
}

/// What happens to one file; the names differ where it is moved.
struct Change {
    before: Option<Entry>,
    after: Option<Entry>,
    old: String,
    new: String,
}

/// The same of one file, before its history is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    There,
    Lacking,
    Unclear,
}

impl History {
    /// Looks for what changes from `base` to `tip` in the files of `into`. A file that was moved there is known by its content, as
    /// git does it. Where somebody wrote over it in commits that follow `tip` it counts as there, unless a merge after `tip` took
    /// the file otherwise than its side of `tip` has it.
    pub(crate) fn ported(
        &self,
        base: &ObjectId,
        tip: &ObjectId,
        into: &ObjectId,
        left_out: &LeftOut<'_>,
    ) -> Result<Ported, Refusal> {
        self.follow(tip)?;
        self.follow(into)?;
        let changes = self.changes(base, tip, Some(left_out))?;
        let names: BTreeSet<&str> = changes.iter().flat_map(|change| [&*change.old, &*change.new]).collect();
        let here = self.entries(into, &names)?;
        let is_gone = |change: &Change| change.after.is_some() && !here.contains_key(&change.new);
        let moved = if changes.iter().any(is_gone) { self.moves(tip, into)? } else { BTreeMap::new() };
        let targets: BTreeSet<&str> = moved.values().map(String::as_str).collect();
        let there = self.entries(into, &targets)?;
        let (mut unclear, mut asked) = (Vec::new(), 0);
        for change in &changes {
            let to = moved.get(&change.new).filter(|_| is_gone(change));
            let (name, entry) = match to {
                Some(to) => (to, there.get(to)),
                None if is_gone(change) && here.contains_key(&change.old) => {
                    (&change.old, here.get(&change.old))
                }
                None => (&change.new, here.get(&change.new)),
            };
            match self.fate(change, entry, &mut asked)? {
                Fate::There => {}
                Fate::Lacking => return Ok(Ported::Lacks(name.clone())),
                Fate::Unclear => unclear.push((name, change)),
            }
        }
        let Some((first, _)) = unclear.first() else { return Ok(Ported::All) };
        let names = unclear.iter().flat_map(|(name, change)| [name.as_str(), &*change.old, &*change.new]);
        let is_carried = self.is_ancestor(tip, into)? && self.is_carried(tip, into, &names.collect())?;
        Ok(if is_carried { Ported::All } else { Ported::Unclear((*first).clone()) })
    }

    fn fate(&self, change: &Change, here: Option<&Entry>, asked: &mut usize) -> Result<Fate, Refusal> {
        let Change { before, after, .. } = change;
        Ok(match (before, after, here) {
            (_, after, here) if after.as_ref() == here => Fate::There,
            (None, Some(_), None) => Fate::Lacking,
            (Some(before), _, Some(here)) if before == here => Fate::Lacking,
            (Some(before), Some(after), Some(here))
                if [before, after, here].into_iter().all(Entry::is_text) =>
            {
                if after.mode != before.mode && here.mode != after.mode {
                    return Ok(Fate::Lacking);
                }
                *asked += 1;
                if *asked > TEXTS_MAX { Fate::Unclear } else { self.merged(&before.id, &after.id, &here.id)? }
            }
            _ => Fate::Unclear,
        })
    }

    /// Merges what changes from one text to another into a third one, and says whether that changes it.
    fn merged(&self, before: &ObjectId, after: &ObjectId, here: &ObjectId) -> Result<Fate, Refusal> {
        let ids = [here.clone(), before.clone(), after.clone()];
        self.name(ids.iter().map(ObjectId::as_str))?;
        let texts = self.own.blobs(&ids)?;
        let scratch = Scratch::make(&self.own, "merge")?;
        let mut files = Vec::new();
        for (name, text) in ["here", "before", "after"].into_iter().zip(&texts) {
            let path = scratch.path().join(name);
            let unwritten = |error: io::Error| {
                Refusal::new(Code::GitFailed, format!("could not write `{}`: {error}", path.display()))
            };
            fs::write(&path, text).map_err(unwritten)?;
            files.push(path.to_string_lossy().into_owned());
        }
        let words = ["-c", "merge.conflictStyle=merge", "merge-file", "-p", "-q", "--"].into_iter();
        let words: Vec<&str> = words.chain(files.iter().map(String::as_str)).collect();
        let done = self.own.run(&words, &[])?;
        match done.exit {
            Some(0) if texts.first() == Some(&done.stdout) => Ok(Fate::There),
            Some(0) => Ok(Fate::Lacking),
            // So many places are otherwise, or it is no text.
            Some(1..=127 | 255) => Ok(Fate::Unclear),
            _ => Err(failed("merge-file", &done)),
        }
    }

    /// Whether each merge after `tip` up to `into` has these files as one of its parents after `tip` has them.
    fn is_carried(&self, tip: &ObjectId, into: &ObjectId, names: &BTreeSet<&str>) -> Result<bool, Refusal> {
        if self.is_short()? {
            return Ok(false); // There may be merges that the clone does not have.
        }
        let not = format!("^{tip}");
        let words =
            ["rev-list", "--ancestry-path", "--parents", "--end-of-options", into.as_str(), &not, "--"];
        let said = self.own.text(&words)?;
        let rows: Vec<Vec<ObjectId>> =
            said.lines().map(|line| line.split(' ').filter_map(ObjectId::parse).collect()).collect();
        let after: BTreeSet<&ObjectId> = rows.iter().filter_map(|row| row.first()).chain([tip]).collect();
        let merges: Vec<&[ObjectId]> = rows.iter().map(Vec::as_slice).filter(|row| row.len() > 2).collect();
        if merges.len() > MERGES_MAX {
            return Ok(false);
        }
        self.trees(merges.iter().copied().flatten())?;
        for merge in merges {
            let Some((commit, parents)) = merge.split_first() else { continue };
            let own = self.entries(commit, names)?;
            let mut is_kept = false;
            for parent in parents.iter().filter(|parent| after.contains(parent)) {
                is_kept |= self.entries(parent, names)? == own;
            }
            if !is_kept {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The files of these names that a commit has.
    fn entries(&self, commit: &ObjectId, names: &BTreeSet<&str>) -> Result<BTreeMap<String, Entry>, Refusal> {
        self.trees([commit])?;
        let mut found = BTreeMap::new();
        // Names are never given to git, which would take some for options and others for patterns.
        let said = self.own.bytes(&["ls-tree", "-r", "-z", "--full-tree", commit.as_str()], &[])?;
        for row in said.split(|byte| *byte == 0).filter(|row| !row.is_empty()) {
            let row = name_of(row);
            let Some((facts, name)) = row.split_once('\t').filter(|(_, name)| names.contains(name)) else {
                continue;
            };
            let mut facts = facts.split(' ');
            let (mode, id) = (facts.next(), facts.nth(1).and_then(ObjectId::parse));
            if let (Some(mode), Some(id)) = (mode, id) {
                found.insert(name.to_owned(), Entry { mode: mode.to_owned(), id });
            }
        }
        Ok(found)
    }

    /// Where files of one commit are in another one that does not have their names.
    fn moves(&self, from: &ObjectId, to: &ObjectId) -> Result<BTreeMap<String, String>, Refusal> {
        let changes = self.changes(from, to, None)?.into_iter().filter(|change| change.old != change.new);
        Ok(changes.map(|change| (change.old, change.new)).collect())
    }

    /// What changes from one commit to another, file by file. Where more than a thousand come and go, those that are moved with other
    /// changes are not known to be.
    fn changes(
        &self,
        from: &ObjectId,
        to: &ObjectId,
        left_out: Option<&LeftOut<'_>>,
    ) -> Result<Vec<Change>, Refusal> {
        self.trees([from, to])?;
        // To know what is moved, git reads what comes and goes.
        let is_file = |entry: &&Entry| entry.mode != SUBMODULE;
        let differing = self.differences(&["--no-renames"], from, to)?;
        let files =
            differing.iter().flat_map(|change| [&change.before, &change.after]).flatten().filter(is_file);
        self.name(files.map(|entry| entry.id.as_str()))?;
        let mut not = BTreeSet::new();
        for Change { after, new, .. } in &differing {
            let (Some(left_out), Some(after)) = (left_out, after) else { continue };
            if (left_out.is_named)(new) && after.is_text() {
                let content = self.own.blobs(std::slice::from_ref(&after.id))?;
                let is_it = content.first().is_some_and(|content| (left_out.is_it)(new, content));
                not.extend(is_it.then(|| new.clone()));
            }
        }
        let mut changes = self.differences(&["-M", "-l1000"], from, to)?;
        changes.retain(|change| change.old != change.new || !not.contains(&change.new));
        for change in changes.iter_mut().filter(|change| not.contains(&change.new)) {
            // What git takes to be moved there is gone.
            (change.new, change.after) = (change.old.clone(), None);
        }
        Ok(changes)
    }

    fn differences(&self, how: &[&str], from: &ObjectId, to: &ObjectId) -> Result<Vec<Change>, Refusal> {
        let words = ["diff-tree", "-r", "-z", "--raw", "--no-ext-diff", "--ignore-submodules=none"];
        let words = [words.as_slice(), how, &[from.as_str(), to.as_str(), "--"]].concat();
        let said = self.own.bytes(&words, &[])?;
        let mut words = said.split(|byte| *byte == 0).map(name_of);
        let mut changes = Vec::new();
        while let Some(facts) = words.next().filter(|facts| !facts.is_empty()) {
            let wrong = || Refusal::new(Code::GitFailed, "`git diff-tree` answered otherwise than it says");
            let fields: Vec<&str> = facts.trim_start_matches(':').split(' ').collect();
            let [old_mode, new_mode, old_id, new_id, what] = fields.as_slice() else { return Err(wrong()) };
            let entry = |mode: &str, id: &str| {
                let id = ObjectId::parse(id).filter(|_| mode != "000000")?;
                Some(Entry { mode: mode.to_owned(), id })
            };
            let old = words.next().ok_or_else(wrong)?;
            let new = if what.starts_with('R') { words.next().ok_or_else(wrong)? } else { old.clone() };
            let (before, after) = (entry(old_mode, old_id), entry(new_mode, new_id));
            changes.push(Change { before, after, old, new });
        }
        Ok(changes)
    }
}

/// A name, in which each byte that is no UTF-8 is written `\xff`, and a backslash `\\`: no two files have the same.
fn name_of(bytes: &[u8]) -> String {
    let mut name = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        name.push_str(&chunk.valid().replace('\\', "\\\\"));
        chunk.invalid().iter().for_each(|byte| name.push_str(&format!("\\x{byte:02x}")));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Scene;

    const NOTHING: LeftOut<'_> = LeftOut { is_named: &|_| false, is_it: &|_, _| false };
    const TEXT: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";

    fn with(line: &str, now: &str) -> String {
        TEXT.replace(&format!("\n{line}\n"), &format!("\n{now}\n"))
    }

    /// A file, and a branch `fix` that mends line 8 of it; `main` stays at the base.
    struct Line {
        scene: Scene,
        base: ObjectId,
        tip: ObjectId,
    }

    impl Line {
        fn new() -> Self {
            let scene = Scene::new();
            let base = scene.commit("f", TEXT);
            let mut line = Self { scene, tip: base.clone(), base };
            line.run(&["checkout", "-q", "-b", "fix"]);
            line.tip = line.scene.commit("f", &with("8", "mended"));
            line.run(&["checkout", "-q", "main"]);
            line
        }

        fn run(&self, words: &[&str]) {
            let who = ["-c", "user.name=a", "-c", "user.email=a@b"];
            self.scene.git.text(&[who.as_slice(), words].concat()).unwrap();
        }

        fn commit(&self, text: &str) -> &Self {
            self.scene.commit("f", text);
            self
        }

        fn history(&self) -> History {
            History::of(&self.scene.git, &self.scene.head()).unwrap()
        }

        fn said(&self) -> Ported {
            self.history().ported(&self.base, &self.tip, &self.scene.head(), &NOTHING).unwrap()
        }
    }

    fn lacks() -> Ported {
        Ported::Lacks("f".into())
    }

    fn unclear() -> Ported {
        Ported::Unclear("f".into())
    }

    #[test]
    fn what_a_hotfix_changed_is_looked_for_in_the_files_and_not_in_the_history() {
        let line = Line::new();
        assert_eq!(line.history().ported(&line.base, &line.tip, &line.tip, &NOTHING).unwrap(), Ported::All);
        assert_eq!(line.said(), lacks());
        line.commit(&with("2", "two"));
        assert_eq!(line.said(), lacks());
        line.run(&["cherry-pick", line.tip.as_str()]);
        assert_eq!(line.said(), Ported::All);
        line.run(&["revert", "--no-edit", "HEAD"]);
        assert_eq!(line.said(), lacks(), "picked, and taken back");
        line.commit(&format!("0\n{}", with("8", "mended")));
        assert_eq!(line.said(), Ported::All, "put there by hand, elsewhere in the file");

        let line = Line::new();
        line.commit(&with("2", "two"));
        line.run(&["merge", "-q", "-s", "ours", "-m", "m", "fix"]);
        assert_eq!(line.said(), lacks(), "merged, and nothing of it taken");

        let line = Line::new();
        line.commit(&with("2", "two"));
        line.run(&["merge", "-q", "-m", "m", "fix"]);
        assert_eq!(line.said(), Ported::All);
        line.commit(&with("2", "two"));
        assert_eq!(line.said(), lacks(), "merged, and taken back");
    }

    #[test]
    fn what_was_written_on_top_of_a_hotfix_keeps_it_and_what_was_written_beside_it_cannot_be_told() {
        let line = Line::new();
        line.commit(&with("2", "two"));
        line.run(&["merge", "-q", "-m", "m", "fix"]);
        line.scene.commit("f", &with("8", "mended, and better"));
        // The merge changed the file, so that nobody can tell what is of whom.
        assert_eq!(line.said(), unclear());

        let line = Line::new();
        line.scene.commit("g", "more");
        line.run(&["merge", "-q", "-m", "m", "fix"]);
        line.commit(&with("8", "mended, and better"));
        assert_eq!(line.said(), Ported::All, "the merge took the file as the hotfix has it");

        let line = Line::new();
        line.run(&["checkout", "-q", "fix"]);
        line.commit(&with("8", "mended, and better"));
        assert_eq!(line.said(), Ported::All);

        let line = Line::new();
        line.commit(&with("8", "other"));
        assert_eq!(line.said(), unclear());
        line.run(&["merge", "-q", "-s", "ours", "-m", "m", "fix"]);
        assert_eq!(line.said(), unclear(), "merged, and nothing of it taken");
        line.run(&["rm", "-q", "f"]);
        line.run(&["commit", "-q", "-m", "gone"]);
        assert_eq!(line.said(), unclear());
    }

    #[test]
    fn a_file_is_found_under_the_name_that_it_has_now() {
        let line = Line::new();
        line.run(&["mv", "f", "dir"]);
        line.run(&["commit", "-q", "-m", "moved"]);
        assert_eq!(line.said(), Ported::Lacks("dir".into()));
        line.scene.commit("dir", &with("8", "mended"));
        assert_eq!(line.said(), Ported::All);
        line.scene.commit("dir", &with("8", "other"));
        assert_eq!(line.said(), Ported::Unclear("dir".into()));

        // The hotfix itself moves it.
        let mut line = Line::new();
        line.run(&["checkout", "-q", "fix"]);
        line.run(&["mv", "f", "new"]);
        line.run(&["commit", "-q", "-m", "moved"]);
        line.tip = line.scene.head();
        assert_eq!(line.said(), Ported::All);
        line.run(&["checkout", "-q", "main"]);
        assert_eq!(line.said(), lacks());
        line.run(&["cherry-pick", &format!("{}..fix", line.base)]);
        assert_eq!(line.said(), Ported::All);
    }

    #[test]
    fn files_that_come_go_or_are_no_text_are_held_against_what_they_became() {
        let mut line = Line::new();
        line.run(&["checkout", "-q", "fix"]);
        line.scene.commit("raw", "\0one");
        line.run(&["update-index", "--chmod=+x", "raw"]);
        line.run(&["commit", "-q", "-m", "may be run"]);
        line.tip = line.scene.head();
        line.run(&["reset", "-q", "--hard"]);
        line.run(&["checkout", "-q", "main"]);
        line.scene.commit("g", "more");
        line.run(&["cherry-pick", &format!("{}..fix~1", line.base)]);
        // The mode is not there yet.
        assert_eq!(line.said(), Ported::Unclear("raw".into()));
        line.run(&["cherry-pick", "fix"]);
        assert_eq!(line.said(), Ported::All);
        line.scene.commit("raw", "\0two");
        assert_eq!(line.said(), Ported::Unclear("raw".into()));
        line.run(&["rm", "-q", "raw"]);
        line.run(&["commit", "-q", "-m", "gone"]);
        assert_eq!(line.said(), Ported::Lacks("raw".into()));

        let mut line = Line::new();
        line.run(&["checkout", "-q", "fix"]);
        line.run(&["rm", "-q", "f"]);
        line.run(&["commit", "-q", "-m", "gone"]);
        line.tip = line.scene.head();
        line.run(&["checkout", "-q", "main"]);
        assert_eq!(line.said(), lacks());
        line.commit("another");
        assert_eq!(line.said(), unclear());
        line.run(&["rm", "-q", "f"]);
        line.run(&["commit", "-q", "-m", "gone"]);
        assert_eq!(line.said(), Ported::All);
    }

    #[test]
    fn a_hotfix_with_merges_is_looked_for_as_any_other() {
        let mut line = Line::new();
        line.scene.commit("g", "more");
        line.run(&["checkout", "-q", "fix"]);
        line.run(&["merge", "-q", "-m", "m", "main"]);
        line.tip = line.scene.head();
        line.run(&["checkout", "-q", "main"]);
        assert_eq!(line.said(), lacks());
        assert!(line.history().has_merges(&line.base, &line.tip).unwrap());
        line.commit(&with("8", "mended"));
        assert_eq!(line.said(), Ported::All);
    }

    #[test]
    fn a_submodule_that_a_hotfix_moves_is_looked_for_whatever_is_set_to_be_passed_over() {
        let mut line = Line::new();
        let points = |line: &Line, to: &ObjectId| {
            line.run(&["update-index", "--add", "--cacheinfo", &format!("160000,{to},sub")]);
            line.run(&["commit", "-q", "-m", "sub"]);
            line.scene.head()
        };
        let (a, b) = (line.base.clone(), line.tip.clone());
        line.base = points(&line, &a);
        line.run(&["checkout", "-q", "-B", "fix"]);
        line.tip = points(&line, &b);
        line.run(&["reset", "-q", "--hard"]);
        line.run(&["checkout", "-q", "main"]);
        line.run(&["config", "diff.ignoreSubmodules", "all"]);
        line.scene.commit(".gitmodules", "[submodule \"sub\"]\n\tpath = sub\n\turl = x\n\tignore = all\n");
        assert_eq!(line.said(), Ported::Lacks("sub".into()));
    }

    #[test]
    fn where_a_shallow_clone_may_lack_a_merge_nobody_can_tell() {
        let line = Line::new();
        line.scene.commit("g", "more");
        line.run(&["merge", "-q", "-m", "m", "fix"]);
        line.commit(&with("8", "mended, and better"));
        assert_eq!(line.said(), Ported::All);
        let shallow = line.scene.git.top().join(".git/shallow");
        fs::write(&shallow, format!("{}\n", line.base)).unwrap();
        assert_eq!(line.said(), unclear());
        fs::write(&shallow, format!("{}\n", line.scene.head())).unwrap();
        let refused = line.history().ported(&line.base, &line.tip, &line.scene.head(), &NOTHING).unwrap_err();
        assert_eq!(refused.code, Code::HistoryMissing, "{refused}");
    }

    #[test]
    fn what_a_person_has_set_for_merges_changes_nothing() {
        for style in ["diff3", "zdiff3", "merge"] {
            let line = Line::new();
            line.run(&["config", "merge.conflictStyle", style]);
            line.commit(&with("8", "mended").replace("\n2\n", "\ntwo\n"));
            assert_eq!(line.said(), Ported::All, "{style}");
        }
        let line = Line::new();
        line.scene.commit(".gitattributes", "f merge=ours -text -diff\n");
        assert_eq!(line.said(), lacks());
    }

    /// Commits what lies in the folder.
    fn committed(line: &Line) -> ObjectId {
        line.run(&["add", "--all"]);
        line.run(&["commit", "-q", "-m", "x"]);
        line.scene.head()
    }

    #[test]
    fn a_file_is_looked_for_whatever_its_name_is() {
        use std::os::unix::ffi::OsStrExt as _;
        let mut line = Line::new();
        let names: [&[u8]; 4] = [b"-d", b"-q.txt", b":(exclude)f", b"back\xffdoor"];
        let paths = names.map(|name| line.scene.git.top().join(std::ffi::OsStr::from_bytes(name)));
        for path in &paths {
            fs::write(path, "open\n").unwrap();
        }
        line.base = committed(&line);
        line.run(&["checkout", "-q", "-B", "fix"]);
        for (at, path) in paths.iter().enumerate() {
            fs::remove_file(path).unwrap();
            line.tip = committed(&line);
            line.run(&["checkout", "-q", "main"]);
            assert!(matches!(line.said(), Ported::Lacks(_)), "{at}");
            fs::remove_file(path).unwrap();
            committed(&line);
            assert_eq!(line.said(), Ported::All, "{at}");
            line.run(&["checkout", "-q", "fix"]);
        }
    }

    #[test]
    fn a_file_that_is_left_out_hides_no_other_one() {
        let mut line = Line::new();
        line.scene.commit("access", TEXT);
        line.base = line.scene.head();
        line.run(&["checkout", "-q", "-B", "fix"]);
        let said = |line: &Line, content: &str| {
            let own =
                LeftOut { is_named: &|name| name == "own", is_it: &|_, bytes| bytes == content.as_bytes() };
            line.history().ported(&line.base, &line.tip, &line.scene.head(), &own).unwrap()
        };
        line.tip = line.scene.commit("own", TEXT);
        line.run(&["checkout", "-q", "main"]);
        assert_eq!(said(&line, TEXT), Ported::All);
        assert_eq!(said(&line, "what was sealed"), Ported::Lacks("own".into()));
        // What it is like is gone: that is no move.
        line.run(&["checkout", "-q", "fix"]);
        line.run(&["rm", "-q", "access"]);
        line.tip = committed(&line);
        line.run(&["checkout", "-q", "main"]);
        assert_eq!(said(&line, TEXT), Ported::Lacks("access".into()));
    }
}
