//! Which sealed runs have their bundles, as far as a start must know: the file `bundled` holds a log index, and every run that was
//! sealed before it has had its bundle written. Lost, it only costs time.

use std::collections::HashSet;

use estoppel_evidence::RunId;

use crate::layout::Layout;
use crate::storage::{Storage, read_small, write_whole};

/// Most runs without a bundle that are known one by one. Beyond, a start looks for their bundles.
const MISSING_MAX: usize = 1_024;

/// Up to which log index sealed runs have their bundles; 0 when that is not known.
pub(crate) fn read(storage: &dyn Storage, layout: &Layout) -> u64 {
    let text = read_small(storage, &layout.bundled(), 32)
        .ok()
        .flatten()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// How far bundles are written. Runs come in the order of their seals, each as written or as missing.
#[derive(Debug)]
pub(crate) struct Bundled {
    /// Runs whose bundle could not be written.
    missing: HashSet<RunId>,
    /// There are more of them than are known.
    is_unknown: bool,
    /// Where the runs that came end.
    to: u64,
    /// What the file says.
    written: u64,
}

impl Bundled {
    /// Goes on from what the file says.
    pub fn new(written: u64) -> Self {
        Self { missing: HashSet::new(), is_unknown: false, to: written, written }
    }

    /// The bundle of the run is not there, and should be.
    pub fn miss(&mut self, run: RunId) {
        if self.missing.len() >= MISSING_MAX && !self.missing.contains(&run) {
            self.is_unknown = true;
            return;
        }
        self.missing.insert(run);
    }

    /// Bundles are missing of runs that nobody knows.
    pub fn miss_some(&mut self) {
        self.is_unknown = true;
    }

    /// The next run in the order of seals came, whose seal has this log index.
    pub fn pass(&mut self, index: u64) {
        self.to = self.to.max(index.saturating_add(1));
    }

    /// The bundle of the run is there.
    pub fn find(&mut self, run: RunId) {
        self.missing.remove(&run);
    }

    /// Writes how far bundles are complete, if that is further than before.
    pub fn write(&mut self, storage: &dyn Storage, layout: &Layout) {
        if self.is_unknown || !self.missing.is_empty() || self.to <= self.written {
            return;
        }
        match write_whole(storage, &layout.bundled(), self.to.to_string().as_bytes()) {
            Ok(()) => self.written = self.to,
            Err(error) => tracing::warn!(%error, "a start will look for bundles that are there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::FileSystem;

    fn run(n: u64) -> RunId {
        RunId::new(n, [0; 10])
    }

    fn check(bundled: &mut Bundled, dir: &std::path::Path, says: u64) {
        let layout = Layout::new(dir, None);
        bundled.write(&FileSystem, &layout);
        assert_eq!(read(&FileSystem, &layout), says);
    }

    #[test]
    fn it_goes_on_when_the_last_missing_bundle_is_there_and_never_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut bundled = Bundled::new(0);
        bundled.pass(9);
        check(&mut bundled, dir.path(), 10);
        for n in [1, 2] {
            bundled.miss(run(n));
            bundled.pass(10 + n);
            check(&mut bundled, dir.path(), 10);
        }
        bundled.find(run(2));
        check(&mut bundled, dir.path(), 10);
        bundled.find(run(1));
        check(&mut bundled, dir.path(), 13);
        bundled.pass(3);
        check(&mut bundled, dir.path(), 13);
    }

    #[test]
    fn more_missing_bundles_than_are_known_are_left_to_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut bundled = Bundled::new(0);
        for n in 0..=MISSING_MAX as u64 {
            bundled.miss(run(n));
        }
        bundled.pass(9);
        (0..=MISSING_MAX as u64).for_each(|n| bundled.find(run(n)));
        check(&mut bundled, dir.path(), 0);
        let mut some = Bundled::new(0);
        some.miss_some();
        some.pass(9);
        check(&mut some, dir.path(), 0);
    }
}
