//! The threat lists that rules may name entries of: `spec/threats.json`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::document::ThreatId;

/// All lists with their editions.
#[derive(Debug, Deserialize)]
pub struct Threats {
    /// In the order of the file.
    pub lists: Vec<ThreatList>,
}

/// One edition of a list.
#[derive(Debug, Deserialize)]
pub struct ThreatList {
    /// What ids begin with.
    pub list: String,
    /// Entries are numbered anew in each.
    pub edition: String,
    /// Its own name.
    pub title: String,
    /// Entries have parts, `<entry>.000` to `.999`, which are not listed.
    #[serde(default)]
    pub sub: bool,
    /// By their own ids.
    pub entries: BTreeMap<String, ThreatEntry>,
}

/// One entry.
#[derive(Debug, Deserialize)]
pub struct ThreatEntry {
    /// Its name in the list.
    pub title: String,
    /// What kind of threat it is, whichever list it is in.
    #[serde(default)]
    pub class: Option<String>,
}

impl Threats {
    /// Those that this program knows.
    pub fn known() -> &'static Self {
        static KNOWN: OnceLock<Threats> = OnceLock::new();
        KNOWN.get_or_init(|| {
            serde_json::from_str(include_str!("../../../spec/threats.json"))
                .expect("a file of the repository that a test reads")
        })
    }

    /// What an id names.
    pub fn find(&self, id: &ThreatId) -> Option<&ThreatEntry> {
        let (list, edition, entry) = id.parts();
        let list = self.lists.iter().find(|known| known.list == list && known.edition == edition)?;
        let whole = || {
            let (whole, part) = entry.rsplit_once('.')?;
            let is_part = list.sub && part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit());
            is_part.then(|| list.entries.get(whole))?
        };
        list.entries.get(entry).or_else(whole)
    }

    /// The id that is most like one that is not known.
    pub(crate) fn nearest(&self, id: &ThreatId) -> Option<String> {
        let ids = self.lists.iter().flat_map(|list| {
            list.entries.keys().map(move |entry| format!("{}:{}/{entry}", list.list, list.edition))
        });
        ids.min_by_key(|known| distance(known, id.as_str()))
    }
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ThreatId {
        ThreatId::parse(text).unwrap()
    }

    #[test]
    fn an_entry_is_found_in_its_edition_and_only_there() {
        let title = |text: &str| Threats::known().find(&id(text)).map(|entry| entry.title.as_str());
        assert_eq!(title("owasp_llm:2025/LLM06"), Some("Excessive Agency"));
        assert_eq!(title("owasp_llm:2026/LLM06"), Some("Unbounded Consumption"));
        assert_eq!(title("owasp_llm:1.1/LLM06"), Some("Sensitive Information Disclosure"));
        assert_eq!(title("owasp_agentic:2026/ASI02"), Some("Tool Misuse and Exploitation"));
        assert_eq!(title("atlas:5.6/AML.T0051.001"), title("atlas:5.6/AML.T0051"));
        for text in [
            "owasp_llm:2024/LLM01",
            "owasp_llm:2025/LLM11",
            "attack:1/T1059",
            "atlas:5.6/AML.T9999",
            "atlas:5.6/AML.T0051.1",
            "owasp_llm:2025/LLM06.001",
        ] {
            assert_eq!(title(text), None, "{text}");
        }
    }

    #[test]
    fn one_threat_is_of_one_class_in_every_edition() {
        let class = |text: &str| Threats::known().find(&id(text)).and_then(|entry| entry.class.clone());
        assert_eq!(class("owasp_llm:1.1/LLM08"), Some("excessive_agency".into()));
        assert_eq!(class("owasp_llm:2025/LLM06"), class("owasp_llm:2026/LLM03"));
        let owasp = Threats::known().lists.iter().filter(|list| list.list.starts_with("owasp"));
        assert!(owasp.flat_map(|list| list.entries.values()).all(|entry| entry.class.is_some()));
    }

    #[test]
    fn what_is_not_known_has_a_neighbour() {
        let nearest = |text: &str| Threats::known().nearest(&id(text)).unwrap();
        assert_eq!(nearest("owasp_llm:2025/LLM6"), "owasp_llm:2025/LLM06");
        assert_eq!(nearest("owasp_lm:2026/LLM03"), "owasp_llm:2026/LLM03");
        assert_eq!(nearest("atlas:5.4/AML.T0053"), "atlas:5.6/AML.T0053");
    }
}
