//! This clone's ledger and that of the remote: what each lacks, and making them one (docs/generations.md).
//!
//! Events are files named by their digests, so that nothing is delivered twice and joining is a union. The events and tags
//! that the remote does not have yet are the outbox; it is in the repository, and outlives every restart. What two clones
//! hold that cannot both be true is refused and never overwritten.

mod outbox;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::time::UnixMicros;

use crate::code::{Code, Refusal};
use crate::git::{Git, Move, ObjectId, Pushed};
use crate::ledger::{Event, LEDGER_REF, Ledger, Store, check};
use crate::version::Version;

pub use outbox::{Outbox, WAIT_MAX, WAIT_MIN};

/// The setting that says when the remote is told.
pub const MODE_SETTING: &str = "estoppel.sync";
/// Where the ledger of the remote is put to look at it.
const LOOKED_REF: &str = "refs/estoppel/looked";
/// The ledger of the remote as it was joined last.
const FETCHED_REF: &str = "refs/estoppel/remote";
/// How often a push is begun again where others wrote at the same time. Then `LEDGER_BUSY`.
const ATTEMPTS_MAX: u32 = 16;

/// When the remote is told of what happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Never, but by `sync`.
    Local,
    /// When something is promoted or rolled back, and by `sync`.
    Hybrid,
    /// With every event: it happens here and there, or not at all.
    Cloud,
}

impl Mode {
    /// What the configuration of the repository says; `cloud` where it says nothing.
    ///
    /// # Errors
    /// `SYNC_MODE`.
    pub fn of(git: &Git) -> Result<Self, Refusal> {
        match git.config(MODE_SETTING)?.as_deref() {
            None | Some("cloud") => Ok(Self::Cloud),
            Some("hybrid") => Ok(Self::Hybrid),
            Some("local") => Ok(Self::Local),
            Some(other) => {
                let said = format!("`{MODE_SETTING}` is `{other}`, expected `local`, `hybrid` or `cloud`");
                Err(Refusal::new(Code::SyncMode, said))
            }
        }
    }

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Hybrid => "hybrid",
            Self::Cloud => "cloud",
        }
    }
}

/// What this clone and the remote have of each other.
#[derive(Debug)]
pub struct Compared {
    /// Events that the remote lacks.
    pub ahead: usize,
    /// Events that this clone lacks.
    pub behind: usize,
    /// Tags that events here gave away and the remote lacks.
    pub tags: Vec<String>,
    /// Why both cannot be true.
    pub conflict: Option<Refusal>,
    /// The same by versions; events of none are those of roles.
    pub versions: BTreeMap<Option<Version>, Difference>,
}

/// What differs about one version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// Events that the remote lacks.
    pub ahead: usize,
    /// Events that this clone lacks.
    pub behind: usize,
}

/// Looks at the remote and changes nothing here or there.
///
/// # Errors
/// `REMOTE_FAILED` where it cannot be asked, and every fault that a ledger can have.
pub fn compare(store: &Store) -> Result<Compared, Refusal> {
    let remote = remote(store)?;
    let git = store.git();
    let ours = local(store).read()?;
    let refs = git.remote_refs(remote, &[LEDGER_REF, "refs/tags/v*", "refs/tags/rollback/*"])?;
    let theirs = match refs.get(LEDGER_REF) {
        None => Vec::new(),
        Some(commit) => looked(git, remote, commit)?,
    };
    let tags = unsent(git, &ours, &refs)?.into_iter().map(|(name, _)| name).collect();
    let known: BTreeSet<String> = ours.events().iter().map(Event::path).collect();
    let new: Vec<&(String, Vec<u8>)> = theirs.iter().filter(|(name, _)| !known.contains(name)).collect();
    let sent: BTreeSet<&String> = theirs.iter().map(|(name, _)| name).collect();
    let mut versions: BTreeMap<Option<Version>, Difference> = BTreeMap::new();
    for event in ours.events().iter().filter(|event| !sent.contains(&event.path())) {
        versions.entry(version(event)).or_default().ahead += 1;
    }
    for (_, bytes) in &new {
        versions.entry(version(&Event::read(bytes)?)).or_default().behind += 1;
    }
    let both = ours.events().iter().map(|event| (event.path(), event.bytes.clone()));
    let both: Vec<(String, Vec<u8>)> = both.chain(new.iter().map(|file| (*file).clone())).collect();
    let conflict = check(&both, ours.genesis()).err();
    let ahead = versions.values().map(|difference| difference.ahead).sum();
    Ok(Compared { ahead, behind: new.len(), tags, conflict, versions })
}

/// Takes over what the remote has.
///
/// # Errors
/// `LEDGER_CONFLICT` where both cannot be true; `REMOTE_FAILED`; every fault that a ledger can have.
pub fn pull(store: &Store) -> Result<Ledger, Refusal> {
    remote(store)?;
    store.fetch()
}

/// Tells the remote what it lacks, events and tags in one transaction, and says how many there were of each.
///
/// # Errors
/// As [`pull`]; `LEDGER_BUSY` where others wrote at each attempt; `LEDGER_TIME`: the remote would get what no clone takes over.
pub fn push(store: &Store) -> Result<(usize, usize), Refusal> {
    let remote = remote(store)?;
    let git = store.git();
    for _ in 0..ATTEMPTS_MAX {
        let before = compare(store)?;
        if let Some(conflict) = before.conflict {
            return Err(conflict);
        }
        let ledger = store.fetch()?;
        store.demand_now(&ledger)?;
        let refs = git.remote_refs(remote, &[LEDGER_REF, "refs/tags/v*", "refs/tags/rollback/*"])?;
        let missing = || Refusal::new(Code::LedgerMissing, "there is no ledger");
        let commit = git.target(LEDGER_REF)?.ok_or_else(missing)?;
        let tags = unsent(git, &ledger, &refs)?;
        let mut moves: Vec<Move> =
            tags.iter().map(|(name, id)| Move::create(&format!("refs/tags/{name}"), id)).collect();
        let old = refs.get(LEDGER_REF).cloned();
        if old.as_ref() != Some(&commit) {
            moves.push(Move { name: LEDGER_REF.into(), new: commit, old });
        }
        if moves.is_empty() {
            return Ok((0, 0));
        }
        match git.push(remote, &moves)? {
            Pushed::Done => {
                git.fetch(remote, &[format!("+{LEDGER_REF}:{LOOKED_REF}")])?;
                return Ok((before.ahead, tags.len()));
            }
            Pushed::Rejected(why) => {
                let now = git.remote_refs(remote, &[LEDGER_REF, "refs/tags/v*", "refs/tags/rollback/*"])?;
                if now == refs {
                    return Err(Refusal::new(
                        Code::RemoteFailed,
                        format!("`{remote}` does not take it: {why}"),
                    ));
                }
            }
            // What it took before it fell silent is seen when it is asked again.
            Pushed::Unknown(why) => {
                return Err(Refusal::new(Code::RemoteFailed, format!("`{remote}`: {why}")));
            }
        }
    }
    Err(Refusal::new(Code::LedgerBusy, format!("others were faster {ATTEMPTS_MAX} times")))
}

/// How many events the remote is not known to have, as far as this clone can say alone.
///
/// # Errors
/// `GIT_FAILED`.
pub fn pending(store: &Store) -> Result<usize, Refusal> {
    let names = |name: &str| -> Result<BTreeSet<String>, Refusal> {
        let Some(commit) = store.git().target(name)? else { return Ok(BTreeSet::new()) };
        let args = ["ls-tree", "-r", "--name-only", "--full-tree", "--end-of-options", commit.as_str()];
        Ok(store.git().text(&args)?.lines().map(ToOwned::to_owned).collect())
    };
    let mut known = names(LOOKED_REF)?;
    known.extend(names(FETCHED_REF)?);
    Ok(names(LEDGER_REF)?.difference(&known).count())
}

fn remote(store: &Store) -> Result<&str, Refusal> {
    store.remote().ok_or_else(|| Refusal::new(Code::RemoteFailed, "this repository has no remote"))
}

fn local(store: &Store) -> Store {
    store.alone()
}

fn version(event: &Event) -> Option<Version> {
    let document = event.document();
    let body = document.get("body")?;
    body.get("version").or(body.get("from"))?.as_str()?.parse().ok()
}

/// The files of the remote's ledger.
fn looked(git: &Git, remote: &str, commit: &ObjectId) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    git.fetch(remote, &[format!("+{LEDGER_REF}:{LOOKED_REF}")])?;
    let listed = git.text(&["ls-tree", "-r", "--full-tree", "--end-of-options", commit.as_str()])?;
    let row = |line: &str| {
        let (facts, name) = line.split_once('\t')?;
        Some((name.to_owned(), ObjectId::parse(facts.rsplit(' ').next()?)?))
    };
    let rows: Option<Vec<(String, ObjectId)>> = listed.lines().map(row).collect();
    let foreign =
        || Refusal::new(Code::LedgerAltered, "the remote's ledger has something in it that is no event");
    let (names, ids): (Vec<String>, Vec<ObjectId>) = rows.ok_or_else(foreign)?.into_iter().unzip();
    Ok(names.into_iter().zip(git.blobs(&ids)?).collect())
}

/// Tags that events gave away, that are here and that the remote does not have.
fn unsent(
    git: &Git,
    ledger: &Ledger,
    theirs: &BTreeMap<String, ObjectId>,
) -> Result<Vec<(String, ObjectId)>, Refusal> {
    let ours: BTreeMap<String, ObjectId> = git.refs("refs/tags")?.into_iter().collect();
    let given = ledger.tags().into_keys().filter_map(|name| {
        let full = format!("refs/tags/{name}");
        let id = ours.get(&full).filter(|_| !theirs.contains_key(&full))?;
        Some((name.to_owned(), id.clone()))
    });
    Ok(given.collect())
}

/// How long to wait before the remote is asked again; nothing where it may be asked now.
pub fn wait(outbox: Option<&Outbox>, now: UnixMicros) -> u64 {
    outbox.map_or(0, |outbox| outbox.not_before.0.saturating_sub(now.0))
}
