//! What a gateway says on its admin listener.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::model::{Call, Fault, Hold, Lately, Recent, Traffic, Would};
use crate::admin;

/// How far back what came lately reaches.
const WINDOW: Duration = Duration::from_secs(60);
/// Most calls of which is asked at a time what they are.
const CALLS_MAX: usize = 32;
/// Most calls that wait, of which one gateway is believed.
const HOLDS_MAX: usize = 1_000;

/// Most calls that were not plainly allowed, of which one gateway is asked and believed.
const RECENT_MAX: usize = 50;

/// Asks one gateway again and again.
pub struct Asked {
    address: String,
    /// What was counted, as long as it is within the window, and one before.
    before: VecDeque<(Instant, Counts)>,
    /// What calls are that wait: a list does not say it, and it does not change.
    calls: BTreeMap<String, Hold>,
}

#[derive(Clone, Default)]
struct Counts {
    verdicts: BTreeMap<String, u64>,
    outcomes: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
}

impl Asked {
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), before: VecDeque::new(), calls: BTreeMap::new() }
    }

    pub fn ask(&mut self) -> Result<Traffic, Fault> {
        let (status, page) = admin::send(&self.address, "GET", "/metrics")?;
        let metrics = Metrics::read(&String::from_utf8_lossy(&page));
        if status != 200 || metrics.0.is_empty() {
            let message = format!("what answers at {} is no gateway", self.address);
            return Err(Fault { code: "ADMIN_UNREACHABLE".into(), message, exit: 7 });
        }
        let now = Counts {
            verdicts: metrics.by("estoppel_calls_total", "verdict"),
            outcomes: metrics.by("estoppel_outcomes_total", "code"),
            refused: metrics.by("estoppel_refused_total", "code"),
        };
        let holds = admin::ask(&self.address, "GET", "/holds")?;
        // Where the store of switches is down, readiness says so.
        let switches = admin::ask(&self.address, "GET", "/switches").unwrap_or_default();
        // Gateways of before do not tell them.
        let recent = admin::ask(&self.address, "GET", &format!("/calls/recent?limit={RECENT_MAX}"));
        let (ready, said) = admin::send(&self.address, "GET", "/readyz")?;
        let said: Value = serde_json::from_slice(&said).unwrap_or_default();
        let code = said["code"].as_str().unwrap_or("not ready").to_owned();
        Ok(Traffic {
            ready: if ready == 200 { "ok".into() } else { code },
            version: metrics.by("estoppel_build_info", "version").into_keys().next().unwrap_or_default(),
            in_flight: metrics.sum("estoppel_calls_in_flight"),
            runs_open: metrics.sum("estoppel_runs_open"),
            lately: self.lately(&now),
            verdicts: now.verdicts,
            outcomes: now.outcomes,
            refused: now.refused,
            holds: self.known(waiting(&holds)),
            switches: stopped(&switches),
            recent: recent.ok().as_ref().map(latest),
        })
    }

    /// The same, with what each call is.
    fn known(&mut self, mut holds: Vec<Hold>) -> Vec<Hold> {
        let mut asked = 0;
        self.calls.retain(|id, _| holds.iter().any(|hold| hold.id == *id));
        for found in &mut holds {
            if !self.calls.contains_key(&found.id) && asked < CALLS_MAX {
                asked += 1;
                let path = format!("/holds/{}", admin::encoded(&found.id));
                if let Ok(shown) = admin::ask(&self.address, "GET", &path) {
                    self.calls.insert(found.id.clone(), hold(&shown));
                }
            }
            if let Some(Hold { target, content_type, credential, body, .. }) =
                self.calls.get(&found.id).cloned()
            {
                *found = Hold { target, content_type, credential, body, ..std::mem::take(found) };
            }
        }
        holds
    }

    fn lately(&mut self, now: &Counts) -> Option<Lately> {
        let at = Instant::now();
        while self.before.get(1).is_some_and(|(then, _)| at.duration_since(*then) >= WINDOW) {
            self.before.pop_front();
        }
        self.before.push_back((at, now.clone()));
        let (then, before) = self.before.front().filter(|(then, _)| *then < at)?;
        Some(Lately {
            window_ms: u64::try_from(at.duration_since(*then).as_millis()).unwrap_or(u64::MAX),
            verdicts: risen(&before.verdicts, &now.verdicts),
            outcomes: risen(&before.outcomes, &now.outcomes),
            refused: risen(&before.refused, &now.refused),
        })
    }
}

/// By how much each rose. A gateway that started again counts from 0.
fn risen(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let rise = |(name, count): (&String, &u64)| {
        let before = before.get(name).copied().unwrap_or_default();
        let rise = if *count >= before { count - before } else { *count };
        (rise > 0).then(|| (name.clone(), rise))
    };
    now.iter().filter_map(rise).collect()
}

fn waiting(answer: &Value) -> Vec<Hold> {
    let rows = answer["holds"].as_array().into_iter().flatten();
    let is_open = |hold: &&Value| matches!(hold["state"].as_str(), Some("opening" | "open" | "approved"));
    let mut holds: Vec<Hold> = rows.filter(is_open).take(HOLDS_MAX).map(hold).collect();
    holds.sort_by(|a, b| (&a.expires, &a.id).cmp(&(&b.expires, &b.id)));
    holds
}

fn latest(answer: &Value) -> Recent {
    let counted = answer["counted"].as_object().into_iter().flatten();
    let counted = counted.filter_map(|(verdict, count)| Some((verdict.clone(), count.as_u64()?)));
    let rows = answer["calls"].as_array().into_iter().flatten();
    Recent {
        since: some(answer, "since").unwrap_or_default(),
        counted: counted.collect(),
        calls: rows.take(RECENT_MAX).map(call).collect(),
    }
}

fn call(row: &Value) -> Call {
    let some = |name: &str| some(row, name);
    let text = |name: &str| some(name).unwrap_or_default();
    let would = |would: &Value| Would {
        policy: self::some(would, "policy").unwrap_or_default(),
        verdict: self::some(would, "verdict").unwrap_or_default(),
        reason: self::some(would, "reason"),
        rule: self::some(would, "rule"),
    };
    Call {
        call: text("call"),
        run: text("run"),
        ended: text("ended"),
        route: some("route"),
        method: text("method"),
        operation: text("operation"),
        tool: some("tool"),
        verdict: text("verdict"),
        code: text("code"),
        reason: some("reason"),
        rule: some("rule"),
        identity: some("identity"),
        tenant: some("tenant"),
        hold: some("hold"),
        would: row["would"].is_object().then(|| would(&row["would"])),
        observed: some("observed"),
    }
}

fn some(row: &Value, name: &str) -> Option<String> {
    row[name].as_str().map(ToOwned::to_owned)
}

fn hold(row: &Value) -> Hold {
    let some = |name: &str| some(row, name);
    let text = |name: &str| some(name).unwrap_or_default();
    let number = |name: &str| row[name].as_u64().unwrap_or_default();
    let approver = |approver: &Value| {
        let said = match approver["decision"].as_str() {
            Some("approve") => " (approved)",
            Some("deny") => " (denied)",
            _ => "",
        };
        format!("{}{said}", approver["name"].as_str().unwrap_or("-"))
    };
    Hold {
        id: text("id"),
        run: text("run"),
        state: text("state"),
        method: text("method"),
        target: some("target"),
        content_type: some("content_type"),
        credential: row["credential"].as_bool(),
        body: some("body"),
        route: text("route"),
        operation: some("operation"),
        tool: some("tool"),
        requester: some("requester"),
        rule: text("rule"),
        payload: text("payload"),
        bytes: number("bytes"),
        approved: number("approved"),
        needs: number("needs"),
        expires: text("expires"),
        approvers: row["approvers"].as_array().into_iter().flatten().map(approver).collect(),
    }
}

fn stopped(answer: &Value) -> Vec<String> {
    let rows = answer["switches"].as_array().into_iter().flatten();
    let say = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or("-");
        format!("{} by {}: {}", text("target"), text("by"), text("reason"))
    };
    rows.map(say).collect()
}

/// A page in the text format of Prometheus 0.0.4.
struct Metrics(Vec<(String, BTreeMap<String, String>, f64)>);

impl Metrics {
    fn read(page: &str) -> Self {
        Self(page.lines().filter(|line| line.starts_with("estoppel_")).filter_map(sample).collect())
    }

    /// Sums of a family by one of its labels.
    fn by(&self, family: &str, label: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (name, labels, value) in &self.0 {
            if let Some(of) = labels.get(label).filter(|_| name == family) {
                *sums.entry(of.clone()).or_default() += whole(*value);
            }
        }
        sums
    }

    fn sum(&self, family: &str) -> u64 {
        self.0.iter().filter(|(name, ..)| name == family).map(|(.., value)| whole(*value)).sum()
    }
}

/// Counts are whole, and no gateway counts to 2^53.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is saturated")]
fn whole(value: f64) -> u64 {
    value.clamp(0.0, 9e15) as u64
}

fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.trim_start_matches(',').split_once("=\"")?;
            let (text, after) = quoted(value)?;
            labels.insert(label.to_owned(), text);
            rest = after;
        }
        rest = rest.strip_prefix('}')?;
    }
    Some((name.to_owned(), labels, rest.split_whitespace().next()?.parse().ok()?))
}

/// Up to the quotation mark at its end, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                other => out.push(other),
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn samples_are_read_whatever_their_labels_say() {
        let page = "# HELP estoppel_calls_total x\nestoppel_calls_total{route=\"a\\\"} 7\\n,b\",verdict=\"allow\"} 3\n\
                    estoppel_calls_total{route=\"b\",verdict=\"allow\"} 4\nestoppel_calls_total{route=\"b\",verdict=\"block\"} 1\n\
                    estoppel_calls_in_flight 2\nestoppel_calls_total{route=\"b\nestoppel_broken{ 1\nother 9\n";
        let metrics = Metrics::read(page);
        let by = metrics.by("estoppel_calls_total", "verdict");
        assert_eq!(by, BTreeMap::from([("allow".into(), 7), ("block".into(), 1)]));
        assert_eq!(metrics.sum("estoppel_calls_in_flight"), 2);
    }

    #[test]
    fn what_rose_is_told_and_a_gateway_that_began_again_counts_from_nothing() {
        let of = |count: u64| BTreeMap::from([("block".to_owned(), count)]);
        assert_eq!(risen(&of(3), &of(5)), of(2));
        assert_eq!(risen(&of(5), &of(2)), of(2));
        assert_eq!(risen(&of(5), &of(5)), BTreeMap::new());
    }

    #[test]
    fn the_latest_calls_are_read_and_no_more_of_them_than_were_asked_for() {
        let row = |n: usize| json!({ "call": n.to_string(), "verdict": "block", "would": null, "tool": 7 });
        let rows: Vec<Value> = (0..60).map(row).collect();
        let said = json!({ "since": "then", "counted": { "block": 60, "hold": "x" }, "calls": rows });
        let recent = latest(&said);
        assert_eq!((recent.calls.len(), recent.calls[49].call.as_str()), (RECENT_MAX, "49"));
        assert_eq!(recent.counted, BTreeMap::from([("block".into(), 60)]));
        assert_eq!((&recent.calls[0].would, &recent.calls[0].tool), (&None, &None));
        assert_eq!(latest(&Value::Null), Recent::default());
    }

    #[test]
    fn calls_that_still_wait_are_shown_in_the_order_in_which_they_expire() {
        let row = |id: &str, state: &str, expires: &str| json!({ "id": id, "state": state, "expires": expires, "needs": 2 });
        let holds = waiting(
            &json!({ "holds": [row("b", "open", "2"), row("a", "denied", "0"), row("c", "approved", "1")] }),
        );
        let ids: Vec<&str> = holds.iter().map(|hold| hold.id.as_str()).collect();
        assert_eq!((ids, holds[0].needs), (vec!["c", "b"], 2));
        assert_eq!(waiting(&Value::Null), []);
    }
}
