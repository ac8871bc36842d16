//! The ledger on its ref: read, joined with that of the remote, and added to together with tags or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Sha256, Signer};

use super::body::Body;
use super::event::{Event, path};
use super::roles::Roles;
use super::{EVENTS_MAX, Ledger, check};
use crate::code::{Code, Refusal};
use crate::git::{Git, Move, Moved, ObjectId, Pushed, RemoteRefs};
use crate::tag::Tag;
use crate::version::Version;

/// Where the ledger is, here and at the remote.
pub const LEDGER_REF: &str = "refs/estoppel/ledger";
/// The newest ledger that was verified here: an older one is one that has lost something.
const SEEN_REF: &str = "refs/estoppel/seen";
/// The ledger of the remote as it was fetched last.
const REMOTE_REF: &str = "refs/estoppel/remote";
/// Where it is put before it is held against that.
const FETCHED_REF: &str = "refs/estoppel/fetched";
/// The setting that holds the first event that is trusted.
const GENESIS_SETTING: &str = "estoppel.genesis";
/// How often it is begun again where others wrote at the same time. Then `LEDGER_BUSY`.
const ATTEMPTS_MAX: u32 = 64;
/// How far ahead of this clock an event of the remote may be dated.
const CLOCK_SKEW_US_MAX: u64 = 300_000_000;
/// Names of tags that are a version's.
const TAGS: &str = "refs/tags/v*";
const ROLLBACK_TAGS: &str = "refs/tags/rollback/*";

/// Whose hand writes: a key, a machine, a clock.
pub struct Hand<'a> {
    pub signer: &'a dyn Signer,
    pub host: &'a str,
    pub now: &'a dyn Fn() -> UnixMicros,
}

/// A tag that an event gives away.
#[derive(Clone, Debug)]
pub struct TagDraft {
    pub name: String,
    pub target: ObjectId,
    pub message: String,
}

/// What is to be added.
#[derive(Clone, Debug)]
pub struct Draft {
    pub body: Body,
    pub tag: Option<TagDraft>,
    /// A further ref that is made with it, as the branch of a rollback.
    pub branch: Option<(String, ObjectId)>,
}

impl From<Body> for Draft {
    fn from(body: Body) -> Self {
        Self { body, tag: None, branch: None }
    }
}

/// What was added.
#[derive(Clone, Debug)]
pub struct Appended {
    pub event: Sha256,
    pub body: Body,
}

/// What a draft is made from: the ledger with that of the remote, and every tag of a version here and there.
pub struct Known<'a> {
    pub ledger: &'a Ledger,
    pub tags: &'a BTreeSet<String>,
    /// What the event will say of when it happened: never before one that it follows.
    pub at: UnixMicros,
}

impl Known<'_> {
    /// One more than the highest number in a tag of this word that this clone, the remote or the ledger knows.
    pub fn next_number(&self, version: &Version, word: &str) -> u64 {
        let given = self.ledger.tags();
        let names = self.tags.iter().map(String::as_str).chain(given.into_keys());
        names.filter_map(|name| version.tag_number(word, name)).max().unwrap_or(0).saturating_add(1)
    }
}

/// The ledger of a repository.
#[derive(Clone, Debug)]
pub struct Store {
    git: Git,
    remote: Option<String>,
    /// What is trusted for as long as it was not verified: nothing of it is kept yet.
    asked: Option<Sha256>,
    /// By which what the remote has is held to be of the past.
    clock: fn() -> UnixMicros,
}

/// A ledger and the commit that holds it.
struct Held {
    commit: ObjectId,
    ledger: Ledger,
}

impl Store {
    pub fn new(git: Git, remote: Option<String>, clock: fn() -> UnixMicros) -> Self {
        Self { git, remote, asked: None, clock }
    }

    /// The same without its remote.
    pub(crate) fn alone(&self) -> Self {
        Self { remote: None, ..self.clone() }
    }

    pub fn git(&self) -> &Git {
        &self.git
    }

    pub fn remote(&self) -> Option<&str> {
        self.remote.as_deref()
    }

    /// The first event that this clone trusts.
    pub fn trusted(&self) -> Result<Option<Sha256>, Refusal> {
        let Some(text) = self.git.config(GENESIS_SETTING)? else { return Ok(self.asked) };
        let wrong =
            || Refusal::new(Code::LedgerGenesis, format!("`{GENESIS_SETTING}` is no digest: `{text}`"));
        Sha256::parse(&text).map(Some).ok_or_else(wrong)
    }

    /// From now on a ledger counts only if it begins with this event.
    pub fn trust(&self, genesis: Sha256) -> Result<(), Refusal> {
        self.git.set_config(GENESIS_SETTING, &genesis.to_string())
    }

    /// Takes over the ledger of the remote that begins with this event, and trusts no other from then on. What is refused
    /// leaves nothing.
    ///
    /// # Errors
    /// `LEDGER_EXISTS`: this clone trusts another one. Every fault of what is fetched.
    pub fn join(&self, genesis: Sha256) -> Result<Ledger, Refusal> {
        if let Some(trusted) = self.trusted()?.filter(|trusted| *trusted != genesis) {
            return Err(Refusal::new(Code::LedgerExists, format!("this clone trusts {trusted} already")));
        }
        let ledger = Self { asked: Some(genesis), ..self.clone() }.fetch()?;
        self.trust(genesis)?;
        Ok(ledger)
    }

    /// The ledger of this clone, verified from its first event on.
    ///
    /// # Errors
    /// `LEDGER_MISSING`, and every fault that it can have.
    pub fn read(&self) -> Result<Ledger, Refusal> {
        let missing = || {
            let said = "this repository has no ledger; `estoppel ledger init` begins one, `estoppel ledger join` \
                        takes that of the remote";
            Refusal::new(Code::LedgerMissing, said)
        };
        Ok(self.held()?.ok_or_else(missing)?.ledger)
    }

    /// Begins a ledger, whose first event says who may do what.
    ///
    /// # Errors
    /// `LEDGER_EXISTS`: here or at the remote, or this clone trusts one. `LEDGER_ALTERED`: there was one here.
    pub fn begin(&self, body: Body, hand: &Hand<'_>) -> Result<Appended, Refusal> {
        let _lock = self.lock()?;
        let theirs = self.remote_refs()?;
        if self.git.target(LEDGER_REF)?.is_some() || theirs.contains_key(LEDGER_REF) {
            let said = "there is a ledger already, here or at the remote; `estoppel ledger join` takes that of the remote";
            return Err(Refusal::new(Code::LedgerExists, said));
        }
        if self.git.target(SEEN_REF)?.is_some() {
            let said = "there was a ledger here, and it is gone; it is brought back, not begun again";
            return Err(Refusal::new(Code::LedgerAltered, said));
        }
        if let Some(trusted) = self.trusted()? {
            let said = format!(
                "this clone trusts the ledger that begins with {trusted}; `estoppel ledger join` takes it from the remote"
            );
            return Err(Refusal::new(Code::LedgerExists, said));
        }
        match self.add(None, &theirs, body.into(), (hand.now)(), hand)? {
            Some(appended) => {
                self.trust(appended.event)?;
                Ok(appended)
            }
            None => Err(Refusal::new(Code::LedgerExists, "somebody else began a ledger at the same time")),
        }
    }

    /// Brings back events from a copy, each with its path, beside those that are here; nothing of what is here is lost. `genesis` is
    /// trusted from then on, where nothing was.
    ///
    /// # Errors
    /// `LEDGER_GENESIS`: nothing is trusted, or another beginning. `LEDGER_CONFLICT` where both cannot be true. `LEDGER_TIME`: an
    /// event that is not here is dated ahead of this clock. Every fault of the copy.
    pub fn restore(&self, copy: &[(String, Vec<u8>)], genesis: Option<Sha256>) -> Result<Ledger, Refusal> {
        let _lock = self.lock()?;
        let trusted = self.trusted()?;
        let untrusted =
            || Refusal::new(Code::LedgerGenesis, "nobody has said with which event the ledger begins");
        let genesis = match (trusted, genesis) {
            (Some(trusted), Some(named)) if trusted != named => {
                return Err(Refusal::new(Code::LedgerExists, format!("this clone trusts {trusted} already")));
            }
            (trusted, named) => trusted.or(named).ok_or_else(untrusted)?,
        };
        let copied = check(copy, Some(genesis))?;
        // Where the ledger is gone, what this clone has seen of it counts.
        let ours = self.git.target(LEDGER_REF)?;
        let seen = self.git.target(SEEN_REF)?;
        let base = ours.clone().or(seen.clone());
        self.demand_past(&copied, base.as_ref(), "the copy")?;
        let known = base.as_ref().map(|base| self.files(base)).transpose()?.unwrap_or_default();
        let mut all: BTreeMap<String, Vec<u8>> = known.into_iter().collect();
        let new: Vec<(String, Vec<u8>)> =
            copy.iter().filter(|(name, _)| !all.contains_key(name)).cloned().collect();
        all.extend(new.clone());
        let all: Vec<(String, Vec<u8>)> = all.into_iter().collect();
        let ledger = check(&all, Some(genesis))?;
        if !new.is_empty() || ours.is_none() {
            let parents: Vec<ObjectId> = base.into_iter().collect();
            let commit = self.commit(&parents, &new, ledger.last(), "restored")?;
            self.take(&commit, ours)?;
        }
        if trusted.is_none() {
            self.trust(genesis)?;
        }
        // What was there before is held to its own rules as well: no file was changed or removed.
        self.read().map(|_| ledger)
    }

    /// Takes over what the remote has, and gives the ledger of both.
    ///
    /// # Errors
    /// `LEDGER_CONFLICT` where both cannot be true, `LEDGER_ALTERED` where the remote has lost or changed something.
    pub fn fetch(&self) -> Result<Ledger, Refusal> {
        let _lock = self.lock()?;
        let theirs = self.remote_refs()?;
        let held = self.joined(&theirs)?;
        held.map(|held| held.ledger).ok_or_else(|| Refusal::new(Code::LedgerMissing, "there is no ledger"))
    }

    /// Adds what `make` makes of what is known, with its tag and to the remote too, or nothing anywhere. `make` is asked
    /// again where somebody else was faster.
    ///
    /// # Errors
    /// What `make` answers; `LEDGER_BUSY`; `LEDGER_TIME`: it would follow an event that nobody else takes over yet;
    /// `REMOTE_FAILED` where nobody knows whether the remote took it.
    pub fn append(
        &self,
        hand: &Hand<'_>,
        make: &mut dyn FnMut(&Known<'_>) -> Result<Draft, Refusal>,
    ) -> Result<Appended, Refusal> {
        let _lock = self.lock()?;
        for _ in 0..ATTEMPTS_MAX {
            let theirs = self.remote_refs()?;
            let missing = || Refusal::new(Code::LedgerMissing, "this repository has no ledger");
            let held = self.joined(&theirs)?.ok_or_else(missing)?;
            self.demand_now(&held.ledger)?;
            let ours = self.git.refs("refs/tags")?.into_iter().map(|(name, _)| name);
            let names = ours.chain(theirs.keys().cloned());
            let tags =
                names.filter_map(|name| name.strip_prefix("refs/tags/").map(ToOwned::to_owned)).collect();
            let at = (hand.now)().max(held.ledger.last());
            let draft = make(&Known { ledger: &held.ledger, tags: &tags, at })?;
            if let Some(appended) = self.add(Some(&held), &theirs, draft, at, hand)? {
                return Ok(appended);
            }
        }
        Err(Refusal::new(Code::LedgerBusy, format!("others were faster {ATTEMPTS_MAX} times")))
    }

    /// Whether the remote had an event when it was asked last.
    pub(crate) fn is_told(&self, event: &Event) -> Result<bool, Refusal> {
        let Some(remote) = self.git.target(REMOTE_REF)? else { return Ok(false) };
        Ok(self.names(&remote)?.contains(&event.path()))
    }

    /// One attempt; none where somebody else was faster.
    fn add(
        &self,
        held: Option<&Held>,
        theirs: &RemoteRefs,
        draft: Draft,
        at: UnixMicros,
        hand: &Hand<'_>,
    ) -> Result<Option<Appended>, Refusal> {
        let unsigned = |error: estoppel_evidence::key::KeyError| {
            Refusal::new(Code::RoleMissing, format!("the key does not sign: {error}"))
        };
        let heads = held.map(|held| held.ledger.heads().clone()).unwrap_or_default();
        let stood_at = self.git.commit("HEAD")?;
        let bytes = Event::sign(&draft.body, &heads, at, hand.host, stood_at.as_ref(), hand.signer)
            .map_err(unsigned)?;
        let event = Event::read(&bytes)?;
        if let Some(held) = held {
            demand_role(held.ledger.roles(), &event)?;
        }
        let mut files = held.map(|held| files(&held.ledger)).unwrap_or_default();
        files.push((path(event.id), bytes));
        let genesis = held.and_then(|held| held.ledger.genesis());
        // What would not verify is not written: a key without the role is told so here.
        check(&files, genesis).map_err(|refusal| match refusal.code {
            Code::LedgerSignature => Refusal { code: Code::RoleMissing, ..refusal },
            _ => refusal,
        })?;
        let local = self.git.target(LEDGER_REF)?;
        let parents: Vec<ObjectId> = held.map(|held| held.commit.clone()).into_iter().collect();
        let last: Vec<(String, Vec<u8>)> = files.pop().into_iter().collect();
        let commit = self.commit(&parents, &last, at, event.body.kind())?;
        let mut moves = Vec::new();
        if let Some(TagDraft { name, target, message }) = draft.tag {
            let message = format!("{}\nEstoppel-Event: {}", message.trim_end(), event.id);
            let object =
                Tag { name: name.clone(), target, message }.sign(at, hand.signer).map_err(unsigned)?;
            moves.push(Move::create(&format!("refs/tags/{name}"), &self.git.write("tag", &object)?));
        }
        if let Some((name, target)) = draft.branch {
            moves.push(Move::create(&name, &target));
        }
        let appended = Appended { event: event.id, body: event.body };
        if !self.tell_remote(theirs, &commit, &moves)? {
            return Ok(None);
        }
        moves.push(Move { name: LEDGER_REF.into(), new: commit.clone(), old: local });
        moves.push(Move { name: SEEN_REF.into(), new: commit, old: self.git.target(SEEN_REF)? });
        match self.git.move_refs(&moves)? {
            Moved::Done => Ok(Some(appended)),
            // The remote has it already: the next look at it brings it here.
            Moved::Conflict if self.remote.is_some() => {
                self.joined(&self.remote_refs()?)?;
                Ok(Some(appended))
            }
            Moved::Conflict => Ok(None),
        }
    }

    /// Pushes the ledger and what belongs to it; says whether the remote took it.
    fn tell_remote(&self, theirs: &RemoteRefs, commit: &ObjectId, with: &[Move]) -> Result<bool, Refusal> {
        let Some(remote) = &self.remote else { return Ok(true) };
        let old = theirs.get(LEDGER_REF).cloned();
        let mut moves = with.to_vec();
        moves.push(Move { name: LEDGER_REF.into(), new: commit.clone(), old });
        let is_elsewhere = self.git.is_written_elsewhere(remote)?;
        match self.git.push(remote, &moves)? {
            Pushed::Done if is_elsewhere && self.remote_refs()?.get(LEDGER_REF) != Some(commit) => {
                let said = format!(
                    "`{remote}` is written to at another place than it is read from, and what was written does not show there"
                );
                Err(Refusal::new(Code::RemoteFailed, said))
            }
            Pushed::Done => Ok(true),
            Pushed::Rejected(why) => {
                let now = self.remote_refs()?;
                let is_other = moves.iter().any(|moved| now.get(&moved.name) != moved.old.as_ref());
                if is_other {
                    return Ok(false);
                }
                Err(Refusal::new(Code::RemoteFailed, format!("`{remote}` does not take it: {why}")))
            }
            Pushed::Unknown(why) => {
                // It may have taken all of it before it fell silent.
                let now = self.remote_refs().unwrap_or_default();
                if now.get(LEDGER_REF) == Some(commit) {
                    return Ok(true);
                }
                Err(Refusal::new(Code::RemoteFailed, format!("`{remote}`: {why}")))
            }
        }
    }

    fn remote_refs(&self) -> Result<RemoteRefs, Refusal> {
        match &self.remote {
            Some(remote) => self.git.remote_refs(remote, &[LEDGER_REF, TAGS, ROLLBACK_TAGS]),
            None => Ok(BTreeMap::new()),
        }
    }

    /// This clone's ledger joined with that of the remote, which is fetched if it is another.
    fn joined(&self, theirs: &RemoteRefs) -> Result<Option<Held>, Refusal> {
        let Some(remote) = &self.remote else { return self.held() };
        let Some(their_ledger) = theirs.get(LEDGER_REF) else {
            return match self.git.target(REMOTE_REF)? {
                Some(_) => Err(lost(remote)),
                None => self.held(),
            };
        };
        self.fetch_from(remote, theirs)?;
        let ours = self.held()?;
        match ours {
            Some(ours) if self.git.is_ancestor(their_ledger, &ours.commit)? => {
                if ours.commit != *their_ledger {
                    self.demand_all(&ours.ledger, their_ledger, "the remote has")?;
                }
                Ok(Some(ours))
            }
            Some(ours) if !self.git.is_ancestor(&ours.commit, their_ledger)? => {
                let their_files = self.files(their_ledger)?;
                let theirs = check(&their_files, ours.ledger.genesis())?;
                self.union(&ours, their_ledger, &theirs).map(Some)
            }
            ours => {
                let genesis = match &ours {
                    Some(ours) => ours.ledger.genesis(),
                    None => self.trusted()?,
                };
                let ledger = check(&self.files(their_ledger)?, genesis)?;
                if let Some(ours) = &ours {
                    self.demand_all(&ledger, &ours.commit, "this clone has")?;
                }
                self.take(their_ledger, ours.map(|ours| ours.commit))?;
                Ok(Some(Held { commit: their_ledger.clone(), ledger }))
            }
        }
    }

    fn fetch_from(&self, remote: &str, theirs: &RemoteRefs) -> Result<(), Refusal> {
        let mut wanted = Vec::new();
        let seen = self.git.target(REMOTE_REF)?;
        let their_ledger = theirs.get(LEDGER_REF).filter(|id| seen.as_ref() != Some(*id));
        let ours: BTreeMap<String, ObjectId> = self.git.refs("refs/tags")?.into_iter().collect();
        for (name, id) in theirs.iter().filter(|(name, _)| name.starts_with("refs/tags/")) {
            match ours.get(name) {
                Some(own) if own == id => {}
                Some(_) => {
                    let said = format!("`{name}` is another tag at `{remote}` than here; tags are not moved");
                    let tag = name.trim_start_matches("refs/tags/");
                    let hint = format!(
                        "`estoppel verify tag {tag}` says whether the one that is here is good: then whoever owns `{remote}` puts it back there; else \
                         `git tag -d {tag}` removes it here, and `estoppel sync pull` takes that of `{remote}`"
                    );
                    return Err(Refusal::new(Code::TagForged, said).hint(hint));
                }
                None => wanted.push(format!("{name}:{name}")),
            }
        }
        let fetch = |wanted: &[String]| match wanted {
            [] => Ok(()),
            wanted => self.git.fetch(remote, wanted),
        };
        let Some(new) = their_ledger else { return fetch(&wanted) };
        // Its tags wait until it is verified.
        fetch(&[format!("+{LEDGER_REF}:{FETCHED_REF}")])?;
        if let Some(seen) = &seen
            && !self.git.is_ancestor(seen, new)?
        {
            return Err(lost(remote));
        }
        self.demand_grown(new, &format!(" at `{remote}`"))?;
        let known = self.git.target(LEDGER_REF)?;
        self.demand_past(&check(&self.files(new)?, self.trusted()?)?, known.as_ref(), "the remote")?;
        fetch(&wanted)?;
        let moved = Move { name: REMOTE_REF.into(), new: new.clone(), old: seen };
        // Where it moved meanwhile, somebody else has seen more of it.
        self.git.move_refs(&[moved]).map(drop)
    }

    /// An event that is yet to come would make everything that follows it as late: it is not taken over before, unless `known`
    /// has it.
    fn demand_past(&self, theirs: &Ledger, known: Option<&ObjectId>, whose: &str) -> Result<(), Refusal> {
        let latest = self.latest();
        let mut ahead = theirs.events().iter().filter(|event| event.at > latest).peekable();
        if ahead.peek().is_none() {
            return Ok(());
        }
        let ours = known.map(|commit| self.names(commit)).transpose()?.unwrap_or_default();
        match ahead.find(|event| !ours.contains(&event.path())) {
            None => Ok(()),
            Some(event) => Err(ahead_of_clock(event, whose).hint(
                "where this clock is right, another one ran ahead: docs/releases.md, `A clock that ran ahead`, says how what it wrote is set aside; until then \
                 `--local` works with what is here",
            )),
        }
    }

    /// What is added to an event that is yet to come is dated as late, and refused by every other clone with it.
    ///
    /// # Errors
    /// `LEDGER_TIME`, where there is a remote.
    pub(crate) fn demand_now(&self, ledger: &Ledger) -> Result<(), Refusal> {
        let latest = self.latest();
        match ledger.events().iter().find(|event| event.at > latest) {
            Some(event) if self.remote.is_some() => Err(ahead_of_clock(event, "this clone").hint(
                "no other clone takes it over, nor what follows it: docs/releases.md, `A clock that ran ahead`, says how it is set aside",
            )),
            _ => Ok(()),
        }
    }

    /// The latest time that an event of now may say.
    fn latest(&self) -> UnixMicros {
        UnixMicros((self.clock)().0.saturating_add(CLOCK_SKEW_US_MAX))
    }

    fn names(&self, commit: &ObjectId) -> Result<BTreeSet<String>, Refusal> {
        let args = ["ls-tree", "-r", "--name-only", "--full-tree", "--end-of-options", commit.as_str()];
        Ok(self.git.text(&args)?.lines().map(ToOwned::to_owned).collect())
    }

    /// Both ledgers in one, if both can be true.
    fn union(&self, ours: &Held, their_commit: &ObjectId, theirs: &Ledger) -> Result<Held, Refusal> {
        let mut all: BTreeMap<String, Vec<u8>> = files(&ours.ledger).into_iter().collect();
        let new: Vec<(String, Vec<u8>)> =
            files(theirs).into_iter().filter(|(name, _)| !all.contains_key(name)).collect();
        all.extend(new.clone());
        let all: Vec<(String, Vec<u8>)> = all.into_iter().collect();
        let ledger = check(&all, ours.ledger.genesis())?;
        let parents = [ours.commit.clone(), their_commit.clone()];
        let commit = self.commit(&parents, &new, ledger.last(), "joined")?;
        self.take(&commit, Some(ours.commit.clone()))?;
        Ok(Held { commit, ledger })
    }

    /// Makes a commit the ledger of this clone.
    fn take(&self, commit: &ObjectId, old: Option<ObjectId>) -> Result<(), Refusal> {
        let moves = [
            Move { name: LEDGER_REF.into(), new: commit.clone(), old },
            Move { name: SEEN_REF.into(), new: commit.clone(), old: self.git.target(SEEN_REF)? },
        ];
        match self.git.move_refs(&moves)? {
            Moved::Done => Ok(()),
            Moved::Conflict => Err(Refusal::new(Code::LedgerBusy, "somebody else wrote to the ledger")),
        }
    }

    /// The ledger of this clone, if it has one.
    fn held(&self) -> Result<Option<Held>, Refusal> {
        let altered = |why: &str| {
            Refusal::new(Code::LedgerAltered, why).hint(format!(
                "this clone's copy was changed. Where the remote is whole: `git update-ref -d {LEDGER_REF}`, `git update-ref -d {SEEN_REF}`, then \
                 `estoppel sync pull`; `estoppel ledger restore FILE` brings back what only an export has"
            ))
        };
        let seen = self.git.target(SEEN_REF)?;
        let commit = match (self.git.target(LEDGER_REF)?, &seen) {
            (Some(commit), _) => commit,
            (None, None) => return Ok(None),
            (None, Some(_)) => return Err(altered("there was a ledger here, and it is gone")),
        };
        if let Some(seen) = &seen
            && seen != &commit
            && !self.git.is_ancestor(seen, &commit)?
        {
            return Err(altered("it lacks what was in it when it was last looked at"));
        }
        self.demand_grown(&commit, "")?;
        let ledger = check(&self.files(&commit)?, self.trusted()?)?;
        if let Some(seen) = seen.filter(|seen| *seen != commit) {
            self.demand_all(&ledger, &seen, "it had when it was last looked at")?;
        }
        Ok(Some(Held { commit, ledger }))
    }

    /// Each commit adds files and does nothing else.
    fn demand_grown(&self, commit: &ObjectId, place: &str) -> Result<(), Refusal> {
        let changed = self.git.text(&[
            "log",
            // `-m` goes by `log.diffMerges`.
            "--diff-merges=separate",
            "--diff-filter=a",
            "--no-renames",
            "--name-only",
            "--format=",
            "--end-of-options",
            commit.as_str(),
        ])?;
        let altered = |name: &str| {
            let said = format!("`{name}` was changed or removed{place} after it was written");
            Refusal::new(Code::LedgerAltered, said)
        };
        changed.lines().next().map_or(Ok(()), |name| Err(altered(name)))
    }

    fn files(&self, commit: &ObjectId) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let (names, ids): (Vec<String>, Vec<ObjectId>) = self.rows(commit)?.into_iter().unzip();
        if names.len() > EVENTS_MAX {
            return Err(Refusal::new(Code::LedgerMax, format!("it has more than {EVENTS_MAX} events")));
        }
        Ok(names.into_iter().zip(self.git.blobs(&ids)?).collect())
    }

    /// Names and objects of the files of a commit, whose tree is made again from them: git believes the names under which objects lie.
    fn rows(&self, commit: &ObjectId) -> Result<Vec<(String, ObjectId)>, Refusal> {
        let listed = self.git.text(&["ls-tree", "-r", "--full-tree", "--end-of-options", commit.as_str()])?;
        let row = |line: &str| {
            let (facts, name) = line.split_once('\t')?;
            let mut facts = facts.split(' ');
            let is_file = facts.next()? == "100644" && facts.next()? == "blob";
            Some((name.to_owned(), ObjectId::parse(facts.next()?).filter(|_| is_file)?))
        };
        let altered = |why: &str| Refusal::new(Code::LedgerAltered, why);
        let rows: Option<Vec<(String, ObjectId)>> = listed.lines().map(row).collect();
        let rows = rows.ok_or_else(|| altered("there is something in it that is no event"))?;
        let failed = |error| Refusal::new(Code::GitFailed, format!("could not make a folder: {error}"));
        let folder = tempfile::tempdir().map_err(failed)?;
        let index = folder.path().join("index");
        let lines: String = rows.iter().map(|(name, id)| format!("100644 blob {id}\t{name}\n")).collect();
        self.with_index(&index, &["update-index", "--index-info"], lines.as_bytes())?;
        let tree = self.with_index(&index, &["write-tree", "--missing-ok"], &[])?;
        if tree != self.git.tree(commit)?.as_str() {
            return Err(altered(&format!("the tree of {commit} is not what its name says")));
        }
        Ok(rows)
    }

    /// All that another commit has is in a ledger, whatever its history says.
    fn demand_all(&self, ledger: &Ledger, of: &ObjectId, whose: &str) -> Result<(), Refusal> {
        let names: BTreeSet<String> = ledger.events().iter().map(Event::path).collect();
        match self.rows(of)?.into_iter().find(|(name, _)| !names.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Refusal::new(Code::LedgerAltered, format!("it lacks `{name}`, which {whose}")))
            }
        }
    }

    /// A commit with the files of the first parent and `new` ones.
    fn commit(
        &self,
        parents: &[ObjectId],
        new: &[(String, Vec<u8>)],
        at: UnixMicros,
        what: &str,
    ) -> Result<ObjectId, Refusal> {
        let index = self.private(&format!("index.{}", std::process::id()))?;
        let tree = self.tree(parents.first(), new, &index);
        // Left over, it would only be overwritten.
        let _ = std::fs::remove_file(&index);
        let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
        let who = format!("estoppel <ledger@estoppel.invalid> {} +0000", at.0 / 1_000_000);
        let text = format!("tree {}\n{parents}author {who}\ncommitter {who}\n\nledger: {what}\n", tree?);
        self.git.write("commit", text.as_bytes())
    }

    fn tree(
        &self,
        base: Option<&ObjectId>,
        new: &[(String, Vec<u8>)],
        index: &std::path::Path,
    ) -> Result<ObjectId, Refusal> {
        let run = |args: &[&str], input: &[u8]| self.with_index(index, args, input);
        match base {
            Some(base) => run(&["read-tree", base.as_str()], &[])?,
            None => run(&["read-tree", "--empty"], &[])?,
        };
        let mut lines = String::new();
        for (name, bytes) in new {
            lines.push_str(&format!("100644 blob {}\t{name}\n", self.git.write("blob", bytes)?));
        }
        run(&["update-index", "--index-info"], lines.as_bytes())?;
        let id = run(&["write-tree"], &[])?;
        ObjectId::parse(&id).ok_or_else(|| Refusal::new(Code::GitFailed, "`git write-tree` gave no id"))
    }

    fn with_index(&self, index: &std::path::Path, args: &[&str], input: &[u8]) -> Result<String, Refusal> {
        let done = self.git.run_with_index(args, input, Some(index))?;
        match done.exit {
            Some(0) => Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned()),
            _ => Err(crate::git::failed(args.first().copied().unwrap_or_default(), &done)),
        }
    }

    /// A path among what belongs to this clone alone.
    fn private(&self, name: &str) -> Result<PathBuf, Refusal> {
        let dir = self.git.private();
        std::fs::create_dir_all(dir).map_err(|error| {
            Refusal::new(Code::GitFailed, format!("could not make `{}`: {error}", dir.display()))
        })?;
        Ok(dir.join(name))
    }

    /// One writer at a time in this clone; it ends with the value, or with the process.
    fn lock(&self) -> Result<File, Refusal> {
        let path = self.private("lock")?;
        let failed =
            |error| Refusal::new(Code::GitFailed, format!("could not lock `{}`: {error}", path.display()));
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }
}

/// A key without the role is told what it needs and what it has.
fn demand_role(roles: &Roles, event: &Event) -> Result<(), Refusal> {
    let role = event.body.role();
    if roles.has(event.actor, role) {
        return Ok(());
    }
    let row = roles.rows().find(|(key, _, _)| *key == event.actor);
    let (who, has) = match &row {
        None => (format!("key {} has none", event.actor), BTreeSet::new()),
        Some((_, name, has)) => {
            let names: Vec<&str> = has.iter().map(|role| role.as_str()).collect();
            (format!("{name} (key {}) has {}", event.actor, names.join(", ")), (*has).clone())
        }
    };
    let name = row.map(|(_, name, _)| name).filter(|name| !name.contains('\'')).unwrap_or("NAME");
    let words: String = has.iter().chain([&role]).map(|role| format!(" --role {}", role.as_str())).collect();
    let said = format!(
        "{} needs the role `{}`, and {who}; sign with another key, or let an owner grant it (`estoppel roles grant FILE --name '{name}'{words}`)",
        event.body.kind(),
        role.as_str()
    );
    Err(Refusal::new(Code::RoleMissing, said))
}

fn ahead_of_clock(event: &Event, whose: &str) -> Refusal {
    let said = format!(
        "event {} of {whose} is dated {}, more than {} minutes ahead of this clock",
        event.id,
        event.at,
        CLOCK_SKEW_US_MAX / 60_000_000
    );
    Refusal::new(Code::LedgerTime, said)
}

fn lost(remote: &str) -> Refusal {
    let said = format!("the ledger of `{remote}` has lost what it had; the one in this clone is whole");
    Refusal::new(Code::LedgerAltered, said).hint(format!(
        "ask who changed `{remote}`; `git push {remote} {LEDGER_REF}` from a clone that has all of it brings it back, where nothing was written there since"
    ))
}

fn files(ledger: &Ledger) -> Vec<(String, Vec<u8>)> {
    ledger.events().iter().map(|event| (event.path(), event.bytes.clone())).collect()
}
