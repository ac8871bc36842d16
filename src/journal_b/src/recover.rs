//! What a start finds on disk: clean, a torn tail, or damage.
//!
//! A torn tail (a bad frame with no valid frame anywhere after it) is cut, unless it lies below a published checkpoint.
//! Damage (a valid frame follows) is refused and left untouched. Hashes and links are recomputed while reading;
//! signatures are left to `estoppel verify`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use estoppel_evidence::entry::{JournalRecover, RunClass};
use estoppel_evidence::envelope::from_base64;
use estoppel_evidence::note::Checkpoint;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::tree::Frontier;
use estoppel_evidence::{Leaf, PublicKey, Root, RunId, Sha256, Use};
use serde::Deserialize;

use crate::chain::{Chain, Place};
use crate::checkpoint::compare;
use crate::error::JournalError;
use crate::frame::{self, HEADER_BYTES, Kind, Read};
use crate::handle::RunHandle;
use crate::journal::Inner;
use crate::segment::file_name;
use crate::storage::Storage;
use crate::writer::{NO_COUNTERS, note_key};

/// What was found.
pub(crate) struct Recovered {
    pub(crate) chains: HashMap<RunId, Chain>,
    pub(crate) tree: Frontier,
    pub(crate) last: Option<Leaf>,
    pub(crate) previous_seal: Option<Leaf>,
    /// First index of the segment to go on in, and where.
    pub(crate) tail: Option<(u64, u64)>,
    pub(crate) cut: Option<JournalRecover>,
    pub(crate) keys: Vec<(Use, PublicKey)>,
}

#[derive(Deserialize)]
struct Line<'a> {
    kind: &'a str,
    run: RunId,
    seq: u64,
    prev: Option<Leaf>,
    mono_us: u64,
    #[serde(borrow)]
    ts: &'a str,
    class: Option<&'a str>,
    name: Option<String>,
    call: Option<estoppel_evidence::CallId>,
    verdict: Option<Verdict<'a>>,
    outcome: Option<Outcome>,
}

#[derive(Deserialize)]
struct Verdict<'a> {
    action: &'a str,
}

#[derive(Deserialize)]
struct Outcome {
    complete: bool,
}

struct Scan<'a> {
    inner: &'a Inner,
    heads: &'a [Checkpoint],
    roots: HashMap<u64, Root>,
    out: Recovered,
}

/// Reads everything.
pub(crate) fn recover(
    storage: &Arc<dyn Storage>,
    inner: &Inner,
    heads: &[Checkpoint],
) -> Result<Recovered, JournalError> {
    let folder = inner.settings.dir.join("segments");
    let mut names: Vec<PathBuf> = Vec::new();
    let read = |path: &Path| {
        let path = path.to_path_buf();
        move |source: io::Error| JournalError::Read { path, source }
    };
    for entry in fs::read_dir(&folder).map_err(read(&folder))? {
        let path = entry.map_err(read(&folder))?.path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            names.push(path);
        }
    }
    names.sort();
    let mut scan = Scan {
        inner,
        heads,
        roots: HashMap::new(),
        out: Recovered {
            chains: HashMap::new(),
            tree: Frontier::default(),
            last: None,
            previous_seal: None,
            tail: None,
            cut: None,
            keys: known_keys(&inner.settings.dir),
        },
    };
    scan.note_root();
    let count = names.len();
    for (number, path) in names.iter().enumerate() {
        let bytes = fs::read(path).map_err(read(path))?;
        scan.segment(path, &bytes, number + 1 == count)?;
    }
    compare(heads, scan.out.tree.size(), |size| scan.roots.get(&size).copied())?;
    if let (Some(cut), Some((first, offset))) = (&scan.out.cut, scan.out.tail) {
        let path = folder.join(file_name(first));
        let zeros = vec![0; cut.dropped_bytes as usize]; // at most one segment
        let mut file =
            storage.open(&path).map_err(|source| JournalError::Folder { path: path.clone(), source })?;
        file.write_at(&zeros, offset)
            .and_then(|()| file.sync())
            .map_err(|source| JournalError::Folder { path, source })?;
    }
    Ok(scan.out)
}

/// Keys of the journal's own trust document: those that may have signed what is on disk.
fn known_keys(dir: &Path) -> Vec<(Use, PublicKey)> {
    #[derive(Deserialize)]
    struct Row {
        spki: String,
        r#use: String,
    }
    #[derive(Deserialize)]
    struct Trust {
        keys: Vec<Row>,
    }
    let Some(trust) =
        fs::read(dir.join("trust.json")).ok().and_then(|b| serde_json::from_slice::<Trust>(&b).ok())
    else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for row in trust.keys {
        let use_ = Use::ALL.into_iter().find(|use_| use_.as_str() == row.r#use);
        let key = from_base64(&row.spki).and_then(|spki| PublicKey::from_spki(&spki).ok());
        if let (Some(use_), Some(key)) = (use_, key) {
            note_key(&mut out, use_, &key);
        }
    }
    out
}

impl Scan<'_> {
    /// Roots are kept only at the sizes that were published.
    fn note_root(&mut self) {
        let size = self.out.tree.size();
        if self.heads.iter().any(|head| head.size == size) {
            self.roots.insert(size, self.out.tree.root());
        }
    }

    fn corrupt(&self, path: &Path, problem: impl Into<String>) -> JournalError {
        JournalError::Corrupt { path: path.into(), index: self.out.tree.size(), problem: problem.into() }
    }

    fn segment(&mut self, path: &Path, bytes: &[u8], is_last: bool) -> Result<(), JournalError> {
        let header =
            frame::read_header(bytes).ok_or_else(|| self.corrupt(path, "the segment's header is damaged"))?;
        let wanted = self.inner.settings.instance.as_str();
        if header.instance != wanted {
            return Err(JournalError::Instance {
                path: path.into(),
                found: header.instance,
                wanted: wanted.into(),
            });
        }
        if header.first_index != self.out.tree.size() || header.last != self.out.last {
            return Err(self.corrupt(path, "the segment does not follow the one before"));
        }
        let first = header.first_index;
        let mut at = HEADER_BYTES;
        let mut ended = false;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match frame::read(rest) {
                Read::Frame(found) if !ended => {
                    if found.kind == Kind::End {
                        ended = true;
                    } else {
                        self.frame(path, &found, Place { segment: first, offset: at as u64 })?;
                    }
                    at += found.bytes;
                }
                Read::Nothing if rest.iter().all(|b| *b == 0) => break,
                _ => {
                    self.torn(path, rest, at, first, is_last && !ended)?;
                    break;
                }
            }
        }
        if !is_last && !ended {
            return Err(self.corrupt(path, "the segment has no end, but another follows"));
        }
        if is_last && !ended {
            self.out.tail = Some((first, at as u64));
        }
        Ok(())
    }

    fn torn(
        &mut self,
        path: &Path,
        rest: &[u8],
        at: usize,
        first: u64,
        may_cut: bool,
    ) -> Result<(), JournalError> {
        let follows = (1..rest.len()).any(|from| {
            // A frame cannot start with a zero length, which most of a laid-out file consists of.
            rest[from..].first_chunk::<4>().is_some_and(|l| *l != [0; 4])
                && matches!(frame::read(&rest[from..]), Read::Frame(_))
        });
        if !may_cut || follows {
            return Err(self.corrupt(path, "a frame is damaged and valid frames follow it"));
        }
        let published = self.heads.iter().map(|head| head.size).max().unwrap_or(0);
        if self.out.tree.size() < published {
            return Err(self.corrupt(path, "the damage lies below a published checkpoint"));
        }
        let used = rest.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        self.out.cut = Some(JournalRecover {
            dropped_bytes: used as u64,
            dropped_sha256: Some(Sha256::of(&rest[..used])),
            last_index: self.out.tree.size().checked_sub(1),
            segment: Some(file_name(first)),
        });
        self.out.tail = Some((first, at as u64));
        Ok(())
    }

    fn frame(&mut self, path: &Path, found: &frame::Frame<'_>, place: Place) -> Result<(), JournalError> {
        if found.index != self.out.tree.size() {
            return Err(self.corrupt(path, "the log indexes do not count up"));
        }
        if found.kind != Kind::Entry {
            return Ok(());
        }
        let (_, line) =
            frame::entry(found.payload).ok_or_else(|| self.corrupt(path, "an entry frame is damaged"))?;
        let leaf = Leaf::of(line);
        let entry: Line<'_> = serde_json::from_slice(line)
            .map_err(|error| self.corrupt(path, format!("an entry cannot be read: {error}")))?;
        if entry.seq == 0 {
            self.open(&entry);
        }
        let Some(chain) = self.out.chains.get_mut(&entry.run) else {
            return Err(self.corrupt(path, "an entry belongs to no open run"));
        };
        if chain.seq != entry.seq || chain.prev != entry.prev {
            return Err(self.corrupt(path, "an entry does not follow the one before it in its run"));
        }
        chain.append(leaf, place, entry.mono_us);
        // The run's clock goes on from the wall clock, which is all that outlives a process.
        let since =
            self.inner.clock.unix_us().saturating_sub(UnixMicros::parse(entry.ts).map_or(u64::MAX, |t| t.0));
        chain.base_us =
            i128::from(self.inner.clock.mono_us()) - i128::from(since) - i128::from(entry.mono_us);
        chain.run.0.entries.store(chain.seq, std::sync::atomic::Ordering::Relaxed);
        count(chain, &entry, leaf);
        if entry.kind == "run.seal" {
            self.out.chains.remove(&entry.run);
            self.out.previous_seal = Some(leaf);
        }
        self.out.tree.push(leaf);
        self.out.last = Some(leaf);
        self.note_root();
        Ok(())
    }

    fn open(&mut self, entry: &Line<'_>) {
        let class = match entry.class {
            Some("caller") => RunClass::Caller,
            Some("instance") => RunClass::Instance,
            _ => RunClass::Ambient,
        };
        let run = RunHandle::new(entry.run, entry.name.clone(), class, &self.inner.capture);
        run.0.opened.store(true, std::sync::atomic::Ordering::Relaxed);
        run.0
            .opened_us
            .store(UnixMicros::parse(entry.ts).map_or(0, |t| t.0), std::sync::atomic::Ordering::Relaxed);
        run.0.used_us.store(self.inner.clock.mono_us(), std::sync::atomic::Ordering::Relaxed);
        let mut chain = Chain::new(run, 0);
        chain.counters = NO_COUNTERS;
        self.out.chains.insert(entry.run, chain);
    }
}

fn count(chain: &mut Chain, entry: &Line<'_>, leaf: Leaf) {
    match (entry.kind, entry.call) {
        ("call", Some(call)) => {
            chain.counters.calls += 1;
            match entry.verdict.as_ref().map(|verdict| verdict.action) {
                Some("allow") => chain.counters.allow += 1,
                Some("repair") => chain.counters.repair += 1,
                Some("hold") => chain.counters.hold += 1,
                _ => chain.counters.block += 1,
            }
            chain.counters.incomplete +=
                u64::from(entry.outcome.as_ref().is_some_and(|outcome| !outcome.complete));
            chain.intents.retain(|(intent, _)| *intent != call);
            chain.run.0.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        ("intent", Some(call)) => chain.intents.push((call, leaf)),
        ("interrupted", Some(call)) => {
            chain.counters.interrupted += 1;
            chain.intents.retain(|(intent, _)| *intent != call);
        }
        _ => {}
    }
}

/// Whose journal the folder holds.
pub(crate) fn instance_of(dir: &Path) -> Result<estoppel_evidence::Instance, JournalError> {
    let folder = dir.join("segments");
    let missing = |source: io::Error| JournalError::Read { path: folder.clone(), source };
    let first = fs::read_dir(&folder)
        .map_err(missing)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "seg"));
    let path = first.ok_or_else(|| missing(io::ErrorKind::NotFound.into()))?;
    let mut head = Vec::new();
    use std::io::Read as _;
    fs::File::open(&path)
        .and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut head))
        .map_err(|source| JournalError::Read { path: path.clone(), source })?;
    frame::read_header(&head).and_then(|header| header.instance.parse().ok()).ok_or_else(|| {
        JournalError::Corrupt { path, index: 0, problem: "the segment's header is damaged".into() }
    })
}
