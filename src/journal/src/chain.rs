//! One run's chain: what the next entry of the run needs to know.

use std::collections::{HashMap, HashSet};

use estoppel_bundle::{EXTERNAL_BYTES_MIN, KEYS_MAX, POLICIES_MAX};
use estoppel_evidence::entry::{CallRecord, Counters, Durability, Link, RunClass, Sign, VerdictAction};
use estoppel_evidence::hash::{Commit, Leaf};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::tree::Frontier;
use estoppel_evidence::{CallId, Instance, KeyId, RunId, Sha256};

use crate::beginning::CarriedRun;
use crate::settings::Settings;

/// Most entries of one run whose places are kept in memory (8 bytes each); beyond, its bundle is gathered by reading
/// the segments through.
pub(crate) const PLACES_MAX: usize = 1 << 20;

/// Keys and policies after which a run is sealed: half of what its bundle holds, the rest is for calls in flight.
const KEYS_FULL: usize = KEYS_MAX / 2;
const POLICIES_FULL: usize = POLICIES_MAX / 2;
/// Keys of a bundle that sign no entry: the manifest's, the run checkpoint's and the anchor's.
const SEAL_KEYS: usize = 3;

/// Where an entry's frame starts: which segment of the journal, counted from 0, and the offset in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place(u64);

impl Place {
    const OFFSET_BITS: u32 = 40;

    /// Segments are at most 2^30 bytes long, so that offset and ordinal share 64 bits.
    pub fn new(segment: usize, offset: u64) -> Self {
        debug_assert!(offset < 1 << Self::OFFSET_BITS && segment < 1 << 24);
        Self((segment as u64) << Self::OFFSET_BITS | offset)
    }

    pub fn segment(self) -> usize {
        (self.0 >> Self::OFFSET_BITS) as usize // 24 bits
    }

    pub fn offset(self) -> u64 {
        self.0 & ((1 << Self::OFFSET_BITS) - 1)
    }
}

/// The chain of an open run.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub run: RunId,
    pub class: RunClass,
    pub name: Option<Box<str>>,
    pub sign: Sign,
    pub durability: Durability,
    pub commitment: Commit,
    /// The receipt key that signs the next entry.
    pub kid: KeyId,
    pub opened: UnixMicros,
    /// Wall clock of the last entry.
    pub last: UnixMicros,
    pub frontier: Frontier,
    pub head: Option<Leaf>,
    pub counters: Counters,
    /// Reading of the monotonic clock that counts as 0; may lie before the machine's start.
    mono_zero: i64,
    mono_last: u64,
    /// Places of all entries in order; none when there are more than [`PLACES_MAX`].
    pub places: Option<Vec<Place>>,
    /// Place of `run.open`.
    pub first: Option<Place>,
    /// Place of the last entry.
    pub last_place: Place,
    /// Files that the run's bundle needs for its streams and stored bodies.
    pub files: u64,
    /// Bytes of its entries, streams and stored bodies.
    pub bytes: u64,
    /// Keys that sign its entries or that they bring in.
    pub keys: HashSet<KeyId>,
    /// Policies that its entries name.
    pub policies: HashSet<Sha256>,
    /// Calls that were announced and not concluded, with the entry hash of the intent.
    pub intents: HashMap<CallId, Leaf>,
}

impl Chain {
    /// A run without entries.
    pub fn new(run: RunId, class: RunClass, name: Option<Box<str>>, kid: KeyId) -> Self {
        Self {
            run,
            class,
            name,
            sign: Sign::default(),
            durability: Durability::default(),
            commitment: Commit([0; 32]),
            kid,
            opened: UnixMicros(0),
            last: UnixMicros(0),
            frontier: Frontier::default(),
            head: None,
            counters: Counters::default(),
            mono_zero: 0,
            mono_last: 0,
            places: Some(Vec::new()),
            first: None,
            last_place: Place::new(0, 0),
            files: 0,
            bytes: 0,
            keys: HashSet::from([kid]),
            policies: HashSet::new(),
            intents: HashMap::new(),
        }
    }

    /// A run whose first entries are not there any more; none if what is said of them does not add up. Nothing is added to it: its
    /// seal is among the entries that are there.
    pub fn carried(before: &CarriedRun) -> Option<Self> {
        let name = before.name.as_deref().map(Into::into);
        Some(Self {
            sign: before.sign,
            opened: before.opened,
            frontier: before.frontier()?,
            head: Some(before.head),
            counters: before.counters,
            mono_last: before.mono_us,
            places: None,
            ..Self::new(before.run, before.class, name, before.kid)
        })
    }

    /// Entries so far, which is the next entry's `seq`.
    pub fn seq(&self) -> u64 {
        self.frontier.size()
    }

    /// The run begins: the clock counts from `mono_us`.
    pub fn start(&mut self, ts: UnixMicros, mono_us: u64) {
        self.opened = ts;
        self.mono_zero = signed(mono_us);
    }

    /// The run goes on in another process: as much time has passed as the wall clock says, or none if it stepped back.
    pub fn resume(&mut self, ts: UnixMicros, mono_us: u64) {
        let passed = ts.0.saturating_sub(self.last.0);
        self.mono_zero = signed(mono_us).saturating_sub(signed(self.mono_last.saturating_add(passed)));
    }

    /// What the chain gives the next entry.
    pub fn link<'a>(&self, iss: &'a Instance, ts: UnixMicros, mono_us: u64) -> Link<'a> {
        let since = signed(mono_us).saturating_sub(self.mono_zero);
        Link {
            iss,
            kid: self.kid,
            run: self.run,
            seq: self.seq(),
            prev: self.head,
            ts,
            mono_us: u64::try_from(since).unwrap_or(0).max(self.mono_last),
        }
    }

    /// An entry was added.
    pub fn advance(&mut self, leaf: Leaf, ts: UnixMicros, mono_us: u64, place: Place) {
        self.frontier.push(leaf);
        self.head = Some(leaf);
        self.last = ts;
        self.mono_last = mono_us;
        self.first.get_or_insert(place);
        self.last_place = place;
        if let Some(places) = &mut self.places {
            if places.len() < PLACES_MAX { places.push(place) } else { self.places = None }
        }
    }

    /// Microseconds of the last entry since `run.open`.
    pub fn mono_last(&self) -> u64 {
        self.mono_last
    }

    /// A receipt was added.
    pub fn count(&mut self, record: &CallRecord) {
        self.count_call(record.verdict.action, record.outcome.complete);
        self.intents.remove(&record.call);
    }

    /// What an entry adds to the run's bundle: `frames` bytes in the segment, a stream or none, stored bodies.
    pub fn weigh(&mut self, frames: u64, streamed: bool, bodies: impl Iterator<Item = u64>) {
        self.bytes = self.bytes.saturating_add(frames);
        self.files += u64::from(streamed);
        for bytes in bodies {
            self.files += 1;
            // Larger ones are kept beside the bundle.
            self.bytes = self.bytes.saturating_add(if bytes < EXTERNAL_BYTES_MIN { bytes } else { 0 });
        }
    }

    /// Whether it must be sealed before it outgrows its bundle.
    pub fn is_full(&self, settings: &Settings) -> bool {
        self.files >= settings.run_files_max
            || self.bytes >= settings.run_bytes_max
            || self.keys.len() >= KEYS_FULL
            || self.policies.len() >= POLICIES_FULL
    }

    /// Whether its bundle would still hold another key.
    pub fn takes_key(&self) -> bool {
        self.keys.len() + SEAL_KEYS < KEYS_MAX
    }

    /// As [`Chain::count`], from what a line says.
    pub fn count_call(&mut self, action: VerdictAction, complete: bool) {
        self.counters.calls += 1;
        *match action {
            VerdictAction::Allow => &mut self.counters.allow,
            VerdictAction::Repair => &mut self.counters.repair,
            VerdictAction::Hold => &mut self.counters.hold,
            VerdictAction::Block => &mut self.counters.block,
        } += 1;
        self.counters.incomplete += u64::from(!complete);
    }
}

/// Clock readings stay far below 2^63 microseconds.
fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain::new(RunId::new(1, [0; 10]), RunClass::Ambient, None, KeyId([0; 32]))
    }

    fn mono(chain: &Chain, mono_us: u64) -> u64 {
        chain.link(&"a/b/1".parse().unwrap(), UnixMicros(0), mono_us).mono_us
    }

    #[test]
    fn time_within_a_run_never_goes_back() {
        let mut chain = chain();
        chain.start(UnixMicros(100), 1_000);
        assert_eq!(mono(&chain, 1_500), 500);
        chain.advance(Leaf([1; 32]), UnixMicros(600), 500, Place::new(0, 256));
        assert_eq!(mono(&chain, 900), 500);
    }

    #[test]
    fn a_run_that_goes_on_counts_the_time_between() {
        let mut chain = chain();
        chain.start(UnixMicros(100), 1_000);
        chain.advance(Leaf([1; 32]), UnixMicros(600), 500, Place::new(0, 256));
        chain.resume(UnixMicros(1_000), 7);
        assert_eq!(mono(&chain, 7), 900);
        assert_eq!(mono(&chain, 17), 910);
        chain.resume(UnixMicros(50), 7); // the wall clock stepped back
        assert_eq!(mono(&chain, 7), 500);
    }

    #[test]
    fn places_hold_segment_and_offset() {
        let place = Place::new(70_000, (1 << 30) - 1);
        assert_eq!((place.segment(), place.offset()), (70_000, (1 << 30) - 1));
    }
}
