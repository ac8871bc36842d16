//! What happened, in the order of time.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::IncidentError;
use crate::link::Links;
use crate::pack::{Part, ROWS_MAX, Span};

/// Members of an entry that say where it stands in its chain, or that are signatures.
const CHAIN: [&str; 11] =
    ["ext", "iss", "kid", "mono_us", "nonce", "possession", "prev", "run", "signature", "spki", "v"];

/// Every entry of the subject, and of the other bundles what is notable within the span.
pub(crate) fn rows(parts: &[Part<'_>], span: &Span, links: &Links) -> Result<Vec<Value>, IncidentError> {
    let mut rows = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        for line in &part.lines {
            let at = line["ts"].as_str().unwrap_or_default();
            let is_notable = is_notable(line);
            let is_within = at >= span.from.as_str() && at <= span.to.as_str();
            let is_wanted = part.is_subject || is_notable && is_within;
            if !is_wanted {
                continue;
            }
            if rows.len() >= ROWS_MAX {
                return Err(IncidentError::Limit);
            }
            let row = row(part, line, is_notable, links.of(part, line)?);
            rows.push(((at.to_owned(), place, line["seq"].as_u64()), row));
        }
    }
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Whether somebody who looks into an incident wants to see it first.
fn is_notable(line: &Value) -> bool {
    match line["kind"].as_str() {
        Some("call") => {
            let is_long = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
            line["verdict"]["action"] != "allow"
                || line["outcome"]["code"] != "OK"
                || is_long(&line["downgrades"])
                || is_long(&line["ext"]["findings"])
                || !line["approval"].is_null()
        }
        Some("run.open" | "run.seal" | "intent") => false,
        _ => true,
    }
}

fn row(part: &Part<'_>, line: &Value, is_notable: bool, links: Vec<Value>) -> Value {
    let mut row = match line["kind"] == "call" {
        true => call(line),
        false => line.as_object().cloned().unwrap_or_default(),
    };
    CHAIN.iter().for_each(|name| drop(row.remove(*name)));
    row.insert("bundle".into(), part.path.clone().into());
    row.insert("links".into(), links.into());
    row.insert("notable".into(), is_notable.into());
    Value::Object(row)
}

fn call(line: &Value) -> Map<String, Value> {
    let facts = &line["facts"];
    let findings = line["ext"]["findings"].as_array().into_iter().flatten();
    let rules: Vec<&Value> =
        findings.map(|finding| &finding["rule"]).filter(|rule| !rule.is_null()).collect();
    let members = [
        ("call", &line["call"]),
        ("claims", &line["claims"]),
        ("downgrades", &line["downgrades"]),
        ("identity", &line["identity"]["subject"]),
        ("kind", &line["kind"]),
        ("model", &facts["model"]),
        ("operation", &line["operation"]),
        ("outcome", &line["outcome"]["code"]),
        ("reason", &line["verdict"]["reason"]),
        ("route", &line["request"]["route"]),
        ("rule", &line["policy"]["rule"]),
        ("seq", &line["seq"]),
        ("snapshot", &line["snapshot"]),
        ("status", &line["response"]["client"]["status"]),
        ("tenant", &line["tenant"]),
        ("tools_called", &facts["tools_called"]),
        ("ts", &line["ts"]),
        ("upstream", &line["upstream"]),
        ("verdict", &line["verdict"]["action"]),
    ];
    let there = members.iter().filter(|(_, value)| !value.is_null());
    let mut row: Map<String, Value> =
        there.map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect();
    if !rules.is_empty() {
        row.insert("findings".into(), json!(rules));
    }
    row
}

/// How often what happened.
pub(crate) fn summary(rows: &[Value]) -> Value {
    let mut counts: [(&str, BTreeMap<String, u64>); 5] =
        ["findings", "kinds", "policies", "reasons", "verdicts"].map(|name| (name, BTreeMap::new()));
    let mut outside = 0_u64;
    let (mut diffs, mut snapshots) = (0_u64, 0_u64);
    for row in rows {
        let [findings, kinds, policies, reasons, verdicts] = &mut counts;
        let count = |counts: &mut (&str, BTreeMap<String, u64>), value: &Value| {
            if let Some(name) = value.as_str() {
                *counts.1.entry(name.to_owned()).or_default() += 1;
            }
        };
        count(kinds, &row["kind"]);
        count(verdicts, &row["verdict"]);
        if row["kind"] != "run.seal" {
            count(reasons, &row["reason"]);
        }
        row["findings"].as_array().into_iter().flatten().for_each(|rule| count(findings, rule));
        snapshots += u64::from(!row["snapshot"].is_null());
        for link in row["links"].as_array().into_iter().flatten() {
            if link["kind"] == "policy" {
                count(policies, &link["to"]);
            }
            diffs += u64::from(link["kind"] == "diff");
            outside += u64::from(link["at"].is_null());
        }
    }
    let mut summary: Map<String, Value> =
        counts.into_iter().map(|(name, counts)| (name.into(), json!(counts))).collect();
    summary.insert("diffs".into(), diffs.into());
    summary.insert("notable".into(), rows.iter().filter(|row| row["notable"] == true).count().into());
    summary.insert("outside".into(), outside.into());
    summary.insert("snapshots".into(), snapshots.into());
    summary.insert("rows".into(), rows.len().into());
    Value::Object(summary)
}
