//! The document: canonical JSON with the rows, and with every event as it is signed.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Claimed, Span, Told, altered, moment_of};
use crate::code::Refusal;
use crate::ledger::Event;

const FORMAT: &str = "estoppel-audit/1";

pub(super) fn write(told: &Told<'_>) -> String {
    let ledger = told.ledger;
    let events = ledger.events().iter().map(|event| serde_json::from_slice::<Value>(&event.bytes));
    let document = json!({
        "format": FORMAT,
        "from": told.span.from,
        "genesis": ledger.genesis(),
        "head": ledger.head(),
        "heads": ledger.heads(),
        "events": events.map(Result::unwrap_or_default).collect::<Vec<_>>(),
        "rows": told.rows,
        "to": told.span.to,
    });
    let canonical = serde_json_canonicalizer::to_string(&document);
    canonical.expect("texts, lists and whole numbers have a canonical form") + "\n"
}

#[derive(Deserialize)]
struct Document {
    format: String,
    from: Option<String>,
    to: Option<String>,
    events: Vec<Value>,
}

/// None for what is no JSON object.
pub(super) fn read(text: &str) -> Result<Option<Claimed>, Refusal> {
    if !text.starts_with('{') {
        return Ok(None);
    }
    let document: Document =
        serde_json::from_str(text).map_err(|error| altered(format!("it is no such document: {error}")))?;
    if document.format != FORMAT {
        return Err(altered(format!("its format is not `{FORMAT}`")));
    }
    let moment = |text: Option<String>| {
        moment_of(&text.unwrap_or_default()).ok_or_else(|| altered("it has a moment that is none"))
    };
    let span = Span { from: moment(document.from)?, to: moment(document.to)? };
    let mut files = Vec::with_capacity(document.events.len());
    for event in document.events {
        let bytes = serde_json_canonicalizer::to_vec(&event)
            .map_err(|error| altered(format!("it has an event without a canonical form: {error}")))?;
        files.push((Event::read(&bytes)?.path(), bytes));
    }
    Ok(Some(Claimed { span, heads: Default::default(), files: Some(files) }))
}
