//! What the manifest says about a run, computed from its lines in one place (SPEC section 8).
//!
//! [`RunFacts`] is fed the lines in order. It refuses lines that are not one run: a line that does not follow the one
//! before it, another instance, a seal that states something else than what was counted. It is no verifier: schemas
//! and signatures are not looked at.
//!
//! What it costs: 4 bytes per call for exact percentiles (8 above 71 minutes), at most 16 values per claim, 1,024
//! policies, and 48 bytes per file that the bundle must have, of which there are at most 65,534.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use estoppel_evidence::entry::{
    Build, Counters, Durability, RunClass, SHADOWS_MAX, SealReason, Sign, VerdictAction,
};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::tree::Frontier;
use estoppel_evidence::{CallId, Instance, KeyId, Leaf, Reason, Root, RunId, Sha256, Use};

use crate::layout::FILES_MAX;
use crate::manifest::{CLAIM_VALUES_MAX, EXTERNALS_MAX, KEYS_MAX, KeyRow, Metrics, POLICIES_MAX, TreeHead};

/// Why lines are no run that can be sealed.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error("entry {seq} of the run cannot be read")]
    Line { seq: u64, source: serde_json::Error },
    #[error("entry {seq} of the run does not follow the one before it: {what}")]
    Order { seq: u64, what: &'static str },
    #[error("the seal of the run states another {what} than its entries")]
    Seal { what: &'static str },
    #[error("the run has no {what} entry")]
    Open { what: &'static str },
    #[error("the run needs more than {limit} {what}")]
    Max { what: &'static str, limit: usize },
}

impl FactsError {
    /// The reason for machines.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Line { .. } | Self::Order { .. } | Self::Seal { .. } => Reason::JournalCorrupt,
            Self::Open { .. } => Reason::RunBusy,
            Self::Max { .. } => Reason::Internal,
        }
    }
}

/// What one line refers to, as the journal needs it while it gathers a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its entry hash.
    pub leaf: Leaf,
    /// Position in the run.
    pub seq: u64,
    /// The receipt's references; none for other kinds.
    pub call: Option<CallReferences>,
}

/// What a receipt refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallReferences {
    pub call: CallId,
    /// The policy that judged.
    pub policy: Sha256,
    /// Policies that were asked and changed nothing.
    pub shadows: [Option<Sha256>; SHADOWS_MAX],
    /// Contracts of request and response.
    pub contracts: [Option<Sha256>; 2],
    /// The nodes file of the stream.
    pub nodes: Option<Sha256>,
    /// What a database looked like before and after.
    pub snapshots: [Option<Sha256>; 2],
    /// Stored bodies: the request, the answer to the client, the upstream's answer.
    pub bodies: [Option<Sha256>; 3],
}

/// What a bundle of the run must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Policies of `run.open` and the receipts.
    pub policies: BTreeSet<Sha256>,
    /// Policies that receipts name only as asked beside. The bundle has those that there are.
    pub shadows: BTreeSet<Sha256>,
    /// Contracts of the receipts.
    pub contracts: BTreeSet<Sha256>,
    /// Nodes files by call.
    pub streams: BTreeMap<CallId, Sha256>,
    /// Snapshots of databases.
    pub snapshots: BTreeSet<Sha256>,
    /// Stored bodies, in the bundle or beside it.
    pub bodies: BTreeSet<Sha256>,
    /// Keys that sign entries or were brought in by `key.rotate`.
    pub keys: BTreeSet<(KeyId, Use)>,
}

impl References {
    /// Adds what a receipt refers to.
    fn add(&mut self, refers: &CallReferences) -> Result<(), FactsError> {
        self.policies.insert(refers.policy);
        self.shadows.extend(refers.shadows.iter().flatten());
        self.contracts.extend(refers.contracts.iter().flatten());
        self.bodies.extend(refers.bodies.iter().flatten());
        if let Some(nodes) = refers.nodes {
            self.streams.insert(refers.call, nodes);
        }
        at_most(self.policies.len() + self.shadows.len(), POLICIES_MAX, "policies")?;
        self.add_snapshots(refers.snapshots.iter().flatten().copied())?;
        at_most(self.bodies.len(), FILES_MAX + EXTERNALS_MAX, "bodies")
    }

    /// Adds what came later than the receipt of its call.
    fn add_snapshots(&mut self, digests: impl IntoIterator<Item = Sha256>) -> Result<(), FactsError> {
        self.snapshots.extend(digests);
        let documents = self.contracts.len() + self.snapshots.len() + self.streams.len();
        at_most(documents, FILES_MAX, "contracts, snapshots and streams")
    }

    fn add_key(&mut self, key: KeyId, use_: Use) -> Result<(), FactsError> {
        self.keys.insert((key, use_));
        at_most(self.keys.len(), KEYS_MAX, "keys")
    }

    /// How many files of a bundle these are at most (bodies may be kept beside it).
    pub fn files(&self) -> usize {
        self.policies.len()
            + self.shadows.len()
            + self.contracts.len()
            + self.snapshots.len()
            + self.streams.len()
            + self.bodies.len()
    }
}

fn at_most(count: usize, limit: usize, what: &'static str) -> Result<(), FactsError> {
    if count > limit { Err(FactsError::Max { what, limit }) } else { Ok(()) }
}

/// What the manifest says but for its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFacts {
    pub run: RunId,
    pub iss: Instance,
    pub class: RunClass,
    pub name: Option<String>,
    pub opened: UnixMicros,
    pub sealed: UnixMicros,
    pub seal_reason: SealReason,
    pub build: Build,
    pub sign: Sign,
    pub durability: Durability,
    /// The run tree with the seal.
    pub tree: TreeHead,
    pub counters: Counters,
    /// At most 16 values a name, in byte order, the smallest first.
    pub claims: BTreeMap<String, Vec<String>>,
    pub metrics: Metrics,
    /// Every key that signs anything inside, in any order.
    pub keys: Vec<KeyRow>,
    /// What the bundle must hold; `policies` is also the manifest's list.
    pub references: References,
}

struct Opened {
    run: RunId,
    iss: Instance,
    class: RunClass,
    name: Option<String>,
    ts: UnixMicros,
    build: Build,
    sign: Sign,
    durability: Durability,
}

/// Gathers what the manifest says while the lines of one run pass by.
#[derive(Default)]
pub struct RunFacts {
    opened: Option<Opened>,
    sealed: Option<(UnixMicros, SealReason)>,
    frontier: Frontier,
    head: Option<Leaf>,
    counters: Counters,
    claims: BTreeMap<&'static str, BTreeSet<String>>,
    totals: Totals,
    snapshot_lag_bytes_max: Option<u64>,
    references: References,
}

impl RunFacts {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line, given without its LF.
    ///
    /// # Errors
    /// [`FactsError`]; what was gathered is then of no use.
    pub fn push(&mut self, line: &[u8]) -> Result<Entry, FactsError> {
        let seq = self.frontier.size();
        let unreadable = |source| FactsError::Line { seq, source };
        let parsed: Line<'_> = serde_json::from_slice(line).map_err(unreadable)?;
        self.follows(seq, &parsed)?;
        self.references.add_key(parsed.kid, Use::Receipt)?;
        let mut call = None;
        match &*parsed.kind {
            "run.open" => self.open(serde_json::from_slice(line).map_err(unreadable)?, &parsed)?,
            "call" => call = Some(self.call(serde_json::from_slice(line).map_err(unreadable)?)?),
            "interrupted" => self.counters.interrupted += 1,
            "key.rotate" => {
                let rotate: RotateLine = serde_json::from_slice(line).map_err(unreadable)?;
                self.references.add_key(rotate.new, rotate.use_)?;
            }
            "snapshot" => {
                let snapshot: SnapshotSideLine = serde_json::from_slice(line).map_err(unreadable)?;
                self.references.add_snapshots(snapshot.digest)?;
            }
            "run.seal" => self.seal(&serde_json::from_slice(line).map_err(unreadable)?, parsed.ts)?,
            _ => {}
        }
        let leaf = Leaf::of(line);
        self.frontier.push(leaf);
        self.head = Some(leaf);
        Ok(Entry { leaf, seq, call })
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.frontier.size()
    }

    /// What was counted so far: what the seal states.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The run tree so far.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Entry hash of the last line.
    pub fn head(&self) -> Option<Leaf> {
        self.head
    }

    /// What the bundle must hold so far.
    pub fn references(&self) -> &References {
        &self.references
    }

    /// What the manifest says about the run, with `keys` as every key that signs anything inside.
    ///
    /// # Errors
    /// [`FactsError::Open`] unless the last line was a seal.
    pub fn finish(self, keys: Vec<KeyRow>) -> Result<ManifestFacts, FactsError> {
        let open = self.opened.ok_or(FactsError::Open { what: "run.open" })?;
        let (sealed, seal_reason) = self.sealed.ok_or(FactsError::Open { what: "run.seal" })?;
        Ok(ManifestFacts {
            run: open.run,
            iss: open.iss,
            class: open.class,
            name: open.name,
            opened: open.ts,
            sealed,
            seal_reason,
            build: open.build,
            sign: open.sign,
            durability: open.durability,
            tree: TreeHead { root: self.frontier.root(), size: self.frontier.size() },
            counters: self.counters,
            claims: self
                .claims
                .into_iter()
                .map(|(name, values)| (name.to_owned(), values.into_iter().collect()))
                .collect(),
            metrics: Metrics { snapshot_lag_bytes_max: self.snapshot_lag_bytes_max, ..self.totals.metrics() },
            keys,
            references: self.references,
        })
    }

    /// Whether `line` can be the next one of this run.
    fn follows(&self, seq: u64, line: &Line<'_>) -> Result<(), FactsError> {
        let order = |what| Err(FactsError::Order { seq, what });
        match &self.opened {
            None if line.kind != "run.open" => return order("a run begins with run.open"),
            Some(_) if line.kind == "run.open" => return order("a second run.open"),
            Some(open) if open.run != line.run => return order("another run"),
            Some(open) if open.iss.as_str() != line.iss => return order("another instance"),
            _ => {}
        }
        if self.sealed.is_some() {
            return order("the run is sealed");
        }
        if line.seq != seq {
            return order("another sequence number");
        }
        if line.prev != self.head {
            return order("another previous entry");
        }
        Ok(())
    }

    fn open(&mut self, open: OpenLine<'_>, line: &Line<'_>) -> Result<(), FactsError> {
        let iss = line.iss.parse().map_err(|_| FactsError::Order { seq: 0, what: "not an instance" })?;
        self.references.policies.insert(open.policy);
        self.opened = Some(Opened {
            run: line.run,
            iss,
            class: open.class,
            name: open.name.map(|name| name.0.into_owned()),
            ts: line.ts,
            build: open.build,
            sign: open.sign,
            durability: open.durability,
        });
        Ok(())
    }

    fn call(&mut self, call: CallLine<'_>) -> Result<CallReferences, FactsError> {
        self.counters.calls += 1;
        *match call.verdict.action {
            VerdictAction::Allow => &mut self.counters.allow,
            VerdictAction::Repair => &mut self.counters.repair,
            VerdictAction::Hold => &mut self.counters.hold,
            VerdictAction::Block => &mut self.counters.block,
        } += 1;
        self.counters.incomplete += u64::from(!call.outcome.complete);
        self.totals.push(call.time.total_us);
        self.snapshot_lag_bytes_max = self.snapshot_lag_bytes_max.max(call.ext.snapshot_lag_bytes);
        for (name, value) in call.claims.iter().flat_map(ClaimsLine::fields) {
            let values = self.claims.entry(name).or_default();
            if !values.contains(value) {
                values.insert(value.to_owned());
            }
            if values.len() > CLAIM_VALUES_MAX {
                values.pop_last();
            }
        }
        let refers = call.references();
        self.references.add(&refers)?;
        Ok(refers)
    }

    fn seal(&mut self, seal: &SealLine, ts: UnixMicros) -> Result<(), FactsError> {
        let states = |same, what| if same { Ok(()) } else { Err(FactsError::Seal { what }) };
        states(seal.count == self.frontier.size(), "count")?;
        states(Some(seal.head) == self.head, "head")?;
        states(seal.root == self.frontier.root(), "root")?;
        states(seal.counters == self.counters, "set of counters")?;
        self.sealed = Some((ts, seal.reason));
        Ok(())
    }
}

/// Every `time.total_us`, in half the space while it fits 32 bits.
#[derive(Default)]
struct Totals {
    short: Vec<u32>,
    long: Vec<u64>, // INVARIANT: each is larger than every u32
}

impl Totals {
    fn push(&mut self, total_us: u64) {
        match u32::try_from(total_us) {
            Ok(short) => self.short.push(short),
            Err(_) => self.long.push(total_us),
        }
    }

    fn metrics(mut self) -> Metrics {
        Metrics {
            snapshot_lag_bytes_max: None,
            total_p50_us: self.percentile(50),
            total_p95_us: self.percentile(95),
            total_p99_us: self.percentile(99),
        }
    }

    /// The value at position ceil(percent·n / 100), counted from 1, in ascending order.
    fn percentile(&mut self, percent: usize) -> Option<u64> {
        let count = self.short.len() + self.long.len();
        let at = (count / 100 * percent + (count % 100 * percent).div_ceil(100)).checked_sub(1)?;
        match at.checked_sub(self.short.len()) {
            None => Some(u64::from(*self.short.select_nth_unstable(at).1)),
            Some(at) => Some(*self.long.select_nth_unstable(at).1),
        }
    }
}

/// Text that is borrowed from the line where no escape forbids it, also inside an `Option`.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What every line has, as far as it is needed here.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    kid: KeyId,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    prev: Option<Leaf>,
    run: RunId,
    seq: u64,
    ts: UnixMicros,
}

#[derive(Deserialize)]
struct OpenLine<'a> {
    build: Build,
    class: RunClass,
    durability: Durability,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    policy: Sha256,
    sign: Sign,
}

#[derive(Deserialize)]
struct RotateLine {
    new: KeyId,
    #[serde(rename = "use")]
    use_: Use,
}

#[derive(Deserialize)]
struct SealLine {
    count: u64,
    counters: Counters,
    head: Leaf,
    reason: SealReason,
    root: Root,
}

#[derive(Deserialize)]
struct CallLine<'a> {
    call: CallId,
    #[serde(borrow)]
    claims: Option<ClaimsLine<'a>>,
    #[serde(default)]
    contract: ContractLine,
    #[serde(default)]
    ext: ExtLine,
    outcome: OutcomeLine,
    policy: PolicyLine,
    request: BodyLine,
    response: ResponseLine,
    #[serde(default)]
    shadow: Vec<ShadowLine>,
    #[serde(default)]
    snapshot: SnapshotLine,
    sse: Option<StreamLine>,
    time: TimeLine,
    verdict: VerdictLine,
}

impl CallLine<'_> {
    fn references(&self) -> CallReferences {
        let digest = |contract: &Option<ContractSideLine>| contract.as_ref().map(|c| c.digest);
        let picture = |side: &Option<SnapshotSideLine>| side.as_ref().and_then(|side| side.digest);
        CallReferences {
            call: self.call,
            policy: self.policy.hash,
            shadows: std::array::from_fn(|index| self.shadow.get(index).map(|shadow| shadow.policy)),
            contracts: [digest(&self.contract.request), digest(&self.contract.response)],
            nodes: self.sse.as_ref().and_then(|sse| sse.nodes),
            snapshots: [picture(&self.snapshot.pre), picture(&self.snapshot.post)],
            bodies: [
                self.request.sha256,
                self.response.client.sha256,
                self.response.upstream.as_ref().and_then(|upstream| upstream.sha256),
            ],
        }
    }
}

#[derive(Deserialize)]
struct ClaimsLine<'a> {
    #[serde(borrow)]
    agent: Option<Text<'a>>,
    #[serde(borrow)]
    evolution_id: Option<Text<'a>>,
    #[serde(borrow)]
    idempotency_key: Option<Text<'a>>,
    #[serde(borrow)]
    job_id: Option<Text<'a>>,
    #[serde(borrow)]
    pipeline_id: Option<Text<'a>>,
    #[serde(borrow)]
    runtime: Option<Text<'a>>,
    #[serde(borrow)]
    schema: Option<Text<'a>>,
    #[serde(borrow)]
    service_id: Option<Text<'a>>,
}

impl ClaimsLine<'_> {
    fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("agent", &self.agent),
            ("evolution_id", &self.evolution_id),
            ("idempotency_key", &self.idempotency_key),
            ("job_id", &self.job_id),
            ("pipeline_id", &self.pipeline_id),
            ("runtime", &self.runtime),
            ("schema", &self.schema),
            ("service_id", &self.service_id),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, &*value.as_ref()?.0)))
    }
}

#[derive(Deserialize, Default)]
struct ContractLine {
    request: Option<ContractSideLine>,
    response: Option<ContractSideLine>,
}

#[derive(Deserialize)]
struct ContractSideLine {
    digest: Sha256,
}

#[derive(Deserialize, Default)]
struct ExtLine {
    snapshot_lag_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct OutcomeLine {
    complete: bool,
}

#[derive(Deserialize)]
struct PolicyLine {
    hash: Sha256,
}

#[derive(Deserialize)]
struct ShadowLine {
    policy: Sha256,
}

#[derive(Deserialize, Default)]
struct SnapshotLine {
    post: Option<SnapshotSideLine>,
    pre: Option<SnapshotSideLine>,
}

#[derive(Deserialize)]
struct SnapshotSideLine {
    digest: Option<Sha256>,
}

#[derive(Deserialize)]
struct BodyLine {
    sha256: Option<Sha256>,
}

#[derive(Deserialize)]
struct ResponseLine {
    client: BodyLine,
    upstream: Option<BodyLine>,
}

#[derive(Deserialize)]
struct StreamLine {
    nodes: Option<Sha256>,
}

#[derive(Deserialize)]
struct TimeLine {
    total_us: u64,
}

#[derive(Deserialize)]
struct VerdictLine {
    action: VerdictAction,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{LAG_BYTES, Plan, Run, SNAPSHOT, keys};

    fn facts(lines: &[Vec<u8>]) -> Result<ManifestFacts, FactsError> {
        let mut facts = RunFacts::new();
        for line in lines {
            facts.push(line)?;
        }
        facts.finish(keys())
    }

    #[test]
    fn a_run_is_counted() {
        let run = Run::of(&Plan { calls: 7, ..Plan::default() });
        let facts = facts(&run.lines).unwrap();
        assert_eq!(facts.tree.size, 10, "run.open, 7 calls, interrupted, run.seal");
        assert_eq!((facts.counters.calls, facts.counters.interrupted), (7, 1));
        assert_eq!((facts.counters.allow, facts.counters.block, facts.counters.incomplete), (4, 3, 3));
        assert_eq!(facts.name.as_deref(), Some("nightly"));
        assert_eq!(facts.references.streams.len(), 4);
        assert_eq!(facts.references.snapshots.iter().collect::<Vec<_>>(), [&Sha256::of(SNAPSHOT)]);
        assert_eq!(facts.metrics.snapshot_lag_bytes_max, Some(LAG_BYTES), "the most, not the last");
        assert_eq!(facts.claims["job_id"], ["job-0", "job-1", "job-2", "job-3", "job-4", "job-5", "job-6"]);
    }

    #[test]
    fn the_sixteen_smallest_values_of_a_claim_are_listed() {
        let run = Run::of(&Plan { calls: 40, ..Plan::default() });
        let listed = &facts(&run.lines).unwrap().claims["job_id"];
        let mut all: Vec<String> = (0..40).map(|n| format!("job-{n}")).collect();
        all.sort();
        assert_eq!(*listed, all[..16]);
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let check = |values: &[u64]| {
            let mut totals = Totals::default();
            values.iter().for_each(|value| totals.push(*value));
            let mut sorted = values.to_vec();
            sorted.sort_unstable();
            for percent in 1..=100 {
                let at = (percent * values.len()).div_ceil(100);
                assert_eq!(
                    totals.percentile(percent),
                    at.checked_sub(1).map(|at| sorted[at]),
                    "{percent} of {values:?}"
                );
            }
        };
        check(&[]);
        check(&[7]);
        check(&[3, 1, 2]);
        check(&[u64::MAX, u64::from(u32::MAX) + 1, u64::from(u32::MAX), 0, 5]);
        check(&(0..1003).map(|n| n * 7919 % 1009).collect::<Vec<u64>>());
        assert_eq!(Totals::default().metrics(), Metrics::default());
    }

    #[test]
    fn lines_that_are_not_one_run_are_refused() {
        let run = Run::of(&Plan::default());
        let refused = |lines: &[Vec<u8>]| facts(lines).unwrap_err();
        let without = |at: usize| {
            let mut lines = run.lines.clone();
            lines.remove(at);
            lines
        };
        assert!(matches!(refused(&without(0)), FactsError::Order { seq: 0, .. }));
        assert!(matches!(refused(&without(2)), FactsError::Order { seq: 2, .. }));
        assert!(matches!(refused(&without(run.lines.len() - 1)), FactsError::Open { what: "run.seal" }));
        assert!(matches!(refused(&[]), FactsError::Open { what: "run.open" }));
        let mut twice = run.lines.clone();
        twice.push(run.lines[0].clone());
        assert!(matches!(refused(&twice), FactsError::Order { .. }));
        let mut other = run.lines.clone();
        other[1] = Run::of(&Plan { run: 9, ..Plan::default() }).lines[1].clone();
        assert!(matches!(refused(&other), FactsError::Order { seq: 1, what: "another run" }));
        assert!(matches!(refused(&[b"{}".to_vec()]), FactsError::Line { seq: 0, .. }));
    }

    #[test]
    fn a_seal_that_states_something_else_is_refused() {
        let run = Run::of(&Plan::default());
        let seal = String::from_utf8(run.lines.last().unwrap().clone()).unwrap();
        let count = format!("\"count\":{}", run.lines.len() - 1);
        for (from, to) in [(count.as_str(), "\"count\":1"), ("\"interrupted\":1", "\"interrupted\":2")] {
            assert!(seal.contains(from));
            let mut lines = run.lines.clone();
            *lines.last_mut().unwrap() = seal.replace(from, to).into_bytes();
            assert!(matches!(facts(&lines), Err(FactsError::Seal { .. })), "{to}");
        }
    }
}
