//! Entries as short messages to people and their tools: a `type`, a `timestamp` and `data`, as Standard Webhooks has it.
//! `docs/siem.md` lists the members.

use estoppel_journal::Entry;
use serde_json::{Value, json};

use crate::document::present;
use crate::event::Event;
use crate::finding::{Finding, HIGH, MEDIUM, severity};
use crate::own::merge;
use crate::read::Line;

/// The notice of an entry and its severity; none for what nobody is waiting for.
pub(crate) fn entry(entry: &Entry, line: &Line) -> Option<(u8, Value)> {
    let event = Event::of(line)?;
    let severity = match event {
        Event::Hold | Event::Act => MEDIUM,
        Event::Policy if line.state.as_deref() != Some("active") => HIGH,
        Event::Block => severity(line, MEDIUM),
        Event::Decision | Event::Policy | Event::Bypass | Event::Alert | Event::Finding => 2,
    };
    let mut data = data(&entry.leaf.to_string(), line, severity, &message(event, line));
    merge(&mut data, line.particulars());
    Some((severity, notice(event, line, data)))
}

/// The notice of a finding.
pub(crate) fn finding(line: &Line, finding: &Finding) -> Value {
    let detector = finding.detector.as_ref().map(|(id, _)| id.as_str());
    let words: Vec<&str> = detector.into_iter().chain(finding.detail.as_deref()).collect();
    let message = match words.is_empty() {
        true => finding.title.to_owned(),
        false => format!("{}: {}", finding.title, words.join(" ")),
    };
    let mut data = data(&finding.uid, line, finding.severity, &message);
    merge(&mut data, json!({ "finding": finding.class }));
    notice(Event::of_finding(finding), line, data)
}

fn notice(event: Event, line: &Line, data: Value) -> Value {
    present(json!({ "type": event.name(), "timestamp": line.ts, "data": data }))
}

fn data(uid: &str, line: &Line, severity: u8, message: &str) -> Value {
    let call = line.kind == "call";
    json!({
        "uid": uid,
        "instance": line.iss,
        "run": line.run,
        "call": line.call,
        "severity": severity,
        "message": message,
        "operation": line.operation,
        "code": call.then_some(&line.outcome.code),
        "rule": line.policy_member("rule"),
        "route": line.request.route,
        "subject": line.identity.subject.as_ref().or(line.requester.as_ref()),
        "tools_called": line.facts.tools_called,
    })
}

/// One line for a person.
fn message(event: Event, line: &Line) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let what = match line.tool.as_ref().or(line.facts.tools_called.first()) {
        Some(tool) => format!("{} {tool}", text(&line.operation)),
        None => text(&line.operation),
    };
    let hold = line.hold.as_ref().and_then(Value::as_str).unwrap_or("-");
    match event {
        Event::Hold => format!(
            "a call waits for approval: {what}, by {}, rule {}, until {}; estoppel hold show {hold}",
            line.requester.as_deref().unwrap_or("somebody unidentified"),
            text(&line.rule),
            text(&line.expires),
        ),
        Event::Decision => {
            format!("{} of hold {hold} by key {}", text(&line.decision), text(&line.approver))
        }
        Event::Block => format!(
            "blocked: {what}, by {}, rule {}, {}",
            line.identity.subject.as_deref().unwrap_or("somebody unidentified"),
            line.policy_member("rule").unwrap_or("-"),
            line.outcome.code,
        ),
        Event::Act => {
            format!("{} {} by {}", text(&line.act), line.on.as_deref().unwrap_or(""), text(&line.by))
        }
        Event::Policy | Event::Bypass | Event::Alert | Event::Finding => line.summary(),
    }
}
