//! `estoppel policy diff`: what differs between two policies, by setting and by rule.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::output::{Failure, Output, plain};

/// Exit code 5 when something differs.
pub fn run(output: Output, before: &Path, after: &Path) -> Result<ExitCode, Failure> {
    let canonical = |path: &Path| -> Result<(Value, String), Failure> {
        let document = super::read(output, path)?;
        let value = serde_json::from_slice(&document.canonical());
        let value = value.map_err(|error| Failure::runtime("INTERNAL", error.to_string()))?;
        Ok((value, document.hash().to_string()))
    };
    let ((before, old_hash), (after, new_hash)) = (canonical(before)?, canonical(after)?);
    let rows = differences(&before, &after);
    for row in &rows {
        let text = |key: &str| match &row[key] {
            Value::Null => String::from("-"),
            value => plain(&value.to_string()),
        };
        let place = row["place"].as_str().unwrap_or_default();
        output.line(&plain(&format!("{:<8} {place}", row["kind"].as_str().unwrap_or_default())));
        if row["kind"] == "changed" {
            output.line(&format!("         {} -> {}", text("before"), text("after")));
        }
    }
    output.line(&format!("{} difference{}", rows.len(), if rows.len() == 1 { "" } else { "s" }));
    let data = json!({ "before": old_hash, "after": new_hash, "differences": rows });
    Ok(output.answer(&data, if rows.is_empty() { 0 } else { 5 }))
}

fn row(kind: &str, place: &str, before: &Value, after: &Value) -> Value {
    json!({ "kind": kind, "place": place, "before": before, "after": after })
}

fn differences(before: &Value, after: &Value) -> Vec<Value> {
    let mut rows = Vec::new();
    let without_rules = |value: &Value| {
        let mut members = value.as_object().cloned().unwrap_or_default();
        members.remove("rules");
        Value::Object(members)
    };
    compare("", &without_rules(before), &without_rules(after), &mut rows);
    rules(&before["rules"], &after["rules"], &mut rows);
    rows
}

/// Objects by member, all else as a whole.
fn compare(place: &str, before: &Value, after: &Value, rows: &mut Vec<Value>) {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else {
        if before != after {
            rows.push(row("changed", place, before, after));
        }
        return;
    };
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) => compare(&place, old, new, rows),
            (Some(old), None) => rows.push(row("removed", &place, old, &Value::Null)),
            (None, Some(new)) => rows.push(row("added", &place, &Value::Null, new)),
            (None, None) => {}
        }
    }
}

fn rules(before: &Value, after: &Value, rows: &mut Vec<Value>) {
    fn list(value: &Value) -> Vec<(&str, &Value)> {
        let rules = value.as_array().into_iter().flatten();
        rules.filter_map(|rule| Some((rule["id"].as_str()?, rule))).collect()
    }
    let (old, new) = (list(before), list(after));
    let by_id: BTreeMap<&str, &Value> = new.iter().copied().collect();
    for (id, rule) in &old {
        match by_id.get(id) {
            None => rows.push(row("removed", &format!("rules.{id}"), rule, &Value::Null)),
            Some(other) => compare(&format!("rules.{id}"), rule, other, rows),
        }
    }
    let known: BTreeMap<&str, &Value> = old.iter().copied().collect();
    for (id, rule) in new.iter().filter(|(id, _)| !known.contains_key(id)) {
        rows.push(row("added", &format!("rules.{id}"), &Value::Null, rule));
    }
    // The first that holds decides, so the order of those in both is part of what they mean.
    let order = |rules: &[(&str, &Value)], others: &BTreeMap<&str, &Value>| -> Vec<String> {
        rules.iter().filter(|(id, _)| others.contains_key(id)).map(|(id, _)| (*id).to_owned()).collect()
    };
    let (was, is) = (order(&old, &by_id), order(&new, &known));
    if was != is {
        rows.push(row("moved", "rules", &json!(was), &json!(is)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_compared_by_their_ids_and_settings_by_their_keys() {
        let rule = |id: &str, verdict: &str| json!({ "id": id, "verdict": verdict, "when": {} });
        let before = json!({ "name": "n", "limits": { "total_ms": 1 }, "rules": [rule("a", "allow"), rule("b", "allow"), rule("c", "allow")] });
        let after = json!({ "name": "n", "limits": { "total_ms": 2, "connect_ms": 3 }, "rules": [rule("d", "allow"), rule("c", "block"), rule("a", "allow")] });
        let rows = differences(&before, &after);
        let shown: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {}", row["kind"].as_str().unwrap(), row["place"].as_str().unwrap()))
            .collect();
        let expected = [
            "added limits.connect_ms",
            "changed limits.total_ms",
            "removed rules.b",
            "changed rules.c.verdict",
            "added rules.d",
            "moved rules",
        ];
        assert_eq!(shown, expected);
        assert!(differences(&after, &after).is_empty());
    }
}
