//! Start-up: locks, recovery, and what has to be recorded before the first call.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use estoppel_evidence::entry::{Durability, RunClass};
use estoppel_evidence::{RunId, Use};

use crate::admit::Shared;
use crate::beginning::Beginning;
use crate::bundled;
use crate::chain::Chain;
use crate::checkpoint::{Checkpoints, Store, read};
use crate::clock::Clock;
use crate::error::{JournalError, chain};
use crate::held::Found;
use crate::index::HashIndex;
use crate::journal::Before;
use crate::keys::{distinct, kept};
use crate::layout::Layout;
use crate::recover::{Expected, Published, Recovered, recover};
use crate::run::Run;
use crate::seal::Sealer;
use crate::segment::{Header, Segment};
use crate::settings::{Keys, Settings};
use crate::spill::{LeftOver, Spill};
use crate::stats::set;
use crate::storage::{Lock, Storage, StorageFile, read_full, read_small, write_whole};
use crate::trust::{self, TrustDocument};
use crate::writer::{OpenRun, Parts, WriteError, Writer};

/// Bytes that are written again at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A journal that is ready to write.
pub(crate) struct Started {
    pub shared: Arc<Shared>,
    pub writer: Writer,
    pub sealer: JoinHandle<()>,
    pub spill: Option<JoinHandle<()>>,
    pub lock: Box<dyn Lock>,
    pub held: Vec<Found>,
    pub before: Before,
}

/// Opens a journal. `online` opens the instance run at once.
pub(crate) fn start(
    storage: Arc<dyn Storage>,
    layout: Arc<Layout>,
    mut settings: Settings,
    keys: Keys,
    clock: Arc<dyn Clock>,
    online: bool,
) -> Result<Started, JournalError> {
    distinct(&keys)?;
    make_folders(&*storage, &layout)?;
    let lock = lock(&*storage, &layout.lock())?;
    remove_unfinished(&*storage, &layout);
    let trust = trust_document(&*storage, &layout, &settings, &keys)?;
    let origin = settings.instance.as_str().to_owned();
    let own = read(&*storage, &layout.checkpoint(), &origin)?.map(|(_, checkpoint)| checkpoint);
    let (store, elsewhere) = match &settings.checkpoint_store {
        Some(path) => {
            let (store, found) = Store::open(&*storage, path, &origin)?;
            (Some(store), found.map(|found| (found, path.clone())))
        }
        None => (None, None),
    };
    let own_path = layout.checkpoint();
    let mut published = Vec::new();
    published.extend(own.as_ref().map(|checkpoint| Published { checkpoint, path: &own_path }));
    published.extend(elsewhere.as_ref().map(|(checkpoint, path)| Published { checkpoint, path }));
    let hashes = storage
        .open_write(&layout.hashes())
        .map_err(|source| JournalError::io("open", &layout.hashes(), source))?;
    let (spill, left) = match &settings.spill {
        Some(spill) => {
            let (spill, left) = Spill::open(&*storage, spill, clock.unix_us())?;
            (Some(Arc::new(spill)), left)
        }
        None => (None, LeftOver::default()),
    };
    let bundled = bundled::read(&*storage, &layout);
    let beginning = Beginning::verified(&*storage, &layout, &trust, &settings.instance)?;
    let expected =
        Expected { instance: &settings.instance, published, spilled: left.keys(), bundled, beginning };
    let mut recovered = recover(&*storage, &layout, expected, HashIndex::new(hashes))?;
    if !online && let Some(opening) = &recovered.opening {
        settings.policy = opening.policy;
        settings.config = opening.config;
    }
    let shared = Arc::new(Shared::new(settings, clock, keys.capture.clone(), spill.clone()));
    let held = std::mem::take(&mut recovered.held);
    let killed = std::mem::take(&mut recovered.killed);
    let before = Before { is_new: recovered.index.size() == 0, killed };
    let (sealer, sealer_thread) = Sealer::start(shared.clone(), storage.clone(), layout.clone(), bundled)
        .map_err(|source| JournalError::io("start a thread for", &layout.bundles_dir(), source))?;
    let writer = writer(Given {
        shared: shared.clone(),
        storage,
        layout,
        keys,
        trust,
        checkpoints: Checkpoints::new(own_path.clone(), store),
        published: own.map_or(0, |checkpoint| checkpoint.size),
        recovered,
        left,
        sealer,
        online,
    })?;
    let spill = spill.map(|spill| spill.start(shared.clone())).transpose();
    let spill = spill.map_err(|source| JournalError::io("start a thread for", &own_path, source))?;
    Ok(Started { shared, writer, sealer: sealer_thread, spill, lock, held, before })
}

fn make_folders(storage: &dyn Storage, layout: &Layout) -> Result<(), JournalError> {
    for dir in [
        layout.segments_dir(),
        layout.policies_dir(),
        layout.contracts_dir(),
        layout.snapshots_dir(),
        layout.bodies_dir(),
        layout.bundles_dir(),
    ] {
        storage.create_dir(&dir).map_err(|source| JournalError::io("make", &dir, source))?;
    }
    Ok(())
}

/// Removes what a process that was killed, or had no room to write, has left of files that get their name when they are complete: nothing
/// names it, so no rule would ever let it go.
fn remove_unfinished(storage: &dyn Storage, layout: &Layout) {
    let unfinished = |name: &str| name.ends_with(".tmp") || name.ends_with(".part");
    let (bodies, bundles) = (layout.bodies_dir(), layout.bundles_dir());
    for dir in
        [bodies, bundles.clone(), layout.policies_dir(), layout.contracts_dir(), layout.snapshots_dir()]
    {
        remove_named(storage, &dir, &unfinished);
    }
    let beside = |name: &str| name.strip_suffix(".tmp").is_some_and(is_digest);
    for name in storage.list(&bundles).unwrap_or_default().iter().filter(|name| name.ends_with(".pef.zip.d"))
    {
        remove_named(storage, &bundles.join(name), &beside);
    }
    let own = |name: &str| matches!(name, "bundled.tmp" | "trust.json.tmp" | "checkpoint.tmp");
    remove_named(storage, layout.dir(), &own);
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn remove_named(storage: &dyn Storage, dir: &Path, is_it: &dyn Fn(&str) -> bool) {
    let names = storage.list(dir).unwrap_or_default();
    for path in names.iter().filter(|name| is_it(name)).map(|name| dir.join(name)) {
        match storage.remove(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed what was not finished"),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "what was not finished could not be removed");
            }
        }
    }
}

fn lock(storage: &dyn Storage, path: &Path) -> Result<Box<dyn Lock>, JournalError> {
    storage.lock(path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => JournalError::Locked { path: path.parent().unwrap_or(path).into() },
        _ => JournalError::io("lock", path, source),
    })
}

/// Reads the trust document and adds the keys that sign from now on.
fn trust_document(
    storage: &dyn Storage,
    layout: &Layout,
    settings: &Settings,
    keys: &Keys,
) -> Result<TrustDocument, JournalError> {
    let path = layout.trust();
    let found = read_small(storage, &path, trust::BYTES_MAX)
        .map_err(|source| JournalError::io("read", &path, source))?;
    let mut document = match found {
        Some(bytes) => {
            TrustDocument::parse(&bytes).map_err(|_| JournalError::Trust { path: path.clone() })?
        }
        None => TrustDocument::new(),
    };
    let mut changed = false;
    for (key, use_) in
        [(&keys.receipt, Use::Receipt), (&keys.checkpoint, Use::Checkpoint), (&keys.manifest, Use::Manifest)]
    {
        changed |= document.add(&settings.instance, key.public(), use_)?;
        if document.keys.iter().any(|row| row.kid == key.public().id() && row.r#use != use_) {
            return Err(crate::keys::KeyFileError::Shared { id: key.public().id() }.into());
        }
    }
    if changed {
        write_whole(storage, &path, &document.to_bytes())
            .map_err(|source| JournalError::io("write", &path, source))?;
    }
    Ok(document)
}

struct Given {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    layout: Arc<Layout>,
    keys: Keys,
    trust: TrustDocument,
    checkpoints: Checkpoints,
    /// Size of the checkpoint that lies in the folder.
    published: u64,
    recovered: Recovered,
    left: LeftOver,
    sealer: Sealer,
    online: bool,
}

fn writer(given: Given) -> Result<Writer, JournalError> {
    let Given {
        shared,
        storage,
        layout,
        keys,
        trust,
        checkpoints,
        published,
        recovered,
        left,
        sealer,
        online,
    } = given;
    let Recovered {
        mut segments,
        tail,
        index,
        chains,
        sealed,
        last_leaf,
        last_seal,
        cut,
        checkpoint_size,
        seen,
        sealed_ids,
        unbundled,
        ..
    } = recovered;
    let dir = layout.segments_dir();
    let io = |what: &'static str| {
        let dir = dir.clone();
        move |source| JournalError::Io { what, path: dir, source }
    };
    let segments_dir = storage.open_dir(&dir).map_err(io("open"))?;
    let segment = match tail {
        Some(tail) => {
            write_again(&*tail.file, tail.offset).map_err(io("write the newest segment again in"))?;
            Segment::resume(tail.file, tail.offset, tail.bytes)
        }
        None => {
            let instance = shared.settings.instance.clone();
            let header = Header { first: index.size(), previous: last_leaf, instance };
            let prepared = Segment::prepare(&*storage, &dir, &header, shared.settings.segment_bytes, None)
                .map_err(io("make a segment in"))?;
            segments.push(index.size());
            prepared
                .publish(&*storage, &*segments_dir)
                .map_err(|(_, source)| io("name a segment in")(source))?
        }
    };
    let ordinal = segments.len() - 1;
    layout.set_segments(segments);
    shared.runs().sealed = sealed;
    shared.written(index.size());
    set(&shared.gauges.checkpoint_size, published);
    let runs = resume_runs(&shared, chains);
    let instance =
        runs.values().find(|open| open.chain.class == RunClass::Instance).map(|open| open.run.clone());
    let kept = kept(&layout.keys_dir())?;
    let behind = index.size() > checkpoint_size || published < checkpoint_size;
    let mut writer = Writer::new(Parts {
        shared,
        storage,
        layout,
        keys,
        trust,
        checkpoints,
        index,
        runs,
        instance,
        segment,
        ordinal,
        segments_dir,
        last_leaf,
        last_seal,
        checkpoint_size: if behind { 0 } else { checkpoint_size },
        sealer,
    });
    let failed = |error: WriteError| JournalError::Failed { what: chain(&error) };
    writer.settle_keys(kept)?;
    if online || cut.is_some() {
        writer.open_instance_run().map_err(failed)?;
    }
    if let Some(cut) = cut {
        writer.recovered(cut).map_err(failed)?;
    }
    writer.take_left_over(&left, &seen, &sealed_ids)?;
    writer.settle().map_err(failed)?;
    writer.write_bundles(unbundled);
    Ok(writer)
}

/// Runs that were open go on, in the order in which they were opened.
fn resume_runs(shared: &Arc<Shared>, chains: HashMap<RunId, Chain>) -> HashMap<RunId, OpenRun> {
    let (ts, mono_us) = (estoppel_evidence::time::UnixMicros(shared.clock.unix_us()), shared.clock.mono_us());
    let mut chains: Vec<Chain> = chains.into_values().collect();
    chains.sort_by_key(|chain| (chain.opened, chain.run));
    let mut runs = HashMap::new();
    for mut chain in chains {
        chain.resume(ts, mono_us);
        let run = shared.known_run(chain.run, chain.class, chain.name.clone(), chain.opened);
        run.entries.store(chain.seq(), Ordering::Relaxed);
        run.calls.store(chain.counters.calls, Ordering::Relaxed);
        shared.runs().insert(run.clone());
        runs.insert(chain.run, OpenRun { chain, run });
    }
    runs
}

/// Whether calls may go on in a run that another process opened.
pub(crate) fn may_go_on(chain: &Chain, run: &Run, durability: Durability) -> bool {
    let rank = |durability| match durability {
        Durability::Memory => 0,
        Durability::Group => 1,
        Durability::Sync => 2,
    };
    run.capture.commitment() == chain.commitment && rank(durability) >= rank(chain.durability)
}

/// Writes the segment's content once more and makes it durable. After an error of fdatasync in an earlier process the
/// page cache can hold what the disk does not, and recovery has just relied on it.
fn write_again(file: &dyn StorageFile, end: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < end {
        let n = read_full(file, &mut chunk, at)?.min(usize::try_from(end - at).unwrap_or(CHUNK_BYTES));
        let part = chunk.get(..n).unwrap_or_default();
        if part.is_empty() {
            break;
        }
        file.write_at(part, at)?;
        at += n as u64; // a length fits
    }
    file.sync_data()
}
