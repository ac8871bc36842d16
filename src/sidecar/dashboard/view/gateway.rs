//! Gateways, what they decided, the calls that wait there for people, and the latest that were not plainly allowed.

use std::collections::BTreeMap;

use estoppel_evidence::Reason;
use estoppel_evidence::time::UnixMicros;
use ratatui::text::Line;

use super::super::deeds::typed;
use super::super::model::{Call, Gateway, Hold, Model, Traffic};
use super::super::words::{Tone, Words, ago, heading};
use super::{Chosen, Page, fact, fault, note};

const VERDICTS: [&str; 4] = ["allow", "repair", "hold", "block"];
/// Below this width only what needs people is counted, and a row says when, what and why.
const NARROW: usize = 60;
/// Most codes that are listed.
const CODES_MAX: usize = 12;

/// A row: a gateway, or a call there.
#[derive(Clone, Copy, Debug)]
pub enum Row<'m> {
    Gateway,
    /// It waits for people.
    Hold(&'m Hold),
    /// It was not plainly allowed.
    Call(&'m Call),
}

/// What tells a row from all others.
fn key(gateway: &Gateway, row: Row<'_>) -> String {
    match row {
        Row::Gateway => gateway.admin.clone(),
        Row::Hold(hold) => format!("{} {}", gateway.admin, hold.id),
        Row::Call(call) => format!("{} {}", gateway.admin, call.call),
    }
}

/// The gateways, each with the calls that wait there and then with those that ended.
fn all(model: &Model) -> impl Iterator<Item = (&Gateway, Row<'_>)> {
    model.gateways.iter().flat_map(|gateway| {
        let traffic = gateway.seen.value.iter();
        let holds = traffic.clone().flat_map(|traffic| &traffic.holds).map(Row::Hold);
        let calls =
            traffic.flat_map(|traffic| &traffic.recent).flat_map(|recent| &recent.calls).map(Row::Call);
        std::iter::once(Row::Gateway).chain(holds).chain(calls).map(move |row| (gateway, row))
    })
}

pub fn page(model: &Model, now: UnixMicros, width: usize) -> Page {
    let mut page = Page::default();
    if model.gateways.is_empty() {
        page.notes.push(note("no gateway is named"));
        page.notes
            .push(note("`estoppel dashboard --admin 127.0.0.1:9464` names one, and so does ESTOPPEL_ADMIN"));
        return page;
    }
    let (name, state, count, verdicts) = columns(width);
    let head = Words::new().cell(Tone::Dim, "gateway", name).cell(Tone::Dim, "state", state);
    let head = verdicts.iter().fold(head, |head, verdict| head.cell(Tone::Dim, verdict, count));
    page.head = Some(head.line());
    let line = |gateway, row| match row {
        Row::Gateway => self::row(gateway, now, width),
        Row::Hold(hold) => hold_row(hold, width),
        Row::Call(call) => call_row(call, width),
    };
    page.rows = all(model).map(|(gateway, row)| (key(gateway, row), line(gateway, row))).collect();
    page
}

/// Widths of name, state and counts, and which verdicts are counted.
fn columns(width: usize) -> (usize, usize, usize, &'static [&'static str]) {
    if width < NARROW { (16, 9, 6, &VERDICTS[2..]) } else { (24, 20, 8, &VERDICTS) }
}

/// What is chosen; the first gateway where nothing is.
pub fn chosen<'m>(model: &'m Model, chosen: &Chosen) -> Option<(&'m Gateway, Row<'m>)> {
    let named = all(model).find(|(gateway, row)| chosen.gateway == Some(key(gateway, *row)));
    named.or_else(|| model.gateways.first().map(|gateway| (gateway, Row::Gateway)))
}

fn row(gateway: &Gateway, now: UnixMicros, width: usize) -> Line<'static> {
    let (name, state, count, verdicts) = columns(width);
    let words = Words::new().cell(Tone::Strong, &gateway.admin, name);
    let Some(traffic) = &gateway.seen.value else {
        return match &gateway.seen.fault {
            Some(fault) => words.add(Tone::Bad, &fault.code).line(),
            None => words.add(Tone::Dim, "is being asked").line(),
        };
    };
    let words = match (&gateway.seen.fault, gateway.seen.at) {
        (Some(_), Some(_)) if width < NARROW => words.cell(Tone::Bad, "silent", state),
        (Some(_), Some(at)) => words.cell(Tone::Bad, &format!("silent, {}", ago(now, at)), state),
        (_, Some(at)) if now.0.saturating_sub(at.0) > STALE_US => {
            words.cell(Tone::Care, &format!("seen {}", ago(now, at)), state)
        }
        _ => words.cell(Tone::of(&traffic.ready), &traffic.ready, state),
    };
    let counts = verdicts.iter().map(|verdict| traffic.verdicts.get(*verdict).copied().unwrap_or_default());
    counts.fold(words, |words, counted| words.cell(Tone::Plain, &counted.to_string(), count)).line()
}

/// What is older than this says so.
const STALE_US: u64 = 10_000_000;

fn hold_row(hold: &Hold, width: usize) -> Line<'static> {
    let what = match (&hold.tool, &hold.target) {
        (Some(tool), _) => format!("tool {tool}"),
        (None, Some(target)) => format!("{} {target}", hold.method),
        (None, None) => hold.method.clone(),
    };
    let words = Words::new().add(Tone::Plain, "  ").cell(Tone::of(&hold.state), "waits", 7);
    if width < NARROW {
        return words.cell(Tone::Dim, clock(&hold.expires), 9).add(Tone::Plain, &what).line();
    }
    let words = words.cell(Tone::Plain, &format!("{} of {}", hold.approved, hold.needs), 8);
    let words = words.cell(Tone::Dim, &format!("until {}", clock(&hold.expires)), 16).cell(
        Tone::Plain,
        &what,
        width.saturating_sub(50).max(12),
    );
    words.add(Tone::Dim, hold.requester.as_deref().unwrap_or("-")).line()
}

/// The time of day of `2026-11-22T06:45:00.000000Z`.
fn clock(moment: &str) -> &str {
    moment.get(11..19).unwrap_or("-")
}

fn call_row(call: &Call, width: usize) -> Line<'static> {
    let (tone, became) = became(call);
    let words = Words::new().add(Tone::Plain, "  ");
    if width < NARROW {
        let words = words.cell(tone, became, 7).cell(Tone::Dim, clock(&call.ended), 9);
        return words.add(Tone::Plain, code(call)).line();
    }
    let what = match &call.tool {
        Some(tool) => format!("tool {tool}"),
        None => format!("{} {}", call.method, call.operation),
    };
    let words = words.cell(tone, became, 12).cell(Tone::Dim, clock(&call.ended), 10);
    let words = words.cell(Tone::Plain, code(call), 22);
    let words = words.cell(Tone::Plain, &what, width.saturating_sub(62).max(12));
    words.add(Tone::Dim, call.identity.as_deref().unwrap_or("-")).line()
}

/// What became of it, or would have.
fn became(call: &Call) -> (Tone, &str) {
    let would = call.would.as_ref().map(|would| would.verdict.as_str());
    match (call.verdict.as_str(), would) {
        ("allow", Some("block")) => (Tone::Care, "would block"),
        ("allow", Some(_)) => (Tone::Care, "would hold"),
        ("allow", None) if call.observed.is_some() => (Tone::Care, "observed"),
        ("allow", None) => (Tone::Good, "approved"),
        (verdict, _) => (Tone::of(verdict), verdict),
    }
}

/// The code that says most of why.
fn code(call: &Call) -> &str {
    let would = call.would.as_ref().filter(|_| call.verdict == "allow");
    let would = would.and_then(|would| would.reason.as_deref());
    let observed = call.observed.as_deref().filter(|_| call.verdict == "allow");
    would.or(observed).or(call.reason.as_deref()).unwrap_or(&call.code)
}

pub fn details(model: &Model, which: &Chosen, now: UnixMicros) -> Vec<Line<'static>> {
    match chosen(model, which) {
        Some((_, Row::Hold(hold))) => hold_details(hold),
        Some((gateway, Row::Call(call))) => call_details(call, &gateway.admin),
        Some((gateway, Row::Gateway)) => gateway_details(gateway, now),
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
    lines.push(match &traffic.recent {
        None => note("this gateway does not tell single calls"),
        Some(recent) => {
            let all: u64 = recent.counted.values().sum();
            let listed = recent.calls.len();
            fact(
                "listed",
                &format!("{listed} of {all} calls that were not plainly allowed since {}", recent.since),
            )
        }
    });
    let last = window.map_or_else(|| "lately".to_owned(), |seconds| format!("in {seconds} s"));
    lines.push(counts_head("verdict", &last));
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

fn counts_head(name: &str, last: &str) -> Line<'static> {
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

fn call_details(call: &Call, admin: &str) -> Vec<Line<'static>> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let mut lines: Vec<Line<'static>> = Vec::new();
    lines.extend(call.reason.as_ref().map(|reason| fact("reason", &meant(reason))));
    if call.reason.as_ref() != Some(&call.code) {
        lines.push(fact("code", &meant(&call.code)));
    }
    lines.push(fact("rule", &or_none(&call.rule)));
    if let Some(would) = &call.would {
        let rule = would.rule.as_deref().unwrap_or("-");
        lines.push(fact("would", &format!("{} by rule {rule} of {}", would.verdict, would.policy)));
        lines.extend(would.reason.as_ref().map(|reason| fact("its reason", &meant(reason))));
    }
    lines.extend(call.observed.as_ref().map(|code| fact("observed", &meant(code))));
    lines.push(fact("tool", &or_none(&call.tool)));
    lines.push(fact("identity", &or_none(&call.identity)));
    lines.extend(call.tenant.as_ref().map(|tenant| fact("tenant", tenant)));
    let seal = ["seal", &call.run, "--admin", admin].map(ToOwned::to_owned);
    let show = ["show".to_owned(), format!("{}.pef.zip", call.run), "--call".to_owned(), call.call.clone()];
    lines.push(fact("show", &typed(&show)));
    lines.push(fact("", "of the journal's `bundles`, once its run is sealed (e):"));
    lines.push(fact("seal", &typed(&seal)));
    lines.push(fact("call", &call.call));
    lines.push(fact("ended", &call.ended));
    lines.push(fact("verdict", &call.verdict));
    lines.extend(call.hold.as_ref().map(|hold| fact("hold", hold)));
    lines.push(fact("route", &or_none(&call.route)));
    lines.push(fact("operation", &format!("{} {}", call.method, call.operation)));
    lines.push(fact("run", &call.run));
    lines
}

/// A code with what `spec/reasons.json` says of it.
fn meant(code: &str) -> String {
    match Reason::parse(code) {
        Some(reason) => format!("{code}: {}", reason.text()),
        None => format!("{code}: a code of the policy's own"),
    }
}

fn hold_details(hold: &Hold) -> Vec<Line<'static>> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let unknown = || "not known any more, or too long to be shown".to_owned();
    let credential =
        hold.credential.map_or("not known any more", |is_there| if is_there { "yes" } else { "no" });
    let body = hold.body.as_deref().unwrap_or("not stored as it is, or too long to be shown");
    vec![
        fact("call", &format!("{} {}", hold.method, hold.target.clone().unwrap_or_else(unknown))),
        fact("hold", &hold.id),
        fact("content", hold.content_type.as_deref().unwrap_or("-")),
        fact("credential", credential),
        fact("route", &hold.route),
        fact("operation", &or_none(&hold.operation)),
        fact("tool", &or_none(&hold.tool)),
        fact("requester", &or_none(&hold.requester)),
        fact("run", &hold.run),
        fact("rule", &hold.rule),
        fact("payload", &format!("{}, {} bytes", hold.payload, hold.bytes)),
        fact("approved", &format!("{} of {}, by {}", hold.approved, hold.needs, hold.approvers.join(", "))),
        fact("expires", &hold.expires),
        fact("body", body),
    ]
}
