//! What entries refer to, and where that is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::error::IncidentError;
use crate::pack::Part;

/// Where holds and calls are: by id, the bundle and the number of the entry.
pub(crate) struct Links {
    holds: BTreeMap<String, String>,
    calls: BTreeMap<String, String>,
}

/// What an entry refers to: a kind, an id or digest, and whether it has to be in the pack.
struct Reference {
    kind: &'static str,
    to: String,
    must: bool,
}

impl Links {
    pub fn new(parts: &[Part<'_>]) -> Self {
        let (mut holds, mut calls) = (BTreeMap::new(), BTreeMap::new());
        for part in parts {
            for line in &part.lines {
                let (map, id) = match line["kind"].as_str() {
                    Some("hold") => (&mut holds, &line["hold"]),
                    Some("call") => (&mut calls, &line["call"]),
                    _ => continue,
                };
                let at = format!("{}!receipts.ndjson#{}", part.path, line["seq"]);
                map.entry(id.as_str().unwrap_or_default().to_owned()).or_insert(at);
            }
        }
        Self { holds, calls }
    }

    /// What an entry of `part` refers to, each with the place where it is, if it is here.
    ///
    /// # Errors
    /// [`IncidentError::Dangling`] for what has to be here and is not.
    pub fn of(&self, part: &Part<'_>, line: &Value) -> Result<Vec<Value>, IncidentError> {
        let mut links = Vec::new();
        for reference in references(line) {
            let place = match reference.kind {
                "hold" => self.holds.get(&reference.to).cloned(),
                "call" => self.calls.get(&reference.to).cloned(),
                kind => file(part, kind, &reference.to),
            };
            let Reference { kind, to, must } = reference;
            match place {
                Some(at) => links.push(json!({ "at": at, "kind": kind, "to": to })),
                None if must => {
                    let seq = line["seq"].as_u64().unwrap_or_default();
                    return Err(IncidentError::Dangling { path: part.path.clone(), seq, kind, to });
                }
                None => links.push(json!({ "kind": kind, "to": to })),
            }
        }
        Ok(links)
    }
}

/// A file of a bundle, or one beside it.
fn file(part: &Part<'_>, kind: &str, to: &str) -> Option<String> {
    let hex = to.strip_prefix("sha256:").unwrap_or(to);
    let inside = match kind {
        "policy" => format!("policy/{hex}.json"),
        "contract" => format!("contracts/{hex}.json"),
        "snapshot" => format!("snapshots/{hex}.json"),
        "stream" => format!("streams/{hex}.nodes"),
        _ => format!("bodies/{hex}"),
    };
    if part.paths.contains(&inside) {
        return Some(format!("{}!{inside}", part.path));
    }
    let is_beside = kind == "body" && part.given.beside.contains_key(hex);
    is_beside.then(|| format!("{}.d/{hex}", part.path))
}

fn references(line: &Value) -> Vec<Reference> {
    let mut found: Vec<Reference> = Vec::new();
    let mut add = |kind: &'static str, value: &Value, must: bool| {
        if let Some(to) = value.as_str()
            && !found.iter().any(|other| other.kind == kind && other.to == to)
        {
            found.push(Reference { kind, to: to.to_owned(), must });
        }
    };
    match line["kind"].as_str() {
        Some("call") => {
            add("policy", &line["policy"]["hash"], true);
            add("hold", &line["approval"]["hold"], true);
            add("hold", &line["hold"]["id"], false);
            for body in [&line["request"], &line["response"]["client"], &line["response"]["upstream"]] {
                add("body", &body["sha256"], true);
            }
            add("contract", &line["contract"]["request"]["digest"], false);
            add("contract", &line["contract"]["response"]["digest"], false);
            add("snapshot", &line["snapshot"]["pre"]["digest"], true);
            add("snapshot", &line["snapshot"]["post"]["digest"], true);
            if line["sse"]["nodes"].is_string() {
                add("stream", &line["call"], true);
            }
            add("call", &line["ext"]["reask"]["next"], false);
            add("call", &line["ext"]["reask"]["of"], false);
            add("call", &line["idempotency"]["first"], false);
        }
        Some("approval") => add("hold", &line["hold"], true),
        Some("snapshot") => {
            add("call", &line["call"], true);
            add("snapshot", &line["digest"], false);
        }
        Some("hold" | "intent" | "interrupted") => add("call", &line["call"], false),
        _ => {}
    }
    found
}
