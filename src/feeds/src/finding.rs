//! What in an entry is a finding: something that a person should look at, apart from the call itself.

use estoppel_journal::Entry;

use crate::read::Line;

/// OCSF severities that findings have.
pub(crate) const MEDIUM: u8 = 3;
pub(crate) const HIGH: u8 = 4;
pub(crate) const CRITICAL: u8 = 5;

/// Outcomes of a detector that found nothing.
const NOTHING: [&str; 11] =
    ["clean", "clear", "error", "none", "not_run", "ok", "pass", "skipped", "tapped", "timeout", "unused"];

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Entry hash, `#`, and what tells it from other findings of that entry.
    pub uid: String,
    /// Closed set: see `docs/siem.md`.
    pub class: &'static str,
    pub title: &'static str,
    pub detail: Option<String>,
    /// As in OCSF.
    pub severity: u8,
    /// The detector that found it.
    pub detector: Option<(String, Option<String>)>,
}

impl Finding {
    /// A stored line that this version cannot read. It is told, because it was recorded.
    pub fn unread(entry: &Entry) -> Self {
        let detail = Some(format!("entry {} of the log", entry.index));
        Self::of(entry, "entry_unread", "An entry of the journal could not be read", HIGH, detail)
    }

    fn of(
        entry: &Entry,
        class: &'static str,
        title: &'static str,
        severity: u8,
        detail: Option<String>,
    ) -> Self {
        Self { uid: format!("{}#{class}", entry.leaf), class, title, detail, severity, detector: None }
    }
}

/// The findings of an entry.
pub(crate) fn findings(entry: &Entry, line: &Line) -> Vec<Finding> {
    let of = |class, title, severity, detail| vec![Finding::of(entry, class, title, severity, detail)];
    match line.kind.as_str() {
        "call" => in_call(entry, line),
        "interrupted" => {
            of("call_interrupted", "A call was announced and has no receipt", HIGH, line.reason.clone())
        }
        "gap" => of(
            "evidence_gap",
            "Calls were refused because they could not be recorded",
            HIGH,
            line.refused.map(|refused| format!("{refused} calls")),
        ),
        "journal.recover" => of(
            "journal_cut",
            "A torn end of the journal was cut off at start",
            HIGH,
            line.dropped_bytes.map(|bytes| format!("{bytes} bytes")),
        ),
        "bypass" => {
            let words = [&line.source, &line.upstream, &line.reason].into_iter().flatten();
            let detail = words.map(String::as_str).collect::<Vec<_>>().join(" ");
            of("bypass", "Traffic went round the gateway", CRITICAL, Some(detail))
        }
        _ => Vec::new(),
    }
}

fn in_call(entry: &Entry, line: &Line) -> Vec<Finding> {
    let mut found: Vec<Finding> = line
        .detectors
        .iter()
        .filter(|detector| !NOTHING.contains(&detector.outcome.as_str()))
        .enumerate()
        .map(|(at, detector)| Finding {
            uid: format!("{}#detector-{at}", entry.leaf),
            detector: Some((detector.id.clone(), detector.version.clone())),
            ..Finding::of(
                entry,
                "detector",
                "A detector found something",
                severity(line, MEDIUM),
                Some(detector.outcome.clone()),
            )
        })
        .collect();
    let codes = line.downgrades.iter().map(|downgrade| &downgrade.code).chain([&line.outcome.code]);
    if codes.into_iter().any(|code| code == "TOOL_CHANGED") {
        let detail = line.facts.tools_called.first().cloned();
        found.push(Finding::of(
            entry,
            "tool_changed",
            "A tool is not what its server first said",
            HIGH,
            detail,
        ));
    }
    if !line.threat.ids.is_empty() && line.verdict.action != "allow" {
        let detail = Some(line.threat.ids.join(" "));
        found.push(Finding::of(
            entry,
            "threat",
            "A rule met a classified threat",
            severity(line, MEDIUM),
            detail,
        ));
    }
    found
}

/// The severity that the policy gave, or another.
pub(crate) fn severity(line: &Line, otherwise: u8) -> u8 {
    match line.threat.severity.as_deref() {
        Some("info") => 1,
        Some("low") => 2,
        Some("medium") => MEDIUM,
        Some("high") => HIGH,
        Some("critical") => CRITICAL,
        _ => otherwise,
    }
}
