//! Where things are in a journal's folder.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use estoppel_evidence::{RunId, Sha256};

use crate::admit::locked;
use crate::checkpoint::PublishError;
use crate::segment::file_name;

/// A path that does not depend on the working folder, where that is known.
pub(crate) fn told(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// The folder, and the segments in it.
pub(crate) struct Layout {
    dir: PathBuf,
    keys_dir: PathBuf,
    /// First index of each segment in order; its position is the segment's ordinal.
    segments: Mutex<Vec<u64>>,
}

impl Layout {
    pub fn new(dir: &Path, keys_dir: Option<&Path>) -> Self {
        let keys_dir = keys_dir.map_or_else(|| dir.join("keys"), Into::into);
        Self { dir: dir.into(), keys_dir, segments: Mutex::default() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn segments_dir(&self) -> PathBuf {
        self.dir.join("segments")
    }

    /// Room for the next segment. Beside the segments: every file among them is one.
    pub fn spare(&self) -> PathBuf {
        self.dir.join("spare")
    }

    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    pub fn trust(&self) -> PathBuf {
        self.dir.join("trust.json")
    }

    /// What was before the first segment, where older ones were deleted.
    pub fn beginning(&self) -> PathBuf {
        self.dir.join("beginning.json")
    }

    pub fn hashes(&self) -> PathBuf {
        self.dir.join("hashes")
    }

    pub fn bundled(&self) -> PathBuf {
        self.dir.join("bundled")
    }

    pub fn keys_dir(&self) -> PathBuf {
        self.keys_dir.clone()
    }

    pub fn policies_dir(&self) -> PathBuf {
        self.dir.join("policies")
    }

    pub fn policy(&self, hash: Sha256) -> PathBuf {
        self.policies_dir().join(format!("{}.json", hash.hex()))
    }

    pub fn contracts_dir(&self) -> PathBuf {
        self.dir.join("contracts")
    }

    pub fn snapshots_dir(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    pub fn retention_dir(&self) -> PathBuf {
        self.dir.join("retention")
    }

    pub fn bodies_dir(&self) -> PathBuf {
        self.dir.join("bodies")
    }

    pub fn bundles_dir(&self) -> PathBuf {
        self.dir.join("bundles")
    }

    pub fn bundle(&self, run: RunId) -> PathBuf {
        self.bundles_dir().join(format!("{run}.pef.zip"))
    }

    /// Where the bundle of a run is, for whoever has another working folder.
    pub fn bundle_told(&self, run: RunId) -> PathBuf {
        told(&self.bundle(run))
    }

    /// Whether the folder itself is gone, which is why a file in it could not be written.
    pub fn is_gone(&self, error: &PublishError) -> bool {
        match error {
            PublishError::Io { path, source, .. } => {
                path.parent() == Some(&*self.dir) && source.kind() == std::io::ErrorKind::NotFound
            }
            PublishError::Changed { .. } => false,
        }
    }

    pub fn set_segments(&self, segments: Vec<u64>) {
        *locked(&self.segments) = segments;
    }

    pub fn add_segment(&self, first: u64) {
        locked(&self.segments).push(first);
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        locked(&self.segments).len()
    }

    /// First index of the segment with that ordinal.
    pub fn first(&self, ordinal: usize) -> Option<u64> {
        locked(&self.segments).get(ordinal).copied()
    }

    /// First index of the segment that entry `index` is in, or would be in.
    pub fn segment_with(&self, index: u64) -> Option<u64> {
        let segments = locked(&self.segments);
        let after = segments.partition_point(|first| *first <= index);
        after.checked_sub(1).and_then(|at| segments.get(at)).or(segments.first()).copied()
    }

    /// First index of the segment after the one that entry `index` is in.
    pub fn segment_after(&self, index: u64) -> Option<u64> {
        let segments = locked(&self.segments);
        segments.get(segments.partition_point(|first| *first <= index)).copied()
    }

    /// The file of the segment with that first index.
    pub fn segment_at(&self, first: u64) -> PathBuf {
        self.segments_dir().join(file_name(first))
    }

    /// The segment with that ordinal.
    pub fn segment(&self, ordinal: usize) -> Option<PathBuf> {
        Some(self.segment_at(self.first(ordinal)?))
    }
}
