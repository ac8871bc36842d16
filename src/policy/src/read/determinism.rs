//! What is said of operations that are run again.

use std::collections::BTreeMap;

use super::judging::TOOL_CHARS_MAX;
use super::{Map, Reader};
use crate::determinism::{
    Amount, Determinism, RouteDeterminism, TOLERANCES_MAX, TOOLS_MAX, Tolerance, Tolerances, Within,
};
use crate::error::PolicyErrorCode;
use crate::path::ValuePath;
use crate::yaml::Node;

const CLASS_KEYS: [&str; 2] = ["class", "tolerance"];
const ROUTE_KEYS: [&str; 3] = ["class", "tolerance", "tools"];

impl Reader {
    pub(super) fn route_determinism(&mut self, node: &Node) -> Option<RouteDeterminism> {
        let map = self.map(node)?;
        self.known_keys(&map, &ROUTE_KEYS);
        let all = self.class(node, &map);
        let tools = self.optional(&map, "tools", Self::determinism_of_tools);
        Some(RouteDeterminism { all: all?, tools: tools.unwrap_or_default() })
    }

    fn determinism_of_tools(&mut self, node: &Node) -> Option<BTreeMap<String, Determinism>> {
        let map = self.map(node)?;
        self.count(node, map.pairs.len(), TOOLS_MAX);
        let mut tools = BTreeMap::new();
        for (key, node) in map.pairs {
            let said = self.inside(&key.text, |reader| {
                if key.text.is_empty() || key.text.chars().count() > TOOL_CHARS_MAX {
                    let message = format!("expected the name of a tool, of 1 to {TOOL_CHARS_MAX} characters");
                    reader.add(PolicyErrorCode::Value, key.place, message);
                }
                reader.determinism(node)
            });
            tools.extend(said.map(|said| (key.text.clone(), said)));
        }
        Some(tools)
    }

    pub(super) fn determinism(&mut self, node: &Node) -> Option<Determinism> {
        let map = self.map(node)?;
        self.known_keys(&map, &CLASS_KEYS);
        self.class(node, &map)
    }

    fn class(&mut self, node: &Node, map: &Map<'_>) -> Option<Determinism> {
        let is_exact = self.required(map, "class", |reader, node| {
            reader.parsed(node, "one of `E0`, `E1`", |text| match text {
                "E0" => Some(true),
                "E1" => Some(false),
                _ => None,
            })
        });
        let tolerance = self.optional(map, "tolerance", Self::tolerances);
        match (is_exact?, map.get("tolerance")) {
            (true, None) => Some(Determinism::E0),
            (false, Some(_)) => tolerance.map(Determinism::E1),
            (true, Some(found)) => {
                let message = "what is `E0` is exact, and has no tolerance";
                self.inside("tolerance", |reader| {
                    reader.add(PolicyErrorCode::Value, found.place, message.into());
                });
                None
            }
            (false, None) => {
                let message = "`tolerance` is missing: `E1` says what may differ, and by how much";
                self.add(PolicyErrorCode::MissingKey, node.place, message.into());
                None
            }
        }
    }

    fn tolerances(&mut self, node: &Node) -> Option<Tolerances> {
        let map = self.map(node)?;
        self.known_keys(&map, &["request", "answer", "rows"]);
        if map.pairs.is_empty() {
            let message = "expected `request`, `answer` or `rows`, found nothing";
            self.add(PolicyErrorCode::Value, node.place, message.into());
        }
        let mut part = |name: &str| self.optional(&map, name, Self::tolerance_list).unwrap_or_default();
        Some(Tolerances { request: part("request"), answer: part("answer"), rows: part("rows") })
    }

    fn tolerance_list(&mut self, node: &Node) -> Option<Vec<Tolerance>> {
        let items = self.list(node)?;
        self.count(node, items.len(), TOLERANCES_MAX);
        Some(self.each(items, Self::tolerance))
    }

    fn tolerance(&mut self, node: &Node) -> Option<Tolerance> {
        let map = self.map(node)?;
        self.known_keys(&map, &["at", "absolute", "relative", "as"]);
        let at = self.required(&map, "at", |reader, node| {
            reader.parsed(node, "a path to values, as `/items/*/price` or `/**/at`", ValuePath::parse)
        });
        let absolute = self.optional(&map, "absolute", Self::amount).map(Within::Absolute);
        let relative = self.optional(&map, "relative", Self::part).map(Within::Relative);
        let said = self.optional(&map, "as", |reader, node| {
            let is = |text: &str| Within::WORDS.into_iter().find(|within| within.as_str() == text);
            reader.parsed(node, "one of `any_order`, `ignored`", is)
        });
        let keys = ["absolute", "relative", "as"].iter().filter(|key| map.get(key).is_some()).count();
        if keys != 1 {
            let message = format!("expected one of `absolute`, `relative`, `as`, found {keys} of them");
            self.add(PolicyErrorCode::Value, node.place, message);
            return None;
        }
        let (at, within) = (at?, absolute.or(relative).or(said)?);
        if within == Within::Ignored && at.takes_all() {
            let message = format!("`{}` leads to all there is: whatever differs is tolerated", at.text());
            let path = self.path.clone();
            self.warnings.add(PolicyErrorCode::IgnoredWhole, node.place, path, message);
        }
        Some(Tolerance { at, within })
    }

    fn amount(&mut self, node: &Node) -> Option<Amount> {
        self.parsed(node, "an amount in quotes, as `\"0.01\"`, without zeros at its end", Amount::parse)
    }

    fn part(&mut self, node: &Node) -> Option<Amount> {
        self.parsed(node, "a part of 1 in quotes, as `\"0.001\"`", |text| {
            Amount::parse(text).filter(Amount::is_part)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::PolicyDocument;

    #[test]
    fn warns_of_a_tolerance_under_which_nothing_differs() {
        let check = |entry: &str, is_warned: bool| {
            let text = format!(
                "version: 1\nname: nn\nroutes:\n  shop:\n    determinism: {{ class: E1, tolerance: {{ answer: [{entry}] }} }}\n"
            );
            let document = PolicyDocument::parse(&text).unwrap();
            let codes: Vec<&str> = document.warnings().iter().map(|warning| warning.code.as_str()).collect();
            assert_eq!(codes, if is_warned { vec!["POLICY_IGNORED_WHOLE"] } else { vec![] }, "{entry}");
        };
        for at in ["/**", "/*", "/**/*", "/*/**"] {
            check(&format!("{{ at: {at}, as: ignored }}"), true);
            check(&format!("{{ at: {at}, as: any_order }}"), false);
        }
        for at in ["/a", "/a/**", "/**/a", "/*/*"] {
            check(&format!("{{ at: {at}, as: ignored }}"), false);
        }
    }
}
