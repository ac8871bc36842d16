//! Texts that stand side by side in one list of parts (`[{"text": …}, {"text": …}]`), which clients put together.

use estoppel_detect::{LOOK_BACK, REACH_MAX, Scanner, Text};
use estoppel_wire::dialect::Dialect;
use serde_json::Value;

use super::RouteDetectors;
use super::ledger::Hit;

/// Looks for what begins in one part of a list and ends in another. What is in one part alone is found there.
pub(super) struct Parts {
    dialect: Dialect,
    /// Where the last part stood, and its list.
    last: Option<(Box<str>, Position)>,
    /// The end of the parts so far, and the bytes before it.
    end: Vec<u8>,
    before: u64,
}

/// A part's place: the response of a series that has it, if it is one of several, and its number in the list.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Position {
    response: Option<u64>,
    part: u64,
}

impl Parts {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, last: None, end: Vec::new(), before: 0 }
    }

    /// Takes the next string of a document.
    pub(super) fn take(&mut self, route: &RouteDetectors, text: &Text<'_>, hits: &mut Vec<Hit>) {
        if text.is_name {
            return;
        }
        let Some((list, at)) = self.position(text.place) else { return };
        let follows = |(last, position): &(Box<str>, Position)| **last == *list && at.follows(*position);
        if self.last.as_ref().is_some_and(follows) {
            self.look(route, text, hits);
        } else {
            self.end.clear();
            self.before = 0;
        }
        self.end.extend_from_slice(text.text.as_bytes());
        let more = self.end.len().saturating_sub(REACH_MAX + LOOK_BACK);
        self.end.drain(..more);
        self.before += more as u64; // a length fits
        self.last = Some((list.into(), at));
    }

    /// Looks across the border before `text`.
    fn look(&self, route: &RouteDetectors, text: &Text<'_>, hits: &mut Vec<Hit>) {
        let begins = text.text.as_bytes();
        let begins = begins.get(..REACH_MAX).unwrap_or(begins);
        let border = self.end.len() as u64; // a length fits
        let place = text.place.rsplitn(3, '/').last().unwrap_or_default();
        for (engine, may_block) in [(&route.enforcing, true), (&route.watching, false)] {
            let mut scanner = Scanner::default();
            let mut each = |found: estoppel_detect::Found<'_>| {
                if found.at < border && found.at + found.bytes.len() as u64 > border {
                    let found = estoppel_detect::Found { at: self.before + found.at, ..found };
                    Hit::keep(hits, &found, place, may_block);
                }
            };
            scanner.push(engine, &self.end, &mut each);
            scanner.push(engine, begins, &mut each);
            scanner.finish(engine, &mut each);
        }
    }

    /// The list that a string at this place is the text of a part of, and where in it.
    fn position<'p>(&self, place: &'p str) -> Option<(&'p str, Position)> {
        if matches!(self.dialect, Dialect::Mcp | Dialect::Json | Dialect::Bytes) {
            return None;
        }
        let (list, part) = place.strip_suffix("/text")?.rsplit_once('/')?;
        let part = part.parse().ok()?;
        // Gemini's answer may be a list of responses, each with the next parts.
        let series =
            list.get(1..).and_then(|list| list.split_once('/')).filter(|_| self.dialect == Dialect::Gemini);
        Some(match series.and_then(|(response, list)| Some((response.parse().ok()?, list))) {
            Some((response, list)) => (list, Position { response: Some(response), part }),
            None => (list, Position { response: None, part }),
        })
    }
}

impl Position {
    fn follows(self, last: Self) -> bool {
        match (last.response, self.response) {
            (Some(last), Some(response)) if last.checked_add(1) == Some(response) => self.part == 0,
            (before, now) => before == now && last.part.checked_add(1) == Some(self.part),
        }
    }
}

/// The texts of a value that is a text, or a list of parts with texts.
pub(super) fn texts(value: &[u8]) -> Vec<String> {
    match serde_json::from_slice(value) {
        Ok(Value::String(text)) => vec![text],
        Ok(Value::Array(parts)) => {
            let text = |part: Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
            parts.into_iter().filter_map(text).collect()
        }
        _ => Vec::new(),
    }
}
