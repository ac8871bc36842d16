//! The latest calls that were not plainly allowed, for whoever looks on through the operators' listener.
//!
//! It is a view and no evidence: it is in memory, begins with the process, and forgets the oldest. A call enters it when its
//! record is handed to the journal, so that it may be seen a moment before its receipt is on disk. Calls that are refused
//! without a receipt are not in it.
//!
//! Plainly allowed calls pay for looking at fields of their record that they have anyway. The others make one row, and hold the
//! lock for as long as it takes to put that in its place.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use estoppel_evidence::entry::{CallRecord, ShadowRecord, VerdictAction};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, HoldId, Reason, RunId, Sha256, text};
use serde::Serialize;
use serde_json::{Value, json};

use crate::exchange::observed_in;

/// Most calls of one verdict that are kept: a flood of one does not drive out the others. Texts have at most 128 characters, so
/// that all rows together stay below 8 MiB.
const KEPT_MAX: usize = 256;
/// Calls that are listed where nobody says how many.
const LISTED: usize = 100;
/// Most calls that are listed: all that are kept.
const LISTED_MAX: usize = KEPT_MAX * VERDICTS.len();
const VERDICTS: [VerdictAction; 4] =
    [VerdictAction::Allow, VerdictAction::Repair, VerdictAction::Hold, VerdictAction::Block];

/// Those of this process.
pub(crate) struct Recent {
    since: UnixMicros,
    /// Locked to put one row, or to take over those that are there.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Of all verdicts.
    count: u64,
    rings: [Ring; VERDICTS.len()],
}

/// The calls of one verdict.
#[derive(Default)]
struct Ring {
    /// How many there were.
    count: u64,
    /// The newest first, each with its place among those of all verdicts.
    rows: VecDeque<(u64, Arc<Row>)>,
}

/// A call, by the names that its receipt has.
#[derive(Debug, Serialize)]
struct Row {
    call: CallId,
    run: RunId,
    ended: UnixMicros,
    route: Option<Arc<str>>,
    method: Box<str>,
    operation: Box<str>,
    /// The first that was called.
    tool: Option<Box<str>>,
    verdict: VerdictAction,
    /// How the call ended.
    code: Reason,
    /// Of the verdict; it may be a policy's own.
    reason: Option<Arc<str>>,
    rule: Option<Arc<str>>,
    identity: Option<Arc<str>>,
    tenant: Option<Arc<str>>,
    /// Where people have decided about it.
    hold: Option<HoldId>,
    /// What a policy that changes nothing would have done instead.
    would: Option<Would>,
    /// What judging found and did not enforce.
    observed: Option<Reason>,
}

#[derive(Debug, Serialize)]
struct Would {
    policy: Sha256,
    verdict: VerdictAction,
    reason: Option<Arc<str>>,
    rule: Option<Arc<str>>,
}

/// Which calls are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Which {
    verdict: Option<VerdictAction>,
    limit: usize,
}

impl Which {
    /// Reads `verdict=…&limit=…`, of which both may be missing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(query: Option<&str>) -> Result<Self, &'static str> {
        let (mut verdict, mut limit) = (None, None);
        for pair in query.filter(|query| !query.is_empty()).into_iter().flat_map(|query| query.split('&')) {
            match pair.split_once('=') {
                Some(("verdict", word)) if verdict.is_none() => {
                    let named = VERDICTS.into_iter().find(|known| known.as_str() == word);
                    verdict = Some(named.ok_or("`verdict` is `allow`, `repair`, `hold` or `block`")?);
                }
                Some(("limit", count)) if limit.is_none() => {
                    let count = count.parse().ok().filter(|count| (1..=LISTED_MAX).contains(count));
                    limit = Some(count.ok_or("`limit` is 1 to 1024")?);
                }
                _ => return Err("`verdict` and `limit` can be asked for, each once"),
            }
        }
        Ok(Self { verdict, limit: limit.unwrap_or(LISTED) })
    }
}

impl Recent {
    pub(crate) fn new(since_us: u64) -> Self {
        Self { since: UnixMicros(since_us), kept: Mutex::default() }
    }

    /// Takes a call that has ended, unless it was plainly allowed.
    pub(crate) fn take(&self, run: RunId, record: &CallRecord, now_us: impl FnOnce() -> u64) {
        let Some(row) = row(run, record, now_us) else { return };
        let oldest = self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(row);
        // What leaves is freed after the lock.
        drop(oldest);
    }

    /// The newest first.
    pub(crate) fn list(&self, which: Which) -> Value {
        let mut rows = Vec::new();
        let counts = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            for verdict in VERDICTS {
                if which.verdict.is_none_or(|wanted| wanted == verdict) {
                    rows.extend(kept.rings[place(verdict)].rows.iter().take(which.limit).cloned());
                }
            }
            VERDICTS.map(|verdict| kept.rings[place(verdict)].count)
        };
        rows.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        let rows: Vec<&Row> = rows.iter().take(which.limit).map(|(_, row)| &**row).collect();
        let counts: serde_json::Map<String, Value> = VERDICTS
            .into_iter()
            .zip(counts)
            .map(|(verdict, n)| (verdict.as_str().into(), n.into()))
            .collect();
        json!({ "since": self.since, "kept_max": KEPT_MAX, "counted": counts, "calls": rows })
    }
}

impl Kept {
    /// Gives the row that has to leave for this one.
    fn put(&mut self, row: Arc<Row>) -> Option<(u64, Arc<Row>)> {
        self.count += 1;
        let ring = &mut self.rings[place(row.verdict)];
        ring.count += 1;
        ring.rows.push_front((self.count, row));
        if ring.rows.len() > KEPT_MAX { ring.rows.pop_back() } else { None }
    }
}

/// The mildest first.
fn place(verdict: VerdictAction) -> usize {
    match verdict {
        VerdictAction::Allow => 0,
        VerdictAction::Repair => 1,
        VerdictAction::Hold => 2,
        VerdictAction::Block => 3,
    }
}

/// None of a call that was plainly allowed: nobody was asked, and no policy would have done otherwise.
fn row(run: RunId, record: &CallRecord, now_us: impl FnOnce() -> u64) -> Option<Arc<Row>> {
    let verdict = record.verdict.action;
    let harder = |said: &&ShadowRecord| said.verdict.is_some_and(|other| place(other) > place(verdict));
    let would = record.shadow.iter().filter(harder).max_by_key(|said| said.verdict.map(place));
    let observed = record.downgrades.iter().find(|downgrade| observed_in(downgrade).is_some());
    let is_plain = verdict == VerdictAction::Allow && record.held.is_none();
    if is_plain && would.is_none() && observed.is_none() {
        return None;
    }
    Some(Arc::new(Row {
        call: record.call,
        run,
        ended: UnixMicros(now_us()),
        route: record.request.route.as_ref().map(bounded),
        method: text::name(&record.request.method).into(),
        operation: text::name(&record.operation).into(),
        tool: record.facts.tools_called.first().map(|tool| text::name(tool).into()),
        verdict,
        code: record.outcome.code,
        reason: record.verdict.reason.as_ref().map(bounded),
        rule: record.policy.rule.as_ref().map(bounded),
        identity: record.identity.subject.as_ref().map(bounded),
        tenant: record.tenant.as_ref().map(bounded),
        hold: record.held.as_ref().map(|held| held.hold.id),
        would: would.and_then(Would::of),
        observed: observed.map(|downgrade| downgrade.code),
    }))
}

impl Would {
    fn of(said: &ShadowRecord) -> Option<Self> {
        let (reason, rule) = (said.reason.as_ref().map(bounded), said.rule.as_ref().map(bounded));
        Some(Self { policy: said.policy, verdict: said.verdict?, reason, rule })
    }
}

/// The same text, unless it is too long to be kept.
fn bounded(text: &Arc<str>) -> Arc<str> {
    let name = text::name(text);
    if *name == **text { text.clone() } else { Arc::from(&*name) }
}

#[cfg(test)]
mod tests {
    use estoppel_evidence::entry::{Downgrade, Held, HoldOutcome, HoldRecord, ShadowState};

    use super::*;
    use crate::serve::blank;

    fn run() -> RunId {
        RunId::new(1, [7; 10])
    }

    fn call(number: u64, verdict: VerdictAction) -> CallRecord {
        let mut record = blank();
        record.call = CallId::new(number, [0; 10]);
        record.verdict.action = verdict;
        record
    }

    fn listed(recent: &Recent, query: &str) -> (Value, Vec<String>) {
        let list = recent.list(Which::read(Some(query)).unwrap());
        let rows = list["calls"].as_array().unwrap().iter();
        let calls = rows.map(|row| row["call"].as_str().unwrap().to_owned()).collect();
        (list, calls)
    }

    fn id(number: u64) -> String {
        CallId::new(number, [0; 10]).to_string()
    }

    #[test]
    fn a_flood_of_one_verdict_keeps_its_bound_and_the_others_stay() {
        let recent = Recent::new(5);
        recent.take(run(), &call(1, VerdictAction::Repair), || 0);
        for number in 2..2_000 {
            recent.take(run(), &call(number, VerdictAction::Block), || number);
        }
        recent.take(run(), &call(2_000, VerdictAction::Hold), || 2_000);
        let (list, calls) = listed(&recent, "limit=1024");
        assert_eq!(calls.len(), KEPT_MAX + 2);
        let newest: Vec<String> = (1_744..=2_000).rev().map(id).collect();
        assert_eq!((&calls[..257], &calls[257]), (&newest[..], &id(1)));
        assert_eq!(list["counted"], json!({ "allow": 0, "repair": 1, "hold": 1, "block": 1_998 }));
        assert_eq!((&list["since"], &list["kept_max"]), (&json!("1970-01-01T00:00:00.000005Z"), &json!(256)));
        assert_eq!(listed(&recent, "verdict=block&limit=2").1, [id(1_999), id(1_998)]);
        assert_eq!(listed(&recent, "limit=2").1, [id(2_000), id(1_999)]);
        assert_eq!(listed(&recent, "").1.len(), LISTED);
    }

    #[test]
    fn what_is_plainly_allowed_costs_no_row_and_not_the_time_of_day() {
        let recent = Recent::new(0);
        let said = |verdict: Option<VerdictAction>| ShadowRecord {
            policy: Sha256([1; 32]),
            reason: None,
            rule: Some("no-shell".into()),
            state: if verdict.is_none() { ShadowState::Skipped } else { ShadowState::Judged },
            verdict,
        };
        let mut plain = call(1, VerdictAction::Allow);
        plain.shadow = vec![said(Some(VerdictAction::Allow)), said(None)];
        plain.downgrades = vec![Downgrade { code: Reason::NotEvaluated, detail: Some("usage".into()) }];
        recent.take(run(), &plain, || panic!("nobody asks"));

        let mut shadowed = plain.clone();
        shadowed.shadow.extend([said(Some(VerdictAction::Hold)), said(Some(VerdictAction::Block))]);
        let mut seen = call(2, VerdictAction::Allow);
        seen.downgrades =
            vec![Downgrade { code: Reason::ContractViolated, detail: Some("observed in the answer".into()) }];
        let mut approved = call(3, VerdictAction::Allow);
        let hold = HoldRecord {
            expires: UnixMicros(9),
            id: HoldId::new(4, [0; 10]),
            outcome: HoldOutcome::Approved,
            us: 1,
        };
        approved.held = Some(Box::new(Held { hold, approval: None }));
        for record in [&shadowed, &seen, &approved] {
            recent.take(run(), record, || 1);
        }
        let calls = listed(&recent, "verdict=allow").0["calls"].clone();
        assert_eq!(
            (calls[2]["would"]["verdict"].as_str(), calls[2]["would"]["rule"].as_str()),
            (Some("block"), Some("no-shell"))
        );
        assert_eq!(calls[1]["observed"], "CONTRACT_VIOLATED");
        assert_eq!(calls[0]["hold"], json!(hold.id));
        assert_eq!(calls.as_array().unwrap().len(), 3);
    }

    #[test]
    fn no_text_of_a_call_is_kept_at_its_own_length() {
        let recent = Recent::new(0);
        let long: Arc<str> = "é\u{1b}".repeat(5_000).into();
        let mut record = call(1, VerdictAction::Block);
        record.request.route = Some(long.clone());
        record.request.method = long.to_string().into();
        record.operation = long.to_string().into();
        record.facts.tools_called = vec![(*long).into(); 3];
        (record.verdict.reason, record.policy.rule) = (Some(long.clone()), Some(long.clone()));
        (record.identity.subject, record.tenant) = (Some(long.clone()), Some(long.clone()));
        recent.take(run(), &record, || 1);
        let row = &listed(&recent, "").0["calls"][0];
        for (name, value) in row.as_object().unwrap() {
            let text = value.as_str().unwrap_or_default();
            assert!(text.chars().count() <= 128 && !text.contains('\u{1b}'), "{name}: {text}");
        }
        assert!(row.to_string().len() < 4_096, "{row}");
    }

    #[test]
    fn what_is_asked_for_is_read_or_refused() {
        let some = |verdict, limit| Ok(Which { verdict, limit });
        assert_eq!(Which::read(None), some(None, LISTED));
        assert_eq!(Which::read(Some("limit=1024&verdict=hold")), some(Some(VerdictAction::Hold), 1_024));
        for query in [
            "limit=0",
            "limit=1025",
            "limit=-1",
            "limit=99999999999999999999999",
            "limit",
            "verdict=",
            "verdict=Block",
            "verdict=block&verdict=hold",
            "limit=1&limit=1",
            "verdict=block&",
            "from=1",
        ] {
            assert!(Which::read(Some(query)).is_err(), "{query}");
        }
    }
}
