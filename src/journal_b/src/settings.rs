//! How a journal is kept.

use std::path::PathBuf;
use std::time::Duration;

use estoppel_evidence::entry::{Build, Durability, Sign};
use estoppel_evidence::{Instance, Sha256};

/// Everything that a journal is told. Each number is a limit with a default.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder. Made if it is missing, but not its parent.
    pub dir: PathBuf,
    /// Whose log it is. A folder belongs to one instance for good.
    pub instance: Instance,
    /// When an entry counts as recorded.
    pub durability: Durability,
    /// Which entries carry a signature.
    pub sign: Sign,
    /// Size of a segment file, bytes. Two are kept laid out in advance. Default 64 MiB.
    pub segment_bytes: u64,
    /// Records that may wait for the writer. Default 16,384.
    pub queue_entries: usize,
    /// Where records wait when the queue is full. Default none.
    pub spill: Option<SpillSettings>,
    /// Most time between an entry and a checkpoint that covers it. Default 1 s.
    pub checkpoint_every: Duration,
    /// Most entries between two checkpoints. Default 65,536.
    pub checkpoint_entries: u64,
    /// A second place for the newest checkpoint. Default none.
    pub checkpoint_store: Option<PathBuf>,
    /// Most open runs. Default 4,096.
    pub runs_max: usize,
    /// Age at which the run of calls that name none is sealed. Default 1 h.
    pub ambient_every: Duration,
    /// Entries at which it is. Default 1,000,000.
    pub ambient_entries: u64,
    /// A named run without a call for this long is sealed. Default 24 h.
    pub run_idle: Duration,
    /// Policy in force at the start.
    pub policy: Sha256,
    /// Digest of the configuration.
    pub config: Sha256,
    /// The program.
    pub build: Build,
}

/// A file that takes records when the queue is full.
#[derive(Clone, Debug)]
pub struct SpillSettings {
    /// The file, better on another disk.
    pub path: PathBuf,
    /// Its size, bytes.
    pub bytes_max: u64,
}

impl Settings {
    /// Defaults for a folder and an instance.
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
            ambient_every: Duration::from_secs(3_600),
            ambient_entries: 1_000_000,
            run_idle: Duration::from_secs(86_400),
            policy: Sha256([0; 32]),
            config: Sha256([0; 32]),
            build: Build { digest: None, name: "estoppel".into(), version: env!("CARGO_PKG_VERSION").into() },
        }
    }
}
