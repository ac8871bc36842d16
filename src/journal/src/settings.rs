//! What the journal is told: where it is, what it promises, and every limit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::entry::{Build, Durability, Sign};
use estoppel_evidence::{CaptureKey, Instance, RunId, Sha256, Signer, Use};

use crate::beginning::Copy;
use crate::encryption::BodyKeys;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The journal's folder. Who can write it can destroy evidence, but not forge it without the keys.
    pub dir: PathBuf,
    /// The instance that writes: `<host>/<instance>/<epoch>`, also the origin of the log. A folder belongs to one.
    pub instance: Instance,
    /// When an entry counts as recorded. Default `group`.
    pub durability: Durability,
    /// Which entries of new runs carry a signature. Default `each`.
    pub sign: Sign,
    /// Bytes of one segment file, preallocated. Default 64 MiB, at least [`SEGMENT_BYTES_MIN`]. When full, the next
    /// segment is made.
    pub segment_bytes: u64,
    /// Calls that may hold a slot at once. Default 16,384. When all are taken, the spill file serves, then
    /// [`crate::Refused::Full`].
    pub queue_entries: usize,
    /// Where records go when the queue is full. Default none. Best on another file system than `dir`.
    pub spill: Option<SpillSettings>,
    /// Longest time between a new entry and the checkpoint that covers it. Default 1 s.
    pub checkpoint_every: Duration,
    /// Most entries between checkpoints. Default 65,536.
    pub checkpoint_entries: u64,
    /// A file elsewhere that each checkpoint is compared with and written to before it is published, so that a
    /// journal that was rolled back does not start. Default none: then only what lies in `dir` is compared.
    pub checkpoint_store: Option<PathBuf>,
    /// Most open runs that callers named. Default 4,096. When reached, [`crate::Refused::Full`] for new names.
    pub runs_max: usize,
    /// The run of calls that named none is sealed and replaced after this time. Default 1 h.
    pub ambient_every: Duration,
    /// … or after this many entries. Default 1,000,000.
    pub ambient_entries: u64,
    /// Runs that callers named are sealed, reason `timeout`, after this time without a call. Default 24 h.
    pub run_idle: Duration,
    /// A run with this many streams and stored bodies is sealed and followed by another one, because a bundle holds at
    /// most 65,534 files. Default 32,768, which leaves room for calls in flight.
    pub run_files_max: u64,
    /// Likewise with this many bytes of entries, streams and bodies, because a bundle holds at most 4 GiB. Default 2 GiB.
    pub run_bytes_max: u64,
    /// How long a seal waits for calls of the run that are in flight before it answers `RUN_BUSY`. Default 5 s.
    pub seal_wait: Duration,
    /// How long the writer waits before it tries again to make a segment on a full disk. Default 1 s.
    pub stall_retry: Duration,
    /// Most bytes of one stored body. Default 1 GiB. When reached, the body is not stored.
    pub body_bytes_max: u64,
    /// What stored bodies are encrypted with. Default none: they are stored in clear.
    pub body_keys: Option<Arc<BodyKeys>>,
    /// Says where a copy of a bundle is that is not here any more. Default none: then nobody is told.
    pub copy_of: Option<CopyOf>,
    /// The key folder, where a replaced key waits until its rotation is recorded. Default `<dir>/keys`.
    pub keys_dir: Option<PathBuf>,
    /// The policy that judges at the start; named in `run.open`.
    pub policy: Sha256,
    /// Digest of the configuration; named in `run.open`.
    pub config: Sha256,
    /// The program; named in `run.open`.
    pub build: Build,
}

/// Looks up, by the folder of the bundles and the run, where a copy of a bundle was archived. Blocks on the disk.
pub type CopyOf = fn(&Path, RunId) -> Option<Copy>;

/// The spill file.
#[derive(Clone, Debug)]
pub struct SpillSettings {
    /// The file. Holds receipts that are not signed yet: who can write it can change them.
    pub path: PathBuf,
    /// Its size, preallocated. While a call is in flight [`crate::spill::RECORD_BYTES_MAX`] of it are set aside. When
    /// full, [`crate::Refused::Full`].
    pub bytes_max: u64,
}

/// Smallest segment. An entry whose stream needs more gets a segment of its own size.
pub const SEGMENT_BYTES_MIN: u64 = 256 << 10;

impl Settings {
    /// The defaults.
    pub fn new(dir: PathBuf, instance: Instance) -> Self {
        Self {
            dir,
            instance,
            durability: Durability::Group,
            sign: Sign::Each,
            segment_bytes: 64 << 20,
            queue_entries: 16_384,
            spill: None,
            checkpoint_every: Duration::from_secs(1),
            checkpoint_entries: 65_536,
            checkpoint_store: None,
            runs_max: 4_096,
            ambient_every: Duration::from_secs(3600),
            ambient_entries: 1_000_000,
            run_idle: Duration::from_secs(24 * 3600),
            run_files_max: 32_768,
            run_bytes_max: 2 << 30,
            seal_wait: Duration::from_secs(5),
            stall_retry: Duration::from_secs(1),
            body_bytes_max: 1 << 30,
            body_keys: None,
            copy_of: None,
            keys_dir: None,
            policy: Sha256([0; 32]),
            config: Sha256([0; 32]),
            build: Build { digest: None, name: "estoppel".into(), version: env!("CARGO_PKG_VERSION").into() },
        }
    }

    /// The first value that cannot be used, as `key: why`.
    pub(crate) fn wrong(&self) -> Option<String> {
        let (segment, min) = (self.segment_bytes, SEGMENT_BYTES_MIN);
        if segment < min || segment > crate::segment::SEGMENT_BYTES_MAX {
            return Some(format!(
                "segment_bytes: {segment} is not between {min} and {}",
                crate::segment::SEGMENT_BYTES_MAX
            ));
        }
        if self.queue_entries == 0 {
            return Some("queue_entries: at least 1 is needed".into());
        }
        let spill_min = crate::spill::RECORD_BYTES_MAX;
        if self.spill.as_ref().is_some_and(|spill| spill.bytes_max < spill_min) {
            return Some(format!("spill.bytes_max: at least {spill_min} is needed"));
        }
        None
    }
}

/// The keys that a journal signs and captures with. Three different keys, one a use.
#[derive(Clone)]
pub struct Keys {
    pub receipt: Arc<dyn Signer>,
    /// Ed25519.
    pub checkpoint: Arc<dyn Signer>,
    pub manifest: Arc<dyn Signer>,
    pub capture: CaptureKey,
}

impl Keys {
    /// The key of one use.
    pub fn of(&self, use_: Use) -> &Arc<dyn Signer> {
        match use_ {
            Use::Receipt => &self.receipt,
            Use::Checkpoint => &self.checkpoint,
            Use::Manifest => &self.manifest,
        }
    }

    pub(crate) fn replace(&mut self, use_: Use, key: Arc<dyn Signer>) {
        match use_ {
            Use::Receipt => self.receipt = key,
            Use::Checkpoint => self.checkpoint = key,
            Use::Manifest => self.manifest = key,
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("receipt", &self.receipt.public().id())
            .field("checkpoint", &self.checkpoint.public().id())
            .field("manifest", &self.manifest.public().id())
            .finish_non_exhaustive()
    }
}
