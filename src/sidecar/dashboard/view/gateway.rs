//! Gateways, what they decided, and the calls that wait there for people.

use std::collections::BTreeMap;

use estoppel_evidence::time::UnixMicros;
use ratatui::text::Line;

use super::super::model::{Gateway, Hold, Model, Traffic};
use super::super::words::{Tone, Words, ago, heading};
use super::{Chosen, Page, fact, fault, note};

const VERDICTS: [&str; 4] = ["allow", "repair", "hold", "block"];
/// Most codes that are listed.
const CODES_MAX: usize = 12;

/// What tells a row from all others: that of a gateway, or of a call that waits there.
fn key(gateway: &Gateway, hold: Option<&Hold>) -> String {
    match hold {
        Some(hold) => format!("{} {}", gateway.admin, hold.id),
        None => gateway.admin.clone(),
    }
}

pub fn page(model: &Model, now: UnixMicros, width: usize) -> Page {
    let mut page = Page::default();
    if model.gateways.is_empty() {
        page.notes.push(note("no gateway is named"));
        page.notes
            .push(note("`estoppel dashboard --admin 127.0.0.1:9464` names one, and so does ESTOPPEL_ADMIN"));
        return page;
    }
    let head = Words::new().cell(Tone::Dim, "gateway", 24).cell(Tone::Dim, "state", 20);
    let head = VERDICTS.iter().fold(head, |head, verdict| head.cell(Tone::Dim, verdict, 8));
    page.head = Some(head.line());
    for gateway in &model.gateways {
        page.rows.push((key(gateway, None), row(gateway, now)));
        let holds = gateway.seen.value.iter().flat_map(|traffic| &traffic.holds);
        page.rows.extend(holds.map(|hold| (key(gateway, Some(hold)), hold_row(hold, width))));
    }
    page
}

/// What is chosen; the first gateway where nothing is.
pub fn chosen<'m>(model: &'m Model, chosen: &Chosen) -> Option<(&'m Gateway, Option<&'m Hold>)> {
    for gateway in &model.gateways {
        if chosen.gateway.as_deref() == Some(gateway.admin.as_str()) {
            return Some((gateway, None));
        }
        let mut holds = gateway.seen.value.iter().flat_map(|traffic| &traffic.holds);
        if let Some(hold) = holds.find(|hold| chosen.gateway == Some(key(gateway, Some(hold)))) {
            return Some((gateway, Some(hold)));
        }
    }
    model.gateways.first().map(|gateway| (gateway, None))
}

fn row(gateway: &Gateway, now: UnixMicros) -> Line<'static> {
    let words = Words::new().cell(Tone::Strong, &gateway.admin, 24);
    let Some(traffic) = &gateway.seen.value else {
        return match &gateway.seen.fault {
            Some(fault) => words.add(Tone::Bad, &fault.code).line(),
            None => words.add(Tone::Dim, "is being asked").line(),
        };
    };
    let words = match (&gateway.seen.fault, gateway.seen.at) {
        (Some(_), Some(at)) => words.cell(Tone::Bad, &format!("silent, {}", ago(now, at)), 20),
        (_, Some(at)) if now.0.saturating_sub(at.0) > STALE_US => {
            words.cell(Tone::Care, &format!("seen {}", ago(now, at)), 20)
        }
        _ => words.cell(Tone::of(&traffic.ready), &traffic.ready, 20),
    };
    let counts = VERDICTS.iter().map(|verdict| traffic.verdicts.get(*verdict).copied().unwrap_or_default());
    counts.fold(words, |words, count| words.cell(Tone::Plain, &count.to_string(), 8)).line()
}

/// What is older than this says so.
const STALE_US: u64 = 10_000_000;

fn hold_row(hold: &Hold, width: usize) -> Line<'static> {
    let time: String = hold.expires.chars().skip(11).take(8).collect();
    let what = match (&hold.tool, &hold.target) {
        (Some(tool), _) => format!("tool {tool}"),
        (None, Some(target)) => format!("{} {target}", hold.method),
        (None, None) => hold.method.clone(),
    };
    let words = Words::new().add(Tone::Plain, "  ").cell(Tone::of(&hold.state), "waits", 7);
    let words = words.cell(Tone::Plain, &format!("{} of {}", hold.approved, hold.needs), 8);
    let words = words.cell(Tone::Dim, &format!("until {time}"), 16).cell(
        Tone::Plain,
        &what,
        width.saturating_sub(50).max(12),
    );
    words.add(Tone::Dim, hold.requester.as_deref().unwrap_or("-")).line()
}

pub fn details(model: &Model, which: &Chosen, now: UnixMicros) -> Vec<Line<'static>> {
    match chosen(model, which) {
        Some((_, Some(hold))) => hold_details(hold),
        Some((gateway, None)) => gateway_details(gateway, now),
        None => Vec::new(),
    }
}

fn gateway_details(gateway: &Gateway, now: UnixMicros) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    lines.extend(gateway.seen.fault.as_ref().map(|found| fault(found, gateway.seen.at, now)));
    let Some(traffic) = &gateway.seen.value else { return lines };
    let window = traffic.lately.as_ref().map(|lately| lately.window_ms / 1_000);
    let asked = gateway.seen.at.map(|at| ago(now, at)).unwrap_or_default();
    lines.push(fact("estoppeld", &format!("{}, asked {asked}", traffic.version)));
    let doing = format!(
        "{} calls in flight, {} runs open, {} calls wait for people",
        traffic.in_flight,
        traffic.runs_open,
        traffic.holds.len()
    );
    lines.push(fact("now", &doing));
    lines.extend(
        traffic
            .switches
            .iter()
            .map(|switch| Words::new().cell(Tone::Bad, "stopped", 12).add(Tone::Plain, switch).line()),
    );
    let last = window.map_or_else(|| "lately".to_owned(), |seconds| format!("in {seconds} s"));
    lines.push(columns("verdict", &last));
    let verdicts = VERDICTS.iter().map(|verdict| ((*verdict).to_owned(), Tone::of(verdict)));
    for (verdict, tone) in verdicts {
        lines.push(counted(
            &verdict,
            tone,
            &traffic.verdicts,
            lately(traffic).map(|lately| &lately.verdicts),
        ));
    }
    let is_other = |code: &&String| *code != "OK";
    codes(
        &mut lines,
        "calls by code",
        &traffic.outcomes,
        lately(traffic).map(|lately| &lately.outcomes),
        is_other,
    );
    codes(
        &mut lines,
        "refused without a receipt",
        &traffic.refused,
        lately(traffic).map(|lately| &lately.refused),
        |_| true,
    );
    lines
}

fn lately(traffic: &Traffic) -> Option<&super::super::model::Lately> {
    traffic.lately.as_ref()
}

type Counts = BTreeMap<String, u64>;

fn columns(name: &str, last: &str) -> Line<'static> {
    Words::new().cell(Tone::Strong, name, 34).cell(Tone::Dim, "in all", 12).add(Tone::Dim, last).line()
}

fn counted(name: &str, tone: Tone, all: &Counts, lately: Option<&Counts>) -> Line<'static> {
    let of = |counts: &Counts| counts.get(name).copied().unwrap_or_default();
    let words =
        Words::new().add(Tone::Plain, "  ").cell(tone, name, 32).cell(Tone::Plain, &of(all).to_string(), 12);
    words.add(Tone::Plain, &lately.map_or_else(|| "-".to_owned(), |lately| of(lately).to_string())).line()
}

/// The codes that are counted, those that rose lately first.
fn codes(
    lines: &mut Vec<Line<'static>>,
    name: &str,
    all: &Counts,
    lately: Option<&Counts>,
    is_told: impl Fn(&&String) -> bool,
) {
    let rise = |code: &String| lately.and_then(|lately| lately.get(code)).copied().unwrap_or_default();
    let mut found: Vec<&String> = all.keys().filter(is_told).collect();
    found.sort_by_key(|code| std::cmp::Reverse((rise(code), all.get(*code).copied())));
    if !found.is_empty() {
        lines.push(heading(name));
    }
    let left = found.len().saturating_sub(CODES_MAX);
    lines.extend(found.into_iter().take(CODES_MAX).map(|code| counted(code, Tone::Plain, all, lately)));
    if left > 0 {
        lines.push(note(&format!("  and {left} more")));
    }
}

fn hold_details(hold: &Hold) -> Vec<Line<'static>> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let unknown = || "not known any more, or too long to be shown".to_owned();
    let credential =
        hold.credential.map_or("not known any more", |is_there| if is_there { "yes" } else { "no" });
    let body = hold.body.as_deref().unwrap_or("not stored as it is, or too long to be shown");
    vec![
        fact("hold", &hold.id),
        fact("call", &format!("{} {}", hold.method, hold.target.clone().unwrap_or_else(unknown))),
        fact("content", hold.content_type.as_deref().unwrap_or("-")),
        fact("credential", credential),
        fact("route", &hold.route),
        fact("operation", &or_none(&hold.operation)),
        fact("tool", &or_none(&hold.tool)),
        fact("requester", &or_none(&hold.requester)),
        fact("rule", &hold.rule),
        fact("payload", &format!("{}, {} bytes", hold.payload, hold.bytes)),
        fact("approved", &format!("{} of {}, by {}", hold.approved, hold.needs, hold.approvers.join(", "))),
        fact("expires", &hold.expires),
        fact("body", body),
    ]
}
