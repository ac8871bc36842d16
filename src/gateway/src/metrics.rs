//! What operators scrape. Labels come from closed sets: route names, verdicts, reason codes, dialects; never from ids or
//! from a caller's text.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use estoppel_evidence::Reason;
use estoppel_evidence::entry::{BypassSource, CallRecord, ClientEnd, Reask, ShadowRecord, VerdictAction};
use estoppel_journal::Stats;
use prometheus::{
    Counter, Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::exchange::observed_in;
use crate::provenance::Missed;
use crate::shadow::Shadow;
use crate::snapshot::RouteEntry;

/// Upper bounds of duration histograms, in seconds.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// All metrics of one process.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    calls: IntCounterVec,
    outcomes: IntCounterVec,
    refused: IntCounterVec,
    tools_changed: IntCounterVec,
    servers_missing: IntCounterVec,
    bypasses: IntCounterVec,
    findings: IntCounterVec,
    untapped: IntCounterVec,
    reasks: IntCounterVec,
    provenance_missed: IntCounterVec,
    shadows: IntCounterVec,
    shadows_skipped: IntCounterVec,
    shadows_refused: IntGauge,
    violations: IntCounterVec,
    controls_counted: IntCounterVec,
    controls_blocked: IntCounterVec,
    keyed: IntCounterVec,
    database_up: IntGaugeVec,
    rows_seen: IntGaugeVec,
    row_digests: IntGaugeVec,
    snapshots: IntCounterVec,
    snapshots_slow: IntCounterVec,
    snapshot_wait: HistogramVec,
    store_failures: IntCounter,
    store_lost: IntCounter,
    total: HistogramVec,
    upstream: HistogramVec,
    bytes: IntCounterVec,
    pub(crate) connections: IntGauge,
    reloads: IntCounterVec,
    identity_reloads: IntCounterVec,
    issuer_fetches: IntCounterVec,
    in_flight: IntGauge,
    drains: IntGauge,
    pub(crate) holds_open: IntGauge,
    holds: IntCounterVec,
    hold_seconds: HistogramVec,
    /// Locked while one scrape takes over the journal's counts.
    journal: Arc<Mutex<JournalMetrics>>,
    routes: Arc<Mutex<BTreeMap<String, RouteMetrics>>>,
}

/// Handles of one route, looked up once.
#[derive(Clone)]
pub(crate) struct RouteMetrics {
    allow: IntCounter,
    repair: IntCounter,
    hold: IntCounter,
    block: IntCounter,
    ok: IntCounter,
    total: Histogram,
    upstream: Histogram,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
}

struct JournalMetrics {
    queue: IntGauge,
    entries: IntCounter,
    runs: IntGauge,
    spilled: IntGauge,
    batches: IntCounter,
    synced: Counter,
    failed: IntGauge,
    enabled: IntGauge,
    body_key_usable: IntGauge,
    body_key_failures: IntCounter,
    checkpoint: IntCounter,
}

/// What judging found in a call: on which side, its code, and whether it was enforced.
fn violations(record: &CallRecord) -> impl Iterator<Item = (&'static str, Reason, &'static str)> {
    let downgrades = record.downgrades.iter();
    let observed = downgrades.filter_map(|downgrade| Some((observed_in(downgrade)?, downgrade.code, "no")));
    let is_blocked = record.verdict.action == VerdictAction::Block && is_of_judging(record.outcome.code);
    let side = if record.response.upstream.is_some() { "answer" } else { "request" };
    observed.chain(is_blocked.then_some((side, record.outcome.code, "yes")))
}

/// Whether judging values and bodies ends in this reason.
fn is_of_judging(code: Reason) -> bool {
    matches!(
        code,
        Reason::ContractViolated
            | Reason::RequestViolated
            | Reason::ContractMissing
            | Reason::ContractUnsupported
            | Reason::ValueMalformed
            | Reason::ValueAmbiguous
            | Reason::ValueTruncated
            | Reason::ToolChanged
    )
}

impl Metrics {
    /// A fresh set.
    pub fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels).expect("names and labels are valid");
            registry.register(Box::new(vec.clone())).expect("each name is registered once");
            vec
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("the name is valid");
            registry.register(Box::new(gauge.clone())).expect("each name is registered once");
            gauge
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("the name is valid");
            registry.register(Box::new(counter.clone())).expect("each name is registered once");
            counter
        };
        let float_counter = |name: &str, help: &str| {
            let counter = Counter::new(name, help).expect("the name is valid");
            registry.register(Box::new(counter.clone())).expect("each name is registered once");
            counter
        };
        let seconds = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let vec = HistogramVec::new(options, &["route"]).expect("names and labels are valid");
            registry.register(Box::new(vec.clone())).expect("each name is registered once");
            vec
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntGaugeVec::new(Opts::new(name, help), labels).expect("names and labels are valid");
            registry.register(Box::new(vec.clone())).expect("each name is registered once");
            vec
        };
        let snapshot_wait = HistogramVec::new(
            HistogramOpts::new(
                "estoppel_snapshot_seconds",
                "How long calls waited for a snapshot of a database.",
            )
            .buckets(SECONDS.to_vec()),
            &["database", "side"],
        )
        .expect("names and labels are valid");
        registry.register(Box::new(snapshot_wait.clone())).expect("each name is registered once");
        let build =
            IntGaugeVec::new(Opts::new("estoppel_build_info", "1; the version is a label."), &["version"])
                .expect("names and labels are valid");
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build)).expect("each name is registered once");
        let reloads = counters("estoppel_reloads_total", "Configuration reloads, by result.", &["result"]);
        // There from the start, so that the first one that is refused is a rise.
        for result in ["ok", "refused"] {
            reloads.with_label_values(&[result]);
        }
        let identity_reloads = counters(
            "estoppel_identity_reloads_total",
            "Files of API keys, revocations and issuers' keys that were read because they changed, by result.",
            &["result"],
        );
        for result in ["ok", "refused"] {
            identity_reloads.with_label_values(&[result]);
        }
        let bypasses = counters(
            "estoppel_bypass_total",
            "Calls that went round the gateway, by how they were found.",
            &["source"],
        );
        for source in BypassSource::ALL {
            bypasses.with_label_values(&[source.as_str()]);
        }
        Self {
            bypasses,
            identity_reloads,
            issuer_fetches: counters(
                "estoppel_issuer_fetches_total",
                "Fetches of issuers' keys that were due, by result.",
                &["issuer", "result"],
            ),
            calls: counters(
                "estoppel_calls_total",
                "Calls with a receipt, by verdict.",
                &["route", "verdict"],
            ),
            outcomes: counters(
                "estoppel_outcomes_total",
                "Calls with a receipt, by reason code.",
                &["route", "code"],
            ),
            refused: counters(
                "estoppel_refused_total",
                "Calls refused without a receipt; none reached an upstream.",
                &["code"],
            ),
            tools_changed: counters(
                "estoppel_tools_changed_total",
                "Calls in which an MCP tool was not what its server first said that it is.",
                &["route"],
            ),
            servers_missing: counters(
                "estoppel_mcp_servers_missing_total",
                "Answers made of those of several MCP servers in which this one had no part.",
                &["route", "upstream"],
            ),
            findings: counters(
                "estoppel_findings_total",
                "What detectors found, by detector and by whether it blocked.",
                &["route", "detector", "mode"],
            ),
            untapped: counters(
                "estoppel_detector_skipped_total",
                "Bodies that an external detector was not told of, because its queue or its quota was full.",
                &["route", "detector"],
            ),
            reasks: counters(
                "estoppel_reasks_total",
                "Refused answers of models on routes that ask again, by what became of that.",
                &["route", "outcome"],
            ),
            provenance_missed: counters(
                "estoppel_provenance_missed_total",
                "Times that a run, or what a tool gave in it, was not known to rules of provenance, by why.",
                &["cause"],
            ),
            shadows: counters(
                "estoppel_shadow_verdicts_total",
                "Verdicts of shadow policies, by the verdict that was enforced, and whether they agree.",
                &["policy", "verdict", "enforced", "agrees"],
            ),
            shadows_skipped: counters(
                "estoppel_shadow_skipped_total",
                "Calls about which a shadow policy was not asked, by why.",
                &["policy", "reason"],
            ),
            shadows_refused: gauge(
                "estoppel_shadow_refused",
                "Shadow policies of the configuration that could not be loaded the last time.",
            ),
            violations: counters(
                "estoppel_violations_total",
                "Requests and answers in which judging found something, by reason code, and whether that was enforced.",
                &["route", "side", "code", "enforced"],
            ),
            controls_counted: counters(
                "estoppel_control_counted_total",
                "What controls of the policy counted, as receipts say it.",
                &["control", "unit"],
            ),
            controls_blocked: counters(
                "estoppel_control_blocked_total",
                "Calls that would have passed a control's limit.",
                &["control"],
            ),
            keyed: counters(
                "estoppel_idempotency_total",
                "Calls that brought a key, or should have, by what that meant.",
                &["control", "decision"],
            ),
            database_up: gauges(
                "estoppel_database_up",
                "1 when the last snapshot of it that was tried came about.",
                &["database"],
            ),
            rows_seen: gauges(
                "estoppel_rows_seen",
                "1 when the last look for rows of the table that belong to no call came about.",
                &["database", "table"],
            ),
            row_digests: gauges(
                "estoppel_row_digests",
                "1 when the last snapshot that was taken has digests of the table's rows.",
                &["database", "table"],
            ),
            snapshots: counters(
                "estoppel_snapshots_total",
                "Snapshots for calls, by side, reason code and cause.",
                &["database", "side", "code", "cause"],
            ),
            snapshots_slow: counters(
                "estoppel_snapshots_slow_total",
                "Snapshots for which a call waited longer than the database's budget.",
                &["database", "side"],
            ),
            snapshot_wait,
            store_failures: counter(
                "estoppel_store_failures_total",
                "Calls that could not be counted because the store of counters did not answer.",
            ),
            store_lost: counter(
                "estoppel_store_lost_total",
                "How often the store was found without what it had: counts began anew.",
            ),
            total: seconds(
                "estoppel_call_seconds",
                "From the request head until the receipt is handed to the journal, before it is on disk.",
            ),
            upstream: seconds(
                "estoppel_upstream_seconds",
                "From the request head to the upstream's response head.",
            ),
            bytes: counters("estoppel_body_bytes_total", "Body bytes.", &["route", "direction"]),
            reloads,
            connections: gauge("estoppel_connections", "Accepted connections."),
            in_flight: gauge("estoppel_calls_in_flight", "Calls in flight."),
            holds_open: gauge("estoppel_holds_open", "Calls that wait for people."),
            holds: counters(
                "estoppel_holds_total",
                "Calls that waited for people, by what became of them: opened, then released, denied, expired or abandoned.",
                &["route", "outcome"],
            ),
            hold_seconds: seconds(
                "estoppel_hold_seconds",
                "From a hold's opening until its call was released, denied, expired or abandoned.",
            ),
            drains: gauge("estoppel_drains", "Answers that are read on after their client left."),
            journal: Arc::new(Mutex::new(JournalMetrics {
                queue: gauge("estoppel_journal_queue", "Records that wait to be written."),
                entries: counter("estoppel_journal_entries_total", "Entries of the instance log."),
                runs: gauge("estoppel_runs_open", "Runs that are not sealed."),
                spilled: gauge("estoppel_journal_spilled", "Records that wait in the spill file."),
                batches: counter("estoppel_journal_batches_total", "Batches written."),
                synced: float_counter("estoppel_journal_sync_seconds_total", "Time spent in fdatasync."),
                failed: gauge(
                    "estoppel_journal_failed",
                    "1 when evidence cannot be written and calls are refused.",
                ),
                enabled: gauge("estoppel_journal_enabled", "0 when the configuration turns evidence off."),
                body_key_usable: gauge(
                    "estoppel_body_key_usable",
                    "0 when stored bodies are to be encrypted and there is no key to do it with.",
                ),
                body_key_failures: counter(
                    "estoppel_body_key_failures_total",
                    "How often the key hook did not give a key for stored bodies.",
                ),
                checkpoint: counter(
                    "estoppel_checkpoint_entries_total",
                    "Entries under the newest published checkpoint.",
                ),
            })),
            registry,
            routes: Arc::default(),
        }
    }

    /// Adds metrics that others keep; their names must be new.
    pub fn register(&self, metrics: Box<dyn prometheus::core::Collector>) {
        if let Err(error) = self.registry.register(metrics) {
            tracing::error!(%error, "metrics are not shown");
        }
    }

    pub(crate) fn route(&self, name: &str) -> RouteMetrics {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        // There from the start, so that the first change is a rise.
        self.tools_changed.with_label_values(&[name]);
        let made = || RouteMetrics {
            allow: self.calls.with_label_values(&[name, "allow"]),
            repair: self.calls.with_label_values(&[name, "repair"]),
            hold: self.calls.with_label_values(&[name, "hold"]),
            block: self.calls.with_label_values(&[name, "block"]),
            ok: self.outcomes.with_label_values(&[name, Reason::Ok.code()]),
            total: self.total.with_label_values(&[name]),
            upstream: self.upstream.with_label_values(&[name]),
            request_bytes: self.bytes.with_label_values(&[name, "request"]),
            response_bytes: self.bytes.with_label_values(&[name, "response"]),
        };
        routes.entry(name.to_string()).or_insert_with(made).clone()
    }

    /// A call's record goes to the journal.
    pub(crate) fn finished(&self, route: Option<&RouteEntry>, record: &CallRecord) {
        let unrouted;
        let metrics = match route {
            Some(route) => &route.metrics,
            None => {
                unrouted = self.route("none");
                &unrouted
            }
        };
        match record.verdict.action {
            VerdictAction::Allow => metrics.allow.inc(),
            VerdictAction::Repair => metrics.repair.inc(),
            VerdictAction::Hold => metrics.hold.inc(),
            VerdictAction::Block => metrics.block.inc(),
        }
        match record.outcome.code {
            Reason::Ok => metrics.ok.inc(),
            code => self.outcomes.with_label_values(&[route.map_or("none", |r| &r.name), code.code()]).inc(),
        }
        let codes = record.downgrades.iter().map(|downgrade| downgrade.code).chain([record.outcome.code]);
        if codes.into_iter().any(|code| code == Reason::ToolChanged) {
            self.tools_changed.with_label_values(&[route.map_or("none", |r| &r.name)]).inc();
        }
        if let Some(Reask::Of(_)) = record.reask {
            self.reasked(route, reask_outcome(record));
        }
        for (side, code, enforced) in violations(record) {
            let route = route.map_or("none", |route| &route.name);
            self.violations.with_label_values(&[route, side, code.code(), enforced]).inc();
        }
        metrics.total.observe(seconds(record.time.total_us));
        if let Some(upstream) = record.time.upstream_us {
            metrics.upstream.observe(seconds(upstream));
        }
        metrics.request_bytes.inc_by(record.request.body.bytes);
        metrics.response_bytes.inc_by(record.response.client.bytes);
    }

    /// What detectors found: their names, whether it blocked, how often.
    pub(crate) fn found(&self, route: &str, counts: &[(String, bool, u64)]) {
        for (detector, blocked, count) in counts {
            let mode = if *blocked { "enforce" } else { "shadow" };
            self.findings.with_label_values(&[route, detector, mode]).inc_by(*count);
        }
    }

    /// Counts what a detector finds that no call waits for.
    pub(crate) fn tapped(&self, route: &str, detector: &str) -> IntCounter {
        self.findings.with_label_values(&[route, detector, "shadow"])
    }

    /// One of a route's several MCP servers gave no answer.
    pub(crate) fn server_missing(&self, route: &str, upstream: &str) {
        self.servers_missing.with_label_values(&[route, upstream]).inc();
    }

    /// Such a detector was not told of a body.
    pub(crate) fn tap_overflow(&self, route: &str, detector: &str) {
        self.untapped.with_label_values(&[route, detector]).inc();
    }

    /// A model was asked again, or could not be.
    pub(crate) fn reasked(&self, route: Option<&RouteEntry>, outcome: &'static str) {
        self.reasks.with_label_values(&[route.map_or("none", |r| &r.name), outcome]).inc();
    }

    /// Rules of provenance do not know what was given in a run.
    pub(crate) fn provenance_missed(&self, why: Missed) {
        self.provenance_missed.with_label_values(&[why.as_str()]).inc();
    }

    /// What shadow policies said of a call for which `enforced` was decided.
    pub(crate) fn shadowed(&self, said: &[(Arc<Shadow>, ShadowRecord)], enforced: VerdictAction) {
        for (shadow, said) in said {
            let Some(verdict) = said.verdict else {
                let reason = said.reason.as_deref().unwrap_or_default();
                self.shadows_skipped.with_label_values(&[shadow.name(), reason]).inc();
                continue;
            };
            // What was repaired went on.
            let outcome =
                |verdict| if verdict == VerdictAction::Repair { VerdictAction::Allow } else { verdict };
            let agrees = if outcome(verdict) == outcome(enforced) { "yes" } else { "no" };
            let labels = [shadow.name(), verdict.as_str(), enforced.as_str(), agrees];
            self.shadows.with_label_values(&labels).inc();
        }
    }

    /// So many shadow policies could not be loaded.
    pub fn shadows_refused(&self, count: usize) {
        self.shadows_refused.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A call was refused and leaves no receipt.
    pub(crate) fn refused(&self, reason: Reason) {
        self.refused.with_label_values(&[reason.code()]).inc();
    }

    /// Calls went round the gateway.
    pub(crate) fn bypassed(&self, source: BypassSource, calls: u64) {
        self.bypasses.with_label_values(&[source.as_str()]).inc_by(calls);
    }

    /// A call waits for people.
    pub(crate) fn hold_opened(&self, route: &str) {
        self.holds_open.inc();
        self.holds.with_label_values(&[route, "opened"]).inc();
    }

    /// A call waits that was counted before this process began.
    pub(crate) fn hold_restored(&self) {
        self.holds_open.inc();
    }

    /// It does not wait any more.
    pub(crate) fn hold_over(&self, route: &str, outcome: &str, waited_us: u64) {
        self.holds_open.dec();
        self.holds.with_label_values(&[route, outcome]).inc();
        self.hold_seconds.with_label_values(&[route]).observe(seconds(waited_us));
    }

    /// A control counted so much of a call.
    pub(crate) fn control_counted(&self, control: &str, unit: &str, counted: u64) {
        self.controls_counted.with_label_values(&[control, unit]).inc_by(counted);
    }

    /// A control stopped a call.
    pub(crate) fn control_blocked(&self, control: &str) {
        self.controls_blocked.with_label_values(&[control]).inc();
    }

    /// A call brought a key, or should have.
    pub(crate) fn keyed(&self, control: &str, decision: &str) {
        self.keyed.with_label_values(&[control, decision]).inc();
    }

    /// A call waited for a snapshot, or in vain.
    pub(crate) fn looked(&self, database: &str, side: &str, waited: Duration, is_slow: bool) {
        self.snapshot_wait.with_label_values(&[database, side]).observe(waited.as_secs_f64());
        let slow = self.snapshots_slow.with_label_values(&[database, side]);
        slow.inc_by(u64::from(is_slow));
    }

    /// What became of a snapshot for a call.
    pub(crate) fn snapshot(&self, database: &str, side: &str, code: Reason, cause: &str) {
        self.snapshots.with_label_values(&[database, side, code.code(), cause]).inc();
    }

    /// Rows of a database are watched: from the first look that does not see them all on, its count rises.
    pub(crate) fn rows_watched(&self, database: &str) {
        let code = Reason::LineageMissing.code();
        self.snapshots.with_label_values(&[database, "watch", code, "too_many"]).inc_by(0);
    }

    /// Whether a database could be looked at the last time.
    pub(crate) fn database_up(&self, database: &str, is_up: bool) {
        self.database_up.with_label_values(&[database]).set(i64::from(is_up));
    }

    /// Whether a table's rows could be looked at the last time.
    pub(crate) fn rows_seen(&self, database: &str, table: &str, is_seen: bool) {
        self.rows_seen.with_label_values(&[database, table]).set(i64::from(is_seen));
    }

    /// The rows of a table are not looked at any more.
    pub(crate) fn rows_unwatched(&self, database: &str, table: &str) {
        let _ = self.rows_seen.remove_label_values(&[database, table]); // one that never was is gone as well
    }

    /// Whether the last snapshot has digests of a table's rows.
    pub(crate) fn rows_digested(&self, database: &str, table: &str, is_there: bool) {
        self.row_digests.with_label_values(&[database, table]).set(i64::from(is_there));
    }

    /// The configuration does not ask for digests of a table's rows any more.
    pub(crate) fn rows_undigested(&self, database: &str, table: &str) {
        let _ = self.row_digests.remove_label_values(&[database, table]); // one that never was is gone as well
    }

    /// A database is not in the configuration any more.
    pub(crate) fn database_gone(&self, database: &str) {
        let _ = self.database_up.remove_label_values(&[database]); // one that never was is gone as well
    }

    /// The store of counters did not answer.
    pub(crate) fn store_failed(&self) {
        self.store_failures.inc();
    }

    /// The store of counters is without what it had.
    pub(crate) fn store_lost(&self) {
        self.store_lost.inc();
    }

    /// A file of identities was read.
    pub(crate) fn identity_file_read(&self, ok: bool) {
        self.identity_reloads.with_label_values(&[if ok { "ok" } else { "refused" }]).inc();
    }

    /// An issuer was asked for its keys.
    pub(crate) fn issuer_asked(&self, issuer: &str, ok: bool) {
        self.issuer_fetches.with_label_values(&[issuer, if ok { "ok" } else { "failed" }]).inc();
    }

    /// A reload was tried.
    pub fn reloaded(&self, ok: bool) {
        self.reloads.with_label_values(&[if ok { "ok" } else { "refused" }]).inc();
    }

    /// The text that a scrape gets.
    pub(crate) fn text(&self, stats: &Stats, in_flight: usize, drains: usize) -> Vec<u8> {
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let raise = |counter: &IntCounter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        set(&self.in_flight, in_flight as u64);
        set(&self.drains, drains as u64);
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        set(&journal.queue, stats.queue as u64);
        raise(&journal.entries, stats.entries);
        set(&journal.runs, stats.runs_open as u64);
        set(&journal.spilled, stats.spilled);
        raise(&journal.batches, stats.batches);
        journal.synced.inc_by((seconds(stats.sync_us) - journal.synced.get()).max(0.0));
        set(&journal.failed, u64::from(stats.failed.is_some()));
        set(&journal.enabled, u64::from(!stats.off));
        set(&journal.body_key_usable, u64::from(stats.body_keys.is_none_or(|keys| keys.usable)));
        raise(&journal.body_key_failures, stats.body_keys.map_or(0, |keys| keys.failures));
        raise(&journal.checkpoint, stats.checkpoint_size);
        drop(journal);
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::warn!(%error, "metrics could not be written");
        }
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What became of a second call.
fn reask_outcome(record: &CallRecord) -> &'static str {
    match (record.verdict.action, record.outcome.client) {
        (_, ClientEnd::Gone) => "gone",
        (VerdictAction::Block, _) => "refused",
        _ if record.outcome.code == Reason::Ok => "passed",
        _ => "failed",
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6 // rounding does not matter here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_grows_is_a_counter_and_follows_the_journal() {
        let metrics = Metrics::new();
        let text = |entries| {
            let stats =
                Stats { entries, batches: 2, sync_us: 7, checkpoint_size: entries, ..Stats::default() };
            String::from_utf8(metrics.text(&stats, 0, 0)).unwrap()
        };
        assert!(text(3).contains("\nestoppel_journal_entries_total 3\n"));
        let page = text(5);
        for line in [
            "estoppel_journal_entries_total 5",
            "estoppel_checkpoint_entries_total 5",
            "estoppel_journal_batches_total 2",
            "estoppel_journal_sync_seconds_total 0.000007",
        ] {
            let name = line.split(' ').next().unwrap();
            assert!(page.contains(&format!("# TYPE {name} counter\n{line}\n")), "{line}: {page}");
        }
    }
}
