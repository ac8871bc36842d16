//! Alerts: a share of the calls in a window that passed its bound. An alert is a finding of the feeds, told once when the bound
//! is passed, and again only after the share was good or the window empty in between.
//!
//! It is made of receipts alone, by the times in them: every feed tells the same alerts, under the same keys, also after a
//! restart, because what a window has counted is stored with the feed's cursor.

use std::collections::{BTreeSet, VecDeque};

use estoppel_journal::Entry;
use serde::{Deserialize, Serialize};

use crate::document::{Document, Format, told};
use crate::finding::{CRITICAL, Finding, HIGH, MEDIUM};
use crate::read::Line;
use crate::settings::{FeedSettings, SettingsError, is_name};

/// Most alerts of one daemon.
pub const ALERTS_MAX: usize = 16;
/// A window moves on in so many steps.
const STEPS: u64 = 60;

/// One alert. Whoever edits it decides what is worth one, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertSettings {
    /// Name in the finding.
    pub name: String,
    /// Which calls of those that count.
    pub share: Share,
    /// The alert is told when the share is less than this, 0 to 1. Exactly one of `below` and `above`.
    pub below: Option<f64>,
    /// The alert is told when the share is more than this, 0 to 1.
    pub above: Option<f64>,
    /// Length of the window by the times of receipts, 10 to 86,400 seconds. Default 300.
    #[serde(default = "window_s")]
    pub window_s: u64,
    /// With fewer calls in the window nothing is decided. Default 20.
    #[serde(default = "calls_min")]
    pub calls_min: u64,
    /// Only calls of this route. Default: all.
    pub route: Option<String>,
    /// `low`, `medium`, `high` or `critical`. Default `high`.
    #[serde(default)]
    pub severity: Severity,
}

/// What is counted, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Of all calls those that were let through, repaired or not, and came to their end.
    Passed,
    /// Of all calls those that were blocked.
    Blocked,
    /// Of the calls that were held against a contract those that did not keep it, or could not be judged.
    JudgeFailed,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low,
    Medium,
    #[default]
    High,
    Critical,
}

/// Outcomes of calls that failed before their judge.
const JUDGE_FAILURES: [&str; 8] = [
    "CONTRACT_MISSING",
    "CONTRACT_UNSUPPORTED",
    "CONTRACT_VIOLATED",
    "REQUEST_VIOLATED",
    "TOOL_CHANGED",
    "VALUE_AMBIGUOUS",
    "VALUE_MALFORMED",
    "VALUE_TRUNCATED",
];

impl Share {
    /// Whether a call is of the share; `None` when it does not count at all.
    fn has(self, line: &Line) -> Option<bool> {
        match self {
            Self::Passed => {
                Some(line.went_well() && matches!(line.verdict.action.as_str(), "allow" | "repair"))
            }
            Self::Blocked => Some(line.verdict.action == "block" && !line.is_shadow()),
            Self::JudgeFailed => {
                let failed = JUDGE_FAILURES.contains(&line.outcome.code.as_str());
                (failed || line.contract.is_some()).then_some(failed)
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Passed => "calls passed",
            Self::Blocked => "calls were blocked",
            Self::JudgeFailed => "judged calls failed",
        }
    }
}

impl Severity {
    fn number(self) -> u8 {
        match self {
            Self::Low => 2,
            Self::Medium => MEDIUM,
            Self::High => HIGH,
            Self::Critical => CRITICAL,
        }
    }
}

/// What one alert has counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Window {
    /// Counts of other settings are of no use.
    alert: AlertSettings,
    raised: bool,
    /// Step, calls, and those of the share; in order.
    steps: VecDeque<(u64, u64, u64)>,
}

impl Window {
    fn new(alert: &AlertSettings) -> Self {
        Self { alert: alert.clone(), raised: false, steps: VecDeque::new() }
    }

    /// Counts a call. Calls of the share and all calls, if the alert is to be told now.
    fn count(&mut self, at_us: u64, is_hit: bool) -> Option<(u64, u64)> {
        let width = (self.alert.window_s * 1_000_000 / STEPS).max(1); // a window is bounded
        let newest = self.steps.back().map_or(0, |(step, ..)| *step);
        // A clock that was set back does not move the window back.
        let step = (at_us / width).max(newest);
        while self.steps.front().is_some_and(|(first, ..)| first.saturating_add(STEPS) <= step) {
            self.steps.pop_front();
        }
        self.raised &= !self.steps.is_empty();
        if self.steps.back().is_none_or(|(last, ..)| *last != step) {
            self.steps.push_back((step, 0, 0));
        }
        if let Some((_, calls, hits)) = self.steps.back_mut() {
            *calls = calls.saturating_add(1);
            *hits = hits.saturating_add(u64::from(is_hit));
        }
        // Stored counts are a file's, so nothing is believed of them.
        let (mut calls, mut hits) = (0u64, 0u64);
        for (_, all, some) in &self.steps {
            (calls, hits) = (calls.saturating_add(*all), hits.saturating_add(*some));
        }
        if calls < self.alert.calls_min {
            return None;
        }
        let share = hits as f64 / calls as f64; // exact up to 2^53
        let is_red = self.alert.below.is_some_and(|bound| share < bound)
            || self.alert.above.is_some_and(|bound| share > bound);
        let is_new = is_red && !self.raised;
        self.raised = is_red;
        is_new.then_some((hits, calls))
    }

    /// What was counted is counted again.
    pub fn clear(&mut self) {
        *self = Self::new(&self.alert);
    }

    fn finding(&self, entry: &Entry, hits: u64, calls: u64) -> Finding {
        let AlertSettings { name, share, below, above, window_s, route, severity, .. } = &self.alert;
        let of = route.as_ref().map(|route| format!(" of route {route}")).unwrap_or_default();
        let bound = match (below, above) {
            (Some(below), _) => format!("below {below}"),
            (_, above) => format!("above {}", above.unwrap_or_default()),
        };
        let words = share.words();
        Finding {
            uid: format!("{}#alert-{name}", entry.leaf),
            class: "alert",
            title: "A share of calls passed its bound",
            detail: Some(format!("{name}: {hits} of {calls} {words}{of} within {window_s} s, {bound}")),
            severity: severity.number(),
            detector: Some((name.clone(), None)),
        }
    }
}

/// The windows of all alerts, for the settings that are in force; of `stored` those whose settings are the same.
pub(crate) fn windows(alerts: &[AlertSettings], stored: &[Window]) -> Vec<Window> {
    let of = |alert: &AlertSettings| {
        let kept = stored.iter().find(|window| window.alert == *alert).cloned();
        kept.unwrap_or_else(|| Window::new(alert))
    };
    alerts.iter().map(of).collect()
}

/// Counts an entry, and gives the alerts that it raises.
pub(crate) fn raised(windows: &mut [Window], format: Format, entry: &Entry) -> Vec<Document> {
    if windows.is_empty() || format.tells_calls_alone() {
        return Vec::new();
    }
    let Ok(line) = serde_json::from_slice::<Line>(&entry.line) else { return Vec::new() };
    if line.kind != "call" {
        return Vec::new();
    }
    // It is of many calls, and says nothing of the one that was the last of them.
    let about = Line { kind: "feed".into(), iss: line.iss.clone(), ts: line.ts.clone(), ..Line::default() };
    let mut documents = Vec::new();
    for window in windows {
        let is_meant =
            window.alert.route.as_ref().is_none_or(|route| line.request.route.as_ref() == Some(route));
        let Some(is_hit) = window.alert.share.has(&line).filter(|_| is_meant) else { continue };
        if let Some((hits, calls)) = window.count(line.ts_us(), is_hit) {
            documents.push(told(format, entry, &about, &window.finding(entry, hits, calls)));
        }
    }
    documents
}

fn window_s() -> u64 {
    300
}

fn calls_min() -> u64 {
    20
}

/// Every error, in order. Whether routes exist is for others to know.
pub fn check_alerts(alerts: &[AlertSettings], feeds: &[FeedSettings]) -> Vec<SettingsError> {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    let mut whole = |problem: String| errors.push(SettingsError { key: "alerts".into(), problem });
    if alerts.len() > ALERTS_MAX {
        whole(format!("at most {ALERTS_MAX} are allowed"));
    }
    if !alerts.is_empty() && feeds.iter().all(|feed| feed.format.tells_calls_alone()) {
        whole("no feed tells them; `ocsf`, `ecs`, `notice` and `otlp_logs` do".into());
    }
    for (i, alert) in alerts.iter().enumerate() {
        let mut wrong = |key: &str, problem: String| {
            errors.push(SettingsError { key: format!("alerts[{i}]{key}"), problem });
        };
        if !is_name(&alert.name) {
            wrong(".name", "must be 1 to 64 characters of a-z, 0-9, `-` and `_`".into());
        }
        if !names.insert(&alert.name) {
            wrong(".name", format!("`{}` is the name of an earlier alert", alert.name));
        }
        if alert.below.is_some() == alert.above.is_some() {
            wrong("", "must have exactly one of `below`, `above`".into());
        }
        for (key, bound) in [(".below", alert.below), (".above", alert.above)] {
            if bound.is_some_and(|bound| !(0.0..=1.0).contains(&bound)) {
                wrong(key, "must be between 0 and 1".into());
            }
        }
        for (key, value, min, max) in
            [(".window_s", alert.window_s, 10, 86_400), (".calls_min", alert.calls_min, 1, 1_000_000)]
        {
            if !(min..=max).contains(&value) {
                wrong(key, format!("must be between {min} and {max}"));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use estoppel_evidence::Reason;
    use estoppel_evidence::hash::Leaf;
    use estoppel_journal::Position;
    use serde_json::{Value, json};

    use super::*;

    const MINUTE: u64 = 60_000_000;

    fn alert(more: Value) -> AlertSettings {
        let mut settings = json!({ "name": "a", "share": "passed", "below": 0.8, "calls_min": 3 });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(settings).unwrap()
    }

    /// Which of the calls raise the alert, each given as minute and whether it is of the share.
    fn raises(settings: &AlertSettings, calls: &[(u64, bool)]) -> Vec<usize> {
        let mut window = Window::new(settings);
        let count = |(at, (minute, hit)): (usize, &(u64, bool))| {
            window.count((1_000 + minute) * MINUTE, *hit).is_some().then_some(at)
        };
        calls.iter().enumerate().filter_map(count).collect()
    }

    #[test]
    fn two_of_three_red_are_one_alert_and_three_green_are_none() {
        let settings = alert(json!({}));
        for (calls, at) in [
            (&[true, true, true][..], &[][..]),
            (&[true, false, false], &[2]),
            (&[false, false, true], &[2]),
            (&[false, false], &[]),
            (&[false, false, false, false, false], &[2]),
        ] {
            let calls: Vec<(u64, bool)> = calls.iter().map(|hit| (0, *hit)).collect();
            assert_eq!(raises(&settings, &calls), at, "{calls:?}");
        }
    }

    #[test]
    fn an_alert_comes_again_after_it_was_green_or_the_window_was_empty() {
        let settings = alert(json!({ "below": 0.5, "calls_min": 2 }));
        let red_green_red = [(0, false), (0, false), (1, true), (1, true), (2, false), (2, false)];
        assert_eq!(raises(&settings, &red_green_red), [1, 4]);
        let red_silence_red = [(0, false), (0, false), (30, false), (30, false)];
        assert_eq!(raises(&settings, &red_silence_red), [1, 3]);
        let red_all_along = [(0, false), (0, false), (3, false), (6, false), (9, false), (12, false)];
        assert_eq!(raises(&settings, &red_all_along), [1], "it was never over");
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let settings = alert(json!({ "below": 0.5, "calls_min": 2 }));
        assert_eq!(raises(&settings, &[(0, true), (0, true), (0, true), (9, false), (9, false)]), [4]);
        assert!(raises(&settings, &[(0, false), (9, false)]).is_empty());
        assert_eq!(raises(&settings, &[(9, false), (0, false)]), [1], "a clock that was set back");
        let above = alert(json!({ "below": null, "above": 0.5, "share": "blocked" }));
        assert_eq!(raises(&above, &[(0, true), (0, false), (0, false), (0, true), (0, true)]), [4]);
    }

    #[test]
    fn a_window_stays_small_however_many_calls_there_are() {
        let mut window = Window::new(&alert(json!({ "window_s": 10 })));
        for at in 0..100_000 {
            window.count(at * 20_000, true);
        }
        assert!(window.steps.len() <= 60);
        let settings: Vec<AlertSettings> = (0..ALERTS_MAX)
            .map(|n| AlertSettings { name: format!("{n:064}"), ..window.alert.clone() })
            .collect();
        let mut full = windows(&settings, &[]);
        for window in &mut full {
            window.steps = (0..60).map(|n| (u64::MAX - n, u64::MAX, u64::MAX)).collect();
        }
        assert!((serde_json::to_vec(&full).unwrap().len() as u64) < crate::cursor::BYTES_MAX / 2);
    }

    #[test]
    fn counts_of_other_settings_are_not_taken_over() {
        let one = alert(json!({}));
        let mut kept = windows(std::slice::from_ref(&one), &[]);
        kept[0].count(MINUTE, false);
        assert_eq!(windows(std::slice::from_ref(&one), &kept), kept);
        let changed = AlertSettings { below: Some(0.9), ..one };
        assert_eq!(windows(std::slice::from_ref(&changed), &kept), [Window::new(&changed)]);
    }

    #[test]
    fn each_share_counts_its_own_calls() {
        let line = |value: Value| serde_json::from_value::<Line>(value).unwrap();
        let call = |action: &str, code: &str, contract: Value| {
            let outcome = json!({ "client": "handed_over", "code": code, "complete": code == "OK" });
            line(
                json!({ "kind": "call", "verdict": { "action": action, "mode": "enforce" }, "outcome": outcome, "contract": contract }),
            )
        };
        let cases = [
            (call("allow", "OK", Value::Null), [Some(true), Some(false), None]),
            (call("repair", "OK", json!({})), [Some(true), Some(false), Some(false)]),
            (call("allow", "UPSTREAM_RESET", Value::Null), [Some(false), Some(false), None]),
            (call("block", "TOOL_DENIED", Value::Null), [Some(false), Some(true), None]),
            (call("block", "CONTRACT_VIOLATED", json!({})), [Some(false), Some(true), Some(true)]),
            (call("block", "CONTRACT_MISSING", Value::Null), [Some(false), Some(true), Some(true)]),
            (call("hold", "APPROVAL_REQUIRED", Value::Null), [Some(false), Some(false), None]),
        ];
        for (line, has) in cases {
            let shares = [Share::Passed, Share::Blocked, Share::JudgeFailed];
            assert_eq!(shares.map(|share| share.has(&line)), has, "{line:?}");
        }
        for code in JUDGE_FAILURES {
            assert!(Reason::parse(code).is_some(), "{code}");
        }
    }

    #[test]
    fn an_alert_is_a_finding_of_its_own_in_every_form() {
        let settings = [alert(json!({ "route": "main", "calls_min": 1 }))];
        let entry = |route: &str| {
            let line = json!({ "kind": "call", "iss": "a/b/1", "ts": "2026-11-21T04:00:00.000000Z",
                "verdict": { "action": "block", "mode": "enforce" }, "request": { "route": route },
                "outcome": { "client": "refused", "code": "TOOL_DENIED", "complete": true } });
            let line = line.to_string().into_bytes();
            Entry { index: 0, leaf: Leaf::of(&line), line, signature: None, after: Position::default() }
        };
        for (format, key) in
            [(Format::Ocsf, "/metadata/uid"), (Format::Ecs, "/event/id"), (Format::Notice, "/data/uid")]
        {
            let mut windows = windows(&settings, &[]);
            assert_eq!(raised(&mut windows, format, &entry("other")), []);
            let entry = entry("main");
            let documents = raised(&mut windows, format, &entry);
            assert_eq!((documents.len(), documents[0].severity), (1, 4));
            let document: Value = serde_json::from_slice(&documents[0].json).unwrap();
            assert_eq!(document.pointer(key), Some(&json!(format!("{}#alert-a", entry.leaf))));
            let text = "a: 0 of 1 calls passed of route main within 300 s, below 0.8";
            let message = document.pointer("/data/message").unwrap_or(&document["message"]);
            assert!(message.as_str().unwrap().ends_with(text), "{document}");
            assert!(document.get("action").is_none(), "it is not about that call");
        }
        assert_eq!(raised(&mut windows(&settings, &[]), Format::OtlpLogs, &entry("main")).len(), 1);
        for format in [Format::OtlpTraces, Format::OtlpMetrics] {
            assert_eq!(raised(&mut windows(&settings, &[]), format, &entry("main")), []);
        }
    }

    #[test]
    fn every_error_of_alerts_is_reported_with_its_key() {
        let feeds = |format: &str| -> Vec<FeedSettings> {
            serde_json::from_value(json!([{ "name": "f", "format": format, "to": { "stdout": true } }]))
                .unwrap()
        };
        let keys = |alerts: &[AlertSettings], format: &str| -> Vec<String> {
            check_alerts(alerts, &feeds(format)).into_iter().map(|error| error.key).collect()
        };
        assert_eq!(keys(&[alert(json!({}))], "ocsf"), [""; 0]);
        assert_eq!(keys(&[], "otlp_traces"), [""; 0]);
        assert_eq!(keys(&[alert(json!({}))], "otlp_traces"), ["alerts"]);
        let wrong = [
            alert(json!({ "name": "A", "above": 0.1 })),
            alert(json!({ "below": 1.5, "window_s": 9, "calls_min": 0 })),
            alert(json!({ "below": null })),
        ];
        assert_eq!(
            keys(&wrong, "ecs"),
            [
                "alerts[0].name",
                "alerts[0]",
                "alerts[1].below",
                "alerts[1].window_s",
                "alerts[1].calls_min",
                "alerts[2].name",
                "alerts[2]",
            ]
        );
    }
}
