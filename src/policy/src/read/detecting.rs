//! Detectors, at the top of a document and for one route.

use std::collections::BTreeMap;

use super::{Map, Reader};
use crate::detecting::{BuiltIn, Confidence, DetectorMode, DetectorWritten, External, Surface};
use crate::document::{Severity, is_slug};
use crate::error::PolicyErrorCode;
use crate::pattern::PATTERNS_MAX;
use crate::yaml::Node;

/// Most detectors of a policy; a receipt has room for as many.
pub(crate) const DETECTORS_MAX: usize = 32;
/// Most characters of the place of an external detector.
const URL_CHARS_MAX: usize = 512;

const COMMON_KEYS: [&str; 7] = ["surfaces", "mode", "min_confidence", "only", "except", "severity", "threat"];
const EXTERNAL_KEYS: [&str; 5] = ["url", "timeout_ms", "on_timeout", "in_flight_max", "per_second"];

impl Reader {
    pub(super) fn detectors(&mut self, node: &Node) -> Option<BTreeMap<String, DetectorWritten>> {
        let detectors = self.detector_map(node, |reader, name, place, map| {
            let is_built_in = BuiltIn::ALL.iter().any(|one| one.as_str() == name);
            let mut known = COMMON_KEYS.to_vec();
            if !is_built_in {
                known.extend(EXTERNAL_KEYS);
                if !is_slug(name) {
                    reader.not_a_slug(name, place);
                }
            }
            reader.known_keys(map, &known);
            if !is_built_in && map.get("url").is_none() {
                let message = "a detector that is not built in has a `url`";
                reader.add(PolicyErrorCode::MissingKey, place, message.into());
            }
            let written = DetectorWritten { external: reader.external(map), ..reader.detector(map) };
            let bodies = [Surface::Request, Surface::Answer];
            let surfaces = written.on.iter().flatten();
            if !is_built_in && surfaces.into_iter().any(|surface| !bodies.contains(surface)) {
                let message =
                    "a detector that is not built in looks at `request` and `answer`, which are whole bodies";
                reader.add(PolicyErrorCode::Value, place, message.into());
            }
            written
        })?;
        self.detector_names = detectors.keys().cloned().collect();
        Some(detectors)
    }

    /// What a route says otherwise of detectors that the document has.
    pub(super) fn route_detectors(&mut self, node: &Node) -> Option<BTreeMap<String, DetectorWritten>> {
        self.detector_map(node, |reader, name, place, map| {
            if !reader.detector_names.iter().any(|known| known == name) {
                let message = "`detectors` of the document does not have it".into();
                reader.add(PolicyErrorCode::Value, place, message);
            }
            reader.known_keys(map, &COMMON_KEYS);
            reader.detector(map)
        })
    }

    fn detector_map(
        &mut self,
        node: &Node,
        read: impl Fn(&mut Self, &str, crate::error::Place, &Map<'_>) -> DetectorWritten,
    ) -> Option<BTreeMap<String, DetectorWritten>> {
        let map = self.map(node)?;
        if map.pairs.len() > DETECTORS_MAX {
            self.count(node, map.pairs.len(), DETECTORS_MAX);
        }
        let mut detectors = BTreeMap::new();
        for (key, node) in map.pairs {
            let detector = self.inside(&key.text, |reader| {
                let map = reader.map(node)?;
                Some(read(reader, &key.text, key.place, &map))
            });
            detectors.extend(detector.map(|detector| (key.text.clone(), detector)));
        }
        Some(detectors)
    }

    fn detector(&mut self, map: &Map<'_>) -> DetectorWritten {
        DetectorWritten {
            on: self.optional(map, "surfaces", Self::surfaces),
            mode: self.optional(map, "mode", |reader, node| {
                reader.choice(node, DetectorMode::ALL, DetectorMode::as_str)
            }),
            min_confidence: self.optional(map, "min_confidence", |reader, node| {
                reader.choice(node, Confidence::ALL, Confidence::as_str)
            }),
            only: self.optional(map, "only", Self::rule_patterns),
            except: self.optional(map, "except", Self::rule_patterns),
            severity: self.optional(map, "severity", |reader, node| {
                reader.choice(node, Severity::ALL, Severity::as_str)
            }),
            threat: self.optional(map, "threat", Self::threat),
            external: None,
        }
    }

    fn surfaces(&mut self, node: &Node) -> Option<Vec<Surface>> {
        let items = self.list(node)?;
        self.count(node, items.len(), Surface::ALL.len());
        Some(self.each(items, |reader, item| reader.choice(item, Surface::ALL, Surface::as_str)))
    }

    fn rule_patterns(&mut self, node: &Node) -> Option<Vec<String>> {
        let items = self.list(node)?;
        self.count(node, items.len(), PATTERNS_MAX);
        Some(self.each(items, Self::pattern))
    }

    fn external(&mut self, map: &Map<'_>) -> Option<External> {
        let url = self.optional(map, "url", |reader, node| {
            let text = reader.bounded_text(node, URL_CHARS_MAX, |c| !c.is_ascii_graphic())?;
            if !is_trusted_place(&text) {
                let message = "expected `https://…`, or `http://` on 127.0.0.1, [::1] or localhost".into();
                reader.add(PolicyErrorCode::Value, node.place, message);
            }
            Some(text)
        })?;
        let mut number = |key, range| self.optional(map, key, |reader, node| reader.integer(node, range));
        let timeout_ms = number("timeout_ms", 1..=10_000);
        let in_flight_max = number("in_flight_max", 1..=1024);
        let per_second = number("per_second", 1..=100_000);
        Some(External {
            url,
            timeout_ms,
            in_flight_max,
            per_second,
            on_timeout: self.optional(map, "on_timeout", Self::default_verdict),
        })
    }
}

fn is_trusted_place(url: &str) -> bool {
    if let Some(rest) = url.strip_prefix("https://") {
        return !rest.is_empty() && !rest.starts_with(['/', ':']) && !rest.contains(['@', '#']);
    }
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let loopback = ["127.0.0.1", "[::1]", "localhost"];
    !rest.contains('#')
        && loopback.iter().any(|host| match authority.strip_prefix(host) {
            Some("") => true,
            Some(port) => port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()),
            None => false,
        })
}
