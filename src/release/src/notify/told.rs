//! What a destination was told by this clone, and what went wrong: files under the clone's private folder.
//!
//! `NAME.told` has the id of an event a line, and is only ever added to: a line is written when the destination has the event, so
//! that a kill in between has it told twice, under the same key, and never not at all. `NAME.json` is replaced as a whole.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use estoppel_evidence::Sha256;
use serde::{Deserialize, Serialize};

use crate::code::{Code, Refusal};
use crate::git::Git;
use crate::ledger::{EVENTS_MAX, Event, Ledger};
use crate::sync::Outbox;

/// Most destinations of a repository.
pub const DESTINATIONS_MAX: usize = 16;
/// Most events that a destination may refuse. From then on it is taken for the destination's fault, and waited for.
pub const REFUSED_MAX: usize = 64;
/// `sha256:`, 64 digits and the end of the line.
const LINE_BYTES: usize = 72;
/// Ledgers that were given up leave ids behind, so that there may be more than a ledger has.
const TOLD_BYTES_MAX: u64 = (EVENTS_MAX * 4 * LINE_BYTES) as u64; // a small constant
const STATE_BYTES_MAX: u64 = 1 << 20;
/// Longest text of a failure that is kept.
const WHY_CHARS_MAX: usize = 512;

/// What a destination began with. Where the settings say something else, it is not known whether it is still the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Digest of what names the receiver.
    pub address: Sha256,
    /// Whether it begins with the first event of the ledger, and not with what comes next.
    pub start: bool,
}

/// What a destination is, and what went wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What it began with. None where it began under a version that did not note it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// How often it failed in a row, and when it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Outbox>,
    /// Events that it will never take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Fault>,
}

/// An event that a destination did not want.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub event: Sha256,
    pub why: String,
}

/// What one destination was told.
#[derive(Debug)]
pub struct Told {
    dir: PathBuf,
    name: String,
    ids: BTreeSet<Sha256>,
    /// Nobody has begun with it.
    is_new: bool,
    pub state: State,
    /// Held by the one process of this clone that tells it.
    lock: Option<File>,
}

impl Told {
    /// Looks, and writes nothing.
    ///
    /// # Errors
    /// `NOTIFY_STATE`.
    pub fn look(git: &Git, name: &str) -> Result<Self, Refusal> {
        Self::open(git.private().join("notify"), name, None)
    }

    /// Takes it, to tell and to write down what was told; none where another process of this clone has it.
    ///
    /// # Errors
    /// `NOTIFY_STATE`.
    pub fn take(git: &Git, name: &str) -> Result<Option<Self>, Refusal> {
        let dir = git.private().join("notify");
        fs::create_dir_all(&dir).map_err(failed("make", &dir))?;
        let path = dir.join(format!("{name}.lock"));
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Self::open(dir, name, Some(lock)).map(Some),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }

    fn open(dir: PathBuf, name: &str, lock: Option<File>) -> Result<Self, Refusal> {
        let (ids, state) = (BTreeSet::new(), State::default());
        let mut told = Self { dir, name: name.to_owned(), ids, is_new: true, state, lock };
        told.read()?;
        Ok(told)
    }

    /// Events that it was not told of, in the order of the ledger.
    pub fn waiting<'l>(&self, ledger: &'l Ledger) -> Vec<&'l Event> {
        ledger.events().iter().filter(|event| !self.ids.contains(&event.id)).collect()
    }

    /// Whether nobody has begun with it in this clone.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether the settings say of it what it began with.
    pub fn is_of(&self, bound: &Bound) -> bool {
        self.is_new || self.state.bound.as_ref().is_none_or(|began| began == bound)
    }

    /// Begins, anew where it had begun: of what is in `ledger` it is told nothing, or, without one, all. A kill in between leaves
    /// it as what it was bound to before.
    ///
    /// # Errors
    /// `NOTIFY_STATE`.
    pub fn begin(&mut self, bound: Bound, ledger: Option<&Ledger>) -> Result<(), Refusal> {
        self.ids = ledger
            .map_or_else(BTreeSet::new, |ledger| ledger.events().iter().map(|event| event.id).collect());
        let lines: String = self.ids.iter().map(|id| format!("{id}\n")).collect();
        self.replace("told", lines.as_bytes())?;
        self.is_new = false;
        self.state = State { bound: Some(bound), ..State::default() };
        self.keep()
    }

    /// Goes on where it stands, as what the settings say now: it is told also what another address refused, and at once.
    ///
    /// # Errors
    /// `NOTIFY_STATE`.
    pub fn bind(&mut self, bound: Bound) -> Result<(), Refusal> {
        if self.state.bound.as_ref() == Some(&bound) {
            return Ok(());
        }
        if self.state.bound.is_some() {
            self.again()?;
            self.state.failed = None;
        }
        self.state.bound = Some(bound);
        self.keep()
    }

    /// It has this event.
    ///
    /// # Errors
    /// `NOTIFY_STATE`.
    pub fn add(&mut self, id: Sha256) -> Result<(), Refusal> {
        let path = self.path("told");
        let add = || {
            let mut file = File::options().append(true).open(&path)?;
            file.write_all(format!("{id}\n").as_bytes())?;
            file.sync_data()
        };
        add().map_err(failed("write", &path))?;
        self.ids.insert(id);
        Ok(())
    }

    /// It will never have this event.
    ///
    /// # Errors
    /// `NOTIFY_STATE`.
    pub fn refuse(&mut self, event: Sha256, why: &str) -> Result<(), Refusal> {
        let why = why.chars().take(WHY_CHARS_MAX).collect();
        self.state.refused.retain(|fault| fault.event != event);
        self.state.refused.push(Fault { event, why });
        self.keep()?;
        self.add(event)
    }

    /// Keeps what went wrong; none where it went well.
    ///
    /// # Errors
    /// `NOTIFY_STATE`.
    pub fn fail(&mut self, outbox: Option<Outbox>) -> Result<(), Refusal> {
        if self.state.failed == outbox {
            return Ok(());
        }
        let why = |outbox: Outbox| Outbox { why: outbox.why.chars().take(WHY_CHARS_MAX).collect(), ..outbox };
        self.state.failed = outbox.map(why);
        self.keep()
    }

    /// What was refused is told again with the rest.
    ///
    /// # Errors
    /// `NOTIFY_STATE`.
    pub fn again(&mut self) -> Result<(), Refusal> {
        if self.state.refused.is_empty() {
            return Ok(());
        }
        for fault in std::mem::take(&mut self.state.refused) {
            self.ids.remove(&fault.event);
        }
        let lines: String = self.ids.iter().map(|id| format!("{id}\n")).collect();
        self.replace("told", lines.as_bytes())?;
        self.keep()
    }

    fn keep(&self) -> Result<(), Refusal> {
        let bytes = serde_json::to_vec(&self.state);
        let bytes = bytes.map_err(|error| failed("write", &self.path("json"))(error.into()))?;
        self.replace("json", &bytes)
    }

    fn path(&self, what: &str) -> PathBuf {
        self.dir.join(format!("{}.{what}", self.name))
    }

    fn read(&mut self) -> Result<(), Refusal> {
        let path = self.path("told");
        if let Some(bytes) = read(&path, TOLD_BYTES_MAX)? {
            let wrong = || malformed(&path);
            // A line that a kill cut off was never told as done.
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let text = std::str::from_utf8(bytes.get(..whole).unwrap_or_default()).map_err(|_| wrong())?;
            let ids: Option<BTreeSet<Sha256>> = text.lines().map(Sha256::parse).collect();
            self.ids = ids.ok_or_else(wrong)?;
            self.is_new = false;
            if whole < bytes.len() && self.lock.is_some() {
                self.replace("told", text.as_bytes())?;
            }
        }
        let path = self.path("json");
        if let Some(bytes) = read(&path, STATE_BYTES_MAX)? {
            self.state = serde_json::from_slice(&bytes).map_err(|_| malformed(&path))?;
        }
        Ok(())
    }

    /// Writes a file whole and durably, in the place of the one before.
    fn replace(&self, what: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let path = self.path(what);
        let write = || {
            let mut beside = tempfile::NamedTempFile::new_in(&self.dir)?;
            beside.write_all(bytes)?;
            beside.as_file().sync_all()?;
            beside.persist(&path).map_err(|error| error.error)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(failed("write", &path))
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, Refusal> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed("read", path))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    if bytes.len() as u64 > bytes_max {
        return Err(malformed(path)); // a length fits
    }
    Ok(Some(bytes))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Refusal + use<> {
    let path = path.to_path_buf();
    move |error| Refusal::new(Code::NotifyState, format!("could not {what} `{}`: {error}", path.display()))
}

fn malformed(path: &Path) -> Refusal {
    let said = format!(
        "`{}` does not say what was told; without it, and what lies beside it, the destination begins anew",
        path.display()
    );
    Refusal::new(Code::NotifyState, said)
}
